"""Texts of 20,000 characters, the most that is read, that would make a careless pattern slow."""

import time

import pytest

from ccpo_jax.verifiers.exact import extract_exact
from ccpo_jax.verifiers.extraction import extract_answer
from ccpo_jax.verifiers.types import Context

CHARS = 20_000
# Far above the normal time, a tenth of a second, and far below what quadratic time would take.
MAX_SECONDS = 8.0

PIECES = [
    *("{", "}", "(", "[", ")", "$", "$$", "\\(", "\\[", "$x$ and ", "$1", "\\", '\\"', "&"),
    *("\\boxed{", "\\boxed", "\\boxed ", "\\boxed{1} or ", "\\fcolorbox{a}{b}{", "boxed{"),
    *(
        "answer ",
        "answer is ",
        "Answer: ",
        "answer (",
        "answer $x$",
        "\nAnswer",
        "if the answer is ",
    ),
    *("A: ", "\nA: ", "#### ", "<answer>", "<answer>1", "<answer>1</answer> or ", "[ANSWER]"),
    *("1,", "1, ", "1;", "1.", "-", ".", ",", " ", "\n", "\t", "*", "**", "**1** ", "_", "`", '"'),
    *("1 or ", "and ", "maybe ", "or maybe 3. ", "not ", "the number ", "therefore ", "is ", "x= "),
    *("1 is the answer ", "$1$ is the answer ", "the result is ", "Solution:", "it is 5 and "),
    *("\nQ:", "\n\nQuestion:", "<|im_end|>", "<think>", "</think>", "<<1", "<<1>>", "</", "<"),
    *("答案", "答：", "答案是1或", "the answer to ", "three ", "twenty-", "```output\n1\n```"),
    *("0", "½", "１", "million ", "xy=", "\\text{", "\\frac{1}{2}", "after 3 days 4 ", "f(x)="),
]


@pytest.mark.parametrize("piece", PIECES)
def test_hostile_text(piece):
    begun = time.process_time()
    for beginning in ("", "The answer is "):
        text = (beginning + piece * (CHARS // len(piece)))[:CHARS]
        extract_answer(text, Context())
        extract_answer(text + "x\n5", Context(extraction="lenient"))
        extract_exact(text, Context())
    assert time.process_time() - begun < MAX_SECONDS
