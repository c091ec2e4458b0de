"""Measures the bits per dimension of real images under a model, by the three routes of ``diffusion.likelihood``."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_demo.diffusion.likelihood import (
    Bound,
    estimate_continuous_bound,
    estimate_discrete_bound,
    estimate_ode_likelihood,
)
from ddpm_demo.diffusion.samplers import VARIANCES
from ddpm_demo.diffusion.sampling import LAST_SEED, TOLERANCES
from ddpm_demo.errors import UserError, check_between, check_whole
from ddpm_demo.evaluation.progress import progress_bar, say
from ddpm_demo.evaluation.subject import Subject
from ddpm_demo.models.checkpoint import Model, refuse_distilled
from ddpm_demo.reports.tables import tabulate_likelihood

ODE_EVALUATIONS = 300  # network evaluations per image, approximately, including those for gradients
TERMS = {"L_T": "prior", "L_t": "steps", "L_0": "decoder", "total": "total"}  # name in metrics.json -> field of Bound

LOW, HIGH = TOLERANCES.values()


@dataclass(frozen=True)
class LikelihoodOptions:
    """The settings of a measurement. Raises UserError for a value that is not allowed."""

    images: int = 10000  # test images
    draws: int = 10  # noise levels for each image
    ode_images: int = 256  # images that are also measured by the ODE
    tolerance: float = 1e-4  # of the ODE
    seed: int = 0

    def __post_init__(self):
        check_whole("--images", self.images, 2, 2**20)
        check_whole("--draws", self.draws, 1, 1000)
        if self.ode_images:  # a single image has no standard error
            check_whole("--ode-images", self.ode_images, 2, 2**20)
        check_between("--tolerance", self.tolerance, LOW, HIGH)
        check_whole("--seed", self.seed, 0, LAST_SEED)


def measure_likelihood(subject: Subject, options: LikelihoodOptions) -> None:
    """Measure the likelihood of test images, print it, and write it into ``metrics.json`` and the model card."""
    if not subject.model.codec.bounded:
        raise UserError("this checkpoint diffuses latents: the likelihood of an image cannot be computed from them")
    test = subject.load_data("test")
    count = min(options.images, len(test))
    images = test.batch(torch.randperm(len(test), generator=torch.Generator().manual_seed(options.seed))[:count])[0]
    began = time.perf_counter()
    expected = 2 * count * (options.draws + 1) + ODE_EVALUATIONS * min(options.ode_images, count)
    with progress_bar(expected) as bar:
        steps = measure(
            subject.model,
            images,
            draws=options.draws,
            ode_images=options.ode_images,
            tolerance=options.tolerance,
            seed=options.seed,
        )
        for evaluations, report in steps:
            bar.update(evaluations)
    report |= {"seconds": time.perf_counter() - began}
    subject.add("bits_per_dim", report)
    subject.write_card()
    say(tabulate_likelihood(report))


def measure(
    model: Model, images: Tensor, *, draws: int, ode_images: int, tolerance: float, seed: int, batch: int = 64
) -> Iterator[tuple[int, dict]]:
    """Measure images (N, C, H, W), [-1, 1], without labels. Yield (network evaluations since the previous, report).

    The last report is complete. ``metrics.json`` holds it as ``bits_per_dim``.
    """
    refuse_distilled(model, "likelihood")
    generator, schedule = torch.Generator().manual_seed(seed), model.denoiser.schedule
    fast = model.trace()  # a recorded network cannot be differentiated, which the ODE needs
    x0 = model.codec.encode(images).to(model.device)
    bounds: dict[str, list[Bound]] = {name: [] for name in (*VARIANCES, "continuous")}
    timesteps, curves = [], {name: [] for name in VARIANCES}
    for part in x0.split(batch):
        found, (t, curve) = estimate_discrete_bound(fast.denoiser, schedule, part, draws, generator)
        found["continuous"] = estimate_continuous_bound(fast.denoiser, schedule.range, part, draws, generator)
        for name, bound in found.items():
            bounds[name].append(bound)
        timesteps.append(t.flatten())
        for name in VARIANCES:
            curves[name].append(curve[name].flatten())
        yield 2 * (draws + 1) * len(part), {}
    report: dict = {"images": len(x0), "draws": draws, "seed": seed}
    report |= {name: average_bounds(parts) for name, parts in bounds.items()}
    report["curve"] = average_by_timestep(torch.cat(timesteps), {name: torch.cat(curves[name]) for name in VARIANCES})
    nats, calls = [], []
    for part in x0[:ode_images].split(batch) if ode_images else ():
        found, taken = estimate_ode_likelihood(model.denoiser, schedule.range, part, tolerance, generator)
        nats.append(found)
        calls.append(taken)
        yield 3 * taken * len(part), {}  # a backward pass costs about two forward passes
    if nats:
        details = {"images": sum(map(len, nats)), "tolerance": tolerance, "calls": max(calls)}
        report["ode"] = mean_and_error(torch.cat(nats)) | details
    yield 0, report


def mean_and_error(values: Tensor) -> dict[str, float]:
    """Return the mean of values (N,) over the images, and its standard error."""
    return {"mean": values.mean().item(), "se": (values.std() / len(values) ** 0.5).item()}


def average_bounds(parts: list[Bound]) -> dict[str, dict[str, float]]:
    """Return the mean and the standard error of each term of a bound over the images of all parts."""
    whole = Bound(*(torch.cat([getattr(part, name) for part in parts]) for name in ("prior", "steps", "decoder")))
    return {term: mean_and_error(getattr(whole, name)) for term, name in TERMS.items()}


def average_by_timestep(t: Tensor, terms: dict[str, Tensor]) -> dict[str, list[float]]:
    """Return the mean of the terms L_{t-1}, each (N,), over ranges of t (N,), which are short where L changes fast."""
    edges = torch.logspace(0, 3, 41).round().unique()
    place = torch.bucketize(t.float(), edges[1:-1], right=True)
    filled = [k for k in range(len(edges) - 1) if (place == k).any()]
    curve = {"t": [t[place == k].double().mean().item() for k in filled]}
    return curve | {name: [values[place == k].mean().item() for k in filled] for name, values in terms.items()}
