"""Conversion of images: from PIL images to tensors, and from tensors to grids, rows and animations."""

from collections.abc import Iterable
from math import ceil, log2
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from ddpm_demo.data.decoding import crop_square, flatten
from ddpm_demo.diffusion.denoiser import alpha_sigma


def render_grid(images: Tensor, columns: int = 8, height: int | None = None, gap: int = 2) -> Image.Image:
    """Render images (N, C, H, W) in [-1, 1] as a grid, ``columns`` per row, magnified to about ``height`` pixels."""
    grid = make_grid(images.detach().float().cpu().clamp(-1, 1), columns, gap, pad_value=1.0)
    pixels = ((grid + 1) * 127.5).round().byte().permute(1, 2, 0)
    rendered = Image.fromarray((pixels[..., 0] if images.shape[1] == 1 else pixels).numpy())
    scale = max(1, round(height / rendered.height)) if height else 1
    return rendered.resize((rendered.width * scale, rendered.height * scale), Image.Resampling.NEAREST)


def fit_image(image: Image.Image, channels: int, size: int) -> Tensor:
    """Convert a PIL image to (channels, size, size) in [-1, 1]: on black, cropped to its central square."""
    opaque = flatten(image).convert("L" if channels == 1 else "RGB")
    square = crop_square(opaque, size)
    pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
    return pixels.reshape(size, size, channels).permute(2, 0, 1) / 127.5 - 1


def render_row(images: Tensor) -> Image.Image:
    """Render images (N, C, H, W) in [-1, 1] as one row without gaps, such as ``examples.png``."""
    return render_grid(images, columns=len(images), gap=0)


def split_row(row: Image.Image, channels: int, size: int) -> Tensor:
    """Split a row of ``render_row`` into images (N, channels, size, size)."""
    parts = [row.crop((k * size, 0, (k + 1) * size, size)) for k in range(row.width // size)]
    return torch.stack([fit_image(part, channels, size) for part in parts])


def scale_noisy(x: Tensor, log_snr: float) -> Tensor:
    """Scale a noisy state for display: pure noise, which exceeds [-1, 1], is halved; a clean image is unchanged."""
    return x / (1 + alpha_sigma(log_snr)[1].item())


def tile_channels(latents: Tensor, size: int, unit: float = 3.0, background: float = -1.0) -> Tensor:
    """Render latents (N, c, h, w) as gray images (N, 1, size, size) with one tile per channel.

    A latent of ``unit`` is white and one of -``unit`` is black. ``background`` is the value of pixels without a tile.
    """
    count, channels, height, width = latents.shape
    columns = 2 ** ceil(log2(channels) / 2)
    rows = ceil(channels / columns)
    tiles = F.pad(latents / unit, (0, 0, 0, 0, 0, rows * columns - channels), value=background)
    sheet = tiles.reshape(count, rows, columns, height, width).transpose(2, 3)
    sheet = sheet.reshape(count, 1, rows * height, columns * width)
    scale = size / max(sheet.shape[2:])
    sheet = F.interpolate(sheet, size=[round(n * scale) for n in sheet.shape[2:]])
    top, left = ((size - n) // 2 for n in sheet.shape[2:])
    return F.pad(sheet, (left, size - sheet.shape[3] - left, top, size - sheet.shape[2] - top), value=background)


def colour_signed(difference: Tensor) -> Tensor:
    """Render signed values (N, C, H, W) as colours (N, 3, H, W) in [-1, 1].

    0 is dark; 1 is orange and -1 is blue, at full saturation. Channels are averaged.
    """
    signed = difference.detach().float().cpu().mean(1, keepdim=True).clamp(-1, 1)
    ends = [torch.tensor(rgb).reshape(1, 3, 1, 1) / 127.5 - 1 for rgb in ((255.0, 150, 40), (60.0, 130, 255))]
    middle = torch.tensor(-0.7)
    return middle + signed.clamp(min=0) * (ends[0] - middle) - signed.clamp(max=0) * (ends[1] - middle)


def save_animation(frames: Iterable[Image.Image], path: Path) -> None:
    """Save frames as a lossless, looping WebP or GIF. A frame is shown for 0.08 seconds, and the last for two seconds."""
    first, *rest = frames
    durations = [80] * len(rest) + [2000]  # milliseconds
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=0, lossless=True, method=6)
