"""The words of a team as chat messages, for programs that serve its models."""

from collections.abc import Mapping
from typing import Any

from ccpo_jax.rollout import Team
from ccpo_jax.rollout.prompts import RolePrompt, words_for


def team_chat(team: Team, words: Mapping[str, RolePrompt]) -> dict[str, Any]:
    """What `prompts.json` of an export holds: each turn's chat, with slots for what is quoted.

    Args:
      team: its turns, in the order in which they are spoken.
      words: of each role.

    Returns:
      ``{"decision", "turns": [{"agent", "model", "role", "reads", "max_tokens", "messages"}]}``:
      `model` is the folder of the export, `reads` the turns whose responses are quoted, and in
      `messages` ``{problem}`` stands for the problem, ``{turn_0}`` for the response of turn 0,
      without its thoughts. A turn with stop strings also has "stop".

    Example:
      team_chat(team, words)["turns"][1]["messages"][-1]["content"]
      # '{problem}\n\nNotes from a colleague:\n{turn_0}\n\nSolve the problem.'
    """
    topology = team.topology
    folders = folder_names(team)
    turns = []
    for turn, role in enumerate(topology.roles):
        agent = team.agents[turn]
        turns.append(
            {
                "agent": topology.speakers[turn],
                "model": folders[agent.parameter_set],
                "role": role,
                "reads": list(topology.reads[turn]),
                "max_tokens": agent.max_tokens,
                "messages": _messages(team, turn, words[role]),
            }
        )
        if agent.stop:
            turns[-1]["stop"] = list(agent.stop)
    return {"decision": topology.decision, "turns": turns}


def folder_names(team: Team) -> list[str]:
    """The folder of every parameter set in an export: `policy` of one for all agents, `agent_0`,
    `agent_1`, ... where each has its own, and `policy_0`, `policy_1`, ... where some share.
    """
    speakers: dict[int, set[int]] = {}
    for agent, speaker in zip(team.agents, team.topology.speakers, strict=True):
        speakers.setdefault(agent.parameter_set, set()).add(speaker)
    if len(speakers) == 1:
        return ["policy"]
    some_share = any(len(agents) > 1 for agents in speakers.values())
    stem = "policy" if some_share else "agent"
    return [f"{stem}_{number}" for number in range(len(speakers))]


def _messages(team: Team, turn: int, words: RolePrompt) -> list[dict[str, str]]:
    topology = team.topology
    content = words.problem
    for read in topology.reads[turn]:
        is_own = topology.speakers[read] == topology.speakers[turn]
        sender = "own" if is_own else topology.roles[read]
        content += words_for(words, sender).replace("{message}", f"{{turn_{read}}}")
    content += words.closing
    system = words.system.strip()
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, {"role": "user", "content": content}]
