"""Matches an error by the field it names, not by its prose."""

import contextlib
from collections.abc import Iterator

import pytest

from ccpo_jax.errors import InputError


@contextlib.contextmanager
def raises_for(
    field: str, kind: type[InputError] = InputError
) -> Iterator[pytest.ExceptionInfo[InputError]]:
    """Expects an error of `kind` that names `field`; yields pytest's record of it.

    Example:
      with raises_for("loss.clip_low"):
          policy_gradient_loss(..., clip_low=-1.0)
    """
    with pytest.raises(kind) as error:
        yield error
    assert error.value.field == field, f"names {error.value.field!r}: {error.value}"
