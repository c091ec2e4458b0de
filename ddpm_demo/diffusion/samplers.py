"""Eight samplers, one step. Each takes the state from one log-SNR to the next, from noise to image.

|                                        | eta = 0          | eta = 1                             |
|----------------------------------------|------------------|-------------------------------------|
| clean estimate D at the current point  | DDIM             | DDPM (posterior variance)           |
| D extrapolated from the previous point | DPM-Solver++(2M) | SDE-DPM-Solver++(2M)                |

The others solve the probability-flow ODE (Heun; Runge-Kutta to a tolerance) or the reverse SDE (Euler-Maruyama; with
a Langevin corrector after every step) of Song et al. 2021 directly.

A row of ``SAMPLERS`` brings the function that advances it: given the ``ReverseProcess``, it returns ``advance(x, x0, s, t)``, which
takes x from log-SNR s, where its clean estimate is x0, to the cleaner t.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import expm1, sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import alpha_sigma
from ddpm_demo.diffusion.ode import integrate, velocity

if TYPE_CHECKING:
    from ddpm_demo.diffusion.sampling import Sampling

VARIANCES = ("posterior", "beta")


def implied_noise(x: Tensor, x0: Tensor, log_snr: float) -> Tensor:
    """eps = (x - alpha * x0) / sigma."""
    alpha, sigma = (c.item() for c in alpha_sigma(log_snr))
    return (x - alpha * x0) / sigma


def step(x: Tensor, x0: Tensor, s: float, t: float, eta: float = 0.0, z: Tensor | None = None, variance="posterior"):
    """From x at log-SNR s to a cleaner t, given the clean estimate (DDIM, Song et al. 2021, eq. 12 and 16).

    ``eta`` 0 is deterministic; 1 is DDPM's posterior (Ho et al. 2020, eq. 6-7) with fresh noise ``z`` like x, whose
    variance is the posterior's or, with ``variance="beta"``, the forward process's (both in Ho et al., section 3.2).
    """
    alpha_t, sigma_t = (c.item() for c in alpha_sigma(t))
    nu = eta * sigma_t * sqrt(-expm1(s - t))
    x_t = alpha_t * x0 + sqrt(sigma_t**2 - nu**2) * implied_noise(x, x0, s)
    if nu == 0:
        return x_t
    scale = nu if variance == "posterior" else nu * alpha_sigma(s)[1].item() / sigma_t
    return x_t + scale * z


def sde_step(x: Tensor, x0: Tensor, s: float, t: float, z: Tensor) -> Tensor:
    """Euler-Maruyama on the reverse variance-preserving SDE: x + (x/2 + score) * B + sqrt(B) * z.

    B is the integral of beta over the step, log alpha_bar_t - log alpha_bar_s (Song et al. 2021, eq. 6 and 11).
    """
    log_alpha_bar_s, log_alpha_bar_t = torch.nn.functional.logsigmoid(torch.tensor([s, t], dtype=torch.float64))
    B = (log_alpha_bar_t - log_alpha_bar_s).item()
    score = -implied_noise(x, x0, s) / alpha_sigma(s)[1].item()
    return x + (x / 2 + score) * B + sqrt(B) * z


def langevin_step(x: Tensor, x0: Tensor, log_snr: float, snr: float, z: Tensor) -> Tensor:
    """A step of Langevin dynamics at one log-SNR (Song et al. 2021, Score SDE, algorithm 5): x + e * score + sqrt(2e) * z.

    e = 2 (snr * |z| / |score|)^2, with the ratio of the norms at its expected value sigma, so that no image depends on
    the others of its batch.
    """
    sigma = alpha_sigma(log_snr)[1].item()
    size = 2 * (snr * sigma) ** 2
    return x - size / sigma * implied_noise(x, x0, log_snr) + sqrt(2 * size) * z


@dataclass(frozen=True)
class ReverseProcess:
    """What an advancing function may use."""

    x: Tensor  # (N, C, H, W) the state at the first log-SNR
    log_snrs: list[float]  # rising
    estimate: Callable[[Tensor, float], Tensor]  # (x, log_snr) -> clean estimate like x: one call of the denoiser
    noise: Callable[[], Tensor]  # fresh Gaussian noise like x
    sampling: "Sampling"


Advance = Callable[[Tensor, Tensor, float, float], Tensor]  # (x, x0, s, t) -> x at t


def step_by_table(process: ReverseProcess, eta: float, order: int) -> Advance:
    """The 2x2 table: ``eta`` 0 or 1; ``order`` 2 extrapolates the clean estimate from the previous point."""
    previous: tuple[float, Tensor] | None = None

    def advance(x: Tensor, x0: Tensor, s: float, t: float) -> Tensor:
        nonlocal previous
        towards = x0
        if order == 2 and previous is not None:
            previous_s, previous_x0 = previous
            towards = x0 + (x0 - previous_x0) * (t - s) / (2 * (s - previous_s))
        previous = s, x0
        return step(x, towards, s, t, eta, process.noise() if eta else None, process.sampling.variance)

    return advance


def step_by_heun(process: ReverseProcess) -> Advance:
    """Heun's method on the probability-flow ODE (Karras et al. 2022, algorithm 1).

    It averages clean estimates, not eps as Karras et al. do. This is of second order as well, and stable at any stride:
    an averaged eps is divided by alpha, which under the cosine schedule starts at 5e-5.
    """

    def advance(x: Tensor, x0: Tensor, s: float, t: float) -> Tensor:
        return step(x, (x0 + process.estimate(step(x, x0, s, t), t)) / 2, s, t)

    return advance


def step_by_sde(process: ReverseProcess, corrects: bool) -> Advance:
    """Euler-Maruyama on the reverse SDE, followed by one Langevin step at t if it ``corrects``."""

    def advance(x: Tensor, x0: Tensor, s: float, t: float) -> Tensor:
        x = sde_step(x, x0, s, t, process.noise())
        return (
            langevin_step(x, process.estimate(x, t), t, process.sampling.corrector_snr, process.noise())
            if corrects
            else x
        )

    return advance


def step_by_ode(process: ReverseProcess) -> Advance:
    """Runge-Kutta on the probability-flow ODE, in strides of its own choice; s and t are where it is watched."""
    path = integrate(
        lambda x, s: velocity(x, process.estimate(x, s), s), process.x, process.log_snrs, process.sampling.ode_tolerance
    )
    next(path)  # the first state, which is process.x
    return lambda x, x0, s, t: next(path)[0]


@dataclass(frozen=True)
class Sampler:
    """A row of the table: its name, who published it, the function that advances it, and what a step costs."""

    title: str
    source: str
    advance: Callable[[ReverseProcess], Advance]
    calls: int = 1  # of the denoiser, a step
    stochastic: bool = False
    uses: tuple[str, ...] = ()  # the settings that matter to this sampler alone
    many_steps: bool = False  # noise remains in the image below about 50 steps


SAMPLERS = {
    "ddpm": Sampler(
        "DDPM, ancestral sampling", "Ho et al. 2020, algorithm 2", partial(step_by_table, eta=1, order=1),
        stochastic=True, uses=("variance",), many_steps=True,
    ),
    "ddim": Sampler("DDIM, deterministic", "Song et al. 2021, eq. 12", partial(step_by_table, eta=0, order=1)),
    "dpm++2m": Sampler(
        "DPM-Solver++(2M), deterministic", "Lu et al. 2022, algorithm 2", partial(step_by_table, eta=0, order=2)
    ),
    "sde-dpm++2m": Sampler(
        "DPM-Solver++(2M), stochastic", "Lu et al. 2022, section 3.4", partial(step_by_table, eta=1, order=2),
        stochastic=True, uses=("variance",),
    ),
    "heun": Sampler("Heun, probability-flow ODE", "Karras et al. 2022, algorithm 1", step_by_heun, calls=2),
    "ode": Sampler(
        "Runge-Kutta to a tolerance, same ODE", "Song et al. 2021, Score SDE, eq. 13", step_by_ode,
        uses=("ode_tolerance",),
    ),
    "euler-maruyama": Sampler(
        "Euler-Maruyama, reverse SDE", "Song et al. 2021, Score SDE, eq. 6", partial(step_by_sde, corrects=False),
        stochastic=True, many_steps=True,
    ),
    "pc": Sampler(
        "Predictor-corrector, same SDE", "Song et al. 2021, Score SDE, algorithm 3", partial(step_by_sde, corrects=True),
        calls=2, stochastic=True, uses=("corrector_snr",), many_steps=True,
    ),
}  # fmt: skip
