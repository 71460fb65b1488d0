"""Tokenized templates (stand-in by the lead until H5's file lands)."""

import dataclasses
from typing import Protocol

import numpy as np


class TextCodec(Protocol):
    pad_id: int
    eos_ids: tuple

    def encode(self, text): ...


@dataclasses.dataclass(frozen=True)
class RolePrompt:
    system: str
    problem: str
    message: str
    closing: str


@dataclasses.dataclass(frozen=True)
class Template:
    head: tuple
    after: tuple
    message: tuple
    closing: tuple


def tokenize_role(tokenizer, role):
    head, end = tokenizer.frame(role.system)
    b, a = role.problem.split("{problem}")
    e = lambda s: tuple(tokenizer.encode(s)) if s else ()
    m = tuple(e(x) for x in role.message.split("{message}")) if role.message else ()
    return Template(tuple(head) + e(b), e(a), m, e(role.closing) + tuple(end))


def prefix(template, tokenizer, problem):
    return list(template.head) + tokenizer.encode(problem) + list(template.after)


def tail(template, messages):
    out = []
    for m in messages:
        if m is not None:
            out += list(template.message[0]) + list(m) + list(template.message[1])
    return out + list(template.closing)


def whole(template, tokenizer, problem):
    return prefix(template, tokenizer, problem) + tail(template, [])


def quote(tokenizer, texts, max_tokens):
    return [tokenizer.encode(t[: 16 * max_tokens])[:max_tokens] for t in texts]


def pad_right(rows, length, pad_id):
    out = np.full((len(rows), length), pad_id, np.int32)
    for i, r in enumerate(rows):
        out[i, : len(r)] = r
    return out, np.array([len(r) for r in rows], np.int32)


def pad_left(rows, length, pad_id):
    out = np.full((len(rows), length), pad_id, np.int32)
    for i, r in enumerate(rows):
        if len(r):
            out[i, length - len(r) :] = r
    return out, np.array([len(r) for r in rows], np.int32)


PROMPTS = {
    "tiny": {
        "thinker": RolePrompt("Think", "{problem}", "", ""),
        "solver": RolePrompt("Solve", "{problem}", "\nThought: {message}", ""),
        "voter": RolePrompt("Vote", "{problem}", "", ""),
    },
}
