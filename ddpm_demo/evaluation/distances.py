"""Distances between sets of images: Frechet distance, precision and recall on features, the nearest image by pixels."""

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from ddpm_demo.data.datasets import Data
from ddpm_demo.errors import UserError
from ddpm_demo.models.classifier import FEATURES

CHUNK = 250  # images or points that are processed together
NEIGHBOURS = 3  # k of Kynkaanniemi et al. 2019, section 3
RESAMPLES = 20


class PrecomputedFeatures(nn.Module):
    """The feature network that torchmetrics expects, for features that are computed already."""

    num_features = FEATURES

    def forward(self, features: Tensor) -> Tensor:
        """Return the features (N, 128) unchanged."""
        return features


def distance_to(features: Tensor) -> FrechetInceptionDistance:
    """Return a metric in float64 that holds real features (N, 128)."""
    metric = FrechetInceptionDistance(feature=PrecomputedFeatures(), reset_real_features=False, sync_on_compute=False)
    metric.update(features, real=True)
    return metric


def frechet_distance(metric: FrechetInceptionDistance, features: Tensor) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 sqrt(C1 C2)) between features (N, 128) and the real features of the metric.

    This is the FID of Heusel et al. 2017, eq. 6, on any features.
    """
    metric.reset()
    metric.update(features, real=False)
    return metric.compute().item()


def bootstrap_deviation(metric: FrechetInceptionDistance, features: Tensor) -> float:
    """Return the standard deviation of the Frechet distance over bootstrap resamples of features (N, 128)."""
    generator = torch.Generator().manual_seed(0)
    n = len(features)
    values = [frechet_distance(metric, features[torch.randint(n, (n,), generator=generator)]) for _ in range(RESAMPLES)]
    return torch.tensor(values, dtype=torch.float64).std().item()


def neighbour_distance(points: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Return the distance (N,) of each point (N, D) to its k-th nearest other point."""
    return torch.cat([torch.cdist(part, points).kthvalue(k + 1, 1).values for part in points.split(CHUNK)])


def covered_fraction(points: Tensor, centres: Tensor, radius: Tensor) -> float:
    """Return the fraction of points (N, D) inside at least one of the balls around centres (M, D) with radius (M,)."""
    inside = [(torch.cdist(part, centres) <= radius).any(1) for part in points.split(CHUNK)]
    return torch.cat(inside).double().mean().item()


def precision_recall(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Return (fraction of fakes among the real, fraction of reals among the fake), for features (N, D) each.

    Kynkaanniemi et al. 2019, eq. 1-3: each point has a ball, which reaches to its third nearest neighbour. A point is
    among others if it lies in the ball of one of them. Both sets should be of equal size, because more points make
    smaller balls.
    """
    precision = covered_fraction(fake, real, neighbour_distance(real))
    return precision, covered_fraction(real, fake, neighbour_distance(fake))


def find_nearest(images: Tensor, among: Data) -> tuple[Tensor, Tensor]:
    """Return (distance (N,), index (N,)) of the image in a dataset nearest to each of images (N, C, H, W), [-1, 1].

    The distance is the root mean squared difference of pixels.
    """
    points = images.flatten(1)
    best, index = torch.full((len(points),), float("inf")), torch.zeros(len(points), dtype=torch.int64)
    for part in torch.arange(len(among)).split(4000):
        distance, place = torch.cdist(points, among.batch(part)[0].flatten(1)).min(1)
        closer = distance < best
        best, index = torch.where(closer, distance, best), torch.where(closer, part[place], index)
    return best / points.shape[1] ** 0.5, index


def inception_metric() -> FrechetInceptionDistance:
    """Return the standard FID on 2,048 Inception features. Raises UserError if its weights are not available."""
    try:
        return FrechetInceptionDistance(feature=2048, normalize=True, sync_on_compute=False)
    except ModuleNotFoundError as error:
        raise UserError("Inception FID needs torch-fidelity: pip install torch-fidelity") from error
    except Exception as error:  # the download can raise any exception
        raise UserError(
            f"the Inception weights could not be downloaded ({type(error).__name__}: {error}); the FID on the dataset's "
            "own classifier needs none: omit --inception"
        ) from error


def inception_fid(metric: FrechetInceptionDistance, real: Data, samples: Tensor) -> float:
    """Return the standard FID of samples (N, C, H, W), [-1, 1], to the images of a dataset."""
    metric.reset()
    for part in torch.arange(len(real)).split(CHUNK):
        metric.update(to_colour(real.batch(part)[0]), real=True)
    for part in samples.split(CHUNK):
        metric.update(to_colour(part), real=False)
    return metric.compute().item()


def to_colour(images: Tensor) -> Tensor:
    """Convert images (N, 1 or 3, H, W), [-1, 1], to (N, 3, H, W), [0, 1]."""
    return ((images + 1) / 2).clamp(0, 1).expand(-1, 3, -1, -1)
