"""What a run reads of the user's besides data, kept in WORKDIR/inputs: plugins, rewards, prompts.

A run can so be repeated, and evaluated where the files are gone. `index.json` there names the copy
of each file, and of each module that pip installed its version and the hash of its file.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from ccpo_jax.config import Config, from_flat, is_object
from ccpo_jax.devices.distributed import (
    all_gather_objects,
    is_main_process,
    print_main,
    sync_errors,
)
from ccpo_jax.errors import InputError
from ccpo_jax.fields import expand_home
from ccpo_jax.references import (
    given_content,
    given_files,
    load_module,
    loaded_file,
    split_reference,
)
from ccpo_jax.reward_names import parse_reward
from ccpo_jax.workdir.atomic_write import write_atomically
from ccpo_jax.workdir.changed import report_change

FOLDER = "inputs"
_INDEX = "index.json"

# Bytes of a file that are read; what a person wrote is shorter.
_LONGEST = 10_000_000


class Content(NamedTuple):
    """What a file or module holds.

    Attributes:
      sha256: of the file; "" where there is none.
      content: of a file that the user wrote; None for a module.
      version: of the package that a module belongs to; "" where it has none.
    """

    sha256: str
    content: bytes | None
    version: str = ""


def inputs_of(config: Config) -> dict[str, str]:
    """The files and modules that a configuration names, as typed: path or module -> field."""
    inputs = {split_reference(plugin).module: "plugins" for plugin in config.plugins}
    for term in parse_reward(config.verifier.name):
        if term.is_reference:
            inputs.setdefault(split_reference(term.name).module, "verifier.name")
    if config.prompts is not None and not is_object(config.prompts):
        inputs.setdefault(config.prompts, "prompts")
    return inputs


def typed_inputs(typed: Mapping[str, Any]) -> Collection[str]:
    """The files and modules among the values of typed fields, as `inputs_of`."""
    names = ("plugins", "verifier.name", "prompts")
    return inputs_of(from_flat({name: typed[name] for name in names if name in typed}))


def check_same_inputs(inputs: Mapping[str, str]) -> None:
    """Checks that all processes of a run read the same.

    Args:
      inputs: see `inputs_of`.

    Raises:
      InputError: a file or module here is another one than in the first process.
    """
    with sync_errors():
        here = {path: _read(path, field).sha256 for path, field in inputs.items()}
    first = all_gather_objects(here)[0]
    with sync_errors():
        for path, field in inputs.items():
            if here[path] != first[path]:
                raise InputError(
                    field,
                    f"{path:.200} differs between the processes; give all of them the same file",
                )


def compare_inputs(workdir: str, inputs: Mapping[str, str], *, allow_changes: bool) -> None:
    """Says what has changed since the run in `workdir` was started.

    Args:
      workdir: of a run, or of none yet.
      inputs: see `inputs_of`.
      allow_changes: True: a change is a note and no error.

    Raises:
      InputError: a file or module has changed, or the index is damaged.
    """
    index = _read_index(workdir)
    for path, field in inputs.items():
        if path not in index or index[path]["sha256"] == _read(path, field).sha256:
            continue
        changed = f"{path:.200} has changed since this run was started"
        if "copy" in index[path]:
            changed += f" (then: {_copy(workdir, index[path])})"
        report_change(field, changed, "the new version", allow_changes=allow_changes)


def copy_inputs(workdir: str, inputs: Mapping[str, str], step: int = 0) -> None:
    """Copies files into ``inputs/`` and records modules; the main process alone does.

    A copy with another content is kept as ``NAME-until-step-<step>``.

    Args:
      workdir: of a run.
      inputs: see `inputs_of`.
      step: that the run has reached.
    """
    if not inputs or not is_main_process():
        return
    folder = pathlib.Path(workdir, FOLDER)
    folder.mkdir(exist_ok=True)
    index = _read_index(workdir)
    for path, field in inputs.items():
        read = _read(path, field)
        entry: dict[str, Any] = {"sha256": read.sha256}
        if read.content is None:
            entry["version"] = read.version
        else:
            taken = [other["copy"] for other in index.values() if "copy" in other]
            entry["copy"] = index.get(path, {}).get("copy") or _free_name(path, taken)
            _write_copy(folder / entry["copy"], read.content, step)
        index[path] = entry
    write_atomically(folder / _INDEX, json.dumps(index, indent=1))


@contextlib.contextmanager
def kept_inputs(
    workdir: str | None, *, prefer_copies: bool = False, typed: Collection[str] = ()
) -> Iterator[None]:
    """Inside, files that the run in `workdir` was started with and that are gone are read from
    their copies.

    Args:
      workdir: of a run, or of none yet.
      prefer_copies: True: the copies also stand for files that have changed.
      typed: paths that were typed anew: what they hold now counts where they are there.

    Raises:
      InputError: a copy is missing or damaged.
    """
    contents: dict[str, bytes] = {}
    index = {} if workdir is None else _read_index(workdir)
    for path, entry in index.items():
        if workdir is None or "copy" not in entry or given_content(path) is not None:
            continue
        on_disk = _on_disk(path)
        if on_disk is not None:
            is_own = _hash(on_disk) == entry["sha256"]
            if is_own or not prefer_copies or path in typed:
                continue
        contents[path] = _read_copy(workdir, path, entry)
        why = "is gone" if on_disk is None else "has changed since this run"
        print_main(
            f"note: {path:.200} {why}; its copy {_copy(workdir, entry)} is used", file=sys.stderr
        )
    with given_files(contents):
        yield


# --- contents -------------------------------------------------------------------------------------


def _read(path: str, field: str) -> Content:
    """What a path or module holds: of what this process has loaded, what it has loaded."""
    if field != "prompts" and not split_reference(path).is_file:
        return _read_module(path, field)
    loaded = loaded_file(path) if path.endswith(".py") else None
    content = loaded.source if loaded is not None else given_content(path)
    if content is None:
        content = _on_disk(path)
    if content is None:
        raise InputError(field, f"there is no file {path!r:.200}; type the path of one")
    return Content(_hash(content), content)


def _read_module(name: str, field: str) -> Content:
    file = getattr(load_module(name, field), "__file__", None)
    content = None if file is None else _on_disk(file)
    return Content("" if content is None else _hash(content), None, _version(name))


def _version(name: str) -> str:
    top = name.partition(".")[0]
    packages = importlib.metadata.packages_distributions().get(top, [])
    return importlib.metadata.version(packages[0]) if packages else ""


def _on_disk(path: str) -> bytes | None:
    """The content of a file; None where there is none that can be read."""
    try:
        file = pathlib.Path(expand_home(path))
        # Opening a pipe would wait for a writer.
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            return stream.read(_LONGEST)
    except (OSError, ValueError):
        return None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- the folder -----------------------------------------------------------------------------------


def _copy(workdir: str, entry: Mapping[str, Any]) -> pathlib.Path:
    return pathlib.Path(workdir, FOLDER, entry["copy"])


def _read_index(workdir: str) -> dict[str, dict[str, Any]]:
    path = pathlib.Path(workdir, FOLDER, _INDEX)
    if not path.is_file():
        return {}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("workdir", f"{path} is damaged; restore it") from error
    entries = index.values() if isinstance(index, dict) else [None]
    if not all(map(_is_entry, entries)):
        raise InputError("workdir", f"{path} is damaged; restore it")
    return index


def _is_entry(entry: Any) -> bool:
    """Whether it is an entry of the index, whose copy lies in the folder itself."""
    if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
        return False
    copy = entry.get("copy", "copy")
    return isinstance(copy, str) and copy not in ("", ".", "..") and copy == os.path.basename(copy)


def _read_copy(workdir: str, path: str, entry: Mapping[str, Any]) -> bytes:
    copy = _copy(workdir, entry)
    content = _on_disk(str(copy))
    if content is None or _hash(content) != entry["sha256"]:
        state = "is missing" if content is None else "has changed"
        raise InputError(
            "workdir",
            f"{path:.200} is not there as in this run, and its copy {copy} {state}; restore one",
        )
    return content


def _free_name(path: str, taken: Collection[str]) -> str:
    """The name of a copy: the file's own, with a number where another file has it."""
    name = pathlib.Path(path)
    candidate = name.name
    number = 2
    while candidate in (*taken, _INDEX):
        candidate = f"{name.stem}-{number}{name.suffix}"
        number += 1
    return candidate


def _write_copy(copy: pathlib.Path, content: bytes, step: int) -> None:
    """Writes a copy; one with another content is kept under another name."""
    old = _on_disk(str(copy))
    if old == content:
        return
    if old is not None:
        kept = copy.with_name(f"{copy.stem}-until-step-{step}{copy.suffix}")
        copy.replace(kept)
    temporary = copy.with_name(f"{copy.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(copy)
