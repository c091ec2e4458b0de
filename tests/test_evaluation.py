"""The judge, on images whose answer is known, and the command as a user runs it."""

import json

import pytest
import torch
from conftest import run, tiny_model

from ddpm_demo import checkpoint, classifier, data, evaluation
from ddpm_demo.errors import UserError


@pytest.fixture(scope="module")
def images(mnist_dir):
    return data.load("mnist", mnist_dir), data.load("mnist", mnist_dir, "test")


@pytest.fixture(scope="module")
def judge(images):
    for _, trained in classifier.train(images[0], epochs=6, batch_size=32):
        pass
    return trained


def test_the_classifier_learns_and_is_kept(judge, images, tmp_path):
    correct = classifier.accuracy(judge, images[1])
    assert correct > 0.9
    classifier.save_classifier(judge, tmp_path, images[1].label_names, correct)
    again, said = classifier.load_classifier(tmp_path)
    assert said == correct == classifier.accuracy(again, images[1])
    with pytest.raises(UserError, match="classifier.safetensors is missing: train it with"):
        classifier.load_classifier(tmp_path / "none")


def test_the_frechet_distance_of_two_gaussians(monkeypatch):
    """|m1 - m2|^2 + tr(C1 + C2 - 2 sqrt(C1 C2)) (Dowson & Landau 1982), for diagonal covariances in closed form."""

    class Flat:
        @staticmethod
        def features(x):
            return x.flatten(1)

    generator, n = torch.Generator().manual_seed(0), 20000
    real = torch.randn(n, evaluation.FEATURES, 1, 1, generator=generator)
    fake = 0.5 * torch.randn(n, evaluation.FEATURES, 1, 1, generator=generator) + 0.1
    metric = evaluation.FrechetInceptionDistance(feature=evaluation.Features(Flat), reset_real_features=False)
    metric.update(real, real=True)
    expected = evaluation.FEATURES * (0.1**2 + 0.5**2)
    assert evaluation.frechet(metric, [fake]) == pytest.approx(expected, rel=0.02)
    assert evaluation.frechet(metric, [real]) == pytest.approx(0, abs=1e-6)


def test_real_images_are_judged_well_and_noise_badly(judge, images):
    train, test = images
    measured = evaluation.Judge(judge, train, test)
    real, labels = train.batch(torch.arange(len(train)))
    good, bad = measured.measure(real, labels), measured.measure(torch.rand_like(real) * 2 - 1, labels)
    assert good["accuracy"] > 0.95 > 0.3 > bad["accuracy"]
    assert good["fid_train"] == pytest.approx(0, abs=1e-4) and bad["fid_train"] > 10 * good["fid_test"]


def test_the_command_measures_and_writes(judge, images, mnist_dir, tmp_path):
    model = tiny_model(classes=10, size=28)
    training = {"classes": [], "prediction": "v_prediction", "schedule": "cosine", "steps": 0, "seconds": 0.0}
    names = images[0].label_names
    model = checkpoint.replace(
        model, dataset="mnist", label_names=names, training=training | {"dataset": "mnist", "device": "cpu"}
    )
    checkpoint.save(model, tmp_path)
    classifier.save_classifier(judge, tmp_path, names, 0.99)
    command = ("-m", "ddpm_demo.evaluation", "--checkpoint", tmp_path, "--data-dir", mnist_dir, "--steps", "2")
    finished = run(*command, "--samples", "256", "--weight", "0", "1")
    assert finished.returncode == 0, finished.stderr
    cells = json.loads((tmp_path / "metrics.json").read_text())["quality"]
    assert [cell["setting"]["weight"] for cell in cells] == [0.0, 1.0]
    assert all(cell["fid_test"] > 0 and 0 <= cell["accuracy"] <= 1 for cell in cells)
    assert "read as asked" in finished.stdout and "## Measured by" in (tmp_path / "README.md").read_text()
    refused = run(*command, "--samples", "20")
    assert refused.returncode != 0 and "samples is 20" in refused.stderr and "Traceback" not in refused.stderr
