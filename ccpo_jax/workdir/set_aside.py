"""Keeps what a run would overwrite: results of steps that no checkpoint contains."""

import json
import pathlib
import time
from typing import NamedTuple

from ccpo_jax.workdir.atomic_write import write_atomically
from ccpo_jax.workdir.jsonl import later_lines
from ccpo_jax.workdir.workdir import make_free_folder

FOLDER = "set-aside"
_LINES = ("metrics.jsonl", "rollouts.jsonl")
_RESULT = "result.json"


class SetAside(NamedTuple):
    """What was kept.

    Attributes:
      folder: where it lies now.
      step: from which the run goes on.
      last_step: the last one that had results.
      names: of the files.
    """

    folder: pathlib.Path
    step: int
    last_step: int
    names: tuple[str, ...]

    @property
    def message(self) -> str:
        """What happened, as one line."""
        kept = f"they are kept in {self.folder} ({', '.join(self.names)})"
        if self.step:
            return (
                f"note: steps {self.step + 1} to {self.last_step} have results, but no checkpoint: "
                f"they are trained again; {kept}"
            )
        return (
            f"warning: {self.last_step} steps have results, but there is no checkpoint: training "
            f"begins anew; {kept}; to go on from a copy of checkpoints/ instead, stop this run and "
            "put that and these files back"
        )


def set_aside(workdir: str, step: int) -> SetAside | None:
    """Copies the lines of later steps, and a result made of them, into a folder of today's date.

    They are left by a run that was killed after its last checkpoint, and by one whose checkpoints
    were deleted, or not copied with it.

    Args:
      workdir: of a run.
      step: from which it goes on; 0 = from the beginning.

    Returns:
      None where nothing would be lost.

    Raises:
      OSError: the disk is full or cannot be written.
    """
    later = {name: later_lines(pathlib.Path(workdir, name), step) for name in _LINES}
    result = pathlib.Path(workdir, _RESULT)
    result_step = _step_of_result(result)
    last_step = max((line.step for lines in later.values() for line in lines), default=0)
    last_step = max(last_step, result_step)
    if last_step <= step:
        return None

    parent = pathlib.Path(workdir, FOLDER)
    parent.mkdir(exist_ok=True)
    folder = make_free_folder(parent / time.strftime("%Y%m%d-%H%M%S"))
    names = []
    for name, lines in later.items():
        if lines:
            write_atomically(folder / name, "".join(line.text for line in lines))
            names.append(name)
    if result_step > step:
        result.rename(folder / _RESULT)
        names.append(_RESULT)
    return SetAside(folder, step, last_step, tuple(names))


def _step_of_result(path: pathlib.Path) -> int:
    """The step that result.json is about; 0 where there is none that can be read."""
    try:
        step = json.loads(path.read_text(encoding="utf-8"))["after"]["step"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return 0
    return step if isinstance(step, int) else 0
