"""How a prediction adds up what compiled programs allow; the programs themselves are in test_gpu_programs.py."""

import types

import pytest

from experiments.bench import predict, workloads
from experiments.bench.predict import H200, Allowed

# A program whose loop, of unknown length, launches one kernel that moves 48 bytes.
LOOP = """
%turn (state: (s32[], f32[6])) -> (s32[], f32[6]) {
  %state = (s32[], f32[6]{0}) parameter(0)
  %x = f32[6]{0} get-tuple-element(%state), index=1
  %n = s32[] get-tuple-element(%state), index=0
  %negated = f32[6]{0} negate(%x)
  ROOT %next = (s32[], f32[6]{0}) tuple(%n, %negated)
}

ENTRY %main (state: (s32[], f32[6])) -> (s32[], f32[6]) {
  %state = (s32[], f32[6]{0}) parameter(0)
  ROOT %w = (s32[], f32[6]{0}) while(%state), condition=%less, body=%turn
}
"""
ONE = 48 / H200.copy_bytes_per_second
SIZES = "--prompts=3 --samples=8 --prompt_length=8 --response_length=16 --model=one_layer"


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """In the place of whatever is compiled."""
    program = types.SimpleNamespace(as_text=lambda: LOOP)
    monkeypatch.setattr(predict, "sampling_programs", lambda *_, **__: (program, program, None))
    monkeypatch.setattr(predict, "gradient", lambda *_: program)
    monkeypatch.setattr(predict, "compiled", lambda *_, **__: program)
    monkeypatch.setitem(workloads.SHAPES, "one_layer", (16, 1, 2, 1, 8, 32, 128, True))


def allowed(what: str) -> Allowed:
    return predict.allowed.__wrapped__(tuple(f"{what} {SIZES}".split()))


def test_a_rollout_takes_a_prefill_and_all_steps_but_the_first_token():
    found = allowed("rollout")
    assert found.prefill == pytest.approx(ONE) and found.decode == pytest.approx(15 * ONE)
    both = allowed("rollout --topology=dyad")
    assert both.prefill == pytest.approx(2 * ONE) and both.decode == pytest.approx(30 * ONE)


def test_learning_takes_every_micro_batch_with_its_own_pieces_and_one_step_of_the_optimizer():
    """A group fills one row of 136 of the 144 slots: two micro-batches, of two rows and of one, 128 response tokens."""
    found = allowed("train --pack_length=144 --micro_batch=2 --logits=64")
    assert found.learn == pytest.approx((128 / 32 + 128 / 64 + 1) * ONE)


def test_what_is_reached_stretches_each_kind_of_work(monkeypatch):
    monkeypatch.setattr(predict, "allowed", lambda _: Allowed(1.0, 2.0, 4.0, 3e12, 644e12))
    found = predict.predict([], predict.Reached(sampling=0.5, learning=0.8))
    assert (found["rollout"], found["update"], found["seconds"]) == pytest.approx((6, 5, 11))
    assert found["decode_copy_fraction"] == pytest.approx(0.2) and found[
        "matmul_fraction"
    ] == pytest.approx(0.2)
