"""Experiment trackers: Weights & Biases, trackio and MLflow, each a run that resumes as itself."""

import importlib
import math
import os
import pathlib
import re
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ccpo_jax.devices.distributed import print_main
from ccpo_jax.errors import InputError, escape_control, first_line
from ccpo_jax.workdir.atomic_write import write_atomically

# Parameters that MLflow takes in a call, and characters of one.
_MLFLOW_BATCH = 100
_MLFLOW_CHARACTERS = 500
# MLflow may keep a metric as a file, which cannot also be the folder of its interval.
_INTERVAL = re.compile(r"/(low|high)$")


class Tracker(Protocol):
    """A run of an experiment tracker."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Sends the metrics of a step."""

    def finish(self, *, failed: bool) -> None:
        """Ends the run; `failed`: an error has ended it."""


class Start(NamedTuple):
    """What a tracker's run begins with.

    Attributes:
      folder: of the run, where the tracker may keep files.
      project: under which it is listed.
      name: by which it is listed, the same whenever it resumes.
      run_id: by which the tracker knows it; "" = MLflow gives a new run its own.
      config: all fields of the run.
    """

    folder: pathlib.Path
    project: str
    name: str
    run_id: str
    config: Mapping[str, Any]


class Trackers:
    """The trackers of a run. One that fails is left out from then on, with one line.

    Args:
      names: keys of `TRACKERS`.
      folder: of the run; remembers by which name each tracker knows it.
      project: under which it is listed.
      config: all fields of the run.

    Raises:
      InputError: a package is missing, or a tracker cannot start.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: pathlib.Path,
        project: str,
        config: Mapping[str, Any] | None,
    ):
        self._open: dict[str, Tracker] = {}
        for name in names:
            start = Start(folder, project, folder.name, _run_id(folder, name), config or {})
            package = _load(name)
            try:
                self._open[name] = TRACKERS[name](package, start)
            except Exception as error:
                # Their types are the tracker's own: no account, no network, a full disk.
                raise InputError(
                    f"log.{name}",
                    f"it cannot start ({escape_control(first_line(error))}); mend that, or type "
                    f"--config.log.{name}=False",
                ) from error

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Sends the metrics of a step to all."""
        for name, tracker in list(self._open.items()):
            self._guard(name, lambda tracker=tracker: tracker.log(values, step))

    def finish(self, *, failed: bool) -> None:
        """Ends all runs."""
        for name, tracker in list(self._open.items()):
            self._guard(name, lambda tracker=tracker: tracker.finish(failed=failed))
        self._open.clear()

    def _guard(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            # A lost network must not end a training run.
            del self._open[name]
            print_main(
                f"\nwarning: {name} gets no more metrics ({escape_control(first_line(error))}); "
                "metrics.jsonl has them all",
                file=sys.stderr,
            )


def _load(name: str) -> Any:
    """The package of a tracker."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        # One that does not fit its own dependencies raises anything.
        problem = f"the {name} package cannot be loaded ({escape_control(first_line(error))})"
        action = "mend that"
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            problem = f"the {name} package is missing"
            action = f"type pip install {name}"
        raise InputError(f"log.{name}", f"{problem}; {action}, or leave log.{name} out") from error


def _run_id(folder: pathlib.Path, name: str) -> str:
    """By which a tracker knows this run, the same whenever it resumes; "" = MLflow's choice."""
    path = folder / f"{name}_id"
    if path.is_file() and (known := path.read_text(encoding="utf-8").strip()):
        return known
    if name == "mlflow":
        return ""
    new = uuid.uuid4().hex
    write_atomically(path, new + "\n")
    return new


class _Wandb:
    def __init__(self, package: Any, start: Start):
        self._run = package.init(
            project=start.project,
            name=start.name,
            dir=str(start.folder),
            id=os.environ.get("WANDB_RUN_ID") or start.run_id,
            resume="allow",
            config=dict(start.config),
            # A run that resumes may have other values in some fields.
            allow_val_change=True,
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class _Trackio:
    def __init__(self, package: Any, start: Start):
        self._run = package.init(
            project=start.project,
            # It knows a run by its name.
            name=f"{start.name}-{start.run_id[:8]}",
            resume="allow",
            config=dict(start.config),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, *, failed: bool) -> None:
        del failed
        self._run.finish()


class _Mlflow:
    """Logs through a client: nothing depends on an active run of the whole process."""

    def __init__(self, package: Any, start: Start):
        # A server that does not answer costs seconds, and not minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._package = package
        self._client = package.MlflowClient()
        self._run_id = start.run_id
        if self._run_id:
            self._client.update_run(self._run_id, status="RUNNING")
            return

        experiment = self._client.get_experiment_by_name(start.project)
        experiment_id = (
            self._client.create_experiment(start.project)
            if experiment is None
            else experiment.experiment_id
        )
        run = self._client.create_run(experiment_id, run_name=start.name)
        self._run_id = run.info.run_id
        write_atomically(start.folder / "mlflow_id", self._run_id + "\n")
        params = [
            package.entities.Param(name, str(value)[:_MLFLOW_CHARACTERS])
            for name, value in _flat(start.config).items()
        ]
        for first in range(0, len(params), _MLFLOW_BATCH):
            self._client.log_batch(self._run_id, params=params[first : first + _MLFLOW_BATCH])

    def log(self, values: Mapping[str, float], step: int) -> None:
        now = round(1000 * time.time())
        metrics = [
            self._package.entities.Metric(_INTERVAL.sub(r"_\1", name), value, now, step)
            for name, value in values.items()
            if math.isfinite(value)
        ]
        self._client.log_batch(self._run_id, metrics=metrics)

    def finish(self, *, failed: bool) -> None:
        self._client.set_terminated(self._run_id, "FAILED" if failed else "FINISHED")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


# Package, and field of the log section -> its run.
TRACKERS: dict[str, Callable[[Any, Start], Tracker]] = {
    "wandb": _Wandb,
    "trackio": _Trackio,
    "mlflow": _Mlflow,
}
