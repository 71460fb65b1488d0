"""Held-out problems and decontamination."""

from ccpo_jax.data import Dataset, Problem, decontaminate, split_heldout
from tests.support.errors import raises_for
from tests.support.problems import ids, problems


def test_heldout_is_disjoint_deterministic_and_independent_of_order():
    whole = Dataset("set", problems(100), {"empty gold": 2})
    train, held = split_heldout(whole, 20, seed=1)
    assert (
        len(held.problems) == 20
        and set(ids(train)) | set(ids(held)) == set(ids(whole))
        and len(train.problems) == 80
    )
    assert (train.name, held.name, train.dropped, held.dropped) == (
        "set",
        "set, held out",
        {"empty gold": 2},
        {},
    )
    backwards = split_heldout(Dataset("set", problems(100)[::-1], {}), 20, seed=1)[1]
    assert ids(backwards) == ids(held)[::-1]
    assert set(ids(split_heldout(whole, 19, seed=1)[1])) < set(ids(held))
    assert ids(split_heldout(whole, 20, seed=2)[1]) != ids(held)
    assert ids(split_heldout(whole, 3, seed=0)[1]) == ["set/15", "set/42", "set/64"]
    assert split_heldout(whole, 0, seed=1) == (whole, Dataset("set, held out", (), {}))


def test_a_passage_is_asked_about_in_one_part_only():
    about = tuple(
        Problem(f"s/{i}", f"passage {i // 3}\nq {i}", "A", "choice", f"passage {i // 3}")
        for i in range(30)
    )
    for size in (3, 4, 5):
        train, held = split_heldout(Dataset("s", about, {}), size, seed=0)
        assert len(held.problems) == size
        assert not {p.context for p in train.problems} & {p.context for p in held.problems}
        cut = -size % 3
        assert len(train.problems) == 30 - size - cut
        assert train.dropped == ({"on a held-out passage": cut} if cut else {})


def test_heldout_must_leave_something_to_train_on():
    with raises_for("data.heldout"):
        split_heldout(Dataset("set", problems(5), {}), 5, seed=0)
    with raises_for("data.heldout"):
        split_heldout(Dataset("set", problems(5), {}), -1, seed=0)


def test_test_questions_leave_the_training_set():
    test = Dataset("test", (Problem("t/0", "  QUESTION  1", "9", "math"),), {})
    kept = decontaminate(Dataset("set", problems(3), {"empty gold": 1}), [test])
    assert ids(kept) == ["set/0", "set/2"] and kept.dropped == {
        "empty gold": 1,
        "also in a test set": 1,
    }
    clean = Dataset("set", problems(1), {})
    assert decontaminate(clean, [test]) == clean == decontaminate(clean, [])
    with raises_for("data.train"):
        decontaminate(clean, [Dataset("t", problems(1), {})])


def test_other_questions_on_a_test_passage_leave_too():
    context = "five birds sit on one long branch"
    contexts = (
        "Five birds  sit on one long branch",
        "five birds sit on a long branch",
        "six dogs lie under some short trees",
    )
    train = tuple(Problem(f"s/{i}", f"{c}\nq", "A", "choice", c) for i, c in enumerate(contexts))
    test = Dataset("t", (Problem("t/0", f"{context}\nanother", "B", "choice", context),), {})
    whole = Dataset("s", train, {})
    assert ids(decontaminate(whole, [test])) == ["s/1", "s/2"]
    assert ids(decontaminate(whole, [test], similarity=6 / 8)) == ["s/2"]
    assert ids(decontaminate(whole, [test], similarity=6 / 8 + 1e-6)) == ["s/1", "s/2"]
    shorter = Dataset(
        "s", (*train[2:], Problem("s/3", "q", "A", "choice", "five birds sit on one branch")), {}
    )
    assert ids(decontaminate(shorter, [test], similarity=6 / 7)) == ["s/2"]
    for similarity in (0.0, 1.5):
        with raises_for("data.similarity"):
            decontaminate(whole, [test], similarity=similarity)


def test_questions_without_a_passage_are_compared_word_for_word():
    test = Dataset("t", (Problem("t/0", "roots of $z^4 + z^2 + 1$", "6", "math"),), {})
    train = Dataset("s", (Problem("s/0", "roots of $z^4 - z^2 + 1$", "12", "math"),), {})
    assert decontaminate(train, [test], similarity=0.1) == train
