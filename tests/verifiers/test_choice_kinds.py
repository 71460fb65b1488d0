"""The choice verifier: kinds of texts that must not be paid, and their neighbours that must."""

import re
import string

import pytest

from ccpo_jax.verifiers import VERIFIERS
from ccpo_jax.verifiers.types import NO_CONTEXT, Context

COLOURS = Context(options=("red", "blue", "green", "yellow"))
WATER = Context(options=("It rains", "It freezes", "It boils", "It melts"))

# Capitals that are words of their own.
CAPITAL = re.compile(r"(?<![A-Za-z])[A-D](?![A-Za-z'])")


def extract(text, context=NO_CONTEXT):
    return VERIFIERS["choice"].extract(text, context)


LISTS = (
    "(A)(B)(C)(D)",
    "(A) (B) (C)",
    "Answer: A B C D",
    "Answer: A B C",
    "The answer is (A) (B) (C) (D)",
    "The answer is A B or C.",
    "The answer is (A)(B) or (C).",
    "A. B.",
    "A. B. C. D.",
    "The answer is A. B. C.",
    "Answer: (A) red (B) blue",
    "Answer: (A) red, (B) blue",
    "Answer: A) red B) blue",
    "The answer is A > B",
    "A->B",
    "A > B",
    "A = B",
    "Answer: A → B",
    "Answer: A => B",
    "A < B < C",
    "A – D",
    "A-D",
    "A to D",
    "<answer>A\nB</answer>",
    "<answer>A\n\nB\nC</answer>",
    "<answer>A B</answer>",
    r"\boxed{A B C}",
    "The answer is A\nB",
    "The answer is A\n\nB",
    "The answer is A.\nB.",
    "A\nB",
    "The answer is A and the answer is B.",
    "The answer is A, and the correct option is B.",
    "Answer: A, Answer: B",
    "A is the answer, B is the answer.",
    r"\boxed{A} and also \boxed{B}",
)

DENIALS = (
    "The answer is B. No, that's wrong.",
    "The answer is B. Wait, no, it's not B.",
    "The answer is B. That is incorrect.",
    "The answer is B. Actually, that can't be right.",
    "The answer is B. It isn't.",
    "The answer is B. It's not B.",
    "The answer is B, but that's wrong.",
    "Answer: B. Scratch that.",
    "Answer: B\n\nNo, that is not right.",
    r"\boxed{B}. I was wrong.",
    r"It is not \boxed{B}.",
    r"I don't think it is \boxed{B}",
    r"It can't be \boxed{\text{B}}.",
    "There is no way the answer is B.",
    "There is no chance that the answer is B.",
    "It is impossible that the answer is B.",
    "It is wrong to choose B.",
    "答案是B吗",
    "答案是B吗？",
    "答案是B是错的",
    "答案是B，不对",
    "难道答案是B",
    "有人认为答案是B",
    "The answer is B. No, C.",
    "The answer is B. No way.",
    "The answer is B... or not.",
    "The answer is B, just kidding.",
    "The answer is B — wait, that's wrong.",
    "It is false that the answer is B.",
    "I deny that B is correct.",
    "There is no evidence that the answer is B.",
    "The opposite of B is the answer.",
    "The answer that is wrong is B.",
    "The answer used to be B.",
)

LESSER = (
    "The answer is least likely B.",
    "The least likely answer is B.",
    "The least plausible option is B.",
    "The worst answer is B.",
    "The weakest choice is B.",
    "The second best answer is B.",
    "The second most likely answer is B.",
    "The runner-up is B.",
)

OTHERS_VIEWS = (
    "He says the answer is B, which is wrong.",
    "Some would choose B, but they are wrong.",
    "Many students choose B.",
    "They claim that B is correct.",
    "One might say B.",
    "You might think it's B.",
    "It is tempting to choose B.",
    "At first glance the answer is B.",
    "At first glance, the answer is B.",
    "Initially, I chose B.",
    "I thought the answer was B.",
    "He says that the correct answer to this question is B.",
    "You would think that the answer is B.",
    "The answer is said to be B.",
    "The answer is supposedly B.",
)

ALSO_POSSIBLE = (
    "Answer: A (B is also possible)",
    "The answer is A; B is equally good.",
    "Answer: A (B also works).",
    "The answer is A. B is also correct.",
    "The answer is A. B works too.",
    "The answer is A. B is just as good.",
    "The answer is A, and B is right as well.",
)

CONDITIONS = (
    "If the answer were B, then it would be blue.",
    "If the answer were A, then it would be blue.",
    "If the answer, as it seems, is B, the sky is blue.",
)


@pytest.mark.parametrize(
    "text", [*LISTS, *DENIALS, *LESSER, *OTHERS_VIEWS, *ALSO_POSSIBLE, *CONDITIONS]
)
def test_a_text_that_settles_on_nothing_is_not_paid(text):
    assert extract(text) is None
    assert extract(text, COLOURS) is None


@pytest.mark.parametrize("text", [*DENIALS, *LESSER, *OTHERS_VIEWS])
def test_no_letter_is_paid_where_it_is_denied(text):
    for letter in string.ascii_uppercase:
        assert extract(CAPITAL.sub(letter, text)) is None


@pytest.mark.parametrize("text", [*LISTS, *ALSO_POSSIBLE])
def test_no_letters_are_paid_together(text):
    for shift in range(23):
        letters = dict(zip("ABCD", (string.ascii_uppercase * 2)[shift:], strict=False))
        assert extract(CAPITAL.sub(lambda found, new=letters: new[found[0]], text)) is None


SETTLED = (
    # A list, a row and a relation beside the answer.
    "The answer is B.\n\nB",
    "Not A.\n\nB",
    "A > B > C. The answer is (B).",
    "(A)(C)(D) are out. The answer is B.",
    "(B) Blue, darker than (A) red.",
    "The answer is (B) because (A) and (C) are lighter.",
    "The answer is B, and (A) is wrong.",
    # What comes after a denial, a doubt or another's view.
    "The answer is A. Wait, that is wrong. The answer is B.",
    "The answer is B. No, that's wrong. No, it is right: the answer is B.",
    r"It is not \boxed{A}, it is \boxed{B}.",
    "There is no way the answer is A, so the answer is B.",
    "The least likely is A, so the answer is B.",
    "Some would choose A, but the answer is B.",
    "He says A. The answer is B.",
    "At first glance it is A, but the answer is B.",
    "You might think it's A. However, it's B.",
    "I'm tempted by A, but the answer is B.",
    "If the answer were A, then it would rain. The answer is B.",
    # What is no denial of the answer.
    "The answer is B. No other option fits.",
    "The answer is B. It is not stated directly.",
    "The answer is B. Let me double-check. Yes, that's right.",
    "The answer is B, not A, which is wrong.",
    "The answer is B: none of the others is right.",
    "Most likely the answer is B.",
    "One can see that the answer is B.",
    "You should choose B.",
    "The answer is B. No",
    "B. No, because it rains",
    "The answer is B. No, it does not conserve energy.",
    "The answer is B. It is wrong to steal.",
    "(B) It is impossible to tell.",
    "The answer is (B). (A) could be possible, but the text is silent.",
    "The answer is (B) the rain which (A) does not name.",
    # Others' views, first impressions and denials that are about something else.
    "The correct answer to what he said is B.",
    "The option that explains why many people choose to walk is (B).",
    "The option for which there is no evidence is B.",
    "The charge of the initially empty capacitor is (B).",
    "Since we assumed no friction the answer is B.",
    "We reject the null hypothesis, so the answer is B.",
    "Based on what they said, I choose B.",
    "The second best conductor is (B).",
    "The answer is B as most students said.",
    # Ways to say it.
    "The answer must be B then.",
    "So it's B then.",
    "We can conclude that B is true.",
    "We conclude that B is true, since it rains.",
    "OptionB",
    "The answer is OptionB.",
    "ChoiceB",
    "making B the correct answer",
    "The rest fails, making B the correct answer.",
    "This makes option B correct",
    "This makes option B correct.",
    "This makes (B) the best choice.",
    "The text leaves B as the only answer.",
)


@pytest.mark.parametrize("text", SETTLED)
def test_a_text_that_settles_on_one_letter_is_paid(text):
    assert extract(text) == "B"
    assert extract(text, COLOURS) == "B"


@pytest.mark.parametrize(
    "text",
    ["This does not make B correct.", "If this makes B correct, it rains.", "making B wrong"],
)
def test_what_is_not_made_right(text):
    assert extract(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "red, blue",
        "red, or maybe blue",
        "red; blue",
        "The answer is red, blue",
        "The answer is red, green and blue.",
        "The answer is red. Blue.",
        "The answer is red and the answer is blue.",
        r"\boxed{red, blue}",
        r"\boxed{red} \boxed{blue}",
        r"\boxed{red} and \boxed{blue}",
        "<answer>red\nblue</answer>",
        "The answer is red. No, that's wrong.",
        "The answer is red, which is wrong.",
        "The answer is red?",
        "Some say the answer is red.",
        "You might think the answer is red.",
        "There is no way the answer is red.",
        "The worst answer is red",
        "Answer: red (blue is also possible)",
        "If the answer were A, then it would be red.",
        "答案是red吗",
        "答案不是red",
    ],
)
def test_option_texts_that_settle_on_nothing(text):
    assert extract(text, COLOURS) is None


@pytest.mark.parametrize(
    "text, context, letter",
    [
        ("The answer is that it boils.", WATER, "C"),
        ("The correct answer is that it melts, because it is warm.", WATER, "D"),
        ("答案是：It freezes", WATER, "B"),
        ("答案：It freezes。", WATER, "B"),
        ("The answer is red, since it is warm.", COLOURS, "A"),
        ("The answer is red, not blue.", COLOURS, "A"),
        ("Red.", COLOURS, "A"),
        ("The answer is red. No, the answer is blue.", COLOURS, "B"),
    ],
)
def test_option_texts_that_settle_on_one(text, context, letter):
    assert extract(text, context) == letter


def test_an_option_that_is_one_letter_behind_its_label():
    letters = Context(options=("F", "G", "Y"))
    assert extract("A. F", letters) == "A"
    assert extract("A. G", letters) is None


@pytest.mark.parametrize(
    "text", ["B. No, it is not.", "The answer is B. No, it is not.", r"\boxed{B. No, it is not.}"]
)
def test_the_text_of_an_option_is_no_denial_of_its_letter(text):
    assert extract(text, Context(options=("Yes, it is.", "No, it is not."))) == "B"


def test_a_denial_that_is_no_text_of_an_option():
    assert extract("The answer is B. No, it is not.", COLOURS) is None
