r"""An answer that is denied or taken back is not paid; the one that replaces it is."""

import pytest

from ccpo_jax.verifiers import verify


@pytest.mark.parametrize("verifier", ["math", "exact"])
@pytest.mark.parametrize(
    "text",
    [
        "It is not \\boxed{41}.",
        "It isn't $\\boxed{41}$.",
        "The answer is definitely not \\boxed{41}.",
        "The answer cannot be \\boxed{41}.",
        "\\boxed{41} is not the answer.",
        "$\\boxed{41}$ is wrong.",
        "\\boxed{41} is not correct.",
        "\\boxed{41} cannot be the answer.",
        "\\boxed{41}?",
        "\\boxed{41}? No.",
        "\\boxed{41}. Hmm, that is wrong.",
        "\\boxed{41}, which is incorrect.",
        "\\boxed{41}. However, this is incorrect.",
        "\\boxed{41}. Actually no, it should be 42.",
        "<answer>41</answer> No, that is wrong.",
        "The answer is 41. No, that's wrong.",
        "The answer is 41. That can't be right.",
        "The answer is 41 apples. Hmm, this is a mistake.",
        "The answer is 41... no wait, 42.",
        "The answer is 41, I mean 42.",
        "The answer is 41 — sorry, 42.",
        "The answer is 41. Wait, it should be 42.",
        "The answer is 41. Actually, it is 42.",
        "The answer is 41. Scratch that.",
        "The answer is ~~41~~ 42",
        "The answer is not 41 but 42",
        "There is no way the answer is 41.",
        "It is impossible that the answer is 41.",
        "It is unlikely that the answer is 41.",
        "He claims the answer is 41, which is wrong.",
        "She thinks that the answer is 41.",
        "Some students say the answer is 41.",
        "You might think the answer is 41, but it is 42.",
        "I doubt the answer is 41.",
        "I don't think the answer is 41.",
        "It is not true that the answer is 41.",
        "答案不是41。",
        "答案不可能是41",
        "答案肯定不是41",
        "如果答案是41，则矛盾。",
        "错误答案是41。",
        "有人认为答案是41，这是错的。",
        "答案是41，不对，应该是42。",
    ],
)
def test_denied_answer_is_not_paid(verifier, text):
    assert verify(verifier, "41", [text]).correct == [False]


@pytest.mark.parametrize("text", ["答案是41吗？", "答案是41？", "答案至少是41。", "答案超过41"])
def test_chinese_question_and_bound(text):
    assert verify("math", "41", [text]).correct == [False]


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 41, I mean 42.",
        "The answer is 41 — sorry, 42.",
        "The answer is 41... no wait, 42.",
        "The answer is 41. Wait, it should be 42.",
        "The answer is 41. Actually, it is 42.",
        "The answer is 40, sorry, 41, no, 42.",
        "The answer is ~~41~~ 42",
        "The answer is <del>41</del> 42",
        "The answer is not 41 but 42",
        "Answer: not 41, but rather 42",
        "\\boxed{41}. Actually no, it should be 42.",
        "\\boxed{41}, I mean $42$.",
        "You might think the answer is 41, but it is 42.",
        "答案是41，不对，应该是42。",
        # Nothing is taken back.
        "The answer is 42. No further steps are needed.",
        "The answer is 42, no more and no less.",
        "The answer is 42, which is not prime.",
        "The answer is 42. That is not a prime.",
        "The answer is 42. It is wrong to think of 41.",
        "\\boxed{42} is not prime.",
        "\\boxed{42}. That is all.",
        "The answer is 42, and it is not possible to have more.",
        "I think the answer is 42.",
        "We believe that the answer is 42.",
        "I would say the answer is 42.",
        "There is no doubt the answer is 42.",
        "This says the answer is 42.",
        "It is \\boxed{42}, not \\boxed{41}.",
        "40 is not prime, so it is \\boxed{42}.",
    ],
)
def test_correction_is_paid(text):
    assert verify("math", "42", [text]).correct == [True]


@pytest.mark.parametrize(
    "text",
    ["Answer: 5\n6", "Answer:\n5\n6", "Answer: 5\n\n6", "#### 5\n6", "<answer>5\n6</answer>"],
)
@pytest.mark.parametrize("verifier", ["math", "exact"])
def test_two_lines_are_two_values(verifier, text):
    for gold in ("5", "6"):
        assert verify(verifier, gold, [text]).correct == [False]
    assert verify("math", "5, 6", [text]).correct == [True]


def test_line_of_words_is_no_second_value():
    for text in (
        "Answer: 5\n6 eggs are left.",
        "#### 5\nDone",
        "Answer: 5\n$\\boxed{5}$",
        "#### 5\n5",
    ):
        assert verify("math", "5", [text]).correct == [True]


@pytest.mark.parametrize(
    "sentence", ["8 is also correct", "8 works too", "But 8 is possible as well"]
)
def test_second_value_in_the_next_sentence(sentence):
    for gold in ("7", "8"):
        assert verify("math", gold, [f"The answer is 7. {sentence}."]).correct == [False]
    assert verify("math", "7", ["The answer is 7. 8 is not correct."]).correct == [True]


@pytest.mark.parametrize("number", ["negative 5", "minus 5", "Negative 5", "minus $5$"])
def test_sign_in_words(number):
    texts = [f"The answer is {number}.", f"Answer: {number}", f"Answer: It is {number} degrees."]
    assert verify("math", "-5", texts).correct == [True] * 3
    assert verify("math", "5", texts).correct == [False] * 3
    assert verify("math", "5", ["It is negative \\boxed{5}"]).correct == [False]


def test_further_markers_of_thought_and_of_the_next_question():
    thought = "<unused94>thought\n\\boxed{5}<unused95>"
    assert verify("math", "5", [thought]).correct == [False]
    assert verify("math", "6", [f"{thought}The answer is 6."]).correct == [True]
    for heading in ("## Instruction\nx\n\n### Response", "### Input:\nx\n\n### Output:"):
        text = f"The answer is 42.\n\n{heading}\nThe answer is 7."
        assert verify("math", "42", [text]).correct == [True]


def test_exact_keeps_abbreviations_and_reads_one_spelling():
    assert verify("exact", "Dr. Who", ["The answer is Dr. Who."]).correct == [True]
    assert verify("exact", "caf\u00e9", ["Answer: cafe\u0301"]).correct == [True]
    assert verify("exact", "caf\u00e9", ["Answer: cafe"]).correct == [False]
