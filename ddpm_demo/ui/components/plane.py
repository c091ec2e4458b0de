"""The plane, which shows points moving from noise onto a drawing, and the functions that make its films.

A film is the dict that the browser receives: for each of two denoisers the places of all points at every step, and arrows
on a grid. Places are 16-bit numbers in base64, in steps of 1/UNIT. The browser draws them, so that a film of a thousand
points and fifty steps is a third of a megabyte, and sharp at every size.
"""

import base64
import time
from collections.abc import Callable, Iterator
from math import ceil

import gradio as gr
import torch
from torch import Tensor

from ddpm_demo.diffusion.guidance import Denoise
from ddpm_demo.diffusion.points import PointCloud, find_arrows, place_evenly, sample_points
from ddpm_demo.diffusion.points_network import Progress
from ddpm_demo.diffusion.reverse_process import Step
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.ui.components.player import MAX_FRAMES, new_name, read_component, spread_evenly
from ddpm_demo.ui.rendering import render

UNIT = 8192  # places from -4 to 4
HALF = 2.2  # half the width of what is shown
GRID = 13  # arrows in a row
SNAPSHOT = Sampling(steps=12)  # during training
MOST_SNAPSHOT = 500  # points

Turns = Callable[[Iterator], Iterator]  # gives each part of a computation its turn among all users


def build_plane(**options) -> gr.HTML:
    """Create the component. Its value is a film, or the report of a training."""
    return gr.HTML(None, **read_component("plane"), **options)


def film_points(cloud: PointCloud, learned: Denoise | None, sampling: Sampling, count: int, in_turns: Turns) -> dict:
    """Compute a film of ``count`` points by the exact denoiser and by the learned one, None if there is none yet."""
    began = time.perf_counter()
    ideal, steps = film_side(cloud.denoise, cloud, sampling, count, in_turns)
    sides = {"ideal": ideal, "learned": learned and film_side(learned, cloud, sampling, count, in_turns)[0]}
    return describe_drawing(cloud) | {
        "run": new_name(),
        "sides": sides,
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
    denoise: Denoise, cloud: PointCloud, sampling: Sampling, count: int, in_turns: Turns
) -> tuple[dict, list[Step]]:
    """Return the side of a film by one denoiser, and its steps, of which there are at most MAX_FRAMES."""
    steps = [
        step
        for step in in_turns(sample_points(denoise, cloud, sampling, count))
        if step.index in spread_evenly(step.total, MAX_FRAMES)
    ]
    places = place_evenly(HALF, GRID)
    arrows = in_turns(find_arrows(denoise, cloud, sampling.weight, places, step.log_snr) for step in steps)
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


def report_training(cloud: PointCloud, progress: Progress, count: int) -> dict:
    """Return the report of a training: its progress, and where points arrive with what was learned so far."""
    *_, step = sample_points(progress.denoiser, cloud, SNAPSHOT, min(count, MOST_SNAPSHOT))
    training = {"step": progress.step, "total": progress.total, "loss": progress.loss, "x": encode_places(step.x0)}
    return describe_drawing(cloud) | {"training": training}


def encode_places(places: Tensor) -> str:
    """Encode places or arrows, any shape, as 16-bit numbers in base64. Coordinates beyond -4 or 4 are cut off."""
    numbers = (places * UNIT).round().clamp(-32768, 32767).to(torch.int16)
    return base64.b64encode(numbers.numpy().tobytes()).decode()
