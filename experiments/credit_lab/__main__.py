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
import datetime
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence

from ccpo_jax.arguments import Parser
from ccpo_jax.rl.topology import TOPOLOGIES
from experiments.credit_lab.comparison import fitting, parse_estimators, study
from experiments.credit_lab.lab_report import short_table, write
from experiments.credit_lab.tabular import (
    REPLACEMENTS,
    TabularTeam,
    random_team,
    replaced,
)
from experiments.provenance import commit


def real_team(args) -> tuple[str, TabularTeam, str]:
    """The pool of a run's best checkpoint, or of a configuration's untrained models: its name, itself, its size."""
    from ccpo_jax.config import parse
    from ccpo_jax.modes import trained_or_loaded
    from ccpo_jax.presets import load_preset
    from ccpo_jax.train.build import make_topology
    from ccpo_jax.workdir.run_config import load_config
    from experiments.credit_lab.pools import check, sample_pool

    if args.workdir:
        config = load_config(args.workdir, {})
    else:
        config = parse(load_preset(args.config))
    check(make_topology(config))
    run, state, step = trained_or_loaded(config, args.workdir)
    problems = run.datasets.heldout.problems or run.datasets.train.problems
    pool = sample_pool(
        run,
        state.params,
        problems[: args.prompts],
        size=args.pool,
        answers=args.answers,
        seed=args.seed,
    )
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
