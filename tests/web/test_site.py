"""The folder of the static demo: the exported network, the runtime, the settings, the page in Chromium, the command."""

import base64
import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
import threading
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from browser import browser, shot  # noqa: F401 a fixture
from conftest import ROOT, SHIPPED, tiny_model, tiny_student
from test_parity import assert_close, assert_same_steps, request_of, run_all

from ddpm_demo import UserError, load, sample
from ddpm_demo.diffusion.sampling import ALWAYS, Sampling
from ddpm_demo.ui.runs import DEFAULTS
from ddpm_demo.web import export, runtime, site
from ddpm_demo.web.__main__ import main


@pytest.fixture(scope="session")
def fetched():
    """The runtime in the user's own cache: each test has an empty one."""
    return runtime.fetch_runtime()


@pytest.fixture(scope="module")
def folder(fetched, tmp_path_factory):
    """The demo of the shipped model."""
    folder = tmp_path_factory.mktemp("web") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "fetch_runtime", lambda: fetched)
        site.write_site(folder, [str(SHIPPED)])
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with site.serve(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(address, browser):  # noqa: F811
    """A page at this address, with what it asked for and what went wrong."""
    page = browser.new_page(viewport={"width": 600, "height": 700})
    page.requests, page.problems = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    yield page
    page.close()


@pytest.mark.slow
def test_the_page_draws_the_digit_of_python_and_loads_nothing_from_elsewhere(page, address):
    page.goto(address)
    page.wait_for_selector("pre[data-done]", timeout=120_000)
    shot(page, "web")
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith((address, "data:"))] == []
    drawn = page.evaluate("""() => {
      const { width, height } = document.querySelector("canvas");
      return [...document.querySelector("canvas").getContext("2d").getImageData(0, 0, width, height).data];
    }""")
    *_, step = sample(load(SHIPPED), [7], weight=DEFAULTS["weight"], steps=DEFAULTS["steps"])
    assert (torch.tensor(drawn[::4]) - 127.5 * (step.x0.flatten() + 1)).abs().max() <= 1  # the canvas rounds


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
      const demo = await (await fetch("/demo.json")).json(), worker = new Worker("/worker.js", { type: "module" });
      const events = [], ask = (run, steps) => worker.postMessage(
        { task: "sample", run, checkpoint: "mnist", labels: [3], sampling: { ...demo.sampling, steps } });
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
def test_all_files_together_are_small_and_name_no_folder_of_this_machine(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8e6
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
    assert Sampling(**demo["sampling"]).weight == DEFAULTS["weight"] and demo["sampling"].keys() == settings.keys()
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
    """A stand-in for the npm registry, with a package of the real layout whose checksum is expected."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for member in runtime.MEMBERS.values():
            entry = tarfile.TarInfo(member)
            entry.size = len(member)
            archive.addfile(entry, io.BytesIO(member.encode()))
    checksum = base64.b64encode(hashlib.sha512(content.getvalue()).digest()).decode()
    monkeypatch.setattr(runtime, "INTEGRITY", f"sha512-{checksum}")
    with HTTPServer(("127.0.0.1", 0), Registry) as server:
        server.package, server.asked = content.getvalue(), []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.shutdown()
        thread.join()


def test_the_runtime_is_downloaded_once(registry):
    folder = runtime.fetch_runtime()
    assert (folder / runtime.SCRIPT).read_bytes() == runtime.MEMBERS[runtime.SCRIPT].encode()
    assert gzip.decompress((folder / runtime.WASM).read_bytes()) == runtime.MEMBERS[runtime.WASM].encode()
    assert runtime.fetch_runtime() == folder
    assert registry.asked == [f"/onnxruntime-web/-/onnxruntime-web-{runtime.VERSION}.tgz"]


def test_a_changed_package_is_refused_and_nothing_is_kept(registry):
    registry.package += b"changed"
    with pytest.raises(UserError, match="has the checksum sha512-.* is expected"):
        runtime.fetch_runtime()
    assert not runtime.cache_folder().exists()


def test_without_the_registry_the_error_says_what_to_do(registry, monkeypatch):
    registry.package = b""
    with pytest.raises(UserError, match=r"cannot be downloaded \(HTTP Error 404.*NPM_CONFIG_REGISTRY"):
        runtime.fetch_runtime()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot be downloaded .*: connect to the internet"):
        runtime.fetch_runtime()


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
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_earlier_demo_is_replaced_as_a_whole_or_not_at_all(quick, tmp_path, capsys):
    folder = tmp_path / "demo"
    assert main([str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} >= {"index.html", "demo.json", *runtime.MEMBERS}
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
