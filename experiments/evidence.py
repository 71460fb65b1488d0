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
from experiments.tabular import TabularTeam, Truth, draw

METRICS = {  # name -> (what stands over its column, what it is)
    "credit": ("credit", "mean credit"),
    "credit_bias": ("credit - contribution", "mean credit less the true contribution, in units of reward"),
    "scale": ("scale", "length of the expected gradient along the true one, as a multiple of it"),
    "bias": ("bias", "part of the expected gradient's power that does not point along the true one; 0 = unbiased"),
    "variance": ("variance", "of the gradient of one group, summed over parameters, mean over prompts"),
    "snr": ("SNR", "power of the expected gradient along the true one over the variance; 0 if it points away"),
    "advantage_snr": ("advantage SNR", "variance of the advantage that the true advantage explains, over the rest"),
    "rank_texts": ("rank, texts", "Spearman's rank correlation of advantage and true advantage within a group"),
    "rank_agents": ("rank, agents", "the same of a group's mean credit and true contribution, over a prompt's agents"),
    "efficiency": ("SNR per token", "SNR over decoded tokens, as a multiple of that of `shared`"),
}


class Evidence(NamedTuple):
    """What one estimator said about R groups on each of B prompts."""

    credit: np.ndarray  # [A, B, R] mean over the group
    gram: np.ndarray  # [A, B, R, R] products of gradient estimates, of agent k's tables
    along: np.ndarray  # [A, B, R] their products with the true gradient
    power: np.ndarray  # [A, B] the true gradient's own
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
    agents, turns = range(topology.num_agents), range(len(topology.roles))
    gram, along = np.zeros((len(agents), *shape, replicates)), np.zeros((len(agents), *shape))
    products, ranks = np.zeros((3, len(agents), *shape)), [[] for _ in agents]
    for t, agent in enumerate(topology.speakers):
        cells = drawn.cells[t].reshape(*shape, -1)
        said = signal[agent][:, :: signal.shape[2] // cells.shape[2]].reshape(cells.shape)
        deserved = np.take_along_axis(known.advantage[t], cells.reshape(team.prompts, -1), axis=1).reshape(cells.shape)
        ranks[agent].append(spearman(said, deserved))
        products[:, agent] += np.stack([said * deserved, said**2, deserved**2]).mean(-1)
        table = team.tables[t, (True,) * len(topology.reads[t])]
        for b in range(team.prompts):
            estimate = _gradients(said[b], cells[b], table[b])
            gram[agent, b] += estimate @ estimate.T
            along[agent, b] += estimate @ known.gradient[t][b]
    own = [[np.square(known.gradient[t]).sum(1) for t in turns if topology.speakers[t] == k] for k in agents]
    mean = np.asarray(credit, np.float64).mean(axis=2).reshape(-1, *shape)
    deserved = np.broadcast_to(known.contribution.T[:, None], (*shape, len(agents)))
    return Evidence(
        mean, gram, along, np.stack([np.sum(parts, axis=0) for parts in own]), products,
        np.stack([np.mean(parts, axis=0) for parts in ranks]), spearman(np.moveaxis(mean, 0, -1), deserved),
        group, drawn.cost,
    )  # fmt: skip


def _gradients(signal: np.ndarray, cells: np.ndarray, table: np.ndarray) -> np.ndarray:
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
        figures |= {(who, name): x for name, x in _gradient_figures(evidence, chosen, *weights).items()}
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


def _gradient_figures(evidence: Evidence, chosen: slice, prompt: np.ndarray, replicate: np.ndarray) -> dict:
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
