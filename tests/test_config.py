"""The table of fields: what each accepts and refuses, where it has an effect, what it makes."""

import copy
import dataclasses
import inspect
import json
import pathlib

import pytest

from ccpo_jax import CREDITS, KL_ESTIMATORS, LOSSES, TOPOLOGIES, make_credit, models
from ccpo_jax import config as table
from ccpo_jax.config import (
    FIELDS,
    MOVED,
    REMOVED,
    Config,
    check_mode,
    flatten,
    from_flat,
    get,
    parse,
)
from ccpo_jax.devices.sharding import RULES
from ccpo_jax.errors import InputError
from ccpo_jax.fields import ON_RESUME, as_text, value_text
from ccpo_jax.presets import load_preset
from ccpo_jax.presets.base import base, tiny
from ccpo_jax.rl.topology import dyad
from ccpo_jax.rollout.role_prompts import PROMPTS
from tests.support.errors import raises_for
from tests.support.outcomes import FITS

pytestmark = pytest.mark.fast

ROOT = pathlib.Path(__file__).parents[1]
every_field = pytest.mark.parametrize("name", FIELDS)


def accepted(name: str):
    """A value that the field can hold and that is not its default."""
    field = FIELDS[name]
    if field.choices:
        others = [choice for choice in field.choices if choice != field.default]
        value = others[0] if others else field.default
    elif field.kind is bool:
        value = not field.default
    elif field.element is str:
        value = "synthetic/dyad" if name.startswith("data.") else "voter voter"
    elif name in VALUES:
        value = VALUES[name]
    else:
        value = 0.25 if field.element is float else 8
    return (value,) if field.is_list and not isinstance(value, tuple) else value


# Where 8 or 0.25 is out of range.
VALUES = {"log.project": "mine", "loss.dual_clip": 3.0, "verifier.range": (-1.0, 2.0)}

# A run in which the field has an effect, besides the default run.
NEEDED = {
    "sft.targets": {"mode": "sft"},
    "lora.alpha": {"lora.rank": 4},
    "lora.targets": {"lora.rank": 4},
    "lora.rslora": {"lora.rank": 4},
    "lora.start": {"lora.rank": 4},
    "lora.merge": {"lora.rank": 4, "shared_policy": True},
    "team.num_agents": {"topology": "voting"},
    "team.tie": {"topology": "voting"},
    "team.graph": {"topology": "graph"},
    "team.decision": {"topology": "graph"},
    "credit.weight": {"credit.name": "ccpo_event"},
    "credit.soft": {"credit.name": "ccpo_event"},
    "credit.own": {"credit.name": "sepo"},
    "credit.praise": {"credit.name": "sepo"},
    "credit.blame": {"credit.name": "sepo"},
    "credit.rating_length": {"credit.name": "sepo"},
    "credit.pairings": {"credit.name": "cross_play"},
    "credit.orders": {"credit.name": "shapley"},
    "credit.answers": {"credit.name": "nested"},
    "credit.solo_weight": {"credit.name": "nested"},
    "credit.scaled": {"credit.name": "pooled"},
    "credit.prior": {"credit.name": "cross_read"},
    "credit.normalized": {"credit.name": "cross_read"},
    "credit.overlong_buffer": {"credit.overlong_penalty": 0.5},
    "advantage.delta": {"advantage.baseline": "constant"},
    "advantage.pool": {"advantage.baseline": "opo"},
    "advantage.form": {"advantage.baseline": "optimal"},
    "advantage.carried": {"advantage.baseline": "weighted"},
    "loss.clip_low": {"trainer.epochs": 2},
    "loss.clip_high": {"trainer.mini_batches": 2},
    "loss.dual_clip": {"trainer.mini_batches": 2},
    "loss.tau_positive": {"loss.name": "sapo", "trainer.mini_batches": 2},
    "loss.tau_negative": {"loss.name": "sapo", "trainer.mini_batches": 2},
    "loss.max_length": {"loss.normalize": "length"},
    "optimizer.decay_steps": {"optimizer.schedule": "linear"},
    "optimizer.floor": {"optimizer.schedule": "cosine"},
    "loss.kl_estimator": {"loss.kl_weight": 0.1},
    "loss.reference": {"loss.kl_weight": 0.1},
    "data.size": {"data.train": ("synthetic/dyad",)},
    "data.informed": {"topology": "voting", "data.train": ("synthetic/parts",)},
    "mesh.rules": {"mesh.model": 2},
    "log.project": {"log.wandb": True},
    "verifier.range": {"verifier.name": "my.py:score"},
    "verifier.on_error": {"verifier.name": "my.py:score"},
}
# A run in which it has none.
WITHOUT = {
    "sft.targets": {},
    "lora.alpha": {},
    "lora.targets": {},
    "lora.rslora": {},
    "lora.start": {},
    "lora.merge": {"lora.rank": 4},
    "team.num_agents": {},
    "team.tie": {"topology": "chain"},
    "team.graph": {},
    "team.decision": {},
    "credit.alpha": {"credit.name": "shared"},
    "credit.eta": {"credit.name": "shared"},
    "credit.decay": {"credit.name": "nested"},
    "credit.eps": {"credit.name": "difference"},
    "credit.min_samples": {"credit.name": "pooled"},
    "credit.weight": {},
    "credit.soft": {},
    "credit.own": {},
    "credit.praise": {},
    "credit.blame": {},
    "credit.rating_length": {},
    "credit.pairings": {},
    "credit.orders": {},
    "credit.answers": {},
    "credit.solo_weight": {},
    "credit.scaled": {},
    "credit.prior": {},
    "credit.normalized": {},
    "credit.solo_samples": {"topology": "voting"},
    "credit.overlong_buffer": {},
    "advantage.delta": {"advantage.baseline": "leave_one_out"},
    "advantage.pool": {"advantage.baseline": "weighted"},
    "advantage.form": {"advantage.baseline": "opo"},
    "advantage.carried": {"advantage.baseline": "batch_mean"},
    "advantage.normalize_std": {"advantage.baseline": "leave_one_out"},
    "loss.clip_low": {},
    "loss.clip_high": {},
    "loss.dual_clip": {"loss.name": "gspo", "trainer.mini_batches": 2},
    "loss.tau_positive": {"loss.name": "sapo"},
    "loss.tau_negative": {"trainer.mini_batches": 2},
    "loss.ratio": {"loss.name": "gspo"},
    "loss.normalize": {"loss.name": "reinforce_pp"},
    "loss.max_length": {},
    "loss.kl_estimator": {},
    "loss.reference": {},
    "trainer.period": {"topology": "solo"},
    "optimizer.decay_steps": {},
    "optimizer.floor": {},
    "data.size": {},
    "data.informed": {"data.train": ("synthetic/dyad",), "data.eval": ("synthetic/dyad/test",)},
    "data.columns": {"data.train": ("synthetic/dyad",), "data.eval": ("synthetic/dyad/test",)},
    "data.similarity": {"data.eval": ()},
    "mesh.rules": {},
    "eval.samples": {"data.eval": (), "data.heldout": 0},
    "eval.temperature": {"data.eval": (), "data.heldout": 0},
    "eval.top_p": {"data.eval": (), "data.heldout": 0},
    "eval.top_k": {"data.eval": (), "data.heldout": 0},
    "eval.min_p": {"data.eval": (), "data.heldout": 0},
    "eval.batch_size": {"data.eval": (), "data.heldout": 0},
    "eval.greedy": {"data.eval": (), "data.heldout": 0},
    "eval.limit": {"data.eval": ()},
    "eval_every": {"data.heldout": 0},
    "eval_first": {"data.eval": (), "data.heldout": 0},
    "log.project": {},
    "rollout_log.every": {"rollout_log.problems": 0},
    "revision": {"model": ("tiny",)},
    "thinking": {"model": ("tiny",)},
    "verifier.range": {},
    "verifier.on_error": {"verifier.name": "2*math"},
    "verifier.extraction": {"verifier.name": "my.py:score"},
    "verifier.evaluated": {"verifier.name": "my.py:score"},
    "sample.max_draws": {"loss.name": "reinforce_pp"},
}


TRACKERS = ("log.wandb", "log.trackio", "log.mlflow")


@pytest.fixture(autouse=True)
def tracker_packages(monkeypatch):
    """Takes the packages of experiment trackers for installed: they are not, everywhere."""
    monkeypatch.setattr(table.importlib.util, "find_spec", lambda name: name)


@every_field
def test_every_field_takes_what_it_allows_and_has_an_effect_somewhere(name):
    config = parse(from_flat(NEEDED.get(name, {}) | {name: accepted(name)}), {name})
    assert get(config, name) == accepted(name)
    assert parse(json.loads(json.dumps(table.to_json(config)))) == config


def test_a_pair_of_numbers_is_typed_with_or_without_brackets():
    for text in ("-1,10", "(-1, 10)", "[-1.0,1e1]"):
        assert table.parse_field("verifier.range", text) == (-1.0, 10.0)
    for text in ("1;2", "(1, 2", "a,b", "1,,2"):
        with raises_for("verifier.range"):
            table.parse_field("verifier.range", text)


@pytest.mark.parametrize(
    "typed, stops",
    [
        ("###", ("###",)),
        ("</answer>, [END]", ("</answer>", "[END]")),
        (r"\n\n,\tQ:", ("\n\n", "\tQ:")),
        (r"a\,b,\\boxed{", ("a,b", "\\boxed{")),
        (r" \ END\  ", (" END ",)),
        (r"\r\n, # ", ("\r\n", "#")),
        ("\n", ("\n",)),
        ("[END]", ("[END]",)),
        ("", ()),
    ],
)
def test_stop_strings_are_any_texts(typed, stops):
    entry = FIELDS["sample.stop"]
    assert table.parse_field("sample.stop", typed) == stops
    assert table.parse_field("sample.stop", value_text(entry, stops)) == stops
    assert from_flat({"sample.stop": list(stops)}).sample.stop == stops


@pytest.mark.parametrize("text", ["Question: ", "a,b", "\n\n", "\\boxed{", "['#']"])
def test_in_a_program_one_stop_string_is_what_it_is(text):
    assert parse({"sample": {"stop": text}}).sample.stop == (text,)


@pytest.mark.parametrize(
    "typed", [r"\boxed{", "a,,b", ",", " ", "a\\", "['#', 'b']", '["\\n"]', "a" * 20_000]
)
def test_a_stop_string_that_is_not_clear_is_refused(typed):
    with raises_for("sample.stop") as error:
        table.parse_field("sample.stop", typed)
    assert "\n" not in str(error.value)


@every_field
def test_every_field_refuses_another_type(name):
    field = FIELDS[name]
    wrong = {"a": 1}
    with raises_for(name):
        from_flat({name: wrong})
    if field.element is not str:
        with raises_for(name):
            table.parse_field(name, "x1")


@every_field
def test_every_range_and_choice_is_checked(name):
    field = FIELDS[name]
    limits = field.limits
    refused = []
    if field.choices and not field.extensible:
        refused.append("none such")
    if field.element in (int, float):
        refused.append(2**31 if field.element is int else 2.0**127)
        number = field.element
        refused += [number(low - 1) for low in [limits.at_least] if low is not None]
        refused += [number(low) for low in [limits.above] if low is not None]
        refused += [number(high + 1) for high in [limits.at_most] if high is not None]
        refused += [number(high) for high in [limits.below] if high is not None]
    if field.element is float:
        refused += [float("nan"), -float("inf")]
    if field.element is float and not limits.infinite:
        refused.append(float("inf"))
    for value in refused:
        with raises_for(name):
            parse(from_flat({name: (value,) if field.is_list else value}))


@every_field
def test_none_gives_back_the_default(name):
    assert table.parse_field(name, "None") == FIELDS[name].default
    assert from_flat({name: None}) == Config()


@every_field
def test_a_value_is_typed_as_it_is_shown(name):
    value = accepted(name)
    assert table.parse_field(name, as_text(value)) == value


def test_every_condition_is_tried():
    conditional = {name for name, field in FIELDS.items() if field.applies is not None}
    assert set(WITHOUT) == conditional


# More runs in which a field has none: name, run, a value.
ALSO_WITHOUT = [
    ("credit.eta", {"topology": "voting"}, 5.0),
    ("credit.eta", {"topology": "chain"}, 5.0),
    ("credit.eta", {"topology": "graph", "team.graph": "thinker solver(0)"}, 5.0),
    ("credit.soft", {"credit.name": "ccpo_event", "credit.weight": 0.0}, True),
    ("credit.own", {"credit.name": "sepo", "credit.praise": 0.0, "credit.blame": 0.0}, 0.5),
    ("credit.solo_samples", {"topology": "graph", "team.graph": "voter voter"}, 2),
    ("sample.max_draws", {"advantage.baseline": "none"}, 4),
    ("sample.max_draws", {"advantage.baseline": "weighted"}, 4),
    ("sample.max_draws", {"advantage.baseline": "opo", "advantage.pool": "others"}, 4),
    ("sample.max_draws", {"credit.name": "nested", "credit.solo_weight": 0.5}, 4),
    ("eval.top_p", {"eval.temperature": 0.0}, 0.5),
    ("eval.top_k", {"eval.temperature": 0.0}, 0),
    ("eval.min_p", {"eval.temperature": 0.0}, 0.5),
    ("eval.samples", {"eval.temperature": 0.0}, 3),
    ("eval.samples", {"eval.temperature": 0.0}, 8),
    ("loss.dual_clip", {}, 3.0),
    ("loss.clip_low", {"loss.name": "gspo"}, 0.1),
    ("loss.clip_low", {"loss.name": "sapo", "trainer.mini_batches": 2}, 0.1),
    ("loss.clip_high", {"loss.name": "sapo", "trainer.mini_batches": 2}, 0.1),
    ("loss.ratio", {"loss.name": "gmpo"}, "token"),
    ("loss.normalize", {"loss.name": "cispo"}, "length"),
    ("eval.limit", {"data.eval": (), "data.heldout": 9}, 5),
    ("mesh.rules", {"mesh.fsdp": 2}, "replicated_decode"),
]
EVERY_WITHOUT = [(name, run, accepted(name)) for name, run in WITHOUT.items()] + ALSO_WITHOUT


@pytest.mark.parametrize("name,run,value", EVERY_WITHOUT)
def test_a_field_without_effect_is_refused(name, run, value):
    """Typed, at any value; set in a file or in Python, where it differs from its default."""
    condition = FIELDS[name].applies
    for typed in (value, FIELDS[name].default):
        with raises_for(name) as error:
            parse(from_flat(run | {name: typed}), {name})
        assert condition.words in str(error.value)
        for other in condition.reads:
            assert other in str(error.value)
    config = from_flat(run | {name: value})
    with raises_for(name):
        parse(config)
    assert table.reset_unused(config) == from_flat(run)
    unset = parse(from_flat(run))
    assert name not in flatten(table.to_json(unset))


@pytest.mark.parametrize("name,run,value", EVERY_WITHOUT)
def test_none_takes_back_what_a_file_set(name, run, value):
    """Typed as None, a field need not have an effect: it is as if nobody had set it."""
    start = from_flat(run | {name: value})
    assert parse(table.combine(start, {name: None}), {name: None}) == from_flat(run)


@pytest.mark.parametrize(
    "fields",
    [
        {"eval.temperature": 0.0, "eval.samples": 1},
        {"eval.temperature": 0.5, "eval.samples": 3, "eval.top_p": 0.5},
        {"eval_every": 0, "data.heldout": 0},
        {"mesh.rules": "from_outside"},
        {"topology": "from_outside", "credit.eta": 2.0},
        {"credit.name": "from_outside", "credit.eta": 2.0},
        {"credit.name": "ccpo_event", "credit.soft": True},
        {"credit.name": "sepo", "credit.own": 0.5, "credit.praise": 0.0},
        {"loss.name": "gmpo", "trainer.epochs": 2, "loss.clip_low": 1.5},
        {"topology": "graph", "credit.solo_samples": 2},
    ],
    ids=str,
)
def test_a_field_with_an_effect_or_that_says_what_is_true_is_accepted(fields):
    parse(from_flat(fields), set(fields))


# --- what presets set and what users set ----------------------------------------------------------


@pytest.mark.parametrize(
    "preset,name,changes",
    [
        ("voting:tiny", "eval.samples", {"data.heldout": 0}),
        ("voting:tiny", "eval.greedy", {"data.heldout": 0}),
        ("voting:tiny", "data.similarity", {}),
        ("voting:tiny", "rollout_log.every", {"rollout_log.problems": 0}),
        ("dyad:event", "loss.clip_low", {"trainer.mini_batches": 1}),
        ("dyad:event", "loss.clip_high", {"loss.name": "grpo", "trainer.mini_batches": 1}),
        ("debate", "data.similarity", {"data.eval": ()}),
    ],
)
def test_an_inherited_value_that_loses_its_effect_blames_nobody(preset, name, changes):
    """Neither where a field is typed nor where a file or Python changes the preset."""
    changed = load_preset(preset)
    changed.update_from_flattened_dict(changes)
    for config in (parse(table.combine(load_preset(preset), changes), changes), parse(changed)):
        assert get(config, name) == FIELDS[name].default
        assert name not in flatten(table.to_json(config))
        assert parse(config) is config


@pytest.mark.parametrize(
    "preset,fields,name",
    [
        ("voting:tiny", {"data.heldout": 0, "eval.samples": 3}, "eval.samples"),
        ("voting:tiny", {"loss.clip_low": 0.1}, "loss.clip_low"),
        ("voting:tiny", {"data.similarity": 0.7}, "data.similarity"),
        ("voting:tiny", {"eval.limit": 3}, "eval.limit"),
        ("voting:tiny", {"data.heldout": 0, "eval_every": 5}, "eval_every"),
        (
            "voting:tiny",
            {"rollout_log.problems": 0, "rollout_log.every": 6},
            "rollout_log.every",
        ),
        ("dyad:event", {"trainer.mini_batches": 1, "loss.clip_low": 0.2}, "loss.clip_low"),
        ("dyad:event", {"loss.dual_clip": 3.0}, "loss.dual_clip"),
    ],
)
def test_what_a_users_own_file_sets_must_have_an_effect(preset, fields, name):
    config = load_preset(preset)
    config.update_from_flattened_dict(fields)
    with raises_for(name) as error:
        parse(config)
    assert f"--config.{name}=None" in str(error.value)
    # A field that a file sets to its default is not an error.
    config.update_from_flattened_dict({name: FIELDS[name].default})
    parse(config)


def test_what_presets_set_survives_copies():
    config = load_preset("dyad:event")
    for copied in (copy.deepcopy(config), config.copy_and_resolve_references()):
        copied.trainer.mini_batches = 1
        assert parse(copied).loss.clip_low is None
    assert config.trainer.mini_batches == 8


def test_what_the_package_changes_in_a_users_configuration_is_not_the_users():
    config = base()
    config.loss.clip_low = 0.1
    config = tiny(config)
    with raises_for("loss.clip_low"):
        parse(config)
    config.loss.clip_low = None
    config.data.heldout = 0
    assert parse(config).eval == table.EvalConfig()


# --- the table and the library agree --------------------------------------------------------------


def options(function) -> set[str]:
    """What a constructor takes besides arrays and the team."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.default is not p.empty} - {"totals"}


def fields_with_effect(section: str, **changes) -> set[str]:
    config = from_flat(changes)
    names = [name for name in FIELDS if name.startswith(f"{section}.")]
    return {name.split(".")[1] for name in names if table.has_effect(config, name)}


@pytest.mark.parametrize("credit", CREDITS)
def test_credit_fields_are_what_the_estimators_take(credit):
    ours = fields_with_effect("credit", **{"credit.name": credit, "credit.solo_weight": 0.5})
    of_the_program = {"name", "solo_samples"} | ({"rating_length"} if credit == "sepo" else set())
    of_the_program |= {"overlong_penalty"}
    assert ours - of_the_program == options(CREDITS[credit])


@pytest.mark.parametrize("credit", CREDITS)
def test_the_table_knows_what_an_estimator_reads_and_how_it_is_centred(credit):
    entry = table.CREDITS[credit]
    for team in FITS[credit]:
        estimator = make_credit(credit, team)
        # Votes of voters are counted again, without a masked world.
        if any(team.reads):
            assert bool(estimator.needs.ablated) == entry.masked_worlds
        assert (estimator.baseline.kind == "none") == (entry.baseline == "own")
        if entry.baseline != "own":
            assert estimator.baseline.normalize_std == (entry.baseline == "group")
        if entry.solo_fields and team == dyad():
            assert make_credit(credit, team, solo_weight=0.5).needs.ablated


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_fields_are_what_the_losses_take(loss):
    changes = {"loss.name": loss, "trainer.mini_batches": 2, "loss.normalize": "length"}
    ours = fields_with_effect("loss", **changes)
    assert ours - {"name", "entropy_bonus", "kl_weight"} == options(LOSSES[loss])


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_team_fields_are_what_the_topologies_take(topology):
    ours = fields_with_effect("team", **{"topology": topology, "team.decision": "vote"})
    assert ours == set(inspect.signature(TOPOLOGIES[topology]).parameters)


def test_choices_are_those_of_the_library():
    assert FIELDS["topology"].choices == tuple(TOPOLOGIES)
    assert FIELDS["credit.name"].choices == tuple(CREDITS)
    assert FIELDS["loss.name"].choices == tuple(LOSSES)
    assert FIELDS["loss.kl_estimator"].choices == KL_ESTIMATORS
    assert FIELDS["prompt_style"].choices == tuple(PROMPTS)
    assert set(FIELDS["trainer.remat"].choices) == set(models.REMAT)
    assert FIELDS["attention"].choices == models.ATTENTION
    assert FIELDS["mesh.rules"].choices == tuple(RULES)


def test_an_estimator_from_outside_may_take_any_field_of_its_section():
    parse({"credit": {"name": "karma", "alpha": 2.0, "answers": 3}})
    parse({"loss": {"name": "hinge", "ratio": "token"}})


# --- lists and paths ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text,value",
    [
        ("18,22", (18, 22)),
        (" 18 , 22 ", (18, 22)),
        ("7", (7,)),
    ],
)
def test_a_list_of_numbers_has_one_spelling(text, value):
    assert table.parse_field("response_length", text) == value
    assert from_flat({"response_length": text}).response_length == value
    assert from_flat({"response_length": list(value)}).response_length == value


@pytest.mark.parametrize(
    "name,text,advice",
    [
        ("response_length", "(18, 22)", "18,22"),
        ("response_length", "[18,22]", "18,22"),
        ("response_length", "(7,)", "7"),
        ("response_length", "18,,22", "18,22"),
        ("response_length", "18,", "18"),
        ("response_length", "(1,", "1"),
        ("response_length", "many", "2048"),
        ("response_length", "1.5", "2048"),
        ("model", "('tiny', 'tiny')", "tiny,tiny"),
        ("model", "['tiny']", "tiny"),
        ("data.train", "a,,b", "a,b"),
        ("data.eval", "(a,b)", "a,b"),
        ("data.eval", ",", "math500"),
    ],
)
def test_another_spelling_of_a_list_says_what_to_type(name, text, advice):
    with raises_for(name) as error:
        table.parse_field(name, text)
    assert str(error.value).endswith(f"type --config.{name}={advice}")


@pytest.mark.parametrize("field", ["model", "data.train", "data.eval"])
def test_a_list_of_names_is_separated_by_commas(field):
    assert table.parse_field(field, "a, b") == ("a", "b")
    assert get(from_flat({field: ["a", "b"]}), field) == ("a", "b")


def test_the_old_spelling_of_a_list_says_how_to_type_it():
    with raises_for("data.train") as error:
        parse({"data": {"train": "synthetic/a+synthetic/b"}})
    assert "separated by commas" in str(error.value)


@pytest.mark.parametrize(
    "typed,expected",
    [
        ("{d}/a,b.jsonl", ["{d}/a,b.jsonl"]),
        ("{d}/a,b.jsonl,{d}/c.jsonl", ["{d}/a,b.jsonl", "{d}/c.jsonl"]),
        ("{d}/c.jsonl,{d}/a,b.jsonl,math", ["{d}/c.jsonl", "{d}/a,b.jsonl", "math"]),
        ("x={d}/a,b.jsonl,y={d}/a,b.jsonl", ["x={d}/a,b.jsonl", "y={d}/a,b.jsonl"]),
        ("~/a,b.jsonl , ~/c.jsonl", ["{d}/a,b.jsonl", "{d}/c.jsonl"]),
        ("{d}/1, 2, 3.jsonl,math", ["{d}/1, 2, 3.jsonl", "math"]),
        ("math,x={d}/c.jsonl", ["math", "x={d}/c.jsonl"]),
        ("{d}/a,*.jsonl,math", ["{d}/a,*.jsonl", "math"]),
        ("{d}/e,f#test,math", ["{d}/e,f#test", "math"]),
        ("{d}/(a).jsonl", ["{d}/(a).jsonl"]),
        ("{d}/a=b,c=d.jsonl,{d}/c.jsonl", ["{d}/a=b,c=d.jsonl", "{d}/c.jsonl"]),
        # Where no such file exists a comma separates.
        ("{d}/c.jsonl,{d}/d.jsonl", ["{d}/c.jsonl", "{d}/d.jsonl"]),
    ],
)
def test_a_list_of_paths_may_have_files_with_commas(typed, expected, tmp_path, monkeypatch):
    for name in ("a,b.jsonl", "c.jsonl", "1, 2, 3.jsonl", "(a).jsonl", "a=b,c=d.jsonl"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "e,f").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    value = table.parse_field("data.eval", typed.format(d=tmp_path))
    assert list(value) == [name.format(d=tmp_path) for name in expected]


def test_a_file_beside_the_program_may_begin_like_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "(copy) of a.jsonl").write_text("{}")
    assert table.parse_field("data.eval", "(copy) of a.jsonl") == ("(copy) of a.jsonl",)
    with raises_for("data.eval"):
        table.parse_field("data.eval", "('a', 'b')")


def test_a_path_may_have_commas_equals_signs_and_a_home_directory(tmp_path, monkeypatch):
    odd = tmp_path / "a,b=c.jsonl"
    odd.write_text("")
    monkeypatch.setenv("HOME", str(tmp_path))
    for field in ("model", "data.train", "data.eval"):
        assert table.parse_field(field, str(odd)) == (str(odd),)
        assert table.parse_field(field, "~/a,b=c.jsonl") == (str(odd),)
        assert table.parse_field(field, "x,~/y") == ("x", str(tmp_path / "y"))
        assert table.parse_field(field, f"x,{odd},~/a,b=c.jsonl,y") == (
            "x",
            str(odd),
            str(odd),
            "y",
        )
        assert get(from_flat({field: ("~/y",)}), field) == (str(tmp_path / "y"),)
    assert table.parse_field("data.train", "mine=~/y") == (f"mine={tmp_path}/y",)
    for path in (str(odd), "~/a,b=c.jsonl"):
        assert table.parse_field("data.eval", f"mine={path}") == (f"mine={odd}",)


@pytest.mark.parametrize("name", ["model", "response_length", "data.train"])
def test_a_list_that_may_not_be_empty(name):
    with raises_for(name):
        parse(from_flat({name: ()}))


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "section,words",
    [("journal", "rollout_log."), ("mesh.train", "mesh.rules"), ("mesh.decode", "mesh.rules")],
)
def test_an_old_section_says_where_its_fields_went(section, words):
    with pytest.raises(InputError) as error:
        table.lookup(section)
    assert words in str(error.value)


@pytest.mark.parametrize("name", [*MOVED, *REMOVED])
def test_an_old_name_says_where_it_went(name):
    with raises_for(name) as error:
        table.lookup(name)
    if name in MOVED:
        assert MOVED[name] in FIELDS and MOVED[name] in str(error.value)


@pytest.mark.parametrize(
    "typo,meant",
    [
        ("credit.nmae", "credit.name"),
        ("temperature", "sample.temperature"),
        ("stepz", "steps"),
        ("sample.topp", "sample.top_p"),
        ("batchsize", "batch_size"),
        ("seeed", "seed"),
        ("credt.name", "credit.name"),
        ("trainer.minibatch", "trainer.mini_batches"),
        ("data.trian", "data.train"),
        ("num_agent", "team.num_agents"),
    ],
)
def test_a_typo_is_told_what_was_meant(typo, meant):
    with raises_for(typo) as error:
        table.parse_field(typo, "1")
    assert f"--config.{meant}?" in str(error.value)


@pytest.mark.parametrize(
    "name", ["nonsense", "foo", "credit.foo", "optimizer.lr", "qwen", "x" * 500, "a.b.c", "."]
)
def test_a_name_that_is_near_to_none_gets_no_suggestion(name):
    with pytest.raises(InputError) as error:
        table.lookup(name)
    assert "did you mean" not in str(error.value) and "--help" in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_a_number_that_is_not_finite_is_told_so(value):
    with raises_for("sample.temperature") as error:
        parse(from_flat({"sample.temperature": value}))
    assert "a finite number" in str(error.value)


def test_a_section_is_no_field():
    with raises_for("credit"):
        table.lookup("credit")


def test_other_checks_between_fields():
    with raises_for("trainer.mini_batches"):
        parse({"trainer": {"mini_batches": 3}})
    parse({"trainer": {"mini_batches": 4}})


def test_a_penalty_may_not_begin_before_the_response():
    fits = {"response_length": (64, 32), "credit.overlong_penalty": 1.0}
    parse(from_flat(fits | {"credit.overlong_buffer": 32}))
    with raises_for("credit.overlong_buffer") as error:
        parse(from_flat(fits | {"credit.overlong_buffer": 33}))
    assert "33" in str(error.value) and "use at most 32" in str(error.value)


@pytest.mark.parametrize("field", TRACKERS)
def test_a_tracker_needs_its_package(field, monkeypatch):
    monkeypatch.setattr(table.importlib.util, "find_spec", lambda name: None)
    with raises_for(field) as error:
        parse(from_flat({field: True}))
    assert f"pip install {field.removeprefix('log.')}" in str(error.value)


# What reinforcement alone uses, with a value that it can have there.
OF_REINFORCEMENT = {
    "credit.name": "shared",
    "advantage.baseline": "none",
    "loss.name": "gspo",
    "loss.entropy_bonus": 0.5,
    "sample.max_draws": 4,
    "trainer.schedule": "simultaneous",
    "trainer.mini_batches": 2,
    "rollout_log.problems": 1,
}


@pytest.mark.parametrize("name", OF_REINFORCEMENT)
def test_a_warm_start_uses_nothing_of_reinforcement(name):
    """A typed field is refused; one of a file, which serves both, is left out and not recorded."""
    value = OF_REINFORCEMENT[name]
    for typed in (value, FIELDS[name].default):
        if typed is not None:
            with raises_for(name) as error:
                parse(from_flat({"mode": "sft", name: typed}), {name})
            assert "no effect with --mode=sft" in str(error.value)
    made = parse(table.combine({name: value}, {"mode": "sft"}), {"mode"})
    assert get(made, name) == FIELDS[name].default
    assert name not in table.flatten(table.to_json(made))
    assert get(table.combine({name: value}, {}), name) == value


# --- what is made from the table ------------------------------------------------------------------


def test_an_old_runs_fields_are_read():
    """As commit 1f33ea8 wrote them: old names, old lists, fields without effect."""
    old = flatten(load_preset("dyad:tiny"))
    saved = {
        **{name: value for name, value in old.items() if name not in MOVED.values()},
        "model": "tiny",
        "data.train": "synthetic/dyad+synthetic/voting",
        "data.eval": "",
        "num_agents": 5,
        "graph": "nonsense((",
        "sample.rows": 7,
        "sample.chunk": 16,
        "sample.stack_agents": False,
        "trainer.skip_silent": False,
        "verifier.max_chars": 20_000,
        "mesh.decode.hidden": "fsdp",
    }
    config = table.reset_unused(from_flat(table.upgrade(saved)))
    assert parse(config) is config
    assert config.data.train == ("synthetic/dyad", "synthetic/voting") and config.data.eval == ()
    assert config.sample.max_concurrent == 7 and config.sample.decode_chunk == 16
    assert config.team == table.TeamConfig()


def test_an_old_value_that_no_field_holds_any_more_is_refused():
    with raises_for("verifier.max_chars"):
        table.upgrade({"verifier.max_chars": 100})


def test_every_field_is_in_help_and_in_the_documentation():
    text, page = table.help_text(), table.markdown()
    for name, field in FIELDS.items():
        assert f"  --config.{name}={as_text(field.default)}\n" in text
        assert f"| `{name}` |" in page
        assert field.help and not field.help.endswith(".") and field.help in page
        assert field.on_resume in ON_RESUME
        assert not field.optional or field.none_means
    assert max(map(len, text.splitlines())) <= 100


def test_the_documentation_is_up_to_date():
    page = ROOT / "docs" / "configuration.md"
    assert page.read_text(encoding="utf-8") == table.markdown(), (
        "docs/configuration.md is stale; run: python -m ccpo_jax.config --write"
    )


def test_sections_are_hashable_values():
    assert hash(Config()) == hash(Config()) and Config() == from_flat({})
    assert dataclasses.replace(Config(), steps=3) != Config()


def test_fields_to_lower_exist_in_every_phase():
    for phase in ("rollout", "update", "evaluation", "loading"):
        assert table.fields_to_lower(phase)


def test_errors_are_input_errors():
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize("topology, hints", [("dyad", True), ("graph", True), ("solo", False)])
def test_who_asks_for_one_agent_is_told_how_to_get_a_team_of_one(topology, hints):
    config = from_flat({"topology": topology, "team.num_agents": 1})
    with raises_for("team.num_agents") as error:
        parse(config, {"team.num_agents": 1})
    assert ("--config.topology=solo" in str(error.value)) == hints


def test_a_mode_names_all_fields_that_it_does_not_use():
    typed = {"steps": 4, "seed": 1, "group_size": 2, "optimizer.learning_rate": 0.1}
    with raises_for("steps, group_size, optimizer.learning_rate") as error:
        check_mode("eval", typed)
    assert str(error.value).endswith(": have no effect with --mode=eval; leave them out")

    check_mode("eval", typed | dict.fromkeys(("steps", "group_size", "optimizer.learning_rate")))
    with raises_for("steps"):
        check_mode("eval", {"steps": 4, "seed": 1})
