"""The start of the reverse process: from noise, from a noisy image, to complete an image, or to enlarge an image.

Each kind of start can check itself against a model, and prepare the first state and the denoiser.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import add_noise
from ddpm_demo.diffusion.guidance import Denoise, KeepKnown
from ddpm_demo.diffusion.sampling import LAST_SEED
from ddpm_demo.errors import UserError, check_between, check_whole
from ddpm_demo.models.checkpoint import Model, refuse_distilled
from ddpm_demo.models.partial_image import WithImage, encode_partial, hide_pixels

LAST_TIMESTEP = 999
Guide = Callable[[Denoise], Denoise]  # adds guidance to a denoiser


@dataclass(frozen=True)
class PureNoise:
    """Starts from Gaussian noise at the last timestep."""

    start = None

    def check(self, model: Model, count: int) -> None:
        """Check nothing, because every model can start from noise."""

    def prepare(self, model: Model, noise: Tensor, log_snr: Tensor, guide: Guide) -> tuple[Tensor, Denoise]:
        """Return (first state, denoiser) for noise like x (N, C, H, W) and the first log-SNR of the grid."""
        return noise, guide(model.denoiser)


@dataclass(frozen=True)
class MixedNoise:
    """Starts from mixtures of the noises of four seeds, which are at the corners of a square.

    ``places`` holds one (u, v) per sample, or one for all samples, from (0, 0) at the first corner over (1, 0) and (0, 1)
    to (1, 1) at the last. The noise there is the sum of sqrt(w_i) * noise_i with the weights w_i of bilinear
    interpolation. The weights add up to 1, so the mixture is again Gaussian noise of variance 1. At a corner it is the noise
    of that seed.
    """

    seeds: tuple[int, int, int, int]
    places: tuple[tuple[float, float], ...]
    start = None

    def check(self, model: Model, count: int) -> None:
        """Raise UserError unless there are four seeds, and one place in the square for each sample or for all."""
        if len(self.seeds) != 4:
            raise UserError(f"there are {len(self.seeds)} seeds; there must be four, one for each corner")
        for seed in self.seeds:
            check_whole("seed", seed, 0, LAST_SEED)
        if len(self.places) not in (1, count):
            raise UserError(
                f"there are {len(self.places)} places for {count} images; there must be one for each, or one for all"
            )
        for place in self.places:
            if len(place) != 2:
                raise UserError(f"a place is {place}; it must be two numbers from 0 to 1")
            for coordinate in place:
                check_between("place", coordinate, 0.0, 1.0)

    def prepare(self, model: Model, noise: Tensor, log_snr: Tensor, guide: Guide) -> tuple[Tensor, Denoise]:
        """Return (first state, denoiser) for noise like x (N, C, H, W) and the first log-SNR of the grid."""
        corners = noise_source(self.seeds, tuple(noise.shape[1:]), torch.device("cpu"))()
        u, v = torch.tensor(self.places).T
        weights = torch.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], 1)
        mixed = torch.einsum("nk,kchw->nchw", weights.sqrt(), corners)
        return mixed.to(noise).expand_as(noise), guide(model.denoiser)


@dataclass(frozen=True)
class NoisedImage:
    """Starts from an image (C, H, W), or one per sample (N, C, H, W), in [-1, 1], with the noise of timestep ``start``.

    This is SDEdit (Meng et al. 2022). ``start`` 0 .. 999 is a timestep of the sampling schedule.
    """

    image: Tensor
    start: float

    def check(self, model: Model, count: int) -> None:
        """Raise UserError unless image and start fit the model and the number of samples."""
        check_image(model, self.image, count)
        check_start(model, self.start)

    def prepare(self, model: Model, noise: Tensor, log_snr: Tensor, guide: Guide) -> tuple[Tensor, Denoise]:
        """Return (first state, denoiser) for noise like x (N, C, H, W) and the first log-SNR of the grid."""
        return add_noise(encode_image(model, self.image), log_snr, noise), guide(model.denoiser)


@dataclass(frozen=True)
class Completion:
    """Keeps the pixels of an image where ``keep`` (H, W), bool, is true, and generates the rest.

    The image is (C, H, W), or (N, C, H, W) with one image per sample, in [-1, 1]. A network with an image
    input completes the image directly. For any other network, and whenever ``start`` is given, the known part is
    replaced at every step (Song et al. 2021, Score SDE, appendix I.2). Only with ``start`` do the other pixels of the image
    have an effect: the process then begins with all of the image, noised.
    """

    image: Tensor
    keep: Tensor
    start: float | None = None

    def check(self, model: Model, count: int) -> None:
        """Raise UserError unless image, keep and start fit the model, not a distilled one, and the number of samples."""
        check_image(model, self.image, count)
        size = (model.image_size, model.image_size)
        if self.keep.dtype != torch.bool or tuple(self.keep.shape) != size:
            raise UserError(
                f"keep is {self.keep.dtype} of shape {tuple(self.keep.shape)}; it must be bool of shape {size}"
            )
        refuse_distilled(model, "completion of an image")
        if self.start is not None:
            check_start(model, self.start)

    def prepare(self, model: Model, noise: Tensor, log_snr: Tensor, guide: Guide) -> tuple[Tensor, Denoise]:
        """Return (first state, denoiser) for noise like x (N, C, H, W) and the first log-SNR of the grid."""
        if model.takes_image and self.start is None:
            return noise, guide(with_image(model, *hide_pixels(as_batch(self.image), self.keep), len(noise)))
        # An autoencoder would carry hidden pixels into the latents beside them.
        image = hide_pixels(as_batch(self.image), self.keep)[0] if self.start is None else self.image
        known = encode_image(model, image)
        keep = model.codec.encode_mask(self.keep, model.channels).to(model.device)
        return add_noise(known, log_snr, noise), KeepKnown(guide(model.denoiser), known, keep)


@dataclass(frozen=True)
class Enlargement:
    """Enlarges a small image, given as (C, H, W) or (N, C, H, W) after interpolation to the image size of the model.

    The network must have an image input.
    """

    image: Tensor
    start = None

    def check(self, model: Model, count: int) -> None:
        """Raise UserError unless the model can enlarge images and the image fits it."""
        if not model.takes_image:
            raise UserError(
                "this model cannot enlarge: its network takes no image. Train one with  python train.py --condition image"
            )
        check_image(model, self.image, count)

    def prepare(self, model: Model, noise: Tensor, log_snr: Tensor, guide: Guide) -> tuple[Tensor, Denoise]:
        """Return (first state, denoiser) for noise like x (N, C, H, W) and the first log-SNR of the grid."""
        images = as_batch(self.image)
        return noise, guide(with_image(model, images, torch.zeros_like(images[:, :1]), len(noise)))


Begin = PureNoise | MixedNoise | NoisedImage | Completion | Enlargement


def noise_source(seeds: Sequence[int], shape: tuple[int, ...], device: torch.device) -> Callable[[], Tensor]:
    """Return a function that draws the next noise (N, *shape). Each image has its own CPU generator and seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return lambda: torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)


def as_batch(image: Tensor) -> Tensor:
    """Return an image (C, H, W) as (1, C, H, W), and a batch unchanged."""
    return image[None] if image.ndim == 3 else image


def encode_image(model: Model, image: Tensor) -> Tensor:
    """Encode an image, or one per sample, as (1 or N, C', H', W') on the model's device."""
    return model.codec.encode(as_batch(image)).to(model.device)


def with_image(model: Model, images: Tensor, known: Tensor, count: int) -> WithImage:
    """Return the model's denoiser with one image input, or one per sample, for ``count`` samples."""
    encoded = encode_partial(model.codec, images, known).to(model.device)
    return WithImage(model.denoiser, encoded.expand(count, -1, -1, -1))


def check_image(model: Model, image: Tensor, count: int = 1) -> None:
    """Raise UserError unless the image, or one for each of ``count`` samples, fits the model."""
    size = (model.channels, model.image_size, model.image_size)
    if tuple(image.shape) not in (size, (count, *size)) or not bool(image.isfinite().all()):
        raise UserError(
            f"image has shape {tuple(image.shape)}; it must be finite numbers of shape {size}, or one image per sample"
        )


def check_start(model: Model, start: float) -> None:
    """Raise UserError unless start is a timestep at which the model can start."""
    refuse_distilled(model, "a start between noise and image")
    if isinstance(start, bool) or not 0 <= start <= LAST_TIMESTEP:
        raise UserError(f"start is {start!r}; it must be a timestep from 0 to {LAST_TIMESTEP}")
