"""Measure a checkpoint's quality: ``python -m ddpm_demo.evaluation --checkpoint checkpoints/mnist``.

A classifier of the same dataset (``train.py --classifier``) looks at the samples: FID on its features to train and test
images, precision and recall, how many are read as the class asked for, and whether training images were memorised.
Beside each figure stands what as many real images would get. What is measured already is not measured again.

python -m ddpm_demo.evaluation --weight 0 1 --samples 8192      two settings
python -m ddpm_demo.evaluation --map --samples 512              slices of the setting space, for the app's maps
python -m ddpm_demo.evaluation --over-time --samples 1024       the snapshots of  train.py --snapshots
python -m ddpm_demo.evaluation --bits-per-dim 10000             likelihood of so many test images, three ways
python -m ddpm_demo.evaluation --restore 512                    what it makes of images that are known in part
accelerate launch --multi_gpu --num_processes 2 -m ddpm_demo.evaluation ...    shared by several GPUs or processes
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from ddpm_demo.data import datasets
from ddpm_demo.data.images import picture
from ddpm_demo.diffusion.samplers import SAMPLERS, VARIANCES
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation import bits_per_dim, restoration
from ddpm_demo.evaluation.judge import Judge, inception_fid, inception_metric, joined, nearest, read
from ddpm_demo.evaluation.maps import APP, FEWEST, as_arguments, cells_of, evaluations, planned
from ddpm_demo.generation.generate import decode_step, sample
from ddpm_demo.models.checkpoint import Model, load
from ddpm_demo.models.classifier import FEATURES, FILE, load_classifier
from ddpm_demo.reports import card
from ddpm_demo.reports.card import write_card
from ddpm_demo.reports.results import Metrics, kinds_of_guidance, sentence, table
from ddpm_demo.training.autoencoder import psnr, reconstructed

CPU_BATCH, GPU_BATCH = 64, 512  # on a CPU, larger batches only leave the cache
ODE_EVALUATIONS = 300  # an image, about, its gradients included
SHEET = 20  # samples shown beside their nearest training images
GUIDED = {**APP, "seed": 0}  # but for the strength: the third table
TABLES = (  # what of the map is printed, too
    ("FID, less that of as many real images, w = 0, dpm++2m:", "schedule", "steps",
     {"weight": 0.0, "sampler": "dpm++2m", "variance": "posterior", "interval": None, "scale": 0.0, "seed": 0}),
    ("the same under DDPM's two reverse variances:", "variance", "steps",
     {"weight": 0.0, "sampler": "ddpm", "schedule": "cosine", "interval": None, "scale": 0.0, "seed": 0}),
)  # fmt: skip


def draw(model: Model, judge: Judge, setting: dict, count: int, seed: int, bar: tqdm):
    """``count`` samples as the judge reads them, the classes in turn, and their labels (N,), None if unconditional.

    Image k has the noise of ``seed + k``, whoever draws it: the processes of a launch share the batches, and every one
    returns them all. ``bar`` counts network evaluations.
    """
    state = PartialState()
    labels = torch.arange(count) % len(model.class_names) if model.label_names or setting["scale"] else None
    batches = torch.arange(count).split(CPU_BATCH if model.device.type == "cpu" else GPU_BATCH)
    mine = []
    for place in range(state.process_index, len(batches), state.num_processes):
        indices = batches[place]
        asked = {"count": len(indices)} if labels is None else {"labels": labels[indices].tolist()}
        before = 0
        for step in sample(model, **asked, **as_arguments(setting, seed + indices[0].item()), decoded=False):
            halves = 2 if step.guidance is not None and setting["weight"] not in (0, -1) else 1
            bar.update((step.nfe - before) * halves * len(indices) * state.num_processes)
            before = step.nfe
        mine.append((place, read(judge.classifier, decode_step(step, model).x0.cpu())))
    parts = sorted(gather_object(mine), key=lambda part: part[0]) if state.num_processes > 1 else mine
    return joined([part for _, part in parts]), labels


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, print, and write ``metrics.json`` into the checkpoint. Returns the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.evaluation", description=__doc__, formatter_class=formatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--checkpoint", default="checkpoints/mnist", help="a folder (default: %(default)s)")
    add("--data-dir", default="data", help="where the real images are (default: %(default)s)")
    add(
        "--classifier", help="folder of the judge, classifier.safetensors (default: the checkpoint, or the shipped one)"
    )
    add("--samples", type=int, default=8192, help="images a setting (default: %(default)s)")
    add("--weight", type=float, nargs="+", default=[0.0, 1.0], help="guidance weights w (default: 0 1)")
    add("--schedule", choices=SCHEDULES, nargs="+", default=["cosine"], help="(default: cosine)")
    add("--sampler", choices=SAMPLERS, nargs="+", default=["dpm++2m"], help="(default: dpm++2m)")
    add("--steps", type=int, nargs="+", default=[20], help="(default: 20)")
    add("--variance", choices=VARIANCES, nargs="+", default=["posterior"], help="of ddpm (default: posterior)")
    add("--interval", type=float, nargs=2, metavar=("LOW", "HIGH"), help="guide only at these log-SNRs")
    add("--scale", type=float, nargs="+", default=[0.0], help="of classifier guidance (default: 0)")
    add("--seed", type=int, default=0, help="(default: %(default)s)")
    add("--map", action="store_true", help="measure slices of the setting space instead; Ctrl-C and run again: goes on")
    add("--over-time", action="store_true", help="measure the snapshots of the training instead (train.py --snapshots)")
    add("--bits-per-dim", type=int, metavar="IMAGES", help="measure the likelihood of so many test images instead")
    add("--draws", type=int, default=10, help="with it: noise levels an image (default: %(default)s)")
    add("--ode-images", type=int, default=256, help="with it: so many of them by the ODE, too (default: %(default)s)")
    add("--tolerance", type=float, default=1e-4, help="with it: of the ODE (default: %(default)s)")
    add("--restore", type=int, metavar="IMAGES", help="complete (and enlarge) so many test images instead")
    add("--again", action="store_true", help="measure anew what is in metrics.json already")
    add("--inception", action="store_true", help="also the standard FID, on Inception features (downloads its weights)")
    options = parser.parse_args(arguments)
    try:
        evaluate(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was measured is kept, and the same command goes on", file=sys.stderr)
        return 130
    return 0


def evaluate(options: argparse.Namespace) -> None:
    """Measure what was asked for and is not yet in metrics.json."""
    if options.samples < FEWEST:
        raise UserError(f"samples is {options.samples}; a Frechet distance on {FEATURES} features needs {FEWEST}")
    state = PartialState(cpu=not torch.accelerator.is_available())
    folder = Path(options.checkpoint)
    model = load(folder, state.device)
    if options.bits_per_dim:
        return measure_likelihood(options, model)
    plan = asked_for(options, model)
    inception = inception_metric() if options.inception else None
    judge, judged = judge_for(options, folder, model)
    metrics = Metrics(folder)
    metrics.told |= {"classifier_test_accuracy": judged, "floor": judge.floor}
    say(f"the judge reads {judged:.2%} of the real test images; test against train images: FID {judge.floor:.4f}")
    if not model.codec.bounded and "autoencoder" not in metrics.told:
        back = reconstructed(model.codec, judge.tested)
        originals = judge.tested.batch(torch.arange(len(back)))[0]
        metrics.told["autoencoder"] = {"psnr": psnr(back, originals).item()} | judge.through(back)
    if options.restore:
        restore(options, model.recorded(), judge, metrics)
    elif options.over_time:
        over_time(options, judge, metrics, plan[-1][0])
    else:
        measure_all(options, model.recorded(), judge, metrics, plan, inception)
        for title, *axes in TABLES if options.map else ():
            say(f"\n{title}\n\n{table(metrics.told['quality'], *axes)}")
        if options.map and model.noisy_classifier:
            say(f"\n{kinds_of_guidance(metrics.told['quality'], GUIDED)}")
    if state.is_main_process:
        metrics.write()
        write_card(folder)
        say(f"written to {metrics.path}")


def asked_for(options: argparse.Namespace, model: Model) -> list[tuple[dict, int]]:
    """(setting, number of samples) of all that is to be measured; UserError for a wrong setting."""
    if options.map:
        plan = [cell for cell in planned(options.samples) if model.noisy_classifier or not cell[0]["scale"]]
    else:
        names = ("weight", "schedule", "sampler", "steps", "variance", "scale")
        axes = {name: getattr(options, name) for name in names} | {"interval": [options.interval]}
        plan = [(setting, options.samples) for setting in cells_of(axes)]
    if not model.class_names:  # nothing to guide
        plan = [(setting | {"weight": 0.0, "interval": None}, count) for setting, count in plan]
        plan = [cell for k, cell in enumerate(plan) if cell not in plan[:k]]
    for setting, _ in plan:
        labels = [0] if model.class_names and (model.label_names or setting["scale"]) else None
        sample(model, labels, **as_arguments(setting, options.seed))  # checks, and draws nothing until it is walked
    return plan


def measure_all(options, model: Model, judge: Judge, metrics: Metrics, plan: list, inception) -> None:
    """Measure each setting of a plan that is not yet in metrics.json, and write that after every one."""
    missing = [cell for cell in plan if options.again or not metrics.has(cell[0], cell[1], options.seed)]
    if len(missing) < len(plan):
        say(f"{len(plan) - len(missing)} of {len(plan)} settings are measured already (--again measures them anew)")
    with bar_of(missing) as bar:
        for setting, count in missing:
            began = time.perf_counter()
            samples, labels = draw(model, judge, setting, count, options.seed, bar)
            seconds = time.perf_counter() - began
            if not PartialState().is_main_process:
                continue
            cell = judge.measure(samples, labels) | {"seconds": seconds}
            if inception:
                cell["inception_fid"] = inception_fid(inception, judge.images, samples.images)
            metrics.add(setting, count, options.seed, cell)
            if not options.map and (setting == APP or "memorised" not in metrics.told):
                metrics.told["memorised"] = judge.memorised(samples.images[:1024]) | {"setting": setting}
                sheet(metrics.path.parent, judge, samples.images)
            metrics.write()
            bar.write(sentence(setting, count, cell))


def say(text: str) -> None:
    """Print once, however many processes."""
    if PartialState().is_main_process:
        print(text, flush=True)


def bar_of(plan: list[tuple[dict, int]]) -> tqdm:
    """Progress over all that is to be measured, in network evaluations, so that its ETA is true from the start."""
    return progress_bar(sum(evaluations(setting) * count for setting, count in plan))


def progress_bar(total: int) -> tqdm:
    """A bar of network evaluations with the time that is left, on the main process."""
    style = "{percentage:3.0f}%|{bar}| {elapsed} < {remaining}, {rate_fmt}"
    return tqdm(
        total=total, unit=" evaluations", unit_scale=True, bar_format=style, smoothing=0.1,
        mininterval=0.2 if sys.stderr.isatty() else 30, disable=not PartialState().is_main_process,
    )  # fmt: skip


def measure_likelihood(options: argparse.Namespace, model: Model) -> None:
    """Measure the likelihood of test images, write it into metrics.json and the card, and print it."""
    if not model.codec.bounded:
        raise UserError("this checkpoint diffuses latents: what an image itself would cost in bits, it cannot tell")
    if options.bits_per_dim < 2 or options.draws < 1 or options.ode_images < 0 or not 1e-6 <= options.tolerance <= 0.1:
        raise UserError(
            f"--bits-per-dim is {options.bits_per_dim}, --draws {options.draws}, --ode-images {options.ode_images}, "
            f"--tolerance {options.tolerance:g}; at least 2, 1 and 0 are needed, and a tolerance from 1e-6 to 0.1"
        )
    size = {"classes": tuple(model.training["classes"]), "image_size": model.image_size}
    test = datasets.load(model.dataset, options.data_dir, "test", **size)
    count = min(options.bits_per_dim, len(test))
    images = test.batch(torch.randperm(len(test), generator=torch.Generator().manual_seed(options.seed))[:count])[0]
    began = time.perf_counter()
    expected = 2 * count * (options.draws + 1) + ODE_EVALUATIONS * min(options.ode_images, count)
    with progress_bar(expected) as bar:
        steps = bits_per_dim.measure(
            model,
            images,
            draws=options.draws,
            ode_images=options.ode_images,
            tolerance=options.tolerance,
            seed=options.seed,
        )
        for evaluations, report in steps:
            bar.update(evaluations)
    metrics = Metrics(Path(options.checkpoint))  # only now: another measurement may have ended meanwhile
    metrics.told["bits_per_dim"] = report | {"seconds": time.perf_counter() - began}
    metrics.write()
    write_card(Path(options.checkpoint))
    say(card.likelihood(metrics.told["bits_per_dim"]))


def restore(options: argparse.Namespace, model: Model, judge: Judge, metrics: Metrics) -> None:
    """Measure what the model makes of images that are known in part, and print it."""
    count = min(options.restore, len(judge.tested))
    with progress_bar(2 * restoration.STEPS * count * len(restoration.tasks_of(model))) as bar:
        for evaluations, report in restoration.measure(model, judge, count, options.seed):
            bar.update(evaluations)
    metrics.told["restored"] = report
    say(restoration.table(report))


def judge_for(options: argparse.Namespace, folder: Path, model: Model) -> tuple[Judge, float]:
    """The judge of the model's dataset, and the fraction of real test images that it reads."""
    shipped = Path("checkpoints") / model.dataset
    own = options.classifier or (folder if (folder / FILE).exists() or not (shipped / FILE).exists() else shipped)
    classifier, accuracy = load_classifier(Path(own))
    size = {"classes": tuple(model.training["classes"]), "image_size": model.image_size}
    train, test = (datasets.load(model.dataset, options.data_dir, split, **size) for split in ("train", "test"))
    return Judge(classifier, train, test), accuracy


def sheet(folder: Path, judge: Judge, images: torch.Tensor) -> None:
    """``nearest.png``: rows of ten samples, and below each row the training images nearest to them."""
    shown = images[:SHEET]
    found = judge.images.batch(nearest(shown, judge.images)[1])[0]
    rows = [row for pair in zip(shown.split(10), found.split(10)) for row in pair]
    picture(torch.cat(rows), columns=10, gap=0).save(folder / "nearest.png")


def over_time(options: argparse.Namespace, judge: Judge, metrics: Metrics, setting: dict) -> None:
    """Measure every snapshot of the training at one setting, and write metrics.json after every one."""
    folder = metrics.path.parent / "snapshots"
    models = [load(path.parent, PartialState().device) for path in sorted(folder.glob("step-*/demo.json"))]
    if not models:
        raise UserError(f"{folder} holds none: train with  python train.py --snapshots ...")
    asked = {"setting": setting | {"seed": options.seed, "samples": options.samples}}
    rows = (
        []
        if options.again
        else [row for row in metrics.told.get("over_time", []) if row["setting"] == asked["setting"]]
    )
    missing = [model for model in models if model.training["steps"] not in [row["training"]["steps"] for row in rows]]
    with bar_of([(setting, options.samples)] * len(missing)) as bar:
        for model in missing:
            samples, labels = draw(model.recorded(), judge, setting, options.samples, options.seed, bar)
            if not PartialState().is_main_process:
                continue
            told = {name: model.training[name] for name in ("steps", "seconds", "batch_size")}
            cell = judge.measure(samples, labels)
            rows.append({"training": told} | asked | cell)
            metrics.told["over_time"] = sorted(rows, key=lambda row: row["training"]["steps"])
            metrics.write()
            bar.write(f"after {told['seconds'] / 60:.1f} minutes: " + sentence(setting, options.samples, cell))


if __name__ == "__main__":
    sys.exit(main())
