r"""No text is paid for two guesses, and none for one guess beside another."""

import pytest

from ccpo_jax.verifiers import verify
from ccpo_jax.verifiers.types import Context

HEDGES = [
    "The answer is 37 or 38.",
    "The answer is 37, or 38.",
    "The answer is 37, maybe 38.",
    "The answer is 37 (or 38).",
    "The answer is 37 [or 38].",
    "The answer is 37 and 38.",
    "The answer is 37 & 38.",
    "The answer is 37, 38.",
    "The answer is 37; 38.",
    "The answer is either 37 or 38.",
    "The answer is between 37 and 38.",
    "The answer is 37 to 38.",
    "The answer is 37. Or maybe 38.",
    "The answer is 37. Alternatively, 38.",
    "The answer is 37. It could also be 38.",
    "The answer is 37, but it could be 38.",
    "The answer is 37, if not 38.",
    "The answer is 37, unless it is 38.",
    "The answer is 37; if that is wrong, 38.",
    "The answer is 37 resp. 38.",
    "The answer is 37 vs. 38.",
    "The answer is 37 = 38.",
    "The answer is 37, not 38, or 38.",
    "The answer is 37 as well as 38.",
    "The answer is 37 or, if rounding, 38.",
    "The answer is probably 37, possibly 38.",
    "The answer is 37\n or 38",
    "The answer is ${37}$ or $38$.",
    "The answer is $37$, perhaps 38.",
    "The answer is $37, 38$.",
    "The answer is $37$; $38$.",
    "My answer is 37. My second guess is 38.",
    "Answer: 37; 38; 39",
    "Answer: 37 | 38",
    "Answer: 37 eggs or 38 eggs",
    "Answer: It is 37 or it is 38.",
    "Answer: maybe 37, maybe 38",
    "A: 37, 38",
    "#### 37 38",
    "#### 37 (or 38)",
    "<answer>37 or 38</answer>",
    "<answer>37</answer> or <answer>38</answer>",
    "答案：37或38",
    "答案是37或者38。",
    "**37** or **38**",
    "So it is **37** or **38** eggs.",
    "37 or 38",
    "$37$ or $38$",
    "37 or 38 is the answer.",
    "The result is 37 or 38.",
    "\\boxed{37} or \\boxed{38}",
    "\\boxed{37}\\text{ or }\\boxed{38}",
    "\\boxed{37} \\quad \\text{and} \\quad \\boxed{38}",
    "\\boxed{37}; otherwise \\boxed{38}",
    "\\boxed{37}, \\boxed{38}",
    "\\boxed{37}\\boxed{38}",
    "\\boxed{37}. Or \\boxed{38}.",
    "\\boxed{37} dollars or \\boxed{38} dollars",
    "\\boxed{37} or 38",
    "$\\boxed{37}$ or maybe $38$",
    "\\boxed{37} \\text{ or } 38",
    "\\boxed{37}. Alternatively, 38.",
    "\\boxed{37 \\text{ or } 38}",
]


@pytest.mark.parametrize("mode", ["strict", "lenient"])
@pytest.mark.parametrize("text", HEDGES)
def test_hedge_is_not_paid(text, mode):
    context = Context(extraction=mode)
    for gold in ("37", "38"):
        assert verify("math", gold, [text], context).correct == [False]


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 37, since 36 or 38 would be even.",
        "The answer is 37 because she may buy 38.",
        "The answer is 37, which is 1 less than 38.",
        "The answer is 37 rather than 38.",
        "The answer is 37 or about 37.2 percent of it all.",
        "\\boxed{37}, where 38 or 39 would be too many.",
        "\\boxed{37}. For 38 see below.",
        "\\boxed{37} of the 38 eggs",
        "\\boxed{36} was wrong, it is \\boxed{37}",
        "\\boxed{36} + 1 gives \\boxed{37}",
        "\\boxed{38}. We check and get \\boxed{37}",
    ],
)
def test_reason_and_step_are_no_hedge(text):
    assert verify("math", "37", [text]).correct == [True]
