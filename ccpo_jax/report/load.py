"""Reads what a run left in its folder."""

import inspect
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ccpo_jax.config import FORMER_BASELINES, flatten
from ccpo_jax.errors import InputError
from ccpo_jax.report.names import agent_names, set_names
from ccpo_jax.report.rollout_view import rollout_view
from ccpo_jax.rl.topology import TOPOLOGIES, Topology
from ccpo_jax.workdir import kept_inputs

# What reading damaged JSON of the wrong shape may raise.
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class RunData(NamedTuple):
    """The content of a run's folder."""

    name: str
    config: dict[str, Any]  # flat: credit.name, ...
    topology: Topology
    metrics: list[dict[str, Any]]  # lines of metrics.jsonl by step; at least one
    result: dict[str, Any]  # result.json: before, after; {} while the run is in progress
    rollouts: list[dict[str, Any]]  # see `rollout_view`
    damaged: int  # lines of rollouts.jsonl that could not be read

    @property
    def set_names(self) -> list[str]:
        """A name for each parameter set."""
        models = self.config.get("model")
        listed = [models] if isinstance(models, str) else models or ()
        try:
            shared = bool(self.config.get("shared_policy"))
            return set_names(self.topology, [str(name) for name in listed], shared_policy=shared)
        except _DAMAGE:
            return agent_names(self.topology)


def load_run(workdir: pathlib.Path) -> RunData:
    """Reads a run's files.

    Raises:
      InputError: ``workdir``: there is no run, it has no metrics yet, or its configuration or
        result is damaged; ``plugins``: one of them cannot be imported.
    """
    if not (workdir / "config.json").is_file() or not (workdir / "metrics.jsonl").is_file():
        raise InputError(
            "workdir", f"there is no run in {workdir}; type the folder of a training run"
        )
    metrics, _ = read_lines(workdir / "metrics.jsonl")
    if not metrics:
        raise InputError(
            "workdir", f"the run in {workdir} has no metrics yet; try again after its first step"
        )
    config = _read_config(workdir / "config.json")
    topology = _read_topology(workdir, config)
    result = _read_result(workdir / "result.json", metrics[-1]["step"])
    rollouts, damaged = _read_rollouts(workdir / "rollouts.jsonl", config, topology, metrics)
    return RunData(workdir.resolve().name, config, topology, metrics, result, rollouts, damaged)


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    """The flat configuration of a run."""
    try:
        return flatten(json.loads(path.read_text(encoding="utf-8")))
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _read_topology(workdir: pathlib.Path, config: Mapping[str, Any]) -> Topology:
    """The team that a configuration describes; it may be one that a plugin adds."""
    if plugins := config.get("plugins"):
        # Most runs have none, and need no networks here.
        from ccpo_jax.train.plugins import load_plugins

        with kept_inputs(str(workdir), prefer_copies=True):
            load_plugins(plugins)
    try:
        constructor = TOPOLOGIES[config["topology"]]
        arguments = {}
        for name in inspect.signature(constructor).parameters:
            # Runs before version 0.2 had these fields at the top level.
            value = config.get(f"team.{name}", config.get(name))
            if value is not None:
                arguments[name] = value
        return constructor(**arguments)
    except _DAMAGE as error:
        raise _damaged(workdir / "config.json", error) from error


def _read_result(path: pathlib.Path, last_step: int) -> dict[str, Any]:
    """The closing evaluations; {} where there are none, or where the run has continued since."""
    if not path.is_file():
        return {}
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        current = bool(result) and result["after"]["step"] >= last_step
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return result if current else {}


def _damaged(path: pathlib.Path, error: Exception) -> InputError:
    return InputError("workdir", f"{path} is damaged ({error!r:.80}); restore it")


def _read_rollouts(
    path: pathlib.Path,
    config: Mapping[str, Any],
    topology: Topology,
    metrics: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], int]:
    """``(views, damaged)``: the logged problems as the page shows them."""
    if not path.is_file():
        return [], 0
    metrics_of_step = {line["step"]: line for line in metrics}
    baseline = config.get("advantage.baseline")
    baseline = FORMER_BASELINES.get(str(baseline), baseline)
    records, damaged = read_lines(path)
    views = []
    for record in records:
        try:
            step_metrics = metrics_of_step.get(record["step"], {})
            views.append(rollout_view(topology, record, step_metrics, baseline))
        except _DAMAGE:
            damaged += 1
    return views, damaged


def read_lines(path: pathlib.Path) -> tuple[list[dict[str, Any]], int]:
    """``(objects, damaged)``: a file's lines that are objects of a step, and how many are not."""
    objects = []
    damaged = 0
    with path.open("rb") as file:
        for line in file:
            try:
                content = json.loads(line)
                step = content["step"]
                if type(step) is not int or not 0 <= step < 2**31:
                    raise ValueError(step)
                objects.append(content)
            except (ValueError, LookupError, TypeError, RecursionError):
                damaged += 1
    return sorted(objects, key=lambda content: content["step"]), damaged
