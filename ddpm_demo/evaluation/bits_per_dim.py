"""Bits per dimension of real images under a model, by the three routes of ``diffusion.likelihood``."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ddpm_demo.diffusion.likelihood import Bound, continuous, discrete, ode
from ddpm_demo.diffusion.samplers import VARIANCES
from ddpm_demo.models.checkpoint import Model


def mean_and_error(values: Tensor) -> dict[str, float]:
    """Mean over images and its standard error."""
    return {"mean": values.mean().item(), "se": (values.std() / len(values) ** 0.5).item()}


def measure(
    model: Model, images: Tensor, *, draws: int, ode_images: int, tolerance: float, seed: int, batch: int = 64
) -> Iterator[tuple[int, dict]]:
    """(network evaluations since the last, report) while images (N, C, H, W), [-1, 1], are measured without their labels.

    The report is complete in the last: what ``metrics.json`` holds as ``bits_per_dim``.
    """
    generator, schedule = torch.Generator().manual_seed(seed), model.denoiser.schedule
    fast = model.recorded()  # which cannot be differentiated
    x0 = model.codec.encode(images).to(model.device)
    bounds: dict[str, list[Bound]] = {v: [] for v in (*VARIANCES, "continuous")}
    ts, curves = [], {v: [] for v in VARIANCES}
    for part in x0.split(batch):
        found, (t, curve) = discrete(fast.denoiser, schedule, part, draws, generator)
        found["continuous"] = continuous(fast.denoiser, schedule.range, part, draws, generator)
        for name, bound in found.items():
            bounds[name].append(bound)
        ts.append(t.flatten())
        for v in VARIANCES:
            curves[v].append(curve[v].flatten())
        yield 2 * (draws + 1) * len(part), {}
    report: dict = {"images": len(x0), "draws": draws, "seed": seed}
    for name, parts in bounds.items():
        whole = Bound(*(torch.cat([getattr(part, field) for part in parts]) for field in ("prior", "steps", "decoder")))
        split = {"L_T": whole.prior, "L_t": whole.steps, "L_0": whole.decoder, "total": whole.total}
        report[name] = {field: mean_and_error(values) for field, values in split.items()}
    report["curve"] = by_timestep(torch.cat(ts), {v: torch.cat(curves[v]) for v in VARIANCES})
    found, calls = [], []
    for part in x0[:ode_images].split(batch) if ode_images else ():
        nats, taken = ode(model.denoiser, schedule.range, part, tolerance, generator)
        found.append(nats)
        calls.append(taken)
        yield 3 * taken * len(part), {}  # a backward pass is about two forward
    if found:
        report["ode"] = mean_and_error(torch.cat(found)) | {
            "images": ode_images,
            "tolerance": tolerance,
            "calls": max(calls),
        }
    yield 0, report


def by_timestep(t: Tensor, terms: dict[str, Tensor], parts: int = 40) -> dict[str, list[float]]:
    """The mean of L_{t-1} over stretches of t, shorter where t is small, since there it changes fast."""
    edges = torch.logspace(0, 3, parts + 1).round().unique()
    place = torch.bucketize(t.float(), edges[1:-1], right=True)
    seen = [k for k in range(len(edges) - 1) if (place == k).any()]
    curve = {"t": [t[place == k].double().mean().item() for k in seen]}
    return curve | {name: [values[place == k].mean().item() for k in seen] for name, values in terms.items()}
