"""Role prompts in a TOML file: what they become, and one line for every mistake."""

import dataclasses
import os
import pathlib
import re

import pytest

from ccpo_jax.config import Config, combine
from ccpo_jax.rl.topology import TOPOLOGIES, chain, debate, dyad, voting
from ccpo_jax.rollout.prompts import RolePrompt
from ccpo_jax.rollout.role_files import parse_words, read_words
from ccpo_jax.rollout.role_prompts import PROMPTS
from ccpo_jax.train.words import apply_file, team_words
from tests.support.errors import raises_for

SOLVER = """
[solver]
system = "Solve."
message = '''


Notes:
{message}'''
closing = '''


Put the answer into \\boxed{}.'''
"""


def words_of(folder, text: str | bytes, topology=None, *, ratings=False, **fields):
    """The words of a team whose file of role prompts says `text`."""
    file = folder / "roles.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    config = combine({}, {"prompts": str(file), **fields})
    return team_words(config, topology or dyad(), ratings=ratings)


def test_a_file_has_the_words_of_its_roles_and_the_style_those_of_the_others(tmp_path):
    words = words_of(tmp_path, SOLVER, prompt_style="tiny")
    assert words["solver"] == RolePrompt(
        "Solve.",
        "{problem}",
        "\n\nNotes:\n{message}",
        "\n\nPut the answer into \\boxed{}.",
    )
    assert words["thinker"] == PROMPTS["tiny"]["thinker"]


def test_words_by_sender(tmp_path):
    text = '[debater.message]\nown = "Yours: {message}"\nother = "Theirs: {message}"'
    message = words_of(tmp_path, text, debate(2))["debater"].message
    assert message == {"own": "Yours: {message}", "": "Theirs: {message}"}


def test_a_team_of_roles_of_ones_own_needs_no_style(tmp_path):
    topology = dataclasses.replace(chain(2), roles=("seer", "critic"))
    text = '[seer]\nsystem="See."\n[critic]\nmessage="{message}"'
    assert set(words_of(tmp_path, text, topology)) == {"seer", "critic"}


@pytest.mark.parametrize(
    "text, parts",
    [
        # Not a file of words.
        (b"[solver]\nsystem = '\xff'", ("line 2", "UTF-8")),
        ("[solver]\nsystem = 'a\n", ("TOML", "line ")),
        ("[solver]\nsystem = '''a\n", ("TOML", "line 3")),
        ("[solver]\n[solver]\n", ("TOML", "line 2")),
        ("a = " + "[" * 100_000, ("TOML",)),
        ("a = " + "9" * 10_000, ("TOML",)),
        ("# " + "x" * 1_000_000, ("larger",)),
        ("", ("has no role",)),
        ('format = "marked"', ("has no role",)),
        # Names.
        ("[slover]\n", ("'slover'", "did you mean solver?")),
        ("[voter]\n", ("dyad has no role 'voter'", "thinker, solver")),
        ("[rate_solver]\n", ("rate_solver", "credit.name=sepo")),
        ("[solver]\nsytem = 'x'", ("[solver]", "'sytem'", "did you mean system?")),
        ("fromat = 'marked'\n" + SOLVER, ("'fromat'", "did you mean format?")),
        # Types.
        ("[solver]\nsystem = 3", ("system of [solver] is 3 (int)",)),
        ("[solver]\nproblem = ['{problem}']", ("problem of [solver]", "(list)")),
        ("[solver.message]\nthinker = 3", ("message.thinker of [solver]", "3")),
        ("[solver.message.thinker]\nx = 3", ("message.thinker of [solver]",)),
        # In double quotes TOML reads "\\b" as one letter.
        (
            '[solver]\nclosing = "Use \\boxed{}."',
            ("closing of [solver]", "'\\x08'", "single quotes"),
        ),
        ('[solver]\nclosing = "in \\text{ cm}"', ("'\\t'", "ext{ cm}")),
        # Slots.
        ("[thinker]\nproblem = 'Solve.'", ("problem of [thinker] has {problem} 0 times",)),
        ("[thinker]\nproblem = '{problem}{problem}'", ("{problem} 2 times",)),
        ("[solver]\nmessage = 'Notes'", ("message of [solver] has {message} 0 times",)),
        ("[solver.message]\nthinker = ''", ("message.thinker of [solver]", "{message} 0 times")),
        ("[thinker]\nclosing = '{problem}'", ("closing of [thinker] has {problem}",)),
        ("[thinker]\nsystem = '{message}'", ("system of [thinker] has {message}",)),
        # Messages that are read, and those that are not.
        ("[solver]\nsystem = 'x'", ("[solver] has no words for a message of 'thinker'",)),
        ("[thinker]\nmessage = '{message}'", ("[thinker] reads no message in dyad",)),
        ("[solver.message]\nthinkre = '{message}'", ("'thinkre'", "did you mean thinker?")),
        # Stop strings.
        ("[thinker]\nstop = ['#']", ("[thinker] has stop and no words", "sample.stop")),
        ("[thinker]\nsystem = 'x'\nstop = 3", ("stop of [thinker] is 3 (int)",)),
        ("[thinker]\nsystem = 'x'\nstop = ['#', 3]", ("[thinker] stop holds 3 (int)",)),
        ("[thinker]\nsystem = 'x'\nstop = ''", ("[thinker] stop holds an empty text",)),
        ('[thinker]\nsystem = "x"\nstop = "\\boxed"', ("stop of [thinker]", "'\\x08'")),
        # Formats.
        ("format = 'boxed'\n" + SOLVER, ("'boxed'", "marked, unmarked, evaluated")),
        ("format = 3\n" + SOLVER, ("format is 3",)),
        ("format = ['marked', 'unmarked']\n" + SOLVER, ("both",)),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_place(tmp_path, text, parts):
    with raises_for("prompts") as error:
        words_of(tmp_path, text)
    message = str(error.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message and len(message) < 500


def test_stop_strings_stand_beside_the_words(tmp_path):
    text = """[thinker]\nsystem = "x"\nstop = ["###", "\\n\\n", "\\r\\n"]\n""" + SOLVER
    words = words_of(tmp_path, text)
    assert words["thinker"] == RolePrompt("x", "{problem}", "", "", ("###", "\n\n", "\r\n"))
    assert words["solver"].stop == ()
    alone = words_of(tmp_path, text.replace('["###", "\\n\\n", "\\r\\n"]', '"###"'))
    assert alone["thinker"].stop == ("###",)


@pytest.mark.parametrize("name", ["absent.toml", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with raises_for("prompts"):
        read_words(name)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with raises_for("prompts"):
        read_words(str(tmp_path / "pipe"))


@pytest.mark.parametrize("style", PROMPTS)
def test_every_style_passes_the_checks_of_files(style):
    for make in TOPOLOGIES.values():
        topology = make()
        ratings = topology.name == "dyad"
        team_words(Config(prompt_style=style), topology, ratings=ratings)


@pytest.mark.parametrize(
    "words",
    [{"system": "x"}, RolePrompt("", "no slot", "", ""), RolePrompt("", "{problem}", 3, "")],
)
def test_styles_of_plugins_pass_the_same_checks(monkeypatch, words):
    monkeypatch.setitem(PROMPTS, "mine", {"voter": words})
    with raises_for("prompt_style"):
        team_words(Config(prompt_style="mine"), voting(2), ratings=False)


PAGE = pathlib.Path(__file__).parents[2] / "docs/prompts.md"


@pytest.mark.parametrize(
    "title, topology, style",
    [
        ("dyad", dyad(), "absent"),
        ("voting", voting(3), "absent"),
        ("debate", debate(3), "math"),
        ("tiny", dyad(), "absent"),
    ],
)
def test_examples_of_the_documentation_serve_their_teams(tmp_path, title, topology, style):
    pattern = rf'^```toml title="{title}\.toml"\n(.*?)^```'
    (text,) = re.findall(pattern, PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    words = words_of(tmp_path, text, topology, prompt_style=style)
    if title == "tiny":
        # So a run with this file has the metrics of one with prompt_style=tiny.
        assert words == {role: PROMPTS["tiny"][role] for role in topology.roles}


# --- the format note ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "note, extraction, evaluated",
    [
        ("", "strict", False),
        ("format = 'marked'", "strict", False),
        ("format = 'unmarked'", "lenient", False),
        ("format = ['unmarked', 'evaluated']", "lenient", True),
    ],
)
def test_the_format_tells_the_verifier_what_is_asked_for(tmp_path, note, extraction, evaluated):
    file = tmp_path / "roles.toml"
    file.write_text(f"{note}\n{SOLVER}")
    config = apply_file(Config(prompts=str(file)))
    assert (config.verifier.extraction, config.verifier.evaluated) == (extraction, evaluated)
    # Recorded, and read again by a run that resumes.
    assert apply_file(config) == config


@pytest.mark.parametrize(
    "note, fields, typed",
    [
        ("unmarked", {"verifier.extraction": "strict"}, ["verifier.extraction"]),
        ("marked", {"verifier.extraction": "lenient"}, []),
        ("evaluated", {"verifier.evaluated": False}, ["verifier.evaluated"]),
    ],
)
def test_a_format_that_contradicts_the_configuration_is_one_line(tmp_path, note, fields, typed):
    file = tmp_path / "roles.toml"
    file.write_text(f"format = '{note}'\n{SOLVER}")
    config = combine({}, {"prompts": str(file), **fields})
    with raises_for(next(iter(fields))) as error:
        apply_file(config, typed)
    assert repr(note) in str(error.value) and "\n" not in str(error.value)


def test_dicts_of_a_program_are_read_as_the_file():
    words = parse_words({"format": ["evaluated"], "voter": {"system": "Vote."}})
    assert words.roles == {"voter": RolePrompt("Vote.", "{problem}", "", "")}
    assert words.format == ("evaluated",)
