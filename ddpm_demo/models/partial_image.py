"""Conditioning on a partially known image (Saharia et al. 2022, Palette).

One network learns three tasks: completing an image with a missing box, enlarging a small image, and generating without
any image. The known image is encoded and enters the network as additional channels. One more channel marks the known
pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_demo.models.codec import Codec, LatentCodec

SMALLER = 4  # factor between the sizes of an image and of the small image to enlarge
SHARES = (0.4, 0.4, 0.2)  # shares of the three tasks in training: complete, enlarge, generate


@dataclass(frozen=True)
class WithImage:
    """A denoiser with fixed image inputs (N, C + 1, H, W). They are repeated if guidance doubles the batch of N."""

    denoise: Callable[..., Tensor]
    images: Tensor

    def __call__(self, x: Tensor, log_snr: Tensor | float, label: Tensor | None = None) -> Tensor:
        """Return the clean estimate (N, C, H, W)."""
        return self.denoise(x, log_snr, label, self.images.repeat(len(x) // len(self.images), 1, 1, 1))


def encode_partial(codec: Codec | LatentCodec, images: Tensor, known: Tensor) -> Tensor:
    """Encode partially known images (N, C, H, W), gray where unknown, as a network input (N, C' + 1, H', W').

    ``known`` (N, 1, H, W) is 1 where the output must equal the pixels, and 0 where the pixels are unknown or blurred.
    """
    encoded = codec.encode(images)
    return torch.cat([encoded, F.adaptive_avg_pool2d(known.to(encoded.device), encoded.shape[2:])], 1)


def shrink(images: Tensor) -> Tensor:
    """Shrink images (N, C, H, W) by a factor of four. Each new pixel is the mean of sixteen pixels."""
    return F.avg_pool2d(images, SMALLER)


def enlarge(images: Tensor, size: int) -> Tensor:
    """Resize small images (N, C, h, w) to ``size`` by bicubic interpolation, clamped to [-1, 1]."""
    return F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


def hide_pixels(images: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Return (images, known) for completion: images (N, C, H, W) are gray outside ``keep`` (N, 1, H, W) or (H, W)."""
    keep = keep.to(images.dtype).expand(len(images), 1, *images.shape[2:])
    return images * keep, keep


def remove_detail(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return (images, known) for enlargement: images (N, C, H, W) shrunk and resized again; known is 0 everywhere."""
    return enlarge(shrink(images), images.shape[-1]), torch.zeros_like(images[:, :1])


def draw_boxes(count: int, size: int, device: torch.device) -> Tensor:
    """Draw masks (N, 1, size, size), bool, that are false in a random box with sides of 1/4 to 3/4 of the size."""
    lengths = (torch.rand(2, count, 1, device=device) * 0.5 + 0.25) * size
    starts = torch.rand(2, count, 1, device=device) * (size - lengths)
    place = torch.arange(size, device=device) + 0.5
    inside = (place >= starts) & (place < starts + lengths)  # (2, N, size)
    return ~(inside[0, :, :, None] & inside[1, :, None, :])[:, None]


def draw_tasks(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return (images, known) of a random task for each of the images (N, C, H, W)."""
    count, size = len(images), images.shape[-1]
    holes, small = hide_pixels(images, draw_boxes(count, size, images.device)), remove_detail(images)
    nothing = torch.zeros_like(images), torch.zeros_like(small[1])
    drawn = torch.rand(count, 1, 1, 1, device=images.device)
    first, second = drawn < SHARES[0], drawn < SHARES[0] + SHARES[1]
    images, known = (
        torch.where(first, a, torch.where(second, b, c)) for a, b, c in zip(holes, small, nothing, strict=True)
    )
    return images, known
