"""Eight samplers, one step. Each walks a grid of log-SNRs from noise to image and yields every state on the way.

|                                        | eta = 0          | eta = 1                             |
|----------------------------------------|------------------|-------------------------------------|
| clean estimate D at the current point  | DDIM             | DDPM (posterior variance)           |
| D extrapolated from the previous point | DPM-Solver++(2M) | SDE-DPM-Solver++(2M)                |

The others solve the probability-flow ODE (Heun; Runge-Kutta to a tolerance) or the reverse SDE (Euler-Maruyama; with
a Langevin corrector after every step) of Song et al. 2021 directly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import expm1, inf, nan, sqrt

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import alpha_sigma
from ddpm_demo.diffusion.ode import integrate, velocity


@dataclass(frozen=True)
class Sampler:
    """A row of the table: who published it, how far from deterministic, and from which clean estimate."""

    title: str
    source: str
    eta: float = 0.0
    order: int = 1  # 2: extrapolate the clean estimate from the previous point
    solver: str = "step"
    calls: int = 1  # of the denoiser, a step


SAMPLERS = {
    "ddpm": Sampler("DDPM, ancestral sampling", "Ho et al. 2020, algorithm 2", eta=1),
    "ddim": Sampler("DDIM, deterministic", "Song et al. 2021, eq. 12"),
    "dpm++2m": Sampler("DPM-Solver++(2M), deterministic", "Lu et al. 2022, algorithm 2", order=2),
    "sde-dpm++2m": Sampler("DPM-Solver++(2M), stochastic", "Lu et al. 2022, section 3.4", eta=1, order=2),
    "heun": Sampler("Heun, probability-flow ODE", "Karras et al. 2022, algorithm 1", solver="heun", calls=2),
    "ode": Sampler("Runge-Kutta to a tolerance, same ODE", "Song et al. 2021, Score SDE, eq. 13", solver="ode"),
    "euler-maruyama": Sampler("Euler-Maruyama, reverse SDE", "Song et al. 2021, Score SDE, eq. 6", eta=1, solver="sde"),
    "pc": Sampler(
        "Predictor-corrector, same SDE", "Song et al. 2021, Score SDE, algorithm 3", eta=1, solver="sde", calls=2
    ),
}
VARIANCES = ("posterior", "beta")


@dataclass(frozen=True)
class Step:
    """One state of the reverse process, before the step is taken. The last step's ``x0`` is the sample."""

    index: int  # 0 .. total - 1
    total: int
    log_snr: float
    timestep: float  # of the schedule that is walked, nan where the walk is a bare grid
    x: Tensor  # (N, C, H, W) the noisy state
    x0: Tensor  # (N, C, H, W) the clean estimate, guided
    eps: Tensor  # (N, C, H, W) the noise that x and x0 imply
    guidance: Tensor | None  # (N, C, H, W) conditional minus unconditional estimate, None where unguided
    nfe: int  # denoiser calls so far
    latents: Tensor | None = (
        None  # x0 before it was decoded, where latents are diffused: then x, eps, guidance are, too
    )


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


@torch.no_grad()
def sample(
    denoise: Callable[[Tensor, float, Tensor | None], Tensor],
    x: Tensor,
    log_snrs: Tensor,
    label: Tensor | None = None,
    *,
    sampler: str = "dpm++2m",
    noise: Callable[[], Tensor] | None = None,
    variance: str = "posterior",
    clip: bool = False,
    tolerance: float = 1e-3,
    snr: float = 0.16,
) -> Iterator[Step]:
    """Walk x (N, C, H, W), Gaussian noise, along the rising log_snrs and on to the clean image; yield each Step.

    ``noise()`` draws fresh noise like x for the stochastic samplers. ``clip`` keeps clean estimates in [-1, 1].
    ``tolerance`` is the error that "ode" may make in a stride of its own choice: the grid is only where it is watched.
    ``snr`` is the signal-to-noise ratio of the corrector of "pc".
    ValueError for an unknown sampler or variance.
    """
    check(sampler, variance)
    method, grid = SAMPLERS[sampler], [*torch.as_tensor(log_snrs, dtype=torch.float64).tolist(), inf]
    noise = noise or (lambda: torch.randn_like(x))
    nfe, previous = 0, None

    def estimate(x: Tensor, log_snr: float) -> Tensor:
        nonlocal nfe
        nfe += 1
        x0 = denoise(x, log_snr, label)
        return x0.clamp(-1, 1) if clip else x0

    if method.solver == "ode":
        path = integrate(lambda x, s: velocity(x, estimate(x, s), s), x, grid[:-1], tolerance)
    for index, (s, t) in enumerate(pairwise(grid)):
        if method.solver == "ode":
            x = next(path)[0]
        x0 = estimate(x, s)
        direction = getattr(denoise, "direction", None)
        yield Step(index, len(grid) - 1, s, nan, x, x0, implied_noise(x, x0, s), direction, nfe)
        if t == inf:
            return  # the last step, to the clean image, would only return x0
        z = noise() if method.eta else None
        if method.solver == "ode":
            continue
        if method.solver == "sde":
            x = sde_step(x, x0, s, t, z)
            if method.calls == 2:
                x = langevin_step(x, estimate(x, t), t, snr, noise())
            continue
        towards = x0
        if method.solver == "heun":
            # Averages clean estimates, not eps as Karras et al. do: of second order too, and stable at any stride,
            # while an averaged eps is divided by alpha, which under the cosine schedule starts at 5e-5.
            towards = (x0 + estimate(step(x, x0, s, t), t)) / 2
        elif method.order == 2 and previous is not None:
            previous_s, previous_x0 = previous
            towards = x0 + (x0 - previous_x0) * (t - s) / (2 * (s - previous_s))
        previous = s, x0
        x = step(x, towards, s, t, method.eta, z, variance)


def check(sampler: str, variance: str = "posterior") -> None:
    """ValueError, saying what came and what is allowed, for an unknown sampler or variance."""
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler is {sampler!r}; it must be one of {', '.join(SAMPLERS)}")
    if variance not in VARIANCES:
        raise ValueError(f"variance is {variance!r}; it must be one of {', '.join(VARIANCES)}")
