import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from fractions import Fraction

import math_verify
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccpo_jax import verifiers
from ccpo_jax.verifiers import FAILURES, VERIFIERS, Graded, Item, VerifierPool, check_gold, verify
from ccpo_jax.verifiers.process_pool import CRASHED, TIMED_OUT, ProcessPool

TOWER = r"\boxed{9^{9^{9^{9^{9}}}}}"


@pytest.fixture(scope="module")
def pool():
    with VerifierPool(workers=2, time_limit=5.0) as pool:
        yield pool


def correct(name, gold, text) -> bool:
    return verify(name, gold, [text]).correct[0]


# --- every verifier ---------------------------------------------------------------------------------------------------

RIGHT, WRONG = (
    {"math": "4", "choice": "D", "exact": "four"},
    {"math": "5", "choice": "E", "exact": "five"},
)


@pytest.mark.parametrize("name", VERIFIERS)
def test_contract(name):
    right, wrong = RIGHT[name], WRONG[name]
    texts = [
        f"Answer: {wrong}",
        f"So \\boxed{{{right}}}",
        "",
        f"Answer: {right}\n",
        f"\\boxed{{{wrong}}}",
    ]
    graded = verify(name, right, texts)
    assert graded.correct == [False, True, False, True, False]
    assert graded.answer_id == [0, 1, -1, 1, 0]
    assert graded.problems == ["", "", "no_answer", "", ""]
    assert graded.gold_problem is None and check_gold(name, right) is None
    assert graded.counts == dict.fromkeys(FAILURES, 0) | {"no_answer": 1}


@pytest.mark.parametrize("name", VERIFIERS)
def test_empty_gold_is_reported_and_never_met(name):
    graded = verify(name, " ", ["", "Answer: ", r"\boxed{}", r"\boxed{4}", "Answer: D"])
    assert not any(graded.correct)
    assert graded.gold_problem == "empty" and graded.counts["gold_unparsed"] == 1


@pytest.mark.parametrize("name", VERIFIERS)
def test_hostile_text_has_a_verdict_and_its_neighbour_is_unharmed(name):
    hostile = [
        "{" * 9000,
        "\\boxed{" * 3000,
        "\\boxed{" * 900 + "}" * 900,
        "\0" * 50,
        "\ud800",
        "$" * 9001,
    ]
    hostile += [
        "Answer:" + " " * 9000 + "x",
        "answer is " + "*" * 9000,
        "\\boxed{" + "9" * 9000 + "}",
        "A)\n" * 5000,
    ]
    graded = verify(name, RIGHT[name], [*hostile, f"\\boxed{{{RIGHT[name]}}}"])
    assert graded.correct == [False] * len(hostile) + [True]


def test_unknown_verifier_says_what_there_is(pool):
    for call in (
        lambda: verify("maths", "1", ["1"]),
        lambda: check_gold("maths", "1"),
        lambda: pool.verify([Item("maths", "1", ("1",))]),
    ):
        with pytest.raises(
            ValueError, match="'maths' is unknown; use one of 'math', 'choice', 'exact'"
        ):
            call()


def test_only_the_last_characters_count():
    text = r"\boxed{4}" + " " * 100
    assert verify("math", "4", [text], max_chars=109).correct == [True]
    assert verify("math", "4", [text], max_chars=100).correct == [False]


def test_an_error_is_counted_with_its_reason(monkeypatch):
    def broken(gold, answer):
        if answer == "bad":
            raise ArithmeticError("no such number")
        return gold == answer

    monkeypatch.setitem(VERIFIERS, "broken", VERIFIERS["exact"]._replace(equivalent=broken))
    graded = verify("broken", "good", ["good", "bad", "bad", "other"])
    assert graded.correct == [True, False, False, False] and graded.answer_id == [0, -1, -1, 1]
    assert graded.problems[1] == graded.problems[2] == "failed: ArithmeticError: no such number"
    assert graded.counts["failed"] == 2


def test_equal_answers_are_compared_once(monkeypatch):
    calls = []

    def counting(gold, answer):
        calls.append((gold, answer))
        return gold == answer

    monkeypatch.setitem(VERIFIERS, "counting", VERIFIERS["exact"]._replace(equivalent=counting))
    verify("counting", "4", ["4", "Answer: 4", r"\boxed{4}", "4 "] * 16)
    assert calls == [("4", "4")]


# --- classes ----------------------------------------------------------------------------------------------------------

SPELLINGS = [
    ["1/2", "0.5", r"\frac12", r"$\frac{1}{2}$"],
    ["2", "2.0", "x=2"],
    ["3,4", r"\{4, 3\}"],
    ["-1"],
    ["x+1", "1+x"],
]
OF_SPELLING = {
    spelling: value for value, spellings in enumerate(SPELLINGS) for spelling in spellings
}


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(OF_SPELLING)),
    st.lists(st.sampled_from([*sorted(OF_SPELLING), None]), max_size=12),
)
def test_classes_are_the_partition_by_meaning(gold, answers):
    graded = verify(
        "math", gold, ["I do not know" if a is None else rf"\boxed{{{a}}}" for a in answers]
    )
    values = [None if a is None else OF_SPELLING[a] for a in answers]
    assert graded.correct == [value == OF_SPELLING[gold] for value in values]
    order = list(dict.fromkeys(value for value in values if value is not None))
    assert graded.answer_id == [-1 if value is None else order.index(value) for value in values]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 6),
    st.lists(st.integers(0, 6), min_size=1, max_size=10),
    st.sets(st.tuples(*[st.integers(0, 6)] * 2)),
)
def test_classes_stay_a_partition_under_any_relation(gold, answers, related):
    """Equivalence that is neither symmetric nor transitive still gives classes that agree with correctness."""
    odd = VERIFIERS["exact"]._replace(equivalent=lambda a, b: a == b or (int(a), int(b)) in related)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VERIFIERS, "odd", odd)
        graded = verify("odd", str(gold), [str(a) for a in answers])
    assert all(
        (a == gold or (gold, a) in related) == c
        for a, c in zip(answers, graded.correct, strict=True)
    )
    assert len({i for i, c in zip(graded.answer_id, graded.correct, strict=True) if c}) <= 1
    for answer, i, c in zip(answers, graded.answer_id, graded.correct, strict=True):
        for other, j, d in zip(answers, graded.answer_id, graded.correct, strict=True):
            assert i != j or c == d
            assert answer != other or i == j
    assert list(dict.fromkeys(graded.answer_id)) == list(range(len(set(graded.answer_id))))


def test_a_wrong_answer_never_joins_the_correct_class(monkeypatch):
    """Answer 1 is correct and means the same as 2, but 2 is not correct: correctness decides."""
    same = {("0", "1"), ("1", "2"), ("2", "1")}
    monkeypatch.setitem(
        VERIFIERS, "odd", VERIFIERS["exact"]._replace(equivalent=lambda a, b: (a, b) in same)
    )
    graded = verify("odd", "0", ["1", "2", "1"])
    assert graded.correct == [True, False, True] and graded.answer_id == [0, 1, 0]


def test_one_way_equivalence_does_not_merge_wrong_answers():
    """As a gold, 1 accepts the equation 2x + z = 1; as an answer, the equation is something else."""
    assert verify("math", "7", [r"\boxed{1}", r"\boxed{2x+z=1}"]).answer_id == [0, 1]


# --- math -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1/2", "0.5"), ("0.5", r"\frac12"), (r"\frac{1}{2}", r"\dfrac{1}{2}"), ("27.0", "27"), ("27", "27.0"),
        (r"\frac13", "0.333333"), ("x=5", "5"), ("$x=5$", "5"), ("5", "x=5"), ("[-2,7]", r"x \in [-2,7]"),
        ("[1,2]", r"\left[1,2\right]"), (r"1\le x\le 2", "[1,2]"), (r"$\{x|-2\leq x < 1\}$", "[-2,1)"),
        (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty)\cup(-\infty,2)"), (r"\{1,2\}", "2, 1"), ("1,-2", "-2, 1"),
        ("x=1 or x=2", "1, 2"), (r"5\text{ cm}", "5"), ("5", "5 cm"), ("5", "5cm"), (r"15\mbox{ cm}^2", "15"),
        ("12", r"12 \text{ square inches}"), ("40", "40 dollars"), (r"90^\circ", "90"), ("90", "90 degrees"),
        ("1,234", "1234"), ("1234", r"1{,}234"), ("29322216", r"29,\!322,\!216"), (r"\$32", "32"), (r"50\%", "50"),
        (r"50\%", "50 percent"), ("4.5e33", r"4.5 \times 10^{33}"), ("1e-5", "10^{-5}"), ("-1./3", r"-\frac{1}{3}"),
        ("np.arcsin(10/13)", r"\arcsin(10/13)"), (r"\text{Evelyn}", "Evelyn"), (r"\text{Tuesday}", "tuesday"),
        (r"\text{(B)}", "B"), ("52_8", "52_{8}"), ("p - q", "-q+p"), ("y=2x+3", "2x - y + 3 = 0"), ("9", "3^2"),
        (r"11\sqrt2", r"\sqrt{242}"), (r"\frac{1}{3} E_{1}+\frac{2}{3} E_{2}", r"\frac{E_1+2E_2}{3}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
        ("necessary but not sufficient", r"\text{necessary but not sufficient}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"), ("8.24", r"\approx 8.24"),
        ("$145$solution:", "145"), ("$145$ Solution:", "145"), ("$145$ worked solution:", "145"), ("$x<1$answer", "x<1"),
        ("3:1", "3 : 1"), ("3:1", "6:2"), ("6:2", "3:1"), ("3:5", "12:20"), ("2:3", r"\frac23"), (r"\frac23", "2:3"),
        ("3:4:5", "6:8:10"), (r"1:\sqrt{2}", r"\sqrt{2}:2"), ("1:2", "0.5:1"), ("x:y=1:3", "1:3"), ("05\\!:\\!00", "5:00"),
    ],
)  # fmt: skip
def test_math_equivalent(gold, answer):
    assert correct("math", gold, rf"We find $\boxed{{{answer}}}$.")


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1/2", "0.51"), ("27", "28"), ("27", "270"), ("[1,2]", "(1,2)"), (r"\{1,2\}", r"\{1,2,3\}"), ("x=5", "x=6"),
        ("5", "-5"), ("a + b + c", "a + b"), ("a + b + c", "a"), (r"\sin^2 t", r"\sin^2"), ("1", r"\frac{1}{m}"),
        (r"\frac{1}{m} t", r"\frac{1}{m}"), ("2c", "2"), ("5", "5 million"), ("4.5e33", "4.5"),
        (r"\text{Evelyn}", "Evan"), ("i", "-i"), ("p-q", "q-p"),
        ("1,2", "1"), ("1", "1, 2"),
        ("$5$ million", "5"), ("$145$solution:", "14"), ("$5$ or $9$", "5"), ("$x$ squared", "x"),
        ("3:1", "3"), ("3", "3:1"), ("3:1", "3.0"), ("m:n=9:1", "9"), ("1:2", "0.5"), ("3:1", "1:3"), ("3:4:5", "3:4"),
        ("3:4:5", "3:4:6"), ("0:1:2", "0:1:3"), ("9:24", "3:8"), ("20:34", "10:17"), ("05:00", "1:0"), ("9:24", "9:2x"),
    ],
)  # fmt: skip
def test_math_different(gold, answer):
    assert not correct("math", gold, rf"We find $\boxed{{{answer}}}$.")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{1} was wrong, it is \boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{7} and later \boxed{8", "7"),
        (r"$x=\boxed{3}$ or $\boxed{4}$", "3, 4"),
        (r"\boxed{3}. Check: \boxed{3}", "3"),
        (r"\boxed{\boxed{5}}", r"\boxed{5}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"The answer is 6. So $\boxed{7}$", "7"),
        ("The final answer is $5$. I hope it is correct.", "5"),
        ("The answer is $x=1$ or $x=2$.", "x=1, x=2"),
        ("The answer to this problem is: 42, since it is.", "42"),
        ("**Answer:** 1,234 apples", "1,234"),
        ("**Final Answer**: $$\n\\frac12\n$$", r"\frac12"),
        ("Answer: 12 \\pi", r"12 \pi"),
        ("Answer: 3 sqrt(2)", "3 sqrt(2)"),
        ("16 + 2 = 18 dollars.\n#### 18", "18"),
        ("27", "27"),
        ("Adding up:\n$\\frac{3}{4}$", r"\frac{3}{4}"),
        ("I have no idea, maybe 5 or so", None),
        ("3 + 4 = 7", None),
        (r"\boxed{}", None),
        ("", None),
    ],
)
def test_math_extracts(text, answer):
    assert VERIFIERS["math"].extract(text) == answer


def test_nested_box_is_read_through():
    assert correct("math", "5", r"\boxed{\boxed{5}}") and correct("math", "5", r"\fbox{5}")


def test_too_long_an_answer_is_not_parsed_but_still_compared_as_text():
    long = "+".join(["x"] * 400)
    graded = verify("math", long, [rf"\boxed{{{long}}}", rf"\boxed{{{long}+1}}"])
    assert graded.correct == [True, False] and graded.answer_id == [0, 1] and graded.gold_problem


# --- choice -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "letter"),
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
        ("The answer is H", None),
        ("Vitamin C is good", None),
        ("", None),
    ],
)
def test_choice_extracts(text, letter):
    assert VERIFIERS["choice"].extract(text) == letter


@pytest.mark.parametrize(("gold", "letter"), [("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B")])
def test_choice_gold_is_any_way_of_writing_the_letter(gold, letter):
    assert check_gold("choice", gold) is None and correct("choice", gold, f"Answer: {letter}")
    assert not correct("choice", gold, "Answer: C")


def test_choice_gold_that_is_no_letter():
    assert check_gold("choice", "1") == "not a letter from A to G: '1'"
    assert verify("choice", "1", ["Answer: B"]).counts["gold_unparsed"] == 1


# --- exact ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "text", "verdict"),
    [
        ("24", "6+2=8;8+9=17;17+7=24;Answer: 24", True),
        ("24", "Answer: 23; Answer: 24", True),
        ("24", "Answer: 24; Answer: 23", False),
        ("24", "Answer: 24.0", True),
        ("1,250", "1250.", True),
        ("1250", r"Answer: 3 so \boxed{1,250.00}", True),
        ("-0.5", "-.50", True),
        ("0", "-0.0", True),
        ("-3", "3", False),
        ("12,50", "1250", False),
        ("New  York", "I think\nAnswer: new york.", True),
        ("New York", "York", False),
        ("7", "first line\n7", True),
        ("7", "7\nlast line", False),
        ("7", "Answer:", False),
        ("9" * 5000, "0" + "9" * 5000, True),
    ],
)
def test_exact(gold, text, verdict):
    assert correct("exact", gold, text) is verdict


@pytest.mark.parametrize(
    "text", ["unsure", "47-8=39\nunsure", "Answer: I don't know.", "I am not sure!"]
)
def test_who_does_not_know_abstains(text):
    """Were it an answer, two who do not know would outvote one who does."""
    graded = verify("exact", "4", [text, text, "Answer: 4"])
    assert (
        graded.answer_id[:2] == [-1, -1]
        and graded.answer_id[2] >= 0
        and graded.correct == [False, False, True]
    )
    assert graded.counts["no_answer"] == 2 and "says not to know" in check_gold("exact", "Not sure")


def test_words_that_only_resemble_not_knowing_are_answers():
    assert correct("exact", "unknown", "Answer: Unknown") and correct(
        "exact", "unsure of b", "unsure of b"
    )


# --- real golds -------------------------------------------------------------------------------------------------------

#  file, every n-th row, rows looked at, golds that are empty, golds that are no mathematics
REAL = [
    ("math500", 2, 250, 0, 0),
    ("aime24", 1, 30, 0, 0),
    ("aime25", 1, 30, 0, 0),
    ("amc23", 1, 40, 0, 0),
    ("minervamath", 4, 68, 0, 0),
    ("gaokao2023en", 1, 385, 2, 1),
    ("math_train", 20, 375, 0, 0),
]


@pytest.mark.parametrize(
    ("name", "stride", "rows", "empty", "unparsed"), REAL, ids=[row[0] for row in REAL]
)
def test_real_golds_meet_themselves(real_data, pool, name, stride, rows, empty, unparsed):
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading parquet files needs pyarrow")
    column = parquet.read_table(real_data / f"{name}.parquet", columns=["answer"])[
        "answer"
    ].to_pylist()
    golds = [str(gold) for gold in column][::stride]
    graded = pool.verify(
        [Item("math", gold, (rf"Hence \boxed{{{gold}}}.", r"\boxed{-98765}")) for gold in golds]
    )
    assert len(golds) == rows
    assert sum(g.gold_problem == "empty" for g in graded) == empty
    assert sum(g.gold_problem is not None for g in graded) == empty + unparsed
    for gold, g in zip(golds, graded, strict=True):
        assert g.correct == [bool(gold), False], (gold, g)


def test_real_golds_meet_themselves_by_meaning_too(real_data):
    """Without the shortcut for equal words."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading parquet files needs pyarrow")
    golds = parquet.read_table(real_data / "math500.parquet", columns=["answer"])[
        "answer"
    ].to_pylist()[1::5]
    parsed = [verifiers._parse(gold)[1] for gold in golds]
    assert all(math_verify.verify(p, p, timeout_seconds=None, raise_on_error=True) for p in parsed)


def test_real_gsm8k_golds(real_data, pool):
    lines = (real_data / "gsm8k_test.jsonl").read_text().splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    items = [
        Item("math", a.rpartition("####")[2].strip(), (a, a.rpartition("####")[0])) for a in answers
    ]
    graded = pool.verify(items)
    assert all(g.correct[0] and g.gold_problem is None for g in graded)
    assert sum(g.correct[1] for g in graded) == 0, (
        "a solution without its last line states no answer"
    )


# --- the pool ---------------------------------------------------------------------------------------------------------


def test_pool_agrees_with_one_process_whatever_the_number_of_workers(pool):
    items = [
        Item(
            "math",
            str(i % 7),
            tuple(rf"\boxed{{{(i * j) % 9}}}" if j % 4 else "none" for j in range(6)),
        )
        for i in range(60)
    ] + [
        Item("choice", "B", ("Answer: A", "B", "(B)")),
        Item("exact", "x", ("x", "y")),
        Item("math", "", ("1",)),
    ]
    expected = [verify(*item) for item in items]
    assert pool.verify(items) == expected
    assert pool.verify(items[::-1]) == expected[::-1]
    with VerifierPool(workers=1) as single, VerifierPool(workers=3) as triple:
        assert single.verify(items) == triple.verify(items) == expected


def test_no_items(pool):
    assert pool.verify([]) == []
    assert pool.verify([Item("math", "1", ())]) == [
        Graded([], [], [], [], None, dict.fromkeys(FAILURES, 0))
    ]


def test_hanging_answer_dies_alone():
    easy = Item("math", "4", (r"\boxed{4}", "5"))
    hard = Item(
        "math", "4", (r"\boxed{4}", TOWER, r"\boxed{5}", TOWER, r"\boxed{4.0}", r"\boxed{5}")
    )
    with VerifierPool(workers=1, time_limit=1.0) as pool:
        before, graded, after = pool.verify([easy, hard, easy])
    assert before == after == verify(*easy)
    assert graded.correct == [True, False, False, False, True, False]
    assert graded.answer_id == [0, -1, 1, -1, 0, 1]
    assert (
        graded.problems == ["", "timed_out", "", "timed_out", "", ""]
        and graded.counts["timed_out"] == 2
    )


def test_hanging_gold_costs_one_time_limit():
    start = time.monotonic()
    with VerifierPool(workers=1, time_limit=1.0) as pool:
        hanging, other = pool.verify(
            [Item("math", "(" * 30 + "1" + ")" * 30, ("1", "2", "1")), Item("math", "1", ("1",))]
        )
    assert (
        hanging.gold_problem == "timed_out"
        and hanging.correct == [False] * 3
        and hanging.answer_id == [0, 1, 0]
    )
    assert (
        hanging.counts["gold_unparsed"] == 1
        and hanging.counts["timed_out"] == 0
        and other.correct == [True]
    )
    assert time.monotonic() - start < 15


STEPS = """
import os, signal, sys, time

def steps(job, done):
    for word in job[len(done):]:
        if word == "sleep":
            time.sleep(60)
        if word == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "exit":
            os._exit(3)
        if word == "memory":
            bytearray(1 << 33)
        if word == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if word == "stop while sending":
            os.write(int(sys.argv[1]), b"\\0\\0\\1\\0half a message")
            os.kill(os.getpid(), signal.SIGSTOP)
        if word == "raise":
            raise KeyError("a mistake in the function")
        if word == "modules":
            word = sorted({name.partition(".")[0] for name in sys.modules} & {"jax", "numpy", "ccpo_jax"})
        if word == "pid":
            word = os.getpid()
        yield (word, len(done))
"""


@pytest.fixture
def steps(tmp_path):
    path = tmp_path / "steps.py"
    path.write_text(STEPS)
    return str(path)


def test_a_dead_step_costs_its_own_record_only(steps):
    jobs = [
        ["a", "b"],
        ["c", "sleep", "d", "exit", "e"],
        ["f"],
        ["segfault"],
        ["memory", "g"],
        ["h", "i", "sleep"],
        [],
    ]
    with_two = ProcessPool(steps, "steps", workers=2, time_limit=0.7)
    try:
        results = with_two.run(jobs)
        again = with_two.run([["after"]])
    finally:
        with_two.close()
    words = [[r if isinstance(r, str) else r[0] for r in records] for records in results]
    assert words == [
        ["a", "b"], ["c", TIMED_OUT, "d", CRASHED, "e"], ["f"], [CRASHED], [CRASHED, "g"], ["h", "i", TIMED_OUT], []
    ]  # fmt: skip
    assert results[1][4] == ("e", 4), "the job resumes with all records so far"
    assert again == [[("after", 0)]]


@pytest.mark.parametrize("stall", ["stop", "stop while sending"])
def test_a_process_that_no_timer_ends_is_reported_and_replaced(steps, monkeypatch, caplog, stall):
    monkeypatch.setattr("ccpo_jax.pool._GRACE", 0.5)
    with_one = ProcessPool(steps, "steps", workers=1, time_limit=0.5)
    began = time.monotonic()
    results = with_one.run([["a", stall, "b"], ["c"]])
    assert time.monotonic() - began < 30
    with_one.close()
    assert results == [[("a", 0), TIMED_OUT, ("b", 2)], [("c", 0)]]
    assert "has not answered for" in caplog.text


def test_a_process_that_does_not_read_is_not_written_to_for_ever(steps, monkeypatch):
    monkeypatch.setattr("ccpo_jax.pool._GRACE", 0.5)
    with_one = ProcessPool(steps, "steps", workers=1, time_limit=0.5)
    assert with_one.run([["a"]]) == [[("a", 0)]]
    os.kill(with_one._workers[0].process.pid, signal.SIGSTOP)
    assert with_one.run([["b" * 10_000_000]]) == [[TIMED_OUT]]
    assert with_one.run([["c"]]) == [[("c", 0)]]
    with_one.close()


def test_a_start_that_never_ends_is_an_error_not_a_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("ccpo_jax.pool._START", 0.5)
    (tmp_path / "slow.py").write_text("import time; time.sleep(1000)")
    with_two = ProcessPool(str(tmp_path / "slow.py"), "steps", workers=2, time_limit=5)
    with pytest.raises(RuntimeError, match="could not start"):
        with_two.run([["a"]])


def test_sigterm_is_the_parents_business(steps):
    """Schedulers send it to the whole process group; a verdict must not depend on it."""
    with_one = ProcessPool(steps, "steps", workers=1, time_limit=5)
    ((pid, _),) = with_one.run([["pid"]])[0]
    os.kill(pid, signal.SIGTERM)
    assert with_one.run([["pid"]]) == [[(pid, 0)]]
    with_one.close()


def test_a_worker_imports_neither_the_program_nor_jax(steps):
    with_one = ProcessPool(steps, "steps", workers=1, time_limit=5)
    assert with_one.run([["modules"]]) == [[([], 0)]]
    with_one.close()


def test_verifier_workers_start_without_jax():
    """The file that workers run by path imports nothing of the package when it is imported."""
    code = f"import runpy, sys; runpy.run_path({verifiers.__file__!r}); print({{'jax', 'ccpo_jax'}} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_the_programs_main_module_is_not_run_again(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from ccpo_jax.verifiers import Item, VerifierPool\n"
        "print('run')\n"
        "with VerifierPool(workers=2) as pool:\n"
        "    print(pool.verify([Item('math', '1', ('1', '2'))])[0].correct)\n"
    )
    root = str(pathlib.Path(verifiers.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split("\n") == ["run", "[True, False]", ""] and done.stderr == ""


def test_an_idle_worker_that_is_killed_is_replaced_without_blame(steps):
    with_one = ProcessPool(steps, "steps", workers=1, time_limit=5)
    ((pid, _),) = with_one.run([["pid"]])[0]
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    ((other, _), last) = with_one.run([["pid", "a"]])[0]
    with_one.close()
    assert other != pid and last == ("a", 0)


def test_a_mistake_in_the_function_is_raised_and_closes_the_pool(steps):
    with_one = ProcessPool(steps, "steps", workers=1, time_limit=5)
    with pytest.raises(RuntimeError, match="a mistake in the function"):
        with_one.run([["a"], ["raise"]])
    with pytest.raises(RuntimeError, match="closed"):
        with_one.run([["a"]])


def test_a_function_that_cannot_be_loaded_is_an_error_not_a_wait(tmp_path):
    broken = ProcessPool(str(tmp_path / "absent.py"), "steps", workers=1, time_limit=5)
    with pytest.raises(RuntimeError, match="could not start"):
        broken.run([["a"]])


def test_close_ends_the_processes(steps):
    with_two = ProcessPool(steps, "steps", workers=2, time_limit=60)
    pids = {record[0] for records in with_two.run([["pid"]] * 4) for record in records}
    with_two.close()
    with_two.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers"),
        ({"time_limit": 0}, "time_limit"),
        ({"max_chars": 0}, "max_chars"),
    ],
)
def test_pool_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        VerifierPool(**arguments)


def test_numbers_meet_as_the_parser_would_have_it():
    """What is decided without parsing is what math-verify decides, also where numbers almost agree."""
    rng = np.random.default_rng(0)

    def written(value: Fraction) -> str:
        if value.denominator == 1:
            return str(value.numerator)
        sign, above = "-" if value < 0 else "", abs(value.numerator)
        forms = [
            rf"{sign}\frac{{{above}}}{{{value.denominator}}}",
            f"{sign}{above}/{value.denominator}",
        ]
        forms.append(f"{float(value):.{rng.integers(1, 9)}f}")
        return forms[rng.integers(len(forms))]

    def parsed(text):
        return math_verify.parse(
            f"$${text}$$", [math_verify.LatexExtractionConfig()], parsing_timeout=None
        )

    for _ in range(150):
        value = Fraction(int(rng.integers(-50, 50)), int(rng.integers(1, 9)))
        other = value + Fraction(int(rng.integers(-1, 2)), int(10 ** rng.integers(0, 8)))
        gold, answer = written(value), written(other)
        expected = math_verify.verify(parsed(gold), parsed(answer), timeout_seconds=None)
        assert verifiers.equivalent_math(gold, answer) == expected, (gold, answer)
