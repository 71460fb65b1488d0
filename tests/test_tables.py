"""The paper's tables: the figures, what each row would run, and the whole program on the embedded model."""

import csv
import json
import pathlib
import re
import subprocess
import sys

import pytest

from ccpo_jax import make_credit, train
from ccpo_jax.setup import check_numbers, make_advantage, make_loss, make_topology, masked_worlds
from ccpo_jax.topology import agent_masks, texts_per_sample
from experiments import tables
from experiments.forecast import reckon

ROOT = pathlib.Path(__file__).parents[1]
ROWS = [row for scale in ("paper", "tiny") for table in tables.tables(scale).values() for row in table.rows]
# Still smaller than the tiny scale; few shapes: evaluations have those of training.
SMALL = ["--config.steps=2", "--config.data.heldout=8", "--config.data.size=100", "--config.eval.batch_size=8",
         "--config.batch_size=8", "--config.group_size=2", "--config.shared_policy=True",
         "--config.verifier.workers=1", "--config.response_length=(16,)", "--config.trainer.pack_length=64"]  # fmt: skip
TINY = ["--table=math500", "--scale=tiny", *SMALL]


def in_this_process(arguments):
    """Runs what the command line says without a new interpreter."""
    _, config_file, workdir, *fields = arguments
    _, typed = tables.parse(fields)
    config = tables._preset(config_file.partition("=")[2])
    config.update_from_flattened_dict(typed)
    return train.main(config, config_file.partition("=")[2], workdir.partition("=")[2], "train")


# --- the rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}-{row.config}")
def test_every_row_is_a_run_that_would_start(row):
    config = tables.configuration(row, {}, 1)
    check_numbers(config)
    topology = make_topology(config)
    credit = make_credit(config.credit.name, topology)
    make_loss(config), make_advantage(config, credit)
    assert config.seed == 1 and set(row.seeds) == {0, 1, 2}
    tests = {name.strip() for name in config.data.eval.split(",")}
    assert set(row.figures) <= (tests if config.model != "tiny" else {"held-out"})
    if config.model != "tiny":
        known = reckon(config)
        assert 0 < known.memory < 80e9 and known.caches > 0 and known.total > 60


@pytest.mark.parametrize("scale", ["paper", "tiny"])
@pytest.mark.parametrize("name", tables.TABLES)
def test_every_model_has_its_untrained_team_and_its_equal_compute_shared_reward(name, scale):
    rows = tables.tables(scale)[name].rows
    for model in {row.name.split("/")[1] for row in rows}:
        mine = {row.name.split("/")[2].removesuffix("-full"): row for row in rows if row.name.split("/")[1] == model}
        untrained, equal, ours = (tables.configuration(mine[m], {}, 0) for m in ("untrained", "shared-equal", "ccpo"))
        assert untrained.steps == 0 and mine["untrained"].when == "before"
        assert equal.credit.name == "shared" and ours.credit.name in ("ccpo", "ccpo_event")

        def texts(config):
            topology = make_topology(config)
            worlds = masked_worlds(make_credit(config.credit.name, topology), topology)
            return config.group_size * texts_per_sample(topology, agent_masks(topology.num_agents, worlds))

        assert texts(equal) >= texts(ours)  # at the tiny scale a text of the Solver is longer than one of the Thinker
        assert scale == "tiny" or texts(equal) == texts(ours)
        same = (untrained.model, equal.steps, equal.loss.name, equal.data.train)
        assert same == (ours.model, ours.steps, ours.loss.name, ours.data.train)


def test_rows_of_one_run_agree_on_it_and_names_are_unique():
    for scale in ("paper", "tiny"):
        rows = [row for table in tables.tables(scale).values() for row in table.rows]
        assert len({row.name for row in rows}) == len(rows)
        first = {}
        for row in rows:
            meant = tables.configuration(row, {}, 0).to_json_best_effort()
            assert first.setdefault(row.run, meant) == meant, row.name


def test_figures_are_those_of_the_notes_beside_the_repository():
    notes = ROOT.parent / "shared" / "algorithm.md"
    if not notes.is_file():
        pytest.skip("no notes on the paper beside the repository")
    section = notes.read_text().partition("## 6. ")[2]
    lines = [re.findall(r"[\w.\-]+", line) for line in section.splitlines() if line.startswith("|")]
    rows = {row.name: row.figures for table in tables.tables("paper").values() for row in table.rows}

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
        if len(line) >= 5 and line[-5] in ("MATH500", "AIME25", "AMC23", "Gaokao2023en", "MinervaMath"):
            model = {"Qwen2.5-1.5B-Instruct": "qwen2.5-1.5b", "Olmo-3-7B-Instruct": "olmo3-7b"}.get(line[0], model)
            for method, word in zip(("untrained", "shared", "ccpo", "sepo"), line[-4:], strict=True):
                assert rows[f"gspo/{model}/{method}"][line[-5].lower()] == number(word)
                seen += 1
    for model, name in (
        ("qwen2.5-1.5b", "Qwen2.5-1.5B"),
        ("llama3.1-8b", "Llama-3.1-8B"),
        ("qwen2.5-7b", "Qwen2.5-7B"),
    ):
        full, removed = re.search(rf"{re.escape(name)} ([\d.]+)/([\d.]+)", section).groups()
        assert rows[f"ablation/{model}/ccpo-full"] == {"math500": float(full)}
        assert rows[f"ablation/{model}/ccpo-removed"] == {"math500": float(removed)}
        seen += 2
    given = [x for row in rows.values() for x in row.values() if x is not None]
    assert seen == 4 * 3 + 2 * 5 * 4 + 6 and len(given) == seen - 1  # AIME25 of the untrained Qwen2.5 is not given


# --- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "t"), [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262)])
def test_intervals_are_students(count, t):
    """Quantiles from a printed table; values 1 apart from their mean of 60 on either side."""
    values = [60 + (1 if i % 2 else -1) for i in range(count)]
    mean, half = tables.mean_and_half(values)
    deviation = (sum((x - sum(values) / count) ** 2 for x in values) / (count - 1)) ** 0.5
    assert mean == pytest.approx(sum(values) / count) and half == pytest.approx(t * deviation / count**0.5, rel=1e-3)
    assert tables.mean_and_half([61.0]) == (61.0, None) and tables.mean_and_half([]) == (None, None)


def write_run(folder, row, seed, accuracy, config=None):
    workdir = folder / row.run / f"seed-{seed}"
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text((config or tables.configuration(row, {}, seed)).to_json_best_effort())
    after = {"test/math500/team_accuracy": accuracy, "test/math500/greedy/team_accuracy": accuracy + 0.01}
    (workdir / "result.json").write_text(json.dumps({"before": {}, "after": after}))
    lines = [{"step": 0}, {"step": 1, "decoded_tokens": 100.0}, {"step": 2, "decoded_tokens": 140.0}]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_table_shows_our_figures_beside_the_papers(tmp_path, capsys):
    row = next(r for r in tables.tables("paper")["math500"].rows if r.name == "math500/qwen2.5-7b/ccpo")
    for seed, accuracy in ((0, 0.74), (1, 0.78)):
        write_run(tmp_path / "paper", row, seed, accuracy)
    assert tables.main(["--table=math500", "--print", f"--out={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    # t(1) = 12.706 times the standard error of 2 points
    assert "| qwen2.5-7b/ccpo | math500 | 2 | 76.00 | 50.59 to 101.41 | 77.00 | 77.60 | -1.60 | 240 |" in shown
    assert "| qwen2.5-7b/shared-equal | math500 | 0 | – | – | – | not given | – | – |" in shown
    assert (tmp_path / "paper" / "math500.md").read_text().strip() == shown.strip()
    rows = {r["row"]: r for r in csv.DictReader((tmp_path / "paper" / "math500.csv").open())}
    assert float(rows[row.name]["difference"]) == pytest.approx(-1.6) and rows[row.name]["seeds"] == "0 1"
    assert rows["math500/qwen2.5-7b/shared"]["mean"] == "" and rows["math500/qwen2.5-7b/shared"]["paper"] == "75.4"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table=mmlu"], "invalid choice: 'mmlu'"),
        (["--seeds=0,0"], "invalid _seeds value: '0,0'"),
        (["--seeds=a"], "invalid _seeds value"),
        (["--bogus"], "'--bogus' is not an option; fields of all rows are typed as --config.FIELD=VALUE"),
        (["--row=nobody"], "--row: there is no row 'nobody'; use one of math500/qwen2.5-1.5b/untrained"),
        (["--config.stepz=3"], "config.stepz: 3 cannot be put there"),
        (["--config.steps=many"], "config.steps: 'many' cannot be put there"),
        (["--config.credit.name=nested"], "config.credit.name: row math500/qwen2.5-1.5b/untrained decides about it"),
        (["--config.seed=3"], "config.seed: row"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_a_mistake_is_one_line_before_anything_runs(arguments, message, tmp_path, capsys):
    try:
        status = tables.main([*arguments, f"--out={tmp_path / 'out'}"], lambda _: pytest.fail("a row was started"))
    except SystemExit as end:
        status = end.code
    told = capsys.readouterr().err
    assert status == 2 and told.startswith("error: ") and message in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


# --- the program -----------------------------------------------------------------------------------------------------


def test_both_spellings_of_the_command_list_and_forecast_every_row():
    file = [sys.executable, "experiments/tables.py", "--list"]
    module = [sys.executable, "-m", "experiments.tables", "--scale=paper", "--dry_run", "--seeds=0"]
    listed, told = (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout
        for command in (file, module)
    )
    for name, table in tables.tables("paper").items():
        assert table.title in listed, name
        for row in table.rows:
            assert f"{row.name}: --config={row.config} " in listed
            assert f"{row.name}, seed 0\n" in told
    assert told.count("  hardware  ") == told.count("  duration  ") == told.count("  model     ")
    assert "allenai/Olmo-3-7B-Instruct on the Hugging Face Hub" in told and "HuggingFaceH4/MATH-500 on the Hub" in told
    assert "Reckoned, not measured" in told


def test_the_tiny_table_runs_resumes_and_prints(tmp_path, capsys):
    """Three rows in this process, the untrained team in one of its own as the command does it; then nothing again."""
    started = []

    def start(arguments):
        started.append(arguments)
        return tables.launch(arguments) if "--config.steps=0" in arguments else in_this_process(arguments)

    def run(*more):
        return tables.main([*TINY, "--seeds=0", f"--out={tmp_path}", *more], start)

    half = tmp_path / "tiny" / "dyad-tiny-ccpo" / "seed-0"  # one row was interrupted after its first step
    row = next(r for r in tables.tables("tiny")["math500"].rows if r.name == "math500/tiny/ccpo")
    _, typed = tables.parse(SMALL)
    config = tables.configuration(row, typed | {"steps": 1}, 0)
    train.train(config, str(half))
    (half / "result.json").unlink()
    first_step = (half / "metrics.jsonl").read_text().splitlines()[1]

    assert run() == 0
    assert [s[2].split("/")[-2] for s in started] == [
        f"dyad-tiny-{method}" for method in ("untrained", "shared", "shared-equal", "ccpo")
    ]
    lines = (half / "metrics.jsonl").read_text().splitlines()
    assert lines[1] == first_step and len(lines) == 3, "the interrupted row went on after its last step"
    assert "--config.group_size=4" in started[2] and "--config.group_size=2" in started[1]  # ceil(13/8 * 2)
    capsys.readouterr()
    assert run() == 0 and len(started) == 4, "what has its result is not run again"
    shown = capsys.readouterr().out
    for method, when in (("untrained", "before"), ("shared", "after"), ("shared-equal", "after"), ("ccpo", "after")):
        workdir = tmp_path / "tiny" / f"dyad-tiny-{method}" / "seed-0"
        mean = 100 * json.loads((workdir / "result.json").read_text())[when]["eval/team_accuracy"]
        assert f"| tiny/{method} | held-out | 1 | {mean:.2f} | – | – | not given | – |" in shown
    assert run("--config.data.heldout=16") == 2 and len(started) == 4
    assert "holds another run" in capsys.readouterr().err


def test_a_row_that_fails_is_told_and_the_others_run(tmp_path, capsys):
    started = []

    def start(arguments):
        started.append(arguments)
        return 3 if "shared" in arguments[2] else 0

    assert tables.main([*TINY, "--seeds=0,1", f"--out={tmp_path}"], start) == 1
    assert len(started) == 8
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 8 and "math500/tiny/shared, seed 0, ended with status 3" in told[2]
    assert tables.main([*TINY, "--seeds=0", f"--out={tmp_path}"], lambda _: 130) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_one_row_alone(tmp_path, capsys):
    started = []
    arguments = [*TINY, "--seeds=5", "--row=math500/tiny/ccpo", f"--out={tmp_path}"]
    assert tables.main(arguments, lambda a: started.append(a) or 0) == 1  # nothing was written: that is told
    assert [a[1:3] for a in started] == [
        ["--config=configs/dyad.py:tiny", f"--workdir={tmp_path}/tiny/dyad-tiny-ccpo/seed-5"]
    ]
    assert "--config.seed=5" in started[0] and "--config.steps=2" in started[0]
