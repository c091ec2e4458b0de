"""How well a model predicts real images, in bits per dimension: three routes, each with its standard error.

discrete     the variational bound of T steps, L_T + sum of L_{t-1} + L_0 (Ho et al. 2020, eq. 5), for both variances
continuous   its limit for endless steps, an integral over log-SNR (Kingma et al. 2021, eq. 15)
ode          the likelihood of the probability-flow ODE, whose trace is estimated (Song et al. 2021, section 4.3)

The bounds are of the stochastic samplers, and lie above the negative log-likelihood of the very model that they bound;
the ODE is a model of its own. In terms of the clean estimate D, whatever the network predicts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import add_noise, alpha_sigma
from ddpm_demo.diffusion.ode import integrate, velocity
from ddpm_demo.diffusion.samplers import VARIANCES
from ddpm_demo.diffusion.schedule import Schedule

LEVELS = 256  # of a pixel
BIN = 2 / (LEVELS - 1)  # the width of a level, with pixels in [-1, 1]
Denoise = Callable[[Tensor, Tensor], Tensor]  # (x (N, C, H, W), log_snr (N,) or a number) -> clean estimate


@dataclass(frozen=True)
class Bound:
    """A variational bound in bits per dimension, image by image: its parts and their sum, (N,) each."""

    prior: Tensor  # L_T: what is left of the image in the noisiest state
    steps: Tensor  # the sum of L_{t-1}, or the integral in its place
    decoder: Tensor  # L_0: from the cleanest state to the 256 levels

    @property
    def total(self) -> Tensor:
        """The bound (N,)."""
        return self.prior + self.steps + self.decoder


def bits(nats: Tensor, x: Tensor) -> Tensor:
    """Nats an image (N,) as bits per dimension of x (N, C, H, W)."""
    return nats.double() / (x[0].numel() * log(2))


def drowned(x0: Tensor, log_snr: Tensor | float, generator: torch.Generator) -> Tensor:
    """x0 (N, C, H, W) under fresh noise at log_snr."""
    return add_noise(x0, log_snr, torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device))


def squared_error(denoise: Denoise, x0: Tensor, log_snr: Tensor, generator: torch.Generator) -> Tensor:
    """|| x0 - D ||^2 (N,), float64, from one noisy state of every image, D within [-1, 1] as when sampling."""
    estimate = denoise(drowned(x0, log_snr, generator), log_snr).clamp(-1, 1)
    return (x0 - estimate).double().square().flatten(1).sum(1).cpu()


def prior_bits(x0: Tensor, log_snr: float) -> Tensor:
    """L_T: KL(q(x_T | x_0) || N(0, I)), in bits per dimension (N,)."""
    alpha2, sigma2 = (c.item() ** 2 for c in alpha_sigma(log_snr))
    nats = (alpha2 * x0.double().square() + sigma2 - 1 - log(sigma2)).flatten(1).sum(1) / 2
    return bits(nats, x0).cpu()


def decoder_bits(denoise: Denoise, x0: Tensor, log_snr: float, generator: torch.Generator) -> Tensor:
    """L_0: -log p(x_0 | x_1) of a Gaussian around D, cut into 256 levels (Ho et al. 2020, eq. 13), bits per dim. (N,).

    Its variance is sigma^2 of x_1, beta_1, under either choice of reverse variance: the posterior's would be zero here.
    """
    sigma = alpha_sigma(log_snr)[1].item()
    mean = denoise(drowned(x0, log_snr, generator), log_snr).clamp(-1, 1).double()
    x0 = x0.double()
    below, above = ((x0 - mean + side * BIN / 2) / sigma for side in (-1, 1))
    # The tails belong to the outermost levels. Where both ends lie above the mean, their mirror images are more exact.
    mirrored = below > 0
    low, high = torch.where(mirrored, -above, below), torch.where(mirrored, -below, above)
    low = torch.special.ndtr(low).where(~torch.where(mirrored, x0 > 1 - BIN / 2, x0 < -1 + BIN / 2), 0.0)
    high = torch.special.ndtr(high).where(~torch.where(mirrored, x0 < -1 + BIN / 2, x0 > 1 - BIN / 2), 1.0)
    return bits(-(high - low).clamp(min=1e-30).log().flatten(1).sum(1), x0).cpu()


def step_bits(error: Tensor, t: Tensor, schedule: Schedule, x0: Tensor) -> dict[str, Tensor]:
    """L_{t-1}: KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) for both variances, bits per dimension (N,).

    ``error`` (N,) is || x0 - D ||^2 at timestep t (N,), an index from 1. With the posterior's variance it is
    (SNR_{t-1} - SNR_t) / 2 * error; beta's is wider by a ratio, which costs its own KL and lowers the error's share.
    """
    snr = schedule.log_snrs.exp()
    posterior = (snr[t - 1] - snr[t]) / 2 * error
    ratio = (1 - schedule.alpha_bars[t - 1]) / (1 - schedule.alpha_bars[t])
    widened = (ratio - 1 - ratio.log()) / 2 * x0[0].numel()
    return {"posterior": bits(posterior, x0), "beta": bits(ratio * posterior + widened, x0)}


def stratified(ends: tuple[float, float], draws: int, count: int, generator: torch.Generator) -> Tensor:
    """(draws, count) uniform numbers, float64: for each of ``count`` one from each of as many equal parts as draws."""
    low, high = ends
    parts = torch.arange(draws, dtype=torch.float64).unsqueeze(1)
    return low + (high - low) * (parts + torch.rand(draws, count, generator=generator, dtype=torch.float64)) / draws


@torch.no_grad()
def discrete(
    denoise: Denoise, schedule: Schedule, x0: Tensor, draws: int, generator: torch.Generator
) -> tuple[dict[str, Bound], tuple[Tensor, dict[str, Tensor]]]:
    """The bound of the schedule's T steps, for both variances, and what it is made of: t (draws, N), L_{t-1} at t.

    Every image takes ``draws`` of its T - 1 terms, each as often as its stride in log-SNR is long, since the terms of
    small t are the largest by far.
    """
    cleanest, noisiest = schedule.log_snrs[0].item(), schedule.log_snrs[-1].item()
    levels = stratified((noisiest, cleanest), draws, len(x0), generator)
    ts = torch.searchsorted(-schedule.log_snrs, -levels).clamp(1, len(schedule) - 1)
    share = (schedule.log_snrs[ts - 1] - schedule.log_snrs[ts]) / (cleanest - noisiest)
    terms = [step_bits(squared_error(denoise, x0, schedule.log_snrs[t], generator), t, schedule, x0) for t in ts]
    curve = {variance: torch.stack([term[variance] for term in terms]) for variance in VARIANCES}
    prior, decoder = prior_bits(x0, noisiest), decoder_bits(denoise, x0, cleanest, generator)
    return {v: Bound(prior, (curve[v] / share).mean(0), decoder) for v in VARIANCES}, (ts, curve)


@torch.no_grad()
def continuous(
    denoise: Denoise, ends: tuple[float, float], x0: Tensor, draws: int, generator: torch.Generator
) -> Bound:
    """The bound for endless steps between the log-SNRs ``ends``: 1/2 of the integral of SNR * || x0 - D ||^2 over log-SNR.

    Every image takes ``draws`` log-SNRs.
    """
    low, high = ends
    levels = stratified(ends, draws, len(x0), generator)
    slopes = [level.exp() / 2 * squared_error(denoise, x0, level, generator) for level in levels]
    steps = bits((high - low) * torch.stack(slopes).mean(0), x0)
    return Bound(prior_bits(x0, low), steps, decoder_bits(denoise, x0, high, generator))


def ode(
    denoise: Denoise, ends: tuple[float, float], x0: Tensor, tolerance: float, generator: torch.Generator
) -> tuple[Tensor, int]:
    """-log p(x0) by the probability-flow ODE, bits per dimension (N,), and the denoiser calls that it took.

    x0 is dequantised with uniform noise. Along the ODE, log p changes by minus the trace of the slope's Jacobian, which
    is estimated with one random sign for every pixel (Hutchinson): the average is exact, an image's figure is noisy.
    """
    low, high = ends
    x = x0 + (torch.rand(x0.shape, generator=generator, dtype=x0.dtype) - 0.5).to(x0.device) * BIN
    signs = (torch.randint(0, 2, x.shape, generator=generator) * 2 - 1).to(x)

    def slope(state: Tensor, log_snr: float) -> Tensor:
        with torch.enable_grad():
            free = state[:, :-1].reshape(x.shape).detach().requires_grad_()
            moved = velocity(free, denoise(free, log_snr), log_snr)
            (pulled,) = torch.autograd.grad((moved * signs).sum(), free)
        trace = (pulled * signs).flatten(1).sum(1, keepdim=True)
        return torch.cat([moved.detach().flatten(1), trace], 1)

    *_, (end, calls) = integrate(slope, torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1), (high, low), tolerance)
    z, change = end[:, :-1].double(), end[:, -1].double()
    log_density = -(z.square() + log(2 * pi)).sum(1) / 2 + change
    return bits(-log_density, x0).cpu() - log(BIN) / log(2), calls
