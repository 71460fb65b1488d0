"""What estimators claim, and the check. Every estimator needs a line in CLAIMS."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.credit_lab.evidence import METRICS, Summary
from experiments.credit_lab.tabular import Truth

_DEVIATIONS = (
    4.0  # of the bootstrap, by which a claim has to be missed: a report looks at dozens of them
)
_HARM = -0.01  # contribution from which on an agent counts as a saboteur


class Claim(NamedTuple):
    """What an estimator says of itself, and `check_claims` holds it to."""

    contribution: (
        bool  # its mean credit is the true contribution of every agent that training masks
    )
    silent: bool  # an agent that says nothing, and whose absence changes nothing, gets 0
    saboteur: bool  # an agent without which the team is better off gets less than 0
    gradient: str  # with leave-one-out baselines: "exact", that of E[R]; "direction", times a factor per agent; "", not
    reason: str


class Verdict(NamedTuple):
    """A claim, and whether the figures leave it standing."""

    claim: str
    holds: bool
    text: str


def check_claims(label: str, claim: Claim, known: Truth, found: Summary, masked: Sequence[int], *, changed: int,
                 how: str, advantage: str) -> list[Verdict]:  # fmt: skip
    """Looks at every claim that can be looked at on this team; an interval is 4 deviations wide to
    each side.

    Args:
      label: of the estimator.
      claim: what it says.
      known: what is true.
      found: what it did.
      masked: agents that training masks.
      changed: which agent was replaced.
      how: by what, one of REPLACEMENTS.
      advantage: with "trained" gradients are not looked at.
    """

    def look(what: str, agent: int, metric: str, wanted: str, target: float = 0.0) -> Verdict:
        value, low, high = found.interval(agent, metric, _DEVIATIONS)
        slack = 1e-6 * max(1.0, abs(value))  # float32
        holds = high < 0 if wanted == "below 0" else low - slack <= target <= high + slack
        told = f"{label}: {METRICS[metric][0]} of agent {agent} is {value:.4f} [{low:.4f}, {high:.4f}], not {wanted}"
        return Verdict(what, bool(holds), told)

    verdicts = []
    if claim.contribution:
        verdicts += [look("contribution", k, "credit_bias", "0") for k in masked]
    if (
        changed in masked or not claim.contribution
    ):  # who cannot be masked is paid the team's reward
        if how == "silent" and claim.silent and np.abs(known.contribution[changed]).max() < 1e-9:
            verdicts.append(look("silent", changed, "credit", "0"))
        if how == "misleading" and claim.saboteur and known.contribution[changed].mean() < _HARM:
            verdicts.append(look("saboteur", changed, "credit", "below 0"))
    if claim.gradient and advantage != "trained":
        for k in range(len(known.contribution)):
            if np.isfinite(
                found.figures[k, "scale"][0]
            ):  # who always says the same has no gradient
                verdicts.append(look("gradient", k, "bias", "0"))
                if claim.gradient == "exact":
                    verdicts.append(look("gradient", k, "scale", "1", 1.0))
    return verdicts


CLAIMS = {
    "shared": Claim(
        False, False, False, "exact", "everyone is paid the team's reward, whoever brought it about"
    ),
    "magrpo": Claim(False, False, False, "exact", "the shared reward; it has but another baseline"),
    "individual": Claim(
        False, True, False, "", "own correctness: silence is never right, and harm costs nothing"
    ),
    "ccpo": Claim(
        False, False, False, "", "standardised: 0 is the average contribution of the past, not none"
    ),
    "ccpo_event": Claim(
        False, False, False, "", "the team's reward in {-1, 1}, and a bonus that re-weights prompts"
    ),
    "sepo": Claim(
        False,
        False,
        False,
        "",
        "the team's reward, tilted by ratings that are as true as the raters",
    ),
    "difference": Claim(
        True, True, True, "exact", "the contribution itself: what is missing without an agent"
    ),
    "agent_norm": Claim(
        False, False, False, "direction", "standardised per agent: everyone's mean is 0"
    ),
    "cross_play": Claim(
        True, True, True, "exact", "the contribution, averaged over all teams the group can form"
    ),
    "shapley": Claim(
        False,
        True,
        True,
        "",
        "0 for who changes no team, less for who harms all it joins; else another",
    ),
    "nested": Claim(
        False, False, False, "exact", "an advantage within each prompt: everyone's mean is 0"
    ),
    "pooled": Claim(
        False,
        False,
        False,
        "",
        "an advantage divided by the prompt's deviation, which re-weights prompts",
    ),
}
