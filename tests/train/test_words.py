"""Words of a Python program and of a command line: which field they become, and what contradicts them."""

import pytest

from ccpo_jax.config import OBJECT, combine, parse
from ccpo_jax.presets import load_preset
from ccpo_jax.rl.topology import dyad
from ccpo_jax.rollout.prompts import RolePrompt
from ccpo_jax.rollout.role_prompts import PROMPTS
from ccpo_jax.train.build import settle_words
from ccpo_jax.train.parts import resolve
from ccpo_jax.train.words import team_words
from tests.support.errors import raises_for

VOTER = "[voter]\nsystem = 'Vote.'\n"
SOLVER = {"system": "Solve.", "message": "\n{message}"}


def settled(folder, text: str, **typed):
    """The configuration of a command line with a file of role prompts."""
    file = folder / "roles.toml"
    file.write_text(text)
    typed = {"prompts": str(file), **{name.replace("__", "."): typed[name] for name in typed}}
    start = combine(load_preset("voting:tiny"), typed)
    return settle_words(parse(start, typed), typed)


def test_a_style_that_is_typed_needs_a_role_that_the_file_leaves_out(tmp_path):
    with raises_for("prompt_style") as error:
        settled(tmp_path, VOTER, prompt_style="math")
    assert "every role" in str(error.value) and "\n" not in str(error.value)
    # The preset's own is nobody's mistake, nor is one that is taken back.
    assert settled(tmp_path, VOTER).prompt_style == "tiny"
    assert settled(tmp_path, VOTER, prompt_style=None).prompt_style == "math"


def test_what_is_typed_may_not_contradict_the_format(tmp_path):
    unmarked = f"format = 'unmarked'\n{VOTER}"
    assert settled(tmp_path, unmarked).verifier.extraction == "lenient"
    with raises_for("verifier.extraction"):
        settled(tmp_path, unmarked, verifier__extraction="strict")
    with raises_for("prompts") as error:
        settled(tmp_path, unmarked, verifier__name="rewards.py:score")
    assert "verifier.extraction" in str(error.value)


def test_a_program_gives_dicts_and_the_style_has_the_other_roles():
    config, parts = resolve(
        "dyad:tiny", prompts={"format": ["unmarked", "evaluated"], "solver": SOLVER}
    )
    assert config.prompts is not None and config.prompts.startswith(OBJECT)
    assert (config.verifier.extraction, config.verifier.evaluated) == ("lenient", True)
    words = team_words(config, dyad(), ratings=False, own=parts.prompts)
    assert words == {
        "thinker": PROMPTS["tiny"]["thinker"],
        "solver": RolePrompt("Solve.", "{problem}", "\n{message}", ""),
    }


def test_a_program_names_a_style_or_a_file(tmp_path):
    file = tmp_path / "roles.toml"
    file.write_text(f"format = 'unmarked'\n{VOTER}")
    assert resolve("voting:tiny", prompts="choice")[0].prompt_style == "choice"
    config, _ = resolve("voting:tiny", prompts=file)
    assert config.prompts == str(file) and config.verifier.extraction == "lenient"


@pytest.mark.parametrize("words", [{}, [], {"solver": 3}, {"solver": {"sytem": "x"}}, 3])
def test_other_objects_are_one_line(words):
    with raises_for("prompts") as error:
        resolve("dyad:tiny", prompts=words)
    assert "\n" not in str(error.value)


def test_other_words_are_another_configuration():
    names = [
        resolve("dyad:tiny", prompts={"solver": SOLVER | change})[0].prompts
        for change in ({}, {"system": "Guess."}, {})
    ]
    assert names[0] == names[2] != names[1]
