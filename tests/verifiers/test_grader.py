"""The items that a grader sends to its pool, and the verdicts that it gives back."""

from ccpo_jax.data import Problem
from ccpo_jax.verifiers import Context, Item
from ccpo_jax.verifiers.grader import Grader


class AskedPool:
    """Takes items and does nothing but remember them."""

    def __init__(self):
        self.items = []

    def begin(self, items):
        self.items += items
        return list(items)


def test_verifiers_are_told_the_question_and_its_options():
    problems = [
        Problem("set/0", "Which? A) x B) y", "B", "choice", options=("x", "y")),
        Problem("set/1", "How many?", "4", "math"),
    ]
    pool = AskedPool()
    grader = Grader(pool, problems)
    grader.submit({1: ("four", "4")})
    # The last one pads the batch.
    grader.submit({0: ("B",), 2: ("C",)})
    for pending in grader._pending.values():
        pending.call.result()
    assert pool.items == [
        Item("math", "4", ("four", "4"), Context("How many?")),
        Item("choice", "B", ("B",), Context("Which? A) x B) y", ("x", "y"))),
    ]
