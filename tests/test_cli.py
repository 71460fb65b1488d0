"""The command line: a mistake is one line that names the field, and exit status 2."""

import contextlib
import io
import json
import os
import pathlib
import pwd
import subprocess
import sys

import jax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ccpo_jax import __main__ as program
from ccpo_jax import cli
from ccpo_jax import config as table
from ccpo_jax.config import FIELDS, Config, from_flat, parse
from ccpo_jax.fields import convert
from ccpo_jax.presets import load_preset, voting
from ccpo_jax.train import build
from ccpo_jax.workdir.saved_config import compare_config, load_config, save_config
from tests.support.errors import raises_for

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments: str, cwd=ROOT, program=("run.py",)) -> subprocess.CompletedProcess:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def field_of(errors: str) -> str:
    """The field that the only error line names."""
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ").partition(": ")[0]


TINY = "--config=voting:tiny"


@pytest.mark.parametrize(
    "arguments,field",
    [
        ([], "config"),
        (["--config"], "--config"),
        (["--config=configs/nothing.py"], "config"),
        (["--config=votin:tiny"], "config"),
        (["--config=configs/voting.py:huge"], "config"),
        ([TINY, "--config.credit.nmae=ccpo"], "credit.nmae"),
        ([TINY, "--config.num_agents=4"], "num_agents"),
        ([TINY, "--config.mesh.train.ffn=model"], "mesh.train.ffn"),
        ([TINY, "--config.credit=ccpo"], "credit"),
        ([TINY, "--config.steps=many"], "steps"),
        ([TINY, "--config.steps"], "--config.steps"),
        ([TINY, "--config.log.wandb=perhaps"], "log.wandb"),
        ([TINY, "--config.response_length=(1,"], "response_length"),
        ([TINY, "--mode=fly"], "mode"),
        ([TINY, "--processes=two"], "processes"),
        ([TINY, "--bogus=1"], "--bogus"),
        ([TINY, "--flagfile=/nonexist"], "--flagfile"),
        ([TINY, "stray"], "arguments"),
        ([TINY, "--workdir="], "workdir"),
        ([TINY, "--workdir", " "], "workdir"),
        ([TINY, "--coordinator="], "coordinator"),
        ([TINY, "--processes="], "processes"),
        ([TINY, "--mode="], "mode"),
        (["--config="], "config"),
        ([TINY, "--config.response_length=(18,22)"], "response_length"),
        ([TINY, "--config.model=tiny,"], "model"),
        (["reprot", "runs/a"], "arguments"),
    ],
    ids=str,
)
def test_a_command_line_that_cannot_be_read(arguments, field, capsys):
    with raises_for(field) as error:
        cli.parse_command(arguments)
    assert "\n" not in str(error.value)
    assert cli.main(arguments) == 2
    assert field_of(capsys.readouterr().err) == field


def test_what_was_typed_is_read():
    command = cli.parse_command(
        [TINY, "--config.steps", "3", "--workdir=~/a,b=c", "--config.log.wandb", "--mode", "eval",
         "--config.data.train=a=x.jsonl,b", "--config.optimizer.weight_decay=None"]
    )  # fmt: skip
    assert command.typed == {
        "steps": 3,
        "log.wandb": True,
        "data.train": ("a=x.jsonl", "b"),
        "optimizer.weight_decay": None,
    }
    assert command.workdir == os.path.expanduser("~/a,b=c") and command.mode == "eval"
    assert command.config.steps == 3 and command.config.topology == "voting"
    assert command.config.optimizer.weight_decay == 0.01


@pytest.mark.parametrize("program", [("run.py",), ("-m", "ccpo_jax")])
def test_a_process_ends_with_status_two_and_one_line(program):
    done = run(TINY, "--config.credit.name=karma", program=program)
    assert done.returncode == 2 and field_of(done.stderr) == "credit.name", done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], [TINY, "--help"], ["--config=no", "-h"]])
def test_help_lists_every_field(arguments, capsys):
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    for name in FIELDS:
        assert f"\n  --config.{name}=" in text
    assert ("--config.topology=voting\n" in text) == (TINY in arguments)


@pytest.mark.parametrize(
    "typed,meant", [("reprot", "report"), ("reports", "report"), ("reply", "replay")]
)
def test_a_misspelt_command_is_told_what_was_meant(typed, meant, capsys):
    assert cli.main([typed, "runs/a"]) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_a_word_that_is_no_command_lists_the_commands(capsys):
    assert cli.main(["nothing"]) == 2
    errors = capsys.readouterr().err
    assert "did you mean" not in errors and all(name in errors for name in cli.SUBCOMMANDS)


@pytest.mark.parametrize("arguments", [["replay"], ["replay", ""], ["report"], ["report", " "]])
def test_a_command_without_its_path_is_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_page_without_a_name_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["report", str(tmp_path), "--out="])
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_version_is_printed(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ccpo_jax ")


@pytest.mark.parametrize(
    "started,shown",
    [
        ("run.py", "python run.py"),
        ("/a/b/run.py", "python run.py"),
        ("/a/ccpo_jax/__main__.py", "python -m ccpo_jax"),
        ("/usr/bin/ccpo-jax", "ccpo-jax"),
    ],
)
def test_help_names_the_program_as_it_was_started(started, shown, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [started])
    assert cli.main(["--help"]) == 0
    assert f"usage: {shown} --config=" in capsys.readouterr().out


EMPTY = [
    ("data.train", ""),
    ("model", ""),
    ("response_length", ""),
    ("prompt_style", ""),
    ("topology", ""),
    ("attention", ""),
    ("steps", ""),
]


@pytest.mark.parametrize("field,text", EMPTY)
def test_nothing_where_something_is_needed_is_refused(field, text, tmp_path, capsys):
    assert cli.main([TINY, f"--workdir={tmp_path / 'r'}", f"--config.{field}={text}"]) == 2
    assert field_of(capsys.readouterr().err) == field
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("field", ["model", "data.train", "data.eval", "revision"])
def test_an_empty_text_is_no_name(field):
    text = "" if field == "revision" else ("",)
    with raises_for(field):
        parse(from_flat({field: text}))


# --- the modes ---------------------------------------------------------------------------------------------------

UNUSED = {
    "sft": ["credit.name", "advantage.baseline", "loss.kl_weight", "sample.max_draws",
            "trainer.epochs", "trainer.schedule", "rollout_log.every"],
    "eval": ["optimizer.learning_rate", "credit.name", "group_size", "trainer.remat", "steps",
             "loss.name", "advantage.baseline", "log.wandb", "rollout_log.every", "eval_every"],
    "sample": ["optimizer.learning_rate", "eval.samples", "eval.greedy", "checkpoint_every",
               "trainer.schedule", "loss.name", "keep_last", "allow_changes"],
    "export": ["optimizer.learning_rate", "eval.samples", "sample.temperature", "credit.alpha",
               "group_size", "verifier.workers", "steps", "sample.max_draws"],
}  # fmt: skip
USED = {
    "sft": ["sft.targets", "optimizer.schedule", "trainer.remat", "trainer.pack_length",
            "sample.stop", "eval.samples", "steps", "checkpoint_every", "log.wandb"],
    "eval": ["eval.samples", "eval.batch_size", "sample.temperature", "data.eval", "batch_size",
             "verifier.workers", "seed", "response_length", "mesh.fsdp"],
    "sample": ["credit.alpha", "group_size", "sample.top_p", "advantage.baseline", "verifier.workers"],
    "export": ["model", "mesh.fsdp", "load_time_limit", "data.eval", "sample.stop"],
}  # fmt: skip


def test_every_mode_has_its_unused_fields():
    assert set(UNUSED) == set(table.UNUSED_BY_MODE) == set(cli.MODES) - {"train"}
    for mode, names in table.UNUSED_BY_MODE.items():
        assert set(names) <= set(FIELDS) | set(table.SECTIONS)
        for name in UNUSED[mode]:
            assert name in FIELDS and not table.is_used_by(mode, name)
        for name in USED[mode]:
            assert name in FIELDS and table.is_used_by(mode, name)
    assert all(table.is_used_by("train", name) for name in FIELDS)


@pytest.mark.parametrize("mode,field", [(m, f) for m, names in UNUSED.items() for f in names])
def test_a_field_that_a_mode_does_not_use_is_refused(mode, field, tmp_path, capsys):
    save_config(parse(load_preset("voting:tiny")), str(tmp_path), 0)
    value = FIELDS[field].default if FIELDS[field].default is not None else "group"
    for workdir in (str(tmp_path), None):
        assert cli.run_mode(Config(), "voting:tiny", workdir, mode, {field: value}) == 2
        errors = capsys.readouterr().err
        assert field_of(errors) == field and f"--mode={mode}" in errors
    # Taken back, it asks for nothing; the folder has no checkpoints, and is that of another mode
    # than sft.
    named = load_preset("voting:tiny")
    assert cli.run_mode(named, "voting:tiny", str(tmp_path), mode, {field: None}) == 2
    assert field_of(capsys.readouterr().err) == ("mode" if mode == "sft" else "workdir")


@pytest.mark.parametrize("mode,other", [("sft", "train"), ("train", "sft")])
def test_two_modes_that_contradict_each_other_are_refused(mode, other, capsys):
    assert cli.main([TINY, f"--mode={mode}", f"--config.mode={other}"]) == 2
    assert field_of(capsys.readouterr().err) == "mode"
    assert cli.parse_command([TINY, f"--mode={other}", f"--config.mode={other}"]).mode == other


def test_another_team_than_the_workdirs_is_refused(tmp_path, capsys):
    save_config(parse(load_preset("voting:tiny")), str(tmp_path), 0)
    for mode in ("eval", "sample", "export"):
        assert cli.main(["--config=dyad:tiny", f"--workdir={tmp_path}", f"--mode={mode}"]) == 2
        errors = capsys.readouterr().err
        assert field_of(errors) == "config" and "dyad:tiny" in errors and "voting" in errors
        # Typed, the team is the run's; there is no checkpoint.
        arguments = ["--config=dyad:tiny", "--config.topology=voting"]
        assert cli.main([*arguments, f"--workdir={tmp_path}", f"--mode={mode}"]) == 2
        assert field_of(capsys.readouterr().err) == "workdir"


def test_the_runs_own_values_are_named_where_the_configuration_has_others(tmp_path, capsys):
    own = table.combine(load_preset("voting:tiny"), {"seed": 7, "data.size": 99, "steps": 3})
    save_config(own, str(tmp_path), 0)
    assert cli.main([TINY, f"--workdir={tmp_path}", "--mode=eval"]) == 2
    note, error = capsys.readouterr().err.splitlines()
    assert note == "note: the run's own values hold: seed=7, data.size=99"
    assert field_of(error) == "workdir"
    # Without a difference there is no note.
    assert cli.run_mode(own, "voting:tiny", str(tmp_path), "eval") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("mode", ["train", "eval", "sample", "export"])
def test_a_workdir_that_holds_a_run_needs_no_configuration_beside_it(mode, tmp_path):
    arguments = [f"--workdir={tmp_path}", f"--mode={mode}", "--config.batch_size=8"]
    with raises_for("config") as error:
        cli.parse_command(arguments)
    assert "is missing" in str(error.value) and "--workdir" in str(error.value)

    own = parse(table.combine(load_preset("dyad:tiny"), {"seed": 7}))
    save_config(own, str(tmp_path), 0)
    command = cli.parse_command(arguments)
    assert command.config == table.combine(own, {"batch_size": 8})
    assert command.typed == {"batch_size": 8}


def test_what_a_run_set_is_not_blamed_on_its_evaluation(tmp_path):
    save_config(table.combine(load_preset("voting"), {"eval.top_p": 0.5}), str(tmp_path), 0)
    config = load_config(str(tmp_path), {"eval.temperature": 0.0})
    assert config.eval.temperature == 0.0 and config.eval.top_p is None
    with raises_for("eval.top_p"):
        load_config(str(tmp_path), {"eval.temperature": 0.0, "eval.top_p": 0.5})


def test_report_is_a_command_of_its_own(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert field_of(capsys.readouterr().err) == "workdir"


INEFFECTIVE = {
    "team.num_agents": "5",
    "team.graph": "nonsense((",
    "team.decision": "vote",
    "team.tie": "first",
    "credit.alpha": "7",
    "credit.answers": "9",
    "loss.ratio": "token",
    "loss.normalize": "token",
    "advantage.normalize_std": "True",
    "trainer.period": "10",
    "data.size": "0",
    "eval.limit": "5",
    "revision": "main",
}


@pytest.mark.parametrize("field", INEFFECTIVE)
def test_a_field_without_effect_is_refused_and_nothing_is_written(field, tmp_path, capsys):
    """The run of a dyad that recorded five agents, a graph and an unused ratio as true."""
    other = ["--config.credit.name=pooled"] if field == "advantage.normalize_std" else []
    data = ["--config.data.train=math"] if field == "data.size" else []
    credit = [] if other else ["--config.credit.name=shared"]
    arguments = [
        "--config=dyad:tiny", f"--workdir={tmp_path / 'r'}", "--config.steps=0", "--config.loss.name=gspo",
        *credit, *other, *data, f"--config.{field}={INEFFECTIVE[field]}",
    ]  # fmt: skip
    assert cli.main(arguments) == 2
    assert field_of(capsys.readouterr().err) == field
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "changes,field",
    [
        ({"model": ("nowhere/model",)}, "model"),
        ({"model": "tiny,tiny"}, "model"),
        ({"data.train": "no_such_set"}, "data.train"),
        ({"data.train": "missing.parquet"}, "data.train"),
        ({"data.train": "math"}, "data.train"),
        ({"data.heldout": 100_000}, "data.heldout"),
        ({"prompt_length": 5}, "prompt_length"),
        ({"prompt_style": "poem"}, "prompt_style"),
        ({"response_length": (5, 5)}, "response_length"),
        ({"batch_size": 12}, "batch_size"),
        ({"mesh.model": 3}, "mesh.fsdp"),
        ({"mesh.rules": "sideways"}, "mesh.rules"),
        ({"credit.name": "ccpo_event"}, "credit.name"),
        ({"verifier.time_limit": -1.0}, "verifier.time_limit"),
        ({"verifier.time_limit": 1e30}, "verifier.time_limit"),
        ({"credit.alpha": 1e308}, "credit.alpha"),
        ({"optimizer.learning_rate": -1.0}, "optimizer.learning_rate"),
        ({"log.wandb": True}, "log.wandb"),
        ({"loss.normalize": "foo"}, "loss.normalize"),
        ({"loss.normalize": "length"}, "loss.max_length"),
        ({"loss.ratio": "foo"}, "loss.ratio"),
        ({"loss.name": "gspo", "loss.dual_clip": 3.0}, "loss.dual_clip"),
        ({"credit.alpha": -1.0}, "credit.alpha"),
        (
            {"credit.name": "shapley", "topology": "debate", "team.num_agents": 5},
            "credit.name",
        ),
    ],
    ids=str,
)
def test_a_mistake_in_the_configuration_is_one_line(changes, field, tmp_path, capsys):
    config = voting.get_config("tiny")
    config.update_from_flattened_dict(changes)
    assert cli.run_mode(config, "voting:tiny", str(tmp_path), "train") == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and field_of(errors) == field, errors
    assert not (tmp_path / "metrics.jsonl").exists()


def test_export_without_checkpoints_says_so(tmp_path, capsys):
    config = voting.get_config("tiny")
    assert cli.run_mode(config, "voting:tiny", str(tmp_path), "export") == 2
    assert field_of(capsys.readouterr().err) == "workdir"


def test_an_unwritable_workdir_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    config = voting.get_config("tiny")
    assert cli.run_mode(config, "voting:tiny", str(tmp_path / "file"), "train") == 2
    assert field_of(capsys.readouterr().err) == "workdir"


def test_without_a_network_there_is_one_line_and_no_wait(tmp_path):
    """Not offline mode: a network that leads nowhere, as on a machine without one."""
    nowhere = {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
        "JAX_PLATFORMS": "cpu",
    }
    for field, name in (("model", "Qwen/Qwen2.5-0.5B-Instruct"), ("data.train", "math")):
        command = [sys.executable, "run.py", TINY, f"--config.{field}={name}"]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | nowhere,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert field_of(done.stderr) == field


# --- the environment ---------------------------------------------------------------------------------------------


@pytest.fixture
def nobody(monkeypatch):
    """A user without HOME and without an entry in the passwd file."""

    def no_such_user(*_):
        raise KeyError("no such user")

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_such_user)


@pytest.mark.parametrize("home", [None, "", "relative", "/dev/null", "/proc", "/nonexistent\x01"])
def test_where_nothing_can_be_kept_there_is_no_cache(nobody, home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os, "access", lambda *_: False)
    received = []
    monkeypatch.setattr(jax.config, "update", lambda *pair: received.append(pair))
    cli._use_compilation_cache()
    assert not received and not list((tmp_path / "~").iterdir())
    assert not (tmp_path / "relative").exists()


@pytest.mark.parametrize("typed", ["", "the environment's"])
def test_a_cache_is_kept_at_home_or_where_the_environment_says(
    nobody, typed, monkeypatch, tmp_path
):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", typed)
    received = {}
    monkeypatch.setattr(jax.config, "update", received.__setitem__)
    cli._use_compilation_cache()
    assert "jax_compilation_cache_dir" not in received

    monkeypatch.setenv("HOME", str(tmp_path))
    cli._use_compilation_cache()
    folder = str(tmp_path / ".cache" / "ccpo_jax")
    assert received.get("jax_compilation_cache_dir") == (None if typed else folder)
    assert received["jax_persistent_cache_min_compile_time_secs"] == 0.1


@pytest.mark.parametrize("cache", [True, False])
def test_a_user_without_a_home_can_run_the_program(tmp_path, cache):
    """`sitecustomize` is imported by every Python at its start."""
    (tmp_path / "sitecustomize.py").write_text(
        "import pwd\ndef missing(uid):\n    raise KeyError(uid)\npwd.getpwuid = missing\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "cache")
    sizes = ["--config.steps=0", "--config.data.heldout=0", "--config.data.size=20"]
    done = subprocess.run(
        [sys.executable, "run.py", TINY, *sizes, f"--workdir={tmp_path / 'r'}"],
        cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "config.json").is_file()


def test_a_workdir_in_no_home_is_one_line_and_makes_no_folder(
    nobody, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    for mode in ("train", "eval"):
        assert cli.main([TINY, "--workdir=~/r", f"--mode={mode}"]) == 2
        assert field_of(capsys.readouterr().err) == "workdir"
    assert not list(tmp_path.iterdir())


def test_every_path_may_begin_at_home(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text((ROOT / "configs" / "voting.py").read_text())
    command = cli.parse_command(
        ["--config=~/mine.py:tiny", "--workdir=~/r", "--config.data.train=~/a.jsonl",
         "--config.data.eval=x=~/b.jsonl,~/c.jsonl", "--config.model=~/m"]
    )  # fmt: skip
    home = str(tmp_path)
    assert command.workdir == f"{home}/r" and command.config.topology == "voting"
    assert command.typed == {
        "data.train": (f"{home}/a.jsonl",),
        "data.eval": (f"x={home}/b.jsonl", f"{home}/c.jsonl"),
        "model": (f"{home}/m",),
    }
    for arguments in (["report", "~/r"], ["replay", "~/r/not_finite/step-1-agent-0.npz"]):
        assert cli.main(arguments) == 2
        assert home in capsys.readouterr().err


# --- any text ----------------------------------------------------------------------------------------------------

ENOUGH = "error: enough: nothing was wrong with it\n"
ODD = ["", "nan", "inf", "1e308", "9" * 400, "None", "True", "(1,", "(0,)", "[" * 3000, "voter " * 2000, "x" * 5000,
       "lambda: 1", "a\nb", "\x1b[2J", "\u202e", "\udc80", "\x00", ",", "/", "tiny,", "solver(5)", "1_0"]  # fmt: skip


@pytest.fixture
def checked(monkeypatch):
    """Calls the program and returns its status and its stderr; what passes every check stops before it takes time."""

    def enough(*_, **__):
        raise ValueError(ENOUGH.removeprefix("error: ").strip())

    def call(act) -> tuple[int, str]:
        # As python's own stderr.
        errors = io.TextIOWrapper(io.BytesIO(), errors="backslashreplace", newline="")
        with contextlib.redirect_stderr(errors):
            status = act()
        errors.flush()
        return status, errors.buffer.getvalue().decode()

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(build, "fit_prompts", enough)
    return call


NO_VALUE = [
    "loss.clip_high",
    "sample.max_concurrent",
    "advantage.baseline",
    "eval.top_p",
    "sample.top_k",
    "eval.top_k",
    "revision",
]


@pytest.mark.parametrize("field", NO_VALUE)
def test_none_gives_a_field_back_whether_or_not_it_has_an_effect(field, checked, tmp_path):
    arguments = [TINY, f"--config.{field}=None", "--config.data.heldout=0", "--config.data.size=20"]
    assert cli.parse_command(arguments).typed[field] is None
    assert checked(lambda: cli.main([*arguments, f"--workdir={tmp_path}"])) == (2, ENOUGH)

    save_config(from_flat({"topology": "voting", "model": "tiny"}), str(tmp_path), 0)
    load_config(str(tmp_path), {field: None})


def is_one_line(errors: str) -> bool:
    line = errors.removesuffix("\n")
    return line != errors and line.startswith("error: ") and line.isprintable() and len(line) < 1000


def test_any_text_typed_for_any_field_is_read_or_refused_in_one_line(
    checked, monkeypatch, tmp_path
):
    texts = (
        st.sampled_from(ODD)
        | st.text(max_size=20)
        | st.integers(-9, 9).map(str)
        | st.floats(-9, 9).map(str)
    )
    seen = {"enough": 0, "by the program": 0, "by the parser": 0}

    @settings(max_examples=120, deadline=None, derandomize=True)
    @given(st.sampled_from(sorted(FIELDS)), texts)
    @example("response_length", "voter " * 2000)
    @example("response_length", "[" * 3000)
    @example("loss.ratio", "x" * 5000)
    def type_it(field, text):
        small = ["--config.data.size=20", "--config.data.heldout=4"]
        arguments = [TINY, f"--workdir={tmp_path / 'run'}", *small, f"--config.{field}={text}"]
        try:
            cli.parse_command(arguments)
            refused = "by the program"
        except cli.InputError:
            refused = "by the parser"
        status, errors = checked(lambda: cli.main(arguments))
        assert status == 2 and is_one_line(errors), errors
        seen["enough" if errors == ENOUGH else refused] += 1

    monkeypatch.chdir(ROOT)
    type_it()
    assert min(seen.values()) >= 5, seen


# --- config.json -------------------------------------------------------------------------------------------------

DAMAGE = {
    "flip": lambda content, at: (
        content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]
    ),
    "cut": lambda content, at: content[:at],
    "zeros": lambda content, at: content[:at] + bytes(len(content) - at),
    "nest": lambda content, at: content[:at] + b"[" * 100_000 + content[at:],
    "bytes": lambda content, at: content[:at] + b"\xff\x00\x1b" + content[at:],
}


def test_a_damaged_config_json_is_read_or_refused_in_one_line(checked, tmp_path):
    junk = st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5)
        | st.sampled_from([10**40, 10**400, 1e308, "9" * 100_000, "a\nb", "\x1b[2J", "\ud800"]),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "a\nb"]), inner, max_size=2),
        max_leaves=3,
    )  # fmt: skip
    config = voting.get_config("tiny")
    config.update_from_flattened_dict({"data.size": 20, "data.heldout": 4})
    save_config(parse(config), str(tmp_path), 0)
    path = tmp_path / "config.json"
    whole, seen = path.read_bytes(), {"enough": 0, "refused": 0}

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.data())
    def strike(data):
        if data.draw(st.booleans()):
            held = json.loads(whole)
            name = data.draw(st.sampled_from([*sorted(FIELDS), "mesh", "x\x1b"]))
            *sections, last = name.split(".")
            (held[sections[0]] if sections else held)[last] = data.draw(junk)
            content = json.dumps(held).encode()
        else:
            content = DAMAGE[data.draw(st.sampled_from(sorted(DAMAGE)))](
                whole, data.draw(st.integers(0, len(whole) - 1))
            )
        for mode in ("eval", "train"):
            path.write_bytes(content)
            status, errors = checked(
                lambda: cli.run_mode(config, "voting:tiny", str(tmp_path), mode, {})  # noqa: B023
            )
            *diff, last = errors.splitlines(keepends=True)
            assert status == 2 and is_one_line(last), errors
            if mode == "train":
                assert all(line[0] in "+-" and len(line) < 400 for line in diff), errors
            else:
                assert len(diff) <= 1
                assert all(line.startswith("note: ") and len(line) < 400 for line in diff), errors
            seen["enough" if last == ENOUGH else "refused"] += 1

    strike()
    assert min(seen.values()) >= 5, seen


def test_what_has_no_effect_is_not_recorded(tmp_path):
    config = parse(load_preset("dyad:tiny"))
    save_config(config, str(tmp_path), 0)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["topology"] == "dyad" and saved["credit"]["name"] == "ccpo"
    assert "team" not in saved and "answers" not in saved["credit"]
    assert load_config(str(tmp_path), {}) == config


def test_a_run_of_an_earlier_version_is_read(tmp_path):
    """Its names, its lists, and fields without effect that it recorded."""
    saved = {
        "topology": "dyad", "num_agents": 5, "graph": "nonsense((", "model": "tiny",
        "data": {"train": "synthetic/dyad", "eval": "", "heldout": 512},
        "sample": {"chunk": 32, "rows": None, "stack_agents": True},
        "journal": {"problems": 3, "every": 5, "chars": 2000},
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(saved))
    config = load_config(str(tmp_path), {"seed": 0})
    assert config.rollout_log.every == 5 and config.team.num_agents == 3

    path.write_text(json.dumps(saved | {"verifier": {"max_chars": 10}}))
    with raises_for("verifier.max_chars"):
        load_config(str(tmp_path), {})


@pytest.mark.parametrize("preset", ["voting:tiny", "dyad"])
def test_what_a_config_json_lacks_has_its_default(preset, tmp_path, capsys):
    """As of a run that was started before the field existed."""
    config = parse(load_preset(preset))
    save_config(config, str(tmp_path), 0)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(without_defaults(json.loads(path.read_text()))))
    compare_config(config, str(tmp_path))
    assert capsys.readouterr().err == ""
    assert load_config(str(tmp_path), {}) == config


def without_defaults(tree, prefix=""):
    """The values of a config.json that are not defaults."""
    kept = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            kept[name] = without_defaults(value, f"{name}.")
        elif convert(FIELDS[prefix + name], value) != FIELDS[prefix + name].default:
            kept[name] = value
    return {name: value for name, value in kept.items() if value != {}}


def test_fields_that_no_version_had_are_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"steps": 2, "colour": 1, "data": {"shade": 2, "size": 9}}))
    with raises_for("config") as error:
        load_config(str(tmp_path), {})
    assert "'colour', 'data.shade'" in str(error.value) and "steps" not in str(error.value)


def test_typed_fields_change_a_runs_own_configuration_unless_it_depends_on_them(tmp_path):
    save_config(from_flat({"topology": "voting", "model": "tiny"}), str(tmp_path), 0)
    assert load_config(str(tmp_path), {"eval.samples": 9}).eval.samples == 9
    with raises_for("seed"):
        load_config(str(tmp_path), {"seed": 3})
    with raises_for("team.tie"):
        save_config(from_flat({"topology": "dyad"}), str(tmp_path), 0)
        load_config(str(tmp_path), {"team.tie": "first"})


class Left(Exception):
    """The process ended, without Python's shutdown."""


@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize("status,leaves", [(0, False), (2, False), (130, True), (143, True)])
def test_a_process_that_a_signal_ended_skips_the_shutdown(status, leaves, raised, monkeypatch):
    """There compiled code that still runs in a thread would crash."""

    def run():
        if raised:
            raise SystemExit(status)
        return status

    def leave(status):
        raise Left(status)

    monkeypatch.setattr(cli, "main", run)
    monkeypatch.setattr(os, "_exit", leave)
    if leaves:
        with pytest.raises(Left, match=str(status)):
            program.main()
    elif raised:
        with pytest.raises(SystemExit):
            program.main()
    else:
        assert program.main() == status
