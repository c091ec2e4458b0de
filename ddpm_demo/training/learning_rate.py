"""The learning rate of every training here that runs by a budget: linear warm-up, then cosine decay to zero."""

from math import cos, pi

from torch.optim import Optimizer


def warm_up_and_decay(peak: float, step: int, fraction: float, warmup_steps: int) -> float:
    """The learning rate of a step, counted from 0, when a fraction (0 to 1) of the budget is spent.

    It rises to ``peak`` over ``warmup_steps`` and falls to 0 along half a cosine (Loshchilov & Hutter 2017, eq. 5).
    """
    return peak * min(1.0, (step + 1) / warmup_steps) * (1 + cos(pi * fraction)) / 2


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate
