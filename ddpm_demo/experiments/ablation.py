"""Measure the effect of each choice, at equal training: ``python -m ddpm_demo.experiments.ablation --data-dir DIR``.

Trains seven small networks, which differ in one choice (train.py), measures each (ddpm_demo.evaluation), prints the
tables, and writes ``ablation.json``. Finished trainings and measurements are not repeated: after Ctrl-C, the
same command goes on. The first four rows are those of the course project "Learning the noise", with its printed FIDs.
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
from ddpm_demo.reports.tables import format_mean

COMMON = (
    "--dataset mnist --cfg --widths 32 64 --layers 1 --batch-size 32 --optimizer adamw --lr 4e-3 --ema-decay 0.998 "
    "--mixed-precision no"
)
RUNS = {  # name -> flags of train.py, and the course project's FID to train and test images
    "linear": ("--schedule linear --no-attention", (2.286, 2.803)),
    "linear-attention": ("--schedule linear", (2.849, 3.490)),
    "cosine": ("--schedule cosine --no-attention", (2.105, 2.724)),
    "cosine-attention": ("--schedule cosine --snapshots", (1.766, 2.385)),
    "continuous": ("--time continuous --no-attention", None),
    "epsilon": ("--prediction epsilon", None),
    "min-snr": ("--loss-weighting min-snr", None),
}
IMAGES = 60000  # training images of MNIST
WEIGHT = 0.0
SDE = ("linear", "continuous")  # the same process in discrete and continuous time, also compared by likelihood
LIKELIHOOD = ("--images", "2000", "--ode-images", "128")
CHOICES = ("schedule", "attention", "prediction", "loss_weighting", "steps", "batch_size", "seconds")
HEADS = [
    "schedule",
    "attention",
    "prediction",
    "weighting",
    "FID to train",
    "FID to test",
    "class accuracy",
    "slides: train / test",
]


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run the experiment. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.experiments.ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="only these (default: all)")
    add_common_flags(parser, epochs=2.0, samples=8192, output="runs/ablation", dataset="mnist")
    options = parser.parse_args(arguments)
    experiment = Experiment(commands, collect_row, tabulate, "ablation.json", {"common": COMMON})
    return run_experiment(experiment, options.runs, options)


def commands(name: str, options: argparse.Namespace) -> list[list[str]]:
    """Return the commands that a row still needs: its training unless it is finished, and its measurements."""
    folder = options.output_dir / name
    schedule = "linear" if name.startswith("linear") or name == "continuous" else "cosine"
    flags = ("--schedule", schedule, "--weight", str(WEIGHT), "--samples", str(options.samples))
    todo = training_command(folder, [*COMMON.split(), *RUNS[name][0].split()], options, IMAGES)
    todo.append(measuring_command("samples", folder, options, *flags, "--classifier", options.classifier))
    if name in SDE and "bits_per_dim" not in read_metrics(folder):
        todo.append(measuring_command("likelihood", folder, options, *LIKELIHOOD))
    return todo


def collect_row(name: str, folder: Path) -> dict:
    """Return a finished row: the settings of its training, and its measured figures."""
    model, metrics = load(folder), read_metrics(folder)
    sampling = Sampling(weight=WEIGHT, schedule=model.training["schedule"])
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    bits = metrics.get("bits_per_dim", {})
    return {
        "name": name,
        "parameters": count_parameters(model.denoiser.net),
        "training": {choice: model.training[choice] for choice in CHOICES},
        "time": model.training.get("time", "discrete"),
        "held_out_loss": log[-1]["validation_loss"],
        "bits_per_dim": {part: bits[part] for part in ("posterior", "continuous", "ode") if part in bits},
        "quality": find(metrics["quality"], sampling),
        "slides": RUNS[name][1],
    }


def tabulate(content: dict) -> str:
    """Tabulate the choices and the comparison with the SDE, as Markdown."""
    return f"{tabulate_choices(content)}\n\n{tabulate_sde(content)}"


def tabulate_choices(content: dict) -> str:
    """Tabulate the choices and the figures of all rows, as Markdown."""
    return write_table(HEADS, [[*describe_choices(row), *format_figures(row)] for row in content["rows"]])


def tabulate_sde(content: dict) -> str:
    """Tabulate the discrete model and the SDE, as in the course project "CHR_Diffusion", as Markdown."""
    heads = [
        "time",
        "held-out loss",
        "minutes",
        "FID to train",
        "FID to test",
        "bits per dimension: bound, 1000 steps",
        "continuous bound",
        "by the ODE",
    ]
    rows = []
    for row in content["rows"]:
        if bits := row["bits_per_dim"]:
            minutes = f"{row['training']['seconds'] / 60:.1f}"
            bounds = [format_mean(bits[part]["total"]) for part in ("posterior", "continuous")]
            rows.append(
                [
                    row["time"],
                    f"{row['held_out_loss']:.4f}",
                    minutes,
                    *format_figures(row)[:2],
                    *bounds,
                    format_mean(bits["ode"]),
                ]
            )
    return write_table(heads, rows)


def describe_choices(row: dict) -> list[str]:
    """Return the choices of a row: schedule, attention, prediction, loss weighting."""
    training, time = row["training"], ", continuous" if row["time"] == "continuous" else ""
    attention = "yes" if training["attention"] else "no"
    return [training["schedule"] + time, attention, training["prediction"], training["loss_weighting"]]


def format_figures(row: dict) -> list[str]:
    """Return the figures of a row: FID to train and test images, class accuracy, and the two FIDs of the slides."""
    cell = row["quality"]
    fid = f"{cell['fid_test']:.3f} ± {cell['spread']['fid_test']:.3f}"
    slides = " / ".join(f"{fid:.3f}" for fid in row["slides"] or ())
    return [f"{cell['fid_train']:.3f}", fid, f"{cell['accuracy']:.2%}", slides]


if __name__ == "__main__":
    sys.exit(main())
