"""The Evidence tab: what was measured of the checkpoint in use, and where it was not, the command that measures it."""

import json
import os
from pathlib import Path

import gradio as gr
from PIL import Image

from ddpm_demo.diffusion.samplers import VARIANCES
from ddpm_demo.errors import check_one_of
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.models.networks import count_parameters
from ddpm_demo.models.noisy_classifier import accuracies
from ddpm_demo.reports.results import encoder_seconds, read_metrics
from ddpm_demo.ui.catalogue import Catalogue, in_words
from ddpm_demo.ui.components.charts import around, lines
from ddpm_demo.ui.components.player import data_uri, leaves, player
from ddpm_demo.ui.runs import DEFAULTS
from ddpm_demo.ui.tabs import evidence_charts as maps

HINT = """Everything here was measured by the commands that stand beside it, and is read from the checkpoint's own files.
Leaf through the samples to see what the model learned when; then look for the ring: it marks the settings you chose in
**Generate**."""


def build(tab: gr.Tab, catalogue: Catalogue, chosen: dict[str, gr.components.Component]) -> None:
    """Lay out the tab; it is read anew whenever it is opened. ``chosen``: the controls of Generate."""
    gr.Markdown(HINT, elem_classes="hint")
    summary = gr.HTML()
    with gr.Row():
        with gr.Column(min_width=320):
            curves = gr.HTML()
        with gr.Column(min_width=320):
            pages = player()
    nearest = gr.HTML()
    figure = gr.Radio(list(maps.FIGURES), value="FID", label="The maps show")
    tables, rest = gr.HTML(), gr.HTML()

    def read(figure, *values):
        return show(catalogue, dict(zip(chosen, values)), figure)

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    inputs, outputs = [figure, *chosen.values()], [summary, curves, pages, nearest, tables, rest]
    tab.select(read, inputs, outputs, **quiet)
    figure.input(lambda *values: read(*values)[4], inputs, tables, **quiet)


def show(catalogue: Catalogue, settings: dict, figure: str = "FID") -> tuple:
    """(summary, curves, samples over time as a film, nearest images, quality, speed and ablation) of the checkpoint."""
    settings = DEFAULTS | settings
    with in_words():
        model, folder = catalogue.model(settings["checkpoint"]), catalogue.folder(settings["checkpoint"])
        check_one_of("figure", figure, maps.FIGURES)
    there = folder or Path("nowhere")
    metrics, rows = read_metrics(there), log_rows(there / "metrics.jsonl")
    where = os.path.relpath(folder) if folder else settings["checkpoint"]
    peer = read_json(there / "peer.json") or []
    rest = [
        autoencoder(there, metrics) if not model.codec.bounded else likelihood(metrics.get("bits_per_dim"), where),
        restored(metrics.get("restored"), where),
        noisy(folder),
        maps.speed(read_json(there / "speed.json")),
        maps.ablation(read_json(there.parent / "ablation.json") if model.dataset == "mnist" else {}),
        maps.conditions(read_json(there.parent / "conditions.json") if model.dataset == "cifar10" else {}),
    ]
    return (
        summary_of(model, metrics, where),
        f'<div class="charts">{curves_of(rows, where)}{maps.over_time(metrics, peer, encoder_seconds(there))}</div>',
        pages_of(folder, rows),
        neighbours(folder, metrics),
        quality(metrics, settings, where, figure),
        "".join(rest),
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
    facts = [("parameters", f"{count_parameters(model.denoiser.net) / 1e6:.2f} M"), ("dataset", model.dataset or "?")]
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


def quality(metrics: dict, settings: dict, where: str, figure: str = "FID") -> str:
    """The measured figures of the settings in use; maps, curves and a table of all that were measured."""
    command = f"python -m ddpm_demo.evaluation --checkpoint {where}"
    here = maps.setting_of(settings)
    cells = [cell for cell in metrics.get("quality", []) if here.keys() <= cell["setting"].keys()]  # else an old file
    if not cells:
        return missing("Quality", command)
    said = ", ".join(f"{name} {maps.named(name, here[name])}" for name in maps.AXES[:4])
    exact = [cell for cell in cells if maps.same(cell, here)]
    flags = " ".join(f"--{name} {maps.named(name, here[name])}" for name in ("weight", "sampler", "steps", "schedule"))
    drawn = [
        maps.tradeoff(cells, here),
        maps.two_kinds(cells, here),
        maps.by_steps(cells, here),
        *maps.maps(cells, here, figure),
    ]
    return "".join([
        figures(exact[0], said) if exact else missing(f"What you chose in Generate ({said})", f"{command} {flags}"),
        f'<div class="charts">{"".join(drawn)}</div>',
        '<p class="sentence">FID here is that to the test images, less that of as many real images, which is what '
        "perfect samples would get.</p>" if any(drawn) else "",
        maps.measured(cells, here),
        f'<p class="sentence">Measured by <code>{command} --map</code></p>',
    ])  # fmt: skip


def figures(cell: dict, said: str) -> str:
    """The measured figures of the very settings in use."""
    read = f"{cell['accuracy']:.2%} of samples are read as the class asked for; " if "accuracy" in cell else ""
    return (
        f'<p class="sentence"><b>You are here</b> ({said}): {read}FID {cell["fid_test"]:.3f} to test images, where as many '
        f"real images get {cell['reference']['fid_test']:.3f}; precision {cell['precision']:.3f} "
        f"({cell['reference']['precision']:.3f}), recall {cell['recall']:.3f} ({cell['reference']['recall']:.3f}); "
        f"{cell['setting']['samples']:,} samples.</p>"
    )


def likelihood(told: dict | None, where: str) -> str:
    """What real test images cost in bits per dimension, and where along the way."""
    command = f"python -m ddpm_demo.evaluation --checkpoint {where} --bits-per-dim"
    if not told:
        return missing("The likelihood of real images", f"{command} 10000")
    t = told["curve"]["t"]
    series = {name: (t, told["curve"][name]) for name in VARIANCES}
    values = [value for _, ys in series.values() for value in ys if value > 0]
    rows = [
        ([name, *(f"{told[key][part]['mean']:.3f} ± {told[key][part]['se']:.3f}" for part in ("L_T", "L_t", "L_0", "total"))], False)
        for key, name in (*((v, f"bound, variance {v}") for v in VARIANCES), ("continuous", "bound, endless steps"))
    ]  # fmt: skip
    if "ode" in told:
        rows.append(
            (["probability-flow ODE", "", "", "", f"{told['ode']['mean']:.3f} ± {told['ode']['se']:.3f}"], False)
        )
    chart = lines(
        "What a step costs in bits per dimension, by variance", series, around(t, "timestep t", log=True), around(values, log=True, legend_rows=1)
    )  # fmt: skip
    best = told["continuous"]["total"]
    said = (
        f'<p class="sentence"><b>Likelihood.</b> Sent with this model, a pixel of a real test image costs at most '
        f"{best['mean']:.2f} of its 8 bits ({told['images']:,} images, without their labels). The first steps away from the "
        f"clean image are the dear ones: there the last bits of every pixel are decided. Measured by <code>{command} "
        f"{told['images']}</code></p>"
    )
    heads = ("bits per dimension", "L_T", "L_t", "L_0", "together")
    return f'<div class="charts">{chart}</div>{said}' + maps.table("Likelihood by three routes", heads, rows)


def autoencoder(folder: Path, metrics: dict) -> str:
    """What the autoencoder costs: real images, and what it makes of them."""
    told, measured = read_json(folder / "autoencoder.json"), metrics.get("autoencoder")
    if not told:
        return ""
    sheet = ""
    if (folder / "reconstructions.png").is_file():
        with Image.open(folder / "reconstructions.png") as row:
            sheet = (
                f'<img src="{data_uri(row)}" alt="real test images, and below each what the autoencoder gives back"/>'
            )
    cost = (
        f" Encoded and decoded, real test images are at FID {measured['fid_train']:.3f} to the training images (as they are: "
        f"{metrics['floor']:.3f}), and {measured['accuracy']:.1%} of them are still read correctly: what is drawn from latents "
        "cannot be better."
        if measured
        else ""
    )
    return (
        f'<figure class="nearest">{sheet}<figcaption><b>The autoencoder.</b> Real test images, and below each what is left of '
        f"it in {'×'.join(map(str, told['latents']))} numbers: {told['psnr']:.1f} dB (PSNR, {told['test_images']:,} test "
        f"images). Trained in {told['seconds'] / 60:.0f} minutes by <code>python train.py --autoencoder</code>.{cost}"
        "</figcaption></figure>"
    )


def restored(told: dict | None, where: str) -> str:
    """What it makes of images that are known in part."""
    if not told:
        return ""
    said = " ".join(
        f"<b>{words}</b>: {row['psnr']:.1f} dB to the original, {row['psnr_plain']:.1f} by {plain}, {row['psnr_of_another']:.1f} "
        f"when another image is shown to it; {row['accuracy']:.0%} are read as the original."
        for task, words, plain in (
            ("complete", "Completing a hole in the middle", "the mean colour"),
            ("enlarge", "Enlarging four times", "bicubic interpolation"),
        )
        if (row := told.get(task))
    )
    command = f"python -m ddpm_demo.evaluation --checkpoint {where} --restore {told['images']}"
    return f'<p class="sentence">{said} {told["images"]} test images, without labels. <code>{command}</code></p>'


def noisy(folder: Path | None) -> str:
    """How well the classifier of classifier guidance reads noisy images."""
    shares = accuracies(folder) if folder else {}
    if not shares:
        return ""
    series = {"noisy test images": (list(shares), list(shares.values()))}
    chart = lines(
        "The guiding classifier, by noise", series, around(list(shares), "log-SNR"), around([0, 1]), dots=True
    )
    return (
        f'<div class="charts">{chart}</div><p class="sentence">The share of noisy test images that the noise-aware '
        "classifier reads: where it is at chance, its gradient knows nothing. Trained and measured by <code>python train.py "
        "--classifier --noise-aware</code></p>"
    )


def neighbours(folder: Path | None, metrics: dict) -> str:
    """Is it memorising? Samples, the training image nearest to each, and the distances of all in a sentence."""
    told = metrics.get("memorised")
    if not folder or not told or not (folder / "nearest.png").is_file():
        return ""
    with Image.open(folder / "nearest.png") as sheet:
        uri = data_uri(sheet)
    return (
        f'<figure class="nearest"><img src="{uri}" alt="rows of samples, and below each sample the training image nearest to it"/>'
        f"<figcaption><b>Is it memorising?</b> Rows of samples; below each sample the training image nearest to it. Samples are "
        f"{told['median']:.3f} away from their nearest training image (median, root mean square of pixels), real test "
        f"images {told['median_of_test_images']:.3f}; {told['closer_than_99_percent_of_test_images']:.1%} of samples are "
        f"closer than 99% of test images ({told['samples']:,} samples).</figcaption></figure>"
    )
