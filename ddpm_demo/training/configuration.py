"""The configuration of a training: every field holds its default, its help and the values it accepts.

The command line, the completion from a dataset's recipe, ``--resume`` and the command on the model card are all derived
from the fields of ``TrainingConfiguration``. A new option is one field here and the code that uses it.
"""

import argparse
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields

from ddpm_demo.diffusion.denoiser import PREDICTIONS, WEIGHTINGS
from ddpm_demo.diffusion.schedule import SCHEDULES, TIMES
from ddpm_demo.errors import UserError
from ddpm_demo.models.adapters import CONDITIONS
from ddpm_demo.training.recipes import DISTILLATION, RECIPES, Recipe, recipe_for

DATASET_FOLDER = ""  # the value of --latent without a folder; it stands for runs/DATASET
AUTO = "auto"  # the value of --mixed-precision that ``precision.choose_precision`` replaces
UNDECIDED = {"latent": DATASET_FOLDER, "mixed_precision": AUTO}  # values that a run replaces when it begins
INSTEAD = "instead of a diffusion model"  # the group of --help for the flags of the other trainings
ON_IMAGES = ("classifier", "autoencoder")  # the other trainings that have options for the images
OTHER_TRAININGS = (*ON_IMAGES, "distill")


def positive(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def positive_int(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def unit(text: str) -> float:
    """A fraction from 0 up to, not including, 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 0 and below 1")
    return value


def share(text: str) -> float:
    """A fraction above 0, up to 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value


def seed_number(text: str) -> int:
    """A whole number from 0 to 2^20."""
    if not text.isdecimal() or int(text) > 2**20:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to {2**20}")
    return int(text)


@dataclass(frozen=True)
class Flag:
    """How a field is given on the command line. ``type`` to ``metavar`` have the meaning that argparse gives them."""

    group: str  # the group of --help that lists it
    help: str
    type: Callable[[str], object] | None = None
    choices: Iterable[str] | None = None
    nargs: str | None = None
    const: str | None = None
    metavar: str | None = None
    exclusive: bool = False  # of all exclusive flags of a group, one at most can be given
    used_by: tuple[str, ...] = ()  # the ``OTHER_TRAININGS`` that use it
    requires: str | None = None  # the field without which it has no effect


def option(default=MISSING, **flag) -> Field:
    """A field with a default and a ``Flag``. A field without a default is set by ``derive_defaults``."""
    return field(default=default, metadata={"flag": Flag(**flag)})


@dataclass(frozen=True, kw_only=True)
class TrainingConfiguration:
    """All that decides the weights of a run. UserError for a combination that cannot be trained.

    A field name is the flag's name. A default also holds for states that were saved before the field existed.
    """

    dataset: str = option("mnist", group="data", help="what to learn", choices=RECIPES, used_by=ON_IMAGES)
    classes: tuple[str, ...] = option(
        (),
        group="data",
        help="only these classes, e.g. --dataset oxford-pets --classes Bombay Egyptian_Mau",
        nargs="+",
        metavar="NAME",
        used_by=ON_IMAGES,
    )
    image_size: int = option(
        group="data",
        help="resize the shorter side to this and centre-crop (default: see the table below)",
        type=positive_int,
        used_by=ON_IMAGES,
    )
    latent: str | None = option(
        None,
        group="model",
        help="diffuse the latents of the autoencoder in FOLDER/vae instead of pixels (without FOLDER: runs/DATASET)",
        nargs="?",
        const=DATASET_FOLDER,
        metavar="FOLDER",
    )
    condition: str = option(
        "add",
        group="model",
        help="how the condition enters. add: the class embedding is added to that of the time. cross-attention: the "
        "network attends to tokens of the class. image: as add, and further channels take an image to complete or to "
        "enlarge",
        choices=CONDITIONS,
    )
    cfg: bool = option(
        False,
        group="model",
        help="learn p(image | class) for classifier-free guidance; without it, an unconditional DDPM",
    )
    label_dropout: float = option(
        0.1, group="model", help="with --cfg, how often the label is hidden", type=unit, metavar="P"
    )
    contrastive: float = option(
        0.0,
        group="training",
        help="with --cfg, weight of the contrastive loss (Stoica et al. 2025 use 0.05)",
        type=unit,
        metavar="W",
    )
    schedule: str = option(
        "cosine", group="model", help="noise schedule of the training; sampling may use any", choices=SCHEDULES
    )
    time: str = option(
        "discrete",
        group="model",
        help="continuous: the score SDE, the limit of the linear schedule",
        choices=TIMES,
    )
    prediction: str = option(
        "v_prediction", group="model", help="what the network outputs; Ho et al. 2020 used epsilon", choices=PREDICTIONS
    )
    loss_weighting: str = option(
        "simple",
        group="training",
        help="simple: the mean squared error of what the network predicts, L_simple where that is epsilon; min-snr: "
        "Hang et al. 2023",
        choices=WEIGHTINGS,
    )
    attention: bool = option(True, group="model", help="self-attention at the lower resolutions")
    widths: tuple[int, ...] = option(
        group="model",
        help="channels of each level of the U-Net; each level has half the resolution of the one before",
        type=positive_int,
        nargs="+",
        metavar="N",
    )
    layers: int = option(
        group="model", help="ResNet blocks of each level (default: 1 or 2, by dataset)", type=positive_int
    )
    patch: int = option(
        group="model",
        help="fold PxP pixels into channels: about P*P times faster (default: 2; 1 for latents)",
        type=positive_int,
    )
    dropout: float = option(
        group="model", help="dropout inside the network, against memorising small sets", type=unit, metavar="P"
    )
    flip: bool = option(
        group="data",
        help="mirror images at random (default: for all datasets but mnist; use --no-flip for images of letters)",
        used_by=ON_IMAGES,
    )
    epochs: float | None = option(
        None,
        group="training",
        help="budget in passes over the data",
        type=positive,
        exclusive=True,
        used_by=("classifier", "distill"),
    )
    minutes: float | None = option(
        group="training",
        help="budget by the clock; the learning rate decays with it",
        type=positive,
        exclusive=True,
        used_by=("autoencoder", "distill"),
    )
    batch_size: int = option(
        group="training",
        help="images of each step, over all processes together",
        type=positive_int,
        used_by=("distill",),
    )
    optimizer: str = option(
        "adamw",
        group="training",
        help="muon: Muon (Jordan et al. 2024) for the linear and convolutional layers inside the network, AdamW for all "
        "other weights",
        choices=("adamw", "muon"),
        used_by=("distill",),
    )
    lr: float = option(
        group="training",
        help="peak learning rate, after 200 steps of warm-up; decays to 0 along a cosine, except with --anneal",
        type=positive,
        used_by=("distill",),
    )
    anneal: float | None = option(
        None,
        group="training",
        help="keep the learning rate constant after the warm-up, and decay it to 0 only in the last fraction F of the "
        "budget: before that, --resume can set a longer or a shorter budget",
        type=share,
        metavar="F",
        used_by=("distill",),
    )
    ema_decay: tuple[float, ...] = option(
        group="training",
        help="decay of the exponential moving average (EMA) of the weights. The first value gives the saved model; the "
        "averages of further values are saved in averages/ in --output-dir. After N steps, the decay is at most N/(N + 9)",
        type=unit,
        nargs="+",
        metavar="D",
        used_by=("distill",),
    )
    mixed_precision: str = option(
        AUTO,
        group="training",
        help="auto: bf16 on a GPU; on a CPU the faster one, found by timing a few steps of both (default: auto; with "
        "--classifier and --autoencoder: no)",
        choices=(AUTO, "no", "bf16"),
        used_by=OTHER_TRAININGS,
    )
    seed: int = option(
        0,
        group="training",
        help="same seed, machine, number of processes, --epochs, --mixed-precision and --compile: same weights",
        type=seed_number,
        used_by=OTHER_TRAININGS,
    )
    distill: str | None = option(
        None,
        group=INSTEAD,
        help="train a model that draws what CHECKPOINT draws in 1, 2, 4, 8 or 16 network calls, its guidance included; "
        "the network and the data are those of CHECKPOINT, a folder or a Hub id",
        metavar="CHECKPOINT",
        exclusive=True,
        used_by=("distill",),
    )
    start_from: str | None = option(
        None,
        group="training",
        help="begin with the weights of a folder or a Hub id, to continue or to fine-tune it; the network must be built "
        "the same way",
        metavar="CHECKPOINT",
    )

    def __post_init__(self):
        if self.time == "continuous" and self.schedule != "linear":
            raise UserError(
                f"continuous time is the limit of the linear schedule: leave out --schedule {self.schedule}"
            )
        if self.contrastive and not self.cfg:
            raise UserError("--contrastive makes images depend more on their class: it needs --cfg")
        if self.latent and self.patch != 1:
            raise UserError(f"--patch is {self.patch}, but latents are not folded: leave it out with --latent")


DEFAULTS = {one.name: one.default for one in fields(TrainingConfiguration) if one.default is not MISSING}
RECIPE_FIELDS = {one.name for one in fields(Recipe)}  # their defaults depend on the dataset


def flag_name(name: str) -> str:
    """A field's name as it is typed on the command line."""
    return "--" + name.replace("_", "-")


def configure(asked: Mapping[str, object], device: str) -> TrainingConfiguration:
    """The configuration of a new run on a type of device: what was asked for, completed by ``derive_defaults``.

    ``asked`` holds values by field name, and only those that were given. UserError if they contradict each other.
    """
    dataset = asked.get("dataset", DEFAULTS["dataset"])
    named = {"latent": f"runs/{dataset}"} if asked.get("latent") == DATASET_FOLDER else {}
    return TrainingConfiguration(**derive_defaults(asked, device) | asked | named)


def derive_defaults(asked: Mapping[str, object], device: str) -> dict:
    """The defaults that depend on the dataset, on the device or on other options."""
    if "distill" in asked:
        return derive_from_teacher(asked["distill"], asked)
    dataset = asked.get("dataset", DEFAULTS["dataset"])
    derived = asdict(recipe_for(dataset, asked.get("minutes"), device, "latent" in asked, asked.get("image_size")))
    if asked.get("time") == "continuous":
        derived["schedule"] = "linear"
    if "epochs" in asked:
        derived["minutes"] = None
    return derived


def derive_from_teacher(source: str, asked: Mapping[str, object]) -> dict:
    """The defaults of a distillation: the images and the network of the teacher, and the recipe of distillation."""
    # This import loads diffusers, for which --help need not wait.
    from ddpm_demo.training.distillation import load_teacher

    training = load_teacher(source).training or {}
    names = {one.name for one in fields(TrainingConfiguration)} & training.keys()
    if "widths" not in names:
        raise UserError(
            f"{source} does not say how it was trained, so it cannot be distilled: its demo.json is incomplete"
        )
    taken = {
        name: tuple(value) if isinstance(value, list) else value for name, value in training.items() if name in names
    }
    recipe = DISTILLATION | ({"minutes": None} if "epochs" in asked else {})
    return DEFAULTS | taken | {"epochs": None, "start_from": None, "contrastive": 0.0, "seed": 0} | recipe


def resume(asked: Mapping[str, object], saved: Mapping[str, object]) -> TrainingConfiguration:
    """The configuration of a saved run, with another budget if one was asked for; UserError for any other change."""
    values = DEFAULTS | {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    if not isinstance(values["ema_decay"], tuple):  # older states hold a single number
        values["ema_decay"] = (values["ema_decay"],)
    if "minutes" in asked or "epochs" in asked:
        values |= {"minutes": asked.get("minutes"), "epochs": asked.get("epochs")}
    for name, value in asked.items():
        if value != values[name] and value != UNDECIDED.get(name):
            flag = flag_name(name)
            raise UserError(
                f"{flag} is {value}, but the run to resume was started with {values[name]}: leave {flag} out, or "
                "start anew in another --output-dir"
            )
    return TrainingConfiguration(**values)


def command_of(training: Mapping[str, object]) -> str:
    """The ``train.py`` command line that repeats a training; ``training`` is that of demo.json.

    What it holds beside the fields of ``TrainingConfiguration`` (steps, seconds, device) is left out.
    """
    known = {one.name: one for one in fields(TrainingConfiguration)}
    if training.get("distill"):  # the rest is that of the teacher
        known = {name: one for name, one in known.items() if "distill" in one.metadata["flag"].used_by}
    words = ["python", "train.py"]
    newer = {name: value for name, value in DEFAULTS.items() if name in RECIPE_FIELDS and name not in training}
    for name, value in (training | newer).items():  # a recipe may meanwhile set what is newer than the training
        if name in known:
            words += words_of(known[name], value)
    return shlex.join(words)


def words_of(one: Field, value) -> list[str]:
    """A field's value as words of the command line; none for an empty value."""
    flag = flag_name(one.name)
    if value is None or value in ((), []):
        return []
    if isinstance(value, bool):
        return [flag] if value else [] if one.default is False else [f"--no-{flag[2:]}"]
    values = value if isinstance(value, (list, tuple)) else [value]
    return [flag, *(f"{v:g}" if isinstance(v, float) else str(v) for v in values)]
