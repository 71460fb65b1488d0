"""The tiny study: tables of hand-made runs, and lessons that say what they should."""

import itertools
import json
from xml.etree import ElementTree

import pytest

from ccpo_jax.config import combine, parse
from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.presets import load_preset
from ccpo_jax.rollout import ratings
from experiments.study import results, tasks

study = pytest.importorskip("experiments.study.__main__", reason="run from the repository root: experiments/ is no package of the library")  # fmt: skip
teach = pytest.importorskip("experiments.study.teach_tiny", reason="as above")


def leave(folder, accuracies, tokens, final):
    """The files of a finished run of a dyad that decoded `tokens` a step."""
    folder.mkdir(parents=True)
    lines = [{"step": 0}] + [
        {"decoded_tokens": tokens, "team_accuracy": accuracy} for accuracy in accuracies
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    after = {"eval/team_accuracy": final}
    for agent in (0, 1):
        after |= {
            f"eval/without_agent_accuracy/{agent}": final / 4,
            f"eval/free_ride/{agent}": final / 8,
        }
    (folder / "result.json").write_text(
        json.dumps({"before": {"eval/team_accuracy": 0.125}, "after": after})
    )


def test_methods_are_compared_at_equal_tokens_and_seed_by_seed(tmp_path):
    leave(tmp_path / "dyad/shared/seed-0", [0.25, 0.5, 1.0], 1000, 0.5)
    leave(tmp_path / "dyad/shared/seed-1", [0.25, 0.25, 1.0], 1000, 0.25)
    leave(
        tmp_path / "dyad/ccpo/seed-0", [0.5, 0.75], 1000, 0.625
    )  # has decoded less: nobody is judged beyond it
    leave(tmp_path / "dyad/ccpo/seed-1", [0.5, 0.75], 1000, 0.5)
    courses = results.read_finished("dyad", tmp_path, (0, 1, 2))
    lines, runs = results.compare("dyad", courses)
    assert [(run["method"], run["seed"], run["curve"]) for run in runs] == [
        ("shared", 0, 37.5), ("shared", 1, 25.0), ("ccpo", 0, 62.5), ("ccpo", 1, 62.5),
    ]  # fmt: skip
    untrained, shared, ccpo = lines
    assert untrained["held-out"] == 12.5 and (shared["method"], ccpo["seeds"]) == ("shared", 2)
    assert ccpo["curve − shared"] == pytest.approx(31.25)  # of 25 and 37.5
    assert ccpo["curve − shared ±"] == pytest.approx(12.706 * 6.25, rel=1e-3)
    assert ccpo["held-out − shared"] == pytest.approx(18.75)
    assert ccpo["free rides 0"] == pytest.approx(12.5) and ccpo["loss without 1"] == pytest.approx(
        0.75 * 56.25
    )
    drawn = ElementTree.fromstring(results.picture("dyad", courses))
    assert [text.text for text in drawn if text.get("class")][:2] == ["shared", "ccpo"]
    table = results.markdown("dyad", lines)
    assert "| ccpo | 2 | 62.5 ± 0.0 | +31.2 ± 79.4 |" in table and "| untrained | 2 | – |" in table
    against, _ = results.compare("dyad", courses, "ccpo")
    assert "curve − ccpo" in results.markdown("dyad", against) and against[1][
        "curve − ccpo"
    ] == pytest.approx(-31.25)


def test_a_table_says_where_it_comes_from(tmp_path, capsys):
    for seed in (0, 3):
        leave(tmp_path / f"rating/sepo/seed-{seed}", [0.25, 0.5], 1000, 0.5)
        (tmp_path / f"rating/sepo/seed-{seed}/commit.txt").write_text(f"abc{seed}\n")
    assert study.main(["--task=rating", "--seeds=0,1,3", "--print", f"--out={tmp_path}"]) == 0
    told = (tmp_path / "rating.md").read_text()
    assert (
        "| sepo | 2 |" in told
        and "--task=rating --seeds=0,3`" in told
        and "commits abc0, abc3; 2" in told
    )


def test_every_line_of_a_picture_has_the_colour_of_its_name():
    course = results.Course([1.0, 2.0], [0.5, 0.75], {}, {})
    drawn = ElementTree.fromstring(
        results.picture("dyad", {(m, 0): course for m in tasks.methods_of("dyad")})
    )
    named = {
        text.get("class"): text.text for text in drawn if text.get("class", "").startswith("c")
    }
    lines = [
        path.get("class").split()[1]
        for path in drawn.iter()
        if path.get("class", "").startswith("line ")
    ]
    assert [named[colour] for colour in lines] == list(tasks.methods_of("dyad")) and len(
        set(lines)
    ) == len(lines)


def test_every_run_is_a_configuration_that_exists():
    for task in tasks.TASKS.values():
        preset = load_preset(f"{task.config}:tiny")
        for changes in tasks.METHODS[task.config].values():
            parse(combine(preset, tasks.COMMON | task.changes | changes))


def test_lessons(tmp_path):
    tokenizer = load_tokenizer(str(teach.pretrain.FOLDER))

    def said(lesson, count):
        pairs = list(itertools.islice(teach.LESSONS[lesson](tokenizer, 0), count))
        assert max(len(prompt) + len(response) for prompt, response in pairs) <= 192
        return [
            (tokenizer.decode(prompt), tokenizer.decode(response[:-1]))
            for prompt, response in pairs
        ]

    idle = [text in ("", "unsure") for _, text in said("lazy", 600)]
    assert 0.77 < sum(idle) / 600 < 0.9
    replies = [(prompt, text) for prompt, text in said("rating", 300) if text.startswith("{")]
    told = {prompt: "right" if "Answer: right" in prompt else "wrong" for prompt, _ in replies}
    read = [ratings.parse_rating(text, told[prompt]) for prompt, text in replies]
    assert len(replies) == 200 and not any(failure for _, failure in read)
    assert {split for split, _ in read} == {(0.6, 0.4), (0.2, 0.8), (0.8, 0.2)}


@pytest.mark.parametrize("thought, right, thinker", [
    ("47-8=39+6=45", True, 0.6), ("47-8=39+6=45", False, 0.2),
    ("47-8=38+6=44", True, 0.2), ("47-8=39+6=44", False, 0.8), ("unsure", True, 0.2), ("47", False, 0.8),
])  # fmt: skip
def test_fair_shares(thought, right, thinker):
    assert teach.fair_shares(thought, right)[0] == thinker


@pytest.mark.parametrize("typed, told", [
    ("--method=cross-play", "invalid choice: 'cross-play'"), ("--jobs=0", "--jobs: received '0', use a positive integer"),
    ("--seeds=1,1", "--seeds: received '1,1'"),
    ("--method=surprisal --task=voting", "--method: 'surprisal' is not compared in voting; use some of shared, indiv"),
])  # fmt: skip
def test_a_mistake_is_one_line(typed, told, capsys):
    with pytest.raises(SystemExit) as ended:
        study.main([*typed.split(), "--print"])
    shown = capsys.readouterr().err
    assert ended.value.code == 2 and told in shown and shown.count("\n") == 1


def test_a_table_of_nothing_says_so(tmp_path, capsys):
    assert study.main(["--task=dyad", "--print", f"--out={tmp_path}"]) == 0
    assert capsys.readouterr().err == f"dyad: no finished run in {tmp_path / 'dyad'}\n"
