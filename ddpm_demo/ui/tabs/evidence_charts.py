"""The Evidence tab's maps, curves and tables, from a checkpoint's ``metrics.json``, ``speed.json`` and the like."""

from ddpm_demo.diffusion.samplers import SAMPLERS, VARIANCES
from ddpm_demo.diffusion.sampling import ALWAYS
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.experiments.ablation import describe_choices, format_figures
from ddpm_demo.experiments.conditioning import HEADS, format_row
from ddpm_demo.reports.results import excess
from ddpm_demo.ui.components.charts import around, heat, lines

AXES = ("schedule", "sampler", "steps", "weight", "variance", "interval", "scale")
# (down, across) of the maps; each is drawn where at least two by two of its cells were measured.
PAIRS = (
    ("sampler", "steps"),
    ("schedule", "steps"),
    ("sampler", "weight"),
    ("interval", "weight"),
    ("variance", "steps"),
)
ORDER = {"sampler": list(SAMPLERS), "schedule": list(SCHEDULES), "variance": list(VARIANCES)}

# What a map can show -> (its figure of a cell, its text, whether less is better).
FIGURES = {
    "FID": (excess, "{:.2f}", True),
    "read as asked": (lambda cell: cell.get("accuracy"), "{:.1%}", False),
    "precision": (lambda cell: cell["precision"], "{:.2f}", False),
    "recall": (lambda cell: cell["recall"], "{:.2f}", False),
}
LEAST = 0.003  # a logarithmic axis ends there: chance can carry an FID below that of real images


def setting_of(settings: dict) -> dict:
    """What the page's settings are called where they were measured."""
    ends = settings["interval_from"], settings["interval_to"]
    interval = None if not (settings["weight"] or settings["scale"]) or ends == (-ALWAYS, ALWAYS) else list(ends)
    variance = settings["variance"] if settings["sampler"] == "ddpm" else "posterior"
    named = {name: settings[name] for name in ("schedule", "sampler", "steps", "weight", "scale")}
    return named | {"variance": variance, "interval": interval}


def named(axis: str, value) -> str:
    """A setting's value in a word."""
    if axis == "interval":
        low, high = value or (-ALWAYS, ALWAYS)
        if low <= -ALWAYS:
            return "always" if high >= ALWAYS else f"below {high:g}"
        return f"above {low:g}" if high >= ALWAYS else f"{low:g} to {high:g}"
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def same(cell: dict, here: dict, *but: str) -> bool:
    """Whether a cell has the settings here, but for some."""
    return all(cell["setting"][name] == here[name] for name in AXES if name not in but)


def maps(cells: list[dict], here: dict, figure: str) -> list[str]:
    """A map of every pair of settings that were varied together; ``here`` is ringed."""
    drawn = []
    for pair in PAIRS:
        groups: dict[tuple, list[dict]] = {}
        for cell in cells:
            if FIGURES[figure][0](cell) is not None:
                rest = tuple(named(name, cell["setting"][name]) for name in AXES if name not in pair)
                groups.setdefault(rest, []).append(cell)
        drawn += [one_map(group, *pair, here, figure) for group in groups.values()]
    return [chart for chart in drawn if chart]


def one_map(cells: list[dict], down: str, across: str, here: dict, figure: str) -> str:
    """The cells that differ in two settings alone, the others under the title; empty for less than most of a map."""
    value, text, less = FIGURES[figure]
    rows = {named(down, cell["setting"][down]): cell["setting"][down] for cell in cells}
    columns = sorted({cell["setting"][across] for cell in cells})
    if min(len(rows), len(columns)) < 2 or len(cells) < 0.6 * len(rows) * len(columns):
        return ""
    names = sorted(rows, key=lambda name: ORDER[down].index(rows[name])) if down in ORDER else list(rows)
    values = [value(cell) for cell in cells]
    best, worst = (min(values), max(values)) if less else (max(values), min(values))
    shades = {}
    for cell, found in zip(cells, values):
        place = named(down, cell["setting"][down]), named(across, cell["setting"][across])
        shades[place] = (1 - (abs(found - best) / (abs(worst - best) or 1)) ** 0.5, text.format(found))
    first = cells[0]["setting"]
    words = {"weight": f"w = {first['weight']:g}", "sampler": first["sampler"], "steps": f"{first['steps']} steps",
             "schedule": first["schedule"], "scale": f"s = {first['scale']:g}" if first["scale"] else ""}  # fmt: skip
    rest = ", ".join(word for name, word in words.items() if word and name not in (down, across))
    ring = (named(down, here[down]), named(across, here[across])) if same(cells[0], here, down, across) else None
    title = f"{figure} by {down} and {across}"
    return heat(title, rest, names, [named(across, column) for column in columns], shades, ring)


def tradeoff(cells: list[dict], here: dict) -> str:
    """What guidance buys and costs: precision, recall and class accuracy by weight, the rest as in the app."""
    found = [cell for cell in cells if same(cell, here, "weight")]
    if len(found) < 3:
        return ""
    found.sort(key=lambda cell: cell["setting"]["weight"])
    weights = [cell["setting"]["weight"] for cell in found]
    series = {name: (weights, [FIGURES[name][0](cell) for cell in found]) for name in ("precision", "recall")}
    if all("accuracy" in cell for cell in found):
        series["read as asked"] = (weights, [cell["accuracy"] for cell in found])
    values = [v for _, ys in series.values() for v in ys]
    return lines(
        "What guidance buys, and what it costs", series, around(weights, "guidance weight w"), around(values, legend_rows=1), dots=True,
        mark=here["weight"],
    )  # fmt: skip


def two_kinds(cells: list[dict], here: dict) -> str:
    """What either kind of guidance buys (samples read as asked) and costs (recall), each a path of growing strength."""
    free = [cell for cell in cells if same(cell, here | {"scale": 0.0}, "weight")]
    series = {}
    for name, found, axis in (
        ("classifier-free", [cell for cell in free if cell["setting"]["weight"] >= 0], "weight"),
        ("classifier", [cell for cell in cells if same(cell, here | {"weight": -1.0}, "scale")], "scale"),
        ("classifier+label", [cell for cell in cells if same(cell, here | {"weight": 0.0}, "scale")], "scale"),
    ):
        points = sorted(
            (cell["setting"][axis], cell["recall"], cell["accuracy"]) for cell in found if "accuracy" in cell
        )
        if len(points) > 2:
            series[name] = [p[1] for p in points], [p[2] for p in points]
    if len(series) < 2:
        return ""
    recalls, shares = ([v for pair in series.values() for v in pair[k]] for k in (0, 1))
    return lines(
        "Two kinds of guidance: read as asked, by recall", series, around(recalls, "recall"),
        around(shares, legend_rows=2), dots=True,
    )  # fmt: skip


def by_steps(cells: list[dict], here: dict) -> str:
    """FID of every sampler by the number of steps, unguided."""
    unguided = here | {"weight": 0.0, "interval": None, "variance": "posterior"}
    found = [cell for cell in cells if same(cell, unguided, "sampler", "steps")]
    series = {}
    for sampler in SAMPLERS:
        mine = [cell for cell in found if cell["setting"]["sampler"] == sampler]
        points = sorted((cell["setting"]["steps"], max(excess(cell), LEAST)) for cell in mine)
        if len(points) > 1:
            series[sampler] = tuple(zip(*points))
    if len(series) < 2:
        return ""
    xs, ys = ([v for pair in series.values() for v in pair[k]] for k in (0, 1))
    return lines(
        "FID by steps, w = 0", series, around(xs, "steps", log=True), around(ys, log=True, legend_rows=2), dots=True, mark=here["steps"],
    )  # fmt: skip


def over_time(metrics: dict, peer: list[dict], encoder: float = 0.0) -> str:
    """FID against minutes of training, ``encoder`` seconds of an autoencoder before it included.

    ``peer``: the same of the network of the Hugging Face course.
    """
    series = {}
    for name, rows, before in (("this one", metrics.get("over_time", []), encoder), ("course's U-Net", peer, 0.0)):
        if rows:
            minutes = [(before + row["training"]["seconds"]) / 60 for row in rows]
            series[name] = (minutes, [max(excess(row), LEAST) for row in rows])
    if not metrics.get("over_time"):
        return ""
    xs, ys = ([v for pair in series.values() for v in pair[k]] for k in (0, 1))
    return lines(
        "FID by training time",
        series,
        around(xs, f"minutes of training{', the autoencoder included' if encoder else ''}", log=True),
        around(ys, log=True, legend_rows=len(series) - 1),
        dots=True,
    )


def measured(cells: list[dict], here: dict) -> str:
    """All measured settings, best FID first."""
    rows = []
    for cell in sorted(cells, key=excess):
        setting = cell["setting"]
        values = [named(name, setting[name]) for name in ("sampler", "schedule", "steps", "weight")]
        values += [
            "beta" if setting["variance"] == "beta" else "",
            named("interval", setting["interval"]) if setting["interval"] else "",
            f"{setting['scale']:g}" if setting["scale"] else "",
        ]
        values += [f"{setting['samples']:,}", f"{cell['accuracy']:.2%}" if "accuracy" in cell else "–"]
        values += [
            f"{cell['fid_test']:.3f} ± {cell['spread']['fid_test']:.3f}", f"{cell['reference']['fid_test']:.3f}",
            f"{cell['fid_train']:.3f}", f"{cell['precision']:.3f}", f"{cell['recall']:.3f}",
        ]  # fmt: skip
        rows.append((values, same(cell, here)))
    heads = (
        "sampler", "schedule", "steps", "w", "variance", "interval", "s", "samples", "read as asked", "FID to test",
        "of as many real", "FID to train", "precision", "recall",
    )  # fmt: skip
    return table(f"All {len(rows)} measured settings", heads, rows)


def ablation(told: dict) -> str:
    """What each choice is worth, at equal training."""
    if not told:
        return ""
    rows = [([*describe_choices(row), *format_figures(row)], False) for row in told["rows"]]
    heads = (
        "schedule", "attention", "prediction", "weighting", "FID to train", "FID to test", "read as asked",
        "slides: train / test",
    )  # fmt: skip
    title = f"What each choice is worth: {len(rows)} small networks, {told['epochs']:g} epochs each"
    note = "Another classifier stands behind the slides' figures, so only their order compares. Measured by <code>python -m ddpm_demo.experiments.ablation</code>"
    return table(title, heads, rows, note)


def conditions(told: dict) -> str:
    """Three ways to tell the network what is wanted."""
    if not told:
        return ""
    rows = [(format_row(row), False) for row in told["rows"]]
    note = (
        "What is completed or enlarged is told by its PSNR to the original, in brackets when another image's part was given. "
        "Measured by <code>python -m ddpm_demo.experiments.conditioning</code>"
    )
    return table(f"Three ways to condition, {told['epochs']:g} epochs each", tuple(HEADS), rows, note)


def speed(told: dict) -> str:
    """Network calls by batch size and variant, and whole images beside the course's network."""
    if not told:
        return ""
    here = told["machine"]
    batches = sorted({row["batch"] for row in told["calls"]})
    rows = []
    for name in dict.fromkeys(row["variant"] for row in told["calls"]):
        cells = {row["batch"]: row for row in told["calls"] if row["variant"] == name}
        shares = [f"{cells[b]['images_per_second']:.0f} ({cells[b]['of_convolution']:.0%})" for b in batches]
        rows.append(([name, *shares], name == "recorded"))
    whole = "; ".join(
        f"{row['images']} in {row['ours_seconds']:.2f} s, {row['course_seconds'] / row['ours_seconds']:.1f} times faster"
        for row in told["digits"]
    )
    note = (
        f"In brackets: the share of this machine's best convolution, {here['convolution_gflops']:.0f} GFLOP/s "
        f"({here['processor']}, {here['threads']} threads). Finished images, 20 guided steps, against the Hugging Face "
        f"course's U-Net with 50 DDIM steps: {whole}. Measured by <code>python -m ddpm_demo.experiments.benchmark</code>"
    )
    return table("Images a second by batch size", ("network call", *(f"batch {b}" for b in batches)), rows, note)


def table(title: str, heads: tuple, rows: list[tuple[list[str], bool]], note: str = "") -> str:
    """A table that opens on a click; rows marked True are outlined."""
    body = "".join(
        f"<tr{' class=here' if mine else ''}>" + "".join(f"<td>{value}</td>" for value in values) + "</tr>"
        for values, mine in rows
    )
    head = "".join(f"<th>{name}</th>" for name in heads)
    below = f'<p class="sentence">{note}</p>' if note else ""
    return (
        f'<details class="measured"><summary>{title}</summary><div class="scroll"><table><tr>{head}</tr>{body}</table>'
        f"</div>{below}</details>"
    )
