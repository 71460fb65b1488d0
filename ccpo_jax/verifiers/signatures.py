"""The three signatures of a reward function, told apart by their parameters."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ccpo_jax.errors import InputError, escape_control, first_line

Kind = Literal["score", "trl", "verl"]

SIGNATURES: dict[Kind, str] = {
    "score": "score(answer, problem)",
    "trl": "f(prompts, completions, **columns)",
    "verl": "compute_score(data_source, solution_str, ground_truth, extra_info)",
}

_VERL = ("data_source", "solution_str", "ground_truth", "extra_info")

# What TRL's trainer hands to a function besides the columns, and no other program can.
_TRAINER_ONLY = ("completion_ids", "trainer_state", "log_extra", "log_metric", "environments")

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class RewardFunction(NamedTuple):
    """A reward function, ready to be called.

    Attributes:
      call: the function.
      kind: its signature, a key of `SIGNATURES`.
      positional: names of what it takes by position, in order.
      named: names of what it takes by name.
      takes_all: whether it takes everything else by name too.
      columns: the columns that it cannot do without.
    """

    call: Callable[..., Any]
    kind: Kind
    positional: tuple[str, ...]
    named: tuple[str, ...]
    takes_all: bool
    columns: tuple[str, ...]

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Calls the function with those of `values` that it takes."""
        if self.takes_all:
            by_name = {key: value for key, value in values.items() if key not in self.positional}
        else:
            by_name = {name: values[name] for name in self.named if name in values}
        return self.call(*[values[name] for name in self.positional], **by_name)


def read_function(value: Any, shown: str, field: str) -> RewardFunction:
    """Reads which signature a function has.

    Args:
      value: a function, an object that can be called, or a class of such objects that is made
        without arguments.
      shown: its name, for errors.
      field: the configuration field that names it, for errors.

    Raises:
      InputError: it is no function, asynchronous, or has none of the three signatures.
    """
    if inspect.isclass(value):
        value = _made(value, shown, field)
    if not callable(value):
        kind = type(value).__name__
        raise InputError(field, f"{shown} is a {kind}, no function; type the name of a function")
    _refuse_deferred(value, shown, field)
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (ValueError, TypeError) as error:
        raise InputError(
            field, f"{shown} does not say what it takes ({first_line(error)}); {_three()}"
        ) from error
    return _read_parameters(value, parameters, shown, field)


def _made(value: type, shown: str, field: str) -> Any:
    """An object of a class."""
    try:
        return value()
    except Exception as error:
        line = escape_control(f"{type(error).__name__}: {first_line(error)}")
        raise InputError(
            field,
            f"{shown} is a class that cannot be made without arguments ({line}); name an object "
            "of it",
        ) from error


def _refuse_deferred(value: Callable[..., Any], shown: str, field: str) -> None:
    """Refuses functions whose call does not compute yet."""
    while isinstance(value, functools.partial):
        value = value.func
    call = value if inspect.isroutine(value) else type(value).__call__
    if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        raise InputError(
            field, f"{shown} is asynchronous (async def); type a function that returns its score"
        )
    if inspect.isgeneratorfunction(call):
        raise InputError(
            field, f"{shown} is a generator (it yields); type a function that returns its score"
        )


def _read_parameters(
    value: Callable[..., Any], parameters: Sequence[inspect.Parameter], shown: str, field: str
) -> RewardFunction:
    """The function with the signature that its parameters have."""
    fixed = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    names = [p.name for p in fixed]
    required = [p.name for p in fixed if p.default is p.empty]
    kind = _kind(fixed)
    if kind is None:
        taken = escape_control(", ".join(map(str, parameters)))
        raise InputError(field, f"{shown} takes ({taken:.200}); {_three()}")

    # Everything that can be given a value.
    known: tuple[str, ...] = _VERL
    columns: tuple[str, ...] = ()
    if kind == "score":
        known = (_first_of(names), "problem")
    elif kind == "trl":
        columns = tuple(name for name in required if name not in ("prompts", "completions"))
        known = ("prompts", "completions", *columns)
        _refuse(shown, field, [name for name in columns if name in _TRAINER_ONLY], kind)
    _refuse(shown, field, [name for name in required if name not in known], kind)

    positional = [p.name for p in fixed if p.kind is p.POSITIONAL_ONLY and p.name in known]
    if kind == "score" and names[0] not in ("answer", "problem"):
        # The text comes first, under any name.
        positional = [names[0], *(name for name in positional if name != names[0])]
    return RewardFunction(
        call=value,
        kind=kind,
        positional=tuple("answer" if kind == "score" and n != "problem" else n for n in positional),
        named=tuple(p.name for p in fixed if p.kind in _BY_NAME and p.name not in positional),
        takes_all=kind == "trl" and any(p.kind is p.VAR_KEYWORD for p in parameters),
        columns=columns,
    )


def _kind(parameters: Sequence[inspect.Parameter]) -> Kind | None:
    """The signature that has such parameters."""
    names = [p.name for p in parameters]
    is_trl = "completions" in names
    is_verl = "solution_str" in names
    is_own = names[1:2] == ["problem"] and parameters[0].kind is not inspect.Parameter.KEYWORD_ONLY
    is_own = is_own or ("answer" in names and "problem" in names)
    # A function of TRL's may take columns of these names.
    is_own = is_own and not is_trl
    if is_trl + is_verl + is_own != 1:
        return None
    if is_trl:
        return "trl"
    return "verl" if is_verl else "score"


def _first_of(names: Sequence[str]) -> str:
    return "answer" if "answer" in names else names[0]


def _refuse(shown: str, field: str, names: Collection[str], kind: Kind) -> None:
    """Refuses a function that needs what nobody can give it."""
    for name in names:
        reason = "only TRL's trainer has" if name in _TRAINER_ONLY else "nobody can give it"
        raise InputError(
            field,
            f"{shown} needs {name!r:.80}, which {reason}; give it a default (it was read as "
            f"{SIGNATURES[kind]})",
        )


def _three() -> str:
    *others, last = SIGNATURES.values()
    return f"a reward function is {', '.join(others)} or {last}"
