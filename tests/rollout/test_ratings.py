"""Ratings: nine pairs of shares are read, everything else is even, counted, and cheap; raters read
what they should."""

import json
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccpo_jax.report.legend import meaning
from ccpo_jax.rl.topology import dyad
from ccpo_jax.rl.types import Outcome
from ccpo_jax.rollout import Agent, Rollout, Team, rate, rollout
from ccpo_jax.rollout import prompts as text
from ccpo_jax.rollout.collect import _VERDICT_TOKENS
from ccpo_jax.rollout.ratings import EVEN_SHARES, FAILURES, parse_rating
from ccpo_jax.train.rollouts import collect_ratings
from tests.support.stubs import CODEC, POLICY, markov_params
from tests.support.teams import PROBLEMS, ROLES, prompt_text

GOOD = '{"outcome": "right", "thinker": 0.3, "solver": 0.7}'


@pytest.mark.parametrize("tenths", range(1, 10))
def test_the_nine_pairs_of_shares(tenths):
    shares = (tenths / 10, (10 - tenths) / 10)
    for outcome in ("right", "wrong", "partial"):
        reply = json.dumps({"outcome": outcome, "thinker": shares[0], "solver": shares[1]})
        assert parse_rating(reply, outcome) == (shares, "")
        assert parse_rating(f"I think so: {reply} That is all.", outcome) == (shares, "")
        assert parse_rating(reply, "wrong" if outcome == "right" else "right") == (
            EVEN_SHARES,
            "wrong_outcome",
        )


HOSTILE = {
    "no_object": [
        "",
        "0.3 and 0.7",
        "{",
        "}",
        "}{",
        "{}}",
        GOOD[:-1],
        GOOD.replace('"', "'"),
        GOOD.replace(":", "="),
        GOOD.replace("0.3", "-"),
        GOOD.replace("0.3", "0.3.3"),
        "{" * 10_000,
        "}" * 10_000,
        "[" * 900 + GOOD[:-1],
        '{"outcome": "right", "thinker": 0.3, "thinker": 0.3, "solver": 0.7}',
        '{"a": ' + "[" * 900 + "]" * 80 + "}",
        "[0.3, 0.7]",
        GOOD + "{}}",
        "{" + GOOD[1:-1] + "\x00}",
    ],
    "no_split": [
        GOOD.replace("0.3", "0.4"),
        GOOD.replace("0.3", "0.25").replace("0.7", "0.75"),
        GOOD.replace("0.3", '"0.3"'),
        GOOD.replace("0.3", "0").replace("0.7", "1"),
        GOOD.replace("0.3", "0.0").replace("0.7", "1.0"),
        GOOD.replace("0.3", "NaN"),
        GOOD.replace("0.7", "Infinity"),
        GOOD.replace("0.3", "1e999"),
        GOOD.replace("0.3", "-0.3").replace("0.7", "1.3"),
        GOOD.replace("0.3", "true"),
        GOOD.replace("0.3", "null"),
        GOOD.replace("0.3", "3e-1000000"),
        GOOD.replace("0.3", "9" * 200),
        "{}",
        GOOD + "{}",
        GOOD.replace("0.3", "[0.3]"),
        '{"outcome": "right", "split": [0.3, 0.7]}',
        GOOD.replace("solver", "Solver"),
    ],
    "wrong_outcome": [
        GOOD.replace("right", "wrong"),
        GOOD.replace('"right"', "true"),
        GOOD.replace('"right"', '["right"]'),
        GOOD.replace("right", "RIGHT"),
        '{"thinker": 0.3, "solver": 0.7}',
    ],
}


@pytest.mark.parametrize(
    "failure, reply",
    [(name, reply) for name in HOSTILE for reply in HOSTILE[name]],
    ids=lambda x: repr(x[:30]),
)
def test_everything_else_is_even_and_says_why(failure, reply):
    assert parse_rating(reply, "right") == (EVEN_SHARES, failure)


def test_a_reply_costs_no_more_than_its_end():
    began = time.perf_counter()
    for long in ("{" * 10_000_000, '{"a":' * 2_000_000, "9" * 10_000_000, ("}" + "{") * 5_000_000):
        assert parse_rating(long + "}", "right")[0] == EVEN_SHARES
    assert parse_rating("{" * 1_000_000 + GOOD, "right") == ((0.3, 0.7), "")
    assert time.perf_counter() - began < 2


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from('{}[]":, .0123456789e-+rightwonsolvekut\\'), max_size=200))
def test_no_reply_breaks_the_parser(reply):
    shares, failure = parse_rating(reply, "right")
    assert failure in ("", *FAILURES) and sum(shares) == pytest.approx(1)
    if failure == "":
        found = json.loads(reply[reply.rindex("{") : reply.rindex("}") + 1])
        assert (found["thinker"], found["solver"]) == pytest.approx(shares)


# The stage after the verdict

RATERS = {
    "rate_thinker": text.RolePrompt(
        "r",
        "{problem}",
        {
            "thinker": "\nmine: {message}",
            "verdict": " so {message}",
            "solver": "\nyours: {message}",
        },
        "?",
    ),
    "rate_solver": text.RolePrompt(
        "q", "{problem}", {"": "\nheard: {message}", "verdict": " so {message}"}, "!"
    ),
}


def rating_team() -> Team:
    def agent(role, senders, speaker, most):
        return Agent(POLICY, CODEC, text.tokenize_role(CODEC, role, senders), most, speaker)

    agents = (agent(ROLES["thinker"], (), 0, 6), agent(ROLES["solver"], ("thinker",), 1, 6))
    senders = ("thinker", "solver", "verdict")
    raters = tuple(
        agent(RATERS[f"rate_{role}"], senders, k, 9) for k, role in enumerate(("thinker", "solver"))
    )
    return Team(dyad(), agents, 32, raters)


WEIGHTS = (markov_params(CODEC.vocab_size), markov_params(CODEC.vocab_size, seed=1))


def test_raters_read_problem_thought_answer_and_verdict():
    team, key = rating_team(), jax.random.key(5)
    team_rollout = rollout(team, WEIGHTS, PROBLEMS[:3], key, group_size=2, ablated=(0,))
    verdicts = [["right", "wrong"], ["wrong", "wrong"], ["right", "right"]]
    rated = rate(team, WEIGHTS, PROBLEMS[:3], team_rollout, verdicts, key)
    assert rated.turns is team_rollout.turns and len(rated.ratings) == 2
    for b, problem in enumerate(PROBLEMS[:3]):
        for g in range(2):
            thought, answer = (turn.texts[b][g] for turn in team_rollout.turns)
            mine, received = (prompt_text(turn, b, g) for turn in rated.ratings)
            assert mine == f"r{problem}\nmine: {thought}\nyours: {answer} so {verdicts[b][g]}?"
            assert (
                received == f"q{problem}\nheard: {thought}\nheard: {answer} so {verdicts[b][g]}"
            )  # no "!" in this codec
    tokens = sum(int(turn.samples.length.sum()) for turn in rated.ratings)
    assert (
        rated.decoded_tokens == team_rollout.decoded_tokens + tokens > team_rollout.decoded_tokens
    )
    assert [turn.samples.tokens.shape for turn in rated.ratings] == [(3, 2, 9)] * 2
    assert len(rated.first_prompts(2).ratings[0].texts) == 2
    first, second = (turn.samples.tokens.tolist() for turn in rated.ratings)
    assert first != second and first != team_rollout.turns[0].samples.tokens.tolist()


def test_ratings_become_shares_and_counts(monkeypatch):
    replies = {
        0: [
            [GOOD, GOOD.replace("right", "wrong")],
            ["no", '{"outcome": "wrong", "thinker": 0.9, "solver": 0.1}'],
        ],
        1: [["{}", GOOD], [GOOD, "{}"]],
    }

    def rated(team, weights, problems, team_rollout, words, key, **how):
        assert words == [["right", "right"], ["wrong", "wrong"]]
        turns = [turn._replace(texts=replies[k]) for k, turn in enumerate(team_rollout.turns)]
        return team_rollout._replace(ratings=tuple(turns))

    monkeypatch.setattr("ccpo_jax.train.rollouts.rate", rated)
    team = rating_team()
    team_rollout = rollout(team, WEIGHTS, PROBLEMS[:2], jax.random.key(5), group_size=2)
    reward = np.array([[[1.0, 1.0], [0.0, 0.0]]])
    result = Outcome(
        reward, np.zeros((1, 2, 2, 2)), np.zeros((1, 2, 2, 2), int), team_rollout.masks
    )
    team_rollout, result, metrics = collect_ratings(
        team, WEIGHTS, PROBLEMS[:2], team_rollout, result, jax.random.key(0)
    )
    expected = [
        [[[0.3, 0.7], EVEN_SHARES], [EVEN_SHARES, [0.9, 0.1]]],
        [[EVEN_SHARES, [0.3, 0.7]], [EVEN_SHARES, EVEN_SHARES]],
    ]
    np.testing.assert_allclose(result.shares, expected, rtol=1e-6)
    assert metrics["rating/parsed/0"] == 0.5 and metrics["rating/parsed/1"] == 0.25
    assert metrics["rating/no_object/0"] == 0.25 and metrics["rating/wrong_outcome/0"] == 0.25
    assert metrics["rating/no_split/1"] == 0.5 and metrics["rating/wrong_outcome/1"] == 0.25
    assert metrics["rating/thinker_if_right/0"] == pytest.approx(0.3)
    assert metrics["rating/thinker_if_wrong/0"] == pytest.approx(0.9)
    assert "rating/thinker_if_wrong/1" not in metrics


@pytest.mark.parametrize(
    "reward, word", [(0.0, "wrong"), (1.0, "right"), (0.3, "partial"), (0.9, "partial")]
)
def test_raters_are_told_what_is_partial(monkeypatch, reward, word):
    """Neither side of one half is right or wrong. The word fits into the room that a prompt has for it."""
    assert len(word) <= _VERDICT_TOKENS
    reply = GOOD.replace("right", word)

    def rated(team, weights, problems, team_rollout, words, key, **how):
        assert words == [[word]]
        return team_rollout._replace(ratings=(SimpleNamespace(texts=[[reply]]),) * 2)

    monkeypatch.setattr("ccpo_jax.train.rollouts.rate", rated)
    nothing = np.zeros((1, 1, 1, 2))
    result = Outcome(
        np.full((1, 1, 1), reward, np.float32), nothing, nothing, np.ones((1, 2), bool)
    )
    spoken = Rollout((), np.ones((1, 2), bool))
    _, result, metrics = collect_ratings(None, (), ["1+1"], spoken, result, jax.random.key(0))
    np.testing.assert_allclose(result.shares, np.full((2, 1, 1, 2), [0.3, 0.7]), rtol=1e-6)
    name = f"rating/thinker_if_{word}/0"
    assert metrics[name] == pytest.approx(0.3) and meaning(name)
