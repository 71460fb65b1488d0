"""Every estimator on one team: what is measured, and which estimators fit."""

import inspect
from typing import NamedTuple

import numpy as np

from ccpo_jax.rl.credit import CREDITS, make_credit
from ccpo_jax.rl.types import CreditEstimator
from experiments.credit_lab.claims import CLAIMS, Claim, Verdict, check_claims
from experiments.credit_lab.evidence import Summary, cost_of_sample, gather, summarise
from experiments.credit_lab.tabular import (
    TabularTeam,
    Truth,
    truth,
)


class Study(NamedTuple):
    """Everything about one team."""

    title: str
    changed: int  # which agent was replaced
    how: str  # by what, one of REPLACEMENTS
    team: TabularTeam
    known: Truth
    found: dict[str, Summary]  # label of an estimator -> figures
    verdicts: list[Verdict]


def study(
    title: str, team: TabularTeam, estimators: dict[str, CreditEstimator], *, changed: int = 0, how: str = "none",
    samples: int = 12, replicates: int = 200, seed: int = 0, draws: int = 200, over: str = "replicates",
    advantage: str = "leave_one_out", claims: dict[str, Claim] = CLAIMS,
) -> Study:  # fmt: skip
    """Compares estimators, each with as many samples as cost what `samples` of the bare team cost.

    Args:
      title: of the team.
      team: who speaks; on this set of prompts.
      estimators: label -> estimator; the part of a label before any colon is a key of `claims`.
      changed: which agent was replaced.
      how: by what.
      samples: G of an estimator that decodes nothing but the team's own answers.
      replicates: groups per prompt and estimator.
      seed: decides everything drawn.
      draws: bootstrap replicates.
      over: see `summarise`.
      advantage: see `centring`.
      claims: what the estimators are held to.
    """
    known, found, verdicts = truth(team), {}, []
    budget = samples * cost_of_sample(team, make_credit("shared", team.topology))
    for index, (label, estimator) in enumerate(estimators.items()):
        group = max(2, int(budget / cost_of_sample(team, estimator) + 1e-9))
        rng = np.random.default_rng([seed, index])
        evidence = gather(
            team, known, estimator, rng, group=group, replicates=replicates, advantage=advantage
        )
        found[label] = summarise(evidence, known, rng, draws=draws, over=over)
        verdicts += check_claims(label, claims[label.partition(":")[0]], known, found[label], team.topology.ablated,
                                 changed=changed, how=how, advantage=advantage)  # fmt: skip
    if "shared" in found:
        base = found["shared"].figures["team", "snr"] / found["shared"].cost
        for summary in found.values():
            with np.errstate(all="ignore"):
                summary.figures["team", "efficiency"] = (
                    summary.figures["team", "snr"] / summary.cost / base
                )
    return Study(title, changed, how, team, known, found, verdicts)


def parse_estimators(text: str) -> dict[str, tuple[str, dict]]:
    """``shared,nested:answers=2`` -> label -> (name, hyper-parameters); "" = all of CREDITS as they are.

    Raises:
      ValueError: if a name or a hyper-parameter is unknown or no number.
    """
    found = {}
    for label in (part.strip() for part in text.split(",")) if text else CREDITS:
        name, *settings = label.split(":")
        if name not in CREDITS:
            raise ValueError(
                f"estimators: {name!r:.80} is unknown; use some of {','.join(CREDITS)}"
            )
        known, hyper = list(inspect.signature(CREDITS[name]).parameters)[1:], {}
        for setting in settings:
            key, _, value = setting.partition("=")
            if key not in known:
                raise ValueError(
                    f"estimators: {name!r} has no {key!r:.80}; use {', '.join(known) or 'none'}"
                )
            try:
                hyper[key] = int(value) if value.isdecimal() else float(value)
            except ValueError:
                raise ValueError(
                    f"estimators: {key} is no number in {label!r:.80}; type {name}:{key}=2"
                ) from None
        found[label] = name, hyper
    return found


def fitting(
    asked: dict[str, tuple[str, dict]], team: TabularTeam, *, strict: bool
) -> tuple[dict, dict[str, str]]:
    """(label -> estimator, label -> why it is left out).

    Raises:
      ValueError: if `strict` and an estimator does not fit the team.
    """
    fit, left_out = {}, {}
    for label, (name, hyper) in asked.items():
        try:
            estimator = make_credit(name, team.topology, **hyper)
            if estimator.needs.ratings and team.raters is None:
                raise ValueError(
                    f"estimators: {name!r} needs ratings, and nobody rates here; use --team=tabular_dyad"
                )
            fit[label] = estimator
        except ValueError as error:
            if strict:
                raise
            left_out[label] = str(error).partition(": ")[2].partition(";")[0]
    return fit, left_out
