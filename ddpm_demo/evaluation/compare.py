"""Compares checkpoints: at their best settings, and after equal training time."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from safetensors import safe_open

from ddpm_demo.errors import UserError
from ddpm_demo.files import find_newest
from ddpm_demo.models.weights import WEIGHTS
from ddpm_demo.reports.markdown import write_table
from ddpm_demo.reports.results import encoder_seconds, most_sampled, read_metrics, sampling_of
from ddpm_demo.reports.tables import describe_setting

LAST_STEP = 1.02  # a training may exceed its budget by up to one step


def compare_best(folders: Sequence[Path]) -> str:
    """Tabulate the settings that were measured on the most samples, and as many real images, as Markdown.

    Raises UserError if the model in a folder was not measured.
    """
    rows, real = [], {}
    for folder in folders:
        cells = most_sampled(read_metrics(folder))
        if not cells:
            raise UserError(
                f"the model in {folder} was not measured: python -m ddpm_demo.evaluation samples --checkpoint {folder}"
            )
        real[cells[0]["setting"]["samples"]] = cells[0]["reference"]
        for cell in sorted(cells, key=lambda cell: cell["setting"]["weight"]):
            fid = f"{cell['fid_test']:.2f} ± {cell['spread']['fid_test']:.2f}"
            setting = describe_setting(sampling_of(cell), without=("weight",))
            weight, accuracy = f"{cell['setting']['weight']:g}", f"{cell['accuracy']:.1%}"
            rows.append(
                [
                    f"`{folder.name}`",
                    setting,
                    weight,
                    fid,
                    f"{cell['precision']:.2f}",
                    f"{cell['recall']:.2f}",
                    accuracy,
                ]
            )
    for samples, figures in real.items():
        count = f"{samples:,} " if len(real) > 1 else ""
        three = (f"{figures[name]:.2f}" for name in ("fid_test", "precision", "recall"))
        rows.append([f"{count}real training images", None, None, *three, None])
    return write_table(["checkpoint", "setting", "w", "FID to test", "precision", "recall", "class accuracy"], rows)


def compare_at_equal_time(folders: Sequence[Path]) -> str:
    """Tabulate the checkpoints after the training time of the shortest, as Markdown. The time of an autoencoder counts.

    Raises UserError if a checkpoint was not measured over time, or not within the training time of the shortest.
    """
    for folder in folders:
        if not read_metrics(folder).get("over_time"):
            raise UserError(f"{folder} was not measured over time: python -m ddpm_demo.evaluation over-time")
    limit = LAST_STEP * min(max(training_seconds(folder)) for folder in folders)
    heads = [
        "diffused",
        "parameters",
        "minutes of training",
        "images seen",
        "FID to test",
        "class accuracy",
    ]
    return write_table(heads, [describe_at(folder, limit) for folder in folders])


def training_seconds(folder: Path) -> list[float]:
    """Return the training time of each measured snapshot in seconds, including that of the autoencoder."""
    before = encoder_seconds(folder)
    return [row["training"]["seconds"] + before for row in read_metrics(folder)["over_time"]]


def describe_at(folder: Path, limit: float) -> list[str]:
    """Return the last snapshot of a checkpoint before a time limit in seconds, as cells of the table."""
    metrics, before = read_metrics(folder), encoder_seconds(folder)
    reached = [pair for pair in zip(training_seconds(folder), metrics["over_time"]) if pair[0] <= limit]
    if not reached:
        raise UserError(
            f"{folder} was not measured within {limit / 60:.0f} minutes of training, the time of the shortest: train with "
            "--snapshots, then  python -m ddpm_demo.evaluation over-time"
        )
    seconds, row = reached[-1]
    training = row["training"]
    return [
        "latents" if before else "pixels",
        f"{count_unet_parameters(folder) / 1e6:.2f} M",
        f"{seconds / 60:.0f}" + (f" ({before / 60:.0f} of them the autoencoder)" if before else ""),
        f"{training['steps'] * training['batch_size']:,}",
        f"{row['fid_test']:.2f} ± {row['spread']['fid_test']:.2f}",
        f"{row['accuracy']:.1%}",
    ]


def count_unet_parameters(folder: Path) -> int:
    """Return the number of parameters of a checkpoint's U-Net, without loading it."""
    with safe_open(find_newest(folder, "unet") / WEIGHTS, "pt") as file:
        return sum(prod(file.get_slice(name).get_shape()) for name in file.keys())
