"""`python -m ccpo_jax` does what run.py does."""

import sys

from ccpo_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
