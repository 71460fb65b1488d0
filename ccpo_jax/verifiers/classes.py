"""Which wrong answers mean the same: classes that depend on the set of answers alone."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping

# A problem's comparisons end after so many, after so many seconds of computing and after so many
# that failed. What is not compared is different, so classes stay a partition.
_MAX_COMPARISONS = 500
_MAX_SECONDS = 5.0
_MAX_FAILED = 8

# An answer is not compared again after so many failures: it would spend what is left on itself.
_MAX_FAILED_OF_ONE = 2


class AnswerClasses:
    """Groups distinct answers to one problem, none of them correct.

    Meaning the same is not transitive for parsers with tolerances, so a group may not depend on
    which answer was seen first. These are the rules:

    - Answers with equal canonical values are one class, and classes with different values are never
      joined.
    - Answers without a value are compared in pairs, and the pairs that are the same are closed
      transitively.
    - Such a group joins the class of a value if its members equal this value and no other. One that
      equals several values belongs to none of them and stays a class of its own.

    Pairs are formed in the order of sorted answers, short ones first, and a failed comparison
    counts as different: neither the order of the answers nor who compares them matters.

    Example:
      >>> classes = AnswerClasses({"2": 2, "2.0": 2, "x=2": None, "3": 3})
      >>> for first, second in classes.pairs():
      ...     classes.record(first, second, is_same=second == "2")
      >>> classes.representatives()
      {'2': '2', '2.0': '2', 'x=2': '2', '3': '3'}
    """

    def __init__(self, values: Mapping[str, Hashable | None]):
        """Starts with all answers without a value apart.

        Args:
          values: answer -> its canonical value, None if it has none.
        """
        self._answers = tuple(values)
        ordered = sorted(values, key=lambda answer: (len(answer), answer))
        first_with: dict[Hashable, str] = {}
        # Answer -> an answer of the same class, itself where nothing smaller is known.
        self._parent: dict[str, str] = {}
        for answer in ordered:
            value = values[answer]
            is_first = value is None or value not in first_with
            self._parent[answer] = answer if is_first else first_with[value]
            if value is not None:
                first_with.setdefault(value, answer)

        self._with_value = tuple(first_with.values())
        self._without_value = tuple(answer for answer in ordered if values[answer] is None)
        # Answer without a value -> answers, one of each value, that it means the same as.
        self._equal_values: dict[str, set[str]] = {answer: set() for answer in self._without_value}
        self._compared = 0
        self._seconds = 0.0
        self._failed = 0
        self._failures: Counter[str] = Counter()

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The pairs still to compare; each has to be recorded before the next is asked for."""
        for index, answer in enumerate(self._without_value):
            for other in (*self._with_value, *self._without_value[:index]):
                if self._is_over():
                    return
                if self._root(answer) != self._root(other) and not self._hangs(answer, other):
                    yield answer, other

    def record(
        self, first: str, second: str, *, is_same: bool | None, seconds: float = 0.0
    ) -> None:
        """Records a comparison.

        Args:
          first: the first answer of the pair, one without a value.
          second: the second one, with or without a value.
          is_same: what came out, None if the comparison hung or crashed.
          seconds: how long it took.
        """
        self._compared += 1
        self._seconds += seconds
        if is_same is None:
            self._failed += 1
            self._failures.update((first, second))
        elif is_same and second in self._equal_values:
            self._parent[self._root(first)] = self._root(second)
        elif is_same:
            self._equal_values[first].add(second)

    def representatives(self) -> dict[str, str]:
        """For each answer, in the order given, an answer that stands for its class."""
        equal_values: dict[str, set[str]] = {}
        for answer, equal in self._equal_values.items():
            equal_values.setdefault(self._root(answer), set()).update(equal)

        class_of_group = {
            root: equal.pop() if len(equal) == 1 else root for root, equal in equal_values.items()
        }
        roots = {answer: self._root(answer) for answer in self._answers}
        return {answer: class_of_group.get(root, root) for answer, root in roots.items()}

    def _root(self, answer: str) -> str:
        while self._parent[answer] != answer:
            answer = self._parent[answer]
        return answer

    def _hangs(self, first: str, second: str) -> bool:
        return max(self._failures[first], self._failures[second]) >= _MAX_FAILED_OF_ONE

    def _is_over(self) -> bool:
        return (
            self._compared >= _MAX_COMPARISONS
            or self._seconds >= _MAX_SECONDS
            or self._failed >= _MAX_FAILED
        )
