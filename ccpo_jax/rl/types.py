"""Records that cross modules, and the one order of axes they share.

Axis legend, one order everywhere:

    W  worlds (world 0 is factual, world w > 0 masks one agent or several) B  prompts in a batch G
    samples per prompt R  samples that share a prompt's prefix, of one or several worlds K  answers
    per text of a chain; a prompt then has G * K^(A-1) samples of the whole team, and so has its
    axis G A  agents T  response tokens L  prompt tokens V  vocabulary N  flattened sequences P
    parameter sets (1 = one shared policy, A = one per agent)

Outcomes are ``[W, B, G, A]``, rewards ``[W, B, G]``, credit ``[A, B, G]``. In every mask True means
keep.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array  # on the device
HostArray = np.ndarray  # in host memory


class RunningMoments(NamedTuple):
    """Running mean and variance of one scalar quantity, or of several in fields of one shape."""

    count: Array  # type: ignore[assignment] # shape=(), dtype=int32, values seen; 0 = none yet
    mean: Array  # shape=(), dtype=float32, exponential moving average of batch means
    var: Array  # shape=(), dtype=float32, exponential moving average of batch population variances


class CCPOState(NamedTuple):
    """State of the `ccpo` credit: running moments of the team, updated every step."""

    delta: RunningMoments  # contribution: joint minus solo reward (dyad), or those of all agents
    joint: RunningMoments  # reward of the whole team
    solo: RunningMoments  # reward of the world in which the Thinker is masked


class Outcome(NamedTuple):
    """Verdicts and team rewards of one batch of rollouts. None = not recorded."""

    # shape=[W, B, G], dtype=float32, in [0, 1]: the team's reward in each world.
    reward: Array | HostArray
    # shape=[W, B, G, A], dtype=float32, in [0, 1]: score of each agent's own answer, 1 = right.
    correct: Array | HostArray
    # shape=[W, B, G, A], dtype=int32: class of each answer within its prompt, -1 = no answer.
    answer_id: Array | HostArray
    # shape=[W, A], dtype=bool: True = the agent is present; row 0 is all True.
    agent_mask: Array | HostArray
    # shape=[A, B, G, 2], dtype=float32: shares of Thinker and Solver, as each agent rates them.
    shares: Array | HostArray | None = None
    # shape=[A, B, G], dtype=float32, in nats: minus the log-likelihood of each agent's responses.
    surprisal: Array | HostArray | None = None
    # shape=[G, B, G], dtype=float32, in nats: log-likelihood of answer h (last axis) of a dyad's
    # Solver, had it read thought g (first axis).
    answer_logprob: Array | HostArray | None = None


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a credit estimator asks of a rollout besides the team's own responses.

    Attributes:
      ablated: agents that each masked world masks, one agent or several, see `agent_masks`; () = no
        masked world.
      answers_per_text: K, how many readers each text of a chain has.
      ratings: both agents of a dyad rate each factual outcome, see `Outcome.shares`.
      answer_logprob: every answer of a dyad is scored after every thought of its prompt, see
        `Outcome.answer_logprob`; nothing more is decoded.
    """

    ablated: tuple[int | tuple[int, ...], ...] = ()
    answers_per_text: int = 1
    ratings: bool = False
    answer_logprob: bool = False


@dataclasses.dataclass(frozen=True)
class Baseline:
    """How an estimator's credit becomes an advantage, unless the run says otherwise.

    Attributes:
      kind: "group" = the mean of the group; "none" = the credit has its baseline subtracted
        already.
      normalize_std: divide by the group's standard deviation.
    """

    kind: str = "group"
    normalize_std: bool = True


@dataclasses.dataclass(frozen=True)
class CreditEstimator:
    """A credit estimator: an (init, update) pair, and what it asks of the rollout and of the
    advantage.

    Attributes:
      init: ``() -> state``, a pytree; () where nothing is carried from step to step.
      update: ``(state, outcome) -> (credit [A, B, G], new state)``, pure.
      needs: what the rollout has to hold.
      baseline: how its credit is centred and scaled by default.
      restrict: ``(agents) -> the same credit with masked worlds of these agents alone``: a step
        that trains some agents does not decode worlds that mask the others. The credit of the
        others is then meaningless. None = an estimator that needs all its worlds in every step,
        such as one with a state.
      metrics: ``(state) -> {name: [] array}``, the state as it stands in metrics.jsonl. None =
        nothing to show.
    """

    init: Callable[[], Any]
    update: Callable[[Any, Outcome], tuple[Array, Any]]
    needs: Needs = Needs()
    baseline: Baseline = Baseline()
    restrict: Callable[[tuple[int, ...]], "CreditEstimator"] | None = None
    metrics: Callable[[Any], dict[str, Array]] | None = None


class Adapters(NamedTuple):
    """How a network is trained whose own parameters stay as they are: functions only.

    ``adapters`` is a pytree of float32 arrays, the only parameters that have gradients.
    """

    # (key) -> adapters, which change nothing yet
    init: Callable[..., Any]
    # (params, adapters) -> params for `Policy.hidden`, differentiable
    join: Callable[..., Any]
    # (adapters) -> decode weights of the adapters alone, once per update
    publish: Callable[..., Any]
    # (weights, decode weights of adapters) -> weights for `Policy.extend`; copies nothing
    attach: Callable[..., Any]
    # (params, adapters) -> params of the same network, in which the adapters are added up
    merge: Callable[..., Any]
    # True: responses are sampled with the decode weights of `merge`
    decodes_merged: bool = False


class Policy(NamedTuple):
    """The seam between the sampler or trainer and a network: functions only, so that tests pass a
    stub.

    ``params`` are the trained float32 master parameters, ``weights`` the decoding layout that
    `publish` makes of them. A cache is a pytree of arrays ``[B, R, ...]``; its layout is private to
    the network.
    """

    # (params) -> weights, once per update
    publish: Callable[..., Any]
    # (batch, rows, slots) -> empty cache
    init_cache: Callable[..., Any]
    # (weights, tokens, positions, cache, cursor, start, context) -> hidden, cache
    extend: Callable[..., Any]
    # (params, tokens [N, S], positions, segments, parents) -> [N, S, D]
    hidden: Callable[..., Array]
    # (params or weights, hidden [..., D]) -> [..., V] float32
    logits: Callable[..., Array]
    # (params) -> the parameters that `logits` reads, in the place of its first argument
    head: Callable[..., Any] = lambda _: {}
    # (params) -> params, gathered where one pass reads a sharded parameter often
    gather: Callable[..., Any] = lambda params: params
    # True: the cost of a decode step grows with the cache's size, used or not
    reads_free_slots: bool = True
    # What is trained in place of ``params``; None: they are
    adapters: Adapters | None = None


class Context(NamedTuple):
    """What samples attend to besides the cache they write: read by every decode step, never
    copied."""

    prefix: Any  # cache of [B, 1, ...], shared by all samples of a prompt, right-padded
    prefix_length: Array  # shape=[B], dtype=int32, slots of `prefix` in use
    tails: tuple = ()  # caches of [B, r, ...], left-padded, each for the next r samples
    tail_starts: tuple = ()  # shape=[B, r], dtype=int32 for each tail, first slot in use


class Samples(NamedTuple):
    """Responses of one sampler call, padded on the right."""

    # shape=[B, R, T], dtype=int32: with the end token, or the token that completes a stop string;
    # pad id after it
    tokens: Array | HostArray
    logprobs: Array | HostArray  # shape=[B, R, T], dtype=float32, as sampled; 0 after the end
    length: Array | HostArray  # shape=[B, R], dtype=int32, tokens with the one that ends it
    truncated: Array | HostArray  # shape=[B, R], dtype=bool, True: nothing ended it within T
    # shape=[B, R, T], dtype=float32: sum over the vocabulary of the squared probabilities that the
    # token was drawn with; 0 after the end; None = not recorded
    collision: Array | HostArray | None = None


class BatchTotals(NamedTuple):
    """What a loss on a micro-batch has to know about the whole batch."""

    num_sequences: Array  # shape=(), dtype=float32, sequences with at least one kept token
    tokens: Array  # shape=(), dtype=float32, kept tokens
    advantage_mean: (
        Array  # shape=(), dtype=float32, over kept tokens, each with its sequence's advantage
    )
    advantage_std: Array  # shape=(), dtype=float32, population standard deviation of the same
