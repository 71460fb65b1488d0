"""Replay: batches of updates that were left out, saved, read back and examined."""

import dataclasses
import functools
import itertools
import pathlib
import re
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.devices.distributed import is_main_process
from ccpo_jax.devices.sharding import fetch, put
from ccpo_jax.errors import InputError, first_line
from ccpo_jax.learner.logprobs import packed_logprobs
from ccpo_jax.learner.packing import TrainSequence
from ccpo_jax.learner.reference import Reference
from ccpo_jax.learner.update import (
    UpdateConfig,
    apply_gradients,
    gradient,
    mini_batch_totals,
    pack_trained,
    rescore,
    trained_sequences,
    whole_params,
    with_reference,
)
from ccpo_jax.rl.types import Policy

# Where a number that is not finite can arise first, in the order of the computation.
STAGES = (
    "advantage",
    "sampler log-prob",
    "parameter",
    "reference log-prob",
    "trainer log-prob",
    "loss",
    "gradient",
    "gradient norm",
)


@dataclasses.dataclass(frozen=True)
class SavedBatch:
    """What one parameter set was to be trained on in one step."""

    step: int  # the step that was under way, from 1
    agents: tuple[int, ...]  # whose responses the sequences are
    problems: tuple[str, ...]  # [B] names of the step's problems
    reason: str  # what was not finite
    sequences: tuple[TrainSequence, ...]  # of all mini-batches

    def problem_of(self, sequence: TrainSequence) -> str:
        """The name of the problem that a sequence answers."""
        return self.problems[sequence.group % len(self.problems)]

    def mini_batches(self, count: int) -> list[list[TrainSequence]]:
        """The sequences in `count` parts, cut by problem as `update_params` got them."""
        size = len(self.problems) // count
        parts: list[list[TrainSequence]] = [[] for _ in range(count)]
        for sequence in self.sequences:
            parts[sequence.group % len(self.problems) // size].append(sequence)
        return parts


class NonFinite(NamedTuple):
    """Where the first number that is not finite arises in an update."""

    stage: str  # one of STAGES
    mini_batch: int  # from 0
    sequences: tuple[TrainSequence, ...] = ()  # those concerned, where single ones are
    parameters: tuple[str, ...] = ()  # names of those concerned, where single ones are
    epoch: int = 0  # the pass over the batch, from 0


def nonfinite_sequences(sequences: Sequence[TrainSequence]) -> list[TrainSequence]:
    """Those whose log-probs or advantage are not finite."""
    return [s for s in sequences if not (_finite(s.advantage) and _finite(s.old_logprobs))]


def save_batch(folder: pathlib.Path, batch: SavedBatch) -> pathlib.Path:
    """Saves a batch for `load_batch`; the main process writes.

    Args:
      folder: made if need be.
      batch: what to save.

    Returns:
      The file: arrays in numpy's format, no pickles.
    """
    agents = "-".join(map(str, batch.agents))
    path = folder / f"step-{batch.step}-agent-{agents}.npz"
    if not is_main_process():
        return path

    folder.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {"why": np.array(batch.reason), "problems": np.array(batch.problems)}
    for name in TrainSequence._fields:
        values = [np.atleast_1d(getattr(sequence, name)) for sequence in batch.sequences]
        arrays[name] = np.concatenate(values)
        arrays[f"{name}/lengths"] = np.array([len(value) for value in values])
    np.savez_compressed(path, **arrays)
    return path


def load_batch(path: str | pathlib.Path) -> SavedBatch:
    """The batch that `save_batch` saved, bit for bit.

    Raises:
      InputError: the file cannot be read, or is no such batch.
    """
    path = pathlib.Path(path)
    name = re.fullmatch(r"step-(\d+)-agent-(\d+(?:-\d+)*)\.npz", path.name)
    if name is None:
        raise InputError(
            "replay",
            f"{path.name!r:.80} is not named step-N-agent-K.npz; type a file of not_finite/",
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            columns = {field: _column(arrays, field) for field in TrainSequence._fields}
            problems = tuple(map(str, arrays["problems"]))
            reason = str(arrays["why"])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            "replay", f"cannot read {path} ({first_line(error)}); type a file of not_finite/"
        ) from error

    sequences = []
    for group, prefix, tail, response, advantage, old in zip(*columns.values(), strict=True):
        # One for each token, or one for all.
        own = advantage if len(advantage) > 1 else float(advantage[0])
        sequence = TrainSequence(int(group[0]), prefix, tail, response, own, old)
        sequences.append(sequence)
    agents = tuple(map(int, name[2].split("-")))
    return SavedBatch(int(name[1]), agents, problems, reason, tuple(sequences))


def _column(arrays: Any, field: str) -> list[np.ndarray]:
    """One field of every sequence."""
    ends = np.cumsum(arrays[f"{field}/lengths"])
    return np.split(arrays[field], ends[:-1])


def locate_nonfinite(
    policy: Policy,
    params: Any,
    opt_state: Any,
    mini_batches: Sequence[Sequence[TrainSequence]],
    config: UpdateConfig,
    *,
    pad_id: int = 0,
    reference: Reference | None = None,
    frozen: Any = None,
) -> NonFinite | None:
    """Repeats an update and says where the first number that is not finite arises; None where all
    are finite.

    Args:
      policy, mini_batches, config, pad_id, reference, frozen: as in `update_params`.
      params: the parameters before the update; donated.
      opt_state: their optimizer state; donated.
    """
    for field, stage in (("advantage", STAGES[0]), ("old_logprobs", STAGES[1])):
        for index, sequences in enumerate(mini_batches):
            bad = tuple(s for s in sequences if not _finite(getattr(s, field)))
            if bad:
                return NonFinite(stage, index, sequences=bad)
    if names := _nonfinite_leaves(params):
        return NonFinite("parameter", 0, parameters=names)

    packed = [pack_trained(sequences, config, pad_id=pad_id) for sequences in mini_batches]
    if config.rescore:
        packed, _ = rescore(policy, whole_params(policy, frozen, params), packed, config)
    packed = with_reference(reference, packed, config)
    if reference is not None and config.loss.kl_weight:
        for index, sequences in enumerate(mini_batches):
            if bad := _nonfinite_logprobs(
                reference.policy, reference.params, sequences, config, pad_id
            ):
                return NonFinite("reference log-prob", index, sequences=bad)
    totals = mini_batch_totals(mini_batches)
    for epoch, index in itertools.product(range(config.epochs), range(len(packed))):
        located = functools.partial(NonFinite, mini_batch=index, epoch=epoch)
        whole = whole_params(policy, frozen, params)
        if bad := _nonfinite_logprobs(policy, whole, mini_batches[index], config, pad_id):
            return located("trainer log-prob", sequences=bad)

        grads, loss, _ = gradient(policy, params, packed[index], totals[index], config, frozen)
        if not _finite(loss):
            return located("loss")
        if names := _nonfinite_leaves(grads):
            return located("gradient", parameters=names)

        params, opt_state, norm = apply_gradients(config.optimizer, params, opt_state, grads, loss)
        if not _finite(norm):
            return located("gradient norm")
    return None


def _nonfinite_logprobs(
    policy: Policy,
    params: Any,
    sequences: Sequence[TrainSequence],
    config: UpdateConfig,
    pad_id: int,
) -> tuple[TrainSequence, ...]:
    """The sequences to which the network gives a log-prob that is not finite."""
    # Packing reorders sequences; numbered advantages say where each one went. None is 0, which
    # would be left out.
    sequences = trained_sequences(sequences, config)
    numbered = [s._replace(advantage=float(n)) for n, s in enumerate(sequences, start=1)]
    bad = set()
    for batch in pack_trained(numbered, config, pad_id=pad_id):
        placed = put(batch, config.packing.sharding)
        logprobs = fetch(
            packed_logprobs(
                policy,
                params,
                placed,
                np.float32(config.temperature),
                logits_chunk=config.loss.logits_chunk,
            )
        )
        mask = np.arange(logprobs.shape[-1]) < batch.length[..., None]
        broken = np.any(mask & ~np.isfinite(logprobs), axis=-1)
        bad |= {int(number) - 1 for number in batch.advantage[broken]}
    return tuple(sequences[number] for number in sorted(bad))


def _nonfinite_leaves(tree: Any) -> tuple[str, ...]:
    """Names of the parameters, such as ``layers/q``, that hold a number that is not finite."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return tuple(
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in leaves
        if not bool(jnp.isfinite(leaf).all())
    )


def _finite(values: Any) -> bool:
    return bool(np.isfinite(np.asarray(values)).all())
