"""`python run.py --config=configs/voting.py[:preset] [--workdir=DIR] [--mode=train|eval|sample|export]`."""

from ccpo_jax.cli import start

if __name__ == "__main__":
    start()
