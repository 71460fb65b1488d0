"""The reference policies of a run: loaded once per distinct source, never trained, not saved."""

import contextlib
import hashlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.config import Config
from ccpo_jax.devices.sharding import Layout, fetch, replicated, state_sharding
from ccpo_jax.errors import InputError
from ccpo_jax.learner.reference import Reference
from ccpo_jax.parameter_sets import make_parameter_sets, names_per_set
from ccpo_jax.rl.types import Array, Policy
from ccpo_jax.rollout import Team
from ccpo_jax.train.load import Network, load_network, load_params
from ccpo_jax.train.parts import NO_PARTS, Parts
from ccpo_jax.train.sources import Source, find_sources

# Odd multipliers of a position, by which an element of an array weighs in its checksums.
_MULTIPLIERS = ((0x9E3779B1, 0x85EBCA6B), (0xC2B2AE35, 0x27D4EB2F))


def load_references(
    config: Config,
    team: Team,
    params: tuple,
    sources: tuple[Source, ...],
    layout: Layout,
    parts: Parts = NO_PARTS,
    *,
    steps: Mapping[str, int] = types.MappingProxyType({}),
) -> tuple[Reference, ...]:
    """The reference of every parameter set.

    They lie on the mesh as the trained parameters do, in `compute_dtype`: that is what the trained
    float32 parameters are rounded to in every matrix product, so that a network that has not been
    trained yet is its own reference exactly. Parameter sets of one source share one reference.

    Args:
      config: of the run.
      team: its agents.
      params: P parameter sets before training.
      sources: of `params`.
      layout: of the devices.
      parts: models of a program; their references stay in float32, which their policies may use.
      steps: workdir -> step of the checkpoints of earlier runs in `loss.reference`.

    Raises:
      InputError: `loss.reference`, if it cannot be read or has another vocabulary.
    """
    policies, tokenizers = _of_sets(team, len(params))
    dtype = jnp.dtype(config.compute_dtype)
    made: dict[Source, Reference] = {}
    if not config.loss.reference:
        for policy, tree, source in zip(policies, params, sources, strict=True):
            if source not in made:
                own = jnp.dtype(jnp.float32) if source.model in parts.models else dtype
                copy = _copy(tree, own, layout)
                made[source] = Reference(policy, copy, source.name, digest_of(copy, layout))
        return tuple(made[source] for source in sources)

    with _errors_of_reference():
        sets = make_parameter_sets(
            config.model, team.topology.num_agents, shared_policy=config.shared_policy
        )
        names = names_per_set(config.loss.reference, sets, "loss.reference")
        loaded = find_sources(names, len(sets), field="loss.reference", steps=steps)
        networks: dict[Source, Network] = {}
        for source, tokenizer, own in zip(loaded, tokenizers, sources, strict=True):
            if source not in networks:
                networks[source] = load_network(source, config, layout)
            _check_vocabulary(networks[source].tokenizer, tokenizer, source, own)
        trees = load_params(
            loaded, layout, time_limit=config.load_time_limit, dtype=dtype, copies=False
        )
    for source, tree in zip(loaded, trees, strict=True):
        if source not in made:
            policy = networks[source].policy
            made[source] = Reference(policy, tree, source.name, digest_of(tree, layout))
    return tuple(made[source] for source in loaded)


@contextlib.contextmanager
def _errors_of_reference() -> Iterator[None]:
    """What is wrong with a model that is read here is wrong with `loss.reference`."""
    try:
        yield
    except InputError as error:
        if error.field != "model":
            raise
        message = str(error).removeprefix("model: ")
        message = message.replace("--config.model=", "--config.loss.reference=")
        raise InputError("loss.reference", message) from error


def _of_sets(team: Team, num_sets: int) -> tuple[list[Policy], list[Any]]:
    """Policy and tokenizer of each parameter set."""
    agents = {agent.parameter_set: agent for agent in team.agents}
    in_order = [agents[index] for index in range(num_sets)]
    return [agent.policy for agent in in_order], [agent.tokenizer for agent in in_order]


def _copy(params: Any, dtype: jnp.dtype, layout: Layout) -> Any:
    """Parameters in another type; never the same buffers, which are donated to the first update."""
    placement = state_sharding(layout.mesh, params, layout.train)

    def copy(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.array(x, dtype, copy=True), tree)

    return jax.jit(copy, out_shardings=placement)(params)


def _check_vocabulary(tokenizer: Any, trained: Any, source: Source, own: Source) -> None:
    """Raises InputError where the ids of the two tokenizers do not mean the same tokens."""
    theirs, ours = _tokens(tokenizer), _tokens(trained)
    if tokenizer is trained or (ours is not None and theirs == ours):
        return
    raise InputError(
        "loss.reference",
        f"{source.name:.200} has another vocabulary than {own.name:.200}, so that its log-probs "
        "are of other tokens; use a model with the same tokenizer, or leave it out",
    )


def _tokens(tokenizer: Any) -> dict[str, int] | None:
    """Token -> id; None where a tokenizer of one's own does not tell."""
    backend = getattr(tokenizer, "backend", None)
    return None if backend is None else backend.get_vocab()


# --- digests --------------------------------------------------------------------------------------


def digest_of(params: Any, layout: Layout) -> str:
    """Sixteen digits that tell parameters apart, the same on any number of devices.

    Every bit of every element counts, and where it stands. Sums are of whole numbers modulo 2^32,
    whose order makes no difference.
    """
    everywhere = replicated(layout.mesh)
    sums = jax.jit(lambda tree: jax.tree.map(_checksums, tree), out_shardings=everywhere)(params)
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(sums):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(fetch(leaf), "<u4").tobytes())
    shapes = [(leaf.shape, leaf.dtype.name) for leaf in jax.tree.leaves(params)]
    digest.update(repr(shapes).encode())
    return digest.hexdigest()[:16]


def _checksums(x: Array) -> Array:
    """``[2]`` uint32 of an array."""
    unsigned = {2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
    sums = []
    for start, step in _MULTIPLIERS:
        position = jnp.full(x.shape, start, jnp.uint32)
        for axis in range(x.ndim):
            along = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
            position = position * jnp.uint32(step) + along
        # Odd, so that no bit is lost.
        sums.append(jnp.sum(bits * (2 * position + 1), dtype=jnp.uint32))
    return jnp.stack(sums)
