"""Reads the answers of a dyad after each other's thoughts, see `rl.cross_read`."""

import time
from typing import Any

import numpy as np

from ccpo_jax.learner.packing import TrainSequence
from ccpo_jax.learner.scoring import sequence_logprobs
from ccpo_jax.rollout import Rollout
from ccpo_jax.status import status
from ccpo_jax.train.build import Run
from ccpo_jax.train.rollouts import Collected

_SOLVER = 1  # turn, and agent


def with_answer_logprob(collected: Collected, run: Run, params: tuple) -> Collected:
    """The batch with `Outcome.answer_logprob`.

    Args:
      collected: factual rollouts of a dyad, one answer to each thought.
      run: team, packing and temperature.
      params: P parameter sets.

    Returns:
      The batch; its metrics count the tokens that were read, ``scored_tokens``, and the time is
      that of rollouts.
    """
    start = time.perf_counter()
    agent = run.team.agents[_SOLVER]
    policy_params: Any = params[agent.parameter_set]
    sequences = readings(collected.rollouts)
    with status("reading every answer after every thought"):
        logprobs = sequence_logprobs(
            agent.policy,
            policy_params,
            sequences,
            run.update_of(agent.parameter_set),
            pad_id=agent.tokenizer.pad_id,
        )

    batch = len(collected.problems)
    by_thought = np.moveaxis(logprobs.reshape(batch, run.rollout.group_size, -1), 1, 0)
    seconds = time.perf_counter() - start
    return collected._replace(
        outcome=collected.outcome._replace(answer_logprob=by_thought),
        metrics=collected.metrics
        | {
            "time/rollout": collected.metrics["time/rollout"] + seconds,
            "scored_tokens": float(sum(len(sequence.response) for sequence in sequences)),
        },
    )


def readings(rollouts: Rollout) -> list[TrainSequence]:
    """Every answer after every thought of its prompt: of B prompts, for each of G thoughts, G
    answers.
    """
    turn = rollouts.turns[_SOLVER]
    rows = turn.rows(0)
    samples = range(rows.start, rows.stop)
    prefixes = np.asarray(turn.prompts.prefix)
    tails = np.asarray(turn.prompts.tail)
    tokens = np.asarray(turn.samples.tokens)
    nothing = np.zeros(0, np.int32)

    sequences = []
    for b in range(len(prefixes)):
        question = prefixes[b, : turn.prompts.prefix_length[b]]
        answers = [tokens[b, h, : turn.samples.length[b, h]] for h in samples]
        for g in samples:
            # Tails are padded on the left.
            thought = tails[b, g, tails.shape[2] - turn.prompts.tail_length[b, g] :]
            prompt = np.concatenate([question, thought])
            for answer in answers:
                sequence = TrainSequence(
                    group=b * len(samples) + g - rows.start,
                    prefix=prompt,
                    tail=nothing,
                    response=answer,
                    advantage=0.0,
                    old_logprobs=np.zeros(len(answer), np.float32),
                )
                sequences.append(sequence)
    return sequences
