"""The loop itself, in this process, on a few images."""

import itertools
import shutil
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from ddpm_demo.data import datasets as data
from ddpm_demo.diffusion.schedule import ContinuousSchedule
from ddpm_demo.errors import UserError
from ddpm_demo.generation.generate import generate
from ddpm_demo.models.checkpoint import load, save
from ddpm_demo.training import loop as training
from ddpm_demo.training import objective
from ddpm_demo.training.configuration import TrainingConfiguration
from ddpm_demo.training.loop import Run, train
from ddpm_demo.training.state import list_states, read_progress

SETTINGS = TrainingConfiguration(
    dataset="mnist", classes=(), image_size=28, latent=None, condition="add", cfg=True, label_dropout=0.2, schedule="cosine",
    time="discrete", prediction="v_prediction", loss_weighting="min-snr", attention=True, widths=(8, 16), layers=1, patch=2,
    dropout=0.1, flip=True, epochs=2.0, minutes=None, batch_size=32, lr=2e-3, ema_decay=(0.99,), mixed_precision="no",
    seed=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def images(mnist_dir):
    return data.load("mnist", mnist_dir), data.load("mnist", mnist_dir, "test")


@pytest.fixture(autouse=True)
def small_evaluation(monkeypatch):
    """Few and short samples: what they look like is not tested here."""
    monkeypatch.setattr(training, "SAMPLE_COLUMNS", 1)


def go(images, folder, settings=SETTINGS, **options):
    return list(train(Run(settings, *images, folder, Accelerator(cpu=True)), **options))


def state(folder):
    return load_file(list_states(folder)[-1])


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_stopped_and_resumed_is_bit_identical(images, tmp_path, optimizer):
    """Weights, averages and moments; with dropout, flips and dropped labels all at work."""
    settings = replace(SETTINGS, optimizer=optimizer)
    go(images, tmp_path / "whole", settings)
    for stop_after in (1, 4, 3, 12):
        calls = itertools.count()
        go(images, tmp_path / "parts", settings, stop=lambda calls=calls, after=stop_after: next(calls) >= after)
    assert read_progress(tmp_path / "parts")["step"] == read_progress(tmp_path / "whole")["step"] == 20
    whole, parts = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert whole.keys() == parts.keys() and any(name.startswith("optimizer.") for name in whole)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_several_averages_are_each_that_of_a_training_with_it_alone(images, tmp_path):
    """This also holds for an interrupted training, since the state keeps the averages apart."""
    short = replace(SETTINGS, epochs=0.5)
    alone = {decay: go(images, tmp_path / str(decay), replace(short, ema_decay=(decay,)))[-1] for decay in (0.0, 0.5)}
    calls = itertools.count()
    go(images, tmp_path / "both", replace(short, ema_decay=(0.0, 0.5)), stop=lambda: next(calls) >= 2)
    last = go(images, tmp_path / "both", replace(short, ema_decay=(0.0, 0.5)))[-1]
    assert last.others.keys() == {0.5}
    for decay, model in ((0.0, last.model), *last.others.items()):
        ours, theirs = (one.denoiser.net.state_dict() for one in (model, alone[decay].model))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_another_seed_gives_other_weights(images, tmp_path):
    short = replace(SETTINGS, epochs=0.3)
    go(images, tmp_path / "a", short)
    go(images, tmp_path / "b", replace(short, seed=1))
    assert not torch.equal(state(tmp_path / "a")["ema.0"], state(tmp_path / "b")["ema.0"])


@pytest.mark.parametrize(
    "prediction", ["v_prediction", *(pytest.param(p, marks=pytest.mark.slow) for p in ("epsilon", "sample"))]
)
@pytest.mark.parametrize("cfg", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_it_learns(images, tmp_path, prediction, cfg):
    settings = replace(
        SETTINGS, prediction=prediction, cfg=cfg, epochs=8.0, dropout=0.0, flip=False, loss_weighting="simple", lr=1e-2
    )
    reports = go(images, tmp_path, settings, sample_every=10)
    losses = [report.validation_loss for report in reports if report.validation_loss is not None]
    assert losses[-1] < 0.8 * losses[0]
    last = reports[-1]
    assert last.fraction == 1 and last.step == 80 and last.model.label_names == (tuple("0123456789") if cfg else ())
    assert last.samples.shape == (10 if cfg else 1, 1, 28, 28) and last.model.training["steps"] == 80


@pytest.mark.slow
def test_a_budget_in_minutes_is_kept_and_resumed(images, tmp_path):
    minutes = replace(SETTINGS, epochs=None, minutes=0.1)
    calls = itertools.count()
    first = go(images, tmp_path, minutes, stop=lambda: next(calls) >= 5)[-1]
    assert first.fraction < 1 and first.model is not None
    last = go(images, tmp_path, minutes)[-1]
    assert last.step > 5 and last.fraction == 1 and 6 <= last.seconds < 12


def test_two_states_are_kept_and_no_scraps(images, tmp_path):
    (tmp_path / ".step-00000001.safetensors.9.tmp").write_bytes(b"torn")
    go(images, tmp_path, replace(SETTINGS, epochs=0.5), save_every=0.0)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step-00000005.safetensors" if step == 5 else f"step-{step:08d}.safetensors" for step in (4, 5)
    ]


def test_a_damaged_state_is_passed_over(images, tmp_path, capsys):
    go(images, tmp_path, replace(SETTINGS, epochs=0.5), save_every=0.0)
    last = list_states(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:5000])
    assert read_progress(tmp_path)["step"] == 4 and "is damaged and is passed over" in capsys.readouterr().err
    assert go(images, tmp_path, replace(SETTINGS, epochs=0.5))[-1].step == 5


def test_samples_at_doublings():
    assert [step for step in range(3000) if training.is_doubling(step)] == [125, 250, 500, 1000, 2000]


def test_every_label_is_seen_and_some_are_hidden(images, tmp_path, monkeypatch):
    seen = []

    def spy(denoiser, x0, log_snr, noise, label, *more):
        seen.append((label, log_snr))
        return loss(denoiser, x0, log_snr, noise, label, *more)

    loss = objective.loss
    monkeypatch.setattr(objective, "loss", spy)
    go(images, tmp_path, replace(SETTINGS, epochs=4.0))
    labels = torch.cat([label for label, _ in seen if len(label) == 32])
    assert set(labels.tolist()) == set(range(11))
    assert 0.15 < (labels == 10).double().mean() < 0.25
    log_snrs = seen[0][1]
    assert (log_snrs.diff() < 0).all()  # stratified: image i's timestep lies in the i-th of B parts


def test_the_contrast_leaves_hidden_labels_out(images, tmp_path, monkeypatch):
    seen = []

    def spy(denoiser, x0, log_snr, noise, label, weighting, image=None, contrast=None):
        seen.append((label, contrast))
        return loss(denoiser, x0, log_snr, noise, label, weighting, image, contrast)

    loss = objective.loss
    monkeypatch.setattr(objective, "loss", spy)
    go(images, tmp_path, replace(SETTINGS, contrastive=0.05, epochs=0.3))
    label, contrast = (torch.cat(parts) for parts in zip(*seen[:3]))
    torch.testing.assert_close(contrast, torch.where(label == 10, 0.0, 0.05))
    assert (label == 10).any() and seen[-1][1] is None  # the held-out loss is that of every training


def test_a_batch_that_cannot_be_shared(images, tmp_path):
    class Three:
        process_index, num_processes = 0, 3

    with pytest.raises(UserError, match="batch size 32 cannot be shared evenly by 3 processes"):
        Run(SETTINGS, *images, tmp_path, Three())


def test_continuous_time_is_trained_saved_and_sampled(images, tmp_path):
    settings = replace(SETTINGS, schedule="linear", time="continuous", epochs=0.3)
    *_, last = go(images, tmp_path / "state", settings)
    save(last.model, tmp_path)
    model = load(tmp_path)
    assert model.denoiser.schedule.range == ContinuousSchedule().range and model.training["time"] == "continuous"
    assert generate(model, [3], steps=3, sampler="euler-maruyama").isfinite().all()


def test_it_starts_from_another_checkpoint(images, tmp_path):
    *_, first = go(images, tmp_path / "first", replace(SETTINGS, epochs=0.3))
    save(first.model, tmp_path / "model")
    begun = replace(SETTINGS, start_from=str(tmp_path / "model"), epochs=0.1, lr=1e-9, ema_decay=(0.0,))
    *_, last = go(images, tmp_path / "second", begun)
    ours, theirs = (report.model.denoiser.net.state_dict() for report in (last, first))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in theirs)  # half precision on disk
    with pytest.raises(UserError, match="is built otherwise: give the --widths"):
        go(images, tmp_path / "third", replace(begun, widths=(8, 24)))
    shutil.rmtree(tmp_path / "model")  # a saved state needs it no longer
    *_, resumed = go(images, tmp_path / "second", replace(begun, epochs=0.2))
    assert resumed.step > last.step
    for after in (last, resumed):
        assert [one["steps"] for one in after.model.trainings] == [first.step, after.step]


def test_a_training_that_diverges_is_stopped_before_it_is_saved(images, tmp_path):
    with pytest.raises(
        UserError, match="diverged: at step 3 the loss or a weight .* --overwrite and a lower --lr than 1e.30$"
    ):
        go(images, tmp_path, replace(SETTINGS, lr=1e30, epochs=0.3))
    assert list_states(tmp_path) == []


def test_a_part_of_an_epoch_is_at_least_one_step(images, tmp_path):
    *_, last = go(images, tmp_path, replace(SETTINGS, epochs=0.001))
    assert last.step == 1
