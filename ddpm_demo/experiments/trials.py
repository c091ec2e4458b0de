"""Try what improves the model of photographs, in short trainings: ``python -m ddpm_demo.experiments.trials --data-dir DIR``.

Trains a network on CIFAR-10 for each row of ``TRIALS``. All have the same seed and the same minutes, and differ from the
first in one choice. Each is measured on as many samples, from the same seeds (ddpm_demo.evaluation). The command prints the
table and writes ``trials.json``. Finished trainings and measurements are not repeated: after Ctrl-C, the same command
goes on. Because the budget is time, nothing else may use the core of a training. Two commands with different ``--trials``
can share a machine if each has a core of its own (``OMP_NUM_THREADS=1 taskset -c 0 python -m ...``); the same command
without ``--trials`` then writes the whole table.
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
STANDARD = {
    "widths": "64 128 128",
    "optimizer": "adamw",
    "lr": "1.5e-3",
    "label-dropout": "0.1",
    "ema-decay": "0.998",
    "mixed-precision": "bf16",
}
TRIALS = {  # name -> the flags of train.py in which it differs from STANDARD
    "standard": {},
    "widths-96-160-192": {"widths": "96 160 192"},
    "widths-96-192-192": {"widths": "96 192 192"},
    "muon": {"optimizer": "muon"},
    "muon-lr": {"optimizer": "muon", "lr": "3e-3"},
    "contrastive": {"contrastive": "0.05"},
    "dropout": {"dropout": "0.1"},
    "label-dropout": {"label-dropout": "0.2"},
    "float32": {"mixed-precision": "no"},
}
HEADS = ["trial", "parameters", "images seen", "held-out loss", "FID to test", "precision", "recall", "class accuracy"]
SETTING = Sampling(weight=0.0)


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
    judged = ("--weight", "0", "--samples", str(options.samples), "--classifier", options.classifier)
    return [
        *training_command(folder, [*COMMON.split(), *flags], options),
        measuring_command("samples", folder, options, *judged),
    ]


def collect_row(name: str, folder: Path) -> dict:
    """Return a finished row: the training of the trial, its held-out loss, and its measured figures."""
    model = load(folder)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        "name": name,
        "flags": TRIALS[name],
        "parameters": count_parameters(model.denoiser.net),
        "training": {key: model.training[key] for key in ("steps", "batch_size", "seconds")},
        "held_out_loss": last["validation_loss"],
        "quality": find(read_metrics(folder)["quality"], SETTING),
    }


def tabulate(content: dict) -> str:
    """Tabulate the trials as Markdown."""
    return write_table(HEADS, [format_row(row) for row in content["rows"]])


def format_row(row: dict) -> list[str]:
    """Return the cells of a row, one for each of ``HEADS``."""
    cell, changed = row["quality"], " ".join(f"--{flag} {value}" for flag, value in row["flags"].items())
    return [
        f"`{changed}`" if changed else "standard",
        f"{row['parameters'] / 1e6:.2f} M",
        f"{row['training']['steps'] * row['training']['batch_size']:,}",
        f"{row['held_out_loss']:.4f}",
        f"{cell['fid_test']:.2f} ± {cell['spread']['fid_test']:.2f}",
        f"{cell['precision']:.2f}",
        f"{cell['recall']:.2f}",
        f"{cell['accuracy']:.1%}",
    ]


if __name__ == "__main__":
    sys.exit(main())
