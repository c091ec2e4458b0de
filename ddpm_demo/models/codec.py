"""The rim between images and what is diffused. Networks and samplers never know which of these they see."""

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_demo.errors import UserError

VAE = "vae"  # the folder of a checkpoint where its autoencoder is
CHUNK = 256  # images that an autoencoder takes at once: more would only fill the memory


@dataclass(frozen=True)
class Codec:
    """Moves ``patch`` x ``patch`` pixels into channels: an orthonormal rearrangement, so noise stays noise.

    ``patch`` 1 is the identity. At patch 2 a network sees a quarter of the positions and costs about a quarter.
    """

    patch: int = 1
    bounded: ClassVar[bool] = True  # what is diffused lies in [-1, 1]

    def encode(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images to (N, C*p*p, H/p, W/p)."""
        return F.pixel_unshuffle(images, self.patch)

    def decode(self, x: Tensor) -> Tensor:
        """(N, C*p*p, H/p, W/p) back to (N, C, H, W): the exact inverse."""
        return F.pixel_shuffle(x, self.patch)

    def shape(self, channels: int, size: int) -> tuple[int, int, int]:
        """What images of (channels, size, size) become: (C*p*p, size/p, size/p). UserError if p does not divide."""
        if size % self.patch:
            raise UserError(f"image size {size} is not a multiple of the patch size {self.patch}")
        return channels * self.patch**2, size // self.patch, size // self.patch

    def known(self, keep: Tensor, channels: int) -> Tensor:
        """Which numbers of an encoded image are known where ``keep`` (H, W), bool, marks its pixels: (1, C*p*p, H/p, W/p)."""
        return self.encode(keep.expand(1, channels, *keep.shape).float()) > 0

    def to(self, device: torch.device | str) -> "Codec":
        """The same: nothing of it is on a device."""
        return self


@dataclass(frozen=True)
class LatentCodec:
    """The latents of an autoencoder, diffusers' AutoencoderKL, of mean 0 and variance 1 (Rombach et al. 2022, section 3)."""

    vae: nn.Module
    bounded: ClassVar[bool] = False

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images to latents (N, c, H/f, W/f), the mean of their posterior, on the autoencoder's device."""
        device = next(self.vae.parameters()).device
        parts = [self.vae.encode(part.to(device)).latent_dist.mode() for part in images.split(CHUNK)]
        return torch.cat(parts)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Latents (N, c, h, w) to images (N, C, h*f, w*f), [-1, 1]; not the inverse, but near it."""
        return torch.cat([self.vae.decode(part).sample for part in x.split(CHUNK)]).clamp(-1, 1)

    def shape(self, channels: int, size: int) -> tuple[int, int, int]:
        """What images of (channels, size, size) become. UserError if the autoencoder is of others."""
        config = self.vae.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        if channels != config.in_channels or size % factor:
            raise UserError(
                f"the autoencoder is for images of {config.in_channels} channels whose size is a multiple of {factor}; "
                f"these have {channels} channels and size {size}"
            )
        return config.latent_channels, size // factor, size // factor

    def known(self, keep: Tensor, channels: int) -> Tensor:
        """Which latents are known where ``keep`` (H, W), bool, marks pixels: those all of whose own pixels are, (1, c, h, w)."""
        shape = self.shape(channels, keep.shape[-1])
        share = F.adaptive_avg_pool2d(keep[None, None].float(), shape[1:])
        return (share == 1).expand(1, *shape)

    def to(self, device: torch.device | str) -> "LatentCodec":
        """The same, its autoencoder moved to ``device``."""
        return LatentCodec(self.vae.to(device))


def save_vae(vae: nn.Module, folder: Path) -> None:
    """Write ``folder/vae``, half the precision, beside its place and swapped in."""
    fresh = folder / ".vae.partial"
    shutil.rmtree(fresh, ignore_errors=True)
    copy.deepcopy(vae).half().save_pretrained(fresh)
    shutil.rmtree(folder / VAE, ignore_errors=True)
    fresh.replace(folder / VAE)


def load_vae(folder: Path) -> nn.Module:
    """The autoencoder in ``folder/vae``, float32, ready to encode; UserError if there is none."""
    if not (folder / VAE / "config.json").is_file():
        raise UserError(
            f"{folder / VAE} is missing: train it with  python train.py --autoencoder --dataset NAME --output-dir {folder}"
        )
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(
        folder, subfolder=VAE, use_safetensors=True, torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    return vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
