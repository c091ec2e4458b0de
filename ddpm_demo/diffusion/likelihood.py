"""The likelihood of real images under a model, in bits per dimension, computed in three ways.

discrete     the variational bound of T steps, L_T + sum of L_{t-1} + L_0 (Ho et al. 2020, eq. 5), for both variances
continuous   the limit of this bound for infinitely many steps, an integral over log-SNR (Kingma et al. 2021, eq. 15)
ode          the likelihood of the probability-flow ODE, with an estimated trace (Song et al. 2021, section 4.3)

The first two are upper bounds of the negative log-likelihood of the stochastic samplers. The ODE defines a different
model. All formulas use the clean estimate D, so they hold for every kind of prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log, pi

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import add_noise, alpha_sigma
from ddpm_demo.diffusion.ode import compute_slope
from ddpm_demo.diffusion.runge_kutta import integrate
from ddpm_demo.diffusion.samplers import VARIANCES
from ddpm_demo.diffusion.schedule import Schedule

LEVELS = 256  # values of a pixel
BIN = 2 / (LEVELS - 1)  # distance between two levels, for pixels in [-1, 1]
LEAST_MASS = 1e-30  # probability that the decoder gives to every level at least
Denoise = Callable[[Tensor, Tensor], Tensor]  # (x (N, C, H, W), log_snr (N,) or a number) -> clean estimate


@dataclass(frozen=True)
class Bound:
    """A variational bound in bits per dimension for each image: its three terms and their sum, each (N,)."""

    prior: Tensor  # L_T: divergence of the noisiest state from pure noise
    steps: Tensor  # the sum of L_{t-1}, or the integral of the continuous bound
    decoder: Tensor  # L_0: coding of the 256 levels, given the cleanest state

    @property
    def total(self) -> Tensor:
        """Return the bound (N,)."""
        return self.prior + self.steps + self.decoder


def to_bits_per_dim(nats: Tensor, x: Tensor) -> Tensor:
    """Convert nats per image (N,) to bits per dimension of x (N, C, H, W)."""
    return nats.double() / (x[0].numel() * log(2))


def draw_noisy(x0: Tensor, log_snr: Tensor | float, generator: torch.Generator) -> Tensor:
    """Return x0 (N, C, H, W) with newly drawn noise at log_snr."""
    return add_noise(x0, log_snr, torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device))


def squared_error(denoise: Denoise, x0: Tensor, log_snr: Tensor, generator: torch.Generator) -> Tensor:
    """Return || x0 - D ||^2 (N,), float64, for one noisy state of each image, with D clamped to [-1, 1]."""
    estimate = denoise(draw_noisy(x0, log_snr, generator), log_snr).clamp(-1, 1)
    return (x0 - estimate).double().square().flatten(1).sum(1).cpu()


def prior_bits(x0: Tensor, log_snr: float) -> Tensor:
    """Return L_T = KL(q(x_T | x_0) || N(0, I)) in bits per dimension (N,)."""
    alpha2, sigma2 = (c.item() ** 2 for c in alpha_sigma(log_snr))
    nats = (alpha2 * x0.double().square() + sigma2 - 1 - log(sigma2)).flatten(1).sum(1) / 2
    return to_bits_per_dim(nats, x0).cpu()


def decoder_bits(denoise: Denoise, x0: Tensor, log_snr: float, generator: torch.Generator) -> Tensor:
    """Return L_0 = -log p(x_0 | x_1) in bits per dimension (N,), for a Gaussian around D, discretised to 256 levels.

    See Ho et al. 2020, eq. 13. Both reverse variances use sigma^2 of x_1, which is beta_1, because the posterior
    variance is zero here.
    """
    sigma = alpha_sigma(log_snr)[1].item()
    mean = denoise(draw_noisy(x0, log_snr, generator), log_snr).clamp(-1, 1).double()
    x0 = x0.double()
    below, above = ((x0 - mean + side * BIN / 2) / sigma for side in (-1, 1))
    # The first and the last level include the tails. If both ends are above the mean, mirroring them is more accurate.
    below, above = below.where(x0 > -1 + BIN / 2, -inf), above.where(x0 < 1 - BIN / 2, inf)
    low, high = torch.where(below > 0, -above, below), torch.where(below > 0, -below, above)
    log_below_high = torch.special.log_ndtr(high)
    log_mass = log_below_high + torch.log1p(-torch.exp(torch.special.log_ndtr(low) - log_below_high))
    return to_bits_per_dim(-log_mass.clamp(min=log(LEAST_MASS)).flatten(1).sum(1), x0).cpu()


def step_bits(error: Tensor, t: Tensor, schedule: Schedule, x0: Tensor) -> dict[str, Tensor]:
    """Return L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) in bits per dimension (N,), for both variances.

    ``error`` (N,) is || x0 - D ||^2 at timestep t (N,), an index from 1. With the posterior variance, L_{t-1} is
    (SNR_{t-1} - SNR_t) / 2 * error. The variance beta is larger: it adds a KL term and scales the error term down.
    """
    snr = schedule.log_snrs.exp()
    posterior = (snr[t - 1] - snr[t]) / 2 * error
    ratio = (1 - schedule.alpha_bars[t - 1]) / (1 - schedule.alpha_bars[t])
    variance_cost = (ratio - 1 - ratio.log()) / 2 * x0[0].numel()
    return {"posterior": to_bits_per_dim(posterior, x0), "beta": to_bits_per_dim(ratio * posterior + variance_cost, x0)}


def draw_stratified(ends: tuple[float, float], draws: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw uniform numbers (draws, count), float64, with row k in the k-th of ``draws`` equal parts of ``ends``."""
    low, high = ends
    parts = torch.arange(draws, dtype=torch.float64).unsqueeze(1)
    return low + (high - low) * (parts + torch.rand(draws, count, generator=generator, dtype=torch.float64)) / draws


@torch.no_grad()
def estimate_discrete_bound(
    denoise: Denoise, schedule: Schedule, x0: Tensor, draws: int, generator: torch.Generator
) -> tuple[dict[str, Bound], tuple[Tensor, dict[str, Tensor]]]:
    """Estimate the bound of the schedule's T steps for both variances. Also return its terms: t, L_{t-1} (draws, N).

    Each image uses ``draws`` of its T - 1 terms. A term is drawn with a probability proportional to its step in
    log-SNR, because the terms of small t are by far the largest.
    """
    cleanest, noisiest = schedule.log_snrs[0].item(), schedule.log_snrs[-1].item()
    levels = draw_stratified((noisiest, cleanest), draws, len(x0), generator)
    ts = torch.searchsorted(-schedule.log_snrs, -levels).clamp(1, len(schedule) - 1)
    share = (schedule.log_snrs[ts - 1] - schedule.log_snrs[ts]) / (cleanest - noisiest)
    terms = [step_bits(squared_error(denoise, x0, schedule.log_snrs[t], generator), t, schedule, x0) for t in ts]
    curve = {variance: torch.stack([term[variance] for term in terms]) for variance in VARIANCES}
    prior, decoder = prior_bits(x0, noisiest), decoder_bits(denoise, x0, cleanest, generator)
    return {v: Bound(prior, (curve[v] / share).mean(0), decoder) for v in VARIANCES}, (ts, curve)


@torch.no_grad()
def estimate_continuous_bound(
    denoise: Denoise, ends: tuple[float, float], x0: Tensor, draws: int, generator: torch.Generator
) -> Bound:
    """Estimate the bound for infinitely many steps: 1/2 of the integral of SNR * || x0 - D ||^2 over log-SNR.

    The integral is over the log-SNRs ``ends`` (lowest, highest). Each image uses ``draws`` log-SNRs.
    """
    low, high = ends
    levels = draw_stratified(ends, draws, len(x0), generator)
    slopes = [level.exp() / 2 * squared_error(denoise, x0, level, generator) for level in levels]
    steps = to_bits_per_dim((high - low) * torch.stack(slopes).mean(0), x0)
    return Bound(prior_bits(x0, low), steps, decoder_bits(denoise, x0, high, generator))


def estimate_ode_likelihood(
    denoise: Denoise, ends: tuple[float, float], x0: Tensor, tolerance: float, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Return -log p(x0) of the probability-flow ODE, bits per dimension (N,), and the number of denoiser calls.

    x0 is dequantised with uniform noise. Along the ODE, log p changes by minus the trace of the slope's Jacobian, which
    is estimated with one random sign per pixel (Hutchinson). The estimate is unbiased, but noisy for a single image.
    All images share the steps of the solver, because only their mean is of interest.
    """
    low, high = ends
    x = x0 + (torch.rand(x0.shape, generator=generator, dtype=x0.dtype) - 0.5).to(x0.device) * BIN
    signs = (torch.randint(0, 2, x.shape, generator=generator) * 2 - 1).to(x)

    def slope(states: Tensor, log_snr: Tensor) -> Tensor:
        with torch.enable_grad():
            free = states[0, :, :-1].reshape(x.shape).detach().requires_grad_()
            derivative = compute_slope(free, denoise(free, log_snr.item()), log_snr.item())
            (product,) = torch.autograd.grad((derivative * signs).sum(), free)
        trace = (product * signs).flatten(1).sum(1, keepdim=True)
        return torch.cat([derivative.detach().flatten(1), trace], 1)[None]

    start = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1)[None]  # one state for the solver
    *_, (end, calls) = integrate(slope, start, (high, low), tolerance)
    z, change = end[0, :, :-1].double(), end[0, :, -1].double()
    log_density = -(z.square() + log(2 * pi)).sum(1) / 2 + change
    return to_bits_per_dim(-log_density, x0).cpu() - log(BIN) / log(2), calls
