"""Results of steps that no checkpoint contains are kept where a run begins anew or goes back."""

import json
import pathlib

import pytest

from ccpo_jax.workdir import set_aside
from ccpo_jax.workdir.jsonl import StepLines


def lines(*steps):
    return "".join(json.dumps({"step": step}) + "\n" for step in steps)


def finished(folder, last_step):
    """The files of a run that was evaluated before and after its steps."""
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text(lines(*range(last_step + 1)))
    (folder / "rollouts.jsonl").write_text(lines(1, 1, 2, 2))
    (folder / "result.json").write_text(json.dumps({"after": {"step": last_step}}))
    return folder


def content(folder):
    return {path.name: path.read_text() for path in pathlib.Path(folder).iterdir()}


def test_without_a_checkpoint_all_results_are_kept(tmp_path):
    run = finished(tmp_path / "run", 9)
    before = content(run)
    kept = set_aside(str(run), 0)
    assert content(kept.folder) == before and not (run / "result.json").exists()
    assert kept.folder.parent == run / "set-aside"
    for part in ("9 steps", str(kept.folder), "metrics.jsonl, rollouts.jsonl, result.json"):
        assert part in kept.message
    assert "\n" not in kept.message


def test_of_steps_after_the_newest_checkpoint_the_lines_are_kept_that_the_run_removes(tmp_path):
    run = finished(tmp_path / "run", 4)
    kept = set_aside(str(run), 3)
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        StepLines(run / name, 3).close()
    assert content(kept.folder) == {
        "metrics.jsonl": lines(4),
        "result.json": json.dumps({"after": {"step": 4}}),
    }
    assert (run / "metrics.jsonl").read_text() == lines(0, 1, 2, 3)
    assert (run / "rollouts.jsonl").read_text() == lines(1, 1, 2, 2)
    assert "steps 4 to 4" in kept.message


def test_a_result_alone_is_kept_as_well(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"after": {"step": 3}}))
    assert content(set_aside(str(tmp_path), 0).folder).keys() == {"result.json"}
    assert set_aside(str(tmp_path), 0) is None


@pytest.mark.parametrize("step", [9, 12])
def test_a_run_that_goes_on_where_it_was_leaves_everything(step, tmp_path):
    run = finished(tmp_path / "run", 9)
    before = content(run)
    assert set_aside(str(run), step) is None
    assert content(run) == before


@pytest.mark.parametrize("text", ["", lines(0), lines(0) + '{"step": 1', "[]\n{\n"])
def test_before_the_first_step_there_is_nothing_to_keep(text, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(text)
    (tmp_path / "result.json").write_text("[")
    assert set_aside(str(tmp_path), 0) is None


def test_two_in_one_second_are_kept_both(tmp_path):
    folders = []
    for _ in range(2):
        (tmp_path / "metrics.jsonl").write_text(lines(0, 1))
        folders.append(set_aside(str(tmp_path), 0).folder)
    assert len(set(folders)) == 2 and all(map(content, folders))
