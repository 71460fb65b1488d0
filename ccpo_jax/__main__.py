"""`python -m ccpo_jax` and `ccpo-jax` do what run.py does."""

import sys

from ccpo_jax.extras import MissingExtraError, install_hint, missing_packages, train_extra


def main() -> int:
    """Runs this process's command line and returns its exit status."""
    try:
        with train_extra():
            from ccpo_jax import cli
    except MissingExtraError:
        # All of them at once, not only the first.
        print(f"error: {install_hint(missing_packages())}", file=sys.stderr)
        return 2
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
