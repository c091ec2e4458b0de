"""The drawing pad, at the model's resolution: a user draws, marks a region, uploads a file or takes a real image."""

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from ddpm_demo.data.decoding import decode_picture
from ddpm_demo.data.images import fit_image, render_grid, render_row, split_row
from ddpm_demo.errors import UserError
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.ui.catalogue import Catalogue, report_mistakes
from ddpm_demo.ui.components.player import read_component
from ddpm_demo.ui.data_uri import decode_uri, encode_picture

MAX_BYTES, MAX_SIDE = 2**20, 512  # of a drawing


def build_pad(catalogue: Catalogue, marks: bool = False, example: int = 3, **options) -> gr.HTML:
    """Create a pad that shows a real image. ``marks`` offers the pen that marks a region."""
    return gr.HTML(fill_pad(catalogue, marks=marks, example=example), **read_component("pad"), **options)


def fill_pad(catalogue: Catalogue, checkpoint: str = "", marks: bool = False, example: int = 3) -> dict:
    """Return the value of a pad for a checkpoint: its size, the real images to choose from, and one of them as drawing."""
    model, images = catalogue.model(checkpoint), read_examples(catalogue, checkpoint)
    value = {"size": model.image_size, "channels": model.channels, "marks": marks, "names": list(model.label_names)}
    if images is not None:
        value["examples"] = encode_picture(render_row(images))
        value["ink"] = encode_picture(render_grid(images[example % len(images)][None], 1, gap=0))
    return value


def read_examples(catalogue: Catalogue, checkpoint: str = "") -> Tensor | None:
    """Return the real images (N, C, H, W), [-1, 1], in a checkpoint's folder, or None if there are none."""
    model, folder = catalogue.model(checkpoint), catalogue.folder(checkpoint)
    path = folder / "examples.png" if folder else None
    if not path or not path.is_file():
        return None
    return split_row(decode_picture(path, str(path)), model.channels, model.image_size)


def read_pad(model: Model, value: dict) -> tuple[Tensor, Tensor]:
    """Return the picture (C, H, W), [-1, 1], and the marked region (H, W), bool. Raises gr.Error if the pad is empty."""
    with report_mistakes():
        if not isinstance(value, dict) or not value.get("ink"):
            raise UserError("draw something first, or choose one of the images below the pad")
        image = fit_image(decode_small_picture(value["ink"]), model.channels, model.image_size)
        marked = torch.zeros(image.shape[1:], dtype=torch.bool)
        if value.get("mask"):
            marks = decode_small_picture(value["mask"]).convert("RGBA").resize((model.image_size,) * 2)
            pixels = torch.frombuffer(bytearray(marks.tobytes()), dtype=torch.uint8).reshape(*marked.shape, 4)
            marked = pixels[..., 3] > 64
    return image, marked


def decode_small_picture(uri: str) -> Image.Image:
    """Decode the picture in a data URI of a pad."""
    return decode_uri(uri, MAX_BYTES, formats=("PNG",), max_pixels=MAX_SIDE**2)
