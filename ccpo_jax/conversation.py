"""A question that comes with earlier turns: a system turn, examples of user and assistant."""

import dataclasses
from typing import NamedTuple

from ccpo_jax.errors import InputError

SPEAKERS = ("system", "user", "assistant")


@dataclasses.dataclass(frozen=True)
class Conversation:
    """A question and the turns of the dataset that stand before it.

    Attributes:
      history: (speaker, text) of each earlier turn, in order; a speaker is one of `SPEAKERS`.
      question: the last user turn, which the agents answer.

    Raises:
      InputError: a speaker is none of these, or a system turn follows another speaker's.

    Example:
      >>> Conversation((("user", "1+1?"), ("assistant", "2")), "2+3?").speakers
      ('user', 'assistant')
    """

    history: tuple[tuple[str, str], ...]
    question: str

    def __post_init__(self) -> None:
        before = "system"
        for speaker, _ in self.history:
            if speaker not in SPEAKERS:
                raise InputError(
                    "history",
                    f"{speaker!r:.80} is no speaker; use one of {', '.join(SPEAKERS)}",
                )
            if speaker == "system" and before != "system":
                raise InputError(
                    "history",
                    f"a system turn follows a turn of the {before}; put it first",
                )
            before = speaker

    @property
    def system(self) -> str:
        """The texts of its system turns, a blank line between two; "" where it has none."""
        texts = [text.strip() for speaker, text in self.history if speaker == "system"]
        return "\n\n".join(text for text in texts if text)

    @property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """The turns of user and assistant before the question."""
        return tuple(turn for turn in self.history if turn[0] != "system")

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who speaks in `turns`."""
        return tuple(speaker for speaker, _ in self.turns)

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything before the question: the system text where there is one, then each turn's.

        White space around a text is left out, as most chat templates do.
        """
        system = (self.system,) if self.system else ()
        return system + tuple(text.strip() for _, text in self.turns)


class Frame(NamedTuple):
    """What a chat template writes around the texts of a conversation, as token ids.

    Attributes:
      before: the ids in front of each text, in the order of the prompt.
      order: the number in `Conversation.texts` of the text that follows each of `before`.
      question: the ids between the last of these texts and the question's words.
    """

    before: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    question: tuple[int, ...]
