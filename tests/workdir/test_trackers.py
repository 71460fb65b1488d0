"""Experiment trackers: one run across resumes, its configuration and its end; none ends training."""

import io
import math
import sys
import types

import pytest

from ccpo_jax.workdir.metrics import MetricsWriter
from tests.support.errors import raises_for

NAMES = ("wandb", "trackio", "mlflow")
CONFIG = {"seed": 3, "credit": {"name": "ccpo"}}


class Runs:
    """Packages of trackers that note what they get."""

    def __init__(self):
        self.begun = []
        self.metrics = []
        self.ended = []

    # wandb and trackio
    def init(self, **arguments):
        self.begun.append(arguments)
        return self

    def log(self, values, step):
        self.metrics.append((step, values))

    def finish(self, exit_code=0):
        self.ended.append(bool(exit_code))

    # mlflow
    def MlflowClient(self):
        return self

    def get_experiment_by_name(self, name):
        self.project = name

    def create_experiment(self, name):
        return "1"

    def create_run(self, experiment_id, run_name):
        self.begun.append({"id": "abc", "config": {}})
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="abc"))

    def update_run(self, run_id, status):
        self.begun.append({"id": run_id, "config": {}})

    def log_batch(self, run_id, metrics=(), params=()):
        self.begun[-1]["config"] |= {param[0]: param[1] for param in params}
        if metrics:
            values = {metric[0]: metric[1] for metric in metrics}
            self.metrics.append((metrics[0][3], values))

    def set_terminated(self, run_id, status):
        self.ended.append(status == "FAILED")

    entities = types.SimpleNamespace(
        Param=lambda *parts: parts,
        Metric=lambda *parts: parts,
    )


@pytest.fixture(params=NAMES)
def tracker(request, monkeypatch):
    runs = Runs()
    monkeypatch.setitem(sys.modules, request.param, runs)
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    runs.name = request.param
    return runs


def writer(folder, name, **options):
    folder.mkdir(exist_ok=True)
    return MetricsWriter(
        folder,
        total_steps=9,
        tensorboard=False,
        stream=io.StringIO(),
        trackers=(name,),
        config=CONFIG,
        **options,
    )


def test_a_resumed_run_is_the_same_run(tracker, tmp_path):
    for step in (0, 1):
        with writer(tmp_path / "a", tracker.name, resume_step=step) as out:
            out.write(step + 1, {"reward": 0.5})
    with writer(tmp_path / "b", tracker.name):
        pass
    assert tracker.metrics == [(1, {"reward": 0.5}), (2, {"reward": 0.5})]
    assert tracker.ended == [False] * 3
    known_by = "name" if tracker.name == "trackio" else "id"
    first, second, other = (run[known_by] for run in tracker.begun)
    assert first == second
    assert tracker.name == "mlflow" or other != first


def test_the_whole_configuration_is_sent(tracker, tmp_path):
    with writer(tmp_path / "a", tracker.name):
        pass
    flat = {"seed": "3", "credit.name": "ccpo"}
    assert tracker.begun[0]["config"] == (flat if tracker.name == "mlflow" else CONFIG)


def test_mlflow_gets_no_metric_within_another(tmp_path, monkeypatch):
    runs = Runs()
    monkeypatch.setitem(sys.modules, "mlflow", runs)
    with writer(tmp_path / "a", "mlflow") as out:
        out.write(0, {"eval/team_accuracy": 0.5, "eval/team_accuracy/low": 0.25, "x": math.nan})
    assert runs.metrics == [(0, {"eval/team_accuracy": 0.5, "eval/team_accuracy_low": 0.25})]


def test_a_run_that_an_error_ended_has_failed(tracker, tmp_path):
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), writer(tmp_path / "a", tracker.name):
            raise error
    # trackio knows no states.
    assert tracker.ended == [tracker.name != "trackio", False]


def test_a_tracker_that_fails_is_left_out_with_one_line(tracker, tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise ConnectionError("no route to host")

    with writer(tmp_path / "a", tracker.name) as out:
        monkeypatch.setattr(tracker, "log_batch" if tracker.name == "mlflow" else "log", broken)
        for step in range(3):
            out.write(step, {"reward": 0.5})
        assert len(out.lines()) == 3
    warning = capsys.readouterr().err
    assert warning.count(f"warning: {tracker.name} gets no more metrics (no route to host)") == 1


def test_a_tracker_that_cannot_start_says_so(tracker, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ConnectionError("no account")

    monkeypatch.setattr(tracker, "MlflowClient" if tracker.name == "mlflow" else "init", broken)
    with raises_for(f"log.{tracker.name}") as error:
        writer(tmp_path / "a", tracker.name)
    assert "no account" in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with raises_for(f"log.{name}") as error:
        writer(tmp_path / "a", name)
    assert f"pip install {name}" in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_package_that_cannot_be_loaded_says_why(name, tmp_path, monkeypatch):
    """Such as one whose own dependencies do not fit; installing it once more would not help."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / f"{name}.py").write_text("raise AttributeError('numpy has no attribute\\n float_')")
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)
    with raises_for(f"log.{name}") as error:
        writer(tmp_path / "a", name)
    assert "numpy has no attribute" in str(error.value) and "\n" not in str(error.value)
    assert "pip install" not in str(error.value)
