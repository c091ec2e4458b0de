"""Measure a checkpoint: ``python -m ddpm_demo.evaluation --checkpoint checkpoints/mnist``.

A classifier of the same dataset (``train.py --classifier``) reads each sample: is it the digit that was asked for? Its
features give the Frechet distance to the real images (Heusel et al. 2017), with the distance between the real train
and test images as the floor beside it.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from tqdm import tqdm

from ddpm_demo import data as datasets
from ddpm_demo.checkpoint import Model, load
from ddpm_demo.classifier import FEATURES, FILE, Classifier, load_classifier
from ddpm_demo.errors import UserError
from ddpm_demo.generation import generate
from ddpm_demo.hub import write_card
from ddpm_demo.samplers import SAMPLERS
from ddpm_demo.schedule import SCHEDULES
from ddpm_demo.state import write_atomically

BATCH = 256


class Features(nn.Module):
    """The classifier's features, in float64, in the form torchmetrics asks for."""

    num_features = FEATURES

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.compute = classifier.features

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 128)."""
        return self.compute(images).double()


class Judge:
    """Fréchet distances of many image sets against fixed real ones, and the class accuracy of samples."""

    def __init__(self, classifier: Classifier, train: datasets.Data, test: datasets.Data):
        self.classifier = classifier
        self.to_train, self.to_test = distance(classifier, train), distance(classifier, test)
        self.floor = frechet(self.to_train, batches(test))

    def measure(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        """FID to train and test images and, where labels (N,) were asked for, the fraction read as asked."""
        parts = images.split(BATCH)
        figures = {"fid_train": frechet(self.to_train, parts), "fid_test": frechet(self.to_test, parts)}
        if labels is not None:
            read = torch.cat([self.classifier(part).argmax(1) for part in parts])
            figures["accuracy"] = (read == labels).double().mean().item()
        return figures


def distance(classifier: Classifier, real: datasets.Data) -> FrechetInceptionDistance:
    """A Fréchet distance in float64 that already holds the real images."""
    metric = FrechetInceptionDistance(feature=Features(classifier), reset_real_features=False)
    for images in batches(real):
        metric.update(images, real=True)
    return metric


def frechet(metric: FrechetInceptionDistance, parts) -> float:
    """The Fréchet distance of some batches of images to the metric's real ones."""
    metric.reset()
    for images in parts:
        metric.update(images, real=False)
    return metric.compute().item()


def batches(data: datasets.Data) -> Iterator[Tensor]:
    """All images of a dataset, [-1, 1], in order."""
    return (data.batch(indices)[0] for indices in torch.arange(len(data)).split(BATCH))


def draw(model: Model, count: int, seed: int = 0, **settings) -> tuple[Tensor, Tensor | None]:
    """``count`` samples (N, C, H, W), the classes in turn, and their labels (None if unconditional)."""
    labels = torch.arange(count) % len(model.label_names) if model.label_names else None
    images = []
    for indices in tqdm(torch.arange(count).split(BATCH), "sampling", unit="batch", leave=False):
        first = seed + indices[0].item()
        if labels is None:
            images.append(generate(model, count=len(indices), seed=first, **settings))
        else:
            images.append(generate(model, labels[indices].tolist(), seed=first, **settings))
    return torch.cat(images).cpu(), labels


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print, and write ``metrics.json`` into the checkpoint."""
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="checkpoints/mnist", help="a folder (default: %(default)s)")
    parser.add_argument("--data-dir", default="data", help="where the real images are (default: %(default)s)")
    parser.add_argument(
        "--classifier", help="folder of the judge, classifier.safetensors (default: the checkpoint, or the shipped one)"
    )
    parser.add_argument("--samples", type=int, default=8192, help="images a setting (default: %(default)s)")
    parser.add_argument("--weight", type=float, nargs="+", default=[0.0, 1.0], help="guidance weights w (default: 0 1)")
    parser.add_argument("--schedule", choices=SCHEDULES, default="cosine", help="(default: %(default)s)")
    parser.add_argument("--sampler", choices=SAMPLERS, default="dpm++2m", help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        evaluate(options)
    except UserError as error:
        sys.exit(f"error: {error}")


def evaluate(options: argparse.Namespace) -> None:
    """Measure each guidance weight in turn; figures already in metrics.json for other settings stay."""
    if options.samples < 2 * FEATURES:
        raise UserError(f"samples is {options.samples}; a Frechet distance on {FEATURES} features needs {2 * FEATURES}")
    folder = Path(options.checkpoint)
    model = load(folder, "cuda" if torch.cuda.is_available() else "cpu")
    shipped = Path("checkpoints") / model.dataset
    own = options.classifier or (folder if (folder / FILE).exists() or not (shipped / FILE).exists() else shipped)
    classifier, test_accuracy = load_classifier(Path(own))
    size = {"classes": tuple(model.training["classes"]), "image_size": model.image_size}
    train, test = (datasets.load(model.dataset, options.data_dir, split, **size) for split in ("train", "test"))
    judge = Judge(classifier, train, test)
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text()) if path.exists() else {}
    metrics |= {"classifier_test_accuracy": test_accuracy, "floor": judge.floor}
    print(
        f"the judge reads {test_accuracy:.2%} of the real test images; test against train images: FID {judge.floor:.3f}"
    )
    cells = {json.dumps(cell["setting"], sort_keys=True): cell for cell in metrics.get("quality", [])}
    for weight in options.weight if model.label_names else [0.0]:
        setting = {name: getattr(options, name) for name in ("schedule", "sampler", "steps", "seed", "samples")}
        setting["weight"] = weight
        started = time.perf_counter()
        images, labels = draw(
            model, options.samples, options.seed, weight=weight, schedule=options.schedule, sampler=options.sampler,
            steps=options.steps,
        )  # fmt: skip
        figures = judge.measure(images, labels) | {"seconds": time.perf_counter() - started}
        cells[json.dumps(setting, sort_keys=True)] = {"setting": setting, **figures}
        read = f", {figures['accuracy']:.2%} read as asked" if labels is not None else ""
        print(f"w = {weight:g}: FID {figures['fid_test']:.3f} to test, {figures['fid_train']:.3f} to train{read}")
        metrics["quality"] = list(cells.values())
        write_atomically(path, (json.dumps(metrics, indent=2) + "\n").encode())  # after each: nothing lost
    write_card(folder)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
