"""The frozen networks of a run with LoRA, and the adapters that it trains on them."""

import dataclasses
import functools
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.config import Config
from ccpo_jax.devices.sharding import Layout, put, replicated, state_sharding
from ccpo_jax.errors import InputError
from ccpo_jax.fields import expand_home
from ccpo_jax.learner.reference import Reference
from ccpo_jax.learner.update import TrainState
from ccpo_jax.models import LoRA, peft
from ccpo_jax.models.lora import TARGETS
from ccpo_jax.parameter_sets import ParameterSets
from ccpo_jax.rl.types import Policy
from ccpo_jax.rollout import Team
from ccpo_jax.train.load import load_params
from ccpo_jax.train.parts import Model
from ccpo_jax.train.reference import digest_of
from ccpo_jax.train.sources import Source

# Folded into the run's key for the first adapters: no training step has this number.
_ADAPTER_KEY = 2**31 - 3


def make_lora(config: Config) -> LoRA | None:
    """The adapters that a run trains; None = it trains all parameters."""
    settings = config.lora
    if not settings.rank:
        return None
    return LoRA(
        rank=settings.rank,
        alpha=settings.alpha,
        targets=settings.targets,
        rslora=settings.rslora,
        decodes_merged=settings.merge,
    )


def load_bases(
    config: Config,
    team: Team,
    sources: Sequence[Source],
    layout: Layout,
    models_given: Mapping[str, Model] = types.MappingProxyType({}),
) -> tuple[Reference, ...]:
    """The frozen network of every parameter set, each distinct source once.

    They are in `compute_dtype`: every product rounds parameters to it anyway.

    Args:
      config: of the run.
      team: its policies.
      sources: P.
      layout: of the devices.
      models_given: models of a program.

    Raises:
      InputError: one cannot be read.
    """
    trees = load_params(
        sources,
        layout,
        time_limit=config.load_time_limit,
        models_given=models_given,
        dtype=jnp.dtype(config.compute_dtype),
        copies=False,
    )
    policies = {agent.parameter_set: agent.policy for agent in team.agents}
    bases: dict[Source, Reference] = {}
    for index, (source, tree) in enumerate(zip(sources, trees, strict=True)):
        if source not in bases:
            digest = digest_of(tree, layout)
            bases[source] = Reference(policies[index], tree, source.name, digest)
    return tuple(bases[source] for source in sources)


def first_adapters(
    config: Config,
    sets: ParameterSets,
    bases: Sequence[Reference],
    networks: Sequence[Any],
    layout: Layout,
) -> tuple:
    """The adapters that a run begins with, on the mesh: those of `lora.start`, or fresh ones.

    Args:
      config: of the run.
      sets: who shares parameters.
      bases: P.
      networks: P configurations of the bases.
      layout: of the devices.

    Raises:
      InputError: `lora.start`, if one cannot be read or has another rank, scale or targets.
    """
    if not config.lora.start:
        return init_adapters(bases, config.seed, layout)
    lora = make_lora(config)
    folders = sets.per_set(config.lora.start, "lora.start", "adapters")
    read = {}
    for folder, network in zip(folders, networks, strict=True):
        path = expand_home(folder)
        loaded = peft.read_adapter(path, network)
        _check_settings(folder, loaded.lora, lora)
        read[folder] = loaded.adapters
    adapters = []
    for folder in folders:
        placement = state_sharding(layout.mesh, read[folder], layout.train)
        adapters.append(jax.tree.map(put, read[folder], placement))
    return tuple(adapters)


def _check_settings(folder: str, own: LoRA, lora: LoRA | None) -> None:
    assert lora is not None
    targets = tuple(target for target in TARGETS if target in lora.targets)
    if own == dataclasses.replace(lora, targets=targets, decodes_merged=False):
        return
    raise InputError(
        "lora.start",
        f"{folder:.200} has another rank, scale or targets than this run; type "
        f"--config.lora.rank={own.rank} --config.lora.alpha={own.alpha:g} "
        f"--config.lora.targets={','.join(own.targets)} --config.lora.rslora={own.rslora}",
    )


def init_adapters(bases: Sequence[Reference], seed: int, layout: Layout) -> tuple:
    """Fresh adapters of every parameter set, on the mesh; each set has its own."""
    adapters = []
    for index, base in enumerate(bases):
        init = functools.partial(_fresh, base.policy, seed, index)
        placement = state_sharding(layout.mesh, jax.eval_shape(init), layout.train)
        adapters.append(jax.jit(init, out_shardings=placement)())
    return tuple(adapters)


def _fresh(policy: Policy, seed: int, index: int) -> Any:
    key = jax.random.fold_in(jax.random.key(seed), _ADAPTER_KEY)
    assert policy.adapters is not None
    return policy.adapters.init(jax.random.fold_in(key, index))


def base_words(bases: Sequence[Reference], layout: Layout) -> Any:
    """The digests of the bases as a checkpoint holds them: ``[P, 2]`` uint32; () without bases."""
    if not bases:
        return ()
    words = [[int(base.digest[:8], 16), int(base.digest[8:], 16)] for base in bases]
    return put(np.array(words, np.uint32), replicated(layout.mesh))


def check_bases(bases: Sequence[Reference], state: TrainState) -> None:
    """Checks that the adapters of a checkpoint were trained on the networks of this run.

    Raises:
      InputError: one of them has other parameters.
    """
    if not bases:
        return
    trained_on = np.asarray(state.base)
    for index, base in enumerate(bases):
        digest = "".join(f"{word:08x}" for word in trained_on[index])
        if digest != base.digest:
            raise InputError(
                "model",
                f"the adapters of parameter set {index} were trained on another network than "
                f"{base.source:.200}: its digest was {digest}, now it is {base.digest}; restore "
                "the files of the model",
            )
