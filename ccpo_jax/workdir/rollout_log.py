"""rollouts.jsonl: the messages of some steps with verdicts, credit and advantage; bounded."""

import itertools
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np

from ccpo_jax.data import Problem
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import HostArray, Outcome
from ccpo_jax.rollout import Rollout
from ccpo_jax.scores import is_fraction, is_solved, score_text
from ccpo_jax.verifiers import Graded
from ccpo_jax.workdir.jsonl import StepLines

# Steps of a run that are logged; of a longer run, fewer in every hundred.
_MAX_STEPS = 200
# Samples of a problem that are logged; a group may have more.
_MAX_SAMPLES = 16
# Samples of a masked world that are logged beside a factual sample where the two counts differ.
_MAX_MASKED_SAMPLES = 8
# Characters of a text that are logged: its beginning and its end.
_MAX_TEXT_CHARS = 2000
# Characters of all texts of a problem; where there are more texts, each is cut shorter.
_MAX_PROBLEM_CHARS = 1_000_000
# Characters of names and answers.
_MAX_NAME_CHARS = 200
# Turns before a question that are logged: the first ones and the last ones.
_MAX_TURNS_BEFORE = 16
# Parts of a score that are logged.
_MAX_PARTS = 16

# One text per turn, None where the turn's speaker is masked: as the row of a sampler call, or as
# the number of a text in `TurnRecord.texts`.
Transcript = list[int | None]


class TextRecord(TypedDict):
    """A message and what the verifier said about it."""

    text: str
    thought: NotRequired[str]  # what was thought before it; absent where nothing was
    # "right", "wrong", a score between them as "0.40", "cut off", or why there is no verdict
    verdict: str
    answer: NotRequired[str]  # as stated; absent where no answer was found
    score: NotRequired[float]  # where it is a fraction
    parts: NotRequired[dict[str, float | None]]  # of the score by name, where it has any


class TurnRecord(TypedDict):
    """The different texts that were written in one turn."""

    speaker: int  # agent
    role: str
    texts: list[TextRecord]


class SampleRecord(TypedDict):
    """One sample of the team: its texts and what they earned.

    None stands for a number that is not finite, or that the step did not compute.
    """

    reward: list[float | None]  # [W]
    credit: list[float | None]  # [A]
    advantage: list[float | None]  # [A]
    said: list[list[Transcript]]  # [W][n][T]: numbers of texts; see `rollout_record` for n
    splits: NotRequired[list[list[float | None]]]  # [A][2], where agents rate the outcome
    ratings: NotRequired[list[str]]  # [A], the raters' replies
    rating_thoughts: NotRequired[list[str]]  # [A], absent where no rater thought


class RolloutRecord(TypedDict):
    """A line of rollouts.jsonl: one problem of one step, with all messages and what they earned."""

    step: NotRequired[int]  # in the file; the step that was made of these rollouts
    id: str
    # (speaker, text) of the turns before the question; absent where there are none
    before: NotRequired[list[tuple[str, str]]]
    question: str
    views: NotRequired[list[str]]  # what each agent reads as the question; [] = all read it
    gold: str  # the right answer
    group: int  # samples of the problem; not all of them are logged
    mean_credit: list[float | None]  # [A], over all of them
    masked: list[list[int]]  # [W], agents that each world masks
    turns: list[TurnRecord]  # [T]
    samples: list[SampleRecord]


class StepBatch(NamedTuple):
    """What one training step was made of, on the host."""

    problems: Sequence[Problem]  # [B]
    rollout: Rollout
    graded: Sequence[Graded]  # [B], each with a verdict on every text, those of turn 0 first
    outcome: Outcome  # [W, B, G(, A)]
    credit: HostArray  # [A, B, G]
    advantage: HostArray  # [A, B, G]
    known: HostArray  # [A] bool, False = the step did not compute this agent's credit


class RolloutLog:
    """Logs the rollouts of some steps, one problem per line. A context manager.

    Logged are the first problems of step 1 and of every step that `every` divides. Batches are
    drawn at random, so that the first problems of a batch are a random choice. The same run writes
    the same lines, and training does not depend on them.

    Args:
      workdir: receives rollouts.jsonl.
      topology: the team.
      total_steps: of the run; one with more than 200 steps to log logs fewer, evenly.
      problems: per step; 0 = none.
      every: steps between two that are logged.
      resume_step: steps already done, see `StepLines`.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        topology: Topology,
        *,
        total_steps: int,
        problems: int,
        every: int,
        resume_step: int = 0,
    ):
        self._topology = topology
        self._num_problems = problems
        self._every = every * max(1, math.ceil(total_steps / every / _MAX_STEPS))
        self._lines = StepLines(pathlib.Path(workdir, "rollouts.jsonl"), resume_step)

    def write(self, step: int, batch: StepBatch) -> None:
        """Logs what `step`, counted from 1, was made of, if it is a step to log."""
        if step != 1 and step % self._every:
            return
        for index in range(min(self._num_problems, len(batch.problems))):
            self._lines.append(step, rollout_record(self._topology, batch, index))

    def __enter__(self) -> "RolloutLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()


def rollout_record(
    topology: Topology, batch: StepBatch, index: int, *, max_chars: int = _MAX_TEXT_CHARS
) -> RolloutRecord:
    """One problem of a batch with everything that was written for it, as JSON.

    Args:
      topology: the team.
      batch: of one step.
      index: of the problem in the batch.
      max_chars: of a text; of a longer one the middle is left out.

    Returns:
      The record. A sample's ``said[w]`` holds one transcript; but where world w has another number
      of samples than the factual world, it holds up to 8 of them and the sample's reward in w is
      their mean.
    """
    problem = batch.problems[index]
    rollout = batch.rollout
    credit = batch.credit[:, index]
    group = credit.shape[-1]

    rows = [
        _rows_of_sample(topology, rollout, sample, group)
        for sample in range(min(group, _MAX_SAMPLES))
    ]
    logged_rows = _unique_rows(rows, len(rollout.turns))
    num_texts = sum(len(turn_rows) for turn_rows in logged_rows)
    for turn, turn_rows in zip(rollout.turns, logged_rows, strict=True):
        num_texts += sum(turn.thought(index, row) != "" for row in turn_rows)
    max_chars = min(max_chars, _MAX_PROBLEM_CHARS // num_texts)

    record: RolloutRecord = {
        "id": shorten(problem.id, _MAX_NAME_CHARS),
        "question": shorten(problem.question, max_chars),
        "views": [shorten(view, max_chars) for view in problem.views],
        "gold": shorten(problem.gold, _MAX_NAME_CHARS),
        "group": group,
        "mean_credit": _known_numbers(credit.mean(axis=-1), batch.known),
        "masked": [np.flatnonzero(~mask).tolist() for mask in np.asarray(rollout.masks)],
        "turns": _turn_records(topology, batch, index, logged_rows, max_chars),
        "samples": [
            _sample_record(batch, index, sample, _number_texts(worlds, logged_rows), max_chars)
            for sample, worlds in enumerate(rows)
        ],
    }
    if problem.history:
        record["before"] = _turns_before(problem.history, max_chars)
    return record


def _turns_before(history: Sequence[tuple[str, str]], max_chars: int) -> list[tuple[str, str]]:
    """The turns before a question; of many, the ones in the middle are left out."""
    kept = list(history)
    left_out = len(kept) - _MAX_TURNS_BEFORE
    if left_out > 0:
        half = _MAX_TURNS_BEFORE // 2
        kept[half:-half] = [("...", f"[{left_out:,} turns left out]")]
    return [(shorten(who, _MAX_NAME_CHARS), shorten(text, max_chars)) for who, text in kept]


def _rows_of_sample(
    topology: Topology, rollout: Rollout, sample: int, group: int
) -> list[list[Transcript]]:
    """The transcripts of a sample in every world, ``[W][n][T]``, as rows of the turns."""
    worlds = []
    for world, present in enumerate(rollout.masks):
        count = rollout.num_samples(topology, world)
        members = [sample] if count == group else range(min(count, _MAX_MASKED_SAMPLES))
        transcripts = []
        for member in members:
            transcript: Transcript = []
            for turn, speaker in zip(rollout.turns, topology.speakers, strict=True):
                row = int(turn.row_of_sample(world, member, count)) if present[speaker] else None
                transcript.append(row)
            transcripts.append(transcript)
        worlds.append(transcripts)
    return worlds


def _unique_rows(samples: Iterable[list[list[Transcript]]], num_turns: int) -> list[list[int]]:
    """The rows of each turn that occur in the samples, in order of appearance."""
    unique: list[dict[int, None]] = [{} for _ in range(num_turns)]
    worlds = itertools.chain.from_iterable(samples)
    for transcript in itertools.chain.from_iterable(worlds):
        for turn, row in enumerate(transcript):
            if row is not None:
                unique[turn][row] = None
    return [list(rows) for rows in unique]


def _number_texts(
    worlds: list[list[Transcript]], logged_rows: Sequence[Sequence[int]]
) -> list[list[Transcript]]:
    """The same transcripts with the number of a row among the logged ones in place of the row."""
    numbers: list[Mapping[int | None, int | None]] = []
    for rows in logged_rows:
        numbers.append({None: None} | {row: number for number, row in enumerate(rows)})
    return [
        [[numbers[turn][row] for turn, row in enumerate(rows)] for rows in transcripts]
        for transcripts in worlds
    ]


def _turn_records(
    topology: Topology,
    batch: StepBatch,
    index: int,
    logged_rows: Sequence[Sequence[int]],
    max_chars: int,
) -> list[TurnRecord]:
    """The logged texts of every turn with their verdicts."""
    graded = batch.graded[index]
    turns: list[TurnRecord] = []
    # The verifier numbers a problem's texts through all turns.
    offset = 0
    for t, turn in enumerate(batch.rollout.turns):
        texts = []
        for row in logged_rows[t]:
            truncated = bool(turn.samples.truncated[index, row])
            text = shorten(turn.texts[index][row], max_chars)
            record = _text_record(text, graded, offset + row, truncated)
            if thought := turn.thought(index, row):
                record["thought"] = shorten(thought, max_chars)
            texts.append(record)
        turns.append({"speaker": topology.speakers[t], "role": topology.roles[t], "texts": texts})
        offset += len(turn.texts[index])
    return turns


def _text_record(text: str, graded: Graded, number: int, truncated: bool) -> TextRecord:
    """A text with the verdict that the verifier gave on its text `number`."""
    verdict = verdict_text(graded, number, truncated)
    record: TextRecord = {"text": text, "verdict": verdict}
    answer = graded.answers[number]
    if answer is not None:
        record["answer"] = shorten(answer, _MAX_NAME_CHARS)

    score = graded.scores[number]
    if is_fraction(score) and not truncated:
        record["score"] = round(score, 6)
    if graded.parts:
        record["parts"] = parts_of_text(graded, number)
    return record


def verdict_text(graded: Graded, number: int, truncated: bool) -> str:
    """What a verifier says about a text: "right", "wrong", "0.40", or why there is no verdict.

    Args:
      graded: the verdicts on a problem's texts.
      number: of the text.
      truncated: the text was cut off, so that it counts as wrong.
    """
    if truncated:
        return "cut off"
    score = graded.scores[number]
    failure = graded.failures[number].replace("_", " ")
    if failure and not is_solved(score) and not is_fraction(score):
        return shorten(failure, _MAX_NAME_CHARS)
    return score_text(score)


def parts_of_text(graded: Graded, number: int) -> dict[str, float | None]:
    """The parts of a text's score by name, at most 16; None where a part gave it nothing."""
    parts = {}
    for name, values in itertools.islice(graded.parts.items(), _MAX_PARTS):
        value = values[number]
        (parts[shorten(name, _MAX_NAME_CHARS)],) = _json_numbers(
            [np.nan if value is None else value]
        )
    return parts


def _sample_record(
    batch: StepBatch, index: int, sample: int, said: list[list[Transcript]], max_chars: int
) -> SampleRecord:
    """What one sample earned, and the raters' words about it where agents rate the outcome."""
    record: SampleRecord = {
        "reward": _json_numbers(batch.outcome.reward[:, index, sample]),
        "credit": _known_numbers(batch.credit[:, index, sample], batch.known),
        "advantage": _known_numbers(batch.advantage[:, index, sample], batch.known),
        "said": said,
    }
    if batch.outcome.shares is not None:
        shares = batch.outcome.shares[:, index, sample]
        record["splits"] = [_json_numbers(split) for split in shares]
        replies = [turn.texts[index][sample] for turn in batch.rollout.ratings]
        record["ratings"] = [shorten(reply, max_chars) for reply in replies]
        thoughts = [turn.thought(index, sample) for turn in batch.rollout.ratings]
        if any(thoughts):
            record["rating_thoughts"] = [shorten(thought, max_chars) for thought in thoughts]
    return record


def shorten(text: str, max_chars: int) -> str:
    """A text of at most about `max_chars` characters: its beginning and its end.

    Example:
      >>> shorten("0123456789", 6)
      '012 [4 characters left out] 789'
    """
    if len(text) <= max_chars:
        return text
    tail = max_chars // 2
    head = max_chars - tail
    left_out = len(text) - max_chars
    return f"{text[:head]} [{left_out:,} characters left out] {text[len(text) - tail :]}"


def _known_numbers(values: HostArray, known: HostArray) -> list[float | None]:
    return _json_numbers(np.where(known, values, np.nan))


def _json_numbers(values: Iterable[float]) -> list[float | None]:
    """Six digits tell rewards apart; JSON has no NaN."""
    return [round(float(value), 6) if math.isfinite(value) else None for value in values]
