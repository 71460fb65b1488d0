"""Prompts put together from segments that are tokenized one by one.

A prompt is a *prefix* (the chat template's head and the problem) and a *tail* (messages of other
turns, the closing words and the start of the reply). The problem comes first, so that rows which
differ in their messages alone share their prefix. Segments are concatenated as tokens: masking an
agent removes exactly its segment's tokens.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from ccpo_jax.conversation import Conversation, Frame
from ccpo_jax.errors import InputError
from ccpo_jax.reasoning import opened_at_end

# Bounds the text that `quote` tokenizes. Words have fewer characters per token; runs of blanks may
# have more.
_CHARACTERS_PER_TOKEN = 16


class TextCodec(Protocol):
    """What prompts, rollouts and the export need of a tokenizer. Hashable; equal codecs share a
    sampler call.

    One whose tokens mark thoughts may also have `thought_tokens`, as `ccpo_jax.hf.Tokenizer` does;
    without it, the markers in a text do.
    """

    @property
    def pad_id(self) -> int:
        """Fills up rows of unequal length."""
        ...

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Any of them ends a response."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of a text, none of them a live control token."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts."""
        ...

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of many rows of ids: control tokens left out, but markers such as ``<think>``."""
        ...

    def show(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens included: for people."""
        ...

    def frame(self, system: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Live ids of the chat template before and after the user's words."""
        ...

    def conversation_frame(
        self, system: str, speakers: tuple[str, ...], *, has_system: bool
    ) -> Frame:
        """Live ids of the chat template around a conversation's texts, up to the question."""
        ...

    def save(self, folder: str | pathlib.Path) -> None:
        """Writes the tokenizer's files for an exported model."""
        ...


@dataclasses.dataclass(frozen=True)
class RolePrompt:
    """The words of one role.

    Attributes:
      system: the system turn; "" = none.
      problem: the beginning of the user turn, with ``{problem}``.
      message: the words around a message that the role reads, with ``{message}``: the segment that
        masking removes. "" = reads nobody. Where the words depend on the sender, a mapping: a role,
        "own" (an earlier turn of the reader itself), "verdict" (on the team's answer, for ratings),
        "" = any other sender.
      closing: the end of the user turn.
      stop: texts of which any ends the role's responses, besides those for every role.
    """

    system: str
    problem: str
    message: str | Mapping[str, str]
    closing: str
    # Without it in `repr`, words without stop strings are called as they always were.
    stop: tuple[str, ...] = dataclasses.field(default=(), repr=False)


@dataclasses.dataclass(frozen=True)
class Template:
    """A `RolePrompt` as token ids. Static.

    Attributes:
      system: the role's system text, which a conversation's own joins.
      head: the chat template up to the user's words.
      opening: the words before the problem.
      after: the words between problem and messages.
      message: the words before and after each message, in reading order. One pair alone serves any
        number of messages; () = reads nobody.
      closing: the closing words and the rest of the chat template.
    """

    system: str
    head: tuple[int, ...]
    opening: tuple[int, ...]
    after: tuple[int, ...]
    message: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    closing: tuple[int, ...]


def tokenize_role(
    tokenizer: TextCodec, role: RolePrompt, senders: Sequence[str] | None = None
) -> Template:
    """Tokenizes the fixed segments of a role's prompt, each on its own.

    Args:
      tokenizer: the reader's.
      role: the words.
      senders: who wrote each message, in reading order, as keys of `role.message`; None = anybody,
        any number.

    Raises:
      InputError: if `problem` lacks ``{problem}``, a message lacks ``{message}``, or there are no
      words for a sender.
    """

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text)) if text else ()

    def split_at(slot: str, segment: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        before, found, after = segment.partition(f"{{{slot}}}")
        if not found:
            raise InputError(
                "prompt_style",
                f"the {slot} segment {segment!r} has no {{{slot}}}; add it where the text belongs",
            )
        return encode(before), encode(after)

    head, end = tokenizer.frame(role.system)
    opening, after = split_at("problem", role.problem)
    if senders is None:
        senders = ("",) if role.message else ()
    message = tuple(split_at("message", words_for(role, sender)) for sender in senders)
    closing = encode(role.closing) + tuple(end)
    return Template(role.system, tuple(head), opening, after, message, closing)


def words_for(role: RolePrompt, sender: str) -> str:
    """The segment that quotes a message of `sender`, a key of `RolePrompt.message`.

    Raises:
      InputError: the role reads nobody.
    """
    words = role.message
    if not isinstance(words, str):
        words = words.get(sender, words.get("", ""))
    if not words:
        raise InputError(
            "prompt_style",
            f"the role that opens with {role.system!r} has no words for a message of "
            f"{sender or 'anybody'!r}; add them to its message, or let it read somebody else",
        )
    return words


def prefix(template: Template, tokenizer: TextCodec, problem: str | Conversation) -> list[int]:
    """Ids up to the end of the problem: the part that all rows of a prompt share."""
    head: Sequence[int] = template.head
    if isinstance(problem, Conversation):
        head = _conversation_head(template, tokenizer, problem)
        problem = problem.question
    return [*head, *template.opening, *tokenizer.encode(problem), *template.after]


def _conversation_head(
    template: Template, tokenizer: TextCodec, problem: Conversation
) -> list[int]:
    """Ids up to the user's last words, in place of `Template.head`: no text is a control token."""
    frame = frame_of(template, tokenizer, problem)
    texts = tokenizer.encode_batch(problem.texts)
    ids: list[int] = []
    for before, number in zip(frame.before, frame.order, strict=True):
        ids += [*before, *texts[number]]
    return ids + list(frame.question)


def frame_of(template: Template, tokenizer: TextCodec, problem: Conversation) -> Frame:
    """What stands around the texts of a conversation, for a role.

    Raises:
      InputError: the chat template does not write such turns.
    """
    return tokenizer.conversation_frame(
        template.system, problem.speakers, has_system=bool(problem.system)
    )


def live_tokens(template: Template, tokenizer: TextCodec, problem: Conversation) -> int:
    """How many tokens stand around the texts of a conversation, up to the question's words."""
    frame = frame_of(template, tokenizer, problem)
    return sum(len(ids) for ids in frame.before) + len(frame.question)


def tail(template: Template, messages: Sequence[Sequence[int] | None]) -> list[int]:
    """Ids after the problem: a segment per message, the closing words, the start of the reply.

    Args:
      template: the reader's.
      messages: quoted messages in reading order; None = its sender is masked.
    """
    words = template.message
    if len(words) == 1:
        words = words * len(messages)
    elif not messages:
        words = ()

    ids: list[int] = []
    for message, (before, after) in zip(messages, words, strict=True):
        if message is not None:
            ids += [*before, *message, *after]
    return ids + list(template.closing)


def whole(template: Template, tokenizer: TextCodec, problem: str | Conversation) -> list[int]:
    """The complete prompt of a role that reads no messages."""
    return prefix(template, tokenizer, problem) + tail(template, [])


def opened_thought(template: Template, tokenizer: TextCodec) -> str:
    """The marker such as ``<think>`` that ends the prompt; "" where none does.

    A response then begins within a thought. Its text alone would not tell, and the thought of a
    response that was cut off would be taken for the answer.
    """
    # The role's own words open none, also where nothing but control tokens stands behind them.
    hidden = getattr(tokenizer, "control_ids", frozenset()) - getattr(
        tokenizer, "marker_ids", frozenset()
    )
    controls = [place for place, token_id in enumerate(template.closing) if token_id in hidden]
    end = template.closing[controls[-1] + 1 :] if controls else template.closing
    (text,) = tokenizer.decode_batch([end])
    return opened_at_end(text)


def quote(tokenizer: TextCodec, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Messages as inert tokens: no control token, no end token, at most `max_tokens` each."""
    short = [text[: max_tokens * _CHARACTERS_PER_TOKEN] for text in texts]
    return [ids[:max_tokens] for ids in tokenizer.encode_batch(short)]
