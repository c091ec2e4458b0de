"""The probability-flow ODE, solved to a given tolerance: from noise to image, from image to noise, and interpolation.

As a function of log-SNR, the ODE of Song et al. 2021 (Score SDE, eq. 13) has no singularity at its ends:

    dx / d log_snr = alpha / 2 * (D(x, log_snr) - alpha * x),    since score = -(x - alpha * D) / sigma^2
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import alpha_sigma, per_image
from ddpm_demo.diffusion.runge_kutta import integrate


def compute_slope(x: Tensor, x0: Tensor, log_snr: Tensor | float) -> Tensor:
    """Return dx / d log_snr (N, C, H, W) at x, given its clean estimate x0, at log_snr (a number or (N,))."""
    alpha = per_image(alpha_sigma(log_snr)[0], x)
    return alpha / 2 * (x0 - alpha * x)


def solve_ode(denoise: Callable, x: Tensor, start: float, end: float, tolerance: float = 1e-4) -> tuple[Tensor, int]:
    """Solve the ODE for x (N, C, H, W) from log-SNR ``start`` to ``end``; return the end state and the denoiser calls.

    With decreasing log-SNR this encodes an image as latent noise; with increasing log-SNR it decodes the noise along
    the same path (ibid., section 4.3). There is no label.
    """
    *_, last = integrate(
        lambda x, log_snr: compute_slope(x, denoise(x, log_snr, None), log_snr), x, (start, end), tolerance
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
