"""One visitor against all: turns for every network call, budgets, and the end of what nobody waits for any more."""

import concurrent.futures
import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import replace

import gradio as gr
import pytest
import torch
from conftest import tiny_model
from gradio_client import Client

from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.generation.generate import sample
from ddpm_demo.generation.interpolation import interpolate
from ddpm_demo.models import checkpoint
from ddpm_demo.ui import live, page, turns
from ddpm_demo.ui.catalogue import Catalogue, estimate_gpu_seconds
from ddpm_demo.ui.runs import DEFAULTS, prepare
from ddpm_demo.ui.tabs.compare_tab import fill_grid
from ddpm_demo.ui.turns import Job, Turns

HEAVY = {"class_label": "all", "weight": 1.0, "count": 2, "sampler": "ode", "ode_tolerance": 1e-6, "steps": 2}
LIGHT = {"class_label": "a", "steps": 2}


def until(condition, patience=20.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_turn_is_given_in_order_of_arrival():
    line, order = Turns(), []

    def work(name):
        with line:
            order.append(name)
            line.pass_on()
            order.append(name)

    with line:
        threads = [threading.Thread(target=work, args=[name]) for name in "abc"]
        for count, thread in enumerate(threads, 2):
            thread.start()
            until(lambda: len(line.line) == count)  # noqa: B023 it is called here
    for thread in threads:
        thread.join()
    assert order == [*"abcabc"] and not line.line


def test_two_first_visitors_load_a_checkpoint_once(tmp_path, model, monkeypatch):
    checkpoint.save(model, tmp_path / "other")
    shared, loaded = Catalogue(model, "tiny", None, tmp_path), []
    monkeypatch.setattr(Catalogue, "record_network", lambda catalogue, name: loaded.append(name))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with turns.TURNS:
            visitors = [pool.submit(shared.model, "other") for _ in range(2)]
            until(lambda: len(turns.TURNS.line) == 3)
        first, second = (visitor.result() for visitor in visitors)
    assert first is second and loaded == ["other"]


@pytest.fixture
def calls(monkeypatch) -> list:
    """The jobs of all network calls, in their order. Every call takes 20 ms longer."""
    charged, begin_call = [], Job.begin_call

    def note(job, images):
        begin_call(job, images)
        charged.append(id(job))
        time.sleep(0.02)

    monkeypatch.setattr(Job, "begin_call", note)
    return charged


def test_a_short_run_beside_eight_long_ones_gets_its_share(catalogue, calls):
    """It has two network calls. While it waits for them and for its end, each of the others has one call per turn."""
    leave, jobs = threading.Event(), [Job(awaited=lambda: not leave.is_set()) for _ in range(8)]
    long = prepare(catalogue, HEAVY)

    def compute(job):
        with pytest.raises(gr.Error, match="stopped"):
            list(catalogue.compute(sample, "tiny", long.labels, job=job, sampling=long.sampling))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(compute, job) for job in jobs]
        until(lambda: len({*calls}) == 8)
        before, mine = len(calls), Job()
        list(catalogue.compute(sample, "tiny", [0], job=mine, steps=2))
        between = Counter(calls[before:])
        leave.set()
        for one in waiting:
            one.result()
    assert between.pop(id(mine)) == 2
    assert len(between) == 8 and max(between.values()) <= 3


def test_work_ends_at_the_next_call_once_nobody_waits(catalogue, calls):
    run = prepare(catalogue, HEAVY)
    job = Job(awaited=lambda: len(calls) < 5)
    with pytest.raises(gr.Error, match="stopped"):
        list(catalogue.compute(sample, "tiny", run.labels, job=job, sampling=run.sampling))
    assert len(calls) == 5


def test_a_budget_is_checked_beforehand_where_the_cost_is_known(catalogue, monkeypatch):
    monkeypatch.setattr(turns, "BUDGET", 240)
    prepare(catalogue, {"class_label": "all", "steps": 40, "weight": 1.0})  # 3 images x 40 calls x 2 halves
    with pytest.raises(gr.Error, match="needs 246 or more network evaluations .* at most 240"):
        prepare(catalogue, {"class_label": "all", "steps": 41, "weight": 1.0})
    settings = DEFAULTS | {"class_label": "a"}
    with pytest.raises(gr.Error, match="needs 328 or more"):
        list(fill_grid(catalogue, "steps", [40, 42], "class", ["a", "b"], settings))


def test_a_budget_ends_what_is_known_only_at_run_time(catalogue, calls, monkeypatch):
    monkeypatch.setattr(turns, "BUDGET", 100)
    with pytest.raises(gr.Error, match="at most 100 .* larger tolerance"):
        list(prepare(catalogue, HEAVY).walk())
    assert len(calls) == 8  # of 6 images, each with and without its class
    with pytest.raises(gr.Error, match="at most 100"):
        list(catalogue.compute(interpolate, "tiny", torch.zeros(2, 1, 16, 16), total=8))
    job = Job(evaluations=95)  # a grid is one request: its cells share a job
    with pytest.raises(gr.Error, match="at most 100"):
        list(catalogue.compute(sample, "tiny", [0], job=job, steps=6))


@pytest.fixture(scope="module")
def app():
    """The app with a tiny model, in this process."""
    demo = page.build(Catalogue(tiny_model(), "tiny"))
    demo.launch(prevent_thread_lock=True, quiet=True, **page.launch_options())
    yield demo
    page.close(demo)
    demo.server.thread.join(5)
    turns.CLOSING.clear()


def begin(app, settings) -> http.client.HTTPResponse:
    """Call /generate, and return the stream of its answer."""
    server = http.client.HTTPConnection("127.0.0.1", app.server_port, timeout=60)
    data = json.dumps({"data": [*(DEFAULTS | settings).values()]})
    server.request("POST", "/gradio_api/call/generate", data, {"Content-Type": "application/json"})
    event = json.load(server.getresponse())["event_id"]
    server.request("GET", f"/gradio_api/call/generate/{event}")
    return server.getresponse()


def rests(calls) -> bool:
    """Whether no network call begins during half a second."""
    before = len(calls)
    time.sleep(0.5)
    return len(calls) == before


@pytest.mark.parametrize("settings", [HEAVY, {"class_label": "all", "steps": 1000, "sampler": "ddpm"}])
def test_a_client_that_leaves_ends_its_work(app, calls, settings):
    stream = begin(app, settings)
    until(lambda: len(calls) > 10)
    stream.close()
    until(lambda: rests(calls), 3)


def test_stop_ends_the_work(app, calls):
    client = Client(f"http://127.0.0.1:{app.server_port}", verbose=False)
    job = client.submit(**HEAVY, api_name="/generate")
    until(lambda: len(calls) > 10)
    job.cancel()
    until(lambda: rests(calls), 3)


def test_a_short_request_is_answered_beside_eight_long_ones(app, calls):
    streams = [begin(app, HEAVY) for _ in range(8)]
    until(lambda: len({*calls}) == 8)
    before = len(calls)
    assert b"event: complete" in begin(app, LIGHT).read()
    assert len(calls) - before < 2 * 9 * 2  # twice its fair share: two calls of its own, as many of each other one
    for stream in streams:
        stream.close()
    until(lambda: rests(calls), 5)


def test_a_run_counts_what_its_interval_guides(catalogue):
    """Outside the interval there is no second half of a guided call."""
    everywhere = prepare(catalogue, LIGHT | {"steps": 20, "weight": 2.0})
    nowhere = prepare(catalogue, LIGHT | {"steps": 20, "weight": 2.0, "interval_from": 19.0, "interval_to": 20.0})
    assert (everywhere.evaluations, nowhere.evaluations) == (40, 20)
    heun = prepare(catalogue, LIGHT | {"steps": 20, "weight": 2.0, "sampler": "heun"})
    assert heun.evaluations == 2 * (1 + 2 * 19) == heun.sampling.evaluations


def test_the_weaker_model_of_autoguidance_takes_turns_and_is_charged(model, calls):
    catalogue = Catalogue(replace(model, weak=model), "tiny")
    run = prepare(catalogue, LIGHT | {"steps": 5, "weight": 0.0, "autoguidance": 1.0})
    list(run.walk())
    assert len(calls) == run.evaluations == 10


def test_a_draft_ends_with_the_next_one_and_never_costs_much(catalogue, calls):
    settings = DEFAULTS | {"class_label": "a", "sampler": "heun", "steps": 3, "count": 8}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(live.sketch, catalogue, True, settings, "me")
        until(lambda: len(calls) > 1)
        live.sketch(catalogue, True, settings | {"sampler": "ode", "class_label": "all"}, "me")
        assert len(calls) < 8  # an adaptive sampler has no draft
        assert first.result()[0] == gr.skip()


def test_live_keeps_little_of_few_pages(catalogue):
    live.NEWEST.clear()
    for number in range(3 * live.MOST_PAGES):
        live.sketch(catalogue, False, DEFAULTS, f"page {number}")
    assert not live.NEWEST
    settings = DEFAULTS | {"class_label": "a", "sampler": "ode"}
    for number in range(live.MOST_PAGES + 5):
        live.sketch(catalogue, True, settings, "x" * 1000 + str(number))
    assert len(live.NEWEST) == live.MOST_PAGES and all(isinstance(name, int) for name in live.NEWEST)
    live.NEWEST.clear()


def test_a_call_for_one_image_has_one_thread(model, monkeypatch):
    """What else is computed in turns, and what comes afterwards, has all threads."""
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(turns, "count_threads", lambda: 2)
    net = model.denoiser.net.net
    hook = net.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    try:
        for labels, weight in (([0], 0.0), ([0, 1, 2], 0.0), ([0], 1.0)):
            drawn = turns.compute_in_turns(sample, model, Job(lambda: True), labels, weight=weight, steps=1)
            assert len(list(drawn)) == 1
            assert torch.get_num_threads() == 2
    finally:
        hook.remove()
        torch.set_num_threads(before)
    assert seen == [1, 2, 1]


def test_an_adaptive_sampler_borrows_a_gpu_for_the_calls_it_may_need():
    long, short = (estimate_gpu_seconds(None, "x", [1], sampling=Sampling(name, steps=2)) for name in ("ode", "ddim"))
    assert long >= 250 * 0.02 + short - 1
