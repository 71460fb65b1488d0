"""The report: what its page says about a run whose facts are known, and that nothing in it obeys what models wrote."""

import base64
import doctest
import hashlib
import html
import html.parser
import json
import re
import shutil

import numpy as np
import pytest

from ccpo_jax.topology import chain, dyad, voting
from configs import dyad as dyad_config
from configs import voting as voting_config
from experiments import plots, report

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


def solved(step: int, *, question: str = "Compute 1+1.", text: str = "1+1=2;Answer: 2", id: str = "sums/7") -> dict:
    """A line of rollouts.jsonl: three voters, four samples; by hand."""
    rewards = [[1, 0.5, 0.5, 1], [0, 0.5, 0, 0], [1, 1, 1, 1], [1 / 3, 0.5, 0, 0.5]]
    texts = [
        {"text": text, "verdict": "right", "answer": "2"},
        {"text": "Answer: 3", "verdict": "wrong", "answer": "3"},
    ]
    return {
        "step": step, "id": id, "question": question, "gold": "2", "group": 4,
        "mean_credit": [0.1, 0.2, 0.0], "masked": [[], [0], [1], [2]],
        "turns": [{"speaker": k, "role": "voter", "texts": texts} for k in range(3)],
        "samples": [
            {"reward": reward, "credit": [reward[0] - x for x in reward[1:]], "advantage": [0.7, -0.25, 0.0],
             "said": [[[0, 1, 0]], [[None, 1, 0]], [[0, None, 0]], [[0, 1, None]]]}
            for reward in rewards
        ],
    }  # fmt: skip


def metrics_of(step: int) -> dict:
    line = {"step": step}
    if step % 20 == 0:
        for name in ("team_accuracy", *(f"{kind}/{k}" for kind in ("agent_accuracy", "without_agent_accuracy")
                                        for k in range(3))):  # fmt: skip
            value = 0.4 + step / 100
            line |= {f"eval/{name}": value, f"eval/{name}/low": value - 0.03, f"eval/{name}/high": value + 0.02}
    if step:
        line |= {"reward": 0.4 + step / 100, "decoded_tokens": 1000.0, "moments/gate": 0.5, "update/grad_norm/0": None}
        line |= {"moments/delta/mean": 0.08, "moments/delta/var": 0.25, "moments/joint/mean": 0, "moments/joint/var": 0}
        for k in range(3):
            line |= {f"credit/percentile_{p}/{k}": p / 100 - 0.5 for p in (5, 25, 50, 75, 95)}
            line |= {f"credit/mean/{k}": 0.1, f"credit/free_rider_rate/{k}": 0.6, f"update/grad_norm/{k}": step / 7}
            line |= {f"credit/help_rate/{k}": 0.2, f"response_length/{k}": 9.5}
    return line


def make_run(folder, *, rollouts=None, steps=40, config=None):
    """A workdir as a run of three voters leaves it."""
    folder.mkdir(exist_ok=True)
    config = config or voting_config.get_config("tiny")
    (folder / "config.json").write_text(config.to_json_best_effort())
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


def test_the_page_tells_of_the_run(tmp_path):
    _, page = page_of(make_run(tmp_path / "three-voters"))
    words = " ".join(page.text.split())
    for expected in (
        "three-voters", "credit ccpo", "steps 40 of 40", "80.0 % held-out team accuracy",
        "from 40.0 before training, 95 % interval 77.0 to 82.0", "40,000 tokens decoded", "free-rider rate, voter 2",
        "Held-out accuracy", "Gradient norm", "Credit of voter 0", "Credit of voter 2", "Rides free", "Helps", "Gate",
        "How ccpo pays", "Counterfactual credit, shaped by the history of contributions",
        "team without agent 2 (voter) 40.0 37.0 to 42.0 80.0 77.0 to 82.0", "optimizer.learning_rate 0.0002",
    ):  # fmt: skip
        assert expected in words, expected
    assert "Ratings read" not in words and "Pivotal" not in words  # charts of metrics that the run has not
    assert page.tags.count("svg") == page.tags.count("figure") and page.tags.count("svg") >= 12


def test_lines_and_boxes_are_where_the_numbers_are(tmp_path):
    text, page = page_of(make_run(tmp_path))
    charts = json.loads(page.raw["charts-json"])
    reward = charts[0]
    assert reward["x"] == list(range(1, 41)) and reward["lines"][0][9] == pytest.approx(0.5)
    held_out = charts[1]
    assert held_out["x"] == [0, 20, 40] and held_out["lines"] == [[0.4, 0.6, 0.8]]
    assert text.count('class="box c0"') == text.count('class="box c2"') == 20
    svg = plots.box_chart([plots.Box(1, (0, 1, 2, 3, 4), 2.5)], label="", colour=0, y_range=(0, 4))
    height = plots.BOTTOM - plots.TOP
    (y, tall), (middle,) = re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', svg)[0], re.findall(
        r'"middle" d="M[\d.]+ ([\d.]+)h', svg
    )  # fmt: skip
    assert float(y) == pytest.approx(plots.BOTTOM - 0.75 * height, abs=0.06)
    assert float(tall) == pytest.approx(0.5 * height, abs=0.06)
    assert float(middle) == pytest.approx(plots.BOTTOM - 0.5 * height, abs=0.06)
    line = plots.line_chart([plots.Line("a", (0, 5, 10, 15), (0, 1, None, 1))], label="", y_range=(0, 1))
    path = re.search(r'class="line c0" d="([^"]+)"', line)[1]
    places = [tuple(map(float, point.split())) for point in re.split("[ML]", path)[1:]]
    width = plots.RIGHT - plots.LEFT
    expected = [(plots.LEFT, plots.BOTTOM), (plots.LEFT + width / 3, plots.TOP), (plots.RIGHT, plots.TOP)]
    np.testing.assert_allclose(places, expected, atol=0.06)
    assert path.count("M") == 2  # broken at the gap


def test_the_examples_of_plots_are_true():
    assert doctest.testmod(plots) == (0, 3)


@pytest.mark.parametrize("low,high", [(0, 1), (-0.3, 0.2), (0, 1170), (1e-9, 2e-9), (-1e12, 1e12), (3, 4)])
def test_ticks_are_few_round_and_within(low, high):
    found = plots.ticks(low, high)
    assert 2 <= len(found) <= 5 and low - 1e-9 <= found[0] and found[-1] <= high + 1e-9
    steps = {f"{b - a:.6g}" for a, b in zip(found, found[1:], strict=False)}
    assert len(steps) == 1 and steps.pop()[0] in "125"


def test_rollouts_carry_verdicts_pay_and_reasons(tmp_path):
    _, page = page_of(make_run(tmp_path))
    held = json.loads(page.raw["rollouts-json"])
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
        "contribution": 0.5, "credit": 0.5, "advantage": 0.7,
        "why": "Without it the team earns 0.50 instead of 1.00: it helps. "
               "Its credit is 0.40 above the mean of its 4 samples, 0.10.",
    }  # fmt: skip
    assert nothing["why"] == (
        "The team earns 1.00 with and without it, so here it rides free. "
        "Its credit is the mean of its 4 samples: nothing is learned from it."
    )
    assert wrong["agents"][0]["why"].startswith("Without it the team earns 0.50 instead of 0.00: it hurts.")
    assert wrong["agents"][1]["why"].startswith("The team earns 0.00 with and without it. ")
    assert [agent["contribution"] for agent in free["agents"]] == [0, 0, 0]
    assert tied["reward"] == pytest.approx([1 / 3, 0.5, 0, 0.5])


def test_pay_without_masked_worlds_or_means():
    line = {"masked": [[]], "mean_credit": [0.5, 0.5], "group": 2}
    sample = {"reward": [1.0], "credit": [0.25, None], "advantage": [0.25, None]}
    own, broken = (report.paid(line, sample, agent) for agent in range(2))
    assert own["contribution"] is None
    assert own["why"].startswith("No world without it was decoded") and own["why"].endswith("compared with no mean.")
    assert broken["credit"] is None and broken["why"] == "No world without it was decoded; its credit asks for none."


def test_names_tell_agents_apart():
    assert report.agent_names(dyad()) == ["thinker", "solver"]
    assert report.agent_names(voting(2)) == ["voter 0", "voter 1"]
    assert report.agent_names(chain(4)) == ["planner", "solver", "checker 2", "checker 3"]


def test_a_run_under_way_and_an_old_one_have_a_page(tmp_path):
    folder = make_run(tmp_path / "young", steps=1, rollouts=[])
    _, page = page_of(folder)
    assert "This run kept no rollouts" in page.text and "Reward" in page.text
    (folder / "rollouts.jsonl").unlink()
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 0, "eval/team_accuracy": 0.5}) + "\n" + '{"step": 1, "re')
    _, page = page_of(folder)
    assert "50.0 %" in page.text and "This run wrote no percentiles of credit" in page.text


def test_a_dyad_with_ratings_and_solo_tries_is_shown(tmp_path):
    line = {
        "step": 1, "id": "a", "question": "q", "gold": "g", "group": 1, "mean_credit": [0, 0], "masked": [[], [0]],
        "turns": [{"speaker": 0, "role": "thinker", "texts": [{"text": "t", "verdict": "no answer"}]},
                  {"speaker": 1, "role": "solver", "texts": [{"text": str(i), "verdict": "wrong"} for i in range(3)]}],
        "samples": [{"reward": [0, 0.5], "credit": [-0.5, 0], "advantage": [0, 0], "said": [[[0, 0]], [[None, 1], [None, 2]]],
                     "splits": [[0.3, 0.7], [0.5, 0.5]], "ratings": ["mostly \u202e him", "even"]}],
    }  # fmt: skip
    _, page = page_of(make_run(tmp_path, rollouts=[line], config=dyad_config.get_config("tiny")))
    (entry,) = json.loads(page.raw["rollouts-json"])["entries"]
    (sample,) = entry["samples"]
    assert entry["worlds"] == ["", "thinker"] and sample["said"][1] == [[None, 1], [None, 2]]
    assert sample["ratings"][0] == {"who": "thinker", "text": "mostly \\u202e him", "split": [0.3, 0.7]}
    assert sample["agents"][1]["contribution"] is None and sample["agents"][0]["contribution"] == -0.5


# --- what the page does not do ----------------------------------------------------------------------------------------


def hostile_run(folder):
    """Every text that a model, a dataset or a user chose is hostile."""
    lines = [solved(1, question=evil, text=evil, id=evil) for evil in EVIL] + [solved(20), solved(40)]
    config = voting_config.get_config("tiny")
    config.model, config.data.train, config.credit.name = EVIL[1], EVIL[3], EVIL[0]
    return make_run(folder / "<b>&run", rollouts=lines, config=config)


def test_hostile_text_is_text(tmp_path):
    text, page = page_of(hostile_run(tmp_path))
    _, harmless = page_of(make_run(tmp_path / "harmless"))
    assert set(page.tags) <= set(harmless.tags) and page.tags.count("script") == harmless.tags.count("script") == 3
    assert not [
        name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href", "style", "srcdoc")
    ]
    assert page.raw["script"] == harmless.raw["script"]
    assert not re.search("[^\n\x20-\x7e\u2013\u2212\u00b7\u00b1]", text)  # no control, direction mark or stray letter
    held = json.loads(page.raw["rollouts-json"])["entries"]
    shown = [entry["question"] for entry in held if entry["step"] == 1]
    assert shown[:8] == EVIL[:8]  # as it was written, once a browser has read the JSON
    assert shown[8:12] == [
        "lone \\ud800 surrogate",
        "turned \\u202e around \\u2066 and \\u200f hidden\\u200b",
        "null \\x00 bell \\x07 escape \\x1b[2J line\\u2028end",
        "\\U000e0041 tag",
    ]
    assert EVIL[1] in page.text and EVIL[3] in page.text  # in the configuration


def test_only_the_pages_own_script_may_run_and_nothing_may_load(tmp_path):
    text, page = page_of(hostile_run(tmp_path))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.raw[kind].encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in policy
    assert not re.search(r"(?i)https?://|@import|url\(", text)


def test_megabytes_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_MOST_BYTES", 2_000_000)
    huge = "\u202e<" * 200_000
    lines = [solved(step, question=huge, text=huge, id=huge) for step in (1, 2)]
    many = [solved(step, question="\u202e" * 15_000) for step in range(3, 63)]
    text, page = page_of(make_run(tmp_path, rollouts=lines + many))
    assert len(text) < 2_000_000 + 300_000
    steps = [entry["step"] for entry in json.loads(page.raw["rollouts-json"])["entries"]]
    assert len(set(np.diff(steps))) == 1
    assert steps[-1] == 62 and 5 < len(steps) < 62
    assert f"{len(steps)} of 62 kept steps fit into this page" in page.text
    one = report.view(voting(3), lines[0], {})
    assert len(json.dumps(one)) < 2_000_000 and "characters left out" in one["question"]
    assert report.fitting([one, one], 2 * len(json.dumps(one))) == [one]  # what is escaped takes more room


def test_long_runs_have_bounded_charts(tmp_path):
    text, page = page_of(make_run(tmp_path, steps=5000))
    assert all(len(line) <= 1000 for chart in json.loads(page.raw["charts-json"]) for line in chart["lines"])
    assert text.count('class="box c0"') <= 20 and len(text) < 1_500_000


@pytest.mark.parametrize("damage", [
    '{"step": 20, "id": "to', "[]", "null", '{"step": "1"}', '{"step": true}', '{"step": 1e999}', '{"step": -1}',
    json.dumps({"step": 3}), "[" * 100_000, '{"step": ' + "1" * 10_000 + "}",
    json.dumps(solved(3) | {"turns": []}), json.dumps(solved(3) | {"question": 7}), json.dumps(solved(3) | {"masked": [[9]]}),
    json.dumps(solved(3)).replace('"said": [[[0, 1, 0]]', '"said": [[[0, 2, 0]]'),
    json.dumps(solved(3)).replace('"said": [[[0, 1, 0]]', '"said": [[[0, 1]]'),
], ids=lambda text: text[:24])  # fmt: skip
def test_damaged_lines_are_left_out_and_counted(damage, tmp_path):
    folder = make_run(tmp_path)
    with (folder / "rollouts.jsonl").open("a") as file:
        file.write(damage)
    _, page = page_of(folder)
    assert "1 damaged lines of rollouts.jsonl are left out" in page.text
    assert len(json.loads(page.raw["rollouts-json"])["entries"]) == 3


def test_mistakes_are_one_line(tmp_path, capsys):
    def complaint(*arguments) -> str:
        assert report.main([str(a) for a in arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert complaint(tmp_path / "none").startswith("error: workdir: there is no run in")
    folder = make_run(tmp_path / "run")
    assert complaint(folder, f"--out={tmp_path}/no/where.html").startswith("error: out: cannot write")
    (folder / "result.json").write_text("{")
    assert "result.json is damaged (JSONDecodeError)" in complaint(folder)
    (folder / "config.json").write_text('{"topology": "ring"}')
    assert "config.json names no team" in complaint(folder)
    (folder / "metrics.jsonl").write_text("")
    assert "has no metrics yet" in complaint(folder)


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium: playwright's own, or the machine's."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is absent: pip install playwright")
    with playwright.sync_playwright() as engine:
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        try:
            browser = engine.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            if found:
                raise
            pytest.skip(f"no Chromium here, install it with apt-get or playwright: {str(error).splitlines()[0]:.100}")
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a file without a network; whatever the page complains of, asks for or loads fails the test at its end."""
    trouble, contexts = [], []

    def open_file(path, **how):
        context = browser.new_context(offline=True, **how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: trouble.append(request.url) if "report.html" not in request.url else None)
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not trouble


def test_a_click_filters_and_a_click_opens(tmp_path, open_page):
    report.main([str(make_run(tmp_path))])
    page = open_page(tmp_path / "report.html")
    count, cards = page.locator("#count"), page.locator("#samples > details")
    assert count.inner_text() == "12 of 12 samples" and cards.count() == 12
    page.get_by_text("wrong", exact=True).first.click()
    assert count.inner_text() == "3 of 12 samples" and cards.count() == 3
    assert cards.locator("summary .chip.bad").all_inner_texts() == ["wrong"] * 3
    page.get_by_text("hurts", exact=True).click()
    page.locator("select[name=agent]").select_option(label="voter 1")
    assert count.inner_text() == "0 of 12 samples"
    page.locator("select[name=agent]").select_option(label="voter 0")
    assert count.inner_text() == "3 of 12 samples"
    page.locator("select[name=step]").select_option(label="step 20")
    assert count.inner_text() == "1 of 12 samples"
    cards.first.locator("summary").click()
    said = cards.first.inner_text()
    for expected in ("Compute 1+1.", "right answer: 2", "The team earns 0.00", "states 3", "it hurts", "−0.50",
                     "Without voter 0: the team earns 0.50", "Nobody else says anything new."):  # fmt: skip
        assert expected in said, expected
    page.locator("input[type=search]").fill("nowhere")
    assert count.inner_text() == "0 of 12 samples"
    page.locator("input[type=search]").fill("compute")
    assert count.inner_text() == "1 of 12 samples"


def test_a_chart_follows_the_pointer(tmp_path, open_page):
    report.main([str(make_run(tmp_path))])
    page = open_page(tmp_path / "report.html")
    chart = page.locator("figure[data-chart='1']")
    assert chart.locator(".legend b").inner_text() == "0.8"
    chart.scroll_into_view_if_needed()
    box = chart.locator("svg").bounding_box()
    page.mouse.move(box["x"] + 0.53 * box["width"], box["y"] + 40)
    assert chart.locator(".at").inner_text() == "step 20" and chart.locator(".legend b").inner_text() == "0.6"


def test_hostile_text_stays_text_in_a_browser(tmp_path, open_page):
    folder = hostile_run(tmp_path)
    report.main([str(folder)])
    page = open_page(folder / "report.html")
    for _ in range(2):
        page.get_by_role("button", name="show more").click()
    for summary in page.locator("#samples > details > summary").all()[::4]:
        summary.click()
    shown = page.locator("#samples").inner_text()
    for evil in EVIL[:5]:
        assert evil in shown
    assert "turned \\u202e around" in shown and "\u202e" not in shown
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, iframe, object, embed, link").count() == 0


def test_a_phone_and_a_dark_room_can_read_it(tmp_path, open_page):
    report.main([str(hostile_run(tmp_path))])
    page = open_page(tmp_path / "<b>&run" / "report.html", viewport={"width": 360, "height": 700}, color_scheme="dark")
    page.locator("#samples > details > summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    red, green, blue = map(
        int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
    )
    assert max(red, green, blue) < 60
