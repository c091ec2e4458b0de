"""Measures how samples improve in training: all snapshots of ``train.py --snapshots``, at one setting."""

from accelerate import PartialState

from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation.judge import Judge
from ddpm_demo.evaluation.samples import draw, plan_bar
from ddpm_demo.models.checkpoint import Model, load
from ddpm_demo.reports.results import Metrics, agree, sampling_of
from ddpm_demo.reports.tables import describe_figures


def load_snapshots(metrics: Metrics) -> list[Model]:
    """Load the snapshots of a checkpoint's training, oldest first. Raises UserError if there are none."""
    folder = metrics.path.parent / "snapshots"
    models = [load(path.parent, PartialState().device) for path in sorted(folder.glob("step-*/demo.json"))]
    if not models:
        raise UserError(f"{folder} contains no snapshots: train with  python train.py --snapshots ...")
    return models


def measure_snapshots(judge: Judge, metrics: Metrics, sampling: Sampling, count: int, again: bool = False) -> None:
    """Measure each snapshot that is not in ``metrics.json``, or all with ``again``, and write the file after each."""
    models = load_snapshots(metrics)
    done = [] if again else [row["training"]["steps"] for row in rows_of(metrics.content, sampling, count)]
    missing = [model for model in models if add_up(model, "steps") not in done]
    with plan_bar(models[0], [(sampling, count)] * len(missing)) as bar:
        for model in missing:
            samples, labels = draw(model.trace(), judge, sampling, count, bar)
            if not PartialState().is_main_process:
                continue
            training = {"steps": add_up(model, "steps"), "seconds": add_up(model, "seconds")}
            training |= {"batch_size": model.training["batch_size"]}
            cell = judge.measure(samples, labels)
            row = {"training": training} | metrics.describe(sampling, count) | cell
            with metrics.change() as content:  # another process may have measured other snapshots meanwhile
                others = [
                    one for one in rows_of(content, sampling, count) if one["training"]["steps"] != training["steps"]
                ]
                content["over_time"] = sorted([*others, row], key=lambda one: one["training"]["steps"])
            bar.write(f"after {training['seconds'] / 60:.1f} minutes: {describe_figures(sampling, count, cell)}")


def add_up(model: Model, name: str) -> float:
    """Return the sum of a number of each training of the model, such as its seconds."""
    return sum(training[name] for training in model.trainings)


def rows_of(content: dict, sampling: Sampling, count: int) -> list[dict]:
    """Return the snapshots in the content of ``metrics.json`` that were measured at a setting, on so many samples."""
    rows = content.get("over_time", [])
    return [row for row in rows if row["setting"]["samples"] == count and agree(sampling_of(row), sampling)]
