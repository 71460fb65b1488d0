"""Chat templates: the text that one writes around the user's words, the same on every day."""

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2

from ccpo_jax.errors import InputError, first_line

# Stand for a speaker's words in a rendered template. Nothing in them that a template would trim.
USER = "PLACEHOLDERofTHEtext"
_SYSTEM = "PLACEHOLDERofTHEsystem"
_REPLY = "PLACEHOLDERofTHEreply"
_FIRST = "PLACEHOLDERofTHEfirst"

_TURN = "PLACEHOLDERofTHEturn"
_NUMBERED = re.compile(f"{_TURN}([0-9]{{6}})")

# Llama's own default. Templates that ask for today's date would give every day other prompts.
_DAY = datetime.datetime(2024, 7, 26)
_DATE = "26 Jul 2024"

# Codes of strftime that every platform knows; those after a minus sign leave out a leading zero.
_CODES = "aAbBcdDeFgGhHIjmMnprRSTuUVwWxXyY"
_SHORT_CODES = "deHIjmMSUWy"
# Stands for a literal percent sign while the codes are replaced.
_PERCENT = "\ue000"

Turns = list[dict[str, str]]

# Names that templates give the switch of a model's thinking: Qwen3, SmolLM3, GLM and Gemma 4;
# Granite and DeepSeek; Command A.
SWITCHES = ("enable_thinking", "thinking", "reasoning")

# What a template reads besides the turns; {} = its defaults.
Variables = Mapping[str, bool]


def conversation(system: str) -> Turns:
    """A conversation with the placeholder as the user's words; no system turn if `system` is ""."""
    user = {"role": "user", "content": USER}
    return [{"role": "system", "content": system}, user] if system else [user]


def switch_of(backend: Any) -> str:
    """The variable that turns the model's thinking on and off; "" where the template reads none.

    Raises:
      InputError: as `render`.
    """
    for name in SWITCHES:
        for turns in (conversation(""), conversation(_SYSTEM)):
            off, on = (render(backend, turns, variables={name: value}) for value in (False, True))
            if off != on:
                return name
    return ""


class RefusedError(Exception):
    """A template does not write such turns; the message says what it does instead."""


def render(
    backend: Any, turns: Turns, *, variables: Variables, add_generation_prompt: bool = True
) -> str | None:
    """A conversation as the template writes it; None if the template refuses such turns.

    Raises:
      InputError: the template is not valid jinja, or fails.
    """
    try:
        return _render(backend, turns, variables, add_generation_prompt)
    except RefusedError:
        return None


def _render(backend: Any, turns: Turns, variables: Variables, add_generation_prompt: bool) -> str:
    """`render`, which raises `RefusedError` where the template refuses such turns."""
    try:
        template = backend.get_chat_template()
        if "strftime_now" in template:
            template = _fixed_clock() + template
        return backend.apply_chat_template(
            turns,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string=_DATE,
            **variables,
        )
    except jinja2.TemplateSyntaxError as error:
        raise InputError(
            "model", f"its chat template is not valid jinja ({error}); correct the template"
        ) from error
    except jinja2.TemplateError as error:
        raise RefusedError(f"it says {first_line(error)!r}") from error
    except Exception as error:
        # A template is a program: it can divide by zero or call what is not a function.
        raise InputError(
            "model", f"its chat template fails ({first_line(error)}); correct the template"
        ) from error


def _fixed_clock() -> str:
    """A jinja macro in place of transformers' `strftime_now`, which would give today's date.

    A function cannot be passed instead: transformers hands plain data alone to a template.
    """
    replacements = {"%%": _PERCENT}
    for code in _CODES:
        replacements[f"%{code}"] = _DAY.strftime(f"%{code}")
    for code in _SHORT_CODES:
        replacements[f"%-{code}"] = _DAY.strftime(f"%{code}").lstrip("0 ") or "0"
    replacements[_PERCENT] = "%"

    filters = "".join(f"|replace({code!r},{text!r})" for code, text in replacements.items())
    # The line's end belongs to the macro: jinja removes it, and the template begins its own line.
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}\n"


def around_user(backend: Any, system: str, *, variables: Variables) -> tuple[str, str] | None:
    """What the template writes before and after the user's words; None if it has no system role.

    Raises:
      InputError: the template does not write the user's words exactly once.
    """
    rendered = render(backend, conversation(system), variables=variables)
    if rendered is None or system not in rendered:
        return None
    return _split_at_user(rendered)


def around_user_alone(backend: Any, *, variables: Variables) -> tuple[str, str]:
    """`around_user` without a system turn.

    Raises:
      InputError: as in `around_user`; or the template refuses a user's turn, or writes a system
        turn of its own that cannot be left out.
    """
    try:
        rendered = _render(backend, conversation(""), variables, add_generation_prompt=True)
    except RefusedError as error:
        raise _refused(backend, error, variables=variables) from error
    before, after = _split_at_user(rendered)
    return _without_default_system(backend, before, variables=variables), after


def _refused(backend: Any, error: RefusedError, *, variables: Variables) -> InputError:
    """Why a template writes no prompt: for the way the model is told to think, or at all."""
    if variables and render(backend, conversation(""), variables={}) is not None:
        values = ", ".join(f"{name}={value}" for name, value in variables.items())
        return InputError(
            "thinking",
            f"the chat template refuses {values}: {error}; type --config.thinking=None",
        )
    return InputError(
        "model",
        f"its chat template writes the user's words 0 times: {error}; use a template that writes "
        "them once",
    )


def _split_at_user(rendered: str | None) -> tuple[str, str]:
    """What stands before and after the user's words."""
    pieces = [] if rendered is None else rendered.split(USER)
    if len(pieces) != 2:
        times = max(len(pieces) - 1, 0)
        raise InputError(
            "model",
            f"its chat template writes the user's words {times} times; "
            "use a template that writes them once",
        )
    return pieces[0], pieces[1]


class Written(NamedTuple):
    """A conversation as a template writes it, cut at the words of its turns.

    Attributes:
      before: what stands before the words of each turn, in the order of the prompt.
      order: whose words follow each of `before`: the turn's number, from 0.
      after: what follows the words of the last turn.
    """

    before: tuple[str, ...]
    order: tuple[int, ...]
    after: str


def around_turns(
    backend: Any, system: str | None, speakers: Sequence[str], *, variables: Variables
) -> Written:
    """What the template writes around the words of several turns.

    Args:
      backend: the tokenizer.
      system: the text of the system turn; in it, `placeholder` may stand for words. None = there is
        no system turn, and one that the template would write of its own is left out.
      speakers: "user" or "assistant" of each turn. The last is the user whom the reply answers.
      variables: of the template.

    Raises:
      RefusedError: the template does not write the words of every turn once, with the last turn's
        words last.
      InputError: as in `around_user_alone`.
    """
    turns = [
        {"role": speaker, "content": placeholder(number)} for number, speaker in enumerate(speakers)
    ]
    if system is not None:
        turns = [{"role": "system", "content": system}, *turns]
    rendered = _render(backend, turns, variables, add_generation_prompt=True)
    if system is None:
        rendered = _without_default_opening(backend, rendered, variables=variables)
    elif system not in rendered:
        raise RefusedError("it drops the system turn")

    pieces = _NUMBERED.split(rendered)
    order = tuple(int(number) for number in pieces[1::2])
    _check_order(order, speakers, system)
    return Written(tuple(pieces[0:-1:2]), order, pieces[-1])


def placeholder(number: int) -> str:
    """Stands for the words of a turn."""
    return f"{_TURN}{number:06d}"


def _check_order(order: Sequence[int], speakers: Sequence[str], system: str | None) -> None:
    """Raises RefusedError unless the words of all turns stand in a prompt once, the last at the
    end.
    """
    expected = set(range(len(speakers)))
    if system is not None:
        expected |= {int(number) for number in _NUMBERED.findall(system)}
    for number in sorted(expected):
        times = order.count(number)
        whose = "system" if number >= len(speakers) else f"{speakers[number]} (turn {number + 1})"
        if times != 1:
            raise RefusedError(f"it writes the words of the {whose} {times} times")
    if set(order) != expected or order[-1] != len(speakers) - 1:
        raise RefusedError("it puts other words behind the last turn")


def _without_default_opening(backend: Any, rendered: str, *, variables: Variables) -> str:
    """A conversation without the system turn that the template writes of its own."""
    written, _ = _split_at_user(render(backend, conversation(""), variables=variables))
    kept = _without_default_system(backend, written, variables=variables)
    if kept == written:
        return rendered

    header = _user_header(backend, variables=variables)
    opening = written.removesuffix(header)
    if not rendered.startswith(opening):
        raise RefusedError("it writes a system turn of its own, which cannot be left out")
    return kept.removesuffix(header) + rendered.removeprefix(opening)


def _without_default_system(backend: Any, before: str, *, variables: Variables) -> str:
    """`before`, without the system turn that some templates write where a conversation has none."""
    rendered = render(backend, conversation(_SYSTEM), variables=variables)
    if rendered is None or _SYSTEM not in rendered:
        # Without a system role there is no system turn.
        return before

    # What is also written in front of a given system text is the template's beginning.
    beginning, _, rest = rendered.partition(_SYSTEM)
    header = _user_header(backend, variables=variables)
    if header and before.endswith(header):
        has_default = not beginning.startswith(before.removesuffix(header))
    else:
        header = ""
        has_default = before.startswith(beginning) and before.endswith(rest.partition(USER)[0])
    if not has_default:
        return before
    if not header:
        raise InputError(
            "model",
            "its chat template writes a system turn of its own, which cannot be left out; give "
            "every role a system text, or correct the template",
        )
    bos = backend.bos_token or ""
    if bos and before.startswith(bos) and not header.startswith(bos):
        return bos + header
    return header


def _user_header(backend: Any, *, variables: Variables) -> str:
    """What opens a user turn that is not the first one; "" where that cannot be told."""
    first = {"role": "user", "content": _FIRST}
    reply = {"role": "assistant", "content": _REPLY}
    longer = render(backend, [first, reply, *conversation("")], variables=variables) or ""
    end_of_reply = after_reply(backend, variables=variables)
    if end_of_reply == longer.partition(USER)[2]:
        # The template starts a reply behind every turn, whether it is asked for one or not.
        return ""
    between = longer.partition(_REPLY)[2].partition(USER)[0]
    return between.removeprefix(end_of_reply)


def after_reply(backend: Any, *, variables: Variables) -> str:
    """What the template writes after an assistant's words."""
    turns = [{"role": "user", "content": USER}, {"role": "assistant", "content": _REPLY}]
    rendered = render(backend, turns, variables=variables, add_generation_prompt=False) or ""
    return rendered.partition(_REPLY)[2]
