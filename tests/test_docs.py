"""README and docs: code runs, commands and fields exist, links lead somewhere, pages made from code are current."""

import contextlib
import functools
import importlib
import importlib.util
import io
import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from types import ModuleType
from unittest import mock

import pytest
import yaml

from ccpo_jax import cli, config

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXPERIMENT_PAGES = sorted((ROOT / "experiments").rglob("README.md"))
PAGES += EXPERIMENT_PAGES
# Results with dates: they name commands and files of their time.
LOGBOOK = ROOT / "docs/performance-logbook.md"
PROGRAMS = (["python", "run.py"], ["python", "-m", "ccpo_jax"], ["ccpo-jax"])
# Programs of others, of which only the name is looked at.
FOREIGN = {
    "cd",
    "gcloud",
    "git",
    "hf",
    "kubectl",
    "lm_eval",
    "mkdocs",
    "pip",
    "pre-commit",
    "pytest",
    "ruff",
    "sbatch",
}
FOREIGN |= {"pyright", ".ci/run", "source"}


def name_of(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def blocks(page: pathlib.Path, language: str) -> list[str]:
    """The fenced code blocks of one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(
        rf"^ *```{language}\b[^\n]*\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL
    )


def commands(page: pathlib.Path) -> list[list[str]]:
    """The commands of a page's bash blocks, as words; what ssh or srun start counts as a command of its own."""
    found = []
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words[:1] == ["srun"]:
                words = words[1:]
            if words:
                found.append(words)
            inner = [word.partition("=")[2] for word in words if word.startswith("--command=")]
            found += [shlex.split(text) for text in inner]
    return found


PYTHON_PAGES = [page for page in PAGES if blocks(page, "python")]
COMMANDS = [(page, words) for page in PAGES if page != LOGBOOK for words in commands(page)]
OURS = []
EXPERIMENTS = []
OTHERS = []
for _page, _words in COMMANDS:
    _program = next((start for start in PROGRAMS if _words[: len(start)] == start), None)
    if _program is not None:
        OURS.append(_words[len(_program) :])
    elif _words[:2] == ["python", "-m"] and _words[2].startswith("experiments."):
        EXPERIMENTS.append(_words[2:])
    else:
        OTHERS.append((name_of(_page), _words))


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=name_of)
def test_python_blocks_run(page, tmp_path):
    """All blocks of a page in one namespace, in a folder of their own."""
    program = "\n".join(blocks(page, "python"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", OURS, ids=" ".join)
def test_our_commands_are_accepted(arguments, monkeypatch):
    """Presets and files exist; every field exists, holds its value and has an effect in that run."""
    monkeypatch.chdir(ROOT)
    if arguments[0] in cli.SUBCOMMANDS:
        return
    command = cli.parse_command(arguments)
    config.parse(command.config, command.typed)


@functools.cache
def help_of(*words: str) -> str:
    """What a program, or one of its subcommands, prints about itself; in this process, which has imported jax."""
    printed = io.StringIO()
    command = mock.patch.object(sys, "argv", [words[0], *words[1:], "--help"])
    with command, contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    assert not ended.value.code
    return printed.getvalue()


@pytest.mark.parametrize("words", EXPERIMENTS, ids=" ".join)
def test_flags_of_experiments_exist(words):
    module, *rest = words
    text = help_of(module)
    if rest and re.search(rf"[{{,]{re.escape(rest[0])}[,}}]", text):
        # A subcommand has options of its own.
        text += help_of(module, rest[0])
    for word in rest:
        if word.startswith("--"):
            assert re.search(rf"{re.escape(word.partition('=')[0])}\b", text), word
        else:
            assert word in text


@pytest.mark.parametrize(
    "page,words", OTHERS, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_other_commands_name_known_programs(page, words):
    if words[1:2] == ["-m"]:
        assert importlib.util.find_spec(words[2]) is not None
    elif words[0] == "python":
        text = (ROOT / page).read_text(encoding="utf-8")
        assert (ROOT / words[1]).is_file() or f'title="{words[1]}"' in text
    else:
        assert words[0] in FOREIGN, page
    if words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
            "optional-dependencies"
        ]
        for name in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
            assert set(name.split(",")) <= set(extras)


@every_page
def test_yaml_blocks_parse(page):
    for block in blocks(page, "yaml"):
        assert list(yaml.safe_load_all(block))


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs and GitHub make them."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    plain = [
        re.sub(r"[^\w\- ]", "", heading.replace("`", "")).strip().lower() for heading in headings
    ]
    return {heading.replace(" ", "-") for heading in plain}


@every_page
def test_links_and_images_exist(page):
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for target in targets:
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), target
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), target


@every_page
def test_files_that_are_named_exist(page):
    if page == LOGBOOK:
        return
    for name in re.findall(
        r"`((?:ccpo_jax|tests|experiments|configs|docs)/[\w./]*)`", page.read_text(encoding="utf-8")
    ):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", EXPERIMENT_PAGES, ids=name_of)
def test_files_of_experiments_that_are_named_exist(page):
    """Names without a folder: of files beside the page, of results, or of tests."""
    folders = (page.parent, ROOT / "tests/experiments")
    known = {path.name for folder in folders for path in folder.rglob("*.*")}
    for name in re.findall(r"`([\w/]+\.(?:py|json|md))`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or pathlib.Path(name).name in known, name


def test_names_of_the_library_page_exist():
    page = (ROOT / "docs/library.md").read_text(encoding="utf-8")
    names = re.findall(r"`(ccpo_jax(?:\.\w+)+)", page)
    ring_1 = page.partition("## Mathematics")[2].partition("## Networks")[0]
    tables = " ".join(
        line.split(" | ")[0] for line in ring_1.splitlines() if line.startswith("| `")
    )
    names += [f"ccpo_jax.{name}" for name in re.findall(r"`(\w+)[`(]", tables)]
    assert len(names) > 25
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def script(path: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_pages_made_from_code_are_current(capsys):
    assert script("docs/generate.py").main(["--check"]) == 0, capsys.readouterr().out


def test_figures_are_what_their_script_draws(tmp_path, monkeypatch):
    make = script("docs/figures/make.py")
    folder = make.FOLDER
    monkeypatch.setattr(make, "FOLDER", tmp_path)
    for name, draw in make.FIGURES.items():
        draw().write(name)
        assert (tmp_path / f"{name}.svg").read_text() == (folder / f"{name}.svg").read_text(), name


def test_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()
