"""The three diagnostics of C3 (arXiv:2603.06859), on teams whose truth is known.

The names are those of its abstracts (versions 1 and 2); what exactly is computed is read from its
released analysis (EIT-EAST-Lab/C3, `c3/analysis`), not from the paper's own sections.

- *Credit fidelity*: Spearman's rank correlation between the credit of decisions and their true
  advantage, Q - V, over the decisions of all contexts together. C3 estimates Q and V by replay from
  a frozen context; here they are known.
- *Variance within a context* ("contextual variance", later "within-group variance"): the population
  variance of the credit of alternatives for the same input, mean over inputs.
- *Inter-agent dependence* ("influence"): the mutual information, in nats, between the message that
  an agent sends and what a later agent says, given what the sender had read.

Deviation: C3 averages the returns of several replays of an alternative before it looks at them;
here every sample stands for itself.
"""

import string

import numpy as np

from experiments.credit_lab.tabular import TabularTeam, enumerate_prompt

# Two figures closer than this are ties: float32 is no more exact.
_TIE = 1e-5


def credit_fidelity(advantages: np.ndarray, deserved: np.ndarray) -> np.ndarray:
    """Rank correlation over prompts and samples together.

    Args:
      advantages: ``[B, R, n]`` of n texts in each of R groups on B prompts.
      deserved: ``[B, R, n]`` their true advantages.

    Returns:
      ``[R]``; 0 where either is constant.
    """
    fidelity = []
    for replicate in range(advantages.shape[1]):
        estimated = _average_ranks(advantages[:, replicate].ravel())
        true = _average_ranks(deserved[:, replicate].ravel())
        norm = np.sqrt((estimated**2).sum() * (true**2).sum())
        fidelity.append((estimated * true).sum() / norm if norm > 0 else 0.0)
    return np.array(fidelity)


def _average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks less their mean; ties share the mean of theirs."""
    rounded = np.round(values / _TIE)
    _, index, count = np.unique(rounded, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    rank = (last - (count - 1) / 2)[index]
    return rank - rank.mean()


def contextual_variance(advantages: np.ndarray, contexts: np.ndarray) -> np.ndarray:
    """Variance of the advantages of one group's texts that share their input.

    Args:
      advantages: ``[B, R, n]`` of n texts in each of R groups on B prompts.
      contexts: ``[B, R, n]`` integers, what each text's agent had read.

    Returns:
      ``[B, R]`` mean over the inputs with at least two texts; nan where there is none.
    """
    shape = advantages.shape[:2]
    groups = np.arange(shape[0] * shape[1]).reshape(*shape, 1)
    size = int(contexts.max()) + 1
    flat = (groups * size + contexts).ravel()
    cells = groups.size * size

    count = np.bincount(flat, minlength=cells)
    mean = np.bincount(flat, advantages.ravel(), cells) / np.maximum(count, 1)
    squares = np.square(advantages.ravel() - mean[flat])
    variance = np.bincount(flat, squares, cells) / np.maximum(count, 1)

    counts = (count >= 2).reshape(*shape, size)
    total = np.where(counts, variance.reshape(*shape, size), 0.0).sum(axis=-1)
    number = counts.sum(axis=-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def influence(team: TabularTeam) -> np.ndarray:
    """``[A, B]`` nats: mutual information of an agent's message and what its last reader says.

    Given what the sender had read; 0 for agents that nobody reads, such as voters. The last message
    of an agent that others read counts. It is a property of the team, not of an estimator.
    """
    topology = team.topology
    everyone = (True,) * topology.num_agents
    information = np.zeros((topology.num_agents, team.prompts))
    axes = string.ascii_letters[: len(topology.roles)]
    for turn, agent in enumerate(topology.speakers):
        readers = [other for other, reads in enumerate(topology.reads) if turn in reads]
        if not readers:
            continue
        read = "".join(axes[other] for other in topology.reads[turn])
        for prompt in range(team.prompts):
            odds, _ = enumerate_prompt(team, prompt, everyone)
            joint = np.einsum(f"{axes}->{read}{axes[turn]}{axes[readers[-1]]}", odds)
            information[agent, prompt] = mutual_information(joint)
    return information


def mutual_information(joint: np.ndarray) -> float:
    """I(X; Y | context) in nats, from probabilities ``[context..., X, Y]``."""
    context = joint.sum(axis=(-2, -1), keepdims=True)
    of_x = joint.sum(axis=-1, keepdims=True)
    of_y = joint.sum(axis=-2, keepdims=True)
    ratio = joint * context / np.maximum(of_x * of_y, 1e-300)
    return float((joint * np.log(np.where(joint > 0, ratio, 1.0))).sum())
