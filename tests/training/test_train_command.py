"""``train.py`` as a user runs it, in processes of their own."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, SHIPPED, run
from diffusers.models.attention_processor import Attention
from PIL import Image
from safetensors.torch import load_file

import ddpm_demo
import train as command
from ddpm_demo.evaluation.maps import BASE
from ddpm_demo.models.networks import build_unet, count_parameters
from ddpm_demo.reports.card import write_card
from ddpm_demo.reports.results import Metrics
from ddpm_demo.training.recipes import RECIPES
from ddpm_demo.training.state import list_states, read_progress

TINY = ("--widths", "8", "16", "--layers", "1", "--batch-size", "32", "--seed", "3", "--mixed-precision", "no")


def train(mnist_dir, folder, *options, **keywords):
    return run("train.py", "--dataset", "mnist", "--data-dir", mnist_dir, "--output-dir", folder, *options, **keywords)


def test_help_teaches():
    shown = run("train.py", "--help").stdout
    for words in (
        "python train.py --dataset mnist --cfg",
        "data:",
        "model:",
        "training:",
        "output:",
        "--label-dropout P",
    ):
        assert words in shown
    table = shown.split("defaults on a CPU")[1].splitlines()
    assert all(
        any(line.split()[:1] == [name] for line in table) for name in (*RECIPES, "short", "--latent", "--distill")
    )


@pytest.fixture(scope="module")
def trained(mnist_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mnist"
    return folder, train(mnist_dir, folder, "--cfg", "--epochs", "3", "--sample-every", "10", *TINY)


def test_a_training_leaves_all_that_is_promised(trained, mnist_dir):
    folder, finished = trained
    assert finished.returncode == 0, finished.stderr
    assert f"python app.py --checkpoint {folder}" in finished.stdout
    assert f"python -m ddpm_demo.evaluation samples --checkpoint {folder}" in finished.stdout
    assert "images/s" in finished.stderr and "left" in finished.stderr
    names = {path.name for path in folder.iterdir()}
    assert {
        "unet",
        "scheduler",
        "demo.json",
        "samples.png",
        "denoising.webp",
        "README.md",
        "metrics.jsonl",
        "samples",
        "state",
    } <= names
    assert [p.name for p in sorted((folder / "samples").iterdir())] == [f"step-0000{n}0.png" for n in (1, 2, 3)]
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "loss", "validation_loss", "images_per_second"} <= rows[-1].keys()
    assert rows[-1]["step"] == 30 and rows[-1]["validation_loss"] > 0
    model = ddpm_demo.load(folder)
    assert ddpm_demo.generate(model, [3, 7], steps=2).shape == (2, 1, 28, 28)
    assert "--epochs 3" in (folder / "README.md").read_text()


def test_a_model_is_not_overwritten_unasked(trained, mnist_dir, capsys):
    folder, _ = trained
    before = (folder / "demo.json").read_bytes()
    new = ("--dataset", "mnist", "--data-dir", mnist_dir, "--output-dir", folder, "--cfg", "--epochs", "1")
    assert exit_status(*new, *TINY) == 2
    assert "already holds a model" in capsys.readouterr().err
    assert exit_status(*new, *TINY, "--overwrite", "--start-from", SHIPPED) == 2  # another network
    assert "is built otherwise" in capsys.readouterr().err
    assert (folder / "demo.json").read_bytes() == before and list_states(folder / "state")
    assert list((folder / "samples").iterdir()) and (folder / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_the_card_of_a_resumed_training_shows_no_older_figures(trained, mnist_dir, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    metrics = Metrics(folder)
    metrics.set_judge("digest", 0.99, 0.1)
    metrics.add(BASE, 256, {"fid_test": 2.345, "fid_train": 2.0, "precision": 0.5, "recall": 0.4, "accuracy": 0.25,
                            "spread": {"fid_test": 0.1},
                            "reference": {"fid_test": 0.1, "precision": 0.9, "recall": 0.8}})  # fmt: skip
    write_card(folder)
    assert "2.345" in (folder / "README.md").read_text()
    resumed = train(mnist_dir, folder, "--resume", "--epochs", "4")
    assert resumed.returncode == 0, resumed.stderr
    card = (folder / "README.md").read_text()
    assert "2.345" not in card and "Not measured for these weights." in card and "--epochs 4" in card


def test_resuming_with_another_setting_is_refused(trained, mnist_dir, capsys):
    folder, _ = trained
    assert exit_status("--data-dir", mnist_dir, "--output-dir", folder, "--resume", "--lr", "0.5") == 2
    assert "--lr is 0.5, but the run to resume was started with" in capsys.readouterr().err


@pytest.mark.slow
def test_without_cfg_it_is_unconditional(mnist_dir, tmp_path):
    finished = train(
        mnist_dir,
        tmp_path / "u",
        "--epochs",
        "0.5",
        "--no-attention",
        "--prediction",
        "epsilon",
        *TINY,
        "--mixed-precision",
        "auto",
    )
    assert finished.returncode == 0, finished.stderr
    model = ddpm_demo.load(tmp_path / "u")
    assert model.label_names == () and model.denoiser.prediction == "epsilon"
    assert not any("attentions" in name for name, _ in model.denoiser.net.named_parameters())
    assert ddpm_demo.generate(model, count=2, steps=2).shape == (2, 1, 28, 28)


@pytest.mark.slow
def test_a_folder_of_colour_images(image_dir, tmp_path):
    finished = run(
        "train.py", "--dataset", "folder", "--data-dir", image_dir, "--cfg", "--image-size", "16", "--epochs", "1",
        "--output-dir", tmp_path / "f", *TINY, "--mixed-precision", "bf16",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    model = ddpm_demo.load(tmp_path / "f")
    assert (model.label_names, model.channels, model.image_size) == (("blue", "red"), 3, 16)


@pytest.mark.parametrize(
    "options, message",
    [
        (("--dataset", "folder", "--data-dir", "nowhere"), "nowhere is not a folder"),
        (("--contrastive", "0.05"), "--contrastive makes images depend more on their class: it needs --cfg"),
        (("--resume", "--output-dir", "nowhere"), "holds no saved state to resume"),
        (("--minutes", "0"), "0 is not a number above 0"),
        (("--minutes", "1", "--epochs", "1"), "not allowed with argument"),
        (("--anneal", "0"), "0 is not above 0 and at most 1"),
        (("--label-dropout", "1.5"), "1.5 is not at least 0 and below 1"),
        (("--schedule", "cosin"), "invalid choice: 'cosin'"),
        (("--schedule", "cosine", "--time", "continuous"), "leave out --schedule cosine"),
        (("--classifier", "--minutes", "5"), "--minutes has no effect with --classifier: leave it out"),
        (("--autoencoder", "--lr", "0.1"), "--lr has no effect with --autoencoder: leave it out"),
        (("--classifier", "--mixed-precision", "auto"), "with --classifier, whose default is no"),
        (("--noise-aware",), "--noise-aware has no effect without --classifier: add that, or leave it out"),
        (("--hub-model-id", "me/it"), "--hub-model-id has no effect without --push-to-hub: add that, or leave it out"),
    ],
)
def test_mistakes_are_sentences(options, message, tmp_path, capsys):
    more = () if "--output-dir" in options else ("--output-dir", str(tmp_path / "x"))
    assert exit_status(*options, *more) == 2 and message in capsys.readouterr().err


def exit_status(*options):
    """Of the command, in this process: an import of torch less than in one of its own."""
    try:
        return command.main([str(option) for option in options])
    except SystemExit as stopped:  # argparse's own
        return stopped.code


@pytest.mark.slow
def test_an_image_size_that_does_not_fit(mnist_dir, tmp_path):
    refused = train(mnist_dir, tmp_path / "x", "--image-size", "27", *TINY)
    assert refused.returncode == 2 and "image size 27 is not a multiple of the patch size 2" in refused.stderr


def start(mnist_dir, folder, *options):
    command = ["train.py", "--dataset", "mnist", "--data-dir", mnist_dir, "--output-dir", folder, *options]
    return subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_state(folder, process, patience=60):
    deadline = time.monotonic() + patience
    while not list_states(folder / "state"):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(mnist_dir, tmp_path):
    folder = tmp_path / "run"
    process = start(mnist_dir, folder, "--cfg", "--epochs", "2000", "--save-every", "0.5", *TINY)
    wait_for_state(folder, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert f"python train.py --resume --output-dir {folder} --data-dir {mnist_dir}" in out
    stopped_at = read_progress(folder / "state")["step"]
    ddpm_demo.load(folder)  # what was learned so far can be looked at
    epochs = str((stopped_at + 5) / 10)
    resumed = run("train.py", "--resume", "--output-dir", folder, "--data-dir", mnist_dir, "--epochs", epochs)
    assert resumed.returncode == 0, resumed.stderr
    assert read_progress(folder / "state")["step"] == stopped_at + 5
    steps = [json.loads(row)["step"] for row in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == stopped_at + 5


@pytest.mark.slow
def test_ctrl_c_before_the_first_step_leaves_an_older_run_as_it_is(mnist_dir, tmp_path):
    folder, options = tmp_path / "run", ("--cfg", "--epochs", "1", *TINY)
    assert train(mnist_dir, folder, *options).returncode == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    process = start(mnist_dir, folder, "--overwrite", "--compile", *options)
    assert "compiling" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "everything that was saved so far is kept" in err and "Traceback" not in err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


PROCESSES = {
    kind: (
        "-m", "accelerate.commands.launch", kind, "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
    )
    for kind in ("--multi_gpu", "--cpu")
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", PROCESSES)
def test_launched_as_two_processes_gives_one_checkpoint(launcher, mnist_dir, tmp_path):
    """accelerate starts both with --multi_gpu, on CPUs too; with --cpu it starts one alone, which is then said."""
    options = (
        "--dataset",
        "mnist",
        "--data-dir",
        mnist_dir,
        "--output-dir",
        tmp_path / "two",
        "--cfg",
        "--epochs",
        "2",
    )
    finished = run(*PROCESSES[launcher], "train.py", *options, *TINY, OMP_NUM_THREADS="1")
    assert finished.returncode == 0, finished.stderr
    shown = finished.stdout + finished.stderr
    if launcher == "--cpu":
        assert "on 2 x cpu" in shown or "several processes were asked for, but this is the only one" in shown
    else:
        assert "on 2 x cpu" in shown
    assert shown.count("2 epochs on") == 1 and shown.count("saved in") == 1  # one of them speaks
    assert read_progress(tmp_path / "two/state")["step"] == 20
    ddpm_demo.load(tmp_path / "two")


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(mnist_dir, tmp_path):
    """Its weights differ in their last bits, which shows that it was compiled."""
    losses, states = [], []
    for name, more in (("plain", ()), ("compiled", ("--compile",))):
        finished = train(mnist_dir, tmp_path / name, "--cfg", "--epochs", "2", *more, *TINY, timeout=600)
        assert finished.returncode == 0, finished.stderr
        assert ("compiling the network" in finished.stdout) == bool(more) and "Warning" not in finished.stderr
        losses.append(json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])["validation_loss"])
        states.append(load_file(list_states(tmp_path / name / "state")[-1]))
    plain, compiled = states
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and plain.keys() == compiled.keys()
    assert any(not torch.equal(plain[name], compiled[name]) for name in plain)
    ddpm_demo.load(tmp_path / "compiled")


@pytest.mark.slow
def test_compiling_without_a_compiler_is_refused_before_an_older_run_is_deleted(mnist_dir, tmp_path):
    options = ("--cfg", "--epochs", "1", *TINY)
    assert train(mnist_dir, tmp_path / "run", *options).returncode == 0
    before = sorted(path.name for path in (tmp_path / "run/state").iterdir())
    without = {"CXX": str(tmp_path / "absent"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    refused = train(mnist_dir, tmp_path / "run", "--overwrite", "--compile", *options, **without)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert (
        "the network could not be compiled" in refused.stderr
        and "install them, or leave --compile out" in refused.stderr
    )
    assert sorted(path.name for path in (tmp_path / "run/state").iterdir()) == before


@pytest.mark.slow
def test_two_processes_train_as_one_would(mnist_dir, tmp_path):
    """Each takes half of every batch and the gradients are averaged: the held-out loss is that of one process."""
    options = ("--cfg", "--epochs", "4", "--lr", "0.01", *TINY)
    assert train(mnist_dir, tmp_path / "one", *options).returncode == 0
    shared = ("--dataset", "mnist", "--data-dir", mnist_dir, "--output-dir", tmp_path / "two", *options)
    assert run(*PROCESSES["--multi_gpu"], "train.py", *shared, OMP_NUM_THREADS="1").returncode == 0
    one, two = (json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1]) for name in ("one", "two"))
    assert one["step"] == two["step"] == 40
    assert two["validation_loss"] == pytest.approx(one["validation_loss"], rel=0.1)


@pytest.mark.slow
def test_the_judge_is_trained_and_not_overwritten_unasked(mnist_dir, tmp_path):
    command = ("train.py", "--classifier", "--dataset", "mnist", "--data-dir", mnist_dir, "--output-dir", tmp_path)
    finished = run(*command)
    assert finished.returncode == 0, finished.stderr
    assert "of 40 test images read correctly" in finished.stdout and (tmp_path / "classifier.safetensors").is_file()
    refused = run(*command)
    assert refused.returncode == 2 and "already holds a classifier.safetensors: pass --overwrite" in refused.stderr


@pytest.mark.slow
def test_pets_by_name_end_to_end(pets_dir, tmp_path):
    """The documented command on stand-in images in the real layout, with a smaller network."""
    done = run(
        "train.py", "--dataset", "oxford-pets", "--classes", "Bombay", "Egyptian_Mau", "--image-size", "64", "--cfg",
        "--data-dir", pets_dir, "--output-dir", tmp_path / "pets", "--epochs", "3", *TINY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model = ddpm_demo.load(tmp_path / "pets")
    assert model.label_names == ("Bombay", "Egyptian_Mau") and model.image_size == 64 and model.training["flip"]
    assert ddpm_demo.generate(model, [1], steps=2).shape == (1, 3, 64, 64)
    unknown = run("train.py", "--dataset", "oxford-pets", "--classes", "Bombai", "--data-dir", pets_dir)
    assert unknown.returncode == 2 and "there is no class 'Bombai'; the classes are Abyssinian" in unknown.stderr


def test_the_pets_recipe_is_of_the_seed_projects_size():
    recipe = RECIPES["oxford-pets"]
    net = build_unet((12, 32, 32), recipe.widths, 4, layers=recipe.layers)
    assert 12e6 < count_parameters(net) < 14e6
    heads = {block.heads for name, block in net.named_modules() if isinstance(block, Attention)}
    assert min(heads) >= 2  # multi-head


@pytest.mark.slow
def test_a_small_folder_with_bad_files_is_trained_on(tmp_path):
    """Fewer than 20 images a class, one of them in colour, one broken; the test split lacks a class."""
    for number, place in enumerate(("train/ant", "train/cat", "train/dog", "test/cat", "test/dog")):
        (tmp_path / "in" / place).mkdir(parents=True)
        for k in range(3):
            Image.new("L", (40, 30), 40 * number + k).save(tmp_path / "in" / place / f"{k}.png")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "in/test/dog/1.png")
    (tmp_path / "in/train/cat/1.png").write_bytes(b"broken")
    options = ("--dataset", "folder", "--data-dir", tmp_path / "in", "--cfg", "--epochs", "2", *TINY)
    finished = run("train.py", *options, "--output-dir", tmp_path / "out")
    assert finished.returncode == 0, finished.stderr
    said = "14 images of 3 classes, in colour, 13 of them gray: 8 to train on, 7 to test on (1 of them is also trained on), as the folders say"
    assert said in finished.stderr and "without a test image of their own: ant" in finished.stderr
    assert "1 of 15 files cannot be used: " in finished.stderr and "train/cat/1.png cannot be read" in finished.stderr
    assert ddpm_demo.load(tmp_path / "out").label_names == ("ant", "cat", "dog")
    (tmp_path / "in/test/dog").rename(tmp_path / "in/test/dogs")
    finished = run("train.py", *options, "--output-dir", tmp_path / "other")
    assert finished.returncode == 2 and "holds the class 'dogs'" in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr
