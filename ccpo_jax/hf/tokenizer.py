"""Hugging Face tokenizers and chat templates, with one rule: text never becomes a control token.

The chat template is rendered around a placeholder, and the control tokens it writes are live.
Problems and messages are tokenized separately, every control token in them as ordinary text, so
nothing that an agent or a dataset writes can end a turn or open another role's.
"""

import dataclasses
import functools
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ccpo_jax.conversation import Frame
from ccpo_jax.errors import InputError, first_line
from ccpo_jax.extras import train_extra
from ccpo_jax.fields import expand_home
from ccpo_jax.hf import chat_template, hub, model_files
from ccpo_jax.hf.model_files import ModelFiles
from ccpo_jax.hf.token_bytes import check_token_bytes, token_bytes
from ccpo_jax.reasoning import Marker, marker_of
from ccpo_jax.stop_strings import TokenBytes

# Tokens in brackets that say where a thought or an answer begins or ends. Verifiers need them.
_MARKER = re.compile(
    r"[<\[◁][^\s<>]*"
    r"(?:think|thought|reason|reflect|scratchpad|analysis|channel|message|answer|solution|_of_box)"
    r"[^\s<>]*[>\]▷]",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """A tokenizer with its chat template.

    Compared and hashed by identity, so load it once per checkpoint.

    Attributes:
      backend: a fast tokenizer of transformers.
      pad_id: id that fills up prompts and responses of different lengths.
      eos_ids: ids of which any ends a response.
      thinking: whether the chat template lets the model think; None = the template's default.
      files: the settings it was loaded with, which `save` keeps.
    """

    backend: Any
    pad_id: int
    eos_ids: tuple[int, ...]
    thinking: bool | None = None
    files: ModelFiles = ModelFiles()

    @functools.cached_property
    def vocab_size(self) -> int:
        """One more than the highest id, added tokens included."""
        return max(self.backend.get_vocab().values()) + 1

    @functools.cached_property
    def unused_ids(self) -> tuple[int, ...]:
        """Ids below `vocab_size` that no token has, in ascending order."""
        return tuple(sorted(set(range(self.vocab_size)) - set(self.backend.get_vocab().values())))

    @functools.cached_property
    def control_ids(self) -> frozenset[int]:
        """Ids that structure a conversation: special tokens, markers, added tokens in the
        template, but for blanks.
        """
        # One template, or several by name.
        template = str(self.backend.chat_template or "")
        special = frozenset(
            token_id
            for token_id, token in self.backend.added_tokens_decoder.items()
            if token.special or (token.content.strip() and token.content in template)
        )
        return special | self.marker_ids

    @functools.cached_property
    def marker_ids(self) -> frozenset[int]:
        """Added tokens such as ``<think>``, ``</think>`` and ``<answer>``, which stay in texts."""
        ids = []
        for token_id, token in self.backend.added_tokens_decoder.items():
            marks_thought = self.thought_tokens.get(token_id) in ("opening", "closing")
            if marks_thought or _MARKER.fullmatch(token.content):
                ids.append(token_id)
        return frozenset(ids)

    @functools.cached_property
    def thought_tokens(self) -> dict[int, Marker]:
        """Added tokens that mark thoughts, and what each does; {} where there are none."""
        markers: dict[int, Marker] = {}
        for token_id, token in self.backend.added_tokens_decoder.items():
            marker = marker_of(token.content)
            if marker is not None:
                markers[token_id] = marker
        if "channel" in markers.values():
            return markers
        # Tokens of other formats are called as those of a channel's header are.
        return {i: kind for i, kind in markers.items() if kind in ("opening", "closing")}

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
        """Text of ids: control tokens left out, markers of thoughts and answers kept as text.

        Without the markers a thought would look like the answer.
        """
        return self.decode_batch([ids])[0]

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """`decode` for many rows of ids."""
        hidden = self.control_ids - self.marker_ids
        kept = [[token_id for token_id in map(int, row) if token_id not in hidden] for row in rows]
        return self.backend.batch_decode(
            kept, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    @functools.cached_property
    def token_bytes(self) -> TokenBytes:
        """What each token adds to the text of `decode_batch`.

        Raises:
          InputError: texts are not what their tokens add up to.
        """
        tokens = {token_id: token for token, token_id in self.backend.get_vocab().items()}
        # Without the layer above it, which takes ten times as long.
        decode = functools.partial(
            self.backend.backend_tokenizer.decode_batch, skip_special_tokens=False
        )
        added = token_bytes(decode, tokens, self.control_ids - self.marker_ids)
        check_token_bytes(added, self.decode_batch)
        return added

    def show(self, ids: Sequence[int]) -> str:
        """Text of ids for people: with its control tokens, and a backslash before each that is
        merely spelled out.
        """
        tokens = self.backend.added_tokens_decoder
        controls = sorted((tokens[i].content for i in self.control_ids), key=len, reverse=True)
        spelled = re.compile("|".join(map(re.escape, controls)) or r"(?!)")
        pieces = []
        for is_control, run in itertools.groupby(map(int, ids), self.control_ids.__contains__):
            if is_control:
                pieces += [tokens[token_id].content for token_id in run]
                continue
            text = self.backend.decode(list(run), clean_up_tokenization_spaces=False)
            pieces.append(spelled.sub(r"\\\g<0>", text))
        return "".join(pieces)

    def _without_control(self, ids: Iterable[int]) -> list[int]:
        return [token_id for token_id in ids if token_id not in self.control_ids]

    def frame(self, system: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Live ids of the chat template before and after the user's words.

        What follows them includes the start of the reply.

        Where the template has no system role, the system text opens the user turn. Models without a
        template (base models) get the system text, a blank line, the user's words and "Answer:".

        Raises:
          InputError: the template is not valid jinja, does not write the user's words exactly once,
            or writes a system turn where `system` is "".
        """
        if self.backend.chat_template is None:
            opening = self._encode_live(f"{system}\n\n" if system else "")
            return self._beginning() + opening, self._encode_live("\n\nAnswer:\n")

        # Most templates strip it, and it is looked for in what they write.
        system = system.strip()
        around = None
        if system:
            around = chat_template.around_user(self.backend, system, variables=self._variables)
        if around is not None:
            before, after = around
            return self._encode_live(before), self._encode_live(after)

        # Without a system role, the system text goes to the beginning of the user turn.
        before, after = chat_template.around_user_alone(self.backend, variables=self._variables)
        opening = tuple(self.encode(f"{system}\n\n")) if system else ()
        return self._encode_live(before) + opening, self._encode_live(after)

    def conversation_frame(
        self, system: str, speakers: tuple[str, ...], *, has_system: bool
    ) -> Frame:
        """Live ids of the chat template around the texts of a conversation, up to the question.

        The role's system text and the conversation's share one system turn, the role's first. Where
        the template has no system role, they open the first user turn. The template is rendered
        once for each sequence of speakers. Models without a template get the texts with blank lines
        between, and "Answer:" before those of an assistant.

        Args:
          system: the role's system text; "" = none.
          speakers: of the turns before the question: "user" or "assistant".
          has_system: whether the conversation has a system text.

        Raises:
          InputError: the template does not write such turns: it raises, drops or repeats one, or
            writes something else behind the question than where it stands alone.
        """
        key = (system, speakers, has_system)
        if key not in self._frames:
            self._frames[key] = self._render_frame(system.strip(), speakers, has_system)
        return self._frames[key]

    @functools.cached_property
    def _frames(self) -> dict[tuple[str, tuple[str, ...], bool], Frame]:
        """What `conversation_frame` has rendered."""
        return {}

    def _render_frame(self, system: str, speakers: tuple[str, ...], has_system: bool) -> Frame:
        if self.backend.chat_template is None:
            return self._plain_frame(system, speakers, has_system)

        # The question is the last turn; a number behind it stands for the system text.
        turns = (*speakers, "user")
        own = [chat_template.placeholder(len(turns))] if has_system else []
        texts = "\n\n".join(([system] if system else []) + own)
        around = None
        if texts:
            around = chat_template.around_user(self.backend, texts, variables=self._variables)
        try:
            written = chat_template.around_turns(
                self.backend,
                None if around is None else texts,
                turns,
                variables=self._variables,
            )
        except chat_template.RefusedError as error:
            listed = ("system", *turns) if around is not None else turns
            raise InputError(
                "model",
                f"its chat template does not write turns of {', '.join(listed):.200}: {error}; "
                "leave the turns before the question out of the data, or use a model whose "
                "template writes them",
            ) from error
        if self._encode_live(written.after) != self.frame(system)[1]:
            raise InputError(
                "model",
                "its chat template writes something else behind a question that has turns before "
                "it; leave these turns out of the data, or use another model",
            )

        before = [self._encode_live(text) for text in written.before]
        order = [0 if number == len(turns) else number + len(own) for number in written.order]
        if texts and around is None:
            # Without a system role, they go to the beginning of the first user turn.
            first = written.order.index(turns.index("user"))
            if system:
                before[first] += tuple(self.encode(f"{system}\n\n"))
            if has_system:
                before.insert(first, before[first])
                before[first + 1] = tuple(self.encode("\n\n"))
                order.insert(first, 0)
        return Frame(tuple(before[:-1]), tuple(order[:-1]), before[-1])

    def _plain_frame(self, system: str, speakers: tuple[str, ...], has_system: bool) -> Frame:
        """The frame of a model without a template."""
        before = self._beginning() + self._encode_live(f"{system}\n\n" if system else "")
        pieces = []
        if has_system:
            pieces.append(before)
            before = self._encode_live("\n\n")
        for speaker in speakers:
            if speaker == "assistant":
                before += self._encode_live("Answer:\n")
            pieces.append(before)
            before = self._encode_live("\n\n")
        return Frame(tuple(pieces), tuple(range(len(pieces))), before)

    def _beginning(self) -> tuple[int, ...]:
        """What the tokenizer itself puts in front of a text: a begin token, or nothing."""
        text = "a"
        whole = self.backend(text, verbose=False)["input_ids"]
        bare = self.backend(text, add_special_tokens=False, verbose=False)["input_ids"]
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                return tuple(whole[:start])
        return ()

    def _encode_live(self, text: str) -> tuple[int, ...]:
        """Ids of a piece of the template, control tokens live."""
        if not text:
            return ()
        return tuple(self.backend(text, add_special_tokens=False, verbose=False)["input_ids"])

    def reads_thinking(self) -> bool:
        """Whether the chat template writes another prompt where the model may think."""
        return bool(self._switch)

    @functools.cached_property
    def _switch(self) -> str:
        """The template's variable that says whether the model thinks; "" = it has none."""
        return "" if self.backend.chat_template is None else chat_template.switch_of(self.backend)

    @functools.cached_property
    def _variables(self) -> chat_template.Variables:
        """What the template reads besides the turns."""
        if self.thinking is None:
            return {}
        return {self._switch or chat_template.SWITCHES[0]: self.thinking}

    def end_of_turn_id(self) -> int | None:
        """The first control token that the template writes after an assistant's words, or None."""
        if self.backend.chat_template is None:
            return None
        text = chat_template.after_reply(self.backend, variables=self._variables)
        for token_id in self._encode_live(text):
            if token_id in self.control_ids:
                return token_id
        return None

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the tokenizer, its template and its generation settings in Hugging Face format.

        What the source's files say beyond that is kept, so that the export is used as the source.
        """
        path = pathlib.Path(expand_home(str(folder)))
        self.backend.save_pretrained(str(path))
        model_files.restore_tokenizer_config(path, self.files)
        model_files.write_generation_config(
            path, self.files, eos_ids=self.eos_ids, pad_id=self.pad_id
        )


def load_tokenizer(
    path_or_hub_name: str, *, revision: str | None = None, thinking: bool | None = None
) -> Tokenizer:
    """Loads a tokenizer with everything that can end a response.

    End tokens are the tokenizer's own, those of generation_config.json and config.json, and what
    the chat template writes after an assistant's turn.

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
    with train_extra():
        from transformers import PreTrainedTokenizerFast

    folder = hub.fetch(path_or_hub_name, revision=revision, weights=False)
    try:
        # This class reads tokenizer.json as it is; AutoTokenizer would rebuild it as its
        # model_type's own.
        backend: Any = PreTrainedTokenizerFast.from_pretrained(folder)
        files = model_files.read_model_files(folder)
        # Some damaged files show only in use.
        backend.decode(backend("one text")["input_ids"])
        tokenizer = Tokenizer(backend, pad_id=0, eos_ids=(), thinking=thinking, files=files)
        eos_ids = _end_ids(tokenizer)
    except InputError:
        raise
    except Exception as error:
        # The libraries raise errors of any type over malformed files.
        raise InputError(
            "model",
            f"no tokenizer could be loaded from {path_or_hub_name!r} ({first_line(error)}); type "
            "--config.model=FOLDER with tokenizer.json and config.json, or a Hub name where there "
            "is a network",
        ) from error

    if not eos_ids:
        raise InputError(
            "model",
            f"{path_or_hub_name!r} has no end token; "
            "add eos_token_id to its generation_config.json",
        )
    pad_id = eos_ids[0] if backend.pad_token_id is None else backend.pad_token_id
    return dataclasses.replace(tokenizer, pad_id=pad_id, eos_ids=eos_ids)


def _end_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Every id that ends a response, each once."""
    named = model_files.generation_ends(tokenizer.files, tokenizer.control_ids)
    ends = [tokenizer.backend.eos_token_id, *named, tokenizer.end_of_turn_id()]
    return tuple(
        dict.fromkeys(end for end in ends if end is not None and 0 <= end < tokenizer.vocab_size)
    )
