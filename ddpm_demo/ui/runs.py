"""A run that a visitor asked for: its settings checked again behind the controls, its cost, and its steps.

The settings of the page are the fields of ``Sampling``, the interval as two numbers, with the class, the number of images,
the checkpoint and a place in the noise pad beside them. Controls, links, presets and API parameters all use these names.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ddpm_demo.diffusion.reverse_process import Step
from ddpm_demo.diffusion.sampling import LAST_SEED, Sampling
from ddpm_demo.errors import UserError, check_one_of, check_whole, is_finite, quote
from ddpm_demo.generation.begin import LAST_TIMESTEP, Begin, MixedNoise, PureNoise
from ddpm_demo.generation.generate import count_evaluations, log_snr_grid, sample
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.ui.catalogue import Catalogue, report_mistakes
from ddpm_demo.ui.turns import Job, check_budget

ALL = "all"
MAX_COUNT = 8


def flatten(sampling: Sampling) -> dict:
    """The settings as the page holds them: the interval as ``interval_from`` and ``interval_to``."""
    flat = sampling.as_dict()
    flat["interval_from"], flat["interval_to"] = flat.pop("interval")
    return flat


def unflatten(settings: dict) -> Sampling:
    """The page's settings as a ``Sampling``, numbers checked; UserError for anything wrong."""
    readers = {int: as_int, float: as_number}
    values = {name: settings[name] for name in flatten(Sampling())}
    for name, default in flatten(Sampling()).items():
        if type(default) in readers:
            values[name] = readers[type(default)](name, values[name])
    values["interval"] = values.pop("interval_from"), values.pop("interval_to")
    return Sampling(**values)


# In the order of the API's parameters and of a link's query. A checkpoint has its own defaults: see ``find_defaults``.
DEFAULTS = {"class_label": ALL, **flatten(Sampling(weight=1.0)), "count": 1, "checkpoint": "", "place": ""}
OWN = tuple(name for name in flatten(Sampling()) if name != "seed")  # settings whose default is that of the checkpoint
# A place in the noise pad as text: the seeds at the corners, and the distances from the left and from the top.
PLACE = re.compile(
    r"(\d{1,10}) (\d{1,10}) (\d{1,10}) (\d{1,10}) at ([01](?:\.\d{1,20})?) ([01](?:\.\d{1,20})?)", re.ASCII
)
BEST = "Best measured"  # the preset that is different for each checkpoint
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
    """A run that a visitor asked for: valid, complete, and ready to walk."""

    catalogue: Catalogue
    labels: list[int] | None
    count: int  # images of each class
    class_label: str
    checkpoint: str
    sampling: Sampling
    begin: Begin = PureNoise()
    place: str = ""  # in the noise pad, if ``begin`` is the noise there

    @property
    def settings(self) -> dict:
        """The settings in full, as in DEFAULTS."""
        about = {name: getattr(self, name) for name in ("class_label", "count", "checkpoint", "place")}
        flat = about | flatten(self.sampling)
        return {name: flat[name] for name in DEFAULTS}

    @property
    def model(self) -> Model:
        """The model of its checkpoint."""
        return self.catalogue.model(self.checkpoint)

    @property
    def images(self) -> int:
        """How many images it draws."""
        return len(self.labels) if self.labels else self.count

    @property
    def evaluations(self) -> int:
        """Network evaluations of all its images, at least: an adaptive sampler may need more."""
        return self.images * count_evaluations(self.model, self.sampling, self.begin.start)

    @property
    def guided(self) -> bool:
        """Whether its steps have a direction of guidance. A distilled network contains its guidance."""
        return self.sampling.guided and not self.model.distilled

    @property
    def columns(self) -> int:
        """Images in a row of its picture."""
        return count_columns(self.images)

    @property
    def curve(self) -> list[float]:
        """The log-SNR of every step."""
        return log_snr_grid(self.model, self.sampling, self.begin.start).tolist()

    def walk(self, job: Job | None = None) -> Iterator[Step]:
        """The steps, computed in turns with other requests and charged to a job."""
        count = None if self.labels else self.images
        return self.catalogue.compute(
            sample, self.checkpoint, self.labels, job=job, count=count, begin=self.begin, sampling=self.sampling
        )


@report_mistakes()
def prepare(catalogue: Catalogue, settings: dict, begin: Begin = PureNoise()) -> Run:
    """The run with a user's settings, a missing one being the checkpoint's default; gr.Error for a wrong one."""
    checkpoint = settings.get("checkpoint") or catalogue.names[0]
    model = catalogue.model(checkpoint)
    settings = find_defaults(model) | settings | find_fixed(model)
    check_whole("count", count := as_int("count", settings["count"]), 1, MAX_COUNT)
    check_one_of("class_label", chosen := settings["class_label"], (*model.class_names, ALL))
    sampling = unflatten(settings)
    classes = range(len(model.class_names)) if chosen == ALL else [model.class_names.index(chosen)]
    if not model.label_names and not sampling.classifier_scale:
        classes = []
    labels = [label for label in classes for _ in range(count)] or None
    if settings["place"] != "":
        begin = read_place(settings["place"])
    run = Run(catalogue, labels, count, chosen, checkpoint, sampling, begin, settings["place"])
    begin.check(model, sampling.check(model, labels, None if labels else count))
    check_budget(run.evaluations)
    return run


def find_defaults(model: Model) -> dict:
    """The settings that a checkpoint starts with: those that it brings, which are the best measured ones if it was measured."""
    own = flatten(model.sampling)
    return DEFAULTS | {name: own[name] for name in OWN}


def find_fixed(model: Model) -> dict:
    """The settings that have only one value for a model, so that those of the page have no effect."""
    fixed = {}
    if not model.label_names:
        fixed["weight"] = 0.0
    if not model.noisy_classifier:
        fixed["classifier_scale"] = 0.0
    if not model.weak:
        fixed["autoguidance"] = 0.0
    if model.distilled:
        own = flatten(model.sampling)
        fixed |= {name: own[name] for name in own if name not in ("steps", "weight", "seed")}
    return fixed


def read_place(text) -> MixedNoise:
    """The noise at a place in the noise pad, for all images of a run; UserError for anything but such a place."""
    found = PLACE.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise UserError(
            f"place is {quote(text)}; it must be four seeds and a place between them, such as 0 1 2 3 at 0.5 0.25, or empty"
        )
    *seeds, u, v = found.groups()
    return MixedNoise(tuple(int(seed) for seed in seeds), ((float(u), float(v)),))


def apply_preset(model: Model, settings: dict, name: str) -> dict:
    """The settings with those of a preset. A distilled model keeps its sampler, and takes the nearest of its steps."""
    defaults = find_defaults(model)
    own = {key: defaults[key] for key in OWN}
    settings = defaults | settings | (own if name == BEST else PRESETS.get(name, {})) | find_fixed(model)
    if model.distilled:
        settings["steps"] = min(model.distilled.steps, key=lambda steps: abs(steps - settings["steps"]))
    return settings


def as_int(name: str, value) -> int:
    """3.0 as 3, since JSON and sliders know no integers; UserError for 3.7, text or nothing."""
    if not as_number(name, value, "a whole number").is_integer():
        raise UserError(f"{name} is {quote(value)}; it must be a whole number")
    return int(value)


def as_number(name: str, value, kind: str = "a finite number") -> float:
    """The value as a float; UserError unless it ``is_finite``."""
    if not is_finite(value):
        raise UserError(f"{name} is {quote(value)}; it must be {kind}")
    return float(value)


def as_timestep(t) -> int:
    """A valid timestep; UserError for anything else."""
    check_whole("t", t := as_int("t", t), 0, LAST_TIMESTEP)
    return t


def as_seed(seed) -> int:
    """A valid seed; UserError for anything else."""
    check_whole("seed", seed := as_int("seed", seed), 0, LAST_SEED)
    return seed


def count_columns(images: int) -> int:
    """Images in a row: as square as whole rows allow."""
    return next(columns for columns in range(1, images + 1) if columns**2 >= images and images % columns == 0)
