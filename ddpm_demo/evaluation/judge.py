"""How good are some images? Measured on the features of the classifier that belongs to the dataset.

FID (Heusel et al. 2017), improved precision and recall (Kynkaanniemi et al. 2019), class accuracy, and the nearest
training image. Every figure comes with what as many *real* images would get: its floor, or its ceiling.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from tqdm import tqdm

from ddpm_demo.data.datasets import Data
from ddpm_demo.errors import UserError
from ddpm_demo.models.classifier import FEATURES, Classifier

CHUNK = 250
NEIGHBOURS = 3  # k of Kynkaanniemi et al., section 3
RESAMPLES = 20


@dataclass(frozen=True)
class Read:
    """Images and what the classifier makes of them."""

    images: Tensor  # (N, C, H, W), [-1, 1]
    features: Tensor  # (N, 128) float64
    named: Tensor  # (N,) the class it names


def read(classifier: Classifier, images: Tensor) -> Read:
    """Images (N, C, H, W), [-1, 1], as the classifier sees them."""
    features = torch.cat([classifier.features(part) for part in images.split(CHUNK)])
    return Read(images, features.double(), classifier.head(features).argmax(1))


def read_all(classifier: Classifier, data: Data, what: str) -> Read:
    """A whole dataset, saying ``what`` it is if it takes a while."""
    parts = tqdm(torch.arange(len(data)).split(CHUNK), what, leave=False, disable=None)
    return joined([read(classifier, data.batch(part)[0]) for part in parts])


def joined(parts: list[Read]) -> Read:
    """Several as one."""
    return Read(*(torch.cat([getattr(part, name) for part in parts]) for name in ("images", "features", "named")))


class AsItIs(nn.Module):
    """Stands where torchmetrics wants a feature network, since the features were computed once, for all figures."""

    num_features = FEATURES

    def forward(self, features: Tensor) -> Tensor:
        """The features themselves."""
        return features


def distance_to(features: Tensor) -> FrechetInceptionDistance:
    """A Frechet distance in float64 that already holds the real features (N, 128)."""
    metric = FrechetInceptionDistance(feature=AsItIs(), reset_real_features=False, sync_on_compute=False)
    metric.update(features, real=True)
    return metric


def frechet(metric: FrechetInceptionDistance, features: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 sqrt(C1 C2)) of some features (N, 128) and the metric's real ones."""
    metric.reset()
    metric.update(features, real=False)
    return metric.compute().item()


def spread(metric: FrechetInceptionDistance, features: Tensor) -> float:
    """Standard deviation of the Frechet distance over bootstrap resamples of the features."""
    generator = torch.Generator().manual_seed(0)
    n = len(features)
    values = [frechet(metric, features[torch.randint(n, (n,), generator=generator)]) for _ in range(RESAMPLES)]
    return torch.tensor(values, dtype=torch.float64).std().item()


def radii(points: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """(N,) distance of each point (N, D) to its k-th nearest other point."""
    return torch.cat([torch.cdist(part, points).kthvalue(k + 1, 1).values for part in points.split(CHUNK)])


def coverage(points: Tensor, centres: Tensor, radius: Tensor) -> float:
    """The fraction of points (N, D) inside at least one of the balls around centres (M, D) with radius (M,)."""
    inside = [(torch.cdist(part, centres) <= radius).any(1) for part in points.split(CHUNK)]
    return torch.cat(inside).double().mean().item()


def precision_recall(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """(fraction of fakes among the real, fraction of reals among the fake), features (N, D) each.

    Kynkaanniemi et al. 2019, eq. 1-3: "among" is within some point's distance to its third nearest neighbour. Both
    sides should be of equal number, since more points make smaller balls.
    """
    return coverage(fake, real, radii(real)), coverage(real, fake, radii(fake))


def nearest(images: Tensor, among: Data) -> tuple[Tensor, Tensor]:
    """(distance (N,), index (N,)) of the image of a dataset nearest to each of images (N, C, H, W), [-1, 1].

    Root mean squared difference of pixels.
    """
    points = images.flatten(1)
    best, index = torch.full((len(points),), float("inf")), torch.zeros(len(points), dtype=torch.int64)
    for part in torch.arange(len(among)).split(4000):
        distance, place = torch.cdist(points, among.batch(part)[0].flatten(1)).min(1)
        closer = distance < best
        best, index = torch.where(closer, distance, best), torch.where(closer, part[place], index)
    return best / points.shape[1] ** 0.5, index


class Judge:
    """The real images of a dataset, as the classifier reads them, and figures of others beside them."""

    def __init__(self, classifier: Classifier, train: Data, test: Data):
        self.classifier, self.images, self.tested = classifier, train, test
        self.train = read_all(classifier, train, "reading the training images")
        self.test = read_all(classifier, test, "reading the test images")
        self.to_train, self.to_test = distance_to(self.train.features), distance_to(self.test.features)
        self.references: dict[int, dict[str, float]] = {}

    def measure(self, samples: Read, labels: Tensor | None) -> dict:
        """Figures of samples (N); with labels (N,) that were asked for, also the fraction read as asked.

        ``spread`` holds standard deviations, ``reference`` the same figures of as many real training images.
        """
        figures = self.figures(samples.features) | {"fid_train": frechet(self.to_train, samples.features)}
        figures["spread"] = {"fid_test": spread(self.to_test, samples.features)}
        if labels is not None:
            p = (samples.named == labels).double().mean().item()
            figures["accuracy"], figures["spread"]["accuracy"] = p, (p * (1 - p) / len(labels)) ** 0.5
        return figures | {"reference": self.reference(len(samples.named))}

    def figures(self, features: Tensor) -> dict[str, float]:
        """FID, precision and recall of features (N, 128) against the test images."""
        n = min(len(features), len(self.test.features))
        real = self.test.features[chosen(len(self.test.features), n)]
        precision, recall = precision_recall(real, features[:n])
        return {"fid_test": frechet(self.to_test, features), "precision": precision, "recall": recall}

    def reference(self, n: int) -> dict[str, float]:
        """The figures of n real training images, the classes in turn as samples have them: what perfect ones would get."""
        if n not in self.references:
            self.references[n] = self.figures(self.train.features[in_turn(self.images, n)])
        return self.references[n]

    @property
    def floor(self) -> float:
        """FID of all test images to all training images."""
        return frechet(self.to_train, self.test.features)

    def through(self, back: Tensor) -> dict[str, float]:
        """What an autoencoder costs: figures of all test images as it gives them ``back`` (N, C, H, W).

        FID to the training images, whose floor is that of the test images themselves, and the share read correctly: no
        sample of a diffusion on its latents can be expected to be better.
        """
        seen = joined([read(self.classifier, part) for part in back.split(CHUNK)])
        right = (seen.named == self.tested.labels).double().mean().item()
        return {"fid_train": frechet(self.to_train, seen.features), "accuracy": right}

    def memorised(self, samples: Tensor) -> dict[str, float]:
        """How near samples (N, C, H, W) come to training images, beside how near real test images come.

        A model that recites its training set comes much nearer than they do.
        """
        ours = nearest(samples, self.images)[0]
        theirs = nearest(self.test.images[chosen(len(self.test.images), len(samples))], self.images)[0]
        closest = theirs.quantile(0.01)
        return {
            "samples": len(samples),
            "median": ours.median().item(),
            "median_of_test_images": theirs.median().item(),
            "closer_than_99_percent_of_test_images": (ours < closest).double().mean().item(),
        }


def chosen(count: int, n: int) -> Tensor:
    """n of count indices, always the same ones."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[: min(n, count)]


def in_turn(data: Data, n: int) -> Tensor:
    """n indices of images, the classes in turn (which makes FID smaller than n at random would); always the same ones."""
    order = chosen(len(data), len(data))
    if not data.label_names:
        return order[:n]
    by_class = [order[data.labels[order] == k] for k in range(len(data.label_names))]
    wanted = [len(range(k, n, len(by_class))) for k in range(len(by_class))]
    return torch.cat([indices[:count] for indices, count in zip(by_class, wanted)])


def inception_metric() -> FrechetInceptionDistance:
    """The standard FID of 2,048 Inception features; UserError where its weights cannot be had."""
    try:
        return FrechetInceptionDistance(feature=2048, normalize=True, sync_on_compute=False)
    except ModuleNotFoundError as error:
        raise UserError("Inception FID needs torch-fidelity: pip install torch-fidelity") from error
    except Exception as error:  # whatever the download raised
        raise UserError(
            f"the Inception weights could not be downloaded ({type(error).__name__}: {error}); the FID on the dataset's "
            "own classifier needs none: leave --inception out"
        ) from error


def inception_fid(metric: FrechetInceptionDistance, real: Data, samples: Tensor) -> float:
    """Standard FID of samples (N, C, H, W), [-1, 1], to the images of a dataset."""
    metric.reset()
    for part in torch.arange(len(real)).split(CHUNK):
        metric.update(as_colour(real.batch(part)[0]), real=True)
    for part in samples.split(CHUNK):
        metric.update(as_colour(part), real=False)
    return metric.compute().item()


def as_colour(images: Tensor) -> Tensor:
    """[-1, 1] in one or three channels to [0, 1] in three."""
    return ((images + 1) / 2).clamp(0, 1).expand(-1, 3, -1, -1)
