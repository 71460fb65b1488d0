"""Teams of tables: every true contribution and advantage can be enumerated.

A team of tables speaks in the worlds, groups and K answers that `ccpo_jax.rollout` decodes, and
`rollout.outcome` judges it, so that estimators see what they see in training. What is true of it is
enumerated. The last word of every
turn is silence: no answer, and whoever reads it speaks as if nobody had been there.
"""

import itertools
import string
from typing import NamedTuple

import jax
import numpy as np

from ccpo_jax.rl.topology import Topology, agent_masks, team_reward, variants
from ccpo_jax.rl.types import Needs, Outcome, Samples
from ccpo_jax.rollout import Rollout, Turn, outcome
from ccpo_jax.sampler.decode_loop import Prompts

SPLITS = (
    np.stack([np.arange(1, 10), np.arange(9, 0, -1)], axis=1) / 10
)  # the nine ratings of `sepo`
REPLACEMENTS = ("none", "silent", "misleading")


class TabularTeam(NamedTuple):
    """A team on B prompts. M_t is the number of words of turn t."""

    topology: Topology
    tables: dict  # (turn, which of those it reads are there) -> [B, M of each that is there, M_t] probabilities
    right: tuple  # turn -> [B, M_t] how right each word is, as an answer
    label: tuple  # turn -> [B, M_t] its answer class, -1 = none
    wrong: tuple  # turn -> [B] the word of one who misleads
    lengths: tuple  # turn -> (factual, masked) tokens that a text takes
    raters: np.ndarray | None = (
        None  # [2, B, M_0, M_1, 9] how each agent of a dyad splits an outcome; None = no raters
    )

    @property
    def prompts(self) -> int:
        return len(self.right[0])


class Draw(NamedTuple):
    """R replicates of a group on each of B prompts, side by side: N = B * R, replicates of a prompt
    are neighbours.
    """

    outcome: Outcome  # fields [W, N, G(, A)]
    cells: tuple  # turn -> [N, n_t] which cell of its factual table each factual text is
    cost: float  # tokens decoded for one group


class Truth(NamedTuple):
    """What is true of a team. Tables are flat: C_t cells of the factual table of turn t."""

    reward: np.ndarray  # [B] E[R]
    contribution: np.ndarray  # [A, B] E[R] - E[R without k]
    advantage: tuple  # turn -> [B, C_t] E[R | what was read, and said] - E[R | what was read]
    gradient: tuple  # turn -> [B, C_t] of E[R], with respect to a logit per cell


def random_team(
    topology: Topology, *, prompts: int = 16, words: int = 4, seed: int = 0
) -> TabularTeam:
    """Word 0 is right, the last is silence, those between are wrong.

    Logits are normal; an agent is the less able the later it first speaks, and readers lean towards
    what they read, two units of a logit for each message. So a partner can help, and can mislead.
    """
    rng = np.random.default_rng(seed)
    tables, shape = {}, (prompts, words)
    for turn, reads in enumerate(topology.reads):
        base = rng.normal(0, 1, shape) + np.eye(words)[0] * (1.2 - 0.8 * topology.speakers[turn])
        base[:, -1] -= 1.5
        for there in itertools.product((False, True), repeat=len(reads)):
            logits = base.reshape((prompts,) + (1,) * sum(there) + (words,))
            for place in range(sum(there)):
                heard = np.eye(words) * (np.arange(words) < words - 1)
                logits = logits + 2.0 * heard.reshape(
                    (words,) + (1,) * (sum(there) - 1 - place) + (words,)
                )
            tables[turn, there] = softmax(
                np.broadcast_to(logits, (prompts,) + (words,) * (sum(there) + 1))
            )
    turns = range(len(topology.roles))
    right = np.broadcast_to(np.arange(words) == 0, shape).astype(np.float32)
    label = np.broadcast_to(np.where(np.arange(words) < words - 1, np.arange(words), -1), shape)
    pair = topology.num_agents == len(topology.roles) == 2 and topology.decision == "last"
    raters = softmax(rng.normal(0, 1, (2, prompts, words, words, len(SPLITS)))) if pair else None
    wrong, lengths = np.ones(prompts, int), (1.0, 1.0)
    return TabularTeam(
        topology, tables, *(tuple(x for _ in turns) for x in (right, label, wrong, lengths)), raters
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    weight = np.exp(logits - logits.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def replaced(team: TabularTeam, agent: int, how: str) -> TabularTeam:
    """The team with one agent that says nothing ("silent") or what misleads ("misleading") in all
    of its turns.

    Raises:
      ValueError: if there is no such agent or replacement.
    """
    if how not in REPLACEMENTS:
        raise ValueError(
            f"replace: {how!r} is unknown; use one of {', '.join(map(repr, REPLACEMENTS))}"
        )
    if not 0 <= agent < team.topology.num_agents:
        raise ValueError(
            f"agent: there is no agent {agent}; use 0 to {team.topology.num_agents - 1}"
        )
    if how == "none":
        return team
    tables = dict(team.tables)
    for (turn, there), table in team.tables.items():
        if team.topology.speakers[turn] == agent:
            words = table.shape[-1]
            word = np.full(team.prompts, words - 1) if how == "silent" else team.wrong[turn]
            said = np.eye(words)[word].reshape((team.prompts,) + (1,) * (table.ndim - 2) + (words,))
            tables[turn, there] = np.broadcast_to(said, table.shape)
    return team._replace(tables=tables)


def draw(
    team: TabularTeam,
    rng: np.random.Generator,
    *,
    replicates: int,
    group: int,
    needs: Needs = Needs(),  # noqa: B008 (frozen)
) -> Draw:
    """Lets the team answer every prompt in `replicates` groups, in the worlds and with the answers
    that `needs` asks.
    """
    topology, count = team.topology, team.prompts * replicates
    masks = agent_masks(topology.num_agents, needs.ablated)
    answers = needs.answers_per_text
    prompt = np.repeat(np.arange(team.prompts), replicates)[:, None]
    turns: list[Turn] = []
    words: list[np.ndarray] = []
    cells, cost = [], 0.0
    for t, reads in enumerate(topology.reads):
        worlds, variant = variants(topology, t, masks)
        counts = (group * answers**t if answers > 1 else group,) + (group,) * (len(worlds) - 1)
        said, likelihood = [], []
        for world, size in zip(worlds, counts, strict=True):
            there = tuple(bool(masks[world, topology.speakers[p]]) for p in reads)
            heard = [words[p][:, turns[p].row_of_sample(world, np.arange(size), size)]
                     for p, here in zip(reads, there, strict=True) if here]  # fmt: skip
            table = team.tables[t, there]
            said.append(_say(table[(prompt, *heard)], rng, (count, size)))
            likelihood.append(table[(prompt, *heard, said[-1])])
            if world == 0:
                place = np.ravel_multi_index((*(np.broadcast_to(x, said[0].shape) for x in heard), said[0]),
                                             table.shape[1:])  # fmt: skip
                cells.append(place)
        words.append(np.concatenate(said, axis=1))
        turns.append(_turn(np.concatenate(likelihood, axis=1), variant, counts))
        cost += counts[0] * team.lengths[t][0] + sum(counts[1:]) * team.lengths[t][1]
    verdicts = (
        [table[t][prompt, words[t]] for t in range(len(turns))]
        for table in (team.right, team.label)
    )
    result = outcome(topology, Rollout(tuple(turns), masks), *verdicts)
    if needs.ratings:
        odds = team.raters[:, prompt, words[0][:, :group], words[1][:, :group]]
        result = result._replace(
            shares=np.float32(SPLITS)[np.stack([_say(x, rng, (count, group)) for x in odds])]
        )
        cost += 2 * group
    return Draw(result, tuple(cells), cost)


def _say(probability: np.ndarray, rng: np.random.Generator, shape) -> np.ndarray:
    """A word for each of ``[N, n]`` draws from ``[N, n or 1, M]`` probabilities; none that has
    probability 0.
    """
    up_to = np.cumsum(probability, axis=-1)
    return (up_to <= rng.random(shape)[..., None] * up_to[..., -1:]).sum(-1)


def _turn(likelihood: np.ndarray, variant, counts) -> Turn:
    """What `outcome` and `Turn.row` look at: texts of one token, of which nobody asks what it
    is.
    """
    nothing, one = np.zeros((len(likelihood), 0), np.int32), np.ones(likelihood.shape, np.int32)
    samples = Samples(one[..., None], np.log(likelihood, dtype=np.float32)[..., None], one, one < 0)
    return Turn(Prompts(nothing, nothing, nothing, nothing), samples, [], variant, counts)


def truth(team: TabularTeam) -> Truth:
    """Enumerates everything that can be said."""
    topology = team.topology
    agents, turns = range(topology.num_agents), range(len(topology.roles))
    reward, lost = np.empty(team.prompts), np.empty((len(agents), team.prompts))
    advantage, gradient = ([[] for _ in turns] for _ in range(2))
    for b in range(team.prompts):  # one at a time: a pool's tables are large
        odds, won = _everything(team, b, (True,) * len(agents))
        reward[b] = (odds * won).sum()
        for k in agents:
            left, without = _everything(team, b, tuple(other != k for other in agents))
            lost[k, b] = (left * without).sum()
        for t, reads in enumerate(topology.reads):
            axes = string.ascii_letters[: len(turns)]
            own = "".join(axes[p] for p in (*reads, t))
            mass, value = (np.einsum(f"{axes}->{own}", x) for x in (odds, odds * won))
            before = mass.sum(-1, keepdims=True)
            usual = value.sum(-1, keepdims=True) / np.where(before > 0, before, 1)
            better = np.where(mass > 0, value / np.where(mass > 0, mass, 1) - usual, 0.0)
            better = np.where(np.abs(better) < 1e-12, 0.0, better)  # rounding is no advantage
            advantage[t].append(better.ravel())
            gradient[t].append((mass * better).ravel())
    return Truth(
        reward, reward - lost, tuple(map(np.stack, advantage)), tuple(map(np.stack, gradient))
    )


_team_reward = jax.jit(team_reward, static_argnums=0)


def _everything(team: TabularTeam, b: int, present) -> tuple[np.ndarray, np.ndarray]:
    """Probability and reward of all that can be said on prompt `b` if only `present` speak: an axis
    per turn spoken.
    """
    topology = team.topology
    turns = [t for t, speaker in enumerate(topology.speakers) if present[speaker]]
    if not turns:
        return np.ones(()), np.zeros(())
    letters = dict(zip(turns, string.ascii_letters, strict=False))
    parts, names = [], []
    for t in turns:
        there = tuple(bool(present[topology.speakers[p]]) for p in topology.reads[t])
        parts.append(team.tables[t, there][b])
        names.append("".join(letters[p] for p in topology.reads[t] if p in letters) + letters[t])
    odds = np.einsum(f"{','.join(names)}->{''.join(letters.values())}", *parts)
    right, label = np.zeros((*odds.shape, len(present))), np.full((*odds.shape, len(present)), -1)
    for k, t in enumerate(topology.final_turns):
        if present[k]:
            shape = tuple(-1 if other == t else 1 for other in turns)
            right[..., k], label[..., k] = (
                team.right[t][b].reshape(shape),
                team.label[t][b].reshape(shape),
            )
    flat = (x.reshape(1, -1, len(present)) for x in (right, label))
    won = _team_reward(topology, *flat, np.array([present]))
    return odds, np.asarray(won, np.float64).reshape(odds.shape)
