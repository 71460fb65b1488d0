"""The settings in a model's JSON files: read for a run, and kept for those who use the export."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

# The class that reads tokenizer.json in every version of transformers.
_ANY_TOKENIZER = "PreTrainedTokenizerFast"
# Its name in transformers 5, which transformers 4 does not know.
_NEW_NAME = "TokenizersBackend"
# In place of an id where a model has no such token.
_NO_ID = -1
# Further entries that transformers 5 adds about its own loading.
_NEW_ENTRIES = ("backend", "is_local", "local_files_only")


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """Contents of the JSON files beside a tokenizer; {} where there is no such file.

    Attributes:
      tokenizer_config: of tokenizer_config.json.
      generation_config: of generation_config.json.
      config: of config.json.
    """

    tokenizer_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    generation_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_model_files(folder: pathlib.Path) -> ModelFiles:
    """Reads the files of a model's folder.

    Raises:
      ValueError: a file is not a JSON object.
    """
    names = ("tokenizer_config.json", "generation_config.json", "config.json")
    return ModelFiles(*(_read_object(folder / name) for name in names))


def _read_object(file: pathlib.Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    entries = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(entries, dict):
        raise ValueError(f"{file.name} must be an object, received {entries!r:.60}")
    return entries


def generation_ends(files: ModelFiles, control_ids: frozenset[int]) -> list[int]:
    """The end tokens that generation_config.json and config.json name.

    transformers stops at those of config.json only where generation_config.json names none, and
    some models carry there the id that another vocabulary has for its end token. So an id of
    config.json that is an ordinary word does not count beside those of generation_config.json.

    -1 stands for none, by an old custom.

    Raises:
      ValueError: one is neither an id nor a list of ids.
    """
    named = _end_ids(files.generation_config, "generation_config.json")
    others = _end_ids(files.config, "config.json")
    if named:
        others = [token_id for token_id in others if token_id in control_ids]
    return named + others


def _end_ids(entries: Mapping[str, Any], name: str) -> list[int]:
    ends = entries.get("eos_token_id")
    if ends is None:
        return []
    ends = ends if isinstance(ends, list) else [ends]
    if not all(map(_is_id, ends)):
        raise ValueError(
            f"eos_token_id in {name} must be a token id or a list of them, received {ends!r:.60}"
        )
    return [end for end in ends if end != _NO_ID]


def _is_id(value: Any) -> bool:
    """Whether a value can be the id of a token; devices hold ids in 32 bits."""
    return type(value) is int and _NO_ID <= value < 2**31


def write_generation_config(
    folder: pathlib.Path, files: ModelFiles, *, eos_ids: Sequence[int], pad_id: int
) -> None:
    """Writes generation_config.json: the source's settings with this run's end and pad tokens."""
    entries = dict(files.generation_config)
    # It would make transformers read the end tokens from config.json again.
    entries.pop("_from_model_config", None)
    entries |= {"eos_token_id": list(eos_ids), "pad_token_id": pad_id}
    _write_object(folder / "generation_config.json", entries)


def restore_tokenizer_config(folder: pathlib.Path, files: ModelFiles) -> None:
    """Gives a tokenizer_config.json that transformers 5 has written what the source's says.

    transformers 4 refuses the class that version 5 writes, and a list of extra special tokens.
    """
    written = _read_object(folder / "tokenizer_config.json")
    source = dict(files.tokenizer_config)
    # The template is in a file of its own.
    source.pop("chat_template", None)
    entries = source | written

    for name in _NEW_ENTRIES:
        if name not in source:
            entries.pop(name, None)

    has_own_code = entries.pop("auto_map", None) is not None
    name = source.get("tokenizer_class") or _ANY_TOKENIZER
    entries["tokenizer_class"] = _ANY_TOKENIZER if has_own_code or name == _NEW_NAME else name
    if entries["tokenizer_class"] == _ANY_TOKENIZER:
        # In transformers 4 this class also returns token types, which these networks refuse.
        entries.setdefault("model_input_names", ["input_ids", "attention_mask"])
    extra = entries.get("extra_special_tokens")
    if isinstance(extra, list):
        del entries["extra_special_tokens"]
        entries.setdefault("additional_special_tokens", extra)
    _write_object(folder / "tokenizer_config.json", entries)


def _write_object(file: pathlib.Path, entries: Mapping[str, Any]) -> None:
    text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    file.write_text(text, encoding="utf-8")
