"""A logged problem as the page shows it: who decided, what each agent earned, and why."""

import math
from collections.abc import Mapping
from typing import Any

from ccpo_jax.report.names import agent_names, turn_names
from ccpo_jax.report.safe_text import finite, sanitize
from ccpo_jax.rl.topology import Topology
from ccpo_jax.scores import is_solved

# A credit this close to the advantage was compared with no mean; logged numbers have six digits.
_EQUAL = 1e-5


def rollout_view(
    topology: Topology,
    record: Mapping[str, Any],
    metrics: Mapping[str, Any],
    baseline: str | None = None,
) -> dict[str, Any]:
    """A line of rollouts.jsonl with its texts inert, its numbers finite, and explanations added.

    Args:
      topology: the team.
      record: a `ccpo_jax.workdir.rollout_log.RolloutRecord`, possibly damaged.
      metrics: of the same step.
      baseline: see `explain_credit`.

    Returns:
      The record with `history` (see `describe_history`) and `worlds`, the name of who is missing in
      each; for every turn its speaker's name (`who`), its `agent` and whether it `decides` the
      team's answer in some world; for every sample its `agents` (see `explain_credit`).

    Raises:
      LookupError, TypeError, ValueError, AttributeError, RecursionError: the record is damaged.
    """
    view = sanitize(dict(record))
    names = agent_names(topology)
    deciding = _deciding_turns(topology, view["masked"])
    _check_turns_before(view.get("before", []))

    turns = zip(view["turns"], turn_names(topology), topology.speakers, strict=True)
    for index, (turn, name, agent) in enumerate(turns):
        turn |= {"who": name, "agent": agent, "decides": index in deciding}
        for text in turn["texts"]:
            if not isinstance(text["text"], str) or not isinstance(text["verdict"], str):
                raise TypeError("text")
            if not isinstance(text.get("thought", ""), str):
                raise TypeError("thought")
            if not isinstance(text.get("parts", {}), dict):
                raise TypeError("parts")

    num_texts = [len(turn["texts"]) for turn in view["turns"]]
    for sample in view["samples"]:
        if not len(sample["said"]) == len(sample["reward"]) == len(view["masked"]):
            raise ValueError("said")
        for transcripts in sample["said"]:
            for transcript in transcripts:
                _check_transcript(transcript, num_texts)
        sample["agents"] = [
            explain_credit(view, sample, agent, baseline) for agent in range(topology.num_agents)
        ]

    worlds = [" and ".join(names[agent] for agent in masked) for masked in view["masked"]]
    return view | {"worlds": worlds, "history": describe_history(metrics)}


def _deciding_turns(topology: Topology, masked: list[list[int]]) -> set[int]:
    """The turns that hold the team's answer, or a vote on it, in one of the worlds."""
    if topology.decision != "last":
        return set(topology.final_turns)
    deciding = set()
    for agents in masked:
        present = [t for agent, t in enumerate(topology.final_turns) if agent not in agents]
        deciding.add(max(present))
    return deciding


def _check_turns_before(before: list[list[str]]) -> None:
    """Raises TypeError or ValueError unless every turn is a speaker and a text."""
    if not isinstance(before, list):
        raise TypeError("before")
    for speaker, text in before:
        if not isinstance(speaker, str) or not isinstance(text, str):
            raise TypeError("before")


def _check_transcript(transcript: list[int | None], num_texts: list[int]) -> None:
    """Raises ValueError unless every entry is None or the number of a text of its turn."""
    for number, count in zip(transcript, num_texts, strict=True):
        if number is not None and not (type(number) is int and 0 <= number < count):
            raise ValueError("said")


def explain_credit(
    record: Mapping[str, Any], sample: Mapping[str, Any], agent: int, baseline: str | None = None
) -> dict[str, Any]:
    """What an agent contributed to a sample, its credit, its advantage, and why in a few sentences.

    Args:
      record: the problem.
      sample: one of its samples.
      agent: whose.
      baseline: the run's advantage.baseline; None = its default.

    Returns:
      ``contribution`` (None where no world without the agent was decoded), ``credit``,
      ``advantage``, ``why``.
    """
    credit = sample["credit"][agent]
    advantage = sample["advantage"][agent]
    contribution = None
    if [agent] in record["masked"]:
        world = record["masked"].index([agent])
        team = sample["reward"][0]
        without = sample["reward"][world]
        contribution = round(team - without, 6)
        reasons = [_contribution_reason(team, without)]
    elif credit is None:
        reasons = ["It does not train in this step, and no world without it was decoded."]
    else:
        reasons = ["No world without it was decoded; the credit estimator needs none."]

    mean = record["mean_credit"][agent]
    if credit is not None and advantage is not None and mean is not None:
        reasons.append(_advantage_reason(credit, advantage, mean, record["group"], baseline))
    return {
        "contribution": contribution,
        "credit": credit,
        "advantage": advantage,
        "why": " ".join(reasons),
    }


def _contribution_reason(team: float, without: float) -> str:
    """The team's reward with an agent and without it, in words."""
    if round(team - without, 6):
        effect = "it helps" if team > without else "it hurts"
        return f"Without it the team earns {without:.2f} instead of {team:.2f}: {effect}."
    free = ", so here it rides free" if is_solved(team) else ""
    return f"The team earns {team:.2f} with and without it{free}."


# What a baseline is, in words; of the others it is the mean of the group, or nothing.
_COMPARED_WITH = {
    "constant": "a constant",
    "batch_mean": "the mean of the other prompts' samples",
    "asymmetric": "the mean of its group moved by a constant",
    "opo": "the mean of other samples, weighted by their length",
    "optimal": "the mean of other samples, weighted by their squared score",
    "weighted": "that of the other prompts' samples, weighted by their surprisal",
}


def _advantage_reason(
    credit: float, advantage: float, mean: float, group: int, baseline: str | None
) -> str:
    """What the credit was compared with, in words."""
    what = _COMPARED_WITH.get(baseline or "")
    if not advantage:
        compared = what or f"the mean of its {group} samples"
        return f"Its credit equals {compared}: nothing is learned from this sample."
    if what is not None:
        side = "above" if advantage > 0 else "below"
        return f"Its credit is {abs(advantage):.2f} {side} {what}, {credit - advantage:.2f}."
    if abs(advantage - credit) < _EQUAL and abs(mean) > _EQUAL:
        return "Its credit is the advantage: it is not compared with a mean."
    side = "above" if credit > mean else "below"
    difference = abs(credit - mean)
    return f"Its credit is {difference:.2f} {side} the mean of its {group} samples, {mean:.2f}."


def describe_history(metrics: Mapping[str, Any]) -> str:
    """The running moments that shaped a step's credit, in words; "" where there are none."""
    names = {
        "delta": "contribution",
        "joint": "team's reward",
        "solo": "reward without the Thinker",
    }
    parts = []
    for key, name in names.items():
        mean = finite(metrics.get(f"moments/{key}/mean"))
        var = finite(metrics.get(f"moments/{key}/var"))
        if mean is not None and var is not None and (mean or var):
            parts.append(f"{name} {mean:.2f} ± {math.sqrt(max(var, 0)):.2f}")
    if not parts:
        return ""
    gate = finite(metrics.get("moments/gate"))
    if gate is not None:
        parts.append(f"gate {gate:.2f}")
    return f"History before this step: {', '.join(parts)}."
