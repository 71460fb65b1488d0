"""Judged sets that are made here: answer styles, surface forms and corruptions."""

import pathlib
from collections.abc import Sequence

from experiments.judge.answer_styles import styles
from experiments.judge.cases import Case
from experiments.judge.corruptions import corrupted
from experiments.judge.surface_forms import FORMS

# The letters that styles are about: the first stands for the option that is chosen.
_LETTERS = ("ABC", "BCD", "ECD")


def style_cases() -> list[Case]:
    """Every style about some letters. A text that settles on no letter must not pay any."""
    cases = []
    for letters in _LETTERS:
        for style in styles(letters):
            gold = style.letter or letters[0]
            correct = style.letter is not None
            cases.append(Case("choice", gold, style.text, correct, source="answer style"))
    return cases


def surface_form_cases(golds: Sequence[str]) -> list[Case]:
    """Each gold in every form that means the same, as the content of a box."""
    cases = []
    for gold in golds:
        for name, form in FORMS.items():
            answer = rf"\boxed{{{form(gold)}}}"
            cases.append(Case("math", gold, answer, correct=True, source=name))
    return cases


def corruption_cases(golds: Sequence[str]) -> list[Case]:
    """Corruptions of each gold; some mean the same by chance, so that not all can be refused."""
    return [
        Case("math", gold, rf"\boxed{{{answer}}}", correct=False, source=name)
        for gold in golds
        for name, answer in corrupted(gold)
    ]


def read_golds(path: pathlib.Path) -> list[str]:
    """The distinct answers of a parquet file's column `answer`, in order."""
    from pyarrow import parquet

    column = parquet.read_table(path, columns=["answer"])["answer"].to_pylist()
    return [gold for gold in dict.fromkeys(map(str, column)) if gold.strip()]
