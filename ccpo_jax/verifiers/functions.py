"""Reward functions of the user's: loaded here, sent to worker processes, called on texts."""

import functools
import hashlib
import pickle
import traceback
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from ccpo_jax.errors import InputError, escape_control, first_line
from ccpo_jax.references import load_object, real_path, split_reference
from ccpo_jax.verifiers.exact import exact_value, marked_answer
from ccpo_jax.verifiers.output import Output, capture_output
from ccpo_jax.verifiers.signatures import RewardFunction, read_function
from ccpo_jax.verifiers.types import NO_CONTEXT, Item
from ccpo_jax.verifiers.values import Returned, read_list, read_score, read_verl
from ccpo_jax.verifiers.worker import StepFailure

_FIELD = "verifier.name"

# Characters of a traceback that are kept, its end.
_MOST_TRACEBACK = 4000

# Characters of a function's answer class that are logged.
_MOST_ANSWER = 200


# --- loading and sending --------------------------------------------------------------------------


class ShippedFunction(NamedTuple):
    """A function on its way to a worker process.

    Attributes:
      name: what jobs call it.
      reference: to it, good in a process that has received its module; "" = it is pickled.
      pickled: by dill; b"" where it has a reference.
    """

    name: str
    reference: str = ""
    pickled: bytes = b""


# The functions of this process by the name that jobs call them.
LOADED: dict[str, RewardFunction] = {}

# What the functions of a worker print, one stream; in other processes there is none, and they may.
_outputs: list[Output] = []

# Functions whose output has been reported by this process.
_reported: set[str] = set()


def load_function(name: str) -> RewardFunction:
    """The function that a reference names.

    Raises:
      InputError: no such file, module or function, or none of the three signatures.
    """
    return read_function(load_object(name, _FIELD), name, _FIELD)


def ship_reference(name: str) -> ShippedFunction:
    """A function that was loaded by its reference. Its module has to be shipped too."""
    reference = split_reference(name)
    if not reference.is_file:
        return ShippedFunction(name, name)
    return ShippedFunction(name, f"{real_path(reference.module)}:{reference.name}")


def ship_object(name: str, function: Any) -> ShippedFunction:
    """A function that was given as an object: lambdas, closures and functions of a notebook too.

    Raises:
      InputError: it holds what cannot be sent to another process.
    """
    import dill

    try:
        return ShippedFunction(name, pickled=dill.dumps(function, recurse=True))
    except Exception as error:
        line = escape_control(f"{type(error).__name__}: {first_line(error)}")
        raise InputError(
            _FIELD,
            f"the function {name!r:.80} cannot be sent to the worker processes ({line}); write it "
            "to a file and name it FILE.py:NAME",
        ) from error


def install(shipped: Sequence[ShippedFunction]) -> None:
    """Loads functions in a worker process, before any job."""
    _outputs.append(capture_output())
    for function in shipped:
        LOADED[function.name] = read_function(_received(function), function.name, _FIELD)


def _received(shipped: ShippedFunction) -> Any:
    """The object that was shipped.

    Raises:
      InputError: this process cannot load it.
    """
    if shipped.reference:
        return load_object(shipped.reference, _FIELD)
    import dill

    try:
        return dill.loads(shipped.pickled)
    except Exception as error:
        line = escape_control(f"{type(error).__name__}: {first_line(error)}")
        raise InputError(
            _FIELD,
            f"the function {shipped.name!r:.80} cannot be loaded ({line}); write it to a file and "
            "name it FILE.py:NAME",
        ) from error


# --- jobs -----------------------------------------------------------------------------------------


class FunctionJob(NamedTuple):
    """An item for a function of the user's.

    Attributes:
      name: of the function, a key of `LOADED`.
      texts: what the agents said, without reasoning and repetitions.
      order: for each text of the item its number in `texts`.
      together: whether the function takes all texts at once.
      problem: the pickled `Asked`: every call gets a copy of its own.
      marks: whether the answer that a text marks is looked for, where the function names none.
      num_records: as in `Job`.
    """

    name: str
    texts: tuple[str, ...]
    order: tuple[int, ...]
    together: bool
    problem: bytes
    marks: bool
    num_records: int | None = None


class Asked(NamedTuple):
    """What functions are told about a problem.

    Attributes:
      columns: every column of its row, and under names that the row lacks: question, gold, answer,
        options.
      prompt: the question as text, or the conversation as messages.
    """

    columns: dict[str, Any]
    prompt: Any


class Scored(NamedTuple):
    """The record of one text.

    Attributes:
      returned: what the function says; None where it failed.
      marked: as `Returned.answer_class`, of the answer that the text marks or of the text itself;
        () where it was not looked for.
      answer: the answer in words, None where there is none.
      failure: "" or the error in one line.
      traceback: of the error, as far as it lies in the user's code.
      printed: the beginning of what the function printed.
    """

    returned: Returned | None
    marked: tuple[Hashable, ...] = ()
    answer: str | None = None
    failure: str = ""
    traceback: str = ""
    printed: str = ""


class ScoredTogether(NamedTuple):
    """The record of all texts of an item, in its order."""

    texts: tuple[Scored, ...]


class FunctionRecords(NamedTuple):
    """What the records of a job say.

    Attributes:
      texts: what is known of each text, in the item's order.
      together: "", or why the call with all texts failed and each text was called alone.
    """

    texts: list[Scored | StepFailure]
    together: str


def make_function_job(
    name: str, function: RewardFunction, item: Item, spoken: Sequence[str], *, marks: bool
) -> FunctionJob:
    """The job of an item.

    Args:
      name: of the function.
      function: the function.
      item: what is judged.
      spoken: the item's texts as the function is to read them.
      marks: see `FunctionJob`.

    Raises:
      InputError: the problem lacks a column that the function needs, or holds what cannot be sent
        to a worker.
    """
    asked = asked_of(item)
    check_columns(name, function, asked.columns)
    try:
        problem = pickle.dumps(asked, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise InputError(
            "row",
            f"it holds what cannot be sent to the worker processes ({first_line(error)}); use "
            "plain numbers, texts, lists and dicts",
        ) from error
    numbers: dict[str, int] = {}
    order = tuple(numbers.setdefault(text, len(numbers)) for text in spoken)
    return FunctionJob(name, tuple(numbers), order, function.kind == "trl", problem, marks)


def asked_of(item: Item) -> Asked:
    """What functions are told about the problem of an item. No column is overwritten."""
    known = {
        "question": item.context.question,
        "gold": item.gold,
        "answer": item.gold,
        "options": list(item.context.options),
    }
    columns = known | dict(item.row)

    prompt: Any = item.context.question
    own_prompt = item.row.get("prompt")
    if _are_messages(own_prompt) or isinstance(own_prompt, str):
        prompt = own_prompt
    elif item.context.history:
        turns = (*item.context.history, ("user", item.context.question))
        prompt = [{"role": role, "content": content} for role, content in turns]
    return Asked(columns, prompt)


def _are_messages(prompt: Any) -> bool:
    if not isinstance(prompt, list) or not prompt:
        return False
    return all(isinstance(turn, dict) and "role" in turn and "content" in turn for turn in prompt)


def check_columns(name: str, function: RewardFunction, columns: Mapping[str, Any]) -> None:
    """Checks that a problem has the columns that a function cannot do without.

    Raises:
      InputError: it lacks one.
    """
    for column in function.columns:
        if column not in columns:
            known = ", ".join(columns)
            raise InputError(
                _FIELD,
                f"{name} needs the column {column!r:.80}, and a problem has {known:.300}; give the "
                "parameter a default, or name a column of the data",
            )


def steps_of_function(
    job: FunctionJob,
) -> Generator[Callable[[], Scored | ScoredTogether], Any, FunctionRecords]:
    """The steps of a job, as `steps_of`: one for each text, or one for all.

    Where the call with all texts hangs or kills its process, each text is a call of its own: the
    others need not share its fate.

    Returns:
      What the records say.
    """
    failure = ""
    if job.together and job.texts:
        texts = tuple(job.texts[number] for number in job.order)
        record = yield functools.partial(_score_together, job, texts)
        if isinstance(record, ScoredTogether):
            return FunctionRecords(list(record.texts), "")
        failure = record.reason

    alone = []
    for text in job.texts:
        record = yield functools.partial(_score_alone, job, text)
        alone.append(record)
    return FunctionRecords([alone[number] for number in job.order], failure)


# --- steps ----------------------------------------------------------------------------------------


def _score_together(job: FunctionJob, texts: tuple[str, ...]) -> ScoredTogether:
    return ScoredTogether(tuple(_score(job, texts)))


def _score_alone(job: FunctionJob, text: str) -> Scored:
    return _score(job, (text,))[0]


def _score(job: FunctionJob, texts: Sequence[str]) -> list[Scored]:
    """Calls the function on some texts; whatever it raises is in the records.

    Raises:
      MemoryError: the process has none left, see `steps`.
    """
    function = LOADED[job.name]
    for output in _outputs:
        output.clear()
    try:
        returned = _call(function, pickle.loads(job.problem), texts)
        scored = [
            _with_answer(value, text, job.marks)
            for value, text in zip(returned, texts, strict=True)
        ]
    except MemoryError:
        raise
    except BaseException as error:
        # SystemExit and KeyboardInterrupt of the user's are errors too.
        failed = Scored(None, failure=_in_words(error), traceback=_user_traceback(error))
        scored = [failed] * len(texts)
    printed = _new_output(job.name)
    return [scored[0]._replace(printed=printed), *scored[1:]] if printed and scored else scored


def _call(function: RewardFunction, asked: Asked, texts: Sequence[str]) -> list[Returned]:
    """What the function says about some texts; about one where it takes one."""
    if function.kind == "trl":
        count = len(texts)
        is_conversation = isinstance(asked.prompt, list)
        completions = [
            [{"role": "assistant", "content": text}] if is_conversation else text for text in texts
        ]
        columns = {
            name: [value] * count
            for name, value in asked.columns.items()
            if name not in ("prompt", "completion")
        }
        values = columns | {"prompts": [asked.prompt] * count, "completions": completions}
        return read_list(function(values), count)

    (text,) = texts
    if function.kind == "verl":
        return [read_verl(function(_verl_values(asked.columns, text)))]
    return [read_score(function({"answer": text, "problem": asked.columns}))]


def _verl_values(columns: Mapping[str, Any], text: str) -> dict[str, Any]:
    """What verl calls a function with, from a row in verl's layout or any other."""
    reward_model = columns.get("reward_model")
    gold = columns.get("ground_truth", columns["gold"])
    if isinstance(reward_model, Mapping) and "ground_truth" in reward_model:
        gold = reward_model["ground_truth"]
    extra_info = columns.get("extra_info")
    return {
        "data_source": columns.get("data_source", ""),
        "solution_str": text,
        "ground_truth": gold,
        "extra_info": {} if extra_info is None else extra_info,
    }


def _with_answer(returned: Returned, text: str, marks: bool) -> Scored:
    """A record with the answer in words, and its class where the function names none."""
    if returned.answer_class:
        (value,) = returned.answer_class
        return Scored(returned, answer=None if value is None else str(value)[:_MOST_ANSWER])
    if not marks:
        return Scored(returned)
    is_marked, answer = marked_answer(text)
    if is_marked:
        value = None if answer is None else exact_value(answer, NO_CONTEXT)
        return Scored(returned, marked=(value,), answer=answer)
    words = " ".join(text.split())
    if len(words) > _MOST_ANSWER:
        # A class is sent back and compared, never read.
        words = hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()
    # A text that says nothing abstains.
    return Scored(returned, marked=(words or None,))


def _in_words(error: BaseException) -> str:
    """An error in one line."""
    try:
        message = first_line(error)
    except Exception:
        # Its own words fail.
        message = ""
    return f"failed: {type(error).__name__}: {message}".rstrip(": ")


def _user_traceback(error: BaseException) -> str:
    """The traceback of an error from the user's code on; "" where it was not raised there."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(
        "ccpo_jax.verifiers"
    ):
        frames = frames.tb_next
    if frames is None:
        return ""
    try:
        lines = traceback.format_exception(type(error), error, frames)
    except Exception:
        # Its own words may fail.
        return ""
    return "".join(lines)[-_MOST_TRACEBACK:]


def _new_output(name: str) -> str:
    """What the function has printed, once in the life of this process."""
    if not _outputs or name in _reported:
        return ""
    printed = _outputs[0].text()
    if printed:
        _reported.add(name)
    return printed
