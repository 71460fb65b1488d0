"""Text and numbers of untrusted origin, made safe to show: models and datasets wrote them."""

import json
from html import escape
from typing import Any

from ccpo_jax.errors import escape_control
from ccpo_jax.workdir.rollout_log import shorten

# Characters of a text, however much of it the run logged.
_MAX_CHARS = 20_000
# A larger number is an error somewhere, and would flatten its chart.
_MAX_NUMBER = 1e12


def make_inert(text: str) -> str:
    """Bounded text that neither page nor eye obeys: control and direction characters as escapes."""
    return escape_control(shorten(text, _MAX_CHARS))


def to_html(value: Any) -> str:
    """A value as text within HTML."""
    return escape(make_inert(str(value)))


def to_embedded_json(value: Any) -> str:
    """JSON that can stand in a page: pure ASCII, without a character that HTML interprets."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def finite(value: Any) -> float | None:
    """A number that can be drawn; None for everything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and abs(value) <= _MAX_NUMBER else None


def sanitize(value: Any) -> Any:
    """JSON with inert bounded texts, and None for numbers that cannot be drawn."""
    if isinstance(value, str):
        return make_inert(value)
    if isinstance(value, list):
        return [sanitize(item) for item in value]
    if isinstance(value, dict):
        return {make_inert(name): sanitize(item) for name, item in value.items()}
    return finite(value)
