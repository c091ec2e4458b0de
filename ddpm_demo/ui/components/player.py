"""The player: a canvas that shows a film, and the film itself, made of steps as they are computed.

A film is what the browser gets: a dict that only grows, so that the server sends each chunk once. A chunk holds some
frames and, for every panel, one lossless PNG sprite in which these frames are stacked downwards.
"""

import base64
import io
import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import gradio as gr
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import diverging, picture, tiled
from ddpm_demo.diffusion.reverse_process import Step
from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.errors import UserError
from ddpm_demo.generation.animation import noisy_image

HERE = Path(__file__).parent
MAX_FRAMES = 60
CHUNK_SECONDS = 0.09  # frames that are computed faster than this travel together
MAX_STRIP_BYTES = 16 * 2**20
RUNS = itertools.count(1)

PANELS = {
    "x": ("xₜ", "what the sampler holds: the image so far, under noise"),
    "x0": ("x̂₀", "what the network believes the clean image is"),
    "eps": ("ε̂", "the noise that it sees in xₜ"),
    "guidance": ("guidance", "where the class pulls the belief: orange makes it brighter, blue darker"),
}
LATENT_PANELS = {
    "x": ("zₜ", "what the sampler holds: the channels of the latents so far, under noise"),
    "latents": ("ẑ₀", "what the network believes the clean latents are"),
    "x0": ("x̂₀", "these latents decoded, by the autoencoder, into an image"),
    "guidance": ("guidance", "where the class pulls the latents: orange up, blue down"),
}


def player(**options) -> gr.HTML:
    """The component. Its value is a film, as ``film`` yields, or a list of one."""
    return gr.HTML(None, **templates("player"), server_functions=[animation], **options)


def templates(name: str) -> dict:
    """The three files of a component of our own, as gr.HTML takes them."""
    html, css, js = ((HERE / f"{name}.{suffix}").read_text() for suffix in ("html", "css", "js"))
    return {"html_template": html, "css_template": css, "js_on_load": js, "apply_default_css": False}


def film(
    steps: Iterable[Step], columns: int, settings: dict, curve: list[float], still: bool = False
) -> Iterator[dict]:
    """The film of a run, growing: yielded whenever a chunk is complete, and lastly with ``done``.

    ``columns`` images a row; ``curve`` the log-SNR of every step; ``still`` opens on the last frame, without playing.
    """
    total, kept = len(curve), None
    growing: dict = {
        "run": new_run(),
        "settings": settings,
        "source": source(settings),
        "link": "?" + urlencode({k: f"{v:g}" if isinstance(v, float) else v for k, v in settings.items()}),
        "curve": [[k, round(curve[k], 3)] for k in sorted(spread(total, 60))],
        "still": still,
        "chunks": [],
        "done": False,
    }
    computing, waiting, sent = 0.0, [], time.perf_counter()
    steps = iter(steps)
    while True:
        began = time.perf_counter()
        step = next(steps, None)
        computing += time.perf_counter() - began
        if step is None:
            return
        last = step.index + 1 == total
        if kept is None:
            kept = spread(total, max(12, min(MAX_FRAMES, 600 // len(step.x0))))
            named = PANELS if step.latents is None else LATENT_PANELS
            shown = [key for key in named if key != "guidance" or guided(settings)]
            growing |= {"panels": [{"key": k, "name": named[k][0], "meaning": named[k][1]} for k in shown]}
            growing |= {"count": len(kept)}
        if step.index not in kept:
            continue
        waiting.append((step, computing))
        if not last and step.index and time.perf_counter() - sent < CHUNK_SECONDS:
            continue
        made, size = chunk(waiting, columns, shown, calls_of(settings))
        growing = growing | {"width": size[0], "height": size[1], "done": last, "chunks": [*growing["chunks"], made]}
        waiting, sent = [], time.perf_counter()
        yield growing


def guided(settings: dict) -> bool:
    """Whether a run is guided, either way."""
    return settings.get("weight", 0) not in (0, -1) or bool(settings.get("classifier_scale"))


def spread(total: int, most: int) -> set[int]:
    """At most ``most`` of the numbers 0 .. total - 1, evenly, the first and the last among them."""
    if total <= most:
        return set(range(total))
    return {round(k * (total - 1) / (most - 1)) for k in range(most)}


def calls_of(settings: dict) -> str:
    """What a guided call of the network comes with."""
    both = " × 2 (with, without class)" if settings.get("weight", 0) not in (0, -1) else ""
    return both + (", as many of the classifier" if settings.get("classifier_scale") else "")


def chunk(
    steps: list[tuple[Step, float]], columns: int, panels: list[str], guided_calls: str
) -> tuple[dict, tuple[int, int]]:
    """Some frames as a chunk of a film, and the size of one."""
    sprites, size = {}, (0, 0)
    for key in panels:
        shown = [panel(step, key) for step, _ in steps]
        drawn = [None if images is None else picture(images, columns, gap=1) for images in shown]
        known = next((image for image in drawn if image), None)
        if known:
            size = known.size
            nothing = Image.new(known.mode, size, "grey")
            sprites[key] = data_uri(stacked([image or nothing for image in drawn]))
    frames = [
        {
            "step": step.index,
            "log_snr": round(step.log_snr, 3),
            "numbers": {
                "step": f"{step.index + 1} of {step.total}",
                "t": f"{step.timestep:.0f}",
                "log-SNR": f"{step.log_snr:+.2f}",
                "computing": f"{seconds:.2f} s",
                "network calls": f"{step.nfe}" + (guided_calls if step.guidance is not None else ""),
            },
        }
        for step, seconds in steps
    ]
    return {"frames": frames, "sprites": sprites}, size


def panel(step: Step, key: str) -> Tensor | None:
    """The images (N, C, H, W), [-1, 1], that a panel shows of a step; None where there is nothing to see."""
    if key == "x":
        return noisy_image(step)
    if key == "x0":
        return step.x0
    if key == "latents":
        return tiled(step.latents, step.x0.shape[-1])
    if key == "eps":
        return step.eps / 3  # three standard deviations
    if step.guidance is None:
        return None
    latent = step.latents is not None
    return diverging(tiled(step.guidance, step.x0.shape[-1], unit=1, behind=0) if latent else step.guidance)


def stacked(frames: list[Image.Image]) -> Image.Image:
    """Pictures of one size below each other."""
    width, height = frames[0].size
    whole = Image.new(frames[0].mode, (width, height * len(frames)))
    for row, frame in enumerate(frames):
        whole.paste(frame, (0, row * height))
    return whole


def leaves(pictures: list[tuple[Image.Image, dict]], name: str, meaning: str) -> dict:
    """A whole film of ready pictures, each with its numbers, in one panel."""
    images = [image for image, _ in pictures]
    frames = [{"step": k, "numbers": numbers} for k, (_, numbers) in enumerate(pictures)]
    return {
        "run": new_run(),
        "settings": {},
        "panels": [{"key": "only", "name": name, "meaning": meaning}],
        "count": len(images),
        "width": images[0].width,
        "height": images[0].height,
        "chunks": [{"frames": frames, "sprites": {"only": data_uri(stacked(images))}}],
        "done": True,
    }


def new_run() -> str:
    """A name that no other run has, of this server or of the one before it."""
    return f"{time.time_ns() // 10**6:x}-{next(RUNS)}"


def source(settings: dict) -> str:
    """The sampler of a run, and who published it."""
    method = SAMPLERS.get(settings.get("sampler", ""))
    return f"{method.title} ({method.source})" if method else ""


def data_uri(image: Image.Image, kind: str = "png", **options) -> str:
    """A lossless picture that needs no further request."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def opened(uri: str, most_bytes: int = MAX_STRIP_BYTES, most_pixels: int = 2**25) -> Image.Image:
    """The PNG in a data URI that a browser sent; UserError for anything else, or for too much of it."""
    head = "data:image/png;base64,"
    if not isinstance(uri, str) or not uri.startswith(head):
        raise UserError("the picture must be a PNG in a data URI")
    if len(uri) > most_bytes * 4 // 3:
        raise UserError(f"the picture is larger than {most_bytes / 2**20:.1f} MB")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(uri[len(head) :], validate=True)), formats=["PNG"])
        if image.width * image.height > most_pixels:
            raise UserError(f"the picture has {image.width} x {image.height} pixels; that is too many")
        image.load()
    except UserError:
        raise
    except Exception as error:  # Pillow has many ways to say it
        raise UserError(f"the picture cannot be read ({type(error).__name__})") from error
    return image


def animation(order: dict) -> str:
    """A strip of frames, panels above each other, as an animated GIF or WebP in a data URI."""
    try:
        strip, frames, panels = opened(order["strip"]).convert("RGB"), int(order["frames"]), int(order["panels"])
        kind = order["kind"]
        if kind not in ("gif", "webp") or not 1 <= frames <= 1000 or not 1 <= panels <= 8:
            raise UserError("an animation is a GIF or a WebP of 1 to 1000 frames")
        width, height = strip.width // frames, strip.height // panels
        scale = max(1, min(8, 224 // max(1, width)))
        pictures = []
        for k in range(frames):
            beside = Image.new("RGB", ((width + 4) * panels - 4, height), "white")
            for row in range(panels):
                box = (k * width, row * height, (k + 1) * width, (row + 1) * height)
                beside.paste(strip.crop(box), (row * (width + 4), 0))
            pictures.append(beside.resize((beside.width * scale, height * scale), Image.Resampling.NEAREST))
        pause = min(170, max(45, 3000 // frames))
        return data_uri(
            pictures[0], kind, save_all=True, append_images=pictures[1:], loop=0, lossless=True,
            duration=[pause] * (frames - 1) + [2000],
        )  # fmt: skip
    except (UserError, KeyError, TypeError, ValueError) as error:
        raise gr.Error(f"the animation cannot be written: {error}", print_exception=False) from error
