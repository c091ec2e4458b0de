"""Measures how well a model restores images from a part: it completes a hole, or enlarges a small image.

``python -m ddpm_demo.evaluation restore`` uses test images without their labels. It measures how close the result is to
the original, and whether it is classified as the original's class. Two figures are given for comparison: that of the
same model with the part of another image, which shows whether the model uses the part, and that of a simple filling.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ddpm_demo.diffusion.sampling import LAST_SEED, Sampling
from ddpm_demo.errors import check_whole
from ddpm_demo.evaluation.judge import Judge, concatenate, judge_images
from ddpm_demo.evaluation.progress import progress_bar, say
from ddpm_demo.generation.begin import Completion, Enlargement
from ddpm_demo.generation.generate import generate
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.models.partial_image import enlarge, remove_detail, shrink
from ddpm_demo.reports.markdown import write_table
from ddpm_demo.training.autoencoder import psnr

BATCH, STEPS = 64, 20
TASKS = ("complete", "enlarge")
RATIOS = ("psnr", "psnr_of_another", "psnr_plain")


def measure_restoration(model: Model, judge: Judge, count: int, seed: int) -> dict:
    """Measure ``count`` test images, print the report, and return it."""
    count = min(count, len(judge.test_data))
    with progress_bar(2 * STEPS * count * len(tasks_of(model))) as bar:
        for evaluations, report in measure(model.trace(), judge, count, seed):
            bar.update(evaluations)
    say(tabulate_restoration(report))
    return report


def check_options(count: int, seed: int) -> None:
    """Raise UserError for a number of images or a seed that is not allowed."""
    check_whole("images", count, 1, 2**20)
    check_whole("seed", seed, 0, LAST_SEED)


def middle_hole(size: int) -> Tensor:
    """Return the known pixels (size, size), bool, of an image without its middle: half its width and half its height."""
    keep, (begin, end) = torch.ones(size, size, dtype=torch.bool), middle(size)
    keep[begin:end, begin:end] = False
    return keep


def middle(size: int) -> tuple[int, int]:
    """Return the first row of the hole in an image, and the first one below it. The columns are the same."""
    return size // 4, size - size // 4


def tasks_of(model: Model) -> tuple[str, ...]:
    """Return the tasks of a model. Any model completes; a model that takes an image beside x also enlarges."""
    return TASKS if model.takes_image else TASKS[:1]


def restore(model: Model, images: Tensor, task: str, seed: int = 0) -> Tensor:
    """Restore images (N, C, H, W), [-1, 1], without labels, from the part of them that the task gives."""
    completes = task == "complete"
    begin = Completion(images, middle_hole(images.shape[-1])) if completes else Enlargement(remove_detail(images)[0])
    return generate(model, count=len(images), begin=begin, sampling=Sampling("ddpm", steps=STEPS, seed=seed)).cpu()


def fill_plainly(images: Tensor, task: str) -> Tensor:
    """Restore images (N, C, H, W) without a model: by the mean colour of the known part, or by bicubic enlargement."""
    if task == "enlarge":
        return enlarge(shrink(images), images.shape[-1])
    return images[..., middle_hole(images.shape[-1])].mean(-1)[..., None, None].expand_as(images)


def compared_part(images: Tensor, task: str) -> Tensor:
    """Return the part of images (N, C, H, W) whose error counts: the pixels in the hole, or all pixels."""
    if task == "enlarge":
        return images
    begin, end = middle(images.shape[-1])
    return images[..., begin:end, begin:end]


def measure(model: Model, judge: Judge, count: int, seed: int = 0) -> Iterator[tuple[int, dict]]:
    """Measure ``count`` test images, task by task. Yield (network evaluations since the previous, report).

    The last report is complete. ``report[task]`` holds ``psnr`` (decibels; of the hole alone for "complete"),
    ``psnr_of_another``, ``psnr_plain``, and ``accuracy``, the fraction classified as the original's class.
    """
    chosen = torch.randperm(len(judge.test_data), generator=torch.Generator().manual_seed(seed))[:count]
    images, labels = judge.test_data.batch(chosen)
    report: dict = {"images": len(images), "seed": seed, "steps": STEPS}
    for task in tasks_of(model):
        results = []
        for given in (images, images.roll(1, 0)):
            parts = []
            for k, batch in enumerate(given.split(BATCH)):
                parts.append(restore(model, batch, task, seed + k * BATCH))
                yield STEPS * len(batch), report
            results.append(torch.cat(parts))
        classified = concatenate([judge_images(judge.classifier, batch) for batch in results[0].split(BATCH)])
        original = compared_part(images, task)
        ratios = [psnr(compared_part(one, task), original).item() for one in (*results, fill_plainly(images, task))]
        accuracy = (classified.predicted == labels).double().mean().item()
        report[task] = dict(zip(RATIOS, ratios)) | {"accuracy": accuracy}
        yield 0, report


def tabulate_restoration(report: dict) -> str:
    """Tabulate the report as Markdown."""
    heads = ["task", "PSNR", "given another image", "plain filling", "classified as the original"]
    done = [(task, report[task]) for task in TASKS if task in report]
    rows = [[task, *(f"{row[name]:.2f} dB" for name in RATIOS), f"{row['accuracy']:.1%}"] for task, row in done]
    return write_table(heads, rows)
