"""Learning on tables: what each credit estimator makes of a team in so many steps.

    python -m experiments.credit_lab.learning --out=experiments/credit_lab/results/learning

Every agent is a table of logits, one row for each thing it may see. Credit comes from the library's
estimators, the update is the policy gradient with Adam. Nothing is decoded, so that a run takes
seconds: the program predicts what a study with networks should find, before it is run.

*who_knows*: of N voters one, drawn anew for each problem, is informed. The informed voter answers,
right or wrong, or says nothing; the others guess among K answers or say nothing. A team does best
where the uninformed are silent. *symmetric*: every voter sees every problem, with a random table of
its own.

Learning rates are chosen on other seeds than those that are reported, for each arm and team.
"""

import argparse
import csv
import datetime
import functools
import io
import pathlib
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.arguments import Parser
from ccpo_jax.errors import InputError
from ccpo_jax.rl.advantages import leave_one_out_advantage
from ccpo_jax.rl.credit import make_credit
from ccpo_jax.rl.topology import Topology, agent_masks, voting
from ccpo_jax.rl.types import CreditEstimator, Outcome
from ccpo_jax.rl.weighted_advantages import batch_mean_advantage
from experiments.credit_lab.chart import chart
from experiments.credit_lab.lab_report import table
from experiments.credit_lab.tabular import random_team, softmax
from experiments.provenance import commit
from experiments.statistics import mean_and_half

# A logit this low is a word that is never said.
_NEVER = -1e9

# Weight of the entropy in a run without any reward, which makes its policies sharper.
_ENTROPY = 0.2

_RATES = (0.03, 0.1, 0.3)
_TUNING_SEEDS = (100, 101, 102)


class Task(NamedTuple):
    """A team of tables that learns.

    Attributes:
      topology: of N voters.
      logits: ``[N, C, M]`` where learning starts: of the M words, in each of C contexts.
      answers: ``[C, M, K + 1]`` probability of each answer class, given the word; class 0 is right,
        the last one is no answer.
      draw_contexts: ``(generator, B) -> [B, N]`` the context of each voter on B problems.
      prompts: B, problems of one step.
    """

    topology: Topology
    logits: np.ndarray
    answers: np.ndarray
    draw_contexts: Callable[[np.random.Generator, int], np.ndarray]
    prompts: int


class Arm(NamedTuple):
    """One way to learn.

    Attributes:
      credit: name of the estimator.
      baseline: "leave_one_out", or that of a control: "none", "constant", "batch_mean".
      uses_reward: without it the entropy alone is lowered.
      hyper: hyper-parameters of the estimator, as pairs.
    """

    credit: str = "shared"
    baseline: str = "leave_one_out"
    uses_reward: bool = True
    hyper: tuple[tuple[str, int], ...] = ()


ARMS = {
    "shared": Arm(),
    "individual": Arm("individual"),
    "difference": Arm("difference"),
    "ccpo": Arm("ccpo"),
    "cross_play": Arm("cross_play", hyper=(("pairings", 64),)),
    "shapley": Arm("shapley"),
    # Controls.
    "none": Arm(baseline="none"),
    "constant": Arm(baseline="constant"),
    "mean_of_others": Arm(baseline="batch_mean"),
    "no_reward": Arm(uses_reward=False),
}
CONTROLS = ("none", "constant", "mean_of_others", "no_reward")

# Of the control with a constant baseline.
_CONSTANT = 0.1


def who_knows(
    voters: int,
    *,
    answers: int = 4,
    right: float = 0.5,
    silent: float = 0.2,
    prompts: int = 8,
) -> Task:
    """One informed voter of N, drawn anew for each problem.

    Context 0 is informed: word 0 is the right answer, word 1 a wrong one, word 2 silence. Context 1
    is not: word 0 is a guess, all K answers equally likely, word 2 silence.

    Args:
      voters: N.
      answers: K.
      right: how often the informed voter is right before learning; else it is wrong or silent,
        equally often.
      silent: how often an uninformed voter is silent before learning.
      prompts: B.
    """
    informed = np.log([right, (1 - right) / 2, (1 - right) / 2])
    uninformed = np.array([np.log(1 - silent), _NEVER, np.log(silent)])
    logits = np.tile(np.stack([informed, uninformed]), (voters, 1, 1))

    meaning = np.zeros((2, 3, answers + 1))
    meaning[0, 0, 0] = 1.0
    meaning[0, 1, 1:answers] = 1.0 / (answers - 1)
    meaning[1, 0, :answers] = 1.0 / answers
    meaning[1, 1, :answers] = 1.0 / answers
    meaning[:, 2, answers] = 1.0

    def draw_contexts(rng, size):
        knows = rng.integers(0, voters, (size, 1))
        return np.where(np.arange(voters) == knows, 0, 1)

    return Task(voting(voters), logits, meaning, draw_contexts, prompts)


def symmetric(voters: int, *, prompts: int = 16) -> Task:
    """Voters with equal skills in distribution, and a table of its own for each of B problems.

    The tables are those of the laboratory's random team; every step sees all problems.
    """
    team = random_team(voting(voters), prompts=prompts, seed=0)
    logits = np.stack([np.log(team.tables[voter, ()]) for voter in range(voters)])
    words = logits.shape[-1]
    meaning = np.broadcast_to(np.eye(words), (prompts, words, words))

    def draw_contexts(rng, size):
        del rng
        problem = np.arange(size) % prompts
        return np.broadcast_to(problem[:, None], (size, voters))

    return Task(voting(voters), logits, meaning, draw_contexts, prompts)


TASKS = {
    "who_knows_3": functools.partial(who_knows, 3),
    "who_knows_5": functools.partial(who_knows, 5),
    "who_knows_9": functools.partial(who_knows, 9),
    "who_knows_15": functools.partial(who_knows, 15),
    "symmetric_3": functools.partial(symmetric, 3),
    "symmetric_9": functools.partial(symmetric, 9),
}


# --- one step, of S runs at once ---


class Batch(NamedTuple):
    """What the teams of S runs say on B problems in G samples each.

    Attributes:
      contexts: ``[S, B, N]``.
      words: ``[S, B, G, N]``.
      outcome: fields ``[W, S, B, G(, N)]``.
    """

    contexts: np.ndarray
    words: np.ndarray
    outcome: Outcome


def draw_batch(
    task: Task,
    logits: np.ndarray,
    generators: Sequence[np.random.Generator],
    *,
    group: int,
    prompts: int,
    ablated: Sequence,
) -> Batch:
    """Lets the teams answer.

    Args:
      task: the team.
      logits: ``[S, N, C, M]``.
      generators: S, one for each run.
      group: G.
      prompts: B.
      ablated: the masked worlds, as in `Needs`.
    """
    voters = task.topology.num_agents
    shape = (prompts, group, voters)
    contexts = np.stack([task.draw_contexts(rng, prompts) for rng in generators])
    threshold = np.stack([rng.random((2, *shape)) for rng in generators])

    run = np.arange(len(generators))[:, None, None]
    odds = softmax(logits[run, np.arange(voters), contexts])[:, :, None]
    words = _sample(odds, threshold[:, 0])
    meaning = task.answers[contexts[:, :, None], words]
    answer = _sample(meaning, threshold[:, 1])

    classes = task.answers.shape[-1] - 1
    masks = agent_masks(voters, ablated)
    votes = np.eye(classes + 1, dtype=np.float32)[answer][..., :classes]
    counts = np.einsum("wn,sbgnk->wsbgk", masks.astype(np.float32), votes)
    worlds = (len(masks), *answer.shape)
    answer_id = np.broadcast_to(np.where(answer == classes, -1, answer).astype(np.int32), worlds)
    correct = np.broadcast_to((answer == 0).astype(np.float32), worlds)
    return Batch(contexts, words, Outcome(plurality(counts), correct, answer_id, masks))


def plurality(counts: np.ndarray) -> np.ndarray:
    """``[..., K] -> [...]``: chance that class 0 wins a vote, ties broken uniformly."""
    wins = (counts == counts.max(axis=-1, keepdims=True)) & (counts > 0)
    return (wins[..., 0] / np.maximum(wins.sum(axis=-1), 1)).astype(np.float32)


def _sample(odds: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Draws from the last axis; thresholds in [0, 1) have the shape of the result."""
    cumulative = np.cumsum(odds, axis=-1)
    return (cumulative <= threshold[..., None] * cumulative[..., -1:]).sum(axis=-1)


def make_credit_step(arm: Arm, estimator: CreditEstimator) -> Callable:
    """``(states, outcome) -> (advantages [S, N, B, G], states)`` of S runs."""

    def credit_of_runs(states, outcome):
        fields = outcome[:3]
        if jax.tree.leaves(states):
            update = jax.vmap(
                lambda state, *of_run: estimator.update(state, Outcome(*of_run, outcome[3])),
                in_axes=(0, 1, 1, 1),
            )
            return update(states, *fields)

        # Without a state, credit depends on a prompt alone: all runs make one batch.
        runs, prompts = fields[0].shape[1:3]
        merged = [x.reshape(len(x), runs * prompts, *x.shape[3:]) for x in fields]
        credit, _ = estimator.update(states, Outcome(*merged, outcome[3]))
        return jnp.moveaxis(credit.reshape(len(credit), runs, prompts, -1), 1, 0), states

    @jax.jit
    def step(states, outcome):
        credit, states = credit_of_runs(states, outcome)
        if arm.baseline == "none":
            return credit, states
        if arm.baseline == "constant":
            return credit - _CONSTANT, states
        if arm.baseline == "batch_mean":
            return batch_mean_advantage(credit), states
        return leave_one_out_advantage(credit), states

    def credit_step(states, outcome):
        advantages, states = step(states, outcome)
        return np.asarray(advantages, np.float64), states

    return credit_step


def ascent(arm: Arm, logits: np.ndarray, batch: Batch, advantages: np.ndarray) -> np.ndarray:
    """``[S, N, C, M]``: the gradient that the runs climb, estimated from one batch.

    Args:
      arm: how it learns.
      logits: ``[S, N, C, M]``.
      batch: what was said.
      advantages: ``[S, N, B, G]`` of it.
    """
    runs, voters, num_contexts, num_words = logits.shape
    run = np.arange(runs)[:, None, None]
    # [S, B, N, M]
    odds = softmax(logits[run, np.arange(voters), batch.contexts])

    if arm.uses_reward:
        weight = np.moveaxis(advantages, 1, -1)[..., None]
        score = np.eye(num_words)[batch.words] - odds[:, :, None]
        by_problem = (weight * score).mean(axis=2)
    else:
        logprob = np.log(np.maximum(odds, 1e-300))
        entropy = -(odds * logprob).sum(axis=-1, keepdims=True)
        by_problem = _ENTROPY * odds * (logprob + entropy)

    seen = np.eye(num_contexts)[batch.contexts]
    return np.einsum("sbnc,sbnm->sncm", seen, by_problem) / batch.contexts.shape[1]


def evaluate(task: Task, logits: np.ndarray, *, problems: int) -> tuple[np.ndarray, np.ndarray]:
    """E[R] ``[S]`` of the policies as they are, and of those that say their likeliest word.

    Every run is asked the same problems.
    """
    likeliest = logits == logits.max(axis=-1, keepdims=True)
    greedy = np.where(likeliest, 0.0, _NEVER)
    means = []
    for policies in (logits, greedy):
        # One run at a time bounds the memory.
        rewards = []
        for policy in policies:
            rng = np.random.default_rng(2**31)
            batch = draw_batch(task, policy[None], [rng], group=1, prompts=problems, ablated=())
            rewards.append(batch.outcome.reward.mean())
        means.append(np.array(rewards))
    return means[0], means[1]


class Curve(NamedTuple):
    """How one run went: ``[points]``, the first before learning.

    Attributes:
      reward: E[R] of the sampling team.
      greedy: E[R] of the likeliest words.
    """

    reward: np.ndarray
    greedy: np.ndarray


def learn(
    task: Task,
    arm: Arm,
    rates: Sequence[float],
    seeds: Sequence[int],
    *,
    steps: int = 60,
    group: int = 8,
    every: int = 10,
    problems: int = 8192,
) -> dict[tuple[float, int], Curve]:
    """Trains a team with each rate and seed.

    Args:
      task: the team.
      arm: how it learns.
      rates: Adam's learning rates.
      seeds: decide everything drawn in training.
      steps: of training.
      group: G.
      every: steps between evaluations.
      problems: of the last evaluation; those before it have a quarter.
    """
    grid = [(rate, seed) for rate in rates for seed in seeds]
    generators = [np.random.default_rng(seed) for _, seed in grid]
    rate = np.array([rate for rate, _ in grid])[:, None, None, None]

    estimator = make_credit(arm.credit, task.topology, **dict(arm.hyper))
    credit_step = make_credit_step(arm, estimator)
    state = estimator.init()
    states = jax.tree.map(lambda x: np.stack([x] * len(grid)), state)

    logits = np.repeat(task.logits[None], len(grid), axis=0)
    optimizer = init_adam(logits.shape)
    evaluations = [evaluate(task, logits, problems=problems // 4)]
    for step in range(1, steps + 1):
        batch = draw_batch(
            task,
            logits,
            generators,
            group=group,
            prompts=task.prompts,
            ablated=estimator.needs.ablated,
        )
        advantages, states = credit_step(states, batch.outcome)
        direction, optimizer = adam(ascent(arm, logits, batch, advantages), optimizer)
        logits = logits + rate * direction
        if step % every == 0 or step == steps:
            size = problems if step == steps else problems // 4
            evaluations.append(evaluate(task, logits, problems=size))

    reward, greedy = (np.stack(values, axis=1) for values in zip(*evaluations, strict=True))
    return {name: Curve(reward[i], greedy[i]) for i, name in enumerate(grid)}


class AdamState(NamedTuple):
    """Running means of the gradient and of its square."""

    count: int
    mean: np.ndarray
    square: np.ndarray


def init_adam(shape: tuple[int, ...]) -> AdamState:
    """The state before the first step."""
    return AdamState(0, np.zeros(shape), np.zeros(shape))


def adam(gradient: np.ndarray, state: AdamState) -> tuple[np.ndarray, AdamState]:
    """The direction of one step of Adam (arXiv:1412.6980), betas .9 and .999, and its new state."""
    count = state.count + 1
    mean = 0.9 * state.mean + 0.1 * gradient
    square = 0.999 * state.square + 0.001 * gradient**2
    size = np.sqrt(square / (1 - 0.999**count)) + 1e-8
    return mean / (1 - 0.9**count) / size, AdamState(count, mean, square)


# --- the comparison ---


class Row(NamedTuple):
    """One reported run, a line of runs.csv."""

    task: str
    arm: str
    rate: float
    seed: int
    reward: float
    greedy: float
    start_reward: float
    start_greedy: float


class CurveRow(NamedTuple):
    """One evaluation of one run, a line of curves.csv."""

    task: str
    arm: str
    seed: int
    step: int
    reward: float
    greedy: float


def compare(
    name: str, task: Task, arms: Sequence[str], seeds: Sequence[int], *, steps: int
) -> tuple[list[Row], list[CurveRow]]:
    """Chooses each arm's rate on the tuning seeds, by E[R], and reports it on `seeds`."""
    rows = []
    points = []
    for label in arms:
        curves = learn(task, ARMS[label], _RATES, [*_TUNING_SEEDS, *seeds], steps=steps)

        def reward_at(rate, curves=curves):
            return statistics.fmean(curves[rate, seed].reward[-1] for seed in _TUNING_SEEDS)

        rate = max(_RATES, key=reward_at)
        for seed in seeds:
            curve = curves[rate, seed]
            ends = (curve.reward[-1], curve.greedy[-1], curve.reward[0], curve.greedy[0])
            rows.append(Row(name, label, rate, seed, *(round(float(x), 4) for x in ends)))
            for index, pair in enumerate(zip(*curve, strict=True)):
                values = (round(float(x), 4) for x in pair)
                points.append(CurveRow(name, label, seed, index * 10, *values))
        print(
            f"{name} {label}: rate {rate}, E[R] {_cell([r.reward for r in rows if r.arm == label])}"
        )
    return rows, points


def _cell(values: Sequence[float]) -> str:
    """Mean and the half width of its interval, over seeds."""
    mean, half = mean_and_half(values)
    return f"{mean:.2f}" if half is None else f"{mean:.2f} ± {half:.2f}"


def report(rows: Sequence[Row], points: Sequence[CurveRow], facts: dict[str, str]) -> str:
    """The page: a table for each team, with its controls."""
    parts = ["# Learning on tables\n", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    header = [
        "arm",
        "rate",
        "E[R]",
        "minus `shared`",
        "greedy",
        "minus `shared`, greedy",
        "E[R], mean over training",
    ]
    for task in dict.fromkeys(row.task for row in rows):
        of_task = [row for row in rows if row.task == task]
        start = of_task[0]
        lines = [
            ["untrained", "", f"{start.start_reward:.2f}", "", f"{start.start_greedy:.2f}", "", ""]
        ]
        for arm in dict.fromkeys(row.arm for row in of_task):
            own_points = [p for p in points if p.task == task and p.arm == arm]
            lines.append(_line(arm, of_task, own_points))
        parts += [f"## {task}\n", table(header, lines)]
    return "\n".join(parts)


def _line(arm: str, of_task: Sequence[Row], points: Sequence[CurveRow]) -> list:
    """An arm's line of a team's table."""
    own = [row for row in of_task if row.arm == arm]
    shared = {row.seed: row for row in of_task if row.arm == "shared"}
    line = [f"`{arm}`" + (" (control)" if arm in CONTROLS else ""), own[0].rate]
    for field in ("reward", "greedy"):
        line.append(_cell([getattr(row, field) for row in own]))
        pairs = [(row, shared[row.seed]) for row in own if row.seed in shared]
        gaps = [getattr(row, field) - getattr(other, field) for row, other in pairs]
        line.append("–" if arm == "shared" or not gaps else _cell(gaps))

    over_training = []
    for row in own:
        rewards = [point.reward for point in points if point.seed == row.seed and point.step > 0]
        over_training.append(statistics.fmean(rewards))
    return [*line, _cell(over_training)]


def as_csv(rows: Sequence[NamedTuple]) -> str:
    """Lines for programs, the fields' names first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0]._fields)
    writer.writerows(rows)
    return text.getvalue()


def picture(task: str, rows: Sequence[CurveRow], arms: Sequence[str]) -> str:
    """Greedy accuracy over training, each arm's mean over seeds with its interval."""
    series = {}
    for arm in arms:
        own = [row for row in rows if row.task == task and row.arm == arm]
        points = []
        for step in dict.fromkeys(row.step for row in own):
            mean, half = mean_and_half([row.greedy for row in own if row.step == step])
            points.append((step, mean, half or 0.0))
        series[arm] = points
    return chart(series, label=f"greedy accuracy over training steps, {task}", x_name="step")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m experiments.credit_lab.learning", description=__doc__.splitlines()[0]
    )
    add = p.add_argument
    add("--out", required=True, help="folder for learning.md, runs.csv, curves.csv and pictures")
    add("--task", default=",".join(TASKS), help=f"some of {','.join(TASKS)}")
    add("--arm", default=",".join(ARMS), help="some of them, separated by commas")
    add("--seeds", type=int, default=10, help="seeds 0, 1, ... of the reported runs")
    add("--steps", type=int, default=60, help="a multiple of 10")
    return p


def check_arguments(args: argparse.Namespace) -> None:
    """Refuses arguments before anything is computed.

    Raises:
      InputError: naming the argument.
    """
    for name, known in (("task", TASKS), ("arm", ARMS)):
        for label in getattr(args, name).split(","):
            if label not in known:
                message = f"{label!r:.80} is unknown; use some of {','.join(known)}"
                raise InputError(name, message)
    if args.seeds < 2:
        raise InputError("seeds", f"must be at least 2, received {args.seeds}; type --seeds=10")
    if args.steps < 10 or args.steps % 10:
        message = f"must be a multiple of 10, received {args.steps}; type --steps=60"
        raise InputError("steps", message)


def main(argv: Sequence[str] | None = None) -> int:
    """Compares the arms on each team and writes tables, CSV files and pictures."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parser().parse_args(argv)
    try:
        check_arguments(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    rows: list[Row] = []
    points: list[CurveRow] = []
    arms = args.arm.split(",")
    for name in args.task.split(","):
        of_task, of_curves = compare(name, TASKS[name](), arms, range(args.seeds), steps=args.steps)
        rows += of_task
        points += of_curves

    facts = {
        "command": f"`python -m experiments.credit_lab.learning {shlex.join(argv)}`",
        "training": f"{args.steps} steps of Adam, 8 samples of each problem; rate: the best of "
        f"{', '.join(map(str, _RATES))} by E[R] on seeds {', '.join(map(str, _TUNING_SEEDS))}",
        "seeds": f"0 to {args.seeds - 1}; 95 % t-intervals over seeds, differences paired by seed",
        "evaluation": "8,192 problems, the same for all: a standard error of at most 0.006",
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
    }
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "learning.md").write_text(report(rows, points, facts), encoding="utf-8")
    (out / "runs.csv").write_text(as_csv(rows), encoding="utf-8")
    (out / "curves.csv").write_text(as_csv(points), encoding="utf-8")
    for name in args.task.split(","):
        text = picture(name, points, [arm for arm in arms if arm not in CONTROLS])
        (out / f"{name}.svg").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
