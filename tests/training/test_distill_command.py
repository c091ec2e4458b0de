"""``train.py --distill`` as a user runs it, and what it leaves."""

import json

import pytest
import torch
from accelerate import Accelerator
from conftest import SHIPPED, run, tiny_model
from diffusers import DiffusionPipeline

import ddpm_demo
from ddpm_demo.data import datasets as data
from ddpm_demo.diffusion.denoiser import alpha_sigma
from ddpm_demo.errors import UserError
from ddpm_demo.generation.generate import log_snr_grid
from ddpm_demo.hub import client as hub
from ddpm_demo.models import checkpoint
from ddpm_demo.training.configuration import configure
from ddpm_demo.training.loop import Run

CLASSES = tuple("0123456789")
pytestmark = pytest.mark.slow  # all need a training of their own


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A small untrained teacher of digits, with the settings of a training."""
    folder = tmp_path_factory.mktemp("teacher") / "tiny"
    training = {"dataset": "mnist", "cfg": True, "widths": [8, 16], "layers": 1, "patch": 2, "image_size": 28}
    model = tiny_model(10, 28)
    training |= {"dropout": 0.0, "flip": False, "steps": 0, "seconds": 0.0, "device": "cpu"}
    checkpoint.save(checkpoint.replace(model, dataset="mnist", label_names=CLASSES, training=training), folder)
    return folder


@pytest.fixture(scope="module")
def distilled(teacher, mnist_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "instant"
    command = ("train.py", "--distill", teacher, "--data-dir", mnist_dir, "--output-dir", folder)
    done = run(*command, "--epochs", "1", "--batch-size", "32", "--lr", "0.01", "--mixed-precision", "no")
    assert done.returncode == 0, done.stderr
    return folder


def test_it_leaves_a_checkpoint_that_draws_without_further_arguments(distilled, teacher):
    model = ddpm_demo.load(distilled)
    assert model.label_names == CLASSES and model.distilled.steps == (1, 2, 4, 8, 16)
    one = ddpm_demo.generate(model, [3, 7], weight=1.0, steps=1)
    assert one.shape == (2, 1, 28, 28) and one.isfinite().all()
    assert len(list(ddpm_demo.sample(model, [3]))) == 4  # its own default
    card = (distilled / "README.md").read_text()
    assert "python train.py --epochs 1 --batch-size 32 --optimizer muon --lr 0.01 --anneal 1 --ema-decay 0.999" in card
    assert f"--distill {teacher}" in card
    rows = [json.loads(row) for row in (distilled / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 10 and rows[-1]["validation_loss"] > 0


def test_the_targets_have_the_precision_of_the_training(teacher, mnist_dir, tmp_path):
    digits = data.load("mnist", mnist_dir), data.load("mnist", mnist_dir, "test")
    run = Run(configure({"distill": str(teacher)}, "cpu"), *digits, tmp_path, Accelerator(cpu=True))
    assert run.objective.autocast == run.accelerator.autocast


def test_what_it_did_not_learn_is_refused_in_a_sentence(distilled):
    model = ddpm_demo.load(distilled)
    for wrong in ({"steps": 3}, {"weight": 0.33}, {"sampler": "ddpm"}, {"schedule": "linear"}):
        with pytest.raises(UserError, match="this distilled model"):
            ddpm_demo.generate(model, [3], **wrong)
    for source in (distilled, *(SHIPPED.with_name(name) for name in ("mnist-linear", "cifar10-latent"))):
        with pytest.raises(UserError, match="cannot be distilled"):
            configure({"distill": str(source)}, "cpu")


def test_weight_steps_and_class_all_change_the_image(distilled):
    model = ddpm_demo.load(distilled)
    base = ddpm_demo.generate(model, [3], weight=1.0, steps=2)
    for other in ({"labels": [4]}, {"weight": 2.0}, {"steps": 4}):
        drawn = ddpm_demo.generate(model, **{"labels": [3], "weight": 1.0, "steps": 2} | other)
        assert not torch.equal(drawn, base)


def test_one_call_per_step_and_the_states_follow_ddim(distilled):
    model = ddpm_demo.load(distilled)
    steps = list(ddpm_demo.sample(model, [3], weight=3.0, steps=4))
    assert [step.nfe for step in steps] == [1, 2, 3, 4] and all(step.guidance is None for step in steps)
    grid = log_snr_grid(model, checkpoint.replace(model.sampling, steps=4))
    alpha, sigma = (c.float() for c in alpha_sigma(grid[1]))
    torch.testing.assert_close(steps[1].x, alpha * steps[0].x0 + sigma * steps[0].eps, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 4])
def test_stock_diffusers_draws_the_same(distilled, tmp_path, monkeypatch, steps):
    """The loop of its card, and its pipeline, against this package, from the same noise."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    place = hub.stage_checkpoint(distilled, tmp_path / "published")
    model = ddpm_demo.load(distilled)
    noise = torch.randn(4, 14, 14, generator=torch.Generator().manual_seed(5)).expand(8, -1, -1, -1)
    monkeypatch.setattr(torch, "randn", lambda *shape, **more: noise[: len(noise) if shape[0] == 8 else 1].clone())
    monkeypatch.chdir(place)
    code = (place / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(code.replace("label, weight, steps = 3, 1.0, 4", f"label, weight, steps = 3, 2.0, {steps}"), names)
    pipeline = DiffusionPipeline.from_pretrained(place, custom_pipeline=str(place), trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline([3], 3.0, steps, output_type="np").images
    monkeypatch.undo()
    ours = ddpm_demo.generate(model, [3], weight=2.0, steps=steps, seed=5)
    torch.testing.assert_close(names["images"][:1], ours, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.tensor(drawn[..., 0]) * 2 - 1, ours[:, 0].clamp(-1, 1), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="this distilled model takes"):
        pipeline([3], 3.0, 3)
    with pytest.raises(ValueError, match="in steps of"):  # a weight between two of the table
        pipeline([3], 3.01, steps)


def test_it_resumes_and_options_of_other_trainings_are_refused(distilled, teacher, mnist_dir):
    more = run("train.py", "--resume", "--output-dir", distilled, "--data-dir", mnist_dir, "--epochs", "1.5")
    assert more.returncode == 0, more.stderr
    assert ddpm_demo.load(distilled).training["steps"] == 15
    refused = run("train.py", "--distill", teacher, "--widths", "8", "16")
    assert refused.returncode == 2 and "--widths has no effect with --distill" in refused.stderr
