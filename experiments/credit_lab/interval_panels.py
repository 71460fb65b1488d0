"""Points with their intervals, side by side in panels, as one SVG without a plotting library."""

import math
from collections.abc import Mapping
from html import escape

_ROW, _PANEL, _LABELS, _TOP = 18, 190, 150, 44
_INK, _FAINT = "#1f4e79", "#bbb"


def interval_panels(
    title: str, panels: Mapping[str, Mapping[str, tuple[float, float, float]]]
) -> str:
    """Draws ``panel -> label -> (value, low, high)``.

    Args:
      title: stands above everything.
      panels: one after the other from left to right; a label has the same row in all of them. What
        is not finite is left out.

    Returns:
      The SVG's text.
    """
    labels = list(dict.fromkeys(label for rows in panels.values() for label in rows))
    height, width = _TOP + _ROW * len(labels) + 28, _LABELS + _PANEL * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="16" font-size="13">{escape(title)}</text>',
    ]
    for row, label in enumerate(labels):
        parts.append(f'<text x="8" y="{_TOP + _ROW * row + 13}">{escape(label)}</text>')
    for column, (name, rows) in enumerate(panels.items()):
        parts += _panel(name, rows, labels, _LABELS + _PANEL * column, height)
    return "\n".join([*parts, "</svg>\n"])


def _panel(name: str, rows: Mapping, labels: list[str], left: int, height: int) -> list[str]:
    known = {label: row for label, row in rows.items() if all(map(math.isfinite, row))}
    low, high = (pick([0.0, *(x for row in known.values() for x in row)]) for pick in (min, max))
    span = (high - low) or 1.0

    def at(x: float) -> str:
        return f"{left + 8 + (x - low) / span * (_PANEL - 24):.1f}"

    bottom = height - 26
    parts = [
        f'<text x="{left + 8}" y="34" font-weight="bold">{escape(name)}</text>',
        f'<line x1="{at(0)}" x2="{at(0)}" y1="{_TOP}" y2="{bottom}" stroke="{_FAINT}"/>',
        f'<text x="{at(low)}" y="{height - 10}">{low:.3g}</text>',
        f'<text x="{at(high)}" y="{height - 10}" text-anchor="end">{high:.3g}</text>',
    ]
    for label, (value, least, most) in known.items():
        y = _TOP + _ROW * labels.index(label) + 9
        parts.append(
            f'<line x1="{at(least)}" x2="{at(most)}" y1="{y}" y2="{y}" stroke="{_INK}"/>'
            f'<circle cx="{at(value)}" cy="{y}" r="3" fill="{_INK}"/>'
        )
    return parts
