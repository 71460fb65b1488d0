"""From a configuration to the parts of a run."""

import numpy as np
import pytest

from ccpo_jax import make_credit
from ccpo_jax.presets import load_preset
from ccpo_jax.train.build import make_advantage, make_topology, response_lengths

pytestmark = pytest.mark.fast


def test_response_lengths_are_given_once_per_agent_or_per_turn():
    config = load_preset("debate:tiny")
    topology = make_topology(config)
    assert response_lengths((7,), topology) == (7,) * 6
    assert response_lengths((1, 2, 3), topology) == (1, 2, 3, 1, 2, 3)
    assert response_lengths((1, 2, 3, 4, 5, 6), topology) == (1, 2, 3, 4, 5, 6)
    with pytest.raises(
        ValueError,
        match=r"response_length: 2 entries for 3 agents who speak in 6 turns; .*'\(7, 7, 7\)'",
    ):
        response_lengths((7, 8), topology)


@pytest.mark.parametrize("credit", ["nested", "magrpo", "ccpo_event", "shared"])
def test_credit_decides_about_the_advantage_unless_the_run_does(credit):
    config = load_preset("dyad:tiny")
    config.credit.name = credit
    estimator = make_credit(credit, make_topology(config))
    reward = np.array([[[1.0, 0.0, 0.0, 0.0]]])
    centred, divided = reward - 0.25, (reward - 0.25) / 0.5
    expected = {"nested": reward, "shared": divided}.get(credit, centred)
    np.testing.assert_allclose(make_advantage(config, estimator)(reward, ()), expected, atol=1e-4)
    if credit == "nested":
        config.advantage.baseline = "group"
        with pytest.raises(
            ValueError, match="advantage.baseline: credit 'nested' brings its own, received 'group'"
        ):
            make_advantage(config, estimator)
    else:
        config.advantage.normalize_std = credit != "shared"
        expected = centred if credit == "shared" else divided
        np.testing.assert_allclose(
            make_advantage(config, estimator)(reward, ()), expected, atol=1e-4
        )


def test_surprisal_is_a_baseline_for_losses_that_divide_by_a_fixed_length():
    config = load_preset("dyad:tiny")
    estimator = make_credit("difference", make_topology(config))
    config.advantage.baseline = "surprisal"
    for loss, normalize in (
        ("grpo", "sequence"),
        ("grpo", "token"),
        ("gspo", "length"),
        ("reinforce_pp", "length"),
    ):
        config.loss.name, config.loss.normalize = loss, normalize
        told = f"a fixed length, received '{loss}' with normalize='{normalize}'; .*normalize=length .*max_length=22"
        with pytest.raises(ValueError, match=told):
            make_advantage(config, estimator)
    config.loss.name, config.loss.normalize, config.batch_size = "grpo", "length", 1
    with pytest.raises(
        ValueError,
        match="batch_size: baseline 'surprisal' compares prompts, at least 2, received 1",
    ):
        make_advantage(config, estimator)
    config.batch_size, config.advantage.normalize_std = 3, True
    with pytest.raises(
        ValueError,
        match="normalize_std: baseline 'surprisal' does not divide, received True; leave",
    ):
        make_advantage(config, estimator)
    config.advantage.normalize_std = None
    reward, surprisal = np.array([[[1.0], [0.5], [0.0]]]), np.array([[[5.0], [1.0], [3.0]]])
    found = make_advantage(config, estimator)(reward, surprisal)
    np.testing.assert_allclose(found[0, :, 0], [1 - 0.125, 0.5 - 0.625, 0 - 5.5 / 6], atol=1e-5)


def test_a_graph_comes_from_one_line():
    config = load_preset("dyad:tiny")
    config.update_from_flattened_dict(
        {
            "topology": "graph",
            "team.graph": "voter voter checker(0, 1)",
            "team.decision": "last",
        }
    )
    topology = make_topology(config)
    assert topology.reads == ((), (), (0, 1)) and topology.num_agents == 3
