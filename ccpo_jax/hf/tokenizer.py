"""Hugging Face tokenizers and chat templates, with one rule: text never turns into control tokens.

The chat template is rendered around a placeholder only, and its own tokens are live. Problems and messages are
tokenized apart from it with every control token spelled out as ordinary text, so nothing that an agent or a dataset
writes can end a turn or open another role's.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2

os.environ.setdefault(
    "TRANSFORMERS_NO_ADVISORY_WARNINGS", "1"
)  # it would advise, in every run, to install torch
from transformers import PreTrainedTokenizerFast  # noqa: E402

from ccpo_jax.errors import first_line
from ccpo_jax.hf import hub

_PLACEHOLDER = "PLACEHOLDERofTHEtext"  # survives templates that trim their content
_DATE = "26 Jul 2024"  # Llama's own default; its newer templates would write today's, and no run could be repeated


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """A tokenizer with its chat template. Compared and hashed by identity: load it once per checkpoint."""

    backend: Any  # a transformers fast tokenizer
    pad_id: int
    eos_ids: tuple[int, ...]  # any of them ends a response
    thinking: bool = (
        False  # Qwen3: leave the think block to the model instead of closing it in the prompt
    )

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return len(self.backend)

    @functools.cached_property
    def control_ids(self) -> frozenset[int]:
        """Ids that structure a conversation: every special token, and every added token the template writes."""
        added = self.backend.added_tokens_decoder
        written = str(self.backend.chat_template or "")  # a text, or several by name
        return frozenset(
            i for i, token in added.items() if token.special or token.content in written
        )

    def encode(self, text: str) -> list[int]:
        """Ids of a text, none of them a control token. Lone surrogates become "?"."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts."""
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        if not clean:
            return []
        rows = self.backend(
            clean, add_special_tokens=False, split_special_tokens=True, verbose=False
        )["input_ids"]
        return [self._inert(row) if not self.control_ids.isdisjoint(row) else row for row in rows]

    def _inert(self, row: list[int]) -> list[int]:
        """Spells out the control tokens that the backend cannot split (those not marked special) letter by letter."""
        letters = {i: self._letters(i) for i in self.control_ids.intersection(row)}
        return [letter for i in row for letter in letters.get(i, (i,))]

    def _letters(self, control_id: int) -> list[int]:
        letters = list(self.backend.added_tokens_decoder[control_id].content)
        rows = self.backend(
            letters, add_special_tokens=False, split_special_tokens=True, verbose=False
        )["input_ids"]
        return [i for row in rows for i in row if i not in self.control_ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens left out."""
        return self.decode_batch([ids])[0]

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """`decode` for many rows."""
        kept = [[int(i) for i in row if int(i) not in self.control_ids] for row in rows]
        return self.backend.batch_decode(
            kept, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def frame(self, system: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Live ids of the chat template before the user's words and after them, the start of the reply included.

        Where the template has no system role, the system text opens the user turn. Models without a template (base
        models) get the system text, a blank line, the user's words and "Answer:".
        """
        if self.backend.chat_template is None:
            bos = () if self.backend.bos_token_id is None else (self.backend.bos_token_id,)
            return bos + self._live(f"{system}\n\n" if system else ""), self._live("\n\nAnswer:\n")
        system = system.strip()  # as most templates do
        rendered = self._render(_turns(system))
        if rendered is None or system not in rendered:
            before, after = self._around(self._render(_turns("")))
            return self._live(before) + tuple(self.encode(f"{system}\n\n")), self._live(after)
        before, after = self._around(rendered)
        return self._live(before), self._live(after)

    def _render(self, turns: list[dict[str, str]], reply: bool = True) -> str | None:
        """A conversation, with the start of the reply if asked; None if the template refuses such turns."""
        try:
            return self.backend.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=reply,
                enable_thinking=self.thinking,
                date_string=_DATE,
            )
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(
                f"model: its chat template is no valid jinja ({error}); correct the template"
            ) from error
        except jinja2.TemplateError:
            return None

    def _around(self, rendered: str | None) -> tuple[str, str]:
        """What the template writes before and after the user's words."""
        parts = [] if rendered is None else rendered.split(_PLACEHOLDER)
        if len(parts) != 2:
            raise ValueError(
                f"model: its chat template writes a user's words {max(len(parts) - 1, 0)} times; "
                "use a template that writes them once"
            )
        return parts[0], parts[1]

    def _live(self, text: str) -> tuple[int, ...]:
        """Ids of a piece of the template, control tokens live."""
        return (
            tuple(self.backend(text, add_special_tokens=False, verbose=False)["input_ids"])
            if text
            else ()
        )

    def save(self, folder: str | pathlib.Path) -> None:
        """Writes the tokenizer, its template and the end tokens in Hugging Face format."""
        self.backend.save_pretrained(str(folder))
        ends = {"eos_token_id": list(self.eos_ids), "pad_token_id": self.pad_id}
        pathlib.Path(folder, "generation_config.json").write_text(json.dumps(ends, indent=2) + "\n")


def load_tokenizer(
    path_or_hub_name: str, *, revision: str | None = None, thinking: bool = False
) -> Tokenizer:
    """Loads a tokenizer with everything that can end a response.

    End tokens are the tokenizer's own, those of generation_config.json, and what the chat template writes after an
    assistant's turn.

    Args:
      path_or_hub_name: a folder in Hugging Face format, or a Hub name.
      revision: Hub revision.
      thinking: see `Tokenizer`.

    Raises:
      ValueError: nothing there, no network, no fast tokenizer, an unusable chat template, or no end token.
    """
    folder = hub.fetch(path_or_hub_name, revision=revision, weights=False)
    try:
        # Reads tokenizer.json as it stands; the automatic class would rebuild it as its model_type's own tokenizer.
        backend = PreTrainedTokenizerFast.from_pretrained(folder)
        generation_ends = _generation_ends(folder / "generation_config.json")
        backend.decode(
            backend("one text")["input_ids"]
        )  # what is wrong with some files shows in use
    except Exception as error:  # the libraries raise all there is over foreign files
        raise ValueError(
            f"model: no tokenizer could be loaded from {path_or_hub_name!r} ({first_line(error)}); "
            "type --config.model=FOLDER with tokenizer.json and config.json, or a Hub name where there is a network"
        ) from error
    bare = Tokenizer(backend, pad_id=0, eos_ids=(), thinking=thinking)
    ends = [backend.eos_token_id, *generation_ends, _end_of_turn(bare)]
    eos_ids = tuple(dict.fromkeys(i for i in ends if i is not None))
    if not eos_ids:
        raise ValueError(
            f"model: {path_or_hub_name!r} names no end token; add eos_token_id to its generation_config.json"
        )
    pad_id = eos_ids[0] if backend.pad_token_id is None else backend.pad_token_id
    return dataclasses.replace(bare, pad_id=pad_id, eos_ids=eos_ids)


def _turns(system: str) -> list[dict[str, str]]:
    user = {"role": "user", "content": _PLACEHOLDER}
    return [{"role": "system", "content": system}, user] if system else [user]


def _generation_ends(file: pathlib.Path) -> list[int]:
    if not file.is_file():
        return []
    ends = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
        raise ValueError(
            f"eos_token_id in {file.name} must be a token id or a list of them, received {ends!r:.60}"
        )
    return ends


def _end_of_turn(tokenizer: Tokenizer) -> int | None:
    """The first control token that the template writes after an assistant's words; None if it shows no such turn."""
    if tokenizer.backend.chat_template is None:
        return None
    turns = [
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": _PLACEHOLDER},
    ]
    after = tokenizer._live(
        (tokenizer._render(turns, reply=False) or "").partition(_PLACEHOLDER)[2]
    )
    return next((i for i in after if i in tokenizer.control_ids), None)
