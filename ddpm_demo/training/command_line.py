"""The command line of ``train.py``, built from the fields of ``TrainingConfiguration`` and ``RunOptions``."""

import argparse
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from pathlib import Path

from ddpm_demo.training.configuration import (
    AUTO,
    INSTEAD,
    ON_IMAGES,
    OTHER_TRAININGS,
    RECIPE_FIELDS,
    Flag,
    TrainingConfiguration,
    flag_name,
    option,
    positive,
    positive_int,
    words_of,
)
from ddpm_demo.training.recipes import DISTILLATION, GPU_SPEED, LATENT, RECIPES, SHORT_MINUTES, SHORT_SIZE, SMALL

GROUPS = ("data", "model", "training", "output", INSTEAD)


@dataclass(frozen=True)
class RunOptions:
    """What does not decide the weights: where data and results are, what is saved, shown and published, how it runs."""

    data_dir: str = option(
        "data",
        group="data",
        help="folder of the dataset; what is missing there is downloaded to it",
        used_by=OTHER_TRAININGS,
    )
    output_dir: str | None = option(
        None,
        group="output",
        help="folder for the checkpoint, samples and logs (default: runs/DATASET, runs/DATASET-latent or "
        "runs/CHECKPOINT-instant)",
        used_by=OTHER_TRAININGS,
    )
    resume: bool = option(
        False,
        group="output",
        help="go on from the last saved state in --output-dir, with its settings; --epochs or --minutes may extend it",
        used_by=("autoencoder", "distill"),
    )
    overwrite: bool = option(
        False,
        group="output",
        help="start anew in an --output-dir that already holds a model",
        used_by=OTHER_TRAININGS,
    )
    sample_every: int | None = option(
        None,
        group="output",
        help="draw samples and measure the held-out loss every STEPS steps (default: after 125, 250, 500, ... steps)",
        type=positive_int,
        metavar="STEPS",
        used_by=("distill",),
    )
    snapshots: bool = option(
        False,
        group="output",
        help="keep the weights with every sheet of samples, for  python -m ddpm_demo.evaluation over-time",
        used_by=("distill",),
    )
    save_every: float = option(
        60.0,
        group="output",
        help="save the whole training state every SECONDS seconds",
        type=positive,
        metavar="SECONDS",
        used_by=("distill",),
    )
    log_with: str = option(
        "none",
        group="output",
        help="tensorboard needs: pip install tensorboard",
        choices=("none", "tensorboard"),
        used_by=("distill",),
    )
    compile: bool = option(
        False,
        group="training",
        help="compile the network with torch.compile: it takes minutes, which count towards --minutes, and steps on a CPU "
        "become about a fifth faster; needs a C++ compiler and Python's header files",
        used_by=("distill",),
    )
    push_to_hub: bool = option(
        False, group="output", help="publish the finished model on the Hugging Face Hub", used_by=("distill",)
    )
    hub_model_id: str | None = option(
        None,
        group="output",
        help="name of the repository on the Hub, e.g. user/ddpm-mnist",
        metavar="USER/NAME",
        requires="push_to_hub",
        used_by=("distill",),
    )
    hub_private: bool = option(
        False,
        group="output",
        help="visible only for you and those you invite",
        requires="push_to_hub",
        used_by=("distill",),
    )
    classifier: bool = option(
        False,
        group=INSTEAD,
        help="train the classifier that ddpm_demo.evaluation judges with",
        exclusive=True,
        used_by=("classifier",),
    )
    autoencoder: bool = option(
        False,
        group=INSTEAD,
        help="train the autoencoder that --latent needs, for --minutes",
        exclusive=True,
        used_by=("autoencoder",),
    )
    noise_aware: bool = option(
        False,
        group=INSTEAD,
        help="with --classifier: train the one for noisy images, for classifier guidance",
        used_by=("classifier",),
        requires="classifier",
    )


def parse(arguments: list[str] | None, description: str) -> tuple[dict, RunOptions]:
    """(the configuration's values that were given, by field name; the options of the run).

    Values that were not given are left to the dataset's recipe or to the run that is resumed.
    """
    parser = build_parser(description)
    given = vars(parser.parse_args(arguments))
    for words, reason in find_idle(given):
        parser.error(f"{words} has no effect {reason}")
    values = {one.name: given[one.name] for one in fields(TrainingConfiguration) if given[one.name] is not None}
    asked = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return asked, RunOptions(**{one.name: given[one.name] for one in fields(RunOptions)})


def command_to_resume(folder: Path, options: RunOptions, processes: int) -> str:
    """The command line that goes on with a run in a folder, with its number of processes and the options it was given."""
    launch = (
        ["python"] if processes == 1 else ["accelerate", "launch", "--multi_gpu", "--num_processes", str(processes)]
    )
    words = [*launch, "train.py", "--resume", "--output-dir", str(folder)]
    for one in fields(RunOptions):
        value = getattr(options, one.name)
        if value != one.default and one.name not in ("output_dir", "resume", "overwrite"):
            words += words_of(one, value)
    return shlex.join(words)


def build_parser(description: str) -> argparse.ArgumentParser:
    """The parser, with one flag for each field. A value that is not given is None for a field of the configuration."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=list_recipes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    groups = {title: parser.add_argument_group(title) for title in GROUPS}
    exclusive = {}
    for one, default in defaults():
        flag = one.metadata["flag"]
        group = groups[flag.group]
        if flag.exclusive:
            if flag.group not in exclusive:
                exclusive[flag.group] = group.add_mutually_exclusive_group()
            group = exclusive[flag.group]
        add_flag(group, one, flag, default)
    return parser


def defaults() -> Iterator[tuple[Field, object]]:
    """All fields, each with the value that it has on the command line when it is not given."""
    yield from ((one, None) for one in fields(TrainingConfiguration))
    yield from ((one, one.default) for one in fields(RunOptions))


def add_flag(group: argparse._ActionsContainer, one: Field, flag: Flag, default) -> None:
    """Add the flag of a field to a group. A bool that is False by default has no ``--no-`` form."""
    if one.type is bool:
        details = {"action": "store_true" if one.default is False else argparse.BooleanOptionalAction}
    else:
        names = ("type", "choices", "nargs", "const", "metavar")
        details = {name: getattr(flag, name) for name in names if getattr(flag, name) is not None}
    group.add_argument(flag_name(one.name), default=default, help=flag.help + name_default(one), **details)


def name_default(one: Field) -> str:
    """A field's default as the end of its help; empty where there is none to name, or where the help names it."""
    if "(default:" in one.metadata["flag"].help:
        return ""
    if one.default in (MISSING, None, ()) or one.default is False or one.name in RECIPE_FIELDS:
        return ""
    shown = "on" if one.default is True else f"{one.default:g}" if one.type is float else one.default
    return f" (default: {shown})"


def list_recipes() -> str:
    """Return the defaults of every dataset as a table, followed by what replaces them."""
    taken = {"image_size": "", "widths": ("teacher's",), "dropout": None, "minutes": None}
    replacing = {"  short": SMALL, "  --latent": LATENT, "  --distill": DISTILLATION}
    return "\n".join(
        [
            "defaults on a CPU: size  widths       batch  optimizer     lr     EMA  dropout  minutes",
            *(write_recipe(f"  {name}", asdict(row)) for name, row in RECIPES.items()),
            f"These replace the values above; a blank keeps them. short: --minutes up to {SHORT_MINUTES:g}, with images up to "
            f"{SHORT_SIZE}x{SHORT_SIZE}.",
            *(write_recipe(name, taken | row) for name, row in replacing.items()),
            f"On a GPU, the row short does not apply, and the default minutes are divided by {GPU_SPEED}.",
        ]
    )


def write_recipe(name: str, row: Mapping[str, object]) -> str:
    """Return one line of the table of defaults."""
    widths, (decay,) = " ".join(map(str, row["widths"])), row["ema_decay"]
    dropout, minutes = ("" if row[name] is None else f"{row[name]:g}" for name in ("dropout", "minutes"))
    return (
        f"{name:18} {row['image_size']:4}  {widths:12} {row['batch_size']:5}  {row['optimizer']:9} {row['lr']:6g}  {decay:6g} "
        f"{dropout:>8} {minutes:>8}"
    ).rstrip()


def find_idle(given: dict) -> Iterator[tuple[str, str]]:
    """What was given and would change nothing, as typed on the command line, each with the reason."""
    flags = {one.name: one.metadata["flag"] for one, default in defaults() if given[one.name] != default}
    for kind in OTHER_TRAININGS:
        if kind in flags:
            idle = (name for name, flag in flags.items() if kind not in flag.used_by)
            yield from ((flag_name(name), f"with --{kind}: leave it out") for name in sorted(idle))
            if kind in ON_IMAGES and given["mixed_precision"] == AUTO:
                words = f"{flag_name('mixed_precision')} {AUTO}"
                yield words, f"with --{kind}, whose default is no: leave it out, or name bf16"
    for name, flag in flags.items():
        if flag.requires and flag.requires not in flags:
            yield flag_name(name), f"without {flag_name(flag.requires)}: add that, or leave it out"
