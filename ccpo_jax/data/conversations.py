"""Conversations in a cell: the last user turn is the question, the turns before it are kept."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from ccpo_jax.data.cells import UnusableRow, is_empty, plain, printable, structured
from ccpo_jax.errors import InputError

# Columns that hold a conversation where they hold a list of turns. An answer at the end of the
# first would have to be gone on with; at the end of the others it is the reference.
PROMPT_COLUMN = "prompt"
MESSAGES_COLUMNS = ("messages", "conversations", "conversation", "chat")

# How sets call the speakers.
_SPEAKERS = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


class Turns(NamedTuple):
    """A conversation by the meaning of its turns.

    Attributes:
      question: the last user turn.
      history: (speaker, text) of the turns before it.
      reply: the assistant's turn after the question; "" = there is none.
      gold: the reference answer that stands in place of a reply's text; None = there is none.
      question_path: where the question is from: "prompt[-1].content".
      reply_path: where the reply is from; "" = there is none.
      gold_path: where the gold is from.
    """

    question: str
    history: tuple[tuple[str, str], ...]
    reply: str
    gold: Any
    question_path: str
    reply_path: str
    gold_path: str


def turns_of(value: Any) -> list[Mapping[str, Any]] | None:
    """The turns of a cell that is a conversation, also as the text of one in JSON; None = it is
    none.

    Example:
      >>> turns_of([{"role": "user", "content": "1+1?"}])
      [{'role': 'user', 'content': '1+1?'}]
    """
    turns = structured(value)
    if not isinstance(turns, list | tuple) or not turns:
        return None
    for turn in turns:
        if not isinstance(turn, Mapping) or not ("role" in turn or "from" in turn):
            return None
    return list(turns)


def numbered_turns(row: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The turns of a row that has one in each of the columns 0, 1, ...; None = it has none."""
    if "0" not in row:
        return None
    turns = []
    while str(len(turns)) in row and not is_empty(row[str(len(turns))]):
        turns.append(row[str(len(turns))])
    return turns_of(turns)


def read_turns(turns: list[Mapping[str, Any]], column: str) -> Turns:
    """A conversation by the meaning of its turns.

    Args:
      turns: as `turns_of` returns them.
      column: where they are from; "" = from the columns 0, 1, ...

    Raises:
      InputError: a speaker or a content of another kind.
      UnusableRow: no turn is a user's.
    """
    spoken = [_speaker(turn, column) for turn in turns]
    if "user" not in spoken:
        raise UnusableRow("no user turn")
    last = len(spoken) - 1 - spoken[::-1].index("user")
    after = turns[last + 1 :]
    if len(after) > 1 or any(speaker != "assistant" for speaker in spoken[last + 1 :]):
        raise InputError(
            column or "0",
            f"must end with a user's turn and at most one reply, ends with {spoken[-1]}",
        )

    num_system = len(spoken) - len(list(itertools.dropwhile(_is_system, spoken)))
    if "system" in spoken[num_system:]:
        raise InputError(column, "has a system turn behind another speaker's; put it first")

    history = []
    for turn, speaker in zip(turns[:last], spoken[:last], strict=True):
        text = _content(turn, column)
        if text:
            history.append((speaker, text))
    question = _content(turns[last], column)
    question_path = f"{_path(last, turns, column)}.{_content_key(turns[last])}"
    if not after:
        return Turns(question, tuple(history), "", None, question_path, "", "")

    reply_path = _path(last + 1, turns, column)
    truth = plain(after[0].get("ground_truth"))
    gold_path = f"{reply_path}.ground_truth"
    if isinstance(truth, Mapping) and "value" in truth:
        truth = truth["value"]
        gold_path = f"{gold_path}.value"
    return Turns(
        question=question,
        history=tuple(history),
        reply=_content(after[0], column),
        gold=truth,
        question_path=question_path,
        reply_path=f"{reply_path}.{_content_key(after[0])}",
        gold_path=gold_path,
    )


def _path(number: int, turns: list[Mapping[str, Any]], column: str) -> str:
    """The path to a turn: "prompt[-1]"."""
    return f"{column}[{number - len(turns)}]" if column else str(number)


def _is_system(speaker: str) -> bool:
    return speaker == "system"


def _speaker(turn: Mapping[str, Any], column: str) -> str:
    name = turn.get("role", turn.get("from"))
    speaker = _SPEAKERS.get(str(name).strip().casefold())
    if speaker is None:
        raise InputError(
            column,
            f"has a turn of {name!r:.40}; speakers are system, user and assistant",
        )
    return speaker


def _content_key(turn: Mapping[str, Any]) -> str:
    return "content" if "content" in turn else "value"


def _content(turn: Mapping[str, Any], column: str) -> str:
    """The text of a turn; its content may be a list of parts, of which each is a text."""
    content = plain(turn.get(_content_key(turn)))
    if is_empty(content):
        return ""
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) else part
        is_text = not isinstance(part, Mapping) or part.get("type", "text") == "text"
        if not is_text or not isinstance(text, str):
            raise InputError(
                column, f"has a turn with something other than text, received {part!r:.60}"
            )
        texts.append(text)
    return printable("\n".join(texts)).strip()
