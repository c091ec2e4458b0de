"""``metrics.json`` of a checkpoint: the measured figures, and how the figures of a setting are found.

{
  "weights": "9f86d08...",              sha256 of the weights that were measured; other weights start a new file
  "classifier_test_accuracy": 0.9968,   of the judge
  "floor": 0.0047,                      FID of all real test images to all training images
  "quality": [{                         one cell for each measured setting
    "setting": {..., "samples"},        the fields of ``Sampling``, and the number of samples
    "fid_test", "fid_train",            Frechet distance on the judge's features
    "precision", "recall",              improved precision and recall, against the test images
    "accuracy",                         fraction classified as the class asked for (only with classes)
    "spread": {"fid_test", "accuracy"}, their standard deviations
    "reference": {"fid_test", "precision", "recall"},      the same figures of as many real images
    "inception_fid",                    only where it was asked for
    "seconds"
  }],
  "memorised": {"samples", "median", "median_of_test_images", "closer_than_99_percent_of_test_images", "setting"},
  "autoencoder": {"psnr", "fid_train", "accuracy"},     of all test images after encoding and decoding (latents only)
  "restored": {"images", "seed", "steps", "complete", "enlarge": {"psnr", "psnr_of_another", "psnr_plain", "accuracy"}},
  "over_time": [{"training": {"steps", "seconds", "batch_size"}, "setting", and figures as above}],
  "bits_per_dim": {"images", "draws", "posterior", "beta", "continuous": {"L_T", "L_t", "L_0", "total": {"mean", "se"}},
                   "curve": {"t", "posterior", "beta"}, "ode": {"mean", "se", "images", "tolerance", "calls"}}
}
"""

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.files import write_atomically


class Metrics:
    """``metrics.json`` of one checkpoint folder. Figures of other weights than those in the folder are dropped."""

    def __init__(self, folder: Path):
        self.path = folder / "metrics.json"
        weights = hashlib.sha256((folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()
        self.content = read_metrics(folder)
        if self.content.get("weights", weights) != weights:
            print(f"{self.path} belongs to other weights: starting anew")
            self.content = {}
        self.content["weights"] = weights

    def has(self, sampling: Sampling, samples: int) -> bool:
        """Whether a setting was measured on at least so many samples."""
        cell = find(self.content.get("quality", []), sampling)
        return cell is not None and cell["setting"]["samples"] >= samples

    def add(self, sampling: Sampling, samples: int, figures: dict) -> None:
        """Add the figures of a setting, in place of older figures of the same setting."""
        cells = self.content.setdefault("quality", [])
        old = find(cells, sampling)
        cells[:] = [cell for cell in cells if cell is not old]
        cells.append({"setting": sampling.as_dict() | {"samples": samples}, **figures})

    def write(self) -> None:
        """Replace the file as a whole."""
        write_atomically(self.path, (json.dumps(self.content, indent=1) + "\n").encode())


def read_metrics(folder: Path) -> dict:
    """The measured figures of a checkpoint, empty if there are none."""
    path = folder / "metrics.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def sampling_of(cell: dict) -> Sampling:
    """The setting of a cell. A field that is newer than the cell has its default.

    TypeError for a name that is no field.
    """
    return Sampling(**{name: value for name, value in cell["setting"].items() if name != "samples"})


def without_idle(sampling: Sampling) -> Sampling:
    """The same setting, in which every field that has no effect has its default."""
    idle = sampling.idle | ({"interval"} if sampling.always_guided else set())
    return replace(sampling, **{field.name: field.default for field in fields(Sampling) if field.name in idle})


def agree(found: Sampling, wanted: Sampling, *free: str) -> bool:
    """Whether two settings draw the same images, once the ``free`` fields of the wanted are set to those found."""
    changed = replace(wanted, **{name: getattr(found, name) for name in free})
    return without_idle(found) == without_idle(changed)


def select(cells: list[dict], wanted: Sampling, *free: str) -> list[dict]:
    """The cells whose setting agrees with the one wanted, but for the ``free`` fields."""
    return [cell for cell in cells if agree(sampling_of(cell), wanted, *free)]


def find(cells: list[dict], wanted: Sampling, *free: str) -> dict | None:
    """The first cell that ``select`` finds, None if the setting was not measured."""
    return next(iter(select(cells, wanted, *free)), None)


def most_sampled(metrics: dict) -> list[dict]:
    """The cells of the settings that were measured on the most samples."""
    cells = metrics.get("quality", [])
    most = max((cell["setting"]["samples"] for cell in cells), default=0)
    return [cell for cell in cells if cell["setting"]["samples"] == most]


def excess(cell: dict) -> float:
    """FID to the test images, minus that of as many real images: comparable between different numbers of samples."""
    return cell["fid_test"] - cell["reference"]["fid_test"]


def encoder_seconds(folder: Path) -> float:
    """The training time of a checkpoint's autoencoder, 0 where there is none."""
    path = folder / "autoencoder.json"
    return json.loads(path.read_text())["seconds"] if path.is_file() else 0.0
