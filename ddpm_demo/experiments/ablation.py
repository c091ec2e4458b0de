"""What each choice is worth, at equal training: ``python -m ddpm_demo.experiments.ablation --data-dir DIR``.

Trains a small network seven times, alike but for one choice (train.py), measures each (ddpm_demo.evaluation), prints the
tables, and writes ``ablation.json``. What is trained or measured already is not done again: Ctrl-C, and the same command
goes on. The first four rows are those of the course project "Learning the noise", with its printed FIDs beside ours.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from ddpm_demo.files import write_atomically
from ddpm_demo.models.networks import count_parameters
from ddpm_demo.reports.results import Metrics, find, read_metrics

COMMON = "--dataset mnist --cfg --widths 32 64 --layers 1 --batch-size 32 --lr 4e-3 --ema-decay 0.998"
RUNS = {  # name -> flags of train.py, and the course project's FID to train and test images
    "linear": ("--schedule linear --no-attention", (2.286, 2.803)),
    "linear-attention": ("--schedule linear", (2.849, 3.490)),
    "cosine": ("--schedule cosine --no-attention", (2.105, 2.724)),
    "cosine-attention": ("--schedule cosine --snapshots", (1.766, 2.385)),
    "continuous": ("--time continuous --no-attention", None),
    "epsilon": ("--prediction epsilon", None),
    "min-snr": ("--loss-weighting min-snr", None),
}
WEIGHT = 0.0
SDE = ("linear", "continuous")  # the same process in steps and without: compared by likelihood, too
LIKELIHOOD = ["--bits-per-dim", "2000", "--ode-images", "128"]


def main(arguments: list[str] | None = None) -> int:
    """Parse, train, measure, print, write. Returns the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.experiments.ablation", description=__doc__, formatter_class=formatter
    )
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="only these (default: all)")
    parser.add_argument("--epochs", type=float, default=2.0, help="of each training (default: %(default)g)")
    parser.add_argument("--samples", type=int, default=8192, help="images a measurement (default: %(default)s)")
    parser.add_argument("--data-dir", default="data", help="where MNIST is (default: %(default)s)")
    parser.add_argument("--output-dir", type=Path, default="runs/ablation", help="(default: %(default)s)")
    parser.add_argument("--classifier", default="checkpoints/mnist", help="the judge's folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    for name in options.runs:
        for command in commands(name, options):
            print("$ " + " ".join(command[1:]), flush=True)
            finished = subprocess.run(command).returncode
            if finished:
                return finished
    rows = [row(name, options.output_dir / name) for name in options.runs]
    told = {"epochs": options.epochs, "common": COMMON, "rows": rows}
    write_atomically(options.output_dir / "ablation.json", (json.dumps(told, indent=1) + "\n").encode())
    print(f"{table(told)}\n\n{sde_table(told)}")
    return 0


def commands(name: str, options: argparse.Namespace) -> list[list[str]]:
    """What is still to be run for a row: its training unless it is finished, and its measurement."""
    folder, data = options.output_dir / name, ["--data-dir", options.data_dir]
    schedule = "linear" if name.startswith("linear") or name == "continuous" else "cosine"
    todo = []
    if not (folder / "demo.json").is_file() or unfinished(folder, options.epochs):
        if any((folder / "state").glob("step-*.safetensors")):
            todo.append(["train.py", "--resume"])
        else:
            todo.append(["train.py", *COMMON.split(), *RUNS[name][0].split(), "--epochs", f"{options.epochs:g}"])
        todo[0] += ["--output-dir", str(folder), *data]
    measured = ["-m", "ddpm_demo.evaluation", "--checkpoint", str(folder), "--schedule", schedule]
    measured += ["--weight", str(WEIGHT), "--samples", str(options.samples), "--classifier", options.classifier]
    todo.append(measured + data)
    if name in SDE and "bits_per_dim" not in read_metrics(folder):
        todo.append(["-m", "ddpm_demo.evaluation", "--checkpoint", str(folder), *LIKELIHOOD, *data])
    return [[sys.executable, *command] for command in todo]


def unfinished(folder: Path, epochs: float, images: int = 60000) -> bool:
    """Whether the last training of a folder was interrupted before its budget."""
    told = json.loads((folder / "demo.json").read_text())["training"]
    return told["epochs"] != epochs or told["steps"] < round(epochs * (images // told["batch_size"]))


def row(name: str, folder: Path) -> dict:
    """A finished row: how it was trained, and its measured cell."""
    from ddpm_demo.models.checkpoint import load

    model, metrics = load(folder), Metrics(folder).told
    setting = {"weight": WEIGHT, "schedule": model.training["schedule"], "steps": 20}
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    bits = metrics.get("bits_per_dim", {})
    return {
        "name": name,
        "parameters": count_parameters(model.denoiser.net),
        "training": {k: model.training[k] for k in (
            "schedule", "attention", "prediction", "loss_weighting", "steps", "batch_size", "seconds")},
        "time": model.training.get("time", "discrete"),
        "held_out_loss": log[-1]["validation_loss"],
        "bits_per_dim": {part: bits[part] for part in ("continuous", "ode") if part in bits},
        "quality": find(metrics["quality"], setting),
        "slides": RUNS[name][1],
    }  # fmt: skip


def table(told: dict) -> str:
    """The rows as Markdown."""
    lines = [
        "| schedule | attention | prediction | weighting | FID to train | FID to test | read as asked | slides: train / test |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in told["rows"]:
        cells = [*choices(row), *figures(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sde_table(told: dict) -> str:
    """The basic model beside the SDE, as the course project "CHR_Diffusion" compares them, as Markdown."""
    lines = [
        "| time | held-out loss | minutes | FID to train | FID to test | bits per dimension: bound | by the ODE |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in told["rows"]:
        if row["bits_per_dim"]:
            bound, flow = row["bits_per_dim"]["continuous"]["total"], row["bits_per_dim"]["ode"]
            bits = [f"{figure['mean']:.3f} ± {figure['se']:.3f}" for figure in (bound, flow)]
            cells = [
                row["time"],
                f"{row['held_out_loss']:.4f}",
                f"{row['training']['seconds'] / 60:.1f}",
                *figures(row)[:2],
            ]
            lines.append("| " + " | ".join([*cells, *bits]) + " |")
    return "\n".join(lines)


def choices(row: dict) -> list[str]:
    """What was chosen, in words."""
    training, endless = row["training"], ", continuous" if row["time"] == "continuous" else ""
    attention = "yes" if training["attention"] else "no"
    return [training["schedule"] + endless, attention, training["prediction"], training["loss_weighting"]]


def figures(row: dict) -> list[str]:
    """FID to train and test images, class accuracy, and the slides' two FIDs."""
    cell = row["quality"]
    slides = " / ".join(f"{fid:.3f}" for fid in row["slides"] or ())
    spread = f" ± {cell['spread']['fid_test']:.3f}"
    return [f"{cell['fid_train']:.3f}", f"{cell['fid_test']:.3f}{spread}", f"{cell['accuracy']:.2%}", slides]


if __name__ == "__main__":
    sys.exit(main())
