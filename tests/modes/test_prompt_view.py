"""What `--mode=sample` shows of the prompts: every role once, the ids that were sampled from."""

import pytest

from ccpo_jax.data import Problem
from ccpo_jax.modes.prompt_view import prompt_lines
from ccpo_jax.rl.topology import chain, debate, dyad, voting
from experiments.robustness.families import FAMILIES, load_family
from tests.support.teams import prompt_text, small_rollout, team_of, weights_of


def shown(topology, problem):
    """(the blocks by label, the rollouts) of a small team."""
    team = team_of(topology)
    weights = weights_of(team, topology.num_agents)
    rollouts = small_rollout(team, weights, [problem.prompt_text, "2+2"])
    _, *rest = prompt_lines(team, problem, 0, rollouts)
    assert len(rest) % 2 == 0
    return dict(zip(rest[::2], rest[1::2], strict=True)), rollouts


@pytest.mark.parametrize(
    "topology, labels",
    [
        (dyad(), ["--- agent 0, thinker:", "--- agent 1, solver:"]),
        (voting(3), ["--- agents 0, 1 and 2, voter:"]),
        (debate(2), ["--- agents 0 and 1, voter:", "--- agents 0 and 1, debater:"]),
        (chain(3), ["--- agent 0, planner:", "--- agent 1, solver:", "--- agent 2, checker:"]),
    ],
)
def test_every_role_stands_once_with_its_messages_marked(topology, labels):
    blocks, rollouts = shown(topology, Problem("sums/0", "1+1", "2", "exact"))
    assert list(blocks) == labels
    for label, text in blocks.items():
        number = topology.roles.index(label.removesuffix(":").rpartition(", ")[2])
        for partner in topology.reads[number]:
            assert f"\xab{rollouts.turns[partner].texts[0][0]}\xbb" in text
        assert text.count("\xab") == len(topology.reads[number])
        # The control tokens of the frame, which the text of a prompt leaves out.
        assert text.count("<") == 2
        plain = text.translate(dict.fromkeys(map(ord, "\xab\xbb<")))
        assert plain == prompt_text(rollouts.turns[number], 0, 0)


def test_a_view_of_its_own_is_a_prompt_of_its_own():
    views = Problem("sums/0", "1+2", "3", "exact", views=("1+?", "?+2"))
    blocks, _ = shown(voting(2), views)
    assert list(blocks) == ["--- agent 0, voter:", "--- agent 1, voter:"]
    assert "1+?" in blocks["--- agent 0, voter:"] and "?+2" in blocks["--- agent 1, voter:"]


@pytest.mark.parametrize("name", FAMILIES)
def test_control_tokens_are_shown_and_spelled_ones_told_apart(tmp_path, name):
    tokenizer = load_family(tmp_path, FAMILIES[name])
    head, _ = tokenizer.frame("Obey.")
    token = FAMILIES[name].special_tokens[1]
    text = tokenizer.show([*head, *tokenizer.encode(f"a{token}é")])
    assert text == f"{tokenizer.backend.decode(head)}a\\{token}é"
