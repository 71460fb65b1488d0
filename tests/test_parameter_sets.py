"""Counts behind models and numbers: who shares parameters, and what is refused."""

import pytest

from ccpo_jax.config import combine, parse
from ccpo_jax.counts import read_counts
from ccpo_jax.parameter_sets import ParameterSets, make_parameter_sets, names_per_set
from ccpo_jax.presets import load_preset
from ccpo_jax.rl.topology import voting
from ccpo_jax.rollout import Agent, Team
from ccpo_jax.train.team_chat import folder_names
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast

FIVE_FOUR = (tuple(range(5)), tuple(range(5, 9)))


def sets_of(models, num_agents, shared_policy=False):
    return make_parameter_sets(models, num_agents, shared_policy=shared_policy).agents


@pytest.mark.parametrize("models,num_agents,shared,expected", [
    (("a",), 3, False, ((0,), (1,), (2,))),
    (("a",), 3, True, ((0, 1, 2),)),
    (("a", "a", "a"), 3, False, ((0,), (1,), (2,))),
    (("a*3",), 3, False, ((0, 1, 2),)),
    (("a*5", "b*4"), 9, False, FIVE_FOUR),
    (("a * 2", "runs/a:1*2", "b"), 5, False, ((0, 1), (2, 3), (4,))),
    (("object:model 0*2", "object:model 0"), 3, False, ((0, 1), (2,))),
])  # fmt: skip
def test_counts_say_who_shares(models, num_agents, shared, expected):
    assert sets_of(models, num_agents, shared) == expected


@pytest.mark.parametrize("models,num_agents,shared,field,word", [
    (("a*5", "b*5"), 9, False, "model", "10 agents, the team has 9"),
    (("a*2",), 3, False, "model", "2 agents"),
    (("a*0", "b*3"), 3, False, "model", "a*0"),
    (("a*b",), 3, False, "model", "a*b"),
    (("3*a",), 3, False, "model", "tiny*5"),
    (("a*3",), 3, True, "shared_policy", "a*3"),
])  # fmt: skip
def test_counts_that_do_not_fit_are_refused_in_one_line(models, num_agents, shared, field, word):
    with raises_for(field) as error:
        sets_of(models, num_agents, shared)
    assert word in str(error.value) and "\n" not in str(error.value)


def test_a_path_with_a_star_is_a_path(tmp_path):
    folder = tmp_path / "net*5"
    folder.mkdir()
    assert [tuple(c) for c in read_counts((str(folder), f"{folder}*2"))] == [
        (str(folder), None), (str(folder), 2)
    ]  # fmt: skip


def test_other_lists_follow_the_sets():
    sets = ParameterSets(FIVE_FOUR)
    assert names_per_set(("a*5", "b*4"), sets) == ("a", "b") == names_per_set(("a", "b"), sets)
    assert names_per_set(("a",), sets) == ("a", "a")
    assert sets.per_set([1] * 5 + [2] * 4, "x", "rates") == (1, 2)
    for names in (("a*4", "b*5"), ("a*3", "b*3"), ("a", "b", "c")):
        with raises_for("loss.reference"):
            names_per_set(names, sets, "loss.reference")


def test_numbers_take_counts_too():
    fields = {"team.num_agents": 9, "model": ("tiny*5", "tiny*4")}
    typed = {"response_length": "18*5,22*4", "optimizer.learning_rate": "1e-3*5,2e-3*4"}
    config = parse(combine(load_preset("voting:tiny"), fields | typed))
    assert config.response_length == (18,) * 5 + (22,) * 4
    assert config.optimizer.learning_rate == (1e-3,) * 5 + (2e-3,) * 4
    for text in ("18*0", "18*", "18*-2", "18*2*2"):
        with raises_for("response_length"):
            combine(load_preset("voting:tiny"), {"response_length": text})


@pytest.mark.parametrize("sets,expected", [
    ((0, 0, 0), ["policy"]), ((0, 1, 2), ["agent_0", "agent_1", "agent_2"]),
    ((0, 0, 1), ["policy_0", "policy_1"]),
])  # fmt: skip
def test_an_export_has_a_folder_per_set(sets, expected):
    agents = [Agent(None, None, None, 8, parameter_set) for parameter_set in sets]
    assert folder_names(Team(voting(3), tuple(agents), 8)) == expected
