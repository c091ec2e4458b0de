"""Between two images: both encoded as noise along the probability-flow ODE, and what lies between them decoded."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import add_noise
from ddpm_demo.diffusion.ode import carry, great_circle
from ddpm_demo.errors import check_between, check_whole
from ddpm_demo.generation.begin import check_image
from ddpm_demo.models.checkpoint import Model

CHUNK = 6  # frames decoded together: a film that grows


@dataclass(frozen=True)
class Between:
    """How far an interpolation has come."""

    total: int
    latents: Tensor  # (2, C, H, W) the noise that the two images are encoded as; of an autoencoder's latents, like them
    frames: Tensor  # (S, C, H, W), [-1, 1], from the first image on; the first and last of all are the round trips
    calls: int  # of the denoiser, for an image and its way


def interpolate(model: Model, images: Tensor, total: int = 24, tolerance: float = 1e-4) -> Iterator[Between]:
    """Walk from images[0] to images[1], (2, C, H, W), [-1, 1], through latent noise, ``total`` frames in all.

    No class is asked for. UserError for images that do not fit the model (Song et al. 2021, Score SDE, section 4.3).
    """
    for image in images:
        check_image(model, image)
    check_whole("total", total, 2, 60)
    check_between("tolerance", tolerance, 1e-6, 0.1)
    return walk(model, images, total, tolerance)


def walk(model: Model, images: Tensor, total: int, tolerance: float) -> Iterator[Between]:
    """The parts of ``interpolate``."""
    noisiest, cleanest = model.denoiser.schedule.range
    x0 = model.codec.encode(images)
    # The noise of the cleanest state belongs to it: without, an image begins where no sample ever was, and so it ends.
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    x = add_noise(x0.to(model.device), cleanest, noise.to(model.device))
    latents, calls = carry(model.denoiser, x, cleanest, noisiest, tolerance=tolerance)
    shown = model.codec.decode(latents) if model.codec.bounded else latents
    frames = images.new_empty(0, *images.shape[1:])
    yield Between(total, shown, frames, calls)
    for shares in torch.linspace(0, 1, total).split(CHUNK):
        path = great_circle(*latents, shares)
        decoded, more = carry(model.denoiser, path, noisiest, cleanest, tolerance=tolerance)
        calls += more + 1
        with torch.no_grad():
            decoded = model.denoiser(decoded, cleanest)
        frames = torch.cat([frames, model.codec.decode(decoded).cpu()])
        yield Between(total, shown, frames, calls)


def round_trip_errors(images: Tensor, done: Between) -> list[float]:
    """How far both images are from their own decoded latents: root mean square of pixels, in [-1, 1]."""
    ends = done.frames[[0, -1]]
    return (images - ends).square().flatten(1).mean(1).sqrt().tolist()
