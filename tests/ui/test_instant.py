"""A distilled checkpoint in the app: the choice of its steps, Live, links, Compare, and the noise pad."""

import gradio as gr
import pytest
import torch
from conftest import frames, opened

from ddpm_demo.data.images import render_grid
from ddpm_demo.errors import UserError
from ddpm_demo.generation.begin import MixedNoise
from ddpm_demo.generation.generate import generate
from ddpm_demo.ui import live
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components.player import film
from ddpm_demo.ui.controls import describe_instant, fit_choices
from ddpm_demo.ui.remarks import remark_on
from ddpm_demo.ui.runs import DEFAULTS, prepare
from ddpm_demo.ui.tabs import compare_tab, noise_tab
from ddpm_demo.ui.tabs.generate_tab import keep_choices, open_page, update_controls

STUDENT = {"checkpoint": "tiny-instant", "class_label": "b", "steps": 1}
ORDER = {**STUDENT, "weight": 2.0, "seeds": [4, 5, 6, 7], "places": [[0, 0]]}


def test_the_choice_of_instant_belongs_to_a_model_and_its_student(pair, catalogue):
    off, on = describe_instant(pair, "tiny", 20), describe_instant(pair, "tiny-instant", 4)
    assert [count for _, count in off["choices"]] == [0, 1, 2, 4, 8, 16]
    assert off["value"] == 0 and on["value"] == 4
    assert not describe_instant(catalogue, "", 20)["visible"]  # nothing was distilled from the only model
    fits = fit_choices(pair, "tiny-instant")
    assert (fits["sampler"]["value"], fits["sampler"]["interactive"], fits["steps"]["value"]) == ("ddim", False, 4)


def test_settings_of_other_samplers_have_no_effect_and_it_is_said(pair):
    plain, changed = STUDENT, STUDENT | {"sampler": "ddpm", "schedule": "linear", "interval_from": 0.0}
    assert prepare(pair, changed).sampling == prepare(pair, plain).sampling
    assert "needs 1 network call for" in remark_on(pair, DEFAULTS | plain)
    with pytest.raises(gr.Error, match="takes 1, 2, 4, 8, 16 steps"):
        prepare(pair, STUDENT | {"steps": 20})


def test_a_film_has_one_call_per_step_and_no_panel_of_guidance(pair):
    *_, whole = film(prepare(pair, STUDENT | {"steps": 4, "weight": 3.0}))
    assert [panel["key"] for panel in whole["panels"]] == ["x", "x0", "eps"]
    assert [frame["numbers"]["network calls"] for frame in frames(whole)] == ["1", "2", "3", "4"]


def test_live_draws_the_finished_image_at_once(pair):
    settings = DEFAULTS | STUDENT | {"steps": 16}
    drawn, _ = live.sketch(pair, True, settings, "me")
    assert drawn["done"] and drawn["link"] and len(frames(drawn)) == 16
    assert [part for part in live.finish_sketch(pair, True, settings, "me") if part != gr.skip()] == []


def test_compare_varies_its_steps(pair):
    *_, (grid, _) = compare_tab.fill_grid(pair, "steps", [1, 4], "weight", [0, 2], DEFAULTS | STUDENT)
    assert grid["done"] and len(grid["cells"]) == 4


def test_the_pad_draws_what_generate_draws_at_its_corners(pair):
    """At a corner the noise is that of its seed, for the student and for its teacher."""
    for corner, seed in enumerate(ORDER["seeds"]):
        place = [[corner % 2, corner // 2]]
        shown = opened(noise_tab.draw_places(pair, ORDER | {"places": place}))
        model = pair.model("tiny-instant")
        expected = render_grid(generate(model, [1], weight=2.0, steps=1, seed=seed), 1, gap=0)
        assert shown.tobytes() == expected.tobytes()
    assert len(noise_tab.compare_calls(pair, ORDER)) == 6


def test_mixed_noise_has_variance_1_everywhere():
    begin = MixedNoise((0, 1, 2, 3), ((0.5, 0.5), (0.2, 0.9), (1.0, 0.3)))
    model = type("Model", (), {"denoiser": None})
    x, _ = begin.prepare(model, torch.empty(3, 1, 100, 100), torch.tensor(0.0), lambda denoise: denoise)
    torch.testing.assert_close(x.std((1, 2, 3)), torch.ones(3), atol=0.02, rtol=0)
    assert x.mean((1, 2, 3)).abs().max() < 0.03


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"places": [[0, 0]] * 65}, "from 1 to 64 places"),
        ({"places": []}, "from 1 to 64 places"),
        ({"places": [[0, 2]]}, "place is 2.0"),
        ({"places": [[0]]}, "incomplete"),
        ({"places": [[0, float("nan")]]}, "place is nan"),
        ({"seeds": [1, 2]}, "there are 2 seeds"),
        ({"seeds": [1, 2, 3, -4]}, "seed is -4"),
        ({"class_label": "all"}, "one class at a time"),
        ({"checkpoint": "nothing"}, "it must be one of tiny, tiny-instant"),
        ({"steps": 3}, "takes 1, 2, 4, 8, 16 steps"),
    ],
)
def test_a_wrong_order_to_the_pad_is_refused_in_a_sentence(pair, wrong, words):
    with pytest.raises(gr.Error, match=words):
        noise_tab.draw_places(pair, ORDER | wrong)


def test_an_order_without_a_part_is_refused(pair):
    for name in ("checkpoint", "seeds", "places"):
        with pytest.raises(gr.Error, match="incomplete"):
            noise_tab.draw_places(pair, {key: value for key, value in ORDER.items() if key != name})


def test_a_corner_opens_in_generate_with_the_teacher(pair):
    settings = noise_tab.choose_settings(pair, {**STUDENT, "weight": 2.0, "seed": 5})
    assert (settings["checkpoint"], settings["seed"], settings["steps"]) == ("tiny", 5, DEFAULTS["steps"])


def test_a_corner_fits_all_controls_to_the_teacher(pair):
    settings = noise_tab.choose_settings(pair, {**STUDENT, "weight": 2.0, "seed": 5})
    instant, updates = update_controls(pair, settings)
    assert instant["value"] == 0 and updates["sampler"]["interactive"] and list(updates) == list(DEFAULTS)


def test_the_class_is_kept_and_steps_only_between_models_that_take_any(pair):
    student, teacher = pair.model("tiny-instant"), pair.model("tiny")
    updates = fit_choices(pair, "tiny-instant")
    keep_choices(student, updates, "b", keep_steps=True)
    assert updates["class_label"]["value"] == "b" and updates["steps"]["value"] == 4
    updates = fit_choices(pair, "tiny")
    keep_choices(teacher, updates, "unknown", keep_steps=True)
    assert updates["class_label"]["value"] == "all" and "value" not in updates["steps"]


def test_an_app_of_a_distilled_model_opens_on_it(pair):
    alone = Catalogue(pair.model("tiny-instant"), "tiny-instant")
    *_, (film, *_) = [answer for answer in open_page(alone, DEFAULTS, {}) if answer[0] != gr.skip()]
    assert film[0]["done"] and film[0]["settings"]["steps"] == 4


def test_a_distilled_model_needs_labels(pair):
    with pytest.raises(UserError, match="needs labels"):
        generate(pair.model("tiny-instant"), count=1)


def test_the_pad_draws_by_distilled_models_alone_and_not_without_end(pair):
    with pytest.raises(gr.Error, match="by a distilled model"):
        noise_tab.draw_places(pair, ORDER | {"checkpoint": "tiny", "steps": 20})


def test_a_damaged_neighbour_does_not_stop_the_app(model, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/demo.json").write_text("[]")
    assert Catalogue(model, "tiny", None, tmp_path).teachers == {}
