"""Eight fake CPU devices for every test, quick compilation, and the folder of real data where there is one."""

import gc
import importlib.metadata
import os
import pathlib
import tempfile

# Tests compile far more than they compute; unoptimised code is as exact and compiles in a quarter of the time.
_FLAGS = [
    os.environ.get("XLA_FLAGS", ""),
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # A flag that a later version does not know would end the process; that one emits fusions in one way only.
    # A program that is not cut into parts compiles with a third less work; parts pay on idle cores alone.
    _FLAGS += [
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
os.environ["XLA_FLAGS"] = " ".join(_FLAGS)

# Workers and the programs they start share what they compile; the first process of all makes the folder and removes it.
if "CCPO_TEST_CACHE" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="ccpo_jax_test_cache_")
    os.environ["CCPO_TEST_CACHE"] = os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

# Eight devices wait for each other on threads of one pool; with as many threads as devices a program that waits for
# another's results can take those the other needs.
os.environ["PJRT_NPROC"] = "32"

# The tests are a CPU's. And with jax's CUDA plugin but without a driver nothing starts unless a platform is named.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# What a busy machine takes long over would otherwise appear among the lines that tests compare.
os.environ["CCPO_JAX_STATUS"] = "steps"

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here may depend on a network, or wait for one

import jax  # noqa: E402
import pytest  # noqa: E402

from ccpo_jax.devices import precompile  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)


def pytest_collection_modifyitems(items):
    """The longest files first: a file stays on one worker, and none should be left alone with a long one at the end."""
    longest = [
        f"test_{name}"
        for name in "devices everything options_at_once train run golden sampler rollout decoder unbiased".split()
    ]
    place = {name: index for index, name in enumerate(longest)}
    items.sort(key=lambda item: place.get(item.path.stem, len(longest)))


# Linux gives a process 65,530; the hungriest file takes a third of them.
_MAPS = 20_000


def _has_many_maps() -> bool:
    """Whether compiled programs have used up a good part of the memory maps a process may have."""
    maps = pathlib.Path("/proc/self/maps")
    return not maps.exists() or maps.read_bytes().count(b"\n") > _MAPS


@pytest.fixture(autouse=True, scope="module")
def forgets_compiled_programs():
    """Files share the small programs they compile, until a process that takes thousands more would crash."""
    yield
    precompile.clear()
    if _has_many_maps():
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def nothing_compiled():
    """For tests that count programs: none of another test is there to be taken."""
    jax.clear_caches()


@pytest.fixture
def one_device(monkeypatch):
    """Hides all devices but the first from commands, which take no `devices`."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: first)


@pytest.fixture
def real_data() -> pathlib.Path:
    """Folder of public benchmark files kept beside the repository; tests that need it skip where it is absent."""
    folder = pathlib.Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            f"no real data beside the repository ({folder.parent.name}/{folder.name} is absent)"
        )
    return folder
