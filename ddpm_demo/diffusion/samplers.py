"""The eight samplers. A step of a sampler moves the state from one log-SNR to the next, in the direction of the image.

|                                        | eta = 0          | eta = 1                             |
|----------------------------------------|------------------|-------------------------------------|
| clean estimate D at the current point  | DDIM             | DDPM (posterior variance)           |
| D extrapolated from the previous point | DPM-Solver++(2M) | SDE-DPM-Solver++(2M)                |

The other samplers solve the probability-flow ODE (Heun; adaptive Runge-Kutta) or the reverse SDE (Euler-Maruyama,
without or with a Langevin corrector after each step) of Song et al. 2021 directly.

Each row of ``SAMPLERS`` names its advancing function. Given the ``SamplerContext``, this function returns
``advance(x, x0, s, t)``, which moves x from log-SNR s, where its clean estimate is x0, to the higher log-SNR t.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import expm1, sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import alpha_sigma
from ddpm_demo.diffusion.ode import compute_slope
from ddpm_demo.diffusion.runge_kutta import integrate

if TYPE_CHECKING:
    from ddpm_demo.diffusion.sampling import Sampling

VARIANCES = ("posterior", "beta")


def implied_noise(x: Tensor, x0: Tensor, log_snr: float) -> Tensor:
    """Return eps = (x - alpha * x0) / sigma, for x and its clean estimate x0, both (N, C, H, W)."""
    alpha, sigma = (c.item() for c in alpha_sigma(log_snr))
    return (x - alpha * x0) / sigma


def step(
    x: Tensor, x0: Tensor, s: float, t: float, eta: float = 0.0, z: Tensor | None = None, variance: str = "posterior"
) -> Tensor:
    """Move x (N, C, H, W) from log-SNR s to a higher log-SNR t (DDIM, Song et al. 2021, eq. 12 and 16).

    ``x0`` is the clean estimate of x and has the same shape. ``eta`` 0 is deterministic. ``eta`` 1 is DDPM's posterior
    (Ho et al. 2020, eq. 6-7). Unless ``eta`` is 0, ``z`` is new noise of the same shape. The variance of a noisy step is
    that of the posterior, or with ``variance="beta"`` that of the forward process (ibid., section 3.2).
    """
    alpha_t, sigma_t = (c.item() for c in alpha_sigma(t))
    nu = eta * sigma_t * sqrt(-expm1(s - t))
    x_t = alpha_t * x0 + sqrt(sigma_t**2 - nu**2) * implied_noise(x, x0, s)
    if nu == 0:
        return x_t
    scale = nu if variance == "posterior" else nu * alpha_sigma(s)[1].item() / sigma_t
    return x_t + scale * z


def sde_step(x: Tensor, x0: Tensor, s: float, t: float, z: Tensor) -> Tensor:
    """Take an Euler-Maruyama step of the reverse variance-preserving SDE: x + (x/2 + score) * B + sqrt(B) * z.

    x, its clean estimate x0 and new noise z have the same shape (N, C, H, W). B is the integral of beta over the step,
    log alpha_bar_t - log alpha_bar_s (Song et al. 2021, eq. 6 and 11).
    """
    log_alpha_bar_s, log_alpha_bar_t = torch.nn.functional.logsigmoid(torch.tensor([s, t], dtype=torch.float64))
    B = (log_alpha_bar_t - log_alpha_bar_s).item()
    score = -implied_noise(x, x0, s) / alpha_sigma(s)[1].item()
    return x + (x / 2 + score) * B + sqrt(B) * z


def langevin_step(x: Tensor, x0: Tensor, log_snr: float, snr: float, z: Tensor) -> Tensor:
    """Take a step of Langevin dynamics at one log-SNR: x + e * score + sqrt(2e) * z.

    x, its clean estimate x0 and new noise z have the same shape (N, C, H, W).
    e = 2 (snr * |z| / |score|)^2 (Song et al. 2021, Score SDE, algorithm 4). The ratio of the norms is replaced by
    sigma, its value where x0 is exact, so that an image does not depend on the other images of its batch. Algorithm 5
    multiplies e by alpha_i = 1 - beta_i of its discrete schedule, which is at least 0.98 there. A log-SNR has no such
    factor.
    """
    sigma = alpha_sigma(log_snr)[1].item()
    size = 2 * (snr * sigma) ** 2
    return x - size / sigma * implied_noise(x, x0, log_snr) + sqrt(2 * size) * z


@dataclass(frozen=True)
class SamplerContext:
    """The data and functions that an advancing function may use."""

    x: Tensor  # (N, C, H, W) the state at the first log-SNR
    log_snrs: list[float]  # increasing
    estimate: Callable[[Tensor, Tensor | float], Tensor]  # (x, log_snr) -> clean estimate like x; one denoiser call
    noise: Callable[[], Tensor]  # draws new Gaussian noise like x
    sampling: "Sampling"


Advance = Callable[[Tensor, Tensor, float, float], Tensor]  # (x, x0, s, t) -> x at t


def step_by_table(context: SamplerContext, eta: float, order: int) -> Advance:
    """Advance by the 2x2 table: ``eta`` is 0 or 1; ``order`` 2 extrapolates D from the previous point."""
    previous: tuple[float, Tensor] | None = None

    def advance(x: Tensor, x0: Tensor, s: float, t: float) -> Tensor:
        nonlocal previous
        extrapolated = x0
        if order == 2 and previous is not None:
            previous_s, previous_x0 = previous
            extrapolated = x0 + (x0 - previous_x0) * (t - s) / (2 * (s - previous_s))
        previous = s, x0
        return step(x, extrapolated, s, t, eta, context.noise() if eta else None, context.sampling.variance)

    return advance


def step_by_heun(context: SamplerContext) -> Advance:
    """Advance by Heun's method on the probability-flow ODE (Karras et al. 2022, algorithm 1).

    This averages the clean estimates, whereas Karras et al. average eps. Both are of second order. Averaging clean
    estimates is stable for any step size; an averaged eps is divided by alpha, which is 5e-5 at the start of the cosine
    schedule.
    """

    def advance(x: Tensor, x0: Tensor, s: float, t: float) -> Tensor:
        return step(x, (x0 + context.estimate(step(x, x0, s, t), t)) / 2, s, t)

    return advance


def step_by_sde(context: SamplerContext, corrects: bool) -> Advance:
    """Advance by Euler-Maruyama on the reverse SDE, with one Langevin step at t afterwards if ``corrects``."""

    def advance(x: Tensor, x0: Tensor, s: float, t: float) -> Tensor:
        x = sde_step(x, x0, s, t, context.noise())
        return (
            langevin_step(x, context.estimate(x, t), t, context.sampling.corrector_snr, context.noise())
            if corrects
            else x
        )

    return advance


def step_by_ode(context: SamplerContext) -> Advance:
    """Advance by Runge-Kutta on the probability-flow ODE. Each image has its own steps; its state is returned at each t."""
    path = integrate(
        lambda x, s: compute_slope(x, context.estimate(x, s), s),
        context.x,
        context.log_snrs,
        context.sampling.ode_tolerance,
    )
    next(path)  # the first state, which is context.x
    return lambda x, x0, s, t: next(path)[0]


@dataclass(frozen=True)
class Sampler:
    """A sampler: its title, its source, its advancing function, and the cost of a step."""

    title: str
    source: str
    advance: Callable[[SamplerContext], Advance]
    calls: int = 1  # denoiser calls per step
    stochastic: bool = False
    uses: tuple[str, ...] = ()  # the settings that only some samplers use, and this one does
    adaptive: bool = False  # chooses its own steps: the grid only says where its state is shown
    many_steps: bool = False  # with fewer than about 50 steps, noise remains in the image


SAMPLERS = {
    "ddpm": Sampler(
        "DDPM, ancestral sampling", "Ho et al. 2020, algorithm 2", partial(step_by_table, eta=1, order=1),
        stochastic=True, uses=("variance",),
    ),
    "ddim": Sampler("DDIM, deterministic", "Song et al. 2021, eq. 12", partial(step_by_table, eta=0, order=1)),
    "dpm++2m": Sampler(
        "DPM-Solver++(2M), deterministic", "Lu et al. 2022, algorithm 2", partial(step_by_table, eta=0, order=2)
    ),
    "sde-dpm++2m": Sampler(
        "DPM-Solver++(2M), stochastic", "Lu et al. 2022, SDE-DPM-Solver++(2M)", partial(step_by_table, eta=1, order=2),
        stochastic=True, uses=("variance",),
    ),
    "heun": Sampler("Heun, probability-flow ODE", "Karras et al. 2022, algorithm 1", step_by_heun, calls=2),
    "ode": Sampler(
        "Runge-Kutta to a tolerance, same ODE", "Song et al. 2021, Score SDE, eq. 13", step_by_ode,
        uses=("ode_tolerance",), adaptive=True,
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
