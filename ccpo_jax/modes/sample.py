"""`--mode=sample`: what the team writes, whether it is right, and each agent's credit."""

import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ccpo_jax.config import Config
from ccpo_jax.data import Problem
from ccpo_jax.devices.distributed import print_main
from ccpo_jax.devices.sharding import num_shards
from ccpo_jax.errors import escape_control
from ccpo_jax.integers import ceil_div
from ccpo_jax.modes.prompt_view import prompt_lines
from ccpo_jax.modes.restore import trained_or_loaded
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import HostArray, Outcome
from ccpo_jax.rollout import Turn
from ccpo_jax.train.advantage import token_advantages
from ccpo_jax.train.rollouts import Collected, collect_rollouts
from ccpo_jax.train.step import Credited, assign_credit, length_penalties, publish
from ccpo_jax.train.worlds import masked_worlds
from ccpo_jax.workdir.rollout_log import parts_of_text, verdict_text

# In larger teams, agents of equal contribution or credit share a line.
_MOST_AGENTS = 10


def show_samples(
    config: Config | Mapping[str, Any], workdir: str | None, problems: int = 4
) -> None:
    """Prints every role's prompt, and two samples of each of a few held-out problems: messages,
    verdicts, credit, advantage, ratings.

    Every problem gets a group of samples, and credit and advantage are computed from it as in
    training, with the checkpoint's own statistics. The two samples have different rewards where the
    group has any. The command line makes groups of two, unless a group size is typed.

    Args:
      config: of the run.
      workdir: of a training run; None = the untrained models.
      problems: how many.
    """
    run, state, step = trained_or_loaded(config, workdir)
    pool_of_problems = run.datasets.heldout.problems or run.datasets.train.problems
    chosen = list(pool_of_problems[:problems])
    if not run.has_reward_function and not all(problem.gold for problem in chosen):
        note = (
            "note: some problems have no reference answer; the verifier takes all answers as wrong"
        )
        print_main(note, file=sys.stderr)
    # The batch axis has to divide over the devices.
    shards = num_shards(run.rollout.sampling.sharding)
    padding = ceil_div(len(chosen), shards) * shards - len(chosen)
    batch = chosen + [chosen[0]] * padding

    topology = run.team.topology
    read_worlds = masked_worlds(run.credit, topology)
    with run.verifier_pool() as pool:
        collected = collect_rollouts(
            run.team,
            publish(run.team, state.params, run.bases),
            batch,
            pool,
            jax.random.key(run.seed),
            config=run.rollout,
            needs=run.credit.needs,
            # Contributions are shown also where the credit does not read them.
            ablated=read_worlds or topology.ablated,
            memory_fields=run.memory_fields.get("rollout", {}),
        )
    outcome = collected.outcome if read_worlds else _factual(collected.outcome)
    credit, advantage, _ = jax.device_get(
        assign_credit(
            run.credit,
            run.advantage,
            state.credit_state,
            outcome,
            length_penalties(run, collected.rollouts),
            run.advantage.weights(topology, collected.rollouts, collected.outcome),
            state.advantage_state,
        )
    )
    if run.advantage.by_token:
        _, advantage = token_advantages(run.advantage, topology, collected.rollouts, credit)
    credited = Credited(credit, advantage, np.ones(topology.num_agents, bool))
    for line in prompt_lines(run.team, chosen[0], 0, collected.rollouts):
        print_main(line)
    for index, problem in enumerate(chosen):
        print_main(f"\n=== {problem.id}, checkpoint of step {step}")
        for line in problem_lines(topology, problem, index, collected, credited):
            print_main(line)


def _factual(outcome: Outcome) -> Outcome:
    """The world in which nobody is masked, as a credit gets it that reads no other."""
    return outcome._replace(
        reward=outcome.reward[:1],
        correct=outcome.correct[:1],
        answer_id=outcome.answer_id[:1],
        agent_mask=outcome.agent_mask[:1],
    )


def problem_lines(
    topology: Topology, problem: Problem, index: int, collected: Collected, credited: Credited
) -> list[str]:
    """What is printed about one problem.

    Args:
      topology: the team's.
      problem: the problem.
      index: its number in the batch.
      collected: rollouts of the batch.
      credited: their credit and advantage.
    """
    rewards = np.asarray(collected.outcome.reward)[0, index]
    reference = escape_control(problem.gold) or "none"
    lines = [escape_control(problem.question), f"--- reference: {reference}"]
    lines.append(f"--- reward: {rewards.mean():.2f} over {len(rewards)} samples")
    for sample in _two_samples(rewards):
        lines += _sample_lines(topology, index, sample, collected, credited)
    return lines


def _two_samples(rewards: HostArray) -> list[int]:
    """The first sample, and the first with another reward; the second one where all are equal."""
    different = np.flatnonzero(rewards != rewards[0])
    if len(rewards) == 1:
        return [0]
    return [0, int(different[0]) if len(different) else 1]


def _sample_lines(
    topology: Topology, index: int, sample: int, collected: Collected, credited: Credited
) -> list[str]:
    """One sample in the factual world and in the worlds that mask an agent."""
    outcome = collected.outcome
    reward = np.asarray(outcome.reward)[:, index, sample]
    is_large = topology.num_agents > _MOST_AGENTS
    lines = []
    quiet_worlds: dict[str, list[str]] = {}
    for world, mask in enumerate(np.asarray(outcome.agent_mask)):
        messages = _message_lines(topology, index, sample, world, collected)
        if world == 0:
            lines.append(f"--- sample {sample}: the team's reward is {reward[0]:.2f}")
            lines += messages
            continue
        masked = " and ".join(str(agent) for agent in np.flatnonzero(~mask))
        gain = reward[0] - reward[world]
        words = f"reward {reward[world]:.2f}, a contribution of {gain:+.2f}"
        if is_large and not messages:
            quiet_worlds.setdefault(words, []).append(masked)
            continue
        lines.append(f"--- without agent {masked}: {words}")
        lines += messages
    for words, masked_agents in quiet_worlds.items():
        lines.append(f"--- without one of agents {', '.join(masked_agents)}: {words}")

    earned: dict[str, list[str]] = {}
    for agent, role in enumerate(topology.agent_roles):
        credit = credited.credit[agent, index, sample]
        advantage = credited.advantage[agent, index, sample]
        words = f"{role}: credit {credit:+.3f}, advantage {advantage:+.3f}"
        # In a large team, those who earn the same share a line.
        earned.setdefault(words if is_large else f"{agent}, {words}", []).append(str(agent))
    for words, agents in earned.items():
        who = f"agents {', '.join(agents)}, " if is_large else "agent "
        lines.append(f"--- {who}{words}")
    return lines + _rating_lines(index, sample, collected)


def _message_lines(
    topology: Topology, index: int, sample: int, world: int, collected: Collected
) -> list[str]:
    """The messages of one sample in one world. A masked world shows those that differ from the
    factual world's.
    """
    mask = np.asarray(collected.outcome.agent_mask)[world]
    answering = answer_turns(topology, mask)
    count = np.asarray(collected.outcome.reward).shape[2]
    lines = []
    for index_of_turn, turn in enumerate(collected.rollouts.turns):
        speaker = topology.speakers[index_of_turn]
        repeated = world > 0 and turn.variant_of_world[world] == turn.variant_of_world[0]
        if not mask[speaker] or repeated:
            continue
        who = label = f"agent {speaker}, {topology.roles[index_of_turn]}"
        if index_of_turn in answering:
            label += f": {_verdict(collected, index, index_of_turn, sample, world)}"
        row = turn.row_of_sample(world, sample, count)
        lines += _reply_lines(who, label, turn, index, row)
    return lines


def _verdict(collected: Collected, index: int, index_of_turn: int, sample: int, world: int) -> str:
    """What the verifier says about a sample's text in a turn, with the parts of its score."""
    turns = collected.rollouts.turns
    turn = turns[index_of_turn]
    count = np.asarray(collected.outcome.reward).shape[2]
    row = turn.row_of_sample(world, sample, count)
    # The verifier numbers a problem's texts through all turns.
    number = sum(len(earlier.texts[index]) for earlier in turns[:index_of_turn]) + int(row)

    graded = collected.graded[index]
    verdict = verdict_text(graded, number, bool(turn.samples.truncated[index, row]))
    parts = []
    for name, value in parts_of_text(graded, number).items():
        parts.append(f"{name} {'nothing' if value is None else f'{value:.2f}'}")
    return escape_control(verdict + (f" ({', '.join(parts)})" if parts else ""))


def answer_turns(topology: Topology, mask: HostArray) -> set[int]:
    """The turns whose text is the team's answer, or a vote on it, where only the agents in `mask`
    are present.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> answer_turns(dyad(), np.array([True, True]))
      {1}
      >>> answer_turns(dyad(), np.array([True, False]))
      {0}
    """
    final = [topology.final_turns[agent] for agent in np.flatnonzero(mask)]
    if topology.decision == "vote":
        return set(final)
    return {max(final)} if final else set()


def _reply_lines(who: str, label: str, turn: Turn, index: int, row: int) -> list[str]:
    """What was thought, where anything was, and what was said."""
    lines = []
    if thought := turn.thought(index, row):
        lines.append(f"[{who}, thinks] {escape_control(thought)}")
    return [*lines, f"[{label}] {escape_control(turn.texts[index][row])}"]


def _rating_lines(index: int, sample: int, collected: Collected) -> list[str]:
    lines = []
    count = np.asarray(collected.outcome.reward).shape[2]
    for agent, turn in enumerate(collected.rollouts.ratings):
        thinker, solver = np.asarray(collected.outcome.shares)[agent, index, sample]
        label = f"agent {agent} rates thinker {thinker:.1f}, solver {solver:.1f}"
        row = turn.row_of_sample(0, sample, count)
        lines += _reply_lines(f"agent {agent}", label, turn, index, row)
    return lines
