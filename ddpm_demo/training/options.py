"""The command line of ``train.py``: every choice, explained where ``--help`` shows it."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from ddpm_demo.diffusion.denoiser import PREDICTIONS, WEIGHTINGS
from ddpm_demo.diffusion.schedule import SCHEDULES, TIMES
from ddpm_demo.models.adapters import CONDITIONS
from ddpm_demo.training.recipes import RECIPES

NEAR = ""  # --latent without a folder: runs/DATASET, as ``settings.fresh`` completes it


def parse(arguments: list[str] | None, description: str) -> argparse.Namespace:
    """The command line; what is not given stays None, to be filled from the dataset's recipe or the resumed run."""
    formatter = argparse.RawDescriptionHelpFormatter
    rows = [
        f"  {name:14} {row.image_size:4}  {' '.join(map(str, row.widths)):12} {row.batch_size:6} {row.lr:8g} {row.minutes:8g}"
        for name, row in RECIPES.items()
    ]
    recipes = "defaults on a CPU:  size  widths        batch       lr  minutes\n" + "\n".join(rows)
    parser = argparse.ArgumentParser(
        description=description, epilog=recipes, formatter_class=formatter, allow_abbrev=False
    )

    group = parser.add_argument_group("data")
    add = group.add_argument
    add("--dataset", choices=RECIPES, help="what to learn (default: mnist)")
    add("--data-dir", default="data", help="where it is, or is downloaded to (default: ./data)")
    add(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="only these classes, e.g. --dataset oxford-pets --classes Bombay Egyptian_Mau",
    )
    add(
        "--image-size",
        type=positive_int,
        help="resize the shorter side to this and centre-crop (default: the set's own)",
    )
    add("--flip", **on_off, help="mirror images at random (default: where left and right mean the same)")

    group = parser.add_argument_group("model")
    add = group.add_argument
    add(
        "--latent",
        nargs="?",
        const=NEAR,
        metavar="FOLDER",
        help="diffuse the latents of the autoencoder in FOLDER/vae instead of pixels (default: runs/DATASET)",
    )
    add(
        "--condition",
        choices=CONDITIONS,
        help="how the condition enters: the class embedding added to the time's (default), cross-attention to tokens of "
        "the class, or beside that an image in further channels, to complete or to enlarge",
    )
    add(
        "--cfg",
        action="store_true",
        default=None,
        help="learn p(image | class) for classifier-free guidance; without it, an unconditional DDPM",
    )
    add("--label-dropout", type=unit, metavar="P", help="with --cfg, how often the label is hidden (default: 0.1)")
    add("--schedule", choices=SCHEDULES, help="noise schedule of the training (default: cosine); sampling may use any")
    add("--time", choices=TIMES, help="continuous: the score SDE, the limit of the linear schedule (default: discrete)")
    add(
        "--prediction",
        choices=PREDICTIONS,
        help="what the network outputs (default: v_prediction); Ho et al. 2020 used epsilon",
    )
    add("--attention", **on_off, help="self-attention at the lower resolutions (default: on)")
    add(
        "--widths",
        type=positive_int,
        nargs="+",
        metavar="N",
        help="channels of each U-Net level, each half the size of the last",
    )
    add("--layers", type=positive_int, help="ResNet blocks a level (default: 2)")
    add("--patch", type=positive_int, help="fold PxP pixels into channels: about P*P times faster (default: 2)")
    add("--dropout", type=unit, metavar="P", help="dropout inside the network, against memorising small sets")

    group = parser.add_argument_group("training")
    add = group.add_argument
    budget = group.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=positive, help="budget by the clock; the learning rate decays with it")
    budget.add_argument("--epochs", type=positive, help="budget in passes over the data")
    add("--batch-size", type=positive_int, help="images a step, over all processes together")
    add("--lr", type=positive, help="peak learning rate, after 200 steps of warm-up; decays to 0 along a cosine")
    add(
        "--loss-weighting",
        choices=WEIGHTINGS,
        help="simple (default): the mean squared error of what the network predicts, L_simple where that is epsilon; min-snr: Hang et al. 2023",
    )
    add("--ema-decay", type=unit, help="of the moving average of the weights, which is what is kept")
    add(
        "--mixed-precision",
        choices=("no", "bf16"),
        help="bf16 is faster on GPUs, and on processors that have it: avx512_bf16 (default: bf16 on GPUs, no on CPUs)",
    )
    add(
        "--start-from",
        metavar="CHECKPOINT",
        help="begin with the weights of a folder or a Hub id, to go on with it or to fine-tune it; the network must be alike",
    )
    add("--seed", type=seed, help="same seed, same machine, same --epochs: same weights (default: 0)")

    group = parser.add_argument_group("output")
    add = group.add_argument
    add("--output-dir", type=Path, help="the checkpoint, samples and logs (default: runs/DATASET)")
    add(
        "--resume",
        action="store_true",
        help="go on from the last saved state in --output-dir, with its settings; --epochs or --minutes may extend it",
    )
    add("--overwrite", action="store_true", help="start anew in an --output-dir that already holds a model")
    add(
        "--sample-every",
        type=positive_int,
        metavar="STEPS",
        help="draw samples and the held-out loss (default: after 125, 250, 500, ... steps)",
    )
    add(
        "--snapshots",
        action="store_true",
        help="keep the weights beside every sheet of samples, for  python -m ddpm_demo.evaluation --over-time",
    )
    add(
        "--save-every",
        type=positive,
        metavar="SECONDS",
        default=60.0,
        help="save the whole training state (default: 60)",
    )
    add(
        "--log-with", choices=("none", "tensorboard"), default="none", help="tensorboard needs: pip install tensorboard"
    )
    add("--push-to-hub", action="store_true", help="publish the finished model on the Hugging Face Hub")
    add("--hub-model-id", metavar="USER/NAME", help="as this repository, e.g. user/ddpm-mnist")
    add("--hub-private", action="store_true", help="visible only for you and those you invite")
    group = parser.add_argument_group("instead of a diffusion model")
    kind = group.add_mutually_exclusive_group()
    add = kind.add_argument
    add("--classifier", action="store_true", help="train the classifier that ddpm_demo.evaluation judges with")
    add("--autoencoder", action="store_true", help="train the autoencoder that --latent needs, for --minutes")
    add = group.add_argument
    add(
        "--noise-aware", action="store_true", help="with --classifier: the one of noisy images, for classifier guidance"
    )
    given = parser.parse_args(arguments)
    for name, why in idle(given, parser.get_default):
        parser.error(f"{name} has no effect {why}")
    return given


# What the trainings of other things than a diffusion model listen to.
COMMON = {"dataset", "data_dir", "classes", "image_size", "flip", "mixed_precision", "seed", "output_dir", "overwrite"}
HEARD = {
    "classifier": COMMON | {"classifier", "noise_aware", "epochs"},
    "autoencoder": COMMON | {"autoencoder", "minutes", "resume"},
}


def idle(given: argparse.Namespace, default: Callable[[str], object]) -> Iterator[tuple[str, str]]:
    """The flags that were given and would change nothing, each with the reason."""
    asked = {name for name, value in vars(given).items() if value != default(name)}
    for kind, heard in HEARD.items():
        if kind in asked:
            yield from ((flag(name), f"with --{kind}: leave it out") for name in sorted(asked - heard))
    for name, needed in (
        ("noise_aware", "classifier"),
        ("hub_model_id", "push_to_hub"),
        ("hub_private", "push_to_hub"),
    ):
        if name in asked and needed not in asked:
            yield flag(name), f"without {flag(needed)}: add that, or leave it out"


def flag(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")


on_off = {"action": argparse.BooleanOptionalAction, "default": None}


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


def seed(text: str) -> int:
    """A whole number from 0 to 2^20."""
    if not text.isdecimal() or int(text) > 2**20:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to {2**20}")
    return int(text)
