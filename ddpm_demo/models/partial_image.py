"""An image of which a part is known, beside what is diffused (Saharia et al. 2022, Palette).

One network learns three tasks: to complete an image of which a box is missing, to enlarge a small one, and to draw
without any image. What is known is encoded like an image and enters the network in further channels; one more channel
says where it is known.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_demo.models.codec import Codec, LatentCodec

SMALLER = 4  # an image to enlarge is this many times smaller
SHARES = (0.4, 0.4, 0.2)  # of the training images: to complete, to enlarge, to draw without any image


@dataclass(frozen=True)
class WithImage:
    """A denoiser that is given images (N, C + 1, H, W) beside x, also where guidance doubles the batch of N."""

    denoise: Callable[..., Tensor]
    images: Tensor

    def __call__(self, x: Tensor, log_snr: Tensor | float, label: Tensor | None = None) -> Tensor:
        """The clean estimate (N, C, H, W)."""
        return self.denoise(x, log_snr, label, self.images.repeat(len(x) // len(self.images), 1, 1, 1))


def encode_partial(codec: Codec | LatentCodec, images: Tensor, known: Tensor) -> Tensor:
    """What the network is given of images (N, C, H, W), gray where they are not known: (N, C' + 1, H', W').

    ``known`` (N, 1, H, W), 0 or 1, says where: 1 takes the pixels as they are; where it is 0 they are a hint at most.
    """
    encoded = codec.encode(images)
    return torch.cat([encoded, F.adaptive_avg_pool2d(known.to(encoded.device), encoded.shape[2:])], 1)


def shrink(images: Tensor) -> Tensor:
    """Images (N, C, H, W) made four times smaller, each new pixel the mean of sixteen."""
    return F.avg_pool2d(images, SMALLER)


def enlarge(images: Tensor, size: int) -> Tensor:
    """Small images (N, C, h, w) at ``size``, smooth between their pixels (bicubic)."""
    return F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


def hide_pixels(images: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """(images (N, C, H, W), gray outside ``keep`` (N, 1, H, W) or (H, W); known): the task to complete them."""
    keep = keep.to(images.dtype).expand(len(images), 1, *images.shape[2:])
    return images * keep, keep


def remove_detail(images: Tensor) -> tuple[Tensor, Tensor]:
    """(images (N, C, H, W) with a sixteenth of their detail; known, 0 everywhere): the task to enlarge them."""
    return enlarge(shrink(images), images.shape[-1]), torch.zeros_like(images[:, :1])


def draw_boxes(count: int, size: int, device: torch.device) -> Tensor:
    """Random boxes of a quarter to three quarters of the size as what is missing: keep (N, 1, size, size), bool."""
    lengths = (torch.rand(2, count, 1, device=device) * 0.5 + 0.25) * size
    starts = torch.rand(2, count, 1, device=device) * (size - lengths)
    place = torch.arange(size, device=device) + 0.5
    inside = (place >= starts) & (place < starts + lengths)  # (2, N, size)
    return ~(inside[0, :, :, None] & inside[1, :, None, :])[:, None]


def draw_tasks(images: Tensor) -> tuple[Tensor, Tensor]:
    """(images, known) of a random task for each of images (N, C, H, W)."""
    count, size = len(images), images.shape[-1]
    holes, small = hide_pixels(images, draw_boxes(count, size, images.device)), remove_detail(images)
    nothing = torch.zeros_like(images), torch.zeros_like(small[1])
    drawn = torch.rand(count, 1, 1, 1, device=images.device)
    first, second = drawn < SHARES[0], drawn < SHARES[0] + SHARES[1]
    images, known = (
        torch.where(first, a, torch.where(second, b, c)) for a, b, c in zip(holes, small, nothing, strict=True)
    )
    return images, known
