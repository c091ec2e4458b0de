"""The plane, which shows points moving from noise onto a drawing, and the functions that make its films.

A film is the dict that the browser receives: for each of two denoisers the places of all points at every step, and arrows
on a grid. Places are 16-bit numbers in base64, in steps of 1/UNIT. The browser draws them, so that a film of a thousand
points and fifty steps is a third of a megabyte, and sharp at every size.
"""

import base64
import time
from collections.abc import Generator, Iterator
from math import ceil

import gradio as gr
import torch
from torch import Tensor

from ddpm_demo.diffusion.guidance import Denoise
from ddpm_demo.diffusion.points import PointCloud, find_arrows, place_evenly, sample_points
from ddpm_demo.diffusion.points_network import train_on_points
from ddpm_demo.diffusion.reverse_process import Step
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.ui.components.player import MAX_FRAMES, new_name, read_component, spread_evenly
from ddpm_demo.ui.rendering import render

UNIT = 8192  # places from -4 to 4
HALF = 2.2  # half the width of what is shown
GRID = 13  # arrows in a row
SNAPSHOT, SNAPSHOT_EVERY = Sampling(steps=12), 100  # during training, every so many of its steps
MOST_SNAPSHOT = 500  # points


def build_plane(**options) -> gr.HTML:
    """Create the component. Its value is a film, or the report of a training."""
    return gr.HTML(None, **read_component("plane"), **options)


def film_points(cloud: PointCloud, learned: Denoise | None, sampling: Sampling, count: int) -> Iterator[dict]:
    """Yield an empty film after each part of the computation, and last the film of ``count`` points.

    It has the exact denoiser and the learned one, which is None if there is none yet.
    """
    began = time.perf_counter()
    ideal, steps = yield from film_side(cloud.denoise, cloud, sampling, count)
    guess, _ = (yield from film_side(learned, cloud, sampling, count)) if learned else (None, steps)
    yield describe_drawing(cloud) | {
        "run": new_name(),
        "sides": {"ideal": ideal, "learned": guess},
        "log_snrs": [round(step.log_snr, 3) for step in steps],
        "steps": [step.index for step in steps],
        "total": steps[-1].total,
        "seconds": time.perf_counter() - began,
        "samples": count,
        "grid": GRID,
        "half": HALF,
        "points": encode_places(cloud.points),
        "places": place_evenly(HALF, GRID).tolist(),
    }


def describe_drawing(cloud: PointCloud) -> dict:
    """Return what films and reports of a drawing have in common."""
    return {"drawing": f"{hash(cloud):x}", "names": cloud.names, "unit": UNIT}


def film_side(
    denoise: Denoise, cloud: PointCloud, sampling: Sampling, count: int
) -> Generator[dict, None, tuple[dict, list[Step]]]:
    """Yield an empty film for each part, and return the side of one denoiser with its steps, at most MAX_FRAMES."""
    places, steps, arrows = place_evenly(HALF, GRID), [], []
    for step in sample_points(denoise, cloud, sampling, count):
        if step.index in spread_evenly(step.total, MAX_FRAMES):
            steps.append(step)
            arrows.append(find_arrows(denoise, cloud, sampling.weight, places, step.log_snr))
        yield {}
    fields, directions = zip(*arrows)
    end = steps[-1].x0
    side = {
        "x": encode_places(torch.stack([*(step.x for step in steps), end])),
        "field": encode_places(torch.stack(fields)),
        "guidance": "" if directions[0] is None else encode_places(torch.stack(directions)),
        "verdict": judge_samples(cloud, end.flatten(1)),
    }
    return side, steps


def judge_samples(cloud: PointCloud, samples: Tensor) -> str:
    """Say in a sentence how far samples (M, 2) are from the drawn points and from the drawn lines, and what this means."""
    to_points, to_lines = (
        measure(samples).median().item() for measure in (cloud.measure_to_points, cloud.measure_to_lines)
    )
    spacing = cloud.measure_spacing()
    near_lines = "between" if to_lines < to_points / 2 else "off"
    kind = "memorised" if to_points < spacing / 10 else near_lines
    near = {"points": ceil(1000 * to_points) / 1000, "lines": ceil(1000 * to_lines) / 1000}  # "within" stays true
    return render("plane_verdict.html", kind=kind, spacing=spacing, **near)


def report_training(cloud: PointCloud, count: int, seed: int) -> Iterator[tuple[dict, Denoise | None]]:
    """Train a network; yield after each part its report, often an empty one, and None; last a report and the denoiser.

    A report has the progress, and where points arrive with what was learned so far.
    """
    for progress in train_on_points(cloud, seed=seed):
        report, finished = {}, progress.step == progress.total
        if finished or progress.step % SNAPSHOT_EVERY == 0:
            *_, step = sample_points(progress.denoiser, cloud, SNAPSHOT, min(count, MOST_SNAPSHOT))
            training = {"step": progress.step, "total": progress.total, "loss": progress.loss}
            report = describe_drawing(cloud) | {"training": training | {"x": encode_places(step.x0)}}
        yield report, progress.denoiser if finished else None


def encode_places(places: Tensor) -> str:
    """Encode places or arrows, any shape, as 16-bit numbers in base64. Coordinates beyond -4 or 4 are cut off."""
    numbers = (places * UNIT).round().clamp(-32768, 32767).to(torch.int16)
    return base64.b64encode(numbers.numpy().tobytes()).decode()
