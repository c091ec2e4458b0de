"""The Playground tab: diffusion of drawn points in the plane, by the exact denoiser and by a network trained on the spot."""

import random
import threading
from collections.abc import Iterator

import gradio as gr

from ddpm_demo.diffusion.guidance import Denoise
from ddpm_demo.diffusion.points import MOST_POINTS, MOST_SAMPLES, REACH, SHAPES, SPACING, PointCloud, build_shape
from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import LAST_SEED, Sampling
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.errors import UserError, check_whole
from ddpm_demo.ui.catalogue import report_mistakes
from ddpm_demo.ui.components.plane import build_plane, film_points, report_training
from ddpm_demo.ui.components.player import new_name, read_component
from ddpm_demo.ui.events import AT_ONCE, NETWORK
from ddpm_demo.ui.newest import Replaced, begin, end, find
from ddpm_demo.ui.runs import as_int, as_number, as_seed
from ddpm_demo.ui.turns import Job, take_turns

HINT = """The same samplers, schedules and guidance, on points of the plane instead of images. The **ideal** denoiser is
known exactly, and it can only return the points that were drawn. The **learned** one has to guess what lies between them."""
MOST_STEPS = 200
FIRST = "spiral"
FILM, TRAINING = "points", "training"  # the kinds of the requests that draw a film, and that train
WEIGHT_INFO, NO_WEIGHT_INFO = "0: none, -1: no class", "no effect: one class"
KEPT = 64  # trained networks, 0.2 MB each, of the drawings trained on last
NETWORKS: dict[PointCloud, Denoise] = {}
CHANGING = threading.Lock()  # held while they are changed


def build() -> None:
    """Lay out the tab and attach its handlers."""
    gr.Markdown(HINT, elem_classes="hint")
    with gr.Row(elem_classes="playground"):  # the stages first, and on a wide page at the right: see app.css
        with gr.Column(scale=5, min_width=320):
            plane = build_plane()
        with gr.Column(scale=2, min_width=280, elem_classes="tune"):
            drawing = gr.HTML(describe_sheet(), **read_component("drawing"))
            train = gr.Button("Train the network", variant="primary")
            controls = build_controls()

    newest = NETWORK | {"trigger_mode": "always_last"}
    inputs, to_learn = [drawing, *controls.values()], [drawing, controls["samples"]]
    trained = gr.State("")
    drawn = drawing.input(open_drawing, inputs, [plane, controls["weight"]], **newest)
    gr.on([control.input for control in controls.values()], draw_newest, inputs, plane, **newest)
    drawn.then(learn_shape, to_learn, [plane, trained], **NETWORK)
    train.click(learn, to_learn, [plane, trained], **NETWORK)
    trained.change(draw_newest, inputs, plane, **newest)
    drawing.empty(clear, None, plane, **AT_ONCE)


def build_controls() -> dict[str, gr.components.Component]:
    """Create the controls of a run, by the name of their setting."""
    defaults = Sampling()
    controls = {
        "steps": gr.Slider(1, MOST_STEPS, 50, step=1, label="Steps"),
        "weight": gr.Slider(-1, 8, 1, step=0.1, label="Guidance weight w", info=NO_WEIGHT_INFO, interactive=False),
        "sampler": gr.Dropdown(
            [(row.title, name) for name, row in SAMPLERS.items()], value=defaults.sampler, label="Sampler"
        ),
        "schedule": gr.Radio(list(SCHEDULES), value=defaults.schedule, label="Noise schedule", elem_classes="segments"),
    }
    with gr.Accordion("More: number of points, seed", open=False):
        controls["samples"] = gr.Slider(100, MOST_SAMPLES, 1000, step=100, label="Points from noise")
        controls["seed"] = gr.Number(0, precision=0, minimum=0, maximum=LAST_SEED, label="Seed")
    return controls


def describe_sheet() -> dict:
    """Return the first value of the sheet: its shapes, its limits, and the shape that the tab opens with."""
    shapes = {name: build_shape(name).strokes for name in SHAPES}
    limits = {"reach": REACH, "spacing": SPACING, "most": MOST_POINTS}
    return {"shapes": shapes, "chosen": FIRST, "strokes": shapes[FIRST], **limits}


def read_drawing(value: dict) -> PointCloud:
    """Return the points of a sheet. Raises UserError for anything but at most MOST_POINTS points within reach."""
    try:
        strokes = tuple((label, tuple((float(x), float(y)) for x, y in points)) for label, points in value["strokes"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the drawing is damaged ({error!r}): clear it and draw again") from error
    return PointCloud(strokes)


def clear(request: gr.Request) -> dict:
    """End what is computed of a drawing that was cleared. Return the report that there is no training."""
    end(FILM, request)
    end(TRAINING, request)
    return {"training": None}


@report_mistakes()
def draw(drawing: dict, steps, weight, sampler, schedule, samples, seed) -> dict:
    """Return the film of a drawing, by the ideal denoiser and, if there is one, by the network trained on it."""
    cloud = read_drawing(drawing)
    check_whole("steps", steps := as_int("steps", steps), 1, MOST_STEPS)
    check_whole("the number of points", samples := as_int("the number of points", samples), 1, MOST_SAMPLES)
    settings = {"sampler": sampler, "schedule": schedule, "steps": steps, "seed": as_seed(seed)}
    sampling = Sampling(**settings, weight=as_number("weight", weight))
    *_, film = take_turns(film_points(cloud, NETWORKS.get(cloud), sampling, samples), Job(), threads=1)
    return film


def draw_newest(request: gr.Request, *values) -> dict:
    """Return what ``draw`` returns. Raises Replaced if the same page asks for a newer film meanwhile."""
    with begin(FILM, request) as is_newest:
        film = draw(*values)
        if not is_newest():
            raise Replaced
    return film


def open_drawing(request: gr.Request, drawing: dict, *settings) -> tuple[dict, dict]:
    """End the training on another drawing. Return the film of this one, and the update of the guidance weight.

    Guidance needs a drawing of two classes. There is no film if the page asks for a newer one meanwhile.
    """
    with report_mistakes():
        cloud = read_drawing(drawing)
    end(TRAINING, request, unless=cloud)
    try:
        film = draw_newest(request, drawing, *settings)
    except Replaced:
        film = gr.skip()
    guided = len(cloud.names) > 1
    return film, gr.update(interactive=guided, info=WEIGHT_INFO if guided else NO_WEIGHT_INFO)


def learn(drawing: dict, samples, request: gr.Request) -> Iterator[tuple]:
    """Train a network on a drawing, in turns with other users. Yield (report, nothing), and last (report, a new name).

    If the page already trains on this drawing, that training goes on and nothing begins. Its training on another drawing
    ends. If the drawing has a network already, the new one has another seed.
    """
    yield gr.skip(), gr.skip()
    with report_mistakes():
        cloud = read_drawing(drawing)
        check_whole("the number of points", samples := as_int("the number of points", samples), 1, MOST_SAMPLES)
        if find(TRAINING, request) == cloud:
            return
        seed = random.randrange(LAST_SEED) if cloud in NETWORKS else 0
        with begin(TRAINING, request, cloud) as is_newest:
            for report, denoiser in take_turns(report_training(cloud, samples, seed), Job(), threads=1):
                if not is_newest():
                    raise Replaced
                if denoiser:
                    keep(cloud, denoiser)
                if report:
                    yield report, new_name() if denoiser else gr.skip()


def keep(cloud: PointCloud, denoiser: Denoise) -> None:
    """Keep the network that was trained on a drawing, and delete the oldest one beyond KEPT."""
    with CHANGING:
        NETWORKS.pop(cloud, None)  # the order is that of the trainings
        NETWORKS[cloud] = denoiser
        if len(NETWORKS) > KEPT:
            NETWORKS.pop(next(iter(NETWORKS)))


def learn_shape(drawing: dict, samples, request: gr.Request) -> Iterator[tuple]:
    """Do what ``learn`` does if the drawing is one of the shapes and has no network yet."""
    cleared = isinstance(drawing, dict) and drawing.get("strokes") == []  # since it was chosen
    with report_mistakes():
        cloud = None if cleared else read_drawing(drawing)
    if cloud in NETWORKS or cloud not in {build_shape(name) for name in SHAPES}:
        yield gr.skip(), gr.skip()
    else:
        yield from learn(drawing, samples, request)
