"""Tokenizers and chat templates in the manner of the supported families, made without a network."""

import json
import pathlib

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ccpo_jax.hf.tokenizer import load_tokenizer

FAMILIES = {
    "qwen2.5": dict(
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        plain=("<tool_call>",),
        eos="<|im_end|>", pad="<|endoftext|>", bos=None,
        template="{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n"
        "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ends={"<|im_end|>", "<|endoftext|>"},
    ),
    "llama3": dict(
        special=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        plain=(),
        eos="<|end_of_text|>", pad=None, bos="<|begin_of_text|>",
        template="<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ends={"<|end_of_text|>", "<|eot_id|>"},
    ),
    "qwen3": dict(
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        plain=("<think>", "</think>"),
        eos="<|im_end|>", pad="<|endoftext|>", bos=None,
        template="{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
        ends={"<|im_end|>", "<|endoftext|>"},
    ),
    "olmo3": dict(
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"),
        plain=("<functions>", "</functions>"),
        eos="<|im_end|>", pad="<|pad|>", bos=None,
        template="{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\n"
        "No tools. <functions></functions><|im_end|>\n{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% if m.role == 'system' %} <functions></functions>{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ends={"<|im_end|>", "<|endoftext|>"},
    ),
    "no system role": dict(
        special=("<s>", "</s>", "<turn>"),
        plain=(),
        eos="</s>", pad="</s>", bos="<s>",
        template="<s>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "<turn>{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<turn>assistant: {% endif %}",
        ends={"</s>"},
    ),
}  # fmt: skip


def make(folder, spec, template):
    """A saved byte-level tokenizer with the family's control tokens and the given chat template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in spec["special"]])
    backend.add_tokens([AddedToken(token, special=False) for token in spec["plain"]])
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=spec["eos"],
        pad_token=spec["pad"],
        bos_token=spec["bos"],
    )
    made.chat_template = template
    made.save_pretrained(folder)
    return made


def load_family(folder, spec):
    """The family's tokenizer as a run loads it, with the end tokens of its generation_config.json."""
    made = make(folder, spec, spec["template"])
    ends = [made.convert_tokens_to_ids(token) for token in spec["ends"]]
    pathlib.Path(folder, "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return load_tokenizer(str(folder))
