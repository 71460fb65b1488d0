"""Charts as SVG text: lines with interval bands, and boxes. Colours and sizes of type are the page's; nothing else is.

Lines and boxes carry the classes c0, c1, ..., by which the page's style gives them a colour that is fit for its scheme.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 300, 170
LEFT, RIGHT, TOP, BOTTOM = 38, WIDTH - 10, 8, HEIGHT - 22  # the frame, in units of the drawing
COLOURS = 8
_DOTS = 12  # lines of at most this many points show them


class Line(NamedTuple):
    """One line of a chart."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]  # None = a gap
    band: Sequence[tuple[float, float] | None] = ()  # (low, high) about each point; () = no band
    smooth: Sequence[float | None] = ()  # drawn over the line, which then is faint; () = nothing


class Box(NamedTuple):
    """One box of a chart: five percentiles and the mean at a place on the horizontal axis."""

    x: float
    percentiles: tuple[float, float, float, float, float]  # whisker, box, line in the box, box, whisker
    mean: float


class Axes(NamedTuple):
    """Where numbers lie in the drawing."""

    x_from: float
    x_to: float
    y_from: float
    y_to: float

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        return LEFT + (RIGHT - LEFT) * (value - self.x_from) / (self.x_to - self.x_from)

    def y(self, value: float) -> float:
        """Vertical place of a value; values beyond the frame lie on its edge."""
        part = (value - self.y_from) / (self.y_to - self.y_from)
        return BOTTOM - (BOTTOM - TOP) * min(max(part, 0.0), 1.0)


def line_chart(lines: Sequence[Line], *, label: str, y_range: tuple[float, float] | None = None) -> str:
    """Lines over a common horizontal axis.

    Args:
      lines: at least one, with at least one point that is no gap.
      label: what the chart shows, for those who cannot see it.
      y_range: bounds of the vertical axis; None = those of the values.

    Returns:
      An ``<svg>`` element.
    """
    values = [y for line in lines for y in line.y if y is not None]
    values += [edge for line in lines for pair in line.band if pair for edge in pair]
    axes = _axes([x for line in lines for x in line.x], values, y_range)
    drawn = []
    for index, line in enumerate(lines):
        colour = f"c{index % COLOURS}"
        if line.band:
            drawn.append(f'<path class="band {colour}" d="{_ribbon(axes, line)}"/>')
        faint = " faint" if line.smooth else ""
        drawn.append(f'<path class="line {colour}{faint}" d="{_path(axes, line.x, line.y)}"/>')
        if line.smooth:
            drawn.append(f'<path class="line {colour}" d="{_path(axes, line.x, line.smooth)}"/>')
        if sum(y is not None for y in line.y) <= _DOTS:
            for x, y in zip(line.x, line.y, strict=True):
                if y is not None:
                    drawn.append(f'<circle class="dot {colour}" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="2.5"/>')
    return _svg(axes, label, drawn)


def box_chart(boxes: Sequence[Box], *, label: str, colour: int, y_range: tuple[float, float] | None = None) -> str:
    """Boxes over an axis: from the 25th to the 75th percentile, whiskers from the 5th to the 95th, a dot for the mean.

    Args:
      boxes: at least one, from left to right.
      label: what the chart shows, for those who cannot see it.
      colour: number of the class.
      y_range: bounds of the vertical axis; None = those of the values.

    Returns:
      An ``<svg>`` element.
    """
    places = [box.x for box in boxes]
    gap = min((b - a for a, b in zip(places, places[1:], strict=False)), default=1.0)
    values = [value for box in boxes for value in (*box.percentiles, box.mean)]
    axes = _axes([places[0] - gap / 2, places[-1] + gap / 2], values, y_range)
    half = min(0.35 * (axes.x(gap) - axes.x(0)), 9.0)
    drawn = []
    for box in boxes:
        x = axes.x(box.x)
        low, first, middle, third, high = (axes.y(value) for value in box.percentiles)
        drawn.append(
            f'<g class="box c{colour % COLOURS}"><path d="M{x:.1f} {low:.1f}V{first:.1f}M{x:.1f} {third:.1f}V{high:.1f}'
            f'M{x - half / 2:.1f} {low:.1f}h{half:.1f}M{x - half / 2:.1f} {high:.1f}h{half:.1f}"/>'
            f'<rect x="{x - half:.1f}" y="{third:.1f}" width="{2 * half:.1f}" height="{max(first - third, 0.5):.1f}"/>'
            f'<path class="middle" d="M{x - half:.1f} {middle:.1f}h{2 * half:.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{axes.y(box.mean):.1f}" r="2"/></g>'
        )
    return _svg(axes, label, drawn)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` of them.

    Example:
      >>> ticks(0, 1), ticks(0, 40)
      ([0.0, 0.5, 1.0], [0.0, 10.0, 20.0, 30.0, 40.0])
    """
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (unit * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [float(f"{step * i:.12g}") for i in range(first, last + 1)]
    raise AssertionError((low, high, most))


def short(value: float) -> str:
    """A number as it stands at an axis.

    Example:
      >>> [short(v) for v in (0, 0.25, 1500.0, 2e6, 1e-4)]
      ['0', '0.25', '1500', '2M', '1e-4']
    """
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if letter == 'k' else unit):g}{letter}"
    return f"{value:g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def _axes(xs: Sequence[float], values: Sequence[float], y_range: tuple[float, float] | None) -> Axes:
    x_from, x_to = min(xs), max(xs)
    if x_from == x_to:
        x_from, x_to = x_from - 0.5, x_to + 0.5
    low, high = y_range or (min(values), max(values))
    margin = 0.0 if y_range else 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    # what is never negative starts at 0 where that wastes no room
    bottom = 0.0 if not y_range and 0 <= low <= 0.5 * high else low - margin
    return Axes(x_from, x_to, bottom, high + margin)


def _path(axes: Axes, xs: Sequence[float], ys: Sequence[float | None]) -> str:
    """Straight lines from point to point, broken at gaps."""
    steps, pen = [], "M"
    for x, y in zip(xs, ys, strict=True):
        if y is None:
            pen = "M"
            continue
        steps.append(f"{pen}{axes.x(x):.1f} {axes.y(y):.1f}")
        pen = "L"
    return "".join(steps)


def _ribbon(axes: Axes, line: Line) -> str:
    """The area between the lower and the upper edge of a band."""
    edges = [(x, *pair) for x, pair in zip(line.x, line.band, strict=True) if pair]
    upper = [f"{axes.x(x):.1f} {axes.y(high):.1f}" for x, _, high in edges]
    lower = [f"{axes.x(x):.1f} {axes.y(low):.1f}" for x, low, _ in reversed(edges)]
    return f"M{'L'.join(upper + lower)}Z" if edges else ""


def _svg(axes: Axes, label: str, drawn: Sequence[str]) -> str:
    parts = []
    for value in ticks(axes.y_from, axes.y_to):
        y, kind = axes.y(value), "zero" if value == 0 else "grid-line"
        parts.append(f'<path class="{kind}" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
    parts.append(f'<text x="0" y="{HEIGHT - 6}">step</text>')
    for value in ticks(axes.x_from, axes.x_to):
        if value == int(value):
            x = axes.x(value)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{short(value)}</text>')
    parts += drawn
    parts.append(f'<path class="cursor" d="M0 {TOP}V{BOTTOM}"/>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" data-left="{LEFT}" '
        f'data-right="{RIGHT}" data-from="{axes.x_from}" data-to="{axes.x_to}">{"".join(parts)}</svg>'
    )
