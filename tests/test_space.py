"""The demo as a Space: what is sent, what its front matter says, and that it runs from there."""

import re

import gradio
import pytest
from conftest import ROOT, Server
from gradio_client import Client
from huggingface_hub import RepoCard, SpaceCardData
from PIL import Image
from test_hub import TOKEN, there  # noqa: F401 a fixture

from ddpm_demo import hub, space
from ddpm_demo.errors import UserError

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
    files = space.stage(tmp_path, NAME)
    told = RepoCard.load(tmp_path / "README.md").data
    assert told.sdk_version == gradio.__version__ and NAME in told["thumbnail"]
    required = re.search(r"gradio>=(\d+)\.(\d+)", (ROOT / "requirements.txt").read_text())
    noted = RepoCard.load(ROOT / "README.md").data.sdk_version
    assert tuple(map(int, noted.split(".")[:2])) >= tuple(map(int, required.groups()))
    names = {str(file) for file in files}
    assert {"app.py", "requirements.txt", "README.md", "checkpoints/mnist/demo.json", "ddpm_demo/ui/player.js"} <= names
    assert not any(re.search(r"(^|/)(\.|tests/|__pycache__|state/)", name) for name in names)
    assert max((tmp_path / file).stat().st_size for file in files) <= space.LARGEST


def test_a_file_that_is_too_large_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "LARGEST", 1000)
    with pytest.raises(UserError, match="MiB; a file of a Space may have"):
        space.stage(tmp_path, NAME)


def test_it_is_created_then_updated(there):  # noqa: F811
    assert space.publish(NAME, "zero-a10g") == f"{there.url}/spaces/{NAME}"
    key = f"spaces/{NAME}"
    assert there.created[key]["sdk"] == "gradio" and there.hardware[key] == "zero-a10g"
    sent = there.files(key)
    assert sent["app.py"] == (ROOT / "app.py").read_bytes() and "tests/conftest.py" not in sent
    there.commit(key, sent | {"old.py": b"no longer needed"})
    space.publish(NAME)
    assert there.files(key).keys() == sent.keys() and len(there.hardware) == 1
    there.answers = [("commit", 403, {})]
    with pytest.raises(UserError, match="your token may not do that"):
        space.publish(NAME)


def test_the_command(there, monkeypatch, capsys):  # noqa: F811
    assert hub.main(["space", NAME, "--hardware", "cpu-basic", "--private"]) == 0
    assert f"published: {there.url}/spaces/{NAME}" in capsys.readouterr().out
    asked = there.created[f"spaces/{NAME}"]
    assert asked.get("private") or asked.get("visibility") == "private"  # the older client, and the newer one
    monkeypatch.delenv("HF_TOKEN")
    assert hub.main(["space", NAME]) == 2 and TOKEN not in capsys.readouterr().err


@pytest.mark.slow
def test_it_runs_from_there(tmp_path):
    """As Spaces start it: from the staged folder alone, with their environment, the folder read-only."""
    folder = tmp_path / "app"
    folder.mkdir()
    space.stage(folder, NAME)
    for path in sorted(folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    server = Server(
        folder, SYSTEM="spaces", SPACE_ID=NAME, GRADIO_SERVER_NAME="0.0.0.0", DDPM_CHECKPOINT="checkpoints/mnist",
        HF_HOME=str(tmp_path / "cache"), PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip
    try:
        picture, settings = Client(server.url, verbose=False).predict(class_label="3", steps=5, api_name="/generate")
        assert settings["class_label"] == "3" and Image.open(picture).size[0] >= 28
    finally:
        server.stop()
