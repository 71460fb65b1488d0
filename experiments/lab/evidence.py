"""What an estimator says about many groups of a team's samples, and how far that is from what is true.

All figures come with bootstrap replicates. Products of two expectations are estimated over pairs of different groups,
so that noise does not pass for bias or for signal.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.advantages import group_advantage, leave_one_out_advantage
from ccpo_jax.records import CreditEstimator
from ccpo_jax.topology import Topology
from experiments.lab.tabular import TabularTeam, Truth, draw

METRICS = {  # name -> (what stands over its column, what it is)
    "credit": ("credit", "mean credit"),
    "credit_bias": ("credit - contribution", "mean credit less the true contribution, in units of reward"),
    "scale": ("scale", "length of the expected gradient along the true one, as a multiple of it"),
    "bias": ("bias", "part of the expected gradient's power that does not point along the true one; 0 = unbiased"),
    "variance": ("variance", "of the gradient of one group, summed over parameters, mean over prompts"),
    "snr": ("SNR", "power of the expected gradient along the true one over the variance; 0 if it points away"),
    "projected_snr": (
        "SNR, projected",
        "the same of real parameters along random directions, all prompts in one batch",
    ),
    "advantage_snr": ("advantage SNR", "variance of the advantage that the true advantage explains, over the rest"),
    "rank_texts": ("rank, texts", "Spearman's rank correlation of advantage and true advantage within a group"),
    "rank_agents": ("rank, agents", "the same of a group's mean credit and true contribution, over a prompt's agents"),
    "efficiency": ("SNR per token", "SNR over decoded tokens, as a multiple of that of `shared`"),
}


class Gradients(NamedTuple):
    """Products of gradient estimates. Agents have parameters of their own."""

    gram: np.ndarray  # [A, B, R, R] between the replicates of a prompt
    along: np.ndarray  # [A, B, R] with the true gradient
    power: np.ndarray  # [A, B] the true gradient's own, to be summed over prompts


class Evidence(NamedTuple):
    """What one estimator said about R groups on each of B prompts."""

    credit: np.ndarray  # [A, B, R] mean over the group
    gradients: Gradients  # of the tables' logits, of which every prompt has its own
    projected: Gradients | None  # of a real team's parameters, along random directions; None = no scores
    products: np.ndarray  # [3, A, B, R] means over texts: advantage x truth, advantage squared, truth squared
    rank_texts: np.ndarray  # [A, B, R] nan where the truth is the same for all
    rank_agents: np.ndarray  # [B, R] likewise
    samples: int  # G
    cost: float  # tokens decoded for one group


def worlds_of(estimator: CreditEstimator, topology: Topology) -> tuple:
    """What the masked worlds mask that an estimator reads."""
    if not estimator.counterfactual:
        return ()
    return topology.ablated if estimator.ablated is None else estimator.ablated


def cost_of_sample(team: TabularTeam, estimator: CreditEstimator) -> float:
    """Tokens of one sample (one thought with all its answers) in all worlds that an estimator reads."""
    how = dict(answers=estimator.answers, ablated=worlds_of(estimator, team.topology), ratings=estimator.ratings)
    return draw(team, np.random.default_rng(0), replicates=1, group=1, **how).cost


def centring(estimator: CreditEstimator, advantage: str) -> Callable:
    """How credit becomes an advantage: by its own baseline, by "leave_one_out", or as "trained" by default."""
    if estimator.baseline == "none":
        return jnp.asarray
    if advantage == "leave_one_out":
        return leave_one_out_advantage
    return lambda credit: group_advantage(credit, normalize_std=estimator.divide)


def gather(
    team: TabularTeam, known: Truth, estimator: CreditEstimator, rng: np.random.Generator, *,
    group: int, replicates: int, advantage: str = "leave_one_out",
) -> Evidence:  # fmt: skip
    """Draws the groups, and as many before them for what the estimator remembers: the past shapes a step.

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
    how = dict(replicates=replicates, group=group, answers=estimator.answers, ratings=estimator.ratings,
               ablated=worlds_of(estimator, topology))  # fmt: skip
    update = jax.jit(estimator.update)
    _, state = update(estimator.init(), draw(team, rng, **how).outcome)
    drawn = draw(team, rng, **how)
    credit, _ = update(state, drawn.outcome)
    signal = np.asarray(jax.jit(centring(estimator, advantage))(credit), np.float64)  # [A, N, G]
    said, cells, products, ranks = [], [], [], []  # of every turn
    for t, agent in enumerate(topology.speakers):
        cells.append(drawn.cells[t].reshape(*shape, -1))
        said.append(signal[agent][:, :: signal.shape[2] // cells[t].shape[2]].reshape(cells[t].shape))
        deserved = np.take_along_axis(known.advantage[t], cells[t].reshape(team.prompts, -1), 1).reshape(cells[t].shape)
        ranks.append(spearman(said[t], deserved))
        products.append(np.stack([said[t] * deserved, said[t] ** 2, deserved**2]).mean(-1))
    by_agent = [[t for t, k in enumerate(topology.speakers) if k == agent] for agent in range(topology.num_agents)]
    mean = np.asarray(credit, np.float64).mean(axis=2).reshape(-1, *shape)
    contribution = np.broadcast_to(known.contribution.T[:, None], (*shape, topology.num_agents))
    return Evidence(
        mean,
        _of_tables(team, known, said, cells, by_agent),
        None if team.scores is None else _of_parameters(team, known, said, cells, by_agent, rng),
        np.stack([np.sum([products[t] for t in turns], axis=0) for turns in by_agent], axis=1),
        np.stack([np.mean([ranks[t] for t in turns], axis=0) for turns in by_agent]),
        spearman(np.moveaxis(mean, 0, -1), contribution),
        group,
        drawn.cost,
    )


def _of_tables(team: TabularTeam, known: Truth, said, cells, by_agent) -> Gradients:
    """A logit per cell of every prompt's tables: prompts share nothing, and their powers add up."""
    agents, (prompts, replicates) = len(by_agent), said[0].shape[:2]
    gram, along = np.zeros((agents, prompts, replicates, replicates)), np.zeros((agents, prompts, replicates))
    for agent, turns in enumerate(by_agent):
        for t in turns:
            table = team.tables[t, (True,) * len(team.topology.reads[t])]
            for b in range(prompts):
                estimate = _table_gradients(said[t][b], cells[t][b], table[b])
                gram[agent, b] += estimate @ estimate.T
                along[agent, b] += estimate @ known.gradient[t][b]
    power = [np.sum([np.square(known.gradient[t]).sum(1) for t in turns], axis=0) for turns in by_agent]
    return Gradients(gram, along, np.stack(power))


def _of_parameters(team: TabularTeam, known: Truth, said, cells, by_agent, rng) -> Gradients:
    """Parameters that all prompts share: what counts of a prompt is its part along the gradient of all of them."""
    agents, (prompts, replicates) = len(by_agent), said[0].shape[:2]
    gram, along = np.zeros((agents, prompts, replicates, replicates)), np.zeros((agents, prompts, replicates))
    power = np.zeros((agents, prompts))
    for agent, turns in enumerate(by_agent):
        estimates, true = [], []
        for b in range(prompts):
            one, exact = 0.0, 0.0
            for t in turns:
                spot, score = team.scores[t][b]
                order = np.argsort(spot, kind="stable")
                first, last = (np.searchsorted(spot[order], cells[t][b], side) for side in ("left", "right"))
                chosen = order[first + (rng.random(first.shape) * (last - first)).astype(int)]  # [R, n] such a text
                one = one + (said[t][b][..., None] * score[chosen]).mean(1)
                exact = exact + (known.advantage[t][b][spot][:, None] * score).mean(0)
            estimates.append(one)
            true.append(exact)
        together = np.sum(true, axis=0)
        for b in range(prompts):
            gram[agent, b] = estimates[b] @ estimates[b].T
            along[agent, b], power[agent, b] = estimates[b] @ together, true[b] @ together
    return Gradients(gram, along, power)


def _table_gradients(signal: np.ndarray, cells: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Policy gradients ``[R, C]`` of a table of logits: mean over texts of signal times d log p(text) / d logits."""
    replicates, texts = signal.shape
    flat = np.arange(replicates)[:, None] * table.size + cells
    pushed = np.bincount(flat.ravel(), signal.ravel() / texts, replicates * table.size)
    pushed = pushed.reshape(replicates, -1, table.shape[-1])
    return (pushed - table.reshape(-1, table.shape[-1]) * pushed.sum(-1, keepdims=True)).reshape(replicates, -1)


def spearman(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Rank correlation over the last axis. nan where the truth is constant; 0 where only what was found is."""

    def ranks(x: np.ndarray) -> np.ndarray:
        gap = x[..., :, None] - x[..., None, :]
        return np.where(np.abs(gap) <= 1e-5, 0.0, np.sign(gap)).sum(-1)  # rounding makes no rank

    one, other = ranks(found), ranks(true)
    size = np.sqrt(np.square(one).sum(-1) * np.square(other).sum(-1))
    return np.where((other != 0).any(-1), (one * other).sum(-1) / np.where(size > 0, size, 1.0), np.nan)


class Summary(NamedTuple):
    """Figures of one estimator."""

    figures: dict  # (agent or "team", metric) -> [1 + draws], the estimate and then its bootstrap replicates
    samples: int
    cost: float

    def interval(self, who, metric: str, deviations: float = 1.96) -> tuple[float, float, float]:
        """(value, low, high): the estimate, give or take so many deviations of the bootstrap."""
        value, *others = self.figures[who, metric]
        spread = deviations * float(np.std(others))
        return float(value), float(value - spread), float(value + spread)


def summarise(evidence: Evidence, known: Truth, rng, *, draws: int = 400, over: str = "replicates") -> Summary:
    """Figures of every agent and of the team, which has the gradient of all agents together.

    Args:
      evidence: of one estimator.
      known: what is true.
      rng: decides what the bootstrap draws.
      draws: bootstrap replicates.
      over: what is drawn again: "replicates" (how sure a figure is for these prompts), or "both" prompts and
        replicates (for prompts like these).
    """
    agents, prompts, replicates = evidence.credit.shape
    weights = _resampled(prompts, replicates, rng, draws=draws, over=over)
    figures = {}
    for who in [*range(agents), "team"]:
        chosen = slice(None) if who == "team" else slice(who, who + 1)
        figures |= {(who, name): x for name, x in _gradient_figures(evidence.gradients, chosen, *weights).items()}
        if evidence.projected is not None:
            figures[who, "projected_snr"] = _gradient_figures(evidence.projected, chosen, *weights)["snr"]
        both, found, true = (_mean(x[chosen], *weights) for x in evidence.products)
        with np.errstate(all="ignore"):
            figures[who, "advantage_snr"] = both**2 / (found * true - both**2)
        figures[who, "rank_texts"] = _mean(evidence.rank_texts[chosen], *weights)
        if who != "team":
            off = evidence.credit[chosen] - known.contribution[chosen, :, None]
            figures[who, "credit"] = _mean(evidence.credit[chosen], *weights)
            figures[who, "credit_bias"] = _mean(off, *weights)
    figures["team", "rank_agents"] = _mean(evidence.rank_agents[None], *weights)
    return Summary(figures, evidence.samples, evidence.cost)


def _resampled(prompts: int, replicates: int, rng, *, draws: int, over: str) -> tuple[np.ndarray, np.ndarray]:
    """How often each prompt ``[1 + draws, B]`` and each of its replicates ``[1 + draws, B, R]`` counts; first: once."""
    replicate = rng.multinomial(replicates, np.full(replicates, 1 / replicates), size=(draws, prompts))
    prompt = np.ones((draws, prompts))
    if over == "both":
        prompt = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws)
    return tuple(np.concatenate([np.ones((1, *x.shape[1:])), x]) for x in (prompt, replicate))


def _mean(x: np.ndarray, prompt: np.ndarray, replicate: np.ndarray) -> np.ndarray:
    """``[1 + draws]`` means of ``[n, B, R]`` over everything, those that are nan left out."""
    known = ~np.isnan(x)
    weight = prompt[..., None] * replicate
    total, count = (np.einsum("br,dbr->d", y.sum(0), weight) for y in (np.where(known, x, 0.0), known * 1.0))
    return np.where(count > 0, total / np.maximum(count, 1e-9), np.nan)


def _gradient_figures(evidence: Gradients, chosen: slice, prompt: np.ndarray, replicate: np.ndarray) -> dict:
    """Scale, bias, variance and SNR, from |g|^2, |E g|^2 and (E g . true)^2 of every prompt."""
    gram, along = evidence.gram[chosen].sum(0), evidence.along[chosen].sum(0)
    power = prompt @ evidence.power[chosen].sum(0)
    own, count, twice = np.diagonal(gram, axis1=1, axis2=2), replicate.sum(-1), np.square(replicate)
    pairs = count**2 - twice.sum(-1)
    turned = replicate.transpose(1, 0, 2)
    every = np.einsum("bdr,bdr->db", turned @ gram, turned)
    expected = (every - np.einsum("dbr,br->db", twice, own)) / pairs
    variance = (prompt * (np.einsum("dbr,br->db", replicate, own) / count - expected)).sum(-1)
    total = np.einsum("dbr,br->db", replicate, along)
    mean, pair = total / count, (total**2 - np.einsum("dbr,br->db", twice, along**2)) / pairs
    onto = (prompt * mean).sum(-1)
    squared = onto**2 + (prompt**2 * (pair - mean**2)).sum(-1)
    with np.errstate(all="ignore"):
        return {
            "scale": onto / power,
            "bias": 1.0 - squared / ((prompt * expected).sum(-1) * power),
            "variance": variance / prompt.sum(-1),
            "snr": np.where(onto < 0, 0.0, np.maximum(squared, 0.0)) / (power * variance),
        }
