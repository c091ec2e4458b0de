"""Maps of the settings: which settings make them, and their figures as tables."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from ddpm_demo.diffusion.samplers import SAMPLERS, VARIANCES
from ddpm_demo.diffusion.sampling import ALWAYS, Sampling
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.models.classifier import FEATURES
from ddpm_demo.reports.markdown import write_table
from ddpm_demo.reports.results import excess, sampling_of, select, without_idle

BASE = Sampling(weight=1.0)  # the fields that a slice does not vary
FEWEST = 2 * FEATURES  # samples that a covariance of the features can be estimated from
GRID_SAMPLERS = [name for name, row in SAMPLERS.items() if not row.adaptive]
# The slices of the map, cheapest first: the values of the fields that are varied.
SLICES = {
    "schedule by steps": {"weight": [0.0], "schedule": list(SCHEDULES), "steps": [3, 5, 10, 20, 50]},
    "sampler by steps": {"weight": [0.0], "sampler": GRID_SAMPLERS, "steps": [3, 5, 10, 20, 50]},
    "weight by interval": {
        "weight": [0.5, 1.0, 2.0, 4.0],
        "interval": [ALWAYS, (ALWAYS[0], 0.0), (-3.0, 3.0), (0.0, ALWAYS[1])],
    },
    "weight by sampler": {"weight": [-1.0, 0.0, 1.0, 2.0, 4.0, 8.0], "sampler": GRID_SAMPLERS},
    "classifier guidance": {"weight": [-1.0, 0.0], "classifier_scale": [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]},
    "autoguidance": {"weight": [0.0], "autoguidance": [0.5, 1.0, 2.0, 4.0]},
    "variance by steps": {
        "weight": [0.0],
        "sampler": ["ddpm"],
        "variance": list(VARIANCES),
        "steps": [5, 10, 20, 50, 200],
    },
    "200 steps": {"weight": [0.0], "sampler": GRID_SAMPLERS, "steps": [200]},
    "1000 steps": {"weight": [0.0], "sampler": ["ddpm", "ddim", "dpm++2m"], "steps": [1000]},
}
MANY_STEPS = 50  # a setting of more steps is measured on the fewest samples
# The tables of the map that are printed: title, rows, columns, and the fields that are the same in all cells.
TABLES = (
    ("FID, less that of as many real images, w = 0, dpm++2m:", "schedule", "steps", Sampling()),
    ("the same under DDPM's two reverse variances:", "variance", "steps", Sampling(sampler="ddpm")),
)
# Rows of the table of guidance: title, the field that grows, its letter, and the fields that are the same in all cells.
GUIDANCE = (
    ("classifier-free", "weight", "w", BASE),
    ("classifier-free, where the log-SNR is above -2", "weight", "w", replace(BASE, interval=(-2.0, ALWAYS[1]))),
    ("classifier, on the model without label", "classifier_scale", "s", replace(BASE, weight=-1.0)),
    ("classifier, on the model with label", "classifier_scale", "s", replace(BASE, weight=0.0)),
    ("autoguidance, on the model with label", "autoguidance", "s", replace(BASE, weight=0.0)),
)


def combine(axes: dict[str, list], base: Sampling = BASE) -> list[Sampling]:
    """Every combination of the values of some fields; the other fields are those of ``base``."""
    return [replace(base, **dict(zip(axes, values))) for values in product(*axes.values())]


def plan_map(samples: int, seed: int = 0) -> Iterator[tuple[Sampling, int]]:
    """(setting, number of samples) of all cells of the map, each once."""
    base = replace(BASE, seed=seed)
    for sampling in dict.fromkeys(without_idle(one) for axes in SLICES.values() for one in combine(axes, base)):
        yield sampling, samples if sampling.steps <= MANY_STEPS else min(samples, FEWEST)


def tabulate_excess(cells: list[dict], down: str, across: str, same: Sampling) -> str:
    """The FID less that of real images, by two fields, as Markdown; empty if no cell has the other fields of ``same``."""
    found = select(cells, same, down, across)
    rows = list(dict.fromkeys(cell["setting"][down] for cell in found))
    columns = sorted({cell["setting"][across] for cell in found})
    by_place = {
        (cell["setting"][down], cell["setting"][across]): f"{round(excess(cell), 2) + 0.0:.2f}" for cell in found
    }
    heads = [f"{down} \\ {across}", *(f"{column:g}" for column in columns)]
    lines = [[str(row), *(by_place.get((row, column), "") for column in columns)] for row in rows]
    return write_table(heads, lines) if found else ""


def tabulate_guidance(cells: list[dict]) -> str:
    """What each kind of guidance gains and loses as it grows, with standard deviations, as Markdown."""
    rows = []
    for title, axis, letter, same in GUIDANCE:
        found = {getattr(sampling_of(cell), axis): cell for cell in select(cells, same, axis) if "accuracy" in cell}
        if len(found) < 2:
            continue
        for strength, cell in sorted(found.items()):
            rows.append(
                [
                    title,
                    f"{letter} = {strength:g}",
                    f"{cell['setting']['samples']:,}",
                    f"{cell['accuracy']:.1%}" + (f" ± {spread:.1%}" if (spread := cell["spread"]["accuracy"]) else ""),
                    f"{excess(cell):.3f} ± {cell['spread']['fid_test']:.3f}",
                    f"{cell['precision']:.2f}",
                    f"{cell['recall']:.2f}",
                ]
            )
    return write_table(["guidance", "strength", "samples", "class accuracy", "FID", "precision", "recall"], rows)
