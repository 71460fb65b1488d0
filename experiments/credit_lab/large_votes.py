"""What credit costs in a large vote, and the variance that sampling adds to it.

    python -m experiments.credit_lab.large_votes

Votes are drawn at random: each voter is right with a probability of its own, and its wrong answers
are spread over a few classes. Times are of the compiled program, medians of five.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ccpo_jax.rl.class_counts import expected_contribution
from ccpo_jax.rl.credit import make_credit
from ccpo_jax.rl.topology import Topology, agent_masks, voting
from ccpo_jax.rl.types import Array, HostArray, Outcome
from ccpo_jax.rl.votes import vote_reward, votes_without_each

# In a vote without masked worlds to decode; those of ccpo, difference and agent_norm are counted.
_ESTIMATORS = (
    "shared",
    "magrpo",
    "individual",
    "difference",
    "ccpo",
    "agent_norm",
    "cross_play",
    "shapley",
)

# (voters, answer classes, ties) whose votes are counted.
_COUNTED = ((64, 2, "expected"), (64, 2, "first"), (15, 4, "expected"), (15, 3, "first"))


def random_votes(
    prompts: int, samples: int, voters: int, classes: int, seed: int = 0
) -> tuple[HostArray, HostArray]:
    """Answers ``[B, G, A]`` and whether each is right; class 0 is, one answer of ten abstains."""
    rng = np.random.default_rng(seed)
    skill = rng.uniform(0.2, 0.7, (prompts, 1, voters))
    right = rng.random((prompts, samples, voters)) < skill
    wrong = rng.integers(1, max(classes, 2), right.shape)
    answer_id = np.where(right, 0, wrong)
    answer_id = np.where(rng.random(right.shape) < 0.1, -1, answer_id).astype(np.int32)
    return answer_id, (answer_id == 0).astype(np.float32)


def outcome_of(team: Topology, answer_id: HostArray, correct: HostArray) -> Outcome:
    """The outcome with the masked world of every voter."""
    masks = agent_masks(team.num_agents)
    worlds = (len(masks), *answer_id.shape)
    factual = vote_reward(answer_id, correct, True, tie=team.tie)
    without = votes_without_each(answer_id, correct, tie=team.tie)
    return Outcome(
        np.concatenate([factual[None], without]),
        np.broadcast_to(correct, worlds),
        np.broadcast_to(answer_id, worlds),
        masks,
    )


def measure(function: Callable[..., Any], *arguments: Any) -> tuple[float, float, float]:
    """Seconds to compile, seconds to run, and MB of temporary memory."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    jax.block_until_ready(compiled(*arguments))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - start)
    memory = compiled.memory_analysis().temp_size_in_bytes / 1e6
    return compile_seconds, statistics.median(seconds), memory


def print_costs(prompts: int, samples: int, voters: int) -> None:
    """A line per estimator: with many classes of answers, and where they can be counted."""
    print(f"{voters} voters x {samples} samples x {prompts} prompts: seconds, MB")
    print(f"{'':34} compile     run      MB")

    def line(label: str, function: Callable[..., Any], *arguments: Any) -> None:
        compile_seconds, seconds, memory = measure(function, *arguments)
        print(f"{label:34} {compile_seconds:7.2f} {seconds:7.3f} {memory:7.1f}", flush=True)

    for tie in ("expected", "first"):
        team = voting(voters, tie)
        for classes in (2, 20):
            outcome = outcome_of(team, *random_votes(prompts, samples, voters, classes))
            if classes == 20:
                line(f"masked worlds, tie {tie}", votes_without_each_of(tie), *_factual(outcome))
            for name in _ESTIMATORS:
                if classes == 2 and name != "cross_play":
                    continue
                if tie == "first" and name not in ("cross_play", "shapley"):
                    continue
                estimator = make_credit(name, team)
                label = f"{name}, {classes} classes, tie {tie}"
                line(label, estimator.update, estimator.init(), outcome)


def print_counting(prompts: int, samples: int) -> None:
    """A line per team whose votes are counted, with scores that are equal or differ in a class.

    With ties "first" a state also holds the order of its classes, so `cross_play` counts two
    classes of 64 voters for the other rules alone.
    """
    print(f"counted votes, {samples} samples x {prompts} prompts: seconds, MB")
    rng = np.random.default_rng(1)
    for voters, classes, tie in _COUNTED:
        answer_id, correct = random_votes(prompts, samples, voters, classes)
        label = np.where(answer_id < 0, classes, answer_id)
        count = functools.partial(expected_contribution, classes=classes, tie=tie)
        differing = correct * rng.choice(np.float32([0.5, 0.75, 1.0]), correct.shape)
        for name, scores in (("equal", correct), ("differing", differing)):
            compile_seconds, seconds, memory = measure(count, label, scores)
            team = f"{voters} voters, C = {classes}, tie {tie}, {name}"
            print(f"{team:42} {compile_seconds:7.2f} {seconds:7.3f} {memory:7.1f}", flush=True)


def votes_without_each_of(tie: str) -> Callable[[HostArray, HostArray], Array]:
    """`votes_without_each` under a rule for ties."""
    return lambda answer_id, correct: votes_without_each(answer_id, correct, tie=tie)


def _factual(outcome: Outcome) -> tuple[HostArray, HostArray]:
    return np.asarray(outcome.answer_id[0]), np.asarray(outcome.correct[0])


def print_variances(samples: int) -> None:
    """A line per team: the variance that pairings and orders add, in percent of the exact credit's
    variance within groups.

    Two answer classes besides abstentions, so that the exact credit can be counted.
    """
    counts = (8, 16, 32, 64, 128, 256)
    print(f"variance added, % of the variance of exact cross-play within groups; G = {samples}")
    print("voters difference " + " ".join(f"{f'M={count}':>6}" for count in counts))
    for voters in (3, 5, 9, 15, 32, 64):
        team = voting(voters)
        outcome = outcome_of(team, *random_votes(200, samples, voters, 2))
        exact = _centred(make_credit("cross_play", team), outcome)
        signal = exact.var()
        difference = _centred(make_credit("difference", team), outcome)
        added = [np.square(difference - exact).mean() / signal]
        for count in counts:
            sampled = _centred(make_credit("cross_play", team, pairings=count), outcome)
            added.append(np.square(sampled - exact).mean() / signal)
        print(f"{voters:6} {added[0]:10.1%} " + " ".join(f"{x:6.1%}" for x in added[1:]))

    print("shapley at 10 voters, O orders: the same, relative to the exact value")
    team = voting(10)
    outcome = outcome_of(team, *random_votes(200, samples, 10, 20))
    exact = _centred(make_credit("shapley", team), outcome)
    for orders in (4, 8, 16, 32, 64):
        sampled = _centred(make_credit("shapley", team, orders=orders), outcome)
        print(f"O={orders:3} {np.square(sampled - exact).mean() / exact.var():6.1%}")


def _centred(estimator, outcome: Outcome) -> HostArray:
    """Credit minus the mean of its group, as an advantage sees it."""
    credit = np.asarray(jax.jit(estimator.update)(estimator.init(), outcome)[0], np.float64)
    return credit - credit.mean(axis=-1, keepdims=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--voters", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8, help="samples per prompt")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--only", choices=("costs", "counting", "variances"), help="one table")
    arguments = parser.parse_args()
    if arguments.only in (None, "costs"):
        print_costs(arguments.prompts, arguments.samples, arguments.voters)
    if arguments.only in (None, "counting"):
        print_counting(arguments.prompts, arguments.samples)
    if arguments.only in (None, "variances"):
        print_variances(arguments.samples)


if __name__ == "__main__":
    main()
