"""The sentences of the Evidence tab that say what to see in a chart, computed from the figures that it shows.

A series maps the name of a curve to its points (xs, ys).
"""

from collections.abc import Mapping, Sequence
from math import hypot
from statistics import fmean

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
CLOSE = 1.1  # if the ratio of the losses is smaller, it is no sign of overfitting
ALONE = "Held-out images are measured with the averaged weights, and this alone makes their loss smaller."


def format_fid(value: float) -> str:
    """Format a Frechet distance with two digits after the point, or three below 0.1."""
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def describe_steps(measured: Mapping[str, Sequence[tuple[float, float, float]]]) -> str:
    """Say how far the samplers differ with the fewest and with the most steps that several of them were measured at.

    ``measured`` maps each sampler to (steps, FID, its standard deviation).
    """
    found = [steps for points in measured.values() for steps, *_ in points]
    shared = sorted(steps for steps in set(found) if found.count(steps) > 1)
    if not shared:
        return "Lower is better."
    parts = []
    for steps in dict.fromkeys((shared[0], shared[-1])):
        ranked = sorted(
            (fid, spread, name) for name, points in measured.items() for x, fid, spread in points if x == steps
        )
        (best, error, name), *_, (worst, other, last) = ranked
        ends = (
            f"{format_fid(best)} ± {format_fid(error)} ({name}) to {format_fid(worst)} ± {format_fid(other)} ({last})"
        )
        equal = ", equal within the uncertainty" if worst - best < 2 * hypot(error, other) else ""
        parts.append(f"with {steps:g} steps, the FID is from {ends}{equal}")
    return f"Lower is better: {'; '.join(parts)}. The dashed line is at your number of steps."


def describe_calls(series: Series, student: str, spread: float) -> str:
    """Say how many network calls of its teacher the first point of a distilled model is worth.

    ``spread`` is the standard deviation of a typical point of the teacher.
    """
    calls, distance = series[student][0][0], series[student][1][0]
    others = [
        (x, name) for name, (xs, ys) in series.items() if name != student for x, y in zip(xs, ys) if y <= distance
    ]
    noun = "call" if calls == 1 else "calls"
    said = f"Further left is faster, and lower is better. With {calls:g} network {noun}, the distilled model is at "
    said += f"{format_fid(distance)}; "
    if not others:
        return f"{said}no measured number of calls brings its teacher there."
    least, name = min(others)
    at_most = "at most " if least == series[name][0][0] else ""  # fewer calls were not measured
    return f"{said}its teacher needs {at_most}{least:g} calls to come as close ({name}; its points are uncertain by {format_fid(spread)})."


def describe_variety(series: Series, student: str, samples: int, real: float) -> str:
    """Say how varied the samples of a distilled model are with its fewest and its most calls, and as many real images."""
    calls, recall = series[student]
    parts = [f"{recall[k]:.2f} with {calls[k]:g} network {'call' if calls[k] == 1 else 'calls'}" for k in (0, -1)]
    return (
        f"Higher is more varied. The recall of the distilled model is {' and '.join(parts)}, and that of as many real images "
        f"{real:.2f}. All points use {samples:,} samples."
    )


def describe_tradeoff(series: Series, samples: int) -> str:
    """Say what the largest measured guidance weight changes, compared with the least."""
    weights = next(iter(series.values()))[0]
    parts = [describe_change(name, ys[0], ys[-1]) for name, (_, ys) in series.items()]
    return (
        f"From w = {weights[0]:g} to w = {weights[-1]:g}, {join(parts)} ({samples:,} samples). The dashed line "
        "is at your weight."
    )


def describe_change(name: str, before: float, after: float) -> str:
    """Say how a figure between 0 and 1 changes."""
    if abs(after - before) < 0.005:
        return f"{name} stays at {after:.2f}"
    return f"{name} {'rises' if after > before else 'falls'} from {before:.2f} to {after:.2f}"


def describe_guidance(samples: int) -> str:
    """Say how to read paths of growing guidance."""
    return (
        "Each path follows one kind of guidance as its strength grows, which usually costs recall. At the same height, the "
        f"path further to the right keeps more variety. All points use {samples:,} samples."
    )


def describe_time(series: Series) -> str:
    """Say how each curve of the FID changes from its first to its last point."""
    parts = []
    for name, (minutes, values) in series.items():
        ends = f"{format_fid(values[0])} after {minutes[0]:.3g} minutes"
        if len(values) > 1:
            ends += f", and {format_fid(values[-1])} after {minutes[-1]:.3g}"
        parts.append(f"{name} is at {ends}")
    return f"Lower is better: {'; '.join(parts)}."


def describe_losses(training: Sequence[float], held_out: Sequence[float]) -> str:
    """Say whether the loss of held-out images at the end of a training is close to that of training images.

    The loss of the training images is the mean over the last tenth of the log, because a single row is noisy.
    """
    end = fmean(training[-max(1, len(training) // 10) :])
    said = f"At the end, the loss of training images is {end:.4f}"
    if not held_out:
        return f"{said}. It is noisy, because the noise levels are drawn anew for every batch."
    said += f", and that of held-out images {held_out[-1]:.4f}"
    if held_out[-1] <= end * CLOSE:
        return f"{said}: no sign of overfitting. {ALONE}"
    return (
        f"{said}. The gap is a sign of overfitting: the network knows its training images better than others. {ALONE}"
    )


def describe_map(values: Mapping[tuple[str, str], tuple[float, str]], ringed: bool) -> str:
    """Say which cell (row, column) -> (shade, text) of a map is best, and what the ring means where there is one."""
    row, column = max(values, key=lambda place: values[place][0])
    said = f"Darker is better. The best cell is {row}, {column}: {values[row, column][1]}."
    return f"{said} The ring marks your settings." if ringed else said


def describe_likelihood(series: Series) -> str:
    """Say which timestep costs most under each variance."""
    parts = []
    for name, (timesteps, bits) in series.items():
        cost, t = max(zip(bits, timesteps))
        parts.append(f"at t = {t:g} with variance {name} ({cost:.2g} bits per dimension)")
    return f"The most expensive step is {join(parts)}. Steps near the clean image decide the last bits of every pixel."


def describe_verdict(cell: dict) -> str:
    """Say which of precision (quality) and recall (variety) falls further short of real images."""
    shortfall, name = max((cell["reference"][name] - cell[name], name) for name in ("precision", "recall"))
    if shortfall < 0.01:
        return "In precision and recall, these samples are as good as real images."
    weaker = "variety" if name == "recall" else "quality of single samples"
    return (
        f"The weaker side of this model is the {weaker}: its {name} is {cell[name]:.3f}, and real images reach "
        f"{cell['reference'][name]:.3f}."
    )


def join(parts: Sequence[str]) -> str:
    """Join parts of a sentence by commas, and the last one by "and"."""
    return " and ".join(", ".join(group) for group in (parts[:-1], parts[-1:]) if group)
