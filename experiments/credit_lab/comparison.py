"""Every estimator on one team: what is measured, and which estimators fit."""

import inspect
from typing import Any, NamedTuple

import numpy as np

from ccpo_jax.errors import InputError
from ccpo_jax.rl.credit import CREDITS, make_credit
from ccpo_jax.rl.types import CreditEstimator
from ccpo_jax.train.advantage import Advantage
from experiments.credit_lab.baselines import LEAVE_ONE_OUT, is_unbiased
from experiments.credit_lab.claims import CLAIMS, Claim, Verdict, check_claims
from experiments.credit_lab.evidence import Summary, cost_of_sample, gather, summarise
from experiments.credit_lab.sampled_truth import known_truth
from experiments.credit_lab.tabular import TabularTeam, Truth


class Replacement(NamedTuple):
    """The agent that was replaced in a team, and by what: a key of `tabular.REPLACEMENTS`."""

    agent: int = 0
    kind: str = "none"


class Effort(NamedTuple):
    """How much evidence a study gathers.

    Attributes:
      samples: G of an estimator that decodes the team's own answers alone; others get as many
        samples as cost the same.
      replicates: groups per prompt and estimator.
      draws: bootstrap replicates.
      over: what the bootstrap resamples, see `evidence.summarise`.
      advantage: the baseline.
      seed: decides everything drawn.
    """

    samples: int = 12
    replicates: int = 200
    draws: int = 200
    over: str = "replicates"
    advantage: Advantage = LEAVE_ONE_OUT
    seed: int = 0


_NOBODY = Replacement()
_USUAL = Effort()


class Study(NamedTuple):
    """All estimators on one team.

    Attributes:
      title: of the team.
      replacement: the agent that was replaced.
      team: the team.
      known: its true contributions and advantages.
      summaries: label of an estimator -> its figures.
      verdicts: the claims that were checked.
    """

    title: str
    replacement: Replacement
    team: TabularTeam
    known: Truth
    summaries: dict[str, Summary]
    verdicts: list[Verdict]


def study(
    title: str,
    team: TabularTeam,
    estimators: dict[str, CreditEstimator],
    *,
    replacement: Replacement = _NOBODY,
    effort: Effort = _USUAL,
    claims: dict[str, Claim] = CLAIMS,
) -> Study:
    """Compares estimators at an equal number of decoded tokens.

    Args:
      title: of the team.
      team: a team of tables on a set of prompts.
      estimators: label -> estimator; the part of a label before any colon is a key of `claims`.
      replacement: the agent that was replaced in `team`.
      effort: how much evidence to gather.
      claims: what the estimators are held to.

    Raises:
      InputError: `agents`, if the truth can be neither enumerated nor sampled.
    """
    known = known_truth(team, seed=effort.seed)
    budget = effort.samples * cost_of_sample(team, make_credit("shared", team.topology))

    summaries: dict[str, Summary] = {}
    verdicts: list[Verdict] = []
    for index, (label, estimator) in enumerate(estimators.items()):
        group = max(2, int(budget / cost_of_sample(team, estimator) + 1e-9))
        rng = np.random.default_rng([effort.seed, index])
        evidence = gather(
            team,
            known,
            estimator,
            rng,
            group=group,
            replicates=effort.replicates,
            advantage=effort.advantage,
        )
        summary = summarise(evidence, known, rng, draws=effort.draws, over=effort.over)
        summaries[label] = summary
        verdicts += check_claims(
            label,
            claims[label.partition(":")[0]],
            known,
            summary,
            team.topology.ablated,
            changed=replacement.agent,
            how=replacement.kind,
            unbiased=is_unbiased(effort.advantage),
        )

    _add_efficiency(summaries)
    return Study(title, replacement, team, known, summaries, verdicts)


def _add_efficiency(summaries: dict[str, Summary]) -> None:
    """Adds the signal per decoded token, relative to `shared`."""
    if "shared" not in summaries:
        return
    shared = summaries["shared"]
    base = shared.figures["team", "snr"] / shared.cost
    for summary in summaries.values():
        # A figure that is not finite stays so.
        with np.errstate(all="ignore"):
            ratio = summary.figures["team", "snr"] / summary.cost / base
        summary.figures["team", "efficiency"] = ratio


def parse_estimators(text: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """``shared,nested:answers=2`` -> label -> (name, hyper-parameters); "" = every estimator with
    its defaults.

    Raises:
      InputError: unknown name or hyper-parameter, or a value that is not a number.
    """
    labels = [label.strip() for label in text.split(",")] if text else list(CREDITS)
    asked = {}
    for label in labels:
        name, *settings = label.split(":")
        if name not in CREDITS:
            message = f"{name!r:.80} is unknown; use some of {','.join(CREDITS)}"
            raise InputError("estimators", message)
        asked[label] = name, _hyper_parameters(label, name, settings)
    return asked


def _hyper_parameters(label: str, name: str, settings: list[str]) -> dict[str, Any]:
    # The first parameter of a constructor is the topology.
    known = list(inspect.signature(CREDITS[name]).parameters)[1:]
    hyper: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in known:
            message = f"{name!r} has no {key!r:.80}; use {', '.join(known) or 'none'}"
            raise InputError("estimators", message)
        try:
            hyper[key] = int(value) if value.isdecimal() else float(value)
        except ValueError:
            message = f"{key} is not a number in {label!r:.80}; type {name}:{key}=2"
            raise InputError("estimators", message) from None
    return hyper


def fitting(
    asked: dict[str, tuple[str, dict[str, Any]]], team: TabularTeam, *, strict: bool
) -> tuple[dict[str, CreditEstimator], dict[str, str]]:
    """The estimators that fit a team.

    Returns:
      ``(label -> estimator, label -> why it is left out)``.

    Raises:
      InputError: `strict`, and an estimator does not fit the team.
    """
    estimators = {}
    left_out = {}
    for label, (name, hyper) in asked.items():
        try:
            estimator = make_credit(name, team.topology, **hyper)
            if estimator.needs.ratings and team.raters is None:
                message = f"{name!r} needs ratings, and nobody rates here; use --team=tabular_dyad"
                raise InputError("estimators", message)
            estimators[label] = estimator
        except ValueError as error:
            if strict:
                raise
            left_out[label] = str(error).partition(": ")[2].partition(";")[0]
    return estimators, left_out
