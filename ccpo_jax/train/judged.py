"""Whether the verifier takes demonstrations as right answers to their problems."""

import itertools

from ccpo_jax.errors import escape_control
from ccpo_jax.integers import ceil_div
from ccpo_jax.train.build import Run
from ccpo_jax.train.supervised import demonstrated
from ccpo_jax.verifiers import VerifierPool
from ccpo_jax.verifiers.grader import item_of

# Problems whose demonstrations are judged, from the whole set.
_MOST_PROBLEMS = 64


def describe_wrong(run: Run, pool: VerifierPool) -> str:
    """The demonstrations that the verifier takes as wrong, in words.

    Those of the role that answers last are judged, as the run trains on them: without thoughts, and
    cut off where they are too long.

    Args:
      run: with demonstrations.
      pool: its verifier.

    Returns:
      One line with their number among at most 64 problems; "" where there are none, where no role
      that answers has demonstrations, or where a function of the user's judges.
    """
    demonstrations = run.demonstrations
    if demonstrations is None or run.has_reward_function:
        return ""
    answering = [t for t in demonstrations.turns if t in run.team.topology.final_turns]
    have_gold = [problem for problem in run.datasets.train.problems if problem.gold]
    if not answering or not have_gold:
        return ""
    problems = have_gold[:: ceil_div(len(have_gold), _MOST_PROBLEMS)]
    turn = answering[-1]
    batch = demonstrated(run, problems)

    texts_of_problem = []
    for texts, is_real in zip(batch.turns[turn].texts, batch.is_real, strict=True):
        texts_of_problem.append(tuple(itertools.compress(texts, is_real)))
    items = [item_of(*pair) for pair in zip(problems, texts_of_problem, strict=True)]
    wrong = []
    unanswered = 0
    for problem, item, graded in zip(problems, items, pool.verify(items), strict=True):
        for text, answer, correct in zip(item.texts, graded.answers, graded.correct, strict=True):
            if not correct:
                wrong.append((problem, text))
                unanswered += answer is None
    if not wrong:
        return ""
    problem, text = wrong[0]
    role = run.team.topology.roles[turn]
    without = f", {unanswered} of them without an answer" if unanswered else ""
    return escape_control(
        f"the verifier takes {len(wrong)} of {sum(map(len, texts_of_problem))} demonstrations of "
        f"{role} as wrong{without}: to {problem.id:.80}, whose answer is {problem.gold!r:.40}, "
        f"{text[-80:]!r}"
    )
