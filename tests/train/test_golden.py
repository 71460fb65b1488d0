"""Golden steps: what one training step of each tiny preset computes, value by value."""

import json
import pathlib

import jax
import numpy as np
import pytest

from ccpo_jax.presets import load_preset
from ccpo_jax.train.build import build
from ccpo_jax.train.step import initial_state, train_step
from ccpo_jax.verifiers import VerifierPool

GOLDEN = pathlib.Path(__file__).parent / "golden_steps.json"
EXACT = (
    "reward",
    "decoded_tokens",
    "response_length/0",
    "truncated/0",
    "correct/0",
    "update/trained_tokens/0",
)
PRESETS = ("dyad", "voting")


WHAT_TO_DO = """
A training step computes something else than it did: {field} is {value}, the golden value is {golden}.

If you meant to change names, layout or speed: your change also altered results. Bisect it; look at the order of
floating-point operations, the keys of random draws, and what is inside one jitted function.
If you meant to change results (another algorithm, another draw): say so in the commit message, and write new values with
    python -m tests.train.test_golden
"""


def step_of(preset: str) -> dict[str, float]:
    """Metrics of the first step, and the size of the change it made to each parameter set."""
    config = load_preset(f"{preset}:tiny")
    config.update_from_flattened_dict(
        {"batch_size": 4, "group_size": 4, "data.size": 300, "data.heldout": 16, "mesh.data": 1}
    )
    run = build(config, devices=jax.devices()[:1])
    state = initial_state(run)
    before = jax.device_get(state.params)
    with VerifierPool(workers=1) as pool:
        result = train_step(run, state, 0, pool)

    metrics = dict(result.metrics)
    after = jax.device_get(result.state.params)
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        metrics[f"change/{index}"] = distance(old, new)
    return {
        name: float(value)
        for name, value in sorted(metrics.items())
        if not name.startswith(("time/", "verifier/"))
    }


def distance(old, new) -> float:
    """Euclidean distance of two parameter sets."""
    squares = jax.tree.map(lambda a, b: float(np.sum(np.square(b - a, dtype=np.float64))), old, new)
    return sum(jax.tree.leaves(squares)) ** 0.5


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_computes_what_it_always_did(preset):
    golden = json.loads(GOLDEN.read_text())[preset]
    metrics = step_of(preset)
    for field in sorted(golden.keys() | metrics.keys()):
        value, expected = metrics.get(field, "absent"), golden.get(field, "absent")
        message = WHAT_TO_DO.format(field=field, value=value, golden=expected)
        assert field in metrics and field in golden, message
        if field in EXACT:
            assert value == expected, message
        # The gap is rounding noise, bounded in test_train.
        elif "logprob_gap" not in field:
            assert np.isclose(value, expected, rtol=1e-3, atol=1e-5), message


if __name__ == "__main__":
    values = {preset: step_of(preset) for preset in PRESETS}
    GOLDEN.write_text(json.dumps(values, indent=1) + "\n")
