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
from typing import TextIO

from ccpo_jax.devices.distributed import is_main_process, sync_errors
from ccpo_jax.errors import InputError
from ccpo_jax.workdir.disk_errors import as_disk_error

_LOCK = "lock"


def default_workdir(config_file: str) -> str:
    """A new folder's name: ``configs/voting.py:tiny`` -> ``runs/voting-tiny-<time>``."""
    path, _, preset = config_file.partition(":")
    parts = [pathlib.Path(path).stem, preset, datetime.datetime.now().strftime("%Y%m%d-%H%M%S")]
    return str(pathlib.Path("runs", "-".join(part for part in parts if part)))


def expand_workdir(workdir: str | os.PathLike) -> str:
    """A workdir with the home folder in place of ``~``.

    Raises:
      InputError: there is no such home folder: a folder of that name would be made instead.
    """
    folder = os.path.expanduser(workdir)
    if folder.startswith("~"):
        raise InputError(
            "workdir",
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
        file = (folder / _LOCK).open("a+", encoding="utf-8")
    with file:
        _acquire(file, folder)
        with as_disk_error(str(folder)):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
            file.flush()
        try:
            yield
        finally:
            if created and [path.name for path in folder.iterdir()] == [_LOCK]:
                (folder / _LOCK).unlink()
                folder.rmdir()


def _acquire(file: TextIO, folder: pathlib.Path) -> None:
    """Locks an open file; warns where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(100).strip() or "another process"
        raise InputError(
            "workdir",
            f"{folder} is in use by {holder}; wait until it ends, or type another --workdir",
        ) from error
    except OSError as error:
        print(
            f"warning: {folder} cannot be locked ({error.strerror}); start no second run there",
            file=sys.stderr,
        )
