"""The probability-flow ODE, solved to a given tolerance: from noise to image, from image to noise, and interpolation.

As a function of log-SNR, the ODE of Song et al. 2021 (Score SDE, eq. 13) has no singularity at its ends:

    dx / d log_snr = alpha / 2 * (D(x, log_snr) - alpha * x),    since score = -(x - alpha * D) / sigma^2
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import alpha_sigma


def compute_slope(x: Tensor, x0: Tensor, log_snr: float) -> Tensor:
    """Return dx / d log_snr (N, C, H, W) at x, given its clean estimate x0."""
    alpha = alpha_sigma(log_snr)[0].item()
    return alpha / 2 * (x0 - alpha * x)


def integrate(
    slope: Callable[[Tensor, float], Tensor], x: Tensor, log_snrs: Sequence[float], tolerance: float = 1e-4
) -> Iterator[tuple[Tensor, int]]:
    """Solve dx / d log_snr = slope(x, log_snr). Yield (state like x, calls of ``slope`` so far) at each log-SNR.

    The log_snrs are increasing or decreasing, and x is the state at the first one. The solver is scipy's Runge-Kutta
    4(5) of Dormand and Prince in float64. It keeps the error of a step, a root mean square over the whole state, below
    ``tolerance``, absolute plus relative. Raises RuntimeError if the required step becomes too small.
    """
    from scipy.integrate import RK45

    def flat(log_snr: float, numbers: np.ndarray) -> np.ndarray:
        state = torch.from_numpy(numbers).reshape(x.shape).to(x.dtype).to(x.device)
        return slope(state, log_snr).double().cpu().numpy().reshape(-1)

    first, *others = (float(log_snr) for log_snr in log_snrs)
    yield x, 0
    if not others:
        return
    start = x.double().cpu().numpy().reshape(-1)
    solver = RK45(flat, first, start, others[-1], rtol=tolerance, atol=tolerance)
    for log_snr in others:
        while (solver.t - log_snr) * solver.direction < 0:
            if message := solver.step():
                raise RuntimeError(f"the ODE cannot be solved at log-SNR {solver.t:.2f}: {message}")
        state = solver.y if solver.t == log_snr else solver.dense_output()(log_snr)
        yield torch.from_numpy(state).reshape(x.shape).to(x.dtype).to(x.device), solver.nfev


@torch.no_grad()
def solve_ode(
    denoise: Callable, x: Tensor, start: float, end: float, label: Tensor | None = None, tolerance: float = 1e-4
) -> tuple[Tensor, int]:
    """Solve the ODE for x (N, C, H, W) from log-SNR ``start`` to ``end``; return the end state and the denoiser calls.

    With decreasing log-SNR this encodes an image as latent noise; with increasing log-SNR it decodes the noise along
    the same path (ibid., section 4.3).
    """
    *_, last = integrate(
        lambda x, log_snr: compute_slope(x, denoise(x, log_snr, label), log_snr), x, (start, end), tolerance
    )
    return last


def slerp(a: Tensor, b: Tensor, shares: Tensor) -> Tensor:
    """Interpolate on the great circle from a (C, H, W), share 0, to b, share 1 (spherical linear interpolation).

    Returns latents (S, C, H, W), one per share (S,). If a and b have the same norm, all results have that norm.
    """
    cosine = (a * b).sum() / (a.norm() * b.norm())
    angle = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6))
    shares = shares.to(a).reshape(-1, 1, 1, 1)
    return (torch.sin((1 - shares) * angle) * a + torch.sin(shares * angle) * b) / torch.sin(angle)
