"""A small image classifier: the judge that reads samples, and the features that FID is measured on."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from ddpm_demo.data.datasets import Data, mirrored
from ddpm_demo.errors import UserError
from ddpm_demo.files import write_atomically

FILE = "classifier.safetensors"  # beside a checkpoint's demo.json
FEATURES = 128
GRAY, COLOUR = (16, 32, 64, 64, FEATURES), (32, 64, 128, 128, FEATURES)  # widths: photographs need more than digits


class Classifier(nn.Module):
    """Five 3x3 convolutions and a linear layer: images (N, C, H, W) in [-1, 1] to logits (N, K)."""

    def __init__(self, channels: int, num_classes: int, widths: tuple[int, ...] = GRAY):
        super().__init__()
        widths = (channels, *widths)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.head = nn.Linear(FEATURES, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, 128): the mean over positions of the last convolution."""
        x = images
        for depth, (convolution, norm) in enumerate(zip(self.convolutions, self.norms)):
            x = F.relu(norm(convolution(x)))
            if depth in (0, 2):
                x = F.max_pool2d(x, 2)
        return x.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, K)."""
        return self.head(self.features(images))


def widths_for(channels: int) -> tuple[int, ...]:
    """The widths that images of so many channels need."""
    return GRAY if channels == 1 else COLOUR


def widths_of(tensors: dict[str, Tensor]) -> tuple[int, ...]:
    """The widths that saved weights have."""
    return tuple(len(value) for name, value in tensors.items() if "convolutions." in name)


def train(
    data: Data, flip: bool = False, epochs: int = 8, batch_size: int = 128, seed: int = 0, low_precision: bool = False
) -> Iterator[tuple[float, Classifier]]:
    """Train with shifts of up to two pixels, mirrored at random with ``flip``, and a one-cycle rate.

    Yields (fraction done, classifier) every step.
    """
    torch.manual_seed(seed)
    channels, size = data.images.shape[1], data.images.shape[-1]
    classifier = Classifier(channels, len(data.label_names), widths_for(channels)).to(memory_format=torch.channels_last)
    batch_size = min(batch_size, len(data))
    steps = epochs * (len(data) // batch_size)
    optimizer = torch.optim.AdamW(classifier.parameters(), 1e-2, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps, pct_start=0.2)
    for step in range(steps):
        place = step % (len(data) // batch_size) * batch_size
        if place == 0:
            order = torch.randperm(len(data))
        images, labels = data.batch(order[place : place + batch_size])
        top, left = torch.randint(0, 5, (2,)).tolist()
        images = F.pad(images, (2, 2, 2, 2), value=-1.0)[..., top : top + size, left : left + size]
        images = mirrored(images) if flip else images
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
            loss = F.cross_entropy(classifier.train()(images), labels, label_smoothing=0.05)
        loss.backward()
        optimizer.step()
        schedule.step()
        yield (step + 1) / steps, classifier


def learn(data: Data, held_out: Data, folder: Path, **options) -> str:
    """Train with a bar and write ``classifier.safetensors`` into the folder; returns a sentence. ``options`` are those of ``train``."""
    trained = shown(train(data, **options))
    correct = accuracy(trained, held_out)
    path = save_classifier(trained, folder, data.label_names, correct)
    return f"{correct:.2%} of {len(held_out)} test images read correctly; written to {path}"


def shown(training: Iterator[tuple[float, nn.Module]]) -> nn.Module:
    """What a training ends with, with a bar while it lasts."""
    with tqdm(total=100, bar_format="{percentage:3.0f}%|{bar}| {elapsed} < {remaining}") as bar:
        for fraction, trained in training:
            bar.update(100 * fraction - bar.n)
    return trained


@torch.no_grad()
def accuracy(classifier: Classifier, data: Data) -> float:
    """The fraction of images whose label the classifier names."""
    right = 0
    for indices in torch.arange(len(data)).split(500):
        images, labels = data.batch(indices)
        right += (classifier.eval()(images).argmax(1) == labels).sum().item()
    return right / len(data)


def save_classifier(classifier: Classifier, folder: Path, label_names: tuple[str, ...], test_accuracy: float) -> Path:
    """Write ``folder/classifier.safetensors``, with the label names and the accuracy in its header."""
    tensors = {name: value.contiguous() for name, value in classifier.state_dict().items()}
    about = {"label_names": json.dumps(label_names), "test_accuracy": repr(test_accuracy)}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, save(tensors, about))
    return folder / FILE


def load_classifier(folder: Path) -> tuple[Classifier, float]:
    """The classifier beside a checkpoint and its test accuracy; UserError if there is none."""
    path = folder / FILE
    if not path.is_file():
        raise UserError(
            f"{path} is missing: train it with  python train.py --classifier --dataset NAME --output-dir {folder}"
        )
    with safe_open(path, "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    channels, names = tensors["convolutions.0.weight"].shape[1], json.loads(about["label_names"])
    classifier = Classifier(channels, len(names), widths_of(tensors))
    classifier.load_state_dict(tensors)
    # channels_last: twice as fast on a CPU
    return classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last), float(about["test_accuracy"])
