"""Compare three ways to give a network its condition, at equal training.

``python -m ddpm_demo.experiments.conditioning --data-dir DIR`` trains three latent diffusion networks on CIFAR-10, which
differ in how the condition enters (train.py --condition), measures each (ddpm_demo.evaluation), prints the table, and
writes ``conditions.json``. Finished trainings and measurements are not repeated: after Ctrl-C, the same
command goes on. The autoencoder must be trained before (train.py --autoencoder).
"""

import argparse
import sys
from pathlib import Path

from ddpm_demo.evaluation.maps import BASE, combine
from ddpm_demo.evaluation.restoration import TASKS
from ddpm_demo.experiments.runner import (
    Experiment,
    add_common_flags,
    measuring_command,
    run_experiment,
    training_command,
)
from ddpm_demo.models.adapters import CONDITIONS
from ddpm_demo.models.checkpoint import load
from ddpm_demo.models.networks import count_parameters
from ddpm_demo.reports.markdown import write_table
from ddpm_demo.reports.results import find, read_metrics

WEIGHTS = (0.0, 1.0)
HEADS = ["condition", "parameters", "FID, w = 0", "w = 1", "class accuracy, w = 0", "w = 1", "completed", "enlarged"]
PLAIN = "none: the mean colour; bicubic interpolation"
IMAGES = 50000  # training images of CIFAR-10


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run the experiment. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.experiments.conditioning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common_flags(parser, epochs=4.0, samples=2048, output="runs/conditions", dataset="cifar10")
    add = parser.add_argument
    add("--latent", default="runs/cifar10", help="folder whose vae/ is the autoencoder (default: %(default)s)")
    add("--restore", type=int, default=512, help="test images to complete and to enlarge (default: %(default)s)")
    add("--mixed-precision", choices=("no", "bf16"), default="no", help="of the trainings (default: %(default)s)")
    experiment = Experiment(commands, collect_row, tabulate, "conditions.json", {})
    return run_experiment(experiment, CONDITIONS, parser.parse_args(arguments))


def commands(condition: str, options: argparse.Namespace) -> list[list[str]]:
    """Return the commands that a condition still needs: its training unless it is finished, and its measurements."""
    folder, judge = options.output_dir / condition, ("--classifier", options.classifier)
    flags = ["--dataset", "cifar10", "--cfg", "--latent", options.latent, "--condition", condition]
    todo = training_command(folder, [*flags, "--mixed-precision", options.mixed_precision], options, IMAGES)
    restored = not todo and "restored" in read_metrics(folder)
    weights = ("--weight", *map(str, WEIGHTS))
    todo.append(measuring_command("samples", folder, options, *judge, *weights, "--samples", str(options.samples)))
    if not restored:
        todo.append(measuring_command("restore", folder, options, *judge, "--images", str(options.restore)))
    return todo


def collect_row(condition: str, folder: Path) -> dict:
    """Return a finished row: the settings of its training, and its measured figures."""
    model, metrics = load(folder), read_metrics(folder)
    return {
        "condition": condition,
        "parameters": count_parameters(model.denoiser.net),
        "training": {name: model.training[name] for name in ("steps", "batch_size", "seconds")},
        "quality": [find(metrics["quality"], sampling) for sampling in combine({"weight": WEIGHTS}, BASE)],
        "restored": metrics["restored"],
    }


def tabulate(content: dict) -> str:
    """Tabulate the rows as Markdown."""
    return write_table(HEADS, list_rows(content))


def list_rows(content: dict) -> list[list[str]]:
    """Return the rows of the table under ``HEADS``: the networks, and the simple methods that need no network."""
    rows = content["rows"]
    plain = [
        next((row["restored"][task]["psnr_plain"] for row in rows if task in row["restored"]), None) for task in TASKS
    ]
    figures = ["" if ratio is None else f"{ratio:.1f} dB" for ratio in plain]
    return [*map(format_row, rows), [PLAIN, *[""] * (len(HEADS) - 1 - len(TASKS)), *figures]]


def format_row(row: dict) -> list[str]:
    """Return the cells of a row, one for each of ``HEADS``."""
    fids = [f"{cell['fid_test']:.2f}" for cell in row["quality"]]
    accuracies = [f"{cell['accuracy']:.1%}" for cell in row["quality"]]
    tasks = [row["restored"].get(task) for task in TASKS]
    ratios = [f"{task['psnr']:.1f} dB ({task['psnr_of_another']:.1f})" if task else "" for task in tasks]
    return [row["condition"], f"{row['parameters'] / 1e6:.2f} M", *fids, *accuracies, *ratios]


if __name__ == "__main__":
    sys.exit(main())
