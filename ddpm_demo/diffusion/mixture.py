"""The exact case: a one-dimensional mixture of Gaussians with its denoiser, its reverse step and its paths."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import alpha_sigma, per_image
from ddpm_demo.diffusion.reverse_process import walk
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.diffusion.schedule import Schedule


@dataclass(frozen=True)
class Mixture:
    """Weights (``shares``), means (``centres``) and standard deviations (``widths``) of K Gaussians."""

    shares: tuple[float, ...] = (0.3, 0.45, 0.25)
    centres: tuple[float, ...] = (-0.8, 0.1, 0.9)
    widths: tuple[float, ...] = (0.08, 0.12, 0.06)

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return (shares, centres, widths), each float64 (K,)."""
        return tuple(torch.tensor(part, dtype=torch.float64) for part in (self.shares, self.centres, self.widths))

    def density(self, x: Tensor, log_snr: float = float("inf")) -> Tensor:
        """Return the probability density at x, any shape, float64, with noise at log_snr (infinite: no noise)."""
        shares, centres, widths = self.parts()
        alpha, sigma = alpha_sigma(log_snr)
        deviation = ((alpha * widths) ** 2 + sigma**2).sqrt()
        z = (x[..., None] - alpha * centres) / deviation
        return (shares * torch.exp(-(z**2) / 2) / (deviation * (2 * torch.pi) ** 0.5)).sum(-1)

    def denoise(self, x: Tensor, log_snr: Tensor | float, label: Tensor | None = None) -> Tensor:
        """Return the optimal clean estimate E[x_0 | x], like x, at a log-SNR (a number, or one per x)."""
        shares, centres, widths = self.parts()
        x = x[..., None]
        alpha, sigma = (per_image(c, x) for c in alpha_sigma(log_snr))
        variance = (alpha * widths) ** 2 + sigma**2
        logits = shares.log() - variance.log() / 2 - (x - alpha * centres) ** 2 / (2 * variance)
        return (torch.softmax(logits, -1) * (centres + alpha * widths**2 / variance * (x - alpha * centres))).sum(-1)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw samples (count,), float64."""
        shares, centres, widths = self.parts()
        part = torch.multinomial(shares, count, replacement=True, generator=generator)
        return centres[part] + widths[part] * torch.randn(count, dtype=torch.float64, generator=generator)


@dataclass(frozen=True)
class Reverse:
    """One reverse step on a grid of positions: the exact distribution, and the Gaussian that DDPM uses instead."""

    positions: Tensor  # (P,)
    prior: Tensor  # (P,) density of z_{t-1}
    marginal: Tensor  # (P,) density of z_t
    exact: Tensor  # (P,) q(z_{t-1} | z_t)
    gaussian: Tensor  # (P,) density of the Gaussian of the same mean and variance
    gap: float  # total variation distance between the two, from 0 (equal) to 1 (disjoint)


def reverse_step(mixture: Mixture, beta: float, z: float, reach: float = 2.5) -> Reverse:
    """Compute the exact reverse conditional of one forward step of size beta at z_t = z, by Bayes' rule.

    q(z_{t-1} | z_t) is proportional to q(z_t | z_{t-1}) q(z_{t-1}), with q(z_t | z_{t-1}) a Gaussian around
    sqrt(1 - beta) z_{t-1} of variance beta (Ho et al. 2020, eq. 2). It is nearly Gaussian only for small beta
    (Sohl-Dickstein et al. 2015, section 2.2; Feller 1949).
    """
    positions = torch.linspace(-reach, reach, 801, dtype=torch.float64)
    width = positions[1] - positions[0]
    prior = mixture.density(positions)
    exact = prior * torch.exp(-((z - (1 - beta) ** 0.5 * positions) ** 2) / (2 * beta)) + 1e-300
    exact = exact / (exact.sum() * width)
    mean = (exact * positions).sum() * width
    variance = (exact * (positions - mean) ** 2).sum() * width
    gaussian = torch.exp(-((positions - mean) ** 2) / (2 * variance)) / (2 * torch.pi * variance) ** 0.5
    marginal = mixture.density(positions, torch.logit(torch.tensor(1 - beta, dtype=torch.float64)).item())
    gap = ((exact - gaussian).abs().sum() * width / 2).item()
    return Reverse(positions, prior, marginal, exact, gaussian, gap)


def forward_paths(mixture: Mixture, schedule: Schedule, steps: int, count: int, seed: int = 0) -> Tensor:
    """Return paths (steps + 1, count) of the forward process, clean first, at the log-SNRs of the schedule's grid."""
    generator = torch.Generator().manual_seed(seed)
    x = mixture.draw(count, generator)
    path, previous_alpha = [x], 1.0
    for log_snr in schedule.grid(steps).flip(0):
        alpha = alpha_sigma(log_snr)[0].item()
        ratio = alpha / previous_alpha
        x = ratio * x + (1 - ratio**2) ** 0.5 * torch.randn(count, dtype=torch.float64, generator=generator)
        path.append(x)
        previous_alpha = alpha
    return torch.stack(path)


def reverse_paths(mixture: Mixture, schedule: Schedule, steps: int, count: int, sampler: str, seed: int = 0) -> Tensor:
    """Return paths (steps + 1, count) of a sampler (SDE or ODE) with the exact score, noise first."""
    generator = torch.Generator().manual_seed(seed)

    def noise() -> Tensor:
        return torch.randn(count, dtype=torch.float64, generator=generator)

    grid = schedule.grid(steps)
    path = list(walk(mixture.denoise, noise(), grid, sampling=Sampling(sampler=sampler), noise=noise))
    return torch.stack([*(step.x for step in path), path[-1].x0])
