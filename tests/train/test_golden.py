"""Golden steps: what one training step of each tiny preset computes, value by value.

A change that alters results shows here first. `python -m tests.test_golden` writes the values anew.
"""

import importlib
import json
import pathlib

import jax
import numpy as np
import pytest

from ccpo_jax.train.build import build
from ccpo_jax.train.step import initial_state, train_step
from ccpo_jax.verifiers import VerifierPool
from tests.support.runs import first_devices

GOLDEN = pathlib.Path(__file__).parent / "golden_steps.json"
EXACT = (
    "reward",
    "decoded_tokens",
    "response_length/0",
    "truncated/0",
    "correct/0",
    "update/trained_tokens/0",
)
NAMES = ("dyad", "voting")


def step_of(name: str) -> dict[str, float]:
    """Metrics of the first step, and the size of the change it made to each parameter set."""
    config = importlib.import_module(f"configs.{name}").get_config("tiny")
    config.update_from_flattened_dict(
        {"batch_size": 4, "group_size": 4, "data.size": 300, "data.heldout": 16, "mesh.data": 1}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", first_devices(1))
        program = build(config)
    state = initial_state(program, config)
    before = jax.device_get(state.params)
    with VerifierPool(**config.verifier) as pool:
        after, metrics = train_step(program, config, state, pool)
    for index, (old, new) in enumerate(zip(before, jax.device_get(after.params), strict=True)):
        change = jax.tree.map(
            lambda a, b: float(np.sum(np.square(b - a, dtype=np.float64))), old, new
        )
        metrics[f"change/{index}"] = sum(jax.tree.leaves(change)) ** 0.5
    return {
        k: float(v) for k, v in sorted(metrics.items()) if not k.startswith(("time/", "verifier/"))
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_step_computes_what_it_always_did(name):
    expected, found = json.loads(GOLDEN.read_text())[name], step_of(name)
    assert found.keys() == expected.keys()
    for field, value in expected.items():
        if field in EXACT:
            assert found[field] == value, field
        elif "logprob_gap" not in field:  # rounding noise, bounded in test_train
            assert np.isclose(found[field], value, rtol=1e-3, atol=1e-5), (
                field,
                found[field],
                value,
            )


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: step_of(name) for name in NAMES}, indent=1) + "\n")
