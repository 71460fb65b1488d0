"""Trained networks as Hugging Face folders, and the words of their team."""

import fnmatch
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from ccpo_jax import models
from ccpo_jax.devices.distributed import is_main_process, sync_errors
from ccpo_jax.devices.sharding import fetch
from ccpo_jax.errors import InputError
from ccpo_jax.fields import expand_home
from ccpo_jax.models import peft
from ccpo_jax.rl.types import Policy
from ccpo_jax.rollout import Team
from ccpo_jax.status import status
from ccpo_jax.train.build import Run
from ccpo_jax.train.team_chat import folder_names, team_chat
from ccpo_jax.workdir.atomic_folder import begin_folder, drop_folder, publish_folder
from ccpo_jax.workdir.atomic_write import write_atomically
from ccpo_jax.workdir.disk_errors import USER_ERRORS

# Types of weights that can be written; source = that of the model before training.
DTYPES = ("source", "bfloat16", "float16", "float32")

# Weights of an earlier export, which may have been in more files.
_WEIGHTS = ("model*.safetensors*", "adapter_*")


def export_networks(
    run: Run,
    params: Sequence[Any],
    folder: str | pathlib.Path,
    *,
    dtype: str = "source",
    merged: bool = False,
) -> list[pathlib.Path]:
    """Writes every network with its tokenizer to a folder of its own, and `prompts.json`. Of a run
    with LoRA the folders hold adapters that PEFT reads, unless they are merged.

    All is written beside what is there and then put in its place, so an export that fails leaves
    an earlier one as it was.

    Args:
      run: its networks and tokenizers.
      params: P parameter sets, or adapters.
      folder: gets a folder per parameter set, see `folder_names`, and `prompts.json`, see
        `team_chat`.
      dtype: of the weights, one of `DTYPES`; adapters are float32.
      merged: adapters are added to their networks, which are written whole.

    Returns:
      The folders.

    Raises:
      InputError: a network without a configuration, a tokenizer that cannot be saved, a type that
        cannot be written, or a disk that is full or cannot be written.
    """
    check_dtype(dtype)
    _check_networks(run)
    _check_merged(run, dtype, merged)
    folder = pathlib.Path(expand_home(str(folder)))
    targets = [folder / name for name in folder_names(run.team)]
    try:
        for index, target in enumerate(targets):
            # In several processes all have to take part in gathering the parameters.
            written = _merged(run, params, index) if merged else params[index]
            whole = jax.tree.map(fetch, written)
            with sync_errors():
                if is_main_process() and run.bases and not merged:
                    _write_adapter(run, index, whole, target)
                elif is_main_process():
                    _write(run, index, whole, target, dtype)
        with sync_errors():
            if is_main_process():
                _publish(run, folder, targets)
    except OSError as error:
        if error.errno not in USER_ERRORS:
            raise
        raise InputError(
            "export",
            f"cannot write {folder} ({error.strerror}); make room, or make it writable; an earlier "
            "export is as it was",
        ) from error
    finally:
        if is_main_process():
            for target in targets:
                drop_folder(target)
    return targets


def _check_merged(run: Run, dtype: str, merged: bool) -> None:
    if merged and not run.bases:
        raise InputError("merged", "has no effect: this run has no adapters; leave it out")
    if run.bases and not merged and dtype != "source":
        raise InputError(
            "dtype",
            f"has no effect on adapters, which are float32; received {dtype}; leave it out, or add "
            "--merged",
        )


def _merged(run: Run, params: Sequence[Any], index: int) -> Any:
    """Adapters as one network: they are added to their base."""
    base = run.bases[index]
    assert base.policy.adapters is not None
    return _merge(base.policy, base.params, params[index])


@functools.partial(jax.jit, static_argnums=0)
def _merge(policy: Policy, base: Any, adapters: Any) -> Any:
    assert policy.adapters is not None
    return policy.adapters.merge(base, adapters)


def check_dtype(dtype: str) -> None:
    """Raises InputError unless `dtype` is one of `DTYPES`."""
    if dtype not in DTYPES:
        raise InputError("dtype", f"received {dtype!r:.80}; use one of {', '.join(DTYPES)}")


def _check_networks(run: Run) -> None:
    for network in run.model_configs:
        if not isinstance(network, models.ModelConfig):
            raise InputError(
                "model",
                "a network of one's own has no Hugging Face format; save trainer.state.params, or "
                "give Model(..., config=ModelConfig) where it is a network of ccpo_jax.models",
            )


def _write(run: Run, index: int, params: Any, target: pathlib.Path, dtype: str) -> None:
    """Writes a network and its tokenizer beside their place."""
    network = run.model_configs[index]
    with status(f"exporting {target.name}"):
        new = begin_folder(target)
        models.save(new, network, params, dtype=_dtype_of(network) if dtype == "source" else dtype)
        _save_tokenizer(run.team, index, new)


def _write_adapter(run: Run, index: int, adapters: Any, target: pathlib.Path) -> None:
    """Writes adapters and a tokenizer beside their place."""
    base = run.bases[index]
    lora = run.lora
    assert lora is not None
    with status(f"exporting {target.name}"):
        new = begin_folder(target)
        peft.write_adapter(new, run.model_configs[index], lora, adapters, base.source)
        _save_tokenizer(run.team, index, new)


def _publish(run: Run, folder: pathlib.Path, targets: Sequence[pathlib.Path]) -> None:
    for target in targets:
        publish_folder(target, replaces=_is_weights)
    if run.words:
        text = json.dumps(team_chat(run.team, run.words), indent=2, ensure_ascii=False)
        write_atomically(folder / "prompts.json", text + "\n")


def _is_weights(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in _WEIGHTS)


def _dtype_of(network: models.ModelConfig) -> str:
    """The type that config.json names for the weights before training; float32 where it names
    none that can be written.
    """
    entries = json.loads(network.hf_config or "{}")
    named = str(entries.get("dtype") or entries.get("torch_dtype")).removeprefix("torch.")
    return named if named in DTYPES else "float32"


def _save_tokenizer(team: Team, parameter_set: int, folder: pathlib.Path) -> None:
    """Saves the tokenizer of the agents that use a parameter set."""
    agent = next(agent for agent in team.agents if agent.parameter_set == parameter_set)
    save = getattr(agent.tokenizer, "save", None)
    if save is None:
        kind = type(agent.tokenizer).__name__
        raise InputError("model", f"a tokenizer of type {kind} has no save(folder)")
    save(folder)
