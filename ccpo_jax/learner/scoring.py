"""Log-likelihoods of given responses, read by the program that reads them in an update."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ccpo_jax.devices.sharding import fetch, num_shards, put
from ccpo_jax.learner.logprobs import packed_logprobs
from ccpo_jax.learner.packing import TrainSequence, pack
from ccpo_jax.learner.update import UpdateConfig
from ccpo_jax.rl.types import HostArray, Policy


def sequence_logprobs(
    policy: Policy,
    params: Any,
    sequences: Sequence[TrainSequence],
    config: UpdateConfig,
    *,
    pad_id: int = 0,
) -> HostArray:
    """``[N]`` float32, nats: the log-likelihood of each response after its prompt.

    Args:
      policy: the network's functions.
      params: one parameter set.
      sequences: N of them; those of one group are adjacent. Their advantages are not read.
      config: packing and temperature.
      pad_id: any token of the network.
    """
    # Packing changes the order. Numbers stand in the advantages' place and come back with them.
    numbered = [
        sequence._replace(advantage=float(number)) for number, sequence in enumerate(sequences)
    ]
    batches = pack(
        numbered,
        row_length=config.packing.row_length,
        rows_per_microbatch=config.packing.rows_per_microbatch,
        multiple=num_shards(config.packing.sharding),
        pad_id=pad_id,
    )
    result = np.zeros(len(sequences), np.float32)
    for batch in batches:
        logprobs = fetch(
            packed_logprobs(
                policy,
                params,
                put(batch, config.packing.sharding),
                np.float32(config.temperature),
                logits_chunk=config.loss.logits_chunk,
            )
        )
        is_token = np.arange(logprobs.shape[-1]) < batch.length[..., None]
        of_responses = np.where(is_token, logprobs, 0.0).sum(axis=-1)
        is_response = np.asarray(batch.length) > 0
        number = np.asarray(batch.advantage)[is_response].astype(int)
        result[number] = of_responses[is_response]
    return result
