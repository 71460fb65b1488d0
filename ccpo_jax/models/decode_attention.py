"""Fused attention of a decode step on a GPU: one new token per row.

No library serves a few queries against caches of which some slots are in use. These kernels are
written in Pallas for Triton; `interpret` runs them on any machine. A decode step is a chain of
short kernels, so there are few of them: one for each cache that rows only read, which computes a
partial softmax, and a last one, which writes the new token, attends to the row's own tokens and
merges the partial softmaxes.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from ccpo_jax.errors import first_line
from ccpo_jax.integers import ceil_div, next_power_of_two
from ccpo_jax.models.attention import MASKED, Block, RowBlocks, attention, write
from ccpo_jax.rl.types import Array

# Cache slots that a program reads at a time.
_TILE_SLOTS = 64

# From this number of programs per row on, the row's partial softmaxes are merged by kernels of
# their own.
_MIN_PROGRAMS_TO_MERGE = 4

# Largest accepted difference from XLA's attention, for bfloat16 values near 1, which are 0.004 to
# 0.008 apart.
_TOLERANCE = 0.03


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How the kernels divide their work."""

    # Most queries that a program holds. More of them need more memory than a multiprocessor has.
    max_queries: int = 64
    # Programs that fill a large GPU: one for each multiprocessor.
    num_programs: int = 132


_DEFAULT_TUNING = Tuning()


class PartialSoftmax(NamedTuple):
    """A softmax before the division by its sum, by P programs that each read some of the keys."""

    max: Array  # [P * N] float32, the largest score of each of N queries
    sum: Array  # [P * N] float32, of exp(score - max)
    value: Array  # [P * N, E] float32, values weighted by exp(score - max)


class _Lines(NamedTuple):
    """Where the vectors of B prompts, R rows, H key/value heads, Q queries lie in a flat array."""

    batch: int
    rows: int
    heads: int
    group: int

    @property
    def queries(self) -> int:
        """N, of all rows together."""
        return self.batch * self.rows * self.heads * self.group

    def qkv(self, row: Any, head: Any, which: Any) -> Any:
        """Line of a row's query; of its new token's key (which = Q) or value (which = Q + 1)."""
        return (row * self.heads + head) * (self.group + 2) + which

    def output(self, row: Any, head: Any, query: Any) -> Any:
        """Line of a query's output."""
        return (row * self.heads + head) * self.group + query


@dataclasses.dataclass(frozen=True)
class _Launch:
    """What all kernels of one decode step share."""

    lines: _Lines
    tuning: Tuning
    interpret: bool
    num_stages: int

    def __call__(
        self,
        kernel: Callable,
        grid: tuple[int, int],
        out_shape: Sequence[jax.ShapeDtypeStruct],
        arguments: Sequence[Array],
        aliases: dict[int, int],
    ) -> Sequence[Array]:
        """Runs `kernel` by a grid of programs.

        `aliases` maps arguments to the results that reuse their memory.
        """
        params = None
        if not self.interpret:
            params = _triton().CompilerParams(num_warps=4, num_stages=self.num_stages)
        call = pl.pallas_call(
            kernel,
            grid=grid,
            out_shape=out_shape,
            input_output_aliases=aliases,
            interpret=self.interpret,
            compiler_params=params,
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The Pallas Triton backend is deprecated")
            return call(*arguments)


def _triton() -> Any:
    # Imported where it is used: it needs a jaxlib with Triton.
    from jax.experimental.pallas import triton

    return triton


def supports_head_size(size: int) -> bool:
    """Whether `decode_attention` serves heads of this size: powers of two from 16 on."""
    return size >= 16 and size & (size - 1) == 0


def decode_attention(
    queries: Array,
    keys: Array,
    values: Array,
    cache: tuple[Array, Array],
    start: Array,
    cursor: Array,
    context: Sequence[RowBlocks],
    *,
    tuning: Tuning = _DEFAULT_TUNING,
    interpret: bool = False,
) -> tuple[Array, tuple[Array, Array]]:
    """`attention` after the new keys and values have been written; and the cache, updated in place.

    Args:
      queries: ``[B, R, 1, H, Q, E]``.
      keys: ``[B, R, H, E, 1]``, of the new token.
      values: ``[B, R, H, 1, E]``, of the new token.
      cache: keys ``[B, R, H, E, C]`` and values ``[B, R, H, C, E]``.
      start: ``[B, R]`` int32, first visible slot; if it lies after `cursor`, the row has wrapped
        around the end.
      cursor: ``[]`` int32, the new token's slot.
      context: what the rows see besides, as in `attention`; without windows.
      tuning: how the kernels divide their work.
      interpret: run on any machine, for tests.

    Returns:
      ``([B, R, 1, H, Q, E] in the dtype of queries, cache)``.
    """
    size = queries.shape[-1]
    lines = _Lines(*queries.shape[:2], *queries.shape[3:5])
    qkv = jnp.concatenate([queries[:, :, 0], jnp.swapaxes(keys, -1, -2), values], axis=-2)
    qkv = qkv.reshape(-1, size)
    launch = _Launch(lines, tuning, interpret, num_stages=3 if size <= 128 else 2)

    partials = []
    for blocks in context:
        if isinstance(blocks, Block):
            partials.append(_attend_context(launch, qkv, blocks, range(lines.rows), None))
            continue
        partial, first = None, 0
        for block in blocks:
            last = first + block.keys.shape[1]
            partial = _attend_context(launch, qkv, block, range(first, last), partial)
            first = last
        partials.append(partial)

    out, cache = _attend_own(launch, qkv, cache, start, cursor, partials)
    return out.reshape(queries.shape), cache


# --- caches that rows only read -------------------------------------------------------------------


def _attend_context(
    launch: _Launch, qkv: Array, block: Block, rows: range, others: PartialSoftmax | None
) -> PartialSoftmax:
    """The partial softmax of some rows of every prompt over a cache.

    Other rows keep their lines of `others`.

    A program reads the slots in use once, for as many of the queries that share them as it can
    hold. Where that leaves multiprocessors idle, the slots are divided among several programs,
    unless other rows see another cache.
    """
    lines, tuning = launch.lines, launch.tuning
    _, owners, heads, size, slots = block.keys.shape
    count = lines.batch * owners * heads

    # Programs that hold the queries of one cache.
    holders = ceil_div(len(rows) // owners * lines.group, tuning.max_queries)
    programs = 1
    if len(rows) == lines.rows:
        tiles = ceil_div(slots, _TILE_SLOTS)
        programs = max(min(tiles, tuning.num_programs // (count * holders)), 1)

    kernel = functools.partial(
        _context_kernel,
        lines=lines,
        tuning=tuning,
        owners=owners,
        holders=holders,
        rows=rows,
        slots=slots,
    )
    arguments = (
        jnp.broadcast_to(block.low, (lines.batch, owners, 1)).reshape(-1),
        jnp.broadcast_to(block.high, (lines.batch, owners, 1)).reshape(-1),
        qkv,
        block.keys.reshape(count, size, slots),
        block.values.reshape(count, slots, size),
    )
    aliases = {}
    if others is not None:
        aliases = {len(arguments) + field: field for field in range(len(others))}
        arguments = (*arguments, *others)
    grid = (count * holders, programs)
    out_shape = _partial_shapes(lines, programs, size)
    return PartialSoftmax(*launch(kernel, grid, out_shape, arguments, aliases))


def _partial_shapes(
    lines: _Lines, programs: int, size: int
) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Shapes of a `PartialSoftmax`."""
    flat = jax.ShapeDtypeStruct((programs * lines.queries,), jnp.float32)
    return flat, flat, jax.ShapeDtypeStruct((programs * lines.queries, size), jnp.float32)


def _context_kernel(
    low: Any,
    high: Any,
    qkv: Any,
    k: Any,
    v: Any,
    *rest: Any,
    lines: _Lines,
    tuning: Tuning,
    owners: int,
    holders: int,
    rows: range,
    slots: int,
) -> None:
    """Queries that share one head of a cache, against this program's share of the slots in use."""
    cache = pl.program_id(0) // holders
    holder = pl.program_id(0) % holders
    program = pl.program_id(1)
    owner = cache // lines.heads
    head = cache % lines.heads

    # The queries of this program: of rows that share the cache, numbered row by row.
    rows_per_owner = len(rows) // owners
    num_queries = rows_per_owner * lines.group
    number = holder * tuning.max_queries + jnp.arange(
        _query_tile(min(num_queries, tuning.max_queries))
    )
    first_row = owner // owners * lines.rows + rows.start + owner % owners * rows_per_owner
    row = first_row + number // lines.group
    query = number % lines.group
    valid = number < num_queries
    queries = _load(qkv, lines.qkv(row, head, query), valid)

    begin, end = low[owner], high[owner]
    tiles = _program_tiles(begin // _TILE_SLOTS, pl.cdiv(end, _TILE_SLOTS))
    empty = _Softmax(
        jnp.full(number.shape, MASKED), jnp.zeros(number.shape), jnp.zeros(queries.shape)
    )
    softmax = _attend_tiles(
        tiles, queries, k, v, cache, slots, lambda slot: (begin <= slot) & (slot < end), empty
    )
    line = program * lines.queries + lines.output(row, head, query)
    _store_softmax(rest[-3:], line, softmax, valid)


class _Softmax(NamedTuple):
    """A running softmax within a program: as `PartialSoftmax`, of the program's queries."""

    max: Array
    sum: Array
    value: Array


def _load(vectors: Any, line: Array, valid: Array) -> Array:
    """The vectors ``[n, E]`` of lines ``[n]``; 0 where a line is not `valid`."""
    entries = vectors.at[_indices(vectors, line)]
    return _triton().load(entries, mask=_broadcast(valid, vectors), other=0.0)


def _store(vectors: Any, line: Array, x: Array, valid: Array) -> None:
    entries = vectors.at[_indices(vectors, line)]
    _triton().store(entries, x.astype(vectors.dtype), mask=_broadcast(valid, vectors))


def _indices(vectors: Any, line: Array) -> tuple[Array, Array]:
    shape = (len(line), vectors.shape[1])
    lines = jnp.broadcast_to(line[:, None], shape)
    columns = jnp.broadcast_to(jnp.arange(shape[1])[None], shape)
    return lines, columns


def _broadcast(valid: Array, vectors: Any) -> Array:
    return jnp.broadcast_to(valid[:, None], (len(valid), vectors.shape[1]))


def _store_softmax(refs: Sequence[Any], line: Array, softmax: _Softmax, valid: Array) -> None:
    _triton().store(refs[0].at[line], softmax.max, mask=valid)
    _triton().store(refs[1].at[line], softmax.sum, mask=valid)
    _store(refs[2], line, softmax.value, valid)


def _query_tile(queries: int) -> int:
    """Rounded up: matrix products need whole tiles."""
    return max(16, next_power_of_two(queries))


def _program_tiles(first: Any, last: Any) -> tuple[Any, Any]:
    """The tiles from `first` up to `last` that are this program's."""
    program = pl.program_id(1)
    share = pl.cdiv(last - first, pl.num_programs(1))
    return first + share * program, jnp.minimum(first + share * (program + 1), last)


def _attend_tiles(
    tiles: tuple[Any, Any],
    queries: Array,
    k: Any,
    v: Any,
    cache: Any,
    slots: int,
    visible: Callable[[Array], Array],
    softmax: _Softmax,
) -> _Softmax:
    """Online softmax: `softmax` continued over the tiles of one cache and head."""
    load = _triton().load

    def step(tile: Any, softmax: _Softmax) -> _Softmax:
        in_tile = pl.ds(tile * _TILE_SLOTS, _TILE_SLOTS)
        slot = tile * _TILE_SLOTS + jnp.arange(_TILE_SLOTS)
        seen = visible(slot)
        if slots % _TILE_SLOTS == 0:
            keys = load(k.at[cache, :, in_tile])
            values = load(v.at[cache, in_tile, :])
        else:
            # A mask, even one that hides nothing, slows a load by half.
            inside = slot < slots
            seen &= inside
            keys = load(k.at[cache, :, in_tile], mask=inside[None], other=0.0)
            values = load(v.at[cache, in_tile, :], mask=inside[:, None], other=0.0)

        scale = 1 / math.sqrt(queries.shape[-1])
        scores = jnp.dot(queries, keys, preferred_element_type=jnp.float32) * scale
        scores = jnp.where(seen[None], scores, MASKED)
        new_max = jnp.maximum(softmax.max, jnp.max(scores, axis=1))
        weights = jnp.where(seen[None], jnp.exp(scores - new_max[:, None]), 0.0)
        decay = jnp.exp(softmax.max - new_max)
        added = jnp.dot(weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
        return _Softmax(
            new_max,
            softmax.sum * decay + jnp.sum(weights, axis=1),
            softmax.value * decay[:, None] + added,
        )

    return jax.lax.fori_loop(*tiles, step, softmax)


# --- the rows' own tokens -------------------------------------------------------------------------


def _attend_own(
    launch: _Launch,
    qkv: Array,
    cache: tuple[Array, Array],
    start: Array,
    cursor: Array,
    context: Sequence[PartialSoftmax],
) -> tuple[Array, tuple[Array, Array]]:
    """Writes the new tokens and attends to the rows' own tokens and to `context`.

    Returns:
      ``([N, E], cache)``.
    """
    lines = launch.lines
    keys, values = cache
    size, slots = keys.shape[-2:]
    count = lines.batch * lines.rows * lines.heads

    # Either one program per row merges the context itself, or several leave partial softmaxes to
    # `_merge`.
    programs = min(ceil_div(slots, _TILE_SLOTS), launch.tuning.num_programs // count)
    merges = programs < _MIN_PROGRAMS_TO_MERGE
    if merges:
        programs, merged = 1, context
        out_shape = (jax.ShapeDtypeStruct((lines.queries, size), qkv.dtype),)
    else:
        merged = ()
        out_shape = _partial_shapes(lines, programs, size)

    flat_keys = keys.reshape(count, size, slots)
    flat_values = values.reshape(count, slots, size)
    inputs = (
        start.reshape(-1),
        jnp.asarray(cursor, jnp.int32).reshape(1),
        qkv,
        flat_keys,
        flat_values,
    )
    kernel = functools.partial(
        _own_kernel,
        lines=lines,
        slots=slots,
        merged_programs=tuple(len(partial.max) // lines.queries for partial in merged),
        merges=merges,
    )
    cache_shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (flat_keys, flat_values)]
    *results, keys_out, values_out = launch(
        kernel,
        (count, programs),
        (*out_shape, *cache_shapes),
        (*inputs, *(x for partial in merged for x in partial)),
        {3: len(out_shape), 4: len(out_shape) + 1},
    )

    if merges:
        (out,) = results
    else:
        out = _merge([*context, PartialSoftmax(*results)], lines.queries).astype(qkv.dtype)
    return out, (keys_out.reshape(keys.shape), values_out.reshape(values.shape))


def _merge(partials: Sequence[PartialSoftmax], queries: int) -> Array:
    """The softmax over all keys, ``[N, E]``."""
    top, total, value = (
        jnp.concatenate([x.reshape(-1, queries, *x.shape[1:]) for x in field])
        for field in zip(*partials, strict=True)
    )
    scale = jnp.exp(top - jnp.max(top, axis=0))
    return jnp.sum(scale[..., None] * value, axis=0) / jnp.sum(scale * total, axis=0)[:, None]


def _own_kernel(
    start: Any,
    cursor: Any,
    qkv: Any,
    k: Any,
    v: Any,
    *rest: Any,
    lines: _Lines,
    slots: int,
    merged_programs: tuple[int, ...],
    merges: bool,
) -> None:
    """One row's queries of one key/value head, against the row's own tokens.

    Every program reads the new token and its share of the older ones.

    Args:
      start, cursor, qkv, k, v: as in `_attend_own`.
      rest: three arrays for each entry of `merged_programs`; then the results, which are the
        attention if `merges`, else a `PartialSoftmax`; then the cache.
      lines: see `_Lines`.
      slots: of the cache.
      merged_programs: programs behind each `PartialSoftmax` to merge.
      merges: whether this program merges them.
    """
    load, store = _triton().load, _triton().store
    num_merged = 3 * len(merged_programs)
    partials = rest[:num_merged]
    results = rest[num_merged:-2]
    keys_out, values_out = rest[-2:]

    pair = pl.program_id(0)
    program = pl.program_id(1)
    row = pair // lines.heads
    head = pair % lines.heads
    query = jnp.arange(_query_tile(lines.group))
    valid = query < lines.group
    queries = _load(qkv, lines.qkv(row, head, query), valid)
    key = load(qkv.at[lines.qkv(row, head, lines.group), :])
    value = load(qkv.at[lines.qkv(row, head, lines.group + 1), :])

    # Every program writes the new token: all write the same, and none reads it.
    slot_now = cursor[0]
    store(keys_out.at[pair, :, slot_now], key)
    store(values_out.at[pair, slot_now, :], value)

    first = start[row]
    wrapped = first > slot_now
    last_tile = pl.cdiv(jnp.where(wrapped, slots, slot_now), _TILE_SLOTS)
    first_tile = jnp.minimum(jnp.where(wrapped, 0, first // _TILE_SLOTS), last_tile)
    tiles = _program_tiles(first_tile, last_tile)

    def older(slot: Array) -> Array:
        after, before = first <= slot, slot < slot_now
        return jnp.where(wrapped, after | before, after & before)

    # The first program begins with the new token, the others with nothing.
    is_first = program == 0
    scale = 1 / math.sqrt(key.shape[0])
    score = jnp.sum(queries.astype(jnp.float32) * key.astype(jnp.float32)[None], axis=1) * scale
    new_value = jnp.where(is_first, value.astype(jnp.float32)[None], jnp.zeros(queries.shape))
    new_max = jnp.where(is_first, score, MASKED)
    new_sum = jnp.where(is_first, jnp.ones(query.shape), 0.0)
    softmax = _Softmax(new_max, new_sum, new_value)
    softmax = _attend_tiles(tiles, queries, k, v, pair, slots, older, softmax)

    line = lines.output(row, head, query)
    if not merges:
        _store_softmax(results, program * lines.queries + line, softmax, valid)
        return
    for number, programs in enumerate(merged_programs):
        refs = partials[3 * number : 3 * number + 3]
        softmax = _merge_partial(refs, programs, lines.queries, line, softmax, valid)
    _store(results[0], line, softmax.value / softmax.sum[:, None], valid)


def _merge_partial(
    refs: Sequence[Any], programs: int, queries: int, line: Array, softmax: _Softmax, valid: Array
) -> _Softmax:
    """`softmax` together with one `PartialSoftmax` of several programs."""
    load = _triton().load

    def step(program: Any, softmax: _Softmax) -> _Softmax:
        program_line = program * queries + line
        other_max = load(refs[0].at[program_line], mask=valid, other=MASKED)
        new_max = jnp.maximum(softmax.max, other_max)
        scale = jnp.exp(softmax.max - new_max)
        other_scale = jnp.exp(other_max - new_max)
        other_sum = load(refs[1].at[program_line], mask=valid, other=0.0)
        other_value = _load(refs[2], program_line, valid)
        return _Softmax(
            new_max,
            softmax.sum * scale + other_sum * other_scale,
            softmax.value * scale[:, None] + other_value * other_scale[:, None],
        )

    return jax.lax.fori_loop(0, programs, step, softmax)


# --- verification ---------------------------------------------------------------------------------


# Cached, because neither the GPU nor its compiler changes within a process, and each trial compiles
# programs.
@functools.cache
def matches_xla(group: int, size: int) -> bool:
    """`verify` for the GPU of this process."""
    return verify(group, size)


def verify(
    group: int,
    size: int,
    step: Callable[..., tuple[Array, tuple[Array, Array]]] = decode_attention,
    *,
    tuning: Tuning = _DEFAULT_TUNING,
    interpret: bool = False,
) -> bool:
    """Whether the kernels run here and agree with XLA's attention; if not, a warning says why.

    Pallas for Triton is being retired from jax and no test covers every GPU, so the kernels are
    tried before use.

    Args:
      group: Q, queries for each key/value head.
      size: E, head size.
      step: what to verify, called as `decode_attention`.
      tuning: see `decode_attention`.
      interpret: see `decode_attention`.
    """
    step = functools.partial(step, tuning=tuning, interpret=interpret)
    # (rows, slots): more queries share a cache than a program holds; a row's own slots are divided
    # among programs.
    cases = (
        (tuning.max_queries // group + 2, 100),
        (4, _MIN_PROGRAMS_TO_MERGE * _TILE_SLOTS),
    )
    try:
        differences = [_difference(step, group, size, rows, slots) for rows, slots in cases]
    # Whatever the error is, decoding goes on without these kernels.
    except Exception as error:
        failure = f"do not run here ({type(error).__name__}: {first_line(error)})"
    else:
        # NaN if any is: it fails the comparison.
        largest = float(np.max(differences))
        if largest <= _TOLERANCE:
            return True
        failure = f"differ from XLA's attention by {largest:.2g}, more than {_TOLERANCE}"
    warnings.warn(
        f"the fused kernels of a decode step {failure}: decoding with XLA, which is slower",
        stacklevel=2,
    )
    return False


def _difference(step: Callable, group: int, size: int, rows: int, slots: int) -> float:
    """The largest difference from `attention`, for rows of different lengths and positions."""
    batch, heads = 2, 1
    # Inputs are made on the host: on the device every operation would be one more program to
    # compile.
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(jnp.bfloat16)

    def random_cache(rows: int, slots: int) -> tuple[Any, Any]:
        return normal(batch, rows, heads, size, slots), normal(batch, rows, heads, slots, size)

    def tail(rows: int, slots: int) -> Block:
        low: Any = rng.integers(0, slots, (batch, rows, 1)).astype(np.int32)
        high: Any = np.full_like(low, slots)
        return Block(*random_cache(rows, slots), low, high)

    low: Any = np.zeros((batch, 1, 1), np.int32)
    high: Any = np.array([[[70]], [[128]]], np.int32)
    prefix = Block(*random_cache(1, 128), low, high)
    context = prefix, (tail(1, 72), tail(rows - 1, 8))
    start: Any = np.resize(np.array([0, 7, 40, 99, 41], np.int32), (batch, rows))
    cursor: Any = np.int32(40)
    new_token = normal(batch, rows, 1, heads, group, size), *random_cache(rows, 1)
    own = random_cache(rows, slots)

    def fused(queries: Array, keys: Array, values: Array, cache: tuple[Array, Array]):
        return step(queries, keys, values, cache, start, cursor, context)

    def plain(queries: Array, keys: Array, values: Array, cache: tuple[Array, Array]):
        cache = write(cache, keys, values, cursor)
        block = Block(*cache, start[..., None], jnp.full((batch, rows, 1), cursor + 1))
        return attention(queries, (*context, block)), cache

    results = jax.device_get((jax.jit(fused)(*new_token, own), jax.jit(plain)(*new_token, own)))
    differences = jax.tree.map(lambda x, y: np.abs(np.float32(x) - np.float32(y)).max(), *results)
    return float(np.max(jax.tree.leaves(differences)))
