"""The Compare tab: two settings against each other, from the same noise; a click on a cell opens its run."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gradio as gr
from PIL import Image

from ddpm_demo.data.images import picture
from ddpm_demo.diffusion.samplers import SAMPLERS, VARIANCES
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.errors import UserError, check_one_of
from ddpm_demo.generation.generate import sample
from ddpm_demo.ui.catalogue import Catalogue, in_words
from ddpm_demo.ui.components.pad import small
from ddpm_demo.ui.components.player import data_uri, film, new_run, player, templates
from ddpm_demo.ui.runs import ALL, DEFAULTS, prepare

HINT = """Choose two settings to put against each other; everything else is as in **Generate**, and every cell starts from
the same noise. Try *steps* against *sampler*: which one needs the fewest? Click a cell to watch how it came about."""
MAX_CELLS = 120


@dataclass(frozen=True)
class Axis:
    """Values to offer, those chosen at first, how text becomes one, and whether a row can be one batch."""

    offered: Callable[[Catalogue, str], list]  # of the catalogue and the checkpoint in use
    first: Callable[[Catalogue, str], list]
    parse: Callable[[str], object] = str
    batched: bool = False


def classes(catalogue: Catalogue, name: str = "") -> list[str]:
    """The labels of a checkpoint."""
    return list(catalogue.model(name).label_names)


def an_example(catalogue: Catalogue, name: str = "") -> str:
    """A class to compare by where none was chosen: the fourth, since a 3 shows more than a 0."""
    names = classes(catalogue, name)
    return names[min(3, len(names) - 1)] if names else ALL


def alike(catalogue: Catalogue, name: str = "") -> list[str]:
    """The checkpoints that know the same classes as one of them."""
    return [other for other in catalogue.names if classes(catalogue, other) == classes(catalogue, name)]


def listed(*values) -> Callable[[Catalogue, str], list]:
    """The same values for every checkpoint."""
    return lambda catalogue, name: list(values)


AXES = {
    "class": Axis(classes, classes, batched=True),
    "weight": Axis(listed(-1, 0, 0.5, 1, 2, 4, 8), listed(-1, 0, 1, 2, 4, 8), float),
    "classifier_scale": Axis(listed(0, 0.5, 1, 2, 4, 8, 16), listed(0, 1, 2, 4, 8), float),
    "schedule": Axis(listed(*SCHEDULES), listed(*SCHEDULES)),
    "sampler": Axis(listed(*SAMPLERS), listed(*SAMPLERS)),
    "steps": Axis(listed(2, 3, 4, 5, 8, 10, 20, 50, 100, 200), listed(3, 5, 8, 12, 20, 50), int),
    "seed": Axis(listed(*range(10)), listed(*range(6)), int, batched=True),
    "checkpoint": Axis(lambda catalogue, name: catalogue.names, alike),
    "variance": Axis(listed(*VARIANCES), listed(*VARIANCES)),
}
OWN = ("class", "checkpoint")  # axes whose values belong to a checkpoint
SETTING = {"class": "class_label"}  # where an axis has another name than its setting


def build(catalogue: Catalogue, chosen: dict[str, gr.components.Component]) -> None:
    """Lay out the tab, wire it, and offer the endpoint ``/compare``. ``chosen``: the controls of Generate."""
    gr.Markdown(HINT, elem_classes="hint")
    pickers = []
    with gr.Row():
        for label, axis in (("Down", "sampler"), ("Across", "steps")):
            with gr.Column(min_width=260):
                which = gr.Dropdown(list(AXES), value=axis, label=label)
                values = gr.Dropdown(
                    multiselect=True, allow_custom_value=True, label="Values", **options_of(catalogue, axis)
                )
                which.change(
                    lambda axis, name: gr.update(**options_of(catalogue, axis, name)),
                    [which, chosen["checkpoint"]], values, api_visibility="private",
                )  # fmt: skip
                chosen["checkpoint"].change(
                    lambda axis, name: gr.update(**options_of(catalogue, axis, name)) if axis in OWN else gr.skip(),
                    [which, chosen["checkpoint"]], values, api_visibility="private", show_progress="hidden",
                )  # fmt: skip
                pickers += [which, values]
    with gr.Row():
        go = gr.Button("Fill the grid", variant="primary", min_width=120)
        stop = gr.Button("Stop", min_width=80)
    asked = gr.State({})  # what the grid on the page shows: for one user, and small
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            grid = gr.HTML(
                None,
                **templates("grid"),
            )
        with gr.Column(scale=4, min_width=320):
            view = player(visible=False)

    def run(*values):
        axes, settings = values[: len(pickers)], dict(zip(chosen, values[len(pickers) :]))
        yield from fill(catalogue, *axes, settings)

    def open_cell(asked, event: gr.EventData):
        yield from opened(catalogue, asked, event.row, event.column)

    network = {"show_progress": "hidden", "api_visibility": "private", "concurrency_id": "network"}
    started = go.click(run, [*pickers, *chosen.values()], [grid, asked], **network)
    playing = grid.open(open_cell, asked, view, **network)
    stop.click(None, None, None, cancels=[started, playing], queue=False, api_visibility="private")
    api(catalogue)


def api(catalogue: Catalogue) -> None:
    """The endpoint ``/compare``."""

    def compare(
        down: str = "sampler",
        down_values: str = "ddpm, ddim, dpm++2m",
        across: str = "steps",
        across_values: str = "5, 10, 20",
        settings: dict | None = None,
    ) -> tuple[Image.Image, dict]:
        chosen = DEFAULTS | {"class_label": an_example(catalogue)}
        values = [[part.strip() for part in str(text).split(",")] for text in (down_values, across_values)]
        if settings is not None and not isinstance(settings, dict):
            raise gr.Error(f"settings is {settings!r}; it must be an object of settings", print_exception=False)
        strange = set(settings or {}) - set(DEFAULTS)
        if strange:
            raise gr.Error(
                f"settings names {', '.join(sorted(strange))}; it may name {', '.join(DEFAULTS)}", print_exception=False
            )
        return finished(catalogue, down, values[0], across, values[1], chosen | (settings or {}))

    with gr.Row(visible=False):
        inputs = [
            gr.Textbox("sampler", label="down"), gr.Textbox("ddpm, ddim, dpm++2m", label="down_values"),
            gr.Textbox("steps", label="across"), gr.Textbox("5, 10, 20", label="across_values"),
            gr.JSON(None, label="settings"),
        ]  # fmt: skip
        outputs = [gr.Image(format="png", label="grid"), gr.JSON(label="about")]
        gr.Button().click(
            compare, inputs, outputs, api_name="compare", concurrency_id="network",
            api_description="Two settings against each other from the same noise: the grid, and what it took. "
            f"An axis is one of {', '.join(AXES)}; values are separated by commas.",
        )  # fmt: skip


def options_of(catalogue: Catalogue, name: str, checkpoint: str = "") -> dict:
    """Choices and first values of an axis, as text, for a checkpoint."""
    axis = AXES[name]
    return {
        "choices": [f"{v}" for v in axis.offered(catalogue, checkpoint)],
        "value": [f"{v}" for v in axis.first(catalogue, checkpoint)],
    }


def plan(catalogue: Catalogue, down, down_values, across, across_values, settings: dict) -> dict:
    """The grid that was asked for, each cell's settings in full; UserError for anything wrong."""
    for side, name in (("down", down), ("across", across)):
        check_one_of(side, name, AXES)
    if down == across:
        raise UserError(f"both axes are {down}: choose two different ones")
    parsed = []
    for name, values in ((down, down_values), (across, across_values)):
        if not values:
            raise UserError(f"{name} has no values: choose at least one")
        try:
            parsed.append([AXES[name].parse(value) for value in values])
        except (TypeError, ValueError):
            raise UserError(f"{name} holds {values!r}; each must be a number") from None
    rows, columns = parsed
    if len(rows) * len(columns) > MAX_CELLS:
        raise UserError(f"{len(rows)} x {len(columns)} cells are too many: at most {MAX_CELLS}")
    common = settings | {"count": 1}
    names = SETTING.get(down, down), SETTING.get(across, across)
    cells = [[common | {names[0]: row, names[1]: column} for column in columns] for row in rows]
    if "class" not in (down, across):
        cells = [[with_class(catalogue, cell, common) for cell in line] for line in cells]
    return {"axes": [down, across], "rows": rows, "columns": columns, "cells": cells}


def with_class(catalogue: Catalogue, cell: dict, common: dict) -> dict:
    """A cell with one class: the chosen one, or an example where all were, or where its checkpoint has others."""
    check_one_of("checkpoint", cell["checkpoint"] or catalogue.names[0], catalogue.folders)
    chosen, there = cell["class_label"], classes(catalogue, cell["checkpoint"])
    elsewhere = chosen not in there and chosen in classes(catalogue, common["checkpoint"])
    return cell | {"class_label": an_example(catalogue, cell["checkpoint"])} if chosen == ALL or elsewhere else cell


def fill(catalogue: Catalogue, down, down_values, across, across_values, settings: dict) -> Iterator[tuple[dict, dict]]:
    """The grid as it fills, for the page, and the plan that a click on a cell refers to."""
    with in_words():
        asked = plan(catalogue, down, down_values, across, across_values, settings)
    rows, columns = asked["rows"], asked["columns"]
    for line in asked["cells"]:
        for cell in line:
            prepare(catalogue, cell)  # all are checked before the first is drawn
    grid = {
        "run": new_run(), "axes": asked["axes"], "rows": [f"{v}" for v in rows], "done": False,
        "columns": [f"{v}" for v in columns], "cells": [], "progress": "starting",
    }  # fmt: skip
    yield grid, asked
    began, computing, calls, total = time.perf_counter(), 0.0, 0, len(rows) * len(columns)
    for places in batches(asked):
        started = time.perf_counter()
        images, nfe = together(catalogue, [asked["cells"][r][c] for r, c in places])
        computing, calls = computing + time.perf_counter() - started, calls + nfe
        drawn = [
            {
                "row": r,
                "column": c,
                "image": data_uri(picture(images[k : k + 1], 1, gap=0)),
                "label": f"{down} {rows[r]}, {across} {columns[c]}",
            }
            for k, (r, c) in enumerate(places)
        ]
        cells = [*grid["cells"], *drawn]
        left = (time.perf_counter() - began) * (total / len(cells) - 1)
        grid = grid | {"cells": cells, "done": len(cells) == total}
        grid["progress"] = f"{len(cells)} of {total} cells, {calls} network calls, {computing:.1f} s" + (
            "" if grid["done"] else f", about {left:.0f} s left"
        )
        yield grid, gr.skip()


def batches(asked: dict) -> list[list[tuple[int, int]]]:
    """The places of the cells, those together that differ only in class or seed: one walk draws them all."""
    down, across = (AXES[name].batched for name in asked["axes"])
    rows, columns = range(len(asked["rows"])), range(len(asked["columns"]))
    if down and across:
        return [[(r, c) for r in rows for c in columns]]
    if down:
        return [[(r, c) for r in rows] for c in columns]
    if across:
        return [[(r, c) for c in columns] for r in rows]
    return [[(r, c)] for r in rows for c in columns]


def together(catalogue: Catalogue, cells: list[dict]):
    """The finished images (N, C, H, W) of cells that differ only in class and seed, and the network calls."""
    runs = [prepare(catalogue, cell) for cell in cells]
    labels = [label for run in runs for label in run.labels] if runs[0].labels else None
    settings = runs[0].sampling.as_dict() | {"seed": [run.sampling.seed for run in runs]}
    count = None if labels else len(runs)
    *_, step = catalogue.compute(sample, runs[0].checkpoint, labels, count=count, **settings)
    return step.x0, step.nfe


def opened(catalogue: Catalogue, asked: dict, row, column) -> Iterator[dict]:
    """The run of one cell, in the player."""
    try:
        settings = asked["cells"][row][column]
    except (KeyError, IndexError, TypeError):
        raise gr.Error("fill the grid first, then click one of its cells", print_exception=False) from None
    run = prepare(catalogue, settings)
    for growing in film(run.walk(), 1, run.settings, run.curve):
        yield gr.update(value=growing, visible=True)


def finished(catalogue: Catalogue, *axes_and_settings) -> tuple[Image.Image, dict]:
    """The whole grid as one picture, and what it took."""
    grid, asked = {}, {}
    for grid, told in fill(catalogue, *axes_and_settings):
        asked = told if isinstance(told, dict) and "cells" in told else asked
    tiles = {(cell["row"], cell["column"]): small(cell["image"]) for cell in grid["cells"]}
    width, height = (max(tile.size[k] for tile in tiles.values()) for k in (0, 1))
    mode = "L" if all(tile.mode == "L" for tile in tiles.values()) else "RGB"
    whole = Image.new(mode, (len(grid["columns"]) * (width + 2), len(grid["rows"]) * (height + 2)), "white")
    for (r, c), tile in tiles.items():
        whole.paste(tile, (c * (width + 2), r * (height + 2)))
    about = {name: grid[name] for name in ("axes", "rows", "columns", "progress")}
    return whole.resize((whole.width * 3, whole.height * 3), Image.Resampling.NEAREST), about
