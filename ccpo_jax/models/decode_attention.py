"""One new token of every row on a GPU: its key and value enter the cache, and it attends to all that it sees.

No library serves a few queries against caches of which some slots are in use; these kernels are written in Pallas for
Triton, and `interpret` runs them on any machine. A decode step is a chain of short kernels, so there are few: one for
each cache that rows only read gives a part of a softmax, and the last one, which writes the new token and attends to
the row's own ones, merges them.
"""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from ccpo_jax.integers import ceil_div, next_power_of_two
from ccpo_jax.models.attention import MASKED, Block, attention, write
from ccpo_jax.rl.types import Array

_SLOTS = 64  # cache slots that a program reads at a time
_QUERIES = 64  # queries at most that a program holds: more of them need more memory than a multiprocessor shares
_PROGRAMS = 132  # programs that fill a large GPU: one for each multiprocessor
_WORTHWHILE = (
    4  # programs sharing a row's own tokens that pay for the kernels which merge what they found
)
_BEARABLE = 0.03  # of numbers near 1 in bfloat16, whose steps there are 0.004 to 0.008


class Part(NamedTuple):
    """What queries make of some of their keys: a softmax not yet divided. P programs each saw a share of the keys."""

    top: Array  # [P * N] float32, the largest score of each of N queries
    total: Array  # [P * N] float32, sum of the exponentials under it
    value: Array  # [P * N, E] float32, values weighted with them


class _Rows(NamedTuple):
    """How vectors lie that belong to rows: B prompts, R rows each, H key/value heads, Q queries for each. Static."""

    batch: int
    rows: int
    heads: int
    group: int

    @property
    def queries(self) -> int:
        """N, of all rows together."""
        return self.batch * self.rows * self.heads * self.group

    def said(self, row, head, which):
        """Line of a query, of the key (which = Q) or of the value (which = Q + 1) of a row's new token."""
        return (row * self.heads + head) * (self.group + 2) + which

    def attended(self, row, head, query):
        """Line of what a query attended to."""
        return (row * self.heads + head) * self.group + query


def suits(size: int) -> bool:
    """Whether `decode_step` serves heads of such a size: powers of two."""
    return size >= 16 and size & (size - 1) == 0


def decode_step(
    queries: Array,
    keys: Array,
    values: Array,
    cache: tuple[Array, Array],
    start: Array,
    cursor: Array,
    context: Sequence[Block | tuple[Block, ...]],
    *,
    interpret: bool = False,
) -> tuple[Array, tuple[Array, Array]]:
    """What `attention` gives once the new keys and values are in the cache; and that cache, updated in place.

    Args:
      queries: ``[B, R, 1, H, Q, E]``.
      keys: ``[B, R, H, E, 1]``, of the new token.
      values: ``[B, R, H, 1, E]``, of the new token.
      cache: keys ``[B, R, H, E, C]`` and values ``[B, R, H, C, E]``.
      start: ``[B, R]`` int32, first visible slot; where it lies after `cursor`, the row has gone around the end.
      cursor: ``[]`` int32, the new token's slot.
      context: what the rows see besides, as in `attention`; without windows.
      interpret: run on any machine, for tests.

    Returns:
      ``([B, R, 1, H, Q, E] in the dtype of queries, cache)``.
    """
    layout = _Rows(*queries.shape[:2], *queries.shape[3:5])
    said = jnp.concatenate([queries[:, :, 0], jnp.swapaxes(keys, -1, -2), values], axis=-2)
    said = said.reshape(-1, queries.shape[-1])
    call = functools.partial(
        _call, stages=3 if queries.shape[-1] <= 128 else 2, interpret=interpret
    )
    seen = []
    for block in context:
        part, first = None, 0
        for piece in (block,) if isinstance(block, Block) else block:
            served = layout.rows if isinstance(block, Block) else piece.keys.shape[1]
            part = _see(call, layout, said, piece, range(first, first + served), part)
            first += served
        seen.append(part)
    out, cache = _see_own(call, layout, said, cache, start, cursor, seen)
    return out.reshape(queries.shape), cache


def _call(
    kernel: Callable,
    programs: tuple[int, int],
    results,
    arguments,
    aliases,
    *,
    stages: int,
    interpret: bool,
):
    call = pl.pallas_call(
        kernel,
        grid=programs,
        out_shape=results,
        input_output_aliases=aliases,
        interpret=interpret,
        compiler_params=None
        if interpret
        else _triton().CompilerParams(num_warps=4, num_stages=stages),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The Pallas Triton backend is deprecated")
        return call(*arguments)


def _triton():
    from jax.experimental.pallas import triton

    return triton


# --- caches that rows only read --------------------------------------------------------------------------------------


def _see(call, layout: _Rows, said: Array, block: Block, rows: range, others: Part | None) -> Part:
    """What some rows of every prompt make of a cache; lines of other rows stay as they are in `others`.

    A program reads the slots in use once, for as many queries that share them as it can hold; where that leaves
    multiprocessors idle, the slots are shared out among several programs, unless other rows see another cache.
    """
    _, owners, heads, size, slots = block.keys.shape
    count = layout.batch * owners * heads
    holders = -(
        -(len(rows) // owners * layout.group) // _QUERIES
    )  # programs that hold the queries of one cache
    everyone = len(rows) == layout.rows
    programs = (
        max(min(ceil_div(slots, _SLOTS), _PROGRAMS // (count * holders)), 1) if everyone else 1
    )
    kernel = functools.partial(
        _see_kernel, layout=layout, owners=owners, holders=holders, rows=rows, slots=slots
    )
    arguments = (
        jnp.broadcast_to(block.low, (layout.batch, owners, 1)).reshape(-1),
        jnp.broadcast_to(block.high, (layout.batch, owners, 1)).reshape(-1),
        said,
        block.keys.reshape(count, size, slots),
        block.values.reshape(count, slots, size),
    )
    kept = (
        {}
        if others is None
        else {len(arguments) + field: field for field in range(len(Part._fields))}
    )
    grid, results = (count * holders, programs), _part(layout, programs, size)
    return Part(*call(kernel, grid, results, (*arguments, *(others or ())), kept))


def _part(layout: _Rows, programs: int, size: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes of a `Part`."""
    flat = jax.ShapeDtypeStruct((programs * layout.queries,), jnp.float32)
    return flat, flat, jax.ShapeDtypeStruct((programs * layout.queries, size), jnp.float32)


def _see_kernel(
    low, high, said, k, v, *rest, layout: _Rows, owners: int, holders: int, rows: range, slots: int
):
    """Queries that share a cache and one of its heads, against this program's share of the slots in use."""
    here, holder, program = (
        pl.program_id(0) // holders,
        pl.program_id(0) % holders,
        pl.program_id(1),
    )
    owner, head = here // layout.heads, here % layout.heads
    shared = len(rows) // owners
    number = holder * _QUERIES + jnp.arange(_tile(min(shared * layout.group, _QUERIES)))
    row = (
        owner // owners * layout.rows
        + rows.start
        + owner % owners * shared
        + number // layout.group
    )
    query, asked = number % layout.group, number < shared * layout.group
    queries = _load(said, layout.said(row, head, query), asked)
    begin, end = low[owner], high[owner]
    tiles = _share(begin // _SLOTS, pl.cdiv(end, _SLOTS))
    nothing = jnp.full(number.shape, MASKED), jnp.zeros(number.shape), jnp.zeros(queries.shape)
    found = _over(
        tiles, queries, k, v, here, slots, lambda slot: (begin <= slot) & (slot < end), nothing
    )
    _store_part(
        rest[-3:], program * layout.queries + layout.attended(row, head, query), found, asked
    )


def _load(vectors, line, asked) -> Array:
    """The vectors ``[n, E]`` of lines ``[n]``; 0 where nothing is `asked`."""
    return _triton().load(
        vectors.at[_places(vectors, line)], mask=_beside(asked, vectors), other=0.0
    )


def _store(vectors, line, x, asked) -> None:
    _triton().store(
        vectors.at[_places(vectors, line)], x.astype(vectors.dtype), mask=_beside(asked, vectors)
    )


def _places(vectors, line) -> tuple[Array, Array]:
    shape = (len(line), vectors.shape[1])
    return jnp.broadcast_to(line[:, None], shape), jnp.broadcast_to(
        jnp.arange(shape[1])[None], shape
    )


def _beside(asked, vectors) -> Array:
    return jnp.broadcast_to(asked[:, None], (len(asked), vectors.shape[1]))


def _store_part(refs, line, found, asked) -> None:
    for ref, x in zip(refs[:2], found[:2], strict=True):
        _triton().store(ref.at[line], x, mask=asked)
    _store(refs[2], line, found[2], asked)


def _tile(queries: int) -> int:
    """Rounded up: products need whole tiles."""
    return max(16, next_power_of_two(queries))


def _share(first, last):
    """The tiles of `first` up to `last` that are this program's."""
    program, share = pl.program_id(1), pl.cdiv(last - first, pl.num_programs(1))
    return first + share * program, jnp.minimum(first + share * (program + 1), last)


def _over(tiles, queries, k, v, here, slots: int, visible: Callable, carried):
    """Online softmax: (maximum, sum, weighted values) so far, and after tiles of one cache and head."""
    load = _triton().load

    def step(tile, carried):
        top, total, value = carried
        at = pl.ds(tile * _SLOTS, _SLOTS)
        slot = tile * _SLOTS + jnp.arange(_SLOTS)
        seen = visible(slot)
        if slots % _SLOTS == 0:
            keys, values = load(k.at[here, :, at]), load(v.at[here, at, :])
        else:  # a mask, even one that hides nothing, slows a load by half
            inside = slot < slots
            seen &= inside
            keys = load(k.at[here, :, at], mask=inside[None], other=0.0)
            values = load(v.at[here, at, :], mask=inside[:, None], other=0.0)
        scores = jnp.dot(queries, keys, preferred_element_type=jnp.float32) * (
            1 / math.sqrt(queries.shape[-1])
        )
        scores = jnp.where(seen[None], scores, MASKED)
        new = jnp.maximum(top, jnp.max(scores, axis=1))
        weights = jnp.where(seen[None], jnp.exp(scores - new[:, None]), 0.0)
        fade = jnp.exp(top - new)
        more = jnp.dot(weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
        return new, total * fade + jnp.sum(weights, axis=1), value * fade[:, None] + more

    return jax.lax.fori_loop(*tiles, step, carried)


# --- the rows' own tokens --------------------------------------------------------------------------------------------


def _see_own(
    call, layout: _Rows, said: Array, cache, start: Array, cursor: Array, seen: list[Part]
):
    """Writes the new tokens; what the rows attend to with all that they have `seen` ``[N, E]``, and the cache."""
    keys, values = cache
    size, slots = keys.shape[-2:]
    count = layout.batch * layout.rows * layout.heads
    programs = min(ceil_div(slots, _SLOTS), _PROGRAMS // count)
    alone = programs < _WORTHWHILE
    if alone:
        programs, merged, results = (
            1,
            seen,
            (jax.ShapeDtypeStruct((layout.queries, size), said.dtype),),
        )
    else:
        merged, results = [], _part(layout, programs, size)
    flat = keys.reshape(count, size, slots), values.reshape(count, slots, size)
    arguments = (start.reshape(-1), jnp.asarray(cursor, jnp.int32).reshape(1), said, *flat)
    kernel = functools.partial(
        _own_kernel,
        layout=layout,
        slots=slots,
        before=tuple(len(p.top) // layout.queries for p in merged),
        alone=alone,
    )
    *found, keys_out, values_out = call(
        kernel,
        (count, programs),
        (*results, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in flat)),
        (*arguments, *(x for part in merged for x in part)),
        {len(arguments) - 2: len(results), len(arguments) - 1: len(results) + 1},
    )
    out = found[0] if alone else _merge([*seen, Part(*found)], layout.queries).astype(said.dtype)
    return out, (keys_out.reshape(keys.shape), values_out.reshape(values.shape))


def _merge(parts: list[Part], queries: int) -> Array:
    """The softmax over all keys, ``[N, E]``."""
    top, total, value = (
        jnp.concatenate([x.reshape(-1, queries, *x.shape[1:]) for x in field])
        for field in zip(*parts, strict=True)
    )
    share = jnp.exp(top - jnp.max(top, axis=0))
    return jnp.sum(share[..., None] * value, axis=0) / jnp.sum(share * total, axis=0)[:, None]


def _own_kernel(
    start,
    cursor,
    said,
    k,
    v,
    *rest,
    layout: _Rows,
    slots: int,
    before: tuple[int, ...],
    alone: bool,
):
    """One row's queries of one key/value head, against the new token and this program's share of the older ones.

    Args:
      start, cursor, said, k, v: as in `_see_own`.
      rest: three arrays for each entry of `before`, then the results: of all that was seen if `alone`, else a `Part`;
        and the cache.
      before: programs behind each `Part` that is merged.
    """
    load, store = _triton().load, _triton().store
    earlier, results, (keys_out, values_out) = (
        rest[: 3 * len(before)],
        rest[3 * len(before) : -2],
        rest[-2:],
    )
    here, program = pl.program_id(0), pl.program_id(1)
    row, head = here // layout.heads, here % layout.heads
    query = jnp.arange(_tile(layout.group))
    asked = query < layout.group
    queries = _load(said, layout.said(row, head, query), asked)
    key, value = (
        load(said.at[layout.said(row, head, layout.group + which), :]) for which in range(2)
    )
    at = cursor[0]
    store(keys_out.at[here, :, at], key)  # by every program: they write the same, and none reads it
    store(values_out.at[here, at, :], value)
    first = start[row]
    around = first > at
    last = pl.cdiv(jnp.where(around, slots, at), _SLOTS)
    tiles = _share(jnp.minimum(jnp.where(around, 0, first // _SLOTS), last), last)

    def older(slot):
        return jnp.where(around, (first <= slot) | (slot < at), (first <= slot) & (slot < at))

    mine = program == 0  # the new token is the first program's
    wide = queries.astype(jnp.float32)
    score = jnp.sum(wide * key.astype(jnp.float32)[None], axis=1) * (1 / math.sqrt(key.shape[0]))
    new = jnp.where(mine, value.astype(jnp.float32)[None], jnp.zeros(queries.shape))
    carried = jnp.where(mine, score, MASKED), jnp.where(mine, jnp.ones(query.shape), 0.0), new
    found = _over(tiles, queries, k, v, here, slots, older, carried)
    line = layout.attended(row, head, query)
    if not alone:
        _store_part(results, program * layout.queries + line, found, asked)
        return
    for number, programs in enumerate(before):
        found = _with_part(
            earlier[3 * number : 3 * number + 3], programs, layout.queries, line, found, asked
        )
    _, total, summed = found
    _store(results[0], line, summed / total[:, None], asked)


def _with_part(refs, programs: int, queries: int, line, found, asked):
    """`found` with what was seen by the programs behind one `Part`."""
    load = _triton().load

    def step(program, found):
        at = program * queries + line
        top, total, value = found
        other = load(refs[0].at[at], mask=asked, other=MASKED)
        new = jnp.maximum(top, other)
        mine, theirs = jnp.exp(top - new), jnp.exp(other - new)
        total = total * mine + load(refs[1].at[at], mask=asked, other=0.0) * theirs
        return new, total, value * mine[:, None] + _load(refs[2], at, asked) * theirs[:, None]

    return jax.lax.fori_loop(0, programs, step, found)


# --- trust -----------------------------------------------------------------------------------------------------------


@functools.cache
def proven(group: int, size: int, *, interpret: bool = False) -> bool:
    """Whether these kernels run here and agree with XLA's attention; if not, a warning says why. Tried once a process.

    Pallas for Triton is on its way out of jax and GPUs are many, so that nobody has to trust them unseen.

    Args:
      group: Q, queries for each key/value head.
      size: E, head size.
      interpret: see `decode_step`.
    """
    try:
        # More queries share a cache than a program holds; then a row's own slots are shared out among programs.
        cases = ((_QUERIES // group + 2, 100), (4, _WORTHWHILE * _SLOTS))
        gap = float(np.max([_gap(group, size, rows, slots, interpret) for rows, slots in cases]))
    except Exception as error:  # whatever it is, decoding goes on without these kernels
        why = f"do not run here ({type(error).__name__}: {' '.join(str(error).split()):.200})"
    else:
        if gap <= _BEARABLE:
            return True
        why = f"differ from XLA's attention by {gap:.2g}, bearable is {_BEARABLE}"
    warnings.warn(
        f"the fused kernels of a decode step {why}: decoding with XLA, which is slower",
        stacklevel=2,
    )
    return False


def _gap(group: int, size: int, rows: int, slots: int, interpret: bool) -> float:
    """The largest difference from `attention` over random caches of rows that differ in all they may differ in."""
    batch, heads = 2, 1
    rng = np.random.default_rng(
        0
    )  # on the host, as all that follows: every operation would be a program to compile

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(jnp.bfloat16)

    def cache(rows: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
        return normal(batch, rows, heads, size, slots), normal(batch, rows, heads, slots, size)

    def tail(rows: int, slots: int) -> Block:
        first = rng.integers(0, slots, (batch, rows, 1)).astype(np.int32)
        return Block(*cache(rows, slots), first, np.full_like(first, slots))

    context = Block(
        *cache(1, 128), np.zeros((batch, 1, 1), np.int32), np.array([[[70]], [[128]]], np.int32)
    )
    context = context, (tail(1, 72), tail(rows - 1, 8))
    start, cursor = np.resize(np.array([0, 7, 40, 99, 41], np.int32), (batch, rows)), np.int32(40)
    new = normal(batch, rows, 1, heads, group, size), *cache(rows, 1)
    own = cache(rows, slots)

    def plainly(queries, k, v, own):
        own = write(own, k, v, cursor)
        mine = Block(*own, start[..., None], jnp.full((batch, rows, 1), cursor + 1))
        return attention(queries, (*context, mine)), own

    stepped = jax.jit(
        lambda *given: decode_step(*given, start, cursor, context, interpret=interpret)
    )
    found, meant = stepped(*new, own), jax.jit(plainly)(*new, own)
    gaps = jax.tree.map(
        lambda x, y: np.abs(np.float32(x) - np.float32(y)).max(), *jax.device_get((found, meant))
    )
    return float(np.max(jax.tree.leaves(gaps)))
