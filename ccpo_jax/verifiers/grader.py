"""Verdicts on a team's rollouts, computed while other prompts are still decoded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from ccpo_jax.data import Problem
from ccpo_jax.devices.distributed import all_gather_objects, is_main_process, sync_errors
from ccpo_jax.rl.types import Outcome
from ccpo_jax.rollout import Rollout, Team, outcome
from ccpo_jax.status import status
from ccpo_jax.verifiers.pool import Begun, VerifierPool
from ccpo_jax.verifiers.reward import Reward, check_item
from ccpo_jax.verifiers.types import Context, Graded, Item, Note


def check_problems(reward: Reward, problems: Sequence[Problem]) -> None:
    """Checks that problems have the columns that functions of the user's cannot do without.

    Raises:
      InputError: one lacks a column.
    """
    if any(function.columns for function in reward.functions.values()):
        for problem in problems:
            check_item(reward, item_of(problem, ()))


def item_of(problem: Problem, texts: tuple[str, ...]) -> Item:
    """Texts on a problem, with all that is known about it."""
    context = Context(question=problem.question, options=problem.options, history=problem.history)
    return Item(problem.verifier, problem.gold, texts, context, problem.row)


class _Pending(NamedTuple):
    """Verdicts to come: the call that begins them, and the problem's index in that call."""

    call: Future[list[Begun]]
    index: int


class Grader:
    """Verifies a team's answers to some problems, each as soon as its prompt is done.

    Where several processes train together, each verifies its share of the problems; `collect`
    exchanges the verdicts.
    """

    def __init__(self, pool: VerifierPool, problems: Sequence[Problem]):
        self._pool = pool
        self._problems = problems
        self._own_problems = range(jax.process_index(), len(problems), jax.process_count())
        self._pending: dict[int, _Pending] = {}
        # One call at a time: within a call the pool's processes already work in parallel.
        self._thread = ThreadPoolExecutor(1)

    def submit(self, texts: Mapping[int, tuple[str, ...]]) -> None:
        """Starts verifying all texts on some of the problems and returns at once.

        Args:
          texts: number of a problem -> its texts. Numbers beyond the last problem, which pad a
            batch, are ignored.
        """
        numbers = [number for number in texts if number in self._own_problems]
        items = [item_of(self._problems[number], texts[number]) for number in numbers]
        call = self._thread.submit(self._pool.begin, items)
        for index, number in enumerate(numbers):
            self._pending[number] = _Pending(call, index)

    def collect(self, team: Team, rollout: Rollout) -> tuple[Outcome, Counter[str], list[Graded]]:
        """Waits for the last verdict.

        Args:
          team: who produced the rollout.
          rollout: all texts that were submitted.

        Returns:
          ``(outcome, counts, graded)``: the team's outcome in every world; the number of texts
          without a verdict by reason, one of `FAILURES`; and the verdicts on each problem's texts
          in the order of `submit`.

        Raises:
          RewardError: a function of the user's failed, and errors stop.
        """
        graded = self._all_verdicts()

        samples_per_turn = [turn.samples.length.shape[1] for turn in rollout.turns]
        borders = np.cumsum(samples_per_turn)[:-1]
        scores = np.array([verdicts.scores for verdicts in graded], np.float32)
        answer_id = np.array([verdicts.answer_id for verdicts in graded], np.int32)
        team_outcome = outcome(
            team.topology,
            rollout,
            np.split(scores, borders, axis=1),
            np.split(answer_id, borders, axis=1),
        )

        counts: Counter[str] = Counter()
        for verdicts in graded:
            counts.update(verdicts.counts)
        return team_outcome, counts, graded

    def _all_verdicts(self) -> list[Graded]:
        """The verdicts of all processes, by problem."""
        try:
            with sync_errors():
                pending = [self._pending[number] for number in self._own_problems]
                begun = []
                with status("verifying", unit="problems", total=len(pending)) as phase:
                    for call, index in pending:
                        begun.append(call.result()[index])
                        phase.advance()
                # Slow answers are judged last, those of all prompts together.
                with status("verifying slow answers"):
                    own = self._pool.finish(begun)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

        by_process = all_gather_objects([list(verdicts) for verdicts in own])
        graded = []
        for number in range(len(self._problems)):
            # Problems were dealt out in turn, see `_own_problems`.
            index, process = divmod(number, len(by_process))
            verdicts = Graded(*by_process[process][index])
            graded.append(verdicts._replace(notes=[Note(*note) for note in verdicts.notes]))
        # From the same verdicts, so that all processes stop, or none.
        self._pool.report(graded, quiet=not is_main_process())
        return graded
