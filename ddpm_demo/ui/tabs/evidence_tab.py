"""The Evidence tab: the measured results of the checkpoint in use, or the commands that measure them."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gradio as gr

from ddpm_demo.data.decoding import decode_picture, flatten
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.errors import check_one_of
from ddpm_demo.files import list_foreign_figures, read_json
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.models.networks import count_parameters
from ddpm_demo.reports.card import list_flags
from ddpm_demo.reports.results import encoder_seconds, read_metrics, read_report, select, without_idle
from ddpm_demo.reports.tables import describe_setting
from ddpm_demo.ui.catalogue import Catalogue, report_mistakes
from ddpm_demo.ui.components.charts import Style, draw_lines, fit_axis
from ddpm_demo.ui.components.player import build_player, film_pictures
from ddpm_demo.ui.controls import Controls
from ddpm_demo.ui.events import QUIET
from ddpm_demo.ui.rendering import render
from ddpm_demo.ui.runs import DEFAULTS, unflatten
from ddpm_demo.ui.tabs import evidence_charts as charts
from ddpm_demo.ui.tabs import evidence_sections as sections
from ddpm_demo.ui.tabs.evidence_sentences import describe_losses

HINT = """These are measured results of the checkpoint that is selected above, read from its files. The commands are shown
here, or in `docs/evaluation.md` and `docs/photographs.md`."""
DIFFERENCES = "FID, precision and recall are given as differences to those of as many real images"
NOWHERE = Path("nowhere")  # used if the checkpoint has no folder


def build(tab: gr.Tab, catalogue: Catalogue, controls: Controls) -> None:
    """Lay out the tab. Its files are read whenever it is opened. ``controls`` are those of Generate."""
    gr.Markdown(HINT, elem_classes="story")
    summary, nearest, quality = (gr.HTML(elem_classes=["story", *more]) for more in (["first"], [], []))
    with gr.Accordion("All measured settings: maps and a table", open=False, elem_classes="story"):
        figure = gr.Radio(list(charts.FIGURES), value="FID", label="The maps show", info=DIFFERENCES)
        maps = gr.HTML(elem_classes="story")
    rest = gr.HTML(elem_classes="story")
    gr.Markdown("## How it was trained", elem_classes="story")
    with gr.Row(elem_classes="training"):
        with gr.Column(min_width=320):
            pages = build_player()
        with gr.Column(min_width=320):
            curves = gr.HTML(elem_classes=["story", "curves"])

    def read(figure, *values):
        return show(catalogue, dict(zip(controls, values)), figure)

    def redraw(figure, *values):
        return draw_maps(catalogue, dict(zip(controls, values)), figure)

    inputs, outputs = [figure, *controls.values()], [summary, curves, pages, nearest, quality, maps, rest]
    tab.select(read, inputs, outputs, **QUIET)
    figure.input(redraw, inputs, maps, **QUIET)


@report_mistakes()
def show(catalogue: Catalogue, settings: dict, figure: str = "FID") -> tuple:
    """Return (summary, curves, samples over time as a film, judgement, quality, maps, other measurements)."""
    settings = DEFAULTS | settings
    model, folder = catalogue.model(settings["checkpoint"]), catalogue.folder(settings["checkpoint"])
    check_one_of("figure", figure, charts.FIGURES)
    here, where, files = unflatten(settings), locate(catalogue, settings), folder or NOWHERE
    foreign = list_foreign_figures(files)
    metrics, rows = read_metrics(files, foreign), read_log(files / "metrics.jsonl")
    peer = read_json(files / "peer.json") or []
    time = charts.draw_training_time(metrics, peer, encoder_seconds(files))
    pair = read_pair(catalogue, settings["checkpoint"] or catalogue.names[0], metrics)
    return (
        sections.show_beside(folder, metrics, bool(model.label_names), where)
        + summarise(model, metrics, where, foreign),
        render("charts.html", charts=[time, draw_losses(rows, where)]),
        film_samples(folder, rows),
        render(
            "judgement.html",
            verdict=sections.show_verdict(metrics, model.dataset),
            nearest=sections.show_nearest(folder, metrics),
        ),
        show_quality(metrics, here, where, charts.draw_calls(*pair)),
        show_maps(metrics, here, where, figure),
        render("details.html", sections=list_sections(model, files, metrics, foreign, where)),
    )


@report_mistakes()
def draw_maps(catalogue: Catalogue, settings: dict, figure: str) -> str:
    """Return the maps of a figure, and the table of all measured settings."""
    settings = DEFAULTS | settings
    check_one_of("figure", figure, charts.FIGURES)
    metrics = read_metrics(catalogue.folder(settings["checkpoint"]) or NOWHERE)
    return show_maps(metrics, unflatten(settings), locate(catalogue, settings), figure)


def locate(catalogue: Catalogue, settings: dict) -> str:
    """Return the folder of the checkpoint as the commands take it; a checkpoint of the Hub is named by its id."""
    name, folder = settings["checkpoint"] or catalogue.names[0], catalogue.folder(settings["checkpoint"])
    return os.path.relpath(folder) if folder and "/" not in name else name


def list_sections(model: Model, folder: Path, metrics: dict, foreign: Sequence[str], where: str) -> list[str]:
    """Render the other measurements of a checkpoint, each folded. Those that were not measured may be ""."""
    if model.codec.bounded:
        bits = sections.show_likelihood(metrics.get("bits_per_dim"), where)
    else:
        bits = sections.show_autoencoder(read_json(folder / "autoencoder.json"), folder, metrics, model.dataset)
    ablation = read_json(folder.parent / "ablation.json") if model.dataset == "mnist" else {}
    conditions = read_json(folder.parent / "conditions.json") if model.dataset == "cifar10" else {}
    return [
        sections.fold("Likelihood of real images" if model.codec.bounded else "What the autoencoder loses", bits),
        sections.fold("Completing and enlarging images", sections.show_restoration(metrics.get("restored"), where)),
        sections.fold("The classifier that can guide", sections.show_noisy_classifier(folder, model.dataset)),
        sections.show_speed(read_report(folder, "speed.json", foreign)),
        sections.show_ablation(ablation),
        sections.show_conditions(conditions),
    ]


def read_log(path: Path) -> list[dict]:
    """Read the rows of a training log, without an incomplete last line."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def summarise(model: Model, metrics: dict, where: str, foreign: Sequence[str] = ()) -> str:
    """Render the description of a checkpoint, its most important figures, and the names of ``foreign`` reports."""
    training, trainings = model.training or {}, model.trainings
    facts = [("parameters", f"{count_parameters(model.denoiser.net) / 1e6:.2f} M"), ("dataset", model.dataset or "?")]
    if training.get("seconds"):
        steps, minutes = sum(one.get("steps", 0) for one in trainings), sum(one["seconds"] for one in trainings) / 60
        parts = f" in {len(trainings)} parts" if len(trainings) > 1 else ""
        facts.append(("training", f"{minutes:.0f} min, {steps:,} steps{parts} ({training.get('device', '?')})"))
    if "classifier_test_accuracy" in metrics:
        facts.append(("accuracy of the judge", f"{metrics['classifier_test_accuracy']:.2%} of real test images"))
    if "floor" in metrics:
        facts.append(("FID floor", f"{metrics['floor']:.4f}, real test against real training images"))
    return render("facts.html", facts=facts, where=where, foreign=foreign)


def draw_losses(rows: list[dict], where: str) -> str:
    """Draw the losses against the training time."""
    if len(rows) < 2:
        return sections.show_missing("The training log", f"python train.py --output-dir {where} ...")
    minutes = [row["seconds"] / 60 for row in rows]
    held = [(m, row["validation_loss"]) for m, row in zip(minutes, rows) if row.get("validation_loss") is not None]
    losses = [row["loss"] for row in rows]
    usual = sorted(losses)[int(0.97 * (len(losses) - 1))]  # the first rows would flatten all others
    series = {"training": (minutes, [min(loss, usual * 1.2) for loss in losses])}
    if held:
        series["held out"] = tuple(zip(*held))
    y = fit_axis([*losses[len(losses) // 20 :], *(loss for _, loss in held[2:])], log=True)
    chart = draw_lines("Loss", series, fit_axis(minutes, "minutes of training", zero=True), y, style=Style(beside=True))
    return charts.caption(chart, describe_losses(losses, [loss for _, loss in held]))


def film_samples(folder: Path | None, rows: list[dict]) -> dict:
    """Make a film of the sheets of samples during training. It is hidden if there are none."""
    files = sorted((folder / "samples").glob("step-*.png")) if folder else []
    if not files:
        return gr.update(visible=False)
    minutes = {row["step"]: row["seconds"] / 60 for row in rows}
    pictures = []
    for file in files:
        step = int(file.stem.split("-")[1])
        numbers = {"after step": f"{step:,}"} | ({"minutes": f"{minutes[step]:.1f}"} if step in minutes else {})
        pictures.append((flatten(decode_picture(file, str(file))), numbers))
    film = film_pictures(pictures, "Samples during training", "the noise and the classes are always the same")
    return gr.update(value=film, visible=True)


def read_pair(catalogue: Catalogue, name: str, metrics: dict) -> tuple[list[dict], list[dict]]:
    """Return the measured settings of a teacher and of the model distilled from it.

    The checkpoint called name, whose ``metrics`` are given, is one of the two. Both lists are empty if it is neither.
    """
    pair = catalogue.find_pair(name) or ()
    found = [metrics if one == name else read_metrics(catalogue.folders[one] or NOWHERE) for one in pair]
    return tuple(one.get("quality", []) for one in found) if found else ([], [])


def show_quality(metrics: dict, here: Sampling, where: str, calls: Sequence[str] = ()) -> str:
    """Render the figures of the chosen settings, then curves by steps, guidance and network calls.

    ``calls`` are the charts of quality by network calls, none where there is no distilled model.
    """
    command = f"{sections.EVALUATION} samples --checkpoint {where}"
    cells = metrics.get("quality", [])
    if not cells:
        return sections.show_missing("Quality", command)
    found = select(cells, here, "seed")
    words = describe_setting(here, without=("seed",))
    if found:
        place = render("you_are_here.html", cell=found[0], words=words)
    else:
        (flags,) = list_flags([replace(without_idle(here), seed=0)])
        place = sections.show_missing(f"What you chose in Generate ({words})", f"{command} {flags}")
    drawn = [
        charts.draw_steps(cells, here),
        *calls,
        charts.draw_alike(charts.draw_tradeoff, cells, here),
        charts.draw_alike(charts.draw_guidance, cells, here),
    ]
    return render("quality.html", place=place, charts=drawn)


def show_maps(metrics: dict, here: Sampling, where: str, figure: str = "FID") -> str:
    """Render the maps of a figure, and a table of all measured settings."""
    cells, command = metrics.get("quality", []), f"{sections.EVALUATION} map --checkpoint {where}"
    if not cells:
        return sections.show_missing("Quality", command)
    maps = charts.draw_maps(cells, here, figure)
    return render("maps.html", charts=maps, table=charts.tabulate(cells, here), command=command)
