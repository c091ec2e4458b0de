"""Try what improves the model of photographs, in short trainings: ``python -m ddpm_demo.experiments.trials --data-dir DIR``.

Trains a network on CIFAR-10 for each row of ``TRIALS``. All have the same seed and the same minutes, and differ from the
first in one choice. Each is measured on the same samples (ddpm_demo.evaluation). The command prints the table and writes
``trials.json``. Finished trainings and measurements are not repeated: after Ctrl-C, the same command goes on. Leave the
machine alone meanwhile, since the budget is time. A training is faster on one core of its own than on two that it shares:
``OMP_NUM_THREADS=1 taskset -c 0 python -m ...``.
"""

import argparse
import json
import sys
from pathlib import Path

from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.experiments.runner import (
    Experiment,
    add_common_flags,
    measuring_command,
    run_experiment,
    training_command,
)
from ddpm_demo.models.checkpoint import load
from ddpm_demo.models.networks import count_parameters
from ddpm_demo.reports.markdown import write_table
from ddpm_demo.reports.results import find, read_metrics

COMMON = "--dataset cifar10 --cfg --batch-size 64 --sample-every 100000"
AVERAGES = 0.998, 0.99  # the first is that of every trial, the other is kept beside it in the first
STANDARD = {
    "widths": "64 128 128",
    "optimizer": "adamw",
    "lr": "1.5e-3",
    "label-dropout": "0.1",
    "ema-decay": str(AVERAGES[0]),
    "mixed-precision": "bf16",
}
TRIALS = {  # name -> the flags of train.py in which it differs from STANDARD
    "standard": {"ema-decay": " ".join(map(str, AVERAGES))},
    "widths-96-160-192": {"widths": "96 160 192"},
    "widths-96-192-192": {"widths": "96 192 192"},
    "muon": {"optimizer": "muon"},
    "contrastive": {"contrastive": "0.05"},
    "dropout": {"dropout": "0.1"},
    "label-dropout": {"label-dropout": "0.2"},
    "float32": {"mixed-precision": "no"},
}
IMAGES = 50000  # training images of CIFAR-10
HEADS = ["trial", "parameters", "images seen", "held-out loss", "FID to test", "precision", "recall", "read as asked"]


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run the trials. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.experiments.trials",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=list(TRIALS), help="only these (default: all)")
    add_common_flags(parser, minutes=10.0, samples=2048, output="runs/trials", dataset="cifar10")
    options = parser.parse_args(arguments)
    experiment = Experiment(commands, collect_row, tabulate, "trials.json", {"common": COMMON, "standard": STANDARD})
    return run_experiment(experiment, options.trials, options)


def commands(name: str, options: argparse.Namespace) -> list[list[str]]:
    """Return the commands that a trial still needs: its training unless it is finished, and its measurements."""
    folder = options.output_dir / name
    flags = [word for flag, value in (STANDARD | TRIALS[name]).items() for word in (f"--{flag}", *value.split())]
    todo = training_command(folder, [*COMMON.split(), *flags], options, IMAGES)
    judged = ("--weight", "0", "--samples", str(options.samples), "--classifier", options.classifier)
    averages = list_averages(name, folder).values()
    return [*todo, *(measuring_command("samples", average, options, *judged) for average in averages)]


def list_averages(name: str, folder: Path) -> dict[float, Path]:
    """Return the moving averages of the weights that a trial keeps, by decay, and the folder of each."""
    first, *others = map(float, (STANDARD | TRIALS[name])["ema-decay"].split())
    return {first: folder, **{decay: folder / "averages" / f"{decay:g}" for decay in others}}


def collect_row(name: str, folder: Path) -> dict:
    """Return a finished row: the training of the trial, its held-out loss, and the figures of each moving average."""
    model, sampling = load(folder), Sampling(weight=0.0)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    qualities = {
        decay: find(read_metrics(path)["quality"], sampling) for decay, path in list_averages(name, folder).items()
    }
    return {
        "name": name,
        "flags": TRIALS[name],
        "parameters": count_parameters(model.denoiser.net),
        "training": {key: model.training[key] for key in ("steps", "batch_size", "seconds")},
        "held_out_loss": last["validation_loss"],
        "averages": [{"decay": decay, **quality} for decay, quality in qualities.items()],
    }


def tabulate(content: dict) -> str:
    """Tabulate the trials as Markdown, a row for each moving average."""
    return write_table(HEADS, [line for row in content["rows"] for line in list_lines(row)])


def list_lines(row: dict) -> list[list[str]]:
    """Return the lines of a trial: that of the weights that are kept, and one for each further moving average."""
    seen = row["training"]["steps"] * row["training"]["batch_size"]
    changed = {} if len(row["averages"]) > 1 else row["flags"]
    words = "`" + " ".join(f"--{flag} {value}" for flag, value in changed.items()) + "`" if changed else "standard"
    about = [words, f"{row['parameters'] / 1e6:.2f} M", f"{seen:,}", f"{row['held_out_loss']:.4f}"]
    kept, *others = row["averages"]
    lines = [[*about, *format_figures(kept)]]
    return lines + [[f"`--ema-decay {one['decay']:g}`", *[""] * 3, *format_figures(one)] for one in others]


def format_figures(cell: dict) -> list[str]:
    """Return the figures of one measured setting: FID to the test images, precision, recall, class accuracy."""
    fid = f"{cell['fid_test']:.2f} ± {cell['spread']['fid_test']:.2f}"
    return [fid, f"{cell['precision']:.2f}", f"{cell['recall']:.2f}", f"{cell['accuracy']:.1%}"]


if __name__ == "__main__":
    sys.exit(main())
