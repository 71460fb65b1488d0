"""Verdicts on answers: what a text answers, whether that is right, and which answers agree.

One file per verifier (`math`, `choice`, `exact`); `registry` names them. `verify` checks the texts
of one problem in this process; `VerifierPool` checks many problems in worker processes, with a time
limit for each answer. A worker imports this package, so it must load neither jax nor numpy:
`Grader`, which needs both, is imported by its full name, `ccpo_jax.verifiers.grader`.
"""

from ccpo_jax.extras import train_extra

with train_extra():
    from ccpo_jax.verifiers.job import verify
    from ccpo_jax.verifiers.pool import VerifierPool
    from ccpo_jax.verifiers.registry import VERIFIERS, check_gold, get_verifier
    from ccpo_jax.verifiers.reward import needs_gold
    from ccpo_jax.verifiers.types import FAILURES, Context, Graded, Item, Verifier

__all__ = [
    "FAILURES",
    "VERIFIERS",
    "Context",
    "Graded",
    "Item",
    "Verifier",
    "VerifierPool",
    "check_gold",
    "get_verifier",
    "needs_gold",
    "verify",
]
