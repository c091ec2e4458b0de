"""``metrics.json`` of a checkpoint: what was measured of it, cell by cell.

``python -m ddpm_demo.reports.results checkpoints/cifar10 checkpoints/cifar10-latent`` compares checkpoints, also at equal training time,
after  python -m ddpm_demo.evaluation --over-time  of each.

{
  "weights": "9f86d08...",              sha256 of the weights that were measured; other weights start a new file
  "classifier_test_accuracy": 0.9968,   of the judge
  "floor": 0.0047,                      FID of all real test images to all training images
  "quality": [{                         a cell for every measured setting
    "setting": {"schedule", "sampler", "steps", "weight", "variance", "interval", "scale", "seed",
                "samples"},
    "fid_test", "fid_train",            Frechet distance on the judge's features
    "precision", "recall",              improved precision and recall, against the test images
    "accuracy",                         fraction read as the class asked for (not if unconditional)
    "spread": {"fid_test", "accuracy"}, their standard deviations
    "reference": {"fid_test", "precision", "recall"},      the same of as many real training images
    "inception_fid",                    only where it was asked for
    "seconds"
  }],
  "memorised": {"samples", "median", "median_of_test_images", "closer_than_99_percent_of_test_images", "setting"},
  "autoencoder": {"psnr", "fid_train", "accuracy"},     of all test images, encoded and decoded, where latents are diffused
  "restored": {"images", "seed", "steps", "complete", "enlarge": {"psnr", "psnr_of_another", "psnr_plain", "accuracy"}},
  "over_time": [{"training": {"steps", "seconds", "batch_size"}, "setting", and figures as above}],
  "bits_per_dim": {"images", "draws", "posterior", "beta", "continuous": {"L_T", "L_t", "L_0", "total": {"mean", "se"}},
                   "curve": {"t", "posterior", "beta"}, "ode": {"mean", "se", "images", "tolerance", "calls"}}
}
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path

from safetensors import safe_open

from ddpm_demo.errors import UserError
from ddpm_demo.files import write_atomically
from ddpm_demo.reports.card import headline


class Metrics:
    """The file of one checkpoint folder, read; what belongs to other weights is left out."""

    def __init__(self, folder: Path):
        self.path = folder / "metrics.json"
        weights = hashlib.sha256((folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()
        self.told = read_metrics(folder)
        if self.told.get("weights", weights) != weights:
            print(f"{self.path} belongs to other weights: starting anew")
            self.told = {}
        self.told["weights"] = weights

    def has(self, setting: dict, samples: int, seed: int) -> bool:
        """Whether a setting was measured on at least so many samples."""
        cell = find(self.told.get("quality", []), setting, seed)
        return cell is not None and cell["setting"]["samples"] >= samples

    def add(self, setting: dict, samples: int, seed: int, figures: dict) -> None:
        """Put a cell in, in place of an older one of the same setting."""
        cells = self.told.setdefault("quality", [])
        old = find(cells, setting, seed)
        cells[:] = [cell for cell in cells if cell is not old]
        cells.append({"setting": setting | {"seed": seed, "samples": samples}, **figures})

    def write(self) -> None:
        """Swap the file in whole."""
        write_atomically(self.path, (json.dumps(self.told, indent=1) + "\n").encode())


def find(cells: list[dict], setting: dict, seed: int = 0) -> dict | None:
    """The cell of a setting, None if it was not measured."""
    wanted = setting | {"seed": seed}
    return next((cell for cell in cells if all(cell["setting"].get(k) == v for k, v in wanted.items())), None)


def read_metrics(folder: Path) -> dict:
    """What was measured of a checkpoint, empty if nothing."""
    path = folder / "metrics.json"
    told = json.loads(path.read_text()) if path.is_file() else {}
    for cell in [*told.get("quality", []), *told.get("over_time", [])]:
        cell["setting"].setdefault("scale", 0.0)  # files from before there was classifier guidance
    return told


def excess(cell: dict) -> float:
    """FID to the test images, less that of as many real images: so cells of different numbers of samples compare."""
    return cell["fid_test"] - cell["reference"]["fid_test"]


def kinds_of_guidance(cells: list[dict], fixed: dict) -> str:
    """What classifier-free and classifier guidance buy and cost as they grow, as Markdown; the rest as ``fixed``."""
    lines = ["| guidance | strength | read as asked | FID | precision | recall |", "|---|---|---|---|---|---|"]
    for title, axis, other in (
        ("classifier-free", "weight", {"scale": 0.0}),
        ("classifier, on the model without label", "scale", {"weight": -1.0}),
        ("classifier, on the model with label", "scale", {"weight": 0.0}),
    ):
        wanted = (fixed | other).items()
        found = [
            cell for cell in cells if all(cell["setting"][name] == value for name, value in wanted if name != axis)
        ]
        for cell in sorted(found, key=lambda cell: cell["setting"][axis]):
            figures = f"{cell['accuracy']:.1%} | {excess(cell):.2f} | {cell['precision']:.2f} | {cell['recall']:.2f}"
            letter = "w" if axis == "weight" else "s"
            lines.append(f"| {title} | {letter} = {cell['setting'][axis]:g} | {figures} |")
    return "\n".join(lines)


def table(cells: list[dict], down: str, across: str, fixed: dict) -> str:
    """``excess`` of the cells with the ``fixed`` settings as Markdown, empty where there are none."""
    found = [cell for cell in cells if all(cell["setting"][name] == value for name, value in fixed.items())]
    rows, columns = ({cell["setting"][axis]: None for cell in found} for axis in (down, across))
    lines = [f"| {down} \\ {across} | " + " | ".join(f"{c:g}" for c in sorted(columns)) + " |"]
    lines.append("|---" * (1 + len(columns)) + "|")
    for row in rows:
        by = {cell["setting"][across]: cell for cell in found if cell["setting"][down] == row}
        lines.append(
            f"| {row} | " + " | ".join(f"{excess(by[c]):.2f}" if c in by else "" for c in sorted(columns)) + " |"
        )
    return "\n".join(lines) if found else ""


def sentence(setting: dict, count: int, cell: dict) -> str:
    """A measured setting in a line."""
    asked = f"{cell['accuracy']:.2%} read as asked, " if "accuracy" in cell else ""
    variance = f" ({setting['variance']} variance)" if setting["variance"] != "posterior" else ""
    scale = f", classifier guidance {setting['scale']:g}" if setting["scale"] else ""
    interval = f" within log-SNR {setting['interval']}" if setting["interval"] else ""
    inception = f", Inception FID {cell['inception_fid']:.2f}" if "inception_fid" in cell else ""
    return (
        f"{setting['sampler']}{variance}, {setting['steps']} steps, {setting['schedule']}, w = {setting['weight']:g}"
        f"{scale}{interval}: {asked}FID {cell['fid_test']:.3f} to test ({cell['reference']['fid_test']:.3f} for as many real "
        f"images), {cell['fid_train']:.3f} to train, precision {cell['precision']:.3f}, recall {cell['recall']:.3f}; "
        f"{count} samples{inception}"
    )


def at_equal_time(folders: Sequence[Path]) -> str:
    """Checkpoints beside each other after the training time of the shortest, an autoencoder's included, as Markdown.

    UserError where one was not measured over time.
    """
    lines = [
        "| diffused | parameters | minutes of training | images seen | FID to test | read as asked | seconds an image |",
        "|---|---|---|---|---|---|---|",
    ]
    told = [(folder, read_metrics(folder), encoder_seconds(folder)) for folder in folders]
    for folder, metrics, _ in told:
        if not metrics.get("over_time"):
            raise UserError(f"{folder} was not measured over time: python -m ddpm_demo.evaluation --over-time")
    spent = {
        folder: [row["training"]["seconds"] + more for row in metrics["over_time"]] for folder, metrics, more in told
    }
    limit = 1.02 * min(max(seconds) for seconds in spent.values())  # the last step of a budget ends a little after it
    for folder, metrics, more in told:
        place = max(k for k, seconds in enumerate(spent[folder]) if seconds <= limit)
        row, seconds = metrics["over_time"][place], spent[folder][place]
        setting = {name: value for name, value in row["setting"].items() if name not in ("samples", "seed")}
        whole = find(metrics["quality"], setting)
        minutes = f"{seconds / 60:.0f}" + (f" ({more / 60:.0f} of them the autoencoder)" if more else "")
        fid = f"{row['fid_test']:.2f} ± {row['spread']['fid_test']:.2f}"
        pace = f"{whole['seconds'] / whole['setting']['samples']:.3f}" if whole else ""
        seen = f"{row['training']['steps'] * row['training']['batch_size']:,}"
        size = f"{parameters(folder) / 1e6:.2f} M"
        cells = ["latents" if more else "pixels", size, minutes, seen, fid, f"{row['accuracy']:.1%}", pace]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def headlines(folders: Sequence[Path]) -> str:
    """The settings of checkpoints that were measured on the most samples, and what as many real images get, as Markdown."""
    lines = ["| checkpoint | w | FID to test | precision | recall | read as asked |", "|---|---|---|---|---|---|"]
    for folder in folders:
        for cell in sorted(headline(read_metrics(folder)), key=lambda cell: cell["setting"]["weight"]):
            fid = f"{cell['fid_test']:.2f} ± {cell['spread']['fid_test']:.2f}"
            rest = f"{cell['precision']:.2f} | {cell['recall']:.2f} | {cell['accuracy']:.1%}"
            lines.append(f"| `{folder.name}` | {cell['setting']['weight']:g} | {fid} | {rest} |")
    real = cell["reference"]
    lines.append(
        f"| real training images | | {real['fid_test']:.2f} | {real['precision']:.2f} | {real['recall']:.2f} | |"
    )
    return "\n".join(lines)


def encoder_seconds(folder: Path) -> float:
    """How long the autoencoder of a checkpoint was trained, 0 where there is none."""
    path = folder / "autoencoder.json"
    return json.loads(path.read_text())["seconds"] if path.is_file() else 0.0


def parameters(folder: Path) -> int:
    """Number of trained numbers in a checkpoint's U-Net."""
    with safe_open(folder / "unet/diffusion_pytorch_model.safetensors", "pt") as file:
        return sum(prod(file.get_slice(name).get_shape()) for name in file.keys())


def main(arguments: list[str] | None = None) -> int:
    """Parse and print. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.reports.results",
        description="Checkpoints beside each other, at their best and at equal training time.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="checkpoints, measured over time")
    try:
        folders = parser.parse_args(arguments).folders
        compared = at_equal_time(folders)
        print(f"{headlines(folders)}\n\n{compared}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
