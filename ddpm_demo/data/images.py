"""Images in and out: any picture as a tensor, tensors as crisp enlargements, grids and animations."""

from collections.abc import Iterable
from math import ceil, log2
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.utils import make_grid

from ddpm_demo.diffusion.denoiser import alpha_sigma


def picture(images: Tensor, columns: int = 8, height: int | None = None, gap: int = 2) -> Image.Image:
    """Images (N, C, H, W) in [-1, 1] as one picture, ``columns`` a row, whole pixels enlarged to about ``height``."""
    grid = make_grid(images.detach().float().cpu().clamp(-1, 1), columns, gap, pad_value=1.0)
    pixels = ((grid + 1) * 127.5).round().byte().permute(1, 2, 0)
    drawn = Image.fromarray((pixels[..., 0] if images.shape[1] == 1 else pixels).numpy())
    scale = max(1, round(height / drawn.height)) if height else 1
    return drawn.resize((drawn.width * scale, drawn.height * scale), Image.Resampling.NEAREST)


def fitted(image: Image.Image, channels: int, size: int) -> Tensor:
    """Any picture as (channels, size, size), [-1, 1]: turned upright, cropped to its middle square, black behind it."""
    upright = ImageOps.exif_transpose(image).convert("RGBA")
    behind = Image.new("RGBA", upright.size, "black")
    whole = Image.alpha_composite(behind, upright).convert("L" if channels == 1 else "RGB")
    square = ImageOps.fit(whole, (size, size), Image.Resampling.LANCZOS)
    pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
    return pixels.reshape(size, size, channels).permute(2, 0, 1) / 127.5 - 1


def strip(images: Tensor) -> Image.Image:
    """Images (N, C, H, W), [-1, 1], in one row without gaps: ``examples.png``, which ``unstrip`` reads."""
    return picture(images, columns=len(images), gap=0)


def unstrip(row: Image.Image, channels: int, size: int) -> Tensor:
    """The images (N, channels, size, size) of such a row."""
    parts = [row.crop((k * size, 0, (k + 1) * size, size)) for k in range(row.width // size)]
    return torch.stack([fitted(part, channels, size) for part in parts])


def noisy_panel(x: Tensor, log_snr: float) -> Tensor:
    """The noisy state, scaled so that noise (which reaches beyond 1) is not cut off and the image ends at its own."""
    return x / (1 + alpha_sigma(log_snr)[1].item())


def tiled(latents: Tensor, size: int, unit: float = 3.0, behind: float = -1.0) -> Tensor:
    """Latents (N, c, h, w) as gray images (N, 1, size, size): the channels as tiles, in units of three deviations."""
    count, channels, height, width = latents.shape
    columns = 2 ** ceil(log2(channels) / 2)
    rows = ceil(channels / columns)
    tiles = F.pad(latents / unit, (0, 0, 0, 0, 0, rows * columns - channels), value=behind)
    sheet = tiles.reshape(count, rows, columns, height, width).transpose(2, 3)
    sheet = sheet.reshape(count, 1, rows * height, columns * width)
    scale = size / max(sheet.shape[2:])
    sheet = F.interpolate(sheet, size=[round(n * scale) for n in sheet.shape[2:]])
    top, left = ((size - n) // 2 for n in sheet.shape[2:])
    return F.pad(sheet, (left, size - sheet.shape[3] - left, top, size - sheet.shape[2] - top), value=behind)


def diverging(difference: Tensor) -> Tensor:
    """Signed (N, C, H, W) as colours (N, 3, H, W), [-1, 1]: dark for 0, orange above, blue below, both full at 1."""
    signed = difference.detach().float().cpu().mean(1, keepdim=True).clamp(-1, 1)
    ends = [torch.tensor(rgb).reshape(1, 3, 1, 1) / 127.5 - 1 for rgb in ((255.0, 150, 40), (60.0, 130, 255))]
    middle = torch.tensor(-0.7)
    return middle + signed.clamp(min=0) * (ends[0] - middle) - signed.clamp(max=0) * (ends[1] - middle)


def save_animation(frames: Iterable[Image.Image], path: Path, milliseconds: int = 80, hold: int = 2000) -> None:
    """A looping animated WebP or GIF, lossless, its last frame held."""
    first, *rest = frames
    durations = [milliseconds] * len(rest) + [hold]
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=0, lossless=True, method=6)
