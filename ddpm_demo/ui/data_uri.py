"""Encodes pictures as data URIs, which the page shows without a further request, and decodes them."""

import base64
import io

from PIL import Image

from ddpm_demo.errors import UserError

MAX_BYTES = 16 * 2**20
MAX_PIXELS = 2**25
HEAD = "data:image/png;base64,"


def encode_picture(image: Image.Image, kind: str = "png", **options) -> str:
    """Encode a picture without loss. ``kind`` is Pillow's name of the format; ``options`` are passed to its ``save``."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def decode_picture(uri: str, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the PNG in a data URI that a browser sent. Raises UserError for any other content or size."""
    if not isinstance(uri, str) or not uri.startswith(HEAD):
        raise UserError("the picture must be a PNG in a data URI")
    if len(uri) > max_bytes * 4 // 3:
        raise UserError(f"the picture is larger than {max_bytes / 2**20:.1f} MB")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(uri[len(HEAD) :], validate=True)), formats=["PNG"])
        if image.width * image.height > max_pixels:
            raise UserError(f"the picture has {image.width} x {image.height} pixels; that is too many")
        image.load()
    except UserError:
        raise
    except Exception as error:  # Pillow raises exceptions of many kinds for a broken file
        raise UserError(f"the picture cannot be read ({type(error).__name__})") from error
    return image
