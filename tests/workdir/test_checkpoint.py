"""Checkpoints: bitwise exact, asynchronous, the newest and the best kept, damage detected."""

import errno
import gc
import logging
import os
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from ccpo_jax.learner.update import TrainState
from ccpo_jax.rl.moments import init_moments
from ccpo_jax.rl.types import CCPOState
from ccpo_jax.rl.weighted_advantages import WeightedState, init_weighted
from ccpo_jax.workdir import Checkpoints
from tests.support.errors import raises_for

ADAM = optax.adamw(1e-3)

# Where an array cannot be read, orbax abandons the others in mid-read and each complains when it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


def state(seed: int = 0, width: int = 16) -> TrainState:
    def params(k):
        key = jax.random.key(k)
        return {
            "embed": jax.random.normal(key, (8, width)),
            "layers": {"q": jax.random.normal(key, (2, width, width))},
        }

    pair = (params(seed), params(seed + 100))
    moments = init_moments()._replace(mean=jnp.float32(0.1 + seed))
    return TrainState(
        jnp.int32(seed),
        pair,
        tuple(ADAM.init(p) for p in pair),
        CCPOState(moments, moments, moments),
        jax.random.key(seed),
    )


def raw(tree):
    return jax.tree.map(
        lambda x: np.asarray(
            jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        ),
        tree,
    )


def assert_identical(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, raw(one), raw(other))


def filled(folder, values, width: int = 16, **keep) -> None:
    with Checkpoints(folder, best_metric="score", **keep) as checkpoints:
        for step, value in enumerate(values, 1):
            checkpoints.save(
                step, state(step, width), metrics={} if value is None else {"score": value}
            )


def test_round_trip_is_bitwise_with_typed_keys_and_record_types(tmp_path):
    filled(tmp_path, [0.5])
    with Checkpoints(tmp_path) as checkpoints:
        step, restored = checkpoints.restore(state(7))
    assert (
        step == 1
        and isinstance(restored, TrainState)
        and isinstance(restored.credit_state, CCPOState)
    )
    assert_identical(restored, state(1))
    assert jax.random.key_impl(restored.key) == jax.random.key_impl(jax.random.key(0))


def test_stateless_credit_and_empty_tuples_survive(tmp_path):
    plain = state(1)._replace(credit_state=())
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, plain)
        checkpoints.wait()
        assert_identical(checkpoints.restore(plain)[1], plain)


class EarlierState(NamedTuple):
    """`TrainState` as it was before it had a field that is empty by default."""

    step: jax.Array
    params: tuple
    opt_state: tuple
    credit_state: CCPOState
    key: jax.Array


def test_a_field_that_is_empty_by_default_changes_no_checkpoint(tmp_path):
    current = state(3)
    earlier = EarlierState(*current[:5])
    assert current.drawn == ()

    with Checkpoints(tmp_path / "earlier") as checkpoints:
        checkpoints.save(3, earlier)
        _, restored = checkpoints.restore(state(7))
    assert_identical(restored, current)

    with Checkpoints(tmp_path / "current") as checkpoints:
        checkpoints.save(3, current)
        _, restored = checkpoints.restore(EarlierState(*state(7)[:5]))
    assert_identical(restored, earlier)


def test_a_carried_baseline_is_kept_bit_for_bit(tmp_path):
    sums = WeightedState(jnp.array([0.1, 2.7]), jnp.array([1.3, 0.0]))
    current = state(3)._replace(advantage_state=sums)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, current)
        fresh = state(7)._replace(advantage_state=init_weighted(2))
        assert_identical(checkpoints.restore(fresh)[1], current)


def test_newest_and_best_are_kept(tmp_path):
    filled(tmp_path, [0.1, 0.9, None, 0.3, 0.2, float("nan")], keep_last=2)
    with Checkpoints(tmp_path, keep_last=2, best_metric="score") as checkpoints:
        assert checkpoints.steps() == [2, 5, 6]
        assert (checkpoints.latest_step(), checkpoints.best_step()) == (6, 2)
        assert_identical(checkpoints.restore(state(), step=2)[1], state(2))


def test_metrics_may_become_known_after_the_save(tmp_path):
    with Checkpoints(tmp_path, best_metric="score") as checkpoints:
        checkpoints.save(1, state(1), metrics={"score": 0.5})
        checkpoints.save(2, state(2), metrics={"loss": float("nan")})
        assert checkpoints.best_step() == 1
        checkpoints.set_metrics(2, {"loss": 0.25, "score": 0.75})
        assert checkpoints.best_step() == 2
    with Checkpoints(tmp_path, best_metric="score") as checkpoints:
        assert checkpoints.best_step() == 2
        assert checkpoints.metrics(2) == {"loss": 0.25, "score": 0.75}
        assert_identical(checkpoints.restore(state())[1], state(2))


def test_best_of_equals_is_the_earlier_and_may_be_none(tmp_path):
    filled(tmp_path / "a", [0.3, 0.3, 0.1], keep_last=5)
    filled(tmp_path / "b", [None, None], keep_last=5)
    with (
        Checkpoints(tmp_path / "a", best_metric="score") as one,
        Checkpoints(tmp_path / "b", best_metric="score") as other,
    ):
        assert one.best_step() == 1 and other.best_step() is None and other.latest_step() == 2


def test_state_may_be_donated_right_after_saving(tmp_path):
    big = {"w": jnp.arange(1 << 20, dtype=jnp.float32)}
    expected = np.asarray(big["w"]).copy()
    spoil = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, big)
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), big)
        spoil(big)
        checkpoints.wait()
        np.testing.assert_array_equal(checkpoints.restore(like)[1]["w"], expected)


def test_restores_onto_another_sharding(tmp_path):
    def mesh(*shape):
        return jax.make_mesh(shape, ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

    value = np.arange(64, dtype=np.float32).reshape(8, 8)
    saved = jax.device_put(value, NamedSharding(mesh(8, 1), PartitionSpec("x")))
    target = NamedSharding(mesh(2, 4), PartitionSpec("y", "x"))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": saved})
        checkpoints.wait()
        restored = checkpoints.restore(
            {"w": jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=target)}
        )[1]["w"]
    assert restored.sharding == target
    np.testing.assert_array_equal(restored, value)


def test_a_save_under_way_is_waited_for(tmp_path):
    """A run asks for its best checkpoint right after its last save; the answer must not depend on the disk's speed."""
    big = {"w": jax.random.normal(jax.random.key(0), (1 << 22,))}
    with Checkpoints(tmp_path, best_metric="score") as checkpoints:
        checkpoints.save(1, big, metrics={"score": 0.1})
        checkpoints.save(2, big, metrics={"score": 0.9})
        assert checkpoints.best_step() == 2
        checkpoints.save(3, big, metrics={"score": 0.2})
        assert checkpoints.restore(big)[0] == 3


def test_what_a_killed_save_left_behind_is_no_checkpoint(tmp_path):
    filled(tmp_path, [0.1])
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [1]
        checkpoints.save(2, state(2))
        assert_identical(checkpoints.restore(state())[1], state(2))


def test_a_step_that_is_not_the_newest_is_an_error(tmp_path):
    filled(tmp_path, [0.1, 0.2])
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            with raises_for("step"):
                checkpoints.save(step, state(step))
        with raises_for("step") as error:
            checkpoints.restore(state(), step=9)
        assert "[1, 2]" in str(error.value)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def is_array(path):
    return path.parent.name == "d" and path.stat().st_size > 10_000


def change_a_metric(path):
    path.write_text(path.read_text().replace('"score": 0', '"score": 1'))


def is_record(path):
    return path.name == "record.json"


# Which files of a checkpoint, and what happens to them.
DAMAGES = {
    "all emptied": (lambda path: True, lambda path: path.write_bytes(b"")),
    "record cut": (is_record, cut),
    "record lost": (is_record, lambda path: path.unlink()),
    "a digit of a metric": (is_record, change_a_metric),
    "description cut": (lambda path: path.name == "_METADATA", cut),
    "arrays cut": (is_array, cut),
    "arrays lost": (is_array, lambda path: path.unlink()),
    "a bit of the arrays": (is_array, lambda path: flip(path, 8 * (path.stat().st_size // 2))),
}


def damage(folder, step, kind):
    chosen, act = DAMAGES[kind]
    files = [path for path in (folder / str(step)).rglob("*") if path.is_file() and chosen(path)]
    assert files
    for path in files:
        act(path)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_newest_falls_back_and_its_step_is_saved_again(tmp_path, caplog, kind):
    filled(tmp_path, [0.1, 0.2], width=64)
    with Checkpoints(tmp_path, best_metric="score") as checkpoints:
        checkpoints.save(3, state(3, width=64), metrics={"score": 0.9})
    for again in (30, 31):
        damage(tmp_path, 3, kind)
        with (
            caplog.at_level(logging.WARNING),
            Checkpoints(tmp_path, best_metric="score") as checkpoints,
        ):
            step, restored = checkpoints.restore(state(width=64))
            assert step == 2 and "checkpoint of step 3 is damaged" in caplog.text
            assert_identical(restored, state(2, width=64))
            assert (checkpoints.steps(), checkpoints.best_step()) == ([1, 2], 2)
            checkpoints.save(3, state(again, width=64), metrics={"score": 0.8})
            assert checkpoints.best_step() == 3
            assert_identical(checkpoints.restore(state(width=64))[1], state(again, width=64))
    assert {path.name for path in tmp_path.glob("damaged-*")} == {"damaged-3", "damaged-3-1"}


def test_a_full_device_is_not_taken_for_damage(tmp_path, monkeypatch):
    def full(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    filled(tmp_path, [0.1, 0.2])
    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, "restore", full)
        with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
            checkpoints.restore(state())
        assert checkpoints.steps() == [1, 2]


def test_nothing_readable_is_one_clear_error(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, raises_for("workdir"):
        checkpoints.restore(state())
    filled(tmp_path, [0.1])
    damage(tmp_path, 1, "description cut")
    with Checkpoints(tmp_path) as checkpoints, raises_for("workdir"):
        checkpoints.restore(state())


@pytest.mark.parametrize(
    "other,difference",
    [
        (state(0, width=8), ("embed", "float32[8, 16]", "float32[8, 8]")),
        (state(0)._replace(params=state(0).params[:1]), ("params.1.embed", "float32[8, 16]")),
        (state(0)._replace(step=jnp.float32(0)), ("step", "int32[]", "float32[]")),
    ],
    ids=["shape", "sets", "dtype"],
)
def test_another_model_is_an_error_and_not_a_fallback(tmp_path, other, difference):
    filled(tmp_path, [0.1, 0.2])
    with Checkpoints(tmp_path) as checkpoints, raises_for("workdir") as error:
        checkpoints.restore(other)
    assert all(part in str(error.value) for part in difference)
    assert not list(tmp_path.glob("damaged-*"))


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with raises_for("workdir"):
        Checkpoints(tmp_path / "file" / "checkpoints")


def test_a_save_that_fails_is_raised_and_not_logged(tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder)
    folder.rmdir()
    folder.write_text("")
    with pytest.raises(OSError, match="directory"):
        save_and_close(checkpoints)
    assert [record.message for record in caplog.records if record.exc_info] == []


def save_and_close(checkpoints):
    with checkpoints:
        checkpoints.save(1, state(0))


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("kind", ["file", "link to nowhere", "unreadable"])
def test_a_folder_that_cannot_be_read_is_not_an_empty_one(kind, read_only, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    if kind == "file":
        folder.write_text("")
    elif kind == "link to nowhere":
        folder.symlink_to(tmp_path / "gone" / "checkpoints")
    else:
        folder.mkdir()
        monkeypatch.setattr(os, "listdir", refuse)
    with raises_for("workdir") as error:
        Checkpoints(folder, read_only=read_only)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "gone").exists()


def refuse(path):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


BLOWS = {
    "flip": lambda content, at: (
        content[: at // 8] + bytes([content[at // 8] ^ 1 << at % 8]) + content[at // 8 + 1 :]
    ),
    "cut": lambda content, at: content[: at // 8],
    "zeros": lambda content, at: content[: at // 8] + bytes(len(content) - at // 8),
    "more": lambda content, at: content + content[at // 8 :],
    "text": lambda content, at: b"[" * 200_000,
    "lost": None,
}


def test_whatever_happens_to_a_file_nothing_wrong_is_restored(tmp_path, capfd):
    """A random blow to a random file of the newest checkpoint: what comes back is one of the two states saved."""
    filled(tmp_path / "whole", [0.1, 0.2])
    saved = {1: raw(state(1)), 2: raw(state(2))}
    files = sorted(path for path in (tmp_path / "whole" / "2").rglob("*") if path.is_file())

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(
        st.sampled_from(files), st.sampled_from(sorted(BLOWS)), st.floats(0, 1, exclude_max=True)
    )
    def strike(file, blow, place):
        shutil.rmtree(tmp_path / "hit", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "hit")
        target = tmp_path / "hit" / file.relative_to(tmp_path / "whole")
        content = target.read_bytes()
        if blow == "lost":
            target.unlink()
        elif content:
            target.write_bytes(BLOWS[blow](content, int(place * 8 * len(content))))
        with Checkpoints(tmp_path / "hit", best_metric="score") as checkpoints:
            step, restored = checkpoints.restore(state())
        jax.tree.map(np.testing.assert_array_equal, raw(restored), saved[step])
        seen.append(step)

    seen = []
    strike()
    assert {*seen} == {1, 2}
