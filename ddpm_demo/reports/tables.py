"""Measured figures in words: a line for a setting, tables for the model card and the terminal."""

from collections.abc import Callable, Collection
from dataclasses import fields
from math import nan

from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.reports.markdown import write_table
from ddpm_demo.reports.results import sampling_of, without_idle

# Fields that a line does not name as "field = value". All others are named where they are not at their default.
NOT_NAMED = ("sampler", "steps", "schedule", "weight")
BOUNDS = {"posterior": "bound, posterior variance", "beta": "bound, variance beta", "continuous": "continuous bound"}
TERMS = ("L_T", "L_t", "L_0", "total")
LIKELIHOOD_HEADS = ["bits per dimension", *TERMS[:-1], "together"]


def describe_setting(sampling: Sampling, without: Collection[str] = ()) -> str:
    """A setting in a line: the main fields, and every other field that has an effect and is not at its default.

    The line leaves out the fields named in ``without``.
    """
    words = {"sampler": sampling.sampler, "steps": count_steps(sampling.steps), "schedule": sampling.schedule}
    words |= {"weight": f"w = {sampling.weight:g}"}
    words |= {name: f"{name} = {value}" for name, value in find_changed(without_idle(sampling)).items()}
    return ", ".join(text for name, text in words.items() if name not in without)


def count_steps(steps: int) -> str:
    """A number of steps in words."""
    return f"{steps} step" if steps == 1 else f"{steps} steps"


def find_changed(sampling: Sampling) -> dict:
    """The fields of a setting that are not at their default, without the main ones, as JSON has them."""
    values = {field: getattr(sampling, field.name) for field in fields(Sampling) if field.name not in NOT_NAMED}
    changed = {field.name: value for field, value in values.items() if value != field.default}
    return changed | ({"interval": [*changed["interval"]]} if "interval" in changed else {})


def describe_figures(sampling: Sampling, samples: int, cell: dict) -> str:
    """The figures of a setting in a line."""
    accuracy = f"{cell['accuracy']:.2%} classified as requested, " if "accuracy" in cell else ""
    inception = f", Inception FID {cell['inception_fid']:.2f}" if "inception_fid" in cell else ""
    return (
        f"{describe_setting(sampling)}: {accuracy}FID {cell['fid_test']:.3f} to test "
        f"({cell['reference']['fid_test']:.3f} for as many real images), {cell['fid_train']:.3f} to train, "
        f"precision {cell['precision']:.3f}, recall {cell['recall']:.3f}; {samples} samples{inception}"
    )


def tabulate_quality(cells: list[dict]) -> str:
    """The figures of some settings, and those of as many real images as the first has samples."""
    heads = ["sampling", "w", "FID to test", "FID to train", "precision", "recall", "class accuracy"]
    rows = []
    for cell in cells:
        sampling = sampling_of(cell)
        rows.append(
            [
                describe_setting(sampling, without=("weight",)),
                f"{sampling.weight:g}",
                f"{cell['fid_test']:.3f} ± {cell['spread']['fid_test']:.3f}",
                f"{cell['fid_train']:.3f}",
                f"{cell['precision']:.3f}",
                f"{cell['recall']:.3f}",
                f"{cell.get('accuracy', nan):.2%}",
            ]
        )
    fid, precision, recall = (f"{cells[0]['reference'][name]:.3f}" for name in ("fid_test", "precision", "recall"))
    return write_table(heads, [*rows, ["as many real training images", None, fid, None, precision, recall, None]])


def tabulate_calls(teacher: list[dict], student: list[dict], count: Callable[[Sampling], int]) -> str:
    """The figures of a distilled model and of its teacher by network calls for an image, for each weight of the first.

    The distilled model makes one call per step. ``count`` returns those of its teacher.
    """
    heads = ["model", "w", "network calls", "FID to test", "precision", "recall", "class accuracy", "samples"]
    rows = []
    for weight in sorted({cell["setting"]["weight"] for cell in student}):
        for title, cells in (("teacher", teacher), ("distilled", student)):
            mine = [(sampling_of(cell), cell) for cell in cells if cell["setting"]["weight"] == weight]
            counted = [(s.calls if cells is student else count(s), s, cell) for s, cell in mine]
            for calls, sampling, cell in sorted(counted, key=lambda row: row[0]):
                changed = "".join(f", {name} = {value}" for name, value in find_changed(sampling).items())
                steps = count_steps(sampling.steps)
                rows.append(
                    [
                        title if cells is student else f"{title}, {sampling.sampler}, {steps}{changed}",
                        f"{weight:g}",
                        f"{calls}",
                        f"{cell['fid_test']:.3f} ± {cell['spread']['fid_test']:.3f}",
                        f"{cell['precision']:.3f}",
                        f"{cell['recall']:.3f}",
                        f"{cell['accuracy']:.2%}",
                        f"{cell['setting']['samples']:,}",
                    ]
                )
    reference = student[0]["reference"]
    real = [f"{reference[name]:.3f}" for name in ("fid_test", "precision", "recall")]
    return write_table(
        heads, [*rows, ["real training images", None, None, *real, None, f"{student[0]['setting']['samples']:,}"]]
    )


def tabulate_likelihood(bits: dict) -> str:
    """``bits_per_dim`` of ``metrics.json``: the cost of the test images in bits per dimension, by three routes."""
    return write_table(LIKELIHOOD_HEADS, list_likelihood_rows(bits))


def list_likelihood_rows(bits: dict) -> list[list[str | None]]:
    """The rows of the table of likelihood, under ``LIKELIHOOD_HEADS``."""
    rows = [[title, *(format_mean(bits[name][term]) for term in TERMS)] for name, title in BOUNDS.items()]
    if "ode" in bits:
        title = f"probability-flow ODE ({bits['ode']['images']} images)"
        rows.append([title, None, None, None, format_mean(bits["ode"])])
    return rows


def format_mean(figure: dict) -> str:
    """A mean and its standard error."""
    return f"{figure['mean']:.3f} ± {figure['se']:.3f}"
