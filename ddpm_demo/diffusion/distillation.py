"""Distillation of a guided diffusion model into one network that takes a few large steps, with one call per step.

Progressive distillation (Salimans & Ho 2022) with the guidance distilled as well (Meng et al. 2023). One network learns
all step sizes at once, each from two steps of half its size (as the shortcut models of Frans et al. 2024).

A step leads along the probability-flow ODE from log-SNR s to log-SNR t. If two smaller steps by DDIM, with the clean
estimates D_1 at s and D_2 at m, lead to the same state, then one step by DDIM with this clean estimate leads there too:

    D = (1 - f) * D_1 + f * D_2,    f = (r_t - r_m) / (r_t - r_s),    r = alpha / sigma
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import alpha_sigma, per_image
from ddpm_demo.diffusion.guidance import Denoise
from ddpm_demo.diffusion.sampling import MAX_WEIGHT, Sampling
from ddpm_demo.diffusion.schedule import SCHEDULES, Schedule
from ddpm_demo.errors import UserError, check_between, check_one_of, check_whole, quote

DEFAULT_STEPS, DEFAULT_WEIGHT = 4, 1.0  # fewer steps lose variety (docs/evaluation.md)
SMALLEST_SPACING = 0.01  # of guidance weights
SAMPLER = "ddim"  # the target of distillation is defined by its steps


@dataclass(frozen=True)
class Distilled:
    """What a distilled network knows beside the class: its guidance weights and its numbers of steps.

    The label of such a network is the row of (class, weight, number of steps) in its table of embeddings. ``lowest``,
    ``highest`` and ``spacing`` describe the guidance weights. The steps are those of ``Schedule.grid`` on ``schedule``;
    each number in ``steps`` is twice the one before it. Raises UserError for values that describe no such table.
    """

    lowest: float = -1.0
    highest: float = 8.0
    spacing: float = 0.05
    steps: tuple[int, ...] = (1, 2, 4, 8, 16)
    schedule: str = "cosine"

    def __post_init__(self):
        object.__setattr__(self, "steps", tuple(self.steps))  # JSON knows only lists
        check_between("lowest", self.lowest, -MAX_WEIGHT, MAX_WEIGHT)
        check_between("highest", self.highest, self.lowest, MAX_WEIGHT)
        check_between("spacing", self.spacing, SMALLEST_SPACING, 2 * MAX_WEIGHT)
        check_one_of("schedule", self.schedule, SCHEDULES)
        for steps in self.steps:
            check_whole("steps", steps, 1, 1000)
        if not self.steps or any(later != 2 * steps for steps, later in pairwise(self.steps)):
            raise UserError(f"steps is {quote(self.steps)}; each number must be twice the one before it")

    @cached_property
    def weights(self) -> Tensor:
        """The guidance weights (W,), float64, increasing."""
        count = round((self.highest - self.lowest) / self.spacing) + 1
        return self.lowest + self.spacing * torch.arange(count, dtype=torch.float64)

    @property
    def defaults(self) -> Sampling:
        """The settings of a sample where nothing else is asked for."""
        return Sampling(sampler=SAMPLER, schedule=self.schedule, steps=DEFAULT_STEPS, weight=DEFAULT_WEIGHT)

    def count_rows(self, classes: int) -> int:
        """Return the number of rows of the table for this number of classes."""
        return classes * len(self.weights) * len(self.steps)

    def rows(self, label: Tensor, weight: Tensor | float, size: Tensor | int) -> Tensor:
        """Return the rows (N,) of labels (N,) at indices of weights and of numbers of steps, each a number or (N,)."""
        return (label * len(self.weights) + weight) * len(self.steps) + size

    def split_rows(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (label, index of the weight, index of the number of steps) of rows (N,): the inverse of ``rows``."""
        rest, size = rows // len(self.steps), rows % len(self.steps)
        return rest // len(self.weights), rest % len(self.weights), size

    def index_weight(self, weight: float) -> int:
        """Return the index of a guidance weight. Raises UserError for a weight that is not in the table."""
        index = round((weight - self.lowest) / self.spacing)
        if not 0 <= index < len(self.weights) or abs(self.weights[index].item() - weight) > 1e-6:
            raise UserError(
                f"weight is {weight:g}; this distilled model knows the weights from {self.lowest:g} to {self.highest:g} "
                f"in steps of {self.spacing:g}"
            )
        return index

    def nearest_weight(self, weight: float) -> float:
        """Return the guidance weight of the table that is nearest to ``weight``."""
        index = (self.weights - weight).abs().argmin()
        return round(self.weights[index].item(), 6)

    def check(self, sampling: Sampling) -> None:
        """Raise UserError for settings whose steps the network did not learn."""
        if sampling.steps not in self.steps:
            raise UserError(
                f"steps is {sampling.steps}; this distilled model takes {', '.join(map(str, self.steps))} steps"
            )
        self.index_weight(sampling.weight)
        for name, value in (("sampler", SAMPLER), ("schedule", self.schedule)):
            if getattr(sampling, name) != value:
                raise UserError(
                    f"{name} is {getattr(sampling, name)}; this distilled model was trained for the {name} {value} alone"
                )
        if not sampling.always_guided:
            low, high = sampling.interval
            raise UserError(
                f"interval is {low:g} to {high:g}; a distilled model is guided at all noise levels: leave it out"
            )
        for name in ("classifier_scale", "autoguidance"):
            if getattr(sampling, name):
                raise UserError(
                    f"{name} is {getattr(sampling, name):g}; a distilled model contains its guidance: pass 0"
                )

    def condition(self, denoise: Denoise, weight: float, steps: int) -> Denoise:
        """Return the denoiser of one guidance weight and one number of steps. It takes labels (N,) like any other."""
        indices = self.index_weight(weight), self.steps.index(steps)
        return lambda x, log_snr, label: denoise(x, log_snr, self.rows(label, *indices))

    def grid(self, within: tuple[float, float]) -> Tensor:
        """Return the log-SNRs of the finest steps and of the middle of each, and infinity for the clean image."""
        fine = Schedule.named(self.schedule).grid(2 * self.steps[-1], within=within)
        return torch.cat([fine, torch.tensor([inf], dtype=torch.float64)])


def compose_two_steps(
    denoise: Callable[[Tensor, Tensor], Tensor], x: Tensor, s: Tensor, m: Tensor, t: Tensor
) -> Tensor:
    """Return the clean estimate (N, C, H, W) that leads in one step by DDIM to where two steps lead.

    The two steps lead x (N, C, H, W) from log-SNRs s over m to t, all (N,); t may be infinite, which is the clean image.
    ``denoise(x, log_snr)`` returns the clean estimates of the two steps.
    """
    first = denoise(x, s)
    alpha_s, sigma_s, alpha_m, sigma_m = (per_image(c, x) for log_snr in (s, m) for c in alpha_sigma(log_snr))
    second = denoise(alpha_m * first + sigma_m / sigma_s * (x - alpha_s * first), m)
    r_s, r_m, r_t = (torch.exp(log_snr / 2) for log_snr in (s, m, t))
    share = torch.where(t.isinf(), 1.0, (r_t - r_m) / (r_t - r_s))
    return torch.lerp(first, second, per_image(share, x))
