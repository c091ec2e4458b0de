"""Small charts as SVG: they follow the page's light or dark theme, and a slider redraws them within milliseconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 26, 34
COLOURS = ("var(--chart-1)", "var(--chart-2)", "var(--chart-3)", "var(--chart-4)", "var(--chart-5)", "var(--chart-6)")
CSS = """
:root { --chart-1: #4f46e5; --chart-2: #d97706; --chart-3: #059669; --chart-4: #db2777; --chart-5: #0284c7;
  --chart-6: #7c3aed; }
.dark { --chart-1: #818cf8; --chart-2: #fbbf24; --chart-3: #34d399; --chart-4: #f472b6; --chart-5: #38bdf8;
  --chart-6: #c4b5fd; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.charts > * { flex: 1 1 18rem; min-width: 0; max-width: 30rem; }
.chart { width: 100%; height: auto; font-family: inherit; }
.chart text { font-size: 10.5px; fill: var(--body-text-color-subdued); }
.chart .title { font-size: 12px; font-weight: 600; fill: var(--body-text-color); }
.chart .axis { stroke: var(--border-color-primary); stroke-width: 1; }
.chart .mark { stroke: var(--body-text-color); stroke-width: 1; stroke-dasharray: 3 3; }
"""


@dataclass(frozen=True)
class Axis:
    """From where to where, how it is labelled, and whether by powers of ten."""

    low: float
    high: float
    label: str = ""
    log: bool = False

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one; beyond, just beyond."""
        low, high = (log10(self.low), log10(self.high)) if self.log else (self.low, self.high)
        value = log10(max(value, 1e-300)) if self.log else value
        return min(1.02, max(-0.02, (value - low) / ((high - low) or 1)))

    def ticks(self) -> list[float]:
        """A handful of round numbers."""
        if self.log and self.high / self.low > 5:
            powers = [10.0**k for k in range(floor(log10(self.low)), ceil(log10(self.high)) + 1)]
            for digits in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
                inside = [d * p for p in powers for d in digits if self.low * 0.999 <= d * p <= self.high * 1.001]
                if len(inside) > 2:
                    break
            return inside
        rough = (self.high - self.low) / 5 or 1
        size = 10 ** floor(log10(rough))
        stride = next(size * k for k in (1, 2, 5, 10) if size * k >= rough * 0.999)
        return [k * stride for k in range(ceil(self.low / stride - 1e-9), floor(self.high / stride + 1e-9) + 1)]


def around(
    values: Sequence[float], label: str = "", log: bool = False, zero: bool = False, legend_rows: int = 0
) -> Axis:
    """An axis that holds the finite ones of some values, with room for the rows of a legend above them."""
    finite = [v for v in values if isfinite(v) and (v > 0 or not log)] or [0.1, 1.0]
    low, high = (0.0 if zero else min(finite)), max(finite)
    above = 0.09 * legend_rows
    if log:
        return Axis(low / 1.15, high * 1.15 * (high / low) ** above, label, log=True)
    room = (high - low) * 0.05 or 0.5
    return Axis(low if zero else low - room, high + room + (high - low) * above, label)


def lines(
    title: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: Axis,
    y: Axis,
    *,
    mark: float | None = None,
    dots: bool = False,
    filled: bool = False,
    level: tuple[float, str] | None = None,
    legend: bool = True,
    data: str = "",
    colours: Sequence[str] = COLOURS,
) -> str:
    """Named (xs, ys) curves; ``mark`` is where you are, ``level`` a named height, ``data`` attributes of the SVG."""
    parts = [frame(title, x, y)]
    for k, (name, (xs, ys)) in enumerate(series.items()):
        colour = colours[k % len(colours)]
        points = [(left(x, u), top(y, v)) for u, v in zip(xs, ys) if isfinite(v)]
        path = " ".join(f"{u:.1f},{v:.1f}" for u, v in points)
        if filled and points:
            floor_y = top(y, y.low)
            area = f"{points[0][0]:.1f},{floor_y:.1f} {path} {points[-1][0]:.1f},{floor_y:.1f}"
            parts.append(f'<polygon points="{area}" fill="{colour}" opacity=".13"/>')
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        if dots:
            parts += [
                f'<circle cx="{left(x, u):.1f}" cy="{top(y, v):.1f}" r="3" fill="{colour}">'
                f"<title>{escape(name)}: {u:g}, {v:.4g}</title></circle>"
                for u, v in zip(xs, ys)
                if isfinite(v)
            ]
        if legend and len(series) > 1:
            across = 4 if len(series) == 4 else 3
            at, height = LEFT + 6 + k % across * (304 // across), TOP + 10 + k // across * 12
            parts.append(f'<rect x="{at}" y="{height - 7}" width="9" height="3" fill="{colour}"/>')
            parts.append(f'<text x="{at + 12}" y="{height - 2}">{escape(name)}</text>')
    if level:
        height = top(y, level[0])
        parts.append(f'<line class="mark" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT - 2}" y="{height - 3:.1f}" text-anchor="end">{escape(level[1])}</text>')
    if mark is not None:
        at = left(x, mark)
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    return svg("".join(parts), title, data)


def paths(title: str, tracks: Sequence[Sequence[float]], x: Axis, y: Axis, colours: Sequence[str]) -> str:
    """Many thin curves over an even x, each in its own colour."""
    parts = [frame(title, x, y)]
    for track, colour in zip(tracks, colours):
        last = max(1, len(track) - 1)
        points = " ".join(
            f"{left(x, x.low + (x.high - x.low) * k / last):.1f},{top(y, v):.1f}" for k, v in enumerate(track)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width=".8" opacity=".55"/>')
    return svg("".join(parts), title)


def bars(title: str, values: Mapping[str, tuple[float, float, str]], best: str | None = None) -> str:
    """Horizontal bars: name -> (length 0 .. 1, half width of its uncertainty, text); the best one in colour."""
    height, parts = TOP + 20 * len(values) + 6, [f'<text class="title" x="4" y="15">{escape(title)}</text>']
    width, start = 190, 52
    for k, (name, (length, spread, text)) in enumerate(values.items()):
        y = TOP + 20 * k
        colour = COLOURS[0] if name == best else "var(--body-text-color-subdued)"
        opacity = 1 if name == best else 0.45
        end = start + width * min(1, max(0, length))
        parts.append(f'<text x="{start - 6}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect x="{start}" y="{y + 2}" width="{max(1, end - start):.1f}" height="13" rx="2" fill="{colour}" '
            f'opacity="{opacity}"/>'
        )
        if isfinite(spread) and spread > 0:
            low, high = max(start, end - width * spread), min(start + width * 1.15, end + width * spread)
            parts.append(
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 8.5}" y2="{y + 8.5}" '
                'stroke="var(--body-text-color)" stroke-width="1.2"/>'
            )
        parts.append(f'<text x="{start + width * 1.15 + 6:.1f}" y="{y + 12}">{escape(text)}</text>')
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def heat(
    title: str, below: str, rows: Sequence[str], columns: Sequence[str], cells: Mapping, here: tuple | None = None
) -> str:
    """A map: (row, column) -> (shade 0 .. 1, text); what is missing is blank; ``here`` is ringed."""
    left_room, cell_width, cell_height = 98, min(62, (WIDTH - 108) / max(1, len(columns))), 26
    parts = [f'<text class="title" x="4" y="15">{escape(title)}</text><text x="4" y="30">{escape(below)}</text>']
    for k, name in enumerate(columns):
        at = left_room + cell_width * (k + 0.5)
        parts.append(f'<text x="{at:.1f}" y="{TOP + 24}" text-anchor="middle">{escape(name)}</text>')
    for r, row in enumerate(rows):
        y = TOP + 30 + r * cell_height
        parts.append(f'<text x="{left_room - 6}" y="{y + 17}" text-anchor="end">{escape(row)}</text>')
        for c, column in enumerate(columns):
            if (row, column) not in cells:
                continue
            shade, text = cells[row, column]
            x = left_room + c * cell_width
            ring = ' stroke="var(--body-text-color)" stroke-width="2"' if (row, column) == here else ""
            parts.append(
                f'<rect x="{x + 1:.1f}" y="{y + 1}" width="{cell_width - 2:.1f}" height="{cell_height - 2}" rx="3" '
                f'fill="{COLOURS[0]}" fill-opacity="{0.08 + 0.6 * shade:.2f}"{ring}/>'
                f'<text x="{x + cell_width / 2:.1f}" y="{y + 17}" text-anchor="middle" '
                f'style="fill: var(--body-text-color)">{escape(text)}</text>'
            )
    height = TOP + 36 + len(rows) * cell_height
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def frame(title: str, x: Axis, y: Axis) -> str:
    """Title, both axes, their ticks and labels."""
    parts = [f'<text class="title" x="4" y="15">{escape(title)}</text>']
    base = HEIGHT - BOTTOM
    for value in y.ticks():
        at = top(y, value)
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{short(value)}</text>')
    for value in x.ticks():
        parts.append(f'<text x="{left(x, value):.1f}" y="{base + 13}" text-anchor="middle">{short(value)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.label)}</text>'
    )
    if y.label:
        parts.append(f'<text x="{WIDTH - RIGHT}" y="15" text-anchor="end">{escape(y.label)}</text>')
    return "".join(parts)


def svg(inside: str, title: str, data: str = "") -> str:
    """The chart around its parts."""
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" {data}>{inside}</svg>'


def left(x: Axis, value: float) -> float:
    """Where a value of x is drawn."""
    return LEFT + (WIDTH - LEFT - RIGHT) * x.place(value)


def top(y: Axis, value: float) -> float:
    """Where a value of y is drawn."""
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y.place(value)


def short(value: float) -> str:
    """A tick's number in few letters."""
    return f"{value:.4g}" if abs(value) >= 0.001 or value == 0 else f"{value:.0e}".replace("e-0", "e-")
