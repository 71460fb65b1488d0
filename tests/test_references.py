"""Files and modules that a user names: what is loaded, once, and what each mistake says in one line."""

import os
import pathlib
import pickle
import subprocess
import sys
import types

import pytest

from ccpo_jax import references
from ccpo_jax.references import load_module, load_object, loaded_file, module_name, real_path
from tests.support.errors import raises_for

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch, tmp_path):
    """Each test in a folder of its own, with what it loads forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(references, "_LOADED", {})
    monkeypatch.setattr(references, "_GIVEN", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def error_of(reference, *, load=load_module):
    with raises_for("plugins") as error:
        load(reference, "plugins")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_file_and_object(tmp_path):
    path = write(tmp_path / "my_team.py", "VALUE = 3\nclass Box:\n    def score(): return 7\n")
    assert load_object(f"{path}:VALUE", "plugins") == 3
    assert load_object(f"{path}:Box.score", "plugins")() == 7
    assert load_module(f"{path}:VALUE", "plugins").VALUE == 3


def test_value_that_is_not_callable_is_the_callers_business(tmp_path):
    write(tmp_path / "a.py", "score = 3\n")
    assert load_object("a.py:score", "plugins") == 3


@pytest.mark.parametrize(
    "folder",
    ["plain", "with blank", "Ünïcode-文", "a:b", "a,b"],
    ids=["plain", "blank", "unicode", "colon", "comma"],
)
def test_any_path_is_relative_or_absolute(tmp_path, folder):
    write(tmp_path / folder / "my team.py", "VALUE = 3\n")
    relative = load_module(f"{folder}/my team.py", "plugins")
    assert load_module(str(tmp_path / folder / "my team.py"), "plugins") is relative
    assert load_object(f"./{folder}/my team.py:VALUE", "plugins") == 3


def test_home_and_links_lead_to_one_module(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path / "folder" / "a.py", "items = []\n")
    (tmp_path / "link.py").symlink_to(path)
    (tmp_path / "linked").symlink_to(tmp_path / "folder")
    modules = {
        id(load_module(name, "plugins"))
        for name in ("~/folder/a.py", "link.py", "linked/a.py", str(path))
    }
    assert len(modules) == 1


def test_two_files_of_one_name_are_two_modules(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder / "team.py", f"VALUE = {folder!r}\n")
    assert load_object("a/team.py:VALUE", "plugins") == "a"
    assert load_object("b/team.py:VALUE", "plugins") == "b"


def test_module_name_is_the_same_in_every_process(tmp_path):
    path = write(tmp_path / "a.py", "def score(): return 3\n")
    module = load_module("a.py", "plugins")
    assert module.__name__ == module_name(str(path))
    program = (
        "import pickle, sys; from ccpo_jax.references import load_module; "
        f"load_module({str(path)!r}, 'plugins'); print(pickle.loads(sys.stdin.buffer.read())())"
    )
    sent = pickle.dumps(module.score)
    command = [sys.executable, "-c", program]
    result = subprocess.run(
        command, input=sent, capture_output=True, check=True, timeout=60, cwd=ROOT
    )
    assert result.stdout.strip() == b"3"


def test_dataclasses_and_absolute_file_names(tmp_path):
    path = write(
        tmp_path / "a.py",
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    b: 'int'\nFILE = __file__\n",
    )
    assert load_object("a.py:A", "plugins")(3).b == 3
    assert load_object("a.py:FILE", "plugins") == str(path)
    assert not list(tmp_path.glob("__pycache__"))


def test_source_is_kept_and_a_changed_file_is_refused(tmp_path):
    path = write(tmp_path / "a.py", "VALUE = 1\n")
    load_module("a.py", "plugins")
    path.write_text("VALUE = 2\n")
    assert "has changed since this process loaded it; start Python anew" in error_of("a.py")
    assert loaded_file("a.py").source == b"VALUE = 1\n"
    path.write_text("VALUE = 1\n")
    assert load_object("a.py:VALUE", "plugins") == 1


def test_source_of_another_process(tmp_path):
    file = references.LoadedFile(real_path("gone.py"), b"VALUE = 1\n")
    assert references.load_source(file, "plugins").VALUE == 1


def test_given_content_stands_for_the_disks(tmp_path):
    path = write(tmp_path / "a.py", "VALUE = 2\n")
    given = {"a.py": b"VALUE = 1\n", "gone.py": b"\n\n1 / 0\n"}
    with references.given_files(given):
        assert load_object("a.py:VALUE", "plugins") == 1
        assert references.given_content(str(path)) == b"VALUE = 1\n"
        assert "gone.py, line 3: ZeroDivisionError" in error_of("gone.py")
    assert references.given_content("a.py") is None
    # One process holds one version of a file.
    assert "has changed since this process loaded it" in error_of("a.py")


def test_nothing_is_left_of_a_file_that_failed(tmp_path):
    path = write(tmp_path / "a.py", "raise ValueError('no')\n")
    error_of("a.py")
    assert module_name(str(path)) not in sys.modules and loaded_file("a.py") is None
    path.write_text("VALUE = 1\n")
    assert load_object("a.py:VALUE", "plugins") == 1


FAILING = {
    "syntax": ("x = 1\ndef f(:\n", "a.py, line 2: SyntaxError: "),
    "raises": ("x = 1\n\nraise ValueError('two\\nlines')\n", "a.py, line 3: ValueError: two lines; correct"),
    "in a function": ("def f():\n    return {}['x']\nf()\n", "a.py, line 2: KeyError: 'x'; correct"),
    "in a library": ("import json\njson.loads('{')\n", "a.py, line 2: JSONDecodeError: "),
    "exit": ("import sys\nsys.exit(0)\n", "a.py, line 2: SystemExit: 0; a module that is imported must not"),
    "missing import": ("import no_such_package.part\n", "line 1: ModuleNotFoundError: No module named 'no_such_package'; install no_such_package"),
    "own input error": ("from ccpo_jax.errors import InputError\nraise InputError('x', 'y')\n", "a.py, line 2: InputError: x: y"),
    "null": ("x = '\0'\n", "a.py"),
    "encoding": ("# -*- coding: no-such-coding -*-\n", "a.py"),
    "control": ("raise ValueError('\\x1b[2J')\n", "ValueError: \\x1b[2J"),
    "no message": ("raise RuntimeError\n", "line 1: RuntimeError; correct"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING)
def test_failing_file_names_line_and_reason(tmp_path, name):
    text, expected = FAILING[name]
    write(tmp_path / "a.py", text)
    assert expected in error_of("a.py")


def test_failure_in_a_sibling_names_both_lines(tmp_path):
    write(tmp_path / "helper.py", "x = 1\nraise ValueError('no')\n")
    write(tmp_path / "a.py", "import helper\n")
    message = error_of("a.py")
    assert "a.py, line 1: ValueError: no (in " in message and "helper.py, line 2)" in message


def test_import_of_a_file_beside_says_so(tmp_path):
    write(tmp_path / "folder" / "helper.py", "x = 1\n")
    write(tmp_path / "folder" / "a.py", "import helper\n")
    assert "helper.py lies beside it: start the program in that folder" in error_of("folder/a.py")


def test_interrupt_is_no_mistake_of_the_file(tmp_path):
    write(tmp_path / "a.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_module("a.py", "plugins")


@pytest.mark.parametrize(
    "reference, expected",
    [
        ("none.py", "there is no file 'none.py' in /"),
        ("/none/none.py", "there is no file '/none/none.py'; type"),
        ("folder.py", "'folder.py' is a folder"),
        ("pipe.py", "there is no file 'pipe.py'"),
        ("x\0.py", "there is no file"),
        ("a" * 5000 + ".py", "there is no file"),
        ("", "names neither a file nor a module"),
        ("./module", "names neither a file nor a module"),
        ("a b", "names neither a file nor a module"),
        ("no_such_module", "there is no module 'no_such_module'; type the path"),
        ("json.no_such", "there is no module 'json.no_such'"),
        ("json.decoder.no_such", "there is no module 'json.decoder.no_such'"),
    ],
    ids=lambda value: value[:20].replace("\0", "0").replace("/", "_"),
)  # fmt: skip
def test_what_does_not_exist(tmp_path, reference, expected):
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    message = error_of(reference)
    assert expected in message and len(message) < 700


def test_unreadable_file(tmp_path, monkeypatch):
    write(tmp_path / "a.py", "")
    monkeypatch.setattr(
        "builtins.open",
        lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")),
    )
    assert "cannot read 'a.py' (Permission denied)" in error_of("a.py")


def test_file_of_gigabytes_is_not_read(tmp_path):
    with (tmp_path / "a.py").open("wb") as file:
        file.truncate(1 << 40)
    assert "has more than" in error_of("a.py")


def test_missing_name(tmp_path):
    write(tmp_path / "a.py", "import os\n_hidden = 1\nscore = 1\nother = 2\n")
    write(tmp_path / "empty.py", "")
    assert error_of("a.py:scores", load=load_object).endswith(
        "a.py has no 'scores'; did you mean score?"
    )
    assert error_of("a.py:zzz", load=load_object).endswith("a.py has no 'zzz'; it has score, other")
    assert error_of("a.py:score.x", load=load_object).endswith(
        "a.py has no 'x'; it defines nothing"
    )
    assert error_of("empty.py:x", load=load_object).endswith("it defines nothing")
    assert "names no object; type a.py:NAME" in error_of("a.py", load=load_object)
    assert "names no object" in error_of("a.py:", load=load_object)
    # Another module of that name may have been meant.
    assert json_file() in error_of("json:no_such", load=load_object)


def json_file():
    import json

    return str(json.__file__)


def test_package_module(tmp_path):
    write(tmp_path / "own_package" / "__init__.py", "")
    write(tmp_path / "own_package" / "good.py", "VALUE = 3\n")
    write(tmp_path / "own_package" / "bad.py", "import json\nimport no_such_thing\n")
    write(tmp_path / "own_package" / "worse.py", "\n\n1 / 0\n")
    sys.path[:] = [entry for entry in sys.path if entry not in ("", str(tmp_path))]
    assert load_object("own_package.good:VALUE", "plugins") == 3
    message = error_of("own_package.bad")
    assert (
        "bad.py, line 2: ModuleNotFoundError: No module named 'no_such_thing'; install" in message
    )
    assert "worse.py, line 3: ZeroDivisionError" in error_of("own_package.worse")


def test_installed_modules_come_before_the_current_folder(tmp_path):
    """A file in the current folder must not stand in for a library that is imported late."""
    write(tmp_path / "colorsys.py", "raise ValueError('not this one')\n")
    sys.path[:] = [entry for entry in sys.path if entry != ""]
    assert isinstance(load_module("colorsys", "plugins"), types.ModuleType)
    assert sys.path[-1] == str(tmp_path)


def test_output_while_loading_is_bounded(tmp_path, capfd):
    write(
        tmp_path / "a.py",
        "import logging, sys\nprint('hello')\nfor _ in range(1000):\n    print('x' * 1000)\n"
        "log = logging.getLogger('a')\nlog.addHandler(logging.StreamHandler(sys.stderr))\n",
    )
    module = load_module("a.py", "plugins")
    module.log.warning("y" * 20_000)
    out, err = capfd.readouterr()
    assert out.startswith("hello\n") and len(out) < 20_000
    assert "printed more" in err and "y" * 20_000 in err
