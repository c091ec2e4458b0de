"""The Evidence tab: what was measured of the checkpoint in use, and where it was not, the command that measures it."""

import json
import os
from pathlib import Path

import gradio as gr
from PIL import Image

from ddpm_demo.checkpoint import Model
from ddpm_demo.networks import parameter_count
from ddpm_demo.samplers import SAMPLERS
from ddpm_demo.schedule import SCHEDULES
from ddpm_demo.ui.charts import around, heat, lines
from ddpm_demo.ui.player import leaves, player
from ddpm_demo.ui.settings import DEFAULTS, Catalogue, in_words

HINT = """Everything here was measured by the commands that stand beside it, and is read from the checkpoint's own files.
Leaf through the samples to see what the model learned when; then look for the ring: it marks the settings you chose in
**Generate**."""
QUALITY = ("schedule", "sampler", "steps", "weight")


def build(tab: gr.Tab, catalogue: Catalogue, chosen: dict[str, gr.components.Component]) -> None:
    """Lay out the tab; it is read anew whenever it is opened. ``chosen``: the controls of Generate."""
    gr.Markdown(HINT, elem_classes="hint")
    summary = gr.HTML()
    with gr.Row():
        with gr.Column(min_width=320):
            curves = gr.HTML()
        with gr.Column(min_width=320):
            pages = player()
    tables = gr.HTML()

    def read(*values):
        return show(catalogue, dict(zip(chosen, values)))

    tab.select(
        read, list(chosen.values()), [summary, curves, pages, tables], show_progress="hidden", api_visibility="private"
    )


def show(catalogue: Catalogue, settings: dict) -> tuple:
    """(summary, training curves, samples over time as a film, quality) of the checkpoint in use."""
    settings = DEFAULTS | settings
    with in_words():
        model, folder = catalogue.model(settings["checkpoint"]), catalogue.folder(settings["checkpoint"])
    metrics = read_json(folder / "metrics.json") if folder else {}
    rows = log_rows(folder / "metrics.jsonl") if folder else []
    where = os.path.relpath(folder) if folder else settings["checkpoint"]
    return (
        summary_of(model, metrics, where),
        curves_of(rows, where),
        pages_of(folder, rows),
        quality(metrics, settings, where),
    )


def read_json(path: Path) -> dict:
    """A JSON file's object, empty where there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def log_rows(path: Path) -> list[dict]:
    """The rows of a training log."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def missing(what: str, command: str) -> str:
    """A figure that was not measured, and how to."""
    return f'<p class="missing">{what} has not been measured. <code>{command}</code></p>'


def summary_of(model: Model, metrics: dict, where: str) -> str:
    """What the checkpoint is, and its headline figures."""
    told = model.training or {}
    facts = [("parameters", f"{parameter_count(model.denoiser.net) / 1e6:.2f} M"), ("dataset", model.dataset or "?")]
    if told.get("seconds"):
        facts.append(
            ("training", f"{told['seconds'] / 60:.0f} min, {told.get('steps', 0):,} steps ({told.get('device', '?')})")
        )
    if "classifier_test_accuracy" in metrics:
        facts.append(("the judge reads", f"{metrics['classifier_test_accuracy']:.2%} of real test images"))
    if "floor" in metrics:
        facts.append(("FID floor", f"{metrics['floor']:.4f}, real test against real training images"))
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f'<dl class="facts" data-checkpoint="{where}">{listed}</dl>'


def curves_of(rows: list[dict], where: str) -> str:
    """The losses against training time."""
    if len(rows) < 2:
        return missing("The training log", f"python train.py --output-dir {where} ...")
    minutes = [row["seconds"] / 60 for row in rows]
    held = [(m, row["validation_loss"]) for m, row in zip(minutes, rows) if row.get("validation_loss") is not None]
    losses = [row["loss"] for row in rows]
    usual = sorted(losses)[int(0.97 * (len(losses) - 1))]  # the first rows would flatten all others
    series = {"training": (minutes, [min(loss, usual * 1.2) for loss in losses])}
    if held:
        series["held out"] = tuple(zip(*held))
    y = around([*losses[len(losses) // 20 :], *(loss for _, loss in held[2:])], log=True)
    return lines("Loss", series, around(minutes, "minutes of training", zero=True), y)


def pages_of(folder: Path | None, rows: list[dict]) -> dict:
    """The sheets of samples as the model learned, as a film (hidden where there are none)."""
    files = sorted((folder / "samples").glob("step-*.png")) if folder else []
    if not files:
        return gr.update(visible=False)
    minutes = {row["step"]: row["seconds"] / 60 for row in rows}
    pictures = []
    for file in files:
        step = int(file.stem.split("-")[1])
        numbers = {"after step": f"{step:,}"} | ({"minutes": f"{minutes[step]:.1f}"} if step in minutes else {})
        with Image.open(file) as sheet:
            pictures.append((sheet.convert("L") if sheet.mode == "L" else sheet.convert("RGB"), numbers))
    return gr.update(
        value=leaves(pictures, "Samples as it learned", "same noise, same classes, every time"), visible=True
    )


def quality(metrics: dict, settings: dict, where: str) -> str:
    """Tables and charts of the measured settings; the nearest to those in use is marked."""
    command = f"python -m ddpm_demo.evaluation --checkpoint {where}"
    cells = metrics.get("quality", [])
    if not cells:
        return missing("Quality", command)
    here = {name: settings[name] for name in QUALITY}
    exact = [cell for cell in cells if all(cell["setting"].get(name) == here[name] for name in QUALITY)]
    said = ", ".join(f"{name} {value}" for name, value in here.items())
    parts = [figures(exact[0], said) if exact else missing(
        f"What you chose in Generate ({said})",
        f"{command} --weight {here['weight']:g} --sampler {here['sampler']} --steps {here['steps']} "
        f"--schedule {here['schedule']}",
    )]  # fmt: skip
    drawn = [chart for axis in ("weight", "steps") for chart in slices(cells, axis, here, metrics.get("floor"))]
    drawn += [chart for axis in ("sampler", "schedule") for chart in maps(cells, axis, here)]
    if drawn:
        parts.append(f'<div class="charts">{"".join(drawn)}</div>')
    return "".join(parts) + table(cells, here) + f'<p class="sentence">Measured by <code>{command}</code></p>'


def figures(cell: dict, said: str) -> str:
    """The measured figures of the very settings in use."""
    read = f"{cell['accuracy']:.2%} of samples are read as the class asked for; " if "accuracy" in cell else ""
    return (
        f'<p class="sentence"><b>You are here</b> ({said}): {read}FID {cell["fid_test"]:.3f} to test, '
        f"{cell['fid_train']:.3f} to training images ({cell['setting']['samples']:,} samples).</p>"
    )


def slices(cells: list[dict], axis: str, here: dict, floor: float | None) -> list[str]:
    """FID and class accuracy along a numeric setting, one curve for each combination of the others measured thrice."""
    curves: dict[tuple, list[dict]] = {}
    for cell in cells:
        others = tuple(cell["setting"][name] for name in QUALITY if name != axis)
        curves.setdefault(others, []).append(cell)
    curves = {others: found for others, found in curves.items() if len(found) >= 3}
    if not curves:
        return []
    varied = [k for k in range(len(QUALITY) - 1) if len({others[k] for others in curves}) > 1]
    names = [name for name in QUALITY if name != axis]

    def plot(title: str, figure: str, **more) -> str:
        series = {}
        for others, found in curves.items():
            found = sorted((cell["setting"][axis], cell[figure]) for cell in found if figure in cell)
            label = ", ".join(f"w {others[k]:g}" if names[k] == "weight" else str(others[k]) for k in varied) or figure
            series[label] = tuple(zip(*found)) if found else ([], [])
        values = [v for _, ys in series.values() for v in ys] + ([more["level"][0]] if more.get("level") else [])
        places = [v for xs, _ in series.values() for v in xs]
        return lines(
            title, series, around(places, axis, log=axis == "steps"), around(values, log=figure != "accuracy"),
            dots=True, mark=here[axis], **more,
        )  # fmt: skip

    known = any("accuracy" in cell for cell in cells)
    drawn = [plot(f"FID to test images by {axis}", "fid_test", level=(floor, "floor") if floor else None)]
    return drawn + ([plot(f"Read as asked by {axis}", "accuracy")] if known else [])


def maps(cells: list[dict], axis: str, here: dict) -> list[str]:
    """FID as a map of a named setting by the number of steps, where at least two of each were measured."""
    order = list(SAMPLERS) if axis == "sampler" else list(SCHEDULES)
    other = "schedule" if axis == "sampler" else "sampler"
    same = [cell for cell in cells if cell["setting"][other] == here[other]]
    weights = {cell["setting"]["weight"] for cell in same}
    drawn = []
    for weight in sorted(weights):
        found = {
            (cell["setting"][axis], cell["setting"]["steps"]): cell["fid_test"]
            for cell in same
            if cell["setting"]["weight"] == weight
        }
        rows = [name for name in order if any(key[0] == name for key in found)]
        columns = sorted({key[1] for key in found})
        if len(rows) < 2 or len(columns) < 2:
            continue
        best, worst = min(found.values()), max(found.values())
        shade = {
            (name, str(steps)): (1 - (value - best) / ((worst - best) or 1), f"{value:.2f}")
            for (name, steps), value in found.items()
        }
        ring = (here[axis], str(here["steps"])) if here["weight"] == weight else None
        title = f"FID by {axis} and steps, w = {weight:g}, {here[other]}"
        drawn.append(heat(title, rows, [str(c) for c in columns], shade, ring))
    return drawn


def table(cells: list[dict], here: dict) -> str:
    """All measured settings, best FID first."""
    rows = []
    for cell in sorted(cells, key=lambda cell: cell["fid_test"]):
        setting = cell["setting"]
        mine = ' class="here"' if all(setting.get(name) == here[name] for name in QUALITY) else ""
        read = f"{cell['accuracy']:.2%}" if "accuracy" in cell else "–"
        values = [
            setting["sampler"],
            setting["schedule"],
            setting["steps"],
            f"{setting['weight']:g}",
            f"{setting['samples']:,}",
        ]
        values += [read, f"{cell['fid_test']:.3f}", f"{cell['fid_train']:.3f}"]
        rows.append(f"<tr{mine}>" + "".join(f"<td>{value}</td>" for value in values) + "</tr>")
    heads = ("sampler", "schedule", "steps", "w", "samples", "read as asked", "FID to test", "FID to train")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f'<details class="measured"><summary>All {len(rows)} measured settings</summary><div class="scroll"><table>'
        f"<tr>{head}</tr>{''.join(rows)}</table></div></details>"
    )
