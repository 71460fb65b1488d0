"""The records that cross modules, and the one order of axes they share.

Axis legend, one order everywhere:

    W  worlds (world 0 is factual, world w > 0 masks one agent)
    B  prompts in a batch
    G  samples per prompt
    R  rows that share a prompt's prefix (samples of one or several worlds)
    K  answers per thought; a prompt then has G * K^(A-1) samples of the whole team, and so has its axis G
    A  agents
    T  response tokens
    L  prompt tokens
    V  vocabulary
    N  flattened sequences
    P  parameter sets (1 = one shared policy, A = one per agent)

Outcomes are ``[W, B, G, A]``, rewards ``[W, B, G]``, credit ``[A, B, G]``. In every mask True means keep.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array  # on the device
HostArray = np.ndarray  # in host memory


class RunningMoments(NamedTuple):
    """Running mean and variance of one scalar quantity, carried from step to step."""

    count: Array  # [] int32, values seen so far; 0 = nothing yet, so nothing is standardised
    mean: Array  # [] float32, exponential moving average of batch means
    var: Array  # [] float32, exponential moving average of batch population variances


class CCPOState(NamedTuple):
    """Carried statistics of the `ccpo` credit: one set per team, updated every step."""

    delta: RunningMoments  # contribution, joint minus solo (dyad) or all agents' contributions (voting)
    joint: RunningMoments  # joint reward
    solo: RunningMoments  # reward of the world in which the Thinker is masked


class Outcome(NamedTuple):
    """What the verifier and the team rule say about one batch of rollouts."""

    reward: Array  # [W, B, G] float32 in [0, 1], the team's reward in each world
    correct: Array  # [W, B, G, A] float32 in [0, 1], each agent's own answer is right
    answer_id: Array  # [W, B, G, A] int32, equivalence class of each answer within its prompt, -1 = none found
    agent_mask: Array  # [W, A] bool, True = the agent is present; row 0 is all True
    splits: Any = ()  # [A, B, G, 2] float32, how each agent of a dyad splits the factual outcome; () = nobody was asked
    surprisal: Any = ()  # [A, B, G] float32 in nats, minus the log-likelihood of what each agent said; () = not known


class CreditEstimator(NamedTuple):
    """A credit estimator: an (init, update) pair, and what it asks of a rollout and of the advantage. Static."""

    init: Callable[[], Any]  # () -> state, a pytree
    update: Callable[
        [Any, Outcome], tuple[Array, Any]
    ]  # (state, outcome) -> (credit [A, B, G], new state)
    counterfactual: bool  # True: reads reward[1:], so masked worlds have to be decoded
    ablated: tuple | None = (
        None  # what those worlds mask, see `agent_masks`; None = the topology's own
    )
    over: Callable[..., "CreditEstimator"] | None = (
        None  # (topology that masks fewer agents) -> the same credit there
    )
    answers: int = 1  # K, how many readers each text of a chain has
    ratings: bool = (
        False  # True: reads splits, so both agents of a dyad have to rate each factual outcome
    )
    baseline: str = "group"  # what its credit is compared with unless the run says otherwise; "none": it has its own
    divide: bool = (
        True  # whether to divide by the group's standard deviation unless the run says otherwise
    )


class Policy(NamedTuple):
    """The seam between the sampler or trainer and a network: functions only, so that tests pass a stub.

    ``params`` are the trained fp32 master parameters, ``weights`` the decoding layout made of them by `publish`.
    A cache is a pytree of arrays ``[B, R, ...]``; where a slot lies in them is the network's own affair.
    """

    publish: Callable[..., Any]  # (params) -> weights, once per update
    init_cache: Callable[..., Any]  # (batch, rows, slots) -> empty cache
    extend: Callable[
        ..., Any
    ]  # (weights, tokens, positions, cache, cursor, start, context) -> hidden, cache
    hidden: Callable[
        ..., Array
    ]  # (params, tokens [N, S], positions, segments, parents) -> [N, S, D]
    logits: Callable[..., Array]  # (params or weights, hidden [..., D]) -> [..., V] float32
    head: Callable[..., Any] = (
        lambda params: {}
    )  # (params) -> those that `logits` reads, in its first argument's place
    gather: Callable[..., Any] = lambda params: (
        params
    )  # (params) -> params, whole where a pass reads them often
    reads_free_slots: bool = True  # True: a decode step costs what a cache holds, in use or not


class Context(NamedTuple):
    """What rows see besides the cache they write: read by every decode step, never copied."""

    prefix: Any  # cache of [B, 1, ...], seen by all rows of its prompt, right-padded
    prefix_length: Array  # [B] int32, slots of `prefix` in use
    tails: tuple = ()  # caches of [B, r, ...], left-padded, each for the next r rows; (): rows have no tail
    tail_starts: tuple = ()  # [B, r] int32 for each, first slot in use


class Samples(NamedTuple):
    """Responses of one sampler call, padded on the right."""

    tokens: Array  # [B, R, T] int32, end token included, pad id after it
    logprobs: Array  # [B, R, T] float32, of the distribution sampled from; 0 after the end
    length: Array  # [B, R] int32, tokens with the end token
    truncated: Array  # [B, R] bool, True: no end token within T


class BatchTotals(NamedTuple):
    """What a loss on a micro-batch has to know about the whole batch."""

    rows: Array  # [] float32, sequences with at least one kept token
    tokens: Array  # [] float32, kept tokens
    advantage_mean: Array  # [] float32, of the kept tokens, each with its sequence's advantage
    advantage_std: Array  # [] float32, population standard deviation of the same
