"""The common parts of experiments that train and measure several networks, which differ in one choice.

Finished trainings and measurements are not repeated: after Ctrl-C, the same command goes on.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddpm_demo.files import SHIPPED, write_atomically


@dataclass(frozen=True)
class Experiment:
    """A command that makes several trainings and their measurements."""

    commands: Callable[[str, argparse.Namespace], list[list[str]]]  # the commands that a name still needs
    collect: Callable[[str, Path], dict]  # returns the row of a finished name, from its folder
    tabulate: Callable[[dict], str]  # formats the content of the file for printing
    file: str  # in the output folder
    notes: dict  # further content of the file, beside the budget and the rows


def add_common_flags(
    parser: argparse.ArgumentParser, *, samples: int, output: str, dataset: str, **budget: float
) -> None:
    """Add the flags of every experiment, with their defaults. ``budget`` is that of a training: epochs or minutes."""
    add = parser.add_argument
    [(unit, amount)] = budget.items()
    add(f"--{unit}", type=float, default=amount, help=f"{unit} of each training (default: %(default)g)")
    add("--samples", type=int, default=samples, help="images for each setting (default: %(default)s)")
    add("--data-dir", default="data", help="folder of the dataset (default: %(default)s)")
    add("--output-dir", type=Path, default=Path(output), help="folder of the trainings (default: %(default)s)")
    add(
        "--classifier",
        default=str(SHIPPED / dataset),
        help=f"folder of the judge (default: the shipped checkpoints/{dataset})",
    )


def run_experiment(experiment: Experiment, names: Iterable[str], options: argparse.Namespace) -> int:
    """Run what is not finished, write the file, and print the tables. Returns the exit status."""
    try:
        for name in names:
            for command in experiment.commands(name, options):
                print("$ " + " ".join(command[1:]), flush=True)
                if status := subprocess.run(command).returncode:
                    return status
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    rows = [experiment.collect(name, options.output_dir / name) for name in names]
    content = {**read_budget(options), **experiment.notes, "rows": rows}
    write_atomically(options.output_dir / experiment.file, (json.dumps(content, indent=1) + "\n").encode())
    print(experiment.tabulate(content))
    return 0


def read_budget(options: argparse.Namespace) -> dict[str, float]:
    """Return the budget of each training: its unit, epochs or minutes, and the amount."""
    return {unit: getattr(options, unit) for unit in ("epochs", "minutes") if unit in options}


def training_command(
    folder: Path, flags: Sequence[str], options: argparse.Namespace, images: int = 0
) -> list[list[str]]:
    """Return the command that begins or resumes a training on so many ``images``, or no command if it is finished.

    ``images`` is needed for a budget in epochs. A training that ended with another budget begins anew, because
    its learning rate has decayed already.
    """
    [(unit, amount)] = read_budget(options).items()
    begun = any((folder / "state").glob("step-*.safetensors"))
    how = ["--resume"] if begun else [*flags, f"--{unit}", f"{amount:g}"]
    if (folder / "demo.json").is_file():
        training = json.loads((folder / "demo.json").read_text())["training"]
        if training[unit] != amount:
            how = [*flags, f"--{unit}", f"{amount:g}", "--overwrite"]
        elif is_finished(training, images):
            return []
    return [[sys.executable, "train.py", *how, "--output-dir", str(folder), "--data-dir", options.data_dir]]


def is_finished(training: dict, images: int) -> bool:
    """Return whether a training, as demo.json holds it, used its budget: minutes, or epochs of so many ``images``."""
    if training["minutes"]:
        return training["seconds"] >= 60 * training["minutes"]
    return training["steps"] >= round(training["epochs"] * (images // training["batch_size"]))


def measuring_command(subcommand: str, folder: Path, options: argparse.Namespace, *flags: str) -> list[str]:
    """Return a command that measures a folder by ``ddpm_demo.evaluation``."""
    where = ["--checkpoint", str(folder), "--data-dir", options.data_dir]
    return [sys.executable, "-m", "ddpm_demo.evaluation", subcommand, *where, *flags]
