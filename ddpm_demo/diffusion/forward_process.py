"""The forward process q(x_t | x_0): an image drowns in noise, at once or step by step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import add_noise, alpha_sigma
from ddpm_demo.diffusion.schedule import Schedule


def chain(x0: Tensor, schedule: Schedule, t: int, generator: torch.Generator) -> Tensor:
    """x_t like x0 after steps 0 .. t, one at a time: x <- sqrt(1 - beta) x + sqrt(beta) z (Ho et al. 2020, eq. 2)."""
    x = x0
    for beta in schedule.betas[: t + 1].tolist():
        x = (1 - beta) ** 0.5 * x + beta**0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


@dataclass(frozen=True)
class Agreement:
    """One pixel's value x_t, drawn many times both ways, beside the Gaussian that both should follow."""

    middles: Tensor  # (B,) of the bins
    closed: Tensor  # (B,) density of the closed form's draws
    chained: Tensor  # (B,) density of the chain's draws
    expected: Tensor  # (B,) the Gaussian's density
    gap: float  # Kolmogorov-Smirnov: largest distance between the two sets' distribution functions
    usual: float  # what two sets of the same distribution stay below, 95 times of 100


def agreement(value: float, schedule: Schedule, t: int, draws: int = 2000, seed: int = 0, bins: int = 32) -> Agreement:
    """The closed form against the chain, for a pixel of the given value in [-1, 1], at timestep t."""
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.full((draws,), value, dtype=torch.float64)
    at_once = add_noise(x0, schedule.log_snr(t), torch.randn(draws, generator=generator, dtype=torch.float64))
    stepwise = chain(x0, schedule, t, generator)
    alpha, sigma = (c.item() for c in alpha_sigma(schedule.log_snr(t)))
    low, high = alpha * value - 4 * sigma, alpha * value + 4 * sigma
    width = (high - low) / bins
    middles = low + (torch.arange(bins, dtype=torch.float64) + 0.5) * width
    closed, chained = (torch.histc(x, bins, low, high) / (draws * width) for x in (at_once, stepwise))
    expected = torch.exp(-((middles - alpha * value) ** 2) / (2 * sigma**2)) / (sigma * (2 * torch.pi) ** 0.5)
    pooled = torch.cat([at_once, stepwise]).sort().values
    shares = [torch.searchsorted(x.sort().values, pooled, right=True) / draws for x in (at_once, stepwise)]
    gap = (shares[0] - shares[1]).abs().max().item()
    return Agreement(middles, closed, chained, expected, gap, 1.36 * (2 / draws) ** 0.5)


def correlation(log_snr: float, variance: float) -> float:
    """How much of x_t is still the image: the correlation of x_t with x_0, for pixels of the given variance."""
    alpha, sigma = (c.item() for c in alpha_sigma(log_snr))
    return alpha * variance**0.5 / (alpha**2 * variance + sigma**2) ** 0.5
