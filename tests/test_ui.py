"""The handlers of the app as plain generators, without a browser."""

import base64
import io
import json
import re
import time
from html import unescape

import gradio as gr
import pytest
from conftest import tiny_model
from PIL import Image

from ddpm_demo import ui
from ddpm_demo.ui import generate

CHOSEN = {
    "class_label": "b", "weight": 1.0, "schedule": "cosine", "sampler": "ddim", "steps": 5, "seed": 3, "count": 2,
}  # fmt: skip


def frames(model, pace="as fast as possible", **changed):
    return list(generate.watch(model, *(CHOSEN | changed).values(), pace))


def pictures(html):
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r'base64,([^"]+)"', html)]


def test_frames_tell_the_story(model):
    shown = frames(model, pace="watch")
    assert len(shown) == 5
    html = [frame for frame, _, _ in shown]
    assert all("x<sub>t</sub>" in frame and "log-SNR" in frame and "network calls" in frame for frame in html)
    assert "2 of 5" in html[1] and "799" in html[1]
    noisy, clean = pictures(html[-1])
    assert noisy.size == clean.size and noisy.mode == "L"
    go, stop = shown[0][1:]
    assert (go["interactive"], stop["interactive"]) == (False, True)
    assert all(go == stop == gr.skip() for _, go, stop in shown[1:-1])
    go, stop = shown[-1][1:]
    assert (go["interactive"], stop["interactive"]) == (True, False)


def test_settings_are_in_the_page_in_full(model):
    html = frames(model)[-1][0]
    assert json.loads(unescape(re.search(r"data-settings='([^']+)'", html)[1])) == CHOSEN


def test_many_steps_are_thinned_but_the_first_and_last_are_shown(model):
    shown = frames(model, steps=400, sampler="ddpm")
    assert len(shown) < 350
    assert "1 of 400" in shown[0][0] and "400 of 400" in shown[-1][0]


def test_the_watching_pace_takes_its_time_and_the_other_does_not(model):
    began = time.perf_counter()
    frames(model, pace="watch", steps=20)
    watched = time.perf_counter() - began
    began = time.perf_counter()
    frames(model, steps=20)
    assert 2 < watched < 6 and time.perf_counter() - began < watched / 2


def test_all_classes_in_rows(model):
    image, used = generate.finished(model, *(CHOSEN | {"class_label": "all", "count": 3}).values())
    assert image.width == image.height and used["guidance_scale"] == 2.0


@pytest.mark.parametrize(
    "images, columns", [(1, 1), (2, 2), (3, 3), (4, 2), (7, 7), (8, 4), (10, 5), (20, 5), (80, 10)]
)
def test_columns(images, columns):
    assert generate.columns_for(images) == columns


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
        ({"class_label": "z"}, "class_label is 'z'; it must be one of a, b, c or all"),
        ({"sampler": "x"}, "sampler is 'x'"),
    ],
)
def test_a_wrong_setting_is_a_sentence(model, changed, message):
    with pytest.raises(gr.Error, match=re.escape(message)):
        frames(model, **changed)


def test_an_unconditional_colour_model():
    model = tiny_model(classes=0, channels=3)
    shown = frames(model, class_label="all", weight=0, count=4)
    assert pictures(shown[-1][0])[0].mode == "RGB"
    ui.build(model)
    with pytest.raises(gr.Error, match="guidance needs labels"):
        frames(model, class_label="all", weight=1.0)


def test_limits_are_set(model):
    demo = ui.build(model)
    assert demo.analytics_enabled is False
    options = ui.launch_options()
    assert options["max_threads"] <= 8 and options["max_file_size"] == "1mb"
    assert demo._queue.max_size == 32
