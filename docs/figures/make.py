"""Draw the figures of README and docs as SVG: `python docs/figures/make.py`.

Plain Python, no packages. Colours are CSS variables with a second set for dark mode. Type is large
for the size of the picture, so that a figure scaled down to a phone's width can still be read.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from xml.sax.saxutils import escape

FOLDER = pathlib.Path(__file__).parent
WIDTH = 720

LIGHT = {
    "page": "#ffffff",
    "ink": "#1f2328",
    "soft": "#59636e",
    "line": "#d1d9e0",
    "panel": "#f6f8fa",
    "soft-fill": "#eaeef2",
    "first": "#0969da",
    "first-fill": "#ddf4ff",
    "second": "#9a6700",
    "second-fill": "#fff8c5",
    "third": "#8250df",
    "third-fill": "#fbefff",
    "good": "#1a7f37",
    "good-fill": "#dafbe1",
    "bad": "#cf222e",
    "bad-fill": "#ffebe9",
}
DARK = {
    "page": "#0d1117",
    "ink": "#f0f6fc",
    "soft": "#9198a1",
    "line": "#3d444d",
    "panel": "#151b23",
    "soft-fill": "#262c36",
    "first": "#4493f8",
    "first-fill": "#12263f",
    "second": "#d29922",
    "second-fill": "#2e2410",
    "third": "#ab7df8",
    "third-fill": "#271a40",
    "good": "#3fb950",
    "good-fill": "#12311c",
    "bad": "#f85149",
    "bad-fill": "#3a1618",
}
AGENTS = ("first", "second", "third")


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in colours.items())


STYLE = f"""
svg {{ {_variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ svg {{ {_variables(DARK)} }} }}
text {{ font-family: -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
"""


@dataclasses.dataclass
class Figure:
    """An SVG under construction: every method appends one element."""

    height: int
    title: str
    elements: list[str] = dataclasses.field(default_factory=list)

    def add(self, element: str) -> None:
        self.elements.append(element)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 22,
        colour: str = "ink",
        anchor: str = "start",
        weight: int = 400,
    ) -> None:
        """One line of text; `y` is its baseline."""
        self.add(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="var(--{colour})" '
            f'text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "panel",
        stroke: str = "line",
        radius: float = 12,
        dashed: bool = False,
        opacity: float = 1.0,
    ) -> None:
        """A rounded rectangle; dashed and pale where an agent is masked."""
        dash = ' stroke-dasharray="7 6"' if dashed else ""
        self.add(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" '
            f'fill="var(--{fill})" stroke="var(--{stroke})" stroke-width="2" '
            f'opacity="{opacity:g}"{dash}/>'
        )

    def line(self, points: list[tuple[float, float]], *, colour: str = "soft", width: float = 2):
        """A polyline through `points`."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.add(
            f'<polyline points="{path}" fill="none" stroke="var(--{colour})" '
            f'stroke-width="{width:g}" stroke-linecap="round" stroke-linejoin="round"/>'
        )

    def dashes(self, x0: float, y0: float, x1: float, y1: float, *, colour: str = "soft") -> None:
        """A dashed line."""
        self.add(
            f'<line x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}" stroke="var(--{colour})" '
            f'stroke-width="2" stroke-dasharray="6 6"/>'
        )

    def dot(self, x: float, y: float, *, colour: str, radius: float = 8) -> None:
        """A filled circle."""
        self.add(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="var(--{colour})"/>')

    def arrow(self, x0: float, y0: float, x1: float, y1: float, *, colour: str = "soft") -> None:
        """A straight arrow from the first point to the second."""
        angle = math.atan2(y1 - y0, x1 - x0)
        self.line([(x0, y0), (x1, y1)], colour=colour)
        head = []
        for turn in (2.6, -2.6):
            head.append((x1 + 11 * math.cos(angle + turn), y1 + 11 * math.sin(angle + turn)))
        self.line([head[0], (x1, y1), head[1]], colour=colour)

    def mark(self, x: float, y: float, *, right: bool) -> None:
        """A tick or a cross, drawn and not typed: not every font has them."""
        if right:
            self.line([(x - 8, y), (x - 2, y + 7), (x + 9, y - 8)], colour="good", width=4)
            return
        self.line([(x - 7, y - 7), (x + 7, y + 7)], colour="bad", width=4)
        self.line([(x - 7, y + 7), (x + 7, y - 7)], colour="bad", width=4)

    def curve(self, function: Callable[[float], float], plot: "Plot", *, colour: str) -> None:
        """The graph of `function` over the whole width of `plot`."""
        points = []
        for step in range(81):
            x = plot.low + (plot.high - plot.low) * step / 80
            points.append(plot.at(x, function(x)))
        self.line(points, colour=colour, width=4)

    def write(self, name: str) -> None:
        """Save as `name`.svg beside this script."""
        body = "\n".join(self.elements)
        (FOLDER / f"{name}.svg").write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
            f'width="{WIDTH}" height="{self.height}" role="img">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n"
            f'<rect width="{WIDTH}" height="{self.height}" fill="var(--page)"/>\n{body}\n</svg>\n'
        )


@dataclasses.dataclass(frozen=True)
class Plot:
    """Axes of a small chart: a rectangle in the picture and the ranges it shows."""

    x: float
    y: float
    width: float
    height: float
    low: float
    high: float
    bottom: float
    top: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The point of the picture that shows ``(x, y)``."""
        across = self.x + self.width * (x - self.low) / (self.high - self.low)
        down = self.y + self.height * (self.top - y) / (self.top - self.bottom)
        return across, down


def agent(
    figure: Figure,
    x: float,
    y: float,
    width: float,
    *,
    name: str,
    words: str,
    colour: str,
    right: bool | None = None,
) -> None:
    """A card of one agent with what it writes, and a tick or cross if that is an answer."""
    figure.box(x, y, width, 74, fill=f"{colour}-fill", stroke=colour)
    figure.text(x + 14, y + 28, name, size=18, colour=colour, weight=600)
    figure.text(x + 14, y + 58, words, size=22)
    if right is not None:
        figure.mark(x + width - 24, y + 38, right=right)


def masked(figure: Figure, x: float, y: float, width: float, *, name: str) -> None:
    """The card of an agent that is absent from this world."""
    figure.box(x, y, width, 74, fill="page", dashed=True)
    figure.text(x + 14, y + 28, name, size=18, colour="soft", weight=600)
    figure.text(x + 14, y + 58, "masked", size=20, colour="soft")


def reward(figure: Figure, y: float, value: str, *, colour: str) -> None:
    """The team's reward at the right end of a row."""
    figure.box(616, y + 6, 80, 62, fill=f"{colour}-fill", stroke=colour, radius=31)
    figure.text(656, y + 46, value, size=28, colour=colour, anchor="middle", weight=700)


def verdict(figure: Figure, y: float, who: str, sum_: str) -> None:
    """The last line of a panel: reward minus reward."""
    figure.text(24, y, who, size=22, weight=600)
    figure.text(696, y, sum_, size=26, anchor="end", weight=700)


def teams() -> Figure:
    """README's picture: a dyad and a vote, each with and without one agent."""
    title = "Credit is the team's reward minus its reward without the agent"
    figure = Figure(696, title)

    figure.text(24, 34, "A Thinker and a Solver", size=26, weight=700)
    figure.text(696, 34, "team's reward", size=20, colour="soft", anchor="end")
    figure.text(24, 66, "Question: 24 − 8 + 2 = ?", size=20, colour="soft")
    agent(figure, 24, 84, 256, name="Thinker", words="24 − 8 = 16", colour="first")
    figure.arrow(286, 121, 314, 121)
    agent(figure, 320, 84, 250, name="Solver", words="16 + 2 = 18", colour="second", right=True)
    figure.arrow(576, 121, 606, 121)
    reward(figure, 84, "1", colour="good")
    masked(figure, 24, 174, 256, name="Thinker")
    agent(figure, 320, 174, 250, name="Solver", words="24 − 10 = 14", colour="second", right=False)
    figure.arrow(576, 211, 606, 211)
    reward(figure, 174, "0", colour="bad")
    verdict(figure, 294, "The Thinker's credit", "1 − 0 = +1")

    figure.line([(24, 328), (696, 328)], colour="line")

    figure.text(24, 378, "Three voters", size=26, weight=700)
    figure.text(24, 410, "The most frequent answer is the team's", size=20, colour="soft")
    for index, (words, right) in enumerate((("18", True), ("18", True), ("14", False))):
        agent(
            figure,
            24 + 186 * index,
            428,
            174,
            name=f"Voter {index + 1}",
            words=words,
            colour=AGENTS[index],
            right=right,
        )
    figure.arrow(576, 465, 606, 465)
    reward(figure, 428, "1", colour="good")
    masked(figure, 24, 518, 174, name="Voter 1")
    for index, (words, right) in ((1, ("18", True)), (2, ("14", False))):
        agent(
            figure,
            24 + 186 * index,
            518,
            174,
            name=f"Voter {index + 1}",
            words=words,
            colour=AGENTS[index],
            right=right,
        )
    figure.arrow(576, 555, 606, 555)
    reward(figure, 518, "½", colour="soft")
    figure.text(24, 622, "A tie is right half of the time.", size=20, colour="soft")
    verdict(figure, 672, "Voter 1's credit", "1 − ½ = +½")
    return figure


def worlds() -> Figure:
    """The mask of every world of a vote, and what the team gets there."""
    figure = Figure(452, "Worlds: one row of the mask each; world 0 keeps every agent")
    figure.text(24, 40, "agent_mask", size=24, weight=700)
    for index in range(3):
        figure.text(
            306 + 112 * index,
            40,
            f"Voter {index + 1}",
            size=20,
            colour=AGENTS[index],
            anchor="middle",
            weight=600,
        )
    figure.text(650, 40, "reward", size=20, colour="soft", anchor="middle")
    rows = (
        ("World 0", "everyone", None, "1", "good"),
        ("World 1", "without voter 1", 0, "½", "soft"),
        ("World 2", "without voter 2", 1, "½", "soft"),
        ("World 3", "without voter 3", 2, "1", "good"),
    )
    for row, (name, meaning, absent, value, colour) in enumerate(rows):
        y = 62 + 94 * row
        figure.text(24, y + 34, name, size=24, weight=600)
        figure.text(24, y + 62, meaning, size=20, colour="soft")
        for index, words in enumerate(("18", "18", "14")):
            x = 256 + 112 * index
            if index == absent:
                figure.box(x, y + 8, 100, 62, fill="page", dashed=True)
                continue
            figure.box(x, y + 8, 100, 62, fill=f"{AGENTS[index]}-fill", stroke=AGENTS[index])
            figure.text(x + 36, y + 47, words, anchor="middle")
            figure.mark(x + 76, y + 39, right=words == "18")
        figure.box(610, y + 8, 80, 62, fill=f"{colour}-fill", stroke=colour, radius=31)
        figure.text(650, y + 49, value, size=28, colour=colour, anchor="middle", weight=700)
    return figure


def contribution() -> Figure:
    """Reward with everyone minus reward without each voter, as bars."""
    figure = Figure(420, "Contribution: reward with everyone minus reward without the agent")
    plot = Plot(x=150, y=60, width=520, height=260, low=0, high=3, bottom=0, top=1)
    for value, name in ((0, "0"), (0.5, "½"), (1, "1")):
        _, y = plot.at(0, value)
        figure.line([(plot.x, y), (plot.x + plot.width, y)], colour="line")
        figure.text(plot.x - 16, y + 8, name, anchor="end", colour="soft")
    figure.text(24, 36, "reward with everyone: 1", size=22, weight=600)
    figure.text(24, 198, "without", size=20, colour="soft")
    for index, without in enumerate((0.5, 0.5, 1.0)):
        left, top = plot.at(index + 0.18, without)
        right, bottom = plot.at(index + 0.82, 0)
        figure.box(
            left,
            top,
            right - left,
            bottom - top,
            fill=f"{AGENTS[index]}-fill",
            stroke=AGENTS[index],
            radius=4,
        )
        _, full = plot.at(0, 1)
        if without < 1:
            figure.box(
                left,
                full,
                right - left,
                top - full,
                fill="good-fill",
                stroke="good",
                radius=4,
                dashed=True,
            )
        figure.text(
            (left + right) / 2, bottom + 32, f"voter {index + 1}", anchor="middle", colour="soft"
        )
        figure.text(
            (left + right) / 2,
            bottom + 68,
            "+½" if without < 1 else "0",
            size=28,
            colour="good" if without < 1 else "soft",
            anchor="middle",
            weight=700,
        )
    figure.text(24, 388, "contribution", size=20, colour="soft")
    return figure


def credit() -> Figure:
    """Left: contributions become credit. Right: credit of a group becomes advantage."""
    figure = Figure(440, "Credit: shaped contributions; advantage: credit minus the group's mean")
    figure.text(24, 36, "contribution → credit", size=24, weight=700)
    figure.text(24, 64, "tanh of the standardised contribution", size=18, colour="soft")
    plot = Plot(x=40, y=92, width=300, height=270, low=-3, high=3, bottom=-1.1, top=1.1)
    figure.line([plot.at(-3, 0), plot.at(3, 0)], colour="line")
    figure.line([plot.at(0, -1.1), plot.at(0, 1.1)], colour="line")
    figure.curve(math.tanh, plot, colour="first")
    samples = (-2.4, 0.6, 0.6, 1.6)
    for x in (-2.4, 0.6, 1.6):
        figure.dot(*plot.at(x, math.tanh(x)), colour="first")
    figure.text(*plot.at(0.25, 1.0), "+1", size=18, colour="soft")
    figure.text(*plot.at(0.25, -1.08), "−1", size=18, colour="soft")
    figure.text(190, 396, "contribution in standard", size=18, colour="soft", anchor="middle")
    figure.text(190, 420, "deviations of the past", size=18, colour="soft", anchor="middle")

    figure.text(388, 36, "credit → advantage", size=24, weight=700)
    figure.text(388, 64, "minus the mean of the group", size=18, colour="soft")
    group = Plot(x=400, y=92, width=290, height=270, low=0, high=4, bottom=-1.1, top=1.1)
    mean = sum(math.tanh(x) for x in samples) / len(samples)
    figure.dashes(*group.at(0, mean), *group.at(4, mean))
    figure.text(group.x, group.at(0, mean)[1] - 10, "mean", size=18, colour="soft")
    for index, x in enumerate(samples):
        value = math.tanh(x)
        colour = "good" if value > mean else "bad"
        figure.arrow(
            *group.at(index + 0.72, mean),
            *group.at(index + 0.72, value + (-0.09 if value > mean else 0.09)),
            colour=colour,
        )
        figure.dot(*group.at(index + 0.72, value), colour="first")
    figure.text(545, 396, "four samples of one", size=18, colour="soft", anchor="middle")
    figure.text(545, 420, "prompt, one agent", size=18, colour="soft", anchor="middle")
    return figure


def gate() -> Figure:
    """The history gate over the mean contribution of the past."""
    figure = Figure(424, "Gate: how much the Solver is paid for answers with the Thinker")
    figure.text(24, 36, "Solver's credit = g · joint + (1 − g) · solo", size=24, weight=700)
    plot = Plot(x=84, y=76, width=600, height=250, low=-3, high=3, bottom=0, top=1)
    for value, name in ((0, "0"), (0.5, "½"), (1, "1")):
        _, y = plot.at(0, value)
        figure.line([(plot.x, y), (plot.x + plot.width, y)], colour="line")
        figure.text(plot.x - 16, y + 8, name, anchor="end", colour="soft")
    figure.text(24, 90, "g", size=26, colour="third", weight=700)
    figure.curve(lambda x: 1 / (1 + math.exp(-x)), plot, colour="third")
    figure.dot(*plot.at(0, 0.5), colour="third")
    figure.text(104, 122, "The Thinker has hurt:", size=20)
    figure.text(104, 150, "solo answers count more", size=20, colour="soft")
    figure.text(672, 256, "The Thinker has helped:", size=20, anchor="end")
    figure.text(672, 284, "joint answers count more", size=20, colour="soft", anchor="end")
    for x in (-3, 0, 3):
        across, _ = plot.at(x, 0)
        anchor = {-3: "start", 0: "middle", 3: "end"}[x]
        figure.text(across, 358, f"{x:+d}".replace("-", "−") if x else "0", anchor=anchor)
    figure.text(
        384,
        398,
        "mean contribution of the past, in standard deviations",
        size=20,
        colour="soft",
        anchor="middle",
    )
    return figure


FIGURES = {
    "teams": teams,
    "worlds": worlds,
    "contribution": contribution,
    "credit": credit,
    "gate": gate,
}


if __name__ == "__main__":
    for name, draw in FIGURES.items():
        draw().write(name)
