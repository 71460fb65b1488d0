"""What each role is told, and prompts put together from separately tokenized segments.

A prompt is a *prefix* (the chat template's head and the problem) and a *tail* (partners' messages, the closing words
and the start of the reply). The problem comes first, so that rows which differ in their messages alone share their
prefix. Segments are tokenized on their own and concatenated: masking an agent removes exactly its segment's tokens.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

_CHARACTERS_PER_TOKEN = 16  # words pack fewer, runs of blanks may pack more; bounds what `quote` tokenizes


class TextCodec(Protocol):
    """What prompts and rollouts need of a tokenizer."""

    pad_id: int
    eos_ids: tuple[int, ...]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, none of them a live control token."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts."""

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of many rows of ids, control tokens left out."""

    def frame(self, system: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Live ids of the chat template before and after the user's words."""


@dataclasses.dataclass(frozen=True)
class RolePrompt:
    """The words of one role."""

    system: str  # the system turn; "" = none
    problem: str  # beginning of the user turn, with {problem}
    message: str  # one partner's message, with {message}: the segment that masking removes; "" = reads nobody
    closing: str  # end of the user turn


@dataclasses.dataclass(frozen=True)
class Template:
    """A `RolePrompt` as token ids."""

    head: tuple[int, ...]  # chat template up to the user's words, and the words before the problem
    after: tuple[int, ...]  # the words between problem and messages
    message: tuple[tuple[int, ...], tuple[int, ...]] | tuple[()]  # the words around a message; () = reads nobody
    closing: tuple[int, ...]  # closing words and the rest of the chat template


def tokenize_role(tokenizer: TextCodec, role: RolePrompt) -> Template:
    """Tokenizes the fixed parts of a role's prompt, each on its own.

    Raises:
      ValueError: if `problem` lacks ``{problem}`` or a non-empty `message` lacks ``{message}``.
    """

    def around(name: str, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        before, slot, after = text.partition(f"{{{name}}}")
        if not slot:
            raise ValueError(
                f"prompt_style: the {name} segment {text!r} has no {{{name}}}; add it where the text belongs"
            )
        return encode(before), encode(after)

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text)) if text else ()

    head, end = tokenizer.frame(role.system)
    before, after = around("problem", role.problem)
    message = around("message", role.message) if role.message else ()
    return Template(tuple(head) + before, after, message, encode(role.closing) + tuple(end))


def prefix(template: Template, tokenizer: TextCodec, problem: str) -> list[int]:
    """Ids up to the end of the problem: the part that all rows of a prompt share."""
    return [*template.head, *tokenizer.encode(problem), *template.after]


def tail(template: Template, messages: Sequence[Sequence[int] | None]) -> list[int]:
    """Ids after the problem: one segment per partner that is present, the closing words, the start of the reply.

    Args:
      template: the reader's.
      messages: quoted messages in the partners' order; None = masked.
    """
    ids: list[int] = []
    for message in messages:
        if message is not None:
            before, after = template.message
            ids += [*before, *message, *after]
    return ids + list(template.closing)


def whole(template: Template, tokenizer: TextCodec, problem: str) -> list[int]:
    """The complete prompt of someone who reads nobody."""
    return prefix(template, tokenizer, problem) + tail(template, [])


def quote(tokenizer: TextCodec, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Partners' messages as inert tokens: no control token, no end token, at most `max_tokens` each."""
    short = [text[: max_tokens * _CHARACTERS_PER_TOKEN] for text in texts]
    return [row[:max_tokens] for row in tokenizer.encode_batch(short)]


def pad_right(rows: Sequence[Sequence[int]], length: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows padded behind: ``([N, length], [N])`` int32, ids and lengths."""
    ids = np.full((len(rows), length), pad_id, np.int32)
    for target, row in zip(ids, rows, strict=True):
        target[: len(row)] = row
    return ids, np.array([len(row) for row in rows], np.int32)


def pad_left(rows: Sequence[Sequence[int]], length: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows padded in front: ``([N, length], [N])`` int32, ids and lengths."""
    ids = np.full((len(rows), length), pad_id, np.int32)
    for target, row in zip(ids, rows, strict=True):
        target[length - len(row) :] = row
    return ids, np.array([len(row) for row in rows], np.int32)


# style -> role -> words. A style has the roles of the topologies that use it.
PROMPTS = {
    "math": {
        "thinker": RolePrompt(
            system="You prepare mathematics problems for a colleague, who will write the solution.",
            problem="{problem}",
            message="",
            closing="\n\nSay which facts matter, which method fits and how its main steps go. Point out what is easy "
            "to get wrong. Leave the last computation and the final answer to your colleague.",
        ),
        "solver": RolePrompt(
            system="You solve mathematics problems carefully, step by step.",
            problem="{problem}",
            message="\n\nNotes from a colleague, which may contain mistakes:\n{message}",
            closing="\n\nWork the problem out and put the final answer, and nothing else, inside \\boxed{}.",
        ),
        "voter": RolePrompt(
            system="You solve mathematics problems carefully, step by step.",
            problem="{problem}",
            message="",
            closing="\n\nWork the problem out and put the final answer, and nothing else, inside \\boxed{}.",
        ),
    },
    "choice": {
        "thinker": RolePrompt(
            system="You prepare reasoning questions for a colleague, who will choose among the options.",
            problem="{problem}",
            message="",
            closing="\n\nSay what the text establishes, what the question asks for and how each option relates to it. "
            "Leave the choice to your colleague.",
        ),
        "solver": RolePrompt(
            system="You answer reasoning questions with several options, exactly one of which is right.",
            problem="{problem}",
            message="\n\nNotes from a colleague, which may contain mistakes:\n{message}",
            closing="\n\nReason briefly, then end with a line such as 'Answer: C' that names one option.",
        ),
        "voter": RolePrompt(
            system="You answer reasoning questions with several options, exactly one of which is right.",
            problem="{problem}",
            message="",
            closing="\n\nReason briefly, then end with a line such as 'Answer: C' that names one option.",
        ),
    },
    "tiny": {  # the embedded model knows these words and no others: experiments/pretrain_tiny.py
        "thinker": RolePrompt("Think", "{problem}", "", ""),
        "solver": RolePrompt("Solve", "{problem}", "\nThought: {message}", ""),
        "voter": RolePrompt("Vote", "{problem}", "", ""),
    },
}
