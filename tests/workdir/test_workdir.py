"""The folder of a run: its lock, its default name, and disk errors."""

import contextlib
import errno
import os
import pathlib
import pwd
import resource

import pytest

from ccpo_jax.errors import as_input_error
from ccpo_jax.workdir import (
    as_disk_error,
    expand_workdir,
    lock_workdir,
    new_workdir,
    workdir,
    write_atomically,
)
from ccpo_jax.workdir.jsonl import StepLines
from tests.support.errors import raises_for


def test_a_folder_holds_one_run_at_a_time(tmp_path):
    folder = str(tmp_path / "run")
    with lock_workdir(folder), raises_for("workdir") as error, lock_workdir(folder):
        pass
    assert f"process {os.getpid()} on" in str(error.value)
    # It was created for a run that never began.
    assert not os.path.exists(folder)


def test_a_folder_with_files_stays_and_can_be_locked_again(tmp_path):
    folder = str(tmp_path / "run")
    with lock_workdir(folder):
        pathlib.Path(folder, "config.json").write_text("{}")
    with lock_workdir(folder):
        pass
    assert os.path.exists(folder)


def test_a_file_in_the_folders_place_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with raises_for("workdir"), lock_workdir(str(tmp_path / "file" / "run")):
        pass


@contextlib.contextmanager
def full_disk():
    """Within it, every write to a file fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_could_not_be_written_is_not_written_again_at_the_end(tmp_path):
    """Where the disk is full, closing the file would raise a second error in place of the first."""
    with raises_for("workdir") as error, full_disk(), lock_workdir(str(tmp_path / "run")):
        pass
    assert os.strerror(errno.EFBIG) in str(error.value)

    lines = StepLines(tmp_path / "metrics.jsonl")
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)), full_disk(), lines:
        lines.append(1, {"loss": 1.0})
    lines.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_the_users_to_fix(code):
    with raises_for("workdir") as error, as_disk_error("runs/x"):
        raise OSError(code, os.strerror(code), "here")
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in ("runs/x", os.strerror(code), "here"))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError("full")])
def test_an_error_that_names_no_file_is_told_as_it_is(error):
    with raises_for("a file") as raised, as_input_error():
        raise error
    assert "full" in str(raised.value) and "None" not in str(raised.value)


def test_other_errors_pass_unchanged():
    with pytest.raises(ConnectionError), as_disk_error("runs/x"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_a_new_folder_is_named_after_the_preset_and_stays_where_it_is_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_workdir("configs/voting.py:tiny") as folder, lock_workdir(folder):
        assert folder.startswith("runs/voting-tiny-2")
        pathlib.Path(folder, "config.json").write_text("{}")
    assert os.listdir("runs") == [os.path.basename(folder)]

    with new_workdir("voting") as folder, lock_workdir(folder):
        assert folder.startswith("runs/voting-2") and os.path.isdir(folder)
    assert not os.path.exists(folder)


def test_runs_that_start_in_one_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workdir, "_name_of", lambda config_file: "voting-20261201-040000")
    with contextlib.ExitStack() as runs:
        folders = [runs.enter_context(new_workdir("voting")) for _ in range(3)]
    name = "runs/voting-20261201-040000"
    assert folders == [name, f"{name}-2", f"{name}-3"]


def test_a_place_where_no_folder_can_be_made_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("runs").write_text("")
    with raises_for("workdir"), new_workdir("voting"):
        pass


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "result.json"
    write_atomically(path, "old")
    write_atomically(path, "new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["result.json"]


def test_a_home_folder_is_expanded_or_asked_for(monkeypatch):
    monkeypatch.setenv("HOME", "/users/me")
    assert expand_workdir("~/runs/a") == "/users/me/runs/a"
    assert expand_workdir("~") == "/users/me"
    for folder in ("runs/a", "./~/a", "/a~b", "a,b=c"):
        assert expand_workdir(folder) == folder
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_such_user)
    monkeypatch.setattr(pwd, "getpwnam", no_such_user)
    for folder in ("~/runs/a", "~", "~nobody/a"):
        with raises_for("workdir"):
            expand_workdir(folder)


def test_what_is_no_folder_is_refused():
    for folder in (7, None, "", " ", "a\0b"):
        with raises_for("workdir"):
            expand_workdir(folder)  # type: ignore[arg-type]


def no_such_user(*_):
    raise KeyError("no such user")
