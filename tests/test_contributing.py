"""The examples of docs/contributing.md, followed to the letter in a copy of the repository."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
COPIED = ("ccpo_jax", "configs", "docs", "experiments", "tests", "conftest.py", "pyproject.toml")


def section(title: str) -> str:
    """The text of one example."""
    return PAGE.partition(f"## Example: {title}\n")[2].partition("\n## ")[0]


def blocks(text: str) -> list[tuple[str, str]]:
    """(file, code) of each block that has a file for a title."""
    return re.findall(r'```py title="([^"]+)"\n(.*?)```', text, flags=re.DOTALL)


def table_lines(text: str) -> list[tuple[str, list[str], list[str]]]:
    """(file, names of dicts, lines to add) of each row of the tables."""
    rows = []
    for row in re.findall(r"^\| (`.+) \|$", text, flags=re.MULTILINE):
        where, _, what = row.partition(" | ")
        file, *dicts = re.findall(r"`([^`]+)`", where)
        rows.append((file, dicts, re.findall(r"`([^`]+)`", what)))
    return rows


def add_line(file: pathlib.Path, name: str, line: str) -> None:
    """Adds an entry to a dict of a file, as the first one."""
    text = file.read_text(encoding="utf-8")
    opening = re.search(rf"^{name}\b[^\n]*= \{{", text, flags=re.MULTILINE)
    assert opening, f"{file} has no dict {name}"
    entry = f"\n    {line.rstrip(',')},"
    file.write_text(text[: opening.end()] + entry + text[opening.end() :], encoding="utf-8")


@pytest.fixture
def copy(tmp_path) -> pathlib.Path:
    """A copy of the repository that may be edited."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "results", "images")
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def run(copy: pathlib.Path, *command: str) -> None:
    """Runs a module of the copy; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def run_tests(copy: pathlib.Path, text: str, *, skipped: str = "no such file") -> None:
    """Runs the test commands of an example, but those of one file."""
    commands = re.findall(r"^python -m (pytest [^#\n]+)", text, flags=re.MULTILINE)
    assert commands
    for command in commands:
        if skipped not in command:
            run(copy, *command.split(), "-q")


def test_a_credit_estimator(copy):
    text = section("a credit estimator")
    ((file, code),) = blocks(text)
    source = (copy / file).read_text(encoding="utf-8")
    before, opening, after = source.partition("\nCREDITS:")
    assert opening
    (copy / file).write_text(f"{before}\n{code}\n{opening}{after}", encoding="utf-8")

    add_line(copy / file, "CREDITS", re.search(r'the file `("bonus": bonus,)`', text)[1])
    for file, (name,), (line,) in table_lines(text):
        add_line(copy / file, name, line)

    run(copy, "ruff", "check", "-q", "ccpo_jax", "tests", "experiments")
    # The tests of the configuration take a minute, and are the repository's own.
    run_tests(copy, text, skipped="test_config.py")


def test_a_verifier(copy):
    text = section("a verifier")
    ((file, code),) = blocks(text)
    (copy / file).write_text(code, encoding="utf-8")
    (registry, (verifiers,), (line,)), (test, names, lines) = table_lines(text)
    add_line(copy / registry, verifiers, line)
    functions = ", ".join(re.findall(r"^def (\w+)", code, flags=re.MULTILINE))
    source = (copy / registry).read_text(encoding="utf-8")
    module = file.removesuffix(".py").replace("/", ".")
    source = source.replace("\nfrom ", f"\nfrom {module} import {functions}\nfrom ", 1)
    (copy / registry).write_text(source, encoding="utf-8")
    for name, line in zip(names, lines, strict=True):
        add_line(copy / test, name, line)

    run(copy, "ruff", "format", "-q", "--check", file)
    assert all(len(line) <= 100 for line in source.splitlines() if "Verifier(" in line)
    run_tests(copy, text)


def test_a_role_prompt(copy):
    text = section("a role prompt")
    (file, for_math), (_, for_tiny) = blocks(text)
    source = (copy / file).read_text(encoding="utf-8")
    for style, code in (("math", for_math), ("tiny", for_tiny)):
        opening = f'    "{style}": {{\n'
        assert source.count(opening) == 1
        source = source.replace(opening, opening + code)
    (copy / file).write_text(source, encoding="utf-8")

    run_tests(copy, text)
    run(copy, "ruff", "format", "-q", "--check", file)
