"""Teams of tables: every true contribution and advantage can be enumerated.

A team of tables produces the worlds, groups and K answers that `ccpo_jax.rollout` decodes, and
`rollout.outcome` judges it, so that estimators see what they see in training. The last word of
every turn is silence: it is no answer, and whoever reads it speaks as if nobody had been there.
"""

import itertools
import string
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ccpo_jax.errors import InputError
from ccpo_jax.rl.topology import Topology, agent_masks, team_reward, variants
from ccpo_jax.rl.types import Needs, Outcome, Samples
from ccpo_jax.rollout import Rollout, Turn, outcome
from ccpo_jax.sampler.decode_loop import Prompts

# The nine ratings of `sepo`: how each splits an outcome between the two agents of a dyad.
_TENTHS = np.arange(1, 10)
SPLITS = np.stack([_TENTHS, 10 - _TENTHS], axis=1) / 10

REPLACEMENTS = ("none", "silent", "misleading")

# name -> what is added to the logit of the right word: for agent 0, for every other agent
SKILLS = {"equal": (0.4, 0.4), "uneven": (2.0, -0.4)}

# Advantages below this are rounding errors.
_ROUNDING = 1e-12


class TabularTeam(NamedTuple):
    """A team on B prompts, in which turn t has a vocabulary of M_t words and speaks one.

    Attributes:
      topology: who reads whom, and how the team decides.
      tables: (turn, which of the turns that it reads are present) -> ``[B, M of each present turn,
        M_t]`` probabilities of its words.
      right: turn -> ``[B, M_t]`` how right each word is as an answer, in [0, 1].
      label: turn -> ``[B, M_t]`` class of each word as an answer, -1 for none.
      wrong: turn -> ``[B]`` the word that a misleading agent says.
      lengths: turn -> (factual, masked) tokens of a text.
      raters: ``[2, B, M_0, M_1, 9]`` probabilities with which each agent of a dyad gives each of
        `SPLITS`; None without ratings.
    """

    topology: Topology
    tables: dict[tuple[int, tuple[bool, ...]], np.ndarray]
    right: tuple[np.ndarray, ...]
    label: tuple[np.ndarray, ...]
    wrong: tuple[np.ndarray, ...]
    lengths: tuple[tuple[float, float], ...]
    raters: np.ndarray | None = None

    @property
    def prompts(self) -> int:
        return len(self.right[0])


class Draw(NamedTuple):
    """R groups on each of B prompts; the N = B * R groups lie prompt by prompt.

    Attributes:
      outcome: fields ``[W, N, G(, A)]``.
      rollouts: from which it was computed.
      cells: turn -> ``[N, n_t]`` the cell of its factual table that each factual text is.
      cost: tokens decoded for one group.
    """

    outcome: Outcome
    rollouts: Rollout
    cells: tuple[np.ndarray, ...]
    cost: float


class Truth(NamedTuple):
    """What is true of a team. Tables are flat: turn t has C_t cells.

    Attributes:
      reward: ``[B]`` E[R].
      contribution: ``[A, B]`` E[R] - E[R without the agent].
      advantage: turn -> ``[B, C_t]`` E[R | what was read and said] - E[R | what was read].
      gradient: turn -> ``[B, C_t]`` of E[R] with respect to one logit per cell.
      contributions: ``[E, A, B]`` independent estimates whose mean is `contribution`; None where it
        is exact.
      gradients: turn -> ``[E, B, C_t]`` likewise.
    """

    reward: np.ndarray
    contribution: np.ndarray
    advantage: tuple[np.ndarray, ...]
    gradient: tuple[np.ndarray, ...]
    contributions: np.ndarray | None = None
    gradients: tuple[np.ndarray, ...] | None = None


# --- making teams ---


def random_team(
    topology: Topology,
    *,
    prompts: int = 16,
    words: int = 4,
    seed: int = 0,
    skills: str = "equal",
) -> TabularTeam:
    """A team whose word 0 is right, whose last word is silence, and whose other words are wrong.

    Logits are normal. Readers lean towards what they read, two units of a logit for each message,
    so a partner can help and can mislead.

    Args:
      topology: the team.
      prompts: B.
      words: M, of every turn.
      seed: decides the tables.
      skills: a key of `SKILLS`: what is added to the logit of the right word. With "equal" the
        agents differ by chance alone, whatever their number.

    Raises:
      InputError: `skills` is unknown.
    """
    if skills not in SKILLS:
        message = f"{skills!r:.80} is unknown; use one of {', '.join(SKILLS)}"
        raise InputError("skills", message)
    strongest, other = SKILLS[skills]

    rng = np.random.default_rng(seed)
    shape = (prompts, words)
    tables = {}
    for turn, reads in enumerate(topology.reads):
        skill = strongest if topology.speakers[turn] == 0 else other
        base = rng.normal(0, 1, shape) + skill * np.eye(words)[0]
        base[:, -1] -= 1.5
        for present in itertools.product((False, True), repeat=len(reads)):
            tables[turn, present] = softmax(_leaning(base, sum(present)))

    num_turns = len(topology.roles)
    word = np.arange(words)
    right = np.broadcast_to(word == 0, shape).astype(np.float32)
    label = np.broadcast_to(np.where(word < words - 1, word, -1), shape)

    is_dyad = topology.num_agents == num_turns == 2 and topology.decision == "last"
    raters = None
    if is_dyad:
        raters = softmax(rng.normal(0, 1, (2, prompts, words, words, len(SPLITS))))
    return TabularTeam(
        topology,
        tables,
        right=(right,) * num_turns,
        label=(label,) * num_turns,
        wrong=(np.ones(prompts, int),) * num_turns,
        lengths=((1.0, 1.0),) * num_turns,
        raters=raters,
    )


def _leaning(base: np.ndarray, num_read: int) -> np.ndarray:
    """``[B, M, ..., M]`` logits of a reader of `num_read` words, from ``[B, M]`` without any."""
    prompts, words = base.shape
    is_heard = np.arange(words) < words - 1
    lean = 2.0 * np.eye(words) * is_heard

    logits = base.reshape((prompts,) + (1,) * num_read + (words,))
    for place in range(num_read):
        others = (1,) * (num_read - 1 - place)
        logits = logits + lean.reshape((words, *others, words))
    return np.broadcast_to(logits, (prompts,) + (words,) * (num_read + 1))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    weight = np.exp(logits - logits.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def replaced(team: TabularTeam, agent: int, how: str) -> TabularTeam:
    """The team with one agent replaced in all of its turns.

    Args:
      team: the team as it is.
      agent: who is replaced.
      how: "silent", by one that says nothing; "misleading", by one that says what misleads; "none",
        by itself.

    Raises:
      ValueError: if there is no such agent or replacement.
    """
    num_agents = team.topology.num_agents
    if how not in REPLACEMENTS:
        known = ", ".join(map(repr, REPLACEMENTS))
        raise ValueError(f"replace: {how!r} is unknown; use one of {known}")
    if not 0 <= agent < num_agents:
        raise ValueError(f"agent: there is no agent {agent}; use 0 to {num_agents - 1}")
    if how == "none":
        return team

    tables = dict(team.tables)
    for (turn, present), table in team.tables.items():
        if team.topology.speakers[turn] != agent:
            continue
        words = table.shape[-1]
        silence = np.full(team.prompts, words - 1)
        word = silence if how == "silent" else team.wrong[turn]
        certain = np.eye(words)[word]
        certain = certain.reshape((team.prompts,) + (1,) * (table.ndim - 2) + (words,))
        tables[turn, present] = np.broadcast_to(certain, table.shape)
    return team._replace(tables=tables)


# --- drawing ---


def draw(
    team: TabularTeam,
    rng: np.random.Generator,
    *,
    replicates: int,
    group: int,
    needs: Needs = Needs(),  # noqa: B008 (frozen)
) -> Draw:
    """Lets the team answer every prompt in `replicates` groups.

    Args:
      team: who answers.
      rng: decides all words.
      replicates: R, groups per prompt.
      group: G, samples per group.
      needs: the worlds, answers per text and ratings that an estimator asks for.
    """
    topology = team.topology
    count = team.prompts * replicates
    masks = agent_masks(topology.num_agents, needs.ablated)
    prompt = np.repeat(np.arange(team.prompts), replicates)[:, None]

    turns: list[Turn] = []
    words: list[np.ndarray] = []
    cells: list[np.ndarray] = []
    cost = 0.0
    for turn, reads in enumerate(topology.reads):
        worlds, variant = variants(topology, turn, masks)
        factual = group * needs.answers_per_text**turn
        counts = (factual, *(group for _ in worlds[1:]))

        said: list[np.ndarray] = []
        likelihood: list[np.ndarray] = []
        collision: list[np.ndarray] = []
        for world, size in zip(worlds, counts, strict=True):
            present = tuple(bool(masks[world, topology.speakers[other]]) for other in reads)
            heard = []
            for other, is_present in zip(reads, present, strict=True):
                if is_present:
                    rows = turns[other].row_of_sample(world, np.arange(size), size)
                    heard.append(words[other][:, rows])

            table = team.tables[turn, present]
            odds = table[(prompt, *heard)]
            word = _sample_words(odds, rng, (count, size))
            said.append(word)
            likelihood.append(table[(prompt, *heard, word)])
            collision.append(np.broadcast_to(np.square(odds).sum(-1), word.shape))
            if world == 0:
                index = [np.broadcast_to(other_word, word.shape) for other_word in heard]
                cells.append(np.ravel_multi_index((*index, word), table.shape[1:]))

        words.append(np.concatenate(said, axis=1))
        turns.append(
            _turn(
                np.concatenate(likelihood, axis=1),
                np.concatenate(collision, axis=1),
                variant,
                counts,
            )
        )
        factual_length, masked_length = team.lengths[turn]
        cost += counts[0] * factual_length + sum(counts[1:]) * masked_length

    correct = [right[prompt, word] for right, word in zip(team.right, words, strict=True)]
    answer_id = [label[prompt, word] for label, word in zip(team.label, words, strict=True)]
    rollouts = Rollout(tuple(turns), masks)
    result = outcome(topology, rollouts, correct, answer_id)

    if needs.answer_logprob:
        # [N, G, G]: the table of the Solver after each thought, at each answer.
        table = team.tables[1, (True,)]
        odds = table[prompt[:, :, None], words[0][:, :, None], words[1][:, None, :]]
        result = result._replace(answer_logprob=np.moveaxis(np.log(odds, dtype=np.float32), 1, 0))
    if needs.ratings:
        assert team.raters is not None
        odds = team.raters[:, prompt, words[0][:, :group], words[1][:, :group]]
        ratings = np.stack([_sample_words(rater, rng, (count, group)) for rater in odds])
        result = result._replace(shares=np.float32(SPLITS)[ratings])
        # A rating is one token of each agent.
        cost += 2 * group
    return Draw(result, rollouts, tuple(cells), cost)


def _sample_words(
    probability: np.ndarray, rng: np.random.Generator, shape: tuple[int, int]
) -> np.ndarray:
    """Draws ``[N, n]`` words from ``[N, n or 1, M]`` probabilities, none of probability 0."""
    cumulative = np.cumsum(probability, axis=-1)
    threshold = rng.random(shape)[..., None] * cumulative[..., -1:]
    return (cumulative <= threshold).sum(-1)


def _turn(
    likelihood: np.ndarray,
    collision: np.ndarray,
    variant: tuple[int, ...],
    counts: tuple[int, ...],
) -> Turn:
    """The fields that outcomes and baselines read: texts of one token each, whatever it is.

    Args:
      likelihood: ``[N, n]`` of each text.
      collision: ``[N, n]``, see `Samples`.
      variant, counts: as in `Turn`.
    """
    one = np.ones(likelihood.shape, np.int32)
    logprobs = np.log(likelihood, dtype=np.float32)
    samples = Samples(
        one[..., None], logprobs[..., None], one, one < 0, np.float32(collision)[..., None]
    )

    nothing = np.zeros((len(likelihood), 0), np.int32)
    prompts = Prompts(nothing, nothing, nothing, nothing)
    return Turn(prompts, samples, [], variant, counts)


# --- enumerating ---


def truth(team: TabularTeam) -> Truth:
    """Enumerates everything that can be said."""
    topology = team.topology
    num_agents = topology.num_agents
    turns = range(len(topology.roles))
    everyone = (True,) * num_agents

    reward = np.empty(team.prompts)
    contribution = np.empty((num_agents, team.prompts))
    advantage: list[list[np.ndarray]] = [[] for _ in turns]
    gradient: list[list[np.ndarray]] = [[] for _ in turns]

    # One prompt at a time: a pool's tables are large.
    for prompt in range(team.prompts):
        odds, won = enumerate_prompt(team, prompt, everyone)
        reward[prompt] = (odds * won).sum()
        for agent in range(num_agents):
            others = tuple(other != agent for other in range(num_agents))
            odds_without, won_without = enumerate_prompt(team, prompt, others)
            contribution[agent, prompt] = reward[prompt] - (odds_without * won_without).sum()

        axes = string.ascii_letters[: len(turns)]
        for turn, reads in enumerate(topology.reads):
            own_axes = "".join(axes[other] for other in (*reads, turn))
            mass = np.einsum(f"{axes}->{own_axes}", odds)
            value = np.einsum(f"{axes}->{own_axes}", odds * won)
            expected = _ratio(value.sum(-1, keepdims=True), mass.sum(-1, keepdims=True))
            better = np.where(mass > 0, _ratio(value, mass) - expected, 0.0)
            better = np.where(np.abs(better) < _ROUNDING, 0.0, better)
            advantage[turn].append(better.ravel())
            gradient[turn].append((mass * better).ravel())

    return Truth(
        reward,
        contribution,
        advantage=tuple(np.stack(of_prompts) for of_prompts in advantage),
        gradient=tuple(np.stack(of_prompts) for of_prompts in gradient),
    )


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; the numerator where the denominator is 0."""
    return numerator / np.where(denominator > 0, denominator, 1)


_team_reward = jax.jit(team_reward, static_argnums=0)


def enumerate_prompt(
    team: TabularTeam, prompt: int, present: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray]:
    """All that can be said on a prompt if only some agents speak.

    Returns:
      ``(probability, reward)``, each with one axis per turn that is spoken.
    """
    topology = team.topology
    turns = [turn for turn, speaker in enumerate(topology.speakers) if present[speaker]]
    if not turns:
        return np.ones(()), np.zeros(())

    letter = dict(zip(turns, string.ascii_letters, strict=False))
    tables = []
    axes = []
    for turn in turns:
        reads = topology.reads[turn]
        is_present = tuple(bool(present[topology.speakers[other]]) for other in reads)
        tables.append(team.tables[turn, is_present][prompt])
        axes.append("".join(letter[other] for other in reads if other in letter) + letter[turn])
    odds = np.einsum(f"{','.join(axes)}->{''.join(letter.values())}", *tables)

    right = np.zeros((*odds.shape, len(present)))
    label = np.full((*odds.shape, len(present)), -1)
    for agent, final_turn in enumerate(topology.final_turns):
        if present[agent]:
            shape = tuple(-1 if turn == final_turn else 1 for turn in turns)
            right[..., agent] = team.right[final_turn][prompt].reshape(shape)
            label[..., agent] = team.label[final_turn][prompt].reshape(shape)

    reward = _team_reward(
        topology,
        right.reshape(1, -1, len(present)),
        label.reshape(1, -1, len(present)),
        np.array([present]),
    )
    return odds, np.asarray(reward, np.float64).reshape(odds.shape)
