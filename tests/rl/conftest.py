"""Tests of the mathematics share their many small programs, most of them single operations."""

import gc

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def forgets_compiled_programs():
    """After the whole folder, instead of after each file as in tests/conftest.py."""
    yield
    jax.clear_caches()
    gc.collect()
