"""Three signatures of reward functions, told apart by their parameters; everything else is refused."""

import functools

import pytest

from ccpo_jax.verifiers.signatures import read_function
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast

VALUES = {
    "answer": "A",
    "problem": {"gold": "G"},
    "prompts": ["Q"],
    "completions": ["A"],
    "gold": ["G"],
    "level": [3],
    "data_source": "set",
    "solution_str": "A",
    "ground_truth": "G",
    "extra_info": {},
}


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Scorer:
    def __call__(self, answer, problem):
        return answer, problem

    def method(self, text, problem, strict=True):
        return text, problem, strict

    @staticmethod
    def static(answer, *, problem):
        return answer, problem


def own(answer, problem):
    return answer, problem


def positional(text, problem, /, **options):
    return text, problem, options


def by_name(*, problem, answer, weight=2):
    return answer, problem, weight


def backwards(problem, answer):
    return answer, problem


def trl(prompts, completions, **columns):
    return prompts, completions, sorted(columns)


def trl_column(completions, gold, trainer_state=None, **kwargs):
    return completions, gold, trainer_state


def trl_named(completions, level):
    return completions, level


def trl_of_maths(completions, problem, answer, **kwargs):
    return completions, problem, answer


def verl(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    return data_source, solution_str, ground_truth, extra_info, kwargs


def verl_short(solution_str, ground_truth):
    return solution_str, ground_truth


PROBLEM = VALUES["problem"]
ACCEPTED = {
    "own": (own, "score", ("A", PROBLEM)),
    "positional": (positional, "score", ("A", PROBLEM, {})),
    "by_name": (by_name, "score", ("A", PROBLEM, 2)),
    "backwards": (backwards, "score", ("A", PROBLEM)),
    "lambda": (lambda text, problem: (text, problem), "score", ("A", PROBLEM)),
    "partial": (functools.partial(by_name, weight=3), "score", ("A", PROBLEM, 3)),
    "wrapped": (wrapped(own), "score", ("A", PROBLEM)),
    "object": (Scorer(), "score", ("A", PROBLEM)),
    "class": (Scorer, "score", ("A", PROBLEM)),
    "method": (Scorer().method, "score", ("A", PROBLEM, True)),
    "static": (Scorer.static, "score", ("A", PROBLEM)),
    "trl": (trl, "trl", (["Q"], ["A"], sorted(set(VALUES) - {"prompts", "completions"}))),
    "trl_column": (trl_column, "trl", (["A"], ["G"], None)),
    "trl_named": (trl_named, "trl", (["A"], [3])),
    "trl_of_maths": (trl_of_maths, "trl", (["A"], PROBLEM, "A")),
    "trl_partial": (functools.partial(trl_named, level=[4]), "trl", (["A"], [3])),
    "verl": (verl, "verl", ("set", "A", "G", {}, {})),
    "verl_short": (verl_short, "verl", ("A", "G")),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_function_gets_what_its_signature_says(name):
    function, kind, expected = ACCEPTED[name]
    read = read_function(function, name, "reward")
    assert read.kind == kind
    assert read(VALUES) == expected


def test_columns_that_a_function_needs_are_known():
    assert read_function(trl_column, "f", "reward").columns == ("gold",)
    assert read_function(trl, "f", "reward").columns == ()


async def coroutine(answer, problem):
    return 1.0


async def async_generator(answer, problem):
    yield 1.0


def generator(answer, problem):
    yield 1.0


class AsyncScorer:
    async def __call__(self, answer, problem):
        return 1.0


class NeedsArguments:
    def __init__(self, weight):
        self.weight = weight


def unwrapped(*args, **kwargs):
    return own(*args, **kwargs)


REFUSED = {
    "coroutine": (coroutine, "async"),
    "async_partial": (functools.partial(coroutine, problem={}), "async"),
    "async_generator": (async_generator, "async"),
    "async_object": (AsyncScorer(), "async"),
    "generator": (generator, "yields"),
    "needs_arguments": (NeedsArguments, "without arguments"),
    "no_function": (3, "int"),
    "nothing_known": (unwrapped, "*args"),
    "one_text": (lambda answer: 1.0, "(answer)"),
    "other_names": (lambda completion, ground_truth: 1.0, "ground_truth"),
    "own_needs_more": (lambda answer, problem, model: 1.0, "'model'"),
    "trl_needs_tokens": (lambda completions, completion_ids: [1.0], "'completion_ids'"),
    "verl_needs_more": (lambda solution_str, ground_truth, tokenizer: 1.0, "'tokenizer'"),
    "two_at_once": (lambda completions, solution_str: 1.0, "solution_str"),
    "only_by_name": (lambda **columns: 1.0, "**columns"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_reward_function_is_refused_by_name(name):
    value, words = REFUSED[name]
    with raises_for("reward") as error:
        read_function(value, "my.py:f", "reward")
    message = str(error.value)
    assert "my.py:f" in message and words in message and "\n" not in message
