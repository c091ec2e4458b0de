"""The input of an endpoint that takes a picture: a file that was uploaded before, or a data URI."""

from pathlib import Path

import gradio as gr
from gradio.data_classes import ImageData
from PIL import Image

from ddpm_demo.data.decoding import decode_picture
from ddpm_demo.errors import UserError
from ddpm_demo.ui.catalogue import report_mistakes
from ddpm_demo.ui.data_uri import decode_uri


def build_upload(label: str) -> gr.Image:
    """Create the input. Its handler receives a decoded picture, or None if nothing was sent."""
    component = gr.Image(type="filepath", image_mode=None, label=label, render=False)
    component.preprocess = read_upload  # Gradio's own decodes a picture of any size, and the whole of a data URI
    return component


def read_upload(payload: ImageData | None) -> Image.Image | None:
    """Decode the picture of a request. Raises gr.Error if it exceeds the limits or is no picture."""
    with report_mistakes():
        if payload is None:
            return None
        if payload.url and payload.url.startswith("data:"):
            return decode_uri(payload.url)
        if payload.path is None:
            raise UserError("the picture is missing: send a file that was uploaded, or a data URI")
        return decode_picture(Path(payload.path))
