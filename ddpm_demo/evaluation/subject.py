"""The requirements of every measurement: the checkpoint, the judge of its dataset, and its ``metrics.json``."""

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState

from ddpm_demo.data import datasets
from ddpm_demo.data.datasets import Data
from ddpm_demo.evaluation.judge import Judge
from ddpm_demo.evaluation.progress import say
from ddpm_demo.models.checkpoint import Model, load
from ddpm_demo.models.classifier import FILE, load_classifier
from ddpm_demo.reports.card import write_card
from ddpm_demo.reports.results import Metrics
from ddpm_demo.training.autoencoder import psnr, reconstruct


@dataclass(frozen=True)
class Subject:
    """A checkpoint under measurement. ``classifier`` is the folder of the judge, None for the default."""

    folder: Path
    model: Model
    data_dir: str
    classifier: str | None = None

    def load_data(self, split: str) -> Data:
        """Load the ``train`` or ``test`` split of the model's dataset, at its image size."""
        size = {"classes": tuple(self.model.training["classes"]), "image_size": self.model.image_size}
        return datasets.load(self.model.dataset, self.data_dir, split, **size)

    def load_judge(self) -> tuple[Judge, Metrics]:
        """Load the judge of the model's dataset, and ``metrics.json`` with the judge's own figures.

        The judge is read from the folder ``classifier``, else from the checkpoint, else from the dataset's shipped one.
        """
        shipped = Path("checkpoints") / self.model.dataset
        beside = self.folder if (self.folder / FILE).exists() or not (shipped / FILE).exists() else shipped
        network, accuracy = load_classifier(Path(self.classifier or beside))
        judge = Judge(network, self.load_data("train"), self.load_data("test"))
        metrics = Metrics(self.folder)
        metrics.content |= {"classifier_test_accuracy": accuracy, "floor": judge.floor}
        say(
            f"the judge reads {accuracy:.2%} of the real test images; the FID of test to train images is {judge.floor:.4f}"
        )
        if not self.model.codec.bounded and "autoencoder" not in metrics.content:
            metrics.content["autoencoder"] = measure_autoencoder(self.model, judge)
        return judge, metrics

    def save(self, metrics: Metrics) -> None:
        """Write ``metrics.json`` and the model card."""
        if PartialState().is_main_process:
            metrics.write()
            write_card(self.folder)
            say(f"written to {metrics.path}")


def open_checkpoint(folder: str, data_dir: str, classifier: str | None = None) -> Subject:
    """Load a checkpoint onto the device of this process."""
    device = PartialState(cpu=not torch.accelerator.is_available()).device
    return Subject(Path(folder), load(Path(folder), device), data_dir, classifier)


def measure_autoencoder(model: Model, judge: Judge) -> dict[str, float]:
    """Return the figures of all test images after encoding and decoding, with their PSNR in decibels."""
    images = reconstruct(model.codec, judge.test_data)
    originals = judge.test_data.batch(torch.arange(len(images)))[0]
    return {"psnr": psnr(images, originals).item()} | judge.measure_reconstructions(images)
