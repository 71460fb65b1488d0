"""Decoder-only transformers as pure functions on a parameter pytree: the families differ in options alone.

One `layer` serves two forwards: `hidden`, whole sequences with the stacked layers scanned, for training; and `extend`,
a few new tokens per row against caches with the layers unrolled, for sampling. What is learned and what is sampled
therefore go through the same arithmetic.

Axes beyond the legend of records.py: S new tokens, D hidden size, H key/value heads, Q query heads per key/value head,
E head size, F feed-forward size.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ccpo_jax.devices.sharding import Layout, constrain, constrain_weights
from ccpo_jax.models import decode_attention, fused_attention
from ccpo_jax.models.attention import Block, attention, packed_attention, write
from ccpo_jax.models.rope import Scaling, rotate, rotation
from ccpo_jax.rl.types import Array, Context, Policy

# What the backward pass finds stored of a layer; it computes the rest again.
REMAT = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "attention": jax.checkpoint_policies.save_only_these_names("attended"),
    "dots": jax.checkpoint_policies.save_only_these_names(
        "product"
    ),  # products with weights, not attention scores
    "none": jax.checkpoint_policies.everything_saveable,
}
ATTENTION = ("auto", "fused", "xla")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of one network: static and hashable."""

    model_type: str  # a key of models.FAMILIES
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int  # query heads
    num_kv_heads: int  # key/value heads; each serves num_heads / num_kv_heads query heads
    head_dim: int
    ffn_size: int
    rope_theta: float = 10000.0
    rope_scaling: Scaling = (
        None  # of layers that see everything; those with a window are never stretched
    )
    norm_eps: float = 1e-6
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: bool = False  # RMS norm of every query and key head
    qk_norm_whole: bool = (
        False  # that norm is over all query heads together, and over all key heads
    )
    post_norm: bool = (
        False  # the norms of a layer stand behind attention and feed-forward, not before them
    )
    window: int | None = None  # tokens that a query sees in a sliding layer, its own among them
    sliding: tuple[bool, ...] = ()  # which layers slide; () = none
    tied_embeddings: bool = False  # logits from the embedding table, no "head"
    max_positions: int = 32768  # tokens; recorded, not enforced
    hf_config: str = dataclasses.field(
        default="", compare=False, repr=False
    )  # the config.json this was read from

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_kv_heads: {self.num_kv_heads} does not divide num_heads={self.num_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim: rotary embeddings turn pairs, received the odd size {self.head_dim}"
            )
        if len(self.sliding) not in (0, self.num_layers) or any(self.sliding) != bool(self.window):
            raise ValueError(
                f"sliding: {len(self.sliding)} entries, {sum(self.sliding)} of them true, for "
                f"{self.num_layers} layers and window={self.window}; a window and layers that slide belong together"
            )


def parameter_shapes(config: ModelConfig) -> dict[str, Any]:
    """The parameter pytree as `jax.ShapeDtypeStruct`, float32; layers are stacked on axis 0, kernels are [in, out]."""
    d, f, e = config.hidden_size, config.ffn_size, config.head_dim
    queries, keys = config.num_heads * e, config.num_kv_heads * e
    layer_shapes = {
        "attn_norm": (d,), "q": (d, queries), "k": (d, keys), "v": (d, keys), "o": (queries, d),
        "mlp_norm": (d,), "gate": (d, f), "up": (d, f), "down": (f, d),
    }  # fmt: skip
    if config.qkv_bias:
        layer_shapes |= {"q_bias": (queries,), "k_bias": (keys,), "v_bias": (keys,)}
    if config.o_bias:
        layer_shapes |= {"o_bias": (d,)}
    if config.qk_norm:
        layer_shapes |= {"q_norm": (queries if config.qk_norm_whole else e,)}
        layer_shapes |= {"k_norm": (keys if config.qk_norm_whole else e,)}
    shapes = {
        "embed": (config.vocab_size, d),
        "layers": {name: (config.num_layers, *shape) for name, shape in layer_shapes.items()},
        "final_norm": (d,),
    }
    if not config.tied_embeddings:
        shapes["head"] = (d, config.vocab_size)
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def init_params(config: ModelConfig, key: Array) -> dict[str, Any]:
    """Random float32 parameters: kernels and embeddings normal with deviation 0.02, norms one, biases zero."""
    shapes, tree = jax.tree.flatten_with_path(parameter_shapes(config))

    def draw(path, shape: tuple[int, ...], key: Array) -> Array:
        name = path[-1].key
        if name.endswith("norm"):
            return jnp.ones(shape)
        return jnp.zeros(shape) if name.endswith("bias") else 0.02 * jax.random.normal(key, shape)

    keys = jax.random.split(key, len(shapes))
    return tree.unflatten(
        draw(path, leaf.shape, k) for (path, leaf), k in zip(shapes, keys, strict=True)
    )


# --- the layer -------------------------------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def project(x: Array, w: Array, along: int = 0, dtype=None) -> Array:
    """A product with weights in the dtype of `x`; its gradients' products are in that dtype as well.

    Left to itself, differentiation multiplies the float32 gradient of the logits in float32: a fifth of a training
    step on a GPU, for digits that bfloat16 hidden states do not have. And it asks for the weights' gradient with its
    axes the other way round, for which a CPU copies the gradient of every activation.

    Args:
      x: ``[..., D]``.
      w: weights, cast to the dtype of `x`; their gradient is summed in their own dtype.
      along: the axis of `w` that is D: 0, or 1 of two.
      dtype: of the result; None = that of `x`.

    Returns:
      ``[..., N]``, or all other axes of `w` in place of N.
    """
    return jnp.tensordot(x, w.astype(x.dtype), (-1, along), preferred_element_type=dtype or x.dtype)


def _project_forward(x, w, along, dtype):
    return project(x, w, along, dtype), (x, w)


def _project_backward(along, dtype, kept, gradient):
    x, w = kept
    added = tuple(axis for axis in range(w.ndim) if axis != along)
    gradient = gradient.astype(x.dtype)
    to_x = jnp.tensordot(gradient, w.astype(x.dtype), (tuple(range(1 - w.ndim, 0)), added))
    factors = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, *(w.shape[axis] for axis in added))
    to_w = jnp.tensordot(
        *(factors if along == 0 else factors[::-1]), (0, 0), preferred_element_type=w.dtype
    )
    return to_x, to_w


project.defvjp(_project_forward, _project_backward)


def rms_norm(x: Array, scale: Array, eps: float) -> Array:
    """``x / sqrt(mean(x^2) + eps) * scale`` over the last axis, computed in float32, in the dtype of x."""
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    return (wide * scale).astype(x.dtype)


def norm_projections(qk: Array, scale: Array, eps: float) -> Array:
    """RMS norms of all queries of a token together and of all its keys: ``[..., H, Q + 1, E]``, the keys last."""
    wide = qk.astype(jnp.float32)
    power = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    queries = jnp.mean(power[..., :-1, :], axis=(-3, -2), keepdims=True)
    keys = jnp.mean(power[..., -1:, :], axis=-3, keepdims=True)
    last = (jnp.arange(qk.shape[-2]) == qk.shape[-2] - 1)[:, None]
    return (wide * jax.lax.rsqrt(jnp.where(last, keys, queries) + eps) * scale).astype(qk.dtype)


def fuse(config: ModelConfig, weights: dict[str, Array], dtype) -> dict[str, Array]:
    """One layer's parameters as `layer` wants them: cast, with q, k, v and gate, up joined into one product each.

    Each key/value head keeps its own queries beside it (``qkv [D, H, Q + 2, E]``) and gate lies beside up
    (``gate_up [D, 2, F]``), so that both still split over heads and over F on a mesh.
    """
    w = {name: x.astype(dtype) for name, x in weights.items()}

    def by_head(*names: str) -> Array:
        parts = (w.pop(name) for name in names)
        parts = [x.reshape(*x.shape[:-1], config.num_kv_heads, -1, config.head_dim) for x in parts]
        return jnp.concatenate(parts, axis=-2)

    w["qkv"] = by_head("q", "k", "v")
    if config.qkv_bias:
        w["qkv_bias"] = by_head("q_bias", "k_bias", "v_bias")
    if config.qk_norm_whole:
        w["qk_norm"] = by_head("q_norm", "k_norm")
    elif config.qk_norm:
        query_norms = jnp.tile(w.pop("q_norm"), (config.num_heads // config.num_kv_heads, 1))
        w["qk_norm"] = jnp.concatenate([query_norms, w.pop("k_norm")[None]])
    w["gate_up"] = jnp.stack([w.pop("gate"), w.pop("up")], axis=-2)
    return w


def layer(
    config: ModelConfig, w: dict[str, Array], x: Array, turn: tuple[Array, Array], attend: Callable
):
    """One transformer layer.

    Args:
      config: architecture.
      w: the layer's parameters from `fuse`.
      x: ``[B, R, S, D]``.
      turn: each position's `rotation`.
      attend: (queries [B, R, S, H, Q, E], keys [B, R, H, E, S], values [B, R, H, S, E]) -> (attended, what to pass).

    Returns:
      ``([B, R, S, D], what attend passed on)``.
    """

    def norm(x: Array, name: str, here: bool) -> Array:
        return rms_norm(x, w[name], config.norm_eps) if here else x

    def multiply(x: Array, name: str) -> Array:
        return checkpoint_name(project(x, w[name]), "product")

    before, after = not config.post_norm, config.post_norm
    h = norm(x, "attn_norm", before)
    qkv = multiply(h, "qkv")
    if config.qkv_bias:
        qkv = qkv + w["qkv_bias"]
    qk, v = jnp.split(qkv, [qkv.shape[-2] - 1], axis=-2)
    if config.qk_norm:
        qk = (norm_projections if config.qk_norm_whole else rms_norm)(
            qk, w["qk_norm"], config.norm_eps
        )
    qk = rotate(qk, turn)
    q, k = jnp.split(qk, [qk.shape[-2] - 1], axis=-2)
    k, v = jnp.moveaxis(k.squeeze(-2), 2, -1), jnp.swapaxes(v.squeeze(-2), 2, 3)
    attended, passed = attend(q, k, v)
    out = multiply(attended.reshape(*x.shape[:-1], -1), "o")
    if config.o_bias:
        out = out + w["o_bias"]
    x = x + norm(out, "attn_norm", after)
    h = norm(x, "mlp_norm", before)
    gate_up = multiply(h, "gate_up")
    gate, up = jnp.split(
        gate_up, 2, axis=-2
    )  # whose gradients are joined; those of slices would be padded and added
    out = multiply((jax.nn.silu(gate) * up).squeeze(-2), "down")
    return x + norm(out, "mlp_norm", after), passed


# --- the policy ------------------------------------------------------------------------------------------------------


def make_policy(
    config: ModelConfig,
    *,
    compute_dtype=jnp.float32,
    remat: str = "full",
    attention: str = "auto",
    layout: Layout | None = None,
) -> Policy:
    """The network's functions for sampler and trainer.

    Equal arguments give the same `Policy` object, so that programs compiled with it as a static argument are reused.

    Args:
      config: architecture.
      compute_dtype: of activations, caches and published weights; norms, rotations and softmax are float32 anyway.
      remat: a key of REMAT: "full" recomputes each layer in the backward pass, "attention" all but what it attended to,
        "dots" all but its products with weights, "none" nothing.
      attention: one of ATTENTION: "fused" are the accelerator's own kernels, "xla" runs anywhere, "auto" is fused
        wherever that runs.
      layout: how a mesh splits parameters, decode weights, caches and rows; None = as the compiler likes.

    Returns:
      `Policy`; the functions below document its fields.

    Raises:
      ValueError: for another `remat` or `attention`, or fused kernels where there are none.
    """
    for field, value, known in (("remat", remat, REMAT), ("attention", attention, ATTENTION)):
        if value not in known:
            raise ValueError(
                f"{field}: received {value!r}; use one of {', '.join(map(repr, known))}"
            )
    dtype = jnp.dtype(compute_dtype)
    kernel = fused_attention.available(dtype) if attention != "xla" else None
    if attention == "fused" and kernel is None:
        raise ValueError(
            f"attention: 'fused' needs one NVIDIA GPU or TPU and bfloat16, received {jax.device_count()} devices of "
            f"{jax.default_backend()!r} and {dtype.name}; use 'auto'"
        )
    stepping = kernel == "gpu" and decode_attention.suits(config.head_dim)
    stepping = stepping and decode_attention.proven(
        config.num_heads // config.num_kv_heads, config.head_dim
    )
    return policy_with(config, dtype, remat, kernel, stepping, layout)


@functools.lru_cache
def policy_with(
    config: ModelConfig,
    dtype,
    remat: str,
    kernel: str | None,
    stepping: bool,
    layout: Layout | None,
) -> Policy:
    """`make_policy` where it is known what runs: whose fused `kernel`, see `attention`, and whether `decode_step`."""
    return Policy(
        publish=functools.partial(publish, config, dtype, layout),
        init_cache=functools.partial(init_cache, config, dtype, layout),
        extend=functools.partial(extend, config, kernel, stepping, layout),
        hidden=functools.partial(hidden, config, dtype, remat, kernel, layout),
        logits=logits,
        head=head,
        gather=functools.partial(gather, layout),
        # What a window leaves of a cache is read without the kernel that stops at the slots in use.
        reads_free_slots=not stepping or bool(config.window),
    )


def publish(
    config: ModelConfig, dtype, layout: Layout | None, params: dict[str, Any]
) -> dict[str, Any]:
    """The decode layout: layers unstacked into a tuple and fused, everything cast to `dtype`, split as for decoding."""
    layers = (
        {name: x[i] for name, x in params["layers"].items()} for i in range(config.num_layers)
    )
    weights = {name: x.astype(dtype) for name, x in params.items() if name != "layers"}
    return constrain_weights(
        layout, "decode", weights | {"layers": tuple(fuse(config, w, dtype) for w in layers)}
    )


def gather(layout: Layout | None, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with those whole along `hidden` that a pass reads again and again: all but the layers."""
    return params | constrain_weights(
        layout, "compute", {k: x for k, x in params.items() if k != "layers"}
    )


def init_cache(
    config: ModelConfig, dtype, layout: Layout | None, batch: int, rows: int, slots: int
) -> tuple[tuple[Array, Array], ...]:
    """An empty cache: (keys ``[B, R, H, E, slots]``, values ``[B, R, H, slots, E]``) for every layer.

    So lies each as the matrix product of a decode step reads it; on CPUs keys the other way take three times as long.
    """
    lead = (batch, rows, config.num_kv_heads)
    keys, values = (*lead, config.head_dim, slots), (*lead, slots, config.head_dim)

    def empty(shape: tuple[int, ...]) -> Array:
        return constrain(
            layout, "decode", jnp.zeros(shape, dtype), "batch", None, "heads", None, None
        )

    return tuple((empty(keys), empty(values)) for _ in range(config.num_layers))


def extend(
    config: ModelConfig,
    kernel: str | None,
    stepping: bool,
    layout: Layout | None,
    weights: dict[str, Any],
    tokens: Array,
    positions: Array,
    cache: tuple,
    cursor: Array,
    start: Array,
    context: Context | None = None,
) -> tuple[Array, tuple]:
    """Appends S tokens to every row and returns what predicts the token after each.

    Args:
      config: architecture.
      kernel: see `attention`.
      stepping: whether one new token per row goes through `decode_step`.
      layout: see `make_policy`.
      weights: from `publish`.
      tokens: ``[B, R, S]`` int32.
      positions: ``[B, R, S]`` int32, for the rotary embedding.
      cache: from `init_cache`; the new keys and values go to slots cursor .. cursor + S - 1.
      cursor: ``[]`` int32, the same for all rows, so that a write is a slice.
      start: ``[B, R]`` int32, first slot that the row may see: what lies before it is left padding. Where it lies after
        the cursor, the row has gone around the end of its cache.
      context: what the rows see besides.

    Returns:
      ``(hidden [B, R, S, D] after the final norm, cache)``. Hidden states of padded slots mean nothing, but are finite.
    """
    high = jnp.broadcast_to(cursor + 1 + jnp.arange(tokens.shape[-1]), tokens.shape)
    x = constrain(layout, "decode", weights["embed"][tokens], "batch", None, None, None)
    turns = _once(cursor >= 0, functools.partial(_rotations, config), positions)
    reach = _within_reach(config, jnp.asarray(positions), cursor, cache, context)
    one_token = stepping and tokens.shape[-1] == 1
    extended = []
    for index, w in enumerate(weights["layers"]):
        slides = bool(config.sliding) and config.sliding[index]
        near = reach if slides and reach is not None else _Near()
        blocks = _context_blocks(context, index, near)
        how = (config, kernel, one_token and near.own is None)
        x, kept = _extend_layer(
            *how, w, x, turns[slides], cache[index], cursor, start, high, blocks, near.own
        )
        extended.append(kept)
    return rms_norm(x, weights["final_norm"], config.norm_eps), tuple(extended)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _extend_layer(
    config: ModelConfig,
    kernel: str | None,
    one_token: bool,
    w,
    x,
    turn,
    cache,
    cursor,
    start,
    high,
    blocks,
    near,
):
    """One layer of `extend`: jitted, so that layers of like shapes are traced once for all of them."""

    def attend(q, k, v):
        if one_token:
            return decode_attention.decode_step(q, k, v, cache, start, cursor, blocks)
        kept = write(cache, k, v, cursor)
        return attention(q, (*blocks, Block(*kept, start[..., None], high, near)), kernel), kept

    return layer(config, w, x, turn, attend)


def _rotations(config: ModelConfig, positions: Array) -> tuple[tuple[Array, Array], ...]:
    """The rotation of layers that see everything, then that of sliding ones if there are any."""
    scalings = (config.rope_scaling, None) if config.window else (config.rope_scaling,)
    return tuple(
        rotation(positions, config.head_dim, config.rope_theta, scaling) for scaling in scalings
    )


class _Near(NamedTuple):
    """What a sliding window leaves of each block, as `Block.near`."""

    prefix: Array | None = None
    tails: tuple = ()
    own: Array | None = None


def _within_reach(
    config: ModelConfig, positions: Array, cursor: Array, cache: tuple, context: Context | None
) -> _Near | None:
    """The masks that all sliding layers share; None where even the first token is within the last one's window."""

    def slots(cache: tuple) -> int:
        return cache[0][1].shape[3]

    held, own = () if context is None else (context.prefix, *context.tails), slots(cache)
    if (
        not config.window
        or sum(map(slots, held[:1])) + max(map(slots, held[1:]), default=0) + own <= config.window
    ):
        return None
    age = (
        cursor + jnp.arange(positions.shape[-1])[:, None] - jnp.arange(own)
    ) % own  # a row may go around the end
    mine = jnp.broadcast_to(age < config.window, (*positions.shape, own))
    if context is None:
        return _Near(own=mine)
    first = positions[..., None] - config.window  # the last token that is out of reach
    tails, row = [], 0
    for tail, start in zip(context.tails, context.tail_starts, strict=True):
        at = context.prefix_length[:, None, None] + jnp.arange(slots(tail)) - start[..., None]
        tails.append(at[:, :, None] > first[:, row : row + start.shape[1]])
        row += start.shape[1]
    return _Near(jnp.arange(slots(context.prefix)) > first, tuple(tails), mine)


def _once(true: Array, f: Callable, x: Array):
    """``f(x)`` behind a branch that is always taken: without it XLA computes `f` again inside every layer's fusions."""
    return jax.lax.cond(true, f, lambda x: jax.tree.map(jnp.zeros_like, jax.eval_shape(f, x)), x)


def _context_blocks(context: Context | None, index: int, near: _Near) -> tuple:
    """What layer `index` sees besides: the prefix for all rows of a prompt, then each row's tail."""
    if context is None:
        return ()
    end = context.prefix_length[:, None, None]
    prefix = Block(*context.prefix[index], jnp.zeros_like(end), end, near.prefix)
    if not context.tails:
        return (prefix,)

    def tail_block(tail, start, near: Array | None) -> Block:
        low = start[..., None]
        return Block(*tail[index], low, jnp.full_like(low, tail[index][1].shape[3]), near)

    masks = near.tails or (None,) * len(context.tails)
    return prefix, tuple(map(tail_block, context.tails, context.tail_starts, masks))


def hidden(
    config: ModelConfig,
    dtype,
    remat: str,
    kernel: str | None,
    layout: Layout | None,
    params: dict[str, Any],
    tokens: Array,
    positions: Array,
    segments: Array,
    parents: Array,
) -> Array:
    """Hidden states of packed sequences, for training: causal, and within a segment and its parent only.

    Args:
      config: architecture.
      dtype: of activations.
      remat: see `make_policy`.
      kernel: see `attention`.
      layout: see `make_policy`; a layer's parameters are gathered while it needs them.
      params: master parameters, layers stacked.
      tokens: ``[N, S]`` int32.
      positions: ``[N, S]`` int32, at least 0.
      segments: ``[N, S]`` int32, equal numbers see each other; 0 = padding.
      parents: ``[N, S]`` int32, a segment that is seen as well: branches of one prompt share it as their parent.

    Returns:
      ``[N, S, D]`` after the final norm.
    """
    turns = _once(positions[0, 0] >= 0, functools.partial(_rotations, config), positions[:, None])
    windows = (
        bool(config.window) and tokens.shape[1] > config.window
    )  # else every window holds the whole row

    def step(x, given):
        weights, slides = given

        def attend(q, k, v):
            reach = (positions, jnp.where(slides, config.window, 2**30)) if windows else None
            attended = packed_attention(q, k, v, segments, parents, kernel, reach)
            return checkpoint_name(attended, "attended"), None

        turn = turns[0]
        if slides is not None:
            turn = jax.tree.map(functools.partial(jnp.where, slides), turns[1], turns[0])
        cast = {name: w.astype(dtype) for name, w in weights.items()}  # first: less to gather
        fused = fuse(config, constrain_weights(layout, "compute", cast), dtype)
        x, _ = layer(config, fused, x, turn, attend)
        return constrain(layout, "train", x, "batch", None, None, None), None

    if remat != "none":
        step = jax.checkpoint(step, prevent_cse=False, policy=REMAT[remat])
    x = constrain(
        layout, "train", params["embed"][tokens].astype(dtype)[:, None], "batch", None, None, None
    )
    # Where all is stored the layers are unrolled: a scan would copy everything that each of them stores.
    given = (params["layers"], jnp.array(config.sliding) if config.window else None)
    x, _ = jax.lax.scan(step, x, given, unroll=config.num_layers if remat == "none" else 1)
    return rms_norm(x[:, 0], params["final_norm"].astype(dtype), config.norm_eps)


def head(params: dict[str, Any]) -> dict[str, Array]:
    """The parameters that `logits` reads: the unembedding's table, or the embedding's where they are one."""
    name = "head" if "head" in params else "embed"
    return {name: params[name]}


def logits(params: dict[str, Any], hidden: Array) -> Array:
    """``[..., V]`` float32 for hidden states ``[..., D]``; `params` are master parameters or published weights."""
    if "head" in params:
        return project(hidden, params["head"], 0, jnp.float32)
    return project(hidden, params["embed"], 1, jnp.float32)
