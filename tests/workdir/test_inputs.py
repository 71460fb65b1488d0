"""WORKDIR/inputs: what is copied, what a changed or lost file means for a resumed or evaluated run."""

import json

import pytest

from ccpo_jax.config import from_flat
from ccpo_jax.references import load_module, load_object
from ccpo_jax.rollout.role_files import read_words
from ccpo_jax.workdir import compare_inputs, copy_inputs, inputs_of, kept_inputs
from tests.support.errors import raises_for
from tests.support.plugins import forgotten_plugins


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    with forgotten_plugins():
        yield


def write(tmp_path, name, text):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)


def index():
    return json.loads(open("run/inputs/index.json").read())


def test_inputs_of_a_configuration():
    config = from_flat(
        {
            "plugins": ("a.py", "package.module"),
            "verifier.name": "0.5*math + 0.4*a.py:score + 0.1*b/c.py:form",
            "prompts": "roles.toml",
        }
    )
    assert inputs_of(config) == {
        "a.py": "plugins",
        "package.module": "plugins",
        "b/c.py": "verifier.name",
        "roles.toml": "prompts",
    }
    assert inputs_of(from_flat({})) == {}


def test_files_are_copied_and_modules_recorded(tmp_path):
    write(tmp_path, "a.py", "VALUE = 1\n")
    write(tmp_path, "b/a.py", "VALUE = 2\n")
    write(tmp_path, "roles.toml", "format = []\n")
    load_module("a.py", "plugins")
    # What ran is copied, not what the disk holds by then.
    write(tmp_path, "a.py", "VALUE = 3\n")
    inputs = {
        "a.py": "plugins",
        "b/a.py": "verifier.name",
        "roles.toml": "prompts",
        "pytest": "plugins",
    }
    copy_inputs("run", inputs)
    copies = {key: entry.get("copy") for key, entry in index().items()}
    assert copies == {
        "a.py": "a.py",
        "b/a.py": "a-2.py",
        "roles.toml": "roles.toml",
        "pytest": None,
    }
    assert (tmp_path / "run/inputs/a.py").read_text() == "VALUE = 1\n"
    assert (tmp_path / "run/inputs/a-2.py").read_text() == "VALUE = 2\n"
    assert (
        index()["pytest"]["version"] == pytest.__version__
        and len(index()["pytest"]["sha256"]) == 64
    )


def test_run_without_inputs_has_no_folder(tmp_path):
    copy_inputs("run", {})
    compare_inputs("run", {}, allow_changes=False)
    assert not list((tmp_path / "run").iterdir())


def test_changed_file_is_refused_unless_allowed_and_the_old_copy_stays(tmp_path, capsys):
    write(tmp_path, "a.py", "VALUE = 1\n")
    inputs = {"a.py": "plugins"}
    copy_inputs("run", inputs)
    compare_inputs("run", inputs, allow_changes=False)
    write(tmp_path, "a.py", "VALUE = 2\n")
    with raises_for("plugins") as error:
        compare_inputs("run", inputs, allow_changes=False)
    assert "a.py has changed since this run was started" in str(error.value)
    assert "--config.allow_changes=True" in str(error.value) and "\n" not in str(error.value)

    compare_inputs("run", inputs, allow_changes=True)
    assert capsys.readouterr().err.count("has changed") == 1
    copy_inputs("run", inputs, step=7)
    assert (tmp_path / "run/inputs/a.py").read_text() == "VALUE = 2\n"
    assert (tmp_path / "run/inputs/a-until-step-7.py").read_text() == "VALUE = 1\n"
    compare_inputs("run", inputs, allow_changes=False)


def test_lost_file_is_read_from_its_copy(tmp_path, capsys):
    write(tmp_path, "a.py", "VALUE = 1\n")
    write(tmp_path, "roles.toml", "[solver]\nsystem = 'Solve'\nproblem = '{problem}'\n")
    words = read_words("roles.toml")
    copy_inputs("run", {"a.py": "verifier.name", "roles.toml": "prompts"})
    (tmp_path / "a.py").unlink()
    (tmp_path / "roles.toml").unlink()
    with kept_inputs("run"):
        assert load_object("a.py:VALUE", "verifier.name") == 1
        assert read_words("roles.toml") == words
        compare_inputs("run", {"a.py": "verifier.name"}, allow_changes=False)
        # What is read from a copy can be copied again, into another run too.
        copy_inputs("run", {"a.py": "verifier.name"})
    notes = capsys.readouterr().err.splitlines()
    assert notes[0] == "note: a.py is gone; its copy run/inputs/a.py is used" and len(notes) == 2
    with raises_for("verifier.name"):
        load_module("a.py", "verifier.name")


@pytest.mark.parametrize(
    "options, value",
    [({}, 2), ({"prefer_copies": True}, 1), ({"prefer_copies": True, "typed": ["a.py"]}, 2)],
    ids=["training", "evaluation", "typed"],
)
def test_which_version_of_a_changed_file_counts(tmp_path, capsys, options, value):
    write(tmp_path, "a.py", "VALUE = 1\n")
    copy_inputs("run", {"a.py": "plugins"})
    write(tmp_path, "a.py", "VALUE = 2\n")
    with kept_inputs("run", **options):
        assert load_object("a.py:VALUE", "plugins") == value
    assert ("has changed since this run; its copy" in capsys.readouterr().err) == (value == 1)


@pytest.mark.parametrize("damage", ["lost", "changed", "index", "leads out"])
def test_damaged_copies_are_one_line(tmp_path, damage):
    write(tmp_path, "a.py", "VALUE = 1\n")
    copy_inputs("run", {"a.py": "plugins"})
    (tmp_path / "a.py").unlink()
    if damage == "lost":
        (tmp_path / "run/inputs/a.py").unlink()
    elif damage == "changed":
        write(tmp_path, "run/inputs/a.py", "VALUE = 2\n")
    elif damage == "index":
        write(tmp_path, "run/inputs/index.json", '{"a.py": 3}')
    else:
        write(
            tmp_path,
            "run/inputs/index.json",
            json.dumps({"a.py": index()["a.py"] | {"copy": "../a.py"}}),
        )
    with raises_for("workdir"), kept_inputs("run"):
        pass
