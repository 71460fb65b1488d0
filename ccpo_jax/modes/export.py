"""`--mode=export`: trained networks as Hugging Face folders."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from ccpo_jax import models
from ccpo_jax.config import Config
from ccpo_jax.devices.distributed import is_main_process, print_main
from ccpo_jax.devices.sharding import fetch
from ccpo_jax.errors import InputError
from ccpo_jax.modes.restore import trained_or_loaded
from ccpo_jax.rollout import Team


def export(config: Config | Mapping[str, Any], workdir: str | None) -> None:
    """Writes the best checkpoint's networks and tokenizers to <workdir>/export in Hugging Face
    format.

    Raises:
      InputError: no workdir, no checkpoints in it, or a tokenizer that cannot be saved.
    """
    run, state, step = trained_or_loaded(config, workdir, required=True)
    for index, (network, params) in enumerate(zip(run.model_configs, state.params, strict=True)):
        name = "policy" if len(state.params) == 1 else f"agent_{index}"
        folder = pathlib.Path(str(workdir), "export", name)
        # In several processes all have to take part in gathering the parameters.
        whole = jax.tree.map(fetch, params)
        if is_main_process():
            models.save(folder, network, whole)
            _save_tokenizer(run.team, index, folder)
        print_main(f"step {step} -> {folder}")


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
