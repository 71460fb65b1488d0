"""What to rename where a row has no column of a known name."""

import numpy as np
import pytest

from ccpo_jax.data import parse_row
from ccpo_jax.data.hints import is_messages
from tests.support.errors import raises_for

MESSAGES = [{"role": "user", "content": "1+1?"}]


@pytest.mark.parametrize(
    "row, column, hint",
    [
        (
            {"goal": "q", "sol1": "x", "sol2": "y", "label": 0},
            "question",
            "rename goal to question",
        ),
        ({"goal": "q", "sol1": "x", "sol2": "y", "label": 0}, "question", "of sol1 and sol2"),
        ({"prompt": "q", "answer": "1"}, "question", "rename prompt to question"),
        ({"instruction": "q", "output": "1"}, "question", "rename instruction to question"),
        ({"Prompt": "q", "answer": "1"}, "question", "rename Prompt to question"),
        ({"prompt": MESSAGES, "answer": "1"}, "question", "prompt is a list of messages"),
        ({"messages": np.array(MESSAGES), "answer": "1"}, "question", "messages is a list"),
        (
            {"prompt": MESSAGES, "reward_model": {"ground_truth": "2"}},
            "question",
            "write reward_model.ground_truth as answer",
        ),
        ({"question": "q", "final_answer": "1"}, "answer", "rename final_answer to answer"),
        ({"question": "q", "ground_truth": 1}, "answer", "rename ground_truth to answer"),
        (
            {"question": "q", "reward_model": {"ground_truth": "2"}},
            "answer",
            "write reward_model.ground_truth as answer",
        ),
        (
            {"question": "q", "options": ["x", "y"], "target": 1},
            "answer",
            "rename target to answer",
        ),
    ],
)
def test_a_missing_column_comes_with_a_hint(row, column, hint):
    with raises_for(column) as error:
        parse_row(row)
    assert hint in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("row", [{}, {"note": 1}, {"prompt": "", "note": "x"}, {"goal": None}])
def test_no_hint_where_nothing_is_there(row):
    with raises_for("question") as error:
        parse_row(row)
    assert "rename" not in str(error.value)


@pytest.mark.parametrize("cell", [None, "", "text", [], ["text"], [{"text": "x"}], [MESSAGES], {}])
def test_other_cells_are_no_messages(cell):
    assert not is_messages(cell)
