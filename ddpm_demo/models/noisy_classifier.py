"""The noise-aware classifier p(label | x_t), log_snr: what classifier guidance climbs (Dhariwal & Nichol 2021, section 4).

``python train.py --classifier --noise-aware --dataset mnist --output-dir checkpoints/mnist`` trains it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ddpm_demo.data.datasets import Data, mirrored
from ddpm_demo.diffusion.denoiser import add_noise, alpha_sigma, per_image
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.files import write_atomically
from ddpm_demo.models.classifier import GRAY, Classifier, shown, widths_for, widths_of

FILE = "noisy_classifier.safetensors"  # beside a checkpoint's demo.json
LOG_SNRS = tuple(range(-10, 11, 2))  # where its accuracy is told
UNIT = 10.0  # the log-SNR enters in this unit, so that it is of the size of a pixel


class NoisyClassifier(nn.Module):
    """The judge's five convolutions on a noisy image, with the log-SNR as one more, constant channel.

    The logits are multiplied by alpha, with which the evidence fades: to first order, log p(label | x_t) is linear in
    alpha * x. So the gradient dies out in pure noise, where guidance multiplies it by sigma^2 / alpha.
    """

    def __init__(self, channels: int, label_names: tuple[str, ...], widths: tuple[int, ...] = GRAY):
        super().__init__()
        self.body = Classifier(channels + 1, len(label_names), widths)
        self.label_names = label_names

    def forward(self, x: Tensor, log_snr: Tensor | float) -> Tensor:
        """Noisy images (N, C, H, W), x_t, at a log-SNR (a number or (N,)), to logits (N, K)."""
        level = per_image(torch.as_tensor(log_snr, dtype=torch.float64) / UNIT, x)
        alpha = alpha_sigma(log_snr)[0].reshape(-1, 1).to(x.dtype).to(x.device)
        return alpha * self.body(torch.cat([x, level.expand(len(x), 1, *x.shape[2:])], 1))


def train(
    data: Data, flip: bool = False, epochs: int = 8, batch_size: int = 128, seed: int = 0, low_precision: bool = False
) -> Iterator[tuple[float, NoisyClassifier]]:
    """Train at the noise levels of the cosine schedule; yields (fraction done, classifier) every step."""
    torch.manual_seed(seed)
    channels, schedule = data.images.shape[1], Schedule.named("cosine")
    classifier = NoisyClassifier(channels, data.label_names, widths_for(channels)).to(memory_format=torch.channels_last)
    batch_size = min(batch_size, len(data))
    steps = epochs * (len(data) // batch_size)
    optimizer = torch.optim.AdamW(classifier.parameters(), 5e-3, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps, pct_start=0.2)
    for step in range(steps):
        place = step % (len(data) // batch_size) * batch_size
        if place == 0:
            order = torch.randperm(len(data))
        images, labels = data.batch(order[place : place + batch_size])
        images = mirrored(images) if flip else images
        log_snr = schedule.at((torch.arange(len(images)) + torch.rand(len(images))) / len(images))
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
            noisy = add_noise(images, log_snr, torch.randn_like(images))
            loss = F.cross_entropy(classifier.train()(noisy, log_snr), labels)
        loss.backward()
        optimizer.step()
        rate.step()
        yield (step + 1) / steps, classifier


def learn(data: Data, held_out: Data, folder: Path, **options) -> str:
    """Train with a bar and write ``noisy_classifier.safetensors`` into the folder; returns a sentence. ``options`` are those of ``train``."""
    trained = shown(train(data, **options))
    correct = accuracy_by_log_snr(trained, held_out)
    path = save_noisy(trained, folder, correct)
    said = ", ".join(f"{share:.1%} at {log_snr:+d}" for log_snr, share in correct.items())
    return f"of {len(held_out)} test images under noise, by log-SNR: {said}; written to {path}"


@torch.no_grad()
def accuracy_by_log_snr(classifier: NoisyClassifier, data: Data, seed: int = 0) -> dict[int, float]:
    """The fraction of images whose label it names under noise, for each of ``LOG_SNRS``."""
    generator = torch.Generator().manual_seed(seed)
    right = dict.fromkeys(LOG_SNRS, 0)
    for indices in torch.arange(len(data)).split(500):
        images, labels = data.batch(indices)
        for log_snr in LOG_SNRS:
            noise = torch.randn(images.shape, generator=generator)
            logits = classifier.eval()(add_noise(images, log_snr, noise), log_snr)
            right[log_snr] += (logits.argmax(1) == labels).sum().item()
    return {log_snr: count / len(data) for log_snr, count in right.items()}


def save_noisy(classifier: NoisyClassifier, folder: Path, accuracies: dict[int, float]) -> Path:
    """Write ``folder/noisy_classifier.safetensors``, half the precision, with labels and accuracies in its header."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in classifier.state_dict().items()
    }
    about = {"label_names": json.dumps(classifier.label_names), "accuracy_by_log_snr": json.dumps(accuracies)}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, save(tensors, about))
    return folder / FILE


def load_noisy(folder: Path) -> NoisyClassifier | None:
    """The noise-aware classifier of a checkpoint, ready to guide; None where there is none."""
    if not (folder / FILE).is_file():
        return None
    with safe_open(folder / FILE, "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    channels = tensors["body.convolutions.0.weight"].shape[1] - 1
    classifier = NoisyClassifier(channels, tuple(json.loads(about["label_names"])), widths_of(tensors))
    classifier.load_state_dict(tensors)
    return classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def accuracies(folder: Path) -> dict[int, float]:
    """Its accuracy on the test images by log-SNR, as measured after its training; empty where there is none."""
    if not (folder / FILE).is_file():
        return {}
    with safe_open(folder / FILE, "pt") as file:
        return {int(log_snr): share for log_snr, share in json.loads(file.metadata()["accuracy_by_log_snr"]).items()}
