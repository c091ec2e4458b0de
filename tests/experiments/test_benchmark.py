"""Speed, the course's network beside ours, and the ablation: small, but all of it for real."""

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from conftest import SHIPPED, tiny_model

from ddpm_demo.experiments import ablation, benchmark, peer, trials
from ddpm_demo.models import checkpoint


def test_variants_take_turns_and_are_timed():
    seconds = benchmark.time_in_turns({"one": lambda: time.sleep(0.01), "two": lambda: time.sleep(0.02)}, 3, 0.03)
    assert seconds["one"] == pytest.approx(0.01, rel=0.3) and seconds["two"] == pytest.approx(0.02, rel=0.3)


def test_operations_are_counted():
    layer = torch.nn.Conv2d(3, 5, 3, padding=1)
    assert benchmark.count_gflop(layer, torch.randn(2, 3, 8, 8)) == pytest.approx(2 * 2 * 5 * 3 * 9 * 64 / 1e9)


@pytest.mark.slow
def test_the_command_measures_and_prints(tmp_path, monkeypatch, capsys):
    training = {"batch_size": 4, "widths": [8, 16], "attention": True, "layers": 1, "schedule": "cosine"}
    model = replace(tiny_model(classes=10, size=28), training=training, dataset="mnist")
    checkpoint.save(model, tmp_path)
    monkeypatch.setattr(benchmark, "BATCHES", (1, 2))
    monkeypatch.setattr(benchmark, "IMAGES", (1,))
    monkeypatch.setattr(benchmark, "ROUNDS", 1)
    assert benchmark.main(["--checkpoint", str(tmp_path)]) == 0
    printed, found = capsys.readouterr().out, json.loads((tmp_path / "speed.json").read_text())
    assert benchmark.tabulate(found) in printed
    assert {row["variant"] for row in found["calls"]} == {"contiguous", "channels_last", "recorded", "bf16", "course"}
    assert all(row["images_per_second"] > 0 and 0 < row["of_convolution"] < 1.5 for row in found["calls"])
    startup = found["startup"]  # measured one after the other, so that on a busy machine either may be longer
    assert all(2 < startup[name] < 100 for name in ("load_seconds", "app_seconds"))
    assert benchmark.main(["--checkpoint", str(tmp_path / "none")]) == 2


@pytest.mark.slow
def test_without_a_compiler_nothing_is_measured(tmp_path):
    """In a process of its own, because this one may have found a compiler already."""
    without = {"CXX": str(tmp_path / "absent"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "ddpm_demo.experiments.benchmark", "--checkpoint", str(SHIPPED), "--compile"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=200, env=os.environ | without)
    assert (refused.returncode, refused.stdout) == (2, "") and "Traceback" not in refused.stderr
    assert "the network could not be compiled" in refused.stderr


def test_the_course_network_is_the_courses():
    net = peer.CourseUNet()
    assert sum(p.numel() for p in net.parameters()) == 1_708_201  # 1.71M, as printed in the course
    assert net(torch.randn(2, 1, 28, 28), torch.tensor(5), torch.tensor([0, 9])).shape == (2, 1, 28, 28)


@pytest.mark.slow
def test_the_course_network_trains_and_is_measured(mnist_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(peer, "BATCH", 8)
    monkeypatch.setattr(peer, "DDIM_STEPS", 3)
    output = tmp_path / "peer.json"
    wanted = ["--minutes", "0.05", "--measure-after", "0.02", "--samples", "20", "--data-dir", str(mnist_dir)]
    assert peer.main([*wanted, "--output", str(output), "--classifier", str(SHIPPED)]) == 0
    rows = json.loads(output.read_text())
    assert [row["training"]["seconds"] >= least for row, least in zip(rows, (1.2, 3))] == [True, True]
    assert all(row["fid_test"] > 0 and row["samples"] == 20 and row["setting"]["steps"] == 3 for row in rows)
    assert peer.main(["--data-dir", str(tmp_path / "none"), "--minutes", "0.01"]) == 2


def test_the_ablation_goes_on_where_it_stopped(tmp_path):
    options = Namespace(output_dir=tmp_path, data_dir="x", epochs=2.0, samples=300, classifier="c")
    train, measure, likelihood = ablation.commands("linear", options)
    assert "likelihood" in likelihood and len(ablation.commands("cosine", options)) == 2
    assert train[1] == "train.py" and train[-4:] == ["--output-dir", str(tmp_path / "linear"), "--data-dir", "x"]
    assert "--no-attention" in train and "--resume" not in train
    assert measure[measure.index("--schedule") + 1] == "linear" and "300" in measure
    (tmp_path / "linear/state").mkdir(parents=True)
    (tmp_path / "linear/state/step-00000010.safetensors").touch()
    assert "--resume" in ablation.commands("linear", options)[0]
    training = {"epochs": 2.0, "minutes": None, "steps": 3749, "batch_size": 32}
    (tmp_path / "linear/demo.json").write_text(json.dumps({"training": training}))
    assert "--resume" in ablation.commands("linear", options)[0]  # it was interrupted a step before the end
    (tmp_path / "linear/demo.json").write_text(json.dumps({"training": training | {"steps": 3750}}))
    assert [command[1] for command in ablation.commands("linear", options)] == ["-m", "-m"]


def test_the_trials_go_on_where_they_stopped(tmp_path):
    options = Namespace(output_dir=tmp_path, data_dir="x", minutes=10.0, samples=300, classifier="c")
    train, measure = trials.commands("muon", options)
    assert train[train.index("--minutes") + 1] == "10" and "--resume" not in train and "--overwrite" not in train
    assert train[train.index("--optimizer") + 1] == "muon" and train.count("--optimizer") == 1
    assert measure[measure.index("--checkpoint") + 1] == str(tmp_path / "muon") and "300" in measure
    (tmp_path / "muon/state").mkdir(parents=True)
    (tmp_path / "muon/state/step-00000010.safetensors").touch()
    for minutes, seconds, how in ((10.0, 599.0, "--resume"), (20.0, 1200.5, "--overwrite"), (10.0, 600.2, None)):
        (tmp_path / "muon/demo.json").write_text(json.dumps({"training": {"minutes": minutes, "seconds": seconds}}))
        train, *rest = trials.commands("muon", options)
        assert how in train if how else not rest
        assert ("--optimizer" in train) == (how == "--overwrite")


def test_a_trial_is_named_by_what_it_changes():
    cell = {"fid_test": 1.234, "spread": {"fid_test": 0.056}, "precision": 0.9, "recall": 0.5, "accuracy": 0.4}
    about = {
        "parameters": 4_650_000,
        "training": {"steps": 100, "batch_size": 64},
        "held_out_loss": 0.13,
        "quality": cell,
    }
    standard, muon = (trials.format_row(about | {"flags": trials.TRIALS[name]}) for name in ("standard", "muon-lr"))
    assert standard == ["standard", "4.65 M", "6,400", "0.1300", "1.23 ± 0.06", "0.90", "0.50", "40.0%"]
    assert muon == ["`--optimizer muon --lr 3e-3`", *standard[1:]] and len(standard) == len(trials.HEADS)
