"""Folders depend downwards only, and the mathematics runs on jax and numpy alone. Read from the source."""

import ast
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "ccpo_jax"

# From the ground up: a folder or file imports from itself and from those above it in this list.
FLOORS = [
    "errors",
    "extras",
    "integers",
    "scores",
    "status",
    "boxes",
    "reasoning",
    "conversation",
    "stop_strings",
    "counts",
    "parameter_sets",
    "fields",
    "references",
    "reward_names",
    "config",
    "presets",
    "rl",
    "hf",
    "tokenizer",
    "devices",
    "models",
    "sampler",
    "rollout",
    "learner",
    "data",
    "verifiers",
    "workdir",
    "train",
    "arguments",
    "report",
    "modes",
    "cli",
    "__main__",
]

# What else a floor may load; the program's libraries belong to the program.
RING_1 = {"jax", "numpy"}
PROGRAM_LIBRARIES = {
    "absl",
    "datasets",
    "math_verify",
    "ml_collections",
    "mpmath",
    "orbax",
    "tensorboardX",
    "tensorstore",
}


def imports_of(path):
    """Dotted names a file imports, anywhere in it; ``from a import b`` counts as both a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write ccpo_jax.<module>, not a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def libraries(path):
    return {name.split(".")[0] for name in imports_of(path)} - set(sys.stdlib_module_names)


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules_used(path):
    """Modules of the package that a file imports: of ``from folder import file``, the file alone."""
    known = {module_name(file) for file in FILES}
    used = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                used.add(full if full in known else node.module)
    return used & known


def floor_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [path for path in sorted(PACKAGE.glob("**/*.py")) if path != PACKAGE / "__init__.py"]
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


@each_file
def test_dependencies_point_downwards(path):
    floor = FLOORS.index(floor_of(path))
    used = {name.split(".")[1] for name in imports_of(path) if name.startswith("ccpo_jax.")}
    above = {name for name in used & set(FLOORS) if FLOORS.index(name) > floor}
    assert not above, f"{path}: imports from {above}, which stand above {FLOORS[floor]}"
    if floor_of(path) == "rl":
        assert used <= {"rl", "errors", "integers", "scores"}, (
            f"{path}: the mathematics reads no configuration"
        )


@each_file
def test_libraries_stay_in_their_ring(path):
    used = libraries(path) - {"ccpo_jax"}
    floor = floor_of(path)
    if floor in ("errors", "extras", "integers", "scores", "rl"):
        assert used <= RING_1
    if floor in ("fields", "config"):
        assert not used
    if floor == "presets":
        assert used <= {"ml_collections"}
    if floor in ("devices", "models", "sampler", "rollout", "learner"):
        assert not used & PROGRAM_LIBRARIES
    assert not used & {"torch", "tensorflow"}


def test_files_of_a_folder_form_no_circle():
    uses = {module_name(path): modules_used(path) for path in FILES}
    while uses:
        free = [name for name, used in uses.items() if not used & (uses.keys() - {name})]
        assert free, f"circular imports among {sorted(uses)}"
        for name in free:
            del uses[name]


def test_presets_are_data():
    for path in (ROOT / "configs").glob("**/*.py"):
        assert libraries(path) <= {"ml_collections", "ccpo_jax"}, path.name


def test_no_program_imports_tests():
    for path in [*FILES, *(ROOT / "experiments").glob("**/*.py")]:
        assert "tests" not in libraries(path), path


def test_no_test_imports_a_test():
    for path in (ROOT / "tests").glob("**/*.py"):
        used = {name for name in imports_of(path) if name.startswith("tests.")}
        assert all(name.startswith("tests.support") for name in used), path


def test_import_needs_jax_and_numpy_alone():
    """A fresh interpreter in which every optional package is missing; one estimator runs in it."""
    program = """
        import importlib.abc, sys

        ABSENT = {"flax", "optax", "orbax", "tensorstore", "transformers", "tokenizers", "datasets",
                  "huggingface_hub", "safetensors", "torch", "ml_collections", "absl", "tensorboardX",
                  "math_verify", "mpmath", "jinja2", "tqdm"}

        class Absent(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ABSENT:
                    raise ModuleNotFoundError(f"{name} is not here", name=name)

        sys.meta_path.insert(0, Absent())
        import ccpo_jax

        for name in ccpo_jax.__all__:
            getattr(ccpo_jax, name)
        credit = ccpo_jax.make_credit("ccpo", ccpo_jax.TOPOLOGIES["dyad"]())
        assert int(credit.init().delta.count) == 0
        print(*sorted({name.split(".")[1] for name in sys.modules if name.startswith("ccpo_jax.")}))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) <= {"errors", "integers", "rl", "scores"}
