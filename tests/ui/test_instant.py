"""A distilled checkpoint in the app: the choice of its steps, Live, links, Compare, and the noise pad."""

import re
from urllib.parse import parse_qsl

import gradio as gr
import pytest
import torch
from conftest import frames, last_picture, opened, tiny_student

from ddpm_demo.data.images import render_grid
from ddpm_demo.errors import UserError
from ddpm_demo.generation.begin import MixedNoise
from ddpm_demo.generation.generate import generate, sample
from ddpm_demo.models import checkpoint
from ddpm_demo.ui import live, page
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components.player import begin_film, film
from ddpm_demo.ui.controls import describe_instant, fit_choices
from ddpm_demo.ui.remarks import remark_on
from ddpm_demo.ui.runs import DEFAULTS, PRESETS, apply_preset, prepare
from ddpm_demo.ui.tabs import compare_tab, noise_tab
from ddpm_demo.ui.tabs.generate_tab import open_page, update_controls

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
    """At a corner the noise is that of its seed, for the student with any number of steps and for its teacher."""
    for corner, seed in enumerate(ORDER["seeds"]):
        place = [[corner % 2, corner // 2]]
        shown = opened(noise_tab.draw_places(pair, ORDER | {"places": place}))
        model = pair.model("tiny-instant")
        expected = render_grid(generate(model, [1], weight=2.0, steps=1, seed=seed), 1, gap=0)
        assert shown.tobytes() == expected.tobytes()
    compared = noise_tab.compare_calls(pair, ORDER)
    ways = [("tiny-instant", steps, steps) for steps in (1, 2, 4, 8, 16)] + [("tiny", 20, 40)]
    for picture, (name, steps, calls) in zip(compared, ways, strict=True):
        expected = render_grid(generate(pair.model(name), [1], weight=2.0, steps=steps, seed=4), 1, gap=0)
        assert picture["calls"] == calls and opened(picture["uri"]).tobytes() == expected.tobytes()
    assert len({picture["uri"] for picture in compared}) == 6  # they differ, so none can be another's


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
    answer = noise_tab.answer("uri", noise_tab.draw_places, pair, ORDER | wrong)
    assert answer.keys() == {"error"} and words in answer["error"]


def test_an_order_without_a_part_is_refused(pair):
    for name in ("checkpoint", "seeds", "places"):
        with pytest.raises(gr.Error, match="incomplete"):
            noise_tab.draw_places(pair, {key: value for key, value in ORDER.items() if key != name})


PLACE = "4 5 6 7 at 0.25 0.5"


def first_state(run):
    """The state from which a run starts."""
    return next(run.walk()).x


def test_a_place_opens_in_generate_with_the_very_same_noise(pair):
    settings = noise_tab.choose_settings(pair, {**STUDENT, "weight": 2.0, "place": PLACE})
    assert (settings["checkpoint"], settings["place"], settings["steps"]) == ("tiny", PLACE, DEFAULTS["steps"])
    model = pair.model("tiny-instant")
    begin = MixedNoise((4, 5, 6, 7), ((0.25, 0.5),))
    *_, few = sample(model, [1], weight=2.0, steps=1, begin=begin)
    assert torch.equal(first_state(prepare(pair, settings)), few.x)
    assert not torch.equal(first_state(prepare(pair, settings | {"place": ""})), few.x)
    instant = prepare(pair, settings | STUDENT)  # with Instant, the student draws the place in Generate as well
    assert opened(noise_tab.draw_places(pair, ORDER | {"places": [[0.25, 0.5]]})).tobytes() == (
        render_grid(list(instant.walk())[-1].x0, 1, gap=0).tobytes()
    )


def test_a_link_holds_the_place_in_the_noise_pad(pair):
    settings = {"class_label": "b", "place": PLACE, "steps": 3}
    *_, whole = film(prepare(pair, settings))
    query = dict(parse_qsl(whole["link"][1:]))
    *_, (again, *_), _ = open_page(Catalogue(pair.model("tiny"), "tiny"), DEFAULTS, query)
    assert query["place"] == PLACE and again[0]["settings"] == whole["settings"]
    assert last_picture(again[0]).tobytes() == last_picture(whole).tobytes()
    assert "place" not in film_link(pair, settings | {"place": ""})


def film_link(catalogue, settings):
    return begin_film(prepare(catalogue, settings))["link"]


def test_all_images_start_from_the_place_and_the_remark_says_so(pair):
    x = first_state(prepare(pair, {"class_label": "all", "place": PLACE, "count": 2}))
    assert len(x) == 6 and torch.equal(x, x[:1].expand_as(x))
    said = remark_on(pair, DEFAULTS | {"place": PLACE})
    assert "start from the noise at (0.25, 0.5) between the seeds 4, 5, 6, 7" in said
    assert "must be four seeds" in remark_on(pair, DEFAULTS | {"place": "4 5"})


def test_compare_starts_from_the_place_unless_it_varies_the_seed(pair):
    settings = DEFAULTS | {"class_label": "b", "steps": 2, "place": PLACE}
    *_, (grid, _) = compare_tab.fill_grid(pair, "weight", [0], "class", ["a", "b"], settings)
    expected = list(prepare(pair, settings | {"weight": 0}).walk())[-1].x0
    assert opened(grid["cells"][1]["image"]).tobytes() == render_grid(expected, 1, gap=0).tobytes()
    *_, (grid, _) = compare_tab.fill_grid(pair, "weight", [0], "seed", [1, 2], settings)
    assert grid["cells"][0]["image"] != grid["cells"][1]["image"]


@pytest.mark.parametrize(
    "place, words",
    [
        ("4 5 6 at 0.5 0.5", "place is '4 5 6 at 0.5 0.5'; it must be four seeds and a place between them, such as"),
        ("4 5 6 7 at 0.5", "must be four seeds"),
        ("4 5 6 7 at nan 0.5", "must be four seeds"),
        ("4 5 6 9999999999 at 0.5 0.5", "seed is 9999999999"),
        ("4 5 6 7 at 0.5 1.5", "place is 1.5"),
        (7, "place is 7; it must be"),
        (None, "place is None; it must be"),
    ],
)
def test_a_wrong_place_is_refused_in_a_sentence(pair, place, words):
    with pytest.raises(gr.Error, match=re.escape(words)):
        prepare(pair, {"class_label": "b", "place": place})


def test_without_steps_a_checkpoint_takes_its_own(pair):
    assert prepare(pair, {"checkpoint": "tiny-instant"}).sampling.steps == 4
    assert prepare(pair, {"checkpoint": "tiny"}).sampling.steps == DEFAULTS["steps"]
    *_, (film, *_), _ = open_page(pair, DEFAULTS, {"checkpoint": "tiny-instant", "class_label": "b"})
    assert film[0]["settings"]["checkpoint"] == "tiny-instant" and film[0]["settings"]["steps"] == 4


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_on_a_distilled_model_takes_what_it_can(pair, name):
    settings = apply_preset(pair.model("tiny-instant"), DEFAULTS | STUDENT, name)
    run = prepare(pair, settings)
    nearest = {20: 16, 8: 8, 1000: 16, 50: 16, 200: 16}
    assert run.sampling.steps == nearest.get(PRESETS[name].get("steps"), 1)
    assert run.sampling.weight == PRESETS[name].get("weight", DEFAULTS["weight"])
    assert (settings["sampler"], settings["schedule"]) == ("ddim", "cosine")  # what the disabled controls show
    assert apply_preset(pair.model("tiny"), DEFAULTS, name) == DEFAULTS | PRESETS[name] | {"classifier_scale": 0.0}


def test_a_corner_opens_in_generate_with_the_teacher(pair):
    settings = noise_tab.choose_settings(pair, {**STUDENT, "weight": 2.0, "seed": 5})
    assert (settings["checkpoint"], settings["seed"], settings["steps"]) == ("tiny", 5, DEFAULTS["steps"])


def test_a_corner_fits_all_controls_to_the_teacher(pair):
    settings = noise_tab.choose_settings(pair, {**STUDENT, "weight": 2.0, "seed": 5})
    instant, updates = update_controls(pair, settings)
    assert instant["value"] == 0 and updates["sampler"]["interactive"] and list(updates) == list(DEFAULTS)


def test_another_checkpoint_brings_its_own_settings_and_keeps_a_class_that_it_knows(pair):
    updates = fit_choices(pair, "tiny-instant", "b")
    assert updates["class_label"]["value"] == "b" and updates["steps"]["value"] == 4
    updates = fit_choices(pair, "tiny", "unknown")
    assert updates["class_label"]["value"] == "all" and updates["steps"]["value"] == 20
    assert updates["weight"]["value"] == pair.model("tiny").sampling.weight


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


def test_the_teacher_takes_the_place_of_a_distilled_model_where_an_image_is_the_start(pair):
    assert [pair.find_base(name) for name in ("tiny-instant", "tiny", "")] == ["tiny", "tiny", ""]


def test_a_damaged_student_does_not_stop_the_app(model, tmp_path):
    checkpoint.save(tiny_student(model), tmp_path / "tiny-instant")
    weights = tmp_path / "tiny-instant/unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    catalogue = Catalogue(model, "tiny", None, tmp_path)
    assert catalogue.find_pair("tiny") is None
    page.build(catalogue)
