"""What each estimator claims, and the check of it. Every estimator needs a line in CLAIMS."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from experiments.credit_lab.evidence import METRICS, Summary
from experiments.credit_lab.tabular import Truth

# A claim is refuted when it is missed by this many bootstrap deviations. A report checks dozens of
# claims, so fewer would refute true ones.
_DEVIATIONS = 4.0

# An agent with a contribution below this one harms its team.
_HARM = -0.01


class Claim(NamedTuple):
    """What an estimator claims about its credit; `check_claims` tests it.

    Attributes:
      reason: one line that explains the claim.
      contribution: for every agent that training masks, the mean credit is the true contribution.
      silent: an agent that says nothing, and whose absence changes nothing, gets 0.
      saboteur: an agent without which the team does better gets less than 0.
      gradient: what the gradient is with an unbiased baseline: "exact", that of E[R];
        "direction", that of E[R] times a factor per agent; None, neither.
    """

    reason: str
    contribution: bool = False
    silent: bool = False
    saboteur: bool = False
    gradient: Literal["exact", "direction"] | None = None


class Verdict(NamedTuple):
    """One tested claim.

    Attributes:
      claim: name of the field of `Claim`.
      holds: whether the figures agree with it.
      text: the figure, its interval and what was claimed.
    """

    claim: str
    holds: bool
    text: str


def check_claims(
    label: str,
    claim: Claim,
    known: Truth,
    found: Summary,
    masked: Sequence[int],
    *,
    changed: int,
    how: str,
    unbiased: bool,
) -> list[Verdict]:
    """Tests every claim that this team can test, with intervals of 4 deviations to each side.

    Args:
      label: name of the estimator in the report.
      claim: what it claims.
      known: the enumerated truth.
      found: the measured figures.
      masked: agents that training masks.
      changed: the agent that was replaced.
      how: by what, one of REPLACEMENTS.
      unbiased: the baseline leaves the expected gradient as it is; else it is not tested.
    """

    def verdict(what: str, agent: int, metric: str, wanted: str, target: float = 0.0) -> Verdict:
        value, low, high = found.interval(agent, metric, _DEVIATIONS)
        # Figures are computed in float32.
        slack = 1e-6 * max(1.0, abs(value))
        holds = high < 0 if wanted == "below 0" else low - slack <= target <= high + slack
        figure = f"{METRICS[metric][0]} of agent {agent} is {value:.4f} [{low:.4f}, {high:.4f}]"
        return Verdict(what, bool(holds), f"{label}: {figure}, not {wanted}")

    verdicts = []
    if claim.contribution:
        verdicts += [verdict("contribution", agent, "credit_bias", "0") for agent in masked]

    # An agent that is never masked is paid the team's reward, so nothing is claimed about it.
    if changed in masked or not claim.contribution:
        contribution = known.contribution[changed]
        changes_nothing = np.abs(contribution).max() < 1e-9
        if how == "silent" and claim.silent and changes_nothing:
            verdicts.append(verdict("silent", changed, "credit", "0"))
        if how == "misleading" and claim.saboteur and _surely_harms(known, changed):
            verdicts.append(verdict("saboteur", changed, "credit", "below 0"))

    if claim.gradient is None or not unbiased:
        return verdicts
    for agent in range(len(known.contribution)):
        # An agent that always says the same has no gradient.
        if not np.isfinite(found.figures[agent, "scale"][0]):
            continue
        verdicts.append(verdict("gradient", agent, "bias", "0"))
        if claim.gradient == "exact":
            verdicts.append(verdict("gradient", agent, "scale", "1", 1.0))
    return verdicts


def _surely_harms(known: Truth, agent: int) -> bool:
    """Whether the true contribution is below -0.01, whatever the error of a sampled truth."""
    mean = known.contribution[agent].mean()
    if known.contributions is None:
        return mean < _HARM
    estimates = known.contributions[:, agent].mean(axis=-1)
    error = estimates.std(ddof=1) / np.sqrt(len(estimates))
    return mean + _DEVIATIONS * error < _HARM


CLAIMS = {
    "shared": Claim(
        "every agent is paid the team's reward, whoever earned it",
        gradient="exact",
    ),
    "magrpo": Claim(
        "the shared reward with another baseline",
        gradient="exact",
    ),
    "individual": Claim(
        "own score: silence is never right, and harm costs nothing",
        silent=True,
    ),
    "ccpo": Claim(
        "standardised: 0 is the average contribution of the past, not no contribution",
    ),
    "ccpo_event": Claim(
        "the team's reward in [-1, 1], and a bonus that re-weights prompts",
    ),
    "sepo": Claim(
        "the team's reward, tilted by ratings that are as true as the raters",
    ),
    "difference": Claim(
        "the contribution itself: what the team loses without the agent",
        contribution=True,
        silent=True,
        saboteur=True,
        gradient="exact",
    ),
    "agent_norm": Claim(
        "standardised per agent: every agent's mean is 0",
        gradient="direction",
    ),
    "cross_play": Claim(
        "the contribution, averaged over all teams that the group can form",
        contribution=True,
        silent=True,
        saboteur=True,
        gradient="exact",
    ),
    "shapley": Claim(
        "0 for an agent that changes no coalition, less than 0 for one that harms all it joins",
        silent=True,
        saboteur=True,
    ),
    "nested": Claim(
        "an advantage within each prompt: every agent's mean is 0",
        gradient="exact",
    ),
    "pooled": Claim(
        "an advantage divided by the prompt's deviation, which re-weights prompts",
    ),
    "cross_read": Claim(
        "an advantage within each prompt, of weights that are divided by their sum",
    ),
}
