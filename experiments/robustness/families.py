"""Tokenizers and chat templates in the manner of the supported families, made without a network."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ccpo_jax.hf import tokenizer as hf_tokenizer


@dataclasses.dataclass(frozen=True)
class Family:
    """What distinguishes the tokenizers of a family."""

    special_tokens: tuple[str, ...]
    plain_tokens: tuple[str, ...]  # added tokens that are not special
    eos: str
    pad: str | None
    bos: str | None
    template: str  # jinja
    end_tokens: frozenset[str]  # eos_token_id of generation_config.json


FAMILIES = {
    "qwen2.5": Family(
        special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        plain_tokens=("<tool_call>",),
        eos="<|im_end|>",
        pad="<|endoftext|>",
        bos=None,
        template="{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n"
        "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        end_tokens=frozenset({"<|im_end|>", "<|endoftext|>"}),
    ),
    "llama3": Family(
        special_tokens=(
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ),
        plain_tokens=(),
        eos="<|end_of_text|>",
        pad=None,
        bos="<|begin_of_text|>",
        template="<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% "
        "endif %}",
        end_tokens=frozenset({"<|end_of_text|>", "<|eot_id|>"}),
    ),
    "qwen3": Family(
        special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        plain_tokens=("<think>", "</think>"),
        eos="<|im_end|>",
        pad="<|endoftext|>",
        bos=None,
        template="{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% "
        "endif %}{% endif %}",
        end_tokens=frozenset({"<|im_end|>", "<|endoftext|>"}),
    ),
    "olmo3": Family(
        special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"),
        plain_tokens=("<functions>", "</functions>"),
        eos="<|im_end|>",
        pad="<|pad|>",
        bos=None,
        template="{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\n"
        "No tools. <functions></functions><|im_end|>\n{% endif %}<|im_start|>{{ m.role }}\n{{ "
        "m.content }}"
        "{% if m.role == 'system' %} <functions></functions>{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        end_tokens=frozenset({"<|im_end|>", "<|endoftext|>"}),
    ),
    "no system role": Family(
        special_tokens=("<s>", "</s>", "<turn>"),
        plain_tokens=(),
        eos="</s>",
        pad="</s>",
        bos="<s>",
        template="<s>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "<turn>{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt "
        "%}<turn>assistant: {% endif %}",
        end_tokens=frozenset({"</s>"}),
    ),
}


def save_tokenizer(
    folder: str | pathlib.Path, family: Family, template: str | Mapping[str, str] | None
) -> PreTrainedTokenizerFast:
    """Saves a byte-level tokenizer with the family's control tokens and a chat template."""
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(bytes_)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in family.special_tokens])
    backend.add_tokens([AddedToken(token, special=False) for token in family.plain_tokens])

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=family.eos,
        pad_token=family.pad,
        bos_token=family.bos,
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return tokenizer


def load_family(folder: str | pathlib.Path, family: Family) -> hf_tokenizer.Tokenizer:
    """The family's tokenizer as a run loads it, with end tokens from generation_config.json."""
    tokenizer = save_tokenizer(folder, family, family.template)
    end_ids = [tokenizer.convert_tokens_to_ids(token) for token in family.end_tokens]
    settings = json.dumps({"eos_token_id": end_ids})
    pathlib.Path(folder, "generation_config.json").write_text(settings)
    return hf_tokenizer.load_tokenizer(str(folder))
