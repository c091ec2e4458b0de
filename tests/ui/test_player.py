"""The player, the Generate tab and the app as a whole: handlers as plain generators, without a browser."""

import inspect
import itertools
import math
import random
import re
import subprocess
import sys
import time
from dataclasses import replace

import gradio as gr
import pytest
from conftest import ROOT, SHIPPED, frames, last_picture, opened, tiny_model
from PIL import Image

from ddpm_demo.data.images import render_grid
from ddpm_demo.models import checkpoint
from ddpm_demo.ui import live, page
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components import charts, player
from ddpm_demo.ui.controls import fit_choices
from ddpm_demo.ui.data_uri import encode_picture
from ddpm_demo.ui.events import NETWORK, RUNNING
from ddpm_demo.ui.newest import Replaced
from ddpm_demo.ui.remarks import remark_on
from ddpm_demo.ui.runs import ALL, DEFAULTS, PRESETS, count_columns, prepare
from ddpm_demo.ui.tabs import compare_tab, draw_tab, evidence_tab, generate_tab, small_steps_tab

CHOSEN = {"class_label": "b", "weight": 1.0, "sampler": "ddim", "steps": 5, "seed": 3, "count": 2}


def films(catalogue, **changed) -> list[dict]:
    *shown, _ = generate_tab.watch(catalogue, CHOSEN | changed)  # the last says the buttons only
    return [film for (film,), *_ in shown]


# The player


def test_a_film_holds_every_step_lossless(catalogue):
    *_, film = films(catalogue)
    run = prepare(catalogue, CHOSEN)
    steps = list(run.walk())
    assert film["done"] and film["count"] == len(frames(film)) == 5
    assert [frame["numbers"]["step"] for frame in frames(film)] == [f"{k} of 5" for k in range(1, 6)]
    assert [panel["key"] for panel in film["panels"]] == ["x", "x0", "eps", "guidance"]
    assert last_picture(film).tobytes() == render_grid(steps[-1].x0, 2, gap=1).tobytes()
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
    assert player.spread_evenly(20, 60) == set(range(20))


def test_many_images_get_fewer_frames(catalogue):
    *_, film = films(catalogue, class_label=ALL, count=8, steps=100)
    assert film["count"] == 25 == len(frames(film))


def test_the_guidance_panel_belongs_to_guided_runs(catalogue):
    for weight in (0, -1):
        *_, film = films(catalogue, weight=weight)
        assert [panel["key"] for panel in film["panels"]] == ["x", "x0", "eps"]
    *_, film = films(catalogue, interval_from=-1.0, interval_to=2.0, steps=10)
    calls = [frame["numbers"]["network calls"] for frame in frames(film)]
    low, high = (sum(log_snr < bound for _, log_snr in film["curve"]) for bound in (-1.0, 2.0))
    assert calls[:low] == [str(k + 1) for k in range(low)]
    assert calls[low:high] == [f"{low} + {k + 1} × 2 (with, without class)" for k in range(high - low)]
    assert 0 < low < high < 10 and calls[-1] == f"{10 - high + low} + {high - low} × 2 (with, without class)"


def test_a_weaker_model_guides_where_there_is_one(model):
    catalogue = Catalogue(replace(model, weak=tiny_model(3, condition="add")), "tiny")
    assert fit_choices(catalogue, "tiny")["autoguidance"]["visible"]
    *_, film = films(catalogue, weight=0.0, autoguidance=1.0, interval_from=0.0, steps=10)
    assert [panel["key"] for panel in film["panels"]] == ["x", "x0", "eps", "guidance"]
    calls = [frame["numbers"]["network calls"] for frame in frames(film)]
    inside = sum(log_snr >= 0 for _, log_snr in film["curve"])
    assert 0 < inside < 10 and calls[0] == "1" and calls[-1] == f"10, {inside} of the weaker model"
    assert not fit_choices(Catalogue(model, "tiny"), "tiny")["autoguidance"]["visible"]
    assert prepare(Catalogue(model, "tiny"), CHOSEN | {"autoguidance": 1.0}).sampling.autoguidance == 0


def test_a_film_of_pictures_grows_under_the_same_name():
    pictures = [(Image.new("L", (4, 4), k), {"way": str(k)}) for k in range(5)]
    first = player.film_pictures(pictures[:2], "a", "b", 5)
    same = player.film_pictures(pictures[:2], "a", "b", 5, first)
    whole = player.film_pictures(pictures, "a", "b", 5, same)
    assert same == first and not first["done"] and whole["done"] and whole["run"] == first["run"]
    assert whole["chunks"][:1] == first["chunks"] and [frame["step"] for frame in frames(whole)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind, mode", [("gif", "GIF"), ("webp", "WEBP")])
def test_an_exported_animation_has_every_frame(kind, mode):
    strip = Image.new("L", (10 * 7, 2 * 10))
    for k in range(7):
        strip.paste(30 * k + 20, (10 * k, 0, 10 * k + 10, 20))
    image = opened(player.animate({"strip": encode_picture(strip), "frames": 7, "panels": 2, "kind": kind}))
    assert image.format == mode and image.n_frames == 7 and image.width > 100
    image.seek(6)
    assert image.convert("L").getpixel((3, 3)) == 200


@pytest.mark.parametrize(
    "order",
    [
        {}, None, {"strip": "data:image/png;base64,AAAA", "frames": 1, "panels": 1, "kind": "gif"},
        {"strip": "data:image/svg+xml;base64,AAAA", "frames": 1, "panels": 1, "kind": "gif"},
        {"strip": encode_picture(Image.new("L", (9, 9))), "frames": 10**9, "panels": 1, "kind": "gif"},
        {"strip": encode_picture(Image.new("L", (9, 9))), "frames": 3, "panels": 1, "kind": "exe"},
        {"strip": encode_picture(Image.new("1", (9000, 9000))), "frames": 3, "panels": 1, "kind": "gif"},
        {"strip": "data:image/png;base64," + "A" * (30 * 2**20), "frames": 3, "panels": 1, "kind": "gif"},
    ],
)  # fmt: skip
def test_what_is_no_strip_is_refused(order):
    with pytest.raises(gr.Error, match="cannot be written"):
        player.animate(order)


def test_a_strip_that_would_cost_too_much_is_refused():
    tall = encode_picture(Image.new("1", (28, 590_000)))  # 16.5 million pixels
    assert "cannot be cut" in player.export({"strip": tall, "frames": 1, "panels": 1, "kind": "gif"})["error"]
    narrow = encode_picture(Image.new("1", (1000, 16_000)))  # the gaps between eight panels multiply its pixels
    assert "cannot be cut" in player.export({"strip": narrow, "frames": 1000, "panels": 8, "kind": "gif"})["error"]


def test_the_frames_of_a_large_strip_are_enlarged_less():
    small, large = (player.cut_strip(Image.new("RGB", (28 * 20, height)), 20, 1) for height in (28, 4000))
    assert small[0].size == (28 * 8, 28 * 8)
    assert 28 * 20 * 4000 < sum(one.width * one.height for one in large) <= player.MAX_PIXELS


def test_one_animation_is_written_at_a_time():
    order = {"strip": encode_picture(Image.new("L", (9, 9))), "frames": 3, "panels": 1, "kind": "gif"}
    with player.WRITING:
        assert player.export(order)["error"].startswith("another animation is being written")
    assert player.export(order)["uri"].startswith("data:image/gif;base64,")
    assert not player.WRITING.locked()


# Generate


def test_buttons_follow_the_run(catalogue):
    shown = list(generate_tab.watch(catalogue, CHOSEN | {"steps": 60}))
    assert [update["interactive"] for update in shown[0][1:]] == [False, True]
    assert all(update == gr.skip() for one in shown[1:-1] for update in one[1:])
    assert [update["interactive"] for update in shown[-1][1:]] == [True, False]


def test_a_link_brings_back_the_very_run(catalogue):
    *_, film = films(catalogue, weight=2.5, variance="beta", sampler="ddpm", interval_to=3.0)
    query = dict(part.split("=") for part in film["link"][1:].replace("%2B", "+").split("&"))
    *_, again, _ = generate_tab.open_page(Catalogue(catalogue.model(), "tiny"), DEFAULTS, query)
    assert again[0][0]["settings"] == film["settings"]
    assert last_picture(again[0][0]).tobytes() == last_picture(film).tobytes()


def test_a_broken_link_opens_the_page_all_the_same(catalogue):
    *_, last, _ = generate_tab.open_page(catalogue, DEFAULTS, {"steps": "many", "schedule": "none", "evil": "1"})
    assert last[0][0]["done"] and last[0][0]["settings"]["schedule"] == "cosine"


def test_a_broken_link_is_quoted_without_markup(catalogue, monkeypatch):
    said = []
    monkeypatch.setattr(gr, "Warning", said.append)
    next(generate_tab.open_page(catalogue, DEFAULTS, {"class_label": "<img src=x>&"}))
    assert said == [
        "This link cannot be followed: class_label is '&lt;img src=x&gt;&amp;'; it must be one of a, b, c, all"
    ]


def test_the_second_visitor_finds_the_run_ready(catalogue):
    first, second = (list(generate_tab.open_page(catalogue, DEFAULTS, {})) for _ in range(2))
    assert len(second) == 1 and second[0][0][0]["done"] and second[0][0][0]["run"] == first[-2][0][0]["run"]


def test_live_draws_the_new_setting_and_only_when_on(catalogue):
    chosen = DEFAULTS | CHOSEN
    film, remark = live.sketch(catalogue, False, chosen, "me")
    assert film == gr.skip() and "guidance_scale 2" in remark
    assert list(live.finish_sketch(catalogue, False, chosen, "me")) == [gr.skip()]
    film, remark = live.sketch(catalogue, True, chosen | {"weight": 3.0, "steps": 3}, "me")
    assert film["still"] and film["done"] and film["settings"]["weight"] == 3.0 and "guidance_scale 4" in remark
    assert list(live.finish_sketch(catalogue, True, chosen | {"weight": 3.0, "steps": 3}, "me")) == [gr.skip()]


def test_live_drafts_where_the_machine_is_slow_and_the_newest_wins(catalogue, monkeypatch):
    chosen = DEFAULTS | CHOSEN | {"steps": 300, "count": 8}
    monkeypatch.setattr(live, "PACE", {live.find_kind(prepare(catalogue, chosen)): live.LIVE_SECONDS / 6.5})
    film, _ = live.sketch(catalogue, True, chosen, "me")
    assert film["settings"]["steps"] == 6 and film["source"] == "draft of 6 steps; all 300 follow"
    skipped, *_, whole = live.finish_sketch(catalogue, True, chosen, "me")
    assert (
        skipped == gr.skip() and whole["done"] and whole["settings"]["steps"] == 300 and "draft" not in whole["source"]
    )
    rest = live.finish_sketch(catalogue, True, chosen, "me")
    next(rest), next(rest)
    live.sketch(catalogue, True, chosen | {"steps": 2}, "another")  # somebody else's choice changes nothing
    assert not next(rest)["done"]
    live.sketch(catalogue, True, chosen | {"steps": 2}, "me")
    with pytest.raises(Replaced):
        next(rest)


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"weight": 2}, "w = 2 (guidance_scale 3 in diffusers)."),
        ({"weight": -1}, "the class is ignored"),
        ({"weight": 0, "interval_from": -5.0}, "interval has no effect at this weight"),
        ({"weight": -1, "interval_from": -5.0}, "The class is ignored only where the log-SNR is between -5 and 20"),
        ({"interval_from": 5.0, "interval_to": 1.0}, "ends before it begins"),
        ({"variance": "beta", "sampler": "ddim"}, "Only these samplers use the setting `variance`: DDPM"),
        ({"sampler": "heun"}, "twice a step"),
        ({"sampler": "euler-maruyama", "steps": 10}, "stays noisy"),
        ({"sampler": "ddpm", "variance": "beta", "steps": 10}, "stays noisy"),
        ({"weight": None}, "weight is None"),
    ],
)
def test_what_settings_mean_together_is_said(catalogue, changed, said):
    assert said in remark_on(catalogue, DEFAULTS | changed)


def test_presets_are_valid_settings(catalogue):
    for preset in PRESETS.values():
        prepare(catalogue, DEFAULTS | preset)


def test_all_classes_in_rows(catalogue):
    image, used = generate_tab.draw_picture(catalogue, CHOSEN | {"class_label": ALL, "count": 3})
    assert image.width == image.height and used["guidance_scale"] == 2.0


@pytest.mark.parametrize(
    "images, columns", [(1, 1), (2, 2), (3, 3), (4, 2), (7, 7), (8, 4), (10, 5), (20, 5), (80, 10)]
)
def test_columns(images, columns):
    assert count_columns(images) == columns


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


STRANGE = [
    math.nan, math.inf, -math.inf, True, False, None, "", "x", "3", [], [1], {}, {"a": 1}, -1, 3.7, 1e300, -1e300, 2**63, 10**400,
    10**30, "💥", "\x00", "a" * 10000, b"a".decode(), 0, -0.0, 1e-320,
]  # fmt: skip


def test_two_hundred_bad_settings_are_refused_in_a_sentence(catalogue):
    """Whatever comes: a clear refusal, or a valid run; never another exception."""
    dice = random.Random(0)
    refused = []
    for _ in range(200):
        name = dice.choice(list(DEFAULTS))
        try:
            prepare(catalogue, DEFAULTS | {name: dice.choice(STRANGE)})
        except gr.Error as error:
            refused.append((name.split("_")[0], error.message))
    assert len(refused) > 120 and all(name in message for name, message in refused)
    assert films(catalogue)[-1]["done"]


@pytest.mark.parametrize("switch", [True, False, "yes"])
def test_live_refuses_what_gradio_did_not_check(pair, switch):
    """A request reaches Live unchecked. What is kept of it are the settings of a valid run."""
    for name in ("tiny", "tiny-instant"):
        own = DEFAULTS | {"checkpoint": name, "steps": 1, "class_label": pair.model(name).class_names[0]}
        for changed in DEFAULTS:
            for value in (*STRANGE, ["x" * 1000]):
                try:
                    live.sketch(pair, switch, own | {changed: value}, "me")
                    generate_tab.update_notes(pair, own | {changed: value})
                except gr.Error:
                    continue
                for kept in live.NEWEST.values():
                    assert len(repr(kept.settings)) < 600


def test_an_unconditional_colour_model():
    catalogue = Catalogue(tiny_model(classes=0, channels=3), "colour")
    *_, film = films(catalogue, class_label=ALL, weight=0, count=4)
    assert opened(film["chunks"][-1]["sprites"]["x0"]).mode == "RGB"
    page.build(catalogue)


# The whole


def test_charts_survive_what_is_not_finite():
    drawn = charts.draw_lines(
        "t", {"a": ([0, 1, 2], [1, math.nan, 3])}, charts.Axis(0, 2), charts.fit_axis([1, math.nan, 3])
    )
    assert "nan" not in drawn
    assert charts.Axis(1e-5, 1, log=True).ticks() == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1])
    assert charts.Axis(0.09, 0.36, log=True).ticks() == pytest.approx([0.1, 0.2, 0.3])
    assert charts.Axis(0, 1).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert "<script>" not in charts.draw_lines("<script>", {}, charts.Axis(0, 1), charts.Axis(0, 1))


def test_another_checkpoint_is_loaded_when_chosen(tmp_path, model):
    checkpoint.save(tiny_model(classes=2), tmp_path / "other")
    (tmp_path / "no-checkpoint").mkdir()
    catalogue = Catalogue(model, "tiny", None, tmp_path)
    assert catalogue.names == ["tiny", "other"] and "other" not in catalogue.loaded
    fits = fit_choices(catalogue, "other")
    picker, weight, scale = fits["class_label"], fits["weight"], fits["classifier_scale"]
    assert list(picker["choices"]) == ["a", "b", ("all 2", ALL)] and weight["visible"]
    assert not scale["visible"]  # it has no noise-aware classifier
    assert films(catalogue, checkpoint="other", class_label="b")[-1]["done"]


def test_a_model_is_recorded_beside_the_first_requests(catalogue):
    deadline = time.monotonic() + 20
    while catalogue.model().denoiser.net.net.__class__.__name__ != "TracedNetwork" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert catalogue.model().denoiser.net.net.__class__.__name__ == "TracedNetwork"


@pytest.mark.slow
def test_leaving_while_a_model_is_recorded_is_no_crash():
    lines = "from ddpm_demo.models.checkpoint import load", "from ddpm_demo.ui.catalogue import Catalogue"
    start = f"{'; '.join(lines)}; Catalogue(load({str(SHIPPED)!r}), 'mnist')"
    ended = subprocess.run([sys.executable, "-c", start], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def demo():
    return page.build(Catalogue(tiny_model(), "tiny"))


def test_limits_are_set(demo):
    assert demo.analytics_enabled is False
    options = page.launch_options()
    # A handler that waits for its turn holds a thread, so that there are more threads than computations at once.
    assert RUNNING < options["max_threads"] <= 64 and options["max_file_size"] == "1mb"
    assert demo._queue.max_size == 32


def test_a_button_ends_other_runs_before_it_starts_its_own(demo):
    """Gradio's page runs the handlers of an event one after another: a later one would end them too late."""
    starting = set()
    for handler in demo.fns.values():
        assert not (handler.cancels and starting & {*handler.targets}), handler
        if handler.concurrency_id == NETWORK["concurrency_id"]:
            starting |= {*handler.targets}
    assert starting


def test_the_interface_holds_no_mathematics():
    for module in (generate_tab, compare_tab, draw_tab, evidence_tab):
        assert "import torch" not in inspect.getsource(module)
    assert "torch" not in inspect.getsource(small_steps_tab)
