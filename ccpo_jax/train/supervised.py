"""One step of a supervised warm start: demonstrations, gradients; and the loss of an evaluation."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ccpo_jax import data
from ccpo_jax.devices.sharding import fetch, put
from ccpo_jax.learner.logprobs import packed_logprobs
from ccpo_jax.learner.packing import TrainSequence, gather_sequences
from ccpo_jax.learner.replay import SavedBatch
from ccpo_jax.learner.update import SAMPLER_GAPS, TrainState, pack_trained, update_params
from ccpo_jax.rl.topology import agent_masks
from ccpo_jax.rl.types import HostArray
from ccpo_jax.rollout import Rollout, Turn, demonstrate
from ccpo_jax.status import status
from ccpo_jax.train.build import Run
from ccpo_jax.train.demonstrations import Demonstrations, NoDemonstration
from ccpo_jax.train.guards import describe_nonfinite, explain_oom


class SupervisedBatch(NamedTuple):
    """What a supervised step was made of. Host arrays."""

    problems: Sequence[data.Problem]  # [B]
    turns: Mapping[int, Turn]  # by their number in the topology; each with its demonstrations
    is_real: HostArray  # [B, G] bool; False: fills up, and is not trained on


class SupervisedResult(NamedTuple):
    """What a step leaves."""

    state: TrainState
    metrics: dict[str, float]
    batch: SupervisedBatch
    left_out: tuple[SavedBatch, ...]  # updates that were left out because a number was not finite


def supervised_step(run: Run, state: TrainState, step: int) -> SupervisedResult:
    """Problems -> demonstrations -> gradients -> new state; every role with a target learns.

    Args:
      run: what to do; it has demonstrations.
      state: donated.
      step: ``state.step``, steps completed before this one.
    """
    start = time.perf_counter()
    problems = data.batch_at(run.datasets.train.problems, run.seed, step, run.rollout.batch_size)
    batch = demonstrated(run, problems)
    metrics = _batch_metrics(batch)
    params = list(state.params)
    opt_state = list(state.opt_state)
    left_out = []
    loss = 0.0
    tokens = 0
    for index, turns in sorted(_turns_of_sets(run, batch).items()):
        sequences = training_sequences(batch, turns)
        agent = run.team.agents[turns[0]]
        roles = dict.fromkeys(run.team.topology.roles[turn] for turn in turns)
        with (
            status(f"updating {', '.join(roles)}"),
            explain_oom("update", run.memory_fields.get("update", {})),
        ):
            params[index], opt_state[index], of_set = update_params(
                agent.policy,
                params[index],
                opt_state[index],
                [sequences],
                run.update_of(index),
                pad_id=agent.tokenizer.pad_id,
                frozen=run.frozen(index),
            )
        size = sum(len(sequence.response) for sequence in sequences)
        loss += of_set["loss"] * size
        tokens += size
        if reason := describe_nonfinite(sequences, of_set):
            of_set |= {"left_out": 1.0}
            agents = tuple(sorted({run.team.topology.speakers[turn] for turn in turns}))
            names = tuple(problem.id for problem in problems)
            left_out.append(SavedBatch(step + 1, agents, names, reason, tuple(sequences)))
        for name, value in of_set.items():
            # Nobody sampled these tokens.
            if name not in SAMPLER_GAPS:
                metrics[f"update/{name}/{index}"] = value

    seconds = time.perf_counter() - start
    metrics |= {
        "loss": loss / tokens,
        "time/update": seconds,
        "time/step": seconds,
        "time/tokens_per_second": tokens / seconds,
    }
    new_state = state._replace(
        step=state.step + 1, params=tuple(params), opt_state=tuple(opt_state)
    )
    return SupervisedResult(new_state, metrics, batch, tuple(left_out))


def demonstrated(run: Run, problems: Sequence[data.Problem]) -> SupervisedBatch:
    """The demonstrations of a batch, behind the prompts that the roles read."""
    texts, is_real = _demonstrations(run).of_batch(problems)
    prompts = [problem.prompt_text for problem in problems]
    return SupervisedBatch(problems, demonstrate(run.team, prompts, texts), is_real)


def demonstration_loss(
    run: Run, params: Sequence[Any], problems: Sequence[data.Problem]
) -> dict[str, float]:
    """How well parameters predict the demonstrations of some problems.

    Args:
      run: with demonstrations.
      params: P parameter sets, or adapters.
      problems: those without demonstrations are left out.

    Returns:
      ``loss``, nats per token of all roles, and of several agents ``loss/<agent>``; {} where no
      problem has demonstrations.
    """
    known = [problem for problem in problems if _has_demonstrations(run, problem)]
    params = run.whole_params(params)
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    size = run.evaluation.batch_size
    for first in range(0, len(known), size):
        batch = demonstrated(run, known[first : first + size])
        for agent, turns in sorted(_turns_of_agents(run, batch).items()):
            sequences = training_sequences(batch, turns)
            nll, tokens = _negative_log_likelihood(run, params, sequences, turns[0])
            sums[agent] = sums.get(agent, 0.0) + nll
            counts[agent] = counts.get(agent, 0) + tokens
    if not counts:
        return {}
    losses = {"loss": sum(sums.values()) / sum(counts.values())}
    if len(counts) > 1:
        losses |= {f"loss/{agent}": sums[agent] / counts[agent] for agent in sums}
    return losses


def _negative_log_likelihood(
    run: Run, params: Sequence[Any], sequences: Sequence[TrainSequence], turn: int
) -> tuple[float, int]:
    """(sum over the tokens of responses, how many)."""
    agent = run.team.agents[turn]
    total = 0.0
    tokens = 0
    for packed in pack_trained(sequences, run.update, pad_id=agent.tokenizer.pad_id):
        placed = put(packed, run.update.packing.sharding)
        logprobs = packed_logprobs(
            agent.policy,
            params[agent.parameter_set],
            placed,
            np.float32(run.update.temperature),
            logits_chunk=run.update.loss.logits_chunk,
        )
        mask = np.arange(packed.old_logprobs.shape[-1]) < packed.length[..., None]
        total -= float(fetch(logprobs)[mask].astype(np.float64).sum())
        tokens += int(mask.sum())
    return total, tokens


def _demonstrations(run: Run) -> Demonstrations:
    assert run.demonstrations is not None
    return run.demonstrations


def _has_demonstrations(run: Run, problem: data.Problem) -> bool:
    try:
        _demonstrations(run).read(problem)
    except NoDemonstration:
        return False
    return True


def _turns_of_sets(run: Run, batch: SupervisedBatch) -> dict[int, list[int]]:
    """Parameter set -> the turns that train it."""
    turns: dict[int, list[int]] = {}
    for turn in batch.turns:
        turns.setdefault(run.team.agents[turn].parameter_set, []).append(turn)
    return turns


def _turns_of_agents(run: Run, batch: SupervisedBatch) -> dict[int, list[int]]:
    """Agent -> its turns with demonstrations."""
    turns: dict[int, list[int]] = {}
    for turn in batch.turns:
        turns.setdefault(run.team.topology.speakers[turn], []).append(turn)
    return turns


def training_sequences(batch: SupervisedBatch, turns: Sequence[int]) -> list[TrainSequence]:
    """The demonstrations of some turns, each once; those of one problem share its tokens."""
    own = Rollout(tuple(batch.turns[turn] for turn in turns), agent_masks(1, ()))
    advantage = np.ones((len(turns), *batch.is_real.shape), np.float32)
    gathered = gather_sequences(own, advantage, range(len(turns)), range(len(batch.problems)))
    is_real = np.tile(batch.is_real.ravel(), len(turns))
    return [sequence for sequence, real in zip(gathered, is_real, strict=True) if real]


def _batch_metrics(batch: SupervisedBatch) -> dict[str, float]:
    metrics = {}
    for number, turn in batch.turns.items():
        metrics[f"response_length/{number}"] = float(turn.samples.length[batch.is_real].mean())
        metrics[f"truncated/{number}"] = float(turn.samples.truncated[batch.is_real].mean())
    return metrics
