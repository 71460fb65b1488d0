"""Conversations of a dataset count in full, and a template that cannot write one is refused early."""

import dataclasses

import pytest

from ccpo_jax.conversation import Conversation
from ccpo_jax.data import Dataset, Problem
from ccpo_jax.errors import InputError
from ccpo_jax.rl.topology import dyad, voting
from ccpo_jax.rollout import prompts
from ccpo_jax.train.load import fit_prompts
from tests.support.errors import raises_for
from tests.support.stubs import LetterCodec
from tests.support.teams import prompt_text, small_rollout, team_of, weights_of

HISTORY = (("system", "be brief"), ("user", "2+2"), ("assistant", "4"))


def problem(number: int = 0, **fields) -> Problem:
    return Problem(f"sums/{number}", "1+1", "2", "exact", **fields)


def fitting(team, length: int, *problems: Problem, overlong: str = "drop") -> list[str]:
    """The problems that fit a prompt length."""
    team = dataclasses.replace(team, prompt_length=length)
    return [p.id for p in fit_prompts(Dataset("set", problems, {}), team, overlong).problems]


def test_a_conversation_counts_with_all_its_turns():
    team = team_of(dyad())
    long = problem(1, history=HISTORY)
    solver = team.agents[1]
    needed = len(prompts.prefix(solver.template, solver.tokenizer, long.prompt_text_for(1)))
    needed += len(prompts.tail(solver.template, []))
    assert fitting(team, needed, problem(), long) == ["sums/0", "sums/1"]
    assert fitting(team, needed - 1, problem(), long) == ["sums/0"]


def test_endless_conversations_are_dropped_without_being_rendered():
    class Counting(LetterCodec):
        longest = 0

        def conversation_frame(self, system, speakers, *, has_system):
            self.longest = max(self.longest, len(speakers))
            return super().conversation_frame(system, speakers, has_system=has_system)

    codec = Counting()
    endless = problem(1, history=(("user", ""),) * 100_000)
    assert fitting(team_of(voting(2), codec=codec), 40, problem(), endless) == ["sums/0"]
    assert codec.longest == 0


@pytest.mark.parametrize("views", [(), ("1+?", "?+1")])
def test_agents_read_the_turns_before_the_question(views):
    team = dataclasses.replace(team_of(voting(2)), prompt_length=64)
    asked = problem(history=HISTORY, views=views)
    rollouts = small_rollout(team, weights_of(team, 2), [asked.prompt_text, "2+2"])
    for agent, turn in enumerate(rollouts.turns):
        question = views[agent] if views else "1+1"
        expected = f"vbe briefuser:2+2assistant:4user:{question}"
        assert prompt_text(turn, 0, 0) == expected and prompt_text(turn, 1, 0) == "v2+2"


def test_a_template_that_cannot_write_a_conversation_is_named_with_its_problem():
    class Alone(LetterCodec):
        def conversation_frame(self, system, speakers, *, has_system):
            raise InputError("model", f"its chat template does not write turns of {speakers}")

    team = team_of(voting(2), codec=Alone())
    with raises_for("model") as error:
        fitting(team, 64, problem(), problem(1, history=HISTORY), overlong="error")
    assert str(error.value).startswith("model: problem sums/1: its chat template")


def test_a_view_of_an_agent_keeps_the_turns():
    asked = problem(views=("1+?", "?+1"), history=HISTORY)
    assert asked.prompt_text == (Conversation(HISTORY, "1+?"), Conversation(HISTORY, "?+1"))
