"""Eight fake CPU devices for every test, and the folder of real data where there is one."""

import pathlib

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture
def real_data() -> pathlib.Path:
    """Folder of public benchmark files kept beside the repository; tests that need it skip where it is absent."""
    folder = pathlib.Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data beside the repository ({folder.parent.name}/{folder.name} is absent)")
    return folder
