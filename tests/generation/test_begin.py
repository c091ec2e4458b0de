"""Where the reverse process starts: the first state, and what the denoiser knows of an image."""

import pytest
import torch
from conftest import SHIPPED, tiny_model, tiny_student

from ddpm_demo import Completion, Enlargement, NoisedImage, PureNoise, UserError
from ddpm_demo.diffusion.guidance import Guided
from ddpm_demo.generation.begin import check_start
from ddpm_demo.models.checkpoint import load

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(2, 1, 16, 16, generator=GENERATOR) * 2 - 1
NOISE = torch.randn(2, 4, 8, 8, generator=GENERATOR)
KEEP = torch.rand(16, 16, generator=GENERATOR) < 0.5
LOG_SNR = torch.tensor(-1.0, dtype=torch.float64)
NOISED = torch.sigmoid(LOG_SNR).sqrt().float(), torch.sigmoid(-LOG_SNR).sqrt().float()


def guide(denoise):
    """A guidance that is recognised: every estimate is 0.25, every direction 7."""
    return lambda x, log_snr, label=None: Guided(torch.full_like(x, 0.25), torch.full_like(x, 7))


def test_pure_noise_is_the_noise():
    x, denoise = PureNoise().prepare(tiny_model(), NOISE, LOG_SNR, guide)
    assert x is NOISE and (denoise(x, -1.0).x0 == 0.25).all()


@pytest.mark.parametrize("image", [IMAGES, IMAGES[0]])
def test_a_noised_image_is_the_forward_process_at_the_first_log_snr(image):
    model = tiny_model()
    x, denoise = NoisedImage(image, 400).prepare(model, NOISE, LOG_SNR, guide)
    alpha, sigma = NOISED
    torch.testing.assert_close(model.codec.decode(x), alpha * image + sigma * model.codec.decode(NOISE))
    assert (denoise(x, -1.0).x0 == 0.25).all()


@pytest.mark.parametrize("condition, start", [("add", None), ("add", 400.0), ("image", 400.0)])
def test_a_completion_replaces_the_known_part_of_a_guided_estimate(condition, start):
    """By any network, if the process starts from the image; the guidance knows nothing of the replacement."""
    model = tiny_model(condition=condition)
    x, denoise = Completion(IMAGES, KEEP, start).prepare(model, NOISE, LOG_SNR, guide)
    alpha, sigma = NOISED
    noised = IMAGES if start else IMAGES * KEEP
    torch.testing.assert_close(model.codec.decode(x), alpha * noised + sigma * model.codec.decode(NOISE))
    x0, direction = denoise(x, -1.0, None)
    decoded = model.codec.decode(x0)
    assert torch.equal(decoded[..., KEEP], IMAGES[..., KEEP]) and (decoded[..., ~KEEP] == 0.25).all()
    assert (direction == 7).all()


def test_a_completion_does_not_see_the_pixels_that_it_replaces():
    """Not even through an autoencoder, whose latents beside the hole depend on the pixels in it."""
    model = load(SHIPPED.with_name("cifar10-latent"))
    image, keep = torch.rand(3, 32, 32) * 2 - 1, torch.ones(32, 32, dtype=torch.bool)
    keep[8:24, 8:24] = False
    other, noise = torch.where(keep, image, -image), torch.randn(1, *model.codec.shape(3, 32))
    first, second = (Completion(one, keep).prepare(model, noise, LOG_SNR, guide) for one in (image, other))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1].known, second[1].known)


@pytest.mark.parametrize("begin", [Completion(IMAGES, KEEP), Completion(IMAGES[0], KEEP), Enlargement(IMAGES[0])])
def test_a_network_with_an_image_input_is_given_the_known_pixels_and_their_mask(begin):
    model, given = tiny_model(condition="image"), []
    model.denoiser.net.register_forward_hook(lambda net, inputs, output: given.append(inputs[3]))
    x, denoise = begin.prepare(model, NOISE, LOG_SNR, lambda denoise: denoise)
    assert x is NOISE
    denoise(x, -1.0, torch.tensor([0, 1]))
    keep = KEEP if isinstance(begin, Completion) else torch.ones(16, 16)
    expected = (begin.image * keep).expand(2, 1, 16, 16)
    torch.testing.assert_close(model.codec.decode(given[0][:, :4]), expected)
    share = KEEP.float().reshape(8, 2, 8, 2).mean((1, 3)) if isinstance(begin, Completion) else torch.zeros(8, 8)
    torch.testing.assert_close(given[0][:, 4], share.expand(2, 8, 8))


def test_a_start_is_a_timestep():
    model = tiny_model()
    for start in (0, 999, 0.5):
        check_start(model, start)
    for start in (-0.1, 999.5, True, float("nan")):
        with pytest.raises(UserError, match="it must be a timestep from 0 to 999"):
            check_start(model, start)


def test_a_distilled_model_completes_nothing():
    with pytest.raises(UserError, match="completion of an image needs a denoiser for every noise level"):
        Completion(IMAGES[0], KEEP).check(tiny_student(tiny_model()), 1)
