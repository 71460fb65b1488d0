"""What reward functions return: numbers, classes and dicts, of any library; everything else is refused."""

import enum
import fractions

import numpy as np
import pytest

from ccpo_jax.verifiers.values import (
    Returned,
    as_class,
    as_number,
    read_list,
    read_score,
    read_verl,
)

pytestmark = pytest.mark.fast


class Text(str):
    """A str that another process may not know."""


class Color(enum.StrEnum):
    RED = "red"


class NoFloat:
    def __float__(self):
        raise RuntimeError


class Scalar:
    """As torch has them."""

    def __float__(self):
        return 0.5

    def item(self):
        return 0.5


@pytest.mark.parametrize(
    "value", [0.5, np.float32(0.5), np.array(0.5), fractions.Fraction(1, 2), Scalar()]
)
def test_numbers_of_any_library_are_numbers(value):
    number = as_number(value)
    assert number == 0.5 and type(number) is float
    assert read_verl({"score": value}).score == 0.5
    assert read_list([value, None], 2) == [Returned(0.5), Returned(None)]
    assert read_score((value, None)) == Returned(0.5, (None,))
    assert as_number(True) == 1 and as_number(np.bool_(False)) == 0


@pytest.mark.parametrize(
    "value", [None, "1", b"1", Text("1"), [1], {}, 1j, float("nan"), np.inf, NoFloat(), 10**400]
)
def test_what_is_no_finite_number_is_refused(value):
    for read in (as_number, read_score, lambda v: read_verl({"score": v})):
        with pytest.raises((TypeError, ValueError), match="returned"):
            read(value)


def test_classes_are_plain_data():
    made = [
        as_class(value) for value in (Text("a"), Color.RED, np.int64(3), np.str_("b"), Scalar())
    ]
    assert made == ["a", "red", 3, "b", 0.5]
    assert [type(value) for value in made] == [str, str, int, str, float]
    assert as_class((Text("a"), frozenset([np.int64(3)]))) == ("a", frozenset([3]))
    assert as_class(float("nan")) == as_class(float("nan")), "equal to itself"
    assert as_class("") is as_class("  ") is as_class(None) is None, "nothing was found"


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {"a": 1},
        {1},
        object(),
        len,
        "x" * 2001,
        10**5000,
        (("x" * 100,) * 100,),
        ((((((1,),),),),),),
        tuple(range(101)),
        np.zeros(2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_large_and_odd_classes_are_refused(value):
    with pytest.raises((TypeError, ValueError)):
        as_class(value)


def test_dicts_of_verl_have_further_numbers():
    returned = read_verl(
        {"acc": True, "score": 2, "pred": "7", "note": "text", 3: 4, "n": np.int8(5)}
    )
    assert returned == Returned(2.0, ("7",), (("acc", 1.0), ("n", 5.0)))
    many = read_verl({"score": 0.0} | {f"{'n' * 100}{index}": 1 for index in range(10**4)})
    assert len(many.parts) == 16 and all(len(name) == 40 for name, _ in many.parts)
    with pytest.raises(ValueError, match='without "score"'):
        read_verl({"acc": 1})


@pytest.mark.parametrize("value", [None, 1.0, "11", {0: 1, 1: 2}, [1.0], [1.0] * 3, iter([1, 2])])
def test_a_list_has_one_score_for_each_completion(value):
    with pytest.raises((TypeError, ValueError), match="returned"):
        read_list(value, 2)
    assert read_list(np.array([0.5, 1]), 2) == [Returned(0.5), Returned(1.0)]
