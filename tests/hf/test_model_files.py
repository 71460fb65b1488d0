"""What a saved tokenizer keeps of the files that it was loaded from."""

import json

import pytest
import transformers

from ccpo_jax.hf import load_tokenizer
from experiments.robustness.families import FAMILIES, save_tokenizer

SPEC = FAMILIES["qwen3"]


def read(path):
    return json.loads(path.read_text())


def change(path, entries) -> None:
    """Changes entries of a JSON file; `...` removes one."""
    content = (read(path) if path.exists() else {}) | entries
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


@pytest.fixture
def source(tmp_path):
    save_tokenizer(tmp_path / "source", SPEC, SPEC.template)
    return tmp_path / "source"


def saved(source):
    folder = source.parent / "saved"
    load_tokenizer(str(source)).save(folder)
    return folder


@pytest.mark.parametrize(
    "received, written",
    [
        ("PreTrainedTokenizerFast", "PreTrainedTokenizerFast"),
        ("Qwen2Tokenizer", "Qwen2Tokenizer"),
        ("LlamaTokenizerFast", "LlamaTokenizerFast"),
        ("TokenizersBackend", "PreTrainedTokenizerFast"),
        (..., "PreTrainedTokenizerFast"),
        (None, "PreTrainedTokenizerFast"),
    ],
)
def test_the_tokenizer_class_is_the_sources(source, received, written):
    change(source / "tokenizer_config.json", {"tokenizer_class": received})
    entries = read(saved(source) / "tokenizer_config.json")
    assert entries["tokenizer_class"] == written


def test_a_class_that_needs_the_sources_own_code_is_not_named(source):
    entries = {"tokenizer_class": "OddTokenizer", "auto_map": {"AutoTokenizer": ["odd.Odd", None]}}
    change(source / "tokenizer_config.json", entries)
    entries = read(saved(source) / "tokenizer_config.json")
    assert entries["tokenizer_class"] == "PreTrainedTokenizerFast" and "auto_map" not in entries


@pytest.mark.parametrize("received", [..., ["input_ids", "attention_mask", "token_type_ids"]])
def test_a_class_without_a_model_returns_what_the_networks_take(source, received):
    change(source / "tokenizer_config.json", {"model_input_names": received})
    entries = read(saved(source) / "tokenizer_config.json")
    default = ["input_ids", "attention_mask"]
    assert entries["model_input_names"] == (default if received is ... else received)


def test_nothing_is_written_that_transformers_4_refuses(source):
    change(source / "tokenizer_config.json", {"extra_special_tokens": ["<|im_start|>"]})
    entries = read(saved(source) / "tokenizer_config.json")
    assert entries["additional_special_tokens"] == ["<|im_start|>"]
    assert not {"extra_special_tokens", "is_local", "chat_template"} & entries.keys()


def test_entries_of_the_tokenizer_config_are_kept(source):
    kept = {
        "add_bos_token": False,
        "model_max_length": 131072,
        "added_tokens_decoder": read(source / "tokenizer_config.json").get(
            "added_tokens_decoder", {}
        ),
        "padding_side": "left",
        "something_else": [1, {"a": None}],
    }
    change(source / "tokenizer_config.json", kept)
    entries = read(saved(source) / "tokenizer_config.json")
    assert {name: entries[name] for name in kept} == kept


def test_transformers_reads_the_saved_tokenizer_as_the_source(source):
    change(source / "tokenizer_config.json", {"extra_special_tokens": ["<|im_start|>"]})
    before = transformers.AutoTokenizer.from_pretrained(source)
    after = transformers.AutoTokenizer.from_pretrained(saved(source))
    text = "déjà <|im_start|>7<think> </think>"
    turns = [{"role": "user", "content": "1+1?"}]
    assert after(text)["input_ids"] == before(text)["input_ids"]
    assert after.apply_chat_template(turns, tokenize=False) == before.apply_chat_template(
        turns, tokenize=False
    )
    assert after.all_special_ids == before.all_special_ids
    assert type(after) is type(before) and len(after) == len(before)


GENERATION = {
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.95,
    "top_k": 20,
    "repetition_penalty": 1.05,
    "bos_token_id": 256,
    "transformers_version": "4.51.0",
}


@pytest.mark.parametrize("ends", [..., None, 258, [258, 256]])
def test_generation_settings_are_kept(source, ends):
    change(source / "generation_config.json", GENERATION | {"eos_token_id": ends})
    folder = saved(source)
    entries = read(folder / "generation_config.json")
    assert {name: entries[name] for name in GENERATION} == GENERATION
    tokenizer = load_tokenizer(str(source))
    assert set(entries["eos_token_id"]) == set(tokenizer.eos_ids)
    assert entries["pad_token_id"] == tokenizer.pad_id

    config = transformers.GenerationConfig.from_pretrained(folder)
    assert (config.temperature, config.top_p, config.top_k) == (0.6, 0.95, 20)
    # An export of an export is the same.
    load_tokenizer(str(folder)).save(source.parent / "again")
    assert read(source.parent / "again" / "generation_config.json") == entries


def test_settings_made_from_a_config_are_not_read_from_it_again(source):
    change(source / "generation_config.json", {"_from_model_config": True, "top_k": 5})
    entries = read(saved(source) / "generation_config.json")
    assert "_from_model_config" not in entries and entries["top_k"] == 5


def test_without_a_file_there_are_end_and_pad_tokens_alone(source):
    entries = read(saved(source) / "generation_config.json")
    assert entries.keys() == {"eos_token_id", "pad_token_id"}


@pytest.mark.parametrize("template", [SPEC.template, {"default": "a</s>", "tools": "b"}])
def test_a_template_that_was_changed_is_saved(source, template):
    change(source / "tokenizer_config.json", {"chat_template": "old"})
    tokenizer = load_tokenizer(str(source))
    tokenizer.backend.chat_template = template
    tokenizer.save(source.parent / "saved")
    assert load_tokenizer(str(source.parent / "saved")).backend.chat_template == template
