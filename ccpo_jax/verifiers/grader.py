"""Verdicts for a team's rollouts, asked for while other prompts still decode."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np

from ccpo_jax.data import Problem
from ccpo_jax.devices.distributed import all_gather_objects, sync_errors
from ccpo_jax.rl.types import Outcome
from ccpo_jax.rollout import Rollout, Team, outcome
from ccpo_jax.verifiers import Graded, Item, VerifierPool


class Grader:
    """Verifies what a team says about some problems, each as soon as it is heard: while the others still decode.

    Of several processes each verifies its share of the problems; `grade` brings the verdicts together.
    """

    def __init__(self, pool: VerifierPool, problems: Sequence[Problem]):
        self._pool, self._problems = pool, problems
        self._mine = range(jax.process_index(), len(problems), jax.process_count())
        self._verdicts: dict[int, tuple[Future, int]] = {}
        self._thread = ThreadPoolExecutor(
            1
        )  # one after the other: the pool's processes work side by side

    def submit(self, texts: Mapping[int, tuple[str, ...]]) -> None:
        """Takes all answers to some of the problems, by the problem's number; numbers past the last count nowhere."""
        known = [b for b in texts if b in self._mine]
        items = [Item(self._problems[b].verifier, self._problems[b].gold, texts[b]) for b in known]
        graded = self._thread.submit(self._pool.verify, items)
        self._verdicts |= {b: (graded, place) for place, b in enumerate(known)}

    def collect(self, team: Team, spoken: Rollout) -> tuple[Outcome, Counter, list[Graded]]:
        """Waits for the last verdict.

        Returns:
          ``(outcome, counts, graded)``: the team's outcome in every world, how many answers timed out, crashed, failed
          to parse or were not found, and the verdicts on each problem's texts in the order they were heard in.
        """
        try:
            with sync_errors():
                mine = [self._verdicts[b][0].result()[self._verdicts[b][1]] for b in self._mine]
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
        parts = all_gather_objects([list(g) for g in mine])
        graded = [
            Graded(*parts[b % len(parts)][b // len(parts)]) for b in range(len(self._problems))
        ]
        rows = [turn.samples.length.shape[1] for turn in spoken.turns]
        borders = np.cumsum(rows)[:-1]
        correct = np.split(np.array([g.correct for g in graded], np.float32), borders, axis=1)
        classes = np.split(np.array([g.answer_id for g in graded], np.int32), borders, axis=1)
        counts = Counter()
        for g in graded:
            counts.update(g.counts)
        return outcome(team.topology, spoken, correct, classes), counts, graded
