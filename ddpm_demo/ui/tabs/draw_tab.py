"""The Draw tab: the model denoises, completes, classifies or enlarges an image of the user."""

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import fit_image, render_grid
from ddpm_demo.diffusion.sampling import LAST_SEED
from ddpm_demo.errors import UserError, check_one_of, check_whole
from ddpm_demo.generation.begin import Begin, Completion, Enlargement, NoisedImage
from ddpm_demo.generation.zero_shot import Reading, classify
from ddpm_demo.models.partial_image import remove_detail
from ddpm_demo.ui.catalogue import Catalogue, report_mistakes
from ddpm_demo.ui.components.charts import draw_bars
from ddpm_demo.ui.components.pad import build_pad, fill_pad, read_pad
from ddpm_demo.ui.components.player import build_player, film
from ddpm_demo.ui.components.upload import build_upload
from ddpm_demo.ui.controls import list_classes
from ddpm_demo.ui.events import NETWORK, QUIET, add_endpoint, stop_with
from ddpm_demo.ui.examples import show_example
from ddpm_demo.ui.newest import answer_newest
from ddpm_demo.ui.rendering import render
from ddpm_demo.ui.runs import ALL, Run, as_int, as_seed, as_timestep, prepare

HINT = """Draw something, then choose a task. **Noise and denoise** (SDEdit): what remains of the drawing from t = 600,
and what from t = 900? **Complete it** (inpainting): press *Mark*, paint over the region that the model replaces, and press *Go*.
**What is it?** shows for which class the denoising error is smallest: the model classifies without being trained for it. A
checkpoint that takes an image as a further input can also **enlarge it** (super-resolution), from a sixteenth of its pixels. A
distilled model can only draw from noise, so the model that it was distilled from is used here."""
TASKS = ("Noise and denoise", "Complete it", "What is it?", "Enlarge it")
RENOISE, COMPLETE, READ, ENLARGE = TASKS
ANY = "any"
KEEPS = ("all but what I marked", "only the bright strokes")
MAX_DRAWS = 128
BRIGHT = 0.0  # a pixel above this counts as drawn
STEPS, VARIANTS = 25, 4  # of every run in this tab


@dataclass(frozen=True)
class Question:
    """The values of the tab's controls, in their order."""

    drawing: dict  # the value of the pad
    task: str
    label: str
    weight: float
    t: float
    keep: str
    draws: float
    seed: float
    checkpoint: str


@dataclass(frozen=True)
class Layout:
    """The components of the tab that have handlers."""

    inputs: dict[str, gr.components.Component]  # by the fields of Question, without the checkpoint
    go: gr.Button
    stop: gr.Button
    player: gr.HTML
    chart: gr.HTML


def build(tab: gr.Tab, catalogue: Catalogue, checkpoint: gr.components.Component) -> None:
    """Lay out the tab, attach its handlers, and offer the endpoints ``/complete`` and ``/classify``."""
    gr.Markdown(HINT, elem_classes="hint")
    layout = lay_out(catalogue)
    inputs = layout.inputs

    def run(*values):
        *others, checkpoint = values
        yield from answer(catalogue, Question(*others, catalogue.find_base(checkpoint)))

    def refill(name):
        name = catalogue.find_base(name)
        tasks = gr.update(choices=list_tasks(catalogue, name), value=RENOISE)
        labels = gr.update(choices=list_labels(catalogue, name), value=ANY)
        return fill_pad(catalogue, name, marks=True), labels, tasks

    shown = [inputs[name] for name in ("label", "weight", "t", "keep", "draws")]
    inputs["task"].change(show_controls, inputs["task"], [*shown, layout.player, layout.chart], **QUIET)
    values, outputs = [*inputs.values(), checkpoint], [layout.player, layout.chart]

    def start(request: gr.Request, *values):
        yield from answer_newest(tab.elem_id, request, run(*values))

    example = show_example(tab, catalogue, run, values, outputs)
    started = layout.go.click(start, values, outputs, **NETWORK)
    stop_with(layout.stop, started, example)
    checkpoint.change(refill, checkpoint, [inputs["drawing"], inputs["label"], inputs["task"]], **QUIET)
    offer_completion(catalogue)
    offer_classification(catalogue)


def lay_out(catalogue: Catalogue) -> Layout:
    """Create the components in three areas, as in Generate, which a phone shows below each other in this order."""
    with gr.Row(elem_classes="layout"):
        with gr.Column(elem_classes="pick"):
            task = gr.Radio(list_tasks(catalogue, ""), value=RENOISE, label="Task")
            drawing = build_pad(catalogue, marks=True)
            with gr.Row():
                go = gr.Button("Go", variant="primary", min_width=100)
                stop = gr.Button("Stop", min_width=80)
        with gr.Column(elem_classes="view"):
            player = build_player()
            chart = gr.HTML(visible=False)
        with gr.Column(elem_classes="tune"):
            label = gr.Radio(
                list_labels(catalogue, ""),
                value=ANY,
                label="Paint as class",
                elem_classes="classes",
                info="any: no class and no guidance",
            )
            weight = gr.Slider(0, 8, 1.0, step=0.1, label="Guidance weight w", info="no effect if the class is any")
            t = gr.Slider(0, 999, 700, step=1, label="Noise it up to t", info="999: only noise is left")
            keep = gr.Radio(list(KEEPS), value=KEEPS[0], label="Keep", visible=False)
            draws = gr.Slider(4, MAX_DRAWS, 32, step=4, label="Noise draws", info="more: better, slower", visible=False)
            seed = gr.Number(0, precision=0, minimum=0, maximum=LAST_SEED, label="Seed")
    inputs = {
        "drawing": drawing,
        "task": task,
        "label": label,
        "weight": weight,
        "t": t,
        "keep": keep,
        "draws": draws,
        "seed": seed,
    }
    return Layout(inputs, go, stop, player, chart)


def offer_completion(catalogue: Catalogue) -> None:
    """Offer the endpoint ``/complete``."""

    def complete_image(
        image: Image.Image, mask: Image.Image, class_label: str = ANY, weight: float = 1.0, seed: int = 0
    ) -> Image.Image:
        """Return the image with newly generated content where the mask is white."""
        model = catalogue.model()
        if image is None or mask is None:
            raise gr.Error("complete needs an image and a mask, white where to paint", print_exception=False)
        known = fit_image(image, model.channels, model.image_size)
        keep = fit_image(mask, 1, model.image_size)[0] < 0
        settings = {"class_label": class_label, "weight": weight, "seed": seed, "checkpoint": ""}
        run = prepare_variants(catalogue, settings, Completion(known, keep))
        *_, step = run.walk()
        return render_grid(step.x0, run.columns, height=320)

    inputs = [
        build_upload("image"),
        build_upload("mask"),
        gr.Textbox(ANY, label="class_label", render=False),
        gr.Number(1.0, label="weight", render=False),
        gr.Number(0, label="seed", render=False),
    ]
    outputs = [gr.Image(format="png", label="completed", render=False)]
    add_endpoint(
        "complete",
        complete_image,
        inputs,
        outputs,
        "Returns four completions of an image, newly generated where the mask is white.",
    )


def offer_classification(catalogue: Catalogue) -> None:
    """Offer the endpoint ``/classify``."""

    def classify_image(image: Image.Image, draws: int = 32, seed: int = 0) -> dict:
        """Return the denoising errors of the classes, the smallest first."""
        if image is None:
            raise gr.Error("classify needs an image", print_exception=False)
        model = catalogue.model()
        *_, last = read_image(catalogue, fit_image(image, model.channels, model.image_size), draws, seed, "")
        order = last.errors.argsort().tolist()
        return {
            "label": model.label_names[order[0]],
            "errors": {model.label_names[k]: last.errors[k].item() for k in order},
            "draws": last.draws,
        }

    inputs = [
        build_upload("image"),
        gr.Number(32, label="draws", render=False),
        gr.Number(0, label="seed", render=False),
    ]
    outputs = [gr.JSON(label="reading", render=False)]
    add_endpoint(
        "classify",
        classify_image,
        inputs,
        outputs,
        "Returns the class of an image for which the model's denoising error is smallest.",
    )


def list_labels(catalogue: Catalogue, name: str) -> list:
    """Return the classes of a checkpoint, followed by ``ANY``."""
    return [choice for choice in list_classes(catalogue.model(name)) if isinstance(choice, str)] + [ANY]


def list_tasks(catalogue: Catalogue, name: str) -> list[str]:
    """Return the tasks of a checkpoint. Only a network that takes an image beside x can enlarge."""
    return [task for task in TASKS if task != ENLARGE or catalogue.model(name).takes_image]


def show_controls(task: str) -> list[dict]:
    """Show which of label, weight, t, keep, draws, player and chart belong to a task, and hide the others."""
    reads = task == READ
    visible = [not reads, not reads, task == RENOISE, task == COMPLETE, reads, not reads, reads]
    return [gr.update(visible=yes) for yes in visible]


def answer(catalogue: Catalogue, question: Question) -> Iterator[tuple]:
    """Yield (film, chart) while the task is computed."""
    task, keep = question.task, question.keep
    with report_mistakes():
        model = catalogue.model(question.checkpoint)
        image, marked = read_pad(model, question.drawing)
        if task not in list_tasks(catalogue, question.checkpoint) or keep not in KEEPS:
            raise UserError(f"task is {task!r} and keep is {keep!r}; they must be one of {', '.join(TASKS + KEEPS)}")
        if task == READ:
            for reading in read_image(catalogue, image, question.draws, question.seed, question.checkpoint):
                yield gr.skip(), draw_reading(reading, model.label_names)
            return
        begin = choose_begin(question, image, marked)
    settings = {
        "class_label": question.label,
        "weight": question.weight,
        "seed": question.seed,
        "checkpoint": question.checkpoint,
    }
    run = prepare_variants(catalogue, settings, begin)
    used = ("weight", "sampler", "schedule", "steps")
    about = {"task": task, "class_label": question.label, "t": question.t, "seed": question.seed}
    about |= {name: run.settings[name] for name in used}
    for growing in film(run):
        yield growing | {"settings": about, "link": ""}, gr.skip()


def choose_begin(question: Question, image: Tensor, marked: Tensor) -> Begin:
    """Return how the run of a task begins, for an image (C, H, W) and its marked region (H, W).

    Raises UserError for a wrong timestep, or if nothing is left to paint.
    """
    if question.task == RENOISE:
        return NoisedImage(image, float(as_timestep(question.t)))
    if question.task == ENLARGE:
        return Enlargement(remove_detail(image[None])[0][0])
    kept = ~marked if question.keep == KEEPS[0] else image.amax(0) > BRIGHT
    if bool(kept.all()):
        raise UserError("nothing is left to paint: mark a region first, or keep only the bright strokes")
    return Completion(image, kept)


def prepare_variants(catalogue: Catalogue, settings: dict, begin: Begin) -> Run:
    """Prepare a run of several variants that begins from an image. Raises gr.Error for a wrong setting."""
    names = catalogue.model(settings["checkpoint"]).label_names
    label = settings["class_label"]
    with report_mistakes():
        check_one_of("class_label", label, (*names, ANY))
    sampler = "dpm++2m" if isinstance(begin, NoisedImage) else "ddpm"
    settings = settings | {"steps": STEPS, "sampler": sampler, "count": VARIANTS}
    if not names:
        settings["class_label"] = ALL
    elif label == ANY:
        settings |= {"class_label": names[0], "weight": -1.0}
    return prepare(catalogue, settings, begin)


def read_image(catalogue: Catalogue, image: Tensor, draws, seed, checkpoint: str) -> Iterator[Reading]:
    """Classify an image (C, H, W), and yield each more certain reading. Raises gr.Error for a wrong setting."""
    with report_mistakes():
        check_whole("draws", draws := as_int("draws", draws), 1, MAX_DRAWS)
        yield from catalogue.compute(classify, checkpoint, image, draws=draws, seed=as_seed(seed))


def draw_reading(reading: Reading, names: tuple[str, ...]) -> str:
    """Draw the reading as bars: a longer bar is a smaller error; the whisker is its uncertainty."""
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
    return render(
        "reading.html",
        chart=draw_bars("Denoising error by class (longer bar: smaller error)", values, names[best]),
        best=names[best],
        possible=[names[k] for k in rivals if not reading.excess[k] > 2 * reading.spread[k]],
        draws=reading.draws,
        total=reading.total,
    )
