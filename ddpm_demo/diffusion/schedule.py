"""Noise schedules. A schedule is a table that maps a timestep to a log-SNR, and a log-SNR to a timestep.

The forward process is variance preserving (Ho et al. 2020, equation 4):

    x_t = alpha * x_0 + sigma * eps,    alpha^2 = alpha_bar_t,  sigma^2 = 1 - alpha_bar_t

    log_snr = log(alpha_bar / (1 - alpha_bar)),  so  alpha^2 = sigmoid(log_snr),  sigma^2 = sigmoid(-log_snr)

All other modules use the log-SNR as noise level. A timestep is the index of a log-SNR in one particular schedule.
"""

import math

import torch
from torch import Tensor

from ddpm_demo.errors import check_one_of


def linear(T: int = 1000) -> Tensor:
    """Return betas (T,) that increase linearly from 1e-4 to 0.02 (Ho et al. 2020, section 4)."""
    return torch.linspace(1e-4, 0.02, T, dtype=torch.float64)


def quadratic(T: int = 1000) -> Tensor:
    """Return betas (T,) whose square roots increase linearly (code of Ho et al. 2020; ``scaled_linear`` in diffusers)."""
    return torch.linspace(1e-4**0.5, 0.02**0.5, T, dtype=torch.float64) ** 2


def cosine(T: int = 1000) -> Tensor:
    """Return betas (T,) of the squared-cosine alpha_bar, s = 0.008, at most 0.999 (Nichol & Dhariwal 2021, eq. 17)."""
    edges = torch.arange(T + 1, dtype=torch.float64) / T
    alpha_bar = torch.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def sigmoid(T: int = 1000) -> Tensor:
    """Return betas (T,) on a logistic curve from -6 to 6, scaled to 1e-4 .. 0.02 (the definition of diffusers)."""
    return torch.sigmoid(torch.linspace(-6, 6, T, dtype=torch.float64)) * (0.02 - 1e-4) + 1e-4


SCHEDULES = {"linear": linear, "quadratic": quadratic, "cosine": cosine, "sigmoid": sigmoid}


class Schedule:
    """T log-SNRs that decrease with t, with monotone piecewise-linear interpolation in both directions.

    ``betas`` (T,), ``alpha_bars`` (T,) and ``log_snrs`` (T,) are float64 tensors on the CPU.
    """

    def __init__(self, betas: Tensor):
        self.betas = betas.double()
        if self.betas.ndim != 1 or len(betas) < 2 or not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError("betas must be a list of at least two numbers between 0 and 1")
        self.alpha_bars = torch.cumprod(1 - self.betas, 0)
        self.log_snrs = torch.logit(self.alpha_bars)

    @classmethod
    def named(cls, name: str) -> "Schedule":
        """Return the schedule ``name`` with 1000 steps. Raises UserError for an unknown name."""
        check_one_of("schedule", name, SCHEDULES)
        return cls(SCHEDULES[name]())

    def __len__(self) -> int:
        return len(self.betas)

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest log-SNR of the table."""
        return self.log_snrs[-1].item(), self.log_snrs[0].item()

    def at(self, u: Tensor) -> Tensor:
        """Map u, uniform in [0, 1), to a log-SNR of the table to train on (float64, shape of u)."""
        return self.log_snrs[(u * len(self)).long().clamp(max=len(self) - 1)]

    def log_snr(self, t: Tensor | float) -> Tensor:
        """Return the log-SNR (float64, shape of t) at timestep t, fractional or not, clamped to [0, T-1]."""
        t = torch.as_tensor(t, dtype=torch.float64).clamp(0, len(self) - 1)
        below = t.floor().long().clamp(max=len(self) - 2)
        return torch.lerp(self.log_snrs[below], self.log_snrs[below + 1], t - below)

    def timestep(self, log_snr: Tensor | float) -> Tensor:
        """Return the fractional timestep (float64, shape of log_snr) with this log-SNR: the inverse of ``log_snr``."""
        log_snr = torch.as_tensor(log_snr, dtype=torch.float64)
        above = torch.searchsorted(-self.log_snrs, -log_snr).clamp(1, len(self) - 1)
        high, low = self.log_snrs[above - 1], self.log_snrs[above]
        return above - 1 + ((high - log_snr) / (high - low)).clamp(0, 1)

    def grid(self, steps: int, within: tuple[float, float] | None = None, start: float | None = None) -> Tensor:
        """Return the log-SNRs (steps,) that a sampler visits, increasing, at equal distances in t.

        The spacing is "trailing" (Lin et al. 2024, section 3.3): it starts at the noisiest timestep, and the last step
        leads to the clean image. ``within`` clamps to a range (lowest, highest), such as that of the training
        schedule. ``start`` is another timestep to start at. Raises ValueError unless steps is from 1 to T.

        Every log-SNR occurs once: where the steps are closer than one timestep, the grid may have fewer than asked for.
        """
        if isinstance(steps, bool) or not float(steps).is_integer() or not 1 <= steps <= len(self):
            raise ValueError(f"steps is {steps}; it must be a whole number from 1 to {len(self)}")
        lowest, highest = within or self.range
        last, first = self.timestep(lowest), self.timestep(highest)
        if start is not None:
            last = torch.as_tensor(start, dtype=torch.float64).clamp(first, last)
        t = last - torch.arange(int(steps), dtype=torch.float64) * (last - first + 1) / steps
        return self.log_snr(t).clamp(lowest, highest).unique_consecutive()


class ContinuousSchedule(Schedule):
    """The limit of the linear schedule for infinitely many steps: the variance-preserving SDE with beta from 0.1 to 20.

    log alpha_bar = -(0.1 time + 19.9 time^2 / 2) for time in (0, 1] (Song et al. 2021, eq. 33). Timestep t is time
    (t + 1) / 1000, so that the table, which other software reads, describes the same process. The schedule continues
    below the table to time 1e-5, and training uses every log-SNR in this range.
    """

    LOW, HIGH, EARLIEST = 0.1, 20.0, 1e-5

    def __init__(self, T: int = 1000):
        edges = self.exponent(torch.arange(T + 1, dtype=torch.float64) / T)
        super().__init__(-torch.expm1(edges[:-1] - edges[1:]))

    @classmethod
    def exponent(cls, time: Tensor) -> Tensor:
        """Return -log alpha_bar, the integral of beta from 0 to a time."""
        return cls.LOW * time + (cls.HIGH - cls.LOW) * time**2 / 2

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest log-SNR, at times 1 and 1e-5."""
        return self.log_snr(len(self) - 1).item(), self.log_snr(-1).item()

    def at(self, u: Tensor) -> Tensor:
        """Map u, uniform in [0, 1), to any log-SNR of the range to train on (float64, shape of u)."""
        return self.log_snr(u.double() * len(self) - 1)

    def log_snr(self, t: Tensor | float) -> Tensor:
        """Return the log-SNR (float64, shape of t) at timestep t, fractional or not, clamped to (-1, T-1]."""
        time = ((torch.as_tensor(t, dtype=torch.float64) + 1) / len(self)).clamp(self.EARLIEST, 1)
        return -torch.log(torch.expm1(self.exponent(time)))

    def timestep(self, log_snr: Tensor | float) -> Tensor:
        """Return the fractional timestep (float64, shape of log_snr) with this log-SNR: the inverse of ``log_snr``."""
        exponent = torch.nn.functional.softplus(-torch.as_tensor(log_snr, dtype=torch.float64))
        time = 2 * exponent / (self.LOW + (self.LOW**2 + 2 * (self.HIGH - self.LOW) * exponent).sqrt())
        return time.clamp(self.EARLIEST, 1) * len(self) - 1


TIMES = ("discrete", "continuous")


def trained_schedule(name: str, time: str = "discrete") -> Schedule:
    """Return the schedule of a training. Raises ValueError for continuous time with a schedule other than linear."""
    if time == "discrete":
        return Schedule.named(name)
    if time != "continuous" or name != "linear":
        raise ValueError(
            f"time is {time!r} and schedule is {name!r}; time must be one of {', '.join(TIMES)}, and continuous time is "
            "the limit of the linear schedule"
        )
    return ContinuousSchedule()
