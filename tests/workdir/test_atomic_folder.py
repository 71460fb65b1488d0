"""Folders that are replaced as a whole."""

import pytest

from ccpo_jax.workdir.atomic_folder import begin_folder, drop_folder, publish_folder


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def fill(folder, **files):
    for name, text in files.items():
        (folder / name).write_text(text)


def publish(target):
    publish_folder(target, replaces=lambda name: name.startswith("model"))


def test_a_folder_is_replaced_and_foreign_files_stay(tmp_path):
    target = tmp_path / "agent"
    fill(begin_folder(target), config="1", model_1="1", model_2="1")
    publish(target)
    fill(target, notes="mine")
    fill(begin_folder(target), config="2", model_1="2")
    assert content(target)["config"] == "1"
    publish(target)
    assert content(target) == {"config": "2", "model_1": "2", "notes": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["agent"]


def test_what_is_dropped_leaves_the_old_folder(tmp_path):
    target = tmp_path / "agent"
    target.mkdir()
    fill(target, config="1")
    fill(begin_folder(target), config="2")
    drop_folder(target)
    drop_folder(target)
    assert content(target) == {"config": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["agent"]


@pytest.mark.parametrize("after", ["begin", "first renaming"])
def test_a_kill_leaves_the_old_folder_to_the_next(after, tmp_path):
    target = tmp_path / "agent"
    target.mkdir()
    fill(target, config="1")
    fill(begin_folder(target), config="broken", rest="broken")
    if after == "first renaming":
        target.rename(tmp_path / ".agent.old")
    fill(begin_folder(target), config="2")
    assert content(target) == {"config": "1"}
    publish(target)
    assert content(target) == {"config": "2"}
