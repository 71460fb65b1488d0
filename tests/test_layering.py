"""Who may import whom, read from the source; and that the mathematics runs on jax and numpy alone."""

import ast
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[1]
RING_1 = {"__init__", "records", "moments", "advantages", "topology", "credit", "losses"}
RING_2 = {
    "models",
    "sharding",
    "processes",
    "prompts",
    "draw",
    "ahead",
    "sampler",
    "seating",
    "generate",
    "rollout",
    "packing",
    "scores",
    "update",
    "compiler",
    "fingerprint",
}
RING_3 = {
    "tokenizer",
    "data",
    "verifiers",
    "checkpoint",
    "metrics",
    "journal",
    "setup",
    "evaluate",
    "train",
    "modes",
    "workdir",
    "health",
}
PLAIN = {
    "tasks": {"numpy"},
    "pool": set(),
    "ratings": set(),
    "hub": {"huggingface_hub"},
    "stopping": set(),
    "lines": set(),
}  # import nothing of the package; the libraries they may use
ASSEMBLERS = {
    "setup",
    "evaluate",
    "train",
    "modes",
    "workdir",
    "health",
}  # the ring-3 files that may use other ring-3 files
PROGRAM_LIBRARIES = {
    "transformers",
    "tokenizers",
    "datasets",
    "orbax",
    "tensorstore",
    "tensorboardX",
    "math_verify",
    "absl",
}


def imports_of(path):
    """Dotted names a file imports, anywhere in it; ``from a import b`` counts as both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide what is imported; write ccpo_jax.<module>"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def libraries(path):
    return {name.split(".")[0] for name in imports_of(path)} - set(sys.stdlib_module_names)


def modules(path):
    """Modules of this package that a file imports: ``ccpo_jax.models.hf`` counts as models."""
    return {name.split(".")[1] for name in imports_of(path) if name.startswith("ccpo_jax.")}


def files_of(ring):
    """Every file of a ring that is there; a module may be a file or a folder."""
    package = ROOT / "ccpo_jax"
    return sorted(
        path for name in ring for path in (package / f"{name}.py", *package.glob(f"{name}/**/*.py")) if path.is_file()
    )


def each(ring):
    return pytest.mark.parametrize("path", files_of(ring), ids=lambda path: str(path.relative_to(ROOT)))


def test_every_module_has_a_ring():
    there = {
        path.stem for path in (ROOT / "ccpo_jax").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert RING_1 <= there
    assert there - RING_1 - RING_2 - RING_3 - set(PLAIN) == set(), "new modules need a ring in this file"


@each(RING_1)
def test_ring_1_imports_jax_numpy_and_itself(path):
    assert libraries(path) <= {"jax", "numpy", "ccpo_jax"}
    assert modules(path) <= RING_1


def test_ring_1_has_no_circle():
    uses = {path.stem: modules(path) & RING_1 for path in files_of(RING_1)}
    order = []
    while len(order) < len(uses):
        free = [name for name in uses if name not in order and uses[name] <= set(order)]
        assert free, f"circular: {set(uses) - set(order)}"
        order += free
    assert order[0] == "records" and order[-1] == "__init__"


@each(RING_2)
def test_ring_2_holds_no_program(path):
    assert libraries(path) & PROGRAM_LIBRARIES == set()
    assert modules(path) <= RING_1 | RING_2 | {"hub"}


@each({"prompts", "sampler", "generate", "rollout"})
def test_sampling_sees_a_policy_and_no_network(path):
    assert "models" not in modules(path)


@each(RING_3 - ASSEMBLERS)
def test_ring_3_files_stand_alone(path):
    assert modules(path) & RING_3 <= {path.stem}


@each(PLAIN)
def test_plain_files_need_nothing_of_the_package(path):
    assert libraries(path) <= PLAIN[path.stem]


def test_configs_are_data():
    for path in (ROOT / "configs").glob("**/*.py"):
        assert "ccpo_jax" not in libraries(path), path.name
        assert libraries(path) <= {"ml_collections", "configs"}, path.name


def test_config_objects_stay_at_the_border():
    allowed = {ROOT / "run.py", ROOT / "ccpo_jax" / "train.py"}
    seen = {
        path
        for path in [*ROOT.glob("*.py"), *(ROOT / "ccpo_jax").glob("**/*.py")]
        if "ml_collections" in libraries(path)
    }
    assert seen <= allowed


def test_no_torch_in_the_library():
    for path in (ROOT / "ccpo_jax").glob("**/*.py"):
        assert libraries(path) & {"torch", "tensorflow"} == set(), path.name


def test_import_needs_jax_and_numpy_alone():
    """A fresh interpreter in which every optional package is missing; one estimator runs in it."""
    program = """
        import importlib.abc, sys

        ABSENT = {"flax", "optax", "orbax", "tensorstore", "transformers", "tokenizers", "huggingface_hub", "datasets",
                  "safetensors", "torch", "ml_collections", "absl", "tensorboardX", "math_verify", "jinja2", "tqdm"}

        class Absent(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ABSENT:
                    raise ModuleNotFoundError(f"{name} is not here", name=name)

        sys.meta_path.insert(0, Absent())
        import ccpo_jax

        loaded = {name.split(".")[1] for name in sys.modules if name.startswith("ccpo_jax.")}
        print(*sorted(loaded))
        for name in ccpo_jax.__all__:
            getattr(ccpo_jax, name)
        credit = ccpo_jax.make_credit("ccpo", ccpo_jax.TOPOLOGIES["dyad"]())
        assert int(credit.init().delta.count) == 0
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) == RING_1 - {"__init__"}
