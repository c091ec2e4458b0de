"""Ground floor: a noise schedule is a table that maps a timestep to a log-SNR, and back.

Forward process, variance preserving (Ho et al. 2020, equation 4):

    x_t = alpha * x_0 + sigma * eps,    alpha^2 = alpha_bar_t,  sigma^2 = 1 - alpha_bar_t

    log_snr = log(alpha_bar / (1 - alpha_bar)),  so  alpha^2 = sigmoid(log_snr),  sigma^2 = sigmoid(-log_snr)

Everything above this file speaks log-SNR. A timestep is only how one schedule numbers its log-SNRs.
"""

import math

import torch
from torch import Tensor


def linear(T: int = 1000) -> Tensor:
    """Betas (T,) rising evenly from 1e-4 to 0.02 (Ho et al. 2020, section 4)."""
    return torch.linspace(1e-4, 0.02, T, dtype=torch.float64)


def quadratic(T: int = 1000) -> Tensor:
    """Betas (T,) whose square roots rise evenly; diffusers calls it ``scaled_linear`` (Song et al. 2021, DDIM)."""
    return torch.linspace(1e-4**0.5, 0.02**0.5, T, dtype=torch.float64) ** 2


def cosine(T: int = 1000) -> Tensor:
    """Betas (T,) of the squared-cosine alpha_bar, s = 0.008, capped at 0.999 (Nichol & Dhariwal 2021, eq. 17)."""
    edges = torch.arange(T + 1, dtype=torch.float64) / T
    alpha_bar = torch.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def sigmoid(T: int = 1000) -> Tensor:
    """Betas (T,) along a logistic curve from -6 to 6, between 1e-4 and 0.02 (diffusers' definition)."""
    return torch.sigmoid(torch.linspace(-6, 6, T, dtype=torch.float64)) * (0.02 - 1e-4) + 1e-4


SCHEDULES = {"linear": linear, "quadratic": quadratic, "cosine": cosine, "sigmoid": sigmoid}


class Schedule:
    """T log-SNRs, falling with t, with a monotone piecewise-linear interpolation both ways.

    ``betas`` (T,), ``alpha_bars`` (T,) and ``log_snrs`` (T,) are float64 tensors on the CPU.
    """

    def __init__(self, betas: Tensor):
        self.betas = betas.double()
        if self.betas.ndim != 1 or len(betas) < 2 or not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError("betas must be a list of at least two numbers between 0 and 1")
        self.alpha_bars = torch.cumprod(1 - self.betas, 0)
        self.log_snrs = torch.logit(self.alpha_bars)

    @classmethod
    def named(cls, name: str, T: int = 1000) -> "Schedule":
        """The schedule called ``name`` with T steps. ValueError if there is none of that name."""
        if name not in SCHEDULES:
            raise ValueError(f"schedule is {name!r}; it must be one of {', '.join(SCHEDULES)}")
        return cls(SCHEDULES[name](T))

    def __len__(self) -> int:
        return len(self.betas)

    @property
    def range(self) -> tuple[float, float]:
        """(noisiest, cleanest) log-SNR of the table."""
        return self.log_snrs[-1].item(), self.log_snrs[0].item()

    def at(self, u: Tensor) -> Tensor:
        """The log-SNR (float64, shape of u) to train on for u uniform in [0, 1): one of the table."""
        return self.log_snrs[(u * len(self)).long().clamp(max=len(self) - 1)]

    def log_snr(self, t: Tensor | float) -> Tensor:
        """log-SNR (float64, shape of t) at timestep t in [0, T-1], fractional allowed, clamped outside."""
        t = torch.as_tensor(t, dtype=torch.float64).clamp(0, len(self) - 1)
        below = t.floor().long().clamp(max=len(self) - 2)
        return torch.lerp(self.log_snrs[below], self.log_snrs[below + 1], t - below)

    def timestep(self, log_snr: Tensor | float) -> Tensor:
        """Fractional timestep (float64, shape of log_snr) with that log-SNR: the inverse of ``log_snr``."""
        log_snr = torch.as_tensor(log_snr, dtype=torch.float64)
        above = torch.searchsorted(-self.log_snrs, -log_snr).clamp(1, len(self) - 1)
        high, low = self.log_snrs[above - 1], self.log_snrs[above]
        return above - 1 + ((high - log_snr) / (high - low)).clamp(0, 1)

    def grid(self, steps: int, within: tuple[float, float] | None = None, start: float | None = None) -> Tensor:
        """The log-SNRs (steps,) that a sampler visits, noisiest first, evenly spaced in t.

        Spacing is "trailing" (Lin et al. 2024, section 3.4): it starts at the noisiest timestep, and the last of
        the equal strides ends on the clean image. ``within`` keeps to the log-SNRs another schedule was trained on;
        ``start`` is a timestep to begin at instead.
        """
        if isinstance(steps, bool) or not float(steps).is_integer() or not 1 <= steps <= len(self):
            raise ValueError(f"steps is {steps}; it must be a whole number from 1 to {len(self)}")
        lowest, highest = within or self.range
        last, first = self.timestep(lowest), self.timestep(highest)
        if start is not None:
            last = torch.as_tensor(start, dtype=torch.float64).clamp(first, last)
        t = last - torch.arange(int(steps), dtype=torch.float64) * (last - first + 1) / steps
        return self.log_snr(t).clamp(lowest, highest)


class ContinuousSchedule(Schedule):
    """The limit of the linear schedule for endless steps: the variance-preserving SDE with beta from 0.1 to 20.

    log alpha_bar = -(0.1 time + 19.9 time^2 / 2) for time in (0, 1] (Song et al. 2021, eq. 33). Timestep t stands for
    time (t + 1) / 1000, so that the table, which other software reads, is of the same process; but the schedule goes on
    below it, to time 1e-5, and every log-SNR on the way is trained.
    """

    LOW, HIGH, EARLIEST = 0.1, 20.0, 1e-5

    def __init__(self, T: int = 1000):
        edges = self.exponent(torch.arange(T + 1, dtype=torch.float64) / T)
        super().__init__(-torch.expm1(edges[:-1] - edges[1:]))

    @classmethod
    def exponent(cls, time: Tensor) -> Tensor:
        """-log alpha_bar, the integral of beta up to a time."""
        return cls.LOW * time + (cls.HIGH - cls.LOW) * time**2 / 2

    @property
    def range(self) -> tuple[float, float]:
        """(noisiest, cleanest) log-SNR, at times 1 and 1e-5."""
        return self.log_snr(len(self) - 1).item(), self.log_snr(-1).item()

    def at(self, u: Tensor) -> Tensor:
        """The log-SNR (float64, shape of u) to train on for u uniform in [0, 1): any."""
        return self.log_snr(u.double() * len(self) - 1)

    def log_snr(self, t: Tensor | float) -> Tensor:
        """log-SNR (float64, shape of t) at timestep t in (-1, T-1], fractional allowed, clamped outside."""
        time = ((torch.as_tensor(t, dtype=torch.float64) + 1) / len(self)).clamp(self.EARLIEST, 1)
        return -torch.log(torch.expm1(self.exponent(time)))

    def timestep(self, log_snr: Tensor | float) -> Tensor:
        """Fractional timestep (float64, shape of log_snr) with that log-SNR: the inverse of ``log_snr``."""
        exponent = torch.nn.functional.softplus(-torch.as_tensor(log_snr, dtype=torch.float64))
        time = 2 * exponent / (self.LOW + (self.LOW**2 + 2 * (self.HIGH - self.LOW) * exponent).sqrt())
        return time.clamp(self.EARLIEST, 1) * len(self) - 1


TIMES = ("discrete", "continuous")


def trained_schedule(name: str, time: str = "discrete") -> Schedule:
    """The schedule of a training; ValueError unless continuous time is that of the linear schedule."""
    if time == "discrete":
        return Schedule.named(name)
    if time != "continuous" or name != "linear":
        raise ValueError(
            f"time is {time!r} and schedule is {name!r}; time must be one of {', '.join(TIMES)}, and continuous time is "
            "the limit of the linear schedule"
        )
    return ContinuousSchedule()
