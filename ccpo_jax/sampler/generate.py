"""Generation from the host: decodes in chunks; between them waiting prompts replace finished
ones."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.devices import precompile
from ccpo_jax.devices.sharding import fetch, num_shards, put, replicated
from ccpo_jax.devices.xla_options import compiler_options
from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.types import HostArray, Policy, Samples
from ccpo_jax.sampler.decode_loop import (
    AgentWeights,
    DecodeState,
    Prompts,
    TailGroups,
    compact,
    decode,
    grow_cache,
    insert,
    prefill,
)
from ccpo_jax.sampler.sampling_params import SamplingParams
from ccpo_jax.sampler.slots import (
    Slots,
    apply_admission,
    apply_compaction,
    first_slots,
    plan_admission,
    plan_compaction,
    smaller_batches,
)
from ccpo_jax.sampler.token_sampling import TokenSampling, token_sampling

# Tokens that a cache has slots for at first, where a decode step costs what the cache holds.
_INITIAL_CACHE_SLOTS = 64
# Prompts join a batch by this part of its places at a time.
_REFILLS_PER_BATCH = 4


class ResponseFormat(NamedTuple):
    """Where a response ends."""

    eos_ids: tuple[int, ...]  # any of them ends it
    pad_id: int  # follows the end token
    max_tokens: int  # T, the length at which it is cut
    # [S, V + 1] uint8 on the host, see `make_stop_table`: finds the stop strings that end it too;
    # None = there are none
    stop_table: HostArray | None = None


class Programs(NamedTuple):
    """The jitted functions of the sampler."""

    prefill: Any
    decode: Any
    grow_cache: Any
    compact: Any
    insert: Any


@functools.cache
def programs() -> Programs:
    """The one set of jitted functions. Made at the first call, when the backend is known."""

    def prefill_rows(policy, weights, prompts, key, key_paths, settings, **static) -> DecodeState:
        def row_key(path):
            return functools.reduce(jax.random.fold_in, path, key)

        keys = jax.vmap(row_key)(key_paths.reshape(-1, key_paths.shape[-1]))
        keys = keys.reshape(key_paths.shape[:-1])
        return prefill(policy, weights, prompts, keys, settings, **static)

    def decode_rows(weights, state, settings, until, *, policy: Policy, stacked: bool):
        return decode(policy, weights, state, settings, until, stacked=stacked)

    return Programs(
        prefill=jax.jit(
            prefill_rows,
            static_argnames=(
                "policy",
                "max_tokens",
                "cache_slots",
                "tail_groups",
                "stacked",
                "record_collision",
            ),
            compiler_options=compiler_options("prefill"),
        ),
        decode=jax.jit(
            decode_rows,
            static_argnames=("policy", "stacked"),
            donate_argnames="state",
            compiler_options=compiler_options("decoding"),
        ),
        grow_cache=jax.jit(grow_cache, static_argnames=("policy", "slots")),
        compact=jax.jit(compact, static_argnames="stacked"),
        insert=jax.jit(insert, static_argnames="stacked", donate_argnames="state"),
    )


def num_compiled() -> int:
    """Programs compiled so far, for tests and benchmarks that count them."""
    return precompile.count() + sum(program._cache_size() for program in programs())


def stack_weights(weights: Sequence[Any]) -> Any:
    """Weights of several agents for one call: with a leading agent axis, but for arrays that are
    the same object for all of them, which stay as they are.
    """
    leaves, tree = jax.tree.flatten(weights[0])
    others = [jax.tree.leaves(of_agent) for of_agent in weights[1:]]
    is_shared = [
        all(leaf is first for leaf in of_others)
        for first, *of_others in zip(leaves, *others, strict=True)
    ]
    if not any(is_shared):
        return _stack(tuple(weights))
    shared = [leaf if same else None for leaf, same in zip(leaves, is_shared, strict=True)]
    own = [
        tree.unflatten(
            [None if same else leaf for leaf, same in zip(of_agent, is_shared, strict=True)]
        )
        for of_agent in (leaves, *others)
    ]
    return AgentWeights(tree.unflatten(shared), _stack(tuple(own)))


@jax.jit
def _stack(weights: tuple) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)


def generate(
    policy: Policy,
    weights: Sequence[Any],
    prompts: Prompts,
    key: jax.Array,
    key_paths: HostArray,
    response: ResponseFormat,
    *,
    sampling: SamplingParams = SamplingParams(),
    tail_groups: TailGroups | None = None,
    on_prompts_done: Callable[[Sequence[int], Samples], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
    jitted: Programs | None = None,
) -> Samples:
    """Samples A' agents at once: one batch if they share parameters, vmapped if they do not.

    Args:
      policy: the network's functions.
      weights: decode weights: one entry for all agents, or one for each. Arrays that are the same
        object in every entry are used for all agents at once.
      prompts: host arrays with a leading axis of A' agents on every field.
      key: typed PRNG key of the batch.
      key_paths: ``[A', B, R, I]`` uint32: folding these I numbers into `key`, one after another,
        gives a row's own key.
      response: end tokens, pad token, stop strings and the length at which a response is cut.
      sampling: temperature, top-p, top-k and min-p; all other fields change how the work is done
        and not one token.
      tail_groups: see `decode_loop.prefill`.
      on_prompts_done: called with prompts, and their samples ``[A', b, R, T]``, as soon as they
        have finished for all agents; every prompt is in one call.
      on_progress: called between chunks with the tokens decoded so far.
      jitted: replaces `programs()`, in tests.

    Returns:
      `Samples` ``[A', B, R, T]`` on the host.
    """
    shape = key_paths.shape[:3]
    settings = token_sampling(
        sampling,
        eos_ids=response.eos_ids,
        pad_id=response.pad_id,
        stop_table=_stop_table(response, sampling),
    )
    stacked = len(weights) > 1
    if not stacked:
        # Agents that share parameters are further prompts.
        prompts, key_paths = jax.tree.map(
            lambda x: x.reshape(1, x.shape[0] * x.shape[1], *x.shape[2:]), (prompts, key_paths)
        )

    num_parts = num_shards(sampling.sharding)
    one_device = sampling.sharding is None or sampling.sharding.num_devices == 1
    batch_size = _batch_size(key_paths.shape[:3], sampling.max_concurrent, num_parts)

    call = _Call(
        policy=policy,
        weights=stack_weights(weights) if stacked else weights[0],
        prompts=prompts,
        key=key,
        key_paths=key_paths,
        settings=settings,
        eos_ids=response.eos_ids,
        max_tokens=response.max_tokens,
        tail_groups=tail_groups or ((prompts.tail.shape[2], prompts.tail.shape[3]),),
        stacked=stacked,
        sharding=sampling.sharding,
        refill_size=ceil_div(batch_size, _REFILLS_PER_BATCH * num_parts) * num_parts,
        move_prompts=num_parts == 1,
        compile_ahead=one_device and precompile.worthwhile(),
        record_collision=sampling.record_collision,
        jitted=jitted or programs(),
    )

    flat_shape = (key_paths[..., 0].size, response.max_tokens)
    responses = _Responses(
        tokens=np.full(flat_shape, response.pad_id, np.int32),
        logprobs=np.zeros(flat_shape, np.float32),
        length=np.zeros(flat_shape[:1], np.int32),
        truncated=np.zeros(flat_shape[:1], bool),
        collision=np.zeros(flat_shape, np.float32) if sampling.record_collision else None,
    )
    # [B] responses of each prompt that have not finished.
    unfinished = np.full(shape[1], shape[0] * shape[2])

    batch = _start(call, batch_size, sampling.decode_chunk)
    decoded = 0
    while unfinished.any():
        first = int(batch.state.step)
        batch = _decode(call, batch, sampling.decode_chunk)
        # Those that ended within the chunk count as if they had gone on to its end.
        decoded += (int(batch.state.step) - first) * int(np.sum(~batch.slots.empty))
        if on_progress is not None:
            on_progress(decoded)
        batch, finished = _collect(call, batch, responses)
        prompt = np.unravel_index(finished, shape)[1]
        unfinished -= np.bincount(prompt, minlength=len(unfinished))
        done = np.unique(prompt[unfinished[prompt] == 0])
        if on_prompts_done is not None and len(done):
            on_prompts_done(done.tolist(), _as_samples(responses, shape, done))
        if unfinished.any():
            batch = _refill_or_shrink(call, batch)
    return _as_samples(responses, shape, slice(None))


def _stop_table(response: ResponseFormat, sampling: SamplingParams) -> Any:
    """The stop table, whole on every device."""
    if response.stop_table is None or sampling.sharding is None:
        return response.stop_table
    mesh = sampling.sharding.mesh
    assert isinstance(mesh, jax.sharding.Mesh)
    return put(response.stop_table, replicated(mesh))


def _batch_size(shape: tuple[int, ...], max_concurrent: int | None, num_parts: int) -> int:
    """Prompts of each agent that decode at once: all, or a multiple of `num_parts` shards."""
    agents, num_prompts, rows = shape
    if max_concurrent is None:
        return num_prompts
    prompts = max(max_concurrent // (agents * rows), 1)
    return min(ceil_div(prompts, num_parts) * num_parts, num_prompts)


class _Call(NamedTuple):
    """What stays the same during one call of `generate`.

    Host arrays have a leading axis of A' agents; A' = 1 unless `stacked`, and device arrays then
    lack the axis.
    """

    policy: Policy
    weights: Any
    prompts: Prompts  # [A', B, ...], on the host
    key: jax.Array
    key_paths: HostArray  # [A', B, R, I]
    settings: TokenSampling
    eos_ids: tuple[int, ...]
    max_tokens: int
    tail_groups: TailGroups
    stacked: bool
    sharding: jax.sharding.NamedSharding | None
    # Prompts that join at a time.
    refill_size: int
    # False: a mesh splits the prompts, and moving them would send caches between devices.
    move_prompts: bool
    compile_ahead: bool
    record_collision: bool
    jitted: Programs

    @property
    def response_numbers(self) -> HostArray:
        """``[A', B, R]``: numbers the responses of the call."""
        shape = self.key_paths.shape[:3]
        return np.arange(np.prod(shape)).reshape(shape)

    def on_device(self, tree: Any) -> Any:
        """Host arrays without the axis of agents, where device arrays lack it."""
        return tree if self.stacked else jax.tree.map(lambda x: x[0], tree)


class _Batch(NamedTuple):
    """The responses that decode now."""

    slots: Slots
    state: DecodeState
    cache_slots: int


class _Responses(NamedTuple):
    """All N = A' * B * R responses of the call, written as they finish, on the host."""

    tokens: HostArray  # [N, T]
    logprobs: HostArray  # [N, T]
    length: HostArray  # [N]
    truncated: HostArray  # [N]
    collision: HostArray | None  # [N, T]; None = not recorded


def _as_samples(
    responses: _Responses, shape: tuple[int, ...], prompts: HostArray | slice
) -> Samples:
    """The responses to `prompts`, an index into the axis of prompts; `shape` is ``(A', B, R)``."""

    def select(field: HostArray) -> HostArray:
        return field.reshape(*shape, *field.shape[1:])[:, prompts]

    return Samples(*jax.tree.map(select, tuple(responses)))


def _start(call: _Call, batch_size: int, decode_chunk: int) -> _Batch:
    """Prefills as many prompts as may decode at once; the others wait."""
    agents, num_prompts = call.key_paths.shape[:2]
    cache_slots = call.max_tokens
    # Responses that join later go around in their cache, which then has to hold T tokens.
    if call.policy.reads_free_slots and batch_size == num_prompts:
        cache_slots = min(max(decode_chunk, _INITIAL_CACHE_SLOTS), call.max_tokens)
    group_sizes = tuple(rows for rows, _ in call.tail_groups)
    slots = first_slots(call.response_numbers, batch_size, group_sizes)

    prompts = np.tile(np.arange(batch_size), (agents, 1))
    args, static = _prefill_args(call, prompts, cache_slots)
    if call.compile_ahead:
        shapes = call.jitted.prefill.eval_shape(*args, **static)
        _compile_ahead(call, _Batch(slots, shapes, cache_slots))
    return _Batch(slots, call.jitted.prefill(*args, **static), cache_slots)


def _prefill_args(call: _Call, chosen: HostArray, cache_slots: int) -> tuple[tuple, dict]:
    """Arguments of the prefill program for the prompts ``chosen [A', b]``."""
    agent = np.arange(len(chosen))[:, None]
    prompts, key_paths = call.on_device(
        jax.tree.map(lambda x: x[agent, chosen], (call.prompts, call.key_paths))
    )
    if call.sharding is not None:
        agent_axis = (None,) if call.stacked else ()
        spec = jax.sharding.PartitionSpec(*agent_axis, *call.sharding.spec)
        sharding = jax.sharding.NamedSharding(call.sharding.mesh, spec)
        prompts, key_paths = put((prompts, key_paths), sharding)
    static = {
        "max_tokens": call.max_tokens,
        "cache_slots": cache_slots,
        "tail_groups": call.tail_groups,
        "stacked": call.stacked,
        "record_collision": call.record_collision,
    }
    return (call.policy, call.weights, prompts, call.key, key_paths, call.settings), static


def _compile_ahead(call: _Call, batch: _Batch) -> None:
    """Starts to compile the decode loop of this batch, and of what it may become next."""
    states = [batch.state]
    if batch.cache_slots < call.max_tokens:
        larger = min(2 * batch.cache_slots, call.max_tokens)
        states.append(jax.eval_shape(lambda x: grow_cache(call.policy, x, larger), batch.state))
    agents, num_prompts = batch.slots.response.shape[:2]
    for smaller, sizes in smaller_batches(num_prompts, batch.slots.group_sizes, True)[-1:]:
        lead = (agents, smaller) if call.stacked else (smaller,)
        prompts = np.zeros(lead, np.int32)
        rows = tuple(np.zeros((*lead, size), np.int32) for size in sizes)
        empty = np.zeros((*lead, sum(sizes)), bool)
        shrink = functools.partial(compact, stacked=call.stacked)
        states.append(jax.eval_shape(shrink, batch.state, prompts, rows, empty))
    precompile.prepare(
        call.jitted.decode,
        [(call.weights, state, call.settings, np.int32(0)) for state in states],
        policy=call.policy,
        stacked=call.stacked,
    )


def _decode(call: _Call, batch: _Batch, decode_chunk: int) -> _Batch:
    """Decodes to the end of the chunk, but past no response's T tokens."""
    slots, state, cache_slots = batch
    decoded = int(state.step) + 1
    oldest = int(slots.began[~slots.empty].min())
    until = min((decoded // decode_chunk + 1) * decode_chunk, oldest + call.max_tokens)
    while until > cache_slots and cache_slots < call.max_tokens:
        cache_slots = min(2 * cache_slots, call.max_tokens)
        state = call.jitted.grow_cache(call.policy, state, slots=cache_slots)
    state = precompile.call(
        call.jitted.decode,
        call.weights,
        state,
        call.settings,
        np.int32(until),
        policy=call.policy,
        stacked=call.stacked,
    )
    return _Batch(slots, state, cache_slots)


def _collect(call: _Call, batch: _Batch, responses: _Responses) -> tuple[_Batch, HostArray]:
    """Moves finished responses from the batch to `responses`; also returns their numbers."""
    slots, state = batch.slots, batch.state
    ended = fetch(state.done).reshape(slots.response.shape)
    cut = int(state.step) + 1 - slots.began >= call.max_tokens
    finished = (ended | cut) & ~slots.empty
    numbers = slots.response[finished]
    if len(numbers):
        # Token i of a response that began at step f is in column (f + i) mod T.
        steps = slots.began[finished][:, None] + np.arange(call.max_tokens)
        columns = steps % call.max_tokens
        for target, source in (
            (responses.tokens, state.tokens),
            (responses.logprobs, state.logprobs),
            (responses.collision, state.collision),
        ):
            if target is None or source is None:
                continue
            rows = fetch(source).reshape(*finished.shape, -1)[finished]
            target[numbers] = np.take_along_axis(rows, columns, axis=1)
        responses.truncated[numbers] = ~ended[finished]
        responses.length[numbers] = _lengths(call, state, responses.tokens[numbers], finished)
        slots = slots._replace(response=np.where(finished, -1, slots.response))
    if (finished & ~ended).any():
        # Responses that were cut are not done on the device.
        done = slots.empty.reshape(state.done.shape)
        state = state._replace(done=put(done, state.done.sharding))
    return batch._replace(slots=slots, state=state), numbers


def _lengths(call: _Call, state: DecodeState, tokens: HostArray, finished: HostArray) -> HostArray:
    """``[n]`` lengths of the responses ``tokens [n, T]``, those that are `finished`."""
    if state.stop is not None:
        return fetch(state.stop.length).reshape(finished.shape)[finished]
    ends = np.isin(tokens, call.eos_ids)
    return np.where(np.any(ends, axis=-1), np.argmax(ends, axis=-1) + 1, tokens.shape[-1])


def _refill_or_shrink(call: _Call, batch: _Batch) -> _Batch:
    """Lets waiting prompts join where others have finished; if none waits, shrinks the batch."""
    num_prompts = call.key_paths.shape[1]
    while (batch.slots.next_prompt < num_prompts).any():
        admission = plan_admission(batch.slots, num_prompts, call.refill_size)
        if admission is None:
            return batch
        args, static = _prefill_args(call, admission.prompt, cache_slots=1)
        new = call.jitted.prefill(*args, **static)._replace(cache=())
        slots = apply_admission(
            batch.slots, admission, call.response_numbers, int(batch.state.step)
        )
        state = call.jitted.insert(
            batch.state, new, call.on_device(admission.target), stacked=call.stacked
        )
        batch = batch._replace(slots=slots, state=state)

    compaction = plan_compaction(batch.slots.empty, batch.slots.group_sizes, call.move_prompts)
    if compaction is None:
        return batch
    moves = compaction if call.move_prompts else compaction._replace(prompts=None)
    state = call.jitted.compact(batch.state, *call.on_device(moves), stacked=call.stacked)
    batch = batch._replace(slots=apply_compaction(batch.slots, compaction), state=state)
    if call.compile_ahead:
        _compile_ahead(call, batch)
    return batch
