"""The adaptive solver against scipy's own, one image at a time."""

import pytest
import torch
from scipy.integrate import RK45, solve_ivp

from ddpm_demo.diffusion import runge_kutta
from ddpm_demo.diffusion.runge_kutta import integrate

X = torch.tensor([[0.1, -0.4, 1.0], [2.0, 0.3, -0.2], [-30.0, 7.0, 0.0]], dtype=torch.float64)


def slope(x, t):
    """A stiff part and a driven one: every row of X needs other steps."""
    t = t.reshape(-1, 1)
    return -x * (0.3 + t**2) + torch.sin(3 * t) * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


@pytest.mark.parametrize("stops", [(-2.0, -1.3, 0.0, 0.1, 3.0), (1.0, 0.5, -1.0)])
def test_every_image_is_solved_as_scipy_solves_it_alone(stops, monkeypatch):
    monkeypatch.setattr(runge_kutta, "LARGEST", float("inf"))  # scipy has no such limit
    states, calls = zip(*integrate(slope, X, stops, 1e-5))
    alone = []
    for k, x in enumerate(X):
        theirs = solve_ivp(
            lambda t, y: slope(torch.from_numpy(y)[None], torch.tensor([t], dtype=torch.float64))[0].numpy(),
            (stops[0], stops[-1]), x.numpy(), RK45, t_eval=stops, rtol=1e-5, atol=1e-5,
        )  # fmt: skip
        ours = torch.stack([state[k] for state in states], 1)
        torch.testing.assert_close(ours, torch.from_numpy(theirs.y), rtol=1e-9, atol=1e-9)
        alone.append(theirs.nfev)
    assert len(set(alone)) > 1 and max(alone) == calls[-1]


def test_a_slope_that_is_not_finite_ends_with_a_message():
    with pytest.raises(FloatingPointError, match="the required step is too small"):
        list(integrate(lambda x, t: x / 0, X, (0.0, 1.0)))
