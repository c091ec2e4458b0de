"""The Compare tab: a grid that compares two settings with the same noise, and any two of its runs under a wipe.

A click on a cell compares it with the top of its column, and opens its run in the player.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial

import gradio as gr
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import render_grid
from ddpm_demo.diffusion.sampling import ALWAYS, Sampling
from ddpm_demo.errors import UserError, check_one_of
from ddpm_demo.generation.generate import sample
from ddpm_demo.ui.catalogue import Catalogue, report_mistakes
from ddpm_demo.ui.components.pad import decode_small_picture
from ddpm_demo.ui.components.player import build_player, film, new_name, read_component, spread_evenly, stack
from ddpm_demo.ui.controls import Controls
from ddpm_demo.ui.data_uri import encode_picture
from ddpm_demo.ui.events import AT_ONCE, NETWORK, QUIET, add_endpoint, stop_with
from ddpm_demo.ui.examples import show_example
from ddpm_demo.ui.newest import answer_newest
from ddpm_demo.ui.runs import ALL, DEFAULTS, prepare
from ddpm_demo.ui.turns import Job, check_budget

HINT = """All runs have the settings of **Generate** that you do not vary, its seed included. If all classes are chosen there, a
single one is compared here. **Drag the line** between run A and run B. Click a cell to compare it with the
top of its column, and to play it below."""
MAX_CELLS = 120
EXAMPLE = ("weight", [0, 1, 4], "steps", [3, 8, 20])  # the grid that is drawn when the tab is opened
PAIRS = {  # name -> the grid that compares two values, for several noises
    "1 step or 20": ("steps", [1, 20], "seed", list(range(4))),
    "w = 0 or 4": ("weight", [0, 4], "seed", list(range(4))),
    "DDIM or DDPM": ("sampler", ["ddim", "ddpm"], "seed", list(range(4))),
}
STEPS_SHOWN = 8  # of the run of a cell, evenly spaced, in the wipe
GAP, ZOOM = 2, 3  # pixels between the cells of the API's picture, and its magnification


@dataclass(frozen=True)
class Axis:
    """An axis of the grid: its values, those chosen at first, their parser, and whether a row can be one batch."""

    offered: Callable[[Catalogue, str], list]  # function of the catalogue and the checkpoint
    first: Callable[[Catalogue, str], list]
    parse: Callable[[str], object] = str
    batched: bool = False


def list_classes(catalogue: Catalogue, name: str = "") -> list[str]:
    """Return the labels of a checkpoint."""
    return list(catalogue.model(name).label_names)


def choose_example(catalogue: Catalogue, name: str = "") -> str:
    """Return the class to compare if none was chosen: the fourth, because a 3 shows more detail than a 0."""
    names = list_classes(catalogue, name)
    return names[min(3, len(names) - 1)] if names else ALL


def list_checkpoints(catalogue: Catalogue, name: str = "") -> list[str]:
    """Return the names of all checkpoints."""
    return catalogue.names


def list_alike(catalogue: Catalogue, name: str = "") -> list[str]:
    """Return the checkpoints with the same classes as the checkpoint ``name``."""
    return [other for other in catalogue.names if list_classes(catalogue, other) == list_classes(catalogue, name)]


def offer_always(values) -> Callable[[Catalogue, str], list]:
    """Return a function that offers the same values for every checkpoint."""
    return lambda catalogue, name: list(values)


def spread_values(lowest: float, highest: float, count: int = 5) -> list[float]:
    """Return values from lowest to highest: evenly spaced, or in equal ratios if highest / lowest is at least 100."""
    shares = [k / (count - 1) for k in range(count)]
    if lowest > 0 and highest / lowest >= 100:
        return [float(f"{lowest * (highest / lowest) ** share:.3g}") for share in shares]
    return [float(f"{lowest + (highest - lowest) * share:.3g}") for share in shares]


# Values that are preferred to evenly spaced ones: (offered, chosen at first).
VALUES = {
    "weight": ((-1, 0, 0.5, 1, 2, 4, 8), (-1, 0, 1, 2, 4, 8)),
    "classifier_scale": ((0, 0.5, 1, 2, 4, 8, 16), (0, 1, 2, 4, 8)),
    "autoguidance": ((0, 0.25, 0.5, 1, 1.5, 2, 3), (0, 0.5, 1, 2)),
    "steps": ((1, 2, 3, 4, 5, 8, 10, 16, 20, 50, 100, 200), (3, 5, 8, 12, 20, 50)),
    "seed": (range(10), range(6)),
}


def build_axis(name: str) -> Axis:
    """Build the axis of a sampling parameter from the metadata of its field."""
    field = next((field for field in fields(Sampling) if field.name == name), None)
    limits = field.metadata if field else {}  # an end of the interval has no field of its own
    if "names" in limits:
        return Axis(offer_always(limits["names"]), offer_always(limits["names"]))
    spread = spread_values(limits.get("lowest", ALWAYS[0]), limits.get("highest", ALWAYS[1]))
    offered, first = VALUES.get(name, (spread, spread))
    return Axis(offer_always(offered), offer_always(first), type(DEFAULTS[name]), batched=name == "seed")


FIRST_AXES = ("weight", "classifier_scale", "autoguidance", "schedule", "sampler", "steps", "seed")
OTHERS = ("class_label", "count", "checkpoint", "place")  # settings with an axis of another kind, or without one
AXES = {
    "class": Axis(list_classes, list_classes, batched=True),
    **{name: build_axis(name) for name in FIRST_AXES},
    "checkpoint": Axis(list_checkpoints, list_alike),
    **{name: build_axis(name) for name in DEFAULTS if name not in (*FIRST_AXES, *OTHERS)},
}
OWN = ("class", "checkpoint")  # axes whose values depend on the checkpoint
SETTING = {"class": "class_label"}  # axes whose name differs from that of their setting


def build(tab: gr.Tab, catalogue: Catalogue, controls: Controls) -> None:
    """Lay out the tab, attach its handlers, and offer the endpoint ``/compare``. ``controls`` are those of Generate."""
    gr.Markdown(HINT, elem_classes="hint")
    with gr.Row(elem_classes="layout"):
        with gr.Column(elem_classes="pick"):
            down = build_picker(catalogue, controls["checkpoint"], "Down", *EXAMPLE[:2])
            across = build_picker(catalogue, controls["checkpoint"], "Across", *EXAMPLE[2:])
            with gr.Row():
                go = gr.Button("Fill the grid", variant="primary", min_width=120)
                stop = gr.Button("Stop", min_width=80)
        with gr.Column(elem_classes="view"):
            with gr.Row(elem_classes="pairs"):
                pairs = {gr.Button(name, size="sm", min_width=80): axes for name, axes in list_pairs(catalogue).items()}
            grid = gr.HTML(None, **read_component("grid"))
            player = build_player(visible=False)
    pickers = [*down, *across]
    asked = gr.State({})  # the plan of the grid on the page of one user

    def run(request: gr.Request, *values):
        axes, settings = values[: len(pickers)], dict(zip(controls, values[len(pickers) :]))
        yield from answer_newest(tab.elem_id, request, fill_grid(catalogue, *axes, settings))

    def draw_small(*values):
        settings = dict(zip(controls, values))  # a distilled model does not know the steps of the example
        base = {"checkpoint": catalogue.find_base(settings["checkpoint"])}
        yield from fill_grid(catalogue, *EXAMPLE, settings | base)

    def play(asked, event: gr.EventData, request: gr.Request):
        yield from answer_newest("cell", request, open_cell(catalogue, asked, event.row, event.column))

    inputs, outputs = [*pickers, *controls.values()], [grid, asked]
    example = show_example(tab, catalogue, draw_small, [*controls.values()], outputs)
    paired = [
        button.click(partial(fill_pickers, catalogue, axes), None, pickers, **AT_ONCE).then(
            run, inputs, outputs, **NETWORK
        )
        for button, axes in pairs.items()
    ]
    started = go.click(run, inputs, outputs, **NETWORK)
    stop_with(stop, started, example, *paired, grid.open(play, asked, player, **NETWORK))
    offer_endpoint(catalogue)


def list_pairs(catalogue: Catalogue) -> dict[str, tuple]:
    """Return the pairs to compare: a name, and the axes and values of its grid. Each distilled model is in one of them."""
    return PAIRS | {
        f"{teacher} or {student}": ("checkpoint", [teacher, student], "steps", [16, 4, 1])
        for student, teacher in catalogue.teachers.items()
    }


def fill_pickers(catalogue: Catalogue, axes: tuple) -> list:
    """Return the updates of the four dropdowns that choose the axes and values of a pair."""
    updates = []
    for axis, values in (axes[:2], axes[2:]):
        updates += [axis, gr.update(**choose_values(catalogue, axis, values))]
    return updates


def build_picker(
    catalogue: Catalogue, checkpoint: gr.components.Component, label: str, axis: str, first: list
) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Create the dropdowns in which a user chooses an axis and its values, with the values of the first grid chosen."""
    which = gr.Dropdown(list(AXES), value=axis, label=label)
    values = gr.Dropdown(
        multiselect=True, allow_custom_value=True, label="Values", **choose_values(catalogue, axis, first)
    )

    def change_axis(axis, name):
        return gr.update(**list_values(catalogue, axis, name))

    def change_checkpoint(axis, name):
        return change_axis(axis, name) if axis in OWN else gr.skip()

    inputs = [which, checkpoint]
    which.input(change_axis, inputs, values, api_visibility="private")
    checkpoint.change(change_checkpoint, inputs, values, **QUIET)
    return which, values


def offer_endpoint(catalogue: Catalogue) -> None:
    """Offer the endpoint ``/compare``."""

    def compare(
        down: str = "sampler",
        down_values: str = "ddpm, ddim, dpm++2m",
        across: str = "steps",
        across_values: str = "5, 10, 20",
        settings: dict | None = None,
    ) -> tuple[Image.Image, dict]:
        common = {"class_label": choose_example(catalogue), "checkpoint": ""}
        values = [[part.strip() for part in str(text).split(",")] for text in (down_values, across_values)]
        if settings is not None and not isinstance(settings, dict):
            raise gr.Error(f"settings is {settings!r}; it must be an object of settings", print_exception=False)
        strange = set(settings or {}) - set(DEFAULTS)
        if strange:
            raise gr.Error(
                f"settings names {', '.join(sorted(strange))}; it may name {', '.join(DEFAULTS)}", print_exception=False
            )
        return draw_grid(catalogue, down, values[0], across, values[1], common | (settings or {}))

    inputs = [
        gr.Textbox("sampler", label="down", render=False),
        gr.Textbox("ddpm, ddim, dpm++2m", label="down_values", render=False),
        gr.Textbox("steps", label="across", render=False),
        gr.Textbox("5, 10, 20", label="across_values", render=False),
        gr.JSON(None, label="settings", render=False),
    ]
    outputs = [gr.Image(format="png", label="grid", render=False), gr.JSON(label="about", render=False)]
    description = (
        "Compares two settings with the same noise. Returns the grid and its cost. "
        f"An axis is one of {', '.join(AXES)}; values are separated by commas."
    )
    add_endpoint("compare", compare, inputs, outputs, description)


def list_values(catalogue: Catalogue, axis: str, checkpoint: str = "") -> dict:
    """Return the choices and the first values of an axis, as text, for a checkpoint."""
    return {
        "choices": [f"{value}" for value in AXES[axis].offered(catalogue, checkpoint)],
        "value": [f"{value}" for value in AXES[axis].first(catalogue, checkpoint)],
    }


def choose_values(catalogue: Catalogue, axis: str, values: list) -> dict:
    """Return the choices of an axis, with these values chosen, as text."""
    return list_values(catalogue, axis) | {"value": [f"{value}" for value in values]}


def plan_grid(catalogue: Catalogue, down, down_values, across, across_values, settings: dict) -> dict:
    """Plan the grid that a user requests, with all settings of each cell. Raises UserError for a wrong value."""
    for side, name in (("down", down), ("across", across)):
        check_one_of(side, name, AXES)
    if down == across:
        raise UserError(f"both axes are {down}: choose two different ones")
    rows, columns = parse_values(down, down_values), parse_values(across, across_values)
    if len(rows) * len(columns) > MAX_CELLS:
        raise UserError(f"{len(rows)} x {len(columns)} cells are too many: at most {MAX_CELLS}")
    names = SETTING.get(down, down), SETTING.get(across, across)
    common = settings | {"count": 1} | ({"place": ""} if "seed" in names else {})  # else the seed would change nothing
    cells = [[common | {names[0]: row, names[1]: column} for column in columns] for row in rows]
    if "class" not in (down, across):
        cells = [[choose_class(catalogue, cell, common) for cell in line] for line in cells]
    return {"axes": [down, across], "rows": rows, "columns": columns, "cells": cells}


def parse_values(axis: str, values) -> list:
    """Parse the values of an axis from text. Raises UserError if there are none or one is wrong."""
    if not values:
        raise UserError(f"{axis} has no values: choose at least one")
    if axis == "class" and ALL in values:
        raise UserError(f"class holds {ALL!r}, but a cell shows one class: name the classes")
    try:
        return [AXES[axis].parse(value) for value in values]
    except (TypeError, ValueError):
        raise UserError(f"{axis} holds {values!r}; each must be a number") from None


def name_value(value) -> str:
    """Return a value of an axis as text; 4.0 as 4."""
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def choose_class(catalogue: Catalogue, cell: dict, common: dict) -> dict:
    """Return a cell with one class: the chosen one, or an example if all are chosen or the checkpoint has others."""
    check_one_of("checkpoint", cell["checkpoint"] or catalogue.names[0], catalogue.folders)
    chosen, known = cell["class_label"], list_classes(catalogue, cell["checkpoint"])
    elsewhere = chosen not in known and chosen in list_classes(catalogue, common["checkpoint"])
    if chosen == ALL or elsewhere:
        return cell | {"class_label": choose_example(catalogue, cell["checkpoint"])}
    return cell


def fill_grid(
    catalogue: Catalogue, down, down_values, across, across_values, settings: dict
) -> Iterator[tuple[dict, dict]]:
    """Yield the growing grid for the page, and the plan to which a click on a cell refers."""
    with report_mistakes():
        asked = plan_grid(catalogue, down, down_values, across, across_values, settings)
    rows, columns = asked["rows"], asked["columns"]
    with report_mistakes():  # all are checked before the first is drawn
        check_budget(sum(prepare(catalogue, cell).evaluations for line in asked["cells"] for cell in line))
    job = Job()
    names = {"rows": [name_value(value) for value in rows], "columns": [name_value(value) for value in columns]}
    grid = {"run": new_name(), "axes": asked["axes"], **names, "done": False, "cells": [], "progress": "starting"}
    yield grid, asked
    began, computing, calls, total = time.perf_counter(), 0.0, 0, len(rows) * len(columns)
    for places in group_cells(asked):
        started = time.perf_counter()
        estimates, nfe = draw_cells(catalogue, [asked["cells"][r][c] for r, c in places], job)
        computing, calls = computing + time.perf_counter() - started, calls + nfe
        cells = [*grid["cells"], *describe_cells(asked, places, estimates)]
        grid = grid | {"cells": cells, "done": len(cells) == total}
        left = (time.perf_counter() - began) * (total / len(cells) - 1)
        more = "" if grid["done"] else f", about {left:.0f} s left"
        grid["progress"] = f"{len(cells)} of {total} cells, {calls} network calls, {computing:.1f} s{more}"
        yield grid, gr.skip()


def describe_cells(asked: dict, places: list[tuple[int, int]], estimates: list[Tensor]) -> list[dict]:
    """Describe the cells at these places for the page, with their clean estimates (N, C, H, W) at some of their steps.

    ``steps`` has these estimates below each other, and ``image`` is the last one.
    """
    down, across = asked["axes"]
    return [
        {
            "row": r,
            "column": c,
            "image": encode_picture(render_grid(estimates[-1][k : k + 1], 1, gap=0)),
            "steps": encode_picture(stack([render_grid(images[k : k + 1], 1, gap=0) for images in estimates])),
            "label": f"{down} {name_value(asked['rows'][r])}, {across} {name_value(asked['columns'][c])}",
        }
        for k, (r, c) in enumerate(places)
    ]


def group_cells(asked: dict) -> list[list[tuple[int, int]]]:
    """Group the places of the cells. Cells that differ only in class or seed form a group, drawn as one batch."""
    down, across = (AXES[name].batched for name in asked["axes"])
    rows, columns = range(len(asked["rows"])), range(len(asked["columns"]))
    if down and across:
        return [[(r, c) for r in rows for c in columns]]
    if down:
        return [[(r, c) for r in rows] for c in columns]
    if across:
        return [[(r, c) for c in columns] for r in rows]
    return [[(r, c)] for r in rows for c in columns]


def draw_cells(catalogue: Catalogue, cells: list[dict], job: Job) -> tuple[list[Tensor], int]:
    """Draw cells that differ only in class and seed. Return the clean estimates (N, C, H, W) and the network calls.

    There are estimates of at most STEPS_SHOWN steps. The last one is the finished image.
    """
    runs = [prepare(catalogue, cell) for cell in cells]
    labels = [label for run in runs for label in run.labels] if runs[0].labels else None
    sampling = replace(runs[0].sampling, seed=[run.sampling.seed for run in runs])
    count = None if labels else len(runs)
    options = {"count": count, "begin": runs[0].begin, "sampling": sampling}
    estimates = []
    for step in catalogue.compute(sample, runs[0].checkpoint, labels, job=job, **options):
        if step.index in spread_evenly(step.total, STEPS_SHOWN):
            estimates.append(step.x0)
    return estimates, step.nfe


def open_cell(catalogue: Catalogue, asked: dict, row, column) -> Iterator[dict]:
    """Yield the growing film of one cell for the player."""
    try:
        settings = asked["cells"][row][column]
    except (KeyError, IndexError, TypeError):
        raise gr.Error("fill the grid first, then click one of its cells", print_exception=False) from None
    for growing in film(prepare(catalogue, settings)):
        yield gr.update(value=growing, visible=True)


def draw_grid(catalogue: Catalogue, *axes_and_settings) -> tuple[Image.Image, dict]:
    """Draw the whole grid as one picture, and return it with its cost."""
    *_, (grid, _) = fill_grid(catalogue, *axes_and_settings)
    tiles = {(cell["row"], cell["column"]): decode_small_picture(cell["image"]) for cell in grid["cells"]}
    width, height = (max(tile.size[k] for tile in tiles.values()) + GAP for k in (0, 1))
    mode = "L" if all(tile.mode == "L" for tile in tiles.values()) else "RGB"
    whole = Image.new(mode, (len(grid["columns"]) * width, len(grid["rows"]) * height), "white")
    for (r, c), tile in tiles.items():
        whole.paste(tile, (c * width, r * height))
    about = {name: grid[name] for name in ("axes", "rows", "columns", "progress")}
    return whole.resize((whole.width * ZOOM, whole.height * ZOOM), Image.Resampling.NEAREST), about
