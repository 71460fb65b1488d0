"""Which credit tells who contributed: `python -m experiments.credit_lab --team=tabular_voting --out=DIR`.

For a fixed team and a fixed set of prompts, each agent's true contribution and the true advantage of each text are
known: enumerated for teams of tables (`lab/tabular.py`), and from one big pool of answers for real teams
(`lab/pools.py`). Every estimator in `CREDITS` that fits the team is then asked about many groups of samples
(`lab/evidence.py`), all at about the same number of decoded tokens, and held to what it claims (`lab/claims.py`):

    python -m experiments.credit_lab --team=tabular_dyad --out=lab
    python -m experiments.credit_lab --config=configs/dyad.py:tiny --prompts=16 --out=lab
    python -m experiments.credit_lab --workdir=runs/a --estimators=shared,difference,nested:answers=2 --out=lab

It writes report.md, results.csv and an SVG per team, and ends with status 1 where an estimator breaks a claim.
"""

import argparse
import csv
import datetime
import inspect
import os
import pathlib
import runpy
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ccpo_jax.arguments import Parser
from ccpo_jax.rl.credit import CREDITS, make_credit
from ccpo_jax.rl.topology import TOPOLOGIES
from ccpo_jax.rl.types import CreditEstimator
from experiments.credit_lab.claims import CLAIMS, Claim, Verdict, check_claims
from experiments.credit_lab.evidence import METRICS, Summary, cost_of_sample, gather, summarise
from experiments.credit_lab.interval_plot import interval_plot
from experiments.credit_lab.tabular import (
    REPLACEMENTS,
    TabularTeam,
    Truth,
    random_team,
    replaced,
    truth,
)

# --- one team, all estimators -----------------------------------------------------------------------------------------


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
            if estimator.ratings and team.raters is None:
                raise ValueError(
                    f"estimators: {name!r} needs ratings, and nobody rates here; use --team=tabular_dyad"
                )
            fit[label] = estimator
        except ValueError as error:
            if strict:
                raise
            left_out[label] = str(error).partition(": ")[2].partition(";")[0]
    return fit, left_out


# --- what it writes ---------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Markdown whose columns stand below each other."""
    lines = [list(map(str, line)) for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = (
        [text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in padded) + "\n"


def cell(summary: Summary, who, metric: str) -> str:
    """A figure, give or take its interval of 95 %, or a dash where there is none."""
    value, low, _ = (
        summary.interval(who, metric) if (who, metric) in summary.figures else (np.nan,) * 3
    )
    if not np.isfinite(value - low):
        return "-"
    places = int(
        np.clip(1 - np.floor(np.log10(max(value - low, 1e-3))), 0, 3)
    )  # two digits of what is not sure, at most three
    return f"{round(value, places) + 0.0:.{places}f}" + (
        f" ± {value - low:.{places}f}" if value - low > 1e-6 else ""
    )


def short_table(studies: Sequence[Study]) -> str:
    """Figures of the first team, and what is paid to who was replaced in the others; the first row is what is true."""
    first, others = studies[0], [one for one in studies if one.how != "none"]
    metrics = ("bias", "efficiency", "rank_texts", "rank_agents")
    header = ["estimator", "G", "decoded", *(METRICS[m][0] for m in metrics)]
    header += [f"credit, agent {one.changed} {one.how}" for one in others]
    rows = [
        [
            "the truth",
            "",
            "",
            "0",
            "",
            "1",
            "1",
            *(f"{one.known.contribution[one.changed].mean().round(3) + 0.0:.3f}" for one in others),
        ]
    ]
    for label, found in first.found.items():
        paid = [cell(one.found[label], one.changed, "credit") for one in others]
        rows.append(
            [
                f"`{label}`",
                found.samples,
                f"{found.cost:.0f}",
                *(cell(found, "team", m) for m in metrics),
                *paid,
            ]
        )
    return table(header, rows)


def study_markdown(one: Study, picture: str) -> str:
    """One team's section."""
    roles, known = one.team.topology.agent_roles, one.known
    agents = range(len(roles))
    truths = [
        [f"{k} ({roles[k]})", *(f"{x:+.4f}" for x in (c.mean(), c.min(), c.max()))]
        for k, c in enumerate(known.contribution)
    ]
    metrics = [m for m in METRICS if any(("team", m) in s.figures for s in one.found.values())]
    figures = [
        [f"`{label}`", s.samples, f"{s.cost:.0f}", *(cell(s, "team", m) for m in metrics)]
        for label, s in one.found.items()
    ]
    parts = [
        f"## {one.title}\n",
        f"The team is right {known.reward.mean():.3f} of the time.\n",
        table(["agent", "true contribution, mean over prompts", "least", "most"], truths),
        table(["estimator", "G", "decoded", *(METRICS[m][0] for m in metrics)], figures),
    ]
    for metric in ("credit", "credit_bias", "snr", "rank_texts"):
        rows = [
            [f"`{label}`", *(cell(s, k, metric) for k in agents)] for label, s in one.found.items()
        ]
        parts += [
            f"{METRICS[metric][0]}, per agent:\n",
            table(["estimator", *(f"agent {k}" for k in agents)], rows),
        ]
    broken = [f"- broken, {v.claim}: {v.text}" for v in one.verdicts if not v.holds]
    parts += [f"Claims looked at: {len(one.verdicts)}; broken: {len(broken)}.\n", *broken]
    return "\n".join([*parts, f"![{one.title}]({picture})", ""])


def write(
    out: pathlib.Path, studies: Sequence[Study], left_out: dict[str, str], facts: dict[str, str]
) -> None:
    """report.md, results.csv and a picture per team."""
    out.mkdir(parents=True, exist_ok=True)
    rows, sections = (
        [["team", "estimator", "who", "metric", "value", "low", "high", "samples", "decoded"]],
        [],
    )
    for number, one in enumerate(studies):
        panels = {
            METRICS[m][0]: {
                label: s.interval("team", m)
                for label, s in one.found.items()
                if ("team", m) in s.figures
            }
            for m in ("bias", "snr", "efficiency", "rank_texts", "rank_agents")
        }
        (out / f"team_{number}.svg").write_text(interval_plot(one.title, panels), encoding="utf-8")
        sections.append(study_markdown(one, f"team_{number}.svg"))
        for k, x in enumerate(one.known.contribution):
            rows.append([one.title, "truth", k, "contribution", f"{x.mean():.6g}", "", "", "", ""])
        for label, s in one.found.items():
            for who, metric in s.figures:
                numbers = (f"{x:.6g}" for x in s.interval(who, metric))
                rows.append([one.title, label, who, metric, *numbers, s.samples, f"{s.cost:g}"])
    with open(out / "results.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    claims = table(
        [
            "estimator",
            "contribution",
            "silent: 0",
            "saboteur: below 0",
            "gradient of E[R]",
            "because",
        ],
        [
            [f"`{n}`", *("yes" if x else "" for x in c[:3]), c.gradient, c.reason]
            for n, c in CLAIMS.items()
        ],
    )
    lines = [
        "# Credit laboratory\n",
        *(f"- {name}: {value}" for name, value in facts.items()),
        *(f"- `{n}` is left out: {why}" for n, why in left_out.items()),
        "",
        short_table(studies),
        *(f"- {head}: {what}" for head, what in METRICS.values()),
        "\n## What each estimator claims\n",
        claims,
        *sections,
    ]
    (out / "report.md").write_text("\n".join(lines), encoding="utf-8")


# --- command line -----------------------------------------------------------------------------------------------------


def real_team(args) -> tuple[str, TabularTeam, str]:
    """The pool of a run's best checkpoint, or of a configuration's untrained models: its name, itself, its size."""
    from ccpo_jax.modes import trained_or_loaded
    from ccpo_jax.train.build import make_topology
    from ccpo_jax.workdir.workdir import load_config
    from configs.base import base
    from experiments.credit_lab.pools import check, sample_pool

    if args.workdir:
        config = load_config(base(), args.workdir, {})
    else:
        path, _, preset = args.config.partition(":")
        if not pathlib.Path(path).is_file():
            raise ValueError(
                f"config: there is no file {path!r:.200}; type --config=configs/dyad.py:tiny"
            )
        config = runpy.run_path(path)["get_config"](preset)
    check(make_topology(config))
    program, params, step = trained_or_loaded(config, args.workdir, required=False)
    problems = (program.datasets.heldout.problems or program.datasets.train.problems)[
        : args.prompts
    ]
    pool = sample_pool(
        program, config, params, problems, size=args.pool, answers=args.answers, seed=args.seed
    )  # fmt: skip
    name = (
        f"{args.workdir}, checkpoint of step {step}"
        if args.workdir
        else f"{args.config}, untrained"
    )
    size = f"{args.pool} samples of every prompt, {pool.decoded_tokens:,} tokens"
    if pool.noise:
        size += f"; {pool.noise:.0%} of the spread of thoughts' values is noise of {args.answers} answers to each"
    return name, pool.team, size


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m experiments.credit_lab", description=__doc__.splitlines()[0])
    teams = [f"tabular_{name}" for name in TOPOLOGIES]
    p.add_argument(
        "--team", choices=teams, default=None, help="a team of tables with random entries"
    )
    p.add_argument(
        "--workdir", default=None, help="a run whose best checkpoint answers its held-out problems"
    )
    p.add_argument(
        "--config", default=None, help="a configuration file with its :preset, untrained"
    )
    p.add_argument("--out", required=True, help="folder for report.md, results.csv and pictures")
    p.add_argument("--estimators", default="", help="such as shared,nested:answers=2; all that fit")
    p.add_argument(
        "--replace",
        default=",".join(REPLACEMENTS),
        help="which of none, silent, misleading to look at",
    )
    p.add_argument("--agent", type=int, default=0, help="who is replaced")
    p.add_argument("--prompts", type=int, default=16)
    p.add_argument(
        "--samples", type=int, default=12, help="G of `shared`; others get as many as cost the same"
    )
    p.add_argument("--replicates", type=int, default=200, help="groups per prompt and estimator")
    p.add_argument("--draws", type=int, default=200, help="bootstrap draws")
    p.add_argument(
        "--over",
        choices=["replicates", "both"],
        default="replicates",
        help="both: over prompts as well",
    )
    p.add_argument("--advantage", choices=["leave_one_out", "surprisal", "trained"], default="leave_one_out",
                   help="trained: as training does by default; no claim about gradients is looked at")  # fmt: skip
    p.add_argument(
        "--pool", type=int, default=128, help="real teams: samples (dyad: thoughts) per prompt"
    )
    p.add_argument(
        "--answers", type=int, default=16, help="real dyad: answers per thought in the pool"
    )
    p.add_argument("--seed", type=int, default=0)
    p.add_argument(
        "--machine",
        default=f"{os.cpu_count()} CPU cores",
        help="what the report calls this machine",
    )
    return p


def checked(args) -> None:
    """Complains about arguments before anything is computed."""
    if sum(x is not None for x in (args.team, args.workdir, args.config)) != 1:
        raise ValueError(
            "team: type one of --team=tabular_voting, --workdir=RUN and --config=configs/dyad.py:tiny"
        )
    least = {
        "prompts": 1, "samples": 2, "replicates": 8, "draws": 20, "pool": 2, "answers": 2, "seed": 0,
    }  # fmt: skip
    for name, low in least.items():
        if getattr(args, name) < low:
            raise ValueError(
                f"{name}: must be at least {low}, received {getattr(args, name)}; type --{name}={low}"
            )
    if args.advantage == "surprisal" and args.prompts < 2:
        raise ValueError(
            "prompts: surprisal compares with other prompts, received 1; type --prompts=2"
        )
    for how in args.replace.split(","):
        if how not in REPLACEMENTS:
            raise ValueError(
                f"replace: {how!r:.80} is unknown; use some of {','.join(REPLACEMENTS)}"
            )
    if pathlib.Path(args.out).is_file():
        raise ValueError(f"out: {args.out} is a file; type --out=FOLDER")


def commit() -> str:
    """The checked-out commit, with a plus where programs differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "-uno", ".", ":!experiments/results") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main(argv: Sequence[str] | None = None) -> int:
    """Studies one team, as it is and with an agent replaced, and writes the report."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parser().parse_args(argv)
    try:
        checked(args)
        asked = parse_estimators(args.estimators)
        if args.team:
            topology = TOPOLOGIES[args.team.removeprefix("tabular_")]()
            team = random_team(topology, prompts=args.prompts, seed=args.seed)
            name, source = args.team, "random tables"
        else:
            name, team, source = real_team(args)
        estimators, left_out = fitting(asked, team, strict=bool(args.estimators))
        changed = {how: replaced(team, args.agent, how) for how in args.replace.split(",")}
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    studies = []
    for how, other in changed.items():
        title = name if how == "none" else f"{name}, agent {args.agent} {how}"
        print(title, file=sys.stderr)
        studies.append(
            study(
                title, other, estimators, changed=args.agent, how=how, samples=args.samples, seed=args.seed,
                replicates=args.replicates, draws=args.draws, over=args.over, advantage=args.advantage,
            )
        )  # fmt: skip
    facts = {
        "command": f"`python -m experiments.credit_lab {shlex.join(argv)}`",
        "seed": args.seed,
        "team": source,
        "prompts": f"{team.prompts}, each with {args.replicates} groups per estimator",
        "intervals": f"95 %, bootstrap over {'replicates' if args.over == 'replicates' else 'prompts and replicates'}",
        "advantage": f"{args.advantage}, unless an estimator brings its own baseline",
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": args.machine,
    }
    write(pathlib.Path(args.out), studies, left_out, facts)
    broken = [verdict for one in studies for verdict in one.verdicts if not verdict.holds]
    for verdict in broken:
        print(f"broken claim, {verdict.claim}: {verdict.text}", file=sys.stderr)
    print(f"\n{short_table(studies)}\n{args.out}: report.md, results.csv, {len(studies)} pictures")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
