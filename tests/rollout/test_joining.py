"""Batches of rollouts joined and chosen from: every text stays with its problem, prompt and log-probs."""

import jax
import numpy as np

from ccpo_jax import Outcome
from ccpo_jax.learner.packing import gather_sequences
from ccpo_jax.rl.topology import dyad
from ccpo_jax.rollout.joining import join_outcomes, join_rollouts, select_outcome
from tests.support.stubs import CODEC, POLICY, markov_params
from tests.support.teams import prompt_text, small_rollout, team_of

SHORT = ["1+1", "7"]
LONG = ["what is 9-3", "3+4+5", "2+2+2"]


def test_joined_rollouts_are_those_of_their_batches_though_their_prompts_differ_in_width():
    team = team_of(dyad(), policy=POLICY, shared=True, max_tokens=6)
    weights = (markov_params(CODEC.vocab_size),)
    batches = [small_rollout(team, weights, batch, ablated=(0,)) for batch in (SHORT, LONG)]
    joined = join_rollouts(team, batches)

    widths = [batch.turns[0].prompts.prefix.shape[1] for batch in batches]
    assert widths[0] < widths[1] == joined.turns[0].prompts.prefix.shape[1]
    assert joined.decoded_tokens == sum(batch.decoded_tokens for batch in batches)
    # The last problem first: (batch, number within it) of what is chosen.
    chosen = joined.select_prompts([4, 0, 2])
    sources = [(1, 2), (0, 0), (1, 0)]
    for number, turn in enumerate(chosen.turns):
        for b, (batch, source) in enumerate(sources):
            of_batch = batches[batch].turns[number]
            assert turn.texts[b] == of_batch.texts[source]
            fields = zip(
                jax.tree.leaves(turn.samples), jax.tree.leaves(of_batch.samples), strict=True
            )
            for value, of_source in fields:
                np.testing.assert_array_equal(value[b], of_source[source])
            for row in range(sum(turn.samples_per_variant)):
                assert prompt_text(turn, b, row) == prompt_text(of_batch, source, row)

    # What is trained on holds no padding, so it does not depend on the width.
    advantage = np.arange(30, dtype=np.float32).reshape(2, 5, 3)
    trained = gather_sequences(joined, advantage, (0, 1), range(2, 5))
    alone = gather_sequences(batches[1], advantage[:, 2:], (0, 1), range(3))
    for sequence, other in zip(trained, alone, strict=True):
        assert jax.tree.all(jax.tree.map(np.array_equal, sequence[1:], other[1:]))


def test_outcomes_keep_the_axis_of_problems_apart_from_worlds_and_agents():
    def outcome(first: int) -> Outcome:
        """Two problems, three worlds, two samples and two agents; every number names its problem."""
        problem = np.arange(first, first + 2, dtype=np.float32)
        of_world = np.broadcast_to(problem[:, None], (3, 2, 2))
        of_agent = np.broadcast_to(problem[:, None, None], (3, 2, 2, 2))
        rated = np.broadcast_to(problem[:, None, None], (2, 2, 2, 2))
        surprisal = np.broadcast_to(problem[:, None], (2, 2, 2))
        mask = np.array([[True, True], [False, True], [True, False]])
        return Outcome(of_world, of_agent, of_agent.astype(int), mask, rated, surprisal, surprisal)

    chosen = select_outcome(join_outcomes([outcome(0), outcome(2)]), [3, 0])
    for name, value in chosen._asdict().items():
        if name == "agent_mask":
            assert value.shape == (3, 2)
        else:
            assert value.shape[1] == 2 and (value[:, 0] == 3).all() and (value[:, 1] == 0).all()
    without = outcome(0)._replace(shares=None, surprisal=None)
    assert join_outcomes([without, without]).shares is None
