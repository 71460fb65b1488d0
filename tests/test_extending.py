"""The examples of docs/extending.md, run as they stand there, through the real command line."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tests.support.plugins import EVERY_TABLE
from tests.support.runs import lines_of

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
SMALL = "--config.batch_size=4 --config.group_size=2 --config.verifier.workers=1".split()


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def files(text: str) -> dict[str, str]:
    """The blocks that have a file for a title."""
    return dict(re.findall(r'```py title="([^"]+)"\n(.*?)```', text, flags=re.DOTALL))


def command(text: str) -> list[str]:
    (line,) = re.findall(r"```bash\nccpo-jax (.*?)\n```", text, flags=re.DOTALL)
    return shlex.split(line)


def run(arguments, folder, *, status=0) -> str:
    """Runs a command line in a folder; what it says on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "ccpo_jax", *arguments, "--workdir=run"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr


def test_examples_are_short():
    for title in ("A value on the command line", "A plugin file", "An object in Python"):
        blocks = re.findall(r"```(?:py|python)\b.*?\n(.*?)```", section(title), flags=re.DOTALL)
        assert blocks and all(len(block.splitlines()) <= 30 for block in blocks), title


def test_value_on_the_command_line(tmp_path):
    text = section("A value on the command line")
    for name, content in files(text).items():
        (tmp_path / name).write_text(content)
    run([*command(text), *SMALL], tmp_path)
    assert lines_of(tmp_path / "run")[-1]["step"] == 1
    assert (tmp_path / "run/inputs/my_reward.py").read_text() == files(text)["my_reward.py"]


def test_plugin_file_trains_and_exports_from_its_copy(tmp_path):
    text = section("A plugin file")
    for name, content in files(text).items():
        (tmp_path / name).write_text(content)
    arguments = command(text)
    run([*arguments, *SMALL], tmp_path)
    assert lines_of(tmp_path / "run")[-1]["step"] == 1

    (tmp_path / "my_team.py").unlink()
    noted = run(["--config=dyad:tiny", "--config.topology=pair", "--mode=export"], tmp_path)
    assert "my_team.py is gone; its copy run/inputs/my_team.py is used" in noted
    assert (tmp_path / "run/export/agent_1/config.json").is_file()

    (tmp_path / "my_team.py").write_text(files(text)["my_team.py"] + "# changed\n")
    refused = run([*arguments, *SMALL], tmp_path, status=2)
    assert refused.startswith("error: plugins: my_team.py has changed since this run was started")
    assert len(refused.splitlines()) == 1


def test_entries_of_every_table_train(tmp_path):
    """Team, credit, loss, verifier, prompts and task of one plugin in one step of a real run."""
    (tmp_path / "my_team.py").write_text(EVERY_TABLE)
    chosen = (
        "--config=dyad:tiny --config.plugins=my_team.py --config.topology=pair "
        "--config.credit.name=bonus --config.loss.name=plain --config.verifier.name=integer "
        "--config.prompt_style=mine --config.data.train=synthetic/count --config.data.size=64 "
        "--config.data.heldout=4 --config.eval.batch_size=4 --config.steps=1"
    ).split()
    run([*chosen, *SMALL], tmp_path)
    assert lines_of(tmp_path / "run")[-1]["step"] == 1


@pytest.mark.parametrize("name", files(PAGE))
def test_files_of_the_page_compile(name):
    compile(files(PAGE)[name], name, "exec")
