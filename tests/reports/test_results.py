"""Figures belong to the model that was measured: its identity, metrics.json, the model card, and several writers."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, SHIPPED, interrupted_renaming, tiny_model
from safetensors.torch import load_file, save_file

from ddpm_demo.errors import UserError
from ddpm_demo.evaluation.__main__ import main
from ddpm_demo.evaluation.maps import BASE
from ddpm_demo.files import identify_model, list_foreign_figures
from ddpm_demo.hub import client as hub
from ddpm_demo.models import checkpoint
from ddpm_demo.reports.card import write_card
from ddpm_demo.reports.results import Metrics, find, read_metrics, read_report
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.runs import DEFAULTS
from ddpm_demo.ui.tabs import evidence_tab as evidence

ABOUT = {"dataset": "d", "label_names": ["a", "b"], "channels": 1, "image_size": 8, "codec": {"patch": 2},
         "condition": "add", "training": {"time": "discrete", "seconds": 1.0, "classes": []}}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """The files of a checkpoint, as far as its identity reads them."""
    for part in ("unet", "scheduler", "vae"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text('{"a": 1, "b": 2, "_diffusers_version": "1"}')
    for part in ("unet", "vae"):
        (tmp_path / part / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    (tmp_path / "demo.json").write_text(json.dumps(ABOUT))
    return tmp_path


def change_about(folder, **entries):
    (folder / "demo.json").write_text(json.dumps(json.loads((folder / "demo.json").read_text()) | entries))


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model.safetensors", "unet/config.json",
                                  "scheduler/config.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"])  # fmt: skip
def test_every_file_that_decides_a_sample_is_part_of_the_identity(folder, part):
    change_about(folder, codec={})  # latents, so that the autoencoder counts
    before = identify_model(folder)
    (folder / part).write_bytes(b'{"a": 3}' if part.endswith("json") else b"others!")
    assert identify_model(folder) != before


@pytest.mark.parametrize("entries", [{"label_names": ["b", "a"]}, {"channels": 3}, {"image_size": 16}, {"codec": {"patch": 1}},
                                     {"condition": "image"}, {"dataset": "e"}, {"distilled": {"steps": 1}}, {"training": {"time": "continuous"}}])  # fmt: skip
def test_every_entry_that_decides_a_sample_is_part_of_the_identity(folder, entries):
    before = identify_model(folder)
    change_about(folder, **entries)
    assert identify_model(folder) != before


def test_what_decides_no_sample_is_not_part_of_the_identity(folder):
    before = identify_model(folder)
    change_about(
        folder, training={"time": "discrete", "seconds": 99.0, "classes": []}, sampling={"steps": 4}, distilled=None
    )
    (folder / "unet/config.json").write_text('{"_diffusers_version": "2", "b": 2,\n "a": 1}')
    (folder / "vae/config.json").write_text("{}")  # a model of pixels does not use it
    (folder / "README.md").write_text("a card")
    assert identify_model(folder) == before


def measured(folder, **setting):
    Metrics(folder).add(replace(BASE, **setting), 500, {"fid_test": 1.0})


def test_two_evaluations_at_the_same_time_keep_the_figures_of_both(folder):
    first, second = Metrics(folder), Metrics(folder)

    def add(metrics, steps):
        for n in steps:
            metrics.add(replace(BASE, steps=n), 500, {"fid_test": n})

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(add, first, range(1, 9)), pool.submit(add, second, range(9, 17))]:
            done.result()
    assert sorted(cell["fid_test"] for cell in read_metrics(folder)["quality"]) == list(range(1, 17))


def test_a_model_that_is_replaced_while_it_is_measured_gets_no_figures(folder):
    metrics = Metrics(folder)
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"others!")
    with pytest.raises(UserError, match="was replaced while it was measured"):
        metrics.add(BASE, 500, {"fid_test": 1.0})
    assert read_metrics(folder) == {}


def test_another_judge_starts_anew(folder, capsys):
    metrics = Metrics(folder)
    metrics.set_judge("one", 0.9, 0.1)
    metrics.add(BASE, 500, {"fid_test": 1.0})
    with metrics.change() as content:
        content["bits_per_dim"] = {"images": 7}
    assert capsys.readouterr().out == ""
    other = Metrics(folder)
    other.set_judge("two", 0.8, 0.2)
    assert "belongs to another judge: starting anew" in capsys.readouterr().out and not other.has(BASE, 500)
    other.add(replace(BASE, steps=3), 500, {"fid_test": 2.0})
    content = read_metrics(folder)
    assert [cell["fid_test"] for cell in content["quality"]] == [2.0] and content["judge"] == "two"
    assert content["bits_per_dim"] == {"images": 7}  # no judge took part in it
    metrics.add(replace(BASE, steps=4), 500, {"fid_test": 3.0})  # the first evaluation was still running
    content = read_metrics(folder)
    assert [cell["fid_test"] for cell in content["quality"]] == [3.0] and content["classifier_test_accuracy"] == 0.9


def test_figures_of_another_noise_aware_classifier_are_left_out(folder):
    guide = folder / "noisy_classifier.safetensors"
    guide.write_bytes(b"one")
    guided = replace(BASE, classifier_scale=2.0)
    measured(folder)
    measured(folder, classifier_scale=2.0)
    assert find(read_metrics(folder)["quality"], guided)
    guide.write_bytes(b"two")
    cells = read_metrics(folder)["quality"]
    assert find(cells, guided) is None and find(cells, BASE)


def test_figures_of_another_weaker_model_are_left_out(folder):
    checkpoint.save(tiny_model(), folder / "weak")
    guided = replace(BASE, autoguidance=0.5)
    measured(folder)
    measured(folder, autoguidance=0.5)
    assert find(read_metrics(folder)["quality"], guided)
    checkpoint.save(replace(tiny_model(), label_names=("x", "y", "z")), folder / "weak")
    cells = read_metrics(folder)["quality"]
    assert find(cells, guided) is None and find(cells, BASE)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "checkpoints").glob("*/metrics.json")), ids=lambda path: path.parent.name
)
def test_the_shipped_figures_are_of_the_shipped_weights(path):
    assert read_metrics(path.parent)["quality"] and list_foreign_figures(path.parent) == []


@pytest.fixture
def zeroed(tmp_path):
    """The shipped checkpoint with its figures, and other weights: all are zero."""
    folder = tmp_path / "zeroed"
    shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("samples", ".*"))
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    save_file({name: 0 * value for name, value in load_file(weights).items()}, weights)
    return folder


@pytest.fixture
def no_recording(monkeypatch):
    """A catalogue that does not record networks, which takes a second."""
    monkeypatch.setattr(Catalogue, "record_network", lambda catalogue, name: None)


def test_old_figures_are_not_shown_for_new_weights(zeroed, model, no_recording):
    best = (
        f"{max(cell['accuracy'] for cell in read_metrics(SHIPPED)['quality'] if cell['setting']['samples'] > 999):.2%}"
    )
    summary, *_, quality, maps, rest = evidence.show(Catalogue(model, "mnist", SHIPPED), DEFAULTS)
    assert (
        best in maps
        and "Drawn by the model" in summary
        and "Images a second" in rest
        and "not measured for these weights" not in summary
    )
    summary, _, _, nearest, quality, maps, rest = evidence.show(Catalogue(model, "zeroed", zeroed), DEFAULTS)
    assert "metrics.json: not measured for these weights" in summary and "speed.json: not" in summary
    assert "beside.png: not" in summary and "<img" not in summary
    assert (
        best not in quality + maps
        and "has not been measured" in quality
        and nearest == ""
        and "Images a sec" not in rest
    )
    assert read_report(zeroed, "speed.json") == {} and best in (zeroed / "README.md").read_text()
    write_card(zeroed)
    card = (zeroed / "README.md").read_text()
    assert best not in card and "metric_value" not in card and "Not measured for these weights." in card


def test_old_figures_are_not_published_with_new_weights(zeroed, tmp_path, capsys):
    with pytest.raises(UserError, match="README.md is about other weights than those in"):
        hub.stage_checkpoint(zeroed, tmp_path / "first")
    write_card(zeroed)
    staged = hub.stage_checkpoint(zeroed, tmp_path / "second")
    assert {"README.md", "demo.json"} <= {path.name for path in staged.iterdir()}
    assert not {"metrics.json", "speed.json", "nearest.png", "beside.png"} & {path.name for path in staged.iterdir()}
    assert "not published, because other weights were measured: metrics.json" in capsys.readouterr().out


def test_evidence_hashes_each_model_once(model, no_recording, monkeypatch):
    read, paths = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda path: paths.append(path) or read(path))
    evidence.show(Catalogue(model, "mnist", SHIPPED), DEFAULTS)
    networks = [path for path in paths if path.parent.name == "unet" and path.suffix == ".safetensors"]
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert sorted(networks) == [SHIPPED / weights, SHIPPED / "weak" / weights]


TRAINING = {"prediction": "v_prediction", "schedule": "cosine", "steps": 1, "seconds": 1.0, "device": "cpu"}


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_all_readers_find_the_new_model_after_an_interrupted_save(tmp_path, model, no_recording, k):
    """The card, what is published and the list of checkpoints, after k of the seven renamings of a save."""
    new = replace(tiny_model(2), training=TRAINING | {"distill": "checkpoints/tiny"}, dataset="mnist")
    checkpoint.save(new, tmp_path / "whole")
    folder = tmp_path / "others/cut"
    checkpoint.save(replace(model, training=TRAINING), folder)
    with pytest.raises(KeyboardInterrupt), interrupted_renaming(k):
        checkpoint.save(new, folder)
    assert Catalogue(model, "tiny", None, tmp_path / "others").teachers == {"cut": "tiny"}
    for one in (folder, tmp_path / "whole"):
        write_card(one)
    assert (folder / "README.md").read_text() == (tmp_path / "whole/README.md").read_text()
    with pytest.raises(UserError, match="must be of the form user/name"):  # nothing is missing
        hub.push(folder, "nowhere")
    staged = hub.stage_checkpoint(folder, tmp_path / "staged")
    whole = hub.stage_checkpoint(tmp_path / "whole", tmp_path / "staged-whole")
    names = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    assert {"demo.json", "unet", "scheduler"} <= {name.parts[0] for name in names}
    assert all((staged / name).read_bytes() == (whole / name).read_bytes() for name in names)


def test_the_best_measured_setting_becomes_the_default_of_a_checkpoint(tmp_path, capsys):
    """The least FID of those within the number of network evaluations; the figures stay those of this model.

    Where two FIDs are equal within their standard deviation, the class accuracy decides.
    """
    checkpoint.save(model := tiny_model(), tmp_path)
    assert main(["adopt", "--checkpoint", str(tmp_path)]) == 2 and "was measured" in capsys.readouterr().err
    settings = {
        "guided": replace(BASE, steps=20, weight=0.5),
        "plain": replace(BASE, steps=20, weight=0.0),
        "many steps": replace(BASE, steps=50, weight=0.5),
        "adaptive": replace(BASE, sampler="ode", weight=0.0),  # nobody knows its evaluations beforehand
        "classifier": replace(BASE, steps=20, weight=0.0, classifier_scale=1.0),  # nor those of its gradient
        "least": replace(BASE, steps=20, weight=0.25),
        "more": replace(BASE, steps=20, weight=1.0),
    }
    figures = (
        (0.2, 0.9),
        (0.3, 0.9),
        (0.1, 0.9),
        (0.05, 0.9),
        (0.05, 0.9),
        (0.195, 0.8),
        (0.206, 1.0),
    )  # the last is just too far
    for sampling, (fid, accuracy) in zip(settings.values(), figures):
        cell = {"fid_test": fid, "accuracy": accuracy, "spread": {"fid_test": 0.01}, "reference": {"fid_test": 0.05}}
        Metrics(tmp_path).add(sampling, 500, cell)
    before = identify_model(tmp_path)
    for limit, name in (("100", "many steps"), ("40", "guided"), ("20", "plain")):
        assert main(["adopt", "--checkpoint", str(tmp_path), "--evaluations", limit]) == 0
        assert f"w = {settings[name].weight:g}: FID" in capsys.readouterr().out
        found = checkpoint.load(tmp_path)
        assert found.sampling == settings[name] and found.label_names == model.label_names
    assert identify_model(tmp_path) == before


def test_an_unmeasured_model_starts_with_guidance_if_it_knows_classes(tmp_path):
    for names, weight in ((("a", "b"), 1.0), ((), 0.0)):
        assert checkpoint.suggest_sampling(names).weight == weight
    checkpoint.save(tiny_model(), tmp_path)
    change_about(tmp_path, sampling={})
    assert checkpoint.load(tmp_path).sampling.weight == 1.0
