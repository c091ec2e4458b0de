"""Guidance: a denoiser goes in, a denoiser comes out."""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from ddpm_demo.diffusion.denoiser import alpha_sigma


@dataclass
class ClassifierFree:
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6): ``(1 + w) * D(label) - w * D(null)``, in one batched call.

    ``weight`` is the paper's w: 0 is the plain conditional denoiser, -1 the unconditional one; diffusers calls
    1 + w ``guidance_scale``. Outside ``interval`` (lowest, highest log-SNR; Kynkaanniemi et al. 2024), and where
    w = 0, nothing is guided and the unconditional half is not computed.
    """

    denoise: object  # (x, log_snr, label) -> clean estimate
    weight: float
    null_label: int
    interval: tuple[float, float] = (-inf, inf)
    direction: Tensor | None = None  # D(label) - D(null) at the last call, None where nothing was guided

    def __call__(self, x: Tensor, log_snr: float, label: Tensor) -> Tensor:
        """The guided clean estimate (N, C, H, W) for x like it and label (N,)."""
        self.direction = None
        if self.weight == 0 or not self.interval[0] <= log_snr <= self.interval[1]:
            return self.denoise(x, log_snr, label)
        null = torch.full_like(label, self.null_label)
        if self.weight == -1:
            return self.denoise(x, log_snr, null)
        conditional, unconditional = self.denoise(x.repeat(2, 1, 1, 1), log_snr, torch.cat([label, null])).chunk(2)
        self.direction = conditional - unconditional
        return conditional + self.weight * self.direction


@dataclass
class ByClassifier:
    """Classifier guidance (Dhariwal & Nichol 2021, algorithm 1): ``D + s * sigma^2 / alpha * grad log p(label | x)``.

    That is eps - s * sigma * grad: where slides write eps - lambda * grad, lambda is s * sigma. ``classify`` maps
    (x, log_snr) to logits (N, K); ``scale`` is s, 0 guides nothing. The denoiser inside may be conditional or not.
    """

    denoise: object  # (x, log_snr, label) -> clean estimate
    classify: object
    scale: float
    interval: tuple[float, float] = (-inf, inf)
    direction: Tensor | None = None  # what s = 1 adds to D at the last call, None where nothing was guided

    def __call__(self, x: Tensor, log_snr: float, label: Tensor) -> Tensor:
        """The guided clean estimate (N, C, H, W) for x like it and label (N,)."""
        self.direction, x0 = None, self.denoise(x, log_snr, label)
        if self.scale == 0 or not self.interval[0] <= log_snr <= self.interval[1]:
            return x0
        with torch.enable_grad():
            free = x.detach().requires_grad_()
            log_p = log_softmax(self.classify(free, log_snr), -1)
            (gradient,) = torch.autograd.grad(log_p.gather(1, label[:, None]).sum(), free)
        alpha, sigma = (c.item() for c in alpha_sigma(log_snr))
        self.direction = sigma**2 / alpha * gradient
        return x0 + self.scale * self.direction


@dataclass
class Completion:
    """Keeps the known part of an image: its clean estimate is the image itself where ``keep`` is true.

    The sampler then walks that part along its own forward process, x = alpha * known + sigma * eps, while the rest is
    denoised beside it (the replacement method of Song et al. 2021, Score SDE, appendix I.2, in terms of D).
    """

    denoise: object  # (x, log_snr, label) -> clean estimate
    known: Tensor  # (C, H, W), or one for each of N images
    keep: Tensor  # bool, like known

    def __call__(self, x: Tensor, log_snr: float, label: Tensor | None) -> Tensor:
        """The clean estimate (N, C, H, W) with the known part put back."""
        return torch.where(self.keep, self.known, self.denoise(x, log_snr, label))

    @property
    def direction(self) -> Tensor | None:
        """That of the guidance inside."""
        return getattr(self.denoise, "direction", None)
