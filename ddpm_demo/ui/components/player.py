"""The player, a canvas that shows a film, and the functions that make films of steps while they are computed.

A film is the dict that the browser receives. It only grows, so that the server sends each chunk once. A chunk holds some
frames and, for every panel, one lossless PNG sprite that contains these frames one below the other.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from urllib.parse import urlencode

import gradio as gr
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import colour_signed, render_grid, tile_channels
from ddpm_demo.diffusion.reverse_process import Step
from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.errors import UserError, check_one_of, check_whole
from ddpm_demo.generation.animation import render_noisy_state
from ddpm_demo.ui.data_uri import FAST, decode_uri, encode_picture
from ddpm_demo.ui.runs import Run
from ddpm_demo.ui.turns import Job

HERE = Path(__file__).parent
MAX_FRAMES = 60
CHUNK_SECONDS = 0.09  # frames that are computed within this time are sent together
MAX_PIXELS = 2**24  # of a strip, and of all frames of an animation together
MAX_SIDE = 16383  # of a frame in pixels; a WebP cannot be larger
WRITING = threading.Lock()  # held while an animation is written: Gradio queues no calls of server functions
RUNS = itertools.count(1)
GAP = 1  # pixels between the images of a grid

PANELS = {
    "x": ("xₜ", "the sampler's state: the image so far, with noise"),
    "x0": ("x̂₀", "the network's estimate of the clean image"),
    "eps": ("ε̂", "the estimated noise in xₜ"),
    "guidance": ("guidance", "the direction of guidance: orange brighter, blue darker"),
}
LATENT_PANELS = {
    "x": ("zₜ", "the sampler's state: the channels of the latents so far, with noise"),
    "latents": ("ẑ₀", "the network's estimate of the clean latents"),
    "x0": ("x̂₀", "the image that the autoencoder decodes from them"),
    "guidance": ("guidance", "the direction of guidance in the latents: orange up, blue down"),
}


@dataclass(frozen=True)
class TimedStep:
    """A step, and the seconds of computing until it was finished."""

    step: Step
    seconds: float


def build_player(**options) -> gr.HTML:
    """Create the component. Its value is a film, as ``film`` yields it, or a list with one film."""
    return gr.HTML(None, **read_component("player"), server_functions=[export], **options)


def read_component(name: str) -> dict:
    """Read the three files of a component of this folder, as arguments of gr.HTML."""
    html, css, js = ((HERE / f"{name}.{suffix}").read_text() for suffix in ("html", "css", "js"))
    return {"html_template": html, "css_template": css, "js_on_load": js, "apply_default_css": False}


def film(run: Run, still: bool = False, job: Job | None = None) -> Iterator[dict]:
    """Compute a run and yield the growing film whenever a chunk is complete. The last film is ``done``.

    With ``still``, the player opens on the last frame and does not play. The network calls are charged to ``job``.
    """
    growing, panels, kept = begin_film(run) | {"still": still}, [], set()
    waiting, sent = [], time.perf_counter()
    for timed in time_steps(run.walk(job)):
        step = timed.step
        last = step.index + 1 == step.total
        if not panels:
            panels = choose_panels(step, run.guided)
            kept = spread_evenly(step.total, max(12, min(MAX_FRAMES, 600 // len(step.x0))))
            growing |= {"panels": panels, "count": len(kept)}
        if step.index not in kept:
            continue
        waiting.append(timed)
        if not last and step.index and time.perf_counter() - sent < CHUNK_SECONDS:
            continue
        chunk, (width, height) = make_chunk(waiting, [panel["key"] for panel in panels], run)
        growing = growing | {"width": width, "height": height, "done": last, "chunks": [*growing["chunks"], chunk]}
        waiting, sent = [], time.perf_counter()
        yield growing


def begin_film(run: Run) -> dict:
    """Return the parts of a film that are known before its first step."""
    settings = run.settings
    return {
        "run": new_name(),
        "settings": settings,
        "source": describe_sampler(run.sampling),
        "link": "?" + urlencode({k: f"{v:g}" if isinstance(v, float) else v for k, v in settings.items() if v != ""}),
        "curve": [[step, round(log_snr, 3)] for step, log_snr in enumerate(run.curve)],
        "names": name_images(run),
        "columns": run.columns,
        "gap": GAP,
        "chunks": [],
        "done": False,
    }


def name_images(run: Run) -> list[str]:
    """Return a name for each image of a run: its class, with a number if there are several of the class."""
    classes = [run.model.class_names[label] for label in run.labels or []] or ["image"] * run.images
    return [f"{name} ({k % run.count + 1})" if run.count > 1 else name for k, name in enumerate(classes)]


def time_steps(steps: Iterator[Step]) -> Iterator[TimedStep]:
    """Yield every step with the seconds of computing so far."""
    computing = 0.0
    while True:
        began = time.perf_counter()
        step = next(steps, None)
        computing += time.perf_counter() - began
        if step is None:
            return
        yield TimedStep(step, computing)


def choose_panels(step: Step, guided: bool) -> list[dict]:
    """Return the panels of a run, of images or of latents, with a panel of guidance only if the run is guided."""
    named = PANELS if step.latents is None else LATENT_PANELS
    return [
        {"key": key, "name": name, "meaning": meaning}
        for key, (name, meaning) in named.items()
        if key != "guidance" or guided
    ]


def spread_evenly(total: int, most: int) -> set[int]:
    """Return at most ``most`` of the numbers 0 .. total - 1, evenly spaced, with the first and the last."""
    if total <= most:
        return set(range(total))
    return {round(k * (total - 1) / (most - 1)) for k in range(most)}


def describe_calls(step: Step, sampling: Sampling) -> str:
    """Describe the network calls so far. A guided one may need two estimates, a weaker model or a classifier."""
    if not step.guided:
        return f"{step.nfe}"
    twice = " × 2" if sampling.mixes else ""
    unguided = f"{step.nfe - step.guided} + " if step.guided < step.nfe else ""
    calls = [f"{unguided}{step.guided} × 2 (with, without class)" if sampling.mixes else f"{step.nfe}"]
    calls += [f"{step.guided}{twice} of the weaker model"] if sampling.autoguidance else []
    calls += [f"{step.guided} of the classifier"] if sampling.classifier_scale else []
    return ", ".join(calls)


def make_chunk(steps: list[TimedStep], panels: list[str], run: Run) -> tuple[dict, tuple[int, int]]:
    """Return some frames as a chunk of a film, and the size of a frame."""
    sprites, size = {}, (0, 0)
    for key in panels:
        images = [choose_images(timed.step, key) for timed in steps]
        drawn = [None if image is None else render_grid(image, run.columns, gap=GAP) for image in images]
        known = next((image for image in drawn if image), None)
        if known:
            size = known.size
            nothing = Image.new(known.mode, size, "grey")
            sprites[key] = encode_picture(stack([image or nothing for image in drawn]))
    return {"frames": [describe_frame(timed, run.sampling) for timed in steps], "sprites": sprites}, size


def describe_frame(timed: TimedStep, sampling: Sampling) -> dict:
    """Return the position of a frame, its strength of guidance (RMS), and the numbers that are shown below it."""
    step = timed.step
    return {
        "step": step.index,
        "log_snr": round(step.log_snr, 3),
        "guidance": 0.0 if step.guidance is None else round(step.guidance.square().mean().sqrt().item(), 5),
        "numbers": {
            "step": f"{step.index + 1} of {step.total}",
            "t": f"{step.timestep:.0f}",
            "log-SNR": f"{step.log_snr:+.2f}",
            "computing": f"{timed.seconds:.2f} s",
            "network calls": describe_calls(step, sampling),
        },
    }


def choose_images(step: Step, key: str) -> Tensor | None:
    """Return the images (N, C, H, W), [-1, 1], that a panel shows of a step, or None if it has none."""
    if key == "x":
        return render_noisy_state(step)
    if key == "x0":
        return step.x0
    if key == "latents":
        return tile_channels(step.latents, step.x0.shape[-1])
    if key == "eps":
        return step.eps / 3  # three standard deviations
    if step.guidance is None:
        return None
    latent = step.latents is not None
    return colour_signed(
        tile_channels(step.guidance, step.x0.shape[-1], unit=1, background=0) if latent else step.guidance
    )


def stack(frames: list[Image.Image]) -> Image.Image:
    """Stack pictures of the same size below each other."""
    width, height = frames[0].size
    whole = Image.new(frames[0].mode, (width, height * len(frames)))
    for row, frame in enumerate(frames):
        whole.paste(frame, (0, row * height))
    return whole


def film_pictures(
    pictures: list[tuple[Image.Image, dict]],
    name: str,
    meaning: str,
    total: int | None = None,
    earlier: dict | None = None,
) -> dict:
    """Make a film of finished pictures, each with its numbers, in one panel.

    The film is complete with ``total`` pictures, None for these. ``earlier`` is the film of the first of them, which grows.
    """
    (image, _), total = pictures[0], total or len(pictures)
    film = earlier or {
        "run": new_name(),
        "panels": [{"key": "only", "name": name, "meaning": meaning}],
        "count": total,
        "width": image.width,
        "height": image.height,
        "chunks": [],
    }
    known = sum(len(chunk["frames"]) for chunk in film["chunks"])
    if known < len(pictures):
        frames = [{"step": k, "numbers": numbers} for k, (_, numbers) in enumerate(pictures)][known:]
        sprite = encode_picture(stack([image for image, _ in pictures[known:]]), **FAST)
        film = film | {"chunks": [*film["chunks"], {"frames": frames, "sprites": {"only": sprite}}]}
    return film | {"done": len(pictures) == total}


def new_name() -> str:
    """Return a name that no other film has, even if the server was started again."""
    return f"{time.time_ns() // 10**6:x}-{next(RUNS)}"


def describe_sampler(sampling: Sampling) -> str:
    """Describe the sampler of a run, with its publication."""
    row = SAMPLERS[sampling.sampler]
    return f"{row.title} ({row.source})"


def export(order: dict) -> dict:
    """Answer the browser's order of an animation with its ``uri``, or with the ``error`` as a sentence.

    Gradio would log a raised exception with its traceback and tell the browser nothing about it.
    """
    try:
        return {"uri": animate(order)}
    except gr.Error as error:
        return {"error": error.message}


def animate(order: dict) -> str:
    """Convert a strip of frames, with panels below each other, to an animated GIF or WebP in a data URI.

    ``order`` comes from the browser: the ``strip`` as a data URI, the numbers of ``frames`` and ``panels``, the ``kind``.
    Raises gr.Error for any other order, and while another animation is written.
    """
    if not WRITING.acquire(blocking=False):
        raise gr.Error("another animation is being written: try again in a few seconds", print_exception=False)
    try:
        frames, panels, kind = order["frames"], order["panels"], order["kind"]
        check_whole("frames", frames, 1, 1000)
        check_whole("panels", panels, 1, 8)
        check_one_of("kind", kind, ("gif", "webp"))
        strip = decode_uri(order["strip"], formats=("PNG",), max_pixels=MAX_PIXELS).convert("RGB")
        pictures = cut_strip(strip, frames, panels)
        pause = min(170, max(45, 3000 // frames))
        durations = [pause] * (frames - 1) + [2000]
        moving = {"save_all": True, "append_images": pictures[1:], "loop": 0, "lossless": True, "duration": durations}
        return encode_picture(pictures[0], kind, **moving)
    except (UserError, KeyError, TypeError, ValueError) as error:
        raise gr.Error(f"the animation cannot be written: {error}", print_exception=False) from error
    finally:
        WRITING.release()


def cut_strip(strip: Image.Image, frames: int, panels: int) -> list[Image.Image]:
    """Cut a strip into frames, and enlarge them, each with its panels beside each other.

    Raises UserError if a frame would have no pixels or a side above MAX_SIDE, or all frames more than MAX_PIXELS.
    """
    width, height = strip.width // frames, strip.height // panels
    whole = (width + 4) * panels - 4
    pixels = frames * whole * height
    if not width or not height or max(whole, height) > MAX_SIDE or pixels > MAX_PIXELS:
        size = f"{strip.width} x {strip.height} pixels"
        raise UserError(f"a strip of {size} cannot be cut into {frames} frames of {panels} panels")
    scale = max(1, min(8, 224 // width, isqrt(MAX_PIXELS // pixels), MAX_SIDE // max(whole, height)))
    pictures = []
    for k in range(frames):
        beside = Image.new("RGB", (whole, height), "white")
        for row in range(panels):
            box = (k * width, row * height, (k + 1) * width, (row + 1) * height)
            beside.paste(strip.crop(box), (row * (width + 4), 0))
        pictures.append(beside.resize((whole * scale, height * scale), Image.Resampling.NEAREST))
    return pictures
