"""Where a walk begins: from noise, from an image under noise, with an image to complete, with an image to enlarge.

Each kind checks itself against a model, and then prepares the first state and the denoiser to walk with.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import add_noise
from ddpm_demo.diffusion.guidance import Denoise, KeepKnown
from ddpm_demo.errors import UserError
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.models.partial_image import WithImage, encode_partial, hide_pixels

LAST_TIMESTEP = 999
Guide = Callable[[Denoise], Denoise]  # puts guidance around a denoiser


@dataclass(frozen=True)
class PureNoise:
    """From Gaussian noise, at the noisiest timestep."""

    start = None

    def check(self, model: Model, count: int) -> None:
        """Nothing can be wrong with it."""

    def prepare(self, model: Model, noise: Tensor, log_snr: Tensor, guide: Guide) -> tuple[Tensor, Denoise]:
        """(first state, denoiser) for noise like x (N, C, H, W) and the first log-SNR of the walk."""
        return noise, guide(model.denoiser)


@dataclass(frozen=True)
class NoisedImage:
    """From an image (C, H, W), or one for each (N, C, H, W), [-1, 1], under the noise of timestep ``start``.

    SDEdit (Meng et al. 2022). ``start`` 0 .. 999 is a timestep of the schedule that is walked.
    """

    image: Tensor
    start: float

    def check(self, model: Model, count: int) -> None:
        """UserError unless image and start fit the model and the number of images to draw."""
        check_image(model, self.image, count)
        check_start(self.start)

    def prepare(self, model: Model, noise: Tensor, log_snr: Tensor, guide: Guide) -> tuple[Tensor, Denoise]:
        """(first state, denoiser) for noise like x (N, C, H, W) and the first log-SNR of the walk."""
        return add_noise(encode_image(model, self.image), log_snr, noise), guide(model.denoiser)


@dataclass(frozen=True)
class Completion:
    """Keeps what ``keep`` (H, W), bool, marks of an image (C, H, W) or (N, C, H, W), and paints the rest anew.

    A network that takes an image beside x completes it by itself. For any other network, and wherever ``start`` is
    given, the known part is put back at every step (Song et al. 2021, Score SDE, appendix I.2).
    """

    image: Tensor
    keep: Tensor
    start: float | None = None

    def check(self, model: Model, count: int) -> None:
        """UserError unless image, keep and start fit the model and the number of images to draw."""
        check_image(model, self.image, count)
        size = (model.image_size, model.image_size)
        if self.keep.dtype != torch.bool or tuple(self.keep.shape) != size:
            raise UserError(
                f"keep is {self.keep.dtype} of shape {tuple(self.keep.shape)}; it must be bool of shape {size}"
            )
        if self.start is not None:
            check_start(self.start)

    def prepare(self, model: Model, noise: Tensor, log_snr: Tensor, guide: Guide) -> tuple[Tensor, Denoise]:
        """(first state, denoiser) for noise like x (N, C, H, W) and the first log-SNR of the walk."""
        if model.takes_image and self.start is None:
            return noise, guide(with_image(model, *hide_pixels(as_batch(self.image), self.keep), len(noise)))
        known = encode_image(model, self.image)
        keep = model.codec.known(self.keep, model.channels).to(model.device)
        return add_noise(known, log_snr, noise), KeepKnown(guide(model.denoiser), known, keep)


@dataclass(frozen=True)
class Enlargement:
    """Enlarges an image (C, H, W) or (N, C, H, W): a small one at the model's size, smooth between its pixels.

    Only for a network that takes an image beside x.
    """

    image: Tensor
    start = None

    def check(self, model: Model, count: int) -> None:
        """UserError unless the model can enlarge and the image fits."""
        if not model.takes_image:
            raise UserError(
                "this model cannot enlarge: its network takes no image. Train one with  python train.py --condition image"
            )
        check_image(model, self.image, count)

    def prepare(self, model: Model, noise: Tensor, log_snr: Tensor, guide: Guide) -> tuple[Tensor, Denoise]:
        """(first state, denoiser) for noise like x (N, C, H, W) and the first log-SNR of the walk."""
        images = as_batch(self.image)
        return noise, guide(with_image(model, images, torch.zeros_like(images[:, :1]), len(noise)))


Begin = PureNoise | NoisedImage | Completion | Enlargement


def as_batch(image: Tensor) -> Tensor:
    """(C, H, W) as (1, C, H, W); a batch as it is."""
    return image[None] if image.ndim == 3 else image


def encode_image(model: Model, image: Tensor) -> Tensor:
    """What of the image is diffused, (1 or N, C', H', W'), on the model's device."""
    return model.codec.encode(as_batch(image)).to(model.device)


def with_image(model: Model, images: Tensor, known: Tensor, count: int) -> WithImage:
    """The model's denoiser with one image, or one for each of ``count``, beside x."""
    encoded = encode_partial(model.codec, images, known).to(model.device)
    return WithImage(model.denoiser, encoded.expand(count, -1, -1, -1))


def check_image(model: Model, image: Tensor, count: int = 1) -> None:
    """UserError unless the image, or one for each of a ``count``, fits the model."""
    size = (model.channels, model.image_size, model.image_size)
    if tuple(image.shape) not in (size, (count, *size)) or not bool(image.isfinite().all()):
        raise UserError(
            f"image has shape {tuple(image.shape)}; it must be finite numbers of shape {size}, or one for each"
        )


def check_start(start: float) -> None:
    """UserError unless start is a timestep."""
    if isinstance(start, bool) or not 0 <= start <= LAST_TIMESTEP:
        raise UserError(f"start is {start!r}; it must be a timestep from 0 to {LAST_TIMESTEP}")
