"""Named datasets of the Hub, with the columns that they have there."""

import datetime

import datasets
import pytest

from ccpo_jax.data import DATASETS, Problem, load
from tests.support.errors import raises_for
from tests.support.problems import write_json


def test_without_a_network_a_hub_set_says_what_to_type(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with raises_for("data.train") as error:
        load("math", field="data.train")
    message = str(error.value)
    assert "DigitalLearningGmbH/MATH-lighteval#train" in message
    assert "(ConnectionError: no route)" in message
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
    asked = []

    def fake(*args, **options):
        asked.append((args, options))
        return datasets.Dataset.from_list([HUB_ROWS[DATASETS[name].hub][0]])

    monkeypatch.setattr(datasets, "load_dataset", fake)
    source = DATASETS[name]
    assert load(name).problems == (Problem(f"{name}/0", *HUB_ROWS[source.hub][1]),)
    assert asked == [
        ((source.hub, source.config), {"split": source.split, "revision": source.revision})
    ]
    assert source.split in ("train", "test", "validation")


# --- any set of the Hub ---------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A Hub whose datasets are the folders HUB/name of the test; what was asked of it."""
    calls = []
    real = datasets.load_dataset

    def fake(name, config, *, split, revision):
        calls.append((name, config, revision, split))
        folder = str(tmp_path / "hub" / name)
        return real(folder, config, split=split, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", fake)
    monkeypatch.chdir(tmp_path)
    one = tmp_path / "hub/org/one"
    one.mkdir(parents=True)
    for split in ("train", "validation"):
        write_json(one, f"{split}.json", [{"question": split, "answer": "1", "n": 1}])
    two = tmp_path / "hub/org/two"
    readme = ["---", "configs:"]
    for config in ("first", "second"):
        (two / config).mkdir(parents=True)
        write_json(two / config, "dev.json", [{"question": config, "answer": "1"}])
        readme += [f"- config_name: {config}", f"  data_files: {config}/dev.json"]
    (two / "README.md").write_text("\n".join([*readme, "---", ""]))
    return calls


@pytest.mark.parametrize(
    "name, field, call, problem_id, question, notes",
    [
        ("org/one", "data.train", (None, None, None), "one/0", "train", ["split train of org/one"]),
        (
            "org/one",
            "data.eval",
            (None, None, None),
            "one/0",
            "validation",
            ["split validation of org/one"],
        ),
        ("org/one#train", "data.eval", (None, None, "train"), "one-train/0", "train", []),
        ("mine=org/one#train", "data.eval", (None, None, "train"), "mine/0", "train", []),
        (
            "org/one@refs/convert/parquet#train[:1]",
            "data.train",
            (None, "refs/convert/parquet", "train[:1]"),
            "one-train-1/0",
            "train",
            [],
        ),
        (
            "org/two#train:second@v1",
            "data.eval",
            ("second", "v1", "train"),
            "two-second-train/0",
            "second",
            [],
        ),
    ],
)
def test_any_set_by_its_address(name, field, call, problem_id, question, notes, asked):
    dataset = load(name, field=field)
    (problem,) = dataset.problems
    assert (problem.id, problem.question, list(dataset.notes)) == (problem_id, question, notes)
    assert [made[1:] for made in asked] == [call]


@pytest.mark.parametrize(
    "name, facts",
    [
        ("org/two", ["several configurations, first, second", "such as org/two:first"]),
        ("org/two:third", ["no configuration 'third'", "first, second"]),
        ("org/one#test", ["no split 'test'", "train, validation", "such as org/one#train"]),
        ("org/one#a#b", ["two splits"]),
        ("org/one:", ["no file 'org/one:'"]),
        ("data/train.jsonl", ["no file 'data/train.jsonl'"]),
        ("one#train", ["'one#train'"]),
    ],
)
def test_what_an_address_lacks_is_one_line(name, facts, asked):
    with raises_for("data.train") as error:
        load(name)
    message = str(error.value)
    assert all(fact in message for fact in facts) and "\n" not in message, message


@pytest.mark.parametrize(
    "error, facts",
    [
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub"),
            ["neither a file here nor a dataset on the Hub", "--config.data.eval=b=path"],
        ),
        (
            datasets.exceptions.DatasetNotFoundError(
                "Dataset 'a/b' is a gated dataset on the Hub."
            ),
            ["a/b is gated", "hf auth login"],
        ),
        (
            RuntimeError("Dataset scripts are no longer supported, but found b.py"),
            ["type a/b@refs/convert/parquet"],
        ),
        (ConnectionError("Couldn't reach 'a/b'\non the Hub"), ["cannot be loaded", "network"]),
    ],
)
def test_what_the_hub_refuses_is_one_line(error, facts, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with raises_for("data.eval") as raised:
        load("a/b", field="data.eval")
    message = str(raised.value)
    assert all(fact in message for fact in facts) and "\n" not in message, message


def test_with_several_splits_of_which_none_suits_they_are_listed(monkeypatch):
    table = datasets.Dataset.from_list([{"question": "q", "answer": "1"}])
    splits = datasets.DatasetDict({"easy": table, "hard": table})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: splits)
    with raises_for("data.train") as error:
        load("a/b")
    assert str(error.value).endswith("has several splits; type one of easy, hard, such as a/b#easy")


def test_columns_of_the_hub_survive_but_those_of_bytes(monkeypatch):
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "answer": datasets.Value("string"),
            "image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "meta": {"n": datasets.Value("int64"), "tags": datasets.List(datasets.Value("string"))},
            "made": datasets.Value("timestamp[us]"),
        }
    )
    row = {
        "question": "q",
        "answer": "1",
        "image": {"bytes": b"not an image", "path": None},
        "meta": {"n": 2**60, "tags": ["a"]},
        "made": datetime.datetime(2026, 12, 1),
    }
    table = datasets.Dataset.from_list([row], features=features)
    table = table.cast_column("image", datasets.Image())
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    dataset = load("a/b#train")
    assert dataset.problems[0].row == {
        "question": "q",
        "answer": "1",
        "meta": {"n": 2**60, "tags": ["a"]},
        "made": "2026-12-01T00:00:00",
    }
    assert dataset.notes == ("columns of bytes left out: image",)
