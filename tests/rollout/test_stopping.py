"""Stop strings of a team: each role's own, and nothing that a prompt quotes takes part in them."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from ccpo_jax.learner.packing import gather_sequences
from ccpo_jax.learner.update import LossConfig, PackingConfig, UpdateConfig, update_params
from ccpo_jax.rl.topology import Topology, dyad, graph
from ccpo_jax.rollout import Team, rate
from ccpo_jax.rollout.prompts import RolePrompt, tokenize_role
from ccpo_jax.rollout.stopping import check_can_stop, stop_table
from tests.support.errors import raises_for
from tests.support.stubs import ALPHABET, CODEC, POLICY, markov_params
from tests.support.teams import (
    PROBLEMS,
    prompt_text,
    small_params,
    small_policy,
    small_rollout,
    team_of,
    weights_of,
)


def stopping(topology: Topology, *stops: tuple[str, ...], policy=POLICY, **options) -> Team:
    """A team whose turns have these stop strings."""
    team = team_of(topology, policy=policy, **options)
    agents = (
        dataclasses.replace(agent, stop=stop)
        for agent, stop in zip(team.agents, stops, strict=True)
    )
    return dataclasses.replace(team, agents=tuple(agents))


def played(team: Team, **options):
    weights = tuple(markov_params(CODEC.vocab_size, seed) for seed in range(len(team.agents)))
    return small_rollout(team, weights, group_size=6, **options)


def assert_cut(stopped, whole, stops) -> int:
    """Checks the texts of a turn against those without stop strings; returns how many were cut."""
    cut = 0
    for b, row in np.ndindex(whole.samples.length.shape):
        text = whole.texts[b][row]
        places = [text.find(stop) for stop in stops if stop in text]
        ids = stopped.samples.tokens[b, row, : stopped.samples.length[b, row]]
        if not places:
            assert stopped.texts[b][row] == text
            assert stopped.samples.truncated[b, row] == whole.samples.truncated[b, row]
            continue
        cut += 1
        assert stopped.texts[b][row] == text[: min(places)]
        assert any(CODEC.decode(ids).endswith(stop) for stop in stops)
        np.testing.assert_array_equal(ids, whole.samples.tokens[b, row, : len(ids)])
        assert not stopped.samples.truncated[b, row]
    return cut


def common_letters(turn, *, without="") -> str:
    """The two letters that stand in most responses."""
    counts = {
        letter: sum(letter in text for texts in turn.texts for text in texts)
        for letter in sorted(set(ALPHABET) - set(without))
    }
    return "".join(sorted(counts, key=lambda letter: -counts[letter])[:2])


@pytest.fixture(scope="module")
def whole():
    """A dyad without stop strings."""
    return played(team_of(dyad(), policy=POLICY))


def test_partners_read_what_stands_before_a_stop_string(whole):
    text = max((text for texts in whole.turns[0].texts for text in texts), key=len)
    # Two tokens each, and one.
    stops = (text[1:3], text[4:6], common_letters(whole.turns[0])[0])
    stopped = played(stopping(dyad(), stops, ()))
    assert assert_cut(stopped.turns[0], whole.turns[0], stops) > 3
    for b, texts in enumerate(stopped.turns[0].texts):
        for row, text in enumerate(texts):
            assert f"\nhint: {text}?" in prompt_text(stopped.turns[1], b, row)


def test_nothing_that_a_prompt_holds_takes_part_in_a_match(whole):
    """The words, the problem and the message hold the stop strings; the last letter of the prompt
    and the first of a response make up another one."""
    solver = whole.turns[1]
    quoted = [text for texts in whole.turns[0].texts for text in texts if len(text) > 1]
    firsts = {"?" + text[0] for texts in solver.texts for text in texts if text}
    stops = ("hint", "9-3", *(text[-2:] for text in quoted[:4]), *sorted(firsts))
    assert all(prompt_text(solver, b, 0).endswith("?") for b in range(len(PROBLEMS)))

    stopped = played(stopping(dyad(), (), stops))
    assert stopped.turns[0].texts == whole.turns[0].texts
    assert_cut(stopped.turns[1], solver, stops)
    # Each has two letters at least.
    length = stopped.turns[1].samples.length
    assert (length[solver.samples.length > 1] > 1).all()


def test_two_roles_of_a_stage_stop_each_at_its_own():
    topology = graph("thinker planner solver(0,1)")
    whole = played(team_of(topology, policy=POLICY))
    first = common_letters(whole.turns[0])
    second = common_letters(whole.turns[1], without=first)
    stopped = played(stopping(topology, tuple(first), tuple(second), ()))
    assert assert_cut(stopped.turns[0], whole.turns[0], first) > 3
    assert assert_cut(stopped.turns[1], whole.turns[1], second) > 3
    kept = [text for texts in stopped.turns[1].texts for text in texts]
    assert any(set(first) & set(text) for text in kept)


def test_a_rating_stops_too():
    team = stopping(dyad(), (), ())
    senders = ("thinker", "solver", "verdict")
    words = RolePrompt("r", "{problem}", "\nread: {message}", "?")
    template = tokenize_role(CODEC, words, senders)
    raters = tuple(dataclasses.replace(agent, template=template) for agent in team.agents)
    ratings = []
    for stop in ((), ("e",)):
        stopped = tuple(dataclasses.replace(rater, stop=stop) for rater in raters)
        both = dataclasses.replace(team, raters=stopped)
        rollouts = played(both)
        verdicts = [["right"] * 6] * len(PROBLEMS)
        weights = (markov_params(CODEC.vocab_size), markov_params(CODEC.vocab_size, 1))
        rated = rate(both, weights, PROBLEMS, rollouts, verdicts, jax.random.key(1))
        ratings.append(rated.ratings)
    for whole, stopped in zip(*ratings, strict=True):
        assert assert_cut(stopped, whole, ("e",)) > 3


def test_the_learner_reads_the_tokens_up_to_the_stop_with_the_samplers_log_probs():
    topology = dyad()
    team = stopping(topology, (), tuple("aeiou+-=13579"), policy=small_policy())
    rollout = small_rollout(team, weights_of(team, 2))
    turn = rollout.turns[1]
    stopped = ~turn.samples.truncated & (turn.samples.length > 1)
    assert stopped.sum() > 3

    batch = len(PROBLEMS)
    advantage = np.random.default_rng(0).normal(size=(2, batch, 3)).astype(np.float32)
    sequences = gather_sequences(rollout, advantage, [1], range(batch))
    lengths = [len(sequence.response) for sequence in sequences]
    assert lengths == turn.samples.length.ravel().tolist()
    config = UpdateConfig(LossConfig(), optax.sgd(1.0), PackingConfig(64, 8))
    params = small_params(1)
    _, _, metrics = update_params(
        team.agents[1].policy, params, config.optimizer.init(params), [sequences], config
    )
    assert metrics["trained_tokens"] == sum(lengths)
    assert metrics["logprob_gap_max"] < 1e-5


# --- what is refused ------------------------------------------------------------------------------


def test_a_stop_string_that_cannot_occur_is_refused():
    team = team_of(dyad(), policy=POLICY, max_tokens=3)
    check_can_stop(("abc",), team.agents, "sample.stop")
    for stop, words in (("a#b", "never occurs"), ("abcd", "takes 4 tokens, a response has 3")):
        with raises_for("sample.stop") as error:
            check_can_stop((stop,), team.agents, "sample.stop")
        assert words in str(error.value) and repr(stop) in str(error.value)
    # What one role can write is not refused because another one cannot.
    longer = dataclasses.replace(team.agents[1], max_tokens=4)
    check_can_stop(("abcd",), (team.agents[0], longer), "sample.stop")


def test_a_tokenizer_of_ones_own_has_to_say_what_its_tokens_spell():
    class Silent:
        pad_id, eos_ids = 0, (1,)

    agent = dataclasses.replace(
        team_of(dyad(), policy=POLICY).agents[0],
        tokenizer=Silent(),  # pyright: ignore[reportArgumentType]
    )
    assert stop_table(agent) is None
    with raises_for("model") as error:
        stop_table(dataclasses.replace(agent, stop=("x",)))
    assert "Silent" in str(error.value) and "token_bytes" in str(error.value)


@pytest.mark.parametrize("stops", [("ab", "ab"), ("b", "ab", "b")])
def test_the_same_stop_string_twice_changes_nothing(stops):
    team = stopping(dyad(), stops, ())
    once = stopping(dyad(), tuple(dict.fromkeys(stops)), ())
    np.testing.assert_array_equal(stop_table(team.agents[0]), stop_table(once.agents[0]))
