"""Role prompts in a TOML file, and the checks that the words of every role pass."""

import difflib
import os
import pathlib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from ccpo_jax.errors import InputError, first_line
from ccpo_jax.fields import expand_home
from ccpo_jax.references import given_content
from ccpo_jax.rollout.prompts import RolePrompt
from ccpo_jax.stop_strings import check_stop_strings

# What the words ask of a reply, for the verifier.
FORMATS = ("marked", "unmarked", "evaluated")

# No words that a person wrote are longer, in bytes.
_LONGEST_FILE = 1_000_000

# Control characters but line feeds and tabs, and the tabs of \text, \times, \theta and \tfrac.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]|\t(?=(?:ext|imes|heta|frac)\b)")

_KEYS = ("system", "problem", "message", "closing", "stop")
_SLOTS = ("{problem}", "{message}")
# Any sender that the table of `message` does not name.
_OTHER = "other"


class Words(NamedTuple):
    """What a file of role prompts says.

    Attributes:
      roles: role -> its words.
      format: what they ask of a reply: some of `FORMATS`.
    """

    roles: Mapping[str, RolePrompt]
    format: tuple[str, ...] = ()


def read_words(path: str) -> Words:
    """Reads a file of role prompts.

    Args:
      path: ``~`` is the home folder.

    Raises:
      InputError: no such file, not TOML, or a key or value that has no meaning.
    """
    content = given_content(path)
    if content is None:
        content = _read(path)
    if len(content) > _LONGEST_FILE:
        raise InputError(
            "prompts",
            f"{path!r:.200} is larger than {_LONGEST_FILE} bytes; shorten it: a prompt is a few "
            "sentences",
        )
    try:
        return parse_words(_parse_toml(content))
    except InputError as error:
        message = str(error).removeprefix("prompts: ")
        raise InputError("prompts", f"{os.path.basename(path):.80}: {message}") from error


def _read(path: str) -> bytes:
    """The content of a file, or a byte more than is allowed."""
    file = pathlib.Path(expand_home(path))
    try:
        # Opening a pipe would wait for a writer.
        if not file.is_file():
            raise InputError("prompts", f"there is no file {path!r:.200}; type the path of one")
        with file.open("rb") as stream:
            return stream.read(_LONGEST_FILE + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(
            "prompts", f"cannot read {path!r:.200} ({reason}); type another"
        ) from error


def _parse_toml(content: bytes) -> dict[str, Any]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            "prompts", f"line {line} is not UTF-8; save the file with that encoding"
        ) from error
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        # Its message ends with line and column, but at the end of the document.
        end = f"at line {text.count(chr(10)) + 1}, the end"
        reason = first_line(error).replace("at end of document", end)
        raise InputError(
            "prompts",
            f"is not TOML: {reason}; a text of several lines stands between ''' and '''",
        ) from error


def parse_words(tree: Mapping[str, Any]) -> Words:
    """Role prompts from the tables of a file, or from nested dicts of a program.

    A key that a role leaves out is "", and its `problem` is ``{problem}`` alone.

    Raises:
      InputError: a key or value that has no meaning.

    Example:
      >>> parse_words({"voter": {"system": "Vote."}}).roles["voter"].problem
      '{problem}'
    """
    roles = {}
    formats: tuple[str, ...] = ()
    for name, value in tree.items():
        if name == "format":
            formats = _parse_format(value)
        elif isinstance(value, Mapping):
            roles[str(name)] = _parse_role(str(name), value)
        else:
            raise InputError(
                "prompts",
                f"{name!r:.80} is no key of the file; write a table such as [solver] for each role"
                f"{_hint(str(name), ('format',))}",
            )
    if not roles:
        raise InputError("prompts", "has no role; write a table such as [solver] for each")
    return Words(roles, formats)


def _parse_format(value: Any) -> tuple[str, ...]:
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list | tuple) or not entries:
        raise InputError("prompts", f"format is {value!r:.80}; use some of {', '.join(FORMATS)}")
    for entry in entries:
        if entry not in FORMATS:
            raise InputError(
                "prompts", f"format {entry!r:.80} is unknown; use some of {', '.join(FORMATS)}"
            )
    if {"marked", "unmarked"} <= set(entries):
        raise InputError("prompts", "format is both marked and unmarked; leave one out")
    return tuple(dict.fromkeys(entries))


def _parse_role(role: str, table: Mapping[str, Any]) -> RolePrompt:
    for key in table:
        if key not in _KEYS:
            raise InputError(
                "prompts",
                f"[{role:.80}] has no key {key!r:.80}; use {', '.join(_KEYS)}"
                f"{_hint(str(key), _KEYS)}",
            )
    stop = table.get("stop", ())
    if stop and set(table) == {"stop"}:
        raise InputError(
            "prompts",
            f"[{role:.80}] has stop and no words; write those too, or type --config.sample.stop, "
            "which is for every role",
        )
    message = table.get("message", "")
    if isinstance(message, Mapping):
        message = {"" if sender == _OTHER else str(sender): message[sender] for sender in message}
    words = RolePrompt(
        system=table.get("system", ""),
        problem=table.get("problem", "{problem}"),
        message=message,
        closing=table.get("closing", ""),
        stop=(stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, list) else stop,
    )
    check_words(words, role, field="prompts")
    return words


# --- checks ---------------------------------------------------------------------------------------


def check_words(words: Any, role: str, *, field: str) -> None:
    """Checks the words of one role by themselves.

    Args:
      words: a `RolePrompt`, it is hoped.
      role: its name, for errors.
      field: the one that errors name.

    Raises:
      InputError: another type, or a slot that is missing, stands twice or in another place.
    """
    if not isinstance(words, RolePrompt):
        raise InputError(
            field, f"[{role:.80}] is a {type(words).__name__}; give it as a RolePrompt(...)"
        )
    segments: dict[str, Any] = {
        "system": words.system,
        "problem": words.problem,
        "closing": words.closing,
    }
    if isinstance(words.message, Mapping):
        for sender, text in words.message.items():
            segments[f"message.{sender or _OTHER}"] = text
    else:
        segments["message"] = words.message

    for name, text in segments.items():
        if not isinstance(text, str):
            raise InputError(
                field,
                f"{name} of [{role:.80}] is {text!r:.80} ({type(text).__name__}); write a text in "
                "quotes",
            )
        _check_characters(name, text, role, field)
        _check_slots(name, text, role, field)
    _check_stop(words, role, field)


def _check_stop(words: RolePrompt, role: str, field: str) -> None:
    if not isinstance(words.stop, tuple):
        raise InputError(
            field,
            f"stop of [{role:.80}] is {words.stop!r:.80} ({type(words.stop).__name__}); write a "
            'list of texts, such as ["###"]',
        )
    check_stop_strings(words.stop, field, f"[{role:.80}] ")
    for stop in words.stop:
        # A line break of Windows is no command of LaTeX.
        _check_characters("stop", stop.replace("\r\n", "\n"), role, field)


def _check_characters(name: str, text: str, role: str, field: str) -> None:
    """Checks that no LaTeX command became a control character: in double quotes, backslash and b
    are one letter.
    """
    control = _CONTROL.search(text)
    if control:
        character = control[0][0]
        around = text[max(0, control.start() - 20) : control.end() + 20]
        raise InputError(
            field,
            f"{name} of [{role:.80}] has the control character {character!r}, in {around!r}; in "
            "double quotes a backslash begins one: write \\boxed{} in single quotes, or with two "
            "backslashes",
        )


def _check_slots(name: str, text: str, role: str, field: str) -> None:
    """Checks that a segment has its slot once, and no other."""
    kind = name.partition(".")[0]
    for slot in _SLOTS:
        times = text.count(slot)
        # A role that reads nobody has no words around a message.
        expected = slot == f"{{{kind}}}" and not (name == "message" and not text)
        if times == expected:
            continue
        if times and not expected:
            right = slot.strip("{}")
            advice = f"nothing is put in there; it belongs into {right}, leave it out of {kind}"
        else:
            advice = f"write it once, where the {kind} belongs"
        raise InputError(field, f"{name} of [{role:.80}] has {slot} {times} times; {advice}")


def check_readers(
    roles: Mapping[str, RolePrompt], readers: Mapping[str, Collection[str]], *, field: str
) -> None:
    """Checks that each role has words for every sender whose messages it reads.

    Args:
      roles: words of each role of the team.
      readers: role -> the senders that it reads, as keys of `RolePrompt.message`.
      field: the one that errors name.
    """
    for role, senders in readers.items():
        message = roles[role].message
        for sender in senders:
            served = message if isinstance(message, str) else message.get(sender, message.get(""))
            if not served:
                raise InputError(
                    field,
                    f"[{role:.80}] has no words for a message of {_sender(sender)}; write message "
                    "= '''...{message}...''', or a table with a text by sender",
                )


def check_own_roles(
    roles: Mapping[str, RolePrompt], readers: Mapping[str, Collection[str]], team: str
) -> None:
    """Checks that everything that a user wrote has an effect in the team.

    Args:
      roles: that the user wrote.
      readers: role -> the senders that it reads, of every role of the team.
      team: its name.

    Raises:
      InputError: a role that the team does not have, or a message that nobody sends.
    """
    for role, words in roles.items():
        if role not in readers:
            asked = "; agents rate each other with credit.name=sepo alone" * role.startswith("rate")
            raise InputError(
                "prompts",
                f"{team} has no role {role!r:.80}{asked}; its roles are {', '.join(readers)}"
                f"{_hint(role, readers)}",
            )
        senders = readers[role]
        if isinstance(words.message, str):
            if words.message and not senders:
                raise InputError(
                    "prompts", f"[{role:.80}] reads no message in {team}; leave message out"
                )
            continue
        for sender in words.message:
            if sender not in senders and (sender or not senders):
                known = ", ".join((*senders, _OTHER)) if senders else "nobody"
                raise InputError(
                    "prompts",
                    f"[{role:.80}] reads no message of {_sender(sender)} in {team}; it reads "
                    f"{known}{_hint(sender, senders)}",
                )


def _sender(sender: str) -> str:
    return f"{sender!r:.80}" if sender else "anybody"


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:80], list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
