"""Charts as SVG text: lines with interval bands, and boxes. Colours and sizes of type are the page's; nothing else is.

Lines and boxes carry the classes c0, c1, ..., by which the page's style gives them a colour that is fit for its scheme.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 300, 170
LEFT, RIGHT, TOP, BOTTOM = 48, WIDTH - 10, 8, HEIGHT - 22  # the frame, in units of the drawing
COLOURS = 8
_DOTS = 12  # lines of at most this many points show them


class Line(NamedTuple):
    """One line of a chart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    band: Sequence[tuple[float, float]] = ()  # (low, high) about each point; () = no band
    smooth: Sequence[float] = ()  # drawn over the line, which then is faint; () = nothing


class Box(NamedTuple):
    """One box of a chart: five percentiles and the mean at a place on the horizontal axis."""

    x: float
    percentiles: tuple[
        float, float, float, float, float
    ]  # whisker, box, line in the box, box, whisker
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


def line_chart(lines: Sequence[Line], *, label: str, colours: int = COLOURS) -> str:
    """Lines over a common horizontal axis.

    Args:
      lines: at least one, each with at least one point.
      label: what the chart shows, for those who cannot see it.
      colours: classes c0, c1, ... that there are; further lines begin with c0 again.

    Returns:
      An ``<svg>`` element.
    """
    values = [y for line in lines for y in line.y] + [
        edge for line in lines for pair in line.band for edge in pair
    ]
    low, high = min(values), max(values)
    margin = max(0.06 * (high - low), 1e-6 * abs(high)) if high > low else 0.1 * abs(high) or 1.0
    bottom = 0.0 if 0 <= low <= 0.5 * high else low - margin  # from 0 where that wastes no room
    axes = _axes([x for line in lines for x in line.x], (bottom, high + margin))
    drawn = []
    for index, line in enumerate(lines):
        colour = f"c{index % colours}"
        if line.band:
            upper, lower = ([pair[edge] for pair in line.band] for edge in (1, 0))
            area = _path(axes, [*line.x, *reversed(line.x)], [*upper, *reversed(lower)])
            drawn.append(f'<path class="band {colour}" d="{area}Z"/>')
        faint = " faint" if line.smooth else ""
        drawn.append(f'<path class="line {colour}{faint}" d="{_path(axes, line.x, line.y)}"/>')
        if line.smooth:
            drawn.append(f'<path class="line {colour}" d="{_path(axes, line.x, line.smooth)}"/>')
        for x, y in zip(line.x, line.y, strict=True) if len(line.y) <= _DOTS else ():
            drawn.append(
                f'<circle class="dot {colour}" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="2.5"/>'
            )
    return _svg(axes, label, drawn)


def box_chart(
    boxes: Sequence[Box], *, label: str, colour: int, y_range: tuple[float, float]
) -> str:
    """Boxes over an axis: from the 25th to the 75th percentile, whiskers from the 5th to the 95th, a dot for the mean.

    Args:
      boxes: at least one, from left to right.
      label: what the chart shows, for those who cannot see it.
      colour: number of the class.
      y_range: bounds of the vertical axis.

    Returns:
      An ``<svg>`` element.
    """
    places = [box.x for box in boxes]
    gap = min((b - a for a, b in zip(places, places[1:], strict=False)), default=1.0)
    axes = _axes([places[0] - gap / 2, places[-1] + gap / 2], y_range)
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


def _axes(xs: Sequence[float], y_range: tuple[float, float]) -> Axes:
    x_from, x_to = min(xs), max(xs)
    room = 0.5 if x_from == x_to else 0.0
    return Axes(x_from - room, x_to + room, *y_range)


def _path(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> str:
    """Straight lines from point to point."""
    return "M" + "L".join(f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in zip(xs, ys, strict=True))


def _svg(axes: Axes, label: str, drawn: Sequence[str]) -> str:
    parts = []
    for value in ticks(axes.y_from, axes.y_to):
        y, kind = axes.y(value), "zero" if value == 0 else "grid-line"
        parts.append(f'<path class="{kind}" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
        )
    parts.append(f'<text x="0" y="{HEIGHT - 6}">step</text>')
    for value in ticks(axes.x_from, axes.x_to):
        if value == int(value):
            x = axes.x(value)
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{short(value)}</text>'
            )
    parts += drawn
    parts.append(f'<path class="cursor" d="M0 {TOP}V{BOTTOM}"/>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" data-left="{LEFT}" '
        f'data-right="{RIGHT}" data-from="{axes.x_from}" data-to="{axes.x_to}">{"".join(parts)}</svg>'
    )
