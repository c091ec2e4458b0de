"""The demo as a Space: what is sent, what its front matter says, and that it runs from there."""

import os
import re
import shutil
import socket
import subprocess
import venv
from pathlib import Path

import gradio
import numpy as np
import pytest
from conftest import ROOT, Server
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from huggingface_hub import RepoCard, SpaceCardData
from lender import NO_DEVICE, Lender
from PIL import Image
from test_hub import TOKEN, there  # noqa: F401 a fixture

from ddpm_demo.errors import UserError
from ddpm_demo.hub import space
from ddpm_demo.hub.__main__ import main

NAME = "user/ddpm-demo"


def test_the_front_matter_is_complete_and_valid():
    told = RepoCard.load(ROOT / "README.md").data.to_dict()
    assert told["sdk"] == "gradio" and (ROOT / told["app_file"]).is_file() and told["license"] == "mit"
    assert len(told["short_description"]) <= 60 and told["python_version"] in ("3.10", "3.12")  # those of ZeroGPU
    assert {told["colorFrom"], told["colorTo"]} <= {
        "red",
        "yellow",
        "green",
        "blue",
        "indigo",
        "purple",
        "pink",
        "gray",
    }
    assert "diffusion" in told["tags"] and told["title"] and told["emoji"]
    card = SpaceCardData(**told)
    assert card.sdk_version == told["sdk_version"]


def test_the_space_names_the_gradio_that_was_tested(tmp_path):
    files = space.stage_space(tmp_path, NAME)
    told = RepoCard.load(tmp_path / "README.md").data
    assert told.sdk_version == gradio.__version__ and NAME in told["thumbnail"]
    required = re.search(r"gradio>=(\d+)\.(\d+)", (ROOT / "requirements.txt").read_text())
    noted = RepoCard.load(ROOT / "README.md").data.sdk_version
    assert tuple(map(int, noted.split(".")[:2])) >= tuple(map(int, required.groups()))
    names = {str(file) for file in files}
    assert {
        "app.py",
        "requirements.txt",
        "README.md",
        "checkpoints/mnist/demo.json",
        "ddpm_demo/ui/components/player.js",
    } <= names
    assert not any(re.search(r"(^|/)(\.|tests/|__pycache__|state/)", name) for name in names)
    assert max((tmp_path / file).stat().st_size for file in files) <= space.LARGEST_FILE


def test_a_file_that_is_too_large_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "LARGEST_FILE", 1000)
    with pytest.raises(UserError, match="MiB; a file of a Space may have"):
        space.stage_space(tmp_path, NAME)


@pytest.mark.slow
def test_it_is_created_then_updated(there):  # noqa: F811
    assert space.publish(NAME, "zero-a10g") == f"{there.url}/spaces/{NAME}"
    key = f"spaces/{NAME}"
    assert there.created[key]["sdk"] == "gradio" and there.hardware[key] == "zero-a10g"
    sent = there.files(key)
    assert sent["app.py"] == (ROOT / "app.py").read_bytes() and "tests/conftest.py" not in sent
    there.commit(key, sent | {"old.py": b"no longer needed"})
    space.publish(NAME)
    assert there.files(key).keys() == sent.keys() and len(there.hardware) == 1
    space.publish(NAME, checkpoint="user/ddpm-mnist@v1")
    assert there.variables[key] == {"DDPM_CHECKPOINT": "user/ddpm-mnist@v1"}
    assert b"user/ddpm-mnist\n" in there.files(key)["README.md"]
    with pytest.raises(UserError, match="a Space needs one on the Hub"):
        space.publish(NAME, checkpoint="checkpoints/mnist")
    there.answers = [("commit", 403, {})]
    with pytest.raises(UserError, match="your token may not do that"):
        space.publish(NAME)


def test_without_a_checkpoint_the_space_loads_the_shipped_one_again(there, monkeypatch):  # noqa: F811
    monkeypatch.setattr(space, "NEEDED", ("app.py", "README.md"))  # little to send
    space.publish(NAME)
    space.publish(NAME, checkpoint="user/ddpm-mnist")
    assert there.variables[f"spaces/{NAME}"] == {"DDPM_CHECKPOINT": "user/ddpm-mnist"}
    space.publish(NAME)
    assert there.variables[f"spaces/{NAME}"] == {}


def test_the_command(there, monkeypatch, capsys):  # noqa: F811
    assert main(["space", NAME, "--hardware", "cpu-basic", "--private"]) == 0
    assert f"published: {there.url}/spaces/{NAME}" in capsys.readouterr().out
    asked = there.created[f"spaces/{NAME}"]
    assert asked.get("private") or asked.get("visibility") == "private"  # the older client, and the newer one
    monkeypatch.delenv("HF_TOKEN")
    assert main(["space", NAME]) == 2 and TOKEN not in capsys.readouterr().err


@pytest.fixture
def written(tmp_path) -> Path:
    """The folder of the browser's demo, as far as its publishing needs it."""
    folder = tmp_path / "site"
    (folder / "models").mkdir(parents=True)
    for name in ("index.html", "demo.json", "models/mnist.onnx.gz"):
        (folder / name).write_bytes(name.encode() * 10)
    return folder


def test_a_static_space_has_the_files_and_a_card_of_its_own(there, written, capsys):  # noqa: F811
    assert main(["space", NAME, "--static", str(written)]) == 0
    assert f"published: {there.url}/spaces/{NAME}" in capsys.readouterr().out
    key = f"spaces/{NAME}"
    sent = there.files(key)
    assert there.created[key]["sdk"] == "static"
    assert sent.keys() == {".gitattributes", "README.md", "index.html", "demo.json", "models/mnist.onnx.gz"}
    assert sent["models/mnist.onnx.gz"] == (written / "models/mnist.onnx.gz").read_bytes()
    card = RepoCard(sent["README.md"].decode())
    about, app = card.data.to_dict(), RepoCard.load(ROOT / "README.md").data
    assert (about["sdk"], about["app_file"], about["title"]) == ("static", "index.html", app.title)
    assert "sdk_version" not in about and "python_version" not in about and "diffusion" in about["tags"]
    assert "runs in your browser" in card.text and "requirements.txt" not in card.text
    assert not (written / "README.md").exists()
    (written / "demo.json").write_text("newer")
    (written / "models/mnist.onnx.gz").unlink()
    space.publish_static(NAME, written)
    assert there.files(key)["demo.json"] == b"newer" and "models/mnist.onnx.gz" not in there.files(key)


def test_without_a_folder_the_static_space_is_built_by_the_other_command(there, written, monkeypatch, capsys):  # noqa: F811
    def build(command, cwd):
        asked.append(command[1:])
        shutil.copytree(written, command[3])
        return subprocess.CompletedProcess(command, 0 if "--checkpoint" in command else 1)

    asked = []
    monkeypatch.setattr(space.subprocess, "run", build)
    assert main(["space", NAME, "--static", "--checkpoint", "user/ddpm-mnist"]) == 0
    assert asked[0][:2] == ["-m", "ddpm_demo.web"] and asked[0][3:] == ["--checkpoint", "user/ddpm-mnist"]
    assert "demo.json" in there.files(f"spaces/{NAME}")
    assert main(["space", NAME, "--static"]) == 2
    assert "could not be built, for the reason above" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--static", "docs"], "docs does not contain the browser's demo: write it with  python -m ddpm_demo.web docs"),
        (["--static", "--hardware", "cpu-basic"], "a static Space has no hardware"),
        (["--static", "site", "--checkpoint", "user/ddpm-mnist"], "site already contains its checkpoints"),
    ],
)
def test_a_static_space_that_cannot_be_is_refused(there, options, message, capsys):  # noqa: F811
    assert main(["space", NAME, *options]) == 2
    assert message in capsys.readouterr().err and not there.created


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """The Python of a fresh virtual environment that holds requirements.txt alone; $BARE_PYTHON names one at hand."""
    if at_hand := os.environ.get("BARE_PYTHON"):
        return Path(at_hand)
    place = tmp_path_factory.mktemp("venv")
    venv.create(place, with_pip=True)
    python = place / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", ROOT / "requirements.txt"], check=True, timeout=900)
    return python


@pytest.mark.slow
def test_it_runs_from_there(tmp_path, bare):
    """As Spaces start it: the staged folder and what requirements.txt names, nothing else; it writes to caches alone."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 7860)) == 0:
            pytest.skip("something else is served on port 7860, which a Space needs")
    assert subprocess.run([bare, "-c", "import pytest"], capture_output=True).returncode == 1
    folder = tmp_path / "app"
    folder.mkdir()
    sent = space.stage_space(folder, NAME)
    server = Server(
        folder, bare, "app.py", SYSTEM="spaces", SPACE_ID=NAME, GRADIO_SERVER_NAME="0.0.0.0", PYTHONPATH="",
        DDPM_CHECKPOINT="checkpoints/mnist", HOME=str(tmp_path / "home"), PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip
    try:
        picture, settings = Client(server.url, verbose=False).predict(class_label="3", steps=5, api_name="/generate")
        assert settings["class_label"] == "3" and Image.open(picture).size[0] >= 28
    finally:
        server.stop()
    assert sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) == sent


@pytest.fixture
def lender():
    lender = Lender()
    yield lender
    lender.stop()


@pytest.mark.slow
def test_on_zero_gpu_a_run_is_computed_where_the_gpu_is(tmp_path, lender):
    """The package of ZeroGPU itself, its scheduling, forked workers and pickling; the device alone is missing."""
    (tmp_path / "sitecustomize.py").write_text(NO_DEVICE)
    server = Server(
        PYTHONPATH=str(tmp_path), SPACES_ZERO_GPU="true", SPACES_ZERO_DEVICE_API_URL=lender.url,
        ZEROGPU_OFFLOAD_DIR=str(tmp_path / "tensors"), OMP_NUM_THREADS="1",
    )  # fmt: skip
    plain = Server(OMP_NUM_THREADS="1")
    try:
        assert lender.asked == [("/startup-report", {})]
        there, here = (Client(one.url, verbose=False) for one in (server, plain))
        asked = {"class_label": "3", "steps": 8, "weight": 2, "api_name": "/generate"}
        digit, other = (client.predict(**asked)[0] for client in (there, here))
        assert (np.asarray(Image.open(digit)) == np.asarray(Image.open(other))).all()
        assert [path for path, _ in lender.asked[1:]] == ["/schedule", "/allow", "/release"]
        there.predict(**asked | {"steps": 800, "class_label": "all", "weight": 0})
        short, long = lender.seconds()
        assert 3 < short < 8 < long < 60
        # A checkpoint that the worker has not loaded, and a user's mistake.
        there.predict(**asked | {"checkpoint": "mnist-linear"})
        with pytest.raises(AppError, match="class_label is '11'"):
            there.predict(**asked | {"class_label": "11"})
        read = there.predict(handle_file(digit), draws=8, api_name="/classify")
        assert read["draws"] == 8
        lender.busy = True
        with pytest.raises(AppError, match="No GPU was available"):
            there.predict(**asked)
    finally:
        server.stop()
        plain.stop()
