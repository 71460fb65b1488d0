"""A pool of a real team's answers, read as a team of tables.

Drawing groups from the pool and enumerating what is true of it need nothing else than `tabular.py`.
What holds of the pool holds of the model up to the pool's size; `Pool.noise` says how far off
single thoughts are.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ccpo_jax.data import Problem
from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.topology import Topology, dyad
from ccpo_jax.rollout import rollout
from ccpo_jax.train.build import Run
from ccpo_jax.train.step import publish
from ccpo_jax.verifiers import VerifierPool
from ccpo_jax.verifiers.grader import Grader
from experiments.credit_lab.tabular import TabularTeam

_PROMPTS_AT_ONCE = 4  # per device, at most
_ROWS_AT_ONCE = 2048


class Pool(NamedTuple):
    """A real team on B prompts."""

    team: TabularTeam
    noise: float  # dyad: share of the spread of the thoughts' values that comes from answering each only so often
    decoded_tokens: int


def check(topology: Topology) -> None:
    """Says which teams a pool can hold, before anything is loaded.

    Raises:
      ValueError: if members of a vote read each other, or the team is no vote and no dyad.
    """
    if not (topology.decision == "vote" and not any(topology.reads)) and topology != dyad():
        raise ValueError(
            f"topology: a pool holds a vote or a dyad, received {topology.name!r}; use "
            "--team=tabular_chain or "
            "tabular_debate for teams that read each other more"
        )


def sample_pool(
    run: Run, params: tuple, problems: Sequence[Problem], *, size: int, answers: int, seed: int
) -> Pool:
    """Lets the team answer every problem `size` times; in the dyad each thought is read `answers`
    times.

    Args:
      run: whose team, sampling and verifiers are used.
      params: P parameter sets.
      problems: B problems.
      size: samples of each voter, or thoughts and solo answers, per problem.
      answers: answers per thought.
      seed: same seed, same pool.
    """
    topology = run.team.topology
    check(topology)
    reading = topology == dyad()
    weights = publish(run.team, params)
    key = jax.random.key(seed)
    parts, tokens = [], 0
    sampling = run.rollout.sampling
    if sampling.max_concurrent is None:
        sampling = dataclasses.replace(sampling, max_concurrent=_ROWS_AT_ONCE)
    devices = run.layout.mesh.size
    at_once = devices * min(_PROMPTS_AT_ONCE, ceil_div(len(problems), devices))
    read = _dyad_words if reading else _voters_words
    with VerifierPool(**vars(run.verifier)) as pool:
        for first in range(0, len(problems), at_once):
            chosen = list(problems[first : first + at_once])
            filled = chosen + chosen[:1] * (at_once - len(chosen))  # one compiled shape
            judge = Grader(pool, chosen)
            spoken = rollout(
                run.team,
                weights,
                [p.prompt_text for p in filled],
                jax.random.fold_in(key, first),
                group_size=size,
                sampling=sampling,
                ablated=topology.ablated if reading else (),
                answers_per_text=answers if reading else 1,
                on_prompt_done=judge.submit,
            ).first_prompts(len(chosen))
            result, *_ = judge.collect(run.team, spoken)
            tokens += spoken.decoded_tokens
            parts += [(read(spoken, result, b), _lengths(spoken)) for b in range(len(chosen))]
    words, lengths = zip(*parts, strict=True)
    lengths = tuple(map(tuple, np.mean(lengths, axis=0)))
    team = (_dyad_team if reading else _voters_team)(topology, words, lengths)
    return Pool(team, _noise(words) if reading else 0.0, tokens)


def _lengths(spoken) -> np.ndarray:
    """``[turns, 2]`` mean tokens of a text, factual and where a mask changes it."""
    found = []
    for turn in spoken.turns:
        length = turn.samples.length
        here, masked = length[:, turn.rows(0)], length[:, turn.samples_per_variant[0] :]
        found.append((here.mean(), masked.mean() if masked.size else 0.0))
    return np.array(found)


# --- voters: words are answer classes, then one that nobody gave, then silence --------------------


def _voters_words(spoken, result, b: int) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(result.answer_id[0, b]), np.asarray(result.correct[0, b])  # [M, A] each


def _voters_team(topology: Topology, words, lengths) -> TabularTeam:
    classes = 1 + max(int(ids.max()) for ids, _ in words)
    count = classes + 2
    tables, right, wrong = [], [], []
    for ids, correct in words:
        spot = np.where(ids >= 0, ids, count - 1)  # [M, A]
        said = spot[..., None] == np.arange(count)  # [M, A, words]
        tables.append(said.mean(axis=0))
        good = (said * correct[..., None]).sum((0, 1)) / np.maximum(said.sum((0, 1)), 1)
        good[-2:] = 0.0
        common = np.where(good[:-2] < 0.5, said.sum((0, 1))[:-2], 0)
        wrong.append(int(common.argmax()) if common.any() else classes)
        right.append(good)
    label = np.broadcast_to(np.append(np.arange(classes + 1), -1), (len(words), count))
    table = np.stack(tables)  # [B, A, words]
    turns = range(len(topology.roles))
    same = (tuple(x for _ in turns) for x in (np.float32(right), label, np.array(wrong)))
    return TabularTeam(topology, {(t, ()): table[:, t] for t in turns}, *same, lengths)


# --- the dyad: the Thinker's words are its different thoughts, the Solver's are right, wrong and silence --------------


class _Thoughts(NamedTuple):
    """What was said about one problem; U different thoughts."""

    share: np.ndarray  # [U]
    answers: np.ndarray  # [U] int, how often each was answered
    outcome: np.ndarray  # [U, 3] shares of right, wrong and no answer
    right: np.ndarray  # [U] the thought itself holds the right answer
    solo: np.ndarray  # [3]
    which: np.ndarray  # [M] which of the U every thought is
    kind: np.ndarray  # [M * K] which of the three every answer is


def _dyad_words(spoken, result, b: int) -> _Thoughts:
    texts = spoken.turns[0].texts[b]
    each = len(result.reward[0, b]) // len(texts)
    _, first, which = np.unique(np.array(texts), return_index=True, return_inverse=True)
    of_answer = np.repeat(which, each)
    kinds = _kinds(result.correct[0, b, :, 1], result.answer_id[0, b, :, 1])  # [M * K, 3]
    answers = np.bincount(of_answer)
    outcome = (
        np.stack([np.bincount(of_answer, kind) for kind in kinds.T], axis=1) / answers[:, None]
    )
    solo = float(np.mean(result.reward[1, b]))
    thought_right = np.asarray(result.correct[0, b, ::each, 0])[first]
    alone = np.array([solo, 1 - solo, 0.0])
    return _Thoughts(
        answers / answers.sum(), answers, outcome, thought_right, alone, which, kinds.argmax(1)
    )


def _kinds(correct, ids) -> np.ndarray:
    right = np.asarray(correct) > 0.5
    silent = ~right & (np.asarray(ids) < 0)
    return np.stack([right, ~right & ~silent, silent], axis=1).astype(float)


def _dyad_team(topology: Topology, words, lengths) -> TabularTeam:
    count = 1 + max(len(w.share) for w in words)
    thinker, solver = np.zeros((len(words), count)), np.zeros((len(words), count, 3))
    right, label = np.zeros((len(words), count), np.float32), np.full((len(words), count), -1)
    for b, said in enumerate(words):
        many = len(said.share)
        thinker[b, :many], right[b, :many] = said.share, said.right
        label[b, :many] = np.arange(many)
        solver[b] = said.solo  # who reads silence answers alone
        solver[b, :many] = said.outcome
    wrong = np.array([int(w.outcome[:, 0].argmin()) for w in words])
    tables = {
        (0, ()): thinker,
        (1, (True,)): solver,
        (1, (False,)): np.stack([w.solo for w in words]),
    }
    answer = np.broadcast_to([1.0, 0.0, 0.0], (len(words), 3)).astype(np.float32)
    kinds = np.broadcast_to([0, 1, -1], (len(words), 3))
    return TabularTeam(
        topology,
        tables,
        (right, answer),
        (label, kinds),
        (wrong, np.ones(len(words), int)),
        lengths,
    )


def _noise(words) -> float:
    """Variance within thoughts over their number of answers, as a share of the variance between
    thoughts' means.
    """
    spread = noise = 0.0
    for said in words:
        value = said.outcome[:, 0]
        spread += said.share @ np.square(value - said.share @ value)
        noise += said.share @ (value * (1 - value) / np.maximum(said.answers - 1, 1))
    return float(noise / spread) if spread else 0.0
