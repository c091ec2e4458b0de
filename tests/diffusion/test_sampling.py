"""The sampling settings: which of them have an effect, what they cost, and which noise they select."""

import pytest
import torch

from ddpm_demo.diffusion.guidance import ClassifierFree
from ddpm_demo.diffusion.reverse_process import walk
from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import ALWAYS, Sampling
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.errors import UserError

OTHERS = {"variance": "beta", "corrector_snr": 0.4, "ode_tolerance": 1e-5, "interval": (-1.0, 1.0)}
LABEL = torch.tensor([1, 2])


def draw(sampling):
    """The last estimate, and the images that a known denoiser was given."""
    generator, images = torch.Generator().manual_seed(0), []

    def denoise(x, log_snr, label):
        images.append(len(x))
        return torch.tanh(
            x * (1 + 0.2 * label.reshape(-1, 1, 1, 1)) * (2 + torch.as_tensor(log_snr).reshape(-1, 1, 1, 1) / 20)
        )

    def noise():
        return torch.randn(2, 1, 2, 2, generator=generator)

    guided = ClassifierFree(denoise, sampling.weight, 0, sampling.interval)
    *_, last = walk(guided, noise(), Schedule.named("cosine").grid(sampling.steps), LABEL, sampling, noise=noise)
    return last.x0, sum(images)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.5])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_setting_is_idle_where_it_changes_nothing(sampler, weight):
    usual = Sampling(sampler=sampler, weight=weight, steps=4)
    for name, value in OTHERS.items():
        changed = Sampling(sampler=sampler, weight=weight, steps=4, **{name: value})
        assert torch.equal(draw(usual)[0], draw(changed)[0]) == (name in usual.idle), name
    assert usual.guided == (weight == 1.5) == usual.mixes


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.5])
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if not SAMPLERS[name].adaptive])
def test_the_evaluations_are_those_of_the_network(sampler, weight):
    for steps in (1, 5):
        sampling = Sampling(sampler=sampler, weight=weight, steps=steps)
        assert draw(sampling)[1] == sampling.evaluations * len(LABEL)


def test_autoguidance_uses_the_interval_and_evaluates_a_second_network():
    sampling = Sampling(autoguidance=1.0)
    assert sampling.guided and not sampling.mixes and "interval" not in sampling.idle
    assert sampling.evaluations == 2 * Sampling().evaluations


def test_guidance_by_a_classifier_uses_the_interval_and_mixes_nothing():
    sampling = Sampling(classifier_scale=1.0)
    assert sampling.guided and not sampling.mixes and "interval" not in sampling.idle


def test_an_interval_is_kept_within_all_log_snrs():
    assert Sampling(interval=(-1e9, 1e9)).interval == ALWAYS and Sampling(interval=(-1e9, 1e9)).always_guided
    for interval in ((ALWAYS[0], 3.0), (3.0, ALWAYS[1]), (2.0, 2.0)):
        assert Sampling(interval=interval).interval == interval and not Sampling(interval=interval).always_guided


def test_image_k_has_the_seed_plus_k_or_the_kth_of_several():
    assert Sampling(seed=7).seeds(3) == [7, 8, 9] and Sampling(seed=[4, 4]).seeds(2) == [4, 4]
    with pytest.raises(UserError, match="seed holds 2 numbers for 3 images"):
        Sampling(seed=[4, 4]).seeds(3)
