"""Which checkpoints of earlier runs a run started from, so that it resumes from the same ones."""

import json
import pathlib
from collections.abc import Mapping

from ccpo_jax.devices.distributed import is_main_process
from ccpo_jax.errors import InputError
from ccpo_jax.workdir import write_atomically

_FILE = "started_from.json"


def recorded_starts(workdir: str | None) -> dict[str, int]:
    """Workdir of an earlier run -> step of its checkpoint; {} where nothing is recorded.

    Args:
      workdir: of a run, of none yet, or None.

    Raises:
      InputError: the record is damaged.
    """
    path = pathlib.Path(workdir or "", _FILE)
    if workdir is None or not path.is_file():
        return {}
    try:
        steps = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): int(step) for name, step in steps.items()}
    except (OSError, ValueError, RecursionError, TypeError, AttributeError) as error:
        raise InputError("workdir", f"{path} is damaged; restore or remove it") from error


def keep_starts(workdir: str, steps: Mapping[str, int]) -> None:
    """Records where a run that begins starts from; the main process alone does."""
    if steps and is_main_process():
        write_atomically(pathlib.Path(workdir, _FILE), json.dumps(dict(steps), indent=1))
