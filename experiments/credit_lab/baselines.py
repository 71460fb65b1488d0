"""What the laboratory subtracts from credit: any baseline of a run, by the same names."""

import dataclasses
import functools
import sys
from collections.abc import Callable

import jax

from ccpo_jax.config import BASELINES, FORMER_BASELINES
from ccpo_jax.errors import InputError
from ccpo_jax.rl.pools import POOLS
from ccpo_jax.rl.types import CreditEstimator
from ccpo_jax.train.advantage import Advantage

LEAVE_ONE_OUT = Advantage("leave_one_out")

# The laboratory's own former names, beside those of the configuration.
_FORMER = {**FORMER_BASELINES, "trained": "group"}

# Their means hold the sample itself, so that the expected gradient is another.
_BIASED = ("group", "asymmetric")

_WITH_DELTA = ("constant", "asymmetric")
_WITH_POOL = ("opo", "optimal")


def parse_baseline(text: str) -> Advantage:
    """A baseline as it is typed: its name, and any settings after colons.

    Args:
      text: such as ``leave_one_out``, ``constant:delta=0.2`` or ``optimal:pool=others``. Former
        names are read, with a note.

    Raises:
      InputError: `advantage`, if a name or value is unknown, or a setting has no effect.

    Example:
      >>> parse_baseline("optimal:pool=others").pool
      'others'
    """
    name, *settings = text.split(":")
    if name in _FORMER:
        print(f"note: --advantage={name} is now called {_FORMER[name]}", file=sys.stderr)
        name = _FORMER[name]
    if name not in BASELINES:
        message = f"{name!r:.80} is unknown; use one of {', '.join(BASELINES)}"
        raise InputError("advantage", message)

    rule = Advantage(name)
    for setting in settings:
        key, _, value = setting.partition("=")
        if key == "delta" and name in _WITH_DELTA:
            rule = dataclasses.replace(rule, delta=_number(value, text))
        elif key == "pool" and name in _WITH_POOL:
            if value not in POOLS:
                message = f"pool {value!r:.80} is unknown; use one of {', '.join(POOLS)}"
                raise InputError("advantage", message)
            rule = dataclasses.replace(rule, pool=value)
        else:
            message = (
                f"{name} has no setting {key!r:.80} here; {' and '.join(_WITH_DELTA)} have delta, "
                f"{' and '.join(_WITH_POOL)} have pool"
            )
            raise InputError("advantage", message)
    return rule


def _number(value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError:
        message = f"delta is not a number in {text!r:.80}; type constant:delta=0.1"
        raise InputError("advantage", message) from None


def compares_prompts(rule: Advantage) -> bool:
    """Whether a sample is compared with those of other prompts."""
    return rule.baseline in ("batch_mean", "weighted") or (
        rule.baseline in _WITH_POOL and rule.pool == "others"
    )


def is_unbiased(rule: Advantage) -> bool:
    """Whether the baseline leaves the expected gradient as it is."""
    return rule.baseline not in _BIASED


def centring(rule: Advantage, estimator: CreditEstimator, prompts: int) -> Callable:
    """The function of credit and weights that gives advantages; all are ``[A, B * R, G]``.

    Samples of different prompts are compared within their replicate.

    Args:
      rule: the baseline. `group` divides by the deviation where training does so with this
        estimator.
      estimator: one with a baseline of its own keeps its credit as it is.
      prompts: B.
    """
    if estimator.baseline.kind == "none":
        return lambda credit, _: credit
    rule = dataclasses.replace(rule, normalize_std=estimator.baseline.normalize_std)

    def centre(credit, weight):
        by_prompt = (len(credit), prompts, -1, credit.shape[-1])
        split = functools.partial(jax.tree.map, lambda values: values.reshape(by_prompt))
        advantages = jax.vmap(rule, in_axes=2, out_axes=2)(split(credit), split(weight))
        return advantages.reshape(credit.shape)

    return centre
