"""Interpolation of two images, where the flow of the ODE is known: every pixel is Gaussian."""

from dataclasses import replace

import pytest
import torch
from conftest import KnownNetwork, tiny_model

from ddpm_demo.diffusion.denoiser import Denoiser
from ddpm_demo.diffusion.mixture import Mixture
from ddpm_demo.generation.interpolation import interpolate, round_trip_errors

MEAN, WIDTH = 0.1, 0.3


def gaussian_model():
    """A model whose denoiser is exact for independent Gaussian pixels."""
    model = tiny_model()
    schedule, exact = model.denoiser.schedule, Mixture((1.0,), (MEAN,), (WIDTH,))

    def compute(x, timestep, label, image):
        return exact.denoise(x.double(), schedule.log_snr(timestep.double())).to(x.dtype)

    return replace(model, denoiser=Denoiser(KnownNetwork(compute), schedule, "sample"))


def test_the_frames_are_the_standardised_images_on_a_great_circle():
    """The ODE keeps a pixel at the same number of standard deviations from the mean: as noise, it is that number."""
    model, images = gaussian_model(), torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)) - 0.5
    *_, first, done = interpolate(model, images, total=7, tolerance=1e-5)
    places = (images - MEAN) / WIDTH
    sigma = (
        torch.sigmoid(torch.tensor(-model.denoiser.schedule.range[1])).sqrt().item()
    )  # the noise of the cleanest state
    assert (done.latents - places).std().item() == pytest.approx(sigma / WIDTH, rel=0.15)
    a, b = done.latents.flatten(1)
    angle = torch.acos(a @ b / (a.norm() * b.norm()))
    for k, frame in enumerate(done.frames):
        on_circle = (torch.sin((1 - k / 6) * angle) * a + torch.sin(k / 6 * angle) * b) / torch.sin(angle)
        torch.testing.assert_close(frame.flatten(), MEAN + WIDTH * on_circle, rtol=0, atol=2e-3)
    assert torch.equal(done.frames[:6], first.frames) and len(done.frames) == 7


def test_the_calls_are_those_of_the_network():
    model, calls = gaussian_model(), []
    model.denoiser.net.register_forward_hook(lambda *_: calls.append(1))
    told = []
    for part in interpolate(model, torch.rand(2, 1, 16, 16) - 0.5, total=8, tolerance=1e-2):
        told.append((part.calls, len(calls)))
    assert told == [(count, count) for _, count in told] and len(told) == 3


def test_the_tolerance_is_that_of_both_directions():
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)) - 0.5
    loose, tight = (list(interpolate(gaussian_model(), images, total=2, tolerance=t)) for t in (1e-2, 1e-6))
    assert loose[0].calls < tight[0].calls  # of encoding
    assert loose[1].calls - loose[0].calls < tight[1].calls - tight[0].calls - 20  # of decoding


def test_the_error_of_the_round_trip_is_a_root_mean_square():
    model, images = gaussian_model(), torch.rand(2, 1, 16, 16) - 0.5
    done = list(interpolate(model, images, total=3, tolerance=1e-2))[-1]
    shifted = replace(done, frames=images[[0, 0, 1]] + torch.tensor([0.1, 9, -0.3]).reshape(3, 1, 1, 1))
    assert round_trip_errors(images, shifted) == pytest.approx([0.1, 0.3], abs=1e-6)
