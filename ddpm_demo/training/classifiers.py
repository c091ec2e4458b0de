"""The training of the two classifiers: of the judge, and of the noise-aware one for classifier guidance.

``python train.py --classifier --dataset mnist`` trains the judge, with ``--noise-aware`` the other one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ddpm_demo.data.datasets import Data, mirror_at_random
from ddpm_demo.diffusion.denoiser import add_noise
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.models import classifier, noisy_classifier
from ddpm_demo.models.classifier import Classifier, choose_widths, save_classifier
from ddpm_demo.models.noisy_classifier import LOG_SNRS, NoisyClassifier, save_noisy

LARGEST_SHIFT = 2  # pixels
NOISE = Schedule.named("cosine")  # the noise levels that the noise-aware classifier is trained at


@dataclass(frozen=True)
class Kind:
    """What differs between the two classifiers and their trainings."""

    file: str  # what is written into the folder of a checkpoint
    build: Callable[[int, tuple[str, ...]], nn.Module]  # from the channels of an image and the names of the labels
    augment: Callable[[Tensor], Tensor]  # images (N, C, H, W) to images of the same shape
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor]  # of a classifier, images (N, C, H, W) and labels (N,)
    peak_rate: float
    finish: Callable[[nn.Module, Data, Path, tuple[str, ...]], str]  # measures, saves, and returns a sentence


def fit(
    kind: Kind,
    data: Data,
    flip: bool = False,
    epochs: float = 8,
    batch_size: int = 128,
    seed: int = 0,
    low_precision: bool = False,
) -> Iterator[tuple[float, nn.Module]]:
    """Train a classifier with a one-cycle learning rate; yields (fraction done, classifier) every step.

    ``flip`` mirrors images at random; ``low_precision`` computes in bfloat16 where autocast does.
    """
    torch.manual_seed(seed)
    trained = kind.build(data.images.shape[1], data.label_names).to(memory_format=torch.channels_last)
    batch_size = min(batch_size, len(data))
    steps_per_epoch = len(data) // batch_size
    steps = max(1, round(epochs * steps_per_epoch))
    optimizer = torch.optim.AdamW(trained.parameters(), kind.peak_rate, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, kind.peak_rate, total_steps=steps, pct_start=0.2)
    for step in range(steps):
        start = step % steps_per_epoch * batch_size
        if start == 0:
            order = torch.randperm(len(data))
        images, labels = data.batch(order[start : start + batch_size])
        images = kind.augment(images)
        images = mirror_at_random(images) if flip else images
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
            loss = kind.loss(trained.train(), images, labels)
        loss.backward()
        optimizer.step()
        rate.step()
        yield (step + 1) / steps, trained


def learn(kind: Kind, data: Data, held_out: Data, folder: Path, **options) -> str:
    """Train with a progress bar and write the classifier into the folder; returns a sentence with its accuracy.

    ``options`` are those of ``fit``.
    """
    with tqdm(total=100, bar_format="{percentage:3.0f}%|{bar}| {elapsed} < {remaining}") as bar:
        for fraction, trained in fit(kind, data, **options):
            bar.update(100 * fraction - bar.n)
    return kind.finish(trained, held_out, folder, data.label_names)


def build_judge(channels: int, label_names: tuple[str, ...]) -> Classifier:
    """An untrained ``Classifier`` for images of a number of channels."""
    return Classifier(channels, len(label_names), choose_widths(channels))


def shift_at_random(images: Tensor) -> Tensor:
    """Images (N, C, H, W), [-1, 1], all shifted by the same random offset of up to two pixels, black behind them."""
    height, width = images.shape[2:]
    top, left = torch.randint(0, 2 * LARGEST_SHIFT + 1, (2,)).tolist()
    padded = F.pad(images, (LARGEST_SHIFT,) * 4, value=-1.0)
    return padded[..., top : top + height, left : left + width]


def smoothed_loss(judge: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy with label smoothing, a scalar."""
    return F.cross_entropy(judge(images), labels, label_smoothing=0.05)


@torch.no_grad()
def accuracy(judge: nn.Module, data: Data) -> float:
    """The fraction of images whose label the classifier names."""
    right = 0
    for indices in torch.arange(len(data)).split(500):
        images, labels = data.batch(indices)
        right += (judge.eval()(images).argmax(1) == labels).sum().item()
    return right / len(data)


def finish_judge(judge: Classifier, held_out: Data, folder: Path, label_names: tuple[str, ...]) -> str:
    """Measure and save the judge; returns a sentence."""
    correct = accuracy(judge, held_out)
    path = save_classifier(judge, folder, label_names, correct)
    return f"{correct:.2%} of {len(held_out)} test images read correctly; written to {path}"


def build_noise_aware(channels: int, label_names: tuple[str, ...]) -> NoisyClassifier:
    """An untrained ``NoisyClassifier`` for images of a number of channels."""
    return NoisyClassifier(channels, label_names, choose_widths(channels))


def keep_as_they_are(images: Tensor) -> Tensor:
    """The images themselves: noise is augmentation enough."""
    return images


def noisy_loss(guide: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy under noise, a scalar. Image i draws its log-SNR from the i-th of N equal parts of the time."""
    log_snr = NOISE.at((torch.arange(len(images)) + torch.rand(len(images))) / len(images))
    noisy = add_noise(images, log_snr, torch.randn_like(images))
    return F.cross_entropy(guide(noisy, log_snr), labels)


@torch.no_grad()
def accuracy_by_log_snr(guide: nn.Module, data: Data) -> dict[int, float]:
    """The fraction of images whose label the classifier names under noise, for each of ``LOG_SNRS``."""
    generator = torch.Generator().manual_seed(0)
    right = dict.fromkeys(LOG_SNRS, 0)
    for indices in torch.arange(len(data)).split(500):
        images, labels = data.batch(indices)
        for log_snr in LOG_SNRS:
            noise = torch.randn(images.shape, generator=generator)
            logits = guide.eval()(add_noise(images, log_snr, noise), log_snr)
            right[log_snr] += (logits.argmax(1) == labels).sum().item()
    return {log_snr: count / len(data) for log_snr, count in right.items()}


def finish_noise_aware(guide: NoisyClassifier, held_out: Data, folder: Path, label_names: tuple[str, ...]) -> str:
    """Measure and save the noise-aware classifier, which holds its label names itself; returns a sentence."""
    correct = accuracy_by_log_snr(guide, held_out)
    path = save_noisy(guide, folder, correct)
    figures = ", ".join(f"{share:.1%} at {log_snr:+d}" for log_snr, share in correct.items())
    return f"of {len(held_out)} test images under noise, by log-SNR: {figures}; written to {path}"


JUDGE = Kind(classifier.FILE, build_judge, shift_at_random, smoothed_loss, 1e-2, finish_judge)
NOISE_AWARE = Kind(noisy_classifier.FILE, build_noise_aware, keep_as_they_are, noisy_loss, 5e-3, finish_noise_aware)
