"""What a model makes of images that are known in part: a hole to complete, a small image to enlarge.

``python -m ddpm_demo.evaluation --restore 512`` measures it on test images, without their labels: how near the result
comes to the original, and whether it is read as the original's class. Beside it stands the same with another image's
condition, which a model that does not look at its condition could not tell apart, and what a plain filling would get.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ddpm_demo.evaluation.judge import Judge, joined, read
from ddpm_demo.generation.begin import Completion, Enlargement
from ddpm_demo.generation.generate import generate
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.models.partial_image import enlarge, remove_detail, shrink
from ddpm_demo.training.autoencoder import psnr

BATCH, STEPS = 64, 20


def hole(size: int) -> Tensor:
    """What is kept (size, size), bool, of an image whose middle is missing, half as wide and half as high."""
    keep, quarter = torch.ones(size, size, dtype=torch.bool), size // 4
    keep[quarter : size - quarter, quarter : size - quarter] = False
    return keep


def tasks_of(model: Model) -> tuple[str, ...]:
    """What a model can be asked: any can complete, one that takes an image beside x can enlarge."""
    return ("complete", "enlarge") if model.takes_image else ("complete",)


def restored(model: Model, images: Tensor, task: str, seed: int = 0) -> Tensor:
    """Images (N, C, H, W), [-1, 1], of which the task shows the model a part, as it restores them, label unknown."""
    completes = task == "complete"
    begin = Completion(images, hole(images.shape[-1])) if completes else Enlargement(remove_detail(images)[0])
    return generate(model, count=len(images), steps=STEPS, sampler="ddpm", seed=seed, begin=begin).cpu()


def measure(model: Model, judge: Judge, count: int, seed: int = 0) -> Iterator[tuple[int, dict]]:
    """(network evaluations since the last, report) task by task; the report is complete in the last.

    ``report[task]`` holds ``psnr`` (decibels, within the hole for "complete"), ``psnr_of_another``, ``psnr_plain`` (the
    mean colour of what is known; bicubic), and ``accuracy``, the share read as the original's class.
    """
    chosen = torch.randperm(len(judge.tested), generator=torch.Generator().manual_seed(seed))[:count]
    images, labels = judge.tested.batch(chosen)
    report: dict = {"images": len(images), "seed": seed, "steps": STEPS}
    inside = ~hole(images.shape[-1])
    for task in tasks_of(model):
        size = images.shape[-1] // 2
        part = (
            (lambda x, size=size: x[..., inside].unflatten(-1, (size, size))) if task == "complete" else (lambda x: x)
        )
        made = {}
        for whose, given in (("own", images), ("another's", images.roll(1, 0))):
            done = []
            for k, batch in enumerate(given.split(BATCH)):
                done.append(restored(model, batch, task, seed + k * BATCH))
                yield STEPS * len(batch), report
            made[whose] = torch.cat(done)
        if task == "complete":
            known = images[..., ~inside].mean(-1)[..., None, None].expand_as(images)
        else:
            known = enlarge(shrink(images), images.shape[-1])
        seen = joined([read(judge.classifier, batch) for batch in made["own"].split(BATCH)])
        report[task] = {
            "psnr": psnr(part(made["own"]), part(images)).item(),
            "psnr_of_another": psnr(part(made["another's"]), part(images)).item(),
            "psnr_plain": psnr(part(known), part(images)).item(),
            "accuracy": (seen.named == labels).double().mean().item(),
        }
        yield 0, report


def table(report: dict) -> str:
    """The report as Markdown."""
    lines = [
        "| task | PSNR | given another image | plain filling | read as the original |",
        "|---|---|---|---|---|",
    ]
    for task in ("complete", "enlarge"):
        if row := report.get(task):
            figures = " | ".join(f"{row[name]:.2f} dB" for name in ("psnr", "psnr_of_another", "psnr_plain"))
            lines.append(f"| {task} | {figures} | {row['accuracy']:.1%} |")
    return "\n".join(lines)
