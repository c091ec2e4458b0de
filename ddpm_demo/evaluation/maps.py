"""Which settings are measured: those of the app, and the slices of the setting space that make its maps."""

from collections.abc import Iterator
from itertools import product

import torch

from ddpm_demo.diffusion.samplers import SAMPLERS, VARIANCES
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.models.classifier import FEATURES

APP = {
    "schedule": "cosine",
    "sampler": "dpm++2m",
    "steps": 20,
    "weight": 1.0,
    "variance": "posterior",
    "interval": None,
    "scale": 0.0,
}
FEWEST = 2 * FEATURES  # samples that a covariance of the features can be estimated from
WALKED = [name for name, row in SAMPLERS.items() if "ode_tolerance" not in row.uses]  # which takes steps of its own
# The slices of --map, cheapest first. The many steps of the last two are measured on the fewest samples.
MAP = {
    "schedule by steps": {"weight": [0.0], "schedule": list(SCHEDULES), "steps": [3, 5, 10, 20, 50]},
    "sampler by steps": {"weight": [0.0], "sampler": WALKED, "steps": [3, 5, 10, 20, 50]},
    "weight by interval": {"weight": [0.5, 1.0, 2.0, 4.0], "interval": [None, [-20.0, 0.0], [-3.0, 3.0], [0.0, 20.0]]},
    "weight by sampler": {"weight": [-1.0, 0.0, 1.0, 2.0, 4.0, 8.0], "sampler": WALKED},
    "two kinds of guidance": {"weight": [-1.0, 0.0], "scale": [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]},
    "variance by steps": {
        "weight": [0.0], "sampler": ["ddpm"], "variance": list(VARIANCES), "steps": [5, 10, 20, 50, 200],
    },
    "200 steps": {"weight": [0.0], "sampler": WALKED, "steps": [200]},
    "1000 steps": {"weight": [0.0], "sampler": ["ddpm", "ddim", "dpm++2m"], "steps": [1000]},
}  # fmt: skip


def cells_of(axes: dict) -> list[dict]:
    """Every combination of some settings' values, the others as in the app."""
    return [APP | dict(zip(axes, values)) for values in product(*axes.values())]


def planned(samples: int) -> Iterator[tuple[dict, int]]:
    """(setting, number of samples) of the map, no setting twice; of more than 50 steps, the fewest samples."""
    seen = []
    for axes in MAP.values():
        for setting in cells_of(axes):
            if setting not in seen:
                seen.append(setting)
                yield setting, samples if setting["steps"] <= 50 else min(samples, FEWEST)


def evaluations(setting: dict) -> int:
    """Network evaluations an image takes, about: what the map's progress is counted in."""
    calls = 1 + (setting["steps"] - 1) * SAMPLERS[setting["sampler"]].calls
    return calls if setting["weight"] in (0, -1) else 2 * calls


def as_arguments(setting: dict, seed: int) -> dict:
    """A setting as the keywords of ``sample``."""
    return setting | {"interval": tuple(setting["interval"] or (-torch.inf, torch.inf)), "seed": seed}
