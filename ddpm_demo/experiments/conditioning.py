"""Three ways to tell a network what is wanted, at equal training: ``python -m ddpm_demo.experiments.conditioning --data-dir DIR``.

Trains three latent diffusion networks on CIFAR-10, alike but for how the condition enters (train.py --condition), measures
each (ddpm_demo.evaluation), prints the table, and writes ``conditions.json``. What is trained or measured already is not
done again: Ctrl-C, and the same command goes on. The autoencoder must be there (train.py --autoencoder).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from ddpm_demo.evaluation.maps import APP
from ddpm_demo.experiments.ablation import unfinished
from ddpm_demo.files import write_atomically
from ddpm_demo.models.adapters import CONDITIONS
from ddpm_demo.models.networks import count_parameters
from ddpm_demo.reports.results import Metrics, find, read_metrics

WEIGHTS = (0.0, 1.0)
HEADS = ["condition", "parameters", "FID, w = 0", "w = 1", "read as asked, w = 0", "w = 1", "completed", "enlarged"]
IMAGES = 50000  # to train on, of CIFAR-10


def main(arguments: list[str] | None = None) -> int:
    """Parse, train, measure, print, write. Returns the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.experiments.conditioning", description=__doc__, formatter_class=formatter
    )
    add = parser.add_argument
    add("--latent", default="runs/cifar10", help="folder whose vae/ is the autoencoder (default: %(default)s)")
    add("--epochs", type=float, default=4.0, help="of each training (default: %(default)g)")
    add("--samples", type=int, default=2048, help="images a measurement (default: %(default)s)")
    add("--restore", type=int, default=512, help="test images to complete and to enlarge (default: %(default)s)")
    add("--data-dir", default="data", help="where CIFAR-10 is (default: %(default)s)")
    add("--output-dir", type=Path, default=Path("runs/conditions"), help="(default: %(default)s)")
    add("--classifier", default="checkpoints/cifar10", help="the judge's folder (default: %(default)s)")
    add("--mixed-precision", choices=("no", "bf16"), default="no", help="of the trainings (default: %(default)s)")
    options = parser.parse_args(arguments)
    for condition in CONDITIONS:
        for command in commands(condition, options):
            print("$ " + " ".join(command[1:]), flush=True)
            if finished := subprocess.run(command).returncode:
                return finished
    told = {
        "epochs": options.epochs,
        "rows": [row(condition, options.output_dir / condition) for condition in CONDITIONS],
    }
    write_atomically(options.output_dir / "conditions.json", (json.dumps(told, indent=1) + "\n").encode())
    print(table(told))
    return 0


def commands(condition: str, options: argparse.Namespace) -> list[list[str]]:
    """What is still to be run for a condition: its training unless it is finished, and its measurements."""
    folder, data = options.output_dir / condition, ["--data-dir", options.data_dir]
    todo = []
    if not (folder / "demo.json").is_file() or unfinished(folder, options.epochs, IMAGES):
        if any((folder / "state").glob("step-*.safetensors")):
            todo.append(["train.py", "--resume"])
        else:
            todo.append(
                ["train.py", "--dataset", "cifar10", "--cfg", "--latent", options.latent, "--condition", condition]
            )
            todo[0] += ["--epochs", f"{options.epochs:g}", "--mixed-precision", options.mixed_precision]
        todo[0] += ["--output-dir", str(folder), *data]
    measure = ["-m", "ddpm_demo.evaluation", "--checkpoint", str(folder), "--classifier", options.classifier, *data]
    todo.append([*measure, "--weight", *map(str, WEIGHTS), "--samples", str(options.samples)])
    if todo[1:] or "restored" not in read_metrics(folder):
        todo.append([*measure, "--restore", str(options.restore)])
    return [[sys.executable, *command] for command in todo]


def row(condition: str, folder: Path) -> dict:
    """A finished row: how it was trained, and what was measured."""
    from ddpm_demo.models.checkpoint import load

    model, metrics = load(folder), Metrics(folder).told
    training = {name: model.training[name] for name in ("steps", "batch_size", "seconds")}
    quality = [find(metrics["quality"], APP | {"weight": weight}) for weight in WEIGHTS]
    about = {"condition": condition, "parameters": count_parameters(model.denoiser.net), "training": training}
    return about | {"quality": quality, "restored": metrics["restored"]}


def table(told: dict) -> str:
    """The rows as Markdown."""
    lines = [HEADS, ["---"] * len(HEADS), *map(cells, told["rows"])]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cells(row: dict) -> list[str]:
    """A row in words, as under ``HEADS``."""
    fids = [f"{cell['fid_test']:.2f}" for cell in row["quality"]]
    read = [f"{cell['accuracy']:.1%}" for cell in row["quality"]]
    found = [row["restored"].get(task) for task in ("complete", "enlarge")]
    near = [f"{one['psnr']:.1f} dB ({one['psnr_of_another']:.1f})" if one else "" for one in found]
    return [row["condition"], f"{row['parameters'] / 1e6:.2f} M", *fids, *read, *near]


if __name__ == "__main__":
    sys.exit(main())
