"""The prompts of a team in full, as its models read them."""

from collections.abc import Sequence
from typing import NamedTuple

from ccpo_jax.data import Problem
from ccpo_jax.errors import escape_control
from ccpo_jax.rollout import Agent, Rollout, Team, Turn
from ccpo_jax.rollout.prompts import quote

# Enclose a quoted message.
_OPEN = "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}"
_CLOSE = "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}"


class _Reader(NamedTuple):
    """A turn, or a rating."""

    role: str
    speaker: int
    agent: Agent
    turn: Turn
    reads: tuple[int, ...]  # the turns that it quotes


def prompt_lines(team: Team, problem: Problem, index: int, rollouts: Rollout) -> list[str]:
    """Every role's prompt in the first sample of a problem.

    Where several agents play a role, it is the first one's, unless they read different problems or
    have different tokenizers. Control tokens stand in it as the model reads them; one that is
    merely spelled out, in the text of a problem or of a message, has a backslash before it.

    Args:
      team: who answers.
      problem: the problem.
      index: its number in the batch.
      rollouts: of the batch.
    """
    lines = [
        f"=== the prompts of {problem.id}, as the models read them; {_OPEN} and {_CLOSE} enclose "
        "a quoted message"
    ]
    speakers: dict[tuple, list[int]] = {}
    texts: dict[tuple, str] = {}
    for reader in _readers(team, rollouts):
        words = problem.prompt_text_for(reader.speaker)
        kind = (reader.role, reader.agent.tokenizer, words)
        speakers.setdefault(kind, []).append(reader.speaker)
        if kind not in texts:
            texts[kind] = _prompt_text(team, reader, index, rollouts)

    for kind, text in texts.items():
        agents = list(dict.fromkeys(speakers[kind]))
        numbers = " and ".join(", ".join(map(str, agents)).rsplit(", ", 1))
        label = "agent" if len(agents) == 1 else "agents"
        lines += [f"--- {label} {numbers}, {kind[0]}:", escape_control(text)]
    return lines


def _readers(team: Team, rollouts: Rollout) -> list[_Reader]:
    """The turns of the team, then its ratings."""
    topology = team.topology
    readers = []
    for number, turn in enumerate(rollouts.turns):
        agent = team.agents[number]
        reads = tuple(topology.reads[number]) if agent.reads_messages else ()
        readers.append(
            _Reader(topology.roles[number], topology.speakers[number], agent, turn, reads)
        )
    everything = tuple(range(len(rollouts.turns)))
    for speaker, turn in enumerate(rollouts.ratings):
        role = f"rate_{topology.agent_roles[speaker]}"
        readers.append(_Reader(role, speaker, team.raters[speaker], turn, everything))
    return readers


def _prompt_text(team: Team, reader: _Reader, index: int, rollouts: Rollout) -> str:
    """The prompt of sample 0, from the ids that were sampled from."""
    tokenizer = reader.agent.tokenizer
    prompts = reader.turn.prompts
    prefix = prompts.prefix[index, : prompts.prefix_length[index]].tolist()
    slots = prompts.tail.shape[-1]
    tail = prompts.tail[index, 0, slots - prompts.tail_length[index, 0] :].tolist()

    text = tokenizer.show(prefix)
    for before, message, after in _quotes(team, reader, index, rollouts, len(tail)):
        text += tokenizer.show(tail[:before])
        text += _OPEN + tokenizer.show(tail[before : before + message]) + _CLOSE
        text += tokenizer.show(tail[before + message : before + message + after])
        tail = tail[before + message + after :]
    return text + tokenizer.show(tail)


def _quotes(
    team: Team, reader: _Reader, index: int, rollouts: Rollout, tail_length: int
) -> list[tuple[int, int, int]]:
    """Tokens before, in and after each quoted message of a tail, in order."""
    words = reader.agent.template.message
    lengths = []
    for partner in reader.reads:
        # In world 0, sample 0 reads the first row of every turn.
        text = rollouts.turns[partner].texts[index][0]
        (ids,) = quote(reader.agent.tokenizer, [text], team.agents[partner].max_tokens)
        lengths.append(len(ids))
    if len(words) > len(lengths) > 0:
        # The verdict of a rating: what is left.
        lengths.append(tail_length - sum(lengths) - _fixed_tokens(words, reader))
    if len(words) == 1:
        words = words * len(lengths)
    return [
        (len(before), length, len(after))
        for (before, after), length in zip(words, lengths, strict=True)
    ]


def _fixed_tokens(words: Sequence[tuple], reader: _Reader) -> int:
    """Tokens of a tail around its messages."""
    around = sum(len(before) + len(after) for before, after in words)
    return around + len(reader.agent.template.closing)
