"""What a resumed run says of something that has changed since it was started."""

import sys

from ccpo_jax.devices.distributed import print_main
from ccpo_jax.errors import InputError


def report_change(
    field: str, change: str, new: str, *, allow_changes: bool, remedy: str = ""
) -> None:
    """Refuses a change, or notes it where changes are allowed.

    Args:
      field: the one that errors name.
      change: what has changed, a sentence without its end.
      new: what the run then goes on with, such as "the new version".
      allow_changes: True: the change is a note and no error.
      remedy: what to do instead, with a comma behind it, such as "restore it, ".

    Raises:
      InputError: changes are not allowed.
    """
    if not allow_changes:
        raise InputError(
            field,
            f"{change}; {remedy}type --config.allow_changes=True to go on with {new}, or another "
            "--workdir",
        )
    print_main(f"note: {change}; the run goes on with {new}", file=sys.stderr)
