"""`python -m ccpo_jax` and `ccpo-jax` do what run.py does."""

import contextlib
import os
import sys

from ccpo_jax.extras import MissingExtraError, install_hint, missing_packages, train_extra

# An exit status above it is that of a process that a signal ended.
_SIGNALLED = 128


def main() -> int:
    """Runs this process's command line and returns its exit status.

    One that a signal ended does not return.
    """
    try:
        with train_extra():
            from ccpo_jax import cli
    except MissingExtraError:
        # All of them at once, not only the first.
        print(f"error: {install_hint(missing_packages())}", file=sys.stderr)
        return 2
    try:
        status = cli.main()
    except SystemExit as ended:
        if isinstance(ended.code, int) and ended.code > _SIGNALLED:
            _leave(ended.code)
        raise
    if status > _SIGNALLED:
        _leave(status)
    return status


def _leave(status: int) -> None:
    """Ends the process without Python's shutdown, in which compiled code that still runs in a
    thread of its own would crash. Everything that was open is closed by now.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
