"""The folder of the static demo: the exported network, the runtime, the settings, the page in Chromium, the command."""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import threading
import time
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from browser import browser, shot, violations  # noqa: F401 a fixture
from conftest import ROOT, SHIPPED, opened, tiny_model, tiny_student
from PIL import Image, ImageChops, ImageStat
from test_parity import assert_close, assert_same_steps, request_of, run_all

from ddpm_demo import UserError, load, sample
from ddpm_demo.data.images import split_row
from ddpm_demo.diffusion.sampling import ALWAYS, Sampling
from ddpm_demo.generation.zero_shot import classify
from ddpm_demo.models import checkpoint
from ddpm_demo.ui.components import player as app_player
from ddpm_demo.ui.data_uri import encode_picture
from ddpm_demo.ui.runs import BEST, DEFAULTS
from ddpm_demo.web import export, runtime, site
from ddpm_demo.web.__main__ import main

STUDENT = "mnist-instant"


@pytest.fixture(scope="session")
def fetched():
    """The runtime and the writer of GIF files in the user's own cache: each test has an empty one."""
    return runtime.fetch_files()


@pytest.fixture(scope="module")
def folder(fetched, tmp_path_factory):
    """The demo of the shipped model and of a model distilled from it, whose images are noise."""
    place = tmp_path_factory.mktemp("web")
    checkpoint.save(tiny_student(load(SHIPPED), str(SHIPPED)), place / STUDENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "fetch_files", lambda: fetched)
        site.write_site(place / "demo", [str(SHIPPED), str(place / STUDENT)])
    return place / "demo"


@contextlib.contextmanager
def serving(folder):
    """The address of a plain file server of a folder."""
    with site.serve(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def address(folder):
    with serving(folder) as address:
        yield address


@pytest.fixture
def page(address, browser):  # noqa: F811
    """A page at this address, with what it asked for and what went wrong."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(120_000)
    page.requests, page.problems = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    yield page
    page.close()


def player(page, tab="generate"):
    return page.locator(f"#tab-{tab} .player")


def finished(page, tab="generate", settings=None) -> dict:
    """The state of a player once it shows a complete run, with these settings among its own."""
    page.wait_for_function(
        """([tab, settings]) => {
          const { done, settings: own } = document.querySelector(`#tab-${tab} .player`)?.dataset ?? {};
          return done === "true" && Object.entries(settings).every(([name, value]) => JSON.parse(own)[name] === value);
        }""",
        arg=[tab, settings or {}],
    )
    return player(page, tab).evaluate("player => ({...player.dataset})")


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def read_canvas(canvas, size=28) -> torch.Tensor:
    """The red values (size, size) of a canvas that may enlarge them."""
    pixels, width = canvas.evaluate("""canvas => [
      [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data], canvas.width]""")
    zoom = width // size
    return torch.tensor(pixels).reshape(-1, width, 4)[zoom // 2 :: zoom, zoom // 2 :: zoom, 0]


def seconds_allowed(idle: float) -> float:
    """The time for what takes ``idle`` seconds on an idle machine, while other processes run."""
    return idle * max(1.0, os.getloadavg()[0] / os.cpu_count() + 1)


@pytest.mark.slow
def test_the_page_draws_the_digit_of_python_soon_and_loads_little_and_nothing_from_elsewhere(page, address):
    allowed, began = seconds_allowed(3.0), time.monotonic()
    page.goto(f"{address}?class_label=7")
    player(page).and_(page.locator("[data-arrived]")).wait_for()
    assert time.monotonic() - began < allowed
    finished(page)
    player(page).press("End")
    page.wait_for_function("document.querySelector('#tab-generate .player').dataset.at === '19'")
    shot(page, "web")
    *_, step = sample(load(SHIPPED), [7])
    drawn = read_canvas(player(page).locator("canvas[data-panel=x0]"))
    assert (drawn - 127.5 * (step.x0[0, 0] + 1)).abs().max() <= 1  # the canvas rounds
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith((address, "data:", "blob:"))] == []
    assert not any(f"{STUDENT}.onnx" in url for url in page.requests)
    loaded = page.evaluate(
        "performance.getEntriesByType('resource').reduce((sum, entry) => sum + entry.transferSize, 0)"
    )
    assert 1e5 < loaded < 8e6  # of the page itself; the worker loads the rest


# Presses Generate five times, and returns the median of the milliseconds until the player shows the whole run.
TIME_RUNS = """async () => {
  const player = document.querySelector("#tab-generate .player"), times = [];
  for (let k = 0; k < 5; k++) {
    const old = player.dataset.run, began = performance.now();
    document.querySelector("#tab-generate button.primary").click();
    while (player.dataset.run === old || player.dataset.done !== "true") await new Promise(requestAnimationFrame);
    times.push(performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  return times.sort((a, b) => a - b)[2];
}"""


@pytest.mark.slow
def test_the_times_of_a_digit_here_and_in_the_app(address, server, browser):  # noqa: F811
    """``-s`` prints them. Here the network computes in the browser, and there on the server of the same machine."""
    figures, runs = {}, {"20 guided steps": "", "one step of the distilled model": f"&checkpoint={STUDENT}&steps=1"}
    for what, query in runs.items():
        for where, url in (("browser", address), ("app", server.url)):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(120_000)
            allowed, began = seconds_allowed(3.0), time.monotonic()
            page.goto(f"{url}?class_label=7{query}")
            finished(page)
            first = time.monotonic() - began
            assert where == "app" or first < allowed
            figures |= {f"{what}, {where}: page to digit, ms": 1e3 * first}
            time.sleep(1)
            figures |= {f"{what}, {where}: button to digit, ms": page.evaluate(TIME_RUNS)}
            page.close()
        here, there = (figures[f"{what}, {where}: button to digit, ms"] for where in ("browser", "app"))
        figures[f"{what}: browser / app"] = here / there
    print(json.dumps(figures, indent=2))
    assert figures["one step of the distilled model, browser: button to digit, ms"] < (
        figures["20 guided steps, browser: button to digit, ms"] / 3
    )


@pytest.mark.slow
def test_a_run_is_scrubbed_drawn_live_and_kept_in_the_link(page, address, browser):  # noqa: F811
    page.goto(f"{address}?class_label=4&steps=6&theme=x")
    first = finished(page, settings={"class_label": "4", "steps": 6})
    page.locator("#tab-generate .scrub").press("Home")
    assert player(page).get_attribute("data-at") == "0"
    page.locator("#tab-generate .scrub").press("ArrowRight")
    assert player(page).get_attribute("data-at") == "1"
    page.get_by_label("Live").check()
    page.get_by_role("slider", name="Guidance weight w").fill("3")
    second = finished(page, settings={"weight": 3, "steps": 6})
    assert second["run"] != first["run"]
    page.wait_for_function("location.search.includes('weight=3')")
    assert "theme=x" in page.url and "class_label=4" in page.url
    assert "guidance_scale 4 in diffusers" in page.locator(".remark").inner_text()
    other = browser.new_page()
    other.goto(page.url)
    finished(other, settings={"weight": 3, "steps": 6, "class_label": "4"})
    player(other).press("End")
    player(page).press("End")
    pictures = [read_canvas(player(it).locator("canvas[data-panel=x0]")) for it in (page, other)]
    assert torch.equal(*pictures)
    other.close()
    page.context.set_offline(True)
    page.get_by_role("button", name="New seed").click()
    page.wait_for_function(
        "first => document.querySelector('#tab-generate .player').dataset.run !== first", arg=second["run"]
    )
    page.get_by_role("slider", name="Guidance weight w").fill("2")
    finished(page, settings={"weight": 2, "steps": 6})
    assert page.problems == []


@pytest.mark.slow
def test_a_wrong_link_is_explained_and_the_defaults_are_drawn(page, address):
    page.goto(f"{address}?steps=5000")
    page.get_by_role("alert").filter(has_text="This link cannot be followed: steps is 5000; it must be").wait_for()
    assert json.loads(finished(page)["settings"])["steps"] == DEFAULTS["steps"]


@pytest.mark.slow
def test_the_distilled_model_is_loaded_when_it_is_used_first(page, address):
    page.goto(f"{address}?class_label=3&steps=2")
    finished(page)
    page.locator("fieldset", has_text="Instant").get_by_text("2", exact=True).click()
    finished(page, settings={"checkpoint": STUDENT, "steps": 2, "sampler": "ddim"})
    page.locator("fieldset", has_text="Instant").get_by_text("off", exact=True).click()
    finished(page, settings={"checkpoint": "mnist", "steps": DEFAULTS["steps"], "sampler": DEFAULTS["sampler"]})
    open_tab(page, "Noise pad")
    page.wait_for_selector(".noisepad[data-compared]")
    before = page.locator(".noisepad").get_attribute("data-drawn")
    page.locator(".square").press("ArrowLeft")
    page.wait_for_function("before => document.querySelector('.noisepad').dataset.drawn !== before", arg=before)
    assert "drawn in" in page.locator(".about").inner_text()
    calls = page.locator(".same .row div").all_inner_texts()
    assert [text.split()[0] for text in calls] == ["1", "2", "4", "8", "16", "40"]
    page.locator(".corners button").nth(2).click()
    finished(page, settings={"checkpoint": "mnist", "seed": 2, "class_label": "3"})
    assert page.get_by_role("tab", name="Generate").get_attribute("aria-selected") == "true"
    assert page.problems == []


@pytest.mark.slow
def test_a_link_with_steps_that_a_distilled_model_did_not_learn_is_explained(page, address):
    page.goto(f"{address}?checkpoint={STUDENT}&steps=7")
    page.get_by_role("alert").filter(has_text="cannot be followed: steps is 7; this distilled model takes").wait_for()
    finished(page, settings={"checkpoint": "mnist"})


@pytest.mark.slow
def test_a_tab_that_cannot_be_loaded_says_so_and_opens_later(page, address):
    page.goto(f"{address}?class_label=3&steps=2")
    finished(page)
    page.context.set_offline(True)
    open_tab(page, "Draw")
    page.get_by_role("alert").filter(has_text="This tab cannot be opened").wait_for()
    page.context.set_offline(False)
    open_tab(page, "Generate")
    open_tab(page, "Draw")
    page.locator("#tab-draw canvas.sheet").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("scheme, width", [("light", 1280), ("dark", 390)])
def test_no_tab_has_a_serious_violation(page, address, scheme, width):
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{address}?class_label=3&steps=2")
    finished(page)
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.locator("[role=tabpanel]:not([hidden])").locator(
            "img:visible, svg:visible, canvas:visible, select:visible"
        ).first.wait_for()
        assert violations(page) == [], tab.inner_text()


@pytest.mark.slow
def test_every_tab_computes_and_none_scrolls_sideways_on_a_phone(page, address):
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    page.goto(f"{address}?class_label=3&steps=3")
    finished(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 23)"
    open_tab(page, "Forward process")
    page.wait_for_selector("#tab-forward .cards figure:nth-child(4) img")
    page.get_by_role("slider", name="Timestep t").fill("900")
    page.wait_for_function("document.querySelector('.cards').innerText.includes('At t = 900, next to nothing is left')")
    assert_fits(page)
    open_tab(page, "Compare")
    down, across = page.locator("#tab-compare .field.classes").all()
    for values, kept in ((down, ("0", "4")), (across, ("3", "8"))):
        for value in values.locator("label").all():
            if value.locator("input").is_checked() != (value.inner_text() in kept):
                value.click()
    page.get_by_role("button", name="Fill the grid").click()
    page.wait_for_selector("#tab-compare [data-done=true]")
    page.locator("#tab-compare td button").last.click()
    finished(page, "compare", {"weight": 4, "steps": 8})
    page.get_by_role("button", name="1 step or 20").click()
    page.locator("#tab-compare .name", has_text="B · steps 20").wait_for()
    assert page.locator("#tab-compare .name").first.inner_text() == "A · steps 1"
    assert_fits(page)
    open_tab(page, "Draw")
    page.get_by_role("button", name="Go").click()
    finished(page, "draw", {"task": "Noise and denoise"})
    page.get_by_text("What is it?", exact=True).click()
    page.get_by_role("slider", name="Noise draws").fill("8")
    page.get_by_role("button", name="Go").click()
    page.wait_for_selector("#tab-draw .reading[data-draws='8']")
    model = load(SHIPPED)
    *_, reading = classify(model, split_row(Image.open(SHIPPED / "examples.png"), 1, 28)[3], draws=8)
    assert page.locator(".reading").get_attribute("data-label") == model.label_names[reading.errors.argmin()]
    page.get_by_text("Complete it", exact=True).click()
    page.get_by_role("button", name="Go").click()
    page.get_by_role("alert").filter(has_text="nothing is left to paint: mark a region first").wait_for()
    assert_fits(page)
    open_tab(page, "Why small steps?")
    page.wait_for_selector("#tab-small-steps .charts svg >> nth=4")
    page.get_by_role("slider", name="Size of the step").fill("-3")
    assert float(page.locator("[data-gap]").get_attribute("data-gap")) < 0.02
    assert_fits(page)
    page.get_by_role("tab", name="Why small steps?").press("ArrowRight")
    assert page.get_by_role("tab", name="Generate").get_attribute("aria-selected") == "true"
    assert_fits(page)
    assert page.problems == []


def assert_fits(page):
    """Nothing on the page makes it wider than its window."""
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


@pytest.mark.slow
def test_the_shipped_network_in_the_browser_gives_the_steps_of_python(page, address):
    page.goto(f"{address}/demo.json")
    facts = page.evaluate("""async () => {
      const [ort, { fetchBytes, fetchJson, openNetwork, startRuntime }] =
        await Promise.all([import("/onnxruntime.js"), import("/network.js")]);
      const demo = await fetchJson("/demo.json"), model = await fetchJson("/models/mnist.json");
      startRuntime(ort, await fetchBytes("/" + demo.runtime.file));
      window.network = await openNetwork(ort, await fetchBytes("/models/" + model.file), model);
      return model;
    }""")
    model = load(SHIPPED)
    samplings = [
        Sampling(weight=1.5, steps=5),
        Sampling(weight=-1.0, steps=3, sampler="ddpm", schedule="linear"),
        Sampling(weight=1.5, steps=3, sampler="pc", interval=(-4.0, 3.0)),
        Sampling(steps=3, sampler="heun", schedule="sigmoid"),
    ]
    runs = run_all(page, facts, [request_of(sampling, [7, 2]) for sampling in samplings], network=None)
    for sampling, steps in zip(samplings, runs, strict=True):
        assert_same_steps(steps, sample(model, [7, 2], sampling=sampling))


@pytest.mark.slow
def test_a_new_run_ends_the_one_that_is_being_computed(page, address):
    page.goto(f"{address}/demo.json")
    events = page.evaluate("""async () => {
      const { sampling } = await (await fetch("/models/mnist.json")).json(), worker = new Worker("/worker.js", { type: "module" });
      const events = [], ask = (run, steps) => worker.postMessage(
        { task: "sample", run, checkpoint: "mnist", labels: [3], sampling: { ...sampling, steps } });
      worker.postMessage({ task: "open", checkpoint: "nothing" });
      ask(1, 100);
      return new Promise((resolve) => worker.onmessage = ({ data }) => {
        if (data.event !== "progress") events.push([data.event, data.run ?? null, data.step?.index ?? data.message ?? null]);
        if (data.event === "step" && data.run === 1 && data.step.index === 1) ask(2, 2);
        if (data.event === "done") resolve(events);
      });
    }""")
    assert ["failed", None, "models/nothing.json cannot be loaded (HTTP status 404)"] in events
    runs = [run for event, run, _ in events if event == "step"]
    assert runs == sorted(runs) and runs.count(1) < 10 and runs.count(2) == 2
    assert events[-1] == ["done", 2, None]


@pytest.mark.slow
def test_runs_of_different_lanes_take_turns(page, address):
    page.goto(f"{address}/demo.json")
    steps = page.evaluate("""async () => {
      const { startEngine } = await import("/engine.js"), { sampling } = await (await fetch("/models/mnist.json")).json();
      const engine = startEngine(() => {}), steps = [];
      async function run(name, lane, count) {
        const request = { checkpoint: "mnist", labels: [3], sampling: { ...sampling, steps: count } };
        for await (const { step } of engine.ask("sample", lane, request)) steps.push(name + step.index);
        steps.push(name + " ended");
      }
      await Promise.all([run("a", "first", 100), run("b", "second", 3), run("c", null, 3), run("d", "first", 3)]);
      return steps;
    }""")
    last = {name: [step for step in steps if step[0] == name][-2:] for name in "abcd"}
    assert last["b"] == ["b2", "b ended"] and last["c"] == ["c2", "c ended"] and last["d"] == ["d2", "d ended"]
    assert "a ended" in steps and "a99" not in steps  # the later run of its lane ended it
    assert steps.index("c0") < steps.index("b2") < steps.index("d2")


@pytest.mark.slow
def test_all_files_together_are_small_and_name_no_folder_of_this_machine(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.name != f"{STUDENT}.onnx.gz") < 8e6
    student, teacher = ((folder / f"models/{name}.onnx.gz").stat().st_size for name in (STUDENT, "mnist"))
    assert student < 1.25 * teacher  # its 9,050 rows are stored as the sums that they are
    content = gzip.decompress((folder / "models/mnist.onnx.gz").read_bytes())
    assert b".py" not in content and str(ROOT).encode() not in content


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"classes": 0, "patch": 1}, {"condition": "cross-attention"}])
def test_other_networks_are_exported_with_the_same_output(options):
    model = tiny_model(**options)
    content = export.export_network(model)  # compares the outputs
    for weight in model.denoiser.net.parameters():
        weight.data += 0.1
    import onnx

    with pytest.raises(UserError, match="differs from the checkpoint by"):
        export.check_same_output(model, onnx.load_from_string(content))


@pytest.mark.slow
def test_a_distilled_network_is_exported_with_all_its_rows():
    student = tiny_student(tiny_model(classes=2))
    assert export.example_inputs(student, 2)[2].tolist() == [0, student.distilled.count_rows(2) - 1]
    assert len(export.export_network(student)) > 0


def test_a_weight_is_halved_only_where_that_loses_nothing():
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    values = {"exact": [0.5, -3.0, 0.0], "fine": [0.1, 1.0, 2.0], "large": [1e6, 1.0, 2.0]}
    weights = [numpy_helper.from_array(torch.tensor(value).numpy(), name) for name, value in values.items()]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [9])
    node = helper.make_node("Concat", list(values), ["output"], axis=0)
    graph = helper.make_graph([node], "graph", [], [output], weights)
    exported = export.halve_weights(helper.make_model(graph))
    kinds = {weight.name: weight.data_type for weight in exported.graph.initializer}
    assert kinds == {"exact_half": TensorProto.FLOAT16, "fine": TensorProto.FLOAT, "large": TensorProto.FLOAT}
    assert_close(ReferenceEvaluator(exported).run(None, {})[0], torch.tensor([*values.values()]), 1e-9)


def test_the_table_of_a_distilled_network_becomes_the_sum_of_two_small_ones():
    student = tiny_student(tiny_model())
    table, known = student.denoiser.net.net.class_embedding, student.distilled
    table.weight.data = table.weight.half().float()  # as a checkpoint stores it
    split = export.split_table(student).denoiser.net.net.class_embedding
    assert sum(weight.numel() for weight in split.parameters()) == (3 * len(known.weights) + 5) * table.embedding_dim
    rows = torch.arange(known.count_rows(3))
    assert 0 < (split(rows) - table(rows)).abs().max() < 1e-3 * table.weight.abs().max()  # rounding
    assert student.denoiser.net.net.class_embedding is table  # the model itself is left as it is


def test_a_table_that_is_no_sum_is_exported_as_it_is():
    student = tiny_student(tiny_model())
    student.denoiser.net.net.class_embedding.weight.data[7] += 1.0
    assert export.split_table(student) is student
    assert export.split_table(model := tiny_model()) is model


def test_a_checkpoint_that_the_browser_cannot_run_is_refused():
    with pytest.raises(UserError, match="takes an image"):
        export.export_network(tiny_model(condition="image"))
    latent = replace(tiny_model(), codec=SimpleNamespace(bounded=False))
    with pytest.raises(UserError, match="diffuses latents"):
        export.export_network(latent)


def test_a_missing_package_for_the_export_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match="onnxscript.*pip install onnx onnxscript"):
        export.export_network(tiny_model())


def test_the_settings_are_those_of_python():
    demo = json.loads(json.dumps(site.describe_demo()))
    settings = {setting.pop("name"): setting for setting in demo["settings"]}
    assert list(settings) == ["sampler", "schedule", "steps", "weight", "interval", "variance", "corrector_snr", "seed"]
    assert demo["best"] == BEST and BEST not in demo["presets"]
    assert demo["defaults"].items() <= DEFAULTS.items() and "interval_from" in demo["defaults"]
    assert settings["steps"] == {
        "kind": "int", "default": 20, "meaning": "number of steps", "lowest": 1, "highest": 1000,
    }  # fmt: skip
    assert settings["sampler"]["names"] == list(demo["samplers"])
    assert (settings["interval"]["lowest"], settings["interval"]["highest"]) == ALWAYS
    assert demo["samplers"]["ddim"] == {
        "title": "DDIM, deterministic", "source": "Song et al. 2021, eq. 12", "calls": 1, "stochastic": False,
        "uses": [], "many_steps": False,
    }  # fmt: skip


@pytest.mark.parametrize("sampling", [Sampling("ode"), Sampling(weight=-1.0, classifier_scale=4.0)])
def test_a_checkpoint_whose_settings_are_not_here_starts_with_the_usual_ones(sampling):
    model = load(SHIPPED)
    own, other = (site.find_defaults_here(replace(model, sampling=given)) for given in (model.sampling, sampling))
    assert (own["weight"], own["sampler"]) == (model.sampling.weight, model.sampling.sampler)
    assert (other["weight"], other["sampler"]) == (1.0, "dpm++2m")


def test_the_components_are_those_of_the_app(tmp_path):
    site.write_components(tmp_path / "components")
    for name in ("player", "pad", "grid", "noise_pad"):
        module = (tmp_path / f"components/{name}.js").read_text()
        parts = app_player.read_component(name)
        assert f"export const html = {json.dumps(parts['html_template'])};" in module
        assert f"export const css = {json.dumps(parts['css_template'])};" in module and parts["js_on_load"] in module
    assert (app_player.HERE / "drag.js").read_text() in (tmp_path / "components/drag.js").read_text()


def test_a_distilled_model_knows_its_teacher_and_no_other_model_of_that_name(model, tmp_path):
    told = tiny_student(model, str(tmp_path / "runs/tiny")).training
    runs, shipped = tmp_path / "runs", tmp_path / "checkpoints"

    def find(student, **folders):
        return checkpoint.find_teacher(told, student, folders)

    assert find(runs / "tiny-instant", tiny=runs / "tiny", other=runs / "other") == "tiny"
    assert find(shipped / "tiny-instant", tiny=shipped / "tiny") == "tiny"  # both were copied
    assert find(shipped / "tiny-instant", tiny=runs / "tiny") == "tiny"  # the path that it was distilled from
    assert find(runs / "tiny-instant", tiny=shipped / "tiny") is None  # another model of the same name
    assert find(runs / "tiny-instant", other=runs / "other") is None
    assert checkpoint.find_teacher(model.training, runs / "x", {"tiny": runs / "tiny"}) is None


@pytest.mark.parametrize(
    "missing, message",
    [
        ("WebAssembly.validate = () => false", "it has no WebAssembly SIMD. Update it"),
        ("delete window.Worker", "it has no web workers. Update it"),
        ("delete window.DecompressionStream", "it has no DecompressionStream. Update it"),
    ],
)
def test_a_browser_that_lacks_something_is_told_so(static_page, missing, message):
    static_page.add_init_script(missing)
    static_page.goto(f"{static_page.address}/index.html")
    static_page.get_by_role("alert").filter(has_text=message).wait_for(timeout=10_000)
    assert not static_page.locator("#loading").is_visible()


@pytest.fixture
def static_page(browser):  # noqa: F811
    """A page, and the address of the scripts without any model."""
    with serving(site.STATIC) as address:
        page = browser.new_page()
        page.address = address
        yield page
        page.close()


def test_a_gif_as_in_the_app(static_page, fetched):
    writer = fetched[runtime.GIF].read_text()
    static_page.route(f"**/{runtime.GIF}", lambda route: route.fulfill(body=writer, content_type="text/javascript"))
    static_page.goto(f"{static_page.address}/random.js")
    strip = Image.new("RGB", (10 * 7, 2 * 10))
    for k in range(7):
        strip.paste((30 * k + 20, 20 * k, 5), (10 * k, 0, 10 * k + 10, 20))
    noise = Image.frombytes(
        "RGB", (28, 28), bytes(torch.randint(256, (28 * 28 * 3,)).tolist())
    )  # more than 256 colours
    for picture, frames, panels in ((strip, 7, 2), (noise, 1, 1)):
        order = {"strip": encode_picture(picture), "frames": frames, "panels": panels, "kind": "gif"}
        uri = static_page.evaluate(
            """async (order) => {
              const { animate } = await import("/animation.js"), reader = new FileReader();
              reader.readAsDataURL(await (await fetch((await animate(order)).uri)).blob());
              await new Promise((resolve) => reader.onload = resolve);
              return reader.result;
            }""",
            order,
        )
        found, expected = opened(uri), opened(app_player.animate(order))
        assert (found.size, found.n_frames) == (expected.size, expected.n_frames) and found.format == "GIF"
        for k in range(frames):
            found.seek(k), expected.seek(k)
            assert found.info["duration"] == expected.info["duration"]
            difference = ImageChops.difference(found.convert("RGB"), expected.convert("RGB"))
            assert max(ImageStat.Stat(difference).mean) < (1 if frames > 1 else 20)


def test_a_folder_without_its_files_is_explained(static_page):
    static_page.goto(f"{static_page.address}/index.html")
    alert = static_page.get_by_role("alert").filter(has_text="The demo cannot be started: ")
    alert.wait_for(timeout=10_000)


class Registry(BaseHTTPRequestHandler):
    """Answers every request with the package of its server."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(200 if self.server.package else 404)
        self.end_headers()
        self.wfile.write(self.server.package)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def registry(monkeypatch):
    """A stand-in for the npm registry, with one package of the real layouts, whose checksum is expected."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for member in (runtime.RUNTIME.members | runtime.WRITER.members).values():
            entry = tarfile.TarInfo(member)
            entry.size = len(member)
            archive.addfile(entry, io.BytesIO(member.encode()))
    checksum = base64.b64encode(hashlib.sha512(content.getvalue()).digest()).decode()
    for name in ("RUNTIME", "WRITER"):
        monkeypatch.setattr(runtime, name, replace(getattr(runtime, name), integrity=f"sha512-{checksum}"))
    with HTTPServer(("127.0.0.1", 0), Registry) as server:
        server.package, server.asked = content.getvalue(), []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.shutdown()
        thread.join()


def test_the_runtime_is_downloaded_once(registry):
    files, members = runtime.fetch_files(), runtime.RUNTIME.members | runtime.WRITER.members
    assert files.keys() == members.keys()
    for name in (runtime.SCRIPT, runtime.GIF):
        assert files[name].read_bytes() == members[name].encode()
    assert gzip.decompress(files[runtime.WASM].read_bytes()) == members[runtime.WASM].encode()
    assert runtime.fetch_files() == files
    packages = (runtime.RUNTIME, runtime.WRITER)
    assert registry.asked == [f"/{one.name}/-/{one.name}-{one.version}.tgz" for one in packages]


def test_a_changed_package_is_refused_and_nothing_is_kept(registry):
    registry.package += b"changed"
    with pytest.raises(UserError, match="has the checksum sha512-.* is expected"):
        runtime.fetch_files()
    assert not runtime.cache_folder().exists()


def test_without_the_registry_the_error_says_what_to_do(registry, monkeypatch):
    registry.package = b""
    with pytest.raises(UserError, match=r"cannot be downloaded \(HTTP Error 404.*NPM_CONFIG_REGISTRY"):
        runtime.fetch_files()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot be downloaded .*: connect to the internet"):
        runtime.fetch_files()


def test_the_registry_is_that_of_npm(monkeypatch, tmp_path):
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\n[ "$*" = "config get registry" ] && echo https://npm.example/path/\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert runtime.find_registry() == "https://npm.example/path"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert runtime.find_registry() == "https://registry.npmjs.org"


@pytest.fixture
def quick(registry, monkeypatch):
    """Builds without the exporter, which takes seconds."""
    monkeypatch.setattr(site, "export_network", lambda model: b"network")


def test_a_folder_of_other_files_is_left_alone(quick, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main([str(tmp_path)]) == 2
    assert "contains other files, which would be deleted" in capsys.readouterr().err
    assert main([str(tmp_path / "thesis.txt")]) == 2
    model = tmp_path / "model"  # a user may forget --checkpoint
    checkpoint.save(tiny_model(), model)
    assert main([str(model)]) == 2
    assert checkpoint.load(model)
    shutil.rmtree(model)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_forward_and_draw_follow_the_checkpoint_of_generate(fetched, monkeypatch, tmp_path, browser):  # noqa: F811
    monkeypatch.setattr(site, "fetch_files", lambda: fetched)
    monkeypatch.setattr(site, "export_network", lambda model: b"network")  # these tabs need none before a run
    for name, size in (("small", 16), ("large", 24)):
        checkpoint.save(tiny_model(size=size), tmp_path / name)
    checkpoint.save(tiny_student(tiny_model(size=24), "large"), tmp_path / "large-instant")
    assert (
        main(
            [str(tmp_path / "demo"), "--checkpoint", *(str(tmp_path / n) for n in ("small", "large", "large-instant"))]
        )
        == 0
    )
    with serving(tmp_path / "demo") as address:
        page = browser.new_page()
        page.goto(address)
        for tab in ("Forward process", "Draw"):
            room = page.locator("#tab-forward" if tab == "Forward process" else "#tab-draw")
            for chosen, size in (("large-instant", 24), ("small", 16)):
                open_tab(page, "Generate")
                page.get_by_label("Checkpoint").select_option(chosen)
                open_tab(page, tab)
                room.locator(f"canvas[width='{size}']").first.wait_for(timeout=5000)
                assert room.locator(".hint").count() == 1
        page.close()


def test_an_earlier_demo_is_replaced_as_a_whole_or_not_at_all(quick, tmp_path, capsys):
    folder = tmp_path / "demo"
    assert main([str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} >= {
        "index.html",
        "demo.json",
        *runtime.RUNTIME.members,
        *runtime.WRITER.members,
    }
    assert 'href="data:image/png;base64,' in (folder / "index.html").read_text()
    assert gzip.decompress((folder / "models/mnist.onnx.gz").read_bytes()) == b"network"
    (folder / "models/old.json").write_text("{}")
    assert main([str(folder), "--checkpoint", str(SHIPPED), str(tmp_path)]) == 2
    assert "is not a checkpoint" in capsys.readouterr().err and (folder / "models/old.json").exists()
    assert main([str(folder), "--checkpoint", str(SHIPPED), f"user/{SHIPPED.name}"]) == 2
    assert "two checkpoints have the same name (mnist, mnist)" in capsys.readouterr().err
    assert main([str(folder)]) == 0
    assert not (folder / "models/old.json").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["demo"]  # no partial folder is left


def test_the_command_needs_a_folder_or_serves(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "pass the folder to write, or --serve" in capsys.readouterr().err


def test_the_command_serves_the_folder_until_it_is_interrupted(quick, monkeypatch, capsys):
    def serve_one(server):
        threading.Thread(target=server.handle_request).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/worker.js") as response:
            served.append((response.headers["Content-Type"], response.read()))
        raise KeyboardInterrupt

    served = []
    monkeypatch.setattr(site.ThreadingHTTPServer, "serve_forever", serve_one)
    assert main(["--serve"]) == 0
    assert served == [("text/javascript", (site.STATIC / "worker.js").read_bytes())]
    *_, written, opened, _ = capsys.readouterr().out.splitlines()
    assert not Path(written.removeprefix("written to ").partition(":")[0]).exists()
    assert opened.startswith("open http://127.0.0.1:")
    assert main(["--serve", "--port", "99999"]) == 2
    assert "port 99999 cannot be used" in capsys.readouterr().err
