"""What an estimator says about many groups of samples, and how far it is from the truth.

All figures come with bootstrap replicates. Products of two expectations are estimated over pairs of
different groups, so that noise passes neither for bias nor for signal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ccpo_jax.rl.types import CreditEstimator
from ccpo_jax.train.advantage import Advantage
from experiments.credit_lab.baselines import LEAVE_ONE_OUT, centring
from experiments.credit_lab.c3_diagnostics import contextual_variance, credit_fidelity
from experiments.credit_lab.tabular import Draw, TabularTeam, Truth, draw

# Two figures closer than this are ties: float32 is no more exact.
_TIE = 1e-5

# name -> (heading of its column, what it is)
METRICS = {
    "credit": ("credit", "mean credit"),
    "credit_bias": (
        "credit - contribution",
        "mean credit less the true contribution, in units of reward",
    ),
    "scale": (
        "scale",
        "length of the expected gradient along the true one, as a multiple of it",
    ),
    "bias": (
        "bias",
        "part of the expected gradient's power that does not point along the true one; 0 = "
        "unbiased, with the advantage that the head of the report names",
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
    "fidelity": (
        "C3 fidelity",
        "credit fidelity of arXiv:2603.06859: Spearman's rank correlation of advantage and true "
        "advantage over the samples of all prompts together",
    ),
    "context_variance": (
        "C3 variance",
        "variance within a context of arXiv:2603.06859: of the advantages of a group's texts with "
        "the same input",
    ),
    "efficiency": (
        "SNR per token",
        "SNR over decoded tokens, as a multiple of that of `shared`",
    ),
}


class Evidence(NamedTuple):
    """What one estimator said about R groups on each of B prompts.

    Agents and prompts have parameters of their own: the logits of an agent's tables, P of them.

    Attributes:
      credit: ``[A, B, R]`` mean over the group.
      gradients: agent -> B arrays ``[R, P]``, estimates of the gradient.
      true: agent -> B arrays ``[E, P]``, the gradient of E[R]: exact with E = 1, else independent
        estimates.
      rank_texts: ``[A, B, R]`` rank correlation of advantages within a group; nan where the truth
        is the same for all texts.
      rank_agents: ``[B, R]`` rank correlation of credits between agents; nan likewise.
      fidelity: ``[A, R]`` C3's credit fidelity, see `credit_fidelity`.
      context_variance: ``[A, B, R]`` C3's variance within a context, see `contextual_variance`.
      samples: G.
      cost: tokens decoded for one group.
    """

    credit: np.ndarray
    gradients: list[list[np.ndarray]]
    true: list[list[np.ndarray]]
    rank_texts: np.ndarray
    rank_agents: np.ndarray
    fidelity: np.ndarray
    context_variance: np.ndarray
    samples: int
    cost: float


def cost_of_sample(team: TabularTeam, estimator: CreditEstimator) -> float:
    """Tokens of one sample (one thought with all its answers) in all worlds that it needs."""
    rng = np.random.default_rng(0)
    return draw(team, rng, replicates=1, group=1, needs=estimator.needs).cost


def gather(
    team: TabularTeam,
    known: Truth,
    estimator: CreditEstimator,
    rng: np.random.Generator,
    *,
    group: int,
    replicates: int,
    advantage: Advantage = LEAVE_ONE_OUT,
) -> Evidence:
    """Draws the groups and looks at the credit of each.

    An estimator with a state sees as many groups before, because the past shapes its credit.

    Args:
      team: who speaks.
      known: what is true of it.
      estimator: whose credit.
      rng: decides everything that is drawn.
      group: G, samples per prompt.
      replicates: R, groups per prompt.
      advantage: the baseline.
    """

    def draw_groups(count: int) -> Draw:
        return draw(team, rng, replicates=count, group=group, needs=estimator.needs)

    at_once = _replicates_at_once(team, estimator, group, replicates)
    update = jax.jit(estimator.update)
    state = estimator.init()
    if jax.tree.leaves(state):
        _, state = update(state, draw_groups(at_once).outcome)
    centre = jax.jit(centring(advantage, estimator, team.prompts))

    parts = []
    for first in range(0, replicates, at_once):
        drawn = draw_groups(min(at_once, replicates - first))
        credit, _ = update(state, drawn.outcome)
        weight = advantage.weights(team.topology, drawn.rollouts, drawn.outcome)
        # [A, N, G]
        signal = np.asarray(centre(credit, weight), np.float64)
        parts.append(_evidence(team, known, drawn, np.asarray(credit, np.float64), signal, group))
    return _concatenated(parts)


# Votes of one call: bounds the memory of large teams.
_VOTES_AT_ONCE = 2**25


def _replicates_at_once(
    team: TabularTeam, estimator: CreditEstimator, group: int, replicates: int
) -> int:
    """How many groups of each prompt are drawn together; all of them in small teams."""
    agents = team.topology.num_agents
    worlds = 1 + len(estimator.needs.ablated)
    samples = group * estimator.needs.answers_per_text**agents
    votes = worlds * team.prompts * samples * agents**2
    return int(np.clip(_VOTES_AT_ONCE // votes, 1, replicates))


def _evidence(
    team: TabularTeam, known: Truth, drawn: Draw, credit: np.ndarray, signal: np.ndarray, group: int
) -> Evidence:
    """What one draw shows; `credit` and `signal` (advantages) are ``[A, B * R, G]``."""
    topology = team.topology
    num_agents = topology.num_agents
    shape = (team.prompts, credit.shape[1] // team.prompts)

    gradient_of_turn: list[list[np.ndarray]] = []
    rank_of_turn: list[np.ndarray] = []
    fidelity_of_turn: list[np.ndarray] = []
    spread_of_turn: list[np.ndarray] = []
    for turn, agent in enumerate(topology.speakers):
        cells = drawn.cells[turn].reshape(*shape, -1)
        answers_per_text = signal.shape[2] // cells.shape[2]
        advantages = signal[agent][:, ::answers_per_text].reshape(cells.shape)

        table = team.tables[turn, (True,) * len(topology.reads[turn])]
        gradient_of_turn.append(
            [_table_gradients(*one) for one in zip(advantages, cells, table, strict=True)]
        )
        cells_of_prompt = cells.reshape(team.prompts, -1)
        deserved = np.take_along_axis(known.advantage[turn], cells_of_prompt, axis=1)
        deserved = deserved.reshape(cells.shape)
        rank_of_turn.append(spearman(advantages, deserved))
        fidelity_of_turn.append(credit_fidelity(advantages, deserved))
        spread_of_turn.append(contextual_variance(advantages, cells // table.shape[-1]))

    gradients = []
    true = []
    by_turn = {"rank_texts": [], "fidelity": [], "context_variance": []}
    for agent in range(num_agents):
        turns = [turn for turn, speaker in enumerate(topology.speakers) if speaker == agent]
        gradients.append(_joined([gradient_of_turn[turn] for turn in turns]))
        true.append(_true_gradients(known, turns))
        for name, values in (
            ("rank_texts", rank_of_turn),
            ("fidelity", fidelity_of_turn),
            ("context_variance", spread_of_turn),
        ):
            by_turn[name].append(np.mean([values[turn] for turn in turns], axis=0))

    mean_credit = credit.mean(axis=2).reshape(-1, *shape)
    contribution = np.broadcast_to(known.contribution.T[:, None], (*shape, num_agents))
    return Evidence(
        credit=mean_credit,
        gradients=gradients,
        true=true,
        rank_agents=spearman(np.moveaxis(mean_credit, 0, -1), contribution),
        samples=group,
        cost=drawn.cost,
        **{name: np.stack(values) for name, values in by_turn.items()},
    )


def _concatenated(parts: Sequence[Evidence]) -> Evidence:
    """One record of all replicates."""
    first = parts[0]
    if len(parts) == 1:
        return first

    gradients = []
    for of_agent in zip(*(part.gradients for part in parts), strict=True):
        gradients.append([np.concatenate(of_prompt) for of_prompt in zip(*of_agent, strict=True)])
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts], axis=-1)
        for name in ("credit", "rank_texts", "rank_agents", "fidelity", "context_variance")
    }
    return first._replace(gradients=gradients, **joined)


def _true_gradients(known: Truth, turns: Sequence[int]) -> list[np.ndarray]:
    """For each prompt ``[E, P]``: the estimates of the true gradient, one where it is exact."""
    of_turns = []
    for turn in turns:
        if known.gradients is None:
            of_turns.append(known.gradient[turn][:, None])
        else:
            of_turns.append(np.moveaxis(known.gradients[turn], 0, 1))
    return _joined(of_turns)


def _joined(of_turns: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """For each prompt, the parameters of several turns one behind the other."""
    return [np.concatenate(of_prompt, axis=-1) for of_prompt in zip(*of_turns, strict=True)]


def _table_gradients(signal: np.ndarray, cells: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Policy gradients of the logits of one table.

    Args:
      signal: ``[R, n]`` what each text's log-probability is weighted with.
      cells: ``[R, n]`` which cell of the table each text is.
      table: ``[..., M]`` probabilities; C cells in all.

    Returns:
      ``[R, C]`` mean over texts of signal times d log p(text) / d logits.
    """
    replicates, texts = signal.shape
    words = table.shape[-1]
    flat_cells = np.arange(replicates)[:, None] * table.size + cells
    weight = np.bincount(flat_cells.ravel(), signal.ravel() / texts, replicates * table.size)
    weight = weight.reshape(replicates, -1, words)
    expected = table.reshape(-1, words) * weight.sum(-1, keepdims=True)
    return (weight - expected).reshape(replicates, -1)


def spearman(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Rank correlation over the last axis.

    It is nan where the truth is constant, and 0 where only the finding is.
    """
    found_rank = _ranks(found)
    true_rank = _ranks(true)
    product = (found_rank * true_rank).sum(-1)
    norm = np.sqrt(np.square(found_rank).sum(-1) * np.square(true_rank).sum(-1))
    has_order = (true_rank != 0).any(-1)
    return np.where(has_order, product / np.where(norm > 0, norm, 1.0), np.nan)


def _ranks(values: np.ndarray) -> np.ndarray:
    """How many values of the last axis each exceeds, less how many exceed it."""
    gap = values[..., :, None] - values[..., None, :]
    return np.where(np.abs(gap) <= _TIE, 0.0, np.sign(gap)).sum(-1)


class Summary(NamedTuple):
    """Figures of one estimator.

    Attributes:
      figures: (agent or "team", metric) -> ``[1 + draws]``, the estimate and its bootstrap
        replicates.
      samples: G.
      cost: tokens decoded for one group.
    """

    figures: dict[tuple[int | str, str], np.ndarray]
    samples: int
    cost: float

    def interval(self, who, metric: str, deviations: float = 1.96) -> tuple[float, float, float]:
        """(value, low, high): the estimate, give or take so many bootstrap deviations."""
        value, *replicates = self.figures[who, metric]
        # A figure that is not finite has no interval.
        with np.errstate(all="ignore"):
            spread = deviations * float(np.std(replicates))
        return float(value), float(value - spread), float(value + spread)


class _Weights(NamedTuple):
    """How often each measurement counts in a bootstrap replicate; the first counts each once.

    Attributes:
      prompt: ``[1 + draws, B]``.
      replicate: ``[1 + draws, B, R]`` of each prompt's groups.
    """

    prompt: np.ndarray
    replicate: np.ndarray


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
    num_agents, prompts, replicates = evidence.credit.shape
    weights = _bootstrap_weights(prompts, replicates, rng, draws=draws, over=over)
    estimates = 1 if known.contributions is None else len(known.contributions)
    truths = _truth_weights(prompts, estimates, rng, draws=draws)
    powers = []
    for gradients, true in zip(evidence.gradients, evidence.true, strict=True):
        powers.append(_powers(gradients, true, weights.replicate, truths))

    figures = {}
    for agent in range(num_agents):
        figures |= _named(agent, _gradient_figures(powers[agent], weights))
        credit = evidence.credit[agent]
        figures[agent, "rank_texts"] = _mean(evidence.rank_texts[agent], weights)
        figures[agent, "context_variance"] = _mean(evidence.context_variance[agent], weights)
        figures[agent, "credit"] = _mean(credit, weights)
        true_mean = _mean_contribution(known, agent, truths, weights.prompt)
        figures[agent, "credit_bias"] = figures[agent, "credit"] - true_mean

    figures |= _named("team", _gradient_figures(_sum_of_agents(powers), weights))
    figures["team", "rank_texts"] = _mean(evidence.rank_texts, weights)
    figures["team", "rank_agents"] = _mean(evidence.rank_agents, weights)
    figures["team", "context_variance"] = _mean(evidence.context_variance, weights)
    figures |= _fidelities(evidence.fidelity, rng, draws)
    return Summary(figures, evidence.samples, evidence.cost)


def gradient_of_team(
    evidence: Evidence,
    rng: np.random.Generator,
    *,
    draws: int = 200,
    over: str = "replicates",
    one_policy: bool = False,
) -> dict[str, np.ndarray]:
    """Scale, bias, variance and SNR of all agents' gradients together, each ``[1 + draws]``.

    Args:
      evidence: of one estimator.
      rng: decides what the bootstrap draws.
      draws: bootstrap replicates.
      over: see `summarise`.
      one_policy: all agents have the same logits, whose gradient is the sum of theirs.
    """
    gradients, true = evidence.gradients, evidence.true
    if one_policy:
        gradients = [[np.sum(of_prompt, axis=0) for of_prompt in zip(*gradients, strict=True)]]
        true = [[np.sum(of_prompt, axis=0) for of_prompt in zip(*true, strict=True)]]

    prompts, replicates = evidence.credit.shape[1:]
    weights = _bootstrap_weights(prompts, replicates, rng, draws=draws, over=over)
    truths = _truth_weights(prompts, len(true[0][0]), rng, draws=draws)
    powers = []
    for of_agent, exact in zip(gradients, true, strict=True):
        powers.append(_powers(of_agent, exact, weights.replicate, truths))
    return _gradient_figures(_sum_of_agents(powers), weights)


def _fidelities(fidelity: np.ndarray, rng: np.random.Generator, draws: int) -> dict:
    """Means over replicates of ``[A, R]``, each batch of prompts being one observation."""
    replicates = fidelity.shape[1]
    weight = rng.multinomial(replicates, np.full(replicates, 1 / replicates), size=draws)
    weight = np.concatenate([np.ones((1, replicates)), weight]) / replicates
    figures = {}
    for agent, values in enumerate(fidelity):
        figures |= _named(agent, {"fidelity": weight @ values})
    return figures | _named("team", {"fidelity": weight @ fidelity.mean(axis=0)})


def _mean_contribution(
    known: Truth, agent: int, truths: np.ndarray, prompt: np.ndarray
) -> np.ndarray:
    """``[1 + draws]`` an agent's true contribution, mean over prompts."""
    if known.contributions is None:
        by_prompt = np.broadcast_to(known.contribution[agent], prompt.shape)
    else:
        total = np.einsum("dbe,eb->db", truths, known.contributions[:, agent])
        by_prompt = total / truths.sum(axis=-1)
    return (prompt * by_prompt).sum(axis=-1) / prompt.sum(axis=-1)


def _named(who: int | str, figures: dict[str, np.ndarray]) -> dict:
    return {(who, metric): values for metric, values in figures.items()}


def _bootstrap_weights(prompts: int, replicates: int, rng, *, draws: int, over: str) -> _Weights:
    """Resamples the replicates of each prompt, and with ``over="both"`` the prompts too."""
    even = np.full(replicates, 1 / replicates)
    replicate = rng.multinomial(replicates, even, size=(draws, prompts))
    prompt = np.ones((draws, prompts))
    if over == "both":
        prompt = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws)
    return _Weights(
        np.concatenate([np.ones((1, prompts)), prompt]),
        np.concatenate([np.ones((1, prompts, replicates)), replicate]),
    )


def _truth_weights(
    prompts: int, estimates: int, rng: np.random.Generator, *, draws: int
) -> np.ndarray:
    """``[1 + draws, B, E]``: how often each estimate of the truth counts; 1 where it is exact."""
    if estimates == 1:
        return np.ones((1 + draws, prompts, 1))
    drawn = rng.multinomial(estimates, np.full(estimates, 1 / estimates), size=(draws, prompts))
    return np.concatenate([np.ones((1, prompts, estimates)), drawn])


def _mean(values: np.ndarray, weights: _Weights) -> np.ndarray:
    """``[1 + draws]`` means of ``[..., B, R]`` over everything that is not nan."""
    values = values.reshape(-1, *values.shape[-2:])
    is_known = ~np.isnan(values)
    weight = weights.prompt[..., None] * weights.replicate
    total = np.einsum("br,dbr->d", np.where(is_known, values, 0.0).sum(0), weight)
    count = np.einsum("br,dbr->d", is_known.sum(0).astype(float), weight)
    return np.where(count > 0, total / np.maximum(count, 1e-9), np.nan)


class Powers(NamedTuple):
    """Products of gradients of one agent; those of a team are their sums.

    Products of two estimates of the truth are those of different ones, so that its error is no
    power.

    Attributes:
      own: ``[B, R]`` |g|^2 of each replicate.
      along: ``[B, R, E]`` g . true of each replicate and estimate of the truth.
      every: ``[1 + draws, B]`` |sum of g|^2 over all replicates that the bootstrap drew.
      true: ``[1 + draws, B]`` |true|^2.
      truths: ``[1 + draws, B, E]`` the weights of the estimates, the same for all agents.
    """

    own: np.ndarray
    along: np.ndarray
    every: np.ndarray
    true: np.ndarray
    truths: np.ndarray


def _sum_of_agents(powers: Sequence[Powers]) -> Powers:
    *summed, _ = zip(*powers, strict=True)
    return Powers(*(np.sum(of_agents, axis=0) for of_agents in summed), truths=powers[0].truths)


def _powers(
    gradients: Sequence[np.ndarray],
    true: Sequence[np.ndarray],
    replicate: np.ndarray,
    truths: np.ndarray,
) -> Powers:
    """The products of one agent's estimates ``[R, P]`` and true gradients ``[E, P]``, by prompt."""
    own = []
    along = []
    every = []
    power = []
    for prompt, (estimates, exact) in enumerate(zip(gradients, true, strict=True)):
        own.append(np.square(estimates).sum(1))
        along.append(estimates @ exact.T)
        every.append(np.square(replicate[:, prompt] @ estimates).sum(1))
        power.append(_power_of_truth(exact, truths[:, prompt]))
    return Powers(
        own=np.stack(own),
        along=np.stack(along),
        every=np.stack(every, axis=1),
        true=np.stack(power, axis=1),
        truths=truths,
    )


def _power_of_truth(exact: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``[draws]`` |true|^2 from ``[E, P]`` estimates and their weights ``[draws, E]``."""
    product = exact @ exact.T
    if len(exact) == 1:
        return np.full(len(weight), product[0, 0])
    total = np.einsum("de,df,ef->d", weight, weight, product)
    same = np.square(weight) @ np.diag(product)
    return (total - same) / _pairs(weight)


def _pairs(weight: np.ndarray) -> np.ndarray:
    """Number of pairs of different items ``[...]``, each drawn `weight` ``[..., n]`` times."""
    return weight.sum(-1) ** 2 - np.square(weight).sum(-1)


def _gradient_figures(powers: Powers, weights: _Weights) -> dict[str, np.ndarray]:
    """Scale, bias, variance and SNR, each ``[1 + draws]``."""
    prompt, replicate = weights
    count = replicate.sum(-1)
    squared_weight = np.square(replicate)
    pairs = _pairs(replicate)

    # |E g|^2 of each prompt, from pairs of different replicates.
    own = np.einsum("dbr,br->db", squared_weight, powers.own)
    expected = (powers.every - own) / pairs
    mean_power = np.einsum("dbr,br->db", replicate, powers.own) / count
    variance = (prompt * (mean_power - expected)).sum(-1)

    # E g . true of each prompt, and its square from pairs of different replicates, and of different
    # estimates of the truth where there are several.
    truths = powers.truths
    by_estimate = np.einsum("dbr,bre->dbe", replicate, powers.along)
    total = (truths * by_estimate).sum(-1)
    mean = total / count / truths.sum(-1)
    by_replicate = np.einsum("dbe,bre->dbr", truths, powers.along)
    all_pairs = total**2 - (squared_weight * by_replicate**2).sum(-1)
    if truths.shape[-1] == 1:
        mean_squared = all_pairs / pairs
    else:
        same = (np.square(truths) * by_estimate**2).sum(-1)
        both = np.einsum("dbr,dbe,bre->db", squared_weight, np.square(truths), powers.along**2)
        mean_squared = (all_pairs - same + both) / pairs / _pairs(truths)

    # The sum over prompts, squared: a prompt's own square is estimated without bias.
    along = (prompt * mean).sum(-1)
    along_squared = along**2 + (prompt**2 * (mean_squared - mean**2)).sum(-1)

    true_power = (prompt * powers.true).sum(-1)
    with np.errstate(all="ignore"):
        return {
            "scale": along / true_power,
            "bias": 1.0 - along_squared / ((prompt * expected).sum(-1) * true_power),
            "variance": variance / prompt.sum(-1),
            "snr": np.where(along < 0, 0.0, along_squared) / (true_power * variance),
        }
