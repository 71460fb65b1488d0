"""Where packages of the extra `train` are missing, the program and its packages say what to type."""

import pathlib
import subprocess
import sys
import tomllib

import pytest

from ccpo_jax.extras import TRAIN, MissingExtraError, train_extra

ROOT = pathlib.Path(__file__).parents[1]

# A package that is None here cannot be imported.
WITHOUT = (
    "import sys; from ccpo_jax.extras import TRAIN; sys.modules.update(dict.fromkeys(TRAIN)); "
)


def run_without(program):
    """Runs a program where the mathematics alone is installed."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + program],
        check=False, cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_packages_are_those_of_the_extra():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = [requirement.partition(">")[0].replace("-", "_") for requirement in extra["train"]]
    imported = {"absl_py": "absl", "orbax_checkpoint": "orbax"}
    assert sorted(imported.get(name, name) for name in names) == sorted(TRAIN)


def test_the_program_names_all_that_is_missing_in_one_line():
    done = run_without("from ccpo_jax.__main__ import main; sys.exit(main())")
    assert done.returncode == 2 and done.stderr.startswith("error: absl, ")
    assert done.stderr.count("\n") == 1 and "pip install 'ccpo_jax[train]'" in done.stderr
    assert all(name in done.stderr for name in TRAIN)


def test_every_part_of_the_package_imports_or_says_what_to_install():
    program = """
import importlib, pathlib
for path in sorted(pathlib.Path("ccpo_jax").iterdir()):
    name = path.name.removesuffix(".py")
    if not ((path / "__init__.py").exists() or path.suffix == ".py" and name.islower()):
        continue
    try:
        importlib.import_module(f"ccpo_jax.{name}")
        print(name, "imports")
    except ModuleNotFoundError as error:
        print(name, "says" if "ccpo_jax[train]" in str(error) else "is silent")
"""
    done = run_without(f"exec({program!r})")
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert "is silent" not in said.values()
    assert said["rl"] == said["rollout"] == "imports"
    assert {said[name] for name in ("train", "data", "models", "verifiers", "cli")} == {"says"}


def test_a_missing_module_of_somebody_else_is_not_ours():
    with pytest.raises(ModuleNotFoundError) as error, train_extra():
        import a_plugin_that_nobody_wrote  # noqa: F401
    assert not isinstance(error.value, MissingExtraError)
