"""Lines with intervals as one SVG that stands alone."""

from collections.abc import Mapping, Sequence

from ccpo_jax.integers import ceil_div
from ccpo_jax.report.plots import HEIGHT, LEFT, WIDTH, Line, line_chart

_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")
_NAMES_PER_LINE = 3
_NAME_HEIGHT = 13
_STYLE = (
    "svg{background:#fff;font:12px sans-serif}path{fill:none}.grid-line{stroke:#ddd}"
    ".zero{stroke:#888}.cursor{display:none}.line{stroke:currentColor;stroke-width:1.7}"
    ".band{fill:currentColor;opacity:.15}.dot{fill:currentColor}"
    + "".join(f".c{i}{{color:{colour}}}" for i, colour in enumerate(_COLOURS))
)


def chart(
    series: Mapping[str, Sequence[tuple[float, float, float]]], *, label: str, x_name: str
) -> str:
    """Draws ``name -> points (x, y, half width of the interval of y)``.

    Args:
      series: at most eight; a name stands above the drawing in its line's colour.
      label: what is drawn, for screen readers.
      x_name: what stands at the horizontal axis.
    """
    lines = []
    for name, points in series.items():
        band = [(y - half, y + half) for _, y, half in points]
        has_band = any(half > 0 for _, _, half in points)
        xs = [x for x, _, _ in points]
        ys = [y for _, y, _ in points]
        lines.append(Line(name, xs, ys, band if has_band else ()))

    legend_height = 8 + _NAME_HEIGHT * ceil_div(len(lines), _NAMES_PER_LINE)
    names = ""
    for i, line in enumerate(lines):
        x = LEFT + (WIDTH - LEFT) // _NAMES_PER_LINE * (i % _NAMES_PER_LINE)
        y = _NAME_HEIGHT * (i // _NAMES_PER_LINE) - legend_height + 12
        names += f'<text class="c{i}" x="{x}" y="{y}" fill="currentColor">{line.name}</text>'

    drawing = line_chart(lines, label=label, colours=len(_COLOURS))
    inside = drawing[drawing.index(">") + 1 :].replace(">step</text>", f">{x_name}</text>", 1)
    view = f"0 {-legend_height} {WIDTH} {HEIGHT + legend_height}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="720" viewBox="{view}">'
    return f"{head}<title>{label}</title><style>{_STYLE}</style>{names}{inside}\n"
