"""Draws small charts as SVG. They follow the page's light or dark theme and are redrawn within milliseconds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, isfinite, log10

from ddpm_demo.ui.rendering import render

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 26, 34
BASE, END = HEIGHT - BOTTOM, WIDTH - RIGHT  # y of the horizontal axis, x of its end
LINE_HEIGHT = 18  # the least distance between two names beside curves
COLOURS = tuple(f"var(--chart-{k})" for k in range(1, 9))
GREY = "var(--body-text-color-subdued)"


@dataclass(frozen=True)
class Axis:
    """The range of an axis, its label, and whether it is logarithmic."""

    low: float
    high: float
    label: str = ""
    log: bool = False

    def place(self, value: float) -> float:
        """Return 0 for the low end and 1 for the high end. A value outside is placed just beyond its end."""
        low, high = (log10(self.low), log10(self.high)) if self.log else (self.low, self.high)
        value = log10(max(value, 1e-300)) if self.log else value
        return min(1.02, max(-0.02, (value - low) / ((high - low) or 1)))

    def ticks(self) -> list[float]:
        """Return a few round numbers."""
        if self.log and self.high / self.low > 5:
            return self.logarithmic_ticks()
        rough = (self.high - self.low) / 5 or 1
        size = 10 ** floor(log10(rough))
        stride = next(size * k for k in (1, 2, 5, 10) if size * k >= rough * 0.999)
        return [k * stride for k in range(ceil(self.low / stride - 1e-9), floor(self.high / stride + 1e-9) + 1)]

    def logarithmic_ticks(self) -> list[float]:
        """Return powers of ten, and further digits between them until there are more than two values."""
        powers = [10.0**k for k in range(floor(log10(self.low)), ceil(log10(self.high)) + 1)]
        inside: list[float] = []
        for digits in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
            inside = [d * p for p in powers for d in digits if self.low * 0.999 <= d * p <= self.high * 1.001]
            if len(inside) > 2:
                break
        return inside


@dataclass(frozen=True)
class Style:
    """The style of curves: dots at their points, a filled area below them, colours, attributes of the SVG.

    With ``beside``, the names of several curves stand at their right ends; otherwise they are a legend.
    """

    dots: bool = False
    beside: bool = False
    filled: bool = False
    colours: Sequence[str] = COLOURS
    attributes: Mapping[str, float] = field(default_factory=dict)


def fit_axis(values: Sequence[float], label: str = "", log: bool = False, zero: bool = False) -> Axis:
    """Return an axis for the finite values. With ``zero``, it starts at 0."""
    finite = [v for v in values if isfinite(v) and (v > 0 or not log)] or [0.1, 1.0]
    low, high = (0.0 if zero else min(finite)), max(finite)
    if log:
        return Axis(low / 1.15, high * 1.15, label, log=True)
    room = (high - low) * 0.05 or 0.5
    return Axis(low if zero else low - room, high + room, label)


def draw_lines(
    title: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: Axis,
    y: Axis,
    mark: float | None = None,
    style: Style = Style(),
) -> str:
    """Draw named curves (xs, ys), with their names if there are several. ``mark`` is the x of a vertical line."""
    curves = [
        describe_curve(name, xs, ys, (x, y), style.colours[k % len(style.colours)], style)
        for k, (name, (xs, ys)) in enumerate(series.items())
    ]
    beside = style.beside and len(series) > 1
    if beside:
        place_names(curves)
    elif len(series) > 1:
        across = 4 if len(series) == 4 else 3
        for k, curve in enumerate(curves):
            curve["legend"] = {"x": LEFT + 6 + k % across * (304 // across), "y": TOP + 10 + k // across * 12}
    return render(
        "chart_lines.html",
        frame=describe_frame(title, x, y) | (make_room(series) if beside else {}),
        curves=curves,
        mark=None if mark is None else f"{place_x(x, mark):.1f}",
        attributes=style.attributes,
    )


def describe_curve(
    name: str, xs: Sequence[float], ys: Sequence[float], axes: tuple[Axis, Axis], colour: str, style: Style
) -> dict:
    """Describe one curve for the template: its finite points, and the area between them and the axis."""
    x, y = axes
    values = [(u, v) for u, v in zip(xs, ys) if isfinite(v)]
    points = [(f"{place_x(x, u):.1f}", f"{place_y(y, v):.1f}") for u, v in values]
    path, area = " ".join(f"{u},{v}" for u, v in points), ""
    if style.filled and points:
        lowest = f"{place_y(y, y.low):.1f}"
        area = f"{points[0][0]},{lowest} {path} {points[-1][0]},{lowest}"
    dots = []
    if style.dots:
        for (at, height), (u, v) in zip(points, values):
            dots.append({"x": at, "y": height, "text": f"{name}: {u:g}, {v:.4g}"})
    return {"name": name, "colour": colour, "path": path, "points": points, "area": area, "dots": dots}


def make_room(names: Iterable[str]) -> dict:
    """Return the frame's size with room for names beside curves, and for all texts where a phone shows them large."""
    return {"start": -16, "width": WIDTH + 20 + 11 * max(map(len, names)), "height": HEIGHT + 6}


def place_names(curves: list[dict]) -> None:
    """Add to each curve the place of its name at the right of the chart, near the right end of the curve.

    Names keep their order and a least distance, so that none covers another. A line leads from each end to its name.
    """
    ends = [max(((float(u), float(v)) for u, v in curve["points"]), default=(END, BASE)) for curve in curves]
    order = sorted(range(len(curves)), key=lambda k: ends[k][1])
    least = TOP + 4.0
    for k in order:
        curves[k]["beside"] = {"end": ends[k], "y": max(least, ends[k][1])}
        least = curves[k]["beside"]["y"] + LINE_HEIGHT
    most = BASE + 4.0
    for k in reversed(order):  # names that were moved below the chart move up again
        curves[k]["beside"]["y"] = min(most, curves[k]["beside"]["y"])
        most = curves[k]["beside"]["y"] - LINE_HEIGHT


def draw_paths(title: str, tracks: Sequence[Sequence[float]], x: Axis, y: Axis, colours: Sequence[str]) -> str:
    """Draw many thin curves over evenly spaced x, each in its own colour."""
    curves = []
    for track, colour in zip(tracks, colours):
        last = max(1, len(track) - 1)
        points = " ".join(
            f"{place_x(x, x.low + (x.high - x.low) * k / last):.1f},{place_y(y, v):.1f}" for k, v in enumerate(track)
        )
        curves.append({"colour": colour, "path": points})
    return render("chart_paths.html", frame=describe_frame(title, x, y), curves=curves)


def draw_bars(title: str, values: Mapping[str, tuple[float, float, str]], best: str | None = None) -> str:
    """Draw horizontal bars, name -> (length 0 .. 1, half width of its uncertainty, text), with the best one in colour."""
    width, start = 190, 52
    bars = []
    for k, (name, (length, spread, text)) in enumerate(values.items()):
        end = start + width * min(1, max(0, length))
        whisker = None
        if isfinite(spread) and spread > 0:
            low, high = max(start, end - width * spread), min(start + width * 1.15, end + width * spread)
            whisker = {"low": f"{low:.1f}", "high": f"{high:.1f}"}
        bars.append(
            {
                "name": name,
                "text": text,
                "y": TOP + 20 * k,
                "length": f"{max(1, end - start):.1f}",
                "whisker": whisker,
                "colour": COLOURS[0] if name == best else GREY,
                "opacity": 1 if name == best else 0.45,
            }
        )
    height = TOP + 20 * len(values) + 6
    after = f"{start + width * 1.15 + 6:.1f}"
    return render("chart_bars.html", title=title, width=WIDTH, height=height, start=start, after=after, bars=bars)


def draw_map(
    title: str, below: str, rows: Sequence[str], columns: Sequence[str], cells: Mapping, here: tuple | None = None
) -> str:
    """Draw a map, (row, column) -> (shade 0 .. 1, text). A missing cell is blank; the cell ``here`` has a ring."""
    left, cell_height = 112, 26
    cell_width = min(62, (WIDTH - left - 4) / max(1, len(columns)))
    heads = [{"x": f"{left + cell_width * (k + 0.5):.1f}", "name": name} for k, name in enumerate(columns)]
    lines = []
    for r, row in enumerate(rows):
        found = []
        for c, column in enumerate(columns):
            if (row, column) in cells:
                shade, text = cells[row, column]
                x = left + c * cell_width
                found.append(
                    {
                        "x": f"{x + 1:.1f}",
                        "middle": f"{x + cell_width / 2:.1f}",
                        "opacity": f"{0.08 + 0.6 * shade:.2f}",
                        "text": text,
                        "ring": (row, column) == here,
                    }
                )
        lines.append({"name": row, "y": TOP + 30 + r * cell_height, "cells": found})
    return render(
        "chart_map.html",
        title=title,
        below=below,
        width=WIDTH,
        height=TOP + 36 + len(rows) * cell_height,
        heads=heads,
        rows=lines,
        heads_at=TOP + 24,
        names_at=left - 6,
        cell_width=f"{cell_width - 2:.1f}",
        cell_height=cell_height - 2,
        colour=COLOURS[0],
    )


def describe_frame(title: str, x: Axis, y: Axis) -> dict:
    """Describe the surroundings of curves for the template: the title, both axes, their ticks and labels."""
    y_ticks = [{"at": place_y(y, value), "text": format_tick(value)} for value in y.ticks()]
    return {
        "title": title,
        "start": 0,
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": END,
        "top": TOP,
        "base": BASE,
        "x_label": x.label,
        "y_label": y.label,
        "x_ticks": [{"at": f"{place_x(x, value):.1f}", "text": format_tick(value)} for value in x.ticks()],
        "y_ticks": [
            {"at": f"{tick['at']:.1f}", "text_at": f"{tick['at'] + 3.5:.1f}", "text": tick["text"]} for tick in y_ticks
        ],
    }


def place_x(axis: Axis, value: float) -> float:
    """Return the position of a value of the horizontal axis."""
    return LEFT + (END - LEFT) * axis.place(value)


def place_y(axis: Axis, value: float) -> float:
    """Return the position of a value of the vertical axis."""
    return BASE - (BASE - TOP) * axis.place(value)


def format_tick(value: float) -> str:
    """Format the number of a tick with few digits."""
    return f"{value:.4g}" if abs(value) >= 0.001 or value == 0 else f"{value:.0e}".replace("e-0", "e-")
