"""A small network that learns to denoise points of the plane within seconds, to compare with their exact denoiser."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import pi

import torch
from torch import Tensor, nn

from ddpm_demo.diffusion.denoiser import Denoiser, loss
from ddpm_demo.diffusion.points import PointCloud
from ddpm_demo.diffusion.schedule import Schedule

WIDTH, FREQUENCIES = 128, 32
X_SCALE, LOG_SNR_SCALE = 0.6, 0.05  # standard deviation of the frequencies, in periods per unit
STEPS, BATCH, RATE = 1200, 256, 5e-3
EVERY = 25  # steps between two reports
UNLABELLED = 0.15  # share of the points without a class, for classifier-free guidance


class PointNetwork(nn.Module):
    """Three layers of 128 on Fourier features of x and of the log-SNR (Tancik et al. 2020) and the class.

    The label ``classes`` is the null label. All weights are drawn from ``generator``.
    """

    def __init__(self, schedule: Schedule, classes: int, generator: torch.Generator):
        super().__init__()
        self.schedule, self.classes = schedule, classes
        scale = torch.tensor([[X_SCALE], [X_SCALE], [LOG_SNR_SCALE]])
        self.register_buffer("frequencies", 2 * pi * scale * torch.randn(3, FREQUENCIES, generator=generator))
        sizes = (3 + 2 * FREQUENCIES + classes + 1, WIDTH, WIDTH, WIDTH, 2)
        layers = []
        for inputs, outputs in pairwise(sizes):
            linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
            nn.init.kaiming_normal_(linear.weight, generator=generator, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """Return v (N, 2, 1, 1) for x (N, 2, 1, 1), the timestep (a number or (N,)) and the label (N,)."""
        log_snr = self.schedule.log_snr(timestep).float().expand(len(x))
        place = torch.cat([x.flatten(1), log_snr[:, None]], 1)  # (N, 3)
        waves = place @ self.frequencies
        label = torch.full((len(x),), self.classes) if label is None else label
        kind = nn.functional.one_hot(label, self.classes + 1)
        features = torch.cat([place * torch.tensor([1, 1, 0.1]), waves.sin(), waves.cos(), kind], 1)
        return self.layers(features).reshape(x.shape)


@dataclass(frozen=True)
class Progress:
    """The state of a training: the steps taken, of how many, the mean loss since the last report, and the denoiser."""

    step: int
    total: int
    loss: float
    denoiser: Denoiser  # its network is still trained, except in the last report


def train_on_points(cloud: PointCloud, total: int = STEPS, seed: int = 0) -> Iterator[Progress]:
    """Train a denoiser of the cloud for ``total`` steps, and report every 25 steps. The same seed gives the same weights.

    It learns v (Salimans & Ho 2022), from points with the noise of the cosine schedule, and from a share of them without
    their class. The last report has the finished denoiser.
    """
    generator = torch.Generator().manual_seed(seed)
    schedule = Schedule.named("cosine")
    net = PointNetwork(schedule, len(cloud.names), generator)
    denoiser = Denoiser(net, schedule, "v_prediction")
    optimizer = torch.optim.Adam(net.parameters(), RATE, fused=True)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    summed = torch.zeros(())
    for step in range(1, total + 1):
        chosen = torch.randint(len(cloud.points), (BATCH,), generator=generator)
        x0, label = cloud.points[chosen][..., None, None], cloud.labels[chosen]
        hidden = torch.rand(BATCH, generator=generator) < UNLABELLED
        log_snr = schedule.at(torch.rand(BATCH, generator=generator))
        noise = torch.randn(x0.shape, generator=generator)
        mean = loss(denoiser, x0, log_snr, noise, label.masked_fill(hidden, cloud.null_label)).mean()
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        decay.step()
        summed += mean.detach()
        if step % EVERY == 0 or step == total:
            taken = step - (step - 1) // EVERY * EVERY
            if step == total:
                net.requires_grad_(False)
            yield Progress(step, total, summed.item() / taken, denoiser)
            summed = torch.zeros(())
