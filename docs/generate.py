"""Write the pages made from the code: `python docs/generate.py`; `--check` names stale ones.

docs/teams.md and docs/credit-estimators.md come from docstrings, docs/configuration.md from the
table of fields, the file map in docs/architecture.md from the first line of every file.
"""

import ast
import inspect
import pathlib
import re
import sys
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ccpo_jax import config  # noqa: E402
from ccpo_jax.rl.credit import CREDITS  # noqa: E402
from ccpo_jax.rl.topology import TOPOLOGIES, Topology, agent_masks, texts_per_sample  # noqa: E402
from ccpo_jax.rl.types import CreditEstimator  # noqa: E402
from experiments.credit_lab.claims import CLAIMS  # noqa: E402

NOTE = "<!-- Written by `python docs/generate.py` from docstrings; edit those. -->\n"
GRADIENT = {"exact": "yes", "direction": "up to a factor per agent", None: "no"}
TEAMS = ("dyad", "voting", "chain", "debate")

TEAMS_HEAD = f"""\
# Teams

{NOTE}
`topology` names a team. A team is a graph of turns: who speaks, who reads whom, which agents can be masked, and how the
team decides. `decision=last`: the present agent that speaks last answers for the team; `decision=vote`: the most
frequent of the agents' last answers.

"Responses per sample" is what one sample of the team costs in decoded responses: with everyone present, and with a
masked world for every agent that can be masked, as `difference` and `ccpo` need.

"""

# Teams of any number of agents.
LARGE = ("voting", "chain", "debate")

LARGE_HEAD = """\
## Large teams

`team.num_agents` goes to 64. Voters read nobody, so masked worlds only count votes again: all that a step of N voters
costs is linear in N, but for the counting. Voters of one parameter set with one prompt are sampled, and trained, behind
one copy of it. Say `model="a*5,b*4"` for two policies that speak for five and four agents, see
[A model](your-model-and-data.md#a-model); [Scaling](scaling.md#voters) has what a step takes.

In a chain or a debate every message is in every later prompt, and what a mask changes is decoded again. That is
quadratic in N by nature, and a run says so before it starts. Responses per sample, masked worlds included:

"""

CREDIT_HEAD = f"""\
# Credit estimators

{NOTE}
`credit.name` names the estimator. It turns the outcome in all worlds into credit, each agent's own reward; the advantage
compares credit within the group. [Concepts](concepts.md) explains the terms.

## Which one

- **Start with `shared`.** It is the baseline of every comparison, fits every team and decodes nothing besides the team's
  own responses.
- **Voters:** `cross_play` has the highest signal per decoded token in the
  [laboratory](results/credit_lab.md), of the estimators whose gradient is that of E[R] with leave-one-out advantages. Small teams, and larger ones with few answer classes, are exact; elsewhere 64 teams
  stand for all, see the [logbook](performance-logbook.md#credit-of-large-votes). `difference` is its simple form, `ccpo`
  the paper's.
- **A dyad:** `ccpo` is the paper's method, `ccpo_event` its later version. In the laboratory neither carries more signal
  per decoded token than `shared`; of all estimators `cross_read` alone does, on tables.
- **Chains, debates, graphs:** `difference` or `ccpo`; they decode again what a mask changes. `nested` for chains.
- **Compare at an equal number of decoded tokens**, with the controls of [the study](results/study.md).

"Gradient of E[R]" is what an estimator claims about its expected policy gradient with leave-one-out baselines and one update
per batch; claims are tested by exact enumeration of small teams (`tests/rl/test_unbiased.py`). Division by the group's
deviation, the default for several estimators, changes the objective slightly in any case: [baselines](baselines.md) lists
the others.

"""

CREDIT_COSTS = """
Decoded responses per sample of the team, of 3 agents where it is not a dyad; – = the estimator does not fit that team:
"""


def page_of_teams() -> str:
    """The content of docs/teams.md."""
    lines = ["| team | agents | turns | decides by | responses per sample | with masked worlds |"]
    lines.append("|---|---|---|---|---|---|")
    for name, build in TOPOLOGIES.items():
        team = build()
        plain = texts_per_sample(team, agent_masks(team.num_agents, ()))
        masked = texts_per_sample(team, agent_masks(team.num_agents, team.ablated))
        lines.append(
            f"| [`{name}`](#{name}) | {team.num_agents} | {len(team.roles)} | {team.decision} "
            f"| {plain} | {masked} |"
        )
    sections = [_section(name, build, "team") for name, build in TOPOLOGIES.items()]
    closing = "Numbers are for the default size of each team.\n"
    parts = ["\n".join(lines), closing, _large_teams(), "\n".join(sections)]
    return TEAMS_HEAD + "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _large_teams() -> str:
    """What teams of many agents cost, masked worlds included."""
    lines = ["| agents | " + " | ".join(f"`{name}`" for name in LARGE) + " |"]
    lines.append("|---" * (1 + len(LARGE)) + "|")
    for agents in (3, 9, 16):
        teams = [TOPOLOGIES[name](num_agents=agents) for name in LARGE]
        texts = [texts_per_sample(t, agent_masks(agents, t.ablated)) for t in teams]
        lines.append(f"| {agents} | " + " | ".join(f"{count:,}" for count in texts) + " |")
    return LARGE_HEAD + "\n".join(lines)


def page_of_credits() -> str:
    """The content of docs/credit-estimators.md."""
    teams = [TOPOLOGIES[name]() for name in TEAMS]
    summaries = ["| estimator | in one line | gradient of E[R] |", "|---|---|---|"]
    costs = ["| estimator | " + " | ".join(TEAMS) + " |", "|---" * (1 + len(TEAMS)) + "|"]
    for name, build in CREDITS.items():
        link = f"[`{name}`](#{name})"
        summary = _summary(inspect.getdoc(build) or "")
        summaries.append(f"| {link} | {summary} | {GRADIENT[CLAIMS[name].gradient]} |")
        responses = [_responses(build, team) for team in teams]
        costs.append(f"| {link} | " + " | ".join(responses) + " |")
    sections = [_section(name, build, "credit") for name, build in CREDITS.items()]
    blocks = ["\n".join(summaries), CREDIT_COSTS, "\n".join(costs) + "\n", "\n".join(sections)]
    return CREDIT_HEAD + "\n".join(blocks)


def page_of_architecture() -> str:
    """docs/architecture.md with its file map brought up to date."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    before, rest = page.split("<!-- file map:", 1)
    note = rest.partition("-->")[0]
    _, after = rest.split("<!-- end of file map -->", 1)
    return f"{before}<!-- file map:{note}-->\n\n{_file_map()}\n<!-- end of file map -->{after}"


def _file_map() -> str:
    """A table per folder of the package: file, and the first line of its docstring."""
    tables = []
    package = ROOT / "ccpo_jax"
    folders = [package, *sorted(path.parent for path in package.glob("*/__init__.py"))]
    for folder in folders:
        files = sorted(folder.glob("*.py"), key=lambda path: (path.stem != "__init__", path.stem))
        rows = [f"| {path.name} | {_first_line(path)} |" for path in files]
        title = folder.relative_to(ROOT).as_posix()
        tables.append(
            "\n".join([f"### {title}/", "", "| file | what it is for |", "|---|---|", *rows])
        )
    return "\n\n".join(tables) + "\n"


def _first_line(path: pathlib.Path) -> str:
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(doc.partition("\n\n")[0].split()).replace("|", "\\|")


def _responses(build: Callable[..., CreditEstimator], team: Topology) -> str:
    """Decoded responses per sample of `team`, in words where several answers share a thought."""
    try:
        needs = build(team).needs
    except ValueError:
        return "–"
    responses = texts_per_sample(team, agent_masks(team.num_agents, needs.ablated))
    answers = needs.answers_per_text
    if answers > 1:
        levels = " + ".join(["1", "K", "K²", "K³"][: team.num_agents])
        return f"{levels} per first text (K = {answers})"
    return f"{responses}" + (" + 2 ratings" if needs.ratings else "")


def _summary(doc: str) -> str:
    """The first sentence of a docstring."""
    paragraph = " ".join(doc.partition("\n\n")[0].split())
    first = re.split(r"(?<=[.;]) (?=[A-Z])", paragraph)[0].rstrip(".")
    return _markdown(first)


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def _section(name: str, build: Callable, section: str) -> str:
    """One entry: its docstring as Markdown, and a table of its fields."""
    blocks = re.split(r"\n\n", inspect.getdoc(build) or "")
    body: list[str] = []
    arguments: dict[str, str] = {}
    for block in blocks:
        title, _, rest = block.partition("\n")
        if title == "Args:":
            arguments = _arguments(rest)
        elif title in ("Returns:", "Raises:"):
            continue
        elif title == "Example:":
            body.append("```pycon\n" + inspect.cleandoc(" \n" + rest).strip() + "\n```")
        elif block.startswith("    "):
            body.append("```text\n" + inspect.cleandoc(" \n" + block).strip() + "\n```")
        else:
            body.append(_markdown(block))
    text = f"## {name}\n\n" + "\n\n".join(body) + "\n"
    return text + _fields(build, arguments, section)


def _arguments(rest: str) -> dict[str, str]:
    """Name -> description, of a docstring's Args section."""
    entries: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(" \n" + rest).strip().splitlines():
        start = re.match(r"(\w+): (.*)", line)
        if start:
            name = start[1]
            entries[name] = start[2]
        elif name:
            entries[name] += " " + line.strip()
    return entries


def _fields(build: Callable, arguments: dict[str, str], section: str) -> str:
    """The table of the fields that `build` takes, with defaults; nothing where it takes none."""
    rows = []
    for parameter in inspect.signature(build).parameters.values():
        field = f"{section}.{parameter.name}"
        if parameter.name == "topology" or field not in config.FIELDS:
            continue
        meaning = _markdown(arguments.get(parameter.name) or config.FIELDS[field].help)
        rows.append(f"| `{field}` | `{parameter.default}` | {meaning.rstrip('.')} |")
    if not rows:
        return ""
    return "\n| field | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"


PAGES = {
    "docs/teams.md": page_of_teams,
    "docs/credit-estimators.md": page_of_credits,
    "docs/configuration.md": config.markdown,
    "docs/architecture.md": page_of_architecture,
}


def main(arguments: list[str]) -> int:
    """Writes every page, or with --check returns 1 and names the stale ones."""
    stale = []
    for name, page in PAGES.items():
        path = ROOT / name
        text = page()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    if "--check" in arguments and stale:
        print(f"stale: {', '.join(stale)}; run `python docs/generate.py` and commit the result")
        return 1
    print(*(f"written: {name}" for name in stale), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
