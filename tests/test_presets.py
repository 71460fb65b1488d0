"""Presets: each is a run that would start, names what exists, and has a row in its file's table."""

import importlib

import pytest

from ccpo_jax import CREDITS, LOSSES, TOPOLOGIES, make_credit
from ccpo_jax.config import FIELDS, flatten, parse
from ccpo_jax.data import DATASETS
from ccpo_jax.data.synthetic import TASKS
from ccpo_jax.presets import PRESETS, load_preset
from ccpo_jax.presets.base import base
from ccpo_jax.rollout.role_prompts import PROMPTS
from ccpo_jax.train.build import (
    make_advantage,
    make_loss,
    make_topology,
)
from ccpo_jax.train.load import response_lengths
from ccpo_jax.train.schedule import make_optimizers, make_schedule
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast

FILES = tuple(PRESETS)
ALL = [
    (name, preset)
    for name in FILES
    for preset in importlib.import_module(f"ccpo_jax.presets.{name}").MODELS
]


@pytest.mark.parametrize("name,preset", ALL)
def test_every_preset_is_a_run(name, preset):
    content = load_preset(f"{name}:{preset}")
    assert set(flatten(content)) == set(FIELDS)
    config = parse(content)
    topology = make_topology(config)
    assert config.topology == name and config.topology in TOPOLOGIES
    assert config.credit.name in CREDITS and config.loss.name in LOSSES
    assert set(topology.roles) <= set(PROMPTS[config.prompt_style])
    assert len(response_lengths(config.response_length, topology)) == len(topology.roles)
    known = set(DATASETS) | {f"synthetic/{task}" for task in TASKS}
    assert {*config.data.train, *config.data.eval} <= known
    credit = make_credit(config.credit.name, topology)
    make_loss(config)
    make_advantage(config, credit)
    make_optimizers(config, topology, make_schedule(config, topology))


@pytest.mark.parametrize("name,preset", ALL)
def test_every_preset_has_its_row(name, preset):
    text = importlib.import_module(f"ccpo_jax.presets.{name}").__doc__
    assert f"| {preset or '(none)'} |" in text


@pytest.mark.parametrize("name", FILES)
def test_a_preset_is_a_name_or_a_file(name):
    by_name = flatten(load_preset(f"{name}:tiny"))
    assert flatten(load_preset(f"configs/{name}.py:tiny")) == by_name
    assert flatten(load_preset(name)) != by_name


@pytest.mark.parametrize("name", FILES)
def test_an_unknown_preset_lists_the_known_ones(name):
    with raises_for("config") as error:
        load_preset(f"{name}:huge")
    assert "'huge'" in str(error.value) and "tiny" in str(error.value)


@pytest.mark.parametrize("name", ["votin", "none.py", "", "\x00.py", "x" * 5000 + ".py", "a.py:b"])
def test_a_name_that_is_nothing_is_refused(name):
    with raises_for("config"):
        load_preset(name)


@pytest.mark.parametrize(
    "content",
    [
        "import nothing_of_that_name",
        "def get_config(preset): return 1 / 0",
        "def get_config(preset): raise KeyError",
        "def get_config(preset): return 3",
        "def get_config(preset): return None",
        "def get_config(preset): raise SystemExit('no')",
        "def get_config(): return 1",
        "get_config = 3",
        "import sys; sys.exit(1)",
        "x = 1",
        "def (",
    ],
)
def test_a_file_that_makes_no_configuration_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(content)
    with raises_for("config") as error:
        load_preset(str(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line,field,advice",
    [
        ("config.num_agents = 5", "num_agents", "is now team.num_agents"),
        ("config.sample.chunk = 3", "sample.chunk", "is now sample.decode_chunk"),
        ("config.sample.stack_agents = True", "sample.stack_agents", "was removed"),
        ("config.journal.every = 3", "journal.problems", "is now rollout_log.problems"),
        ("config.stepz = 3", "stepz", "did you mean config.steps?"),
        ("config.credit.nmae = 'x'", "credit.nmae", "did you mean config.credit.name?"),
        ("config.nonsense = 1", "nonsense", "no such field"),
        ("config['stepz'] = 3", "stepz", "did you mean config.steps?"),
        ("config.update({'stepz': 1})", "stepz", "did you mean config.steps?"),
        ("config.update_from_flattened_dict({'credit.foo': 1})", "credit.foo", "no such field"),
        ("config.credit = {'nmae': 'ccpo'}", "credit.nmae", "did you mean config.credit.name?"),
        ("config.credit = 'ccpo'", "credit", "is a section"),
        ("print(config.num_agents)", "num_agents", "is now team.num_agents"),
        ("config.steps = 'many'", "steps", "received 'many'; write config.steps = 1000"),
        ("config.steps = 1.5", "steps", "received 1.5"),
        ("config.log.wandb = 'yes'", "log.wandb", "write config.log.wandb = False"),
        ("config.model = 5", "model", "received 5; write config.model = ("),
        ("config.response_length = '(18,22)'", "response_length", "write config.response_length"),
        ("config.credit.name = 3", "credit.name", "received 3; write config.credit.name = 'ccpo'"),
        ("config.eval.top_p = 'x'", "eval.top_p", "write config.eval.top_p = "),
    ],
)
def test_a_mistake_in_a_file_names_file_line_field_and_what_to_write(line, field, advice, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ccpo_jax.presets.base import base\n"
        "def get_config(preset=''):\n"
        "    config = base()\n"
        f"    {line}\n"
        "    return config\n"
    )
    with raises_for(field) as error:
        load_preset(str(path))
    message = str(error.value)
    assert message.startswith(f"{field}: {path}, line 4: ") and advice in message
    assert "\n" not in message and "--config" not in message and len(message) < 400


@pytest.mark.parametrize(
    "made,field",
    [("{'stepz': 3}", "stepz"), ("{'steps': 'x'}", "steps"), ("{'steps': -1}", "steps")],
)
def test_a_mistake_in_a_plain_mapping_names_file_and_field(made, field, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"def get_config(preset=''):\n    return {made}\n")
    with raises_for(field) as error:
        load_preset(str(path))
    assert str(path) in str(error.value)


def test_what_a_file_may_do_with_a_configuration():
    config = base()
    config.steps = None
    config.optimizer.learning_rate = 1
    config.credit = {"name": "shared"}
    config.sample.top_p = config.get_ref("optimizer").get().get_ref("b1")
    assert not hasattr(config, "stepz") and config.get("stepz", 3) == 3
    made = parse(config)
    assert made.optimizer.learning_rate == (1.0,) and made.credit.name == "shared"
    assert made.steps == FIELDS["steps"].default and made.sample.top_p == 0.9


def test_a_file_that_changes_a_preset_is_blamed_for_its_own_values_alone(tmp_path):
    path = tmp_path / "mine.py"
    text = (
        "from ccpo_jax.presets import voting\n"
        "def get_config(preset=''):\n"
        "    config = voting.get_config('tiny')\n"
        "    config.data.heldout = 0\n"
        "    {}\n"
        "    return config\n"
    )
    path.write_text(text.format("pass"))
    assert parse(load_preset(str(path))).eval.samples == FIELDS["eval.samples"].default
    path.write_text(text.format("config.eval.samples = 3"))
    with raises_for("eval.samples"):
        parse(load_preset(str(path)))


def test_a_file_of_ones_own_starts_from_base(tmp_path):
    path = tmp_path / "a,b=c" / "mine.py"
    path.parent.mkdir()
    path.write_text(
        "from ccpo_jax.presets.base import base\n"
        "def get_config(preset=''):\n"
        "    config = base()\n"
        "    config.model = 'tiny,tiny'\n"
        "    config.steps = 7 if preset == 'long' else 3\n"
        "    return config\n"
    )
    config = parse(load_preset(f"{path}:long"))
    assert config.model == ("tiny", "tiny") and config.steps == 7
    assert parse(load_preset(str(path))).steps == 3


def test_base_has_every_field_and_no_other():
    config = base()
    assert flatten(config) == {name: field.default for name, field in FIELDS.items()}
    with pytest.raises(AttributeError):
        config.stepz = 3
    with pytest.raises(TypeError):
        config.steps = "many"
