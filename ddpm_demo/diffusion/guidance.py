"""Guidance as functions from denoiser to denoiser. A guided denoiser returns its estimate with the direction."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from ddpm_demo.diffusion.denoiser import alpha_sigma, per_image


class Guided(NamedTuple):
    """A clean estimate (N, C, H, W) and the direction of its guidance, or None if it was not guided."""

    x0: Tensor
    direction: Tensor | None


LogSNR = Tensor | float  # a number, or one per image (N,)
Denoise = Callable[[Tensor, LogSNR, Tensor | None], Tensor | Guided]  # (x, log_snr, label) -> clean estimate


def split_estimate(estimate: Tensor | Guided) -> Guided:
    """Return the result of any denoiser as a clean estimate with its direction."""
    return estimate if isinstance(estimate, Guided) else Guided(estimate, None)


def is_inside(log_snr: LogSNR, interval: tuple[float, float]) -> Tensor:
    """Return whether each log-SNR is in an interval (lowest, highest): bool of the shape of log_snr."""
    log_snr = torch.as_tensor(log_snr, dtype=torch.float64)
    return (interval[0] <= log_snr) & (log_snr <= interval[1])


@dataclass(frozen=True)
class Autoguidance:
    """Autoguidance (Karras et al. 2024, eq. 3): ``D + s * (D - W)`` for a weaker denoiser W of the same data.

    The idea is that W makes the same errors as D, only larger, so that the direction D - W leads away from them.
    ``scale`` is s (the paper's w is 1 + s); 0 means no guidance. W is not computed outside ``interval`` (lowest, highest
    log-SNR).
    """

    denoise: Callable[[Tensor, LogSNR, Tensor | None], Tensor]
    weak: Callable[[Tensor, LogSNR, Tensor | None], Tensor]
    scale: float
    interval: tuple[float, float] = (-inf, inf)

    def __call__(self, x: Tensor, log_snr: LogSNR, label: Tensor | None) -> Guided:
        """Return the guided clean estimate for x (N, C, H, W), log_snr (a number or (N,)) and label (N,) or None."""
        x0, inside = self.denoise(x, log_snr, label), is_inside(log_snr, self.interval)
        if self.scale == 0 or not bool(inside.any()):
            return Guided(x0, None)
        direction = per_image(inside, x) * (x0 - self.weak(x, log_snr, label))
        return Guided(x0 + self.scale * direction, direction)


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6): ``(1 + w) * D(label) - w * D(null)``, in one batched call.

    ``weight`` is the paper's w: 0 is the conditional denoiser, -1 the unconditional one; diffusers calls 1 + w
    ``guidance_scale``. If w = 0, or outside ``interval`` (lowest, highest log-SNR; Kynkaanniemi et al. 2024), there is
    no guidance and the unconditional half is not computed. The direction is D(label) - D(null). If ``denoise`` is
    guided itself, D is its guided estimate, and its own direction is returned where this guidance adds none.
    """

    denoise: Denoise
    weight: float
    null_label: int
    interval: tuple[float, float] = (-inf, inf)

    def __call__(self, x: Tensor, log_snr: LogSNR, label: Tensor) -> Guided:
        """Return the guided clean estimate for x (N, C, H, W), log_snr (a number or (N,)) and label (N,)."""
        inside = is_inside(log_snr, self.interval)
        if self.weight == 0 or not bool(inside.any()):
            return split_estimate(self.denoise(x, log_snr, label))
        null = torch.full_like(label, self.null_label)
        if self.weight == -1:
            return split_estimate(self.denoise(x, log_snr, torch.where(inside.to(label.device), null, label)))
        both = log_snr.repeat(2) if inside.ndim else log_snr
        estimates = split_estimate(self.denoise(x.repeat(2, 1, 1, 1), both, torch.cat([label, null])))
        conditional, unconditional = estimates.x0.chunk(2)
        direction = per_image(inside, x) * (conditional - unconditional)
        return Guided(conditional + self.weight * direction, direction)


@dataclass(frozen=True)
class ByClassifier:
    """Classifier guidance (Dhariwal & Nichol 2021, algorithm 2): ``D + s * sigma^2 / alpha * grad log p(label | x)``.

    In terms of eps this is eps - s * sigma * grad. ``classify`` maps (x, log_snr) to logits (N, K). ``scale`` is s;
    0 means no guidance. ``denoise`` may be conditional or unconditional. The direction is what s = 1 adds to D.
    """

    denoise: Denoise
    classify: Callable[[Tensor, LogSNR], Tensor]
    scale: float
    interval: tuple[float, float] = (-inf, inf)

    def __call__(self, x: Tensor, log_snr: LogSNR, label: Tensor) -> Guided:
        """Return the guided clean estimate for x (N, C, H, W), log_snr (a number or (N,)) and label (N,)."""
        x0, other = split_estimate(self.denoise(x, log_snr, label))
        inside = is_inside(log_snr, self.interval)
        if self.scale == 0 or not bool(inside.any()):
            return Guided(x0, other)
        with torch.enable_grad():
            variable = x.detach().requires_grad_()
            log_p = log_softmax(self.classify(variable, log_snr), -1)
            (gradient,) = torch.autograd.grad(log_p.gather(1, label[:, None]).sum(), variable)
        alpha, sigma = alpha_sigma(log_snr)
        direction = per_image(inside * sigma**2 / alpha, x) * gradient
        return Guided(x0 + self.scale * direction, direction)


@dataclass(frozen=True)
class KeepKnown:
    """Keeps the known part of an image: where ``keep`` is true, the clean estimate is the known image.

    In that part the sampler follows the forward process of the known image, x = alpha * known + sigma * eps, while it
    denoises the rest (the replacement method of Song et al. 2021, Score SDE, appendix I.2, in terms of D).
    """

    denoise: Denoise
    known: Tensor  # (C, H, W), or (N, C, H, W)
    keep: Tensor  # bool, of the same shape as known

    def __call__(self, x: Tensor, log_snr: LogSNR, label: Tensor | None) -> Guided:
        """Return the clean estimate (N, C, H, W) with the known part replaced, and the direction of ``denoise``."""
        x0, direction = split_estimate(self.denoise(x, log_snr, label))
        return Guided(torch.where(self.keep, self.known, x0), direction)
