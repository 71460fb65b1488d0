"""The notebook: a valid file without outputs, whose cells run in their order."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs/notebooks/quickstart.ipynb"
# Where matplotlib is missing, what the cells call of it does nothing.
STUB = """
import sys, types
from unittest import mock
plots = mock.MagicMock()
plots.subplots.return_value = (mock.MagicMock(), (mock.MagicMock(), mock.MagicMock()))
sys.modules["matplotlib"] = types.ModuleType("matplotlib")
sys.modules["matplotlib.pyplot"] = plots
"""


@pytest.fixture(scope="module")
def notebook():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def test_it_is_a_notebook_without_outputs(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert re.fullmatch(r"[\w-]{1,64}", cell["id"])
        assert cell["metadata"] == {} and "".join(cell["source"]).strip()
        keys = {"id", "cell_type", "metadata", "source"}
        if cell["cell_type"] == "code":
            keys |= {"outputs", "execution_count"}
            assert cell["outputs"] == [] and cell["execution_count"] is None
        else:
            assert cell["cell_type"] == "markdown"
        assert set(cell) == keys
    if importlib.util.find_spec("nbformat"):
        import nbformat

        nbformat.validate(nbformat.from_dict(notebook))


def test_its_cells_run(notebook, tmp_path):
    """In one process, as a kernel runs them; the reward function lives in `__main__`."""
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if importlib.util.find_spec("matplotlib") is None:
        cells.insert(0, STUB)
    driver = (
        "import json, sys\nfor cell in json.load(open('cells.json')):\n    exec(cell, globals())"
    )
    (tmp_path / "cells.json").write_text(json.dumps(cells))
    done = subprocess.run(
        [sys.executable, "-c", driver],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "STEPS": "2", "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the team answers") == 4
    assert (tmp_path / "exported/agent_0/config.json").is_file()
