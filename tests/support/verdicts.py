"""A verdict on one text, in this process."""

from ccpo_jax.verifiers import verify


def is_correct(verifier: str, gold: str, text: str) -> bool:
    return verify(verifier, gold, [text]).correct[0]
