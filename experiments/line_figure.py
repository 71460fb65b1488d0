"""Lines with intervals as an SVG that stands alone: a legend above the chart, light and dark."""

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from ccpo_jax.integers import ceil_div
from ccpo_jax.report.plots import HEIGHT, LEFT, WIDTH, Line, line_chart

_ROW_HEIGHT = 13

# Names of more characters than this fill half a row, others a third.
_SHORT_NAME = 13

_LIGHT = (
    "svg{font:11px sans-serif}path{fill:none}text{fill:#1f2328}.page{fill:#fff}"
    ".name{font-size:9px}.grid-line{stroke:#ddd}.zero{stroke:#888}.cursor{display:none}"
    ".line{stroke:currentColor;stroke-width:1.7}.dot{fill:currentColor}"
    ".band{fill:currentColor;opacity:.13}"
)
_DARK = "text{fill:#f0f6fc}.page{fill:#0d1117}.grid-line{stroke:#30363d}"


class LineStyle(NamedTuple):
    """How a line looks.

    Attributes:
      on_white: its colour on a light page.
      on_black: its colour on a dark page.
      dashes: lengths of dashes and gaps, as in SVG; "" = a solid line.
    """

    on_white: str
    on_black: str
    dashes: str = ""


# Told apart by those who see few colours, too; the ninth line begins anew.
DEFAULT_STYLES = (
    LineStyle("#0b63b0", "#5aa7f0"),
    LineStyle("#c4500a", "#ff9257"),
    LineStyle("#12805c", "#4ec9a0"),
    LineStyle("#9a3f86", "#e08acd"),
    LineStyle("#8a6d00", "#d6b53c"),
    LineStyle("#6350cf", "#a99bff"),
    LineStyle("#2f86ad", "#7cc8e8"),
    LineStyle("#6d747d", "#9aa3ad"),
)


def line_with_intervals(name: str, points: Sequence[tuple[float, float, float | None]]) -> Line:
    """A line through ``(x, y, half width of the interval of y)``; no band where all are 0 or None."""
    halves = [half or 0.0 for _, _, half in points]
    band = [(y - half, y + half) for (_, y, _), half in zip(points, halves, strict=True)]
    xs = [x for x, _, _ in points]
    ys = [y for _, y, _ in points]
    return Line(name, xs, ys, band if any(halves) else ())


def line_figure(
    lines: Sequence[Line],
    *,
    label: str,
    x_name: str = "step",
    styles: Sequence[LineStyle] = DEFAULT_STYLES,
) -> str:
    """Draws the lines over a common horizontal axis.

    Args:
      lines: at least one; its name stands above the drawing.
      label: what is drawn, for screen readers.
      x_name: what stands at the horizontal axis.
      styles: of the lines in order; further ones begin with the first again.

    Returns:
      The SVG's text.
    """
    per_row = 2 if max(len(line.name) for line in lines) > _SHORT_NAME else 3
    legend_height = 8 + _ROW_HEIGHT * ceil_div(len(lines), per_row)
    legend = ""
    for i, line in enumerate(lines):
        x = LEFT + (WIDTH - LEFT) // per_row * (i % per_row)
        y = _ROW_HEIGHT * (i // per_row) - legend_height + 12
        legend += f'<path class="line c{i % len(styles)}" d="M{x} {y - 3}h14"/>'
        legend += f'<text class="name" x="{x + 17}" y="{y}">{escape(line.name)}</text>'

    chart = line_chart(lines, label=label, colours=len(styles))
    inside = chart[chart.index(">") + 1 :].replace(">step</text>", f">{escape(x_name)}</text>", 1)
    view = f"0 {-legend_height} {WIDTH} {HEIGHT + legend_height}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" viewBox="{view}" role="img" '
        f'aria-label="{escape(label)}">'
    )
    page = f'<rect class="page" y="{-legend_height}" width="100%" height="100%"/>'
    return f"{head}<style>{_rules(styles)}</style>{page}{legend}{inside}\n"


def _rules(styles: Sequence[LineStyle]) -> str:
    """The style sheet of both colour schemes: the figure has a page of its own."""
    light = _LIGHT
    dark = _DARK
    for i, style in enumerate(styles):
        light += f".c{i}{{color:{style.on_white}}}"
        if style.dashes:
            light += f".line.c{i}{{stroke-dasharray:{style.dashes}}}"
        dark += f".c{i}{{color:{style.on_black}}}"
    return f"{light}@media (prefers-color-scheme:dark){{{dark}}}"
