"""The reference policy of the KL term, and its log-probs of a batch."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ccpo_jax.devices.sharding import fetch, put
from ccpo_jax.learner.logprobs import packed_logprobs
from ccpo_jax.learner.packing import PackedBatch
from ccpo_jax.rl.types import Policy


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """A policy that is not trained.

    Attributes:
      policy: the network's functions.
      params: its parameters, in the type of its matrix products.
      source: folder or name that it was loaded from, for people.
      digest: tells its parameters from others; the same on any number of devices.
    """

    policy: Policy
    params: Any
    source: str = ""
    digest: str = ""


def score_reference(
    reference: Reference,
    packed: Sequence[Sequence[PackedBatch]],
    *,
    temperature: float,
    logits_chunk: int,
    sharding: Any = None,
) -> list[list[PackedBatch]]:
    """The batches with the reference's log-probs of their response tokens.

    It reads the packed rows that the update reads, by the same program: a network that is still its
    own reference gets the same numbers up to rounding.

    Args:
      reference: the policy.
      packed: micro-batches of each mini-batch.
      temperature: the sampler's: the divergence is that of the distributions that are sampled from.
      logits_chunk: tokens whose logits exist at once.
      sharding: placement of packed rows.
    """
    scored = []
    for batches in packed:
        scored.append([])
        for batch in batches:
            logprobs = fetch(
                packed_logprobs(
                    reference.policy,
                    reference.params,
                    put(batch, sharding),
                    np.float32(temperature),
                    logits_chunk=logits_chunk,
                )
            )
            mask = np.arange(logprobs.shape[-1]) < batch.length[..., None]
            scored[-1].append(batch._replace(reference_logprobs=np.where(mask, logprobs, 0)))
    return scored
