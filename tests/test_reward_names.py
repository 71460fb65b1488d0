"""What verifier.name may say: names, references and weighted sums, read before anything loads."""

import pytest

from ccpo_jax.reward_names import (
    BUILT_IN,
    check_range,
    data_verifier,
    files_of,
    may_be_fraction,
    may_call_functions,
    may_use_verifiers,
    parse_reward,
)
from ccpo_jax.verifiers import VERIFIERS, needs_gold
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast


def terms_of(text):
    return [tuple(term) for term in parse_reward(text)]


@pytest.mark.parametrize(
    "text, terms",
    [
        ("auto", [(1.0, "auto", "auto")]),
        (" math ", [(1.0, "math", "math")]),
        ("my.py:score", [(1.0, "my.py:score", "score")]),
        ("pack.age:Scorer.best", [(1.0, "pack.age:Scorer.best", "Scorer.best")]),
        ("2*math", [(2.0, "math", "math")]),
        (
            "0.9*math + 0.1*dir/my.py:form",
            [(0.9, "math", "math"), (0.1, "dir/my.py:form", "form")],
        ),
        ("0.9*auto+.1*my.py:form", [(0.9, "auto", "auto"), (0.1, "my.py:form", "form")]),
        ("math + -1e-1*m:f", [(1.0, "math", "math"), (-0.1, "m:f", "f")]),
        ("1e+2*math + 0*m:f", [(100.0, "math", "math"), (0.0, "m:f", "f")]),
        ("a.py:f + b.py:f", [(1.0, "a.py:f", "a.f"), (1.0, "b.py:f", "b.f")]),
        ("0.5*object:f + math", [(0.5, "object:f", "f"), (1.0, "math", "math")]),
        ("a:b.py:f", [(1.0, "a:b.py:f", "f")]),
    ],
)
def test_names_and_sums_are_read(text, terms):
    assert terms_of(text) == terms


@pytest.mark.parametrize(
    "text, meant",
    [("math*0.5", "type 0.5*math"), ("math - 0.1*exact", "type math + -0.1*exact")],
)
def test_a_weight_that_is_no_number_is_answered_with_what_was_meant(text, meant):
    with raises_for("verifier.name") as error:
        parse_reward(text)
    assert str(error.value).endswith(meant)


def test_paths_may_hold_the_signs_of_a_sum(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a+b").mkdir()
    for name in ("a+b/c.py", "2*d.py", "e:f.py", "x + y.py"):
        (tmp_path / name).write_text("")
    assert terms_of("a+b/c.py:g") == [(1.0, "a+b/c.py:g", "g")]
    assert terms_of("2*d.py:g") == [(1.0, "2*d.py:g", "g")]
    assert terms_of("0.5*a+b/c.py:g + 3*2*d.py:h + math") == [
        (0.5, "a+b/c.py:g", "g"),
        (3.0, "2*d.py:h", "h"),
        (1.0, "math", "math"),
    ]
    assert terms_of("x + y.py:g + e:f.py:g") == [
        (1.0, "x + y.py:g", "x + y.g"),
        (1.0, "e:f.py:g", "e:f.g"),
    ]
    assert files_of("x + y.py:g + m:f + e:f.py:g") == ["x + y.py", "e:f.py"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "is empty"),
        ("math +", "empty term"),
        ("+ math", "empty term"),
        ("x*math", "weight 'x'"),
        ("*math", "weight ''"),
        ("nan*math", "not finite"),
        ("inf*math", "not finite"),
        ("math + math", "2 times"),
        ("a.py:f + 0.5*./a.py:f", "2 times"),
        ("x/a.py:f + y/a.py:f", "'a.f'"),
        ("a.py", "a.py:NAME"),
        ("pack.age", "pack.age:NAME"),
        ("m:", "neither"),
        (":f", "neither"),
        ("my.py:a b", "neither"),
        ("two words", "neither"),
        (" + ".join(f"m:f{i}" for i in range(17)), "at most 16"),
        ("m" * 5000, "longer"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(text, words):
    with raises_for("verifier.name") as error:
        parse_reward(text)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_name_says_what_it_needs():
    assert set(BUILT_IN) == set(VERIFIERS)
    table = {
        # name: a gold, scores between 0 and 1, functions, verifiers, the data's verifier
        "auto": (True, False, False, True, "auto"),
        "exact": (True, False, False, True, "exact"),
        "2*math": (True, True, False, True, "math"),
        "my.py:f": (False, True, True, False, "auto"),
        "object:f": (False, True, True, False, "auto"),
        "0.5*my.py:f + 0.5*choice": (True, True, True, True, "choice"),
        "of_a_plugin": (True, True, True, True, "auto"),
    }
    for name, expected in table.items():
        found = (
            needs_gold(name),
            may_be_fraction(name),
            may_call_functions(name),
            may_use_verifiers(name),
            data_verifier(name),
        )
        assert found == expected, name
    assert not needs_gold("f", {"f": len})


@pytest.mark.parametrize("limits", [(), (1,), (0, 1, 2), (1, 1), (2, 1), (0, float("inf"))])
def test_a_range_is_two_numbers_in_order(limits):
    assert check_range((-1, 3)) == (-1, 3)
    with raises_for("verifier.range"):
        check_range(limits)
