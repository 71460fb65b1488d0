"""The verifiers by name. A new verifier is a file of its own and one entry of `VERIFIERS`."""

from ccpo_jax.errors import InputError
from ccpo_jax.verifiers.choice import (
    check_choice,
    choice_value,
    equivalent_choice,
    extract_choice,
    same_choice,
)
from ccpo_jax.verifiers.exact import (
    check_exact,
    equivalent_exact,
    exact_value,
    extract_exact,
    same_exact,
)
from ccpo_jax.verifiers.math import (
    check_math,
    equivalent_math,
    extract_math,
    math_value,
    same_math,
)
from ccpo_jax.verifiers.types import NO_CONTEXT, Context, Verifier


def get_verifier(name: str) -> Verifier:
    """The verifier of this name.

    Raises:
      InputError: if there is no such verifier; the message lists the known ones.
    """
    if name not in VERIFIERS:
        known = ", ".join(map(repr, VERIFIERS))
        raise InputError("verifier", f"unknown verifier {name!r}; use one of {known}")
    return VERIFIERS[name]


def check_gold(name: str, gold: str, context: Context = NO_CONTEXT) -> str | None:
    """Why answers cannot be compared with a gold as intended; None when they can.

    No answer equals an empty gold. A "math" gold that the parser does not understand is still
    compared as text.

    Args:
      name: a key of `VERIFIERS`.
      gold: the reference answer.
      context: what else is known about the problem.

    Raises:
      InputError: if there is no such verifier.

    Example:
      >>> check_gold("choice", "b"), check_gold("choice", "both")
      (None, "not a letter from A to Z: 'both'")
    """
    verifier = get_verifier(name)
    try:
        return verifier.check_gold(gold, context) if gold.strip() else "empty"
    except MemoryError:
        # This process is out of memory: the pool restarts it and counts the gold as crashed.
        raise
    except Exception as error:
        # A parser may raise anything; whatever it raises is the reason.
        return f"{type(error).__name__}: {error}"


VERIFIERS: dict[str, Verifier] = {
    "math": Verifier(extract_math, equivalent_math, math_value, same_math, check_math),
    "choice": Verifier(extract_choice, equivalent_choice, choice_value, same_choice, check_choice),
    "exact": Verifier(extract_exact, equivalent_exact, exact_value, same_exact, check_exact),
}
