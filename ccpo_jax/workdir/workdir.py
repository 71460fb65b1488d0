"""Locks a run's folder and names a new one.

Of several processes the first holds the folder and writes into it; the others read.
"""

import contextlib
import datetime
import fcntl
import os
import pathlib
import sys
from collections.abc import Iterator

from ccpo_jax.devices.distributed import (
    is_main_process,
    sync_errors,
)
from ccpo_jax.workdir.disk_errors import as_disk_error


def default_workdir(config_file: str) -> str:
    """``configs/voting.py:tiny`` -> ``runs/voting-tiny-<time>``: a new run never meets an old one by accident."""
    path, _, preset = config_file.partition(":")
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return str(
        pathlib.Path("runs") / "-".join(filter(None, (pathlib.Path(path).stem, preset, stamp)))
    )


@contextlib.contextmanager
def lock_workdir(workdir: str) -> Iterator[None]:
    """Holds the folder, made if need be, for one run. The kernel lets go with the process, however that ends.

    A folder that was made here and stayed empty goes again.

    Raises:
      ValueError: another run holds it, it cannot be written, or not all processes see it.
    """
    with contextlib.ExitStack() as held:
        with sync_errors():
            if is_main_process():
                held.enter_context(_lock(workdir))
        with sync_errors():
            if not pathlib.Path(workdir, "lock").is_file():
                raise ValueError(
                    f"workdir: {workdir} is not there; use a folder that all processes share"
                )
        yield


@contextlib.contextmanager
def _lock(workdir: str) -> Iterator[None]:
    folder = pathlib.Path(workdir)
    made = not folder.exists()
    with as_disk_error(workdir):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+", encoding="utf-8")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read(100).strip() or "another process"
            raise ValueError(
                f"workdir: {workdir} is in use by {holder}; wait for its end, or type another --workdir"
            ) from error
        except OSError as error:
            print(
                f"warning: {workdir} cannot be locked ({error.strerror}); start no second run there",
                file=sys.stderr,
            )
        with as_disk_error(workdir):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {os.uname().nodename}\n")
            lock.flush()
        try:
            yield
        finally:
            if made and [path.name for path in folder.iterdir()] == ["lock"]:
                (folder / "lock").unlink()
                folder.rmdir()
