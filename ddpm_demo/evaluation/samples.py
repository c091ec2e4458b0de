"""How good the samples of a checkpoint are, setting by setting: drawn, judged, and written into ``metrics.json``."""

import time
from dataclasses import dataclass, replace

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from tqdm import tqdm

from ddpm_demo.data.datasets import Data, add_mirrored
from ddpm_demo.data.images import render_grid
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation.distances import find_nearest, inception_fid
from ddpm_demo.evaluation.judge import Classified, Judge, concatenate, judge_images
from ddpm_demo.evaluation.maps import BASE, FEWEST
from ddpm_demo.evaluation.progress import progress_bar, say
from ddpm_demo.generation.generate import count_evaluations, decode_step, sample
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.models.classifier import FEATURES
from ddpm_demo.reports.results import Metrics, agree, without_idle
from ddpm_demo.reports.tables import describe_figures

CPU_BATCH, GPU_BATCH = 64, 512  # a larger batch does not fit into the cache of a CPU
SHEET = 20  # samples that are shown with their nearest training images
Plan = list[tuple[Sampling, int]]  # settings, each with its number of samples


@dataclass(frozen=True)
class Ways:
    """How a plan is measured."""

    again: bool = False  # also what metrics.json holds already
    shows_nearest: bool = True  # draw nearest.png, and measure whether training images were memorised
    inception: FrechetInceptionDistance | None = None  # also the FID on Inception features


def check_samples(samples: int) -> None:
    """UserError for fewer samples than a Frechet distance needs."""
    if samples < FEWEST:
        raise UserError(f"samples is {samples}; a Frechet distance on {FEATURES} features needs {FEWEST}")


def fit_to_model(plan: Plan, model: Model) -> Plan:
    """The plan without classifier-free guidance for a network without classes, each setting once.

    UserError for a setting that is wrong.
    """
    if not model.label_names:
        plan = [(without_idle(replace(sampling, weight=0.0)), count) for sampling, count in plan]
    unique: dict[Sampling, tuple[Sampling, int]] = {}
    for sampling, count in plan:
        sampling.check(model, [0] if takes_labels(model, sampling) else None, None)
        unique.setdefault(without_idle(sampling), (sampling, count))
    return list(unique.values())


def takes_labels(model: Model, sampling: Sampling) -> bool:
    """Whether the samples of a setting are asked for by class: the network or the guiding classifier knows classes."""
    return bool(model.label_names or sampling.classifier_scale)


def draw(model: Model, judge: Judge, sampling: Sampling, count: int, bar: tqdm) -> tuple[Classified, Tensor | None]:
    """``count`` classified samples, the classes in turn, and their labels (N,) in the dataset, None if unconditional.

    Image k has the noise of ``seed + k`` in any process: the processes of a launch share the batches, and each of them
    returns all samples. ``bar`` counts network evaluations.
    """
    state = PartialState()
    numbers = number_classes(model, judge.test_data) if takes_labels(model, sampling) else None
    labels = None if numbers is None else torch.arange(count) % len(numbers)
    batches = torch.arange(count).split(CPU_BATCH if model.device.type == "cpu" else GPU_BATCH)
    parts = []
    for place in range(state.process_index, len(batches), state.num_processes):
        indices = batches[place]
        drawn = None if labels is None else labels[indices].tolist()
        first = replace(sampling, seed=sampling.seed + indices[0].item())
        parts.append((place, judge_images(judge.classifier, draw_batch(model, first, drawn, len(indices), bar))))
    if state.num_processes > 1:
        parts = sorted(gather_object(parts), key=lambda part: part[0])
    return concatenate([part for _, part in parts]), None if numbers is None else numbers[labels]


def number_classes(model: Model, data: Data) -> Tensor:
    """The label (K,) in a dataset of each class of a model, by name. UserError for a class that the dataset lacks."""
    unknown = [name for name in model.class_names if name not in data.label_names]
    if unknown:
        raise UserError(
            f"the model draws the classes {', '.join(unknown)}, but the dataset has {', '.join(data.label_names)}: pass "
            "the --data-dir of its training"
        )
    return torch.tensor([data.label_names.index(name) for name in model.class_names])


def draw_batch(model: Model, sampling: Sampling, labels: list[int] | None, count: int, bar: tqdm) -> Tensor:
    """``count`` images (N, C, H, W), [-1, 1], on the CPU; the bar is updated at every step."""
    calls = 0
    for step in sample(model, labels, count=count, sampling=sampling, decoded=False):
        evaluations = sampling.evaluations_per_call if step.guidance is not None else 1
        bar.update((step.nfe - calls) * evaluations * count * PartialState().num_processes)
        calls = step.nfe
    return decode_step(step, model).x0.cpu()


def plan_bar(model: Model, plan: Plan) -> tqdm:
    """A progress bar over a whole plan, in network evaluations: the remaining time is right from the start."""
    return progress_bar(sum(count_evaluations(model, sampling) * count for sampling, count in plan))


def measure_plan(model: Model, judge: Judge, metrics: Metrics, plan: Plan, ways: Ways) -> None:
    """Measure each setting of a plan that is not yet in ``metrics.json``, and write the file after each."""
    missing = [(sampling, count) for sampling, count in plan if ways.again or not metrics.has(sampling, count)]
    if len(missing) < len(plan):
        say(f"{len(plan) - len(missing)} of {len(plan)} settings are measured already (--again measures them anew)")
    recorded = model.trace()
    with plan_bar(model, missing) as bar:
        for sampling, count in missing:
            began = time.perf_counter()
            samples, labels = draw(recorded, judge, sampling, count, bar)
            seconds = time.perf_counter() - began
            if not PartialState().is_main_process:
                continue
            cell = judge.measure(samples, labels) | {"seconds": seconds}
            if ways.inception:
                cell["inception_fid"] = inception_fid(ways.inception, judge.train_data, samples.images)
            metrics.add(sampling, count, cell)
            if ways.shows_nearest and (agree(sampling, BASE, "seed") or "memorised" not in metrics.content):
                mirrored = (model.training or {}).get("flip", False)
                seen = add_mirrored(judge.train_data) if mirrored else judge.train_data
                memorised = judge.measure_memorisation(samples.images[:1024], seen)
                sheet = draw_nearest(samples.images[:SHEET], seen)
                with metrics.change() as content:
                    content["memorised"] = metrics.describe(sampling, count) | {"mirrored": mirrored} | memorised
                    sheet.save(metrics.path.with_name("nearest.png"))
            bar.write(describe_figures(sampling, count, cell))


def draw_nearest(samples: Tensor, seen: Data) -> Image.Image:
    """Draw rows of ten samples (N, C, H, W), and below each row the images of ``seen`` nearest to them."""
    found = seen.batch(find_nearest(samples, seen)[1])[0]
    rows = [row for pair in zip(samples.split(10), found.split(10)) for row in pair]
    return render_grid(torch.cat(rows), columns=10, gap=0)
