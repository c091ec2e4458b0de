"""The Evidence tab's maps, curves and table of measured settings, from a checkpoint's ``metrics.json``.

A cell holds the figures of one measured setting. ``here`` is the setting that the visitor chose in Generate.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from statistics import median

from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import ALWAYS, Sampling
from ddpm_demo.reports.results import excess, sampling_of, select, without_idle
from ddpm_demo.reports.tables import describe_setting
from ddpm_demo.ui.components.charts import Style, draw_lines, draw_map, fit_axis
from ddpm_demo.ui.rendering import render
from ddpm_demo.ui.tabs import evidence_sentences as sentences

FIELDS = {field.name: field for field in fields(Sampling) if field.name != "seed"}
# (down, across) of the maps; each is drawn where at least two by two of its cells were measured.
PAIRS = (
    ("sampler", "steps"),
    ("schedule", "steps"),
    ("sampler", "weight"),
    ("interval", "weight"),
    ("variance", "steps"),
)
MAIN = ("schedule", "sampler", "steps", "weight")  # settings that are always named
COLUMNS = ("sampler", "schedule", "steps", "weight", "variance", "interval", "classifier_scale")  # of the table, always
SYMBOLS = {"weight": "w", "classifier_scale": "s"}

# What a map can show -> (its figure of a cell, its text, whether less is better). Cells of different numbers of samples
# share a map, so all figures that depend on this number are differences to as many real images.
FIGURES = {
    "FID": (excess, "{:.2f}", True),
    "class accuracy": (lambda cell: cell.get("accuracy"), "{:.1%}", False),
    "precision": (lambda cell: cell["precision"] - cell["reference"]["precision"], "{:+.2f}", False),
    "recall": (lambda cell: cell["recall"] - cell["reference"]["recall"], "{:+.2f}", False),
}
CURVES = Style(dots=True, beside=True)
LEAST = 0.003  # the low end of a logarithmic axis: by chance an FID can be below that of real images


@dataclass(frozen=True)
class Map:
    """Which two settings a map varies, and which figure it shows."""

    down: str
    across: str
    figure: str


def format_value(name: str, value) -> str:
    """A setting's value in a word."""
    if name == "interval":
        low, high = value
        if low <= ALWAYS[0]:
            return "always" if high >= ALWAYS[1] else f"below {high:g}"
        return f"above {low:g}" if high >= ALWAYS[1] else f"{low:g} to {high:g}"
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def list_changed(sampling: Sampling) -> list[str]:
    """The settings that have an effect and another value than their default."""
    used = without_idle(sampling)
    return [name for name, field in FIELDS.items() if getattr(used, name) != field.default]


def caption(chart: str, sentence: str) -> str:
    """Return a chart with the sentence below it that says what to see in it."""
    return render("figure.html", chart=chart, sentence=sentence)


def draw_maps(cells: list[dict], here: Sampling, figure: str) -> list[str]:
    """A map of every pair of settings that were varied together; a ring marks ``here``."""
    charts = []
    for pair in PAIRS:
        free = {name: FIELDS[name].default for name in pair} | {"seed": 0}
        groups: dict[Sampling, list[dict]] = {}
        for cell in cells:
            if FIGURES[figure][0](cell) is not None:
                groups.setdefault(replace(without_idle(sampling_of(cell)), **free), []).append(cell)
        charts += [draw_pair(group, Map(*pair, figure), here) for group in groups.values()]
    return [chart for chart in charts if chart]


def draw_pair(cells: list[dict], kind: Map, here: Sampling) -> str:
    """The map of cells that differ in two settings only; "" for less than most of a map."""
    down, across = kind.down, kind.across
    rows = {format_value(down, cell["setting"][down]): cell["setting"][down] for cell in cells}
    columns = sorted({cell["setting"][across] for cell in cells})
    if min(len(rows), len(columns)) < 2 or len(cells) < 0.6 * len(rows) * len(columns):
        return ""
    order = list(FIELDS[down].metadata.get("names", ()))
    names = sorted(rows, key=lambda name: order.index(rows[name])) if order else list(rows)

    def find_place(cell: dict) -> tuple[str, str]:
        return format_value(down, cell["setting"][down]), format_value(across, cell["setting"][across])

    ring = next((find_place(cell) for cell in select(cells, here, "seed")), None)
    shades = {find_place(cell): shade for cell, shade in zip(cells, shade_cells(cells, kind.figure))}
    chart = draw_map(
        f"{kind.figure} by {down} and {across}",
        describe_setting(sampling_of(cells[0]), without=("seed", down, across)),
        names,
        [format_value(across, column) for column in columns],
        shades,
        ring,
    )
    return caption(chart, sentences.describe_map(shades, ring is not None))


def shade_cells(cells: list[dict], figure: str) -> list[tuple[float, str]]:
    """(shade 0 .. 1, text) of each cell: the best figure is the darkest."""
    value, text, less = FIGURES[figure]
    values = [value(cell) for cell in cells]
    best, worst = (min(values), max(values)) if less else (max(values), min(values))
    return [(1 - (abs(found - best) / (abs(worst - best) or 1)) ** 0.5, text.format(found)) for found in values]


def draw_alike(draw: Callable[[list[dict], Sampling], str], cells: list[dict], here: Sampling) -> str:
    """A chart of cells with the same number of samples, the largest that has enough of them for this chart.

    Precision and recall depend on the number of samples.
    """
    groups: dict[int, list[dict]] = {}
    for cell in cells:
        groups.setdefault(cell["setting"]["samples"], []).append(cell)
    return next((chart for samples in sorted(groups, reverse=True) if (chart := draw(groups[samples], here))), "")


def draw_tradeoff(cells: list[dict], here: Sampling) -> str:
    """What guidance gains and loses: precision, recall and class accuracy by weight; the other settings as ``here``."""
    found = select(cells, here, "weight", "seed")
    if len(found) < 3:
        return ""
    found.sort(key=lambda cell: cell["setting"]["weight"])
    weights, samples = [cell["setting"]["weight"] for cell in found], found[0]["setting"]["samples"]
    series = {name: (weights, [cell[name] for cell in found]) for name in ("precision", "recall")}
    if all("accuracy" in cell for cell in found):
        series["class accuracy"] = (weights, [cell["accuracy"] for cell in found])
    values = [v for _, ys in series.values() for v in ys]
    x, y = fit_axis(weights, "guidance weight w"), fit_axis(values)
    chart = draw_lines("Precision, recall and class accuracy, by guidance", series, x, y, here.weight, CURVES)
    return caption(chart, sentences.describe_tradeoff(series, samples))


def draw_guidance(cells: list[dict], here: Sampling) -> str:
    """What each kind of guidance gains (class accuracy) and loses (recall): a path of growing strength."""
    here, series = replace(here, weight=0.0, classifier_scale=0.0, autoguidance=0.0), {}
    for name, start, axis in (
        ("classifier-free", here, "weight"),
        ("classifier", replace(here, weight=-1.0), "classifier_scale"),
        ("classifier+label", here, "classifier_scale"),
        ("autoguidance", here, "autoguidance"),
    ):
        found = [cell for cell in select(cells, start, axis, "seed") if "accuracy" in cell]
        points = sorted((getattr(sampling_of(cell), axis), cell["recall"], cell["accuracy"]) for cell in found)
        points = [point for point in points if point[0] >= 0]
        if len(points) > 2:
            series[name] = [p[1] for p in points], [p[2] for p in points]
    if len(series) < 2:
        return ""
    recalls, shares = ([v for pair in series.values() for v in pair[k]] for k in (0, 1))
    title = "Kinds of guidance: class accuracy by recall"
    x, y = fit_axis(recalls, "recall"), fit_axis(shares)
    sentence = sentences.describe_guidance(cells[0]["setting"]["samples"])
    return caption(draw_lines(title, series, x, y, style=CURVES), sentence)


def draw_steps(cells: list[dict], here: Sampling) -> str:
    """FID of every sampler by the number of steps, unguided."""
    own = {name: FIELDS[name].default for row in SAMPLERS.values() for name in row.uses}
    unguided = replace(here, weight=0.0, interval=ALWAYS, **own)
    found = select(cells, unguided, "sampler", "steps", "seed")
    series, measured = {}, {}
    for sampler in SAMPLERS:
        mine = [cell for cell in found if cell["setting"]["sampler"] == sampler]
        points = sorted((cell["setting"]["steps"], excess(cell), cell["spread"]["fid_test"]) for cell in mine)
        if len(points) > 1:
            series[sampler] = [p[0] for p in points], [max(p[1], LEAST) for p in points]
            measured[sampler] = points
    if len(series) < 2:
        return ""
    xs, ys = ([v for pair in series.values() for v in pair[k]] for k in (0, 1))
    x, y = fit_axis(xs, "steps", log=True), fit_axis(ys, log=True)
    chart = draw_lines("FID by steps, w = 0", series, x, y, here.steps, CURVES)
    return caption(chart, sentences.describe_steps(measured))


def draw_calls(teacher: list[dict], student: list[dict]) -> list[str]:
    """FID and recall by network calls for an image at w = 0, of a distilled model and of the samplers of its teacher."""
    own = [cell for cell in student if cell["setting"]["weight"] == 0]
    found = select(teacher, Sampling(), "sampler", "steps", "seed")
    groups = {"distilled": own} | {
        sampler: [cell for cell in found if cell["setting"]["sampler"] == sampler]
        for sampler in ("dpm++2m", "sde-dpm++2m", "ddim", "ddpm", "heun")
    }
    fid = trace_calls(groups, lambda cell: max(excess(cell), LEAST))
    if len(own) < 2 or len(fid) < 2:
        return []
    spread = median(cell["spread"]["fid_test"] for cell in found)
    charts = [draw_by_calls("FID", fid, sentences.describe_calls(fid, "distilled", spread), log=True)]
    samples = max(cell["setting"]["samples"] for cell in own)  # recall can be compared for equal numbers alone
    alike = {name: [cell for cell in cells if cell["setting"]["samples"] == samples] for name, cells in groups.items()}
    recall = trace_calls(alike, lambda cell: cell["recall"])
    real = alike["distilled"][0]["reference"]["recall"]
    charts.append(draw_by_calls("Recall", recall, sentences.describe_variety(recall, "distilled", samples, real)))
    return charts


def trace_calls(groups: dict[str, list[dict]], figure: Callable[[dict], float]) -> dict[str, tuple[tuple, tuple]]:
    """The curves (network calls, figures) of groups of cells without guidance, where a call is one evaluation."""
    points = {name: sorted((sampling_of(cell).calls, figure(cell)) for cell in cells) for name, cells in groups.items()}
    return {name: tuple(zip(*found)) for name, found in points.items() if found}


def draw_by_calls(name: str, series: dict[str, tuple[tuple, tuple]], sentence: str, log: bool = False) -> str:
    """A figure by network calls, with the sentence below it."""
    xs, ys = ([v for pair in series.values() for v in pair[k]] for k in (0, 1))
    x, y = fit_axis(xs, "network calls for an image", log=True), fit_axis(ys, log=log)
    return caption(draw_lines(f"{name} by network calls, w = 0", series, x, y, style=CURVES), sentence)


def draw_training_time(metrics: dict, peer: list[dict], encoder: float = 0.0) -> str:
    """FID against minutes of training, ``encoder`` seconds of an autoencoder before it included.

    ``peer``: the same of the network of the Hugging Face course.
    """
    series = {}
    for name, rows, before in (("this model", metrics.get("over_time", []), encoder), ("course's U-Net", peer, 0.0)):
        if rows:
            minutes = [(before + row["training"]["seconds"]) / 60 for row in rows]
            series[name] = (minutes, [max(excess(row), LEAST) for row in rows])
    if not metrics.get("over_time"):
        return ""
    xs, ys = ([v for pair in series.values() for v in pair[k]] for k in (0, 1))
    x = fit_axis(xs, f"minutes of training{', the autoencoder included' if encoder else ''}", log=True)
    y = fit_axis(ys, log=True)
    return caption(draw_lines("FID by training time", series, x, y, style=CURVES), sentences.describe_time(series))


def tabulate(cells: list[dict], here: Sampling) -> str:
    """All measured settings, best FID first; that of ``here`` is outlined."""
    mine = [id(cell) for cell in select(cells, here, "seed")]
    changed = {name for cell in cells for name in list_changed(sampling_of(cell))}
    names = [*COLUMNS, *(name for name in FIELDS if name in changed and name not in COLUMNS)]
    rows = []
    for cell in sorted(cells, key=excess):
        sampling = sampling_of(cell)
        shown = {*MAIN, *list_changed(sampling)}
        settings = [format_value(name, getattr(sampling, name)) if name in shown else "" for name in names]
        rows.append((settings + list_figures(cell), id(cell) in mine))
    heads = [SYMBOLS.get(name, name) for name in names]
    heads += [
        "samples",
        "class accuracy",
        "FID to test",
        "FID of as many real images",
        "FID to train",
        "precision",
        "recall",
    ]
    return render("table.html", title=f"All {len(rows)} measured settings", heads=heads, rows=rows, note="", command="")


def list_figures(cell: dict) -> list[str]:
    """The figures of a cell as text, in the order of the table."""
    return [
        f"{cell['setting']['samples']:,}",
        f"{cell['accuracy']:.2%}" if "accuracy" in cell else "–",
        f"{cell['fid_test']:.3f} ± {cell['spread']['fid_test']:.3f}",
        f"{cell['reference']['fid_test']:.3f}",
        f"{cell['fid_train']:.3f}",
        f"{cell['precision']:.3f}",
        f"{cell['recall']:.3f}",
    ]
