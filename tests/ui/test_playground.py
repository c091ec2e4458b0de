"""The playground behind its page: films of points, training in turns, and what a visitor may ask for."""

import base64
import json
import threading

import gradio as gr
import numpy as np
import pytest
import torch

from ddpm_demo.diffusion.points import MOST_POINTS, REACH, build_shape
from ddpm_demo.diffusion.points_network import train_on_points
from ddpm_demo.ui import turns
from ddpm_demo.ui.components import plane
from ddpm_demo.ui.components.plane import GRID, UNIT
from ddpm_demo.ui.newest import Replaced
from ddpm_demo.ui.tabs import playground_tab
from ddpm_demo.ui.tabs.playground_tab import describe_sheet, draw, draw_newest, learn, learn_shape, open_drawing
from ddpm_demo.ui.turns import Job, take_turns

ME = gr.Request(session_hash="me")
SETTINGS = {"steps": 50, "weight": 1.0, "sampler": "dpm++2m", "schedule": "cosine", "samples": 200, "seed": 0}


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    """A training of 200 steps, and no network of another test."""
    monkeypatch.setattr(plane, "train_on_points", lambda cloud, seed: train_on_points(cloud, 200, seed))
    monkeypatch.setattr(playground_tab, "NETWORKS", {})


def drawing(name):
    """What the browser sends of a shape."""
    return json.loads(json.dumps({"chosen": name, "strokes": describe_sheet()["shapes"][name]}))


def decode(text, *shape):
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<i2").copy()).reshape(*shape, 2) / UNIT


def test_a_film_has_every_step_and_ends_on_the_drawing():
    cloud = build_shape("two classes")
    film = draw(drawing("two classes"), *SETTINGS.values())
    side = film["sides"]["ideal"]
    x = decode(side["x"], 51, 200)
    assert abs(x[0].std() - 1) < 0.1  # noise
    assert cloud.measure_to_points(x[-1]).median() < 0.01 * cloud.size and "It memorises" in side["verdict"]
    assert len(film["log_snrs"]) == film["total"] == 50 and film["log_snrs"] == sorted(film["log_snrs"])
    field, guidance = (decode(side[name], 50, 2, GRID**2) for name in ("field", "guidance"))
    places = torch.tensor(film["places"])
    left = places[:, 0] < -1.5
    assert (field[0, 0, left, 0] > 0).all()  # towards the drawing
    late = guidance[len(guidance) // 2]
    assert late[0, :, 0].mean() < 0 < late[1, :, 0].mean()  # the classes are at the left and at the right
    assert torch.allclose(decode(film["points"], len(cloud.points)), cloud.points, atol=1 / UNIT)
    assert film["sides"]["learned"] is None


def test_long_runs_are_thinned_and_one_class_has_no_guidance():
    film, weight = open_drawing(ME, drawing("spiral"), *(SETTINGS | {"steps": 200, "samples": 3}).values())
    assert len(film["steps"]) == 60 and film["steps"][-1] == 199 and film["sides"]["ideal"]["guidance"] == ""
    assert weight["interactive"] is False and "no effect" in weight["info"]
    assert open_drawing(ME, drawing("two classes"), *SETTINGS.values())[1]["interactive"] is True


def test_a_shape_is_learned_once_and_its_network_is_kept():
    _, *reports, (last, name) = learn_shape(drawing("moons"), 100, ME)
    assert [report["training"]["step"] for report, _ in reports] == [100] and last["training"]["step"] == 200
    assert isinstance(name, str) and decode(last["training"]["x"], 100).abs().max() < 3
    film = draw(drawing("moons"), *SETTINGS.values())
    assert last["drawing"] == film["drawing"]
    cloud, learned = build_shape("moons"), film["sides"]["learned"]
    samples = decode(learned["x"], 51, 200)[-1]
    assert cloud.measure_to_points(samples).median() > 2 * cloud.measure_to_lines(samples).median()
    assert "It fills the lines" in learned["verdict"]
    assert len([*learn_shape(drawing("moons"), 100, ME)]) == 1  # known
    assert len([*learn_shape({"strokes": []}, 100, ME)]) == 1  # cleared meanwhile
    own = drawing("moons")
    own["strokes"].pop()
    assert len([*learn_shape(own, 100, ME)]) == 1  # no shape: the visitor decides


def test_the_button_trains_another_network_with_another_seed(monkeypatch):
    monkeypatch.setattr(plane, "train_on_points", lambda cloud, seed: train_on_points(cloud, 25, seed))
    networks = []
    for _ in range(2):
        assert len([*learn(drawing("moons"), 100, ME)]) == 2
        networks += [next(iter(playground_tab.NETWORKS.values())).net]
    first, second = (next(net.parameters()) for net in networks)
    assert len(playground_tab.NETWORKS) == 1 and not torch.equal(first, second)


def test_a_page_trains_one_network_at_a_time():
    """Training anew on the same drawing changes nothing, and another or no drawing ends a training; other pages go on."""
    other = gr.Request(session_hash="other")
    first, elsewhere = learn(drawing("moons"), 100, ME), learn(drawing("moons"), 100, other)
    next(first), next(first), next(elsewhere)
    assert len([*learn(drawing("moons"), 100, ME)]) == 1
    open_drawing(ME, drawing("spiral"), *SETTINGS.values())
    with pytest.raises(Replaced):
        list(first)
    second = learn(drawing("spiral"), 100, ME)
    next(second)
    open_drawing(ME, drawing("spiral"), *SETTINGS.values())  # the same one again, whose training goes on
    next(second)
    assert playground_tab.clear(ME) == {"training": None}
    with pytest.raises(Replaced):
        list(second)
    assert not playground_tab.NETWORKS
    assert len([*elsewhere]) == 2 and [*playground_tab.NETWORKS] == [build_shape("moons")]


def test_the_newest_film_of_a_page_replaces_an_older_one(monkeypatch):
    """The older one ends without a film, but says whether its drawing can be guided."""
    settings, older = (*SETTINGS.values(),), []
    compute = playground_tab.film_points

    def ask_again(cloud, *rest):
        if cloud == build_shape("two classes"):
            older.append(draw_newest(ME, drawing("moons"), *settings))
        yield from compute(cloud, *rest)

    monkeypatch.setattr(playground_tab, "film_points", ask_again)
    monkeypatch.setattr(playground_tab, "take_turns", lambda parts, job, threads: parts)
    film, weight = open_drawing(ME, drawing("two classes"), *settings)
    assert film == gr.skip() and weight["interactive"] is True and "ideal" in older[0]["sides"]
    with pytest.raises(Replaced):
        draw_newest(ME, drawing("two classes"), *settings)


def test_only_the_newest_networks_are_kept(monkeypatch):
    monkeypatch.setattr(playground_tab, "KEPT", 2)
    monkeypatch.setattr(plane, "train_on_points", lambda cloud, seed: train_on_points(cloud, 1, seed))
    for name in ("spiral", "moons", "spiral", "smiley"):
        assert len([*learn(drawing(name), 100, ME)]) == 2
    assert [*playground_tab.NETWORKS] == [build_shape("spiral"), build_shape("smiley")]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"steps": 201}, "steps is 201; it must be a whole number from 1 to 200"),
        ({"steps": None}, "steps is None"),
        ({"samples": 2001}, "number of points is 2001; .* from 1 to 2000"),
        ({"samples": 0}, "number of points is 0"),
        ({"weight": float("nan")}, "weight is nan"),
        ({"weight": 101}, "weight is 101"),
        ({"sampler": "magic"}, "sampler is 'magic'"),
        ({"schedule": ["cosine"]}, "schedule is"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_settings_are_refused(change, words):
    with pytest.raises(gr.Error, match=words):
        draw(drawing("spiral"), *(SETTINGS | change).values())


@pytest.mark.parametrize(
    "strokes, words",
    [
        ([], "the drawing is empty"),
        ([[0, [[0, 0]] * (MOST_POINTS + 1)]], "at most 400"),
        ([[0, [[0, REACH + 0.1]]]], "outside of the sheet"),
        ([[0, [[0, float("inf")]]]], "outside of the sheet"),
        ([["a", [[0, 0]]]], "class of a line is 'a'"),
        ([[0, [[0, 0, 0]]]], "damaged"),
        ([[0, "ab"]], "damaged"),
        (7, "damaged"),
    ],
)
def test_wrong_drawings_are_refused(strokes, words):
    with pytest.raises(gr.Error, match=words):
        draw({"strokes": strokes}, *SETTINGS.values())
    with pytest.raises(gr.Error, match=words):
        list(learn({"strokes": strokes}, 100, ME))


def test_a_training_passes_the_turn_on_and_ends_when_nobody_waits(monkeypatch):
    """Another request gets its turn between two parts of a training, and a visitor who left ends it."""
    order, waits = [], [True]
    monkeypatch.setattr(playground_tab, "Job", lambda: Job(awaited=lambda: waits[0]))
    monkeypatch.setattr(plane, "SNAPSHOT_EVERY", 25)
    training = learn(drawing("moons"), 100, ME)
    next(training), next(training)

    def compute():
        with turns.TURNS:
            order.append("other")

    other = threading.Thread(target=compute)
    other.start()
    other.join(5)
    assert order == ["other"]  # although the training is not finished
    waits[0] = False
    with pytest.raises(gr.Error, match="stopped"):
        next(training)
    assert playground_tab.NETWORKS == {}


def test_the_playground_computes_nothing_outside_of_its_turns(monkeypatch):
    """Sampling, its judgement and the snapshots of a training all run in a turn, by one thread."""
    threads = []

    def note(function):
        def noted(*arguments):
            threads.append(torch.get_num_threads() if turns.TURNS.line else None)
            return function(*arguments)

        return noted

    before = torch.get_num_threads()
    monkeypatch.setattr(turns, "count_threads", lambda: 3)
    for name in ("encode_places", "judge_samples", "find_arrows"):
        monkeypatch.setattr(plane, name, note(getattr(plane, name)))
    try:
        draw(drawing("moons"), *(SETTINGS | {"steps": 2}).values())
        assert len([*learn(drawing("moons"), 100, ME)]) == 3
    finally:
        torch.set_num_threads(before)
    assert len(threads) == 8 and set(threads) == {1}


def test_points_are_computed_by_one_thread_and_networks_by_all(monkeypatch):
    monkeypatch.setattr(turns, "count_threads", lambda: 3)
    before = torch.get_num_threads()
    try:
        for threads, expected in ((1, 1), (None, 3)):
            parts = (torch.get_num_threads() for _ in range(2))
            assert [*take_turns(parts, Job(), threads)] == [expected] * 2
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
