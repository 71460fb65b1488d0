"""The paper's tables as data, one command to run them, and our figures beside the paper's.

    python -m experiments.paper --list
    python -m experiments.paper --table=math500 --scale=tiny --seeds=0,1
    python -m experiments.paper --table=gspo --scale=paper --dry_run
    python -m experiments.paper --table=math500 --row=math500/qwen2.5-1.5b/ccpo --seeds=0 --config.data.train=FILE

Every row is a configuration, what it changes, and seeds, beside the paper's figure. A row and seed runs in a process of
its own, `run.py` in a folder of its own under --out; one that has its result is not run again, and one that was
interrupted goes on after its last checkpoint. So rows can be given to several machines that share --out, and the same
command prints the table of whatever is there. Rows that read the same run share it.

--scale=tiny runs the same rows with the embedded model in place of each model: synthetic arithmetic, few steps, and
held-out problems in place of test sets. The paper has no figures for that.
"""

import argparse
import csv
import importlib
import io
import json
import math
import pathlib
import signal
import subprocess
import sys
import time
from ast import literal_eval
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ccpo_jax.arguments import Parser, seeds

ROOT = pathlib.Path(__file__).resolve().parents[2]

_SEEDS = (0, 1, 2)


class Row(NamedTuple):
    """One line of a table; one for each of its test sets."""

    name: str  # table/model/team
    config: str  # configuration file and preset, as `run.py --config` takes them
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


# --- the paper's figures, in percent ---------------------------------------------------------------------------------

_PAGE = "the authors' project page, one sample per question; its tables have titles and no numbers"
_MATH500 = {  # GRPO: untrained, shared reward (ReMA), CCPO
    "qwen2.5-1.5b": (54.00, 60.00, 61.00),
    "llama3.1-8b": (46.20, 51.80, 53.40),
    "qwen2.5-7b": (74.40, 75.40, 77.60),
    "qwen3-4b-base": (46.40, 78.00, 79.40),
}
_GSPO = {  # untrained, shared reward, CCPO, SEPO
    "qwen2.5-1.5b": {
        "math500": (54.00, 57.80, 59.20, 59.20),
        "aime25": (None, 6.67, 6.67, 6.67),
        "amc23": (32.50, 42.50, 42.50, 35.00),
        "gaokao2023en": (41.04, 46.23, 47.01, 46.49),
        "minervamath": (12.50, 16.18, 15.44, 16.91),
    },
    "olmo3-7b": {
        "math500": (82.60, 87.00, 84.40, 87.00),
        "aime25": (30.00, 30.00, 30.00, 30.00),
        "amc23": (77.50, 82.50, 80.00, 85.00),
        "gaokao2023en": (72.73, 73.25, 73.77, 73.25),
        "minervamath": (27.57, 27.91, 30.15, 26.47),
    },
}
_REMOVED = {  # CCPO on MATH500: the full team, agent 0 removed at inference
    "qwen2.5-1.5b": (61.00, 56.40),
    "llama3.1-8b": (53.40, 52.00),
    "qwen2.5-7b": (77.60, 76.00),
}

# --- the rows --------------------------------------------------------------------------------------------------------

_PRESET = {"qwen2.5-1.5b": "", "qwen2.5-7b": ":qwen2.5-7b", "llama3.1-8b": ":llama3.1-8b",
           "qwen3-4b-base": ":qwen3-4b-base", "tiny": ":tiny"}  # fmt: skip
_EVENT = {"qwen2.5-1.5b": ":event", "olmo3-7b": ":olmo3-7b", "tiny": ":tiny"}
_SHARED = {"credit.name": "shared"}
# Group sizes that let the shared reward decode as much as `ccpo` does: a masked Thinker costs a third text per sample
# where the shared reward takes two. Texts of the embedded model differ in length; there 13 samples match 8.
_EQUAL = {"paper": 1.5, "tiny": 13 / 8}
_TINY = {"steps": 30}  # may be typed over
_OWN = ("seed", "credit.name")  # may never be
_TINY_GSPO = {"credit.name": "ccpo_event", "loss.name": "gspo", "loss.clip_low": 3e-4, "loss.clip_high": 4e-4,
              "trainer.mini_batches": 2, "rating_length": 56}  # fmt: skip


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
                    f"configs/dyad.py{_PRESET[model]}",
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
        "sepo": {"credit.name": "sepo"},
    }
    for model, sets in (_GSPO if scale == "paper" else nothing).items():
        for method, changes in methods.items():
            column = {"untrained": 0, "shared": 1, "ccpo": 2, "sepo": 3}.get(method)
            figures = {name: None if column is None else row[column] for name, row in sets.items()}
            overrides = (_TINY_GSPO if scale == "tiny" else {}) | changes
            run = {"run": f"dyad-tiny-gspo-{method}"} if scale == "tiny" else {}
            config = f"configs/dyad.py{_EVENT[model]}"
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
        config = f"configs/dyad.py{_PRESET[model]}"
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
            config, changes = f"configs/voting.py{_PRESET[model]}", {"samples": 1.0}
            changes |= {"overrides": _SHARED} if method == "shared-equal" else {}
            figure = {"logiqa_test": None}
            rows.append(_team(f"logiqa/{model}/{method}", config, scale, method, figure, **changes))
    source = (
        "second-hand: the best of all models is 45.01, and Qwen2.5-1.5B gains 1.5 over the shared reward; no row's own "
        "figure is given. A vote without an agent decodes nothing, so the shared reward is at equal compute as it is"
    )
    return Table("LogiQA test, three voters, GRPO", source, tuple(rows))


# --- one row and seed ------------------------------------------------------------------------------------------------


def changed_fields(row: Row, typed: dict[str, Any], seed: int) -> dict[str, Any]:
    """All fields in which a row's run differs from its preset: the row's own, typed ones, the seed.

    Raises:
      ValueError: a typed field is what the row is about.
    """
    for name in typed:
        if name in _OWN or name in row.overrides and name not in _TINY:
            raise ValueError(
                f"config.{name}: row {row.name} decides about it; leave it out, or type another --row"
            )
    changes = row.overrides | typed | {"seed": seed}
    if row.when == "before":
        changes["steps"] = 0
    if row.samples != 1.0:
        changes["group_size"] = math.ceil(
            row.samples * typed.get("group_size", preset(row.config).group_size)
        )
    return changes


def preset(config: str):
    """The configuration that ``configs/dyad.py:tiny`` names."""
    path, _, name = config.partition(":")
    return importlib.import_module(path.removesuffix(".py").replace("/", ".")).get_config(name)


def configuration(row: Row, typed: dict[str, Any], seed: int):
    """The row's whole configuration.

    Raises:
      ValueError: a typed field does not exist or cannot hold its value.
    """
    config = preset(row.config).lock()
    for name, value in changed_fields(row, typed, seed).items():
        try:
            config.update_from_flattened_dict({name: value})
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                f"config.{name}: {value!r:.60} cannot be put there ({type(error).__name__}); see configs/base.py"
            ) from error
    return config


def command(row: Row, typed: dict[str, Any], seed: int, workdir: pathlib.Path) -> list[str]:
    """What runs the row, as one would type it beside run.py."""
    fields = [
        f"--config.{name}={value}" for name, value in changed_fields(row, typed, seed).items()
    ]
    return ["run.py", f"--config={row.config}", f"--workdir={workdir.resolve()}", *fields]


def finished(workdir: pathlib.Path, config) -> bool:
    """Whether the run in `workdir` has its result.

    Raises:
      ValueError: it is the result of another configuration.
    """
    from ccpo_jax.workdir.workdir import compare_config

    compare_config(config, str(workdir))
    if not (workdir / "result.json").is_file():
        return False
    steps = json.loads((workdir / "config.json").read_text(encoding="utf-8"))["steps"]
    if steps != config.steps:
        raise ValueError(
            f"steps: {workdir} holds a run of {steps} steps, not {config.steps}; type another --out"
        )
    return True


def launch(arguments: Sequence[str]) -> int:
    """Runs one row in a process of its own, with its words on standard error. Returns its exit status.

    If this program is asked to stop, the run saves its step and ends first. A terminal's Ctrl-C goes to whole groups of
    processes, and a run that is asked twice ends at once; so the run has a group of its own and is asked here.
    """
    child = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=sys.stderr, start_new_session=True
    )
    try:
        return child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise


def run_rows(
    rows: Sequence[Row],
    typed: dict[str, Any],
    seeds: Sequence[int] | None,
    folder: pathlib.Path,
    start: Callable[[Sequence[str]], int] = launch,
) -> list[str]:
    """Runs what has no result yet.

    Returns:
      What failed, in words.

    Raises:
      ValueError: a folder holds another run.
    """
    wanted = {}  # rows of the same run share it
    jobs = [(row, seed) for row in rows for seed in seeds or row.seeds]
    for row, seed in sorted(jobs, key=lambda job: job[1]):  # a whole table of one seed first
        wanted.setdefault(folder / row.run / f"seed-{seed}", (row, seed))
    todo = {
        w: job for w, job in wanted.items() if not finished(w, configuration(job[0], typed, job[1]))
    }
    if skipped := len(wanted) - len(todo):
        print(f"{skipped} of {len(wanted)} runs have their result already", file=sys.stderr)
    failed, began = [], time.monotonic()
    for number, (workdir, (row, seed)) in enumerate(todo.items(), 1):
        clock = f"{(time.monotonic() - began) / 60:.1f} min"
        print(
            f"\n[{number}/{len(todo)}, {clock}] {row.name}, seed {seed}",
            file=sys.stderr,
            flush=True,
        )
        status = start(command(row, typed, seed, workdir))
        if status or not (workdir / "result.json").is_file():
            failed.append(
                f"{row.name}, seed {seed}, ended with status {status} and no result; see {workdir}"
            )
    return failed


# --- figures ---------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """A row's figures on one test set, in percent, over the seeds that have a result."""

    row: Row
    test: str
    seeds: tuple[int, ...]
    samples: int | None  # k of avg@k
    mean: float | None  # of avg@k
    half: float | None  # half width of the 95 % interval; None below two seeds
    greedy: float | None  # mean at temperature 0; None where it was not evaluated
    tokens: float | None  # decoded in training, mean
    parsed: float | None  # share of ratings that could be read; None where nobody rates

    @property
    def paper(self) -> float | None:
        return self.row.figures[self.test]


def mean_and_half(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and half width of its 95 % confidence interval, Student's t over seeds.

    Example:
      >>> mean_and_half([59.0, 61.0])[0]
      60.0
    """
    from scipy.special import stdtrit  # comes with jax

    count = len(values)
    if count == 0:
        return None, None
    mean = sum(values) / count
    if count == 1:
        return mean, None
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    return mean, float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count)


def read_row(row: Row, seeds: Sequence[int] | None, folder: pathlib.Path) -> list[Found]:
    """What a row's finished runs say, one entry per test set."""
    results, tokens, parsed, samples = {}, [], [], None
    for seed in seeds or row.seeds:
        workdir = folder / row.run / f"seed-{seed}"
        if not (workdir / "result.json").is_file():
            continue
        results[seed] = json.loads((workdir / "result.json").read_text(encoding="utf-8"))[row.when]
        samples = json.loads((workdir / "config.json").read_text(encoding="utf-8"))["eval"][
            "samples"
        ]
        lines = [
            json.loads(line)
            for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        tokens.append(sum(line.get("decoded_tokens", 0.0) for line in lines))
        parsed += [
            value
            for line in lines
            for name, value in line.items()
            if name.startswith("rating/parsed/")
        ]
    found = []
    for test in row.figures:
        prefix = "eval" if test == "held-out" else f"test/{test}"
        values = {
            s: 100 * r[f"{prefix}/{row.metric}"]
            for s, r in results.items()
            if f"{prefix}/{row.metric}" in r
        }
        greedy = [
            100 * r[name]
            for r in results.values()
            if (name := f"{prefix}/greedy/{row.metric}") in r
        ]
        mean, half = mean_and_half(list(values.values()))
        told = (mean_and_half(kind)[0] for kind in (greedy, tokens, parsed))
        found.append(Found(row, test, tuple(values), samples, mean, half, *told))
    return found


def markdown(table: Table, found: Sequence[Found], scale: str) -> str:
    """The table as people read it."""

    def cell(value: float | None, form: str = ".2f", otherwise: str = "–") -> str:
        return otherwise if value is None else format(value, form)

    k = next((f.samples for f in found if f.samples), "k")
    head = [
        "row",
        "test set",
        "seeds",
        f"avg@{k}",
        "95 % interval",
        "greedy",
        "paper",
        "ours − paper",
        "decoded",
    ]
    lines = [f"## {table.title}" + ("" if scale == "paper" else ", tiny scale"), ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for f in found:
        interval = "–" if f.half is None else f"{f.mean - f.half:.2f} to {f.mean + f.half:.2f}"
        difference = None if f.mean is None or f.paper is None else f.mean - f.paper
        tokens = None if f.row.when == "before" else f.tokens
        lines.append(
            f"| {f.row.name.partition('/')[2]} | {f.test} | {len(f.seeds)} | {cell(f.mean)} | {interval} "
            f"| {cell(f.greedy)} | {cell(f.paper, otherwise='not given')} | {cell(difference, '+.2f')} "
            f"| {cell(tokens, ',.0f')} |"
        )
    lines += [
        "",
        "Accuracies in percent, intervals by Student's t over seeds, tokens decoded in training.",
    ]
    lines += ["", f"The paper's figures: {table.source}."]
    for f in found:
        if f.parsed is not None:
            lines.append(
                f"{f.row.name}: {100 * f.parsed:.1f} % of the ratings in training could be read."
            )
    return "\n".join(lines) + "\n"


def as_csv(table: Table, found: Sequence[Found]) -> str:
    """The table as programs read it: figures in percent, empty where there is none."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(
        ["row", "test_set", "seeds", "k", "mean", "low", "high", "greedy", "paper", "difference", "decoded_tokens",
         "ratings_parsed", "config", "overrides", "source"]
    )  # fmt: skip
    for f in found:
        low, high = (None, None) if f.half is None else (f.mean - f.half, f.mean + f.half)
        difference = None if f.mean is None or f.paper is None else f.mean - f.paper
        changes = " ".join(f"{name}={value}" for name, value in f.row.overrides.items())
        out.writerow(
            [f.row.name, f.test, " ".join(map(str, f.seeds)), f.samples, f.mean, low, high, f.greedy, f.paper,
             difference, f.tokens, f.parsed, f.row.config, changes, table.source]
        )  # fmt: skip
    return text.getvalue()


# --- the command line ------------------------------------------------------------------------------------------------


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Options and the typed fields of every row's configuration."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--table", choices=list(TABLES), help="one table; all of them when absent")
    parser.add_argument("--scale", choices=["paper", "tiny"], default="paper")
    parser.add_argument("--seeds", type=seeds, help="such as 0,1; each row's own when absent")
    parser.add_argument("--row", help="run only this row, as --list names it, or several: a,b")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/tables"),
        help="runs and tables go here",
    )
    parser.add_argument("--list", action="store_true", help="print every row and run nothing")
    parser.add_argument(
        "--dry_run", action="store_true", help="print what would run, where, how long; run nothing"
    )
    parser.add_argument(
        "--print", action="store_true", help="print the tables of what is there; run nothing"
    )
    options, rest = parser.parse_known_args(arguments)
    typed = {}
    for word in rest:
        name, equals, value = word.removeprefix("--config.").partition("=")
        if not word.startswith("--config.") or not equals:
            parser.error(
                f"{word!r:.80} is not an option; fields of all rows are typed as --config.FIELD=VALUE"
            )
        try:
            typed[name] = literal_eval(value)
        except (ValueError, SyntaxError):
            typed[name] = value
    return options, typed


def main(arguments: Sequence[str], start: Callable[[Sequence[str]], int] = launch) -> int:
    """The command line. Returns the exit status: 2 after a mistake in what was typed, 1 where a row failed."""
    options, typed = parse(arguments)
    chosen = {name: t for name, t in tables(options.scale).items() if options.table in (None, name)}
    rows = [row for table in chosen.values() for row in table.rows]
    failed = []
    try:
        if options.row:
            known = {row.name: row for row in rows}
            if unknown := [name for name in options.row.split(",") if name not in known]:
                raise ValueError(
                    f"--row: there is no row {unknown[0]!r}; use one of {', '.join(known)}"
                )
            rows = [known[name] for name in options.row.split(",")]
        if options.list:
            for table in chosen.values():
                print(listing(table, rows))
            return 0
        if options.dry_run:
            from experiments.paper.forecast import forecast

            print(
                forecast(
                    [
                        (r, configuration(r, typed, s), s)
                        for r in rows
                        for s in (options.seeds or r.seeds)
                    ]
                )
            )
            return 0
        folder = options.out / options.scale
        if not options.print:
            failed = run_rows(rows, typed, options.seeds, folder, start)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    for name, table in chosen.items():
        found = [f for row in table.rows for f in read_row(row, options.seeds, folder)]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(markdown(table, found, options.scale), encoding="utf-8")
        (folder / f"{name}.csv").write_text(as_csv(table, found), encoding="utf-8")
        print(markdown(table, found, options.scale))
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failed else 0


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


def stop(number, frame):
    """What Ctrl-C does, for SIGTERM."""
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main(sys.argv[1:]))
