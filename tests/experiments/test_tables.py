"""The paper's tables: the figures, what each row would run, and the whole program on the embedded model."""

import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from ccpo_jax import make_credit
from ccpo_jax.config import check, combine, to_json
from ccpo_jax.presets import load_preset
from ccpo_jax.rl.topology import agent_masks, texts_per_sample
from ccpo_jax.train.build import (
    make_advantage,
    make_loss,
    make_topology,
)
from ccpo_jax.train.worlds import masked_worlds
from experiments import statistics
from experiments.paper import __main__ as tables
from experiments.paper import rows as paper_rows
from experiments.paper import runs
from experiments.paper.forecast import calculate

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ["--config.steps=1", "--config.data.heldout=8", "--config.data.size=100", "--config.eval.batch_size=8",
         "--config.batch_size=8", "--config.group_size=2", "--config.shared_policy=True",
         "--config.verifier.workers=1", "--config.response_length=16", "--config.trainer.pack_length=64"]  # fmt: skip
TINY = ["--table=math500", "--scale=tiny", *SMALL]


# --- the rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["paper", "tiny"])
@pytest.mark.parametrize("name", paper_rows.TABLES)
def test_every_row_is_a_run_that_would_start(name, scale):
    for row in paper_rows.tables(scale)[name].rows:
        config = runs.configuration(row, {}, 1)
        check(config)
        topology = make_topology(config)
        credit = make_credit(config.credit.name, topology)
        make_loss(config), make_advantage(config, credit)
        assert config.seed == 1 and set(row.seeds) == {0, 1, 2}
        tests = set(config.data.eval)
        assert set(row.figures) <= (tests if scale == "paper" else {"held-out"}), row.name
        if scale == "paper":
            known = calculate(config)
            assert 0 < known.memory < 80e9 and known.caches > 0 and known.total > 60, row.name


@pytest.mark.parametrize("scale", ["paper", "tiny"])
@pytest.mark.parametrize("name", paper_rows.TABLES)
def test_every_model_has_its_untrained_team_and_its_equal_compute_shared_reward(name, scale):
    rows = paper_rows.tables(scale)[name].rows
    for model in {row.name.split("/")[1] for row in rows}:
        mine = {
            row.name.split("/")[2].removesuffix("-full"): row
            for row in rows
            if row.name.split("/")[1] == model
        }
        untrained, equal, ours = (
            runs.configuration(mine[m], {}, 0) for m in ("untrained", "shared-equal", "ccpo")
        )
        assert untrained.steps == 0 and mine["untrained"].when == "before"
        assert equal.credit.name == "shared" and ours.credit.name in ("ccpo", "ccpo_event")

        def texts(config):
            topology = make_topology(config)
            worlds = masked_worlds(make_credit(config.credit.name, topology), topology)
            return config.group_size * texts_per_sample(
                topology, agent_masks(topology.num_agents, worlds)
            )

        assert texts(equal) >= texts(
            ours
        )  # at the tiny scale a text of the Solver is longer than one of the Thinker
        assert scale == "tiny" or texts(equal) == texts(ours)
        same = (untrained.model, equal.steps, equal.loss.name, equal.data.train)
        assert same == (ours.model, ours.steps, ours.loss.name, ours.data.train)


def test_rows_of_one_run_agree_on_it_and_names_are_unique():
    for scale in ("paper", "tiny"):
        rows = [row for table in paper_rows.tables(scale).values() for row in table.rows]
        assert len({row.name for row in rows}) == len(rows)
        first = {}
        for row in rows:
            meant = json.dumps(to_json(runs.configuration(row, {}, 0)))
            assert first.setdefault(row.run, meant) == meant, row.name


def test_figures_are_those_of_the_notes_beside_the_repository():
    notes = ROOT.parent / "shared" / "algorithm.md"
    if not notes.is_file():
        pytest.skip("no notes on the paper beside the repository")
    section = notes.read_text().partition("## 6. ")[2]
    lines = [re.findall(r"[\w.\-]+", line) for line in section.splitlines() if line.startswith("|")]
    rows = {
        row.name: row.figures for table in paper_rows.tables("paper").values() for row in table.rows
    }

    def number(word):
        return None if word == "-" else float(word)

    seen = 0
    for model, name in (("qwen2.5-1.5b", "Qwen2.5-1.5B-Instruct"), ("llama3.1-8b", "Llama-3.1-8B-Instruct"),
                        ("qwen2.5-7b", "Qwen2.5-7B-Instruct"), ("qwen3-4b-base", "Qwen3-4B-Base")):  # fmt: skip
        found = next(line for line in lines if line[0] == name)
        for method, word in zip(("untrained", "shared", "ccpo"), found[1:], strict=True):
            assert rows[f"math500/{model}/{method}"] == {"math500": number(word)}
            seen += 1
    model = None
    for line in lines:
        if len(line) >= 5 and line[-5] in (
            "MATH500",
            "AIME25",
            "AMC23",
            "Gaokao2023en",
            "MinervaMath",
        ):
            model = {"Qwen2.5-1.5B-Instruct": "qwen2.5-1.5b", "Olmo-3-7B-Instruct": "olmo3-7b"}.get(
                line[0], model
            )
            for method, word in zip(
                ("untrained", "shared", "ccpo", "sepo"), line[-4:], strict=True
            ):
                assert rows[f"gspo/{model}/{method}"][line[-5].lower()] == number(word)
                seen += 1
    for model, name in (
        ("qwen2.5-1.5b", "Qwen2.5-1.5B"),
        ("llama3.1-8b", "Llama-3.1-8B"),
        ("qwen2.5-7b", "Qwen2.5-7B"),
    ):
        full, removed = re.search(rf"{re.escape(name)} (\d+\.\d\d)/(\d+\.\d\d)", section).groups()
        assert rows[f"ablation/{model}/ccpo-full"] == {"math500": float(full)}
        assert rows[f"ablation/{model}/ccpo-removed"] == {"math500": float(removed)}
        seen += 2
    given = [x for row in rows.values() for x in row.values() if x is not None]
    assert (
        seen == 4 * 3 + 2 * 5 * 4 + 6 and len(given) == seen - 1
    )  # AIME25 of the untrained Qwen2.5 is not given


# --- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count, t", [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262)])
def test_intervals_are_students(count, t):
    """Quantiles from a printed table; values 1 apart from their mean of 60 on either side."""
    values = [60 + (1 if i % 2 else -1) for i in range(count)]
    mean, half = statistics.mean_and_half(values)
    deviation = (sum((x - sum(values) / count) ** 2 for x in values) / (count - 1)) ** 0.5
    assert mean == pytest.approx(sum(values) / count) and half == pytest.approx(
        t * deviation / count**0.5, rel=1e-3
    )
    assert statistics.mean_and_half([61.0]) == (61.0, None) and statistics.mean_and_half([]) == (
        None,
        None,
    )


def write_run(folder, row, seed, accuracy, config=None, prefix="test/math500"):
    """What a run leaves in its folder."""
    workdir = folder / row.run / f"seed-{seed}"
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(
        json.dumps(to_json(config or runs.configuration(row, {}, seed)))
    )
    scores = {
        f"{prefix}/team_accuracy": accuracy,
        f"{prefix}/greedy/team_accuracy": accuracy + 0.01,
    }
    (workdir / "result.json").write_text(json.dumps(dict.fromkeys(("before", "after"), scores)))
    lines = [
        {"step": 0},
        {"step": 1, "decoded_tokens": 100.0},
        {"step": 2, "decoded_tokens": 140.0},
    ]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_table_shows_our_figures_beside_the_papers(tmp_path, capsys):
    row = next(
        r for r in paper_rows.tables("paper")["math500"].rows if r.name == "math500/qwen2.5-7b/ccpo"
    )
    for seed, accuracy in ((0, 0.74), (1, 0.78)):
        write_run(tmp_path / "paper", row, seed, accuracy)
    assert tables.main(["--table=math500", "--print", f"--out={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    # t(1) = 12.706 times the standard error of 2 points
    assert (
        "| qwen2.5-7b/ccpo | math500 | 2 | 76.00 | 50.59 to 101.41 | 77.00 | 77.60 | -1.60 | 240 |"
        in shown
    )
    assert "| qwen2.5-7b/shared-equal | math500 | 0 | – | – | – | not given | – | – |" in shown
    assert (tmp_path / "paper" / "math500.md").read_text().strip() == shown.strip()
    rows = {r["row"]: r for r in csv.DictReader((tmp_path / "paper" / "math500.csv").open())}
    assert (
        float(rows[row.name]["difference"]) == pytest.approx(-1.6)
        and rows[row.name]["seeds"] == "0 1"
    )
    assert (
        rows["math500/qwen2.5-7b/shared"]["mean"] == ""
        and rows["math500/qwen2.5-7b/shared"]["paper"] == "75.4"
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--table=mmlu"], "invalid choice: 'mmlu'"),
        (["--seeds=0,0"], "argument --seeds: received '0,0'"),
        (["--seeds=a"], "argument --seeds: received 'a'"),
        (
            ["--bogus"],
            "'--bogus' is not an option; fields of all rows are typed as --config.FIELD=VALUE",
        ),
        (
            ["--row=nobody"],
            "--row: no row 'nobody'; use one of math500/qwen2.5-1.5b/untrained",
        ),
        (["--config.stepz=3"], "stepz: no such field; did you mean --config.steps?"),
        (["--config.steps=many"], "steps: must be a whole number, received 'many'"),
        (
            ["--config.credit.name=nested"],
            "config.credit.name: row math500/qwen2.5-1.5b/untrained defines it",
        ),
        (["--config.seed=3"], "config.seed: row"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_a_mistake_is_one_line_before_anything_runs(arguments, message, tmp_path, capsys):
    try:
        status = tables.main(
            [*arguments, f"--out={tmp_path / 'out'}"], lambda _: pytest.fail("a row was started")
        )
    except SystemExit as end:
        status = end.code
    told = capsys.readouterr().err
    assert status == 2 and told.startswith("error: ") and message in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


# --- the program -----------------------------------------------------------------------------------------------------


def test_both_spellings_of_the_command_list_every_row():
    for spelling in (["-m", "experiments.paper"],):
        command = [sys.executable, *spelling, "--list"]
        listed = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        ).stdout
        for table in paper_rows.tables("paper").values():
            assert table.title in listed
            assert all(f"{row.name}: --config={row.config} " in listed for row in table.rows)


def test_the_forecast_tells_of_every_row_what_it_needs(capsys):
    assert (
        tables.main(
            ["--scale=paper", "--dry_run", "--seeds=0"], lambda _: pytest.fail("a row was started")
        )
        == 0
    )
    told = capsys.readouterr().out
    rows = [row for table in paper_rows.tables("paper").values() for row in table.rows]
    assert all(f"{row.name}, seed 0\n" in told for row in rows)
    for word in ("runs", "model", "data", "hardware", "duration"):
        assert told.count(f"\n  {word:10}") == len({row.run for row in rows})
    assert (
        "\nablation/qwen2.5-7b/ccpo-removed, seed 0\n  the run of math500/qwen2.5-7b/ccpo\n" in told
    )
    assert (
        "allenai/Olmo-3-7B-Instruct on the Hugging Face Hub" in told
        and "HuggingFaceH4/MATH-500 on the Hub" in told
    )
    assert re.search(
        r"\ntogether [\d,]+ GPU hours, not measured\nCalculated per training step", told
    )


def test_a_row_runs_in_a_process_of_its_own_and_is_printed(tmp_path, capfd):
    """The untrained team, from the command line of the table to its printed line; without training it is quick."""
    arguments = [*TINY, "--seeds=0", "--row=math500/tiny/untrained", f"--out={tmp_path}"]
    assert tables.main(arguments) == 0
    shown, workdir = capfd.readouterr().out, tmp_path / "tiny" / "dyad-tiny-untrained" / "seed-0"
    (line,) = (workdir / "metrics.jsonl").read_text().splitlines()
    mean = 100 * json.loads(line)["eval/team_accuracy"]
    assert f"| tiny/untrained | held-out | 1 | {mean:.2f} | – | – | not given | – | – |" in shown
    assert "| tiny/ccpo | held-out | 0 | – | – | – | not given | – | – |" in shown
    assert (
        tables.main(arguments, lambda _: pytest.fail("what has its result is not run again")) == 0
    )
    assert capfd.readouterr().out == shown
    assert tables.main([*arguments, "--config.data.heldout=16"]) == 2
    assert "data.heldout was 8 and is 16" in capfd.readouterr().err


def test_a_stopped_or_failed_table_goes_on_where_it_was(tmp_path, capsys):
    started, fate = [], {}

    def start(arguments):
        """Writes a run's folder, and ends as `fate` says: status, or an exception before the result."""
        workdir = pathlib.Path(arguments[2].partition("=")[2])
        started.append(f"{workdir.parent.name}/{workdir.name}")
        row = next(
            r for r in paper_rows.tables("tiny")["math500"].rows if r.run == workdir.parent.name
        )
        ending = fate.get(started[-1], 0)
        if isinstance(ending, type):
            raise ending
        if ending == 0:
            typed = tables.parse(arguments[3:])[1]
            config = combine(load_preset(row.config), typed)
            write_run(tmp_path / "tiny", row, int(workdir.name[-1]), 0.5, config, "eval")
        return ending

    def run(*more):
        started.clear()
        return tables.main([*TINY, "--seeds=0,1", f"--out={tmp_path}", *more], start)

    dyads = ["untrained", "shared", "shared-equal", "ccpo"]
    methods = [f"dyad-tiny-{m}" for m in dyads] + ["solo-tiny-untrained", "solo-tiny-equal"]
    order = [f"{method}/seed-{seed}" for seed in (0, 1) for method in methods]
    fate["dyad-tiny-shared-equal/seed-0"] = KeyboardInterrupt
    assert run() == 130 and started == order[:3]
    assert "the same command resumes" in capsys.readouterr().err
    fate["dyad-tiny-shared-equal/seed-0"] = 3
    assert run() == 1 and started == order[2:]
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and "math500/tiny/shared-equal, seed 0, ended with status 3" in told[0]
    fate.clear()
    assert run() == 0 and started == order[2:3]
    assert run("--config.steps=2") == 2 and started == []
    assert "holds a run of 1 steps, not 2" in capsys.readouterr().err
    assert run() == 0 and started == []
    assert "| tiny/ccpo | held-out | 2 | 50.00 | 50.00 to 50.00 |" in capsys.readouterr().out


def test_ctrl_c_reaches_a_run_once(tmp_path):
    """A terminal sends it to the whole group; a run that hears of it twice would end without saving."""
    heard = tmp_path / "heard"
    run = (
        "import pathlib, signal, time\n"
        f"path = pathlib.Path({str(heard)!r})\n"
        "note = lambda number, frame: path.open('a').write(signal.Signals(number).name + ' ')\n"
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, note)\n"
        "path.touch()\n"
        "while not path.read_text(): time.sleep(0.01)\n"
        "time.sleep(0.3)"
    )
    program = (  # what starts tests in the background has them ignore it
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from experiments.paper.runs import launch\nlaunch(['-c', {run!r}])"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL
    )
    while not heard.exists():
        assert parent.poll() is None
        time.sleep(0.01)
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(timeout=20) != 0 and heard.read_text() == "SIGTERM "
