"""The learning rate of every training here that runs by a budget: linear warm-up, then a decay to zero."""

from math import cos, pi

from torch.optim import Optimizer


def warm_up_and_decay(peak: float, step: int, fraction: float, warmup_steps: int, anneal: float | None = None) -> float:
    """The learning rate of a step, counted from 0, when a fraction (0 to 1) of the budget is spent.

    It rises to ``peak`` over ``warmup_steps`` and falls to 0 along half a cosine (Loshchilov & Hutter 2017, eq. 5). With
    ``anneal`` (above 0, up to 1), it is constant after the warm-up and falls to 0 linearly in that last fraction of the
    budget (Haegele et al. 2024). The weights before that fraction then do not depend on the budget.
    """
    rise = min(1.0, (step + 1) / warmup_steps)
    if anneal is None:
        return peak * rise * (1 + cos(pi * fraction)) / 2
    return peak * rise * min(1.0, (1 - fraction) / anneal)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate
