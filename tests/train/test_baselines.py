"""Which baseline a run takes, and which runs a baseline refuses."""

import numpy as np
import pytest

from ccpo_jax.config import AdvantageConfig, combine
from ccpo_jax.presets import load_preset
from ccpo_jax.train.advantage import Advantage
from ccpo_jax.train.baselines import check_baseline
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast


def config_of(**fields):
    return combine(load_preset("dyad:tiny"), fields)


CREDIT = np.array([[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]])
RULES = {
    "none": (Advantage("none"), CREDIT),
    "constant": (Advantage("constant"), CREDIT - 0.1),
    "constant .3": (Advantage("constant", delta=0.3), CREDIT - 0.3),
    "asymmetric": (
        Advantage("asymmetric"),
        CREDIT - np.array([[[0.5], [0.0], [1.0]]]) + 0.1,
    ),
    "batch_mean": (Advantage("batch_mean"), CREDIT - np.array([[[0.5], [0.75], [0.25]]])),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_subtracts_its_baseline(name):
    rule, expected = RULES[name]
    np.testing.assert_allclose(rule(CREDIT, None), expected, atol=1e-6)


@pytest.mark.parametrize(
    "baseline, field, changes",
    [
        ("batch_mean", "batch_size", {"batch_size": 1}),
        ("weighted", "batch_size", {"batch_size": 1}),
        ("constant", "advantage.baseline", {"loss.name": "reinforce_pp"}),
    ],
)
def test_a_baseline_without_effect_is_refused(baseline, field, changes):
    base = {"loss.name": "grpo", "loss.normalize": "length"}
    config = config_of(**base | changes)
    with raises_for(field):
        check_baseline(config, baseline)
    check_baseline(config_of(**base), baseline)


def test_the_former_name_is_read_with_one_note(capsys):
    for _ in range(2):
        assert AdvantageConfig(baseline="surprisal").baseline == "weighted"
    assert AdvantageConfig(baseline="weighted").baseline == "weighted"
    assert capsys.readouterr().err.count("weighted") <= 1
