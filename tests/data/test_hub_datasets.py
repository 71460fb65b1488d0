"""Named datasets of the Hub, with the columns that they have there."""

import pytest

from ccpo_jax.data import DATASETS, Problem, load
from tests.support.errors import raises_for


def test_without_a_network_a_hub_set_says_what_to_type(monkeypatch):
    import datasets

    def unreachable(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with raises_for("data.train") as error:
        load("math", field="data.train")
    message = str(error.value)
    assert "DigitalLearningGmbH/MATH-lighteval (ConnectionError: no route)" in message
    assert message.endswith("--config.data.train=math=path/to/file.parquet")


LOGIQA_ROW = {"context": "c", "query": "q", "options": ["w", "x", "y", "z"], "correct_option": 3}


LOGIQA_OPTIONS = ("w", "x", "y", "z")
LOGIQA_PROBLEM = ("c\nq\nA. w\nB. x\nC. y\nD. z", "D", "choice", "c", (), LOGIQA_OPTIONS)


ANSWERED = {"question": "q", "answer": "1"}


HUB_ROWS = {  # hub name -> a row with the columns it has there, and the problem it stands for
    "DigitalLearningGmbH/MATH-lighteval": (
        {"problem": "p", "level": "Level 5", "solution": "so $\\boxed{7}$.", "type": "Algebra"},
        ("p", "7", "math", ""),
    ),
    "HuggingFaceH4/MATH-500": (
        {
            "problem": "p",
            "solution": "so $\\boxed{\\text{7}}$.",
            "answer": "7",
            "subject": "Algebra",
            "level": 2,
            "unique_id": "test/1.json",
        },
        ("p", "7", "math", ""),
    ),
    "HuggingFaceH4/aime_2024": (
        {"id": 60, "problem": "p", "solution": "s", "answer": "204", "url": "u", "year": "2024"},
        ("p", "204", "math", ""),
    ),
    "math-ai/aime25": ({"problem": "p", "answer": "70", "id": "0"}, ("p", "70", "math", "")),
    "math-ai/amc23": (
        {"id": 0, "question": "q", "answer": 27.0, "url": "u"},
        ("q", "27.0", "math", ""),
    ),
    "math-ai/minervamath": (ANSWERED, ("q", "1", "math", "")),
    "MARIO-Math-Reasoning/Gaokao2023-Math-En": (
        {
            "source": "s",
            "question": "q",
            "lang": "en",
            "answer": "$x<1$",
            "sourcename": None,
            "id": 0,
        },
        ("q", "x<1", "math", ""),
    ),
    "openai/gsm8k": (
        {"question": "q", "answer": "3 x 24 = <<3*24=72>>72\n#### 72"},
        ("q", "72", "math", ""),
    ),
    "lucasmccabe/logiqa": (LOGIQA_ROW, LOGIQA_PROBLEM),
}


@pytest.mark.parametrize("name", DATASETS)
def test_contract(name, monkeypatch):
    import datasets

    asked = []

    def fake(*args, **options):
        asked.append((args, options))
        return [HUB_ROWS[DATASETS[name].hub][0]]

    monkeypatch.setattr(datasets, "load_dataset", fake)
    source = DATASETS[name]
    assert load(name).problems == (Problem(f"{name}/0", *HUB_ROWS[source.hub][1]),)
    assert asked == [
        ((source.hub, source.config), {"split": source.split, "revision": source.revision})
    ]
    assert source.split in ("train", "test", "validation")
