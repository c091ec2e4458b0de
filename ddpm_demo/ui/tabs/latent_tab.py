"""The Latent space tab: it encodes two images as noise and shows the images between them."""

from collections.abc import Iterator

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import fit_image, render_grid, tile_channels
from ddpm_demo.generation.interpolation import Interpolation, interpolate, round_trip_errors
from ddpm_demo.ui.catalogue import Catalogue, report_mistakes
from ddpm_demo.ui.components.pad import build_pad, fill_pad, read_pad
from ddpm_demo.ui.components.player import build_player, film_pictures
from ddpm_demo.ui.components.upload import build_upload
from ddpm_demo.ui.data_uri import encode_picture
from ddpm_demo.ui.events import NETWORK, QUIET, add_endpoint, stop_with
from ddpm_demo.ui.examples import show_example
from ddpm_demo.ui.newest import answer_newest
from ddpm_demo.ui.rendering import render
from ddpm_demo.ui.runs import as_int, as_number

HINT = """The probability-flow ODE is deterministic. It encodes an image as noise (ODE inversion), and decodes this noise to
the same image. Draw or choose two images: which images lie **between their noises**? A distilled model
cannot encode an image, so the model that it was distilled from is used here."""
FRAMES, MOST_FRAMES = 18, 60
TOLERANCE = 1e-4  # with a larger one, the noise is decoded to another digit


def build(tab: gr.Tab, catalogue: Catalogue, checkpoint: gr.components.Component) -> None:
    """Lay out the tab, attach its handlers, and offer the endpoint ``/interpolate``."""
    gr.Markdown(HINT, elem_classes="hint")
    with gr.Row():
        with gr.Column(min_width=320):
            with gr.Row():
                with gr.Column(min_width=150):
                    gr.Markdown("**From**")
                    first = build_pad(catalogue, example=0)
                with gr.Column(min_width=150):
                    gr.Markdown("**To**")
                    second = build_pad(catalogue, example=-1)
            with gr.Row():
                go = gr.Button("Interpolate", variant="primary", min_width=120)
                stop = gr.Button("Stop", min_width=80)
            frames = gr.Slider(3, MOST_FRAMES, FRAMES, step=1, label="Images on the way")
            tolerance = gr.Radio(
                [(f"{value:g}", value) for value in (1e-3, 1e-4, 1e-5)],
                value=TOLERANCE,
                label="Tolerance of the solver",
                info="smaller: more network calls, smaller errors",
            )
        with gr.Column(min_width=320):
            player = build_player()
            report = gr.HTML()

    def run(first, second, frames, tolerance, checkpoint):
        checkpoint, film = catalogue.find_base(checkpoint), None
        model = catalogue.model(checkpoint)
        images = torch.stack([read_pad(model, drawing)[0] for drawing in (first, second)])
        for part in follow(catalogue, images, frames, tolerance, checkpoint):
            film = film_frames(part, film)
            yield film or gr.skip(), describe(images, part)

    def refill(name):
        name = catalogue.find_base(name)
        return fill_pad(catalogue, name, example=0), fill_pad(catalogue, name, example=-1)

    inputs, outputs = [first, second, frames, tolerance, checkpoint], [player, report]

    def start(request: gr.Request, *values):
        yield from answer_newest(tab.elem_id, request, run(*values))

    example = show_example(tab, catalogue, run, inputs, outputs)
    started = go.click(start, inputs, outputs, **NETWORK)
    stop_with(stop, started, example)
    checkpoint.change(refill, checkpoint, [first, second], **QUIET)
    offer_endpoint(catalogue)


def offer_endpoint(catalogue: Catalogue) -> None:
    """Offer the endpoint ``/interpolate``."""

    def interpolate_pair(
        first: Image.Image, second: Image.Image, frames: int = 8, tolerance: float = TOLERANCE
    ) -> tuple[Image.Image, dict]:
        """Return all frames in a row, and the errors of both round trips with the number of network calls."""
        if first is None or second is None:
            raise gr.Error("interpolate needs two images", print_exception=False)
        model = catalogue.model()
        images = torch.stack([fit_image(image, model.channels, model.image_size) for image in (first, second)])
        *_, done = follow(catalogue, images, frames, tolerance, "")
        about = {"round_trip_errors": round_trip_errors(images, done), "calls": done.calls, "tolerance": tolerance}
        return render_grid(done.frames, len(done.frames), height=112), about

    inputs = [
        build_upload("first"),
        build_upload("second"),
        gr.Number(8, label="frames", render=False),
        gr.Number(TOLERANCE, label="tolerance", render=False),
    ]
    outputs = [gr.Image(format="png", label="frames in a row", render=False), gr.JSON(label="about", render=False)]
    description = "Interpolates between two images, through the noise into which the probability-flow ODE turns them."
    add_endpoint("interpolate", interpolate_pair, inputs, outputs, description)


def follow(catalogue: Catalogue, images: Tensor, frames, tolerance, checkpoint: str) -> Iterator[Interpolation]:
    """Yield the growing interpolation of two images (2, C, H, W). Raises gr.Error for a wrong setting."""
    with report_mistakes():
        settings = {"total": as_int("frames", frames), "tolerance": as_number("tolerance", tolerance)}
        yield from catalogue.compute(interpolate, checkpoint, images, **settings)


def film_frames(part: Interpolation, earlier: dict | None) -> dict | None:
    """Make a film of the frames so far, each with its position, from the film of the frames before; None without a frame."""
    if not len(part.frames):
        return None
    pictures = [
        (render_grid(frame[None], 1, gap=0), {"way": f"{k / (part.total - 1):.0%}"})
        for k, frame in enumerate(part.frames)
    ]
    return film_pictures(pictures, "Between", "decoded from a point between the two noises", part.total, earlier)


def describe(images: Tensor, part: Interpolation) -> str:
    """Render the noise of both images (2, C, H, W), and the errors of their round trips once they are known."""
    size = images.shape[-1]
    noise = part.latents / 3 if part.latents.shape == images.shape else tile_channels(part.latents, size)
    done = len(part.frames) == part.total
    return render(
        "interpolation.html",
        noises=[encode_picture(render_grid(one[None], 1, height=112)) for one in noise[:2]],
        errors=round_trip_errors(images, part) if done else None,
        done=done,
        calls=part.calls,
    )
