"""A small image classifier: it judges the class of samples, and FID is measured on its features."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from ddpm_demo.errors import UserError, check_between
from ddpm_demo.files import write_atomically
from ddpm_demo.models.weights import check_names, check_size, explain_damage, read_header, read_weights

FILE = "classifier.safetensors"  # beside a checkpoint's demo.json
FEATURES = 128
MOST_CONVOLUTIONS = 16
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


def build_classifier(path: Path, build: Callable[..., nn.Module], first: str) -> tuple[nn.Module, dict[str, str]]:
    """Build the network of a classifier's file on the meta device; return it and the texts of the file's header.

    ``build(channels, label_names, widths)`` builds the network, whose first convolution has the weights ``first``.
    """
    tensors, about = read_header(path)
    names = json.loads(about["label_names"])
    check_names(path, names)
    widths = tuple(shape[0] for name, (shape, _) in tensors.items() if "convolutions." in name)
    if len(widths) > MOST_CONVOLUTIONS or widths[-1] != FEATURES:
        raise UserError(
            f"{path} is not a classifier that can be loaded: its convolutions have widths {widths[:20]}; there must be "
            f"at most {MOST_CONVOLUTIONS}, and the last width must be {FEATURES}"
        )
    with torch.device("meta"):
        net = build(tensors[first][0][1], tuple(names), widths)
    check_size(path, net)
    return net.eval().requires_grad_(False), about


def save_classifier(classifier: Classifier, folder: Path, label_names: tuple[str, ...], test_accuracy: float) -> Path:
    """Write ``folder/classifier.safetensors``, with the label names and the accuracy in its header."""
    tensors = {name: value.contiguous() for name, value in classifier.state_dict().items()}
    about = {"label_names": json.dumps(label_names), "test_accuracy": repr(test_accuracy)}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, save(tensors, about))
    return folder / FILE


def order_outputs(head: nn.Linear, names: Sequence[str], wanted: Sequence[str], path: Path) -> tuple[str, ...]:
    """Reorder the outputs of a classifier, called ``names``, in place: first the ``wanted`` labels, then its others.

    Returns the new order. UserError for a label that the classifier at ``path`` does not know.
    """
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise UserError(
            f"{path} does not know the labels {', '.join(unknown)}; it knows {', '.join(names)}: train a classifier on "
            "the same classes, or name the folder of another one"
        )
    ordered = (*wanted, *(name for name in names if name not in wanted))
    order = [names.index(name) for name in ordered]
    head.weight.data, head.bias.data = head.weight.data[order], head.bias.data[order]
    return ordered


def load_classifier(folder: Path, label_names: Sequence[str] | None = None) -> tuple[Classifier, float]:
    """The classifier beside a checkpoint and its test accuracy; UserError if there is none, or if it is not valid.

    With ``label_names``, output k is the k-th of these labels, whatever the order in the training of the classifier;
    its further outputs are its other labels. UserError for a label that it does not know.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(
            f"{path} is missing: train it with  python train.py --classifier --dataset NAME --output-dir {folder}"
        )
    with explain_damage(path, "classifier"):
        classifier, about = build_classifier(
            path, lambda channels, names, widths: Classifier(channels, len(names), widths), "convolutions.0.weight"
        )
        accuracy = float(about["test_accuracy"])
        check_between(f"the test accuracy in {path}", accuracy, 0, 1)
        read_weights(classifier, path)
        if label_names is not None:
            order_outputs(classifier.head, json.loads(about["label_names"]), label_names, path)
        # channels_last: twice as fast on a CPU
        return classifier.to(memory_format=torch.channels_last), accuracy
