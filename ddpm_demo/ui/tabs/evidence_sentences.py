"""The sentences of the Evidence tab that say what to see in a chart, computed from the figures that it shows.

A series maps the name of a curve to its points (xs, ys).
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
CLOSE = 1.1  # two figures whose ratio is smaller are called equal


def format_fid(value: float) -> str:
    """Format a Frechet distance with two digits after the point, or three below 0.1."""
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def list_shared(series: Series) -> list[float]:
    """Return the values of x at which at least two curves have a point, in rising order."""
    found = [x for xs, _ in series.values() for x in xs]
    return sorted(x for x in set(found) if found.count(x) > 1)


def rank_at(series: Series, x: float) -> list[tuple[float, str]]:
    """Return (y, name) of the curves that have a point at x, the lowest first."""
    return sorted((ys[list(xs).index(x)], name) for name, (xs, ys) in series.items() if x in xs)


def describe_steps(series: Series) -> str:
    """Say which sampler is best with the fewest and with the most steps."""
    shared = list_shared(series)
    if not shared:
        return "Lower is better."
    parts = []
    for steps in dict.fromkeys((shared[0], shared[-1])):
        (best, name), *_, (worst, last) = rank_at(series, steps)
        parts.append(
            f"with {steps:g} steps, {name} is the closest to real images ({format_fid(best)}) and {last} the farthest "
            f"({format_fid(worst)})"
        )
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
    return f"{said}its teacher needs {least:g} calls to come as close ({name}; its points are uncertain by {format_fid(spread)})."


def describe_variety(series: Series, student: str, samples: int, real: float) -> str:
    """Say how varied the samples of a distilled model are with its fewest and its most calls, and as many real images."""
    calls, recall = series[student]
    parts = [f"{recall[k]:.2f} with {calls[k]:g} network {'call' if calls[k] == 1 else 'calls'}" for k in (0, -1)]
    return (
        f"Higher is more varied. The recall of the distilled model is {' and '.join(parts)}, and that of as many real images "
        f"{real:.2f}. All points use {samples:,} samples."
    )


def describe_tradeoff(series: Series) -> str:
    """Say what the largest measured guidance weight changes, compared with the least."""
    weights = next(iter(series.values()))[0]
    parts = [describe_change(name, ys[0], ys[-1]) for name, (_, ys) in series.items()]
    return f"From w = {weights[0]:g} to w = {weights[-1]:g}, {join(parts)}. The dashed line is at your weight."


def describe_change(name: str, before: float, after: float) -> str:
    """Say how a figure between 0 and 1 changes."""
    if abs(after - before) < 0.005:
        return f"{name} stays at {after:.2f}"
    return f"{name} {'rises' if after > before else 'falls'} from {before:.2f} to {after:.2f}"


def describe_guidance(series: Series) -> str:
    """Say how to read paths of growing guidance, and which of them ends with the most variety."""
    recall, share, name = max((xs[-1], ys[-1], name) for name, (xs, ys) in series.items())
    return (
        "Each path follows one kind of guidance as its strength grows, which usually costs recall. A path further to the right "
        f"keeps more variety. At full strength, {name} keeps the most: recall {recall:.2f}, with {share:.1%} read as asked."
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
        return f"{said}: the network has not memorised its training images."
    return f"{said}. The gap says that the network knows its training images better than others."


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
