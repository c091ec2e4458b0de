"""The Latent space tab: two images as noise, and the images that lie between them."""

from collections.abc import Iterator

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import fitted, picture, tiled
from ddpm_demo.generation.interpolation import Between, interpolate, round_trip_errors
from ddpm_demo.ui.catalogue import Catalogue, in_words
from ddpm_demo.ui.components.pad import drawn, pad, sheet
from ddpm_demo.ui.components.player import data_uri, leaves, player
from ddpm_demo.ui.runs import as_int, as_number

HINT = """The probability-flow ODE has no chance in it: followed backwards it turns an image into the very noise that it
came from, and followed forwards into the same image again. Draw or choose two images: what lies **between their noises**?"""
FRAMES, MOST_FRAMES = 18, 60
TOLERANCE = 1e-4  # coarser, and the way back ends at another digit


def build(catalogue: Catalogue, checkpoint: gr.components.Component) -> None:
    """Lay out the tab, wire it, and offer the endpoint ``/interpolate``."""
    gr.Markdown(HINT, elem_classes="hint")
    with gr.Row():
        with gr.Column(min_width=320):
            with gr.Row():
                with gr.Column(min_width=150):
                    gr.Markdown("**From**")
                    first = pad(catalogue, example=0)
                with gr.Column(min_width=150):
                    gr.Markdown("**To**")
                    second = pad(catalogue, example=-1)
            with gr.Row():
                go = gr.Button("Interpolate", variant="primary", min_width=120)
                stop = gr.Button("Stop", min_width=80)
            frames = gr.Slider(3, MOST_FRAMES, FRAMES, step=1, label="Images on the way")
            tolerance = gr.Radio(
                [(f"{value:g}", value) for value in (1e-3, 1e-4, 1e-5)], value=TOLERANCE,
                label="Tolerance of the solver", info="smaller: more network calls, a closer return",
            )  # fmt: skip
        with gr.Column(min_width=320):
            view = player()
            told = gr.HTML()

    quiet = {"show_progress": "hidden", "api_visibility": "private"}

    def run(first, second, frames, tolerance, checkpoint):
        model = catalogue.model(checkpoint)
        images = torch.stack([drawn(model, paper)[0] for paper in (first, second)])
        for part in parts(catalogue, images, frames, tolerance, checkpoint):
            yield film_of(part), sentence(images, part)

    started = go.click(
        run, [first, second, frames, tolerance, checkpoint], [view, told], concurrency_id="network", **quiet
    )
    stop.click(None, None, None, cancels=[started], queue=False, api_visibility="private")
    checkpoint.change(
        lambda name: (sheet(catalogue, name, example=0), sheet(catalogue, name, example=-1)),
        checkpoint,
        [first, second],
        **quiet,
    )
    api(catalogue)


def api(catalogue: Catalogue) -> None:
    """The endpoint ``/interpolate``."""

    def between_two(
        first: Image.Image, second: Image.Image, frames: int = 8, tolerance: float = TOLERANCE
    ) -> tuple[Image.Image, dict]:
        """All frames in a row, the errors of the two round trips, and the network calls."""
        if first is None or second is None:
            raise gr.Error("interpolate needs two images", print_exception=False)
        model = catalogue.model()
        images = torch.stack([fitted(image, model.channels, model.image_size) for image in (first, second)])
        *_, done = parts(catalogue, images, frames, tolerance, "")
        about = {"round_trip_errors": round_trip_errors(images, done), "calls": done.calls, "tolerance": tolerance}
        return picture(done.frames, len(done.frames), height=112), about

    with gr.Row(visible=False):
        inputs = [
            gr.Image(type="pil", label="first"), gr.Image(type="pil", label="second"), gr.Number(8, label="frames"),
            gr.Number(TOLERANCE, label="tolerance"),
        ]  # fmt: skip
        outputs = [gr.Image(format="png", label="frames in a row"), gr.JSON(label="about")]
        gr.Button().click(
            between_two, inputs, outputs, api_name="interpolate", concurrency_id="network",
            api_description="The images between two images, through the noise that the probability-flow ODE turns them into.",
        )  # fmt: skip


def parts(catalogue: Catalogue, images: Tensor, frames, tolerance, checkpoint: str) -> Iterator[Between]:
    """The interpolation as it grows; gr.Error for a wrong setting."""
    with in_words():
        asked = {"total": as_int("frames", frames), "tolerance": as_number("tolerance", tolerance)}
        yield from catalogue.compute(interpolate, checkpoint, images, **asked)


def film_of(part: Between) -> dict:
    """The frames so far as a film, each with its place on the way; nothing before the first."""
    if not len(part.frames):
        return gr.skip()
    pictures = [
        (picture(frame[None], 1, gap=0), {"way": f"{k / (part.total - 1):.0%}"}) for k, frame in enumerate(part.frames)
    ]
    return leaves(pictures, "Between", "decoded from what lies between the two noises")


def sentence(images: Tensor, part: Between) -> str:
    """Both images, the noise they are, and how well the way back ends."""
    size = images.shape[-1]
    noise = part.latents / 3 if part.latents.shape == images.shape else tiled(part.latents, size)
    pair = "".join(
        f'<figure><img src="{data_uri(picture(shown[None], 1, height=112))}" alt="{words}"/><figcaption>{words}</figcaption></figure>'
        for shown, words in (
            (noise[0], "the first as noise"),
            (noise[1], "the second as noise"),
        )
    )
    if len(part.frames) < part.total:
        said = f"{part.calls} network calls so far"
    else:
        errors = " and ".join(f"{error:.4f}" for error in round_trip_errors(images, part))
        said = (
            f"There and back, the two images are {errors} away from themselves (root mean square of pixels, which go from "
            f"-1 to 1); {part.calls} network calls."
        )
    return f'<div class="cards pair">{pair}</div><p class="sentence" data-done="{len(part.frames) == part.total}">{said}</p>'
