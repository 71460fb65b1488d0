"""What `--mode=sample` says about a problem: verdicts on answers alone, contributions, credit and advantage."""

import numpy as np
import pytest

from ccpo_jax.data import Problem
from ccpo_jax.modes.sample import answer_turns, problem_lines
from ccpo_jax.rl.topology import chain, debate, dyad, voting
from ccpo_jax.rl.types import Outcome
from ccpo_jax.train.rollouts import Collected
from ccpo_jax.train.step import Credited
from ccpo_jax.verifiers import Graded
from tests.support.teams import small_rollout, team_of, weights_of


def graded_texts(topology, rollouts, correct, parts) -> Graded:
    """Verdicts on the first problem's texts that agree with `correct`, ``[W, B, G, A]``."""
    scores = []
    for number, turn in enumerate(rollouts.turns):
        of_turn = [0.0] * len(turn.texts[0])
        for agent in [a for a, final in enumerate(topology.final_turns) if final == number]:
            for world in np.flatnonzero(rollouts.masks[:, agent]):
                for sample in range(correct.shape[2]):
                    row = turn.row_of_sample(world, sample, correct.shape[2])
                    of_turn[row] = max(of_turn[row], float(correct[world, 0, sample, agent]))
        scores += of_turn
    count = len(scores)
    columns = {name: [value] * count for name, value in parts.items()}
    return Graded(scores, [0] * count, [None] * count, [""] * count, None, {}, columns)


def lines_for(
    topology, reward, correct, credit, advantage, ablated, parts=None, thought="", gold="2"
):
    """What is printed about the first of two problems."""
    team = team_of(topology)
    rollouts = small_rollout(
        team, weights_of(team, topology.num_agents), ["1+1", "2+2"], ablated=ablated, group_size=2
    )
    uncut = []
    for turn in rollouts.turns:
        thoughts = [[thought for _ in of_prompt] for of_prompt in turn.texts]
        samples = turn.samples._replace(truncated=0 * turn.samples.length > 0)
        uncut.append(turn._replace(samples=samples, thoughts=thoughts))
    rollouts = rollouts._replace(turns=tuple(uncut))
    correct = np.array(correct, np.float32)
    graded = [graded_texts(topology, rollouts, correct, parts or {})] * 2
    outcome = Outcome(np.array(reward, np.float32), correct, correct.astype(int), rollouts.masks)
    problem = Problem("sums/0", "1+1", gold, "exact")
    collected = Collected([problem] * 2, rollouts, graded, outcome, {})
    known = np.ones(topology.num_agents, bool)
    credited = Credited(np.array(credit), np.array(advantage), known)
    return problem_lines(topology, problem, 0, collected, credited)


def test_a_dyad_shows_who_was_right_and_who_earned_what():
    reward = [[[0, 1], [0, 0]], [[0, 0], [0, 0]]]
    correct = np.zeros((2, 2, 2, 2))
    correct[0, 0, 1, 1] = 1
    # The Thinker's own text is right by chance; it is no answer.
    correct[0, 0, 0, 0] = 1
    credit = [[[-0.25, 0.75], [0, 0]], [[0.0, 1.0], [0, 0]]]
    advantage = [[[-0.5, 0.5], [0, 0]], [[-1.0, 1.0], [0, 0]]]
    lines = lines_for(dyad(), reward, correct, credit, advantage, ablated=(0,))

    assert "--- reference: 2" in lines and "--- reward: 0.50 over 2 samples" in lines
    assert "--- sample 0: the team's reward is 0.00" in lines
    assert "--- sample 1: the team's reward is 1.00" in lines
    assert "--- without agent 0: reward 0.00, a contribution of +1.00" in lines
    assert "--- agent 0, thinker: credit +0.750, advantage +0.500" in lines
    assert "--- agent 1, solver: credit +0.000, advantage -1.000" in lines

    thoughts = [line for line in lines if line.startswith("[agent 0")]
    assert len(thoughts) == 2 and all(line.startswith("[agent 0, thinker] ") for line in thoughts)
    verdicts = [line[:24] for line in lines if line.startswith("[agent 1")]
    wrong, right = "[agent 1, solver: wrong]", "[agent 1, solver: right]"
    assert verdicts == [wrong, wrong, right, wrong]


def test_a_fraction_shows_as_a_number_with_its_parts():
    correct = np.zeros((1, 2, 2, 2))
    correct[0, 0, :, 1] = [0.4, 0.9]
    nothing = np.zeros((2, 2, 2))
    parts = {"math": 0.0, "my.py:form\x1b[2J": 0.8, "length": None}
    lines = lines_for(dyad(), correct[..., 1], correct, nothing, nothing, (), parts, gold="")
    said = [line for line in lines if line.startswith("[agent 1")]
    shown = "(math 0.00, my.py:form\\x1b[2J 0.80, length nothing)] "
    assert said[0].startswith(f"[agent 1, solver: 0.40 {shown}")
    assert said[1].startswith(f"[agent 1, solver: 0.90 {shown}")
    assert "--- sample 0: the team's reward is 0.40" in lines
    assert "--- reference: none" in lines


def test_voters_all_answer_and_their_texts_stand_once():
    reward = np.zeros((4, 2, 2))
    correct = np.zeros((4, 2, 2, 3))
    correct[0, 0, 0, 2] = 1
    lines = lines_for(
        voting(3), reward, correct, np.zeros((3, 2, 2)), np.zeros((3, 2, 2)), ablated=(0, 1, 2)
    )
    texts = [line for line in lines if line.startswith("[")]
    assert len(texts) == 2 * 3
    assert sum(": right]" in line for line in texts) == 1
    assert sum("without agent" in line for line in lines) == 2 * 3


@pytest.mark.parametrize(
    "topology, present, expected",
    [
        (dyad(), (0, 1), {1}),
        (dyad(), (0,), {0}),
        (voting(3), (0, 2), {0, 2}),
        (chain(3), (0, 1), {1}),
        (debate(3), (0, 1, 2), {3, 4, 5}),
    ],
)
def test_answers_are_the_last_word_or_the_votes(topology, present, expected):
    mask = np.isin(np.arange(topology.num_agents), present)
    assert answer_turns(topology, mask) == expected


def test_a_thought_is_shown_before_what_is_said():
    zeros = np.zeros((2, 2, 2, 2))
    lines = lines_for(
        dyad(), zeros[..., 0], zeros, zeros[..., 0], zeros[..., 0], (0,), thought="is it 7?"
    )
    for number in [k for k, line in enumerate(lines) if line.startswith("[agent ")][::2]:
        assert lines[number].endswith(", thinks] is it 7?")
        assert lines[number + 1].startswith(lines[number].partition(", thinks]")[0])
    assert sum("thinks] is it 7?" in line for line in lines) == 6
    without = lines_for(dyad(), zeros[..., 0], zeros, zeros[..., 0], zeros[..., 0], (0,))
    assert without == [line for line in lines if "thinks]" not in line]
