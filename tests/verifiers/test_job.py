"""Verdicts on the texts of one problem: correctness, classes of answers, failures."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccpo_jax.verifiers import FAILURES, VERIFIERS, Context, check_gold, verify

RIGHT = {"math": "4", "choice": "D", "exact": "four"}
WRONG = {"math": "5", "choice": "E", "exact": "five"}


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
    assert graded.failures == ["", "", "no_answer", "", ""]
    assert graded.gold_failure is None and check_gold(name, right) is None
    assert graded.counts == dict.fromkeys(FAILURES, 0) | {"no_answer": 1}


@pytest.mark.parametrize("name", VERIFIERS)
def test_no_answer_equals_an_empty_gold(name):
    graded = verify(name, " ", ["", "Answer: ", r"\boxed{}", r"\boxed{4}", "Answer: D"])
    assert not any(graded.correct)
    assert graded.gold_failure == "empty" and graded.counts["gold_unparsed"] == 1


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


def test_only_the_last_characters_count():
    text = r"\boxed{4}" + " " * 100
    assert verify("math", "4", [text], max_chars=109).correct == [True]
    assert verify("math", "4", [text], max_chars=100).correct == [False]


def test_an_error_is_counted_with_its_reason(monkeypatch):
    def broken(gold, answer, context):
        if answer == "bad":
            raise ArithmeticError("no such number")
        return gold == answer

    monkeypatch.setitem(VERIFIERS, "broken", VERIFIERS["exact"]._replace(equivalent=broken))
    graded = verify("broken", "good", ["good", "bad", "bad", "other"])
    assert graded.correct == [True, False, False, False] and graded.answer_id == [0, -1, -1, 1]
    assert graded.failures[1] == graded.failures[2]
    assert graded.failures[1].startswith("failed: ArithmeticError: no such number")
    assert graded.counts["failed"] == 2


def test_equal_answers_are_compared_once(monkeypatch):
    calls = []

    def counting(gold, answer, context):
        calls.append((gold, answer))
        return gold == answer

    monkeypatch.setitem(VERIFIERS, "counting", VERIFIERS["exact"]._replace(equivalent=counting))
    verify("counting", "4", ["4", "Answer: 4", r"\boxed{4}", "4 "] * 16)
    assert calls == [("4", "4")]


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
    """Classes agree with correctness even if equivalence is neither symmetric nor transitive."""

    def relates(first, second, context):
        return first == second or (int(first), int(second)) in related

    def relates_both_ways(first, second, context):
        return relates(first, second, context) and relates(second, first, context)

    odd = VERIFIERS["exact"]._replace(
        equivalent=relates, value=lambda answer, context: None, same=relates_both_ways
    )
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

    def relates(first, second, context):
        return (first, second) in same

    monkeypatch.setitem(
        VERIFIERS, "odd", VERIFIERS["exact"]._replace(equivalent=relates, same=relates)
    )
    graded = verify("odd", "0", ["1", "2", "1"])
    assert graded.correct == [True, False, True] and graded.answer_id == [0, 1, 0]


def test_one_way_equivalence_does_not_merge_wrong_answers():
    """As a gold, 1 accepts the equation 2x + z = 1; as answers, the two differ."""
    assert verify("math", "7", [r"\boxed{1}", r"\boxed{2x+z=1}"]).answer_id == [0, 1]


def test_thought_longer_than_what_is_read_is_no_answer():
    """Its opening marker is not among the characters that are read."""
    thought = "<think>" + "so " * 100 + r"\boxed{4}"
    assert verify("math", "4", [thought], max_chars=50).answers == [None]
    assert verify("math", "4", [thought + "</think>#### 4"], max_chars=50).correct == [True]


def test_auto_is_decided_by_whether_there_are_options():
    assert verify("auto", "0.5", ["Answer: 1/2", "Answer: 2"]).correct == [True, False]
    options = Context(options=("red", "blue"))
    assert verify("auto", "B", ["Answer: (B)", "Answer: A"], options).correct == [True, False]
    functions = {"none": lambda answer, problem: 0.0}
    halved = verify("0.5*auto + 0.5*none", "0.5", ["Answer: 1/2"], functions=functions)
    assert halved.scores == [0.5]
