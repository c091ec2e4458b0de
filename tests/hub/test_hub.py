"""Publishing and fetching, by the real client against a stand-in server."""

import contextlib
import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from conftest import run, tiny_model
from diffusers import DiffusionPipeline
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from safetensors.torch import load_file, save_file
from standin import TOKEN, StandIn

import app
from ddpm_demo import generate, load
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation.maps import BASE
from ddpm_demo.hub import client as hub
from ddpm_demo.models import checkpoint
from ddpm_demo.reports.card import write_card
from ddpm_demo.reports.results import Metrics
from ddpm_demo.ui.runs import DEFAULTS
from ddpm_demo.ui.tabs import evidence_tab as evidence

NAME = "user/ddpm-tiny"
CELL = {"fid_test": 2.345, "fid_train": 2.0, "precision": 0.5, "recall": 0.4, "spread": {"fid_test": 0.1}, "accuracy": 0.25,
        "reference": {"fid_test": 0.1, "precision": 0.9, "recall": 0.8}}  # fmt: skip


@pytest.fixture
def there(tmp_path, monkeypatch):
    """The stand-in, and a client that takes it for the Hub: logged in, its cache empty."""
    server = StandIn()
    for module in (constants, huggingface_hub.hf_api, huggingface_hub.file_download):
        if hasattr(module, "ENDPOINT"):
            monkeypatch.setattr(module, "ENDPOINT", server.url)
    address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(hub, "WAITS", (0.01, 0.01))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.url)
    close_session()
    yield server
    close_session()
    server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with what a training leaves beside it."""
    path = tmp_path_factory.mktemp("made") / "tiny"
    told = {"prediction": "v_prediction", "schedule": "cosine", "steps": 1, "seconds": 1.0, "device": "cpu"}
    model = replace(tiny_model(classes=10, size=28), training=told, dataset="mnist")
    checkpoint.save(model, path)
    (path / "state").mkdir()
    (path / "state/step-00000001.safetensors").write_bytes(b"x" * 1000)
    (path / "optimizer.bin").write_bytes(b"pickled")
    write_card(path)
    return path


def test_a_round_trip_gives_the_same_images(there, folder):
    assert hub.push(folder, NAME) == f"{there.url}/{NAME}"
    sent = there.files(NAME)
    assert set(hub.NEEDED) | {"README.md"} <= sent.keys()
    assert not any("state" in path or path.endswith(".bin") for path in sent)
    model, again = load(folder), load(NAME)
    settings = {"labels": [3, 7], "weight": 1.0, "steps": 4, "seed": 5}
    assert torch.equal(generate(model, **settings), generate(again, **settings))
    assert again.training == model.training


def test_the_app_shows_the_figures_of_a_checkpoint_of_the_hub(there, folder, tmp_path):
    made = shutil.copytree(folder, tmp_path / "made")
    metrics = Metrics(made)
    metrics.set_judge("digest", 0.4321, 0.1)
    metrics.add(BASE, 256, CELL)
    write_card(made)
    hub.push(made, NAME)
    catalogue = app.open_catalogue(NAME)
    assert catalogue.names[0] == NAME
    summary, *_, quality, _maps, rest = evidence.show(catalogue, DEFAULTS)
    assert "43.21% of real test images" in summary and "2.345" in quality and f"--checkpoint {NAME}" in quality + rest


def test_a_push_of_other_weights_deletes_the_published_figures(there, folder, tmp_path):
    made = shutil.copytree(folder, tmp_path / "made")
    metrics = Metrics(made)
    metrics.set_judge("digest", 0.4321, 0.1)
    metrics.add(BASE, 256, CELL)
    for name in ("nearest.png", "beside.png"):
        (made / name).write_bytes(b"a picture")
    write_card(made)
    hub.push(made, NAME)
    assert {"metrics.json", "nearest.png", "beside.png"} <= there.files(NAME).keys() and b"2.345" in there.files(NAME)[
        "README.md"
    ]
    weights = made / "unet/diffusion_pytorch_model.safetensors"
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    with pytest.raises(UserError, match="README.md is about other weights"):
        hub.push(made, NAME)
    write_card(made)
    hub.push(made, NAME)
    assert not {"metrics.json", "nearest.png", "beside.png"} & there.files(NAME).keys()
    assert b"2.345" not in there.files(NAME)["README.md"]


def test_a_push_deletes_the_parts_that_the_new_checkpoint_does_not_have(there, folder, tmp_path):
    made = shutil.copytree(folder, tmp_path / "made")
    checkpoint.save(tiny_model(classes=10, size=28), made / "weak")
    hub.push(made, NAME)
    assert any(path.startswith("weak/") for path in there.files(NAME))
    hub.push(folder, NAME)
    assert not any(path.startswith("weak/") for path in there.files(NAME))
    assert load(NAME).weak is None


def test_it_is_a_diffusers_pipeline_on_the_hub(there, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    hub.push(folder, NAME)
    pipeline = DiffusionPipeline.from_pretrained(NAME, custom_pipeline=NAME, trust_remote_code=True)
    drawn = pipeline(class_labels=[3], guidance_scale=3.0, num_inference_steps=2).images
    assert [image.size for image in drawn] == [(28, 28)]


def test_large_files_take_the_other_way(there, folder, tmp_path):
    (folder / "samples.png").write_bytes(os.urandom(200_000))
    hub.push(folder, NAME)
    assert any(call.startswith("PUT /objects/") for call in there.calls)
    assert (hub.pull(NAME) / "samples.png").read_bytes() == (folder / "samples.png").read_bytes()
    (folder / "samples.png").unlink()


def test_a_revision_is_honoured_and_the_cache_serves_offline(there, folder, monkeypatch):
    hub.push(folder, NAME)
    first = there.repositories[NAME][-1][0]
    there.commit(NAME, there.files(NAME) | {"demo.json": there.files(NAME)["demo.json"].replace(b"mnist", b"other")})
    assert load(NAME).dataset == "other" and load(f"{NAME}@{first}").dataset == "mnist"
    there.calls.clear()
    load(f"{NAME}@{first}")
    assert not [call for call in there.calls if call.startswith("GET") and "/resolve/" in call]  # nothing anew
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load(f"{NAME}@{first}").dataset == "mnist"
    with pytest.raises(UserError, match="could not be reached to fetch user/unheard-of"):
        load("user/unheard-of")


def test_what_came_before_a_failure_is_not_fetched_again(there, folder):
    hub.push(folder, NAME)
    there.answers = [("GET .*/resolve/.*/unet/diffusion_pytorch_model.safetensors", 403, {})]
    with pytest.raises(UserError, match="your token may not do that with user/ddpm-tiny"):
        hub.pull(NAME)
    there.calls.clear()
    assert load(NAME).dataset == "mnist"
    fetched = [call for call in there.calls if call.startswith("GET") and "/resolve/" in call]
    assert any("unet/diffusion" in call for call in fetched) and len(fetched) < len(there.files(NAME))


def test_a_cut_download_goes_on_where_it_stopped(there, folder, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    (folder / "samples.png").write_bytes(os.urandom(3_000_000))
    hub.push(folder, NAME)
    there.cut_after = 1_000_000
    path = hub.pull(NAME)
    assert there.ranges == ["bytes=1000000-"]
    assert (path / "samples.png").read_bytes() == (folder / "samples.png").read_bytes()
    assert there.cut_after is None
    (folder / "samples.png").unlink()


REFUSED = [
    (401, {}, "does not accept your login: log in with  hf auth login"),
    (403, {}, "your token may not do that with user/ddpm-tiny"),
    (404, {"X-Error-Code": "RepoNotFound"}, "no repository user/ddpm-tiny that you may see"),
    (409, {}, "somebody else is changing user/ddpm-tiny"),
    (429, {"RateLimit": '"api";r=0;t=3600'}, "the Hub asks to wait 3600 seconds"),
    (429, {"Retry-After": "900"}, "the Hub asks to wait 900 seconds"),
]


@pytest.mark.parametrize("status, headers, said", REFUSED)
@pytest.mark.parametrize("where", ["POST /api/models/.*/commit", "POST /api/models/.*/preupload"])
def test_a_refusal_is_a_sentence(there, folder, status, headers, said, where):
    there.answers = [(where, status, headers)]
    with pytest.raises(UserError, match=said) as refused:
        hub.push(folder, NAME)
    assert TOKEN not in str(refused.value)
    assert f"to publish {NAME}" in str(refused.value) or status == 404


@pytest.mark.parametrize("where", ["POST /api/repos/create", "POST /api/models/.*/commit"])
def test_trouble_at_the_hub_is_waited_out(there, folder, where, capsys):
    there.answers = [(where, 503, {}), (where, 500, {})]
    hub.push(folder, NAME)
    assert there.files(NAME)["demo.json"] and "trying again" in capsys.readouterr().err
    there.answers = [(where, 500, {})] * 9
    with pytest.raises(UserError, match="the Hub answers 500"):
        hub.push(folder, NAME)


def test_without_a_login_it_says_how(there, folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="hf auth login"):
        hub.push(folder, NAME)


@pytest.mark.parametrize(
    "name", ["mnist", "a/b/c", "../up", "user/..", "user/na me", "", "/x", "user/x@main", "runs/x"]
)
def test_a_name_of_another_form_is_refused(there, folder, name):
    with pytest.raises(UserError, match="must be of the form user/name"):
        hub.push(folder, name)
    assert there.calls == []


def test_a_folder_of_the_project_is_never_sought_on_the_hub(there, folder, tmp_path, monkeypatch):
    """In another folder, ``checkpoints/mnist`` would be a repository that anybody could own."""
    monkeypatch.chdir(tmp_path)
    for name in ("checkpoints/mnist", "runs/mnist", "runs/mnist@main"):
        for open_checkpoint in (load, app.open_catalogue):
            with pytest.raises(UserError, match=f"there is no folder {name} in .* is never a Hub repository"):
                open_checkpoint(name)
    for name in ("./mnist", ".hidden/mnist", "/no/mnist", "a/b/c"):
        with pytest.raises(UserError, match="neither a checkpoint folder nor a Hub repository"):
            load(name)
    assert there.calls == []
    shutil.copytree(folder, tmp_path / "runs/mnist")
    assert load("runs/mnist").dataset == "mnist"


def test_what_is_no_checkpoint_is_not_published(there, tmp_path):
    with pytest.raises(UserError, match="demo.json is missing"):
        hub.push(tmp_path, NAME)


def test_an_unreachable_hub_is_a_sentence(there, folder):
    there.stop()
    with pytest.raises(UserError, match="could not be reached"):
        hub.push(folder, NAME)
    there.server.server_close()


def test_a_full_disk_is_a_sentence(there, folder, monkeypatch):
    hub.push(folder, NAME)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(UserError, match="the disk is full: free some space below"):
        hub.pull(NAME)


@pytest.mark.parametrize("harm, said", [
    ({"unet/config.json": None}, "unet/config.json is missing"),
    ({"demo.json": b"{"}, "not a checkpoint that can be loaded"),
    ({"unet/diffusion_pytorch_model.safetensors": None, "unet/diffusion_pytorch_model.bin": b"\x80\x04."}, "safetensors"),
    ({"unet/diffusion_pytorch_model.safetensors": b"torn"}, "not a checkpoint that can be loaded"),
    ({"unet/config.json": json.dumps({"_class_name": "UNet2DModel", "block_out_channels": [10**6] * 4}).encode()}, "not .* safe to load"),
])  # fmt: skip
def test_a_wrong_or_malicious_repository_is_refused(there, folder, harm, said):
    hub.push(folder, NAME)
    files = there.files(NAME) | {path: data for path, data in harm.items() if data is not None}
    there.commit(NAME, {path: data for path, data in files.items() if harm.get(path, b"") is not None})
    with pytest.raises(UserError, match=said):
        load(NAME)


def test_a_repository_cannot_write_elsewhere(there, folder, tmp_path):
    hub.push(folder, NAME)
    there.commit(NAME, there.files(NAME) | {"unet/../../../../../evil.json": b"{}"})
    with contextlib.suppress(UserError):
        hub.pull(NAME)
    assert not list(tmp_path.rglob("evil.json")) and not (Path.cwd() / "evil.json").exists()


@pytest.mark.slow
def test_the_command_publishes_and_never_tells_the_token(there, folder):
    environment = {"HF_ENDPOINT": there.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    done = run("-m", "ddpm_demo.hub", "push", folder, NAME, "--private", **environment)
    assert done.returncode == 0 and f"published: {there.url}/{NAME}" in done.stdout
    there.answers = [("commit", 403, {})]
    refused = run("-m", "ddpm_demo.hub", "push", folder, NAME, **environment)
    assert refused.returncode == 2 and "your token may not do that" in refused.stderr
    for text in (done.stdout, done.stderr, refused.stdout, refused.stderr):
        assert TOKEN not in text and "Traceback" not in text


TINY = ("--cfg", "--epochs", "0.3", "--widths", "8", "16", "--layers", "1", "--batch-size", "32")


@pytest.mark.slow
def test_a_training_is_published_and_not_lost_where_that_fails(there, mnist_dir, tmp_path):
    """In processes of their own, as a user does it: train and push; a refused push; the command it names, again."""
    environment = {"HF_ENDPOINT": there.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    folder = tmp_path / "run"
    train = (
        "train.py",
        *TINY,
        "--data-dir",
        mnist_dir,
        "--output-dir",
        folder,
        "--push-to-hub",
        "--hub-model-id",
        NAME,
    )
    there.answers = [("commit", 403, {})]
    refused = run(*train, **environment)
    assert refused.returncode == 2 and f"The trained model is safe in {folder}" in refused.stderr
    command = refused.stderr.strip().splitlines()[-1].split()
    assert command[:3] == ["python", "-m", "ddpm_demo.hub"]
    again = run(*command[1:], **environment)
    assert again.returncode == 0 and there.files(NAME)["demo.json"] == (folder / "demo.json").read_bytes()
    published = run(*train, "--overwrite", **environment)
    assert published.returncode == 0 and f"published: {there.url}/{NAME}" in published.stdout
    for text in (refused.stderr, again.stderr, published.stderr):
        assert TOKEN not in text and "Traceback" not in text


def test_a_training_that_could_not_be_published_does_not_begin(there, mnist_dir, tmp_path, monkeypatch, capsys):
    import train

    wanted = [*TINY, "--data-dir", str(mnist_dir), "--output-dir", str(tmp_path / "x"), "--push-to-hub"]
    assert train.main(wanted) == 2 and "must be of the form user/name" in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    assert train.main([*wanted, "--hub-model-id", NAME]) == 2 and "hf auth login" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
