"""Interpolation of two images: the probability-flow ODE encodes both as noise and decodes interpolated noise."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import add_noise
from ddpm_demo.diffusion.ode import slerp, solve_ode
from ddpm_demo.diffusion.reverse_process import check_finite
from ddpm_demo.diffusion.sampling import TOLERANCES
from ddpm_demo.errors import check_between, check_whole
from ddpm_demo.generation.begin import check_image
from ddpm_demo.models.checkpoint import Model, refuse_distilled

CHUNK = 6  # frames that are decoded in one batch, and then shown


@dataclass(frozen=True)
class Interpolation:
    """The part of an interpolation that is computed so far."""

    total: int  # number of frames in the end
    latents: Tensor  # (2, C, H, W) noise of the two images, decoded to pixels unless the model diffuses VAE latents
    frames: Tensor  # (S, C, H, W), [-1, 1], the first S frames; frames 0 and total - 1 reconstruct the two images
    calls: int  # denoiser calls so far


def interpolate(model: Model, images: Tensor, total: int = 24, tolerance: float = 1e-4) -> Iterator[Interpolation]:
    """Interpolate from images[0] to images[1], (2, C, H, W), [-1, 1], through latent noise, in ``total`` frames.

    No label is used (Song et al. 2021, Score SDE, section 4.3). Raises UserError for images that do not fit the model,
    or for an invalid total or tolerance.
    """
    refuse_distilled(model, "interpolation between images")
    for image in images:
        check_image(model, image)
    check_whole("total", total, 2, 60)
    check_between("tolerance", tolerance, **TOLERANCES)
    return yield_frames(model, images, total, tolerance)


def yield_frames(model: Model, images: Tensor, total: int, tolerance: float) -> Iterator[Interpolation]:
    """Yield the growing interpolation of ``interpolate``, which has checked the arguments."""
    noisiest, cleanest = model.denoiser.schedule.range
    x0 = model.codec.encode(images)
    # The state at the highest log-SNR includes a little noise, because the network was never trained without noise.
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    x = add_noise(x0.to(model.device), cleanest, noise.to(model.device))
    latents, calls = solve_ode(model.denoiser, x, cleanest, noisiest, tolerance=tolerance)
    noises = model.codec.decode(latents) if model.codec.bounded else latents
    frames = images.new_empty(0, *images.shape[1:])
    yield Interpolation(total, noises, frames, calls)
    for shares in torch.linspace(0, 1, total).split(CHUNK):
        path = slerp(*latents, shares)
        decoded, new_calls = solve_ode(model.denoiser, path, noisiest, cleanest, tolerance=tolerance)
        calls += new_calls + 1
        with torch.no_grad():
            decoded = model.denoiser(decoded, cleanest)
        pictures = model.codec.decode(decoded).cpu()
        check_finite(pictures, "the network")
        frames = torch.cat([frames, pictures])
        yield Interpolation(total, noises, frames, calls)


def round_trip_errors(images: Tensor, done: Interpolation) -> list[float]:
    """Return the root mean square error of each reconstructed image, for pixels in [-1, 1]."""
    ends = done.frames[[0, -1]]
    return (images - ends).square().flatten(1).mean(1).sqrt().tolist()
