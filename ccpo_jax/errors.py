"""Errors that name the field at fault, and text that is safe to print."""

import contextlib


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


@contextlib.contextmanager
def as_input_error():
    """Marks complaints of the checks at the border as the user's to mend; errors elsewhere keep their traceback."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, InputError) and escape_control(str(error)) == str(error):
            raise
        field, _, message = escape_control(" ".join(str(error).split())).partition(": ")
        raise InputError(field, message) from error
    except OSError as error:  # a name no file can have, a file nobody may read
        raise InputError(
            escape_control(f"{str(error.filename):.200}"), f"{error.strerror}; type another name"
        ) from error


def first_line(error: BaseException, limit: int = 200) -> str:
    r"""The first line of an error's message, or the name of its type where the message is empty.

    Example:
      >>> first_line(ValueError("no such file\nmore")), first_line(KeyError())
      ('no such file', 'KeyError')
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:limit]


def escape_control(text: str) -> str:
    r"""Text that a terminal shows and does not obey: control characters and direction marks as their escapes.

    Example:
      >>> escape_control("wipe \x1b[2J, turn \u202e")
      'wipe \\x1b[2J, turn \\u202e'
    """
    return "".join(
        letter
        if letter.isprintable() or letter in "\n\t"
        else letter.encode("unicode_escape").decode()
        for letter in text
    )
