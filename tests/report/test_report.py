"""The report: what its page says about a known run, and that no text of a model is interpreted."""

import base64
import hashlib
import html
import html.parser
import inspect
import itertools
import json
import re
import shutil

import numpy as np
import pytest

from ccpo_jax import report
from ccpo_jax.config import parse, to_json
from ccpo_jax.report.load import load_run
from ccpo_jax.report.names import agent_names
from ccpo_jax.report.page import missing_rollouts, render_page
from ccpo_jax.report.plots import ticks
from ccpo_jax.report.rollout_view import explain_credit, rollout_view
from ccpo_jax.rl.credit import CREDITS
from ccpo_jax.rl.topology import chain, dyad
from configs import dyad as dyad_config
from configs import voting as voting_config
from tests.support.errors import raises_for

EVIL = [
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 2</script>",
    "<!--</script><script>window.pwned = 3",
    '"><img src=x onerror="window.pwned = 4">',
    "javascript:window.pwned=5",
    "<svg onload=alert(6)>",
    "<!--{charts-json}-->",
    "&lt;b&gt; {{7*7}} ${8*8} `",
    "lone \ud800 surrogate",
    "turned \u202e around \u2066 and \u200f hidden\u200b",
    "null \x00 bell \x07 escape \x1b[2J line\u2028end",
    "\U000e0041 tag",
    "z\u0300\u0301\u0302" * 50,
]


def solved(
    step: int,
    *,
    question: str = "Compute 1+1.",
    text: str = "1+1=2;Answer: 2",
    problem: str = "sums/7",
) -> dict:
    """A line of rollouts.jsonl: three voters, four samples; by hand."""
    texts = [
        {"text": text, "verdict": "right", "answer": "2"},
        {"text": "Answer: 3", "verdict": "wrong", "answer": "3"},
    ]
    samples = []
    for reward in ([1, 0.5, 0.5, 1], [0, 0.5, 0, 0], [1, 1, 1, 1], [1 / 3, 0.5, 0, 0.5]):
        samples.append(
            {
                "reward": reward,
                "credit": [reward[0] - without for without in reward[1:]],
                "advantage": [0.7, -0.25, 0.0],
                "said": [[[0, 1, 0]], [[None, 1, 0]], [[0, None, 0]], [[0, 1, None]]],
            }
        )
    return {
        "step": step,
        "id": problem,
        "question": question,
        "gold": "2",
        "group": 4,
        "mean_credit": [0.1, 0.2, 0.0],
        "masked": [[], [0], [1], [2]],
        "turns": [{"speaker": k, "role": "voter", "texts": texts} for k in range(3)],
        "samples": samples,
    }


def metrics_of(step: int) -> dict:
    """A line of metrics.jsonl: an evaluation every 20 steps, training from step 1 on."""
    line = {"step": step}
    if step % 20 == 0:
        accuracy = 0.4 + step / 100
        line |= accuracies("team_accuracy", accuracy)
        for agent in range(3):
            line |= accuracies(f"agent_accuracy/{agent}", accuracy)
            line |= accuracies(f"without_agent_accuracy/{agent}", accuracy)
    if step:
        line |= {
            "reward": 0.4 + step / 100,
            "decoded_tokens": 1000.0,
            "moments/gate": 0.5,
            "moments/delta/mean": 0.08,
            "moments/delta/var": 0.25,
            "moments/joint/mean": 0,
            "moments/joint/var": 0,
        }
        for agent in range(3):
            line |= agent_metrics(step, agent)
    return line


def accuracies(name: str, value: float) -> dict:
    return {
        f"eval/{name}": value,
        f"eval/{name}/low": value - 0.03,
        f"eval/{name}/high": value + 0.02,
    }


def agent_metrics(step: int, agent: int) -> dict:
    """Metrics of one voter; percentile p of its credit is (p + step) / 100 - 0.5."""
    percentiles = {
        f"credit/percentile_{p}/{agent}": (p + step) / 100 - 0.5 for p in (5, 25, 50, 75, 95)
    }
    return percentiles | {
        f"credit/mean/{agent}": 0.1,
        f"credit/free_rider_rate/{agent}": 0.6,
        f"credit/help_rate/{agent}": 0.2,
        f"response_length/{agent}": 9.5,
        f"update/grad_norm/{agent}": step / 7,
    }


def make_run(folder, *, rollouts=None, steps=40, config=None):
    """A workdir as a run of three voters leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config or voting_config.get_config("tiny")
    (folder / "config.json").write_text(json.dumps(to_json(parse(config))))
    lines = [metrics_of(step) for step in range(steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kept = [solved(1), solved(20), solved(40)] if rollouts is None else rollouts
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    return folder


class Page(html.parser.HTMLParser):
    """What a browser would see: its elements, its attributes, its text."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.raw = [], [], "", {}
        self._open = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._open = dict(attrs).get("id", tag) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.raw[self._open] = self.raw.get(self._open, "") + data
        else:
            self.text += data


def page_of(folder) -> tuple[str, Page]:
    assert report.main([str(folder)]) == 0
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


# --- what the page says -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(workdir, text of its page, the page): three voters."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "three-voters")
    return folder, *page_of(folder)


def test_the_page_describes_the_run(run):
    _, _, page = run
    words = " ".join(page.text.split())
    for expected in (
        "three-voters",
        "credit ccpo",
        "steps 40 of 40",
        "80.0 % held-out accuracy 40.0 % before training",
        "40,000 tokens decoded",
        "0.60 free-rider rate voter 2, mean of the last 4 steps",
        "Held-out accuracy",
        "Gradient norm",
        "Credit of voter 0",
        "Credit of voter 2",
        "Rides free",
        "Helps",
        "Gate",
        "How ccpo assigns credit",
        inspect.getdoc(CREDITS["ccpo"]).splitlines()[0],
        "team without agent 2 (voter)40.037.0 – 42.080.077.0 – 82.0",
        "optimizer.learning_rate0.0002",
        "moments/gate0.5weight of the joint reward",
    ):
        assert expected in words, expected
    # Charts of metrics that the run does not have.
    assert "Ratings read" not in words and "Pivotal" not in words
    # Moments that never move shape nothing.
    assert "contribution 0.08" in words and "solo 0" not in words


def test_charts_show_the_numbers_they_are_made_of(run):
    def drawn(title: str, pattern: str) -> list[float]:
        """Vertical places in a chart, as values: read off the numbers at its axis."""
        chart = run[1][run[1].index(title) :]
        chart = chart[: chart.index("</figure>")]
        marks = re.findall(r'<text x="\d+" y="([\d.]+)" text-anchor="end">(-?[\d.]+)<', chart)
        (y0, v0), (y1, v1) = ((float(y) - 4, float(value)) for y, value in (marks[0], marks[-1]))
        return [v0 + (float(y) - y0) * (v1 - v0) / (y1 - y0) for y in re.findall(pattern, chart)]

    means = np.arange(1.5, 40, 2) / 100  # of two steps each
    for place, percent in (
        (r'<path d="M[\d.]+ ([\d.]+)V', 5),
        (r'<rect x="[\d.]+" y="([\d.]+)"', 75),
        (r'middle" d="M[\d.]+ ([\d.]+)h', 50),
        (r'([\d.]+)h[\d.]+"/><rect', 95),
    ):
        assert drawn("Credit of voter 1", place) == pytest.approx(
            means + percent / 100 - 0.5, abs=0.01
        )
    assert drawn("Credit of voter 1", r'<circle cx="[\d.]+" cy="([\d.]+)') == pytest.approx(
        [0.1] * 20, abs=0.01
    )
    dots = drawn("<h3>Held-out accuracy", r'dot c0" cx="[\d.]+" cy="([\d.]+)')
    assert dots == pytest.approx([0.4, 0.6, 0.8], abs=0.01)
    band = drawn("<h3>Held-out accuracy", r"(?<=[ML])[\d.]+ ([\d.]+)(?=[LZ])")[:6]
    assert band == pytest.approx([0.42, 0.62, 0.82, 0.77, 0.57, 0.37], abs=0.01)


@pytest.mark.parametrize(
    "low,high", [(0, 1), (-0.3, 0.7), (1e-9, 2e-9), (5, 2_000_000), (-3, -2.9), (0, 40)]
)
def test_ticks_are_few_and_round(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 5 and low - 1e-9 <= found[0] and found[-1] <= high + 1e-9
    steps = {f"{b - a:.6g}" for a, b in itertools.pairwise(found)}
    assert len(steps) == 1 and steps.pop().strip("0.")[0] in "125"


def test_rollouts_carry_verdicts_pay_and_reasons(run):
    held = json.loads(run[2].raw["rollouts-json"])
    assert held["agents"] == ["voter 0", "voter 1", "voter 2"]
    first = held["entries"][0]
    assert [entry["step"] for entry in held["entries"]] == [1, 20, 40]
    assert first["question"] == "Compute 1+1." and first["gold"] == "2"
    assert first["worlds"] == ["", "voter 0", "voter 1", "voter 2"]
    assert first["turns"][1]["texts"][1] == {"text": "Answer: 3", "verdict": "wrong", "answer": "3"}
    assert first["history"] == "History before this step: contribution 0.08 ± 0.50, gate 0.50."
    right, wrong, free, tied = first["samples"]
    helps, _, nothing = right["agents"]
    assert helps == {
        "contribution": 0.5,
        "credit": 0.5,
        "advantage": 0.7,
        "why": "Without it the team earns 0.50 instead of 1.00: it helps. "
        "Its credit is 0.40 above the mean of its 4 samples, 0.10.",
    }
    assert nothing["why"] == (
        "The team earns 1.00 with and without it, so here it rides free. "
        "Its credit equals the mean of its 4 samples: nothing is learned from this sample."
    )
    assert wrong["agents"][0]["why"].startswith(
        "Without it the team earns 0.50 instead of 0.00: it hurts."
    )
    assert wrong["agents"][1]["why"].startswith("The team earns 0.00 with and without it. ")
    assert [agent["contribution"] for agent in free["agents"]] == [0, 0, 0]
    assert tied["reward"] == pytest.approx([1 / 3, 0.5, 0, 0.5])


def dyad_line() -> dict:
    """A line of rollouts.jsonl: a dyad with ratings, and two answers without the Thinker."""
    thought = {"text": "t", "verdict": "right"}
    answers = [{"text": str(i), "verdict": "wrong"} for i in range(3)]
    sample = {
        "reward": [0, 0.5],
        "credit": [None, 0.25],
        "advantage": [0, 0.25],
        "said": [[[0, 0]], [[None, 1], [None, 2]]],
        "splits": [[0.3, 0.7], [0.5, 0.5]],
        "ratings": ["mostly \u202e him", "even"],
    }
    return {
        "step": 1,
        "id": "a",
        "question": "q",
        "gold": "g",
        "views": ["see this", "and that"],
        "group": 1,
        "mean_credit": [0, 0.4],
        "masked": [[], [0]],
        "turns": [
            {"speaker": 0, "role": "thinker", "texts": [thought]},
            {"speaker": 1, "role": "solver", "texts": answers},
        ],
        "samples": [sample],
    }


def test_a_dyad_with_ratings_and_solo_tries():
    view = rollout_view(dyad(), dyad_line(), {})
    (sample,) = view["samples"]
    assert view["worlds"] == ["", "thinker"] and sample["said"][1] == [[None, 1], [None, 2]]
    assert [(turn["who"], turn["decides"]) for turn in view["turns"]] == [
        ("thinker", False),
        ("solver", True),
    ]
    assert sample["ratings"] == ["mostly \\u202e him", "even"]
    thinker, solver = sample["agents"]
    assert thinker["contribution"] == -0.5 and thinker["credit"] is None
    assert thinker["why"] == "Without it the team earns 0.50 instead of 0.00: it hurts."
    assert solver["contribution"] is None
    assert solver["why"] == (
        "No world without it was decoded; the credit estimator needs none. "
        "Its credit is the advantage: it is not compared with a mean."
    )
    assert agent_names(chain(4)) == ["planner", "solver", "checker 2", "checker 3"]


def test_reasons_name_the_baseline_of_the_run():
    line = dyad_line()
    line["samples"][0]["advantage"] = [0, -0.5]  # a credit of .25 against .75
    _, solver = rollout_view(dyad(), line, {}, "weighted")["samples"][0]["agents"]
    assert solver["why"].endswith(
        "Its credit is 0.50 below that of the other prompts' samples, weighted by their surprisal, 0.75."
    )


def test_a_run_under_way_and_an_old_one_have_a_page(tmp_path):
    _, page = page_of(make_run(tmp_path, steps=1, rollouts=[]))
    assert "This run logged no rollouts" in page.text and "Reward" in page.text
    (tmp_path / "rollouts.jsonl").unlink()
    (tmp_path / "metrics.jsonl").write_text(json.dumps(metrics_of(0)) + "\n" + '{"step": 1, "re')
    _, page = page_of(tmp_path)
    assert "40.0 %" in page.text and "This run has no percentiles of credit" in page.text


# --- what the page does not do ----------------------------------------------------------------------------------------


def with_parts(line: dict, name: str) -> dict:
    """The line with a fractional score that has a part of that name."""
    for turn in line["turns"]:
        turn["texts"][0] |= {"verdict": "0.40", "score": 0.4, "parts": {name: 0.4, "math": None}}
    return line


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """(workdir, text of its page, the page): every text that a model, a dataset or a user chose is hostile."""
    lines = [
        with_parts(solved(1, question=evil, text=evil, problem=evil), evil) for evil in EVIL
    ] + [
        solved(20),
        solved(40),
    ]
    config = voting_config.get_config("tiny")
    config.model, config.data.train, config.credit.name = EVIL[1], EVIL[3], EVIL[0]
    folder = make_run(tmp_path_factory.mktemp("hostile") / "<b>&run", rollouts=lines, config=config)
    return folder, *page_of(folder)


def test_hostile_text_is_text(hostile, run):
    (_, text, page), (_, _, harmless) = hostile, run
    assert (
        set(page.tags) <= set(harmless.tags)
        and page.tags.count("script") == harmless.tags.count("script") == 3
    )
    assert not [
        n
        for n, _ in page.attributes
        if n.startswith("on") or n in ("src", "href", "style", "srcdoc")
    ]
    assert page.raw["script"] == harmless.raw["script"]
    assert not re.search(
        "[^\n\x20-\x7e\u2013\u2212\u00b7\u00b1]", text
    )  # no control, direction mark or stray letter
    shown = [
        entry["question"]
        for entry in json.loads(page.raw["rollouts-json"])["entries"]
        if entry["step"] == 1
    ]
    assert shown[:8] == EVIL[:8]  # as it was written, once a browser has read the JSON
    assert shown[8:12] == [
        "lone \\ud800 surrogate",
        "turned \\u202e around \\u2066 and \\u200f hidden\\u200b",
        "null \\x00 bell \\x07 escape \\x1b[2J line\\u2028end",
        "\\U000e0041 tag",
    ]
    assert EVIL[1] in page.text and EVIL[3] in page.text  # in the configuration


def test_fractional_scores_have_a_chart_of_parts_and_honest_labels(tmp_path):
    make_run(tmp_path)
    lines = [metrics_of(step) for step in range(41)]
    for line in lines:
        if "eval/team_accuracy" in line:
            line.update(accuracies("solved", 0.3) | accuracies("score/math", 0.2))
        if line["step"]:
            line.update({"solved": 0.25, "solved/0": 0.5, "score/math": 0.6, "score/math/0": 0.4})
            line.update({"score/my.py_form": 0.1})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, page = page_of(tmp_path)
    words = " ".join(page.text.split())
    for expected in (
        "held-out mean score",
        "held-out problems, mean score in %",
        "team, full scores30.0",
        "Parts of the scoreMeans over the team's answers.",
        "math 0.6",
        "my.py_form 0.1",
        "score/math/00.4mean of a part of the score, over an agent's own final answers",
    ):
        assert expected in words, expected
    assert "held-out accuracy" not in words


def test_the_turns_before_a_question_are_shown(tmp_path, open_page):
    line = solved(1) | {"before": [["system", "Be <b>brief</b>."], ["assistant", "\u202eYes."]]}
    make_run(tmp_path, rollouts=[line, solved(20)])
    page_of(tmp_path)
    page = open_page(tmp_path)
    first, second = page.locator(".problem > header").all_inner_texts()
    shown = ["system", "Be <b>brief</b>.", "assistant", "\\u202eYes.", "Compute 1+1."]
    assert [text for text in first.splitlines() if text][:5] == shown
    assert second.startswith("Compute 1+1.")
    page.locator("input[type=search]").fill("brief")
    assert page.locator(".problem").count() == 1


@pytest.mark.parametrize("before", [[["system"]], [["user", 3]], {"ab": 1}, 3])
def test_damaged_turns_before_a_question_are_a_damaged_line(before, tmp_path):
    _, page = page_of(make_run(tmp_path, rollouts=[solved(1) | {"before": before}, solved(20)]))
    assert "1 damaged lines" in page.text


def thoughtful(line):
    """A line whose first text was thought about."""
    line["turns"][0]["texts"][0]["thought"] = "Is it <b>7</b>?\u202e"
    return line


def test_thoughts_are_on_the_page_and_a_line_of_an_earlier_version_has_none(tmp_path):
    _, page = page_of(make_run(tmp_path, rollouts=[thoughtful(solved(1)), solved(20)]))
    assert "damaged" not in page.text
    first, second = json.loads(page.raw["rollouts-json"])["entries"]
    assert first["turns"][0]["texts"][0]["thought"] == "Is it <b>7</b>?\\u202e"
    assert "thought" not in second["turns"][0]["texts"][0]


def test_a_thought_is_shown_when_it_is_opened_and_is_searched(tmp_path, open_page):
    page_of(make_run(tmp_path, rollouts=[thoughtful(solved(1)), solved(20)]))
    page = open_page(tmp_path)
    page.locator("input[type=search]").fill("is it <b>7")
    assert page.locator(".problem").count() == 1
    page.locator(".sample > summary").first.click()
    thought = page.locator(".thought").first
    assert thought.locator("pre").is_hidden()
    thought.locator("summary").click()
    assert thought.locator("pre").inner_text() == "Is it <b>7</b>?\\u202e"


@pytest.mark.parametrize("thought", [7, ["a"], None])
def test_a_damaged_thought_is_a_damaged_line(thought, tmp_path):
    line = solved(1)
    line["turns"][0]["texts"][0]["thought"] = thought
    _, page = page_of(make_run(tmp_path, rollouts=[line, solved(20)]))
    assert "1 damaged lines" in page.text


def test_damaged_parts_are_a_damaged_line(tmp_path):
    line = with_parts(solved(1), "form")
    line["turns"][0]["texts"][0]["parts"] = ["form"]
    _, page = page_of(make_run(tmp_path, rollouts=[line, solved(20)]))
    assert "1 damaged lines" in page.text


def test_a_free_rider_needs_a_full_score():
    record = {"masked": [[], [0]], "mean_credit": [0.0], "group": 2}
    for team, free in ((1.0, True), (0.9, False), (0.4, False)):
        sample = {"reward": [team, team], "credit": [None], "advantage": [None]}
        assert ("rides free" in explain_credit(record, sample, 0)["why"]) == free


def test_only_the_pages_own_script_may_run_and_nothing_may_load(hostile):
    _, text, page = hostile
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.raw[kind].encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"(?i)https?://|@import|url\(", text)


def test_long_runs_and_megabytes_are_bounded(tmp_path):
    huge = "\u202e<" * 200_000
    rollouts = [solved(1, question=huge, text=huge, problem=huge)] + [
        solved(step, question=huge) for step in range(2, 13)
    ]
    run = load_run(make_run(tmp_path, rollouts=rollouts, steps=1000))
    text = render_page(run, max_bytes=500_000)
    page = Page(text)
    assert text.count('class="box c0"') <= 20 and len(text) < 500_000 + 700_000
    assert all(
        len(line) <= 240 for chart in json.loads(page.raw["charts-json"]) for line in chart["lines"]
    )
    entries = json.loads(page.raw["rollouts-json"])["entries"]
    steps = [entry["step"] for entry in entries]
    assert steps[-1] == 12 and 2 < len(steps) < 12 and len(set(np.diff(steps))) == 1
    assert f"{len(steps)} of 12 logged steps fit into this page" in page.text
    assert "characters left out" in entries[0]["question"]


@pytest.mark.parametrize(
    "damage",
    [
        '{"step": 20, "id": "to',
        "null",
        '{"step": -1}',
        "[" * 100_000,
        json.dumps({"step": 3}),
        json.dumps(solved(3) | {"turns": []}),
        json.dumps(solved(3)).replace('"said": [[[0, 1, 0]]', '"said": [[[0, 2, 0]]'),
    ],
    ids=lambda text: text[:24],
)
def test_damaged_lines_are_left_out_and_counted(damage, tmp_path):
    folder = make_run(tmp_path, steps=1)
    with (folder / "rollouts.jsonl").open("a") as file:
        file.write(damage)
    run = load_run(folder)
    assert run.damaged == 1 and len(run.rollouts) == 3
    assert "1 damaged lines of rollouts.jsonl are left out" in missing_rollouts(run, run.rollouts)


def test_mistakes_name_the_argument(tmp_path):
    with raises_for("workdir"):
        report.write_report(tmp_path / "none")
    folder = make_run(tmp_path / "run")
    with raises_for("out"):
        report.write_report(folder, tmp_path / "no" / "where.html")
    for file, content in (
        ("result.json", "{"),
        ("config.json", '{"topology": "ring"}'),
        ("metrics.jsonl", ""),
    ):
        (folder / file).write_text(content)
        with raises_for("workdir") as error:
            report.write_report(folder)
        assert file in str(error.value) or file == "metrics.jsonl"


def test_the_command_line_reports_a_mistake_in_one_line(tmp_path, capsys):
    assert report.main([str(tmp_path / "none\x1b[2J")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: workdir: ") and "\x1b" not in line


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is absent: pip install playwright"
    )
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not found:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a file without a network; whatever the page complains of, asks for or loads fails the test at its end."""
    trouble, contexts = [], []

    def open_file(folder, **how):
        context = browser.new_context(offline=True, **how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                trouble.append(request.url) if "report.html" not in request.url else None
            ),
        )
        page.goto((folder / "report.html").as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not trouble


def test_clicks_filter_and_open(run, open_page):
    page = open_page(run[0])
    count, rows = page.locator("#count"), page.locator("#samples details")
    assert (
        count.inner_text() == "12 of 12 samples"
        and rows.count() == 12
        and page.locator(".problem").count() == 3
    )
    page.get_by_text("wrong", exact=True).first.click()
    assert count.inner_text() == "3 of 12 samples" and rows.count() == 3
    assert rows.locator("summary .chip.bad").all_inner_texts() == ["wrong"] * 3
    page.get_by_text("hurts", exact=True).click()
    for agent, left in (("voter 1", 0), ("voter 0", 3)):
        page.locator("select[name=agent]").select_option(label=agent)
        assert count.inner_text() == f"{left} of 12 samples"
    page.locator("select[name=step]").select_option(label="step 20")
    assert count.inner_text() == "1 of 12 samples"
    assert "right answer 2 · step 20" in page.locator(".problem").inner_text()
    rows.first.locator("summary").click()
    rows.first.locator(".inside").wait_for()  # a fold tells of its opening a moment later
    said = rows.first.inner_text()
    for expected in (
        "The team earns 0.00",
        "states 3",
        "1+1=2;Answer: 2",
        "it hurts",
        "\u22120.50",
        "+0.70",
        "Without voter 0 the team earns 0.50; the others say the same.",
    ):
        assert expected in said, expected
    for words, left in (("nowhere", 0), ("compute", 1)):
        page.locator("input[type=search]").fill(words)
        assert count.inner_text() == f"{left} of 12 samples"


def test_a_chart_follows_the_pointer(run, open_page):
    chart = open_page(run[0]).locator("figure[data-chart='1']")
    assert chart.locator(".legend b").inner_text() == "0.8"
    chart.scroll_into_view_if_needed()
    box = chart.locator("svg").bounding_box()
    chart.page.mouse.move(box["x"] + 0.53 * box["width"], box["y"] + 40)
    assert (
        chart.locator(".at").inner_text() == "step 20"
        and chart.locator(".legend b").inner_text() == "0.6"
    )


def test_a_dyad_shows_solo_answers_and_ratings(tmp_path, open_page):
    page_of(make_run(tmp_path, rollouts=[dyad_line()], config=dyad_config.get_config("tiny")))
    page = open_page(tmp_path)
    page.locator("#samples summary").click()
    page.locator(".inside").wait_for()
    said = page.locator("#samples details").inner_text()
    for expected in (
        "reads: see this",
        "reads: and that",
        "states the right answer",
        "Without thinker the team earns 0.50, the mean of 2 tries",
        "thinker 0.3, solver 0.7",
        "thinker 0.5, solver 0.5",
        "mostly \\u202e him",
    ):
        assert expected in said, expected


def test_hostile_text_stays_text_also_on_a_phone_in_a_dark_room(hostile, open_page):
    page = open_page(hostile[0], viewport={"width": 360, "height": 700}, color_scheme="dark")
    for _ in range(2):
        page.get_by_role("button", name="show more").click()
    for problem in page.locator(".problem").all():
        problem.locator("summary").first.click()
        problem.locator(".inside").wait_for()
    shown = page.locator("#samples").inner_text()
    assert all(evil in shown for evil in EVIL[:5])
    assert "turned \\u202e around" in shown and "\u202e" not in shown
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, iframe, object, embed, link").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", colour)[:3])) < 60
