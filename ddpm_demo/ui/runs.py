"""What a user may choose about a run: the controls, and their values checked again."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import gradio as gr

from ddpm_demo.diffusion.samplers import SAMPLERS, VARIANCES, Step
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.errors import UserError
from ddpm_demo.generation.generate import log_snr_grid, one_of, sample, whole
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.ui.catalogue import Catalogue, in_words

ALL = "all"
MAX_COUNT = 8
LAST = 999  # timestep
ALWAYS = 20.0  # an interval from -20 to 20 holds every log-SNR there is
# In the order of the controls, of the API's parameters, and of a link's query.
DEFAULTS = {
    "class_label": ALL,
    "weight": 1.0,
    "schedule": "cosine",
    "sampler": "dpm++2m",
    "steps": 20,
    "seed": 0,
    "count": 1,
    "variance": "posterior",
    "interval_from": -ALWAYS,
    "interval_to": ALWAYS,
    "scale": 0.0,
    "snr": 0.16,
    "tolerance": 1e-3,
    "checkpoint": "",
}
PRESETS = {
    "Balanced: 20 steps": {"sampler": "dpm++2m", "schedule": "cosine", "steps": 20},
    "Fast: 8 steps": {"sampler": "dpm++2m", "schedule": "cosine", "steps": 8},
    "As in the DDPM paper: 1000 noisy steps": {"sampler": "ddpm", "schedule": "linear", "steps": 1000},
    "As in the DDIM paper: 50 steps, no noise": {"sampler": "ddim", "schedule": "linear", "steps": 50},
    "The SDE, by Euler-Maruyama: 200 steps": {"sampler": "euler-maruyama", "schedule": "linear", "steps": 200},
    "Strong guidance: w = 4": {"weight": 4.0},
    "No class at all: w = -1": {"weight": -1.0},
}


@dataclass(frozen=True)
class Run:
    """A run that was asked for: valid, complete, and ready to walk."""

    catalogue: Catalogue
    labels: list[int] | None
    used: dict  # the settings in full, as in DEFAULTS
    options: dict  # the same, as keywords of ``sample``

    @property
    def model(self) -> Model:
        """The checkpoint that draws it."""
        return self.catalogue.model(self.used["checkpoint"])

    @property
    def images(self) -> int:
        """How many it draws."""
        return len(self.labels) if self.labels else self.used["count"]

    @property
    def curve(self) -> list[float]:
        """The log-SNR of every step."""
        grid = log_snr_grid(self.model, self.used["schedule"], self.used["steps"], self.options.get("start"))
        return grid.tolist()

    def walk(self) -> Iterator[Step]:
        """The steps, each computed while nobody else computes."""
        count = None if self.labels else self.images
        return self.catalogue.compute(sample, self.used["checkpoint"], self.labels, count=count, **self.options)


@in_words()
def prepare(catalogue: Catalogue, settings: dict, **more) -> Run:
    """The run for what came from a user, with what is missing from the defaults; gr.Error for anything wrong.

    ``more`` goes to ``sample`` as it is: an image to begin from, and so on.
    """
    used = DEFAULTS | settings
    used["checkpoint"] = used["checkpoint"] or catalogue.names[0]
    model = catalogue.model(used["checkpoint"])
    names = model.class_names
    for name in ("steps", "seed", "count"):
        used[name] = as_int(name, used[name])
    for name in ("interval_from", "interval_to", "scale", "snr", "tolerance"):
        used[name] = as_number(name, used[name])
    whole("count", used["count"], 1, MAX_COUNT)
    chosen = used["class_label"]
    one_of("class_label", chosen, (*names, ALL))
    classes = range(len(names)) if chosen == ALL else [names.index(chosen)]
    if not model.label_names:
        used["weight"] = 0.0
    if not model.noisy_classifier:
        used["scale"] = 0.0
    if not model.label_names and not used["scale"]:
        classes = []
    low, high = (used[f"interval_{end}"] for end in ("from", "to"))
    interval = (low if low > -ALWAYS else -inf, high if high < ALWAYS else inf)
    options = {
        name: used[name]
        for name in ("weight", "schedule", "sampler", "steps", "seed", "variance", "scale", "snr", "tolerance")
    }
    run = Run(
        catalogue,
        [label for label in classes for _ in range(used["count"])] or None,
        used,
        options | {"interval": interval} | more,
    )
    sample(
        model, run.labels, count=None if run.labels else run.images, **run.options
    )  # checks all, and computes nothing
    return run


def as_int(name: str, value) -> int:
    """3.0 as 3, since JSON and sliders know no integers; UserError for 3.7, text or nothing."""
    if not as_number(name, value, "a whole number").is_integer():
        raise UserError(f"{name} is {value!r}; it must be a whole number")
    return int(value)


def as_number(name: str, value, kind: str = "a finite number") -> float:
    """The value as a float; UserError for text, nothing, a boolean, NaN or infinity."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -inf < value < inf:
        raise UserError(f"{name} is {value!r}; it must be {kind}")
    return float(value)


def timestep(t) -> int:
    """A valid timestep; UserError for anything else."""
    whole("t", t := as_int("t", t), 0, LAST)
    return t


def seed_of(seed) -> int:
    """A valid seed; UserError for anything else."""
    whole("seed", seed := as_int("seed", seed), 0, 2**32 - 1)
    return seed


def columns_for(images: int) -> int:
    """Images a row: as square as whole rows allow."""
    return next(columns for columns in range(1, images + 1) if columns**2 >= images and images % columns == 0)


def class_choices(model: Model) -> list:
    """What a class picker offers for a model."""
    names = model.class_names
    return [*names, (f"all {len(names)}", ALL)] if names else [("any", ALL)]


def controls() -> dict[str, gr.components.Component]:
    """The controls below the class picker and the weight, by the name of their setting; call it where they belong."""
    made: dict[str, gr.components.Component] = {}
    made["steps"] = gr.Slider(1, 1000, DEFAULTS["steps"], step=1, label="Steps", info="how often the network is asked")
    made["sampler"] = gr.Dropdown(
        [(row.title, name) for name, row in SAMPLERS.items()],
        value=DEFAULTS["sampler"],
        label="Sampler",
        info="how each step is taken",
    )
    made["schedule"] = gr.Radio(
        list(SCHEDULES), value=DEFAULTS["schedule"], label="Noise schedule", info="where the steps are spent"
    )
    with gr.Row():
        made["seed"] = gr.Number(
            DEFAULTS["seed"], precision=0, minimum=0, maximum=2**31, label="Seed", info="the noise", min_width=110
        )
        made["count"] = gr.Slider(
            1, MAX_COUNT, DEFAULTS["count"], step=1, label="Images", info="of each class", min_width=150
        )
    with gr.Accordion("More: guidance interval, reverse variance, corrector, tolerance", open=False):
        made["interval_from"] = gr.Slider(
            -ALWAYS, ALWAYS, -ALWAYS, step=0.5, label="Guide from log-SNR", info="noisier than this, no guidance"
        )
        made["interval_to"] = gr.Slider(
            -ALWAYS, ALWAYS, ALWAYS, step=0.5, label="... to log-SNR", info="cleaner than this, no guidance"
        )
        made["variance"] = gr.Radio(
            [("posterior β̃ₜ", VARIANCES[0]), ("forward βₜ", VARIANCES[1])],
            value=VARIANCES[0],
            label="Reverse variance of DDPM",
            info="both choices of Ho et al. 2020, section 3.2",
        )
        made["snr"] = gr.Slider(
            0, 1, DEFAULTS["snr"], step=0.02, label="Corrector's signal-to-noise ratio", info="of predictor-corrector"
        )
        made["tolerance"] = gr.Radio(
            [(f"{value:g}", value) for value in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)],
            value=DEFAULTS["tolerance"],
            label="Tolerance of Runge-Kutta",
            info="the error that a stride may make",
        )
    return made
