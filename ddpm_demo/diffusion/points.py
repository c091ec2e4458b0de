"""Diffusion in the plane: drawn points as data, their exact denoiser, and sampling. A point is an image (2, 1, 1)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, pi

import torch
from torch import Tensor

from ddpm_demo.diffusion.denoiser import alpha_sigma, per_image
from ddpm_demo.diffusion.guidance import ClassifierFree, Denoise, split_estimate
from ddpm_demo.diffusion.reverse_process import Step, walk
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.errors import UserError, check_whole

Stroke = tuple[int, tuple[tuple[float, float], ...]]  # class of a line, and its points (x, y) in their order
REACH = 1.5  # drawn points lie in [-REACH, REACH] x [-REACH, REACH]
SPACING = 0.2  # of the points along a line: wide enough that one sees the gaps between them
MOST_POINTS, MOST_CLASSES, MOST_SAMPLES = 400, 2, 2000


@dataclass(frozen=True)
class PointCloud:
    """Points of the plane on drawn lines, each line with a class: the data of a diffusion in two dimensions.

    The strokes are plain numbers, so that two clouds with the same points are equal. Raises UserError for no point at all,
    for more than MOST_POINTS, and for a point or a class out of range.
    """

    strokes: tuple[Stroke, ...]

    def __post_init__(self):
        total = sum(len(points) for _, points in self.strokes)
        if not total:
            raise UserError("the drawing is empty: draw something, or choose a shape")
        if total > MOST_POINTS:
            raise UserError(
                f"the drawing has {total} points; at most {MOST_POINTS} are allowed: clear it and draw less"
            )
        for label, points in self.strokes:
            check_whole("the class of a line", label, 0, MOST_CLASSES - 1)
            if not all(isfinite(value) and abs(value) <= REACH for point in points for value in point):
                raise UserError(
                    f"a drawn point is outside of the sheet; its coordinates must be from {-REACH} to {REACH}"
                )

    @cached_property
    def points(self) -> Tensor:
        """All points (N, 2), float32."""
        return torch.tensor([point for _, points in self.strokes for point in points])

    @cached_property
    def names(self) -> list[int]:
        """The classes that occur, in increasing order."""
        return sorted({label for label, points in self.strokes if points})

    @cached_property
    def labels(self) -> Tensor:
        """The class of every point (N,), int64, as its position in ``names``."""
        return torch.tensor([self.names.index(label) for label, points in self.strokes for _ in points])

    @property
    def null_label(self) -> int:
        """The label that stands for all classes."""
        return len(self.names)

    @property
    def size(self) -> float:
        """The longer side of the box around the points."""
        return (self.points.amax(0) - self.points.amin(0)).max().item()

    def denoise(self, x: Tensor, log_snr: Tensor | float, label: Tensor | None = None) -> Tensor:
        """Return the optimal clean estimate E[x_0 | x] (N, 2, 1, 1) of x (N, 2, 1, 1) at a log-SNR (a number or (N,)).

        It is the mean of the points p of the class, weighted by exp(-|x - alpha p|^2 / (2 sigma^2)) (Karras et al. 2022,
        eq. 57). None or the null label stands for the points of all classes.
        """
        points, flat = self.points.to(x), x.flatten(1)
        alpha, sigma = (per_image(c, flat) for c in alpha_sigma(log_snr))
        logits = alpha / sigma**2 * (flat @ points.T) - (alpha / sigma) ** 2 / 2 * points.square().sum(1)
        if label is not None:
            others = (label[:, None] != self.labels) & (label[:, None] != self.null_label)
            logits = logits.masked_fill(others, -inf)
        return (torch.softmax(logits, 1) @ points).reshape(x.shape)

    def measure_to_points(self, x: Tensor) -> Tensor:
        """Return the distance (M,) of each place x (M, 2) to the nearest drawn point."""
        return torch.cdist(x, self.points.to(x)).amin(1)

    def measure_to_lines(self, x: Tensor) -> Tensor:
        """Return the distance (M,) of each place x (M, 2) to the nearest drawn line, which joins the points of a stroke."""
        lines = [torch.tensor(points) for _, points in self.strokes if points]
        start = torch.cat([line[: max(1, len(line) - 1)] for line in lines]).to(x)
        along = torch.cat([line[-max(1, len(line) - 1) :] for line in lines]).to(x) - start
        offset = x[:, None] - start  # (M, S, 2)
        share = ((offset * along).sum(-1) / along.square().sum(-1).clamp(min=1e-12)).clamp(0, 1)
        return (offset - share[..., None] * along).norm(dim=-1).amin(1)

    def measure_spacing(self) -> float:
        """Return the median distance from a point to its nearest other point; 0 for a single point."""
        if len(self.points) < 2:
            return 0.0
        return torch.cdist(self.points, self.points).fill_diagonal_(inf).amin(1).median().item()


def guide(denoise: Denoise, cloud: PointCloud, weight: float) -> Denoise:
    """Add classifier-free guidance to a denoiser of the cloud. A cloud of one class has nothing to guide."""
    return ClassifierFree(denoise, weight, cloud.null_label) if len(cloud.names) > 1 else denoise


def sample_points(denoise: Denoise, cloud: PointCloud, sampling: Sampling, count: int) -> Iterator[Step]:
    """Yield the steps of the reverse process of ``count`` points as images (count, 2, 1, 1), the classes in turn.

    Of the settings, only the sampler with its own, the schedule, the steps, the weight and one seed are used. Raises
    UserError for another count than 1 to MOST_SAMPLES.
    """
    check_whole("the number of samples", count, 1, MOST_SAMPLES)
    generator = torch.Generator().manual_seed(sampling.seed)

    def noise() -> Tensor:
        return torch.randn(count, 2, 1, 1, generator=generator)

    label = torch.arange(count) % len(cloud.names)
    grid = Schedule.named(sampling.schedule).grid(sampling.steps)
    return walk(guide(denoise, cloud, sampling.weight), noise(), grid, label, sampling, noise=noise)


@torch.no_grad()
def find_arrows(
    denoise: Denoise, cloud: PointCloud, weight: float, places: Tensor, log_snr: float
) -> tuple[Tensor, Tensor | None]:
    """Return the field and the guidance at places (G, 2) for each of K classes, both (K, G, 2).

    The field is the guided clean estimate minus the place. The guidance is its direction, or None if there is none.
    """
    classes = len(cloud.names)
    x = places.repeat(classes, 1)[..., None, None]
    label = torch.arange(classes).repeat_interleave(len(places))
    x0, direction = split_estimate(guide(denoise, cloud, weight)(x, log_snr, label))
    shape = classes, len(places), 2
    return (x0 - x).reshape(shape), None if direction is None else direction.reshape(shape)


def place_evenly(half: float, side: int) -> Tensor:
    """Return the middles (side * side, 2) of the fields of a board from -half to half, row by row."""
    middles = (torch.arange(side) + 0.5) / side * 2 * half - half
    return torch.cartesian_prod(middles, middles).flip(1)


def draw_spiral() -> list[tuple[int, Tensor]]:
    """Return an Archimedean spiral of two and a quarter turns."""
    turn = torch.linspace(0, 2.25, 2000)
    radius = 0.2 + 1.2 * turn / 2.25
    return [(0, torch.stack([radius * torch.cos(2 * pi * turn), radius * torch.sin(2 * pi * turn)], 1))]


def draw_moons() -> list[tuple[int, Tensor]]:
    """Return two half circles that reach into each other."""
    return [(0, draw_arc((-0.45, -0.2), 0.9, 0, 0.5)), (0, draw_arc((0.45, 0.2), 0.9, 0.5, 1))]


def draw_smiley() -> list[tuple[int, Tensor]]:
    """Return a face: its outline, two eyes and a mouth."""
    eyes = [(0, draw_arc((x, 0.45), 0.16)) for x in (-0.5, 0.5)]
    return [(0, draw_arc((0, 0), 1.35)), *eyes, (0, draw_arc((0, 0), 0.8, 0.57, 0.93))]


def draw_two_classes() -> list[tuple[int, Tensor]]:
    """Return two circles that overlap, each a class."""
    return [(0, draw_arc((-0.5, 0), 0.9)), (1, draw_arc((0.5, 0), 0.9))]


def draw_arc(centre: tuple[float, float], radius: float, first: float = 0.0, last: float = 1.0) -> Tensor:
    """Return an arc (1000, 2) of a circle between two angles, which are counted in turns."""
    angle = 2 * pi * torch.linspace(first, last, 1000)
    return torch.tensor(centre) + radius * torch.stack([torch.cos(angle), torch.sin(angle)], 1)


SHAPES: dict[str, Callable[[], list[tuple[int, Tensor]]]] = {
    "spiral": draw_spiral,
    "moons": draw_moons,
    "smiley": draw_smiley,
    "two classes": draw_two_classes,
}


def build_shape(name: str) -> PointCloud:
    """Return the points of a shape of SHAPES, SPACING apart along its lines."""
    lines = [(label, space_evenly(line).tolist()) for label, line in SHAPES[name]()]
    return PointCloud(tuple((label, tuple((round(x, 3), round(y, 3)) for x, y in points)) for label, points in lines))


def space_evenly(line: Tensor) -> Tensor:
    """Return points (m, 2) of a line (n, 2), at equal distances of about SPACING along it, with both ends."""
    reached = torch.cat([torch.zeros(1), line.diff(dim=0).norm(dim=1).cumsum(0)])
    wanted = torch.linspace(0, reached[-1].item(), 1 + round(reached[-1].item() / SPACING))
    after = torch.searchsorted(reached, wanted).clamp(1, len(line) - 1)
    share = (wanted - reached[after - 1]) / (reached[after] - reached[after - 1])
    return torch.lerp(line[after - 1], line[after], share[:, None])
