"""Demonstrations: the prompts and tokens that a rollout would have if a team had said these texts."""

import dataclasses

import numpy as np
import pytest

from ccpo_jax.hf import load_tokenizer
from ccpo_jax.rl.topology import debate, dyad
from ccpo_jax.rollout import demonstrate
from ccpo_jax.train.sources import TINY
from tests.support.stubs import CODEC
from tests.support.teams import PROBLEMS, prompt_text, small_rollout, team_of, weights_of

END = CODEC.eos_ids[0]


def prompts_of(turn, samples):
    """Every prompt as ids, however it is padded."""
    rows = []
    for b in range(len(turn.prompts.prefix)):
        prefix = turn.prompts.prefix[b, : turn.prompts.prefix_length[b]]
        for g in samples:
            tail = turn.prompts.tail[b, g]
            start = tail.shape[-1] - turn.prompts.tail_length[b, g]
            rows.append([*prefix.tolist(), -1, *tail[start:].tolist()])
    return rows


def said_by(rollout, number):
    return [texts[:3] for texts in rollout.turns[number].texts]


@pytest.fixture(scope="module")
def rolled():
    """A dyad's rollout, in the factual world and in the one that masks the thinker."""
    team = team_of(dyad())
    return team, small_rollout(team, weights_of(team, 2), ablated=(0,))


def test_prompts_are_those_of_a_rollout_in_which_the_partner_said_this(rolled):
    team, rollout = rolled
    turns = demonstrate(team, PROBLEMS, {number: said_by(rollout, number) for number in (0, 1)})
    for number in (0, 1):
        expected = prompts_of(rollout.turns[number], range(3))
        assert prompts_of(turns[number], range(3)) == expected
    assert "hint: " in prompt_text(turns[1], 0, 0)


def test_a_role_whose_partner_has_no_demonstration_reads_the_masked_prompt(rolled):
    team, rollout = rolled
    turns = demonstrate(team, PROBLEMS, {1: said_by(rollout, 1)})
    assert list(turns) == [1]
    masked = rollout.turns[1].rows(1)
    expected = prompts_of(rollout.turns[1], range(masked.start, masked.stop))
    assert prompts_of(turns[1], range(3)) == expected
    assert "hint" not in prompt_text(turns[1], 0, 0)


def test_an_agent_that_speaks_twice_reads_its_own_demonstration():
    team = team_of(debate(2))
    rollout = small_rollout(team, weights_of(team, 2))
    texts = {number: said_by(rollout, number) for number in range(4)}
    turns = demonstrate(team, PROBLEMS, texts)
    for number in range(4):
        expected = prompts_of(rollout.turns[number], range(3))
        assert prompts_of(turns[number], range(3)) == expected


def test_a_response_is_the_text_and_an_end_token():
    """Of twelve tokens at most: one that leaves no room for the end is cut off, as in sampling."""
    team = team_of(dyad())
    texts = ["4", "a" * 11, "a" * 12, "b" * 13]
    turn = demonstrate(team, ["2+2"], {0: [texts]})[0]
    written = [
        turn.samples.tokens[0, g, : turn.samples.length[0, g]].tolist() for g in range(len(texts))
    ]
    ids = [CODEC.encode(text) for text in texts]
    assert written == [[*ids[0], END], [*ids[1], END], ids[2], ids[3][:12]]
    assert turn.samples.truncated[0].tolist() == [False, False, True, True]
    assert turn.texts == [["4", "a" * 11, "a" * 12, "b" * 12]]
    assert not np.any(turn.samples.logprobs)


def test_a_stop_string_ends_a_response_in_place_of_the_end_token():
    team = team_of(dyad())
    stopped = dataclasses.replace(team.agents[0], stop=(".",))
    team = dataclasses.replace(team, agents=(stopped, team.agents[1]))
    turns = demonstrate(team, ["2+2"], {0: [["a.b", "ab."]], 1: [["1", "2"]]})
    rows = [
        turns[0].samples.tokens[0, g, : turns[0].samples.length[0, g]].tolist() for g in range(2)
    ]
    assert rows == [CODEC.encode("a."), CODEC.encode("ab.")]
    # The stop string itself is no part of the message.
    assert "hint: a?" in prompt_text(turns[1], 0, 0)
    assert "hint: ab?" in prompt_text(turns[1], 0, 1)


def test_no_demonstration_holds_a_live_control_token():
    tokenizer = load_tokenizer(str(TINY))
    team = team_of(dyad(), codec=tokenizer, max_tokens=64)
    control = tokenizer.backend.decode([tokenizer.eos_ids[0]])
    turn = demonstrate(team, ["2+2"], {0: [[f"4{control}5"]]})[0]
    ids = turn.samples.tokens[0, 0, : turn.samples.length[0, 0]].tolist()
    assert not tokenizer.control_ids & set(ids[:-1])
    # The end is what the chat template writes behind an answer, and sampling stops there.
    assert ids[-1] == tokenizer.end_of_turn_id() and ids[-1] in tokenizer.eos_ids
