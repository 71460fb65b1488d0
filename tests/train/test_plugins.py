"""Plugins: what they add passes the same checks as the package's own entries; mistakes are one line."""

import contextlib
import pathlib
import sys

import pytest

from ccpo_jax import CREDITS, LOSSES, TOPOLOGIES, data, models
from ccpo_jax import config as table
from ccpo_jax.cli import parse_command
from ccpo_jax.config import parse
from ccpo_jax.presets import load_preset
from ccpo_jax.rollout import PROMPTS
from ccpo_jax.train import plugins
from ccpo_jax.train.build import build, make_loss, make_run_credit, make_topology
from ccpo_jax.verifiers import VERIFIERS, verify
from tests.support.errors import raises_for
from tests.support.plugins import EVERY_TABLE, forgotten_plugins


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with forgotten_plugins():
        yield


@pytest.fixture
def team_file(tmp_path):
    (tmp_path / "my_team.py").write_text(EVERY_TABLE)
    return "my_team.py"


USED = {
    "plugins": ("my_team.py",),
    "topology": "pair",
    "credit.name": "bonus",
    "loss.name": "plain",
    "prompt_style": "mine",
    "data.train": ("synthetic/count",),
    "data.size": 64,
    "data.heldout": 8,
}


def made(changes):
    """The configuration of a command line, checked."""
    typed = {name: value for name, value in changes.items() if name != "plugins"}
    return parse(plugins.combine(load_preset("dyad:tiny"), changes), typed)


@contextlib.contextmanager
def refused(field, words):
    with raises_for(field) as error:
        yield
    assert words in str(error.value)


def error_of(text, **changes):
    """What a plugin with this text is refused with."""
    pathlib.Path("bad.py").write_text(text)
    with raises_for(changes.pop("field", "plugins")) as error:
        plugins.load_plugins(("bad.py",), **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_one_plugin_adds_to_every_table(team_file):
    config = made(USED)
    topology = make_topology(config)
    assert topology.roles == ("writer", "editor")
    assert make_run_credit(config, topology).needs.ablated == (0,)
    assert make_loss(config).function.func is LOSSES["plain"]
    assert data.load("synthetic/count", size=2).problems[1].gold == "2"
    assert verify("integer", "7", ["it is 7", "8"]).correct == [True, False]
    assert models.FAMILIES["mistral"].architecture == "MistralForCausalLM"
    with refused("data.train", "no_such_owner/no_such_set"):
        data.load("mine")
    run = build(config)
    assert run.team.topology is not None and len(run.datasets.heldout.problems) == 8
    assert plugins.verifier_plugins((team_file,)) == (team_file,)


def test_loading_twice_is_loading_once(team_file):
    plugins.load_plugins((team_file,))
    before = TOPOLOGIES["pair"]
    plugins.load_plugins((f"./{team_file}", team_file))
    assert TOPOLOGIES["pair"] is before


def test_hyper_parameters_are_those_that_the_function_takes(team_file):
    assert made(USED | {"credit.weight": 0.4, "team.tie": "first"}).credit.weight == 0.4
    for name, value in {
        "credit.alpha": 1.0,
        "credit.eta": 0.5,
        "loss.ratio": "token",
        "team.num_agents": 3,
        "team.graph": "a b",
    }.items():
        with refused(name, "does not take it"):
            made(USED | {name: value})


def test_what_a_preset_sets_for_its_own_credit_blames_nobody(team_file):
    config = plugins.combine(
        load_preset("dyad:event"), {"plugins": (team_file,), "credit.name": "bonus"}
    )
    assert parse(config).credit.soft is False


def test_entries_of_a_program_are_known_like_those_of_a_plugin(team_file):
    TOPOLOGIES["pair"] = lambda num_agents=2: TOPOLOGIES["dyad"]()
    plugins.load_plugins(())
    assert table.OUTSIDE["topology"] == {"pair": frozenset({"num_agents"})}


def test_worker_processes_import_what_adds_a_verifier_alone(tmp_path, team_file):
    (tmp_path / "my_credit.py").write_text(
        "import ccpo_jax\nccpo_jax.CREDITS['x'] = lambda topology: None\n"
    )
    plugins.load_plugins((team_file, "my_credit.py"))
    assert plugins.verifier_plugins((team_file, "my_credit.py")) == (team_file,)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("x = 1\n", "bad.py adds nothing to TOPOLOGIES, CREDITS, "),
        ("import ccpo_jax as c\nc.CREDITS['shared'] = c.CREDITS['ccpo']\n", "bad.py replaces 'shared' of CREDITS"),
        ("import ccpo_jax as c\ndel c.LOSSES['grpo']\n", "bad.py replaces 'grpo' of LOSSES"),
        ("import ccpo_jax as c\nc.CREDITS['a,b'] = len\n", "adds 'a,b' to CREDITS; a name has letters"),
        ("import ccpo_jax as c\nc.CREDITS[3] = len\n", "adds 3 to CREDITS"),
        ("import ccpo_jax as c\nc.TOPOLOGIES['x'] = 3\n", "which is 3; it has to be a function that returns a Topology"),
        ("from ccpo_jax.verifiers import VERIFIERS as v\nv['x'] = len\n", "it has to be a Verifier of five functions"),
        ("from ccpo_jax.verifiers import *\nVERIFIERS['x'] = Verifier(len, len, len, len, None)\n", "a Verifier of five"),
        ("from ccpo_jax.rollout import PROMPTS as p\np['x'] = {'solver': 'words'}\n", "each a RolePrompt"),
        ("from ccpo_jax.data import DATASETS as d\nd['x'] = 'owner/name'\n", "it has to be a Source"),
        ("from ccpo_jax.models import FAMILIES as f\nf['x'] = 'Qwen'\n", "it has to be a Family"),
        ("1 / 0\n", "bad.py, line 1: ZeroDivisionError"),
        ("raise SystemExit\n", "line 1: SystemExit"),
    ],
    ids=["nothing", "replaces", "removes", "comma", "number", "topology", "verifier", "half", "words", "dataset", "family", "raises", "exits"],
)  # fmt: skip
def test_mistakes_are_one_line_and_leave_nothing(text, expected):
    before = {name: dict(entry.entries) for name, entry in plugins.TABLES.items()}
    assert expected in error_of(text)
    assert before == {name: entry.entries for name, entry in plugins.TABLES.items()}
    # The corrected file can be loaded.
    pathlib.Path("bad.py").write_text("import ccpo_jax\nccpo_jax.CREDITS['good'] = len\n")
    plugins.load_plugins(("bad.py",))
    assert CREDITS["good"] is len


def test_two_plugins_of_one_name(tmp_path, team_file):
    (tmp_path / "other.py").write_text(EVERY_TABLE)
    with refused("plugins", "other.py replaces 'pair' of TOPOLOGIES"):
        plugins.load_plugins((team_file, "other.py"))
    assert "pair" in TOPOLOGIES


def test_file_that_another_plugin_imports(tmp_path, monkeypatch):
    """Named as a file it would run twice; named as a module it is one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    base = "from ccpo_jax import LOSSES\nLOSSES['base_loss'] = lambda: None\n"
    (tmp_path / "my_base.py").write_text(base)
    (tmp_path / "my_own.py").write_text("import my_base\nmy_base.LOSSES['own_loss'] = len\n")

    with refused("plugins", "type my_base in place of my_base.py"):
        plugins.load_plugins(("my_base.py", "my_own.py"))

    with forgotten_plugins():
        sys.modules.pop("my_base")
        LOSSES.pop("base_loss")
        plugins.load_plugins(("my_base", "my_own.py"))
        assert {"base_loss", "own_loss"} <= set(LOSSES)


def test_import_that_hangs_ends_at_the_time_limit():
    assert "takes longer than 0.2 seconds" in error_of(
        "import time\ntime.sleep(5)\n", time_limit=0.2
    )


def test_reference_to_an_object_is_no_plugin():
    with refused("plugins", "without a name"):
        plugins.load_plugins(("my_team.py:pair",))


MALFORMED = {
    "raises": ("topology", "c.TOPOLOGIES['x'] = lambda: {}['roles']", "raised KeyError: 'roles' ("),
    "another type": ("topology", "c.TOPOLOGIES['x'] = lambda: 'dyad'", "returned str; return a ccpo_jax.Topology"),
    "does not fit": ("topology", "c.TOPOLOGIES['x'] = lambda: c.Topology('x', ('a',), ((0,),), (), 'last')", "turn 0 reads turn 0"),
    "wrong types": ("topology", "c.TOPOLOGIES['x'] = lambda: c.Topology('x', ('a',), (0,), (), 'last')", "raised TypeError"),
    "credit raises": ("credit.name", "c.CREDITS['x'] = lambda topology: 1 / 0", "raised ZeroDivisionError"),
    "credit type": ("credit.name", "c.CREDITS['x'] = lambda topology: None", "returned NoneType; return a ccpo_jax.CreditEstimator"),
    "credit shape": ("credit.name", "c.CREDITS['x'] = lambda topology: c.CreditEstimator(lambda: (), lambda s, o: (o.reward[0], s))", "of shape (8, 4); it has to be [agents"),
    "update raises": ("credit.name", "c.CREDITS['x'] = lambda topology: c.CreditEstimator(lambda: (), lambda s, o: o.nothing)", "has no attribute 'nothing' ("),
    "loss raises": ("loss.name", "c.LOSSES['x'] = lambda a, b, c, d: 1 / 0", "raised TypeError"),
    "loss shape": ("loss.name", "c.LOSSES['x'] = lambda a, *_, totals: (a, {})", "returns numbers of shapes [(2, 3)]"),
    "task raises": ("data.train", "TASKS['x'] = lambda split, size, seed: 1 / 0", "raised ZeroDivisionError"),
    "task type": ("data.train", "TASKS['x'] = lambda split, size, seed: ['a'] * size", "it has to return a list of (question, gold)"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_entry_is_one_line_before_work_begins(name):
    field, text, expected = MALFORMED[name]
    pathlib.Path("bad.py").write_text(
        f"import ccpo_jax as c\nfrom ccpo_jax.data import TASKS\n{text}\n"
    )
    chosen = "x" if field != "data.train" else ("synthetic/x",)
    changes = {"plugins": ("bad.py",), field: chosen, "batch_size": 8, "group_size": 4}
    with raises_for(field) as error:
        build(plugins.combine(load_preset("dyad:tiny"), changes))
    assert expected in str(error.value) and "\n" not in str(error.value)
    if "raise" in name:
        assert "bad.py, line 3" in str(error.value)


def test_prompt_style_without_a_role_of_the_team(team_file):
    with refused("prompt_style", "no prompt for the role 'thinker'"):
        build(
            plugins.combine(
                load_preset("dyad:tiny"), {"plugins": (team_file,), "prompt_style": "mine"}
            )
        )


def test_command_line(team_file):
    command = parse_command(["--config=dyad:tiny", "--config.plugins=my_team.py,json"])
    assert command.config.plugins == ("my_team.py", "json") and "pair" not in TOPOLOGIES
    assert "mine" not in PROMPTS and "integer" not in VERIFIERS
