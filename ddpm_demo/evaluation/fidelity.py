"""Compares a distilled model with its guided teacher from the same noise: each step, and what the weight changes."""

import torch
from torch import Tensor

from ddpm_demo.diffusion.distillation import compose_two_steps
from ddpm_demo.diffusion.guidance import ClassifierFree, Denoise, split_estimate
from ddpm_demo.diffusion.samplers import step
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.errors import UserError
from ddpm_demo.generation.begin import noise_source
from ddpm_demo.generation.generate import generate, sampling_range
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.reports.markdown import write_table

WEIGHTS = (-1.0, -0.5, 0.0, 1.0, 4.0)  # of the steps
CHANGES = (-1.0, 2.0)  # weights whose images are compared with those at w = 0


def check_pair(teacher: Model, student: Model) -> None:
    """Raise UserError unless the second model is distilled, the first is not, and both draw images of the same kind."""
    if teacher.distilled or not student.distilled or what_it_draws(teacher) != what_it_draws(student):
        raise UserError(
            "name a model with many steps, and then one that was distilled from it, with the same classes and image size"
        )


def what_it_draws(model: Model) -> tuple:
    """Return the classes and the shape of what a model diffuses."""
    return model.label_names, model.codec.shape(model.channels, model.image_size)


@torch.no_grad()
def measure_steps(teacher: Model, student: Model, weight: float, images: int) -> Tensor:
    """Return the relative error (S,) of each of the student's finest steps, along the path of its teacher.

    A step of the student is compared with two steps of half the size by DDIM of the teacher, guided with ``weight``. The
    error is the root mean square of the difference of the two states, divided by that of the change from the state before
    the step. Image k has the class k, modulo the number of classes, and starts from the noise of seed k.
    """
    label = choose_labels(teacher, images)
    guided = estimate_with(ClassifierFree(teacher.denoiser, weight, teacher.null_label), label)
    known = student.distilled
    learned = estimate_with(known.condition(student.denoiser, weight, known.steps[-1]), label)
    shape = teacher.codec.shape(teacher.channels, teacher.image_size)
    grid, x, errors = known.grid(sampling_range(teacher)), noise_source(range(images), shape, teacher.device)(), []
    for ends in zip(grid[:-1:2], grid[1::2], grid[2::2]):
        s, m, t = (end.expand(images) for end in ends)
        estimates = compose_two_steps(guided, x, s, m, t), learned(x, s)
        theirs, mine = (step(x, estimate, s[0].item(), t[0].item()) for estimate in estimates)
        errors.append((theirs - mine).square().mean().sqrt() / (theirs - x).square().mean().sqrt())
        x = theirs
    return torch.stack(errors)


def choose_labels(model: Model, images: int) -> Tensor:
    """Return labels (N,): all classes in turn."""
    return torch.arange(images, device=model.device) % len(model.label_names)


def estimate_with(denoise: Denoise, label: Tensor):
    """Return a function of (x, log_snr) that returns the clean estimates for the labels, clipped as in sampling."""
    return lambda x, log_snr: split_estimate(denoise(x, log_snr, label)).x0.clamp(-1, 1)


def compare_changes(teacher: Model, student: Model, weight: float, images: int) -> dict[int, tuple[float, float]]:
    """Return how the student's images change from w = 0 to ``weight``, compared with its teacher's, by number of steps.

    The first number is the correlation of the two changes over all pixels of all images, the second the ratio of their root
    mean squares, student to teacher. The teacher takes the steps by DDIM from which the student's finest steps were learned.
    """
    known = student.distilled
    same = {"sampler": known.defaults.sampler, "schedule": known.schedule}
    theirs, found = draw_change(teacher, weight, images, steps=2 * known.steps[-1], **same), {}
    for steps in known.steps:
        ours = draw_change(student, weight, images, steps=steps, **same)
        correlation = torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1].item()
        found[steps] = correlation, (ours.square().mean() / theirs.square().mean()).sqrt().item()
    return found


def draw_change(model: Model, weight: float, images: int, **settings) -> Tensor:
    """Return images (N, C, H, W) at a guidance weight minus those of the same noise and labels at w = 0."""
    labels = choose_labels(model, images).tolist()
    at_weight, at_zero = (generate(model, labels, sampling=Sampling(weight=w, **settings)) for w in (weight, 0.0))
    return at_weight - at_zero


def tabulate_fidelity(teacher: Model, student: Model, images: int) -> str:
    """Measure, and format both comparisons as Markdown."""
    check_pair(teacher, student)
    rows = []
    for weight in WEIGHTS:
        errors = measure_steps(teacher, student, weight, images)
        rows.append([f"{weight:g}", f"{errors.square().mean().sqrt():.3f}", f"{errors.max():.3f}"])
    steps = write_table(["w", "error of a step", "largest of its steps"], rows)
    rows = []
    for weight in CHANGES:
        found = compare_changes(teacher, student, weight, images).values()
        rows.append([f"0 to {weight:g}", *(f"{correlation:.2f}, {ratio:.2f}" for correlation, ratio in found)])
    heads = [
        "w (correlation, ratio of sizes)",
        *(f"{count} step{'s' * (count > 1)}" for count in student.distilled.steps),
    ]
    return f"{steps}\n\n{write_table(heads, rows)}"
