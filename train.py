"""Train a diffusion model (DDPM; with --cfg, class-conditional with classifier-free guidance).

python train.py --dataset mnist --cfg                  a good model for the machine at hand
python train.py --dataset mnist --cfg --minutes 5      legible digits in five minutes on two cores
python train.py --dataset folder --data-dir DIR --cfg  your own images, DIR/<class>/*.png|jpg|webp
python train.py --prediction epsilon --schedule linear --lr 1e-4   as Ho et al. 2020: hours, not minutes
python train.py --resume --output-dir runs/mnist       go on after Ctrl-C, a crash or a power cut
python train.py --cfg --push-to-hub --hub-model-id user/ddpm-mnist     publish it when it is done
accelerate launch --multi_gpu --num_processes 2 train.py ...   several GPUs; where there is none, several CPU processes
"""

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path

from ddpm_demo.denoiser import PREDICTIONS, WEIGHTINGS
from ddpm_demo.errors import UserError
from ddpm_demo.recipes import RECIPES
from ddpm_demo.schedule import SCHEDULES, TIMES


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; what is not given stays None, to be filled from the dataset's recipe or the resumed run."""
    formatter = argparse.RawDescriptionHelpFormatter
    rows = [
        f"  {name:14} {row.image_size:4}  {' '.join(map(str, row.widths)):12} {row.batch_size:6} {row.lr:8g} {row.minutes:8g}"
        for name, row in RECIPES.items()
    ]
    recipes = "defaults on a CPU:  size  widths        batch       lr  minutes\n" + "\n".join(rows)
    parser = argparse.ArgumentParser(description=__doc__, epilog=recipes, formatter_class=formatter, allow_abbrev=False)

    group = parser.add_argument_group("data")
    add = group.add_argument
    add("--dataset", choices=RECIPES, help="what to learn (default: mnist)")
    add("--data-dir", default="data", help="where it is, or is downloaded to (default: ./data)")
    add(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="only these classes, e.g. --dataset oxford-pets --classes Bombay Pug",
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
    add("--mixed-precision", choices=("no", "bf16"), help="bf16 is faster on GPUs (default: bf16 there, no on CPUs)")
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
    add("--classifier", action="store_true", help="train the classifier that ddpm_demo.evaluation judges with, instead")
    add(
        "--noise-aware", action="store_true", help="with --classifier: the one of noisy images, for classifier guidance"
    )
    return parser.parse_args(arguments)


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


def main(arguments: list[str] | None = None) -> int:
    """Parse, train, save. Returns the exit status."""
    options = parse(arguments)
    folder = options.output_dir or Path("runs") / (options.dataset or "mnist")
    try:
        return train_classifier(options, folder) if options.classifier else train_model(options, folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def train_classifier(options: argparse.Namespace, folder: Path) -> int:
    """Train the judge, or the noise-aware classifier, and write it into the folder."""
    from ddpm_demo import classifier, data, noisy_classifier

    kind, name = noisy_classifier if options.noise_aware else classifier, options.dataset or "mnist"
    if (folder / kind.FILE).exists() and not options.overwrite:
        raise UserError(f"{folder} already holds a {kind.FILE}: pass --overwrite, or another --output-dir")
    settings = {"classes": options.classes or (), "image_size": options.image_size or RECIPES[name].image_size}
    images, held_out = (data.load(name, options.data_dir, split, **settings) for split in ("train", "test"))
    print(kind.learn(images, held_out, folder, options.seed or 0))
    return 0


def train_model(options: argparse.Namespace, folder: Path) -> int:
    """Train the diffusion model into the folder, showing progress; saves and says how to go on after Ctrl-C."""
    from accelerate import Accelerator
    from accelerate.state import PartialState
    from torch import accelerator as hardware

    from ddpm_demo import data
    from ddpm_demo.hub import publishable
    from ddpm_demo.runlog import RunLog
    from ddpm_demo.settings import fresh, resumed
    from ddpm_demo.state import read_progress, saved_states
    from ddpm_demo.training import train

    if options.push_to_hub:
        publishable(options.hub_model_id or "")  # said before hours of training, not after
    # Said outright, because without it accelerate takes several processes on a CPU for strangers to each other.
    on_cpu = not hardware.is_available()
    processes = PartialState(cpu=on_cpu)
    states, device = folder / "state", processes.device.type
    if "MASTER_ADDR" in os.environ and processes.num_processes == 1:
        print(
            "note: several processes were asked for, but this is the only one, since accelerate launch --cpu leaves "
            "the others to mpirun. For N processes, on CPUs too: accelerate launch --multi_gpu --num_processes N ...",
            file=sys.stderr,
        )
    if options.resume:
        progress = read_progress(states)
        if progress is None:
            raise UserError(f"{states} holds no saved state to resume: start the run without --resume")
        settings = resumed(options, progress["settings"])
    else:
        if ((folder / "demo.json").exists() or saved_states(states)) and not options.overwrite:
            raise UserError(
                f"{folder} already holds a model: pass --resume to go on with it, --overwrite to replace it, or "
                "another --output-dir"
            )
        progress, settings = {"step": 0}, fresh(options, device)
    size = {"classes": settings.classes, "image_size": settings.image_size}
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=settings.mixed_precision)
    with accelerator.main_process_first():  # the first one downloads or decodes, the others read what it left
        images, held_out = (data.load(settings.dataset, options.data_dir, part, **size) for part in ("train", "test"))
    log = None
    if accelerator.is_main_process:
        if not options.resume:
            for state in saved_states(states):
                state.unlink()
        log = RunLog(folder, settings, options.data_dir, progress["step"], options.log_with, options.snapshots)
        log.introduce(images, device, accelerator.num_processes)
    interrupted = catch_signals()
    accelerator.wait_for_everyone()
    steps = train(
        settings, images, held_out, states, accelerator,
        save_every=options.save_every, sample_every=options.sample_every, stop=interrupted.is_set,
    )  # fmt: skip
    last = None
    for last in steps:
        log.record(last)
    accelerator.wait_for_everyone()
    if last is not None:
        log.finish(last, held_out)
    accelerator.end_training()
    if interrupted.is_set():
        return 130
    return publish(folder, options) if options.push_to_hub and accelerator.is_main_process else 0


def publish(folder: Path, options: argparse.Namespace) -> int:
    """Push the finished model; where that fails, say that nothing is lost, and the command that tries again."""
    from ddpm_demo.hub import push

    try:
        print(f"published: {push(folder, options.hub_model_id, options.hub_private)}")
        return 0
    except UserError as error:
        again = ["python", "-m", "ddpm_demo.hub", "push", str(folder), options.hub_model_id]
        again += ["--private"] if options.hub_private else []
        print(f"error: {error}\nThe trained model is safe in {folder}. To publish it later:", file=sys.stderr)
        print(f"  {shlex.join(again)}", file=sys.stderr)
        return 2


def catch_signals():
    """An event that Ctrl-C or a polite kill sets, so that the step in progress ends and is saved; Ctrl-C again: now."""
    from threading import Event

    interrupted = Event()

    def handle(number, frame):
        if interrupted.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        interrupted.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return interrupted


if __name__ == "__main__":
    sys.exit(main())
