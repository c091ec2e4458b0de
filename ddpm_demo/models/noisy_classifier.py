"""The noise-aware classifier p(label | x_t, log_snr), for classifier guidance (Dhariwal & Nichol 2021, section 4).

``python train.py --classifier --noise-aware --dataset mnist --output-dir checkpoints/mnist`` trains it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ddpm_demo.diffusion.denoiser import alpha_sigma, per_image
from ddpm_demo.files import write_atomically
from ddpm_demo.models.classifier import GRAY, Classifier, build_classifier, order_outputs
from ddpm_demo.models.weights import check_call, explain_damage, read_header, read_weights

FILE = "noisy_classifier.safetensors"  # beside a checkpoint's demo.json
LOG_SNRS = tuple(range(-10, 11, 2))  # where its accuracy is measured
UNIT = 10.0  # the log-SNR is divided by this, so that it is about as large as a pixel


class NoisyClassifier(nn.Module):
    """A ``Classifier`` of noisy images, with the log-SNR as one more, constant channel.

    The logits are multiplied by alpha, since to first order log p(label | x_t) is linear in alpha * x. The gradient then
    vanishes in pure noise, where guidance multiplies it by sigma^2 / alpha.
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


def save_noisy(classifier: NoisyClassifier, folder: Path, accuracies: dict[int, float]) -> Path:
    """Write ``folder/noisy_classifier.safetensors`` in half precision, with labels and accuracies in its header."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in classifier.state_dict().items()
    }
    about = {"label_names": json.dumps(classifier.label_names), "accuracy_by_log_snr": json.dumps(accuracies)}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, save(tensors, about))
    return folder / FILE


def load_noisy(
    folder: Path, shape: tuple[int, int, int] | None = None, label_names: Sequence[str] = ()
) -> NoisyClassifier | None:
    """The noise-aware classifier of a checkpoint, ready to guide; None where there is none.

    ``shape`` (C, H, W) is the shape of the images that it must accept. Its first labels are ``label_names``, those of
    the model that it guides, whatever the order in its own training. Raises UserError if it is not valid, or for a label
    that it does not know.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    with explain_damage(path, "classifier"):
        classifier, _ = build_classifier(
            path, lambda channels, *rest: NoisyClassifier(channels - 1, *rest), "body.convolutions.0.weight"
        )
        if shape:
            check_call(path, lambda x: classifier(x, 0.0), shape, (len(classifier.label_names),))
        read_weights(classifier, path)
        classifier.label_names = order_outputs(classifier.body.head, classifier.label_names, label_names, path)
        return classifier.to(memory_format=torch.channels_last)


def accuracies(folder: Path) -> dict[int, float]:
    """The accuracy of a checkpoint's noise-aware classifier on test images, by log-SNR; empty where there is none.

    It was measured after the training of the classifier.
    """
    if not (folder / FILE).is_file():
        return {}
    with explain_damage(folder / FILE, "classifier"):
        shares = json.loads(read_header(folder / FILE)[1]["accuracy_by_log_snr"])
        return {int(log_snr): float(share) for log_snr, share in shares.items()}
