"""What an estimator says about many groups of samples, and how far it is from the truth.

All figures come with bootstrap replicates. Products of two expectations are estimated over pairs of
different groups, so that noise does not pass for bias or for signal.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.rl.advantages import group_advantage, leave_one_out_advantage, surprisal_advantage
from ccpo_jax.rl.types import CreditEstimator
from experiments.credit_lab.tabular import TabularTeam, Truth, draw

METRICS = {  # name -> (what stands over its column, what it is)
    "credit": ("credit", "mean credit"),
    "credit_bias": (
        "credit - contribution",
        "mean credit less the true contribution, in units of reward",
    ),
    "scale": ("scale", "length of the expected gradient along the true one, as a multiple of it"),
    "bias": (
        "bias",
        "part of the expected gradient's power that does not point along the true one; 0 = "
        "unbiased",
    ),
    "variance": (
        "variance",
        "of the gradient of one group, summed over parameters, mean over prompts",
    ),
    "snr": (
        "SNR",
        "power of the expected gradient along the true one over the variance; 0 if it points away",
    ),
    "rank_texts": (
        "rank, texts",
        "Spearman's rank correlation of advantage and true advantage within a group",
    ),
    "rank_agents": (
        "rank, agents",
        "the same of a group's mean credit and true contribution, over a prompt's agents",
    ),
    "efficiency": ("SNR per token", "SNR over decoded tokens, as a multiple of that of `shared`"),
}


class Evidence(NamedTuple):
    """What one estimator said about R groups on each of B prompts. Agents and prompts have
    parameters of their own.
    """

    credit: np.ndarray  # [A, B, R] mean over the group
    gradients: (
        list  # agent -> B arrays [R, P], estimates of the gradient of the logits of its tables
    )
    true: list  # agent -> B arrays [P], the gradient of E[R]
    rank_texts: np.ndarray  # [A, B, R] nan where the truth is the same for all
    rank_agents: np.ndarray  # [B, R] likewise
    samples: int  # G
    cost: float  # tokens decoded for one group


def cost_of_sample(team: TabularTeam, estimator: CreditEstimator) -> float:
    """Tokens of one sample (one thought with all its answers) in all worlds that an estimator
    reads.
    """
    rng = np.random.default_rng(0)
    return draw(team, rng, replicates=1, group=1, needs=estimator.needs).cost


def centring(estimator: CreditEstimator, advantage: str, prompts: int) -> Callable:
    """How (credit, surprisal), both ``[A, B * R, G]``, become an advantage: by the estimator's own
    baseline if any.

    Else by "leave_one_out", by "surprisal" among the `prompts` of each replicate, or as "trained"
    by default.
    """
    if estimator.baseline.kind == "none":
        return lambda credit, _: jnp.asarray(credit)
    if advantage == "leave_one_out":
        return lambda credit, _: leave_one_out_advantage(credit)
    if advantage == "trained":
        return lambda credit, _: group_advantage(
            credit, normalize_std=estimator.baseline.normalize_std
        )

    def among_prompts(credit, surprisal):
        apart = (x.reshape(len(x), prompts, -1, x.shape[-1]) for x in (credit, surprisal))
        return jax.vmap(surprisal_advantage, in_axes=2, out_axes=2)(*apart).reshape(credit.shape)

    return among_prompts


def gather(
    team: TabularTeam, known: Truth, estimator: CreditEstimator, rng: np.random.Generator, *,
    group: int, replicates: int, advantage: str = "leave_one_out",
) -> Evidence:  # fmt: skip
    """Draws the groups, and as many before them for what the estimator remembers: the past shapes a
    step.

    Args:
      team: who speaks.
      known: what is true of it.
      estimator: whose credit.
      rng: decides everything that is drawn.
      group: G, samples per prompt.
      replicates: R, groups per prompt.
      advantage: see `centring`.
    """
    topology, shape = team.topology, (team.prompts, replicates)
    sizes = dict(replicates=replicates, group=group, needs=estimator.needs)
    update = jax.jit(estimator.update)
    state = estimator.init()
    if jax.tree.leaves(state):
        _, state = update(state, draw(team, rng, **sizes).outcome)
    drawn = draw(team, rng, **sizes)
    credit, _ = update(state, drawn.outcome)
    centre = jax.jit(centring(estimator, advantage, team.prompts))
    signal = np.asarray(centre(credit, drawn.outcome.surprisal), np.float64)  # [A, N, G]
    gradients, ranks = [], []  # of every turn
    for t, agent in enumerate(topology.speakers):
        cells = drawn.cells[t].reshape(*shape, -1)
        said = signal[agent][:, :: signal.shape[2] // cells.shape[2]].reshape(cells.shape)
        table = team.tables[t, (True,) * len(topology.reads[t])]
        gradients.append([_table_gradients(*one) for one in zip(said, cells, table, strict=True)])
        deserved = np.take_along_axis(known.advantage[t], cells.reshape(team.prompts, -1), 1)
        ranks.append(spearman(said, deserved.reshape(cells.shape)))
    turns_of = [
        [t for t, k in enumerate(topology.speakers) if k == agent]
        for agent in range(topology.num_agents)
    ]
    mean = np.asarray(credit, np.float64).mean(axis=2).reshape(-1, *shape)
    contribution = np.broadcast_to(known.contribution.T[:, None], (*shape, topology.num_agents))
    gradients, true = (
        [
            [np.concatenate([of_turn[t][b] for t in turns], axis=-1) for b in range(team.prompts)]
            for turns in turns_of
        ]
        for of_turn in (gradients, known.gradient)
    )
    return Evidence(
        mean,
        gradients,
        true,
        np.stack([np.mean([ranks[t] for t in turns], axis=0) for turns in turns_of]),
        spearman(np.moveaxis(mean, 0, -1), contribution),
        group,
        drawn.cost,
    )


def _table_gradients(signal: np.ndarray, cells: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Policy gradients ``[R, C]`` of a table of logits: mean over texts of signal times d log
    p(text) / d logits.
    """
    replicates, texts = signal.shape
    flat = np.arange(replicates)[:, None] * table.size + cells
    pushed = np.bincount(flat.ravel(), signal.ravel() / texts, replicates * table.size)
    pushed = pushed.reshape(replicates, -1, table.shape[-1])
    return (pushed - table.reshape(-1, table.shape[-1]) * pushed.sum(-1, keepdims=True)).reshape(
        replicates, -1
    )


def spearman(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Rank correlation over the last axis. nan where the truth is constant; 0 where only what was
    found is.
    """

    def ranks(x: np.ndarray) -> np.ndarray:
        gap = x[..., :, None] - x[..., None, :]
        return np.where(np.abs(gap) <= 1e-5, 0.0, np.sign(gap)).sum(-1)  # rounding makes no rank

    one, other = ranks(found), ranks(true)
    size = np.sqrt(np.square(one).sum(-1) * np.square(other).sum(-1))
    return np.where(
        (other != 0).any(-1), (one * other).sum(-1) / np.where(size > 0, size, 1.0), np.nan
    )


class Summary(NamedTuple):
    """Figures of one estimator."""

    figures: dict  # (agent or "team", metric) -> [1 + draws], the estimate and then its bootstrap replicates
    samples: int
    cost: float

    def interval(self, who, metric: str, deviations: float = 1.96) -> tuple[float, float, float]:
        """(value, low, high): the estimate, give or take so many deviations of the bootstrap."""
        value, *others = self.figures[who, metric]
        with np.errstate(all="ignore"):  # of what is not finite there is no interval
            spread = deviations * float(np.std(others))
        return float(value), float(value - spread), float(value + spread)


def summarise(
    evidence: Evidence, known: Truth, rng, *, draws: int = 200, over: str = "replicates"
) -> Summary:
    """Figures of every agent and of the team, which has the gradient of all agents together.

    Args:
      evidence: of one estimator.
      known: what is true.
      rng: decides what the bootstrap draws.
      draws: bootstrap replicates.
      over: what is drawn again: "replicates" (how sure a figure is for these prompts), or "both"
        prompts and replicates (for prompts like these).
    """
    agents, prompts, replicates = evidence.credit.shape
    weights = _resampled(prompts, replicates, rng, draws=draws, over=over)
    powers = [
        _powers(*one, weights[1]) for one in zip(evidence.gradients, evidence.true, strict=True)
    ]
    figures = {}
    for who in [*range(agents), "team"]:
        chosen = slice(None) if who == "team" else slice(who, who + 1)
        total = Powers(*(np.sum(x, axis=0) for x in zip(*powers[chosen], strict=True)))
        figures |= {(who, name): x for name, x in _gradient_figures(total, *weights).items()}
        figures[who, "rank_texts"] = _mean(evidence.rank_texts[chosen], *weights)
        if who != "team":
            off = evidence.credit[chosen] - known.contribution[chosen, :, None]
            figures[who, "credit"] = _mean(evidence.credit[chosen], *weights)
            figures[who, "credit_bias"] = _mean(off, *weights)
    figures["team", "rank_agents"] = _mean(evidence.rank_agents[None], *weights)
    return Summary(figures, evidence.samples, evidence.cost)


def _resampled(
    prompts: int, replicates: int, rng, *, draws: int, over: str
) -> tuple[np.ndarray, np.ndarray]:
    """How often each prompt ``[1 + draws, B]`` and each of its replicates ``[1 + draws, B, R]``
    counts; first: once.
    """
    replicate = rng.multinomial(
        replicates, np.full(replicates, 1 / replicates), size=(draws, prompts)
    )
    prompt = np.ones((draws, prompts))
    if over == "both":
        prompt = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws)
    return tuple(np.concatenate([np.ones((1, *x.shape[1:])), x]) for x in (prompt, replicate))


def _mean(x: np.ndarray, prompt: np.ndarray, replicate: np.ndarray) -> np.ndarray:
    """``[1 + draws]`` means of ``[n, B, R]`` over everything, those that are nan left out."""
    known = ~np.isnan(x)
    weight = prompt[..., None] * replicate
    total, count = (
        np.einsum("br,dbr->d", y.sum(0), weight) for y in (np.where(known, x, 0.0), known * 1.0)
    )
    return np.where(count > 0, total / np.maximum(count, 1e-9), np.nan)


class Powers(NamedTuple):
    """Products of gradients of one agent; those of a team are their sums."""

    own: np.ndarray  # [B, R] |g|^2 of each replicate
    along: np.ndarray  # [B, R] g . true
    every: np.ndarray  # [1 + draws, B] |sum of g|^2 over all replicates drawn
    true: np.ndarray  # [B] |true|^2


def _powers(gradients: list, true: list, replicate: np.ndarray) -> Powers:
    return Powers(
        np.stack([np.square(g).sum(1) for g in gradients]),
        np.stack([g @ exact for g, exact in zip(gradients, true, strict=True)]),
        np.stack([np.square(replicate[:, b] @ g).sum(1) for b, g in enumerate(gradients)], axis=1),
        np.array([np.square(exact).sum() for exact in true]),
    )


def _gradient_figures(powers: Powers, prompt: np.ndarray, replicate: np.ndarray) -> dict:
    """Scale, bias, variance and SNR, from |g|^2, |E g|^2 and (E g . true)^2 of every prompt."""
    count, twice, power = replicate.sum(-1), np.square(replicate), prompt @ powers.true
    pairs = count**2 - twice.sum(-1)
    expected = (powers.every - np.einsum("dbr,br->db", twice, powers.own)) / pairs
    variance = (prompt * (np.einsum("dbr,br->db", replicate, powers.own) / count - expected)).sum(
        -1
    )
    total = np.einsum("dbr,br->db", replicate, powers.along)
    mean, pair = total / count, (total**2 - np.einsum("dbr,br->db", twice, powers.along**2)) / pairs
    onto = (prompt * mean).sum(-1)
    squared = onto**2 + (prompt**2 * (pair - mean**2)).sum(-1)
    with np.errstate(all="ignore"):
        return {
            "scale": onto / power,
            "bias": 1.0 - squared / ((prompt * expected).sum(-1) * power),
            "variance": variance / prompt.sum(-1),
            "snr": np.where(onto < 0, 0.0, squared) / (power * variance),
        }
