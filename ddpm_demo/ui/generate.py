"""The Generate tab: choose, press Generate, watch x_t and the clean estimate side by side."""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from html import escape

import gradio as gr
from PIL import Image

from ddpm_demo.checkpoint import Model
from ddpm_demo.errors import UserError
from ddpm_demo.generation import sample
from ddpm_demo.pictures import noisy_panel, picture
from ddpm_demo.samplers import SAMPLERS, Step
from ddpm_demo.schedule import SCHEDULES

DEFAULTS = {"weight": 1.0, "schedule": "cosine", "sampler": "dpm++2m", "steps": 20, "seed": 0, "count": 1}
ALL = "all"
MAX_COUNT = 8
PACES = ("watch", "as fast as possible")
# Runs of several people take turns step by step: two at once would fight over the same few cores.
NETWORK = threading.Lock()
WATCH_SECONDS = 3.0  # a run at the watching pace takes about this long, and no frame longer than a seventh of a second
FRAMES_PER_SECOND = 30


def build(demo: gr.Blocks, model: Model) -> None:
    """Lay out the tab, wire it, and offer the same as the API endpoint ``/generate``."""
    names = model.label_names
    with gr.Row(elem_classes="layout"):  # three areas, which a phone stacks in this order
        with gr.Column(elem_classes="pick"):
            class_label = gr.Radio(
                [*names, (f"all {spell(len(names))}", ALL)] if names else [ALL],
                value=ALL,
                label="Class",
                elem_classes="classes",
                visible=bool(names),
            )
            with gr.Row():
                go = gr.Button("Generate", variant="primary", min_width=120)
                stop = gr.Button("Stop", interactive=False, min_width=120)
        view = gr.HTML(elem_classes=["view", "viewer"])
        with gr.Column(elem_classes="tune"):
            weight = gr.Slider(
                -1,
                8,
                DEFAULTS["weight"] if names else 0,
                step=0.1,
                label="Guidance weight w",
                info="-1 ignores the class, 0 follows it, more insists on it (diffusers: guidance_scale = 1 + w)",
                visible=bool(names),
            )
            steps = gr.Slider(1, 1000, DEFAULTS["steps"], step=1, label="Steps")
            sampler = gr.Dropdown(
                [(row.title, name) for name, row in SAMPLERS.items()], value=DEFAULTS["sampler"], label="Sampler"
            )
            schedule = gr.Radio(list(SCHEDULES), value=DEFAULTS["schedule"], label="Noise schedule")
            with gr.Row():
                count = gr.Slider(
                    1,
                    MAX_COUNT,
                    DEFAULTS["count"],
                    step=1,
                    label="Images per class" if names else "Images",
                    min_width=200,
                )
                with gr.Column(min_width=110):
                    seed = gr.Number(DEFAULTS["seed"], precision=0, minimum=0, maximum=2**31, label="Seed")
                    dice = gr.Button("🎲 New seed", size="sm")
            pace = gr.Radio(list(PACES), value=PACES[0], label="Pace")

    settings = [class_label, weight, schedule, sampler, steps, seed, count]
    handler = {
        "inputs": [*settings, pace],
        "outputs": [view, go, stop],
        "show_progress": "hidden",
        "api_visibility": "private",
        "concurrency_id": "network",
    }

    def run(*chosen):
        yield from watch(model, *chosen)

    started = go.click(run, **handler)
    opened = demo.load(run, **handler)
    stop.click(buttons_at_rest, None, [go, stop], cancels=[started, opened], queue=False, api_visibility="private")
    dice.click(None, None, seed, js="() => Math.floor(Math.random() * 1e6)")

    def generate(
        class_label: str, weight: float, schedule: str, sampler: str, steps: int, seed: int, count: int
    ) -> tuple[Image.Image, dict]:
        return finished(model, class_label, weight, schedule, sampler, steps, seed, count)

    image, used = gr.Image(format="png", visible=False, label="image"), gr.JSON(visible=False, label="settings")
    gr.Button(visible=False).click(
        generate,
        settings,
        [image, used],
        api_name="generate",
        api_description="Draw images of a class: the finished picture, and the settings it was drawn with.",
        concurrency_id="network",
    )


def spell(number: int) -> str:
    """A small number in words."""
    words = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[number - 2] if 2 <= number <= 10 else str(number)


def buttons_at_rest() -> tuple[dict, dict]:
    """Generate ready, Stop idle."""
    return gr.update(interactive=True), gr.update(interactive=False)


def start(model: Model, class_label, weight, schedule, sampler, steps, seed, count) -> tuple[Iterator[Step], int, dict]:
    """The walk for what a user chose, how many images a row, and the settings in full. gr.Error for a wrong one."""
    names = model.label_names
    try:
        count = as_int("count", count)
        if not 1 <= count <= MAX_COUNT:
            raise UserError(f"count is {count}; it must be a whole number from 1 to {MAX_COUNT}")
        if names and class_label not in (*names, ALL):
            raise UserError(f"class_label is {class_label!r}; it must be one of {', '.join(names)} or {ALL}")
        chosen = range(len(names)) if class_label == ALL else [names.index(class_label)]
        common = {
            "weight": weight,
            "schedule": schedule,
            "sampler": sampler,
            "steps": as_int("steps", steps),
            "seed": as_int("seed", seed),
        }
        if names:
            walk = sample(model, [label for label in chosen for _ in range(count)], **common)
        else:
            walk = sample(model, count=count, **common)
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error
    images = len(chosen) * count if names else count
    return walk, columns_for(images), {"class_label": class_label, **common, "count": count}


def columns_for(images: int) -> int:
    """Images a row: as square as whole rows allow."""
    return next(columns for columns in range(1, images + 1) if columns**2 >= images and images % columns == 0)


def as_int(name: str, value) -> int:
    """3.0 as 3, since JSON and sliders know no integers; UserError for 3.7, text or nothing."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not float(value).is_integer():
        raise UserError(f"{name} is {value!r}; it must be a whole number")
    return int(value)


def watch(model: Model, *chosen) -> Iterator[tuple]:
    """Frames of a run as (html, Generate button, Stop button), thinned to what an eye can follow."""
    *settings, pace = chosen
    walk, columns, used = start(model, *settings)
    pause = min(1 / 7, WATCH_SECONDS / used["steps"]) if pace == PACES[0] else 0.0
    busy = gr.update(interactive=False), gr.update(interactive=True)
    unchanged = gr.skip(), gr.skip()  # a frame that is under way when Stop is pressed must not undo its buttons
    computing, shown, due = 0.0, 0.0, time.perf_counter() - pause
    while True:
        with NETWORK:
            began = time.perf_counter()
            step = next(walk)
            now = time.perf_counter()
        computing, due, last = computing + now - began, due + pause, step.index + 1 == step.total
        if step.index and not last and max(now, due) - shown < 1 / FRAMES_PER_SECOND:
            continue
        time.sleep(max(0.0, due - now))
        shown = time.perf_counter()
        due = max(due, shown)
        buttons = buttons_at_rest() if last else unchanged if step.index else busy
        yield frame(step, columns, computing, used), *buttons
        if last:
            return


def finished(model: Model, *settings) -> tuple[Image.Image, dict]:
    """The picture at the end of a run, without the way there, and its settings."""
    walk, columns, used = start(model, *settings)
    with NETWORK:
        *_, step = walk
    return picture(step.x0, columns, height=320), used | {"guidance_scale": used["weight"] + 1}


def frame(step: Step, columns: int, computing: float, used: dict) -> str:
    """One step as HTML: the two panels and the numbers."""
    guided = step.guidance is not None
    panels = (
        ("x<sub>t</sub>", "what the sampler holds: the image so far, under noise", noisy_panel(step)),
        ("x̂<sub>0</sub>", "what the network believes the clean image is", step.x0),
    )
    drawn = "".join(
        f'<div class="panel"><img alt="{escape(meaning)}" decoding="sync" src="{data_uri(picture(images, columns))}">'
        f'<p class="meaning"><b>{title}</b>, {meaning}</p></div>'
        for title, meaning, images in panels
    )
    numbers = (
        ("step", f"{step.index + 1} of {step.total}"),
        ("t", f"{step.timestep:.0f}"),
        ("log-SNR", f"{step.log_snr:+.2f}"),
        ("computing", f"{computing:.2f} s"),
        ("network calls", f"{step.nfe}{' (each with and without the class)' if guided else ''}"),
    )
    method = SAMPLERS[used["sampler"]]
    listed = "".join(f"<div><span>{name}</span> {value}</div>" for name, value in numbers)
    return (
        f"<figure data-step='{step.index + 1}' data-settings='{escape(json.dumps(used), quote=True)}'>"
        f'<div class="panels">{drawn}</div>'
        f'<progress value="{step.index + 1}" max="{step.total}" aria-label="step"></progress>'
        f'<figcaption><div class="numbers">{listed}</div>'
        f'<p class="source">{method.title} ({method.source})</p></figcaption></figure>'
    )


def data_uri(image: Image.Image) -> str:
    """A lossless PNG that needs no further request."""
    buffer = io.BytesIO()
    image.save(buffer, "png", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
