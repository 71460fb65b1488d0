"""Whether a run that resumes has the problems that it was started with."""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence

from ccpo_jax.data import Problem
from ccpo_jax.devices.distributed import is_main_process
from ccpo_jax.errors import InputError
from ccpo_jax.train.load import Datasets
from ccpo_jax.workdir import report_change, write_atomically

_FILE = "problems.json"


def compare_problems(workdir: str, datasets: Datasets, *, allow_changes: bool) -> None:
    """Says that the training or held-out problems have changed since the run was started.

    Args:
      workdir: of a run, or of none yet.
      datasets: the problems now.
      allow_changes: True: a change is a note and no error.

    Raises:
      InputError: they have changed, or the record in the workdir is damaged.
    """
    path = pathlib.Path(workdir, _FILE)
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        same = all(_is_same(before[name], now) for name, now in _record(datasets).items())
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise InputError("workdir", f"{path} is damaged; restore or remove it") from error
    if same:
        return
    changed = f"the problems of {datasets.train.name:.200} have changed since this run was started"
    report_change(
        "data.train",
        changed,
        "the new ones",
        allow_changes=allow_changes,
        remedy="restore them, ",
    )


def keep_problems(workdir: str, datasets: Datasets) -> None:
    """Records which problems a run has; the main process alone does."""
    if is_main_process():
        write_atomically(pathlib.Path(workdir, _FILE), json.dumps(_record(datasets), indent=1))


def _record(datasets: Datasets) -> dict[str, dict[str, str]]:
    sets = {"train": datasets.train.problems, "heldout": datasets.heldout.problems}
    return {
        name: {"read": _read_by_agents(problems), "columns": _columns(problems)}
        for name, problems in sets.items()
    }


def _is_same(before: dict[str, str], now: dict[str, str]) -> bool:
    # Columns are kept where a function may read them; then and now differ in that by the reward.
    columns = before["columns"] == now["columns"] or "" in (before["columns"], now["columns"])
    return before["read"] == now["read"] and columns


def _read_by_agents(problems: Sequence[Problem]) -> str:
    """A digest of what agents and verifiers read, in this order."""
    return _digest(
        repr((p.question, p.views, p.history, p.options, p.gold, p.verifier)) for p in problems
    )


def _columns(problems: Sequence[Problem]) -> str:
    """A digest of all columns; "" where problems do not keep them."""
    if not any(problem.row for problem in problems):
        return ""
    return _digest(repr(dict(problem.row)) for problem in problems)


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
