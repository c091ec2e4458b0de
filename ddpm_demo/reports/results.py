"""``metrics.json`` of a checkpoint: the measured figures, and how the figures of a setting are found.

{
  "model": "9f86d08...",                hash of the model that was measured (``files.identify_model``); the figures of
                                        another model are never shown, and are replaced by the next measurement
  "judge": "2c26b46...",                sha256 of the classifier that judged; another judge starts anew
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
    "guide",                            sha256 of the noise-aware classifier, only where it guided the samples
    "seconds"
  }],
  "memorised": {"samples", "median", "median_of_test_images", "closer_than_99_percent_of_test_images", "setting",
                "mirrored"},            whether mirrored training images count as well, as they do in the training
  "beside": {"setting"},                the samples that beside.png shows beside as many test images
  "autoencoder": {"psnr", "fid_train", "accuracy"},     of all test images after encoding and decoding (latents only)
  "restored": {"images", "seed", "steps", "complete", "enlarge": {"psnr", "psnr_of_another", "psnr_plain", "accuracy"}},
  "over_time": [{"training": {"steps", "seconds", "batch_size"}, "setting", and figures as above}],
  "bits_per_dim": {"images", "draws", "posterior", "beta", "continuous": {"L_T", "L_t", "L_0", "total": {"mean", "se"}},
                   "curve": {"t", "posterior", "beta"}, "ode": {"mean", "se", "images", "tolerance", "calls"}}
}
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.errors import UserError
from ddpm_demo.files import hash_file, identify_model, list_foreign_figures, lock, read_json, write_atomically
from ddpm_demo.models.checkpoint import WEAK
from ddpm_demo.models.noisy_classifier import FILE as GUIDE

FILE = "metrics.json"
NOT_JUDGED = ("model", "bits_per_dim", "beside")  # the entries that do not depend on the judge

ENTRIES = {"classifier_scale": "guide", "autoguidance": "weak"}  # of a cell: the hash of what guided its samples
PICTURED = ("memorised", "beside")  # the entries about the samples in nearest.png and beside.png


class Metrics:
    """``metrics.json`` of a checkpoint folder, for measuring. Several processes may change the file at the same time.

    Create it before the model is loaded: figures are written only if the model in the folder is still the same.
    ``content`` holds the figures of this model and this judge that the file held when it was last read.
    """

    def __init__(self, folder: Path):
        self.path, self.model = folder / FILE, identify_model(folder)
        self.judge: dict = {}
        self.content = self.read()
        if self.path.is_file() and self.content.keys() == {"model"}:
            print(f"{self.path} belongs to other weights: starting anew")

    def set_judge(self, digest: str, test_accuracy: float, floor: float) -> None:
        """Set the judge whose figures are added: the sha256 of its file, its accuracy, and the FID of real images."""
        if self.content.get("judge", digest) != digest:
            print(f"{self.path} belongs to another judge: starting anew")
        self.judge = {"judge": digest, "classifier_test_accuracy": test_accuracy, "floor": floor}
        self.content = self.read()

    def read(self) -> dict:
        """Read the figures of this model and this judge from the file."""
        content = {"model": self.model} | read_metrics(self.path.parent)
        if self.judge and content.get("judge") != self.judge["judge"]:
            content = {name: value for name, value in content.items() if name in NOT_JUDGED}
        return content | self.judge

    @contextmanager
    def change(self) -> Iterator[dict]:
        """Lock the file, read it again, and yield its content; what the caller changes in it is written.

        Raises UserError if the folder contains another model than the one that was measured.
        """
        with lock(self.path):
            if identify_model(self.path.parent) != self.model:
                raise UserError(
                    f"the model in {self.path.parent} was replaced while it was measured: run the same command again"
                )
            self.content = self.read()
            yield self.content
            write_atomically(self.path, (json.dumps(self.content, indent=1) + "\n").encode())

    def has(self, sampling: Sampling, samples: int) -> bool:
        """Whether a setting was measured on at least so many samples."""
        cell = find(self.content.get("quality", []), sampling)
        return cell is not None and cell["setting"]["samples"] >= samples

    def describe(self, sampling: Sampling, samples: int) -> dict:
        """Return the entries that say how samples were drawn: their setting, their number, and what guided them."""
        guides = identify_guides(self.path.parent, sampling.as_dict())
        return {"setting": sampling.as_dict() | {"samples": samples}} | {
            ENTRIES[name]: digest for name, digest in guides.items()
        }

    def add(self, sampling: Sampling, samples: int, figures: dict) -> None:
        """Add the figures of a setting to the file, in place of older figures of the same setting."""
        with self.change() as content:
            cells = content.setdefault("quality", [])
            old = find(cells, sampling)
            cells[:] = [cell for cell in cells if cell is not old]
            cells.append(self.describe(sampling, samples) | figures)


def identify_guides(folder: Path, setting: dict) -> dict:
    """Return the hashes of what guides the samples of a setting, beside the model itself, by the field that asks for it."""
    guides = {}
    if setting.get("classifier_scale"):
        guides["classifier_scale"] = hash_file(folder / GUIDE)
    if setting.get("autoguidance"):
        guides["autoguidance"] = identify_model(folder / WEAK) if (folder / WEAK).is_dir() else None
    return guides


def read_report(folder: Path, name: str, foreign: Sequence[str] | None = None) -> dict:
    """The measured figures in a file of a checkpoint; empty if there are none, or if they are those of another model.

    ``foreign`` is the result of ``list_foreign_figures``, if it is known: to find it, the whole model is hashed.
    """
    return {} if name in (list_foreign_figures(folder) if foreign is None else foreign) else read_json(folder / name)


def read_metrics(folder: Path, foreign: Sequence[str] | None = None) -> dict:
    """``metrics.json`` of the model in a checkpoint folder, empty if this model was not measured.

    The figures of samples that another noise-aware classifier or another weaker model guided are left out. ``foreign``
    is as in ``read_report``.
    """
    content = read_report(folder, FILE, foreign)
    drawn = [*content.get("quality", []), *(content[name] for name in PICTURED if name in content)]
    guides = identify_guides(folder, {name: any(entry["setting"].get(name) for entry in drawn) for name in ENTRIES})

    def was_drawn(entry: dict) -> bool:
        return all(entry.get(ENTRIES[name]) == guides[name] for name in ENTRIES if entry["setting"].get(name))

    if "quality" in content:
        content["quality"] = [cell for cell in content["quality"] if was_drawn(cell)]
    return {name: value for name, value in content.items() if name not in PICTURED or was_drawn(value)}


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


def find_best(metrics: dict, allows: Callable[[Sampling], bool] = lambda sampling: True) -> dict | None:
    """The best cell of those that were measured on the most samples and that ``allows`` accepts, or None.

    Cells whose FID is within one standard deviation of the least are equally good. Of these, the one with the highest
    class accuracy is best.
    """
    cells = [cell for cell in most_sampled(metrics) if allows(sampling_of(cell))]
    least = min(cells, key=excess, default=None)
    alike = [cell for cell in cells if excess(cell) <= excess(least) + least["spread"]["fid_test"]]
    return max(alike, key=lambda cell: (cell.get("accuracy", 0.0), -excess(cell)), default=None)


def excess(cell: dict) -> float:
    """FID to the test images, minus that of as many real images: comparable between different numbers of samples."""
    return cell["fid_test"] - cell["reference"]["fid_test"]


def encoder_seconds(folder: Path) -> float:
    """The training time of a checkpoint's autoencoder, 0 where there is none."""
    report = read_json(folder / "autoencoder.json")
    return report["seconds"] if report else 0.0
