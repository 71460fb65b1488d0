"""Which credit tells who contributed: `python -m experiments.credit_lab --team=tabular_voting --out=DIR`.

For a fixed team and a fixed set of prompts, each agent's true contribution and the true advantage
of each text are
known: enumerated for teams of tables (`tabular.py`) and sampled where these are large
(`sampled_truth.py`), and from one big pool of answers for real teams (`pools.py`). Every estimator in `CREDITS` that fits the team is asked about many groups of
samples (`evidence.py`), all at about the same number of decoded tokens, and held to what it claims
(`claims.py`):

    python -m experiments.credit_lab --team=tabular_dyad --out=lab
    python -m experiments.credit_lab --team=tabular_voting --agents=9 --out=lab
    python -m experiments.credit_lab --config=configs/dyad.py:tiny --prompts=16 --out=lab
    python -m experiments.credit_lab --workdir=runs/a --estimators=shared,difference,nested:answers=2 --out=lab

It writes report.md, results.csv and an SVG per team, and ends with status 1 when an estimator
breaks a claim.
"""

import argparse
import datetime
import inspect
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence

from ccpo_jax.arguments import Parser
from ccpo_jax.errors import InputError
from ccpo_jax.rl.topology import TOPOLOGIES
from ccpo_jax.train.advantage import Advantage
from experiments.credit_lab.baselines import compares_prompts, parse_baseline
from experiments.credit_lab.comparison import (
    Effort,
    Replacement,
    Study,
    fitting,
    parse_estimators,
    study,
)
from experiments.credit_lab.lab_report import short_table, write
from experiments.credit_lab.sampled_truth import error_of
from experiments.credit_lab.tabular import (
    REPLACEMENTS,
    SKILLS,
    TabularTeam,
    random_team,
    replaced,
)
from experiments.provenance import commit


def tabular_team(args) -> tuple[str, TabularTeam, str]:
    """A team of random tables: its name, itself, its size.

    Raises:
      InputError: `agents`, if the team has another number of agents by nature.
    """
    build = TOPOLOGIES[args.team.removeprefix("tabular_")]
    topology = build()
    if args.agents is not None:
        if "num_agents" not in inspect.signature(build).parameters:
            message = f"{args.team} has {topology.num_agents}; leave --agents out"
            raise InputError("agents", message)
        topology = build(num_agents=args.agents)
    skills = args.skills or "equal"
    team = random_team(topology, prompts=args.prompts, seed=args.seed, skills=skills)
    strongest, other = SKILLS[skills]
    source = (
        f"random tables of {topology.num_agents} agents; the right word's logit is normal with the "
        f"mean {strongest:g} for agent 0 and {other:g} for the others"
    )
    return args.team, team, source


def real_team(args) -> tuple[str, TabularTeam, str]:
    """The pool of a run's best checkpoint, or of a configuration's untrained models: its name,
    itself, its size.
    """
    from ccpo_jax.config import parse
    from ccpo_jax.modes import trained_or_loaded
    from ccpo_jax.presets import load_preset
    from ccpo_jax.train.build import make_topology
    from ccpo_jax.workdir.saved_config import load_config
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
    machine = f"{os.cpu_count()} CPU cores"
    add = p.add_argument

    # The team, one of three kinds.
    add("--team", choices=teams, help="a team of tables with random entries")
    add("--workdir", help="a run whose best checkpoint answers its held-out problems")
    add("--config", help="a configuration with its :preset, untrained")

    # A team of tables.
    add("--agents", type=int, help="how many, 2 to 64; default: that of the team")
    add("--skills", choices=list(SKILLS), help="uneven: agent 0 is strong, the others are weak")

    # What is compared.
    add("--out", required=True, help="folder for report.md, results.csv and pictures")
    add("--estimators", default="", help="such as shared,nested:answers=2; default: all that fit")
    add("--replace", default=",".join(REPLACEMENTS), help="some of none, silent, misleading")
    add("--agent", type=int, default=0, help="the agent that is replaced")
    add(
        "--advantage",
        default="leave_one_out",
        help="a baseline of advantage.baseline, such as group (no claim about gradients), "
        "constant:delta=0.2, optimal:pool=others; opo weighs texts by length, which is 1 here",
    )

    # How much evidence.
    add("--prompts", type=int, default=16)
    add(
        "--samples", type=int, default=12, help="G of `shared`; others get as many as cost the same"
    )
    add("--replicates", type=int, default=200, help="groups per prompt and estimator")
    add("--draws", type=int, default=200, help="bootstrap draws")
    add(
        "--over", choices=["replicates", "both"], default="replicates", help="both: prompts as well"
    )
    add("--pool", type=int, default=128, help="real teams: samples (dyad: thoughts) per prompt")
    add("--answers", type=int, default=16, help="real dyad: answers per thought in the pool")
    add("--seed", type=int, default=0)
    add("--machine", default=machine, help="what the report calls this machine")
    return p


_LEAST = {
    "prompts": 1,
    "samples": 2,
    "replicates": 8,
    "draws": 20,
    "pool": 2,
    "answers": 2,
    "seed": 0,
}


def check_arguments(args: argparse.Namespace) -> Advantage:
    """Refuses arguments before anything is computed.

    Returns:
      The baseline.

    Raises:
      InputError: naming the argument.
    """
    given = [x for x in (args.team, args.workdir, args.config) if x is not None]
    if len(given) != 1:
        message = (
            "type one of --team=tabular_voting, --workdir=RUN and --config=configs/dyad.py:tiny"
        )
        raise InputError("team", message)
    for name in ("agents", "skills"):
        if getattr(args, name) is not None and not args.team:
            message = f"goes with teams of tables; leave --{name} out or type --team=tabular_voting"
            raise InputError(name, message)
    if args.agents is not None and not 2 <= args.agents <= 64:
        raise InputError("agents", f"must be 2 to 64, received {args.agents}; type --agents=9")
    for name, least in _LEAST.items():
        value = getattr(args, name)
        if value < least:
            message = f"must be at least {least}, received {value}; type --{name}={least}"
            raise InputError(name, message)
    baseline = parse_baseline(args.advantage)
    if compares_prompts(baseline) and args.prompts < 2:
        message = f"{args.advantage} compares with other prompts, received 1; type --prompts=2"
        raise InputError("prompts", message)
    for kind in args.replace.split(","):
        if kind not in REPLACEMENTS:
            message = f"{kind!r:.80} is unknown; use some of {','.join(REPLACEMENTS)}"
            raise InputError("replace", message)
    if pathlib.Path(args.out).is_file():
        raise InputError("out", f"{args.out} is a file; type --out=FOLDER")
    return baseline


def main(argv: Sequence[str] | None = None) -> int:
    """Studies one team, as it is and with an agent replaced, and writes the report."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parser().parse_args(argv)
    try:
        baseline = check_arguments(args)
        asked = parse_estimators(args.estimators)
        if args.team:
            name, team, source = tabular_team(args)
        else:
            name, team, source = real_team(args)
        estimators, left_out = fitting(asked, team, strict=bool(args.estimators))
        teams = {kind: replaced(team, args.agent, kind) for kind in args.replace.split(",")}
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    effort = Effort(args.samples, args.replicates, args.draws, args.over, baseline, args.seed)
    studies = []
    for kind, changed_team in teams.items():
        title = name if kind == "none" else f"{name}, agent {args.agent} {kind}"
        print(title, file=sys.stderr)
        replacement = Replacement(args.agent, kind)
        try:
            one = study(title, changed_team, estimators, replacement=replacement, effort=effort)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        studies.append(one)

    out = pathlib.Path(args.out)
    write(out, studies, left_out, facts(argv, args, studies[0], source))

    broken = [verdict for one in studies for verdict in one.verdicts if not verdict.holds]
    for verdict in broken:
        print(f"broken claim, {verdict.claim}: {verdict.text}", file=sys.stderr)
    print(f"\n{short_table(studies)}\n{out}: report.md, results.csv, {len(studies)} pictures")
    return 1 if broken else 0


def facts(
    argv: Sequence[str], args: argparse.Namespace, first: Study, source: str
) -> dict[str, str]:
    """Where the report's figures come from."""
    resampled = "replicates" if args.over == "replicates" else "prompts and replicates"
    return {
        "command": f"`python -m experiments.credit_lab {shlex.join(argv)}`",
        "seed": str(args.seed),
        "team": source,
        "truth": error_of(first.known),
        "prompts": f"{first.team.prompts}, each with {args.replicates} groups per estimator",
        "intervals": f"95 %, bootstrap over {resampled}",
        "advantage": f"{args.advantage}, unless an estimator brings its own baseline",
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": args.machine,
    }


if __name__ == "__main__":
    sys.exit(main())
