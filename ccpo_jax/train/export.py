"""Trained networks as Hugging Face folders."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from ccpo_jax import models
from ccpo_jax.devices.distributed import is_main_process
from ccpo_jax.devices.sharding import fetch
from ccpo_jax.errors import InputError
from ccpo_jax.fields import expand_home
from ccpo_jax.rollout import Team
from ccpo_jax.status import status
from ccpo_jax.train.build import Run


def export_networks(
    run: Run, params: Sequence[Any], folder: str | pathlib.Path, *, dtype: str | None = None
) -> list[pathlib.Path]:
    """Writes every network with its tokenizer to a folder of its own.

    Args:
      run: its networks and tokenizers.
      params: P parameter sets.
      folder: gets a folder `policy` of a shared network, else `agent_0`, `agent_1`, ...
      dtype: of the weights: float32, bfloat16 or float16; None = float32, as they are trained.

    Returns:
      The folders.

    Raises:
      InputError: a network without a configuration, a tokenizer that cannot be saved, or a type
        that cannot be written.
    """
    _check_networks(run)
    folders = []
    for index, (network, tree) in enumerate(zip(run.model_configs, params, strict=True)):
        name = "policy" if len(params) == 1 else f"agent_{index}"
        target = pathlib.Path(expand_home(str(folder)), name)
        # In several processes all have to take part in gathering the parameters.
        whole = jax.tree.map(fetch, tree)
        if is_main_process():
            with status(f"exporting {name}"):
                models.save(target, network, whole, dtype=dtype)
            _save_tokenizer(run.team, index, target)
        folders.append(target)
    return folders


def _check_networks(run: Run) -> None:
    for network in run.model_configs:
        if not isinstance(network, models.ModelConfig):
            raise InputError(
                "model",
                "a network of one's own has no Hugging Face format; save trainer.state.params, or "
                "give Model(..., config=ModelConfig) where it is a network of ccpo_jax.models",
            )


def _save_tokenizer(team: Team, parameter_set: int, folder: pathlib.Path) -> None:
    """Saves the tokenizer of the agents that use a parameter set."""
    agent = next(agent for agent in team.agents if agent.parameter_set == parameter_set)
    save = getattr(agent.tokenizer, "save", None)
    if save is None:
        kind = type(agent.tokenizer).__name__
        raise InputError(
            "model",
            f"a tokenizer of type {kind} has no save(folder); the network is exported alone",
        )
    save(folder)
