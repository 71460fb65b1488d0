"""Stop strings by themselves: where a text ends, and which are refused."""

import pytest

from ccpo_jax.stop_strings import MOST_BYTES, check_stop_strings, text_before_stop
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    "text, stops, expected",
    [
        ("41\n###\nQ", ("###",), "41\n"),
        ("41", ("###",), "41"),
        ("###", ("###",), ""),
        ("41", (), "41"),
        # The first that is complete counts, wherever it begins.
        ("abcd", ("abcd", "c"), "ab"),
        # At the same place the longest, whatever their order.
        ("xab.", ("b", "ab"), "x"),
        ("xab.", ("ab", "b"), "x"),
    ],
)
def test_a_text_ends_before_the_stop_string_that_is_complete_first(text, stops, expected):
    assert text_before_stop(text, stops) == expected


@pytest.mark.parametrize(
    "stops, words",
    [
        (("###", ""), "empty"),
        ((3,), "3 (int)"),
        ("###", "tuple of texts"),
        (("a\ufffd",), "'a\\ufffd'"),
        (("\ud800",), "'\\ud800'"),
        (("x" * MOST_BYTES, "y"), f"{MOST_BYTES + 1} bytes"),
        (("é" * (MOST_BYTES // 2 + 1),), f"{MOST_BYTES + 2} bytes"),
    ],
)
def test_a_stop_string_that_cannot_be_is_refused_in_one_line(stops, words):
    with raises_for("sample.stop") as error:
        check_stop_strings(stops, "sample.stop")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_same_one_twice_is_once():
    check_stop_strings(("x" * MOST_BYTES,) * 2, "sample.stop")
