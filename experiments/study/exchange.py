"""What a finished team loses where agents are exchanged: whose work the others can do without.

    python -m experiments.study.exchange --runs=RUN,OTHER_RUN --out=exchange.csv

A team whose agent leaves its work to a partner is as right as one that shares the work, until the
partner is another. So each run's agents are evaluated together with agents of the models that the
run started from ("start"), and with those of every other run. Exchanged are, in turn, each agent
alone, and all agents but one. Every team is evaluated by the program's own evaluation, greedily and
with samples at temperature 1, on the test split of its synthetic problems: no run has trained on them.
"""

import argparse
import csv
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ccpo_jax.arguments import Parser, positive
from ccpo_jax.config import Config, combine
from ccpo_jax.errors import InputError
from ccpo_jax.modes.evaluate import evaluate_only
from ccpo_jax.parameter_sets import ParameterSets, make_parameter_sets, names_per_set
from ccpo_jax.train.build import make_topology
from ccpo_jax.workdir import saved_config

# Partners that are no run: the models that a run started from.
START = "start"


class Mixture(NamedTuple):
    """A team of a run with some agents exchanged.

    Attributes:
      partner: `START`, or the workdir that the exchanged agents come from; "" = nobody is.
      exchanged: their numbers, in order.
      models: A, as in the field `model`.
    """

    partner: str
    exchanged: tuple[int, ...]
    models: tuple[str, ...]


class Row(NamedTuple):
    """One line of the table; accuracies in per cent, losses in points.

    Attributes:
      run: workdir of the team.
      partner: as in `Mixture`, "own" for the team itself.
      exchanged: numbers of the exchanged agents, such as "0" or "0 2".
      greedy: accuracy at temperature 0.
      sampled: accuracy at temperature 1.
      pass_at_k: how often at least one of the samples is right.
      greedy_lost: `greedy` of the run's own team minus this one's.
      sampled_lost: likewise.
    """

    run: str
    partner: str
    exchanged: str
    greedy: float
    sampled: float
    pass_at_k: float
    greedy_lost: float
    sampled_lost: float


def exchange(runs: Sequence[str], *, samples: int = 8, problems: int = 512) -> list[Row]:
    """Evaluates every run's team, and its mixtures with the start and with every other run.

    Args:
      runs: workdirs with checkpoints, of one kind of team; of each the best checkpoint counts, or
        the newest where none was evaluated.
      samples: answers per problem at temperature 1, k of pass@k.
      problems: test problems, the first ones of the split.

    Raises:
      InputError: a folder without a run or its checkpoints, runs of different teams, or a team of
        one, or a run that did not train on one synthetic set.
    """
    configs = {run: _config_of(run) for run in runs}
    rows = []
    for run, config in configs.items():
        own: dict[str, float] = {}
        for mixture in mixtures(run, configs):
            figures = _evaluate(config, mixture.models, samples, problems)
            own = own or figures
            rows.append(
                Row(
                    run,
                    mixture.partner or "own",
                    " ".join(map(str, mixture.exchanged)),
                    **figures,
                    greedy_lost=own["greedy"] - figures["greedy"],
                    sampled_lost=own["sampled"] - figures["sampled"],
                )
            )
    return rows


def mixtures(run: str, configs: dict[str, Config]) -> Iterator[Mixture]:
    """The run's own team first, then those with agents of other origin.

    Args:
      run: a key of `configs`.
      configs: configuration of every run, by workdir.

    Raises:
      InputError: runs of different teams, or a team of one.
    """
    agents = make_topology(configs[run]).num_agents
    own = _models_of(run, configs[run])
    yield Mixture("", (), own)

    partners = {START: _start_of(configs[run])}
    for other, config in configs.items():
        if other == run:
            continue
        if make_topology(config) != make_topology(configs[run]):
            raise InputError("runs", f"{run} and {other} are different teams; give runs of one")
        partners[other] = _models_of(other, config)

    for partner, partner_models in partners.items():
        for exchanged in _groups_to_exchange(agents):
            models = tuple(partner_models[k] if k in exchanged else own[k] for k in range(agents))
            yield Mixture(partner, exchanged, models)


def _groups_to_exchange(agents: int) -> list[tuple[int, ...]]:
    """Each agent alone, and all but one; in a team of two these are the same.

    Raises:
      InputError: a team of one.
    """
    if agents < 2:
        raise InputError("runs", "a team of one has no partner; give runs of a larger team")
    alone = [(agent,) for agent in range(agents)]
    all_but = [tuple(k for k in range(agents) if k != agent) for agent in range(agents)]
    return list(dict.fromkeys(alone + all_but))


def _config_of(run: str) -> Config:
    config = saved_config(run)
    if config is None:
        raise InputError("runs", f"there is no run in {run}; give the workdir of a training run")
    return config


def _sets_of_run(config: Config) -> ParameterSets:
    agents = make_topology(config).num_agents
    return make_parameter_sets(config.model, agents, shared_policy=config.shared_policy)


def _models_of(run: str, config: Config) -> tuple[str, ...]:
    """Every agent's parameter set in the checkpoint of a run."""
    return tuple(f"{run}:{number}" for number in _sets_of_run(config).of_agent)


def _start_of(config: Config) -> tuple[str, ...]:
    """The model that every agent started from."""
    sets = _sets_of_run(config)
    names = names_per_set(config.model, sets)
    return tuple(names[number] for number in sets.of_agent)


def _evaluate(
    config: Config, models: tuple[str, ...], samples: int, problems: int
) -> dict[str, float]:
    """Accuracies of a team in per cent."""
    test_set = _test_set(config)
    changes = {
        "mode": "eval",
        "model": models,
        "shared_policy": False,
        "data.heldout": 0,
        "data.eval": (test_set,),
        "eval.limit": problems,
        "eval.greedy": True,
        "eval.samples": samples,
        "eval.temperature": 1.0,
    }
    metrics = evaluate_only(combine(config, changes), None)
    prefix = f"test/{test_set}/"
    return {
        "greedy": 100 * metrics[f"{prefix}greedy/team_accuracy"],
        "sampled": 100 * metrics[f"{prefix}team_accuracy"],
        "pass_at_k": 100 * metrics[f"{prefix}pass_at_{samples}"],
    }


def _test_set(config: Config) -> str:
    """Problems of the kind that a run trained on, which no run has seen.

    Raises:
      InputError: it trained on several sets, or on one that is not generated.
    """
    _, _, task = config.data.train[0].partition("synthetic/")
    if len(config.data.train) > 1 or not task:
        trained = ",".join(config.data.train)
        raise InputError("runs", f"{trained} has no test split; give runs on one synthetic set")
    return f"synthetic/{task.partition('/')[0]}/test"


def write(rows: Sequence[Row], path: pathlib.Path) -> None:
    """Writes a table as CSV, accuracies with two decimals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(Row._fields)
        for row in rows:
            writer.writerow([f"{cell:.2f}" if isinstance(cell, float) else cell for cell in row])


if __name__ == "__main__":
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, help="workdirs, separated by commas")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="CSV file to write")
    parser.add_argument("--samples", type=positive, default=8, help="answers per problem at T = 1")
    parser.add_argument("--problems", type=positive, default=512, help="test problems")
    args = parser.parse_args()
    table = exchange(args.runs.split(","), samples=args.samples, problems=args.problems)
    write(table, args.out)
    for row in table:
        print(*[f"{cell:.1f}" if isinstance(cell, float) else cell for cell in row], sep="\t")
