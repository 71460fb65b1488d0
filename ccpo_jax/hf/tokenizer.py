"""Hugging Face tokenizers and chat templates, with one rule: text never becomes a control token.

The chat template is rendered around a placeholder, and the control tokens it writes are live.
Problems and messages are tokenized separately, every control token in them as ordinary text, so
nothing that an agent or a dataset writes can end a turn or open another role's.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jinja2

from ccpo_jax.errors import InputError, first_line
from ccpo_jax.hf import hub

# Stands for the user's words in a rendered template. Nothing in it that a template would trim.
_PLACEHOLDER = "PLACEHOLDERofTHEtext"

# Llama's own default. Its newer templates would write today's date, and no run could be repeated.
_DATE = "26 Jul 2024"


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """A tokenizer with its chat template.

    Compared and hashed by identity, so load it once per checkpoint.

    Attributes:
      backend: a fast tokenizer of transformers.
      pad_id: id that fills up prompts and responses of different lengths.
      eos_ids: ids of which any ends a response.
      thinking: Qwen3: whether the model opens its think block itself; else the prompt closes it.
    """

    backend: Any
    pad_id: int
    eos_ids: tuple[int, ...]
    thinking: bool = False

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return len(self.backend)

    @functools.cached_property
    def control_ids(self) -> frozenset[int]:
        """Ids that structure a conversation: special tokens, and added tokens in the template."""
        # One template, or several by name.
        template = str(self.backend.chat_template or "")
        return frozenset(
            token_id
            for token_id, token in self.backend.added_tokens_decoder.items()
            if token.special or token.content in template
        )

    def encode(self, text: str) -> list[int]:
        """Ids of a text, none of them a control token. Lone surrogates become "?"."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts."""
        printable = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [self._spell_out(ids) for ids in self._split(printable)]

    def _split(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts, special tokens split into ordinary ones."""
        if not texts:
            return []
        return self.backend(
            texts, add_special_tokens=False, split_special_tokens=True, verbose=False
        )["input_ids"]

    def _spell_out(self, ids: list[int]) -> list[int]:
        """Replaces control tokens by their letters: the backend splits special tokens only."""
        present = self.control_ids.intersection(ids)
        if not present:
            return ids
        spelling = {control_id: self._letters(control_id) for control_id in present}
        inert: list[int] = []
        for token_id in ids:
            inert.extend(spelling.get(token_id, [token_id]))
        return inert

    def _letters(self, control_id: int) -> list[int]:
        """The text of a control token, tokenized letter by letter."""
        letters = list(self.backend.added_tokens_decoder[control_id].content)
        ordinary: list[int] = []
        for ids in self._split(letters):
            ordinary.extend(self._without_control(ids))
        return ordinary

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens left out."""
        return self.decode_batch([ids])[0]

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """`decode` for many rows of ids."""
        ordinary = [self._without_control(map(int, row)) for row in rows]
        return self.backend.batch_decode(
            ordinary, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _without_control(self, ids: Iterable[int]) -> list[int]:
        return [token_id for token_id in ids if token_id not in self.control_ids]

    def frame(self, system: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Live ids of the chat template before and after the user's words.

        What follows them includes the start of the reply.

        Where the template has no system role, the system text opens the user turn. Models without a
        template (base models) get the system text, a blank line, the user's words and "Answer:".

        Raises:
          InputError: the template is not valid jinja, or does not write the user's words exactly
            once.
        """
        if self.backend.chat_template is None:
            bos = () if self.backend.bos_token_id is None else (self.backend.bos_token_id,)
            opening = f"{system}\n\n" if system else ""
            return bos + self._encode_live(opening), self._encode_live("\n\nAnswer:\n")

        # Most templates strip it, and it is looked for in what they write.
        system = system.strip()
        rendered = self._render(_turns(system))
        if rendered is not None and system in rendered:
            before, after = _split_at_placeholder(rendered)
            return self._encode_live(before), self._encode_live(after)

        # No system role: the system text goes to the beginning of the user turn.
        before, after = _split_at_placeholder(self._render(_turns("")))
        opening = tuple(self.encode(f"{system}\n\n"))
        return self._encode_live(before) + opening, self._encode_live(after)

    def _render(
        self, turns: list[dict[str, str]], *, add_generation_prompt: bool = True
    ) -> str | None:
        """A conversation as the template writes it; None if the template refuses such turns."""
        try:
            return self.backend.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=self.thinking,
                date_string=_DATE,
            )
        except jinja2.TemplateSyntaxError as error:
            raise InputError(
                "model", f"its chat template is not valid jinja ({error}); correct the template"
            ) from error
        except jinja2.TemplateError:
            return None

    def _encode_live(self, text: str) -> tuple[int, ...]:
        """Ids of a piece of the template, control tokens live."""
        if not text:
            return ()
        return tuple(self.backend(text, add_special_tokens=False, verbose=False)["input_ids"])

    def end_of_turn_id(self) -> int | None:
        """The first control token that the template writes after an assistant's words, or None."""
        if self.backend.chat_template is None:
            return None
        turns = [
            {"role": "user", "content": "question"},
            {"role": "assistant", "content": _PLACEHOLDER},
        ]
        rendered = self._render(turns, add_generation_prompt=False) or ""
        for token_id in self._encode_live(rendered.partition(_PLACEHOLDER)[2]):
            if token_id in self.control_ids:
                return token_id
        return None

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the tokenizer, its template and the end tokens in Hugging Face format."""
        self.backend.save_pretrained(str(folder))
        generation_config = {"eos_token_id": list(self.eos_ids), "pad_token_id": self.pad_id}
        text = json.dumps(generation_config, indent=2) + "\n"
        pathlib.Path(folder, "generation_config.json").write_text(text)


def load_tokenizer(
    path_or_hub_name: str, *, revision: str | None = None, thinking: bool = False
) -> Tokenizer:
    """Loads a tokenizer with everything that can end a response.

    End tokens are the tokenizer's own, those of generation_config.json, and what the chat template
    writes after an assistant's turn.

    Args:
      path_or_hub_name: a folder in Hugging Face format, ``~`` expanded, or a Hub name.
      revision: branch, tag or commit of a Hub name.
      thinking: see `Tokenizer`.

    Raises:
      InputError: nothing there, no network, no fast tokenizer, an unusable chat template, or no end
        token.
    """
    # Without this, transformers advises in every run to install torch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import PreTrainedTokenizerFast

    folder = hub.fetch(path_or_hub_name, revision=revision, weights=False)
    try:
        # This class reads tokenizer.json as it is; AutoTokenizer would rebuild it as its
        # model_type's own.
        backend: Any = PreTrainedTokenizerFast.from_pretrained(folder)
        generation_ends = _generation_ends(folder / "generation_config.json")
        # Some damaged files show only in use.
        backend.decode(backend("one text")["input_ids"])
    except Exception as error:
        # The libraries raise errors of any type over malformed files.
        raise InputError(
            "model",
            f"no tokenizer could be loaded from {path_or_hub_name!r} ({first_line(error)}); type "
            "--config.model=FOLDER with tokenizer.json and config.json, or a Hub name where there "
            "is a network",
        ) from error

    tokenizer = Tokenizer(backend, pad_id=0, eos_ids=(), thinking=thinking)
    ends = [backend.eos_token_id, *generation_ends, tokenizer.end_of_turn_id()]
    eos_ids = tuple(dict.fromkeys(end for end in ends if end is not None))
    if not eos_ids:
        raise InputError(
            "model",
            f"{path_or_hub_name!r} has no end token; "
            "add eos_token_id to its generation_config.json",
        )
    pad_id = eos_ids[0] if backend.pad_token_id is None else backend.pad_token_id
    return dataclasses.replace(tokenizer, pad_id=pad_id, eos_ids=eos_ids)


def _turns(system: str) -> list[dict[str, str]]:
    """A conversation with the placeholder as the user's words; no system turn if `system` is ""."""
    user = {"role": "user", "content": _PLACEHOLDER}
    return [{"role": "system", "content": system}, user] if system else [user]


def _split_at_placeholder(rendered: str | None) -> tuple[str, str]:
    """What the template writes before and after the user's words."""
    pieces = [] if rendered is None else rendered.split(_PLACEHOLDER)
    if len(pieces) != 2:
        times = max(len(pieces) - 1, 0)
        raise InputError(
            "model",
            f"its chat template writes the user's words {times} times; "
            "use a template that writes them once",
        )
    return pieces[0], pieces[1]


def _generation_ends(file: pathlib.Path) -> list[int]:
    """The end tokens that a generation_config.json names; none where there is no such file."""
    if not file.is_file():
        return []
    ends = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
    if ends is None:
        return []
    ends = ends if isinstance(ends, list) else [ends]
    if not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
        raise ValueError(
            f"eos_token_id in {file.name} must be a token id or a list of them, "
            f"received {ends!r:.60}"
        )
    return ends
