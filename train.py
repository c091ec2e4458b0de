"""Train a diffusion model (DDPM; with --cfg, class-conditional with classifier-free guidance).

python train.py --dataset mnist --cfg                  a good model for the machine at hand
python train.py --dataset mnist --cfg --minutes 5      legible digits in five minutes on two cores
python train.py --dataset folder --data-dir DIR --cfg  your own images, DIR/<class>/*.png|jpg|webp
python train.py --dataset cifar10 --autoencoder        the autoencoder of latent diffusion, into runs/cifar10/vae
python train.py --dataset cifar10 --cfg --latent       diffusion of its latents; --condition cross-attention, image
python train.py --dataset cifar10 --prediction epsilon --schedule linear --optimizer adamw --lr 2e-4 --minutes 480
                                                       eight hours with the target and the schedule of Ho et al. 2020
python train.py --distill checkpoints/mnist            a model that draws in one network call, or in 2, 4, 8, 16
python train.py --resume --output-dir runs/mnist       go on after Ctrl-C, a crash or a power cut
python train.py --dataset mnist --cfg --push-to-hub --hub-model-id user/ddpm-mnist     publish it when it is done
accelerate launch --multi_gpu --num_processes 2 train.py ...   several GPUs; where there is none, several CPU processes
"""

import os
import shlex
import signal
import sys
from pathlib import Path

from ddpm_demo.errors import UserError
from ddpm_demo.training.command_line import RunOptions, parse
from ddpm_demo.training.configuration import DEFAULTS, TrainingConfiguration, configure, resume

EPOCHS_OF_A_CLASSIFIER, MINUTES_OF_AN_AUTOENCODER = 8, 20.0


def main(arguments: list[str] | None = None) -> int:
    """Parse, train, save. Returns the exit status."""
    asked, options = parse(arguments, __doc__)
    folder = Path(options.output_dir or f"runs/{name_run(asked)}")
    work = train_classifier if options.classifier else train_autoencoder if options.autoencoder else train_model
    try:
        return work(asked, options, folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped: everything that was saved so far is kept", file=sys.stderr)
        return 130


def name_run(asked: dict) -> str:
    """The name of a run, for its folder."""
    if "distill" in asked:
        return f"{Path(asked['distill']).name}-instant"
    return asked.get("dataset", DEFAULTS["dataset"]) + ("-latent" if "latent" in asked else "")


def train_classifier(asked: dict, options: RunOptions, folder: Path) -> int:
    """Train the judge, or the noise-aware classifier, and write it into the folder."""
    from ddpm_demo.training import classifiers

    kind = classifiers.NOISE_AWARE if options.noise_aware else classifiers.JUDGE
    if (folder / kind.file).exists() and not options.overwrite:
        raise UserError(f"{folder} already holds a {kind.file}: pass --overwrite, or another --output-dir")
    configuration = configure({"epochs": EPOCHS_OF_A_CLASSIFIER} | asked, "cpu")
    sentence = classifiers.learn(
        kind,
        *load_images(configuration, options),
        folder,
        flip=configuration.flip,
        epochs=configuration.epochs,
        seed=configuration.seed,
        low_precision=configuration.mixed_precision == "bf16",
    )
    print(sentence)
    return 0


def train_autoencoder(asked: dict, options: RunOptions, folder: Path) -> int:
    """Train the autoencoder of latent diffusion and write it into the folder."""
    from ddpm_demo.models.codec import VAE
    from ddpm_demo.training import autoencoder

    if (folder / VAE).exists() and not (options.overwrite or options.resume):
        raise UserError(
            f"{folder / VAE} is there already: pass --resume to go on with it, --overwrite, or another --output-dir"
        )
    configuration = configure({"minutes": MINUTES_OF_AN_AUTOENCODER} | asked, "cpu")
    images, held_out = load_images(configuration, options)
    sentence = autoencoder.learn(
        images, held_out, folder, configuration, resume=options.resume, stop=catch_signals().is_set
    )
    command = f"python train.py --dataset {configuration.dataset} --cfg --latent {shlex.quote(str(folder))}"
    print(f"{sentence}. Next:\n  {command}")
    return 0


def train_model(asked: dict, options: RunOptions, folder: Path) -> int:
    """Train the diffusion model into the folder and show progress. Ctrl-C saves and prints how to go on."""
    from accelerate import Accelerator
    from accelerate.state import PartialState
    from torch import accelerator as hardware

    from ddpm_demo.hub.client import check_publishable
    from ddpm_demo.training.loop import Run, train
    from ddpm_demo.training.precision import choose_precision

    if options.push_to_hub:
        check_publishable(options.hub_model_id or "")  # before hours of training, not after them
    # With cpu=None, accelerate would not connect several processes on a CPU.
    on_cpu = not hardware.is_available()
    processes = PartialState(cpu=on_cpu)
    warn_if_alone(processes.num_processes)
    configuration, first_step = begin_or_resume(asked, options, folder, processes.device.type)
    with processes.main_process_first():  # the first one downloads or decodes, the others read the result
        images, held_out = load_images(configuration, options)
    configuration = choose_precision(configuration, images, processes.device.type)
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=configuration.mixed_precision)
    run = Run(configuration, images, held_out, folder / "state", accelerator, resumed=options.resume)
    if options.compile:
        processes.print("compiling the network ...", flush=True)
        run.compile()
    interrupted, last = catch_signals(), None  # from here on, there is something to save
    accelerator.wait_for_everyone()
    if run.measure_budget(interrupted.is_set)[1] and not options.resume:
        processes.print("stopped before the first step: nothing was written or deleted")
        accelerator.end_training()
        return 130
    # The log deletes an older run, so it is opened when the new one is ready.
    count = accelerator.num_processes
    log = open_log(configuration, options, folder, first_step, count) if accelerator.is_main_process else None
    if log:
        log.introduce(images, processes.device.type)
    for last in train(run, save_every=options.save_every, sample_every=options.sample_every, stop=interrupted.is_set):
        log.record(last)
    accelerator.wait_for_everyone()
    if last is not None:
        finish(log, last, held_out, folder)
    accelerator.end_training()
    if interrupted.is_set():
        return 130
    return publish(folder, options) if options.push_to_hub and accelerator.is_main_process else 0


def load_images(configuration: TrainingConfiguration, options: RunOptions):
    """The training images and the test images of a configuration."""
    from ddpm_demo.data.datasets import load_splits

    size = {"classes": configuration.classes, "image_size": configuration.image_size}
    return load_splits(configuration.dataset, options.data_dir, **size)


def warn_if_alone(processes: int) -> None:
    """Print a note if several processes were launched that do not know of each other."""
    if "MASTER_ADDR" in os.environ and processes == 1:
        print(
            "note: several processes were asked for, but this is the only one, since accelerate launch --cpu leaves "
            "the others to mpirun. For N processes, on CPUs too: accelerate launch --multi_gpu --num_processes N ...",
            file=sys.stderr,
        )


def begin_or_resume(asked: dict, options: RunOptions, folder: Path, device: str) -> tuple[TrainingConfiguration, int]:
    """(the configuration of the run, the step it starts at); UserError if the folder holds another run, or none."""
    from ddpm_demo.training.state import list_states, read_progress

    states = folder / "state"
    if options.resume:
        progress = read_progress(states)
        if progress is None:
            raise UserError(f"{states} holds no saved state to resume: start the run without --resume")
        return resume(asked, progress["settings"]), progress["step"]
    if ((folder / "demo.json").exists() or list_states(states)) and not options.overwrite:
        raise UserError(
            f"{folder} already holds a model: pass --resume to go on with it, --overwrite to replace it, or "
            "another --output-dir"
        )
    return configure(asked, device), 0


def open_log(configuration: TrainingConfiguration, options: RunOptions, folder: Path, first_step: int, processes: int):
    """The log of the run. The states of an older run are deleted unless it is resumed."""
    from ddpm_demo.training.run_log import RunLog
    from ddpm_demo.training.state import list_states

    log = RunLog(folder, configuration, options, first_step, processes)
    if not options.resume:
        for state in list_states(folder / "state"):
            state.unlink()
    return log


def finish(log, progress, held_out, folder: Path) -> None:
    """Save the checkpoint and its model card, and print what to do next."""
    from ddpm_demo.reports.card import write_card

    log.finish(progress, held_out)
    write_card(folder)
    log.print_next(progress)


def publish(folder: Path, options: RunOptions) -> int:
    """Push the finished model to the Hub. If that fails, print that nothing is lost, and the command that tries again."""
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
    """An event that Ctrl-C or SIGTERM sets, so that the current step is completed and saved; a second Ctrl-C aborts."""
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
