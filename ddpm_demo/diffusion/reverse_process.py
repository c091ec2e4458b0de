"""The reverse process: it runs any sampler from noise to image on a grid of log-SNRs and yields every state."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import inf, nan

import torch
from torch import Tensor

from ddpm_demo.diffusion.guidance import split_estimate
from ddpm_demo.diffusion.samplers import SAMPLERS, SamplerContext, implied_noise
from ddpm_demo.diffusion.sampling import Sampling


@dataclass(frozen=True)
class Step:
    """One state of the reverse process, before its step is taken. The ``x0`` of the last step is the sample."""

    index: int  # 0 .. total - 1
    total: int
    log_snr: float
    timestep: float  # of the sampling schedule; nan if only a grid of log-SNRs was given
    x: Tensor  # (N, C, H, W) the noisy state
    x0: Tensor  # (N, C, H, W) the clean estimate, guided
    eps: Tensor  # (N, C, H, W) the noise that x and x0 imply
    guidance: Tensor | None  # (N, C, H, W) direction of the guidance, None if not guided
    nfe: int  # denoiser calls so far
    guided: int  # of them, those with guidance
    latents: Tensor | None = None  # x0 before decoding, if latents are diffused; x, eps and guidance then are latents


def check_finite(numbers: Tensor, source: str) -> None:
    """Raise FloatingPointError unless all numbers are finite. ``source`` says what computed them."""
    if not bool(numbers.isfinite().all()):
        raise FloatingPointError(
            f"{source} gave numbers that are not finite: the weights are damaged, or the settings are too extreme for them"
        )


@torch.no_grad()
def walk(
    denoise: Callable[[Tensor, float, Tensor | None], Tensor],
    x: Tensor,
    log_snrs: Tensor,
    label: Tensor | None = None,
    sampling: Sampling = Sampling(),
    *,
    noise: Callable[[], Tensor] | None = None,
    clip: bool = False,
) -> Iterator[Step]:
    """Run the reverse process from x (N, C, H, W) along the increasing log_snrs to the clean image; yield each Step.

    ``denoise`` is a ``Denoiser``, with or without guidance. ``label`` is (N,). Only the sampler of ``sampling`` and its
    own settings are used. ``noise()`` draws new noise like x for the stochastic samplers. ``clip`` clamps the clean
    estimates to [-1, 1]. Raises FloatingPointError instead of yielding numbers that are not finite.
    """
    grid = [*torch.as_tensor(log_snrs, dtype=torch.float64).tolist(), inf]
    nfe = guided = 0

    def estimate(x: Tensor, log_snr: float) -> tuple[Tensor, Tensor | None]:
        nonlocal nfe, guided
        nfe += 1
        x0, direction = split_estimate(denoise(x, log_snr, label))
        guided += direction is not None
        check_finite(x0, f"network call {nfe}")  # before clamping, which would turn an infinity into a plausible pixel
        return (x0.clamp(-1, 1) if clip else x0), direction

    context = SamplerContext(
        x, grid[:-1], lambda x, log_snr: estimate(x, log_snr)[0], noise or (lambda: torch.randn_like(x)), sampling
    )
    advance = SAMPLERS[sampling.sampler].advance(context)
    for index, (s, t) in enumerate(pairwise(grid)):
        x0, direction = estimate(x, s)
        yield Step(index, len(grid) - 1, s, nan, x, x0, implied_noise(x, x0, s), direction, nfe, guided)
        if t == inf:
            return  # the last step leads to the clean image, which is x0
        x = advance(x, x0, s, t)
