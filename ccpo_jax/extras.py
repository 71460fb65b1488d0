"""The packages of `pip install ccpo_jax[train]`, and what to type where one is missing."""

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence

# As they are imported. The mathematics, `ccpo_jax.rl`, needs none of them.
TRAIN = (
    "absl",
    "datasets",
    "flax",
    "jinja2",
    "math_verify",
    "ml_collections",
    "mpmath",
    "optax",
    "orbax",
    "safetensors",
    "tensorboardX",
    "tensorstore",
    "transformers",
)


class MissingExtraError(ModuleNotFoundError):
    """A package of an extra is not installed; the message says what to type."""


def missing_packages() -> list[str]:
    """Those of `TRAIN` that are not installed."""
    return [name for name in TRAIN if importlib.util.find_spec(name) is None]


def install_hint(names: Sequence[str]) -> str:
    """What is missing and what to type, as one line."""
    verb = "is" if len(names) == 1 else "are"
    return (
        f"{', '.join(names)} {verb} not installed; type pip install 'ccpo_jax[train]', or "
        "pip install -e '.[train]' in a checkout"
    )


@contextlib.contextmanager
def train_extra() -> Iterator[None]:
    """Within it, an import that lacks a package of `TRAIN` says what to install.

    Raises:
      MissingExtraError: such a package is missing. Errors about other modules pass unchanged.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in TRAIN:
            raise
        raise MissingExtraError(install_hint([package]), name=error.name) from error
