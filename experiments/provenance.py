"""Where a result comes from, and how a program that makes results is stopped."""

import subprocess


def commit() -> str:
    """The checked-out commit, with a plus where programs differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "-uno", ".", ":!experiments/results") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def stop(number, frame):
    """What Ctrl-C does, for SIGTERM."""
    del number, frame
    raise KeyboardInterrupt
