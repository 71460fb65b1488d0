"""Chat templates: fixed dates, default system turns, templates that fail."""

import datetime

import pytest
import transformers.utils.chat_template_utils as renderer

from ccpo_jax.hf import load_tokenizer
from experiments.robustness.families import FAMILIES, save_tokenizer
from tests.support.errors import raises_for

PLAIN = FAMILIES["no system role"]  # its control tokens, with other templates
SILENT = "{% for m in messages %}<turn>{{ m.role }}: {{ m.content | trim }}</s>{% endfor %}"
TURNS = SILENT + "{% if add_generation_prompt %}<turn>{% endif %}"


def load(folder, template, family=PLAIN):
    save_tokenizer(folder, family, template)
    return load_tokenizer(str(folder))


def texts(tokenizer, system: str) -> tuple[str, str]:
    before, after = tokenizer.frame(system)
    return tokenizer.backend.decode(before), tokenizer.backend.decode(after)


# --- dates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template, written",
    [
        ("{{ strftime_now('%Y-%m-%d') }}", "2024-07-26"),
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
        ("{{ strftime_now('%B %d, %Y') }}", "July 26, 2024"),
        ("{{ strftime_now('%A, %H:%M') }}", "Friday, 00:00"),
        ("{{ strftime_now('%-d.%-m.%y') }}", "26.7.24"),
        ("{{ strftime_now('%j at 100%%d') }}", "208 at 100%d"),
        ("{{ strftime_now(format='%Y') }}", "2024"),
        ("{{ strftime_now('%Y') | int - 1 }}", "2023"),
        ("{% if strftime_now is defined %}{{ strftime_now('%F') }}{% endif %}", "2024-07-26"),
        ("{% set day = strftime_now('%d') %}{{ day }}", "26"),
        ("{% macro m() %}{{ strftime_now('%d') }}{% endmacro %}{{ m() }}", "26"),
        ("{{ date_string }}", "26 Jul 2024"),
        ("{{ date_string or strftime_now('%F') }}", "26 Jul 2024"),
        ("  {% if true %}{{ strftime_now('%F') }}{% endif %}", "2024-07-26"),
        ("\n\n{{ strftime_now('%F') }}", "\n\n2024-07-26"),
    ],
)
def test_every_day_gives_the_same_prompts(tmp_path, monkeypatch, template, written):
    class LaterDay(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 1, 2, 3, 4, 5, tzinfo=tz)

    tokenizer = load(tmp_path, template + TURNS)
    assert texts(tokenizer, "") == (f"{written}<turn>user: ", "</s><turn>")
    monkeypatch.setattr(renderer, "datetime", LaterDay)
    assert texts(load_tokenizer(str(tmp_path)), "")[0] == f"{written}<turn>user: "
    assert texts(tokenizer, "Obey.")[0].startswith(written)


# --- the system turn ------------------------------------------------------------------------------

BE_KIND = "{% if messages[0].role != 'system' %}<turn>system: Be kind.</s>{% endif %}" + TURNS
DATED = (
    "<s>{% if messages[0].role == 'system' %}{% set s = messages[0].content %}"
    "{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}"
    "<turn>system: Today {{ date_string }}. {{ s }}</s>" + TURNS
)
# Surrounds the system text with words of its own, or has others in its place.
NAMED = (
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}"
    "{% set messages = messages[1:] %}{% else %}{% set s = 'You are Smol.' %}{% endif %}"
    "<turn>system: ## Today: {{ strftime_now('%d %B') }}\n## Orders: {{ s }}</s>" + TURNS
)
# A default that stands in no turn.
PREAMBLE = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}"
    "{% set messages = messages[1:] %}{% else %}{{ 'A chat.' }}{% endif %}" + TURNS
)
# Refuses the conversation that shows what opens a later turn.
ONE_TURN = "{% if messages | length > 2 %}{{ raise_exception('one turn') }}{% endif %}"
# Starts a reply behind every turn.
EAGER = SILENT + "<turn>"


@pytest.mark.parametrize(
    "template, before",
    [
        (BE_KIND, "<turn>user: "),
        ("{{ bos_token }}" + BE_KIND, "<s><turn>user: "),
        (DATED, "<s><turn>user: "),
        (NAMED, "<turn>user: "),
        (PREAMBLE, "<turn>user: "),
        # No system turn is written, whatever else is.
        (TURNS, "<turn>user: "),
        ("<s>" + TURNS, "<s><turn>user: "),
        ("[gMASK]<s>\n" + TURNS, "[gMASK]<s>\n<turn>user: "),
        (ONE_TURN + TURNS, "<turn>user: "),
        (EAGER, "<turn>user: "),
        (PLAIN.template, "<s><turn>user: "),
    ],
)
def test_without_a_system_text_there_is_no_system_turn(tmp_path, template, before):
    tokenizer = load(tmp_path, template)
    assert texts(tokenizer, "")[0] == before
    assert texts(tokenizer, " \n")[0] == before


@pytest.mark.parametrize("name", ["qwen2.5", "olmo3"])
def test_families_whose_default_system_turn_is_left_out(tmp_path, name):
    tokenizer = load(tmp_path, FAMILIES[name].template, FAMILIES[name])
    before, after = texts(tokenizer, "")
    assert before == "<|im_start|>user\n" and after == "<|im_end|>\n<|im_start|>assistant\n"
    assert "system\nObey." in texts(tokenizer, "Obey.")[0]


@pytest.mark.parametrize("template", [ONE_TURN + BE_KIND, BE_KIND.replace(TURNS, EAGER)])
def test_a_default_system_turn_that_cannot_be_left_out_is_said(tmp_path, template):
    tokenizer = load(tmp_path, template)
    with raises_for("model") as error:
        tokenizer.frame("")
    assert "system" in str(error.value) and "\n" not in str(error.value)
    assert texts(tokenizer, "Obey.")[0] == "<turn>system: Obey.</s><turn>user: "


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    ["{{ 1 / 0 }}", "{{ messages() }}", "{{ 'a' + 1 }}", "{{ [][1:2:0] }}"],
)
def test_a_template_that_fails_is_one_clear_line(tmp_path, template):
    with raises_for("model") as error:
        load(tmp_path, template + TURNS).frame("")
    assert "chat template" in str(error.value) and "\n" not in str(error.value)
