"""Arguments of the experiments' command lines, checked where they are typed: a mistake is one line and status 2."""

import argparse


class Parser(argparse.ArgumentParser):
    """Complaints are one line."""

    def error(self, message: str):
        self.exit(2, f"error: {message}; see --help\n")


def seeds(text: str) -> tuple[int, ...]:
    """``0,1`` -> (0, 1): no number twice."""
    found = tuple(int(part) for part in text.split(","))
    if min(found) < 0 or len(set(found)) < len(found):
        raise ValueError(text)
    return found


def positive(text: str) -> int:
    """An integer from 1 on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"received {text!r}, use an integer from 1 on")
    return int(text)
