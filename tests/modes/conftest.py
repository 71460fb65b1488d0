"""Runs in these tests see one device: eight fake ones on two cores take their time."""

import jax
import pytest

from tests.support.runs import first_devices


@pytest.fixture(autouse=True, scope="package")
def one_device():
    """Hides all devices but the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", first_devices(1))
        yield
