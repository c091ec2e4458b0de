"""The Draw tab: your own image, drowned and recovered, completed, or read by the generative model."""

from collections.abc import Iterator

import gradio as gr
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import fitted, picture
from ddpm_demo.errors import UserError, check_one_of, check_whole
from ddpm_demo.generation.begin import Begin, Completion, Enlargement, NoisedImage
from ddpm_demo.generation.zero_shot import Reading, classify
from ddpm_demo.models.partial_image import remove_detail
from ddpm_demo.ui.catalogue import Catalogue, in_words
from ddpm_demo.ui.components.charts import bars
from ddpm_demo.ui.components.pad import drawn, pad, sheet
from ddpm_demo.ui.components.player import film, player
from ddpm_demo.ui.controls import class_choices
from ddpm_demo.ui.runs import ALL, DEFAULTS, Run, as_int, as_seed, as_timestep, columns_for, prepare

HINT = """Draw something, then ask the model about it. **Noise and denoise** it from t = 600 and from t = 900: what
survives? **Complete it**: *mark* a region, or erase half, and let the model paint the rest. **What is it?** asks under
which class the model removes noise best: a classifier that was never trained as one. A checkpoint that takes an image
beside the noise can also **enlarge it**, from a sixteenth of its pixels."""
TASKS = ("Noise and denoise", "Complete it", "What is it?", "Enlarge it")
ANY = "any"
KEEPS = ("all but what I marked", "only the bright strokes")
MAX_DRAWS = 128
BRIGHT = 0.0  # a pixel above this counts as drawn
STEPS, VARIANTS = 25, 4  # of a run here: enough to be clean, and to see what is chance


def build(catalogue: Catalogue, checkpoint: gr.components.Component) -> None:
    """Lay out the tab, wire it, and offer the endpoints ``/complete`` and ``/classify``."""
    gr.Markdown(HINT, elem_classes="hint")
    with gr.Row(elem_classes="layout"):  # as in Generate: a phone stacks pad, result, settings
        with gr.Column(elem_classes="pick"):
            task = gr.Radio(tasks_for(catalogue, ""), value=TASKS[0], label="Task")
            paper = pad(catalogue, marks=True)
            with gr.Row():
                go = gr.Button("Go", variant="primary", min_width=100)
                stop = gr.Button("Stop", min_width=80)
        with gr.Column(elem_classes="view"):
            view = player()
            chart = gr.HTML(visible=False)
        with gr.Column(elem_classes="tune"):
            label = gr.Radio(
                as_choices(catalogue, ""), value=ANY, label="Paint as class", elem_classes="classes",
                info="any: let the model decide",
            )  # fmt: skip
            weight = gr.Slider(0, 8, 1.0, step=0.1, label="Guidance weight w", info="how much it insists on the class")
            t = gr.Slider(0, 999, 700, step=1, label="Noise it up to t", info="999: nothing of it is left")
            keep = gr.Radio(list(KEEPS), value=KEEPS[0], label="Keep", visible=False)
            draws = gr.Slider(4, MAX_DRAWS, 32, step=4, label="Noise draws", info="more: surer, slower", visible=False)
            seed = gr.Number(0, precision=0, minimum=0, maximum=2**31, label="Seed")

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    settings = [paper, task, label, weight, t, keep, draws, seed, checkpoint]

    def run(*values):
        yield from answer(catalogue, *values)

    def fresh(name):
        tasks = gr.update(choices=tasks_for(catalogue, name), value=TASKS[0])
        return sheet(catalogue, name, marks=True), gr.update(choices=as_choices(catalogue, name), value=ANY), tasks

    task.change(shown_for, task, [label, weight, t, keep, draws, view, chart], **quiet)
    started = go.click(run, settings, [view, chart], concurrency_id="network", **quiet)
    stop.click(None, None, None, cancels=[started], queue=False, api_visibility="private")
    checkpoint.change(fresh, checkpoint, [paper, label, task], **quiet)
    api(catalogue)


def api(catalogue: Catalogue) -> None:
    """The endpoints ``/complete`` and ``/classify``."""

    def complete(
        image: Image.Image, mask: Image.Image, class_label: str = ANY, weight: float = 1.0, seed: int = 0
    ) -> Image.Image:
        """The image with the white part of the mask painted anew."""
        model = catalogue.model()
        if image is None or mask is None:
            raise gr.Error("complete needs an image and a mask, white where to paint", print_exception=False)
        known = fitted(image, model.channels, model.image_size)
        keep = fitted(mask, 1, model.image_size)[0] < 0
        run = painted(catalogue, class_label, weight, seed, "", Completion(known, keep))
        *_, step = run.walk()
        return picture(step.x0, columns_for(run.images), height=320)

    def read(image: Image.Image, draws: int = 32, seed: int = 0) -> dict:
        """The classes, the one with the smallest denoising error first."""
        if image is None:
            raise gr.Error("classify needs an image", print_exception=False)
        model = catalogue.model()
        *_, last = readings(catalogue, fitted(image, model.channels, model.image_size), draws, seed, "")
        order = last.errors.argsort().tolist()
        return {
            "label": model.label_names[order[0]],
            "errors": {model.label_names[k]: last.errors[k].item() for k in order},
            "draws": last.draws,
        }

    with gr.Row(visible=False):
        image, mask = gr.Image(type="pil", label="image"), gr.Image(type="pil", label="mask")
        label, weight = gr.Textbox(ANY, label="class_label"), gr.Number(1.0, label="weight")
        draws, seed = gr.Number(32, label="draws"), gr.Number(0, label="seed")
        completed, found = gr.Image(format="png", label="completed"), gr.JSON(label="reading")
        gr.Button().click(
            complete, [image, mask, label, weight, seed], completed, api_name="complete", concurrency_id="network",
            api_description="Four completions of an image, painted anew where the mask is white.",
        )  # fmt: skip
        gr.Button().click(
            read, [image, draws, seed], found, api_name="classify", concurrency_id="network",
            api_description="Which class the generative model reads in an image, by denoising error.",
        )  # fmt: skip


def as_choices(catalogue: Catalogue, name: str) -> list:
    """The classes of a checkpoint, and any."""
    return [choice for choice in class_choices(catalogue.model(name)) if isinstance(choice, str)] + [ANY]


def tasks_for(catalogue: Catalogue, name: str) -> list[str]:
    """What a checkpoint can be asked: to enlarge only where its network takes an image beside x."""
    return [t for t in TASKS if t != TASKS[3] or catalogue.model(name).takes_image]


def shown_for(task: str) -> list[dict]:
    """Which of label, weight, t, keep, draws, player and chart belong to a task."""
    reads, completes = task == TASKS[2], task == TASKS[1]
    visible = [not reads, not reads, task == TASKS[0], completes, reads, not reads, reads]
    return [gr.update(visible=yes) for yes in visible]


def answer(catalogue: Catalogue, paper, task, label, weight, t, keep, draws, seed, checkpoint) -> Iterator[tuple]:
    """(film, chart) as the task goes on."""
    with in_words():
        model = catalogue.model(checkpoint)
        image, marked = drawn(model, paper)
        if task not in tasks_for(catalogue, checkpoint) or keep not in KEEPS:
            raise UserError(f"task is {task!r} and keep is {keep!r}; they must be one of {', '.join(TASKS + KEEPS)}")
        if task == TASKS[2]:
            for reading in readings(catalogue, image, draws, seed, checkpoint):
                yield gr.skip(), ten_bars(reading, model.label_names)
            return
        if task == TASKS[0]:
            begin = NoisedImage(image, float(as_timestep(t)))
        elif task == TASKS[3]:
            begin = Enlargement(remove_detail(image[None])[0][0])
        else:
            kept = ~marked if keep == KEEPS[0] else image.amax(0) > BRIGHT
            if bool(kept.all()):
                raise UserError("nothing is left to paint: mark a region first, or keep only the bright strokes")
            begin = Completion(image, kept)
    run = painted(catalogue, label, weight, seed, checkpoint, begin)
    asked = {"task": task, "class_label": label, "t": t, "seed": seed} | {
        name: run.settings[name] for name in ("weight", "sampler", "schedule", "steps")
    }
    for growing in film(run.walk(), columns_for(run.images), asked, run.curve):
        yield growing | {"link": ""}, gr.skip()


def painted(catalogue: Catalogue, label, weight, seed, checkpoint: str, begin: Begin) -> Run:
    """The run of a few variants that begins from an image; gr.Error for a wrong setting."""
    names = catalogue.model(checkpoint).label_names
    with in_words():
        check_one_of("class_label", label, (*names, ANY))
    free = label == ANY or not names
    settings = DEFAULTS | {
        "class_label": ALL if not names else names[0] if free else label, "weight": -1.0 if free and names else weight,
        "seed": seed, "steps": STEPS, "sampler": "dpm++2m" if isinstance(begin, NoisedImage) else "ddpm", "count": VARIANTS,
        "checkpoint": checkpoint,
    }  # fmt: skip
    return prepare(catalogue, settings, begin)


def readings(catalogue: Catalogue, image: Tensor, draws, seed, checkpoint: str) -> Iterator[Reading]:
    """The reading as it firms up, each part computed while nobody else computes; gr.Error for a wrong setting."""
    with in_words():
        check_whole("draws", draws := as_int("draws", draws), 1, MAX_DRAWS)
        yield from catalogue.compute(classify, checkpoint, image, draws=draws, seed=as_seed(seed))


def ten_bars(reading: Reading, names: tuple[str, ...]) -> str:
    """The reading as bars: the longer, the less error; the whisker is the doubt that is left."""
    worst = reading.excess.max().item() or 1.0
    best = reading.errors.argmin().item()
    values = {
        name: (
            1 - reading.excess[k].item() / worst,
            0.0 if k == best else reading.spread[k].item() / worst,
            f"{reading.errors[k].item():.4f}",
        )
        for k, name in enumerate(names)
    }
    rivals = [k for k in range(len(names)) if k != best]
    doubt = [k for k in rivals if not reading.excess[k] > 2 * reading.spread[k]]
    said = f"It reads a <b>{names[best]}</b>" + (
        f", but {', '.join(names[k] for k in doubt)} cannot be ruled out yet." if doubt else ", beyond doubt."
    )
    chart = bars("Denoising error by class: the longer, the less", values, names[best])
    return (
        f'<div class="reading" data-label="{names[best]}" data-draws="{reading.draws}">{chart}<p class="sentence">{said} '
        f"{reading.draws} of {reading.total} noise draws, each shared by all classes; whiskers: standard error of the "
        "difference to the best.</p></div>"
    )
