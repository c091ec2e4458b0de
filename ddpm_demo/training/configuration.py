"""The settings of a training run: from the command line and the recipe, or from the run that is resumed."""

from argparse import Namespace
from dataclasses import asdict, dataclass, fields

from ddpm_demo.errors import UserError
from ddpm_demo.training.recipes import recipe_for


@dataclass(frozen=True)
class Settings:
    """All that decides the weights of a run. A field name is the flag's name."""

    dataset: str
    classes: tuple[str, ...]
    image_size: int
    latent: str | None  # the folder of the autoencoder
    condition: str
    cfg: bool
    label_dropout: float
    schedule: str
    time: str
    prediction: str
    loss_weighting: str
    attention: bool
    widths: tuple[int, ...]
    layers: int
    patch: int
    dropout: float
    flip: bool
    epochs: float | None  # the budget is one of the two
    minutes: float | None
    batch_size: int  # over all processes together
    lr: float
    ema_decay: float
    mixed_precision: str
    seed: int
    start_from: str | None = None  # a checkpoint whose weights to begin with


def fresh(given: Namespace, device: str) -> Settings:
    """What was asked for, completed from the dataset's recipe for this type of device; UserError if it cannot be."""
    dataset = given.dataset or "mnist"
    if given.latent == "":  # the flag alone
        given.latent = f"runs/{dataset}"
    defaults = asdict(recipe_for(dataset, given.minutes, device, given.latent is not None)) | {
        "dataset": dataset,
        "classes": (),
        "latent": None,
        "condition": "add",
        "cfg": False,
        "label_dropout": 0.1,
        "schedule": "linear" if given.time == "continuous" else "cosine",
        "time": "discrete",
        "prediction": "v_prediction",
        "loss_weighting": "simple",
        "attention": True,
        "epochs": None,
        "mixed_precision": "no" if device == "cpu" else "bf16",
        "seed": 0,
        "start_from": None,
    }
    if given.epochs:
        defaults["minutes"] = None
    chosen = Settings(**defaults | asked(given))
    if chosen.time == "continuous" and chosen.schedule != "linear":
        raise UserError(f"continuous time is the limit of the linear schedule: leave out --schedule {chosen.schedule}")
    if chosen.latent and chosen.patch != 1:
        raise UserError(f"--patch is {chosen.patch}, but latents are not folded: leave it out with --latent")
    return chosen


def resumed(given: Namespace, saved: dict) -> Settings:
    """Those of the saved run, with another budget if one was asked for; UserError for any other change."""
    saved = {
        "time": "discrete",
        "latent": None,
        "condition": "add",
        "start_from": None,
    } | saved  # states of before there was a choice
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    if given.minutes or given.epochs:
        settings |= {"minutes": given.minutes, "epochs": given.epochs}
    for name, value in asked(given).items():
        if value != settings[name] and value != "":
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag} is {value}, but the run to resume was started with {settings[name]}: leave {flag} out, or "
                "start anew in another --output-dir"
            )
    return Settings(**settings)


def asked(given: Namespace) -> dict:
    """The settings that the command line names, without those left to the defaults."""
    values = {field.name: getattr(given, field.name) for field in fields(Settings)}
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if value is not None
    }
