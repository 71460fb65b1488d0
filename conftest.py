"""Which tests belong to the fast lane, and which to the experiments: decided by their path.

`pytest -m fast` looks at the files of the fast lane alone. It has no test that compiles a network.
"""

import functools
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent
FAST = (
    "ccpo_jax/rl",
    "ccpo_jax/data",
    "ccpo_jax/verifiers",
    "tests/rl",
    "tests/data",
    "tests/verifiers",
    "tests/rollout/test_prompts.py",
    "tests/test_config.py",
    "tests/test_presets.py",
)
SLOW = (
    # Enumerations of whole teams, and credit without jit: minutes of compilation.
    "tests/rl/test_unbiased.py",
    "tests/rl/test_credit_eager.py",
    # Processes that hang and die.
    "tests/verifiers/test_pool.py",
    "tests/verifiers/test_process_pool.py",
    # Files of real data, where they are present.
    "tests/verifiers/test_real_golds.py",
    "tests/data/test_real_files.py",
)
EXPERIMENTS = ("tests/experiments",)


def _within(path: pathlib.Path, places: tuple[str, ...]) -> bool:
    """Whether `path` is one of `places` or lies in one of them."""
    return any(path.is_relative_to(ROOT / place) for place in places)


@functools.cache
def _is_fast(path: pathlib.Path) -> bool:
    return _within(path, FAST) and not _within(path, SLOW)


@functools.cache
def _is_experiment(path: pathlib.Path) -> bool:
    return _within(path, EXPERIMENTS)


def pytest_ignore_collect(collection_path: pathlib.Path, config: pytest.Config) -> bool | None:
    """With `-m fast` alone, no other file is imported: importing all tests takes longer than
    running these.
    """
    if config.option.markexpr == "fast" and collection_path.suffix == ".py":
        return not _is_fast(collection_path) or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sets the markers."""
    for item in items:
        if _is_fast(item.path):
            item.add_marker(pytest.mark.fast)
        if _is_experiment(item.path):
            item.add_marker(pytest.mark.experiments)
