"""A small image classifier: it judges whether samples are read as their class, and FID is measured on its features."""

import json
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

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


def choose_widths(channels: int) -> tuple[int, ...]:
    """The widths for images of a number of channels."""
    return GRAY if channels == 1 else COLOUR


def read_widths(tensors: dict[str, Tensor]) -> tuple[int, ...]:
    """The widths of the network that saved weights belong to."""
    return tuple(len(value) for name, value in tensors.items() if "convolutions." in name)


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
    classifier = Classifier(channels, len(names), read_widths(tensors))
    classifier.load_state_dict(tensors)
    # channels_last: twice as fast on a CPU
    return classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last), float(about["test_accuracy"])
