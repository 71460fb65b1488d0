"""Decoder-only transformers as pure functions on a parameter pytree.

The families differ in options alone.

One `layer` serves two forward passes: `hidden`, whole sequences with the stacked layers scanned,
for training; and `extend`, a few new tokens per row against caches with the layers unrolled, for
sampling. Sampling and training therefore share their arithmetic.

Axes beyond the legend of `ccpo_jax.rl.types`: S new tokens, D hidden size, H key/value heads, Q
query heads per key/value head, E head size, F feed-forward size.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from ccpo_jax.devices.sharding import Layout, constrain, constrain_weights
from ccpo_jax.errors import InputError
from ccpo_jax.models import decode_attention, fused_attention, lora
from ccpo_jax.models.attention import (
    QUERY_BLOCK,
    Block,
    RowBlocks,
    Window,
    attention,
    packed_attention,
    write,
)
from ccpo_jax.models.rope import RopeScaling, apply_rope, cos_sin
from ccpo_jax.rl.types import Adapters, Array, Context, Policy

# What a layer stores for the backward pass, which computes the rest again. "dots" stores products
# with weights, not attention scores.
REMAT = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "attention": jax.checkpoint_policies.save_only_these_names("attended"),
    "dots": jax.checkpoint_policies.save_only_these_names("product"),
    "none": jax.checkpoint_policies.everything_saveable,
}
ATTENTION = ("auto", "fused", "xla")

# Logit of a row beyond the tokenizer: its probability is 0. Finite, because the entropy multiplies
# it by that 0.
_NEVER = -1e15

Params = dict[str, Any]
KVCache = tuple[tuple[Array, Array], ...]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of one network: static and hashable."""

    # A key of models.FAMILIES.
    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    # Query heads.
    num_heads: int
    # Key/value heads; each serves num_heads / num_kv_heads query heads.
    num_kv_heads: int
    head_dim: int
    ffn_size: int
    rope_theta: float = 10000.0
    # Of layers that see everything; layers with a sliding window are never scaled.
    rope_scaling: RopeScaling = None
    norm_eps: float = 1e-6
    qkv_bias: bool = False
    o_bias: bool = False
    # RMS norm of every query and key head.
    qk_norm: bool = False
    # That norm is over all query heads together, and over all key heads.
    qk_norm_whole: bool = False
    # The norms of a layer stand behind attention and feed-forward, not before them.
    post_norm: bool = False
    # Tokens that a query sees in a sliding layer, its own among them; None = no layer slides.
    window: int | None = None
    # Which layers slide; () = none.
    sliding: tuple[bool, ...] = ()
    # Logits come from the embedding table; there is no "head".
    tied_embeddings: bool = False
    # Tokens; recorded, not enforced.
    max_positions: int = 32768
    # The config.json that this was read from.
    hf_config: str = dataclasses.field(default="", compare=False, repr=False)

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                "num_kv_heads", f"{self.num_kv_heads} does not divide num_heads={self.num_heads}"
            )
        if self.head_dim % 2:
            raise InputError(
                "head_dim", f"rotary embeddings rotate pairs, received the odd size {self.head_dim}"
            )
        if len(self.sliding) not in (0, self.num_layers) or any(self.sliding) != bool(self.window):
            raise InputError(
                "sliding",
                f"{len(self.sliding)} entries, {sum(self.sliding)} of them true, for "
                f"{self.num_layers} layers and window={self.window}; a window needs sliding "
                "layers, and sliding layers need a window",
            )


def parameter_shapes(config: ModelConfig) -> Params:
    """The parameter pytree as `jax.ShapeDtypeStruct`, float32.

    Layers are stacked on axis 0; kernels are [in, out].
    """
    d, f, e = config.hidden_size, config.ffn_size, config.head_dim
    queries = config.num_heads * e
    keys = config.num_kv_heads * e
    layer_shapes = {
        "attn_norm": (d,),
        "q": (d, queries),
        "k": (d, keys),
        "v": (d, keys),
        "o": (queries, d),
        "mlp_norm": (d,),
        "gate": (d, f),
        "up": (d, f),
        "down": (f, d),
    }
    if config.qkv_bias:
        layer_shapes |= {"q_bias": (queries,), "k_bias": (keys,), "v_bias": (keys,)}
    if config.o_bias:
        layer_shapes |= {"o_bias": (d,)}
    if config.qk_norm:
        layer_shapes |= {"q_norm": (queries if config.qk_norm_whole else e,)}
        layer_shapes |= {"k_norm": (keys if config.qk_norm_whole else e,)}

    shapes: Params = {
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


def init_params(config: ModelConfig, key: Array) -> Params:
    """Random float32 parameters.

    Kernels and embeddings are normal with deviation 0.02, norms one, biases zero.
    """
    shapes, tree = jax.tree.flatten_with_path(parameter_shapes(config))

    def init(path: tuple, shape: tuple[int, ...], key: Array) -> Array:
        name = path[-1].key
        if name.endswith("norm"):
            return jnp.ones(shape)
        if name.endswith("bias"):
            return jnp.zeros(shape)
        return 0.02 * jax.random.normal(key, shape)

    keys = jax.random.split(key, len(shapes))
    return tree.unflatten(
        init(path, leaf.shape, k) for (path, leaf), k in zip(shapes, keys, strict=True)
    )


# --- the layer ------------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def project(x: Array, w: Array, axis: int = 0, dtype: Any = None) -> Array:
    """A product with weights in the dtype of `x`; its gradients are computed in that dtype too.

    Plain differentiation multiplies the float32 gradient of the logits in float32: a fifth of a
      training step on a GPU,
    for precision that bfloat16 activations cannot use. It also computes the gradient of the weights
    with its axes transposed, for which a CPU copies the gradient of every activation.

    Args:
      x: ``[..., D]``.
      w: weights, cast to the dtype of `x`; their gradient is summed in their own dtype.
      axis: the axis of `w` that is D: 0, or 1 of two.
      dtype: of the result; None = that of `x`.

    Returns:
      ``[..., N]``, or all other axes of `w` in place of N.
    """
    return jnp.tensordot(x, w.astype(x.dtype), (-1, axis), preferred_element_type=dtype or x.dtype)


def _project_forward(
    x: Array, w: Array, axis: int, dtype: Any
) -> tuple[Array, tuple[Array, Array]]:
    return project(x, w, axis, dtype), (x, w)


def _project_backward(
    axis: int, dtype: Any, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    # Of the forward pass; gradients have the types of what they belong to.
    del dtype
    x, w = saved
    other_axes = tuple(a for a in range(w.ndim) if a != axis)
    gradient = gradient.astype(x.dtype)

    summed = tuple(range(1 - w.ndim, 0))
    x_gradient = jnp.tensordot(gradient, w.astype(x.dtype), (summed, other_axes))

    flat_x = x.reshape(-1, x.shape[-1])
    flat_gradient = gradient.reshape(-1, *(w.shape[a] for a in other_axes))
    factors = (flat_x, flat_gradient) if axis == 0 else (flat_gradient, flat_x)
    w_gradient = jnp.tensordot(*factors, (0, 0), preferred_element_type=w.dtype)
    return x_gradient, w_gradient


project.defvjp(_project_forward, _project_backward)


def rms_norm(x: Array, scale: Array, eps: float) -> Array:
    """``x / sqrt(mean(x^2) + eps) * scale`` over the last axis, in float32, cast to that of x."""
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    return (wide * scale).astype(x.dtype)


def rms_norm_whole(qk: Array, scale: Array, eps: float) -> Array:
    """RMS norms of all queries of a token together and of all its keys.

    Args:
      qk: ``[..., H, Q + 1, E]``, the keys last.
      scale: ``[H, Q + 1, E]``.
      eps: as in `rms_norm`.
    """
    wide = qk.astype(jnp.float32)
    power = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    query_power = jnp.mean(power[..., :-1, :], axis=(-3, -2), keepdims=True)
    key_power = jnp.mean(power[..., -1:, :], axis=-3, keepdims=True)
    is_key = (jnp.arange(qk.shape[-2]) == qk.shape[-2] - 1)[:, None]
    inverse = jax.lax.rsqrt(jnp.where(is_key, key_power, query_power) + eps)
    return (wide * inverse * scale).astype(qk.dtype)


def fuse(config: ModelConfig, weights: dict[str, Array], dtype: np.dtype) -> dict[str, Array]:
    """One layer's parameters as `layer` needs them: cast, with q, k, v joined and gate, up joined.

    Each key/value head keeps its own queries beside it (``qkv [D, H, Q + 2, E]``) and gate lies
    beside up (``gate_up [D, 2, F]``), so that both still split over heads and over F on a mesh.
    Adapters among them are joined likewise.
    """
    w = {name: x.astype(dtype) for name, x in weights.items()}
    adapters = {name: w.pop(name) for name in weights if lora.is_adapter(name)}

    def join_by_head(*names: str) -> Array:
        arrays = [w.pop(name) for name in names]
        by_head = (config.num_kv_heads, -1, config.head_dim)
        return jnp.concatenate([x.reshape(*x.shape[:-1], *by_head) for x in arrays], axis=-2)

    w["qkv"] = join_by_head("q", "k", "v")
    if config.qkv_bias:
        w["qkv_bias"] = join_by_head("q_bias", "k_bias", "v_bias")
    if config.qk_norm_whole:
        w["qk_norm"] = join_by_head("q_norm", "k_norm")
    elif config.qk_norm:
        query_norms = jnp.tile(w.pop("q_norm"), (config.num_heads // config.num_kv_heads, 1))
        w["qk_norm"] = jnp.concatenate([query_norms, w.pop("k_norm")[None]])
    w["gate_up"] = jnp.stack([w.pop("gate"), w.pop("up")], axis=-2)
    return w | fuse_adapters(config, adapters)


def fuse_adapters(config: ModelConfig, adapters: dict[str, Array]) -> dict[str, Array]:
    """One layer's adapters beside the products of `layer`; {} where it has none."""
    group = config.num_heads // config.num_kv_heads
    heads, e, f = config.num_kv_heads, config.head_dim, config.ffn_size
    qkv = {"q": (heads, group, e), "k": (heads, 1, e), "v": (heads, 1, e)}
    gate_up = {"gate": (1, f), "up": (1, f)}
    fused = lora.join_targets(adapters, "qkv", qkv) | lora.join_targets(
        adapters, "gate_up", gate_up
    )
    alone = [pair(name) for name in ("o", "down") for pair in (lora.a_name, lora.b_name)]
    return fused | {name: adapters[name] for name in alone if name in adapters}


# (queries [B, R, S, H, Q, E], keys [B, R, H, E, S], values [B, R, H, S, E]) -> (attention output,
# anything to return)
Attend = Callable[[Array, Array, Array], tuple[Array, Any]]


def layer(
    config: ModelConfig, w: dict[str, Array], x: Array, rope: tuple[Array, Array], attend: Attend
) -> tuple[Array, Any]:
    """One transformer layer.

    Args:
      config: architecture.
      w: the layer's parameters from `fuse`.
      x: ``[B, R, S, D]``.
      rope: each position's `cos_sin`.
      attend: computes the attention.

    Returns:
      ``([B, R, S, D], what attend returned besides)``.
    """

    def norm(x: Array, name: str, applies: bool) -> Array:
        return rms_norm(x, w[name], config.norm_eps) if applies else x

    def multiply(x: Array, name: str) -> Array:
        # Any: a type checker does not see through custom_vjp.
        product: Any = project(x, w[name])
        if lora.a_name(name) in w:
            added: Any = project(project(x, w[lora.a_name(name)]), w[lora.b_name(name)])
            product = product + added
        return checkpoint_name(product, "product")

    h = norm(x, "attn_norm", not config.post_norm)
    qkv = multiply(h, "qkv")
    if config.qkv_bias:
        qkv = qkv + w["qkv_bias"]
    qk, v = jnp.split(qkv, [qkv.shape[-2] - 1], axis=-2)
    if config.qk_norm:
        qk_norm = rms_norm_whole if config.qk_norm_whole else rms_norm
        qk = qk_norm(qk, w["qk_norm"], config.norm_eps)
    qk = apply_rope(qk, rope)
    q, k = jnp.split(qk, [qk.shape[-2] - 1], axis=-2)
    k = jnp.moveaxis(k.squeeze(-2), 2, -1)
    v = jnp.swapaxes(v.squeeze(-2), 2, 3)
    attended, returned = attend(q, k, v)
    out = multiply(attended.reshape(*x.shape[:-1], -1), "o")
    if config.o_bias:
        out = out + w["o_bias"]
    x = x + norm(out, "attn_norm", config.post_norm)

    h = norm(x, "mlp_norm", not config.post_norm)
    gate_up = multiply(h, "gate_up")
    # The gradients of a split are joined; those of two slices would be padded and added.
    gate, up = jnp.split(gate_up, 2, axis=-2)
    out = multiply((jax.nn.silu(gate) * up).squeeze(-2), "down")
    return x + norm(out, "mlp_norm", config.post_norm), returned


# --- the policy -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Decoder:
    """An architecture and the way it is computed: static and hashable."""

    config: ModelConfig
    # Of activations, caches and published weights.
    dtype: np.dtype
    # A key of REMAT.
    remat: str
    # The backend whose fused attention kernels are used, see `attention`; None = XLA alone.
    kernel: str | None
    # Runs a decode step by the kernels of decode_attention.py: "gpu", or "interpret" on any
    # machine; None = XLA.
    decode_kernel: str | None
    # How a mesh splits parameters, decode weights, caches and rows; None = one device.
    layout: Layout | None
    # Queries of packed sequences whose attention scores exist at once, where `kernel` is None.
    query_block: int = QUERY_BLOCK


@dataclasses.dataclass(frozen=True)
class Adapted:
    """A network and its adapters: static and hashable."""

    decoder: Decoder
    settings: lora.LoRA


@dataclasses.dataclass(frozen=True)
class Bound:
    """``function(first, ...)`` as a function of the other arguments; `first` is static.

    Equal where both are equal, unlike `functools.partial`, so that a program compiled for one
    policy serves every equal one.
    """

    function: Callable[..., Any]
    first: Any

    @property
    def __name__(self) -> str:
        return self.function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self.first, *args, **kwargs)


def make_policy(
    config: ModelConfig,
    *,
    compute_dtype: Any = jnp.float32,
    remat: str = "full",
    attention: str = "auto",
    layout: Layout | None = None,
    num_tokens: int | None = None,
    unused_ids: tuple[int, ...] = (),
) -> Policy:
    """The network's functions for sampler and trainer.

    Equal arguments give equal policies, so that programs compiled with one as a static argument are
    reused.

    Args:
      config: architecture.
      compute_dtype: of activations, caches and published weights; norms, rotations and softmax are
        always float32.
      remat: what the backward pass recomputes: "full" each layer, "attention" each layer but its
        attention output, "dots" all but products with weights, "none" nothing.
      attention: "fused" uses the accelerator's own kernels, "xla" runs anywhere, "auto" is fused
        wherever that runs.
      layout: how a mesh splits parameters, decode weights, caches and rows; None = one device.
      num_tokens: the tokenizer's; many tables have further rows, to which sampler and trainer then
        give no probability. None = every row of the table is a token.
      unused_ids: further ids, below `num_tokens`, without a token.

    Returns:
      `Policy`; the functions below document its fields.

    Raises:
      InputError: for another `remat` or `attention`, or fused kernels where there are none.
    """
    for field, value, known in (("remat", remat, REMAT), ("attention", attention, ATTENTION)):
        if value not in known:
            raise InputError(field, f"received {value!r}; use one of {', '.join(map(repr, known))}")

    dtype = jnp.dtype(compute_dtype)
    kernel = fused_attention.available(dtype) if attention != "xla" else None
    if attention == "fused" and kernel is None:
        raise InputError(
            "attention",
            "'fused' needs one NVIDIA GPU or TPU and bfloat16, received "
            f"{jax.device_count()} devices of {jax.default_backend()!r} and {dtype.name}; "
            "use 'auto'",
        )

    group = config.num_heads // config.num_kv_heads
    fused_decode = (
        kernel == "gpu"
        and decode_attention.supports_head_size(config.head_dim)
        and decode_attention.matches_xla(group, config.head_dim)
    )
    decode_kernel = kernel if fused_decode else None
    policy = policy_of(Decoder(config, dtype, remat, kernel, decode_kernel, layout))
    num_tokens = config.vocab_size if num_tokens is None else num_tokens
    if num_tokens >= config.vocab_size and not unused_ids:
        return policy
    return with_tokens(policy, num_tokens, unused_ids)


def with_tokens(policy: Policy, num_tokens: int, unused_ids: tuple[int, ...] = ()) -> Policy:
    """A policy, of this module or not, that gives no probability to ids without a token.

    Args:
      policy: any network's functions.
      num_tokens: one more than the highest id of the tokenizer.
      unused_ids: further ids, below `num_tokens`, without a token.
    """
    logits = policy.logits
    own = (logits.num_tokens, logits.unused_ids) if isinstance(logits, PaddedLogits) else None
    if own == (num_tokens, unused_ids):
        return policy
    return policy._replace(logits=PaddedLogits(num_tokens, unused_ids, logits))


def with_adapters(policy: Policy, settings: lora.LoRA) -> Policy:
    """A policy of this module that is trained through adapters.

    Args:
      policy: from `make_policy`.
      settings: rank, scale and targets.

    Raises:
      InputError: a policy of another module.
    """
    if not isinstance(policy.hidden, Bound):
        raise InputError(
            "lora.rank",
            f"is {settings.rank}, but a network of one's own has no adapters; use 0, or a policy "
            "of ccpo_jax.models.make_policy",
        )
    adapted = Adapted(policy.hidden.first, settings)
    return policy._replace(
        adapters=Adapters(
            init=Bound(init_adapters, adapted),
            join=Bound(lora.join, settings),
            publish=Bound(publish_adapters, adapted),
            attach=lora.attach,
            merge=Bound(lora.merge, settings),
            decodes_merged=settings.decodes_merged,
        )
    )


def policy_of(decoder: Decoder) -> Policy:
    """`make_policy` where it is known which kernels run."""
    return Policy(
        publish=Bound(publish, decoder),
        init_cache=Bound(init_cache, decoder),
        extend=Bound(extend, decoder),
        hidden=Bound(hidden, decoder),
        logits=logits,
        head=head,
        gather=Bound(gather, decoder),
        # The kernels of a decode step stop at the slots in use; sliding layers are computed without
        # them.
        reads_free_slots=not decoder.decode_kernel or bool(decoder.config.window),
    )


def publish(decoder: Decoder, params: Params) -> Params:
    """Decode weights: layers unstacked into a tuple and fused, cast, split as for decoding."""
    weights = {name: x.astype(decoder.dtype) for name, x in params.items() if name != "layers"}
    layers = []
    for index in range(decoder.config.num_layers):
        layer_params = {name: x[index] for name, x in params["layers"].items()}
        layers.append(fuse(decoder.config, layer_params, decoder.dtype))
    return constrain_weights(decoder.layout, "decode", weights | {"layers": tuple(layers)})


def init_adapters(adapted: Adapted, key: Array) -> dict[str, Array]:
    """Fresh adapters of a network, see `lora.init_adapters`."""
    return lora.init_adapters(
        adapted.settings, parameter_shapes(adapted.decoder.config)["layers"], key
    )


def publish_adapters(adapted: Adapted, adapters: dict[str, Array]) -> Params:
    """Decode weights of adapters alone, for `lora.attach`."""
    decoder = adapted.decoder
    layers = []
    for index in range(decoder.config.num_layers):
        of_layer = {
            name: x[index].astype(decoder.dtype)
            for name, x in lora.scaled(adapted.settings, adapters).items()
        }
        layers.append(fuse_adapters(decoder.config, of_layer))
    return constrain_weights(decoder.layout, "decode", {"layers": tuple(layers)})


def gather(decoder: Decoder, params: Params) -> Params:
    """The parameters, with those outside the layers gathered along `hidden`.

    A pass reads these many times.
    """
    outer = {name: x for name, x in params.items() if name != "layers"}
    return params | constrain_weights(decoder.layout, "compute", outer)


def init_cache(decoder: Decoder, batch: int, rows: int, slots: int) -> KVCache:
    """An empty cache for every layer: keys ``[B, R, H, E, slots]``, values ``[B, R, H, slots, E]``.

    The layouts match the matrix products of a decode step; storing keys as ``[slots, E]`` is three
    times slower on a CPU.
    """
    config = decoder.config
    lead = (batch, rows, config.num_kv_heads)

    def empty(*shape: int) -> Array:
        zeros = jnp.zeros((*lead, *shape), decoder.dtype)
        return constrain(decoder.layout, "decode", zeros, "batch", None, "heads", None, None)

    return tuple(
        (empty(config.head_dim, slots), empty(slots, config.head_dim))
        for _ in range(config.num_layers)
    )


class _Slots(NamedTuple):
    """Which slots of its cache a row writes and sees."""

    cursor: Array  # [] int32, slot of the first new token, the same for all rows
    start: Array  # [B, R] int32, first visible slot
    high: Array  # [B, R, S] int32, behind the last visible slot of each new token


class _WindowMasks(NamedTuple):
    """`Block.window` of each block, shared by all sliding layers."""

    prefix: Array | None = None
    tails: tuple[Array | None, ...] = ()
    own: Array | None = None


def extend(
    decoder: Decoder,
    weights: Params,
    tokens: Array,
    positions: Array,
    cache: KVCache,
    cursor: Array,
    start: Array,
    context: Context | None = None,
) -> tuple[Array, KVCache]:
    """Appends S tokens to every row; the hidden states that predict the token after each.

    Args:
      decoder: the network.
      weights: from `publish`.
      tokens: ``[B, R, S]`` int32.
      positions: ``[B, R, S]`` int32, for the rotary embedding.
      cache: from `init_cache`; the new keys and values go to slots cursor .. cursor + S - 1.
      cursor: ``[]`` int32, the same for all rows, so that a write is a slice.
      start: ``[B, R]`` int32, first slot that the row sees: what lies before it is left padding. If
        it lies after the cursor, the row has wrapped around the end of its cache.
      context: what the rows see besides.

    Returns:
      ``(hidden [B, R, S, D] after the final norm, cache)``. Hidden states of padded slots are
      meaningless, but finite.
    """
    config = decoder.config
    high = jnp.broadcast_to(cursor + 1 + jnp.arange(tokens.shape[-1]), tokens.shape)
    slots = _Slots(cursor, start, high)
    x = constrain(decoder.layout, "decode", weights["embed"][tokens], "batch", None, None, None)
    ropes = _compute_once(cursor >= 0, functools.partial(_layer_ropes, config), positions)
    masks = _window_masks(config, jnp.asarray(positions), cursor, cache, context)
    decode_kernel = decoder.decode_kernel if tokens.shape[-1] == 1 else None

    new_cache = []
    for index, w in enumerate(weights["layers"]):
        slides = bool(config.sliding) and config.sliding[index]
        layer_masks = masks if slides and masks is not None else _WindowMasks()
        x, layer_cache = _extend_layer(
            (config, decoder.kernel, decode_kernel if layer_masks.own is None else None),
            w,
            x,
            ropes[slides],
            cache[index],
            slots,
            _context_blocks(context, index, layer_masks),
            layer_masks.own,
        )
        new_cache.append(layer_cache)
    return rms_norm(x, weights["final_norm"], config.norm_eps), tuple(new_cache)


# Jitted, so that layers with the same shapes are traced once for all of them.
@functools.partial(jax.jit, static_argnums=0)
def _extend_layer(
    static: tuple[ModelConfig, str | None, str | None],
    w: dict[str, Array],
    x: Array,
    rope: tuple[Array, Array],
    cache: tuple[Array, Array],
    slots: _Slots,
    context: tuple[RowBlocks, ...],
    window: Array | None,
) -> tuple[Array, tuple[Array, Array]]:
    """One layer of `extend`; `static` holds the architecture and the kernels, as `Decoder` does."""
    config, kernel, decode_kernel = static

    def attend(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, Array]]:
        if decode_kernel:
            interpret = decode_kernel == "interpret"
            return decode_attention.decode_attention(
                q, k, v, cache, slots.start, slots.cursor, context, interpret=interpret
            )
        new_cache = write(cache, k, v, slots.cursor)
        own = Block(*new_cache, slots.start[..., None], slots.high, window)
        return attention(q, (*context, own), kernel), new_cache

    return layer(config, w, x, rope, attend)


def _layer_ropes(config: ModelConfig, positions: Array) -> tuple[tuple[Array, Array], ...]:
    """`cos_sin` of the layers that see everything, then of sliding layers if there are any."""
    scalings = (config.rope_scaling, None) if config.window else (config.rope_scaling,)
    return tuple(
        cos_sin(positions, config.head_dim, config.rope_theta, scaling) for scaling in scalings
    )


def _compute_once(true: Array, f: Callable[[Array], Any], x: Array) -> Any:
    """``f(x)`` behind a branch that is always taken.

    Without it XLA computes `f` again in the fusions of every layer.
    """
    return jax.lax.cond(true, f, lambda x: jax.tree.map(jnp.zeros_like, jax.eval_shape(f, x)), x)


def _num_slots(cache: KVCache) -> int:
    return cache[0][1].shape[3]


def _window_masks(
    config: ModelConfig, positions: Array, cursor: Array, cache: KVCache, context: Context | None
) -> _WindowMasks | None:
    """What sliding layers see; None if every window holds all slots, so that no mask is needed."""
    if not config.window:
        return None
    own_slots = _num_slots(cache)
    total = own_slots
    if context is not None:
        total += _num_slots(context.prefix) + max(map(_num_slots, context.tails), default=0)
    if total <= config.window:
        return None

    # Modulo, because a row may have wrapped around the end of its cache.
    new_slots = cursor + jnp.arange(positions.shape[-1])
    age = (new_slots[:, None] - jnp.arange(own_slots)) % own_slots
    own = jnp.broadcast_to(age < config.window, (*positions.shape, own_slots))
    if context is None:
        return _WindowMasks(own=own)

    # The last position outside the window.
    hidden_position = positions[..., None] - config.window
    prefix = jnp.arange(_num_slots(context.prefix)) > hidden_position
    tails, row = [], 0
    for tail, start in zip(context.tails, context.tail_starts, strict=True):
        rows = slice(row, row + start.shape[1])
        slot = jnp.arange(_num_slots(tail))
        tail_positions = context.prefix_length[:, None, None] + slot - start[..., None]
        tails.append(tail_positions[:, :, None] > hidden_position[:, rows])
        row = rows.stop
    return _WindowMasks(prefix, tuple(tails), own)


def _context_blocks(
    context: Context | None, index: int, masks: _WindowMasks
) -> tuple[RowBlocks, ...]:
    """What layer `index` sees besides its cache: the prefix of the prompt, then each row's tail."""
    if context is None:
        return ()
    end = context.prefix_length[:, None, None]
    keys, values = context.prefix[index]
    prefix = Block(keys, values, jnp.zeros_like(end), end, masks.prefix)
    if not context.tails:
        return (prefix,)

    tails = []
    tail_masks = masks.tails or (None,) * len(context.tails)
    for tail, start, mask in zip(context.tails, context.tail_starts, tail_masks, strict=True):
        keys, values = tail[index]
        low = start[..., None]
        tails.append(Block(keys, values, low, jnp.full_like(low, values.shape[3]), mask))
    return prefix, tuple(tails)


def hidden(
    decoder: Decoder,
    params: Params,
    tokens: Array,
    positions: Array,
    segments: Array,
    parents: Array,
) -> Array:
    """Hidden states of packed sequences, for training.

    Attention is causal, and within a segment and its parent only.

    Args:
      decoder: the network; a layer's parameters are gathered over its layout while it needs them.
      params: master parameters, layers stacked.
      tokens: ``[N, S]`` int32.
      positions: ``[N, S]`` int32, at least 0.
      segments: ``[N, S]`` int32, equal numbers see each other; 0 = padding.
      parents: ``[N, S]`` int32, a segment that is seen as well: branches of one prompt share it as
        their parent.

    Returns:
      ``[N, S, D]`` after the final norm.
    """
    config, dtype, layout = decoder.config, decoder.dtype, decoder.layout
    layer_ropes = functools.partial(_layer_ropes, config)
    ropes = _compute_once(positions[0, 0] >= 0, layer_ropes, positions[:, None])
    # Rows no longer than the window lie within it.
    window = config.window or None
    if window is not None and tokens.shape[1] <= window:
        window = None

    def scan_layer(x: Array, scanned: tuple[dict[str, Array], Array | None]) -> tuple[Array, None]:
        weights, slides = scanned

        def attend(q: Array, k: Array, v: Array) -> tuple[Array, None]:
            limit = None
            if window is not None and slides is not None:
                limit = Window(positions, jnp.where(slides, window, 2**30))
            attended = packed_attention(
                q, k, v, segments, parents, decoder.kernel, limit, decoder.query_block
            )
            return checkpoint_name(attended, "attended"), None

        rope = ropes[0]
        if slides is not None:
            full, sliding = ropes
            rope = jax.tree.map(lambda s, f: jnp.where(slides, s, f), sliding, full)
        # Cast before they are gathered, so that less is sent.
        cast = {name: w.astype(dtype) for name, w in weights.items()}
        fused = fuse(config, constrain_weights(layout, "compute", cast), dtype)
        x, _ = layer(config, fused, x, rope, attend)
        return constrain(layout, "train", x, "batch", None, None, None), None

    if decoder.remat != "none":
        scan_layer = jax.checkpoint(scan_layer, prevent_cse=False, policy=REMAT[decoder.remat])
    x = params["embed"][tokens].astype(dtype)[:, None]
    x = constrain(layout, "train", x, "batch", None, None, None)

    # Where everything is stored the layers are unrolled: a scan would copy what each of them
    # stores.
    unroll = config.num_layers if decoder.remat == "none" else 1
    scanned = (params["layers"], jnp.array(config.sliding) if config.window else None)
    x, _ = jax.lax.scan(scan_layer, x, scanned, unroll=unroll)
    return rms_norm(x[:, 0], params["final_norm"].astype(dtype), config.norm_eps)


def head(params: Params) -> dict[str, Array]:
    """The parameters that `logits` reads: the unembedding, or the tied embedding table."""
    name = "head" if "head" in params else "embed"
    return {name: params[name]}


def logits(params: Params, hidden: Array) -> Array:
    """``[..., V]`` float32 for hidden states ``[..., D]``.

    `params` are master parameters or published weights.
    """
    if "head" in params:
        return project(hidden, params["head"], 0, jnp.float32)
    return project(hidden, params["embed"], 1, jnp.float32)


@dataclasses.dataclass(frozen=True)
class PaddedLogits:
    """The logits of a table that has rows without a token of the tokenizer."""

    num_tokens: int
    unused_ids: tuple[int, ...] = ()
    function: Callable[[Any, Array], Array] = logits

    @property
    def __name__(self) -> str:
        return logits.__name__

    def __call__(self, params: Params, hidden: Array) -> Array:
        values = self.function(params, hidden)
        if self.num_tokens >= values.shape[-1] and not self.unused_ids:
            return values
        exists = jnp.arange(values.shape[-1]) < self.num_tokens
        if self.unused_ids:
            used = np.ones(values.shape[-1], bool)
            used[list(self.unused_ids)] = False
            exists = exists & used
        return jnp.where(exists, values, _NEVER)
