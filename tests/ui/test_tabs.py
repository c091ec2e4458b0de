"""The handlers of the other tabs as plain generators, without a browser."""

import json
import math
import re
from dataclasses import replace
from itertools import pairwise

import gradio as gr
import pytest
import torch
from conftest import SHIPPED, frames, opened, tiny_model
from PIL import Image

from ddpm_demo.diffusion.denoiser import Denoiser
from ddpm_demo.diffusion.sampling import ALWAYS
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation.maps import BASE
from ddpm_demo.generation.zero_shot import Reading
from ddpm_demo.models import checkpoint
from ddpm_demo.models.adapters import adapt
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.models.codec import LatentCodec
from ddpm_demo.models.networks import build_unet
from ddpm_demo.reports.results import find, read_metrics, sampling_of, without_idle
from ddpm_demo.training import autoencoder
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components import charts, pad
from ddpm_demo.ui.components.player import film
from ddpm_demo.ui.data_uri import decode_uri, encode_picture
from ddpm_demo.ui.runs import DEFAULTS, as_int, as_number, prepare, unflatten
from ddpm_demo.ui.tabs import compare_tab as compare
from ddpm_demo.ui.tabs import draw_tab as draw
from ddpm_demo.ui.tabs import evidence_charts, stages_section
from ddpm_demo.ui.tabs import evidence_sections as sections
from ddpm_demo.ui.tabs import evidence_sentences as sentences
from ddpm_demo.ui.tabs import evidence_tab as evidence
from ddpm_demo.ui.tabs import forward_tab as forward
from ddpm_demo.ui.tabs import small_steps_tab as small_steps

CHOSEN = {"class_label": "b", "weight": 1.0, "sampler": "ddim", "steps": 5, "seed": 3, "count": 2}


# Forward process


def test_the_four_schedules_side_by_side(shipped):
    cards, plots = forward.draw_schedules(shipped, pad.fill_pad(shipped), 300, 0, "")
    assert cards.count("<figure") == 4 and plots.count("<svg") == 3
    assert re.findall(r'data-schedule="(\w+)"', cards) == ["linear", "quadratic", "cosine", "sigmoid"]
    start, _ = forward.draw_schedules(shipped, pad.fill_pad(shipped), 0, 0, "")
    assert "almost nothing is lost" in start
    end, _ = forward.draw_schedules(shipped, pad.fill_pad(shipped), 999, 0, "")
    assert "it is noise" in end
    said = forward.compare_ways("linear", 200)
    assert "201 single steps and one jump" in said and ("they agree" in said or "by chance" in said)


@pytest.mark.parametrize("t", [-1, 1000, 3.5, None, math.nan, "3", True])
def test_a_wrong_timestep_is_a_sentence(shipped, t):
    with pytest.raises(gr.Error, match="t is "):
        forward.draw_schedules(shipped, pad.fill_pad(shipped), t, 0, "")


@pytest.mark.parametrize("ink", ["", "x", "data:image/png;base64,xx", "data:text/html;base64,AAAA", 7, [], {"a": 1}])
def test_what_is_no_drawing_is_a_sentence(shipped, ink):
    with pytest.raises(gr.Error):
        pad.read_pad(shipped.model(), {"ink": ink})
    with pytest.raises(gr.Error):
        pad.read_pad(shipped.model(), ink)


def test_a_drawing_arrives_as_it_was(shipped):
    ink, mask = Image.new("L", (28, 28)), Image.new("RGBA", (28, 28))
    ink.paste(255, (3, 4, 5, 6))
    mask.paste((255, 150, 40, 255), (10, 0, 20, 28))
    image, marked = pad.read_pad(shipped.model(), {"ink": encode_picture(ink), "mask": encode_picture(mask)})
    assert image.shape == (1, 28, 28) and (image > 0).sum() == 4 and bool((image[0, 4:6, 3:5] == 1).all())
    assert marked.sum() == 280 and bool(marked[:, 10:20].all())


# Compare


def grid(catalogue, down, down_values, across, across_values, **settings):
    shown = list(
        compare.fill_grid(catalogue, down, down_values, across, across_values, DEFAULTS | {"steps": 3} | settings)
    )
    return shown[-1][0], shown[0][1], shown


def test_the_grid_fills_and_counts(catalogue):
    whole, _, shown = grid(catalogue, "sampler", ["ddim", "heun"], "steps", ["2", "4"], class_label="b")
    assert [len(grid["cells"]) for grid, _ in shown] == [0, 1, 2, 3, 4] and whole["done"]
    assert "4 of 4 cells, 16 network calls" in whole["progress"]  # 2 + 4 + (2 * 2 - 1) + (2 * 4 - 1)
    assert "left" in shown[1][0]["progress"]


def test_classes_and_seeds_are_drawn_together(catalogue):
    whole, asked, shown = grid(catalogue, "class", ["a", "b", "c"], "seed", ["0", "5"])
    assert [len(grid["cells"]) for grid, _ in shown] == [0, 6]
    assert "3 network calls" in whole["progress"]
    *_, alone = compare.open_cell(catalogue, asked, 2, 1)
    tile = opened(alone["value"]["chunks"][-1]["sprites"]["x0"])
    cell = next(cell for cell in whole["cells"] if (cell["row"], cell["column"]) == (2, 1))
    last = tile.crop((0, tile.height - 16, 16, tile.height))
    one, other = (
        torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).int() for image in (last, opened(cell["image"]))
    )
    assert (one - other).abs().max() <= 1


def test_a_cell_shows_its_run_at_some_of_its_steps(catalogue):
    whole, _, _ = grid(catalogue, "steps", ["1", "5", "40"], "seed", ["0", "1"])
    for cell in whole["cells"]:
        steps, last = opened(cell["steps"]), opened(cell["image"])
        assert steps.size == (16, 16 * min(int(whole["rows"][cell["row"]]), compare.STEPS_SHOWN))
        assert steps.crop((0, steps.height - 16, 16, steps.height)).tobytes() == last.tobytes()


def test_every_pair_fills(pair):
    """Also that of the distilled model; the dropdowns offer the values that they then show."""
    pairs = compare.list_pairs(pair)
    assert len(pairs) == len(compare.PAIRS) + 1
    for axes in pairs.values():
        down, down_values, across, across_values = compare.fill_pickers(pair, axes)
        assert set(down_values["value"]) <= set(down_values["choices"])
        assert set(across_values["value"]) <= set(across_values["choices"])
        whole, _, _ = grid(pair, down, down_values["value"], across, across_values["value"])
        assert whole["done"]


@pytest.mark.parametrize("axis", compare.AXES)
def test_every_axis_fills(catalogue, axis):
    other = "seed" if axis != "seed" else "class"
    values = {name: compare.list_values(catalogue, name)["value"][:2] for name in (axis, other)}
    whole, _, _ = grid(catalogue, axis, values[axis], other, values[other])
    assert whole["done"] and len(whole["cells"]) == len(values[axis]) * len(values[other])


@pytest.mark.parametrize(
    "axes, message",
    [
        (("steps", ["3"], "steps", ["4"]), "both axes are steps"),
        (("colour", ["3"], "steps", ["4"]), "down is 'colour'; it must be one of class, weight"),
        (("weight", [], "steps", ["4"]), "weight has no values"),
        (("class", ["a", "all"], "steps", ["4"]), "class holds 'all', but a cell shows one class"),
        (("weight", ["heavy"], "steps", ["4"]), "each must be a number"),
        (("weight", ["nan"], "steps", ["4"]), "weight is nan"),
        (("steps", ["5000"], "seed", ["4"]), "steps is 5000"),
        (("seed", [str(k) for k in range(50)], "steps", ["2", "3", "4"]), "50 x 3 cells are too many"),
    ],
)
def test_a_wrong_grid_is_a_sentence(catalogue, axes, message):
    with pytest.raises(gr.Error, match=re.escape(message)):
        grid(catalogue, *axes)


def test_a_click_beside_the_grid_is_a_sentence(catalogue):
    for asked, row in (({}, 0), ({"cells": [[{}]]}, 7), ({"cells": [[{}]]}, "x"), (None, None)):
        with pytest.raises(gr.Error, match="fill the grid first"):
            next(compare.open_cell(catalogue, asked, row, 0))


# Draw


def answered(catalogue, task, label=draw.ANY, keep=draw.KEEPS[0], t=500, draws=8, paper=None, checkpoint=""):
    paper = paper or pad.fill_pad(catalogue, marks=True)
    return list(draw.answer(catalogue, draw.Question(paper, task, label, 1.0, t, keep, draws, 0, checkpoint)))


def test_noise_and_denoise_gives_four_variants(shipped):
    film, _ = answered(shipped, draw.TASKS[0])[-1]
    assert film["done"] and film["count"] == draw.STEPS and film["link"] == ""
    assert [panel["key"] for panel in film["panels"]] == ["x", "x0", "eps"]
    assert frames(film)[0]["numbers"]["t"] == "500"


def test_completing_keeps_the_rest(shipped):
    mask = Image.new("RGBA", (28, 28))
    mask.paste((255, 150, 40, 255), (0, 14, 28, 28))
    paper = pad.fill_pad(shipped, marks=True) | {"mask": encode_picture(mask)}
    film, _ = answered(shipped, draw.TASKS[1], label="3", paper=paper)[-1]
    last = opened(film["chunks"][-1]["sprites"]["x0"])
    top = last.crop((1, last.height - film["height"] + 1, 29, last.height - film["height"] + 15))
    assert top.tobytes() == opened(paper["ink"]).convert("L").crop((0, 0, 28, 14)).tobytes()
    with pytest.raises(gr.Error, match="nothing is left to paint"):
        answered(shipped, draw.TASKS[1])
    assert answered(shipped, draw.TASKS[1], keep=draw.KEEPS[1])[-1][0]["done"]


def test_the_bars_firm_up(shipped):
    shown = [chart for _, chart in answered(shipped, draw.TASKS[2], draws=16)]
    assert [re.search(r'data-draws="(\d+)"', chart)[1] for chart in shown] == ["4", "8", "12", "16"]
    assert 'data-label="3"' in shown[-1] and shown[-1].count("<rect") == 10


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"task": "Sing"}, "task is 'Sing'"), ({"t": 5000}, "t is 5000"), ({"label": "eleven"}, "class_label is 'eleven'"),
        ({"task": draw.TASKS[2], "draws": 10**6}, "draws is 1000000"), ({"checkpoint": "x"}, "checkpoint is 'x'"),
        ({"keep": "nothing", "task": draw.TASKS[1]}, "must be one of"),
    ],
)  # fmt: skip
def test_a_wrong_task_is_a_sentence(shipped, changed, message):
    with pytest.raises(gr.Error, match=re.escape(message)):
        answered(shipped, **({"task": draw.TASKS[0]} | changed))


# Why small steps?


def test_small_steps_are_gaussian_and_large_ones_are_not():
    def gap(power):
        return float(re.search(r'data-gap="([\d.]+)"', small_steps.draw_step(power, 0.45))[1])

    assert gap(-3) < 0.03 and gap(-1) > 0.3
    assert "as good as exact" in small_steps.draw_step(-3, 0.1) and "plainly wrong" in small_steps.draw_step(-1, 0.45)
    assert small_steps.draw_ways(50, 1).count("<svg") == 3


@pytest.mark.parametrize("wrong", [(math.nan, 0), (-1, 9), (5, 0), (None, 0), ("a", 0)])
def test_a_wrong_step_is_a_sentence(wrong):
    with pytest.raises(gr.Error):
        small_steps.draw_step(*wrong)
    with pytest.raises(gr.Error):
        small_steps.draw_ways(0, 0)


# Evidence


def test_evidence_shows_what_was_measured(shipped):
    summary, _, _, nearest, quality, maps, rest = evidence.show(shipped, DEFAULTS)
    metrics = read_metrics(SHIPPED)
    assert f"{metrics['classifier_test_accuracy']:.2%}" in summary and f"{metrics['floor']:.4f}" in summary
    here = find(metrics["quality"], unflatten(DEFAULTS))
    assert "You are here" in quality and f"{here['fid_test']:.3f}" in quality and "class=here" in maps
    assert "Is it memorising?" in nearest and f"{metrics['memorised']['median']:.3f}" in nearest
    assert "Images a second" in rest and "What each choice is worth" in rest
    assert evidence.draw_maps(shipped, DEFAULTS, "FID") == maps != evidence.draw_maps(shipped, DEFAULTS, "recall")
    elsewhere = evidence.show(shipped, DEFAULTS | {"steps": 777})[4]
    assert "has not been measured" in elsewhere and "--steps 777" in elsewhere
    with pytest.raises(gr.Error, match="figure is 'beauty'"):
        evidence.show(shipped, DEFAULTS, "beauty")
    with pytest.raises(gr.Error, match="figure is 'beauty'"):
        evidence.draw_maps(shipped, DEFAULTS, "beauty")


def test_evidence_begins_with_samples_beside_real_images(shipped):
    """The halves of the committed picture, the figures of its setting, and what was found in them."""
    summary, _, _, nearest, *_ = evidence.show(shipped, DEFAULTS)
    report = read_metrics(SHIPPED)["beside"]
    pictures = [decode_uri(uri) for uri in re.findall(r'<img src="([^"]+)"', summary)]
    assert [picture.size for picture in pictures] == [(280, report["setting"]["samples"] // 10 * 28)] * 2
    assert pictures[0].tobytes() != pictures[1].tobytes()
    assert summary.index("<img") < summary.index("<dl")
    judged = find(read_metrics(SHIPPED)["quality"], sampling_of(report))
    for figure in ("fid_test", "precision", "recall"):
        assert f">{judged[figure]:.3f}<" in nearest and f">{judged['reference'][figure]:.3f}<" in nearest


def test_every_chart_of_evidence_has_a_sentence(shipped):
    _, curves, _, _, quality, maps, rest = evidence.show(shipped, DEFAULTS)
    for html in (curves, quality, maps, rest):
        sentences = re.findall(r"</svg>\s*<figcaption>([^<]{30,})", html)
        assert len(sentences) == html.count("<svg")
    assert maps.count("<svg") > 4 and rest.count("<details") > 4


def test_a_distilled_model_is_compared_with_its_teacher_by_network_calls(shipped):
    teacher, student = (read_metrics(SHIPPED.with_name(name)).get("quality", []) for name in ("mnist", "mnist-instant"))
    fid, recall = evidence_charts.draw_calls(teacher, student)
    assert "FID by network calls" in fid and "needs" in fid and ">ddim<" in fid
    # Most samplers of the teacher were measured on fewer samples, so their recall does not compare.
    assert "Recall by network calls" in recall and ">dpm++2m<" in recall and ">ddim<" not in recall
    assert "All points use 8,192 samples." in recall
    assert evidence_charts.draw_calls(teacher, []) == []


def test_the_sentences_say_what_the_figures_say():
    steps = {
        "ddim": [(5, 0.9, 0.1), (20, -0.001, 0.04)],
        "heun": [(5, 0.4, 0.05), (20, 0.1, 0.04), (50, 0.1, 0.04)],
        "pc": [(5, 2.5, 0.2)],
    }
    assert sentences.describe_steps(steps).startswith(
        "Lower is better: with 5 steps, the FID is from 0.40 ± 0.050 (heun) to 2.50 ± 0.20 (pc); with 20 steps, the FID is "
        "from -0.001 ± 0.040 (ddim) to 0.10 ± 0.040 (heun), equal within the uncertainty."
    )
    calls = {"distilled": ([1, 2], [0.2, 0.1]), "ddim": ([5, 20], [0.9, 0.2]), "heun": ([39], [0.05])}
    assert "needs 20 calls to come as close (ddim; its points are uncertain by 0.040)" in sentences.describe_calls(
        calls, "distilled", 0.04
    )
    assert "needs at most 39 calls" in sentences.describe_calls(calls | {"ddim": ([5], [0.9])}, "distilled", 0.04)
    assert "no measured number" in sentences.describe_calls(
        {"distilled": ([1], [0.01]), "ddim": ([5], [0.9])}, "distilled", 0.04
    )
    recall = {"distilled": ([1, 16], [0.7, 0.85]), "ddim": ([20], [0.87])}
    assert "is 0.70 with 1 network call and 0.85 with 16 network calls, and that of as many real images 0.88." in (
        sentences.describe_variety(recall, "distilled", 8192, 0.88)
    )
    weights = {"precision": ([0, 4], [0.8, 0.9]), "recall": ([0, 4], [0.9, 0.5]), "read": ([0, 4], [0.5, 0.502])}
    assert sentences.describe_tradeoff(weights, 2048).startswith(
        "From w = 0 to w = 4, precision rises from 0.80 to 0.90, recall falls from 0.90 to 0.50 and read stays at 0.50 "
        "(2,048 samples)."
    )
    assert "no sign" in sentences.describe_losses([1, 0.5], [0.52]) and "gap" in sentences.describe_losses(
        [1, 0.5], [0.9]
    )
    assert "The best cell is a, y: 0.1." in sentences.describe_map(
        {("a", "x"): (0.2, "3"), ("a", "y"): (1.0, "0.1")}, False
    )
    better = {"precision": 0.7, "recall": 0.9, "reference": {"precision": 0.9, "recall": 0.9}}
    assert "quality of single samples: its precision is 0.700" in sentences.describe_verdict(better)
    assert "as good as real images" in sentences.describe_verdict(better | {"precision": 0.9})


def test_names_beside_curves_do_not_cover_each_other():
    series = {f"curve {k}": ([0, 1], [0, 0.5 + k / 1000]) for k in range(8)}
    chart = charts.draw_lines("t", series, charts.Axis(0, 1), charts.Axis(0, 1), style=charts.Style(beside=True))
    places = sorted(float(y) for y in re.findall(r'class="name" x="[\d.]+" y="([\d.]+)"', chart))
    assert len(places) == 8 and places[-1] <= charts.HEIGHT
    assert min(b - a for a, b in pairwise(places)) >= charts.LINE_HEIGHT - 0.11


def test_evidence_of_a_run_with_a_log(tmp_path, model):
    folder = tmp_path / "run"
    checkpoint.save(model, folder)
    (folder / "samples").mkdir()
    for step in (125, 250):
        Image.new("L", (64, 64), step // 2).save(folder / f"samples/step-{step:06}.png")
    rows = [
        {"step": s, "epoch": 0.1, "seconds": s * 1.0, "loss": 1 / s, "validation_loss": 1 / s, "images_per_second": 9}
        for s in (50, 125, 250)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')
    summary, curves, pages, nearest, quality, _, rest = evidence.show(Catalogue(model, "run", folder), DEFAULTS)
    assert "ddpm_demo.evaluation beside --checkpoint" in summary and "<img" not in summary
    assert nearest == "" and "evaluation likelihood --checkpoint" in rest and "<svg" not in rest
    assert "held out" in curves and curves.count("<polyline") == 2
    assert pages["value"]["count"] == 2 and pages["value"]["chunks"][0]["frames"][1]["numbers"]["after step"] == "250"
    assert "python -m ddpm_demo.evaluation samples --checkpoint" in quality and "/run</code>" in quality


def test_text_from_outside_is_escaped(model):
    """Names of classes and datasets, folders and files are text, whatever they contain."""
    evil = '"><script>alert(1)</script>'
    reading = Reading(1, 1, torch.ones(1), torch.zeros(1), torch.zeros(1))
    for html in (
        evidence.summarise(replace(model, dataset=evil), {}, evil),
        evidence.show_quality({}, BASE, evil),
        evidence.show_maps({}, BASE, evil),
        sections.show_beside(None, {}, True, evil),
        charts.draw_lines(evil, {evil: ([0, 1], [0, 1]), "b": ([0], [1])}, charts.Axis(0, 1), charts.Axis(0, 1)),
        sections.fold(evil, evil),
        draw.draw_reading(reading, (evil,)),
        charts.draw_bars(evil, {evil: (1.0, 0.0, evil)}),
        charts.draw_map(evil, evil, [evil], [evil], {(evil, evil): (1.0, evil)}),
    ):
        assert "<script>" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize("read", [as_int, as_number])
def test_a_message_quotes_a_long_text_in_short(read):
    with pytest.raises(UserError, match="weight is 'xxx.*; it must be") as error:
        read("weight", "x" * 5_000_000)
    assert len(str(error.value)) < 200


def test_an_error_quotes_a_foreign_file_without_markup(model, tmp_path):
    """Also an error that is no mistake of the user: a picture that cannot be decoded."""
    (tmp_path / "samples").mkdir()
    for name, said in (
        ("step-<img src=x>.png", "literal .* '&lt;img src=x&gt;'"),
        ("step-1.png", "step-1.png cannot be read as an image: it is none of PNG"),
    ):
        path = tmp_path / "samples" / name
        path.write_bytes(b"")
        with pytest.raises(gr.Error) as error:
            evidence.show(Catalogue(model, "run", tmp_path), DEFAULTS)
        assert re.search(said, error.value.message) and "<" not in error.value.message
        path.unlink()


def cell(fid=0.3, samples=512, **setting):
    """A measured cell as in metrics.json."""
    figures = {"fid_test": fid, "fid_train": fid, "precision": 0.8, "recall": 0.7, "accuracy": 0.9}
    spread, reference = {"fid_test": 0.02}, {"fid_test": 0.1, "precision": 0.9, "recall": 0.9}
    return {
        "setting": BASE.as_dict() | {"samples": samples} | setting,
        "spread": spread,
        "reference": reference,
        **figures,
    }


def test_quality_is_drawn_as_curves_and_maps():
    cells = [cell(n * 0.1 + w, sampler=s, steps=n, weight=w) for s in ("ddim", "dpm++2m") for n in (5, 10, 20)
             for w in (0.0, 1.0, 2.0)]  # fmt: skip
    measured = {"quality": cells, "floor": 0.01}, unflatten(DEFAULTS), "x"
    html = evidence.show_quality(*measured) + evidence.show_maps(*measured)
    assert "Precision, recall and class accuracy" in html and "FID by steps, w = 0" in html
    for title in ("cosine, w = 1", "cosine, w = 0", "5 steps, cosine", "20 steps, cosine"):
        assert title in html
    assert html.count('stroke-width="2"') == 2  # the settings in use, in the map by steps and in the one by weight
    assert ">1.90</text>" in html  # 0.1 * 10 + 1, less the 0.1 of as many real images
    assert ">80.0%" not in html and ">-0.10</text>" in evidence.show_maps(
        {"quality": cells}, unflatten(DEFAULTS), "x", "precision"
    )


def test_every_kind_of_guidance_has_its_path():
    cells = [cell(weight=w) for w in (-1.0, 0.0, 1.0, 2.0)]
    cells += [
        cell(weight=w, **{kind: s})
        for w, kind in ((0.0, "autoguidance"), (-1.0, "classifier_scale"))
        for s in (1.0, 2.0)
    ]
    for old in cells:
        if not old["setting"]["autoguidance"]:
            del old["setting"]["autoguidance"]  # measured before the setting existed
    few = [cell(weight=w) for w in (0.0, 1.0)]
    for one in few:  # too few for a path of their own; the paths are of the others alone
        one["setting"]["samples"] *= 2
    html = evidence_charts.draw_alike(evidence_charts.draw_guidance, [*few, *cells], unflatten(DEFAULTS))
    assert all(f">{name}<" in html for name in ("classifier-free", "classifier", "autoguidance"))
    assert ">classifier+label<" not in html  # a single point is no path
    assert evidence_charts.draw_guidance(cells[:4], unflatten(DEFAULTS)) == ""


def test_the_settings_in_use_are_found_where_they_were_measured():
    narrow = DEFAULTS | {
        "interval_from": -20.0,
        "interval_to": 0.0,
        "sampler": "ddpm",
        "variance": "beta",
        "weight": 2.0,
    }
    measured = replace(BASE, interval=(-20.0, 0.0), sampler="ddpm", variance="beta", weight=2.0)
    assert without_idle(unflatten(narrow)) == measured
    assert without_idle(unflatten(DEFAULTS)) == BASE
    assert without_idle(unflatten(narrow | {"weight": 0.0, "sampler": "ddim"})).interval == ALWAYS
    assert find([cell(0.5), cell(0.4, **measured.as_dict())], unflatten(narrow))["fid_test"] == 0.4
    assert [evidence_charts.format_value("interval", value) for value in (ALWAYS, [-20.0, 0.0], [-3.0, 3.0], [0.0, 20.0])] == [
        "always", "below 0", "-3 to 3", "above 0"]  # fmt: skip


def test_training_time_is_drawn_beside_the_courses():
    row = {"training": {"seconds": 60.0}, "fid_test": 0.5, "reference": {"fid_test": 0.1}}
    later = {"training": {"seconds": 600.0}, "fid_test": 0.05, "reference": {"fid_test": 0.1}}
    chart = evidence_charts.draw_training_time({"over_time": [row, later]}, [row])
    assert "FID by training time" in chart and "course" in chart and chart.count("<circle") == 3
    assert (
        "the autoencoder included"
        in evidence_charts.draw_training_time({"over_time": [row, later]}, [row], encoder=600.0)
        != chart
    )
    assert evidence_charts.draw_training_time({}, [row]) == ""


def test_checkpoints_of_other_classes_are_compared(tmp_path, shipped):
    """Digits beside colour: each draws the class it knows, and axes offer what the chosen checkpoint has."""
    checkpoint.save(tiny_model(3, 16, 3), tmp_path / "colour")
    both = Catalogue(shipped.model(), "mnist", SHIPPED, tmp_path)
    settings = DEFAULTS | {"class_label": "7", "checkpoint": "mnist"}
    seen = list(compare.fill_grid(both, "checkpoint", ["mnist", "colour"], "steps", ["2"], settings))
    labels = [cell["class_label"] for line in seen[0][1]["cells"] for cell in line]
    assert labels == ["7", "c"] and seen[-1][0]["done"]
    assert compare.list_values(both, "checkpoint", "colour")["value"] == ["colour"]
    assert compare.list_values(both, "class", "colour")["choices"] == ["a", "b", "c"]
    whole, _ = compare.draw_grid(both, "checkpoint", ["mnist", "colour"], "steps", ["2"], settings)
    assert whole.mode == "RGB" and whole.size == (30 * 3, 60 * 3)
    with pytest.raises(gr.Error, match="checkpoint is 'none'"):
        list(compare.fill_grid(both, "checkpoint", ["none"], "steps", ["2"], settings))


def test_what_runs_where(tmp_path, catalogue):
    """Pixels and latents in four pictures each; a latent film has the latents' own panels."""
    assert 'data-latent="false"' in stages_section.draw_stages(catalogue, "")
    torch.manual_seed(0)
    net = build_unet((8, 4, 4), (8, 16), 3, layers=1).eval()
    codec = LatentCodec(autoencoder.build_autoencoder(3, 16).eval())
    latent = Model(
        Denoiser(adapt(net), Schedule.named("cosine"), "v_prediction"), codec, ("a", "b", "c"), 3, 16, "tiny"
    )
    checkpoint.save(latent, tmp_path / "latent")
    both = Catalogue(catalogue.model(), "tiny", None, tmp_path)
    told = stages_section.draw_stages(both, "latent")
    assert 'data-latent="true"' in told and "8×4×4 = 128 numbers" in told and told.count("<img") == 4
    *_, growing = film(prepare(both, DEFAULTS | {"checkpoint": "latent", "steps": 3, "class_label": "b"}))
    assert [panel["key"] for panel in growing["panels"]] == ["x", "latents", "x0", "guidance"]
    sizes = {key: opened(uri).size for key, uri in growing["chunks"][-1]["sprites"].items()}
    assert {size[0] for size in sizes.values()} == {growing["width"]} == {16}
    assert opened(growing["chunks"][-1]["sprites"]["x0"]).mode == "RGB"
