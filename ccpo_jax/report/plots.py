"""Charts as SVG text: lines with interval bands, and boxes.

Lines and boxes carry the classes c0, c1, ...; the page's style gives these a colour for its scheme,
and sizes to the text. Nothing else is needed.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

# The frame, in units of the drawing.
WIDTH = 300
HEIGHT = 170
LEFT = 48
RIGHT = WIDTH - 10
TOP = 8
BOTTOM = HEIGHT - 22

COLOURS = 8

# A line of at most this many points has a dot at each.
_MAX_DOTS = 12
_MAX_HALF_BOX = 9.0


class Line(NamedTuple):
    """One line of a chart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    band: Sequence[tuple[float, ...]] = ()  # (low, high) about each point; () = no band
    smooth: Sequence[float] = ()  # drawn over the line, which is faint then; () = nothing


class Box(NamedTuple):
    """One box of a chart, at `x` on the horizontal axis."""

    x: float
    percentiles: tuple[float, float, float, float, float]  # whisker, box, median, box, whisker
    mean: float


class Axes(NamedTuple):
    """Maps values to places in the drawing."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        return LEFT + (RIGHT - LEFT) * (value - self.x_min) / (self.x_max - self.x_min)

    def y(self, value: float) -> float:
        """Vertical place of a value; values beyond the frame lie on its edge."""
        fraction = (value - self.y_min) / (self.y_max - self.y_min)
        return BOTTOM - (BOTTOM - TOP) * min(max(fraction, 0.0), 1.0)


def line_chart(lines: Sequence[Line], *, label: str, colours: int = COLOURS) -> str:
    """Lines over a common horizontal axis.

    Args:
      lines: at least one, each with at least one point.
      label: what the chart shows, for screen readers.
      colours: number of classes c0, c1, ...; further lines begin with c0 again.

    Returns:
      An ``<svg>`` element.
    """
    axes = _axes([x for line in lines for x in line.x], _y_range(lines))
    shapes: list[str] = []
    for index, line in enumerate(lines):
        shapes += _line_shapes(axes, line, f"c{index % colours}")
    return _svg(axes, label, shapes)


def box_chart(
    boxes: Sequence[Box], *, label: str, colour: int, y_range: tuple[float, float]
) -> str:
    """Boxes over a horizontal axis: percentiles 25 to 75, whiskers 5 to 95, a dot for the mean.

    Args:
      boxes: at least one, from left to right.
      label: what the chart shows, for screen readers.
      colour: number of the class.
      y_range: bounds of the vertical axis.

    Returns:
      An ``<svg>`` element.
    """
    xs = [box.x for box in boxes]
    distance = min((right - left for left, right in itertools.pairwise(xs)), default=1.0)
    axes = _axes([xs[0] - distance / 2, xs[-1] + distance / 2], y_range)
    half_width = min(0.35 * (axes.x(distance) - axes.x(0)), _MAX_HALF_BOX)
    shapes = [_box_shape(axes, box, half_width, f"c{colour % COLOURS}") for box in boxes]
    return _svg(axes, label, shapes)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` of them.

    Example:
      >>> ticks(0, 1), ticks(0, 40)
      ([0.0, 0.5, 1.0], [0.0, 10.0, 20.0, 30.0, 40.0])
    """
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20):
        step = unit * factor
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        if last - first < most:
            return [float(f"{step * i:.12g}") for i in range(first, last + 1)]
    raise AssertionError((low, high, most))


def short_number(value: float) -> str:
    """A number as it stands at an axis.

    Example:
      >>> [short_number(v) for v in (0, 0.25, 1500.0, 2e6, 1e-4)]
      ['0', '0.25', '1500', '2M', '1e-4']
    """
    size = abs(value)
    if size >= 1e9:
        return f"{value / 1e9:g}G"
    if size >= 1e6:
        return f"{value / 1e6:g}M"
    if size >= 1e4:
        return f"{value / 1e3:g}k"
    if value == 0 or size >= 1e-3:
        return f"{value:g}"
    return f"{value:.0e}".replace("e-0", "e-")


def _y_range(lines: Sequence[Line]) -> tuple[float, float]:
    """Bounds of the vertical axis: all values with a margin, from 0 where it costs little space."""
    values = list(_values(lines))
    low = min(values)
    high = max(values)
    if high > low:
        margin = max(0.06 * (high - low), 1e-6 * abs(high))
    else:
        margin = 0.1 * abs(high) or 1.0
    bottom = 0.0 if 0 <= low <= 0.5 * high else low - margin
    return bottom, high + margin


def _values(lines: Sequence[Line]) -> Iterator[float]:
    for line in lines:
        yield from line.y
        for edges in line.band:
            yield from edges


def _line_shapes(axes: Axes, line: Line, colour: str) -> list[str]:
    """A line with its band, its moving average and its dots."""
    shapes = []
    if line.band:
        lower = [edges[0] for edges in line.band]
        upper = [edges[1] for edges in line.band]
        outline = _path(axes, [*line.x, *reversed(line.x)], [*upper, *reversed(lower)])
        shapes.append(f'<path class="band {colour}" d="{outline}Z"/>')

    faint = " faint" if line.smooth else ""
    shapes.append(f'<path class="line {colour}{faint}" d="{_path(axes, line.x, line.y)}"/>')
    if line.smooth:
        shapes.append(f'<path class="line {colour}" d="{_path(axes, line.x, line.smooth)}"/>')

    if len(line.y) <= _MAX_DOTS:
        for x, y in zip(line.x, line.y, strict=True):
            place = f'cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}"'
            shapes.append(f'<circle class="dot {colour}" {place} r="2.5"/>')
    return shapes


def _box_shape(axes: Axes, box: Box, half_width: float, colour: str) -> str:
    x = axes.x(box.x)
    low, first, median, third, high = (axes.y(value) for value in box.percentiles)
    left = x - half_width
    width = 2 * half_width
    cap = x - half_width / 2
    return (
        f'<g class="box {colour}">'
        f'<path d="M{x:.1f} {low:.1f}V{first:.1f}M{x:.1f} {third:.1f}V{high:.1f}'
        f'M{cap:.1f} {low:.1f}h{half_width:.1f}M{cap:.1f} {high:.1f}h{half_width:.1f}"/>'
        f'<rect x="{left:.1f}" y="{third:.1f}" width="{width:.1f}" '
        f'height="{max(first - third, 0.5):.1f}"/>'
        f'<path class="middle" d="M{left:.1f} {median:.1f}h{width:.1f}"/>'
        f'<circle cx="{x:.1f}" cy="{axes.y(box.mean):.1f}" r="2"/></g>'
    )


def _axes(xs: Sequence[float], y_range: tuple[float, float]) -> Axes:
    x_min = min(xs)
    x_max = max(xs)
    margin = 0.5 if x_min == x_max else 0.0
    return Axes(x_min - margin, x_max + margin, *y_range)


def _path(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> str:
    """Straight lines from point to point."""
    points = [f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in zip(xs, ys, strict=True)]
    return "M" + "L".join(points)


def _svg(axes: Axes, label: str, shapes: Sequence[str]) -> str:
    """The element: grid, numbers at the axes, shapes, and the cursor for the page's script."""
    parts = []
    for value in ticks(axes.y_min, axes.y_max):
        y = axes.y(value)
        kind = "zero" if value == 0 else "grid-line"
        parts.append(f'<path class="{kind}" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        place = f'x="{LEFT - 6}" y="{y + 4:.1f}"'
        parts.append(f'<text {place} text-anchor="end">{short_number(value)}</text>')

    parts.append(f'<text x="0" y="{HEIGHT - 6}">step</text>')
    for value in ticks(axes.x_min, axes.x_max):
        if value == int(value):
            place = f'x="{axes.x(value):.1f}" y="{HEIGHT - 6}"'
            parts.append(f'<text {place} text-anchor="middle">{short_number(value)}</text>')

    parts += shapes
    parts.append(f'<path class="cursor" d="M0 {TOP}V{BOTTOM}"/>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" '
        f'data-left="{LEFT}" data-right="{RIGHT}" data-from="{axes.x_min}" '
        f'data-to="{axes.x_max}">{"".join(parts)}</svg>'
    )
