"""The forward process q(x_t | x_0), which adds noise to an image: in closed form or step by step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import add_noise, alpha_sigma
from ddpm_demo.diffusion.schedule import Schedule


def add_noise_stepwise(x0: Tensor, schedule: Schedule, t: int, generator: torch.Generator) -> Tensor:
    """Return x_t like x0 after steps 0 .. t of x <- sqrt(1 - beta) x + sqrt(beta) z (Ho et al. 2020, eq. 2)."""
    x = x0
    for beta in schedule.betas[: t + 1].tolist():
        x = (1 - beta) ** 0.5 * x + beta**0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


@dataclass(frozen=True)
class Comparison:
    """Histograms of x_t for one pixel, sampled in closed form and step by step, and the exact Gaussian density."""

    middles: Tensor  # (B,) centres of the bins
    closed: Tensor  # (B,) density of the closed form's samples
    chained: Tensor  # (B,) density of the samples drawn step by step
    expected: Tensor  # (B,) the Gaussian's density
    gap: float  # Kolmogorov-Smirnov statistic: the largest distance between the two empirical distribution functions
    critical: float  # the statistic of two samples of one distribution is below it with probability 0.95


def compare_with_closed_form(
    value: float, schedule: Schedule, t: int, draws: int = 2000, seed: int = 0, bins: int = 32
) -> Comparison:
    """Compare the closed form with the step-by-step process at timestep t, for a pixel value in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.full((draws,), value, dtype=torch.float64)
    direct = add_noise(x0, schedule.log_snr(t), torch.randn(draws, generator=generator, dtype=torch.float64))
    stepwise = add_noise_stepwise(x0, schedule, t, generator)
    alpha, sigma = (c.item() for c in alpha_sigma(schedule.log_snr(t)))
    low, high = alpha * value - 4 * sigma, alpha * value + 4 * sigma
    width = (high - low) / bins
    middles = low + (torch.arange(bins, dtype=torch.float64) + 0.5) * width
    closed, chained = (torch.histc(x, bins, low, high) / (draws * width) for x in (direct, stepwise))
    expected = torch.exp(-((middles - alpha * value) ** 2) / (2 * sigma**2)) / (sigma * (2 * torch.pi) ** 0.5)
    pooled = torch.cat([direct, stepwise]).sort().values
    shares = [torch.searchsorted(x.sort().values, pooled, right=True) / draws for x in (direct, stepwise)]
    gap = (shares[0] - shares[1]).abs().max().item()
    return Comparison(middles, closed, chained, expected, gap, 1.36 * (2 / draws) ** 0.5)


def compute_correlation(log_snr: float, variance: float) -> float:
    """Return the correlation of x_t with x_0 at a log-SNR, for pixels of the given variance."""
    alpha, sigma = (c.item() for c in alpha_sigma(log_snr))
    return alpha * variance**0.5 / (alpha**2 * variance + sigma**2) ** 0.5
