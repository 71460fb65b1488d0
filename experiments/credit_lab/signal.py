"""Signal per decoded token against the number of voters, predicted and measured.

    python -m experiments.credit_lab.signal --out=experiments/credit_lab/results/signal

*Signal* is the power of the expected gradient along that of E[R], divided by the gradient's
variance, per decoded token; `shared` = 1. Teams are random tables of equally able voters, once with
parameters for each voter, once with one shared policy.

The prediction is that of two equally likely answers and an odd number N of voters, without anything
fitted. A voter matters only where the N - 1 others tie, which they do with the chance

    T = C(N - 1, (N - 1) / 2) / 2^(N - 1),  about sqrt(2 / (pi N)).

The variance that the team's reward brings into a voter's gradient is Var(R) = 1/4. The contribution
is 1/2 in size where the others tie and 0 elsewhere, so its mean square is T / 4; averaged over many
teams it is T / 2 in size, and its mean square is T^2 / 4:

    signal of `difference` = 1 / T, like sqrt(N);    signal of `cross_play` = 1 / T^2, like N.

With one shared policy no such prediction is made: the contributions of all voters then belong to the
same parameters, and they are not independent.
"""

import argparse
import csv
import datetime
import math
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ccpo_jax.arguments import Parser
from ccpo_jax.errors import InputError
from ccpo_jax.rl.credit import make_credit
from ccpo_jax.rl.topology import voting
from experiments.credit_lab.comparison import parse_estimators
from experiments.credit_lab.evidence import gather, gradient_of_team
from experiments.credit_lab.lab_report import table
from experiments.credit_lab.sampled_truth import known_truth
from experiments.credit_lab.tabular import TabularTeam, random_team
from experiments.line_figure import DEFAULT_STYLES, line_figure, line_with_intervals
from experiments.provenance import commit

_ESTIMATORS = "shared,difference,cross_play:pairings=64,individual,shapley:orders=16"
_POLICIES = ("separate", "one")
_MOST_AGENTS = 64
_PREDICTED_DASHES = "3 2"


class Point(NamedTuple):
    """One estimator on one team, a line of signal.csv; low and high bound 95 % intervals."""

    agents: int
    policies: str
    estimator: str
    signal: float
    signal_low: float
    signal_high: float
    predicted: float | str
    bias: float
    bias_low: float
    bias_high: float
    samples: int
    decoded: float


def chance_of_a_tie(agents: int) -> float:
    """T: the chance that all voters but one tie, of two equally likely answers; N is odd.

    Example:
      >>> chance_of_a_tie(3), chance_of_a_tie(5)
      (0.5, 0.375)
    """
    others = agents - 1
    return math.comb(others, others // 2) / 2**others


def predicted(estimator: str, agents: int) -> float | None:
    """The signal that the module's docstring derives; None where it derives none."""
    name = estimator.partition(":")[0]
    if name == "shared":
        return 1.0
    if agents % 2 == 0 or name not in ("difference", "cross_play"):
        return None
    tie = chance_of_a_tie(agents)
    return 1 / tie if name == "difference" else 1 / tie**2


def one_policy(team: TabularTeam) -> TabularTeam:
    """The team in which all voters have the table of voter 0."""
    tables = {key: team.tables[0, ()] for key in team.tables}
    return team._replace(tables=tables)


def measure(
    agents: int,
    policies: str,
    estimators: str,
    *,
    prompts: int = 16,
    samples: int = 12,
    replicates: int = 100,
    draws: int = 200,
    seed: int = 0,
) -> list[Point]:
    """Every estimator on one random team.

    Args:
      agents: N, voters.
      policies: "separate", or "one" for all voters.
      estimators: as for the laboratory; `shared` is measured in any case.
      prompts: B.
      samples: G.
      replicates: groups of each prompt.
      draws: bootstrap replicates, over prompts and groups.
      seed: decides everything drawn.
    """
    topology = voting(agents)
    team = random_team(topology, prompts=prompts, seed=seed)
    if policies == "one":
        team = one_policy(team)
    known = known_truth(team, seed=seed)

    asked = parse_estimators(estimators)
    if "shared" not in asked:
        asked = {"shared": ("shared", {}), **asked}
    figures = {}
    cost = {}
    for index, (label, (name, hyper)) in enumerate(asked.items()):
        rng = np.random.default_rng([seed, agents, index])
        evidence = gather(
            team,
            known,
            make_credit(name, topology, **hyper),
            rng,
            group=samples,
            replicates=replicates,
        )
        # The same draws for all estimators: the ratio to `shared` is paired by prompt.
        figures[label] = gradient_of_team(
            evidence,
            np.random.default_rng([seed, agents]),
            draws=draws,
            over="both",
            one_policy=policies == "one",
        )
        cost[label] = evidence.cost

    points = []
    base = figures["shared"]["snr"] / cost["shared"]
    for label, of_estimator in figures.items():
        signal = of_estimator["snr"] / cost[label] / base
        bias = of_estimator["bias"]
        expected = predicted(label, agents) if policies == "separate" else None
        points.append(
            Point(
                agents,
                policies,
                label,
                *_interval(signal),
                "" if expected is None else round(expected, 3),
                *_interval(bias),
                samples,
                cost[label],
            )
        )
    return points


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """The estimate and 1.96 bootstrap deviations to each side."""
    spread = 1.96 * float(np.std(values[1:]))
    value = float(values[0])
    return round(value, 4), round(value - spread, 4), round(value + spread, 4)


def report(points: Sequence[Point], facts: dict[str, str]) -> str:
    """The page: a table for each kind of team."""
    parts = ["# Signal against the number of voters\n"]
    parts += [f"- {name}: {value}" for name, value in facts.items()]
    labels = list(dict.fromkeys(point.estimator for point in points))
    for policies in dict.fromkeys(point.policies for point in points):
        header = ["N"]
        for label in labels:
            header.append(f"`{label}`")
            if policies == "separate" and predicted(label, 3) and label != "shared":
                header.append("predicted")
        lines = []
        for agents in dict.fromkeys(point.agents for point in points):
            line = [agents]
            for label in labels:
                point = _find(points, agents, policies, label)
                line.append(
                    "–"
                    if point is None
                    else _with_half_width(point.signal, point.signal_low, point.signal_high)
                )
                if policies == "separate" and predicted(label, 3) and label != "shared":
                    line.append("–" if point is None else f"{point.predicted}")
            lines.append(line)
        title = "A policy for each voter" if policies == "separate" else "One policy for all voters"
        parts += [f"\n## {title}\n", table(header, lines)]

    parts.append(
        "\nBias, share of the expected gradient's power that points elsewhere, where its interval is "
        "above 0:\n"
    )
    biased = []
    for point in points:
        if point.bias_low > 0:
            bias = _with_half_width(point.bias, point.bias_low, point.bias_high, digits=3)
            biased.append([point.agents, point.policies, f"`{point.estimator}`", bias])
    parts.append(table(["N", "policies", "estimator", "bias"], biased))
    return "\n".join(parts)


def _with_half_width(value: float, low: float, high: float, *, digits: int = 2) -> str:
    """An interval as it stands in a table."""
    return f"{value:.{digits}f} ± {(high - low) / 2:.{digits}f}"


def _find(points: Sequence[Point], agents: int, policies: str, label: str) -> Point | None:
    for point in points:
        if (point.agents, point.policies, point.estimator) == (agents, policies, label):
            return point
    return None


def picture(points: Sequence[Point], policies: str) -> str:
    """Measured and predicted signal over the number of voters."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    for point in points:
        if point.policies != policies or point.estimator == "shared":
            continue
        name = point.estimator.partition(":")[0]
        half = point.signal_high - point.signal
        series.setdefault(name, []).append((point.agents, point.signal, half))
        if point.predicted != "":
            line = series.setdefault(f"{name}, predicted", [])
            line.append((point.agents, float(point.predicted), 0.0))
    kind = "a policy for each voter" if policies == "separate" else "one policy for all voters"

    lines = []
    styles = []
    names = list(dict.fromkeys(line.partition(",")[0] for line in series))
    for line, of_line in series.items():
        name, _, kind_of_line = line.partition(",")
        style = DEFAULT_STYLES[names.index(name) % len(DEFAULT_STYLES)]
        styles.append(style._replace(dashes=_PREDICTED_DASHES if kind_of_line else ""))
        lines.append(line_with_intervals(line, of_line))
    label = f"signal per decoded token, shared = 1; {kind}"
    return line_figure(lines, label=label, x_name="voters", styles=styles)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m experiments.credit_lab.signal", description=__doc__.splitlines()[0])
    add = p.add_argument
    add("--out", required=True, help="folder for signal.md, signal.csv and pictures")
    add("--agents", default="3,5,9,15,31,63", help="numbers of voters")
    add("--policies", default=",".join(_POLICIES), help="separate, one or both")
    add("--estimators", default=_ESTIMATORS, help="as for the laboratory")
    add("--prompts", type=int, default=16)
    add("--samples", type=int, default=12, help="G of every estimator")
    add("--replicates", type=int, default=100, help="groups of each prompt")
    add("--seed", type=int, default=0)
    return p


def check_arguments(args: argparse.Namespace) -> list[int]:
    """The numbers of voters.

    Raises:
      InputError: naming the argument.
    """
    agents = []
    for text in args.agents.split(","):
        if not text.isdecimal() or not 2 <= int(text) <= _MOST_AGENTS:
            message = f"{text!r:.80} is not a number from 2 to {_MOST_AGENTS}; type --agents=3,9"
            raise InputError("agents", message)
        agents.append(int(text))
    for policies in args.policies.split(","):
        if policies not in _POLICIES:
            message = f"{policies!r:.80} is unknown; use some of {','.join(_POLICIES)}"
            raise InputError("policies", message)
    for name, least in (("prompts", 2), ("samples", 2), ("replicates", 8)):
        value = getattr(args, name)
        if value < least:
            message = f"must be at least {least}, received {value}; type --{name}={least}"
            raise InputError(name, message)
    parse_estimators(args.estimators)
    return agents


def main(argv: Sequence[str] | None = None) -> int:
    """Measures the signal on each team and writes a table, a CSV file and pictures."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parser().parse_args(argv)
    try:
        numbers = check_arguments(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    points: list[Point] = []
    for policies in args.policies.split(","):
        for agents in numbers:
            of_team = measure(
                agents,
                policies,
                args.estimators,
                prompts=args.prompts,
                samples=args.samples,
                replicates=args.replicates,
                seed=args.seed,
            )
            points += of_team
            print(agents, policies, {p.estimator: round(p.signal, 2) for p in of_team}, flush=True)

    facts = {
        "command": f"`python -m experiments.credit_lab.signal {shlex.join(argv)}`",
        "teams": f"random tables of {args.prompts} prompts, equally able voters, seed {args.seed}",
        "evidence": f"{args.replicates} groups of {args.samples} samples on each prompt; 95 % "
        "intervals, bootstrap over prompts and groups; leave-one-out advantage",
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
    }
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "signal.md").write_text(report(points, facts), encoding="utf-8")
    with open(out / "signal.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Point._fields)
        writer.writerows(points)
    for policies in args.policies.split(","):
        (out / f"{policies}.svg").write_text(picture(points, policies), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
