"""Verifiers by name."""

from ccpo_jax.verifiers import VERIFIERS, Item, check_gold, get_verifier, verify
from tests.support.errors import raises_for


def test_an_unknown_verifier_is_refused_with_the_known_names(pool):
    for field, call in (
        ("verifier", lambda: get_verifier("maths")),
        ("verifier.name", lambda: verify("maths", "1", ["1"])),
        ("verifier", lambda: check_gold("maths", "1")),
        ("verifier", lambda: pool.verify([Item("maths", "1", ("1",))])),
    ):
        with raises_for(field) as error:
            call()
        assert all(repr(name) in str(error.value) for name in ("maths", *VERIFIERS))


def test_an_error_of_the_parser_is_the_reason_why_a_gold_cannot_be_checked(monkeypatch):
    def broken(gold, context):
        raise ArithmeticError("no such number")

    monkeypatch.setitem(VERIFIERS, "broken", VERIFIERS["exact"]._replace(check_gold=broken))
    assert check_gold("broken", "4") == "ArithmeticError: no such number"
    assert check_gold("broken", " ") == "empty"
