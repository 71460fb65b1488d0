"""Meshes and shardings."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from ccpo_jax.models import init_params
from ccpo_jax.models.decoder import ModelConfig
from ccpo_jax.sharding import LOGICAL_AXES, batch_sharding, make_mesh, state_sharding
from tests.test_rollout import small_config


def test_mesh_uses_every_device_or_says_why_not():
    assert dict(make_mesh().shape) == {"data": 8, "fsdp": 1, "model": 1}
    assert dict(make_mesh(fsdp=2, model=2).shape) == {"data": 2, "fsdp": 2, "model": 2}
    with pytest.raises(ValueError, match="mesh: 3 x 1 x 1 \\(data, fsdp, model\\) does not fit the 8 devices"):
        make_mesh(data=3)


def test_every_parameter_has_logical_axes_and_moments_follow_it():
    config = small_config()
    assert isinstance(config, ModelConfig)
    params = init_params(dataclasses.replace(config, o_bias=True, qk_norm=True), jax.random.key(0))
    mesh = make_mesh(fsdp=2, model=2)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert len(LOGICAL_AXES[path[-1].key]) == leaf.ndim, path
    placed = state_sharding(mesh, {"mu": params})["mu"]
    assert placed["layers"]["q"].spec == PartitionSpec(None, "fsdp", "model")
    assert placed["final_norm"].spec == PartitionSpec("fsdp")


def test_axes_that_do_not_divide_are_replicated():
    mesh = make_mesh(fsdp=2, model=4)
    assert state_sharding(mesh, {"embed": jnp.zeros((9, 4))})["embed"].spec == PartitionSpec(None, "fsdp")


def test_batches_split_over_replicas_and_parameter_shards():
    mesh = make_mesh(fsdp=4)
    assert batch_sharding(mesh).shard_shape((16, 3)) == (2, 3)
