"""The choice verifier."""

import itertools
import json
import pathlib
import re
import string
import time

import pytest

from ccpo_jax.verifiers import VERIFIERS, check_gold, verify
from ccpo_jax.verifiers.types import NO_CONTEXT, Context
from experiments.judge.answer_styles import OPEN as OPEN_STYLES
from experiments.judge.answer_styles import SETTLED as SETTLED_STYLES
from experiments.judge.answer_styles import fill
from tests.support.choice_texts import OPEN, REPORTED, SETTLED
from tests.support.verdicts import is_correct

CASES = pathlib.Path(__file__).parents[3] / "shared" / "cases"
FOUR = Context(options=("It rains", "It snows", "a cloudless sky", "$\\frac{1}{2}$ of the sky"))


def extract(text, context=NO_CONTEXT):
    return VERIFIERS["choice"].extract(text, context)


@pytest.mark.parametrize(
    "text, letter",
    [
        ("The answer is (B).", "B"),
        ("The answer is B", "B"),
        ("Answer: B", "B"),
        ("answer: b", "B"),
        ("The answer is (c)", "C"),
        ("**Answer:** C", "C"),
        ("**Answer: C**", "C"),
        ("Answer:\n\nD) because it rains", "D"),
        (r"\boxed{D}", "D"),
        (r"\boxed{\text{D}}", "D"),
        (r"$\boxed{\textbf{(E)}}$", "E"),
        (r"\boxed{B. The second one}", "B"),
        (r"The answer is $\boxed{A}$.", "A"),
        (r"The answer is \(\boxed{c}\)", "C"),
        (r"First \boxed{A}. On reflection \boxed{C}.", "C"),
        (r"\boxed{A}. No, wait: the answer is B.", "B"),
        ("The answer is A. No, the answer is (D).", "D"),
        ("the correct answer is option G", "G"),
        ("The correct option is: F", "F"),
        ("So the best choice would be (A).", "A"),
        ("The answer is most likely E", "E"),
        ("The answer must be **B**.", "B"),
        ("I vote for C", "C"),
        ("My vote: D", "D"),
        ("I choose (B) here.", "B"),
        ("Option C is correct.", "C"),
        ("Option B is wrong and option D is the correct answer.", "D"),
        ("The answer is A because it follows.", "A"),
        ("The answer is A", "A"),
        ("Answer: A. It is raining", "A"),
        ("B", "B"),
        ("(B)", "B"),
        ("It must rain.\nB.", "B"),
        ("It must rain.\n**(D)**", "D"),
        ("Therefore, C", "C"),
        ("C. It must rain because of the clouds.", "C"),
        ("Let us see.\n(B) It must rain", "B"),
        ("The answer is H", "H"),
        ("The answer is a matter of taste", None),
        ("The answer is A matter of taste", None),
        ("The answer is a good one", None),
        ("A dog barks.", None),
        ("A man walks. Be careful.", None),
        ("The answer is not B", None),
        ("Option B is incorrect.", None),
        ("The answer is A or B", None),
        ("Answer: A, C", None),
        (r"\boxed{A, C}", None),
        ("A. one\nB. two\nC. three", None),
        ("The answer is Boston", None),
        ("Vitamin C is good", None),
        ("", None),
        *SETTLED,
        *((text, None) for text in OPEN),
    ],
)
def test_choice_extracts(text, letter):
    assert extract(text) == letter


@pytest.mark.parametrize("gold, text, correct", REPORTED)
def test_reported_answers(gold, text, correct):
    assert is_correct("choice", gold, text) == correct


def cases_of_the_comparison():
    """Rows that outside graders and ours judged differently, where the files are at hand."""
    for path in sorted(CASES.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            if case["verifier"] == "choice":
                yield case["gold"], case["answer"], case["correct"]


@pytest.mark.skipif(not CASES.is_dir(), reason="shared/cases is not there")
def test_cases_of_the_comparison():
    wrong = [
        case for case in cases_of_the_comparison() if is_correct("choice", *case[:2]) != case[2]
    ]
    assert not wrong


# Letter for letter: no style may depend on which option the letter stands for.


@pytest.mark.parametrize("letter", string.ascii_uppercase)
def test_no_letter_is_treated_differently(letter):
    others = [other for other in "ABCDEFGHIJ" if other != letter]
    # Two others that come before, behind and on both sides of the letter in the alphabet.
    for second, third in (others[:2], others[-2:], (others[0], others[-1]), others[1::-1]):
        for style in SETTLED_STYLES:
            text = fill(style, letter, second, third)
            assert extract(text) == letter, text
        for style in OPEN_STYLES:
            text = fill(style, letter, second, third)
            assert extract(text) is None, text


# Capitals that are words of their own.
CAPITAL = re.compile(r"(?<![A-Za-z])[A-Z](?![A-Za-z'])")
ABOUT_ONE_LETTER = [
    (text, letter) for text, letter in SETTLED if set(CAPITAL.findall(text)) == {letter}
]


def test_most_texts_are_about_one_letter():
    assert len(ABOUT_ONE_LETTER) > 300


@pytest.mark.parametrize("text, settled", ABOUT_ONE_LETTER)
def test_a_letter_may_be_exchanged_for_another(text, settled):
    """As above, for texts that were not written as patterns."""
    for letter in string.ascii_uppercase:
        assert extract(CAPITAL.sub(letter, text)) == letter


# Where the letter stands.


@pytest.mark.parametrize(
    "sentence",
    [
        "The ratio of the two is 3:2, or answer ({}).",
        "Inserting the numbers, we arrive at the value in option ({}).",
        "The mean of the list is ({}).",
        "The angular frequency is ({}).\n\n",
        "The only number that both conditions allow is ({}).",
        "The price is not listed, but the closest one is ({}).",
        "The most likely diagnosis is ({}).",
        "So the expanded expression is ({}).",
        "The entry that records the payment is ({}).",
        "The odd one out is option {}.",
        "The most likely diagnosis is {}.",
        "Most of these are metals. This is ({}).",
    ],
)
def test_the_last_sentence_gives_its_result(sentence):
    text = "The list has 12 entries, and f(A) = 3. {}"
    assert extract(text.format(sentence.format("C"))) == "C"


@pytest.mark.parametrize(
    "sentence",
    [
        "The patient lacks vitamin C.",
        "He got a grade of C.",
        "The water is at 20 °C.",
        "It follows that x lies in f(C).",
        "The results hold for (A) and for (C).",
        "Could the result be (C)?",
        "We can therefore eliminate (C).",
        "The result is not (C).",
        "The result is anything except (C).",
        "We still have to look at option C.",
        "The value is larger than (C).",
        "The values in (C) are too large.",
    ],
)
def test_the_last_sentence_gives_no_result(sentence):
    assert extract(f"The list has 12 entries. {sentence}") is None


@pytest.mark.parametrize(
    "text",
    ["The answer is (F", "the answer is **(F", "Answer: (F", r"\boxed{F", "<answer>F", "(F", "[F"],
)
def test_a_text_may_end_behind_its_letter(text):
    assert extract(f"It is warm.\n{text}") == "F"
    assert extract(f"It is warm.\n{text}oo") is None


@pytest.mark.parametrize(
    "text",
    [
        "Let's look at each option:\n\nA. It rains, which the text",
        "Now, consider every choice:\n(A) means that it rains.\n(B) means that it",
        "We weigh the choices one by one:\nA) It rains",
        "To find the correct option:\n\nA) The first is wrong\nB) The second",
        "Let us go through the options.\n\nA: It rains.\nB: It snows.",
        "a) The temperature is 5.\n\nb)",
        "A) 5 K\n\nThis would be cold.\n\nB) 6 K",
        "**Option A**: cold.\n\n**Option B**: warm.",
        "Let's evaluate each option: A. It rains B. It snows",
        "Possible answers: A. It rains B. It snows",
        "Answers: (A) It rains (B) It snows",
        "Every choice: (A) is too cold",
    ],
)
def test_a_list_of_options_is_no_answer(text):
    assert extract(text) is None
    assert extract(f"{text}\n\nThe answer is (A).") == "A"


@pytest.mark.parametrize(
    "text, letter",
    [
        ("<think>It may be (A).</think>\n\n(B)", "B"),
        ("<think>The answer is (A).", None),
        ("It is (A).</think>", None),
        ("B<|im_end|>\n<|im_start|>user\nAnswer: C", "B"),
        ("</s>B</s>C", "B"),
        ("(B)<｜end▁of▁sentence｜>(C)", "B"),
        ("The answer is B.[INST] And now? [/INST] Answer: C", "B"),
        ("(B)\n\nHuman: and now?\n\nAssistant: (C)", "B"),
        ("(B)\n\n**Q2**: and now?\n\n(C)", "B"),
        ("The answer is (B).\n\nQuestion: and now?\nAnswer: (C)", "B"),
        ("Question: and now?\nAnswer: (C)", "C"),
        ("I don't know.\n\nQ: and now?\nAnswer: (C)", None),
    ],
)
def test_only_the_models_own_answer_is_read(text, letter):
    assert extract(text) == letter


# What is known of the options.


@pytest.mark.parametrize(
    "text, letter",
    [
        ("The answer is (D).", "D"),
        ("The answer is (E).", None),
        ("The answer is (B).\nThe answer is (I).", None),
        ("(I)", None),
        (r"\boxed{X}", None),
        ("The ratio is (Z).", None),
        ("Now F is correct, and it is Q. The mode is (B).", "B"),
        ("It's X. I think it's C.", "C"),
        ("I think it's C. It's X.", "C"),
    ],
)
def test_labels_beyond_the_options_are_no_answer(text, letter):
    assert extract(text, FOUR) == letter


@pytest.mark.parametrize(
    "text, letter",
    [
        ("The answer is: it snows.", "B"),
        ("Answer: It snows", "B"),
        ("Answer: **It Snows.**", "B"),
        ("The correct answer is a cloudless sky, since it is June.", "C"),
        (r"\boxed{\text{a cloudless sky}}", "C"),
        (r"So it is \boxed{\frac{1}{2} \text{ of the sky}}.", "D"),
        ("<answer>a cloudless sky</answer>", "C"),
        ("It rains", "A"),
        ("The answer is (A). No, the answer is: it snows.", "B"),
        ("The answer is: it snows. No, the answer is (A).", "A"),
        ("The answer is: B. It rains", "B"),
        ("The answer is: it snows or it rains.", None),
        ("The answer is: it does not rain.", None),
        ("The answer is: it rains heavily.", None),
        ("It rains and it snows.", None),
        ("The answer is not: it rains.", None),
        ("The answer is not it rains.", None),
        ("The wrong answer is it rains.", None),
        ("If the answer is it rains, we get wet.", None),
        ("I don't think the answer is it rains.", None),
        ("It rains\nIt snows", None),
        ("It rains\n\nThe clouds are dark.", "A"),
        ("It rains.", "A"),
    ],
)
def test_the_text_of_an_option_stands_for_its_letter(text, letter):
    assert extract(text, FOUR) == letter


def test_the_text_of_two_options_stands_for_neither():
    twice = Context(options=("It rains", "It rains.", "It snows"))
    assert extract("Answer: it rains", twice) is None
    assert extract("Answer: it snows", twice) == "C"


def test_empty_options_are_never_stated():
    assert extract("Answer:", Context(options=("", "It snows"))) is None
    assert extract("", Context(options=("", "It snows"))) is None


def test_options_that_are_letters_are_read_as_labels():
    blood = Context(options=("O", "A", "B", "AB"))
    assert extract("The answer is B.", blood) == "B"
    assert extract("The answer is AB.", blood) == "D"


@pytest.mark.parametrize("gold, letter", [("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B")])
def test_choice_gold_is_any_way_of_writing_the_letter(gold, letter):
    assert check_gold("choice", gold) is None and is_correct("choice", gold, f"Answer: {letter}")
    assert not is_correct("choice", gold, "Answer: C")


def test_choice_gold_that_is_no_letter():
    assert check_gold("choice", "1") == "not a letter from A to Z: '1'"
    assert verify("choice", "1", ["Answer: B"]).counts["gold_unparsed"] == 1


def test_choice_gold_beyond_the_options():
    assert check_gold("choice", "D", FOUR) is None
    assert check_gold("choice", "E", FOUR) == "beyond the 4 options: 'E'"


# Real questions, whose options are whole sentences, other letters and questions.

LOGIQA = pathlib.Path(__file__).parents[3] / "shared" / "data" / "logiqa2_dev.jsonl"


def real_questions(count):
    with LOGIQA.open(encoding="utf-8") as lines:
        for line in itertools.islice(lines, count):
            row = json.loads(line)
            yield f"{row['text']}\n{row['question']}", row["options"]


@pytest.mark.skipif(not LOGIQA.exists(), reason="shared/data is not there")
def test_letters_of_options_that_say_the_same_are_one_answer():
    context = Context(options=("one", "two", "two ", "Two", "three"))
    texts = [f"Answer: {letter}" for letter in "ABCDE"]
    for gold in "BC":
        graded = verify("choice", gold, texts, context=context)
        assert graded.correct == [False, True, True, False, False]
        assert graded.answer_id == [0, 1, 1, 2, 3]
    assert verify("choice", "D", texts, context=context).correct == [False] * 3 + [True, False]
    assert verify("choice", "C", texts).correct == [False, False, True, False, False]
    # A letter beyond the options is itself.
    beyond = verify("choice", "B", ["Answer: G"], context=context)
    assert beyond.correct == [False]


def test_real_options():
    for question, options in real_questions(300):
        context = Context(options=tuple(options))
        labelled = list(zip(string.ascii_uppercase, options, strict=False))
        listing = "\n".join(f"{letter}. {option}" for letter, option in labelled)
        assert extract(f"{question}\n{listing}", context) is None

        for letter, option in labelled:
            for form in ("{0}. {1}", "({0}) {1}", "The answer is ({0}) {1}", r"\boxed{{{0}. {1}}}"):
                assert extract(form.format(letter, option), context) == letter
            if options.count(option) == 1:
                for form in ("The answer is: {}", "Answer: {}", "{}", "<answer>{}</answer>"):
                    assert extract(form.format(option), context) == letter


# Guessing and hostile texts.

TWO_GUESSES = (
    "{a} or {b}",
    "{a} and {b}",
    "{a}/{b}",
    "({a}), ({b})",
    "{a}, if not {b}",
    "{a}, maybe {b}",
    "{a}, else {b}",
    "{a}, otherwise {b}",
    "{a} (alternatively {b})",
    "either {a} or {b}",
    "one of {a}, {b}",
    "between {a} and {b}",
    "both {a} and {b}",
    "{a} but {b} is also possible",
    "{a}, though it could be {b}",
    "{a} | {b}",
    "{a} & {b}",
    "{a} + {b}",
    "{a} vs {b}",
    "{a} {b}",
    "{a}; {b}",
    "{a}. Or {b}",
    "{a}. Maybe {b}",
    "{a}、{b}",
    "{a}或{b}",
)


@pytest.mark.parametrize(
    "frame", ["The answer is {}.", "Answer: {}", "{}", r"\boxed{{{}}}", "I choose {}."]
)
@pytest.mark.parametrize("guesses", TWO_GUESSES)
def test_two_guesses_do_not_pay_twice(frame, guesses):
    texts = [frame.format(guesses.format(a=first, b=second)) for first, second in ("BC", "CB")]
    assert not any(
        is_correct("choice", "B", text) and is_correct("choice", "C", text) for text in texts
    )
    # Nor does the order of the guesses: the same rule holds for the first and the second.
    assert [extract(text) for text in texts] in ([None, None], ["B", "C"], ["C", "B"])


HOSTILE = ["A ", "A, ", "(A", "A\n", "A. x\n", "A or maybe ", "answer is ", "the most likely ", "Ⓐ"]
HOSTILE += [
    r"\boxed{",
    r"\text{",
    "<answer>",
    "<|a|>",
    "<|im_end|>",
    "'",
    "选",
    "答案是",
    "A?",
    "_",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_texts_take_linear_time(piece):
    options = tuple(f"It is option number {number}" for number in range(10))
    started_at = time.perf_counter()
    for text in (piece * (20_000 // len(piece)), f"Answer: A {piece * (20_000 // len(piece))}B"):
        extract(text, Context(options=options))
    assert time.perf_counter() - started_at < 20
