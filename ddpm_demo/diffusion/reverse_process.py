"""The reverse process: from noise to image along a grid of log-SNRs, by any sampler, every state on the way."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import inf, nan

import torch
from torch import Tensor

from ddpm_demo.diffusion.guidance import split_estimate
from ddpm_demo.diffusion.samplers import SAMPLERS, ReverseProcess, implied_noise
from ddpm_demo.diffusion.sampling import Sampling


@dataclass(frozen=True)
class Step:
    """One state of the reverse process, before the step is taken. The last step's ``x0`` is the sample."""

    index: int  # 0 .. total - 1
    total: int
    log_snr: float
    timestep: float  # of the schedule that is walked, nan where the walk is a bare grid
    x: Tensor  # (N, C, H, W) the noisy state
    x0: Tensor  # (N, C, H, W) the clean estimate, guided
    eps: Tensor  # (N, C, H, W) the noise that x and x0 imply
    guidance: Tensor | None  # (N, C, H, W) conditional minus unconditional estimate, None where unguided
    nfe: int  # denoiser calls so far
    latents: Tensor | None = None  # x0 before it was decoded, where latents are diffused (as x, eps and guidance are)


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
    """Walk x (N, C, H, W), Gaussian noise, along the rising log_snrs and on to the clean image; yield each Step.

    ``denoise`` is a ``Denoiser``, or one with guidance around it. ``label`` (N,). Of ``sampling``, only the sampler and
    what belongs to it is used. ``noise()`` draws fresh noise like x for the stochastic samplers. ``clip`` keeps clean
    estimates in [-1, 1].
    """
    grid = [*torch.as_tensor(log_snrs, dtype=torch.float64).tolist(), inf]
    nfe = 0

    def ask(x: Tensor, log_snr: float) -> tuple[Tensor, Tensor | None]:
        nonlocal nfe
        nfe += 1
        x0, direction = split_estimate(denoise(x, log_snr, label))
        return (x0.clamp(-1, 1) if clip else x0), direction

    process = ReverseProcess(
        x, grid[:-1], lambda x, log_snr: ask(x, log_snr)[0], noise or (lambda: torch.randn_like(x)), sampling
    )
    advance = SAMPLERS[sampling.sampler].advance(process)
    for index, (s, t) in enumerate(pairwise(grid)):
        x0, direction = ask(x, s)
        yield Step(index, len(grid) - 1, s, nan, x, x0, implied_noise(x, x0, s), direction, nfe)
        if t == inf:
            return  # the last step, to the clean image, would only return x0
        x = advance(x, x0, s, t)
