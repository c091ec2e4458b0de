"""The Noise pad tab: a user moves through noise space, and a distilled model draws the image at every place at once."""

from collections.abc import Callable

import gradio as gr
from torch import Tensor

from ddpm_demo.data.images import render_grid
from ddpm_demo.diffusion.sampling import ALWAYS
from ddpm_demo.errors import UserError
from ddpm_demo.generation.begin import MixedNoise
from ddpm_demo.generation.generate import sample
from ddpm_demo.ui.catalogue import Catalogue, report_mistakes
from ddpm_demo.ui.components.player import read_component
from ddpm_demo.ui.data_uri import encode_picture
from ddpm_demo.ui.events import QUIET
from ddpm_demo.ui.runs import prepare
from ddpm_demo.ui.tabs import generate_tab
from ddpm_demo.ui.turns import check_budget

HINT = """Each corner of the pad is the noise of one seed, and each place between them a mixture of the four. **Drag** over
the pad: a distilled model draws the image of every place in one network call. **Open in Generate**, or a click on a
corner's picture, opens that noise in **Generate**, where the model with many steps draws it."""
MISSING = """This tab needs a distilled model, which draws an image in one network call. Train one from a checkpoint with

    python train.py --distill checkpoints/mnist"""
MOST_PLACES = 64
FIRST_SEEDS = (0, 1, 2, 3)
ALWAYS_GUIDED = {"interval_from": ALWAYS[0], "interval_to": ALWAYS[1]}  # as a distilled model is


def build(catalogue: Catalogue, checkpoint: gr.Dropdown, generate: generate_tab.Layout, tabs: gr.Tabs) -> None:
    """Lay out the tab and attach its handlers. ``generate`` is the layout of Generate, one of the ``tabs``.

    The pad draws by the model distilled from the ``checkpoint`` in use. If none was, the pad keeps its present model.
    """
    pairs = (catalogue.find_pair(name) for name in ("", *catalogue.teachers))
    pair = next((pair for pair in pairs if pair), None)
    if not pair:
        gr.Markdown(MISSING)
        return
    gr.Markdown(HINT, elem_classes="hint")

    def follow_checkpoint(name):
        pair = catalogue.find_pair(name)
        return describe_pad(catalogue, pair[1]) if pair else gr.skip()

    def draw(order: dict) -> dict:
        return answer("uri", draw_places, catalogue, order)

    def compare(order: dict) -> dict:
        return answer("pictures", compare_calls, catalogue, order)

    pad = gr.HTML(describe_pad(catalogue, pair[1]), **read_component("noise_pad"), server_functions=[draw, compare])

    def open_noise(event: gr.EventData):
        settings = choose_settings(catalogue, event._data)
        instant, updates = generate_tab.update_controls(catalogue, settings)
        return gr.update(selected="generate"), instant, *updates.values()

    checkpoint.change(follow_checkpoint, checkpoint, pad, **QUIET)
    opened = pad.open(open_noise, None, [tabs, generate.instant, *generate.inputs], **QUIET)
    generate_tab.describe_and_run_after(opened, catalogue, generate)


def answer(name: str, work: Callable, *arguments) -> dict:
    """Answer the browser with the result of the work by its name, or with the ``error`` as a sentence, as in player.py."""
    try:
        return {name: work(*arguments)}
    except gr.Error as error:
        return {"error": error.message}


def describe_pad(catalogue: Catalogue, student: str) -> dict:
    """Return the value of the pad for a distilled checkpoint: its choices, and what it shows first."""
    model = catalogue.model(student)
    known = model.distilled
    return {
        "checkpoint": student,
        "names": list(model.label_names),
        "class_label": model.label_names[min(3, len(model.label_names) - 1)],
        "steps": list(known.steps),
        "weight": {
            "lowest": known.lowest,
            "highest": known.highest,
            "spacing": known.spacing,
            "value": model.sampling.weight,
        },
        "seeds": list(FIRST_SEEDS),
    }


def read_order(order: dict) -> tuple[dict, MixedNoise]:
    """Return the settings and the start that the browser asks for. Raises UserError for anything wrong."""
    try:
        settings = {name: order[name] for name in ("checkpoint", "class_label", "weight", "steps")}
        places = tuple((float(u), float(v)) for u, v in order["places"])
        begin = MixedNoise(tuple(int(seed) for seed in order["seeds"]), places)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the order to the noise pad is incomplete: {error!r}") from error
    if not 1 <= len(places) <= MOST_PLACES:
        raise UserError(f"the noise pad draws from 1 to {MOST_PLACES} places at once, not {len(places)}")
    return settings, begin


def draw_images(catalogue: Catalogue, settings: dict, begin: MixedNoise) -> Tensor:
    """Return the finished images (N, C, H, W) of one class, one for each place."""
    run = prepare(catalogue, settings)
    if run.images != 1:
        raise UserError("the noise pad draws one class at a time")
    check_budget(len(begin.places) * run.evaluations)
    labels = run.labels and run.labels * len(begin.places)
    count = None if labels else len(begin.places)
    *_, step = catalogue.compute(sample, run.checkpoint, labels, count=count, begin=begin, sampling=run.sampling)
    return step.x0


@report_mistakes()
def draw_places(catalogue: Catalogue, order: dict) -> str:
    """Draw the images of all places of an order, as one picture in a data URI."""
    settings, begin = read_order(order)
    if not catalogue.model(settings["checkpoint"]).distilled:
        raise UserError("the noise pad draws by a distilled model")
    images = draw_images(catalogue, settings, begin)
    columns = max(1, round(len(images) ** 0.5))
    return encode_picture(render_grid(images, columns, gap=0))


@report_mistakes()
def compare_calls(catalogue: Catalogue, order: dict) -> list[dict]:
    """Draw one place by the distilled model with each of its numbers of steps, and by its teacher with its own steps."""
    settings, begin = read_order(order)
    model = catalogue.model(settings["checkpoint"])
    if not model.distilled or len(begin.places) != 1:
        raise UserError("the comparison needs a distilled checkpoint and one place")
    pictures = []
    for steps in model.distilled.steps:
        images = draw_images(catalogue, settings | {"steps": steps}, begin)
        pictures.append({"calls": steps, "uri": encode_picture(render_grid(images, 1, gap=0))})
    name = catalogue.teachers[settings["checkpoint"]]
    teacher = {"checkpoint": name, "steps": catalogue.model(name).sampling.steps} | ALWAYS_GUIDED
    run = prepare(catalogue, settings | teacher)
    images = draw_images(catalogue, settings | teacher, begin)
    pictures.append({"calls": run.evaluations, "uri": encode_picture(render_grid(images, 1, gap=0))})
    return pictures


@report_mistakes()
def choose_settings(catalogue: Catalogue, order: dict) -> dict:
    """Return the settings of Generate that draw the noise of one ``seed``, or of one ``place``, by the teacher."""
    settings = {name: order[name] for name in ("class_label", "weight", "seed", "place") if name in order}
    return prepare(
        catalogue, settings | ALWAYS_GUIDED | {"checkpoint": catalogue.teachers[order["checkpoint"]]}
    ).settings
