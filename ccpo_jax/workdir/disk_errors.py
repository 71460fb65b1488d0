"""Disk errors that the user can fix (full, read-only, gone), reported in one line."""

import contextlib
import errno
import os
import pathlib
import re
from collections.abc import Iterator

from ccpo_jax.errors import InputError

USER_ERRORS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
}


@contextlib.contextmanager
def as_disk_error(workdir: str) -> Iterator[None]:
    """Turns a disk error that the user can fix into an `InputError` about the workdir.

    Raises:
      InputError: the disk is full, gone, or not writable. Other errors pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in USER_ERRORS:
            raise
        where = f" at {error.filename}" if error.filename and str(error.filename) != workdir else ""
        raise InputError(
            "workdir",
            f"cannot write {workdir} ({error.strerror}{where}); fix that, or type another "
            "--workdir=FOLDER; a run resumes after its last checkpoint",
        ) from error


@contextlib.contextmanager
def storage_errors_as_os_errors(folder: pathlib.Path) -> Iterator[None]:
    """Turns the storage library's errors about the disk, an errno within a text, into OSErrors."""
    try:
        yield
    except Exception as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if isinstance(error, OSError) or code is None:
            raise
        number = int(code[1])
        raise OSError(number, os.strerror(number), str(folder)) from error
