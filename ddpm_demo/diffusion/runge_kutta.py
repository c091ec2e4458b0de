"""An adaptive Runge-Kutta solver for batches. Each image has its own steps, so it does not depend on the others.

This is scipy's ``RK45``, the method of Dormand and Prince, with the same coefficients and the same control of the step
size, but with one position and one step size per image. A batch needs as many calls as its slowest image: the images
that have arrived wait for it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0  # of a step: its margin, and the limits of its change
SMALLEST = 1e-13  # of a step, relative to the interval
# Of a step, in log-SNR. Far from the data the slope is almost zero, and a longer step could pass over the data unnoticed.
LARGEST = 4.0
Derive = Callable[[Tensor, Tensor], Tensor]  # (t (N, 1), y (N, D)) -> dy/dt (N, D), all float64


@cache
def load_coefficients() -> tuple[Tensor, ...]:
    """Return the tables A, B, C, E and P of the method. They are imported when they are first needed, which takes time."""
    from scipy.integrate import RK45

    return tuple(torch.from_numpy(table) for table in (RK45.A, RK45.B, RK45.C, RK45.E, RK45.P))


@dataclass(frozen=True)
class Attempt:
    """One step of every image, from t to t_after. Only a step with an error below 1 is accepted."""

    t: Tensor  # (N, 1)
    t_after: Tensor  # (N, 1), equal to t for an image that has arrived
    y: Tensor  # (N, D)
    y_after: Tensor  # (N, D)
    slopes: Tensor  # (7, N, D) at the stages; the last one is at t_after
    error: Tensor  # (N, 1) root mean square over the image, in units of the tolerance

    def at(self, stop: Tensor) -> Tensor:
        """Return the states (N, D) at a point between t and t_after, to fourth order (RK45's dense output)."""
        h = self.t_after - self.t
        _, _, _, _, dense = load_coefficients()
        powers = ((stop - self.t) / h) ** torch.arange(1, dense.shape[1] + 1)  # (N, 4)
        return self.y + h * torch.einsum("snd,sp,np->nd", self.slopes, dense, powers)


def integrate(
    slope: Callable[[Tensor, Tensor], Tensor], x: Tensor, stops: Sequence[float], tolerance: float = 1e-4
) -> Iterator[tuple[Tensor, int]]:
    """Solve dx / dt = slope(x, t), where t is a log-SNR. Yield (state like x, calls of ``slope`` so far) at each of the ``stops``.

    The stops are increasing or decreasing, and x (N, ...) is the state at the first one. ``slope`` receives one t per
    image, (N,) float64. The error of a step, a root mean square over one image, stays below ``tolerance``, absolute plus
    relative. Raises FloatingPointError if the required step becomes too small.
    """
    first, *others = (float(stop) for stop in stops)
    yield x, 0
    if not others:
        return
    calls = 0

    def derive(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return slope(restore(y, x), t[:, 0]).double().cpu().reshape(len(x), -1)

    t, y = torch.full((len(x), 1), first, dtype=torch.float64), x.double().cpu().reshape(len(x), -1)
    ends, passed, states = torch.tensor(others, dtype=torch.float64), 0, {}  # states (N, D) by number of the stop
    for attempt in walk_steps(derive, t, y, ends[-1], tolerance):
        accepted = attempt.error < 1
        crossed = accepted & ((ends - attempt.t).sign() != (ends - attempt.t_after).sign())  # (N, stops)
        crossed &= ends != attempt.t  # an image that has arrived at a stop does not cross it again
        for k in crossed.any(0).nonzero().flatten().tolist():
            reached = attempt.at(ends[k])
            states[k] = torch.where(crossed[:, k, None], reached, states.get(k, reached))
        t = torch.where(accepted, attempt.t_after, attempt.t)
        while passed < len(ends) and bool(((ends[passed] - t) * (ends[-1] - first) <= 0).all()):
            yield restore(states.pop(passed), x), calls
            passed += 1


def walk_steps(derive: Derive, t: Tensor, y: Tensor, end: Tensor, tolerance: float) -> Iterator[Attempt]:
    """Yield the attempted steps of the images from t to ``end``, until all have arrived."""
    slope = derive(t, y)
    size = choose_first_step(derive, t, y, slope, end, tolerance)
    smallest = SMALLEST * (end - t).abs()
    rejected = torch.zeros_like(t, dtype=torch.bool)
    while bool((left := (end - t).abs()).any()):
        if not bool(((size > smallest) | (left == 0)).all()):
            stuck = t[left > 0][0].item()
            raise FloatingPointError(f"the ODE cannot be solved at {stuck:.2f}: the required step is too small")
        size = size.clamp(max=LARGEST)
        t_after = torch.where(size < left, t + (end - t).sign() * size, end)
        attempt = attempt_step(derive, t, y, slope, t_after, tolerance)
        yield attempt
        accepted = attempt.error < 1
        factor = (SAFETY * attempt.error ** (-1 / 5)).clamp(SHRINK, GROW)
        size = (attempt.t_after - t).abs() * torch.where(accepted & ~rejected, factor, factor.clamp(max=1))
        t, y = torch.where(accepted, attempt.t_after, t), torch.where(accepted, attempt.y_after, y)
        slope, rejected = torch.where(accepted, attempt.slopes[-1], slope), ~accepted


def attempt_step(derive: Derive, t: Tensor, y: Tensor, slope: Tensor, t_after: Tensor, tolerance: float) -> Attempt:
    """Compute the step of every image from t, where its derivative is ``slope``, to t_after."""
    stages, weights, times, errors, _ = load_coefficients()
    h, slopes = t_after - t, slope[None]
    for a, c in zip(stages[1:], times[1:]):
        state = y + h * torch.tensordot(a[: len(slopes)], slopes, 1)
        slopes = torch.cat([slopes, derive(t + c * h, state)[None]])
    y_after = y + h * torch.tensordot(weights, slopes, 1)
    slopes = torch.cat([slopes, derive(t_after, y_after)[None]])
    allowed = tolerance * (1 + torch.maximum(y.abs(), y_after.abs()))
    return Attempt(t, t_after, y, y_after, slopes, rms(h * torch.tensordot(errors, slopes, 1) / allowed))


def choose_first_step(derive: Derive, t: Tensor, y: Tensor, slope: Tensor, end: Tensor, tolerance: float) -> Tensor:
    """Return a good size (N, 1) of the first step (Hairer, Norsett and Wanner 1993, section II.4)."""
    allowed, length = tolerance * (1 + y.abs()), (end - t).abs()
    d0, d1 = rms(y / allowed), rms(slope / allowed)
    h0 = torch.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1).minimum(length)
    signed = (end - t).sign() * h0
    d2 = rms((derive(t + signed, y + signed * slope) - slope) / allowed) / h0
    largest = torch.maximum(d1, d2)
    h1 = torch.where(largest <= 1e-15, (h0 * 1e-3).clamp(min=1e-6), (0.01 / largest) ** (1 / 5))
    return h1.minimum(100 * h0).minimum(length)


def rms(y: Tensor) -> Tensor:
    """Return the root mean square (N, 1) of each row of y (N, D)."""
    return y.square().mean(1, keepdim=True).sqrt()


def restore(y: Tensor, x: Tensor) -> Tensor:
    """Return the states y (N, D) with the shape, type and device of x."""
    return y.reshape(x.shape).to(x.dtype).to(x.device)
