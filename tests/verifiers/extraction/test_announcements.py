r"""Every way to announce an answer, at the end of a solution as models write them."""

import json

import pytest

from ccpo_jax.verifiers import verify
from ccpo_jax.verifiers.extraction import extract_answer
from ccpo_jax.verifiers.types import Context

ANNOUNCEMENTS = [
    "A: {}",
    "A: ${}.",
    "A: {} eggs.",
    "**A:** {}",
    "Ans: {}",
    "Ans. {}",
    "ans={}",
    "Answer: {}",
    "ANSWER: {}",
    "Answer = {}",
    "Answer - {}",
    "Answer {}",
    "Answer $ {} $",
    "Answer \\[ \n {} \n \\]",
    "Answer (in dollars): {}",
    "Answer to the question: {}",
    "> Answer: {}",
    "**Answer:** {}",
    "**Answer: {}**",
    "Answer: **{}**",
    "Answer:\n{}",
    "Answer: {} dollars per day",
    "Answer: Janet makes ${} every day at the market.",
    "Answer: The value of x is {}",
    "Answer: The total = {}",
    "Answer: x = {}",
    "Final Answer: {}",
    "Final Answer: The volume is {}. I hope it is correct.",
    "Final Answer: The final answer is ${}$. I hope it is correct.",
    "Final answer: She has {} eggs left.",
    "## Final Answer\n\n{}",
    "**Final Answer**\n\n$${}$$",
    "The answer is {}.",
    "The answer is \\${}.",
    "The answer is $ {} .",
    "The answer is {}!",
    "The answer is therefore {}.",
    "The answer is approximately ${}$.",
    "The answer is exactly {}.",
    "The answer would be {}.",
    "The answer should be {} apples.",
    "The answer equals {}.",
    "The answer comes out to {}.",
    "The answer turns out to be {}.",
    "The answer is: {} hours and that is it",
    "The answer is {}, which is 2 more than before.",
    "The answer is {} because she sells 3 more.",
    "The answer is {} (rounded to the nearest whole number).",
    "The answer is \\({}\\).",
    "The answer is\n\\[{}\\]",
    "So the required answer is **{}**.",
    "Answer: {} is the number of eggs.",
    "{} is the answer.",
    "Therefore, {} is our final answer.",
    "This gives us an answer of {}.",
    "So we get the answer {}.",
    "We get {} as our answer.",
    "Answer -> {}",
    "The answer is <b>{}</b>.",
    'The answer to the question "How many?" is {}.',
    "#### {}",
    "####{}",
    "#### ${}",
    '{{"answer": {}}}',
    '{{"steps": 3, "answer": "{}", "confidence": 0.9}}',
    "<answer>{}</answer>",
    "$\\boxed{{{}}}$",
    "\\textbf{{Answer:}} {}",
    "答案：{}",
    "答案是{}个苹果。",
    "因此，答案为 ${}$。",
    "所以答案是：{}。",
    "答：小明有{}个苹果。",
    "La respuesta es {}.",
    "Réponse : {}",
    "Antwort: {}",
]


@pytest.mark.parametrize("announcement", ANNOUNCEMENTS)
def test_announcement(announcement):
    text = "Each hen lays 2 eggs. She sells 3 of them.\n"
    for written, gold in (("18", "18"), ("1,234", "1234"), ("2.50", "2.5"), ("0", "0")):
        graded = verify("math", gold, [text + announcement.format(written)])
        assert graded.correct == [True], (written, graded.answers)
        other = verify("math", "7", [text + announcement.format(written)])
        assert other.correct == [False]


def test_gsm8k_golds_behind_announcements(real_data):
    """Every gold is read behind every announcement, and a solution without one states nothing."""
    lines = (real_data / "gsm8k_test.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        solution, _, gold = json.loads(line)["answer"].rpartition("####")
        assert extract_answer(solution, Context()) is None
        announcement = ANNOUNCEMENTS[number % len(ANNOUNCEMENTS)]
        text = solution + announcement.format(gold.strip())
        assert verify("math", gold.strip(), [text]).correct == [True], text[-200:]


@pytest.mark.parametrize(
    "text, answer",
    [
        ("The answer is $x \\in [1,2)$.", "x \\in [1,2)"),
        ("The answer is [1, 2).", "[1, 2)"),
        ("The answer is (3, 4), as needed.", "(3, 4)"),
        ("The answer is 2\\sqrt{3} metres.", "2\\sqrt{3}"),
        ("The answer is \\frac{1}{2} of the cake.", "\\frac{1}{2}"),
        ("The answer is {1, 2, 3}.", "{1, 2, 3}"),
        ("The answer is x + 1.", "x + 1"),
        ("The answer is π/2 radians.", "π/2"),
        ("The answer is 5 million dollars.", "5 million"),
        ("The answer is $5$ million.", "5 million"),
        ("The answer is 3:45 p.m.", "3:45 p.m."),
        ("The answer is 2 1/2 cups.", "2 1/2"),
        ("The answer is 1.5 × 10^8 m/s.", "1.5 × 10^8 m/s"),
        ("The answer is 18 a day.", "18"),
        ("The answer is $18 and she has $5 left.", "$18, $5"),
        ("The answer is $18 since she had $5 left.", "$18"),
        ("The answer is $x=1$ or $x=2$, as shown.", "x=1, x=2"),
        ("The answer is $r$ = 5.", "r = 5"),
        ("The answer is (-4, 27);(2, 15)", "(-4, 27);(2, 15)"),
        ("The answer is $(-4, 27)$; $(2, 15)$", "(-4, 27), (2, 15)"),
        ("The answer is 5; the rest follows.", "5"),
        ("The answers are $1$, $2$ and $3$.", "1, 2, 3"),
        ("The answer is the ordered pair (3,4).", "(3,4)"),
        ("The answer is Evelyn.", "Evelyn"),
        ("The answer is Evelyn, because she is the fastest.", "Evelyn"),
        ("The answer is 7 and not 8.", "7"),
        ("Answer: -1./3", "-1./3"),
        ("Answer: \\frac{1}{7}\\triangle ABC", "\\frac{1}{7}\\triangle ABC"),
        (
            "Answer: \\begin{pmatrix} -1 \\\\ 2 \\end{pmatrix}",
            "\\begin{pmatrix} -1 \\\\ 2 \\end{pmatrix}",
        ),
        ("Final Answer: The curve is $y' = 2y + 1$.", "y' = 2y + 1"),
        ("The answer is no solution.", "no solution"),
        ("Answer: necessary but not sufficient", "necessary but not sufficient"),
    ],
)
def test_what_is_announced(text, answer):
    assert extract_answer(text, Context()) == answer
