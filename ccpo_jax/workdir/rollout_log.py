"""What a team said in some of its steps, and what each agent was paid for it: rollouts.jsonl, bounded in size."""

import math
import pathlib
from collections.abc import Sequence

import numpy as np

from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import Outcome
from ccpo_jax.rollout import Rollout
from ccpo_jax.workdir.jsonl import StepLines

_MOST_STEPS = 200  # of a run that are kept; of longer ones, fewer of every hundred
_MOST_SAMPLES = 16  # of a problem that are kept; a group may have more
_MOST_TOLD = (
    8  # samples of a masked world that stand beside a factual one where their numbers differ
)
_MOST_TEXT = 1_000_000  # characters of all texts of a problem; more texts are cut shorter
_MOST_CHARS = 200  # of names and answers


class RolloutLog:
    """Keeps the rollouts of the first problems of some steps, one problem a line. A context manager.

    Step 1 is kept, and every step that `every` divides. A batch is drawn at random, so its first problems are as good
    as any. The same run writes the same lines, and nothing that is learned depends on them.

    Args:
      workdir: receives rollouts.jsonl.
      topology: the team.
      resume_step: steps already done, see `StepLines`.
      total_steps: of the run; one with more than 200 steps to keep keeps fewer, evenly.
      problems: per step; 0 = none.
      every: steps.
      chars: most characters of a text that are kept.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        topology: Topology,
        *,
        resume_step: int = 0,
        total_steps: int,
        problems: int,
        every: int,
        chars: int,
    ):
        self._topology, self._problems, self._chars = topology, problems, chars
        self._every = every * max(1, math.ceil(total_steps / every / _MOST_STEPS))
        self._lines = StepLines(pathlib.Path(workdir, "rollouts.jsonl"), resume_step)

    def write(
        self,
        step: int,
        problems: Sequence,
        spoken: Rollout,
        graded: Sequence,
        outcome: Outcome,
        credit: np.ndarray,
        advantage: np.ndarray,
        known: np.ndarray | None = None,
    ) -> None:
        """Keeps what belongs to `step`, if it is one of those to keep.

        Args:
          step: from 1, the step that was made of these rollouts.
          problems: B `data.Problem`.
          spoken: what was said.
          graded: B `verifiers.Graded`, each with a verdict on every text.
          outcome: ``[W, B, G(, A)]``.
          credit: ``[A, B, G]``.
          advantage: ``[A, B, G]``.
          known: ``[A]`` bool, False = the step did not compute this agent's credit: null in the file; None = all.
        """
        if known is not None:
            credit = np.where(known[:, None, None], credit, np.nan)
            advantage = np.where(known[:, None, None], advantage, np.nan)
        if step == 1 or step % self._every == 0:
            for b, problem in enumerate(problems[: self._problems]):
                facts = (spoken, graded[b], outcome, credit, advantage)
                self._lines.append(
                    step, entry(self._topology, problem, b, *facts, most_chars=self._chars)
                )

    def __enter__(self) -> "RolloutLog":
        return self

    def __exit__(self, *_) -> None:
        self._lines.close()


def entry(
    topology: Topology,
    problem,
    b: int,
    spoken: Rollout,
    graded,
    outcome: Outcome,
    credit: np.ndarray,
    advantage: np.ndarray,
    *,
    most_chars: int,
) -> dict:
    """One problem of a batch with all that was said to it, as JSON.

    Args:
      topology: the team.
      problem: a `data.Problem`.
      b: its number in the batch.
      spoken, outcome, credit, advantage: of the batch, see `RolloutLog.write`.
      graded: the verdicts on the problem's texts, those of turn 0 first.
      most_chars: of a text; what a longer one has in its middle is left out.

    Returns:
      ``views``: what each agent reads in place of the question, [] if all read it. ``masked [W]``: agents that each
      world masks. ``turns [T]``: speaker, role and the different texts, each with its
      answer as stated and its verdict in words. ``samples``: of each sample the team's reward ``[W]``, credit and
      advantage ``[A]``, and ``said [W][n][T]``: which text of each turn belongs to it in each world, None where its
      speaker is masked; n is 1, but where a world has samples in another number than the factual one, n of them stand
      beside every factual sample and the reward is their mean. With raters, their words and splits.
    """
    group, agents = credit.shape[2], range(topology.num_agents)
    places: list[dict[int, int]] = [
        {} for _ in spoken.turns
    ]  # of each turn: row -> place among those that are kept

    def said(g: int, world: int) -> list[list[int | None]]:
        count = spoken.samples(topology, world)
        return [
            [
                places[t].setdefault(int(turn.row(world, s, count)), len(places[t]))
                if spoken.masks[world][speaker]
                else None
                for t, (turn, speaker) in enumerate(
                    zip(spoken.turns, topology.speakers, strict=True)
                )
            ]
            for s in ([g] if count == group else range(min(count, _MOST_TOLD)))
        ]

    samples = [
        {
            "reward": _numbers(outcome.reward[:, b, g]),
            "credit": _numbers(credit[:, b, g]),
            "advantage": _numbers(advantage[:, b, g]),
            "said": [said(g, world) for world in range(len(spoken.masks))],
        }
        for g in range(min(group, _MOST_SAMPLES))
    ]
    most_chars = min(most_chars, _MOST_TEXT // sum(map(len, places)))
    for g, sample in enumerate(samples if spoken.ratings else ()):
        sample["splits"] = [_numbers(outcome.shares[a, b, g]) for a in agents]
        sample["ratings"] = [shorten(turn.texts[b][g], most_chars) for turn in spoken.ratings]
    turns, first = [], 0
    for t, turn in enumerate(spoken.turns):
        kept = [_text(turn, b, row, graded, first + row, most_chars) for row in places[t]]
        turns.append({"speaker": topology.speakers[t], "role": topology.roles[t], "texts": kept})
        first += len(turn.texts[b])
    return {
        "id": shorten(problem.id, _MOST_CHARS),
        "question": shorten(problem.question, most_chars),
        "views": [shorten(view, most_chars) for view in problem.views],
        "gold": shorten(problem.gold, _MOST_CHARS),
        "group": group,
        "mean_credit": _numbers(credit[:, b].mean(axis=-1)),
        "masked": [np.flatnonzero(~mask).tolist() for mask in np.asarray(spoken.masks)],
        "turns": turns,
        "samples": samples,
    }


def _text(turn, b: int, row: int, graded, place: int, most_chars: int) -> dict:
    """A text with its answer and the verdict on it; the verifier heard it as its text number `place`."""
    answer, problem = graded.answers[place], graded.problems[place]
    if turn.samples.truncated[b, row]:
        verdict = "cut off"
    elif graded.correct[place]:
        verdict = "right"
    else:
        verdict = shorten(problem.replace("_", " "), _MOST_CHARS) or "wrong"
    kept = {"text": shorten(turn.texts[b][row], most_chars), "verdict": verdict}
    return kept if answer is None else kept | {"answer": shorten(answer, _MOST_CHARS)}


def shorten(text: str, most_chars: int) -> str:
    """A text of at most about `most_chars` characters: its beginning and its end.

    Example:
      >>> shorten("0123456789", 6)
      '012 [4 characters left out] 789'
    """
    if len(text) <= most_chars:
        return text
    head = (most_chars + 1) // 2
    tail = most_chars - head
    return (
        f"{text[:head]} [{len(text) - most_chars:,} characters left out] {text[len(text) - tail :]}"
    )


def _numbers(values) -> list[float | None]:
    """Six digits tell rewards apart; JSON knows no NaN."""
    return [round(float(value), 6) if math.isfinite(value) else None for value in values]
