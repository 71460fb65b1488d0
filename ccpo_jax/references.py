"""What a user names by a reference: `FILE.py`, `FILE.py:NAME`, `package.module:NAME`.

A file is loaded once per process, under a module name that depends on its real path alone, so that
objects of it can be pickled from one process to another that has loaded it too.
"""

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import io
import linecache
import os
import pathlib
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

from ccpo_jax.errors import InputError, escape_control
from ccpo_jax.fields import expand_home

# No module that a person wrote is longer, in bytes.
_LONGEST_SOURCE = 10_000_000

# Characters that a module may print on each stream while it is imported.
_MOST_PRINTED = 10_000

_MODULE_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class Reference(NamedTuple):
    """A reference, split.

    Attributes:
      module: a path that ends in ``.py``, or the dotted name of a module.
      name: of an object in it, dotted where it lies inside another; "" = the module itself.
      is_file: whether `module` is a path.
    """

    module: str
    name: str
    is_file: bool


class LoadedFile(NamedTuple):
    """A file that this process has loaded.

    Attributes:
      path: its real path.
      source: its content when it was loaded.
    """

    path: str
    source: bytes


class Shipped(NamedTuple):
    """A module as another process gets it.

    Attributes:
      module: its dotted name; "" for a file.
      file: what the file held when this process loaded it; None for a module.
    """

    module: str
    file: LoadedFile | None


# Real path -> what was loaded from it.
_LOADED: dict[str, LoadedFile] = {}

# Real path -> its content where that is given: the disk is not looked at.
_GIVEN: dict[str, bytes] = {}


def split_reference(reference: str) -> Reference:
    """Splits a reference; a path may contain colons and blanks.

    Example:
      >>> split_reference("my dir/a.py:score")
      Reference(module='my dir/a.py', name='score', is_file=True)
      >>> split_reference("package.module:score")
      Reference(module='package.module', name='score', is_file=False)
    """
    path, suffix, name = reference.rpartition(".py:")
    if suffix:
        return Reference(f"{path}.py", name, is_file=True)
    if reference.endswith(".py"):
        return Reference(reference, "", is_file=True)
    module, _, name = reference.partition(":")
    return Reference(module, name, is_file=False)


def real_path(path: str) -> str:
    """The absolute path of a file, with ``~`` expanded and links followed."""
    path = expand_home(path)
    # A null character, which no name can hold: no file is there.
    return path if "\0" in path else os.path.realpath(path)


def module_name(path: str) -> str:
    """The module name under which a file is loaded: the same in every process.

    Args:
      path: a real path.
    """
    stem = re.sub(r"\W", "_", pathlib.Path(path).stem)
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return f"_{stem}_{digest}"


def loaded_file(path: str) -> LoadedFile | None:
    """What this process has loaded from a file; None where it has not.

    Args:
      path: as typed in a reference.
    """
    return _LOADED.get(real_path(path))


def load_module(reference: str, field: str) -> types.ModuleType:
    """Imports the module of a reference, once per process.

    Modules in the current folder can be imported, also by the program that pip installs.

    Args:
      reference: ``FILE.py`` or ``package.module``; a name after a colon is not looked at.
      field: the configuration field or argument that holds it, for errors.

    Raises:
      InputError: no such file or module, or an exception while it is imported: the line of it and
        what it says. A file that has changed since this process loaded it.
    """
    parts = split_reference(reference)
    _add_current_folder()
    if parts.is_file:
        return _load_file(real_path(parts.module), field, shown=parts.module)
    if not _MODULE_NAME.fullmatch(parts.module):
        raise InputError(
            field,
            f"{reference!r:.200} names neither a file nor a module; type FILE.py or package.module",
        )
    return _import(parts.module, field)


def load_object(reference: str, field: str) -> Any:
    """The object that a reference names.

    Args:
      reference: ``FILE.py:NAME`` or ``package.module:NAME``.
      field: the configuration field or argument that holds it, for errors.

    Raises:
      InputError: as `load_module`, no name in the reference, or no such name in the module.
    """
    parts = split_reference(reference)
    if not parts.name:
        raise InputError(
            field, f"{reference!r:.200} names no object; type {parts.module:.200}:NAME"
        )
    value: Any = load_module(reference, field)
    for name in parts.name.split("."):
        if not hasattr(value, name):
            raise InputError(field, _no_such_name(parts, value, name))
        value = getattr(value, name)
    return value


def ship(references: Sequence[str], field: str) -> tuple[Shipped, ...]:
    """What another process needs to load the same modules: of files their source, which may be
    another one on the disk by then.

    Raises:
      InputError: as `load_module`, which loads them here too.
    """
    shipped = []
    for reference in references:
        parts = split_reference(reference)
        load_module(reference, field)
        file = _LOADED[real_path(parts.module)] if parts.is_file else None
        shipped.append(Shipped("" if parts.is_file else parts.module, file))
    return tuple(shipped)


def receive(shipped: Sequence[Shipped], field: str) -> None:
    """Loads what another process has shipped. References to it are then good here.

    Raises:
      InputError: an exception while it is imported.
    """
    for module, file in shipped:
        if file is None:
            load_module(module, field)
        else:
            load_source(file, field)


def forget(reference: str) -> None:
    """Takes back the import of a module, which the next one then runs anew."""
    parts = split_reference(reference)
    if parts.is_file:
        path = real_path(parts.module)
        _LOADED.pop(path, None)
        sys.modules.pop(module_name(path), None)
    else:
        sys.modules.pop(parts.module, None)


def is_loaded(reference: str) -> bool:
    """Whether the module of a reference has been imported already."""
    parts = split_reference(reference)
    name = module_name(real_path(parts.module)) if parts.is_file else parts.module
    return name in sys.modules


def imported_copy() -> str:
    """The name under which a file was imported that is loaded by its path too; "" = none was.

    It has then run twice, as two modules.
    """
    for path in _LOADED:
        name = pathlib.Path(path).stem
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and real_path(file) == path:
            return name
    return ""


def explain(error: Exception, field: str, entry: str, function: Any = None) -> InputError:
    """What a user's function did wrong when it was called, and in which line, as one line.

    Args:
      error: what it raised.
      field: the configuration field that chose it.
      entry: its name there.
      function: the function, whose place is named where no line of it was reached.
    """
    where = place_of(error)
    code = getattr(function, "__code__", None)
    if not where and code is not None:
        where = f" ({code.co_filename}, line {code.co_firstlineno})"
    return InputError(field, f"{entry!r} raised {_words(error)}{where}; correct it")


def place_of(error: BaseException) -> str:
    """File and line of a user's code in which an error arose, as " (FILE, line N)".

    Returns:
      "" where it arose in the package, or in another one that is installed.
    """
    frames = [frame for frame in _frames(error) if frame[0] in _LOADED]
    frames = frames or [frame for frame in _frames(error) if not _is_installed(frame[0])]
    return f" ({frames[-1][0]}, line {frames[-1][1]})" if frames else ""


def _is_installed(path: str) -> bool:
    """Whether a file is the package's own, or of another one that is installed."""
    own = (os.path.dirname(__file__), os.path.dirname(os.__file__))
    return path.startswith(tuple(folder + os.sep for folder in own)) or "site-packages" in path


@contextlib.contextmanager
def given_files(contents: Mapping[str, bytes]) -> Iterator[None]:
    """Inside, files hold what is given here, whatever the disk says.

    Args:
      contents: path as typed -> content.
    """
    given = {real_path(path): content for path, content in contents.items()}
    added = {path: content for path, content in given.items() if path not in _GIVEN}
    _GIVEN.update(added)
    try:
        yield
    finally:
        for path in added:
            _GIVEN.pop(path, None)


def given_content(path: str) -> bytes | None:
    """What a file holds where that is given, see `given_files`; None where the disk says it."""
    return _GIVEN.get(real_path(path))


def load_source(file: LoadedFile, field: str) -> types.ModuleType:
    """Loads a file from a given source, whatever the disk holds.

    Raises:
      InputError: an exception while it is imported, or another source is loaded already.
    """
    _add_current_folder()
    _GIVEN[file.path] = file.source
    return _loaded_as(file, field, shown=file.path)


def _load_file(path: str, field: str, shown: str) -> types.ModuleType:
    """The module of a file, which is read even where it is loaded: it may have changed."""
    source = _GIVEN[path] if path in _GIVEN else _read(path, field, shown)
    return _loaded_as(LoadedFile(path, source), field, shown)


def _loaded_as(file: LoadedFile, field: str, shown: str) -> types.ModuleType:
    """The module of a file with this source."""
    loaded = _LOADED.get(file.path)
    module = sys.modules.get(module_name(file.path))
    if loaded is None or module is None:
        return _execute(file, field)
    if loaded.source != file.source:
        raise InputError(
            field,
            f"{shown:.200} has changed since this process loaded it; start Python anew, which "
            "loads the new version",
        )
    return module


def _read(path: str, field: str, shown: str) -> bytes:
    """The content of a file."""
    if os.path.isdir(path):
        raise InputError(field, f"{shown!r:.200} is a folder; type the path of a .py file")
    # Also False for a name that no file can have.
    if not os.path.isfile(path):
        where = "" if os.path.isabs(shown) else f" in {os.getcwd()}"
        raise InputError(
            field, f"there is no file {shown!r:.200}{where}; type the path of a .py file"
        )
    try:
        with open(path, "rb") as file:
            source = file.read(_LONGEST_SOURCE + 1)
    except OSError as error:
        raise InputError(
            field, f"cannot read {shown!r:.200} ({error.strerror}); type another file"
        ) from error
    if len(source) > _LONGEST_SOURCE:
        raise InputError(
            field, f"{shown!r:.200} has more than {_LONGEST_SOURCE} bytes; type a Python file"
        )
    return source


def _execute(file: LoadedFile, field: str) -> types.ModuleType:
    """Runs a file as a new module. No bytecode is written: it is no package of ours."""
    name = module_name(file.path)
    spec = importlib.util.spec_from_file_location(name, file.path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    if file.path in _GIVEN:
        # Tracebacks and `inspect` show this source, not the disk's.
        text = file.source.decode("utf-8", "replace")
        linecache.cache[file.path] = (len(text), None, text.splitlines(keepends=True), file.path)
    # While it runs, as in an import: dataclasses and pickle look their module up.
    sys.modules[name] = module

    def run() -> None:
        code = compile(file.source, file.path, "exec", dont_inherit=True)
        exec(code, module.__dict__)

    try:
        _guarded(run, field, file.path)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    _LOADED[file.path] = file
    return module


def _import(name: str, field: str) -> types.ModuleType:
    def run() -> types.ModuleType:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                # It exists, and an import inside it failed.
                raise
            raise InputError(
                field,
                f"there is no module {error.name!r:.200}; type the path of a .py file, install the "
                f"package, or start the program in the folder that holds it",
            ) from error

    return _guarded(run, field, name)


def _guarded(run: Callable[[], Any], field: str, module: str) -> Any:
    """Calls what runs a user's module: an exception becomes one line, output is bounded."""
    try:
        with _bounded_output():
            return run()
    except InputError as error:
        if error.field == field:
            raise
        raise _import_error(error, field, module) from error
    except (Exception, SystemExit) as error:
        raise _import_error(error, field, module) from error


def _import_error(error: BaseException, field: str, module: str) -> InputError:
    """What went wrong while a module was imported, and in which line."""
    frames = _frames(error)
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        frames.append((error.filename, error.lineno))
    own = [frame for frame in frames if frame[0] == module]
    where = module
    if own or frames:
        file, line = (own or frames)[-1]
        where = f"{file}, line {line}"
    message = f"{where}: {_words(error)}"
    if own and frames[-1] != own[-1]:
        message += f" (in {frames[-1][0]}, line {frames[-1][1]})"
    return InputError(field, f"{message}; {_remedy(error, module)}")


def _frames(error: BaseException) -> list[tuple[str, int | None]]:
    """File and line of each call that led to an error, but for those of the import machinery."""
    return [
        (frame.filename, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<frozen ")
    ]


def _words(error: BaseException) -> str:
    """An error as one line."""
    words = escape_control(" ".join(str(error).split()))
    return f"{type(error).__name__}: {words:.300}".rstrip(": ")


def _remedy(error: BaseException, module: str) -> str:
    if isinstance(error, SystemExit):
        return "a module that is imported must not end the program"
    if isinstance(error, ModuleNotFoundError) and error.name:
        beside = pathlib.Path(module).with_name(f"{error.name}.py")
        if module.endswith(".py") and beside.is_file():
            return (
                f"{beside.name} lies beside it: start the program in that folder, or make a "
                "package of both"
            )
        return f"install {error.name.partition('.')[0]}, or correct the import"
    return "correct the file"


def _no_such_name(parts: Reference, holder: Any, name: str) -> str:
    """What a module has in place of a name."""
    where = parts.module
    if isinstance(holder, types.ModuleType) and not parts.is_file:
        # Another module of that name may have been meant.
        file = getattr(holder, "__file__", None)
        where = f"{where} ({file})" if file else where
    own = (
        [
            key
            for key, value in vars(holder).items()
            if not key.startswith("_") and not isinstance(value, types.ModuleType)
        ]
        if hasattr(holder, "__dict__")
        else []
    )
    message = f"{where:.300} has no {name!r:.80}"
    near = difflib.get_close_matches(name[:80], own, n=1, cutoff=0.6)
    if near:
        return f"{message}; did you mean {near[0]}?"
    known = ", ".join(own[:8]) + (", ..." if len(own) > 8 else "")
    return f"{message}; " + (f"it has {known}" if known else "it defines nothing")


def _add_current_folder() -> None:
    """Lets modules of the current folder be imported, after all that is installed.

    The program that pip installs has its own folder in that place.
    """
    folder = os.getcwd()
    if "" not in sys.path and folder not in map(os.path.abspath, map(os.fspath, sys.path)):
        sys.path.append(folder)


# --- output ---------------------------------------------------------------------------------------


class _Bounded(io.TextIOBase):
    """A stream that passes on so many characters, and everything once `limit` is None."""

    def __init__(self, stream: TextIO):
        self.limit: int | None = _MOST_PRINTED
        self._stream = stream

    def write(self, text: str) -> int:
        if self.limit is None:
            return self._stream.write(text)
        self._stream.write(text[: self.limit])
        self.limit -= min(self.limit, len(text))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


@contextlib.contextmanager
def _bounded_output() -> Iterator[None]:
    """Bounds what is printed. A log handler may keep the stream: it is a plain one afterwards."""
    with contextlib.ExitStack() as stack:
        streams = []
        for redirect, stream in (
            (contextlib.redirect_stdout, sys.stdout),
            (contextlib.redirect_stderr, sys.stderr),
        ):
            if stream is None:
                continue
            bounded = _Bounded(stream)
            streams.append(bounded)
            stack.enter_context(redirect(bounded))
        try:
            yield
        finally:
            for bounded in streams:
                if bounded.limit == 0:
                    print(
                        "\n... (a module printed more while it was imported)", file=sys.__stderr__
                    )
                bounded.limit = None
