"""Plugins: files and modules of a user that add entries to the tables of the package.

They are imported before a configuration is checked, so that what they add passes the same checks as
the package's own entries.
"""

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ccpo_jax import config as table
from ccpo_jax import references
from ccpo_jax.config import Config
from ccpo_jax.data.hub_datasets import DATASETS, Source
from ccpo_jax.data.synthetic import TASKS, VIEWS
from ccpo_jax.errors import InputError
from ccpo_jax.models import FAMILIES, Family
from ccpo_jax.rl.credit import CREDITS
from ccpo_jax.rl.losses import LOSSES
from ccpo_jax.rl.topology import TOPOLOGIES
from ccpo_jax.rollout.prompts import RolePrompt
from ccpo_jax.rollout.role_prompts import PROMPTS
from ccpo_jax.train.guards import run_with_timeout
from ccpo_jax.verifiers import VERIFIERS, Verifier

# Names are typed in lists, and in paths such as synthetic/TASK.
_NAME = re.compile(r"\w[\w.-]*")


class Table(NamedTuple):
    """A table that a plugin may add to.

    Attributes:
      entries: the dict of the package.
      kind: what an entry is, for errors.
      is_entry: whether a value can be one.
    """

    entries: dict[str, Any]
    kind: str
    is_entry: Callable[[Any], bool]


def _is_verifier(entry: Any) -> bool:
    return isinstance(entry, Verifier) and all(map(callable, entry))


def _is_style(entry: Any) -> bool:
    return (
        isinstance(entry, Mapping)
        and bool(entry)
        and all(isinstance(words, RolePrompt) for words in entry.values())
    )


TABLES: dict[str, Table] = {
    "TOPOLOGIES": Table(TOPOLOGIES, "a function that returns a Topology", callable),
    "CREDITS": Table(CREDITS, "a function that returns a CreditEstimator", callable),
    "LOSSES": Table(LOSSES, "a function", callable),
    "VERIFIERS": Table(VERIFIERS, "a Verifier of five functions", _is_verifier),
    "DATASETS": Table(DATASETS, "a Source", lambda entry: isinstance(entry, Source)),
    "PROMPTS": Table(PROMPTS, "a dict of roles, each a RolePrompt", _is_style),
    "FAMILIES": Table(FAMILIES, "a Family", lambda entry: isinstance(entry, Family)),
    "TASKS": Table(TASKS, "a function", callable),
    "VIEWS": Table(VIEWS, "a function", callable),
}

# The tables whose entries take fields of the configuration, by the field that chooses one: the
# table, its names that the configuration knows, and the section of their fields.
_CHOSEN = {
    "topology": ("TOPOLOGIES", table.TOPOLOGIES, "team"),
    "credit.name": ("CREDITS", table.CREDITS, "credit"),
    "loss.name": ("LOSSES", table.LOSSES, "loss"),
}

# Reference -> table -> the names that it has added.
_ADDED: dict[str, dict[str, tuple[str, ...]]] = {}


def load_plugins(plugins: Sequence[str], *, time_limit: float = 0.0) -> None:
    """Imports plugins, each once per process, and checks what they add.

    Args:
      plugins: files and modules, see `references`.
      time_limit: seconds for each; 0 = no limit.

    Raises:
      InputError: one cannot be imported, adds nothing, replaces an entry that is there, or adds
        what cannot be an entry. Nothing of it is then left in the tables.
    """
    for plugin in plugins:
        _load(plugin, time_limit)
    _tell_configuration()


def combine(
    start: Any, changes: Mapping[str, Any], *, inherited: Mapping[str, Any] | None = None
) -> Config:
    """`config.combine`, with the plugins of the resulting configuration loaded.

    Which fields have an effect depends on what plugins have added.

    Raises:
      InputError: as `config.combine` and `load_plugins`.
    """
    made = table.combine(start, changes, inherited=inherited)
    load_plugins(made.plugins, time_limit=made.load_time_limit)
    return table.combine(start, changes, inherited=inherited)


def verifier_plugins(plugins: Sequence[str]) -> tuple[str, ...]:
    """Those that processes which check answers have to import: they add a verifier.

    The others stay out: most import jax, which takes a process seconds and memory.
    """
    return tuple(
        plugin
        for plugin in plugins
        # What is not known has been imported before it was a plugin.
        if _ADDED.get(_key(plugin), {"VERIFIERS": ()}).get("VERIFIERS") is not None
    )


@contextlib.contextmanager
def outside_errors(field: str, entry: str, known: bool) -> Iterator[None]:
    """Around a call of an entry: what one from outside raises is its author's mistake, in one line.

    Args:
      field: the configuration field that chose the entry.
      entry: its name.
      known: whether it is the package's own, whose errors keep their traceback.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if known:
            raise
        function = TABLES[_CHOSEN[field][0]].entries.get(entry)
        raise references.explain(error, field, entry, function) from error


# --- one plugin -----------------------------------------------------------------------------------


def _key(plugin: str) -> str:
    """What all references to one module have in common."""
    parts = references.split_reference(plugin)
    return references.real_path(parts.module) if parts.is_file else parts.module


def _load(plugin: str, time_limit: float) -> None:
    if references.split_reference(plugin).name:
        raise InputError(
            "plugins", f"received {plugin!r:.200}; type the file or module alone, without a name"
        )
    was_loaded = references.is_loaded(plugin)
    before = {name: dict(entry.entries) for name, entry in TABLES.items()}
    try:
        run_with_timeout(time_limit, "plugins", lambda: references.load_module(plugin, "plugins"))
        added = _check_tables(plugin, before)
        if not was_loaded:
            if not any(added.values()):
                raise InputError(
                    "plugins",
                    f"{plugin:.200} adds nothing to {', '.join(TABLES)}, so it has no effect; add "
                    "an entry to one of them, or leave it out",
                )
            _ADDED[_key(plugin)] = added
    except BaseException:
        for name, entries in before.items():
            TABLES[name].entries.clear()
            TABLES[name].entries.update(entries)
        if not was_loaded:
            references.forget(plugin)
        raise


def _check_tables(
    plugin: str, before: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[str, ...]]:
    """The names that a plugin has added to each table that it changed.

    Raises:
      InputError: it changed an entry that was there, or what it added cannot be one.
    """
    added = {}
    for table_name, (entries, kind, is_entry) in TABLES.items():
        for name, entry in before[table_name].items():
            if entries.get(name) is not entry:
                copy = references.imported_copy()
                if copy:
                    raise InputError(
                        "plugins",
                        f"{copy}.py runs twice and adds {name!r} to {table_name} twice: it is "
                        "named as a file, and another file imports it; type "
                        f"{copy} in place of {copy}.py",
                    )
                raise InputError(
                    "plugins",
                    f"{plugin:.200} replaces {name!r} of {table_name}, which is there already; "
                    "give its own entry another name",
                )
        new = [name for name in entries if name not in before[table_name]]
        for name in new:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise InputError(
                    "plugins",
                    f"{plugin:.200} adds {name!r:.80} to {table_name}; a name has letters, digits, "
                    "'_', '-' and '.' alone",
                )
            if not is_entry(entries[name]):
                raise InputError(
                    "plugins",
                    f"{plugin:.200} adds {name!r} to {table_name}, which is "
                    f"{entries[name]!r:.60}; it has to be {kind}",
                )
        if new:
            added[table_name] = tuple(new)
    return added


def _tell_configuration() -> None:
    """Lets the configuration know which fields the entries from outside take."""
    for chooser, (table_name, known, section) in _CHOSEN.items():
        fields = {
            name.rpartition(".")[2] for name in table.FIELDS if name.startswith(f"{section}.")
        }
        entries = TABLES[table_name].entries
        table.OUTSIDE[chooser] = {
            name: _taken(entry, fields) for name, entry in entries.items() if name not in known
        }


def _taken(function: Callable[..., Any], fields: set[str]) -> frozenset[str] | None:
    """The fields that a function takes; None = any, or it does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters) & fields
