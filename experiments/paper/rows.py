"""The rows of the paper's tables: configuration, changes, seeds and published figure."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ccpo_jax.fields import as_text
from experiments.paper.published import GSPO, MATH500, PAGE, REMOVED

_SEEDS = (0, 1, 2)


class Row(NamedTuple):
    """One line of a table; one line for each of its test sets.

    Attributes:
      name: table/model/team.
      config: preset, as `run.py --config` takes them.
      overrides: fields that differ from the preset.
      seeds: seeds to run.
      figures: test set -> the published figure in percent; None = not published.
      samples: group size as a multiple of the preset's.
      metric: of an evaluation; ``without_agent_accuracy/0`` = agent 0 removed at inference.
      when: "before" or "after" training.
      run: folder of its runs; rows of the same run share it.
    """

    name: str
    config: str
    overrides: dict[str, Any]
    seeds: tuple[int, ...]
    figures: dict[str, float | None]
    samples: float = 1.0
    metric: str = "team_accuracy"
    when: str = "after"
    run: str = ""


class Table(NamedTuple):
    """A table of the paper: its title, the source of its figures, its rows."""

    title: str
    source: str
    rows: tuple[Row, ...]


_PRESET = {
    "qwen2.5-1.5b": "",
    "qwen2.5-7b": ":qwen2.5-7b",
    "llama3.1-8b": ":llama3.1-8b",
    "qwen3-4b-base": ":qwen3-4b-base",
    "tiny": ":tiny",
}
_EVENT_PRESET = {"qwen2.5-1.5b": ":event", "olmo3-7b": ":olmo3-7b", "tiny": ":tiny"}
_SHARED = {"credit.name": "shared"}

# Group sizes at which the shared reward, and a solo with twice the samples, decode as much as
# `ccpo`: a masked Thinker costs a third text per sample where the shared reward takes two. Texts of the embedded model differ in length;
# there 13 samples of a dyad, or 22 of a solo, match 8.
_EQUAL_COMPUTE = {"paper": 1.5, "tiny": 13 / 8}
_SOLO_EQUAL_COMPUTE = {"paper": 1.5, "tiny": 11 / 8}

# Fields of the tiny scale that a user may override, and fields that define a row and may not be
# overridden.
TINY = {"steps": 30}
FIXED = ("seed", "credit.name")

# Ratings of the embedded model are short.
_RATING = {"paper": {}, "tiny": {"credit.rating_length": 56}}
_TINY_GSPO = {
    "credit.name": "ccpo_event",
    "loss.name": "gspo",
    "loss.clip_low": 3e-4,
    "loss.clip_high": 4e-4,
    "trainer.mini_batches": 2,
}


def tables(scale: str) -> dict[str, Table]:
    """Every table at a scale, "paper" or "tiny"."""
    built = {}
    for name, build in TABLES.items():
        table = build(scale)
        if scale == "tiny":
            table = table._replace(source="none; the paper has no embedded model")
        built[name] = table
    return built


def _team(name: str, config: str, scale: str, method: str, figures: dict, **changes) -> Row:
    """A row whose run is named by its configuration and method, so that tables share the run."""
    overrides = changes.pop("overrides", {})
    if scale == "tiny":
        overrides = TINY | overrides
        # The tiny presets have no test set.
        figures = {"held-out": None}

    if method == "untrained":
        overrides = overrides | {"steps": 0}
        changes = {"when": "before"} | changes
    if method == "shared-equal":
        changes = {"samples": _EQUAL_COMPUTE[scale]} | changes
    if method == "equal":
        changes = {"samples": _SOLO_EQUAL_COMPUTE[scale]} | changes

    path, _, preset = config.partition(":")
    run = f"{pathlib.Path(path).stem}-{preset or 'paper'}-{method}"
    return Row(name, config, overrides, _SEEDS, figures, **({"run": run} | changes))


def _math500(scale: str) -> Table:
    published = MATH500 if scale == "paper" else {"tiny": (None, None, None)}
    rows = []
    for model, figures in published.items():
        figure_of = dict(zip(("untrained", "shared", "ccpo"), figures, strict=True))
        config = f"dyad{_PRESET[model]}"
        for method in ("untrained", "shared", "shared-equal", "ccpo"):
            name = f"math500/{model}/{method}"
            figure = {"math500": figure_of.get(method)}
            overrides = _SHARED if method.startswith("shared") else {}
            rows.append(_team(name, config, scale, method, figure, overrides=overrides))
        for method in ("untrained", "equal"):
            name = f"math500/{model}/solo-{method}"
            figure = {"math500": None}
            rows.append(_team(name, f"solo{_PRESET[model]}", scale, method, figure))
    return Table("MATH500, GRPO", PAGE, tuple(rows))


def _gspo(scale: str) -> Table:
    published = GSPO
    if scale == "tiny":
        published = {"tiny": dict.fromkeys(GSPO["olmo3-7b"], (None, None, None, None))}

    # SEPO and the shared reward are centred like ccpo_event, so that the credit alone differs.
    methods = {
        "untrained": {},
        "shared": _SHARED | {"advantage.normalize_std": False},
        "shared-equal": _SHARED | {"advantage.normalize_std": False},
        "ccpo": {},
        "sepo": {"credit.name": "sepo"} | _RATING[scale],
    }
    columns = {"untrained": 0, "shared": 1, "ccpo": 2, "sepo": 3}

    rows = []
    for model, test_sets in published.items():
        config = f"dyad{_EVENT_PRESET[model]}"
        for method, overrides in methods.items():
            name = f"gspo/{model}/{method}"
            column = columns.get(method)
            figures = {}
            for test_set, row in test_sets.items():
                figures[test_set] = None if column is None else row[column]

            changes: dict[str, Any] = {"overrides": overrides}
            if scale == "tiny":
                changes = {
                    "overrides": _TINY_GSPO | overrides,
                    "run": f"dyad-tiny-gspo-{method}",
                }
            rows.append(_team(name, config, scale, method, figures, **changes))
        rows.append(_gspo_solo(model, test_sets, scale))
    return Table("Five test sets, GSPO", PAGE, tuple(rows))


def _gspo_solo(model: str, test_sets: Iterable[str], scale: str) -> Row:
    """A solo at equal compute, with the loss of the other rows."""
    name = f"gspo/{model}/solo-equal"
    config = f"solo{_EVENT_PRESET[model]}"
    changes: dict[str, Any] = {}
    if scale == "tiny":
        overrides = {key: value for key, value in _TINY_GSPO.items() if key != "credit.name"}
        changes = {
            "overrides": overrides | {"advantage.normalize_std": False},
            "run": "solo-tiny-gspo-equal",
        }
    return _team(name, config, scale, "equal", dict.fromkeys(test_sets), **changes)


def _ablation(scale: str) -> Table:
    published = REMOVED if scale == "paper" else {"tiny": (None, None)}
    metrics = {"full": "team_accuracy", "removed": "without_agent_accuracy/0"}
    rows = []
    for model, (full, removed) in published.items():
        config = f"dyad{_PRESET[model]}"
        for method in ("untrained", "shared-equal", "ccpo"):
            figures = {"full": full, "removed": removed} if method == "ccpo" else {}
            overrides = _SHARED if method == "shared-equal" else {}
            for team, metric in metrics.items():
                name = f"ablation/{model}/{method}-{team}"
                figure = {"math500": figures.get(team)}
                changes = {"metric": metric, "overrides": overrides}
                rows.append(_team(name, config, scale, method, figure, **changes))
    return Table("Agent 0 removed at inference, MATH500", PAGE, tuple(rows))


def _logiqa(scale: str) -> Table:
    models = ("qwen2.5-1.5b", "qwen2.5-7b", "llama3.1-8b") if scale == "paper" else ("tiny",)
    rows = []
    for model in models:
        config = f"voting{_PRESET[model]}"
        for method in ("untrained", "solo-equal", "shared-equal", "ccpo"):
            name = f"logiqa/{model}/{method}"
            # A vote without one agent decodes nothing: the shared reward is at equal compute as it
            # is.
            changes: dict[str, Any] = {"samples": 1.0}
            if method == "shared-equal":
                changes["overrides"] = _SHARED
            if method == "solo-equal":
                # One voter, with the samples of three.
                changes = {"samples": 3.0, "overrides": _SHARED | {"team.num_agents": 1}}
            rows.append(_team(name, config, scale, method, {"logiqa_test": None}, **changes))
    source = (
        "second-hand: the best of all models is 45.01, and Qwen2.5-1.5B gains 1.5 over the shared "
        "reward; no row's own figure is given. A vote without an agent decodes nothing, so the "
        "shared reward is at equal compute as it is"
    )
    return Table("LogiQA test, three voters, GRPO", source, tuple(rows))


def listing(table: Table, rows: Sequence[Row]) -> str:
    """The chosen rows of a table, with the published figures and their source."""
    lines = [f"{table.title}; figures: {table.source}"]
    for row in table.rows:
        if row not in rows:
            continue
        changes = " ".join(
            f"--config.{name}={as_text(value)}" for name, value in row.overrides.items()
        )
        size = f" group size x {row.samples:g}" if row.samples != 1.0 else ""
        figures = []
        for test_set, figure in row.figures.items():
            figures.append(f"{test_set} {'not given' if figure is None else f'{figure:.2f}'}")
        lines.append(
            f"  {row.name}: --config={row.config} {changes}{size} seeds {row.seeds} "
            f"| paper: {', '.join(figures)}"
        )
    return "\n".join(lines)


# A new table is one function and one line here.
TABLES = {"math500": _math500, "gspo": _gspo, "ablation": _ablation, "logiqa": _logiqa}
