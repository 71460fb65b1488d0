"""The command line from a checkout: `python run.py --config=voting:tiny`; see `--help`."""

import sys

from ccpo_jax.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
