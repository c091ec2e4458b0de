"""Zero-shot classification: it selects the class with the smallest denoising error (Li et al. 2023, algorithm 1)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import add_noise, alpha_sigma
from ddpm_demo.diffusion.reverse_process import check_finite
from ddpm_demo.errors import UserError, check_whole
from ddpm_demo.generation.begin import check_image
from ddpm_demo.models.checkpoint import Model, refuse_distilled

EASIEST, HARDEST = 4.0, -4.0  # range of log-SNRs; outside it, the errors hardly depend on the class
MOST_DRAWS = 2**16


@dataclass(frozen=True)
class Reading:
    """The errors of all K classes after some draws of noise. The best class has ``excess`` 0."""

    draws: int
    total: int
    errors: Tensor  # (K,) mean squared error of the noise estimate
    excess: Tensor  # (K,) error minus that of the best class
    spread: Tensor  # (K,) standard error of the excess, a paired difference because all classes share the draws


def classify(model: Model, image: Tensor, draws: int = 32, seed: int = 0, batch: int = 4) -> Iterator[Reading]:
    """Classify image (C, H, W), [-1, 1]; yield a Reading after each ``batch`` of noise draws.

    Each draw is one noise level (stratified in log-SNR) and one noise, which all K classes use in one batched call. The
    error is that of the noise estimate, || eps - eps_hat(x_t, class) ||^2 per pixel. Raises UserError for a model
    without classes, a distilled one, an image that does not fit, and a number of draws below 1.
    """
    if not model.label_names:
        raise UserError("this model was trained without classes, so it cannot classify an image")
    refuse_distilled(model, "classification by a diffusion model")
    check_image(model, image)
    check_whole("draws", draws, 1, MOST_DRAWS)
    return yield_readings(model, image, draws, seed, batch)


@torch.no_grad()
def yield_readings(model: Model, image: Tensor, draws: int, seed: int, batch: int) -> Iterator[Reading]:
    """Yield the readings of ``classify``, which has checked the arguments."""
    classes = len(model.label_names)
    generator = torch.Generator().manual_seed(seed)
    levels = torch.linspace(HARDEST, EASIEST, draws + 1, dtype=torch.float64)
    levels = levels[:-1] + torch.rand(draws, generator=generator, dtype=torch.float64) * (levels[1] - levels[0])
    levels = levels[torch.randperm(draws, generator=generator)]
    x0 = model.codec.encode(image[None]).cpu()
    labels = torch.arange(classes, device=model.device)
    errors_by_draw = torch.empty(0, classes, dtype=torch.float64)
    for log_snr in levels.split(batch):
        noise = torch.randn(len(log_snr), *x0.shape[1:], generator=generator)
        alpha, sigma = (c.float().reshape(-1, 1, 1, 1) for c in alpha_sigma(log_snr))
        x = add_noise(x0, log_snr, noise).to(model.device)  # (draws, C, H, W)
        estimate = model.denoiser(
            x.repeat_interleave(classes, 0), log_snr.repeat_interleave(classes), labels.repeat(len(log_snr))
        )
        check_finite(estimate, "the network")
        x0_error = (estimate.cpu() - x0).square().flatten(1).mean(1).reshape(len(log_snr), classes)
        # eps - eps_hat = -alpha/sigma (x0 - x0_hat): this gives the error of the noise estimate
        errors_by_draw = torch.cat(
            [errors_by_draw, x0_error.double() * (alpha / sigma).square().double().reshape(-1, 1)]
        )
        errors, count = errors_by_draw.mean(0), len(errors_by_draw)
        excess = errors_by_draw - errors_by_draw[:, errors.argmin()].unsqueeze(1)
        spread = excess.std(0) / count**0.5 if count > 1 else torch.full_like(errors, torch.nan)
        yield Reading(count, draws, errors, excess.mean(0), spread)
