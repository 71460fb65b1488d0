"""Replaces a folder as a whole: a write that fails leaves the old one as it was."""

import os
import pathlib
import shutil
from collections.abc import Callable


def begin_folder(target: pathlib.Path) -> pathlib.Path:
    """An empty folder beside `target`, in which its new content is written.

    Raises:
      OSError: it cannot be made.
    """
    _restore(target)
    new = _beside(target, "new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    return new


def publish_folder(target: pathlib.Path, *, replaces: Callable[[str], bool]) -> None:
    """Puts what was written since `begin_folder` in the place of `target`.

    A kill at any moment leaves the old folder or the new one, under its name or, between two
    renamings, under that of `begin_folder`, which the next call gives back.

    Args:
      target: files in it that the new content lacks are kept.
      replaces: whether a file of that name belongs to the old content, and is not kept.

    Raises:
      OSError: the disk is full or cannot be written.
    """
    new = _beside(target, "new")
    for path in sorted(new.rglob("*"), reverse=True):
        _sync(path)
    _sync(new)

    old = _beside(target, "old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    _sync(target.parent)

    if old.exists():
        for path in old.iterdir():
            if not replaces(path.name) and not (target / path.name).exists():
                path.rename(target / path.name)
        shutil.rmtree(old, ignore_errors=True)


def drop_folder(target: pathlib.Path) -> None:
    """Removes what was written since `begin_folder`; nothing where it was published."""
    shutil.rmtree(_beside(target, "new"), ignore_errors=True)


def _restore(target: pathlib.Path) -> None:
    """Gives back the old folder where a kill came between the two renamings."""
    old = _beside(target, "old")
    if old.exists() and not target.exists():
        old.rename(target)


def _beside(target: pathlib.Path, kind: str) -> pathlib.Path:
    return target.with_name(f".{target.name}.{kind}")


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
