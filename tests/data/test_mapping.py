"""data.columns: what a column is where its name does not tell."""

import pytest

from ccpo_jax.data import Problem, UnusableRow, from_rows, load, load_many, parse_columns, parse_row
from ccpo_jax.data.rows import RowReader
from tests.support.errors import raises_for
from tests.support.problems import write_json

ROW = {
    "riddle": "13+7?",
    "meta": {"key": "20", "note.v1": "n"},
    "info": '{"hints": [{"text": "Add."}], "key": 20}',
    "picks": ["x", "y"],
    "first pick": "x",
    "second pick": "y",
    "remark": "Tom adds.",
    "rules": "Be brief.",
    "seen": ["1+?", "?+1"],
}


@pytest.mark.parametrize(
    "columns",
    [
        "question=riddle,answer=meta.key",
        " question = riddle , answer = meta.key ",
        ("question=riddle", "answer=meta.key"),
        {"question": "riddle", "answer": "meta.key"},
        {"question": "riddle", "answer": "meta.key", "context": None},
    ],
)
def test_ways_to_write_a_mapping(columns):
    problem = parse_row(ROW | {"answer": "7"}, columns=columns)
    assert (problem.question, problem.gold) == ("13+7?", "20")
    assert problem.row["remark"] == "Tom adds."


@pytest.mark.parametrize("source", ["m.key", "m.keys[0]", "m.keys[-2]", "json.key", "a+b"])
def test_paths(source):
    row = {"q": "1+1?", "m": {"key": 2} | ({"keys": ["2", "3"]} if "keys" in source else {})}
    row |= {"json": '{"key": 2}', "a+b": "2"}
    assert parse_row(row, columns=f"question=q,answer={source}").gold == "2"


def test_names_with_dots_are_names_first():
    row = {"q.v": "dotted", "q": {"v": "nested"}, "answer": "1"}
    assert parse_row(row, columns="question=q.v").question == "dotted"
    assert parse_row(ROW | {"answer": 50}, columns="question=meta.note.v1").question == "n"


@pytest.mark.parametrize(
    "columns, expected",
    [
        ("context=remark", ("Tom adds.\n13+7?", "20", "math", "Tom adds.")),
        ("context=info.hints[0].text", ("Add.\n13+7?", "20", "math", "Add.")),
        ("context=remark+info.hints[-1].text", ("Tom adds.\nAdd.\n13+7?", "20", "math")),
        ("views=seen", ("13+7?", "20", "math", "", ("1+?", "?+1"))),
    ],
)
def test_targets(columns, expected):
    problem = parse_row(ROW, columns=f"question=riddle,answer=meta.key,{columns}")
    fields = (problem.question, problem.gold, problem.verifier, problem.context, problem.views)
    assert fields[: len(expected)] == expected


@pytest.mark.parametrize("options", ["picks", "first pick+second pick"])
@pytest.mark.parametrize("answer", ["B", "(b)", "y", 1])
def test_options(options, answer):
    columns = {"question": "riddle", "options": options, "answer": "right"}
    problem = parse_row(ROW | {"right": answer}, columns=columns)
    assert problem.question == "13+7?\nA. x\nB. y" and problem.gold == "B"


def test_the_number_of_a_column_names_its_option():
    row = {"q": "Which?", "end1": "x", "end2": "y", "right": "2"}
    columns = "question=q,options=end1+end2,answer=right"
    assert parse_row(row, columns=columns).gold == "B"
    row = {"q": "Which?", "end0": "x", "end1": "y", "label": "1"}
    assert parse_row(row, columns="question=q,options=end0+end1,answer=label").gold == "B"
    # A number counts from 0, as everywhere.
    columns = "question=q,options=end0+end1,answer=label"
    assert parse_row(row | {"label": 1}, columns=columns).gold == "B"


@pytest.mark.parametrize("target, first", [("answer_index", 0), ("answer_number", 1)])
@pytest.mark.parametrize(
    "spell", [int, str, float, "{}.0".format], ids=["int", "str", "float", "pandas"]
)
def test_numbers_of_options(target, first, spell):
    row = {"question": "q", "options": ["2", "1", "0"]}
    for number, letter in enumerate("ABC", first):
        problem = parse_row(row | {"answer": spell(number)}, columns={target: "answer"})
        assert problem.gold == letter
    for number in (first - 1, first + 3):
        with pytest.raises(UnusableRow, match=r"^gold is none of the options$"):
            parse_row(row | {"answer": number}, columns={target: "answer"})


@pytest.mark.parametrize(
    "cells", [{"answer": "B"}, {"answer": 1.5}, {"answer": True}, {"options": [], "answer": 1}]
)
def test_numbers_that_are_none(cells):
    with raises_for("answer"):
        parse_row({"question": "q", "options": ["x", "y"]} | cells, columns="answer_index=answer")


@pytest.mark.parametrize(
    "golds, typed",
    [
        ([1, 2, 3, 4], "answer_number=answer"),
        (["1", "2", "1", "2"], "answer_number=answer"),
        (["1", "2", "1", "2"], "answer_index=answer"),
        # As pandas writes a column that has nulls.
        (["1.0", "2.0", "1.0", "2.0"], "answer_index=answer"),
    ],
)
def test_what_a_refusal_says_to_type_is_read(golds, typed):
    rows = [{"question": str(gold), "options": list("wxyz"), "answer": gold} for gold in golds]
    rows = [row | {"question": f"q{i}"} for i, row in enumerate(rows)]
    with raises_for("data.train") as error:
        from_rows(rows, name="set")
    assert f"--config.data.columns={typed}" in str(error.value)
    problems = from_rows(rows, name="set", columns=typed).problems
    first = typed.startswith("answer_number")
    assert [problem.gold for problem in problems] == [
        "ABCDE"[int(float(gold)) - first] for gold in golds
    ]


@pytest.mark.parametrize(
    "target, numbers, other",
    [
        ("answer_number", [0, 1, 2], "answer_index"),
        ("answer_index", ["1", "2", "3"], "answer_number"),
    ],
)
def test_numbers_that_count_from_the_other_end_than_the_mapping_says(target, numbers, other):
    rows = [{"question": f"q{number}", "options": list("xyz"), "key": number} for number in numbers]
    with raises_for("data.train") as error:
        from_rows(rows, name="set", columns={target: "key"})
    assert f"--config.data.columns={other}=key" in str(error.value)
    problems = from_rows(rows, name="set", columns={other: "key"}).problems
    assert [problem.gold for problem in problems] == ["A", "B", "C"]


@pytest.mark.parametrize("target", ["answer", "answer_index", "answer_number", "system"])
def test_what_one_column_alone_can_be(target):
    row = {"question": "q", "options": ["x", "y"], "one": "1", "two": "2"}
    with raises_for("one+two") as error:
        parse_row(row, columns={target: "one+two"})
    assert f"type --config.data.columns={target}=one" in str(error.value)
    with raises_for("data.columns") as error:
        parse_row(row, columns=[f"{target}=one", f"{target}=two"])
    assert str(error.value).endswith(f"has {target} twice; keep one")


def test_a_column_that_is_mapped_keeps_the_meaning_of_its_name():
    row = {"question": "q", "options": ["7", "8", "9"], "meta": {"label": "1"}}
    assert parse_row(row, columns="answer=meta.label").gold == "B"


def test_a_system_text():
    columns = "question=riddle,answer=meta.key,system=rules"
    assert parse_row(ROW, columns=columns).history == (("system", "Be brief."),)
    turns = [{"role": "system", "content": "Old."}, {"role": "user", "content": "1+1?"}]
    row = {"prompt": turns, "answer": "2", "rules": "Be brief."}
    assert parse_row(row, columns="system=rules").history == (("system", "Be brief."),)
    assert parse_row(row, columns="system=").history == ()


def test_nothing_says_that_there_is_none():
    row = {"question": "q", "candidates": ["x", "y"], "answer": "B", "text": "The answer is B."}
    with raises_for("candidates"):
        parse_row(row)
    assert parse_row(row, columns="options=,context=") == Problem("", "q", "B", "math")
    assert parse_row(row, columns="options=candidates,context=").verifier == "choice"
    row = {"question": "q", "options": ["x", "y"], "answer": "7"}
    assert parse_row(row, columns="options=").verifier == "math"


def test_what_is_not_mapped_is_still_checked():
    row = {"x": {"question": "q", "answer": "B", "options": ["u", "v"]}}
    with raises_for("x.options") as error:
        parse_row(row, columns="question=x.question,answer=x.answer")
    typed = "--config.data.columns=question=x.question,answer=x.answer,options=x.options"
    assert typed in str(error.value)
    assert parse_row(row, columns=typed.partition("columns=")[2]).gold == "B"


def test_errors_name_the_source():
    with raises_for("picks") as error:
        parse_row(ROW, columns="question=riddle,answer=picks")
    assert "question=riddle,answer=picks[0]" in str(error.value)
    with raises_for("picks"):
        parse_row(ROW, columns="question=picks,answer=meta.key")


@pytest.mark.parametrize(
    "columns, facts",
    [
        ("questoin=riddle", ["'questoin'", "did you mean question?"]),
        ("gold=riddle", ["question, answer, answer_index", "views, system"]),
        ("answer=a,answer_index=b", ["answer and answer_index"]),
        ("riddle", ["'riddle'", "question=prompt"]),
        ("question=a,question=b", ["question twice", "question=a+b"]),
        ("question=prompt.-1.content", ["prompt[-1].content"]),
        ("question=prompt[last]", ["whole number"]),
        ("question=prompt[", ["whole number"]),
        ({"question": 3}, ["must be text", "3"]),
        ([4], ["4"]),
    ],
)
def test_mappings_that_are_none(columns, facts):
    with raises_for("data.columns") as error:
        parse_columns(columns)
    message = str(error.value)
    assert all(fact in message for fact in facts) and "\n" not in message


@pytest.mark.parametrize(
    "columns, facts",
    [
        ("question=ridle", ["no ridle", "among the columns riddle, meta", "did you mean riddle?"]),
        ("answer=meta.kee", ["did you mean meta.key?"]),
        ("answer=Meta.Key", ["did you mean meta.key?"]),
        ("answer=picks[2]", ["no picks[2]"]),
        ("options=first pick+secnd pick", ["did you mean second pick?"]),
    ],
)
def test_a_source_that_no_row_has(columns, facts):
    with raises_for("columns") as error:
        from_rows([ROW | {"question": "q", "answer": "50"}], name="set", columns=columns)
    assert all(fact in str(error.value) for fact in facts)


def test_a_row_may_lack_what_others_have():
    rows = [
        {"q": "1+1?", "m": {"key": 2}},
        {"q": "1+2?", "m": None},
        {"q": "1+3?", "m": {}},
        {"q": None, "m": {"key": 2}},
        {"m": {"key": 2}},
    ]
    dataset = from_rows(rows, name="set", columns="question=q,answer=m.key")
    assert [problem.gold for problem in dataset.problems] == ["2"]
    assert dataset.dropped == {"empty gold": 2, "empty question": 2}


def test_it_applies_to_every_set_that_has_its_columns(tmp_path):
    a = write_json(tmp_path, "a.json", [{"riddle": "1+1?", "key": 2}])
    b = write_json(tmp_path, "b.json", [{"question": "1+2?", "answer": 3}])
    reader = RowReader(parse_columns("question=riddle,answer=key"))
    dataset = load_many((a, b), reader=reader)
    assert [problem.gold for problem in dataset.problems] == ["2", "3"]
    assert dataset.unmapped == "" and "b: data.columns does not apply: no riddle" in str(
        dataset.notes
    )
    assert load(b, reader=reader).unmapped
    # An error of a set without them says so first.
    c = write_json(tmp_path, "c.json", [{"riddel": "1+1?", "key": 2}])
    with raises_for("data.train") as error:
        load(c, reader=reader)
    assert "did you mean riddel?" in str(error.value)
