"""`python -m ccpo_jax` does what run.py does."""

from ccpo_jax.cli import start

if __name__ == "__main__":
    start()
