"""Train a diffusion model (DDPM; with --cfg, class-conditional with classifier-free guidance).

python train.py --dataset mnist --cfg                  a good model for the machine at hand
python train.py --dataset mnist --cfg --minutes 5      legible digits in five minutes on two cores
python train.py --dataset folder --data-dir DIR --cfg  your own images, DIR/<class>/*.png|jpg|webp
python train.py --dataset cifar10 --autoencoder        the autoencoder of latent diffusion, into runs/cifar10/vae
python train.py --dataset cifar10 --cfg --latent       diffusion of its latents; --condition cross-attention, image
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

from ddpm_demo.errors import UserError
from ddpm_demo.training.options import parse
from ddpm_demo.training.recipes import RECIPES

EPOCHS_OF_A_CLASSIFIER, MINUTES_OF_AN_AUTOENCODER = 8, 20.0


def main(arguments: list[str] | None = None) -> int:
    """Parse, train, save. Returns the exit status."""
    options = parse(arguments, __doc__)
    name = (options.dataset or "mnist") + ("" if options.latent is None else "-latent")
    folder = options.output_dir or Path("runs") / name
    work = train_classifier if options.classifier else train_autoencoder if options.autoencoder else train_model
    try:
        return work(options, folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def train_classifier(options: argparse.Namespace, folder: Path) -> int:
    """Train the judge, or the noise-aware classifier, and write it into the folder."""
    from ddpm_demo.data import datasets as data
    from ddpm_demo.models import classifier, noisy_classifier

    kind, name = noisy_classifier if options.noise_aware else classifier, options.dataset or "mnist"
    if (folder / kind.FILE).exists() and not options.overwrite:
        raise UserError(f"{folder} already holds a {kind.FILE}: pass --overwrite, or another --output-dir")
    settings = {"classes": options.classes or (), "image_size": options.image_size or RECIPES[name].image_size}
    images, held_out = (data.load(name, options.data_dir, split, **settings) for split in ("train", "test"))
    flip = RECIPES[name].flip if options.flip is None else options.flip
    print(kind.learn(
        images, held_out, folder, flip=flip, epochs=round(options.epochs or EPOCHS_OF_A_CLASSIFIER),
        seed=options.seed or 0, low_precision=options.mixed_precision == "bf16",
    ))  # fmt: skip
    return 0


def train_autoencoder(options: argparse.Namespace, folder: Path) -> int:
    """Train the autoencoder of latent diffusion and write it into the folder."""
    from ddpm_demo.data import datasets as data
    from ddpm_demo.models.codec import VAE
    from ddpm_demo.training import autoencoder

    name, folder_of_it = options.dataset or "mnist", folder / VAE
    if folder_of_it.exists() and not (options.overwrite or options.resume):
        raise UserError(
            f"{folder_of_it} is there already: pass --resume to go on with it, --overwrite, or another --output-dir"
        )
    size = {"classes": options.classes or (), "image_size": options.image_size or RECIPES[name].image_size}
    images, held_out = (data.load(name, options.data_dir, split, **size) for split in ("train", "test"))
    said = autoencoder.learn(
        images, held_out, folder, minutes=options.minutes or MINUTES_OF_AN_AUTOENCODER,
        flip=RECIPES[name].flip if options.flip is None else options.flip, seed=options.seed or 0,
        resume=options.resume, low_precision=options.mixed_precision == "bf16", stop=catch_signals().is_set,
    )  # fmt: skip
    print(f"{said}. Next:\n  python train.py --dataset {name} --cfg --latent {shlex.quote(str(folder))}")
    return 0


def train_model(options: argparse.Namespace, folder: Path) -> int:
    """Train the diffusion model into the folder, showing progress; saves and says how to go on after Ctrl-C."""
    from accelerate import Accelerator
    from accelerate.state import PartialState
    from torch import accelerator as hardware

    from ddpm_demo.data import datasets as data
    from ddpm_demo.hub.client import publishable
    from ddpm_demo.training.configuration import fresh, resumed
    from ddpm_demo.training.loop import train
    from ddpm_demo.training.run_log import RunLog
    from ddpm_demo.training.state import read_progress, saved_states

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
    from ddpm_demo.hub.client import push

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
