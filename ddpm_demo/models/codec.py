"""Codecs between images and the tensors that are diffused: the pixels themselves, patches, or latents.

Networks and samplers do not depend on the codec.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_demo.errors import UserError
from ddpm_demo.files import find_newest, replace_together
from ddpm_demo.models.weights import WEIGHTS, build_on_meta, check_call, read_weights

VAE = "vae"  # the subfolder of a checkpoint that contains its autoencoder
CHUNK = 256  # images per autoencoder call; larger batches only need more memory


@dataclass(frozen=True)
class Codec:
    """Rearranges ``patch`` x ``patch`` pixels as channels. The map is orthonormal, so white noise remains white noise.

    ``patch`` 1 is the identity. With patch 2, a network has a quarter of the positions and about a quarter of the cost.
    """

    patch: int = 1
    bounded: ClassVar[bool] = True  # encoded images are in [-1, 1]

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) as (N, C*p*p, H/p, W/p)."""
        return F.pixel_unshuffle(images, self.patch)

    def decode(self, x: Tensor) -> Tensor:
        """Decode (N, C*p*p, H/p, W/p) to (N, C, H, W), the exact inverse of ``encode``."""
        return F.pixel_shuffle(x, self.patch)

    def shape(self, channels: int, size: int) -> tuple[int, int, int]:
        """Return the encoded shape of images (channels, size, size). Raises UserError if p does not divide the size."""
        if size % self.patch:
            raise UserError(f"image size {size} is not a multiple of the patch size {self.patch}")
        return channels * self.patch**2, size // self.patch, size // self.patch

    def encode_mask(self, keep: Tensor, channels: int) -> Tensor:
        """Encode the mask ``keep`` (H, W), bool, of known pixels as a mask (1, C*p*p, H/p, W/p), bool."""
        return self.encode(keep.expand(1, channels, *keep.shape).float()) > 0

    def to(self, device: torch.device | str) -> "Codec":
        """Return this codec, which has no tensors to move."""
        return self


@dataclass(frozen=True)
class LatentCodec:
    """Latents of mean 0 and variance 1 of diffusers' AutoencoderKL (Rombach et al. 2022, section 3)."""

    vae: nn.Module
    bounded: ClassVar[bool] = False

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) as posterior means (N, c, H/f, W/f) on the device of the autoencoder."""
        device = next(self.vae.parameters()).device
        parts = [self.vae.encode(part.to(device)).latent_dist.mode() for part in images.split(CHUNK)]
        return torch.cat(parts)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Decode latents (N, c, h, w) to images (N, C, h*f, w*f) in [-1, 1]. This approximately inverts ``encode``."""
        return torch.cat([self.vae.decode(part).sample for part in x.split(CHUNK)]).clamp(-1, 1)

    def shape(self, channels: int, size: int) -> tuple[int, int, int]:
        """Return the latent shape of images (channels, size, size). Raises UserError for images that do not fit."""
        config = self.vae.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        if channels != config.in_channels or size % factor:
            raise UserError(
                f"the autoencoder is for images of {config.in_channels} channels whose size is a multiple of {factor}; "
                f"these have {channels} channels and size {size}"
            )
        return config.latent_channels, size // factor, size // factor

    def encode_mask(self, keep: Tensor, channels: int) -> Tensor:
        """Encode the mask ``keep`` (H, W), bool, as a mask (1, c, h, w): true where all f x f pixels are known."""
        shape = self.shape(channels, keep.shape[-1])
        share = F.adaptive_avg_pool2d(keep[None, None].float(), shape[1:])
        return (share == 1).expand(1, *shape)

    def to(self, device: torch.device | str) -> "LatentCodec":
        """Return this codec with its autoencoder on ``device``."""
        return LatentCodec(self.vae.to(device))


def save_vae(vae: nn.Module, folder: Path) -> None:
    """Write ``folder/vae`` in half precision. The old autoencoder remains until the new one is complete."""
    with replace_together(folder) as place:
        write_vae(vae, place)


def write_vae(vae: nn.Module, folder: Path) -> None:
    """Write a new folder ``folder/vae`` in half precision."""
    copy.deepcopy(vae).half().save_pretrained(folder / VAE)


def load_vae(folder: Path, size: int | None = None) -> nn.Module:
    """Load the autoencoder in ``folder/vae`` in float32 for inference. Raises UserError if there is none.

    ``size`` is the size of the images that it will encode (default: that of its training). Raises UserError if the
    network is not valid, or too expensive for one image of this size.
    """
    place = find_newest(folder, VAE)
    if not (place / "config.json").is_file():
        raise UserError(
            f"{folder / VAE} is missing: train it with  python train.py --autoencoder --dataset NAME --output-dir {folder}"
        )
    from diffusers import AutoencoderKL

    vae = build_on_meta(AutoencoderKL, place / "config.json")
    pixels = (vae.config.in_channels, *[size or vae.config.sample_size] * 2)
    latents = LatentCodec(vae).shape(*pixels[:2])
    check_call(place / "config.json", lambda images: vae.encode(images).latent_dist.mode(), pixels, latents)
    check_call(place / "config.json", lambda x: vae.decode(x).sample, latents, pixels)
    return read_weights(vae, place / WEIGHTS).to(memory_format=torch.channels_last)
