"""What each role is told, and prompts put together from separately tokenized segments.

A prompt is a *prefix* (the chat template's head and the problem) and a *tail* (partners' messages, the closing words
and the start of the reply). The problem comes first, so that rows which differ in their messages alone share their
prefix. Segments are tokenized on their own and concatenated: masking an agent removes exactly its segment's tokens.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

_CHARACTERS_PER_TOKEN = (
    16  # words pack fewer, runs of blanks may pack more; bounds what `quote` tokenizes
)


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
    message: (
        str | Mapping[str, str]
    )  # one message that is read, with {message}: the segment that masking removes; ""
    # = reads nobody. By who said it where the words differ: a role, "own" (what the reader itself said before),
    # "verdict" (the outcome, when rating), "" = anybody else
    closing: str  # end of the user turn


@dataclasses.dataclass(frozen=True)
class Template:
    """A `RolePrompt` as token ids."""

    head: tuple[int, ...]  # chat template up to the user's words, and the words before the problem
    after: tuple[int, ...]  # the words between problem and messages
    message: tuple[
        tuple[tuple[int, ...], tuple[int, ...]], ...
    ]  # the words around each message that is read, in
    # reading order; one pair alone serves any number of messages, () = reads nobody
    closing: tuple[int, ...]  # closing words and the rest of the chat template


def tokenize_role(
    tokenizer: TextCodec, role: RolePrompt, hears: Sequence[str] | None = None
) -> Template:
    """Tokenizes the fixed parts of a role's prompt, each on its own.

    Args:
      tokenizer: the reader's.
      role: the words.
      hears: who said what the reader reads, in reading order, as keys of `role.message`; None = anybody, any number.

    Raises:
      ValueError: if `problem` lacks ``{problem}``, a message lacks ``{message}``, or someone is heard for whom there
        are no words.
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

    def words_for(speaker: str) -> str:
        words = (
            role.message
            if isinstance(role.message, str)
            else role.message.get(speaker, role.message.get("", ""))
        )
        if not words:
            raise ValueError(
                f"prompt_style: the role that opens with {role.system!r} has no words for a message of "
                f"{speaker or 'anybody'!r}; add them to its message, or let it read somebody else"
            )
        return words

    head, end = tokenizer.frame(role.system)
    before, after = around("problem", role.problem)
    if hears is None:
        hears = ("",) if role.message else ()
    message = tuple(around("message", words_for(speaker)) for speaker in hears)
    return Template(tuple(head) + before, after, message, encode(role.closing) + tuple(end))


def prefix(template: Template, tokenizer: TextCodec, problem: str) -> list[int]:
    """Ids up to the end of the problem: the part that all rows of a prompt share."""
    return [*template.head, *tokenizer.encode(problem), *template.after]


def tail(template: Template, messages: Sequence[Sequence[int] | None]) -> list[int]:
    """Ids after the problem: one segment per partner that is present, the closing words, the start of the reply.

    Args:
      template: the reader's.
      messages: quoted messages in reading order; None = masked.
    """
    ids: list[int] = []
    around = template.message * (len(messages) if len(template.message) == 1 else 1)
    for message, (before, after) in zip(messages, around, strict=bool(messages)):
        if message is not None:
            ids += [*before, *message, *after]
    return ids + list(template.closing)


def whole(template: Template, tokenizer: TextCodec, problem: str) -> list[int]:
    """The complete prompt of someone who reads nobody."""
    return prefix(template, tokenizer, problem) + tail(template, [])


def quote(tokenizer: TextCodec, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Partners' messages as inert tokens: no control token, no end token, at most `max_tokens` each."""
    short = [text[: max_tokens * _CHARACTERS_PER_TOKEN] for text in texts]
    return [row[:max_tokens] for row in tokenizer.encode_batch(short)]


def pad_right(
    rows: Sequence[Sequence[int]], length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows padded behind: ``([N, length], [N])`` int32, ids and lengths."""
    ids = np.full((len(rows), length), pad_id, np.int32)
    for target, row in zip(ids, rows, strict=True):
        target[: len(row)] = row
    return ids, np.array([len(row) for row in rows], np.int32)


def pad_left(
    rows: Sequence[Sequence[int]], length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows padded in front: ``([N, length], [N])`` int32, ids and lengths."""
    ids = np.full((len(rows), length), pad_id, np.int32)
    for target, row in zip(ids, rows, strict=True):
        target[length - len(row) :] = row
    return ids, np.array([len(row) for row in rows], np.int32)


_CHECK = {
    "planner": "\n\nThe plan a colleague made:\n{message}",
    "solver": "\n\nThe solution a colleague wrote, which may contain mistakes:\n{message}",
    "": "\n\nWhat a colleague wrote, which may contain mistakes:\n{message}",
}
_DEBATE = {
    "own": "\n\nYour own first answer:\n{message}",
    "": "\n\nThe answer of a colleague, who worked alone and may be wrong:\n{message}",
}
_RATE = (  # closing words of both raters; ccpo_jax/ratings.py reads the reply
    "\n\nWho is to be thanked for this outcome if it is right, or blamed if it is wrong? Reply with one JSON object "
    "that holds the outcome as told and two shares between 0.1 and 0.9, in steps of 0.1, that add up to 1: "
    '{"outcome": WORD, "thinker": SHARE, "solver": SHARE}.'
)
_TINY_RATE = {"verdict": "\nAnswer: {message}", "": "\nThought: {message}"}

# style -> role -> words. A style has the roles of the topologies that use it, and those in which a dyad rates itself.
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
        "planner": RolePrompt(
            system="You plan how mathematics problems are to be solved. Others will carry the plan out and check it.",
            problem="{problem}",
            message="",
            closing="\n\nWrite a short numbered plan: what is given, what is asked, and the steps that lead from one "
            "to the other. Leave the computation and the final answer to your colleagues.",
        ),
        "checker": RolePrompt(
            system="You check solutions of mathematics problems and correct them.",
            problem="{problem}",
            message=_CHECK,
            closing="\n\nCheck every step against the problem, correct what is wrong and put the final answer, and "
            "nothing else, inside \\boxed{}.",
        ),
        "debater": RolePrompt(
            system="You solve mathematics problems and discuss them with colleagues.",
            problem="{problem}",
            message=_DEBATE,
            closing="\n\nCompare the answers. Where they differ, find out which one is right, whoever gave it. Put "
            "your final answer, and nothing else, inside \\boxed{}.",
        ),
        "rate_thinker": RolePrompt(
            system="You wrote notes on a mathematics problem for a colleague, the solver. Your part was the thinker's.",
            problem="{problem}",
            message={
                "thinker": "\n\nYour notes:\n{message}",
                "solver": "\n\nThe solver's answer:\n{message}",
                "verdict": "\n\nThe verdict on the answer: {message}",
            },
            closing=_RATE,
        ),
        "rate_solver": RolePrompt(
            system="You solved a mathematics problem with the notes of a colleague, the thinker. Your part was the "
            "solver's.",
            problem="{problem}",
            message={
                "thinker": "\n\nThe thinker's notes:\n{message}",
                "solver": "\n\nYour answer:\n{message}",
                "verdict": "\n\nThe verdict on the answer: {message}",
            },
            closing=_RATE,
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
        "planner": RolePrompt(
            system="You plan how reasoning questions are to be answered. Others will answer them and check the answer.",
            problem="{problem}",
            message="",
            closing="\n\nSay in a few numbered points what has to be established and in which order the options are "
            "to be tried. Leave the choice to your colleagues.",
        ),
        "checker": RolePrompt(
            system="You check answers to reasoning questions with several options, exactly one of which is right.",
            problem="{problem}",
            message=_CHECK,
            closing="\n\nCheck the reasoning against the text, correct what is wrong and end with a line such as "
            "'Answer: C' that names one option.",
        ),
        "debater": RolePrompt(
            system="You answer reasoning questions with several options and discuss them with colleagues.",
            problem="{problem}",
            message=_DEBATE,
            closing="\n\nCompare the answers. Where they differ, find out which one is right, whoever gave it. End "
            "with a line such as 'Answer: C' that names one option.",
        ),
        "rate_thinker": RolePrompt(
            system="You wrote notes on a question for a colleague, the solver. Your part was the thinker's.",
            problem="{problem}",
            message={
                "thinker": "\n\nYour notes:\n{message}",
                "solver": "\n\nThe solver's choice:\n{message}",
                "verdict": "\n\nThe verdict on the choice: {message}",
            },
            closing=_RATE,
        ),
        "rate_solver": RolePrompt(
            system="You answered a question with the notes of a colleague, the thinker. Your part was the solver's.",
            problem="{problem}",
            message={
                "thinker": "\n\nThe thinker's notes:\n{message}",
                "solver": "\n\nYour choice:\n{message}",
                "verdict": "\n\nThe verdict on the choice: {message}",
            },
            closing=_RATE,
        ),
    },
    "tiny": {  # the embedded models know few words: experiments/pretrain_tiny.py and experiments/teach_tiny.py
        "thinker": RolePrompt("Think", "{problem}", "", ""),
        "solver": RolePrompt("Solve", "{problem}", "\nThought: {message}", ""),
        "voter": RolePrompt("Vote", "{problem}", "", ""),
        "planner": RolePrompt("Think", "{problem}", "", ""),
        "checker": RolePrompt("Solve", "{problem}", "\nThought: {message}", ""),
        "debater": RolePrompt("Vote", "{problem}", "\nThought: {message}", ""),
        "rate_thinker": RolePrompt("Rate Think", "{problem}", _TINY_RATE, ""),
        "rate_solver": RolePrompt("Rate Solve", "{problem}", _TINY_RATE, ""),
    },
}
