"""The rim between images and what is diffused. Networks and samplers never know which of these they see."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ddpm_demo.errors import UserError


@dataclass(frozen=True)
class Codec:
    """Moves ``patch`` x ``patch`` pixels into channels: an orthonormal rearrangement, so noise stays noise.

    ``patch`` 1 is the identity. At patch 2 a network sees a quarter of the positions and costs about a quarter.
    """

    patch: int = 1

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
