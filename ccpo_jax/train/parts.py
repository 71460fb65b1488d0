"""Objects that a Python program gives in place of what the fields of a configuration name."""

import collections
import dataclasses
import hashlib
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ccpo_jax import data
from ccpo_jax.config import FIELDS, OBJECT, Config, check, flatten, objects_in
from ccpo_jax.errors import InputError
from ccpo_jax.presets import PRESETS, load_preset
from ccpo_jax.presets.base import base
from ccpo_jax.reward_names import (
    AUTO,
    BUILT_IN,
    data_verifier,
    may_call_functions,
    parse_reward,
)
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import CreditEstimator, Policy
from ccpo_jax.rollout.prompts import RolePrompt, TextCodec
from ccpo_jax.rollout.role_files import Words, parse_words
from ccpo_jax.rollout.role_prompts import PROMPTS
from ccpo_jax.train import plugins
from ccpo_jax.train.sources import base_models
from ccpo_jax.train.words import apply_file, apply_format
from ccpo_jax.verifiers import needs_gold
from ccpo_jax.verifiers.signatures import read_function

# The argument of `Trainer` that gives the object, of each field that can name one.
ARGUMENTS = {
    "model": "model",
    "data.train": "train",
    "data.eval": "evaluate",
    "verifier.name": "reward",
    "prompts": "prompts",
    "prompt_style": "prompts",
    "topology": "topology",
    "credit.name": "credit",
}
_FIELDS = {argument: field for field, argument in ARGUMENTS.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A network of one's own with what it takes to train it.

    Attributes:
      policy: its functions. Ids that a tokenizer of `ccpo_jax.hf.load_tokenizer` does not have get
        no probability; of another codec, the policy has to see to that.
      params: a pytree of its parameters; they are copied, as float32.
      tokenizer: its tokenizer.
      config: of a network of `ccpo_jax.models`, which an export writes; None = no export.
    """

    policy: Policy
    params: Any
    tokenizer: TextCodec
    config: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """The objects of a run. Where a field of the configuration names one, its value begins with
    "object:".

    Attributes:
      models: by their names in `model`.
      datasets: by their names in `data.train` and `data.eval`.
      functions: rewards by their names in `verifier.name`.
      prompts: words of roles; `prompt_style` has those of the others.
      format: what these words ask of a reply.
      topology: the team.
      credit: makes the estimator of a team.
    """

    models: Mapping[str, Model] = dataclasses.field(default_factory=dict)
    datasets: Mapping[str, data.Dataset] = dataclasses.field(default_factory=dict)
    functions: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    prompts: Mapping[str, RolePrompt] | None = None
    format: tuple[str, ...] = ()
    topology: Topology | None = None
    credit: Callable[[Topology], CreditEstimator] | None = None

    def names(self, field: str) -> set[str]:
        """The names of the objects that are there for a field."""
        if field == "model":
            return set(self.models)
        if field in ("data.train", "data.eval"):
            return set(self.datasets)
        if field == "verifier.name":
            return set(self.functions)
        part = {"prompts": "prompts", "topology": "topology", "credit.name": "credit"}[field]
        # There is one of each, whatever its name.
        return set() if getattr(self, part) is None else {OBJECT}


def check_objects(config: Config, parts: Parts) -> None:
    """Checks that every object that a configuration names is there.

    Raises:
      InputError: it lists what is missing.
    """
    named = objects_in(config)
    missing = [
        field
        for field in ARGUMENTS
        if field in named and not parts.names(field) & {OBJECT, *named[field]}
    ]
    if missing:
        first = missing[0]
        arguments = ", ".join(f"{ARGUMENTS[field]}=..." for field in missing)
        raise InputError(
            first,
            f"{named[first][0]!r:.80} is an object of the Python program that began the run; give "
            f"what it gave: Trainer({arguments})",
        )


NO_PARTS = Parts()


def row_reader(columns: Any, judge: str, *, keep_rows: bool = False) -> data.RowReader:
    """How the rows of a run's sets become problems.

    Args:
      columns: as in `data.columns`.
      judge: as in `verifier.name`.
      keep_rows: problems keep their rows also where no function of the user's reads them.
    """
    return data.RowReader(
        data.parse_columns(columns),
        gold="required" if needs_gold(judge) else "optional",
        verifier=data_verifier(judge),
        keep_rows=keep_rows or may_call_functions(judge),
        reward="" if judge in (AUTO, *BUILT_IN) else judge,
    )


def training_reader(
    columns: Any, judge: str, *, mode: str | None, heldout: int | None
) -> data.RowReader:
    """How the rows of the training set become problems.

    Demonstrations are columns of their rows. Who learns from them needs no answer beside them, but
    where some of the problems are held out to be evaluated on.

    Args:
      columns, judge: as in `row_reader`.
      mode: as in `mode`; None = its default.
      heldout: as in `data.heldout`.
    """
    reader = row_reader(columns, judge, keep_rows=mode == "sft")
    return reader._replace(gold="optional") if mode == "sft" and heldout == 0 else reader


# --- from the arguments of a Trainer --------------------------------------------------------------


def resolve(
    config: Any,
    *,
    saved: Config | None = None,
    model: Any = None,
    train: Any = None,
    evaluate: Any = None,
    reward: Any = None,
    prompts: Any = None,
    topology: Any = None,
    credit: Any = None,
) -> tuple[Config, Parts]:
    """A checked configuration and its objects, from the arguments of a `Trainer`.

    Args:
      config: None, the name of a preset, fields by their dotted names, a ConfigDict or a Config.
      saved: the configuration of the run that the workdir holds; it is the start where `config` is
        None.
      model, train, evaluate, reward, prompts, topology, credit: see `Trainer`.

    Raises:
      InputError: one line that names the argument or the field.
    """
    typed: dict[str, Any] = {}
    parts: dict[str, Any] = {}

    def add(field: str, value: Any, found: Mapping[str, Any]) -> None:
        if value is not None:
            typed[field] = value
        parts.update(found)

    add("model", *_models(model))
    add("verifier.name", *_rewards(reward))
    add("prompts", *_prompts(prompts))
    add("prompt_style", *_prompt_style(prompts))
    add("topology", *_topology(topology))
    add("credit.name", *_credit(credit))
    start, fields = _start(config, typed, saved)

    # What rows become depends on the other arguments.
    values = {**flatten(start), **fields, **typed}
    columns = values.get("data.columns") or ()
    judge = values.get("verifier.name") or AUTO
    mode = values.get("mode")
    readers = {
        "train": training_reader(columns, judge, mode=mode, heldout=values.get("data.heldout")),
        "evaluate": row_reader(columns, judge, keep_rows=mode == "sft"),
    }
    datasets: dict[str, data.Dataset] = {}
    for argument, value in (("train", train), ("evaluate", evaluate)):
        if value is not None:
            reader = readers[argument]
            names, sets = named_sets(value, argument, reader)
            typed[_FIELDS[argument]] = names
            datasets |= sets
    for field in typed:
        if field in fields:
            raise InputError(
                ARGUMENTS[field],
                f"is given twice, as an argument and as {field!r} in config; leave one out",
            )

    given = Parts(datasets=datasets, **parts)
    typed = {**fields, **typed}
    if start is not saved:
        start = _own_problems(start, typed, given)
    made = plugins.combine(start, typed)
    check(made, typed)
    made = apply_format(made, given.format, typed) if given.format else apply_file(made, typed)
    check_objects(made, given)
    return made, given


def _start(
    config: Any, typed: Mapping[str, Any], saved: Config | None
) -> tuple[Any, dict[str, Any]]:
    """What a configuration starts from, and the fields that are typed over it."""
    if config is None and saved is not None:
        return saved, {}
    if isinstance(config, str):
        return load_preset(config), {}
    if config is None or type(config) is dict:
        fields = _dotted(config or {})
        name = fields.pop("preset", None)
        if not isinstance(name, str | None):
            raise InputError("config", f"preset is {name!r:.80}; give a name such as 'voting:tiny'")
        return (_preset({**fields, **typed}) if name is None else load_preset(name)), fields
    if isinstance(config, Config) or hasattr(config, "items"):
        return config, {}
    raise InputError(
        "config",
        f"received {type(config).__name__}; give a preset such as 'voting:tiny', fields such as "
        "{'steps': 4}, a ConfigDict or a Config",
    )


def _dotted(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields by their dotted names, also of nested dicts."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        path = f"{prefix}{name}"
        is_section = isinstance(value, dict) and not (path in FIELDS and FIELDS[path].is_mapping)
        found = _dotted(value, f"{path}.") if is_section else {path: value}
        if twice := sorted(flat.keys() & found.keys()):
            raise InputError("config", f"gives {twice[0]!r:.80} twice; leave one out")
        flat |= found
    return flat


def _preset(typed: Mapping[str, Any]) -> Any:
    """The preset of the team, `tiny` for the embedded model; defaults where it has none."""
    topology = typed.get("topology", "dyad")
    name = str(topology).removeprefix(OBJECT)
    model = typed.get("model") or ()
    tiny = set(base_models((model,) if isinstance(model, str) else model)) == {"tiny"}
    if name not in PRESETS:
        start = base()
        start.response_length = (2048,)
        values = flatten(start)
        start.inherited.update({name: values[name] for name in ("data.eval", "data.heldout")})
        start.inherited.update({"response_length": (2048,)})
        return start
    return load_preset(f"{name}:tiny" if tiny else name)


def _own_problems(start: Any, typed: Mapping[str, Any], parts: Parts) -> Any:
    """What a preset says about its own problems does not hold for those of the program."""
    inherited = getattr(start, "inherited", None)
    if inherited is None or "data.train" not in typed:
        return start
    values = flatten(start)
    untouched = {name for name, value in inherited.items() if values[name] == value}
    changed: dict[str, Any] = {}
    if "data.eval" in untouched:
        changed["data.eval"] = ()
    sets = [parts.datasets[name] for name in typed["data.train"] if name in parts.datasets]
    if sets and "data.heldout" in untouched:
        # A tenth of few problems; of many, as many as the preset says.
        count = sum(len(dataset.problems) for dataset in sets)
        changed["data.heldout"] = min(inherited["data.heldout"], count // 10)
    start = start.copy_and_resolve_references()
    start.update_from_flattened_dict(changed)
    start.inherited.update(changed)
    return start


# --- one argument each: the value of its field, and the parts ------------------------------------


def _models(value: Any) -> tuple[Any, dict[str, Any]]:
    if value is None:
        return None, {}
    entries = list(value) if isinstance(value, list | tuple) else [value]
    names: list[str] = []
    models: dict[str, Model] = {}
    for listed in entries:
        entry, count = _with_count(listed)
        if isinstance(entry, Model):
            _check_model(entry)
            known = next((name for name, model in models.items() if model is entry), None)
            name = known or f"{OBJECT}model {len(models)}"
            models[name] = entry
            names.append(name + count)
        elif isinstance(entry, str) or hasattr(entry, "__fspath__"):
            names.append(str(entry) + count)
        else:
            raise InputError(
                "model",
                f"received {type(entry).__name__}; give a folder or Hub name, a "
                "ccpo_jax.train.Model(policy, params, tokenizer), one of them per agent, or pairs "
                "such as [(a, 5), (b, 4)], where five agents share a and four share b",
            )
    return tuple(names), {"models": models} if models else {}


def _with_count(entry: Any) -> tuple[Any, str]:
    """``(a model, "*" and how many agents share it)`` from a pair; of a model alone, no count."""
    is_pair = isinstance(entry, list | tuple) and len(entry) == 2
    if is_pair and isinstance(entry[1], int) and not isinstance(entry[1], bool):
        return entry[0], f"*{entry[1]}"
    return entry, ""


def _check_model(model: Model) -> None:
    """Refuses a Model whose parts are not what they are for."""
    needed = {
        "policy": (Policy._fields, "ccpo_jax.models.make_policy"),
        "tokenizer": (
            [name for name in vars(TextCodec) if not name.startswith("_")],
            "ccpo_jax.hf.load_tokenizer",
        ),
    }
    for part, (names, maker) in needed.items():
        value = getattr(model, part)
        if missing := [name for name in names if not hasattr(value, name)]:
            raise InputError(
                "model",
                f"{part} of the Model is a {type(value).__name__} without {missing[0]}; give one "
                f"such as {maker} makes",
            )


def named_sets(
    value: Any, argument: str, reader: data.RowReader
) -> tuple[tuple[str, ...], dict[str, data.Dataset]]:
    """Names as in the configuration, and the datasets among them by their name.

    Args:
      value: a name, rows, a Dataset, a table, a sequence of names and Datasets, or a mapping of
        names to any of these.
      argument: for errors, and the name of a set that has none.
      reader: how rows are read.
    """
    if isinstance(value, Mapping):
        if any(isinstance(rows, str | int | float) for rows in value.values()):
            raise InputError(
                argument,
                "received a dict whose values are no sets; give a list of rows, or a dict such as "
                "{'sums': [{'question': '2 + 2 = ?', 'answer': '4'}]}",
            )
        sets = {
            str(name): as_dataset(rows, argument, reader, name=str(name))
            for name, rows in value.items()
        }
    elif isinstance(value, str) or hasattr(value, "__fspath__"):
        return (str(value),), {}
    elif _is_sequence(value) and not value and argument == "evaluate":
        return (), {}
    elif _is_sequence(value) and value and all(isinstance(e, str | data.Dataset) for e in value):
        names: list[str] = []
        datasets: dict[str, data.Dataset] = {}
        for entry in value:
            if isinstance(entry, str):
                names.append(entry)
            else:
                names.append(_object_name(entry))
                datasets[names[-1]] = entry
        return tuple(names), datasets
    else:
        sets = {argument: as_dataset(value, argument, reader, name=argument)}
    named = {_object_name(dataset): dataset for dataset in sets.values()}
    return tuple(named), named


def as_dataset(value: Any, argument: str, reader: data.RowReader, *, name: str) -> data.Dataset:
    """Problems from rows.

    Args:
      value: a Dataset, a sequence of dicts, or a table: a `datasets.Dataset`, a DataFrame.
      argument: for errors.
      reader: how rows are read.
      name: of the set.

    Raises:
      InputError: it is none of these, or a row cannot be read.
    """
    if isinstance(value, data.Dataset):
        return value
    rows = _rows(value, argument)
    if not rows:
        raise InputError(argument, "has no row; give at least one")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(
                argument,
                f"row {number} is a {type(row).__name__}; give dicts such as "
                "{'question': '2 + 2 = ?', 'answer': '4'}",
            )
    return data.read_rows(rows, name=name, reader=reader, field=argument)


def as_questions(value: Any, reader: data.RowReader, *, like: data.Dataset) -> data.Dataset:
    """Questions as problems, in their order; a gold is not needed.

    Args:
      value: texts, or what `as_dataset` takes.
      reader: how rows are read.
      like: answers to texts are read as to the problems of this set.

    Raises:
      InputError: as in `as_dataset`, or a row has no question, or one comes twice.
    """
    texts = [value] if isinstance(value, str) else value
    if _is_sequence(texts) and texts and all(isinstance(text, str) for text in texts):
        verifiers = collections.Counter(problem.verifier for problem in like.problems)
        verifier = verifiers.most_common(1)[0][0]
        problems = [
            data.Problem(f"questions/{number}", text, "", verifier)
            for number, text in enumerate(texts)
        ]
        return data.Dataset("questions", tuple(problems), {})
    dataset = as_dataset(value, "questions", reader._replace(gold="optional"), name="questions")
    if dataset.dropped:
        raise InputError(
            "questions",
            f"rows cannot be used: {data.describe_dropped(dataset.dropped)}; leave them out "
            "(num_samples=2 asks each question twice)",
        )
    return dataset


def _rows(value: Any, argument: str) -> list[Any]:
    for to_rows in ("to_dicts", "to_pylist"):
        # A DataFrame of polars, a table of pyarrow.
        if hasattr(value, to_rows) and hasattr(value, "columns"):
            return getattr(value, to_rows)()
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return _frame_rows(value, argument)
    if _is_sequence(value) or hasattr(value, "column_names"):
        return list(value)
    raise InputError(
        argument,
        f"received {type(value).__name__}; give rows (a list of dicts), a Dataset, a DataFrame, or "
        "names as in the configuration",
    )


def _frame_rows(frame: Any, argument: str) -> list[Any]:
    """The rows of a DataFrame; what is missing in it, such as NaN, is None."""
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InputError(argument, f"has two columns {twice!r:.80}; rename one")
    # Only columns of objects can hold None.
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _object_name(dataset: data.Dataset) -> str:
    """The name of a dataset in the configuration: with other problems it has another one."""
    digest = _digest((p, sorted(p.row.items())) for p in dataset.problems)
    return f"{OBJECT}{dataset.name} ({len(dataset.problems)} problems, {digest})"


def _digest(parts: Any) -> str:
    """Eight digits that tell contents apart."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:8]


def _rewards(value: Any) -> tuple[Any, dict[str, Any]]:
    if value is None or isinstance(value, str):
        return value, {}
    if callable(value):
        name = _function_name(value)
        return name, {"functions": {name: value}}
    if not isinstance(value, Mapping) or not value:
        raise InputError(
            "reward",
            f"received {type(value).__name__}; give a function, a name such as 'math' or "
            "'my_reward.py:score', or a dict of them with their weights",
        )
    terms = []
    functions: dict[str, Callable] = {}
    for entry, weight in value.items():
        if isinstance(weight, bool) or not isinstance(weight, numbers.Real):
            raise InputError(
                "reward", f"the weight of {entry!r:.80} is {weight!r:.40}; give a number"
            )
        name = entry if isinstance(entry, str) else _function_name(entry)
        if isinstance(entry, str) and len(parse_reward(entry, "reward")) > 1:
            # The weight would be that of its first term alone.
            raise InputError("reward", f"{entry!r:.200} is a sum; give each term its own weight")
        if name in functions:
            raise InputError(
                "reward",
                f"two functions are called {name.removeprefix(OBJECT)!r:.80}, as every lambda is; "
                "give each a name of its own with def",
            )
        if callable(entry):
            functions[name] = entry
        terms.append(f"{float(weight)!r}*{name}")
    return " + ".join(terms), {"functions": functions} if functions else {}


def _function_name(function: Any) -> str:
    """The name of a function of the program in the configuration."""
    if not callable(function):
        raise InputError(
            "reward", f"received {type(function).__name__}; give functions or their names"
        )
    name = getattr(function, "__name__", type(function).__name__)
    name = name if name.isidentifier() else "reward"
    read_function(function, repr(name), "reward")
    return f"{OBJECT}{name}"


def _prompts(value: Any) -> tuple[Any, dict[str, Any]]:
    if value is None or _is_style(value):
        return None, {}
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        return str(value), {}
    if not isinstance(value, Mapping) or not value:
        raise InputError(
            "prompts",
            f"received {type(value).__name__}; give a file, or a dict such as "
            "{'solver': {'system': '...', 'problem': '{problem}', 'closing': '...'}}",
        )
    given = {role: words for role, words in value.items() if isinstance(words, RolePrompt)}
    tables = {role: words for role, words in value.items() if role not in given}
    read = parse_words(tables) if tables else Words({})
    roles = {**given, **read.roles}
    stops = [(role, roles[role].stop) for role in sorted(roles) if roles[role].stop]
    name = f"{OBJECT}{len(roles)} roles ({_digest([*sorted(roles.items()), *stops])})"
    return name, {"prompts": roles, "format": read.format}


def _prompt_style(value: Any) -> tuple[Any, dict[str, Any]]:
    return (value if _is_style(value) else None), {}


def _is_style(value: Any) -> bool:
    return isinstance(value, str) and value in PROMPTS


def _topology(value: Any) -> tuple[Any, dict[str, Any]]:
    if value is None or isinstance(value, str):
        return value, {}
    if isinstance(value, Topology):
        return f"{OBJECT}{value.name}", {"topology": value}
    raise InputError(
        "topology",
        f"received {type(value).__name__}; give a name such as 'voting', or a ccpo_jax.Topology",
    )


def _credit(value: Any) -> tuple[Any, dict[str, Any]]:
    if value is None or isinstance(value, str):
        return value, {}
    if isinstance(value, CreditEstimator):
        estimator = value
        return f"{OBJECT}CreditEstimator", {"credit": lambda _: estimator}
    if callable(value):
        name = f"{OBJECT}{getattr(value, '__name__', type(value).__name__)}"
        return name, {"credit": value}
    raise InputError(
        "credit",
        f"received {type(value).__name__}; give a name such as 'shared', a CreditEstimator, or a "
        "function of the topology that returns one",
    )
