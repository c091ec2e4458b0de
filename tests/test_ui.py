"""The handlers of the app as plain generators, without a browser."""

import base64
import inspect
import io
import itertools
import json
import math
import random
import re
import time

import gradio as gr
import pytest
import torch
from conftest import SHIPPED, tiny_model
from PIL import Image

from ddpm_demo import checkpoint, load, ui
from ddpm_demo.pictures import picture
from ddpm_demo.ui import charts, compare, draw, evidence, forward, generate, pad, player, small_steps
from ddpm_demo.ui.settings import ALL, DEFAULTS, PRESETS, Catalogue, columns_for, prepare

CHOSEN = {"class_label": "b", "weight": 1.0, "sampler": "ddim", "steps": 5, "seed": 3, "count": 2}


@pytest.fixture
def catalogue(model) -> Catalogue:
    return Catalogue(model, "tiny")


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    return Catalogue(load(SHIPPED), "mnist", SHIPPED)


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def films(catalogue, **changed) -> list[dict]:
    return [film for film, *_ in generate.watch(catalogue, CHOSEN | changed)][:-1]  # the last says the buttons only


def frames(film: dict) -> list[dict]:
    return [frame for chunk in film["chunks"] for frame in chunk["frames"]]


def last_picture(film: dict) -> bytes:
    sprite = opened(film["chunks"][-1]["sprites"]["x0"])
    return sprite.crop((0, sprite.height - film["height"], film["width"], sprite.height)).tobytes()


# The player


def test_a_film_holds_every_step_lossless(catalogue):
    *_, film = films(catalogue)
    run = prepare(catalogue, CHOSEN)
    steps = list(run.walk())
    assert film["done"] and film["count"] == len(frames(film)) == 5
    assert [frame["numbers"]["step"] for frame in frames(film)] == [f"{k} of 5" for k in range(1, 6)]
    assert [panel["key"] for panel in film["panels"]] == ["x", "x0", "eps", "guidance"]
    assert last_picture(film) == picture(steps[-1].x0, 2, gap=1).tobytes()
    assert film["curve"][0][1] == pytest.approx(steps[0].log_snr, abs=1e-3) and len(film["curve"]) == 5


def test_a_film_only_grows(catalogue):
    grown = films(catalogue, steps=40)
    for before, after in itertools.pairwise(grown):
        assert after["chunks"][: len(before["chunks"])] == before["chunks"]
        assert after["run"] == before["run"] and not before["done"]


def test_many_steps_are_thinned_to_sixty_frames_the_first_and_last_among_them(catalogue):
    *_, film = films(catalogue, steps=300, sampler="ddim", count=1)
    shown = [frame["numbers"]["step"] for frame in frames(film)]
    assert len(shown) == film["count"] == 60
    assert shown[0] == "1 of 300" and shown[-1] == "300 of 300"
    assert player.spread(20, 60) == set(range(20))


def test_many_images_get_fewer_frames(catalogue):
    *_, film = films(catalogue, class_label=ALL, count=8, steps=100)
    assert film["count"] == 25 == len(frames(film))


def test_the_guidance_panel_belongs_to_guided_runs(catalogue):
    for weight in (0, -1):
        *_, film = films(catalogue, weight=weight)
        assert [panel["key"] for panel in film["panels"]] == ["x", "x0", "eps"]
    *_, film = films(catalogue, interval_from=0.0, steps=10)
    guided = ["× 2" in frame["numbers"]["network calls"] for frame in frames(film)]
    assert not guided[0] and guided[-1]


@pytest.mark.parametrize("kind, mode", [("gif", "GIF"), ("webp", "WEBP")])
def test_an_exported_animation_has_every_frame(kind, mode):
    strip = Image.new("L", (10 * 7, 2 * 10))
    for k in range(7):
        strip.paste(30 * k + 20, (10 * k, 0, 10 * k + 10, 20))
    image = opened(player.animation({"strip": player.data_uri(strip), "frames": 7, "panels": 2, "kind": kind}))
    assert image.format == mode and image.n_frames == 7 and image.width > 100
    image.seek(6)
    assert image.convert("L").getpixel((3, 3)) == 200


@pytest.mark.parametrize(
    "order",
    [
        {}, None, {"strip": "data:image/png;base64,AAAA", "frames": 1, "panels": 1, "kind": "gif"},
        {"strip": "data:image/svg+xml;base64,AAAA", "frames": 1, "panels": 1, "kind": "gif"},
        {"strip": player.data_uri(Image.new("L", (9, 9))), "frames": 10**9, "panels": 1, "kind": "gif"},
        {"strip": player.data_uri(Image.new("L", (9, 9))), "frames": 3, "panels": 1, "kind": "exe"},
        {"strip": player.data_uri(Image.new("1", (9000, 9000))), "frames": 3, "panels": 1, "kind": "gif"},
        {"strip": "data:image/png;base64," + "A" * (30 * 2**20), "frames": 3, "panels": 1, "kind": "gif"},
    ],
)  # fmt: skip
def test_what_is_no_strip_is_refused(order):
    with pytest.raises(gr.Error, match="cannot be written"):
        player.animation(order)


# Generate


def test_buttons_follow_the_run(catalogue):
    shown = list(generate.watch(catalogue, CHOSEN | {"steps": 60}))
    assert [update["interactive"] for update in shown[0][1:]] == [False, True]
    assert all(update == gr.skip() for one in shown[1:-1] for update in one[1:])
    assert [update["interactive"] for update in shown[-1][1:]] == [True, False]


def test_a_link_brings_back_the_very_run(catalogue):
    *_, film = films(catalogue, weight=2.5, variance="beta", sampler="ddpm", interval_to=3.0)
    query = dict(part.split("=") for part in film["link"][1:].replace("%2B", "+").split("&"))
    *_, again, _ = generate.opening(Catalogue(catalogue.model(), "tiny"), DEFAULTS, query)
    assert again[0]["settings"] == film["settings"]
    assert last_picture(again[0]) == last_picture(film)


def test_a_broken_link_opens_the_page_all_the_same(catalogue):
    *_, last, _ = generate.opening(catalogue, DEFAULTS, {"steps": "many", "schedule": "none", "evil": "1"})
    assert last[0]["done"] and last[0]["settings"]["schedule"] == "cosine"


def test_the_second_visitor_finds_the_run_ready(catalogue):
    first, second = (list(generate.opening(catalogue, DEFAULTS, {})) for _ in range(2))
    assert len(second) == 1 and second[0][0]["done"] and second[0][0]["run"] == first[-2][0]["run"]


def test_live_draws_the_new_setting_and_only_when_on(catalogue):
    chosen = DEFAULTS | CHOSEN
    film, remark = generate.sketch(catalogue, False, chosen, "me")
    assert film == gr.skip() and "guidance_scale 2" in remark
    assert list(generate.completed(catalogue, False, chosen, "me")) == [gr.skip()]
    film, remark = generate.sketch(catalogue, True, chosen | {"weight": 3.0, "steps": 3}, "me")
    assert film["still"] and film["done"] and film["settings"]["weight"] == 3.0 and "guidance_scale 4" in remark
    assert list(generate.completed(catalogue, True, chosen | {"weight": 3.0, "steps": 3}, "me")) == [gr.skip()]


def test_live_drafts_where_the_machine_is_slow_and_the_newest_wins(catalogue, monkeypatch):
    chosen = DEFAULTS | CHOSEN | {"steps": 300, "count": 8}
    monkeypatch.setattr(generate, "PACE", {generate.kind(prepare(catalogue, chosen)): generate.LIVE_SECONDS / 6.5})
    film, _ = generate.sketch(catalogue, True, chosen, "me")
    assert film["settings"]["steps"] == 6 and film["source"] == "draft of 6 steps; all 300 follow"
    skipped, *_, whole = generate.completed(catalogue, True, chosen, "me")
    assert (
        skipped == gr.skip() and whole["done"] and whole["settings"]["steps"] == 300 and "draft" not in whole["source"]
    )
    rest = generate.completed(catalogue, True, chosen, "me")
    next(rest), next(rest)
    generate.sketch(catalogue, True, chosen | {"steps": 2}, "another")  # somebody else's choice changes nothing
    assert not next(rest)["done"]
    generate.sketch(catalogue, True, chosen | {"steps": 2}, "me")
    assert list(rest) == []


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"weight": 2}, "w = 2, called guidance_scale 3 in diffusers"),
        ({"weight": -1}, "the class is ignored"),
        ({"weight": 0, "interval_from": -5.0}, "interval has no effect at this weight"),
        ({"interval_from": 5.0, "interval_to": 1.0}, "ends before it begins"),
        ({"variance": "beta", "sampler": "ddim"}, "matters to DDPM"),
        ({"sampler": "heun"}, "twice a step"),
        ({"sampler": "ddpm", "steps": 10}, "stays noisy"),
        ({"weight": None}, "weight is None"),
    ],
)
def test_what_settings_mean_together_is_said(changed, said):
    assert said in generate.remarks(DEFAULTS | changed)


def test_presets_are_valid_settings(catalogue):
    for preset in PRESETS.values():
        prepare(catalogue, DEFAULTS | preset)


def test_all_classes_in_rows(catalogue):
    image, used = generate.finished(catalogue, CHOSEN | {"class_label": ALL, "count": 3})
    assert image.width == image.height and used["guidance_scale"] == 2.0


@pytest.mark.parametrize(
    "images, columns", [(1, 1), (2, 2), (3, 3), (4, 2), (7, 7), (8, 4), (10, 5), (20, 5), (80, 10)]
)
def test_columns(images, columns):
    assert columns_for(images) == columns


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"steps": 3.7}, "steps is 3.7; it must be a whole number"),
        ({"steps": True}, "steps is True; it must be a whole number"),
        ({"steps": 5000}, "steps is 5000; it must be a whole number from 1 to 1000"),
        ({"weight": float("nan")}, "weight is nan; it must be a finite number"),
        ({"weight": None}, "weight is None"),
        ({"seed": None}, "seed is None; it must be a whole number"),
        ({"count": 99}, "count is 99; it must be a whole number from 1 to 8"),
        ({"class_label": "z"}, "class_label is 'z'; it must be one of a, b, c, all"),
        ({"class_label": ["b"]}, "class_label is ['b']"),
        ({"sampler": "x"}, "sampler is 'x'"),
        ({"variance": 7}, "variance is 7"),
        ({"interval_from": math.inf}, "interval_from is inf; it must be a finite number"),
        ({"interval_from": 3.0, "interval_to": 1.0}, "interval is (3.0, 1.0)"),
        ({"checkpoint": "../../etc"}, "checkpoint is '../../etc'; it must be one of tiny"),
    ],
)
def test_a_wrong_setting_is_a_sentence(catalogue, changed, message):
    with pytest.raises(gr.Error, match=re.escape(message)):
        films(catalogue, **changed)


def test_two_hundred_bad_settings_are_refused_in_a_sentence(catalogue):
    """Whatever comes: a clear refusal, or a valid run; never another exception."""
    dice = random.Random(0)
    strange = [
        math.nan, math.inf, -math.inf, True, False, None, "", "x", "3", [], [1], {}, {"a": 1}, -1, 3.7, 1e300, -1e300, 2**63,
        10**30, "💥", "\x00", "a" * 10000, b"a".decode(), 0, -0.0, 1e-320,
    ]  # fmt: skip
    refused = []
    for _ in range(200):
        name = dice.choice(list(DEFAULTS))
        try:
            prepare(catalogue, DEFAULTS | {name: dice.choice(strange)})
        except gr.Error as error:
            refused.append((name.split("_")[0], error.message))
    assert len(refused) > 120 and all(name in message for name, message in refused)
    assert films(catalogue)[-1]["done"]


def test_an_unconditional_colour_model():
    catalogue = Catalogue(tiny_model(classes=0, channels=3), "colour")
    *_, film = films(catalogue, class_label=ALL, weight=0, count=4)
    assert opened(film["chunks"][-1]["sprites"]["x0"]).mode == "RGB"
    ui.build(catalogue)


# Forward process


def test_the_four_schedules_side_by_side(shipped):
    cards, plots = forward.show(shipped, pad.sheet(shipped), 300, 0, "")
    assert cards.count("<figure") == 4 and plots.count("<svg") == 3
    assert re.findall(r'data-schedule="(\w+)"', cards) == ["linear", "quadratic", "cosine", "sigmoid"]
    start, _ = forward.show(shipped, pad.sheet(shipped), 0, 0, "")
    assert "almost nothing is lost" in start
    end, _ = forward.show(shipped, pad.sheet(shipped), 999, 0, "")
    assert "it is noise" in end
    said = forward.compare("linear", 200)
    assert "201 single steps and one jump" in said and ("they agree" in said or "by chance" in said)


@pytest.mark.parametrize("t", [-1, 1000, 3.5, None, math.nan, "3", True])
def test_a_wrong_timestep_is_a_sentence(shipped, t):
    with pytest.raises(gr.Error, match="t is "):
        forward.show(shipped, pad.sheet(shipped), t, 0, "")


@pytest.mark.parametrize("ink", ["", "x", "data:image/png;base64,xx", "data:text/html;base64,AAAA", 7, [], {"a": 1}])
def test_what_is_no_drawing_is_a_sentence(shipped, ink):
    with pytest.raises(gr.Error):
        pad.drawn(shipped.model(), {"ink": ink})
    with pytest.raises(gr.Error):
        pad.drawn(shipped.model(), ink)


def test_a_drawing_arrives_as_it_was(shipped):
    ink, mask = Image.new("L", (28, 28)), Image.new("RGBA", (28, 28))
    ink.paste(255, (3, 4, 5, 6))
    mask.paste((255, 150, 40, 255), (10, 0, 20, 28))
    image, marked = pad.drawn(shipped.model(), {"ink": player.data_uri(ink), "mask": player.data_uri(mask)})
    assert image.shape == (1, 28, 28) and (image > 0).sum() == 4 and bool((image[0, 4:6, 3:5] == 1).all())
    assert marked.sum() == 280 and bool(marked[:, 10:20].all())


# Compare


def grid(catalogue, down, down_values, across, across_values, **settings):
    shown = list(compare.fill(catalogue, down, down_values, across, across_values, DEFAULTS | {"steps": 3} | settings))
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
    *_, alone = compare.opened(catalogue, asked, 2, 1)
    tile = opened(alone["value"]["chunks"][-1]["sprites"]["x0"])
    cell = next(cell for cell in whole["cells"] if (cell["row"], cell["column"]) == (2, 1))
    last = tile.crop((0, tile.height - 16, 16, tile.height))
    one, other = (
        torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).int() for image in (last, opened(cell["image"]))
    )
    assert (one - other).abs().max() <= 1


@pytest.mark.parametrize("axis", compare.AXES)
def test_every_axis_fills(catalogue, axis):
    other = "seed" if axis != "seed" else "class"
    values = {name: compare.options_of(catalogue, name)["value"][:2] for name in (axis, other)}
    whole, _, _ = grid(catalogue, axis, values[axis], other, values[other])
    assert whole["done"] and len(whole["cells"]) == len(values[axis]) * len(values[other])


@pytest.mark.parametrize(
    "axes, message",
    [
        (("steps", ["3"], "steps", ["4"]), "both axes are steps"),
        (("colour", ["3"], "steps", ["4"]), "down is 'colour'; it must be one of class, weight"),
        (("weight", [], "steps", ["4"]), "weight has no values"),
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
            next(compare.opened(catalogue, asked, row, 0))


# Draw


def answered(catalogue, task, label=draw.ANY, keep=draw.KEEPS[0], t=500, draws=8, paper=None, checkpoint=""):
    paper = paper or pad.sheet(catalogue, marks=True)
    return list(draw.answer(catalogue, paper, task, label, 1.0, t, keep, draws, 0, checkpoint))


def test_noise_and_denoise_gives_four_variants(shipped):
    film, _ = answered(shipped, draw.TASKS[0])[-1]
    assert film["done"] and film["count"] == draw.STEPS and film["link"] == ""
    assert [panel["key"] for panel in film["panels"]] == ["x", "x0", "eps"]
    assert frames(film)[0]["numbers"]["t"] == "500"


def test_completing_keeps_the_rest(shipped):
    mask = Image.new("RGBA", (28, 28))
    mask.paste((255, 150, 40, 255), (0, 14, 28, 28))
    paper = pad.sheet(shipped, marks=True) | {"mask": player.data_uri(mask)}
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
        return float(re.search(r'data-gap="([\d.]+)"', small_steps.one_step(power, 0.45))[1])

    assert gap(-3) < 0.03 and gap(-1) > 0.3
    assert "as good as exact" in small_steps.one_step(-3, 0.1) and "plainly wrong" in small_steps.one_step(-1, 0.45)
    assert small_steps.three_ways(50, 1).count("<svg") == 3


@pytest.mark.parametrize("wrong", [(math.nan, 0), (-1, 9), (5, 0), (None, 0), ("a", 0)])
def test_a_wrong_step_is_a_sentence(wrong):
    with pytest.raises(gr.Error):
        small_steps.one_step(*wrong)
    with pytest.raises(gr.Error):
        small_steps.three_ways(0, 0)


# Evidence


def test_evidence_shows_what_was_measured(shipped):
    summary, _, _, quality = evidence.show(shipped, DEFAULTS)
    metrics = json.loads((SHIPPED / "metrics.json").read_text())
    assert f"{metrics['classifier_test_accuracy']:.2%}" in summary and f"{metrics['floor']:.4f}" in summary
    here = next(c for c in metrics["quality"] if c["setting"]["weight"] == 1 and c["setting"]["steps"] == 20
                and c["setting"]["sampler"] == "dpm++2m" and c["setting"]["schedule"] == "cosine")  # fmt: skip
    assert "You are here" in quality and f"{here['fid_test']:.3f}" in quality and 'class="here"' in quality
    elsewhere = evidence.show(shipped, DEFAULTS | {"steps": 777})[3]
    assert "has not been measured" in elsewhere and "--steps 777" in elsewhere


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
    _, curves, pages, quality = evidence.show(Catalogue(model, "run", folder), DEFAULTS)
    assert "held out" in curves and curves.count("<polyline") == 2
    assert pages["value"]["count"] == 2 and pages["value"]["chunks"][0]["frames"][1]["numbers"]["after step"] == "250"
    assert "python -m ddpm_demo.evaluation --checkpoint" in quality and "/run</code>" in quality


def test_quality_is_drawn_as_curves_and_maps():
    cells = [
        {"setting": {"schedule": "cosine", "sampler": s, "steps": n, "weight": w, "samples": 99}, "fid_test": n * 0.1 + w,
         "fid_train": 0.2, "accuracy": 0.9}
        for s in ("ddim", "dpm++2m") for n in (5, 10, 20) for w in (0.0, 1.0)
    ]  # fmt: skip
    html = evidence.quality({"quality": cells, "floor": 0.01}, DEFAULTS, "x")
    assert "FID to test images by steps" in html and "Read as asked by steps" in html and ">floor<" in html
    assert "FID by sampler and steps, w = 1" in html and 'stroke-width="2"' in html


# The whole


def test_charts_survive_what_is_not_finite():
    drawn = charts.lines("t", {"a": ([0, 1, 2], [1, math.nan, 3])}, charts.Axis(0, 2), charts.around([1, math.nan, 3]))
    assert "nan" not in drawn
    assert charts.Axis(1e-5, 1, log=True).ticks() == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1])
    assert charts.Axis(0.09, 0.36, log=True).ticks() == pytest.approx([0.1, 0.2, 0.3])
    assert charts.Axis(0, 1).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert "<script>" not in charts.lines("<script>", {}, charts.Axis(0, 1), charts.Axis(0, 1))


def test_another_checkpoint_is_loaded_when_chosen(tmp_path, model):
    checkpoint.save(tiny_model(classes=2), tmp_path / "other")
    (tmp_path / "no-checkpoint").mkdir()
    catalogue = Catalogue(model, "tiny", None, tmp_path)
    assert catalogue.names == ["tiny", "other"] and "other" not in catalogue.loaded
    picker, weight = generate.class_picker(catalogue, "other")
    assert list(picker["choices"]) == ["a", "b", ("all 2", ALL)] and weight["visible"]
    assert films(catalogue, checkpoint="other", class_label="b")[-1]["done"]


def test_a_model_is_recorded_beside_the_first_requests(catalogue):
    deadline = time.monotonic() + 20
    while catalogue.model().denoiser.net.__class__.__name__ != "Recorded" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert catalogue.model().denoiser.net.__class__.__name__ == "Recorded"


def test_limits_are_set(catalogue):
    demo = ui.build(catalogue)
    assert demo.analytics_enabled is False
    options = ui.launch_options()
    assert options["max_threads"] <= 8 and options["max_file_size"] == "1mb"
    assert demo._queue.max_size == 32


def test_the_interface_holds_no_mathematics():
    for module in (generate, compare, draw, evidence):
        assert "import torch" not in inspect.getsource(module)
    assert "torch" not in inspect.getsource(small_steps)
