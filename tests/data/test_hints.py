"""What to type where a row has no column of a known name."""

import pytest

from ccpo_jax.data import parse_row
from ccpo_jax.data.hints import is_messages
from tests.support.errors import raises_for

MESSAGES = [{"role": "user", "content": "1+1?"}]


@pytest.mark.parametrize(
    "row, column, typed",
    [
        ({"goal": "q", "answer": 1}, "question", "question=goal"),
        ({"instruction": "q", "output": "1"}, "question", "question=instruction,answer=output"),
        (
            {"instruction": "q", "input": "x", "output": "1"},
            "question",
            "question=instruction+input,answer=output",
        ),
        ({"Input": "q", "target": "1"}, "question", "question=Input,answer=target"),
        ({"meta": {"task": "q"}, "target": "1"}, "question", "question=meta.task,answer=target"),
        (
            {"startphrase": "s", "ending0": "x", "ending1": "y", "label": 0},
            "question",
            "question=startphrase,options=ending0+ending1",
        ),
        ({"note": "q", "key": "1"}, "question", "question=COLUMN,answer=COLUMN"),
        ({"prompt": MESSAGES, "output": "1"}, "answer", "answer=output"),
        ({"question": "q", "info": {"answer": 1}}, "answer", "answer=info.answer"),
        ({"question": "q", "options": ["x", "y"], "target": 1}, "answer", "answer=target"),
        ({"question": "q", "the key": {"answer": 1}}, "answer", '"answer=the key.answer"'),
    ],
)
def test_a_missing_column_comes_with_a_mapping_to_type(row, column, typed):
    with raises_for(column) as error:
        parse_row(row)
    message = str(error.value)
    assert f"--config.data.columns={typed}" in message and "\n" not in message


@pytest.mark.parametrize("typed", ["instruction+input", "Input", "meta.task"])
def test_what_is_to_be_typed_is_read(typed):
    row = {"instruction": "1+1?", "input": "", "Input": "1+1?", "meta": {"task": "1+1?"}}
    assert parse_row(row | {"out": 2}, columns=f"question={typed},answer=out").question == "1+1?"


def test_a_hint_keeps_what_is_mapped_already():
    with raises_for("answer") as error:
        parse_row({"goal": "q", "target": "1"}, columns="question=goal")
    assert "--config.data.columns=question=goal,answer=target" in str(error.value)


@pytest.mark.parametrize("cell", [None, "", "text", [], ["text"], [{"text": "x"}], [MESSAGES], {}])
def test_other_cells_are_no_messages(cell):
    assert not is_messages(cell)
