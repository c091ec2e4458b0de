"""The public face of sampling: check the settings, draw the noise, guide, walk the schedule, decode each step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf, isfinite

import torch
from torch import Tensor

from ddpm_demo import samplers
from ddpm_demo.checkpoint import Model
from ddpm_demo.errors import UserError
from ddpm_demo.guidance import ClassifierFree
from ddpm_demo.samplers import SAMPLERS, VARIANCES, Step
from ddpm_demo.schedule import SCHEDULES, Schedule

MAX_WEIGHT = 100.0


def sample(
    model: Model,
    labels: Sequence[int] | None = None,
    *,
    count: int | None = None,
    weight: float = 0.0,
    schedule: str = "cosine",
    sampler: str = "dpm++2m",
    steps: int = 20,
    seed: int = 0,
    variance: str = "posterior",
    interval: tuple[float, float] = (-inf, inf),
) -> Iterator[Step]:
    """Every step of the reverse process, as images (N, C, H, W), [-1, 1]; the last step's ``x0`` is the sample.

    ``labels`` are N class numbers; None draws ``count`` images (1) without a label. ``weight`` is the guidance
    weight w of Ho & Salimans 2022 (0: plain conditional; diffusers' ``guidance_scale`` is 1 + w), applied where the
    log-SNR lies in ``interval``. ``variance`` is DDPM's choice of reverse variance, "posterior" or "beta". Image k
    starts from the noise of ``seed + k``, whatever the other images or the device. UserError for a wrong setting.
    """
    check(model, labels, count, weight, schedule, sampler, steps, seed, variance, interval)
    label = None if labels is None else torch.tensor(labels, dtype=torch.int64, device=model.device)
    shape = model.codec.shape(model.channels, model.image_size)
    noise = noise_source(seed, len(labels) if labels is not None else count or 1, shape, model.device)
    denoise = model.denoiser
    if label is not None:
        denoise = ClassifierFree(denoise, weight, denoise.num_classes, interval)
    walked = Schedule.named(schedule)
    grid = walked.grid(steps, within=model.denoiser.schedule.range)
    walk = samplers.sample(denoise, noise(), grid, label, sampler=sampler, noise=noise, variance=variance, clip=True)
    decode = model.codec.decode
    return (
        replace(
            step,
            timestep=walked.timestep(step.log_snr).item(),
            x=decode(step.x),
            x0=decode(step.x0),
            eps=decode(step.eps),
            guidance=None if step.guidance is None else decode(step.guidance),
        )
        for step in walk
    )


def generate(model: Model, labels: Sequence[int] | None = None, **settings) -> Tensor:
    """The finished images (N, C, H, W), [-1, 1]: the last clean estimate of ``sample``, same arguments."""
    for step in sample(model, labels, **settings):
        pass
    return step.x0


def noise_source(seed: int, count: int, shape: tuple[int, ...], device: torch.device) -> Callable[[], Tensor]:
    """A function that draws the next noise (count, *shape); image k has a CPU generator of its own, seed + k."""
    generators = [torch.Generator().manual_seed(seed + k) for k in range(count)]
    return lambda: torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)


def check(model, labels, count, weight, schedule, sampler, steps, seed, variance, interval) -> None:
    """UserError that names the argument, what came and what is allowed."""
    one_of("schedule", schedule, SCHEDULES)
    one_of("sampler", sampler, SAMPLERS)
    one_of("variance", variance, VARIANCES)
    whole("steps", steps, 1, 1000)
    whole("seed", seed, 0, 2**32 - 1)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not isfinite(weight):
        raise UserError(f"weight is {weight!r}; it must be a finite number")
    if not -MAX_WEIGHT <= weight <= MAX_WEIGHT:
        raise UserError(f"weight is {weight}; it must lie between -{MAX_WEIGHT:g} and {MAX_WEIGHT:g}")
    if not len(interval) == 2 or not interval[0] <= interval[1]:
        raise UserError(f"interval is {interval!r}; it must be (lowest, highest) log-SNR")
    if labels is None:
        whole("count", 1 if count is None else count, 1, 2**20)
        if weight:
            raise UserError(f"weight is {weight}, but guidance needs labels: pass labels, or weight 0")
        return
    if not model.label_names:
        raise UserError("labels were given, but this model was trained without classes: pass count instead")
    if count is not None and count != len(labels):
        raise UserError(f"count is {count}, but there are {len(labels)} labels: pass one of the two")
    if not len(labels):
        raise UserError("labels is empty; it must hold at least one class number")
    for label in labels:
        whole("label", label, 0, len(model.label_names) - 1)


def one_of(name: str, value: str, allowed) -> None:
    """UserError unless value is one of the allowed names."""
    if not isinstance(value, str) or value not in allowed:
        raise UserError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")


def whole(name: str, value: int, lowest: int, highest: int) -> None:
    """UserError unless value is an integer (bool excluded) in range."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise UserError(f"{name} is {value!r}; it must be a whole number from {lowest} to {highest}")
