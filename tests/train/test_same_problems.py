"""A run that resumes with other problems than it was started with says so."""

import dataclasses
import json

import pytest

from ccpo_jax.data import Dataset, Problem
from ccpo_jax.train.load import Datasets
from ccpo_jax.train.same_problems import compare_problems, keep_problems
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast

ONE = Problem("set/0", "1+1?", "2", "math", row={"question": "1+1?", "level": 1})
OTHER = Problem("set/1", "1+2?", "3", "math", row={"question": "1+2?", "level": 2})


def sets(train=(ONE,), heldout=(OTHER,)):
    return Datasets(Dataset("set", tuple(train), {}), Dataset("set", tuple(heldout), {}), ())


@pytest.mark.parametrize(
    "changed",
    [
        sets(train=[dataclasses.replace(ONE, gold="4")]),
        sets(train=[dataclasses.replace(ONE, history=(("system", "Be brief."),))]),
        sets(train=[dataclasses.replace(ONE, row={"question": "1+1?", "level": 9})]),
        sets(train=[ONE, OTHER]),
        sets(heldout=[]),
    ],
    ids=["gold", "history", "column", "another", "held out"],
)
def test_changed_problems_stop_a_run_that_resumes(tmp_path, capsys, changed):
    compare_problems(str(tmp_path), changed, allow_changes=False)
    keep_problems(str(tmp_path), sets())
    compare_problems(str(tmp_path), sets(), allow_changes=False)
    with raises_for("data.train") as error:
        compare_problems(str(tmp_path), changed, allow_changes=False)
    assert "--config.allow_changes=True" in str(error.value)
    assert not capsys.readouterr().err

    compare_problems(str(tmp_path), changed, allow_changes=True)
    assert "goes on with the new ones" in capsys.readouterr().err
    keep_problems(str(tmp_path), changed)
    compare_problems(str(tmp_path), changed, allow_changes=False)


def test_columns_count_where_both_runs_keep_them(tmp_path):
    bare = sets([dataclasses.replace(ONE, row={})], [dataclasses.replace(OTHER, row={})])
    keep_problems(str(tmp_path), bare)
    compare_problems(str(tmp_path), sets(), allow_changes=False)


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"train": 3, "heldout": {}})])
def test_a_damaged_record_is_one_line(tmp_path, text):
    (tmp_path / "problems.json").write_text(text)
    with raises_for("workdir"):
        compare_problems(str(tmp_path), sets(), allow_changes=False)
