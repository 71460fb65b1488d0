"""Errors that name the field at fault, and text that is safe to print."""

import contextlib
from collections.abc import Iterator


class InputError(ValueError):
    """A mistake in the user's input, as one line.

    Args:
      field: dotted name of the configuration field or argument at fault.
      message: what was received and what to type instead.

    Example:
      >>> error = InputError("group_size", "must be at least 2, received 1")
      >>> error.field, str(error)
      ('group_size', 'group_size: must be at least 2, received 1')
    """

    def __init__(self, field: str, message: str):
        super().__init__(f"{field}: {message}")
        self.field = field


class RewardError(RuntimeError):
    """A reward function of the user's failed; one line."""


@contextlib.contextmanager
def as_input_error() -> Iterator[None]:
    """Turns a ValueError or OSError of the checks at the border into an `InputError`.

    The message is made one line that is safe to print. Errors elsewhere keep their traceback: use
    this around code that reads what the user typed, and nothing else.

    Raises:
      InputError: its field is the text before the first colon, or the file that failed.
    """
    try:
        yield
    except InputError as error:
        if escape_control(str(error)) == str(error):
            raise
        raise _one_line(error) from error
    except ValueError as error:
        raise _one_line(error) from error
    except OSError as error:
        # A name that no file can have, a file that may not be read, a full disk.
        file = "a file" if error.filename is None else f"{error.filename!s:.200}"
        reason = error.strerror or first_line(error)
        raise InputError(
            escape_control(file), f"{escape_control(reason)}; mend that, or type another name"
        ) from error


def _one_line(error: ValueError) -> InputError:
    field, _, message = escape_control(" ".join(str(error).split())).partition(": ")
    return InputError(field, message)


def first_line(error: BaseException, limit: int = 200) -> str:
    r"""The first line of an error's message, or the name of its type where the message is empty.

    Example:
      >>> first_line(ValueError("no such file\nmore")), first_line(KeyError())
      ('no such file', 'KeyError')
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:limit]


def escape_control(text: str) -> str:
    r"""Escapes control characters and direction marks, which a terminal would obey.

    Example:
      >>> escape_control("wipe \x1b[2J, turn \u202e")
      'wipe \\x1b[2J, turn \\u202e'
    """
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()
