"""The sketch pad: draw at the model's own resolution, mark what to paint anew, upload, or take a real image."""

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import fitted, picture, strip, unstrip
from ddpm_demo.errors import UserError
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.ui.catalogue import Catalogue, in_words
from ddpm_demo.ui.components.player import data_uri, opened, templates

MAX_SIDE = 512


def pad(catalogue: Catalogue, marks: bool = False, example: int = 3, **options) -> gr.HTML:
    """The component, with a real image on it to begin with; ``marks`` offers the pen that marks a region."""
    return gr.HTML(sheet(catalogue, marks=marks, example=example), **templates("pad"), **options)


def sheet(catalogue: Catalogue, checkpoint: str = "", marks: bool = False, example: int = 3) -> dict:
    """The value of a pad for a checkpoint: its size, the real images to choose from, and one of them drawn."""
    model, images = catalogue.model(checkpoint), examples(catalogue, checkpoint)
    value = {"size": model.image_size, "channels": model.channels, "marks": marks, "names": list(model.label_names)}
    if images is not None:
        value["examples"] = data_uri(strip(images))
        value["ink"] = data_uri(picture(images[example % len(images)][None], 1, gap=0))
    return value


def examples(catalogue: Catalogue, checkpoint: str = "") -> Tensor | None:
    """The real images (N, C, H, W), [-1, 1], that come with a checkpoint, None if none do."""
    model, folder = catalogue.model(checkpoint), catalogue.folder(checkpoint)
    path = folder / "examples.png" if folder else None
    if not path or not path.is_file():
        return None
    with Image.open(path) as row:
        return unstrip(row, model.channels, model.image_size)


def drawn(model: Model, value: dict) -> tuple[Tensor, Tensor]:
    """The picture (C, H, W), [-1, 1], and the marked region (H, W), bool, on a pad. gr.Error if there is none."""
    with in_words():
        if not isinstance(value, dict) or not value.get("ink"):
            raise UserError("draw something first, or choose one of the images below the pad")
        ink = small(value["ink"])
        image = fitted(ink, model.channels, model.image_size)
        marked = torch.zeros(image.shape[1:], dtype=torch.bool)
        if value.get("mask"):
            marks = small(value["mask"]).convert("RGBA").resize((model.image_size,) * 2)
            marked = (
                torch.frombuffer(bytearray(marks.tobytes()), dtype=torch.uint8).reshape(*marked.shape, 4)[..., 3] > 64
            )
    return image, marked


def small(uri: str) -> Image.Image:
    """The picture in a data URI of a pad."""
    return opened(uri, 2**20, MAX_SIDE**2)
