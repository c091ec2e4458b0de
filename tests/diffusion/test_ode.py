"""The probability-flow ODE: there and back, in distribution, and between two images."""

from math import sqrt

import pytest
import torch
from conftest import SHIPPED
from PIL import Image

from ddpm_demo.data.images import split_row
from ddpm_demo.diffusion import ode
from ddpm_demo.diffusion.mixture import Mixture
from ddpm_demo.errors import UserError
from ddpm_demo.generation.interpolation import interpolate, round_trip_errors

GAUSSIAN = Mixture((1.0,), (0.3,), (0.2,))
LOW, HIGH = -12.0, 9.0


@pytest.fixture
def digits():
    with Image.open(SHIPPED / "examples.png") as row:
        return split_row(row, 1, 28)[[3, 7]]


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_there_and_back_within_the_tolerance(tolerance):
    x = GAUSSIAN.draw(500, torch.Generator().manual_seed(0)).reshape(-1, 1, 1, 1)
    z, there = ode.solve_ode(GAUSSIAN.denoise, x, HIGH, LOW, tolerance=tolerance)
    again, back = ode.solve_ode(GAUSSIAN.denoise, z, LOW, HIGH, tolerance=tolerance)
    assert (again - x).abs().max() < 20 * tolerance and 10 < there < 2000 and 10 < back < 2000
    assert abs(z.mean()) < 0.15 and abs(z.std() - 1) < 0.1


def test_a_gaussian_is_carried_as_it_must_be():
    """The ODE of a Gaussian is linear: a point stays at the same number of standard deviations from the mean."""
    x = torch.linspace(-0.5, 1.2, 9, dtype=torch.float64).reshape(-1, 1, 1, 1)
    z, _ = ode.solve_ode(GAUSSIAN.denoise, x, HIGH, LOW, tolerance=1e-8)

    def place(x, log_snr):
        alpha, sigma = (c.item() for c in ode.alpha_sigma(log_snr))
        return (x - alpha * 0.3) / sqrt((alpha * 0.2) ** 2 + sigma**2)

    torch.testing.assert_close(place(z, LOW), place(x, HIGH), rtol=0, atol=1e-6)


def test_every_stop_on_the_way_is_told():
    stops = [LOW, -3.0, 0.5, HIGH]
    seen = list(ode.integrate(lambda x, log_snr: x * 0 + 2 * log_snr, torch.zeros(2), stops))
    for log_snr, (x, calls) in zip(stops, seen, strict=True):
        torch.testing.assert_close(x, torch.full((2,), log_snr**2 - LOW**2), rtol=1e-4, atol=1e-3)
    assert seen[0][1] == 0 and seen[-1][1] > 5


def test_a_solution_that_does_not_exist_is_an_error():
    """dx / ds = x^2 from x = 1 has a pole at s = 1."""
    with pytest.raises(FloatingPointError, match="the ODE cannot be solved at 1.00"):
        list(ode.integrate(lambda x, log_snr: x**2, torch.ones(1, dtype=torch.float64), (0.0, 2.0)))


def test_the_great_circle_of_equal_or_opposite_points_is_finite():
    a, shares = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 1, 5)
    torch.testing.assert_close(ode.slerp(a, a, shares), a.expand(5, 1, 4, 4), rtol=1e-3, atol=1e-3)
    assert ode.slerp(a, -a, shares).isfinite().all()


def test_the_great_circle_keeps_the_length():
    a, b = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    path = ode.slerp(a, b, torch.linspace(0, 1, 7))
    torch.testing.assert_close(path[0], a, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(path[-1], b, rtol=1e-4, atol=1e-4)
    assert (path.flatten(1).norm(dim=1) / sqrt(784) - 1).abs().max() < 0.05


@pytest.mark.slow
def test_two_digits_and_what_lies_between(shipped, digits):
    parts = list(interpolate(shipped.model(), digits, total=8))
    assert [len(part.frames) for part in parts] == [0, 6, 8]
    done = parts[-1]
    assert abs(done.latents.std() - 1) < 0.1 and abs(done.latents.mean()) < 0.1
    assert max(round_trip_errors(digits, done)) < 0.03 and done.calls > 100
    coarse = list(interpolate(shipped.model(), digits, total=2, tolerance=1e-2))[-1]
    assert max(round_trip_errors(digits, coarse)) > 0.1 and coarse.calls < done.calls
    with pytest.raises(UserError, match="total is 1"):
        interpolate(shipped.model(), digits, total=1)
    with pytest.raises(UserError, match="image has shape"):
        interpolate(shipped.model(), digits[..., :20])
