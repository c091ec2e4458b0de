"""Classifier guidance on the shipped model, and how the noise-aware classifier is kept."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SHIPPED

from ddpm_demo.data import datasets as data
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.errors import UserError
from ddpm_demo.generation import generate as generation
from ddpm_demo.models import checkpoint, noisy_classifier
from ddpm_demo.models.adapters import ClassAdded
from ddpm_demo.models.classifier import load_classifier
from ddpm_demo.training import classifiers


class Blind(torch.nn.Module):
    """A network that knows no labels."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, timestep, return_dict=False):
        return self.net(x, timestep, torch.full((len(x),), 10), return_dict=return_dict)


def read(images) -> torch.Tensor:
    """What the judge, another network than the one that guides, reads."""
    return load_classifier(SHIPPED)[0](images).argmax(1)


@pytest.mark.parametrize("trained", ["with labels, which are hidden", "without any"])
def test_an_unconditional_model_draws_what_the_classifier_asks_for(shipped, trained):
    model, labels, options = shipped.model(), [k % 10 for k in range(40)], {"weight": -1.0}
    if trained == "without any":
        blind = replace(model.denoiser, net=ClassAdded(Blind(model.denoiser.net.net), 0))
        model, options = replace(model, denoiser=blind, label_names=(), sampling=Sampling()), {}
    free = generation.generate(model, **({"labels": labels} if options else {"count": 40}), steps=10, **options)
    guided = generation.generate(model, labels, steps=10, classifier_scale=8.0, **options)
    asked = torch.tensor(labels)
    assert (read(free) == asked).float().mean() < 0.35 < 0.8 < (read(guided) == asked).float().mean()


def test_it_is_kept_with_its_labels_and_accuracies(tmp_path, mnist_dir):
    images, held_out = (data.load("mnist", mnist_dir, split) for split in ("train", "test"))
    said = classifiers.learn(classifiers.NOISE_AWARE, images, held_out, tmp_path)
    assert "of 40 test images under noise" in said
    again = noisy_classifier.load_noisy(tmp_path)
    assert again.label_names == images.label_names and again(held_out.batch(torch.arange(2))[0], 3.0).shape == (2, 10)
    told = noisy_classifier.accuracies(tmp_path)
    assert list(told) == list(noisy_classifier.LOG_SNRS) and all(0 <= share <= 1 for share in told.values())
    assert noisy_classifier.accuracies(Path("nowhere")) == {} and noisy_classifier.load_noisy(Path("nowhere")) is None


def test_its_labels_are_those_of_the_model_by_name(tmp_path, model):
    """A guide that was trained in another order, with one more class, guides to the class of the same name."""
    torch.manual_seed(0)
    guide, x = noisy_classifier.NoisyClassifier(1, ("c", "z", "a", "b")).eval(), torch.randn(2, 1, 16, 16)
    checkpoint.save(model, tmp_path)  # its labels are a, b, c
    noisy_classifier.save_noisy(guide.half().float(), tmp_path, {0: 0.5})
    ours = checkpoint.load(tmp_path).noisy_classifier
    assert ours.label_names == ("a", "b", "c", "z")
    torch.testing.assert_close(ours(x, 1.0), guide(x, 1.0)[:, [2, 3, 0, 1]])
    noisy_classifier.save_noisy(noisy_classifier.NoisyClassifier(1, ("a", "b")), tmp_path, {0: 0.5})
    with pytest.raises(UserError, match="does not know the labels c; it knows a, b"):
        checkpoint.load(tmp_path)


def test_a_log_snr_for_each_image_is_the_same_as_one_for_all(shipped):
    guide, x = shipped.model().noisy_classifier, torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(guide(x, 1.5), guide(x, torch.full((3,), 1.5)))


def test_a_classifier_scale_needs_labels_and_a_classifier(model, shipped):
    with pytest.raises(UserError, match="no noise-aware classifier: train one"):
        generation.sample(model, [0], classifier_scale=1.0)
    with pytest.raises(UserError, match="guidance needs labels"):
        generation.sample(shipped.model(), count=1, classifier_scale=1.0)
    with pytest.raises(UserError, match="classifier_scale is 1000"):
        generation.sample(shipped.model(), [0], classifier_scale=1000)
    with pytest.raises(UserError, match="only classifier_scale can guide it"):
        generation.sample(replace(shipped.model(), label_names=()), [0], weight=1.0, classifier_scale=1.0)
    for name, value in (("ode_tolerance", 0.5), ("corrector_snr", -0.1)):
        with pytest.raises(UserError, match=f"{name} is {value}; it must lie between"):
            generation.sample(model, [0], **{name: value})
