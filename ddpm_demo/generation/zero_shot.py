"""The generative model as a classifier: the class whose denoising error is smallest (Li et al. 2023, algorithm 1)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import add_noise, alpha_sigma
from ddpm_demo.errors import UserError
from ddpm_demo.generation.begin import check_image
from ddpm_demo.models.checkpoint import Model

EASIEST, HARDEST = 4.0, -4.0  # the log-SNRs where the class shows: beyond, there is no image, or no doubt about it


@dataclass(frozen=True)
class Reading:
    """What the model makes of an image after some draws of noise. The best class has ``excess`` 0."""

    draws: int
    total: int
    errors: Tensor  # (K,) mean squared error of the noise estimate, per class
    excess: Tensor  # (K,) error above the best class's
    spread: Tensor  # (K,) standard error of that excess: draws are shared, so the classes are compared in pairs


@torch.no_grad()
def classify(model: Model, image: Tensor, draws: int = 32, seed: int = 0, batch: int = 4) -> Iterator[Reading]:
    """Reading after reading of image (C, H, W), [-1, 1], firmer with every ``batch`` of noise draws.

    Each draw is one noise level (stratified in log-SNR) and one noise, shared by all K classes in one batched call;
    the error is that of the noise estimate, || eps - eps_hat(x_t, class) ||^2 a pixel.
    """
    if not model.label_names:
        raise UserError("this model was trained without classes, so it cannot tell one from another")
    check_image(model, image)
    classes = len(model.label_names)
    generator = torch.Generator().manual_seed(seed)
    levels = torch.linspace(HARDEST, EASIEST, draws + 1, dtype=torch.float64)
    levels = levels[:-1] + torch.rand(draws, generator=generator, dtype=torch.float64) * (levels[1] - levels[0])
    levels = levels[torch.randperm(draws, generator=generator)]
    x0 = model.codec.encode(image[None]).cpu()
    labels = torch.arange(classes, device=model.device)
    seen = torch.empty(0, classes, dtype=torch.float64)
    for some in levels.split(batch):
        noise = torch.randn(len(some), *x0.shape[1:], generator=generator)
        alpha, sigma = (c.float().reshape(-1, 1, 1, 1) for c in alpha_sigma(some))
        x = add_noise(x0, some, noise).to(model.device)  # (draws, C, H, W)
        estimate = model.denoiser(
            x.repeat_interleave(classes, 0), some.repeat_interleave(classes), labels.repeat(len(some))
        )
        x0_error = (estimate.cpu() - x0).square().flatten(1).mean(1).reshape(len(some), classes)
        # eps - eps_hat = -alpha/sigma (x0 - x0_hat): the same error, in units of the noise
        seen = torch.cat([seen, x0_error.double() * (alpha / sigma).square().double().reshape(-1, 1)])
        errors = seen.mean(0)
        excess = seen - seen[:, errors.argmin()].unsqueeze(1)
        spread = excess.std(0) / len(seen) ** 0.5 if len(seen) > 1 else torch.full_like(errors, torch.nan)
        yield Reading(len(seen), draws, errors, excess.mean(0), spread)
