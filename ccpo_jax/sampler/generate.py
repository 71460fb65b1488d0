"""Generation from the host: the decode loop in chunks, between which rows that have ended make room for others."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.devices import precompile as ahead
from ccpo_jax.devices.sharding import fetch, num_shards, put
from ccpo_jax.devices.xla_options import compiler_options
from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.types import Policy, Samples
from ccpo_jax.sampler.decode_loop import (
    Decoding,
    Groups,
    Prompts,
    admit,
    advance,
    begin,
    grow,
    keep,
)
from ccpo_jax.sampler.slots import pick, plan, rungs
from ccpo_jax.sampler.token_sampling import TokenSampling

_SLOTS = 64  # tokens that the caches have room for at first
_WAVES = 4  # a batch that is refilled takes its prompts in by this part of its places


def generate(
    policy: Policy,
    weights: Sequence,
    prompts: Prompts,
    key: jax.Array,
    ids: np.ndarray,
    settings: TokenSampling,
    *,
    max_tokens: int,
    decode_chunk: int = 32,
    max_concurrent: int | None = None,
    groups: Groups | None = None,
    sharding: jax.sharding.Sharding | None = None,
    on_prompts_done: Callable[[Sequence[int], Samples], None] | None = None,
) -> Samples:
    """Samples A' agents at once: folded into the batch when they share parameters, vmapped when they do not.

    Args:
      policy: the network's functions.
      weights: decode weights: one entry for all agents, or one for each.
      prompts: host arrays with a leading axis of A' agents on every field.
      key: typed PRNG key of the batch.
      ids: ``[A', B, R, I]`` uint32, the path from `key` to each row's own key.
      settings: traced settings.
      max_tokens: T, the length at which a response is cut.
      decode_chunk, max_concurrent, sharding: see `SamplingParams`.
      groups: rows of a prompt whose tails share a width, see `begin`; None = all rows, as wide as they came.
      on_prompts_done: called with prompts, and their samples ``[A', b, R, T]``, as soon as they have ended for all agents;
        every prompt is in one call.

    Returns:
      `Samples` ``[A', B, R, T]`` on the host: the same tokens for any `decode_chunk` and `max_concurrent`.
    """
    stacked = len(weights) > 1
    shape = ids.shape[:3]
    if not stacked:  # agents that share parameters are further prompts
        prompts, ids = jax.tree.map(
            lambda x: x.reshape(1, x.shape[0] * x.shape[1], *x.shape[2:]), (prompts, ids)
        )
    run = _Run(
        policy=policy,
        weights=_stack(tuple(weights)) if stacked else weights[0],
        prompts=prompts,
        ids=ids,
        key=key,
        settings=settings,
        max_tokens=max_tokens,
        groups=groups or (prompts.tail.shape[2:],),
        stacked=stacked,
        sharding=sharding,
    )
    missing = np.full(shape[1], shape[0] * shape[2])  # rows of each prompt that have not ended
    slots = min(max(decode_chunk, _SLOTS), max_tokens) if policy.reads_free_slots else max_tokens
    run.start(max_concurrent, slots)
    while missing.any():
        run.decode(decode_chunk)
        ended = np.unravel_index(run.collect(), shape)[1]
        missing -= np.bincount(ended, minlength=len(missing))
        complete = np.unique(ended[missing[ended] == 0])
        if on_prompts_done is not None and len(complete):
            on_prompts_done(complete.tolist(), run.samples(shape, complete))
        if missing.any():
            run.seat()
    return run.samples(shape)


@dataclasses.dataclass
class _Run:
    """One call of `generate`: the batch on the device, which row sits where in it, and what has ended."""

    policy: Policy
    weights: Any
    prompts: Prompts  # [A', B, ...]; A' = 1 unless stacked, likewise below
    ids: np.ndarray
    key: jax.Array
    settings: TokenSampling
    max_tokens: int
    groups: Groups
    stacked: bool
    sharding: jax.sharding.Sharding | None

    def start(self, rows: int | None, slots: int) -> None:
        """Begins as many prompts as may decode at once; the others wait."""
        agents, batch, per_prompt = self.ids.shape[:3]
        parts = num_shards(self.sharding)
        self.whole = parts == 1  # else prompts that leave would move caches between devices
        self.ahead = (
            self.sharding is None or self.sharding.num_devices == 1
        ) and ahead.worthwhile()
        places = (
            batch
            if rows is None
            else min(ceil_div(max(rows // (agents * per_prompt), 1), parts) * parts, batch)
        )
        self.wave = ceil_div(places, _WAVES * parts) * parts
        self.slots = (
            slots if places == batch else self.max_tokens
        )  # rows that begin later go around in their cache
        self.sizes = tuple(count for count, _ in self.groups)
        number = np.arange(agents * batch * per_prompt)
        self.tokens = np.full(
            (len(number), self.max_tokens), np.asarray(self.settings.pad_id), np.int32
        )
        self.logprobs = np.zeros(self.tokens.shape, np.float32)
        self.origin = number.reshape(agents, batch, per_prompt)[
            :, :places
        ].copy()  # -1: no row, or one that has ended
        self.first = np.zeros(
            self.origin.shape, np.int64
        )  # step at which the row in each seat began
        self.next = np.full(agents, places)  # the first prompt that waits
        everyone = np.tile(np.arange(places), (agents, 1))
        if self.ahead:
            self._prepare(self._begin(everyone, self.slots, shapes=True))
        self.state = self._begin(everyone, self.slots)

    def decode(self, chunk: int) -> None:
        """Up to `chunk` tokens more, but none past the length at which a response is cut."""
        decoded = int(self.state.step) + 1
        until = min(
            (decoded // chunk + 1) * chunk,
            int(self.first[self.origin >= 0].min()) + self.max_tokens,
        )
        while until > self.slots and self.slots < self.max_tokens:
            self.slots = min(2 * self.slots, self.max_tokens)
            self.state = _grow(self.policy, self.state, slots=self.slots)
        static = {"policy": self.policy, "stacked": self.stacked}
        self.state = ahead.call(
            decode_program(), self.weights, self.state, self.settings, np.int32(until), **static
        )

    def collect(self) -> np.ndarray:
        """Copies the rows that have ended to the host and frees their seats. Returns their numbers."""
        done = fetch(self.state.done).reshape(self.origin.shape)
        cut = int(self.state.step) + 1 - self.first >= self.max_tokens
        over = (done | cut) & (self.origin >= 0)
        ended = self.origin[over]
        if len(ended):
            columns = (self.first[over][:, None] + np.arange(self.max_tokens)) % self.max_tokens
            for mine, theirs in (
                (self.tokens, self.state.tokens),
                (self.logprobs, self.state.logprobs),
            ):
                found = fetch(theirs).reshape(*over.shape, -1)[over]
                mine[ended] = np.take_along_axis(found, columns, axis=1)
            self.origin[over] = -1
        if (over & ~done).any():
            off = (self.origin < 0).reshape(self.state.done.shape)
            self.state = self.state._replace(done=put(off, self.state.done.sharding))
        return ended

    def seat(self) -> None:
        """Fills the places of prompts whose rows have all ended, or, where no prompt waits, shrinks the batch."""
        while (left := self.ids.shape[1] - self.next).any():
            free = (self.origin < 0).all(axis=-1)
            ready = np.minimum(np.minimum(left, self.wave), free.sum(axis=-1))
            if not ((ready == np.minimum(left, self.wave)) & (left > 0)).any():
                return
            self._admit(free, ready)
        chosen = plan(self.origin < 0, self.sizes, self.whole)
        if chosen is not None:
            self.origin = np.where(chosen.filler, -1, pick(self.origin, chosen, self.sizes))
            self.first = pick(self.first, chosen, self.sizes)
            self.sizes = tuple(rows.shape[-1] for rows in chosen.rows)
            stay = chosen if self.whole else chosen._replace(prompts=None)
            self.state = _keep(self.state, *self._device(stay), stacked=self.stacked)
            if self.ahead:
                self._prepare(self.state)

    def samples(self, shape: tuple[int, ...], prompts=slice(None)) -> Samples:
        """What `prompts` of the call have been answered."""
        tokens, logprobs = (x.reshape(*shape, -1)[:, prompts] for x in (self.tokens, self.logprobs))
        ends = np.isin(tokens, np.asarray(self.settings.eos_ids))
        length = np.where(ends.any(-1), ends.argmax(-1) + 1, self.max_tokens).astype(np.int32)
        return Samples(tokens, logprobs, length, ~ends.any(-1))

    def _prepare(self, state: Decoding) -> None:
        """Has the programs compiled that decode this batch, and what it becomes when it grows or shrinks."""
        states = [state]
        if self.slots < self.max_tokens:
            larger = min(2 * self.slots, self.max_tokens)
            states.append(jax.eval_shape(lambda x: grow(self.policy, x, larger), state))
        for batch, sizes in rungs(self.origin.shape[1], self.sizes, True)[-1:]:
            lead = (len(self.ids), batch) if self.stacked else (batch,)
            rows = tuple(np.zeros((*lead, size), np.int32) for size in sizes)
            chosen = np.zeros(lead, np.int32), rows, np.zeros((*lead, sum(sizes)), bool)
            states.append(
                jax.eval_shape(functools.partial(keep, stacked=self.stacked), state, *chosen)
            )
        static = {"policy": self.policy, "stacked": self.stacked}
        for shapes in states:
            ahead.prepare(
                decode_program(), self.weights, shapes, self.settings, np.int32(0), **static
            )

    def _admit(self, free: np.ndarray, ready: np.ndarray) -> None:
        """Puts the next `ready` prompts of each agent into free places."""
        agents, places = free.shape
        fresh = np.zeros(
            (agents, self.wave), np.int64
        )  # prompts; those past `ready` go to no place
        target = np.full((agents, self.wave), places)
        numbers = np.arange(np.prod(self.ids.shape[:3])).reshape(self.ids.shape[:3])
        for agent, count in enumerate(ready):
            fresh[agent, :count] = self.next[agent] + np.arange(count)
            target[agent, :count] = here = np.flatnonzero(free[agent])[:count]
            self.origin[agent, here] = numbers[agent, fresh[agent, :count]]
            self.first[agent, here] = int(self.state.step)
        self.next += ready
        new = self._begin(fresh, 1)._replace(cache=())
        self.state = _admit(self.state, new, self._device(target), stacked=self.stacked)

    def _begin(self, chosen: np.ndarray, slots: int, shapes: bool = False) -> Decoding:
        """Begins prompts ``[A', k]``; or says no more than what shapes that gives."""
        prompts, ids = jax.tree.map(
            lambda x: x[np.arange(len(x))[:, None], chosen], (self.prompts, self.ids)
        )
        prompts, ids = self._device((prompts, ids))
        if self.sharding is not None:
            lead = (None,) if self.stacked else ()
            spec = jax.sharding.PartitionSpec(*lead, *self.sharding.spec)
            prompts, ids = put((prompts, ids), jax.sharding.NamedSharding(self.sharding.mesh, spec))
        program = begin_program()
        return (program.eval_shape if shapes else program)(
            self.policy, self.weights, prompts, self.key, ids, self.settings,
            max_tokens=self.max_tokens, slots=slots, groups=self.groups, stacked=self.stacked,
        )  # fmt: skip

    def _device(self, tree):
        """Without the axis of agents where they do not have one on the device."""
        return tree if self.stacked else jax.tree.map(lambda x: x[0], tree)


@jax.jit
def _stack(weights: tuple):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)


@functools.cache
def begin_program() -> Callable:
    """`begin` with every row's own key, jitted: made at the first call, as `decode_program` is."""

    def run(policy, weights, prompts, key, ids, settings, **static) -> Decoding:
        def row_key(path):
            return functools.reduce(jax.random.fold_in, path, key)

        keys = jax.vmap(row_key)(ids.reshape(-1, ids.shape[-1])).reshape(ids.shape[:-1])
        return begin(policy, weights, prompts, keys, settings, **static)

    static = ("policy", "max_tokens", "slots", "groups", "stacked")
    return jax.jit(run, static_argnames=static, compiler_options=compiler_options("prefill"))


@functools.cache
def decode_program() -> Callable:
    """`advance`, jitted: made at the first call, when the backend and with it the compiler's options are known."""

    def run(weights, state, settings, until, *, policy: Policy, stacked: bool) -> Decoding:
        return advance(policy, weights, state, settings, until, stacked=stacked)

    return jax.jit(
        run,
        static_argnames=("policy", "stacked"),
        donate_argnames="state",
        compiler_options=compiler_options("decoding"),
    )


_keep = jax.jit(keep, static_argnames="stacked")
_grow = jax.jit(grow, static_argnames=("policy", "slots"))
_admit = jax.jit(admit, static_argnames="stacked", donate_argnames="state")


def compiled() -> int:
    """Programs compiled so far, for tests and benchmarks that count them."""
    return ahead.count() + sum(
        f._cache_size() for f in (begin_program(), decode_program(), _keep, _grow, _admit)
    )
