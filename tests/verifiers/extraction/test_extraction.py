r"""Where a text states its answer: the strict mode, which wants the answer marked as one."""

import pytest

from ccpo_jax.verifiers.extraction import extract_answer
from ccpo_jax.verifiers.types import Context

STRICT = Context()


def answer_of(text: str) -> str | None:
    return extract_answer(text, STRICT)


@pytest.mark.parametrize(
    "text, answer",
    [
        ("<think>Perhaps \\boxed{3}? No.</think>\n\nThe answer is 5.", "5"),
        ("<think>Maybe \\boxed{42}. No, wrong.</think>\nThe answer is 43.", "43"),
        ("So it is 3.</think>The answer is 5.", "5"),
        ("<reasoning>3 + 2</reasoning><answer>5</answer>", "5"),
        ("[THINK]The answer is 3.[/THINK]#### 5", "5"),
        ("analysisMaybe 3. assistantfinalThe answer is 5.", "5"),
        ("<think>The answer is 3.", None),
        ("<think>\\boxed{3} and still thinking", None),
    ],
)
def test_thoughts_are_not_read(text, answer):
    assert answer_of(text) == answer


@pytest.mark.parametrize(
    "text, answer",
    [
        ("<answer>120</answer>", "120"),
        ("<answer>\n120\n</answer>", "120"),
        ("<answer> \\boxed{5} </answer>", "5"),
        ("<answer>The answer is 5</answer>", "5"),
        ("<answer>5 apples</answer>", "5"),
        ("<answer>5", "5"),
        ("<final_answer>5</final_answer>", "5"),
        ("[ANSWER]5[/ANSWER]", "5"),
        ("<answer>3</answer> No: <answer>5</answer>", "5"),
        ("<answer>3</answer> or <answer>5</answer>", "3, 5"),
        ("<answer></answer>", None),
        ("</answer> This is 7 times as much", None),
    ],
)
def test_tags(text, answer):
    assert answer_of(text) == answer


@pytest.mark.parametrize(
    "text, answer",
    [
        ("I first got $\\boxed{42}$, which is wrong. The final answer is $43$.", "43"),
        ("\\boxed{42}\n\nSo the answer is 43 apples.", "43"),
        ("The answer is 42. So $\\boxed{43}$.", "43"),
        ("Answer: 42\nWait.\nAnswer: 43", "43"),
        ("#### 42\nNo:\n#### 43", "43"),
        ("<answer>42</answer> The answer is 43.", "43"),
        # Words about the answer correct nothing.
        ("\\boxed{42}. I hope the answer is correct.", "42"),
        ("\\boxed{42}. The answer is reasonable because 7 is small.", "42"),
        ("The answer is 42. Is the answer clear?", "42"),
        ("\\boxed{42}\nThe wrong answer is 43.", "42"),
        ("\\boxed{42}\nIf the answer is 43, we made a mistake.", "42"),
        ("\\boxed{42}\nThe answer is not 43.", "42"),
        ("\\boxed{42} \\text{ as 3 people share 2}", "42"),
    ],
)
def test_the_last_statement_counts(text, answer):
    assert answer_of(text) == answer


@pytest.mark.parametrize(
    "text, answer",
    [
        ("The answer is 5.\n\nQ: Tom has 6 dogs. How many?\nA: 6", "5"),
        ("A: 5\n\nQ: And this?\nA: 6", "5"),
        ("5\n\nQ: And this?\nA: 6", "5"),
        ("The answer is 5.\n\nQuestion: And this?\nThe answer is 6.", "5"),
        ("$\\boxed{5}$\n\nProblem 2: And this?\n$\\boxed{6}$", "5"),
        ("The answer is 5.\nHuman: And this?\nThe answer is 6.", "5"),
        ("The answer is 5<|im_end|>\n<|im_start|>user\nThe answer is 6.", "5"),
        ("#### 5</s>#### 6", "5"),
        ("答案：5\n\n问题：下一个\n答案：6", "5"),
        # The question that is being answered, said again.
        ("Question: what?\nAnswer: 6", "6"),
        ("Let me see.\n\nProblem: x + 2 = 8\n\nAnswer: 6", "6"),
    ],
)
def test_the_next_question_is_cut(text, answer):
    assert answer_of(text) == answer


@pytest.mark.parametrize(
    "text, answer",
    [
        ("So she makes **$18** per day.", "$18"),
        ("So she makes **18 dollars** per day.", "18"),
        ("It is **3** or **4**.", "3, 4"),
        ("The result is $120$.", "120"),
        ("Solution: 120", "120"),
        ("The solution is $x = 7$.", "x = 7"),
        ("120 is the answer.", "120"),
        ("Thus $x \\le 2$ is our answer.", "x \\le 2"),
        ("28 percent", "28 percent"),
        ("18 eggs", "18"),
        ("`7`", "7"),
        ("$28$ percent", "28 percent"),
        # Not marked as an answer.
        ("**Step 3:** so it is.", None),
        ("So 5 or 6 is the answer.", None),
        ("As a result there are 50 - 25 books.", None),
        ("Thus there are 12 ways.", None),
        ("3 + 4 = 7", None),
        ("Is the answer 5?", None),
        ("The answer is 5?", None),
        ("The answer is not 5.", None),
        ("The answer is obtained by adding 3.", None),
        ("A: 3\nB: 4\nC: 5", None),
        ("an answer 5 is given", None),
    ],
)
def test_weaker_marks(text, answer):
    assert answer_of(text) == answer
