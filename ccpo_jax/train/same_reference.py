"""Whether a run that resumes has the reference policies that it was started with."""

import json
import pathlib
from collections.abc import Sequence

from ccpo_jax.devices.distributed import is_main_process
from ccpo_jax.errors import InputError
from ccpo_jax.learner.reference import Reference
from ccpo_jax.workdir import report_change, write_atomically

_FILE = "reference.json"


def compare_references(
    workdir: str, references: Sequence[Reference], *, field: str, allow_changes: bool
) -> None:
    """Says that a reference has other parameters than when the run was started.

    References are not in checkpoints: a run that resumes loads them from where they came from.

    Args:
      workdir: of a run, or of none yet.
      references: those of every parameter set now; none = there is nothing to compare.
      field: that names where they come from, for errors.
      allow_changes: True: a change is a note and no error.

    Raises:
      InputError: one has changed, or the record in the workdir is damaged.
    """
    path = pathlib.Path(workdir, _FILE)
    if not references or not path.is_file():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        digests = [entry["digest"] for entry in before]
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise InputError("workdir", f"{path} is damaged; restore or remove it") from error
    now = [reference.digest for reference in references]
    if digests == now:
        return
    changed = next(
        (r.source for r, digest in zip(references, digests, strict=False) if r.digest != digest),
        references[0].source,
    )
    line = f"the reference {changed:.200} has other parameters than when this run was started"
    report_change(field, line, "the new one", allow_changes=allow_changes, remedy="restore it, ")


def keep_references(workdir: str, references: Sequence[Reference]) -> None:
    """Records which references a run has; the main process alone does."""
    if references and is_main_process():
        record = [{"source": r.source, "digest": r.digest} for r in references]
        write_atomically(pathlib.Path(workdir, _FILE), json.dumps(record, indent=1))
