"""The arguments of a Trainer: names, objects, and the mistakes that one can make with each."""

import collections
import types
from unittest import mock

import datasets
import jax
import numpy as np
import pandas
import pyarrow
import pytest

from ccpo_jax import Topology, data
from ccpo_jax.config import Config, get, parse, to_json
from ccpo_jax.presets import load_preset
from ccpo_jax.rl.credit import shared
from ccpo_jax.rl.topology import dyad, voting
from ccpo_jax.rl.types import CreditEstimator, Policy
from ccpo_jax.rollout.prompts import RolePrompt, TextCodec
from ccpo_jax.train import Model, Trainer
from ccpo_jax.train.build import Run
from ccpo_jax.train.export import export_networks
from ccpo_jax.train.parts import (
    as_dataset,
    as_questions,
    check_objects,
    resolve,
    row_reader,
    training_reader,
)
from ccpo_jax.workdir import load_config, save_config
from tests.support.errors import raises_for

ROWS = [{"question": f"{number} + 1 = ?", "answer": str(number + 1)} for number in range(40)]


def half(answer, problem):
    return 0.5


class PolarsFrame:
    """What a DataFrame of polars has."""

    columns = ("question", "answer")

    def to_dict(self):
        return {column: [row[column] for row in ROWS] for column in self.columns}

    def to_dicts(self):
        return ROWS


TWO_COLUMNS_OF_ONE_NAME = pandas.DataFrame(
    [["1 + 1 = ?", "2", "3"]], columns=["question", "answer", "answer"]
)
TWO_LAMBDAS = [lambda answer, problem: 0.0, lambda answer, problem: 1.0]

# --- configurations -------------------------------------------------------------------------------


def test_a_configuration_is_a_preset_fields_a_configdict_or_a_config():
    preset = load_preset("voting:tiny")
    named, _ = resolve("voting:tiny")
    assert named == resolve(preset)[0] == resolve(named)[0] == parse(preset)

    fields = {
        "preset": "voting:tiny",
        "steps": 3,
        "credit.name": "shared",
        "team": {"tie": "wrong"},
    }
    config, _ = resolve(fields)
    chosen = (config.steps, config.credit.name, config.team.tie, config.data.train)
    assert chosen == (3, "shared", "wrong", ("synthetic/voting",))


def test_without_a_preset_the_team_decides_which_and_the_tiny_model_has_its_own():
    assert resolve(None)[0] == parse(load_preset("dyad"))
    assert resolve(None, topology="debate")[0] == parse(load_preset("debate"))
    assert resolve({"topology": "chain"}, model="tiny")[0] == parse(load_preset("chain:tiny"))
    by_object, _ = resolve(None, model="tiny", topology=voting(5))
    assert (by_object.topology, by_object.data.train) == ("object:voting", ("synthetic/voting",))
    pair = Topology("pair", ("solver", "checker"), ((), (0,)), ablated=(0,), decision="last")
    assert resolve(None, topology=pair)[0].response_length == (2048,)


def test_a_saved_configuration_is_the_start_where_none_is_given():
    saved, _ = resolve({"preset": "voting:tiny", "steps": 7, "seed": 3})
    assert resolve(None, saved=saved)[0] == saved
    assert resolve(None, saved=saved, credit="shared")[0].credit.name == "shared"
    assert resolve("voting:tiny", saved=saved)[0] != saved


def test_problems_of_a_program_come_without_the_test_sets_of_the_preset():
    config, _ = resolve("dyad", train=ROWS)
    assert (config.data.eval, config.data.heldout) == ((), 4)
    kept = {"data.eval": "math500", "data.heldout": 7}
    config, _ = resolve({"preset": "dyad", **kept}, train=ROWS)
    assert (config.data.eval, config.data.heldout) == (("math500",), 7)


def test_a_team_without_a_preset_takes_no_test_set_either():
    config, _ = resolve(None, model="tiny", train=ROWS, topology="graph", credit="shared")
    assert (config.data.eval, config.data.heldout) == ((), 4)
    assert resolve("dyad", train="gsm8k")[0].data.heldout == 256


# --- objects --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        tuple(ROWS),
        datasets.Dataset.from_list(ROWS),
        pandas.DataFrame(ROWS),
        PolarsFrame(),
        pyarrow.Table.from_pylist(ROWS),
        data.from_rows(ROWS, name="x"),
    ],
    ids=["list", "tuple", "datasets", "pandas", "polars", "pyarrow", "Dataset"],
)
def test_rows_come_in_every_form(rows):
    config, parts = resolve("voting:tiny", train=rows)
    (name,) = config.data.train
    assert name.startswith("object:") and "40 problems" in name
    assert [p.gold for p in parts.datasets[name].problems] == [row["answer"] for row in ROWS]


def test_what_is_missing_in_a_frame_is_none():
    frame = pandas.DataFrame(ROWS[:3])
    frame["level"] = [None, 1.5, 2.0]
    frame["seen"] = [pandas.NaT, pandas.NaT, pandas.Timestamp("2026-01-01")]
    frame["tags"] = [["a"], [], None]
    _, parts = resolve("voting:tiny", train=frame, reward=half)
    (dataset,) = parts.datasets.values()
    rows = [problem.row for problem in dataset.problems]
    assert [row.get("level") for row in rows] == [None, 1.5, 2.0]
    assert [row.get("seen") is None for row in rows] == [True, True, False]
    assert [row.get("tags") for row in rows] == [["a"], [], None]


def test_sets_have_names_and_other_rows_another_name():
    config, parts = resolve(
        "voting:tiny", train=ROWS[:30], evaluate={"low": ROWS[:5], "high": ROWS[35:]}
    )
    assert [parts.datasets[name].name for name in config.data.eval] == ["low", "high"]
    changed = [*ROWS[:29], {**ROWS[29], "answer": "0"}]
    assert resolve("voting:tiny", train=changed)[0].data.train != config.data.train
    assert resolve("voting:tiny", train=ROWS[:30])[0].data.train == config.data.train
    mixed, _ = resolve("voting:tiny", train=["synthetic/voting", data.from_rows(ROWS, name="x")])
    assert mixed.data.train[0] == "synthetic/voting" and len(mixed.data.train) == 2


def test_models_that_are_one_object_share_a_name():
    policy = mock.create_autospec(Policy, instance=True)
    tokenizer = mock.create_autospec(TextCodec, instance=True)
    one, two = Model(policy, {}, tokenizer), Model(policy, {}, tokenizer)
    config, parts = resolve("voting:tiny", model=(one, two, one))
    assert config.model == ("object:model 0", "object:model 1", "object:model 0")
    assert parts.models == {"object:model 0": one, "object:model 1": two}
    assert resolve("voting:tiny", model=("tiny", "tiny", "tiny"))[0].model == ("tiny",) * 3


def test_prompts_are_words_of_roles():
    words = {"voter": {"problem": "{problem} = "}, "judge": RolePrompt("", "{problem}", "", "!")}
    config, parts = resolve("voting:tiny", prompts=words)
    assert parts.prompts == {
        "voter": RolePrompt("", "{problem} = ", "", ""),
        "judge": RolePrompt("", "{problem}", "", "!"),
    }
    other, _ = resolve("voting:tiny", prompts={**words, "voter": {"problem": "{problem}"}})
    assert config.prompts != other.prompts
    assert resolve("voting:tiny", prompts="math")[0].prompt_style == "math"


def test_a_credit_is_an_estimator_or_a_function_of_the_team():
    estimator = shared(dyad())
    config, parts = resolve("dyad:tiny", credit=estimator)
    assert config.credit.name == "object:CreditEstimator"
    assert parts.credit is not None and parts.credit(dyad()) is estimator
    config, parts = resolve("dyad:tiny", credit=shared)
    assert (config.credit.name, parts.credit) == ("object:shared", shared)


def test_what_was_an_object_is_recorded_and_missed(tmp_path):
    config, parts = resolve("voting:tiny", train=ROWS, topology=voting(3), credit=shared)
    saved = to_json(config)
    assert (saved["topology"], saved["credit"]["name"]) == ("object:voting", "object:shared")
    check_objects(config, parts)
    with raises_for("data.train") as error:
        resolve(config)
    assert "Trainer(train=..., topology=..., credit=...)" in str(error.value)
    # A command has none.
    save_config(config, str(tmp_path), 0)
    with raises_for("topology") as error:
        load_config(str(tmp_path), {})
    assert "object:shared" in str(error.value)


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field, config, arguments, says",
    [
        ("config", 7, {}, "received int"),
        ("config", "nothing", {}, "is not a preset"),
        ("config", {"preset": 7}, {}, "preset is 7"),
        ("config", {"eval": {"greedy": True}, "eval.greedy": False}, {}, "'eval.greedy' twice"),
        ("stepz", {"stepz": 7}, {}, "did you mean --config.steps"),
        ("model", None, {"model": 7}, "received int"),
        ("train", None, {"train": 7}, "received int"),
        ("model", None, {"model": Model(None, {}, None)}, "policy of the Model"),  # type: ignore
        ("train", None, {"train": ROWS[0]}, "give a list of rows"),
        ("train", None, {"train": {"sums": "sums.csv"}}, "values are no sets"),
        ("train", None, {"train": TWO_COLUMNS_OF_ONE_NAME}, "two columns 'answer'"),
        ("train", None, {"train": []}, "has no row"),
        ("train", None, {"train": ["2 + 2 = ?", 4]}, "row 0 is a str"),
        ("train", None, {"train": [{"text": "no question"}]}, "question"),
        ("train", None, {"train": iter(ROWS)}, "received list_iterator"),
        ("evaluate", None, {"evaluate": [{"question": "2 + 2 = ?"}]}, "answer"),
        ("reward", None, {"reward": 7}, "received int"),
        ("reward", None, {"reward": {half: "much"}}, "weight"),
        ("reward", None, {"reward": {"math + exact": 0.5}}, "give each term its own weight"),
        ("reward", None, {"reward": {half: 0.5, (lambda answer, problem: 1.0): "1"}}, "number"),
        ("reward", None, {"reward": dict.fromkeys(TWO_LAMBDAS, 0.5)}, "with def"),
        ("reward", None, {"reward": {7: 0.5}}, "received int"),
        ("prompts", None, {"prompts": {}}, "or a dict such as"),
        ("prompts", None, {"prompts": {"voter": "Vote!"}}, "'voter'"),
        ("prompts", None, {"prompts": {"voter": {"words": "Vote!"}}}, "no key 'words'"),
        ("topology", None, {"topology": voting}, "received function"),
        ("credit", None, {"credit": 7}, "received int"),
        ("credit", {"credit.name": "shared"}, {"credit": shared}, "given twice"),
        ("team.num_agents", {"team.num_agents": 5}, {"topology": voting(3)}, "object:voting"),
        ("team.tie", {"team.tie": "wrong"}, {"topology": voting(3)}, "object:voting"),
        ("credit.alpha", {"credit.alpha": 7.0}, {"credit": shared}, "object:shared"),
        ("credit.alpha", {"credit.alpha": 1.0}, {"credit": shared}, "object:shared"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_argument(field, config, arguments, says):
    with raises_for(field) as error:
        resolve(config, **arguments)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "field, arguments, says",
    [
        ("reward", {"reward": lambda: 0.5}, "score(answer, problem)"),
        ("reward", {"reward": lambda x: 0.5}, "score(answer, problem)"),
        ("credit.name", {"credit": lambda: shared(dyad())}, "raised TypeError"),
        ("credit", {"credit": lambda topology: [0.5]}, "returned list"),
        (
            "credit.name",
            {"credit": CreditEstimator(lambda: (), lambda state, outcome: (outcome.reward, state))},
            "returns credit of shape",
        ),
    ],
    ids=["no arguments", "one argument", "no topology", "no estimator", "wrong shape"],
)
def test_a_function_that_does_not_fit_is_refused_before_anything_loads(field, arguments, says):
    with raises_for(field) as error:
        Trainer("dyad:tiny", **arguments)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "field, arguments, says",
    [
        ("on_step", {"on_step": 7}, "received int"),
        ("on_step", {"on_step": lambda metrics: None}, "(metrics, batch)"),
        ("devices", {"devices": []}, "received []"),
        ("devices", {"devices": "cpu"}, "received 'cpu'"),
        ("devices", {"devices": 1}, "jax.devices()"),
        ("workdir", {"workdir": 7}, "received int"),
        ("workdir", {"workdir": ""}, "is no folder"),
        ("workdir", {"workdir": "a\0b"}, "is no folder"),
    ],
)
def test_what_no_field_names_is_checked_too(field, arguments, says):
    with raises_for(field) as error:
        Trainer("dyad:tiny", **arguments)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_devices_are_a_list_or_an_array():
    for devices in (jax.devices()[:1], np.array(jax.devices()[:1])):
        Trainer({"preset": "solo:tiny", "data.heldout": 0}, devices=devices).close()


def test_a_weight_is_any_number():
    config, _ = resolve("voting:tiny", reward={"math": np.float32(0.5), half: 1})
    assert config.verifier.name == "0.5*math + 1.0*object:half"


def test_a_run_has_its_parts():
    with raises_for("credit"):
        Trainer(object.__new__(Run), credit=shared)


def test_a_network_of_ones_own_is_not_exported(tmp_path):
    run = types.SimpleNamespace(model_configs=(None,))
    with raises_for("model"):
        export_networks(run, ({},), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_given_object_leaves_other_fields_alone():
    """Those that do not describe it: as many as without it."""
    config, _ = resolve({"preset": "dyad:tiny", "credit.eta": 2.0}, topology=dyad())
    assert config.credit.eta == 2.0
    with raises_for("credit.eta"):
        resolve({"preset": "voting:tiny", "credit.eta": 2.0}, topology=voting(3))
    assert get(config, "topology") == "object:dyad" and isinstance(config, Config)


# --- questions ------------------------------------------------------------------------------------


def test_questions_keep_their_order_and_need_no_answer():
    like = data.from_rows(ROWS, name="x")
    asked = as_questions(["b", "a", "b"], data.RowReader(), like=like)
    assert [problem.question for problem in asked.problems] == ["b", "a", "b"]
    assert {problem.verifier for problem in asked.problems} == {"math"}
    assert as_questions("b", data.RowReader(), like=like).problems[0].question == "b"
    rows = [{"question": "1 + 1 = ?"}, {"question": "2 + 1 = ?", "answer": "3"}]
    assert [p.gold for p in as_questions(rows, data.RowReader(), like=like).problems] == ["", "3"]
    with raises_for("questions"):
        as_questions(ROWS[:1] * 2, data.RowReader(), like=like)
    with raises_for("questions"):
        as_questions({"question": "1 + 1 = ?"}, data.RowReader(), like=like)


def test_a_reward_function_judges_rows_without_an_answer():
    rows = [{"question": "Write a poem."}, {"question": "Write a song."}]
    counted = collections.Counter(
        problem.gold
        for problem in as_dataset(rows, "train", data.RowReader(gold="optional"), name="x").problems
    )
    assert counted == {"": 2}


@pytest.mark.parametrize(
    "judge,named",
    [
        ("auto", "verifier math"),
        ("exact", "verifier exact"),
        ("my.py:score", "reward my.py:score"),
        ("0.9*auto + 0.1*my.py:form", "reward 0.9*auto + 0.1*my.py:form"),
    ],
)
def test_the_log_names_what_judges(judge, named):
    rows = [{"riddle": "1+1?", "key": "2"}]
    reader = row_reader("question=riddle,answer=key", judge)
    summary = data.read_rows(rows, name="set", reader=reader, field="data.train").summary()
    assert summary.endswith(f"gold from `key`, {named}")


@pytest.mark.parametrize("field", ["sft.targets", "sft"])
def test_pairs_may_be_a_dict(field):
    pairs = {"thinker": "plan", "solver": "steps[0]"}
    given = {"sft.targets": pairs} if field == "sft.targets" else {"sft": {"targets": pairs}}
    config, _ = resolve({"preset": "dyad:tiny", "mode": "sft", **given})
    assert config.sft.targets == ("thinker=plan", "solver=steps[0]")


def test_who_learns_from_demonstrations_needs_an_answer_only_to_evaluate():
    gold = {
        (mode, heldout): training_reader((), "auto", mode=mode, heldout=heldout).gold
        for mode in ("train", "sft")
        for heldout in (0, 16)
    }
    assert gold.pop(("sft", 0)) == "optional"
    assert set(gold.values()) == {"required"}
