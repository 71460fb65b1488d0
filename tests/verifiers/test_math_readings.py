"""Further kinds of answers: expressions of both signs, units, thousands, repeating decimals."""

import pytest

from ccpo_jax.verifiers import Context
from ccpo_jax.verifiers.math import equivalent_math, math_value

ACCEPTED = {
    "roots and signs": [
        ("|x|", r"\sqrt{x^2}"),
        ("|x-4|", r"\sqrt{(x-4)^2}"),
        ("|x-4|", "|4-x|"),
        (r"\sqrt{1/n}", r"1/\sqrt n"),
        (r"\sqrt{xy}", r"\sqrt x\sqrt y"),
        (r"\sqrt x\sqrt y", r"\sqrt{xy}"),
        (r"\ln(x^2)", r"2\ln x"),
        ("x", r"(\sqrt x)^2"),
        ("x^{2/3}", r"\sqrt[3]{x^2}"),
        ("n!", r"n\cdot(n-1)!"),
        (r"\cosh x-\sinh x", "e^{-x}"),
        (r"\binom{n}{2}", "n(n-1)/2"),
        (r"\sqrt{x^2+1}", "(x^2+1)^{1/2}"),
        (r"x\sqrt2", r"\sqrt2 x"),
        ("y=|x|", r"y=\sqrt{x^2}"),
        (r"\sqrt x+\sqrt y=\sqrt{xy}", r"\sqrt x+\sqrt y=\sqrt x\sqrt y"),
        ("2^{n+1}", r"2\cdot2^n"),
        ("(-1)^n x", "x(-1)^n"),
        (r"\frac{x^{99}-1}{x-1}", r"\frac{1-x^{99}}{1-x}"),
        (r"\tan x", r"\frac{\sin x}{\cos x}"),
        ("a^{m+n}", "a^m a^n"),
        ("(x-1)^{10}", "(1-x)^{10}"),
        (r"\log_2 x", r"\frac{\ln x}{\ln 2}"),
        ("e^{2x}", "(e^x)^2"),
    ],
}

REFUSED = {
    "roots and signs": [
        ("x", r"\sqrt{x^2}"),
        ("a-b", r"\sqrt{(a-b)^2}"),
        ("xy", r"\sqrt{x^2y^2}"),
        ("abc", r"\sqrt{a^2b^2c^2}"),
        (r"\sin x", r"\sqrt{1-\cos^2x}"),
        ("x", r"\arcsin(\sin x)"),
        ("4-x", r"\sqrt{(x-4)^2}"),
        ("x-4", r"\sqrt{(x-4)^2}"),
        ("y=x", r"y=\sqrt{x^2}"),
        (r"\ln|x|", r"\ln x"),
        ("x", "|x|"),
        ("x_1x_2", "|x_1||x_2|"),
        ("(x,1)", r"(\sqrt{x^2},1)"),
        ("x^3", r"\sqrt{x^6}"),
        (r"\cos x", r"\sqrt{1-\sin^2 x}"),
        ("2x", r"\ln e^{\sqrt{4x^2}}"),
        ("x", r"\arctan(\tan x)"),
    ],
}


def _pairs(kinds):
    return [
        pytest.param(gold, answer, id=f"{kind}: {gold} by {answer}")
        for kind, pairs in kinds.items()
        for gold, answer in pairs
    ]


@pytest.mark.parametrize("gold, answer", _pairs(ACCEPTED))
def test_gold_accepts(gold, answer):
    assert equivalent_math(gold, answer, Context())


@pytest.mark.parametrize("gold, answer", _pairs(REFUSED))
def test_gold_refuses(gold, answer):
    assert not equivalent_math(gold, answer, Context())
    value = math_value(gold, Context())
    assert value is None or value != math_value(answer, Context())
