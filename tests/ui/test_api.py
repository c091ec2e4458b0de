"""The real app on the shipped model through its endpoints: gradio_client and raw HTTP, one user and many."""

import concurrent.futures
import json
import random
import re
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import pytest
from conftest import SHIPPED
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import ddpm_demo
from ddpm_demo.data.images import render_grid as drawn
from ddpm_demo.ui.data_uri import encode_picture
from ddpm_demo.ui.events import RUNNING
from ddpm_demo.ui.runs import DEFAULTS, flatten


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return Client(server.url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


SETTINGS = {"class_label": "7", "weight": 1.0, "schedule": "cosine", "sampler": "dpm++2m", "steps": 12, "seed": 4}


def pixels(path) -> bytes:
    return Image.open(path).tobytes()


def test_generate_draws_and_says_how(client):
    path, used = client.predict(**SETTINGS, count=2, api_name="/generate")
    assert SETTINGS.items() <= used.items() and used["guidance_scale"] == 2.0 and used["checkpoint"] == "mnist"
    image = Image.open(path)
    assert image.format == "PNG" and image.width > image.height > 200
    again, _ = client.predict(**SETTINGS, count=2, api_name="/generate")
    assert pixels(again) == image.tobytes()


def test_a_checkpoint_brings_its_own_settings(client):
    _, used = client.predict(class_label="3", checkpoint="mnist-instant", api_name="/generate")
    assert (used["steps"], used["sampler"]) == (4, "ddim")
    _, used = client.predict(class_label="3", steps=3, api_name="/generate")
    own = flatten(ddpm_demo.load(SHIPPED).sampling) | {"steps": 3}
    assert used == used | own and own["weight"] != DEFAULTS["weight"]
    place = "0 1 2 3 at 0.5 0.25"
    _, used = client.predict(class_label="3", place=place, api_name="/generate")
    assert (used["steps"], used["place"]) == (20, place)


@pytest.mark.parametrize("name", ["generate", "interpolate", "compare"])
def test_no_computation_bypasses_the_queue(server, name):
    """A request that is not in the queue could not be stopped when its client leaves."""
    for path in (f"run/{name}", f"api/{name}"):
        answer = httpx.post(f"{server.url}/gradio_api/{path}", json={"data": []})
        assert answer.status_code in (401, 403, 404, 405), answer.text


def test_the_endpoints_are_named_and_typed(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(endpoints) == ["/classify", "/compare", "/complete", "/forward", "/generate", "/interpolate"]
    parameters = {p["parameter_name"]: p["python_type"]["type"] for p in endpoints["/generate"]["parameters"]}
    assert parameters["weight"] == "float" and parameters["seed"] in ("int", "float") and "checkpoint" in parameters


def test_a_classifier_guides_and_the_ode_is_solved_to_a_tolerance(client):
    asked = {"class_label": "3", "weight": -1, "steps": 8, "seed": 2, "api_name": "/generate"}
    free, guided = (client.predict(**asked, classifier_scale=scale)[0] for scale in (0, 8))
    assert pixels(free) != pixels(guided)
    reading = client.predict(handle_file(guided), draws=32, api_name="/classify")
    assert reading["label"] == "3"
    fine, coarse = (client.predict(**asked, sampler="ode", ode_tolerance=t)[0] for t in (1e-4, 1e-1))
    assert pixels(fine) != pixels(coarse)
    for setting, words in (
        ({"ode_tolerance": 2}, "ode_tolerance is 2"),
        ({"corrector_snr": -1}, "corrector_snr is -1"),
        ({"classifier_scale": 1e4}, "classifier_scale is"),
    ):
        with pytest.raises(AppError, match=words):
            client.predict(**asked, **setting)


def test_interpolate_goes_there_and_back(client, digit):
    path, about = client.predict(
        handle_file(digit), handle_file(digit), frames=3, tolerance=1e-3, api_name="/interpolate"
    )
    assert Image.open(path).width > 3 * 100 and len(about["round_trip_errors"]) == 2 and about["calls"] > 50
    with pytest.raises(AppError, match="total is 1; it must be a whole number from 2 to 60"):
        client.predict(handle_file(digit), handle_file(digit), frames=1, api_name="/interpolate")


@pytest.fixture(scope="module")
def digit(tmp_path_factory) -> Path:
    """A real three, as a PNG file."""
    path = tmp_path_factory.mktemp("digit") / "three.png"
    with Image.open(SHIPPED / "examples.png") as row:
        row.crop((84, 0, 112, 28)).resize((280, 280)).save(path)
    return path


def test_forward_says_what_is_left(client, digit):
    path, about = client.predict(handle_file(digit), t=300, schedule="linear", seed=1, api_name="/forward")
    assert Image.open(path).format == "PNG"
    assert about["alpha_bar"] == pytest.approx(0.394, abs=0.01) and "shape" in about["left"]


def test_compare_fills_a_grid(client):
    path, about = client.predict("sampler", "ddim, heun", "steps", "2, 3, 4", {"class_label": "5"}, api_name="/compare")
    assert about["columns"] == ["2", "3", "4"] and "6 of 6 cells" in about["progress"]
    assert Image.open(path).size == (3 * 30 * 3, 2 * 30 * 3)
    with pytest.raises(AppError, match="settings names colour"):
        client.predict("sampler", "ddim", "steps", "2", {"colour": 1}, api_name="/compare")


def test_classify_reads_a_three_and_complete_keeps_its_top(client, digit, tmp_path):
    reading = client.predict(handle_file(digit), draws=32, api_name="/classify")
    assert reading["label"] == "3" and len(reading["errors"]) == 10 and reading["draws"] == 32
    mask = Image.new("L", (28, 28))
    mask.paste(255, (0, 14, 28, 28))
    mask.save(tmp_path / "mask.png")
    path = client.predict(handle_file(digit), handle_file(tmp_path / "mask.png"), class_label="3", api_name="/complete")
    assert Image.open(path).format == "PNG"


@pytest.mark.parametrize("mode, kind", [("RGBA", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("I;16", "PNG"), ("1", "BMP")])
def test_uploads_of_any_kind_are_taken(client, tmp_path, mode, kind):
    path = tmp_path / f"picture.{kind.lower()}"
    Image.new(mode, (33, 57)).save(path, kind)
    _, about = client.predict(handle_file(path), api_name="/forward")
    assert about["alpha_bar"] > 0


def test_what_is_no_image_or_too_large_is_refused(client, tmp_path, digit):
    (tmp_path / "evil.png").write_bytes(b"<svg onload=alert(1)>")
    (tmp_path / "large.png").write_bytes(b"0" * 3 * 2**20)
    for name in ("evil.png", "large.png"):
        with pytest.raises((AppError, ValueError, OSError, httpx.HTTPError), match="image|size|413|large"):
            client.predict(handle_file(tmp_path / name), api_name="/forward")
    assert client.predict(handle_file(digit), draws=32, api_name="/classify")["label"] == "3"


def send(server, path: str, content: dict | bytes) -> tuple[int, str]:
    """Post JSON, or bytes that claim to be JSON: the status and the text of the answer."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    answer = httpx.post(f"{server.url}/gradio_api/{path}", content=body, headers=JSON, timeout=60)
    return answer.status_code, answer.text


JSON = {"Content-Type": "application/json"}


def test_a_picture_is_refused_before_it_is_decoded_by_whichever_way_it_comes(server, client, tmp_path):
    large = Image.new("1", (28, 1_200_000))
    large.save(tmp_path / "large.png")
    uri = encode_picture(large)
    server.memory_peak(reset=True)
    before = server.memory_peak()
    sent = {"url": uri, "meta": {"_type": "gradio.FileData"}}
    file = handle_file(tmp_path / "large.png")
    for endpoint, pictures in {
        "forward": [sent],
        "classify": [file],
        "complete": [sent] * 2,
        "interpolate": [sent] * 2,
    }.items():
        with pytest.raises(AppError, match="the picture has 28 x 1200000 pixels; at most 4.2 million"):
            client.predict(*pictures, api_name=f"/{endpoint}")
    components = httpx.get(f"{server.url}/config").json()["components"]
    players = [component["id"] for component in components if "export" in component["props"].get("server_fns", ())]
    order = {"strip": uri, "frames": 1, "panels": 1, "kind": "gif"}
    for player in players:
        about = {"data": order, "component_id": player, "fn_name": "export", "session_hash": "x"}
        assert "the picture has 28 x 1200000 pixels; at most 16.8" in send(server, "component_server", about)[1]
    assert players and server.memory_peak() < before + 60


def test_a_small_data_uri_is_a_picture(client, digit):
    uri = {"url": encode_picture(Image.open(digit)), "meta": {"_type": "gradio.FileData"}}
    assert client.predict(uri, draws=16, api_name="/classify")["label"] == "3"


def test_a_large_body_and_an_address_are_refused(server):
    status, text = send(server, "call/forward", b'{"data": ["' + b"A" * 20 * 2**20 + b'"]}')
    assert status == 413 and "the request is larger than 16 MB" in text
    file = {"path": "http://192.0.2.1/large.png", "meta": {"_type": "gradio.FileData"}}
    assert "this server downloads nothing" in call(server, "forward", [file, 300, "cosine", 0])
    assert "this server downloads nothing" in call(server, "generate", [{"a": [file]}, *GOOD[1:]])


# Under use


def call(server, endpoint: str, data: list, patience: float = 60) -> str:
    """A raw call of an endpoint: what the server says in the end."""
    body = json.dumps({"data": data}).encode()
    url = f"{server.url}/gradio_api/call/{endpoint}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=patience) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{url}/{event}", timeout=patience) as stream:
            return stream.read().decode()
    except urllib.error.HTTPError as error:
        return f"http {error.code} {error.read().decode()}"


GOOD = ["3", "dpm++2m", "cosine", 2, 1.0, "posterior", 0.0, 0.0, 0.16, 1e-3, 0, -20.0, 20.0, 1, "", ""]


@pytest.mark.slow
def test_two_hundred_bad_inputs_get_a_clear_refusal(server):
    dice = random.Random(1)
    strange = [None, True, False, "", "x", "NaN", [], {}, [1], -1, 3.7, 1e300, -1e300, 2**70, 10**400, "💥" * 1000, float("nan"),
               float("inf")]  # fmt: skip
    before = server.memory()

    def one(_) -> str:
        data, position = list(GOOD), dice.randrange(len(GOOD))
        data[position] = dice.choice(strange)
        if dice.random() < 0.1:
            data = dice.choice([[], data[:3], data * 3, [data], "text"])
        return call(server, "generate", data)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(one, range(200)))
    refused = [answer for answer in answers if "event: complete" not in answer]
    assert len(refused) > 120
    for answer in refused:  # in our words, or in Gradio's where the request itself is malformed
        assert re.search(r"must be|must lie|needs labels|interval is|http 4|needed|too many|rguments", answer), answer[
            :500
        ]
    assert "/ddpm_demo/" not in server.said()  # no traceback through our own code
    assert "event: complete" in call(server, "generate", GOOD)
    assert server.memory() < before + 200


@pytest.mark.slow
def test_twenty_clients_at_once_never_see_each_other(server):
    """Each gets its own seed's image, or a clear refusal since the queue is bounded."""
    model = ddpm_demo.load(SHIPPED)

    def ask(seed: int):
        try:
            client = Client(server.url, verbose=False)
            return client.predict(**SETTINGS | {"seed": seed, "steps": 4}, api_name="/generate")
        except Exception as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(100, 120)))
    drawn_images = 0
    for seed, answer in zip(range(100, 120), answers):
        if isinstance(answer, str):
            assert "full" in answer or "busy" in answer, answer
            continue
        drawn_images += 1
        assert answer[1]["seed"] == seed
        expected = drawn(ddpm_demo.generate(model, [7], weight=1.0, steps=4, seed=seed), 1, height=320)
        got = Image.open(answer[0]).convert("L")
        assert max(abs(a - b) for a, b in zip(got.tobytes(), expected.tobytes())) <= 2
    assert drawn_images >= 5


@pytest.mark.slow
def test_beyond_the_queue_it_says_busy(server):
    """More requests than the queue holds: some are refused at once, and it works again after."""
    body = json.dumps({"data": [*GOOD[:3], 80, *GOOD[4:]]}).encode()
    events, refused = [], []
    for _ in range(32 + 2 * RUNNING):
        url = f"{server.url}/gradio_api/call/generate"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, body, {"Content-Type": "application/json"})
            ) as answer:
                events.append(json.load(answer)["event_id"])
        except urllib.error.HTTPError as error:
            refused.append((error.code, error.read().decode()))
    assert refused and all(code == 503 and "Queue is full" in text for code, text in refused)
    for event in events:  # nobody wants them any more
        request = urllib.request.Request(
            f"{server.url}/gradio_api/cancel",
            json.dumps({"event_id": event, "session_hash": "", "fn_index": 0}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request):
            pass
    assert "event: complete" in call(server, "generate", GOOD, patience=120)
