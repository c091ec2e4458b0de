"""Judges how good images are, by the features of a classifier that was trained on the same dataset.

FID (Heusel et al. 2017), improved precision and recall (Kynkaanniemi et al. 2019), class accuracy, and the nearest
training image. Every figure is given with that of as many real images, which a perfect model would have on average.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_demo.data.datasets import Data
from ddpm_demo.evaluation.distances import (
    CHUNK,
    bootstrap_deviation,
    distance_to,
    find_nearest,
    frechet_distance,
    precision_recall,
)
from ddpm_demo.models.classifier import Classifier


@dataclass(frozen=True)
class Classified:
    """Images with their features and the classes that the classifier predicts."""

    images: Tensor  # (N, C, H, W), [-1, 1]
    features: Tensor  # (N, 128) float64
    predicted: Tensor  # (N,)


def judge_images(classifier: Classifier, images: Tensor) -> Classified:
    """Return images (N, C, H, W), [-1, 1], with their features and predicted classes."""
    features = torch.cat([classifier.features(part) for part in images.split(CHUNK)])
    return Classified(images, features.double(), classifier.head(features).argmax(1))


def classify_dataset(classifier: Classifier, data: Data, title: str) -> Classified:
    """Classify all images of a dataset, with a progress bar of this title."""
    parts = tqdm(torch.arange(len(data)).split(CHUNK), title, leave=False, disable=None)
    return concatenate([judge_images(classifier, data.batch(part)[0]) for part in parts])


def concatenate(parts: list[Classified]) -> Classified:
    """Join several sets of classified images."""
    names = ("images", "features", "predicted")
    return Classified(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


class Judge:
    """The classified training and test images of a dataset, to which other images are compared."""

    def __init__(self, classifier: Classifier, train: Data, test: Data):
        self.classifier, self.train_data, self.test_data = classifier, train, test
        self.train = classify_dataset(classifier, train, "reading the training images")
        self.test = classify_dataset(classifier, test, "reading the test images")
        self.to_train, self.to_test = distance_to(self.train.features), distance_to(self.test.features)
        self.references: dict[int, dict[str, float]] = {}

    def measure(self, samples: Classified, labels: Tensor | None) -> dict:
        """Return the figures of N samples. With the labels (N,) that were requested, they include the class accuracy.

        ``spread`` holds standard deviations, ``reference`` the same figures of as many real training images.
        """
        figures = self.compare_with_test(samples.features)
        figures["fid_train"] = frechet_distance(self.to_train, samples.features)
        figures["spread"] = {"fid_test": bootstrap_deviation(self.to_test, samples.features)}
        if labels is not None:
            p = (samples.predicted == labels).double().mean().item()
            figures["accuracy"], figures["spread"]["accuracy"] = p, (p * (1 - p) / len(labels)) ** 0.5
        return figures | {"reference": self.reference(len(samples.predicted))}

    def compare_with_test(self, features: Tensor) -> dict[str, float]:
        """Return FID, precision and recall of features (N, 128) against the test images."""
        n = min(len(features), len(self.test.features))
        real = self.test.features[choose(len(self.test.features), n)]
        precision, recall = precision_recall(real, features[:n])
        return {"fid_test": frechet_distance(self.to_test, features), "precision": precision, "recall": recall}

    def reference(self, n: int) -> dict[str, float]:
        """Return the figures of n real training images, with as many of each class as n samples have."""
        if n not in self.references:
            features = self.train.features[choose_by_class(self.train_data, n)]
            self.references[n] = self.compare_with_test(features)
        return self.references[n]

    @property
    def accuracy(self) -> float:
        """Fraction of the test images that are classified correctly."""
        return (self.test.predicted == self.test_data.labels).double().mean().item()

    @property
    def floor(self) -> float:
        """FID of all test images to all training images."""
        return frechet_distance(self.to_train, self.test.features)

    def measure_reconstructions(self, images: Tensor) -> dict[str, float]:
        """Return the figures of all test images (N, C, H, W) after an autoencoder: FID to train images, class accuracy.

        A diffusion model on the latents of this autoencoder cannot be expected to have a smaller FID.
        """
        classified = concatenate([judge_images(self.classifier, part) for part in images.split(CHUNK)])
        accuracy = (classified.predicted == self.test_data.labels).double().mean().item()
        return {"fid_train": frechet_distance(self.to_train, classified.features), "accuracy": accuracy}

    def measure_memorisation(self, samples: Tensor, seen: Data) -> dict[str, float]:
        """Return the distances of samples (N, C, H, W) to the nearest image that the model has ``seen`` in its training.

        The distances of real test images are given for comparison. The samples of a model that has memorised its
        training set are much closer than the test images.
        """
        test = self.test.images[choose(len(self.test.images), len(samples))]
        of_samples, of_test = (find_nearest(images, seen)[0] for images in (samples, test))
        closest = of_test.quantile(0.01)
        return {
            "samples": len(samples),
            "median": of_samples.median().item(),
            "median_of_test_images": of_test.median().item(),
            "closer_than_99_percent_of_test_images": (of_samples < closest).double().mean().item(),
        }


def choose(count: int, n: int) -> Tensor:
    """Return n of ``count`` indices (all, if n is larger) in random order, the same in every call."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[: min(n, count)]


def choose_by_class(data: Data, n: int) -> Tensor:
    """Return n indices of images in random order, the same in every call, with as many of each class as n samples have.

    The samples take the classes in turn. Equal numbers make FID smaller than random images would.
    """
    order = choose(len(data), len(data))
    if not data.label_names:
        return order[:n]
    by_class = [order[data.labels[order] == k] for k in range(len(data.label_names))]
    wanted = [len(range(k, n, len(by_class))) for k in range(len(by_class))]
    chosen = torch.cat([indices[:count] for indices, count in zip(by_class, wanted)])
    return chosen[choose(len(chosen), len(chosen))]
