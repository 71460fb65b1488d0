"""Thoughts and answers: what a model marks as reasoning is kept apart from what it says."""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

# The names of the tags that models think in; vendors put words such as "seed:" before them.
_NAME = (
    r"(?:(?!end_)\w{1,12}[:_])?"
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis)"
)

# Behind an opening bracket: <think>, <|thinking|>, [THINK], ◁think▷, <|begin_of_thought|>, the
# channels of gpt-oss and of Gemma 4.
_OPENING = (
    rf"\|?{_NAME}\|?[>▷]|THINK\]|unused94>(?:thought)?|\|(?:begin|start)_of_{_NAME}\|>|\|{_NAME}_start\|>"
    r"|\|channel\|>\s*+(?:analysis|commentary)(?:<\|message\|>)?|\|channel>(?:thought)?"
)
_CLOSING = (
    rf"\|?/{_NAME}\|?[>▷]|/THINK\]|unused95>|\|end_(?:of_)?{_NAME}\|>|\|{_NAME}_end\|>"
    r"|\|channel\|>\s*+final(?:<\|message\|>)?|channel\|>"
)
_MARKER = re.compile(rf"[<\[◁](?i:(?P<opening>{_OPENING})|(?P<closing>{_CLOSING}))")

_BRACKETS = ("<", "[", "◁")

# The channels of gpt-oss where its special tokens were removed.
_BARE_CHANNEL = re.compile(r"\Aanalysis(?=[A-Z])")
_BARE_FINAL = "assistantfinal"

# A marker that opens a thought, at the end of a prompt. Those that close one have a slash or "end".
_AT_THE_END = re.compile(
    r"(?:[<\[◁](?!\|?end)[^\s<>\[\]/]{0,24}?(?:think|thought|reason)[^\s<>\[\]/]{0,12}[>\]▷]"
    r"|<\|channel\|>(?:analysis|commentary)(?:<\|message\|>)?|<\|channel>(?:thought)?)\s*\Z",
    re.IGNORECASE,
)
_LONGEST_MARKER = 80

# What a marker does. Behind "channel" stands the channel's name up to "message", and behind
# "start" the role of a further message: headers, of which nothing is said.
Marker = Literal["opening", "closing", "channel", "message", "start"]

_HEADERS: dict[str, Marker] = {
    "<|channel|>": "channel",
    "<|message|>": "message",
    "<|start|>": "start",
}
_FINAL_CHANNEL = re.compile(r"\s*final\b", re.IGNORECASE)


class Reply(NamedTuple):
    """A response, its thoughts kept apart.

    Attributes:
      answer: what it says; "" where it says nothing.
      thought: what stands inside its markers, without them; "" = it does not think.
      unfinished: it ends within a thought.
    """

    answer: str
    thought: str = ""
    unfinished: bool = False


def marker_of(token: str) -> Marker | None:
    """What a token of a tokenizer does to the thought; None = nothing.

    Example:
      >>> marker_of("<think>"), marker_of("[/THINK]"), marker_of("<answer>")
      ('opening', 'closing', None)
    """
    if token in _HEADERS:
        return _HEADERS[token]
    marker = _MARKER.fullmatch(token)
    if marker is None:
        return None
    return "closing" if marker["opening"] is None else "opening"


def opened_at_end(prompt: str) -> str:
    """The marker such as ``<think>`` that ends a prompt, with the blanks behind it; "" = none."""
    marker = _AT_THE_END.search(prompt[-_LONGEST_MARKER:])
    return marker[0] if marker else ""


def split_text(text: str, *, opened: bool = False) -> Reply:
    """Keeps what a text marks as thought apart from the rest.

    A thought that is never closed reaches to the end: a response that was cut off while it thought
    has no answer. A closing marker alone means that the prompt ended with the opening one:
    everything before it is thought. Of several thoughts, all are thought, and the answer is what
    stands outside them.

    Args:
      text: with its markers.
      opened: the prompt has opened a thought.

    Example:
      >>> split_text("<think>Is it 3? No.</think> It is 5.")
      Reply(answer=' It is 5.', thought='Is it 3? No.', unfinished=False)
      >>> split_text("Is it 3?", opened=True)
      Reply(answer='', thought='Is it 3?', unfinished=True)
    """
    pieces: list[tuple[Marker | None, str]] = []
    if _BARE_FINAL in text:
        before, _, text = text.rpartition(_BARE_FINAL)
        pieces.append(("opening", _BARE_CHANNEL.sub("", before)))
        pieces.append(("closing", ""))
    elif _BARE_CHANNEL.match(text):
        return Reply("", _BARE_CHANNEL.sub("", text), unfinished=True)

    if not (pieces or opened) and not any(bracket in text for bracket in _BRACKETS):
        return Reply(text)

    marker: Marker | None = None
    position = 0
    for found in _MARKER.finditer(text):
        pieces.append((marker, text[position : found.start()]))
        marker = "closing" if found["opening"] is None else "opening"
        position = found.end()
    pieces.append((marker, text[position:]))
    return join_pieces(pieces, opened=opened)


def join_pieces(pieces: Iterable[tuple[Marker | None, str]], *, opened: bool = False) -> Reply:
    """A reply from its text, cut at its markers.

    Args:
      pieces: each with the marker in front of it.
      opened: the prompt has opened a thought.

    Example:
      >>> join_pieces([("opening", "Is it 3? No."), ("closing", " It is 5.")])
      Reply(answer=' It is 5.', thought='Is it 3? No.', unfinished=False)
    """
    answer: list[str] = []
    thoughts: list[str] = []
    in_thought = opened
    for piece in pieces:
        marker, text = _read_header(*piece)
        if marker == "opening":
            in_thought = True
        elif marker == "closing":
            if not in_thought:
                # Nothing was opened, or more than once: all that came before is thought.
                thoughts += answer
                answer.clear()
            in_thought = False
        (thoughts if in_thought else answer).append(text)

    said = "".join(answer)
    if in_thought or thoughts or len(answer) > 1:
        # Templates put blank lines between a thought and the answer.
        said = said.lstrip("\n")
    written = [thought.strip() for thought in thoughts]
    return Reply(said, "\n\n".join(filter(None, written)), in_thought)


def _read_header(marker: Marker | None, text: str) -> tuple[Marker | None, str]:
    """What a marker does, and the text behind it that is no header."""
    if marker == "start":
        return None, ""
    if marker == "channel":
        name = _FINAL_CHANNEL.match(text)
        return ("closing", text[name.end() :]) if name else ("opening", "")
    return marker, text
