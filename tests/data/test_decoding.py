import io

import numpy as np
import pytest
from conftest import read_peak, reset_peak
from PIL import Image

from ddpm_demo.data.decoding import decode_picture, flatten
from ddpm_demo.data.images import fit_image
from ddpm_demo.errors import UserError

TURNED = 6  # the value of EXIF's orientation for a camera that was turned to the right


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(dtype: type, top: int) -> Image.Image:
    return Image.fromarray(np.linspace(0, top, 256 * 256).reshape(256, 256).astype(dtype))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_the_size_is_read_before_anything_is_decoded(kind, monkeypatch):
    content = encoded(Image.new("L", (3000, 1400)), kind)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile.load", None)
    with pytest.raises(UserError, match="the picture has 3000 x 1400 pixels; at most 4.2 million are allowed"):
        decode_picture(content, max_pixels=3000 * 1400 - 1)


def test_a_picture_of_many_pixels_in_a_few_bytes_costs_no_memory():
    content = encoded(Image.new("1", (28, 1_200_000)))
    assert len(content) < 10_000
    before = reset_peak()
    with pytest.raises(UserError, match="28 x 1200000 pixels"):
        decode_picture(content)
    assert read_peak() - before <= 1  # MiB; decoded, it has 33


def test_a_jpeg_of_very_many_scans_is_refused():
    """Each scan takes a few bytes, and the time of decoding the whole picture."""
    content = encoded(gradient(np.uint8, 255), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    assert decode_picture(content[:-2] + last + content[-2:], max_pixels=256 * 256).size == (256, 256)
    with pytest.raises(UserError, match="too many scans"):
        decode_picture(content[:-2] + 100 * last + content[-2:], max_pixels=256 * 256)


@pytest.mark.parametrize("content", [b"", b"<svg onload=alert(1)>", encoded(Image.new("L", (9, 9)))[:-30], b"BM" * 40])
def test_what_is_no_picture_is_a_sentence(content):
    with pytest.raises(UserError, match="three.png cannot be read as an image"):
        decode_picture(content, "three.png")


def test_a_large_file_and_a_kind_that_is_not_asked_for_are_refused(tmp_path):
    path = tmp_path / "a.gif"
    Image.new("L", (9, 9)).save(path)
    assert decode_picture(path).size == (9, 9)
    with pytest.raises(UserError, match="the picture cannot be read as an image: it is none of PNG$"):
        decode_picture(path, formats=("PNG",))
    with pytest.raises(UserError, match=r"the picture has 0.0 MB; at most 9.54e-06 MB are allowed"):
        decode_picture(path, max_bytes=10)


def test_a_full_range_gradient_of_16_bits_keeps_256_levels():
    decoded = decode_picture(encoded(gradient(np.uint16, 65535)))
    assert decoded.mode == "L" and len(np.unique(np.asarray(decoded))) == 256
    assert decoded.getextrema() == (0, 255)
    eight_bits = decode_picture(encoded(gradient(np.uint8, 255)))
    assert np.abs(np.asarray(decoded, int) - np.asarray(eight_bits, int)).max() <= 1
    assert len(fit_image(gradient(np.uint16, 65535), 1, 256).unique()) == 256


def test_a_photograph_is_turned_upright():
    image, exif = Image.new("RGB", (40, 20)), Image.Exif()
    image.paste((255, 0, 0), (0, 0, 10, 20))  # red at the left, which belongs at the top
    exif[0x0112] = TURNED
    decoded = decode_picture(encoded(image, exif=exif))
    assert decoded.size == (20, 40) and decoded.getpixel((5, 5)) == (255, 0, 0) != decoded.getpixel((5, 35))


def test_an_animation_gives_its_first_frame():
    first, second = (Image.new("RGB", (20, 10), colour) for colour in ("red", "blue"))
    for kind in ("GIF", "WEBP", "PNG"):
        content = encoded(first, kind, save_all=True, append_images=[second], lossless=True)
        assert flatten(decode_picture(content)).getpixel((5, 5)) == (255, 0, 0)


def test_palette_alpha_and_cmyk_become_gray_or_rgb_on_black():
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert flatten(decode_picture(encoded(red.quantize(4)))).getpixel((0, 0)) == (255, 0, 0)
    painted = flatten(decode_picture(encoded(red.convert("CMYK"), "JPEG")))
    assert painted.mode == "RGB" and np.abs(np.subtract(painted.getpixel((0, 0)), (255, 0, 0))).max() < 8
    for mode, flat in (("LA", "L"), ("RGBA", "RGB")):
        image = Image.new(mode, (8, 8), "white")
        image.putalpha(51)
        assert flatten(decode_picture(encoded(image))).convert("RGB").getpixel((0, 0)) == (51, 51, 51)
        assert flatten(image).mode == flat
    clear = Image.new("P", (8, 8), 1)
    clear.putpalette([0, 0, 0, 255, 255, 255])
    assert flatten(decode_picture(encoded(clear, transparency=1))).getpixel((0, 0)) == (0, 0, 0)
    assert flatten(Image.new("1", (8, 8), 1)).getpixel((0, 0)) == 255
