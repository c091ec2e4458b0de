"""Decodes every picture that comes from outside: uploads, drawings, files of datasets and of checkpoints."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ddpm_demo.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # not TIFF, whose tiles may be larger than the picture
MAX_PIXELS = 2**22
MAX_BYTES = 12 * 2**20
MAX_SCANS = 100  # of the largest JPEG; a progressive one has about ten, and each is decoded over the whole picture
GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")


def decode_picture(
    source: Path | bytes,
    name: str = "the picture",
    *,
    formats: tuple[str, ...] = FORMATS,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int | None = MAX_BYTES,
) -> Image.Image:
    """Decode a file, or its content, to an upright picture with at most 8 bits per channel; of an animation, the first frame.

    The size is read from the header and compared with ``max_pixels`` before anything is decoded. The messages of a
    UserError call the picture ``name``.
    """
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if max_bytes is not None and size > max_bytes:
            raise UserError(f"{name} has {size / 2**20:.1f} MB; at most {max_bytes / 2**20:.3g} MB are allowed")
        content = source if isinstance(source, bytes) else source.read_bytes()
        with Image.open(io.BytesIO(content), formats=formats) as image:
            check_header(image, content, name, max_pixels)
            return reduce_depth(ImageOps.exif_transpose(image))
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{name} cannot be read as an image: it is none of {', '.join(formats)}") from error
    except Exception as error:  # Pillow raises exceptions of many kinds for a broken file
        raise UserError(f"{name} cannot be read as an image ({type(error).__name__}: {error})") from error


def check_header(image: Image.Image, content: bytes, name: str, max_pixels: int) -> None:
    """Raise UserError for a picture, opened but not decoded, whose decoding would cost too much."""
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise UserError(
            f"{name} has {image.width} x {image.height} pixels; at most {max_pixels / 1e6:.1f} million are allowed: "
            "make it smaller"
        )
    if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") * pixels > MAX_SCANS * max_pixels:
        raise UserError(f"{name} is a JPEG of too many scans: save it again as an ordinary JPEG or PNG")


def reduce_depth(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray levels to 8 bits: Pillow's own conversion makes every level above 255 white.

    Mode I is treated as 16 bits, since some versions of Pillow decode a 16-bit PNG to it.
    """
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    levels = np.asarray(image).clip(0, 65535).astype(np.uint32)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def flatten(image: Image.Image) -> Image.Image:
    """Convert a picture to mode L if its mode is gray, otherwise to RGB. What is transparent becomes black.

    Black is the background of the page's sketch pad, so that a training and the page see the same picture.
    """
    mode = "L" if image.mode in GRAY_MODES else "RGB"
    image = reduce_depth(image)
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(opaque, image.convert("RGBA"))
    return image.convert(mode)


def crop_square(image: Image.Image, size: int) -> Image.Image:
    """Scale the central square of a picture to ``size`` pixels."""
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
