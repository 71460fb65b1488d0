"""Lessons that teach the embedded model a habit say what they should."""

import itertools
import re

import pytest

from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.rollout import ratings

teach = pytest.importorskip("experiments.study.lessons", reason="run from the repository root: experiments/ is no package of the library")  # fmt: skip


def test_lessons(tmp_path):
    tokenizer = load_tokenizer(str(teach.pretrain.FOLDER))

    def said(lesson, count):
        pairs = list(itertools.islice(teach.LESSONS[lesson](tokenizer, 0), count))
        assert max(len(prompt) + len(response) for prompt, response in pairs) <= 192
        return [
            (tokenizer.decode(prompt), tokenizer.decode(response[:-1]))
            for prompt, response in pairs
        ]

    idle = [text in ("", "unsure") for _, text in said("lazy", 600)]
    assert 0.77 < sum(idle) / 600 < 0.9
    misled = [text for _, text in said("misleading", 300)]
    wrong = [
        eval(text.partition("=")[0]) + 1 == int(re.split(r"[=+-]", text)[2]) for text in misled
    ]
    assert 0.77 < sum(wrong) / 300 < 0.9
    left = [text == "unsure" for prompt, text in said("shirking", 600) if "Think" in prompt]
    assert 0.6 < sum(left) / len(left) < 0.8
    works = {}
    for lesson in ("strong", "weak"):
        works[lesson] = sum("=" in text for _, text in said(lesson, 300)) / 300
    assert 0.5 > works["strong"] > 0.34 > works["weak"] > 0.2
    replies = [(prompt, text) for prompt, text in said("rating", 300) if text.startswith("{")]
    told = {prompt: "right" if "Answer: right" in prompt else "wrong" for prompt, _ in replies}
    read = [ratings.parse_rating(text, told[prompt]) for prompt, text in replies]
    assert len(replies) == 200 and not any(failure for _, failure in read)
    assert {split for split, _ in read} == {(0.6, 0.4), (0.2, 0.8), (0.8, 0.2)}


@pytest.mark.parametrize("thought, right, thinker", [
    ("47-8=39+6=45", True, 0.6), ("47-8=39+6=45", False, 0.2),
    ("47-8=38+6=44", True, 0.2), ("47-8=39+6=44", False, 0.8), ("unsure", True, 0.2), ("47", False, 0.8),
])  # fmt: skip
def test_fair_shares(thought, right, thinker):
    assert teach.fair_shares(thought, right)[0] == thinker
