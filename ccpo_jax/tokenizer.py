"""Tokenizers (stand-in by the lead until H5's file lands)."""
import dataclasses, json, pathlib
from typing import Any
from transformers import AutoTokenizer


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    hf: Any
    pad_id: int
    eos_ids: tuple
    vocab_size: int

    def encode(self, text):
        return self.hf(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def encode_batch(self, texts):
        return [self.encode(t) for t in texts]

    def decode(self, ids):
        return self.hf.decode([int(i) for i in ids], skip_special_tokens=True)

    def decode_batch(self, rows):
        return [self.decode(r) for r in rows]

    def frame(self, system):
        s = "SENTINEL0"
        t = self.hf.apply_chat_template([{"role": "system", "content": system}, {"role": "user", "content": s}], tokenize=False, add_generation_prompt=True)
        a, b = t.split(s)
        f = lambda x: tuple(self.hf(x, add_special_tokens=False)["input_ids"])
        return f(a), f(b)

    def save(self, folder):
        self.hf.save_pretrained(folder)


def load_tokenizer(path, revision=None, thinking=False):
    hf = AutoTokenizer.from_pretrained(path)
    eos = [hf.eos_token_id]
    g = pathlib.Path(path) / "generation_config.json"
    if g.exists():
        e = json.loads(g.read_text()).get("eos_token_id", [])
        eos += e if isinstance(e, list) else [e]
    return Tokenizer(hf, hf.pad_token_id if hf.pad_token_id is not None else hf.eos_token_id, tuple(dict.fromkeys(eos)), len(hf))
