"""Replay: an update that was left out is repeated, and the first number that is not finite is named."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.learner.packing import gather_sequences
from ccpo_jax.learner.replay import STAGES, SavedBatch, load_batch, locate_nonfinite
from ccpo_jax.modes import replay
from ccpo_jax.train import Trainer
from ccpo_jax.train.build import build
from ccpo_jax.train.guards import NonFiniteUpdateError
from ccpo_jax.train.step import initial_state, train_step
from ccpo_jax.verifiers import VerifierPool
from tests.support.errors import raises_for
from tests.support.runs import brief_run, first_devices


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of one network that stopped in step 2, where a parameter was not finite."""
    workdir = tmp_path_factory.mktemp("stopped")

    def poison(metrics, batch):
        if trainer.step_count == 1:
            (params,) = trainer.state.params
            norm = params["final_norm"]
            trainer.state = trainer.state._replace(
                params=({**params, "final_norm": norm.at[3].set(jnp.nan)},)
            )

    options = {"workdir": workdir, "on_step": poison, "devices": first_devices(1)}
    with pytest.raises(NonFiniteUpdateError), Trainer(brief_run(3), **options) as trainer:
        trainer.train()
    (file,) = (workdir / "not_finite").iterdir()
    return file


@pytest.mark.usefixtures("one_device")
def test_a_poisoned_parameter_is_named(stopped, capsys):
    """The sampler's log-probs show it first; with sound ones the parameter is found by its name."""
    assert replay.main([str(stopped)]) == 1
    out = capsys.readouterr().out
    assert "step 2" in out and "checkpoint 2" in out and "note:" not in out
    assert "in: sampler log-prob" in out

    batch = load_batch(stopped)
    sound = [
        s._replace(advantage=1.0, old_logprobs=np.full_like(s.old_logprobs, -1.0))
        for s in batch.sequences
    ]
    mended = dataclasses.replace(batch, sequences=tuple(sound))
    with Trainer(brief_run(3), workdir=stopped.parents[1], devices=first_devices(1)) as trainer:
        replayed = replay.replay_update(trainer.run, trainer.state, mended, checkpoint_step=2)
    assert replayed.location is not None
    assert (replayed.location.stage, replayed.location.parameters) == ("parameter", ("final_norm",))
    assert "  parameter final_norm" in replay.report_lines(replayed)

    # Of several optimizer steps some may have been taken.
    assert replayed.exact
    twice = dataclasses.replace(trainer.run.update, epochs=2)
    run = dataclasses.replace(trainer.run, update=twice)
    assert not replay.replay_update(run, trainer.state, mended, checkpoint_step=2).exact


@pytest.fixture(scope="module")
def update():
    """(policy, parameters, optimizer state, sequences, update) of a first step."""
    run = build(brief_run(1, **{"data.heldout": 0}), devices=first_devices(1))
    state = initial_state(run)
    params, opt_state = jax.device_get((state.params[0], state.opt_state[0]))
    with VerifierPool(workers=1) as pool:
        rollouts = train_step(run, state, 0, pool).collected.rollouts
    advantage = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    sequences = gather_sequences(rollouts, advantage, (0, 1, 2), range(2))
    return run.team.agents[0].policy, params, opt_state, sequences, run.update


def located(update, change=lambda s: s, change_params=lambda p: p, **config):
    policy, params, opt_state, sequences, update_config = update
    changed = [change(s) if i == 5 else s for i, s in enumerate(sequences)]
    place = jax.tree.map(jnp.asarray, (change_params(params), opt_state))
    return locate_nonfinite(
        policy, *place, [changed], dataclasses.replace(update_config, **config)
    ), changed


def test_a_sound_update_has_nothing_to_name(update):
    assert located(update)[0] is None


def test_a_poisoned_advantage_or_log_prob_names_its_response(update):
    def broken_logprob(s):
        logprobs = s.old_logprobs.copy()
        logprobs[-1] = np.inf
        return s._replace(old_logprobs=logprobs)

    for change, stage in (
        (lambda s: s._replace(advantage=np.nan), "advantage"),
        (broken_logprob, "sampler log-prob"),
    ):
        location, sequences = located(update, change)
        assert location.stage == stage and location.sequences[0] is sequences[5]


def test_what_overflows_later_is_named_by_its_stage(update):
    def huge_norm(params):
        return {**params, "final_norm": np.full_like(params["final_norm"], 3e38)}

    location, _ = located(update, change_params=huge_norm)
    assert location.stage == "trainer log-prob" and location.sequences

    location, _ = located(update, lambda s: s._replace(advantage=3e38), temperature=1e-3)
    assert location.stage in ("loss", "gradient", "gradient norm")
    assert STAGES.index(location.stage) > STAGES.index("trainer log-prob")


def test_what_overflows_in_a_later_pass_is_found_there(update):
    optimizer = dataclasses.replace(update[4].optimizer, learning_rate=1e38)
    location, _ = located(update, optimizer=optimizer)
    assert location is None
    location, _ = located(update, optimizer=optimizer, epochs=2)
    assert (location.stage, location.mini_batch, location.epoch) == ("trainer log-prob", 0, 1)
    replayed = replay.Replayed(SavedBatch(1, (0,), ("p",), "", ()), 0, 0, True, location)
    assert any("pass 2" in line for line in replay.report_lines(replayed))


def test_mini_batches_are_cut_by_problem(update):
    sequences = tuple(update[3])
    batch = SavedBatch(1, (0, 1, 2), ("p/0", "p/1"), "", sequences)
    first, second = batch.mini_batches(2)
    assert {batch.problem_of(s) for s in first} == {"p/0"}
    assert {batch.problem_of(s) for s in second} == {"p/1"}
    assert batch.mini_batches(1) == [list(sequences)]


def test_files_that_are_none_are_refused(tmp_path, capsys):
    with raises_for("replay"):
        load_batch(tmp_path / "batch.npz")
    broken = tmp_path / "not_finite" / "step-1-agent-0.npz"
    broken.parent.mkdir()
    broken.write_bytes(b"PK nothing")
    with raises_for("replay"):
        load_batch(broken)
    assert replay.main([str(broken)]) == 2
    assert capsys.readouterr().err.startswith("error: replay: ")
