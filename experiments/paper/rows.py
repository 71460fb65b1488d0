"""The rows of the paper's tables: a configuration, what it changes, its seeds, the published figure."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.paper.published import _GSPO, _MATH500, _PAGE, _REMOVED

_SEEDS = (0, 1, 2)


class Row(NamedTuple):
    """One line of a table; one for each of its test sets."""

    name: str  # table/model/team
    config: str  # preset, as `run.py --config` takes them
    overrides: dict[str, Any]  # fields that differ from the preset
    seeds: tuple[int, ...]
    figures: dict[str, float | None]  # test set -> the paper's figure in percent; None = not given
    samples: float = 1.0  # group size as a multiple of the preset's
    metric: str = (
        "team_accuracy"  # of an evaluation; without_agent_accuracy/0 = agent 0 removed at inference
    )
    when: str = "after"  # before | after training
    run: str = ""  # folder of its runs; rows of the same run share it


class Table(NamedTuple):
    """A table of the paper."""

    title: str
    source: str  # where its figures come from
    rows: tuple[Row, ...]


_PRESET = {"qwen2.5-1.5b": "", "qwen2.5-7b": ":qwen2.5-7b", "llama3.1-8b": ":llama3.1-8b",
           "qwen3-4b-base": ":qwen3-4b-base", "tiny": ":tiny"}  # fmt: skip


_EVENT = {"qwen2.5-1.5b": ":event", "olmo3-7b": ":olmo3-7b", "tiny": ":tiny"}


_SHARED = {"credit.name": "shared"}


# Group sizes that let the shared reward decode as much as `ccpo` does: a masked Thinker costs a third text per sample
# where the shared reward takes two. Texts of the embedded model differ in length; there 13 samples match 8.
_EQUAL = {"paper": 1.5, "tiny": 13 / 8}


_TINY = {"steps": 30}  # may be typed over


_OWN = ("seed", "credit.name")  # may never be


# Ratings of the embedded model are short.
_RATING = {"paper": {}, "tiny": {"credit.rating_length": 56}}
_TINY_GSPO = {"credit.name": "ccpo_event", "loss.name": "gspo", "loss.clip_low": 3e-4, "loss.clip_high": 4e-4,
              "trainer.mini_batches": 2}  # fmt: skip


def tables(scale: str) -> dict[str, Table]:
    """Every table at a scale, "paper" or "tiny"."""
    made = {name: table(scale) for name, table in TABLES.items()}
    if scale == "tiny":
        made = {
            name: table._replace(source="none; the paper has no embedded model")
            for name, table in made.items()
        }
    return made


def _team(name: str, config: str, scale: str, method: str, figures: dict, **changes) -> Row:
    """A row; its run is named by its configuration and the team's method, so that tables share it."""
    overrides = (_TINY if scale == "tiny" else {}) | changes.pop("overrides", {})
    if scale == "tiny":  # the tiny presets have no test set
        figures = {"held-out": None}
    if method == "untrained":
        overrides, changes = overrides | {"steps": 0}, {"when": "before"} | changes
    if method == "shared-equal":
        changes = {"samples": _EQUAL[scale]} | changes
    run = f"{pathlib.Path(config.partition(':')[0]).stem}-{config.partition(':')[2] or 'paper'}-{method}"
    return Row(name, config, overrides, _SEEDS, figures, **({"run": run} | changes))


def _math500(scale: str) -> Table:
    rows = []
    for model, figures in (_MATH500 if scale == "paper" else {"tiny": (None,) * 3}).items():
        paper = dict(zip(("untrained", "shared", "ccpo"), figures, strict=True))
        for method in ("untrained", "shared", "shared-equal", "ccpo"):
            changes = {"overrides": _SHARED} if method.startswith("shared") else {}
            figure = {"math500": paper.get(method)}
            rows.append(
                _team(
                    f"math500/{model}/{method}",
                    f"dyad{_PRESET[model]}",
                    scale,
                    method,
                    figure,
                    **changes,
                )
            )
    return Table("MATH500, GRPO", _PAGE, tuple(rows))


def _gspo(scale: str) -> Table:
    rows = []
    nothing = {"tiny": dict.fromkeys(_GSPO["olmo3-7b"], (None,) * 4)}
    methods = {  # credit sepo and the shared reward are centred like ccpo_event, so that credit alone differs
        "untrained": {},
        "shared": _SHARED | {"advantage.normalize_std": False},
        "shared-equal": _SHARED | {"advantage.normalize_std": False},
        "ccpo": {},
        "sepo": {"credit.name": "sepo"} | _RATING[scale],
    }
    for model, sets in (_GSPO if scale == "paper" else nothing).items():
        for method, changes in methods.items():
            column = {"untrained": 0, "shared": 1, "ccpo": 2, "sepo": 3}.get(method)
            figures = {name: None if column is None else row[column] for name, row in sets.items()}
            overrides = (_TINY_GSPO if scale == "tiny" else {}) | changes
            run = {"run": f"dyad-tiny-gspo-{method}"} if scale == "tiny" else {}
            config = f"dyad{_EVENT[model]}"
            rows.append(
                _team(
                    f"gspo/{model}/{method}",
                    config,
                    scale,
                    method,
                    figures,
                    overrides=overrides,
                    **run,
                )
            )
    return Table("Five test sets, GSPO", _PAGE, tuple(rows))


def _ablation(scale: str) -> Table:
    rows = []
    for model, (full, removed) in (
        _REMOVED if scale == "paper" else {"tiny": (None, None)}
    ).items():
        config = f"dyad{_PRESET[model]}"
        for method, changes in (
            ("untrained", {}),
            ("shared-equal", {"overrides": _SHARED}),
            ("ccpo", {}),
        ):
            figures = {"full": full, "removed": removed} if method == "ccpo" else {}
            for part, metric in (
                ("full", "team_accuracy"),
                ("removed", "without_agent_accuracy/0"),
            ):
                name, figure = f"ablation/{model}/{method}-{part}", {"math500": figures.get(part)}
                rows.append(_team(name, config, scale, method, figure, metric=metric, **changes))
    return Table("Agent 0 removed at inference, MATH500", _PAGE, tuple(rows))


def _logiqa(scale: str) -> Table:
    rows = []
    for model in ("qwen2.5-1.5b", "qwen2.5-7b", "llama3.1-8b") if scale == "paper" else ("tiny",):
        for method in ("untrained", "shared-equal", "ccpo"):
            config, changes = f"voting{_PRESET[model]}", {"samples": 1.0}
            changes |= {"overrides": _SHARED} if method == "shared-equal" else {}
            figure = {"logiqa_test": None}
            rows.append(_team(f"logiqa/{model}/{method}", config, scale, method, figure, **changes))
    source = (
        "second-hand: the best of all models is 45.01, and Qwen2.5-1.5B gains 1.5 over the shared reward; no row's own "
        "figure is given. A vote without an agent decodes nothing, so the shared reward is at equal compute as it is"
    )
    return Table("LogiQA test, three voters, GRPO", source, tuple(rows))


def listing(table: Table, rows: Sequence[Row]) -> str:
    """The chosen rows of a table, with the paper's figures and where they come from."""
    lines = [f"{table.title}; figures: {table.source}"]
    for row in table.rows:
        if row in rows:
            changes = " ".join(f"--config.{name}={value}" for name, value in row.overrides.items())
            size = f" group size x {row.samples:g}" if row.samples != 1.0 else ""
            paper = ", ".join(
                f"{t} {'not given' if x is None else f'{x:.2f}'}" for t, x in row.figures.items()
            )
            lines.append(
                f"  {row.name}: --config={row.config} {changes}{size} seeds {row.seeds} | paper: {paper}"
            )
    return "\n".join(lines)


# A new table is one function and one line here.
TABLES = {"math500": _math500, "gspo": _gspo, "ablation": _ablation, "logiqa": _logiqa}
