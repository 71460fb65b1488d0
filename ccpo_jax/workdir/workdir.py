"""A run's folder: its default name, and the lock that admits one run at a time.

Of several processes the main one holds the lock and writes into the folder; the others read.
"""

import contextlib
import datetime
import fcntl
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import IO

from ccpo_jax.devices.distributed import first_nonempty, is_main_process, sync_errors
from ccpo_jax.errors import InputError
from ccpo_jax.workdir.disk_errors import as_disk_error

_LOCK = "lock"


@contextlib.contextmanager
def new_workdir(config_file: str) -> Iterator[str]:
    """A new folder for one run: ``configs/voting.py:tiny`` -> ``runs/voting-tiny-<time>``.

    No other run gets it, also where several start in one second. It is removed again where nothing
    was written into it.

    Args:
      config_file: a preset or a file, which names the folder.

    Raises:
      InputError: ``workdir``: it cannot be made.
    """
    made = ""
    with sync_errors():
        if is_main_process():
            made = str(_make_folder(_name_of(config_file)))
    # Processes may see different clocks: the first one's folder serves all.
    folder = first_nonempty(made)
    try:
        yield folder
    finally:
        if made:
            _remove_unused(pathlib.Path(made))


def _name_of(config_file: str) -> str:
    path, _, preset = config_file.partition(":")
    parts = [pathlib.Path(path).stem, preset, datetime.datetime.now().strftime("%Y%m%d-%H%M%S")]
    return "-".join(part for part in parts if part)


def _make_folder(name: str) -> pathlib.Path:
    """A folder under runs/ that did not exist: NAME, else NAME-2, NAME-3, ..."""
    runs = pathlib.Path("runs")
    with as_disk_error(str(runs / name)):
        runs.mkdir(exist_ok=True)
        return make_free_folder(runs / name)


def make_free_folder(wanted: pathlib.Path) -> pathlib.Path:
    """Makes a folder that did not exist: `wanted`, else with -2, -3, ... behind its name.

    Raises:
      OSError: it cannot be made.
    """
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def _remove_unused(folder: pathlib.Path) -> None:
    """Removes a folder in which nothing is but a lock that nobody holds any more."""
    with contextlib.suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {_LOCK}:
            (folder / _LOCK).unlink(missing_ok=True)
            folder.rmdir()


def expand_workdir(workdir: str | os.PathLike, field: str = "workdir") -> str:
    """A workdir with the home folder in place of ``~``.

    Args:
      workdir: its path as typed.
      field: for errors.

    Raises:
      InputError: it is no path, or there is no such home folder: a folder of that name would be
        made instead.
    """
    if not isinstance(workdir, str | os.PathLike):
        raise InputError(field, f"received {type(workdir).__name__}; give the path of a folder")
    folder = os.fspath(workdir)
    if not folder.strip() or "\0" in folder:
        raise InputError(field, f"{folder!r:.80} is no folder; type its path, such as runs/mine")
    folder = os.path.expanduser(folder)
    if folder.startswith("~"):
        raise InputError(
            field,
            f"no home folder is known for {folder!r:.80}; type the whole path, or ./{folder:.80}",
        )
    return folder


@contextlib.contextmanager
def lock_workdir(workdir: str) -> Iterator[None]:
    """Holds the folder for one run; creates it if it does not exist.

    The kernel releases the lock when the process ends, however it ends. A folder that was created
    here and stayed empty is removed again.

    Raises:
      InputError: ``workdir``: another run holds it, it cannot be written, or not all processes see
        it.
    """
    with contextlib.ExitStack() as stack:
        with sync_errors():
            if is_main_process():
                stack.enter_context(_lock(pathlib.Path(workdir)))
        with sync_errors():
            if not pathlib.Path(workdir, _LOCK).is_file():
                raise InputError(
                    "workdir", f"{workdir} does not exist; use a folder that all processes share"
                )
        yield


@contextlib.contextmanager
def _lock(folder: pathlib.Path) -> Iterator[None]:
    created = not folder.exists()
    with as_disk_error(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        # Without a buffer: closing would write it once more to a disk that is full.
        file = (folder / _LOCK).open("a+b", buffering=0)
    with file:
        _acquire(file, folder)
        with as_disk_error(str(folder)):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}\n".encode())
        try:
            yield
        finally:
            if created:
                _remove_unused(folder)


def _acquire(file: IO[bytes], folder: pathlib.Path) -> None:
    """Locks an open file; warns where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(100).decode("utf-8", "replace").strip() or "another process"
        raise InputError(
            "workdir",
            f"{folder} is in use by {holder}; wait until it ends, or type another --workdir",
        ) from error
    except OSError as error:
        print(
            f"warning: {folder} cannot be locked ({error.strerror}); start no second run there",
            file=sys.stderr,
        )
