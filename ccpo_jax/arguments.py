"""Command-line arguments: their parser, and the types that several commands share."""

import argparse
import pathlib
import sys
from typing import NoReturn

from ccpo_jax.fields import expand_home


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line and exits with status 2."""

    def error(self, message: str) -> NoReturn:
        """Exits with the message."""
        self.exit(2, f"error: {message}; see --help\n")


def program_name() -> str:
    """What was typed to start the program."""
    started = {"run.py": "python run.py", "__main__.py": "python -m ccpo_jax"}
    return started.get(pathlib.Path(sys.argv[0]).name, "ccpo-jax")


def path(text: str) -> pathlib.Path:
    """A path, with the home folder in place of ``~``."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; type a path")
    return pathlib.Path(expand_home(text))


def positive(text: str) -> int:
    """A positive integer.

    Example:
      >>> positive("8")
      8
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"received {text!r}, use a positive integer")
    return int(text)


def seeds(text: str) -> tuple[int, ...]:
    """Distinct seeds, separated by commas.

    Example:
      >>> seeds("0,1")
      (0, 1)
    """
    numbers = [part.strip() for part in text.split(",")]
    values = tuple(int(number) for number in numbers if number.isdecimal())
    if len(values) < len(numbers) or len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"received {text!r}, use distinct seeds such as 0,1,2")
    return values
