from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import SHIPPED, KnownNetwork, tiny_model, tiny_student
from PIL import Image

import ddpm_demo
from ddpm_demo import SAMPLERS, Completion, Enlargement, NoisedImage, PureNoise, UserError, generate, sample
from ddpm_demo.data.images import split_row
from ddpm_demo.diffusion.denoiser import Denoiser, alpha_sigma
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.generation.generate import count_evaluations, decode_step, log_snr_grid
from ddpm_demo.generation.interpolation import interpolate
from ddpm_demo.generation.zero_shot import classify
from ddpm_demo.models.classifier import load_classifier


def test_every_step_is_an_image(model):
    steps = list(sample(model, [0, 1], weight=2.0, steps=5))
    assert [step.timestep for step in steps] == [999, 799, 599, 399, 199]
    for step in steps:
        for panel in (step.x, step.x0, step.eps, step.guidance):
            assert panel.shape == (2, 1, 16, 16)
    assert torch.equal(steps[-1].x0, generate(model, [0, 1], weight=2.0, steps=5))


def test_the_seed_and_the_label_decide(model):
    one = generate(model, [0], steps=4, seed=1)
    assert torch.equal(one, generate(model, [0], steps=4, seed=1))
    assert not torch.allclose(one, generate(model, [0], steps=4, seed=2), atol=0.01)
    assert not torch.allclose(one, generate(model, [1], steps=4, seed=1), atol=1e-4)


def test_autoguidance_counts_the_evaluations_of_both_networks(model):
    guided = replace(model, weak=model)
    assert count_evaluations(guided, Sampling(steps=4, autoguidance=1.0)) == 8
    assert count_evaluations(guided, Sampling(steps=4, autoguidance=1.0, weight=1.0)) == 16
    assert count_evaluations(guided, Sampling(steps=4, autoguidance=1.0, interval=(19.0, 20.0))) == 4


def test_a_distilled_network_needs_no_second_evaluation_for_its_guidance(model):
    guided = Sampling(steps=4, weight=2.0)
    assert count_evaluations(model, guided) == 8
    assert count_evaluations(tiny_student(model), guided) == 4


def test_without_labels():
    unconditional = tiny_model(classes=0)
    assert generate(unconditional, count=3, steps=3).shape == (3, 1, 16, 16)
    conditional = tiny_model()
    null = generate(conditional, [0], weight=-1.0, steps=3)
    torch.testing.assert_close(generate(conditional, count=1, steps=3), null)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"schedule": "cosin"}, "schedule is 'cosin'; it must be one of linear, quadratic, cosine, sigmoid"),
        ({"sampler": "plms"}, "sampler is 'plms'; it must be one of ddpm, ddim, dpm\\+\\+2m"),
        ({"variance": "learned"}, "variance is 'learned'; it must be one of posterior, beta"),
        ({"weight": float("nan")}, "weight is nan; it must be a finite number"),
        ({"weight": 1e9}, "weight is 1000000000.0; it must lie between -100 and 100"),
        ({"weight": "2"}, "weight is '2'; it must be a finite number"),
        ({"steps": 0}, "steps is 0; it must be a whole number from 1 to 1000"),
        ({"steps": 1001}, "steps is 1001; it must be a whole number from 1 to 1000"),
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        ({"steps": True}, "steps is True; it must be a whole number"),
        ({"seed": -1}, "seed is -1; it must be a whole number from 0"),
        ({"labels": [3]}, "label is 3; it must be a whole number from 0 to 2"),
        ({"labels": []}, "labels is empty"),
        ({"labels": None, "weight": 1.0}, "guidance needs labels"),
        ({"count": 5}, "count is 5, but there are 1 labels"),
        ({"interval": (2.0, 1.0)}, "interval is .*; it must be \\(lowest, highest\\)"),
        ({"interval": "ab"}, "interval is 'ab'; it must be \\(lowest, highest\\)"),
        ({"interval": (0.0, None)}, "interval is .*; it must be \\(lowest, highest\\)"),
        ({"interval": (True, 2.0)}, "interval is .*; it must be \\(lowest, highest\\)"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_computed(model, settings, message):
    with pytest.raises(UserError, match=message):
        sample(model, **{"labels": [0], **settings})


def test_labels_for_an_unconditional_model():
    with pytest.raises(UserError, match="trained without classes: pass count instead"):
        sample(tiny_model(classes=0), [1])


@pytest.fixture(scope="module")
def traced():
    """The shipped model, and the classifier that reads its images."""
    return ddpm_demo.load(SHIPPED).trace(), load_classifier(SHIPPED)[0]


@pytest.mark.parametrize(
    "sampler, schedule, steps",
    [
        ("dpm++2m", "linear", 20),
        pytest.param("dpm++2m", "quadratic", 20, marks=pytest.mark.slow),
        pytest.param("dpm++2m", "sigmoid", 20, marks=pytest.mark.slow),
        ("dpm++2m", "cosine", 12),
        ("ddim", "cosine", 20),
        pytest.param("heun", "cosine", 12, marks=pytest.mark.slow),
        pytest.param("ddpm", "cosine", 50, marks=pytest.mark.slow),
        ("sde-dpm++2m", "cosine", 30),
        pytest.param("euler-maruyama", "linear", 150, marks=pytest.mark.slow),
    ],
)
def test_the_shipped_model_draws_what_is_asked(traced, sampler, schedule, steps):
    """One checkpoint, every schedule and sampler: the judge classifies nine in ten digits as requested."""
    (model, judge), labels = traced, torch.arange(20) % 10
    images = generate(model, labels.tolist(), weight=1.0, schedule=schedule, sampler=sampler, steps=steps)
    assert (judge(images).argmax(1) == labels).sum() >= 18


def test_several_seeds_are_as_many_single_ones(model):
    together = generate(model, [0, 1, 1], steps=4, seed=[7, 7, 2])
    for k, (label, seed) in enumerate(((0, 7), (1, 7), (1, 2))):
        torch.testing.assert_close(together[k : k + 1], generate(model, [label], steps=4, seed=seed), atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="seed holds 2 numbers for 1 images"):
        generate(model, [0], steps=4, seed=[1, 2])


def test_beginning_from_an_image():
    """From little noise the image comes back, from all of it another one does."""
    model = ddpm_demo.load(SHIPPED)
    with Image.open(SHIPPED / "examples.png") as row:
        seven = split_row(row, 1, 28)[7]
    distance = [
        (generate(model, [7], begin=NoisedImage(seven, start), steps=8)[0] - seven).square().mean().item()
        for start in (50.0, 400.0, 999.0)
    ]
    assert distance[0] < 0.02 and distance[0] < distance[1] < distance[2]
    first = next(sample(model, [7], begin=NoisedImage(seven, 400.0), steps=8))
    assert first.timestep == pytest.approx(400, abs=0.01)


@pytest.mark.parametrize("sampler", ["ddpm", "dpm++2m", "heun"])
def test_completion_keeps_what_is_known(sampler):
    model = ddpm_demo.load(SHIPPED)
    with Image.open(SHIPPED / "examples.png") as row:
        digit = split_row(row, 1, 28)[3]
    keep = torch.zeros(28, 28, dtype=torch.bool)
    keep[:, :14] = True
    steps = list(sample(model, [3, 3], begin=Completion(digit, keep), weight=1.0, steps=10, sampler=sampler))
    for image in steps[-1].x0:
        assert torch.equal(image[:, keep], digit[:, keep])
    assert not torch.allclose(steps[-1].x0[0], steps[-1].x0[1], atol=0.1)
    # the kept part of every state is the known image under that state's noise: neither cleaner nor noisier
    for step in steps[1:]:
        alpha, sigma = (c.item() for c in alpha_sigma(step.log_snr))
        noise = (step.x[:, :, keep] - alpha * digit[:, keep]) / sigma
        assert 0.8 < noise.std() < 1.2


@pytest.mark.parametrize(
    "begin, message",
    [
        (
            NoisedImage(torch.zeros(1, 28, 28), 5.0),
            "image has shape \\(1, 28, 28\\); it must be finite numbers of shape",
        ),
        (NoisedImage(torch.full((1, 16, 16), torch.nan), 5.0), "finite numbers"),
        (NoisedImage(torch.zeros(1, 16, 16), 1000), "start is 1000; it must be a timestep"),
        (Completion(torch.zeros(1, 16, 16), torch.ones(16, 16)), "keep is torch.float32"),
        (Enlargement(torch.zeros(1, 16, 16)), "this model cannot enlarge: its network takes no image"),
    ],
)
def test_a_wrong_image_is_a_sentence(model, begin, message):
    with pytest.raises(UserError, match=message):
        generate(model, [0], steps=3, begin=begin)


def test_a_misspelt_setting_is_an_error(model):
    with pytest.raises(
        TypeError, match="there is no setting wieght; the settings are sampler, schedule, steps, weight"
    ):
        sample(model, [0], wieght=1.0)


def test_nothing_is_computed_before_the_first_step_is_asked_for(model):
    """Neither the network nor the autoencoder runs, and no noise is drawn: the settings are only checked."""
    broken = replace(model, denoiser=replace(model.denoiser, net=None), codec=None)
    image, keep = torch.zeros(1, 16, 16), torch.ones(16, 16, dtype=torch.bool)
    for begin in (PureNoise(), NoisedImage(image, 5.0), Completion(image, keep)):
        sample(broken, [0], weight=1.0, begin=begin)
    with pytest.raises(UserError, match="label is 9"):
        sample(broken, [9])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10", "cifar10-latent"])
def test_photographs_are_read_as_asked_far_above_chance(name):
    """Guided, by the shipped judge; and asked for one class, none of the images is another's."""
    folder = SHIPPED.with_name(name)
    model, labels = ddpm_demo.load(folder), [k % 10 for k in range(40)]
    judge, _ = load_classifier(SHIPPED.with_name("cifar10"))
    images = generate(model, labels, weight=1.0, steps=12)
    read = judge(images).argmax(1)
    assert (read == torch.tensor(labels)).double().mean() > 0.4
    others = generate(model, [(k + 1) % 10 for k in labels], weight=1.0, steps=12)
    assert (judge(others).argmax(1) == torch.tensor(labels)).double().mean() < 0.25


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("start, steps", [(0, 25), (7, 25), (15, 50)])
def test_more_steps_than_timesteps_are_no_division_by_zero(model, sampler, start, steps):
    """Every log-SNR is visited once, so that the stride, by which DPM-Solver++ divides, is never 0."""
    walked = list(sample(model, [0], begin=NoisedImage(torch.zeros(1, 16, 16), start), sampler=sampler, steps=steps))
    log_snrs = [step.log_snr for step in walked]
    assert log_snrs == sorted(set(log_snrs)) and len(walked) == walked[0].total
    assert all(bool(step.x0.isfinite().all()) for step in walked)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_damaged_weights_end_in_a_sentence_and_never_in_an_image(sampler):
    damaged = tiny_model()
    next(damaged.denoiser.net.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="network call 1 gave numbers that are not finite"):
        generate(damaged, [0], sampler=sampler, steps=4)


def test_the_panels_of_a_step_belong_together(model):
    """The state is the clean estimate with noise; the guidance is the difference of the two estimates; all in pixels."""
    label, null = torch.tensor([2]), torch.tensor([3])
    for step in sample(model, [2], weight=1.5, steps=4, schedule="linear"):
        alpha, sigma = (c.item() for c in alpha_sigma(step.log_snr))
        torch.testing.assert_close(step.x, alpha * step.x0 + sigma * step.eps, atol=1e-5, rtol=1e-4)
        x = model.codec.encode(step.x)
        with torch.no_grad():
            both = [model.denoiser(x, step.log_snr, which) for which in (label, null)]
        torch.testing.assert_close(step.guidance, model.codec.decode(both[0] - both[1]), atol=1e-4, rtol=1e-3)
        expected = model.codec.decode(2.5 * both[0] - 1.5 * both[1]).clamp(-1, 1)
        torch.testing.assert_close(step.x0, expected, atol=1e-4, rtol=1e-3)


def test_the_timesteps_are_those_of_the_sampling_schedule(model):
    """The log-SNRs too, as far as the network was trained on them."""
    steps = list(sample(model, [0], schedule="linear", steps=5))
    assert [step.timestep for step in steps] == pytest.approx([999, 799, 599, 399, 199])
    assert [step.log_snr for step in steps] == pytest.approx(
        Schedule.named("linear").log_snrs[199::200].flip(0).tolist()
    )
    linear = Schedule.named("linear")
    narrow = replace(model, denoiser=replace(model.denoiser, schedule=linear))
    grid = log_snr_grid(narrow, Sampling(schedule="cosine", steps=1000))
    assert (grid[0].item(), grid[-1].item()) == pytest.approx(linear.range)


@pytest.mark.parametrize("seed, seeds", [(6, (6, 7, 8)), ([3, 9, 3], (3, 9, 3))])
def test_an_image_starts_from_the_noise_of_its_seed(model, seed, seeds):
    first = next(sample(model, [0, 1, 2], steps=2, seed=seed))
    noise = [torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(one)) for one in seeds]
    assert torch.equal(first.x, model.codec.decode(torch.stack(noise)))


def test_a_noised_image_has_the_noise_of_the_first_step(model):
    image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    first = next(sample(model, [0], begin=NoisedImage(image, 400.0), steps=5, seed=3))
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    alpha, sigma = (c.item() for c in alpha_sigma(first.log_snr))
    torch.testing.assert_close(first.x, alpha * image + sigma * model.codec.decode(noise), atol=1e-5, rtol=1e-4)


def test_both_kinds_of_guidance_stay_in_the_interval(model):
    """The network is given the null label, and the classifier is asked, only there."""
    asked, given = [], []

    def classify(images, log_snr):
        asked.append((tuple(images.shape), log_snr))
        return images.flatten(1)[:, :3]

    def compute(x, timestep, label, image):
        given.append(sorted(label.tolist()))
        return x * 0 + 3

    network = Denoiser(KnownNetwork(compute), model.denoiser.schedule, "sample")
    model = replace(model, denoiser=network, noisy_classifier=classify)
    steps = list(sample(model, [1], weight=1.0, classifier_scale=1.0, interval=(-4.0, 4.0), steps=8))
    inside = [-4 <= step.log_snr <= 4 for step in steps]
    assert given == [[1, 3] if one else [1] for one in inside] and 0 < sum(inside) < 8
    assert asked == [((1, 1, 16, 16), step.log_snr) for step, one in zip(steps, inside) if one]
    assert all((step.x0 == 1).all() for step, one in zip(steps, inside) if not one)  # an estimate of 3, clamped


def test_only_the_estimate_of_latents_is_decoded(model):
    latents = replace(model, codec=SimpleNamespace(bounded=False, decode=lambda x: x + 100))
    *_, step = sample(model, [0], weight=1.0, steps=2, decoded=False)
    found = decode_step(step, latents)
    assert torch.equal(found.latents, step.x0) and torch.equal(found.x0, step.x0 + 100)
    assert found.x is step.x and found.eps is step.eps and found.guidance is step.guidance


@pytest.mark.parametrize("sampler", ["dpm++2m", "ode"])
def test_an_infinite_estimate_is_not_clamped_to_a_picture(model, sampler):
    """Clamped to [-1, 1], it would look like an image in two colours."""
    broken = replace(
        model, denoiser=replace(model.denoiser, net=KnownNetwork(lambda x, *_: torch.full_like(x, torch.inf)))
    )
    with pytest.raises(FloatingPointError, match="numbers that are not finite"):
        generate(broken, [0], sampler=sampler, steps=3)


def test_no_reading_and_no_frame_of_numbers_that_are_not_finite(model):
    broken = replace(
        model, denoiser=replace(model.denoiser, net=KnownNetwork(lambda x, *_: torch.full_like(x, torch.nan)))
    )
    with pytest.raises(FloatingPointError, match="not finite"):
        list(classify(broken, torch.zeros(1, 16, 16)))
    with pytest.raises(FloatingPointError):
        list(interpolate(broken, torch.zeros(2, 1, 16, 16), total=2, tolerance=0.1))
