"""The requirements of every measurement: the checkpoint, the judge of its dataset, and its ``metrics.json``."""

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState

from ddpm_demo.data import datasets
from ddpm_demo.data.datasets import Data
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation.judge import Judge
from ddpm_demo.evaluation.progress import say
from ddpm_demo.files import SHIPPED, find_newest, hash_file, lock
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
    metrics: Metrics
    data_dir: str
    classifier: str | None = None

    def load_data(self, split: str) -> Data:
        """Load the ``train`` or ``test`` split of the model's dataset, at its image size."""
        classes = (self.model.training or {}).get("classes", ())
        size = {"classes": tuple(classes), "image_size": self.model.image_size}
        return datasets.load(self.model.dataset, self.data_dir, split, **size)

    def load_judge(self) -> Judge:
        """Load the judge of the model's dataset, and put its own figures into the metrics.

        The judge is read from the folder ``classifier``, else from the checkpoint, else from the dataset's shipped one.
        """
        shipped = SHIPPED / self.model.dataset
        beside = self.folder if (self.folder / FILE).exists() or not (shipped / FILE).exists() else shipped
        place = Path(self.classifier or beside)
        train, test = self.load_data("train"), self.load_data("test")
        network, channels = load_classifier(place, train.label_names)[0], train.images.shape[1]
        if network.convolutions[0].in_channels != channels:
            raise UserError(
                f"{place / FILE} is for images of {network.convolutions[0].in_channels} channels, and those of "
                f"{self.model.dataset} have {channels}: name the folder of another judge with --classifier"
            )
        judge = Judge(network, train, test)
        self.metrics.set_judge(hash_file(place / FILE), judge.accuracy, judge.floor)
        say(
            f"the judge reads {judge.accuracy:.2%} of the real test images; the FID of test to train images is "
            f"{judge.floor:.4f}"
        )
        if not self.model.codec.bounded and "autoencoder" not in self.metrics.content:
            self.add("autoencoder", measure_autoencoder(self.model, judge))
        return judge

    def add(self, name: str, figures: dict) -> None:
        """Write an entry of ``metrics.json``."""
        if PartialState().is_main_process:
            with self.metrics.change() as content:
                content[name] = figures

    def write_card(self) -> None:
        """Write the model card from the figures that ``metrics.json`` holds now."""
        if PartialState().is_main_process:
            with lock(self.metrics.path):
                write_card(self.folder)
            say(f"written to {self.metrics.path}")


def open_checkpoint(folder: str, data_dir: str, classifier: str | None = None) -> Subject:
    """Load a checkpoint onto the device of this process. Raises UserError if ``folder`` is no folder on this disk."""
    if not find_newest(Path(folder), "demo.json").is_file():
        raise UserError(f"{folder} is not a folder with a checkpoint: download it first, e.g. with  hf download")
    device = PartialState(cpu=not torch.accelerator.is_available()).device
    metrics = Metrics(Path(folder))  # before the model is loaded
    return Subject(Path(folder), load(Path(folder), device), metrics, data_dir, classifier)


def measure_autoencoder(model: Model, judge: Judge) -> dict[str, float]:
    """Return the figures of all test images after encoding and decoding, with their PSNR in decibels."""
    images = reconstruct(model.codec, judge.test_data)
    originals = judge.test_data.batch(torch.arange(len(images)))[0]
    return {"psnr": psnr(images, originals).item()} | judge.measure_reconstructions(images)
