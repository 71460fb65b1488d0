"""The settings of sampling, in one record that training, evaluation and experiments share."""

import dataclasses

import jax

from ccpo_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class SamplingParams:
    """How responses are sampled. Only the first four change which tokens are drawn.

    Filters apply in this order, after the temperature: `top_k`, `top_p`, `min_p`.

    Attributes:
      temperature: 0 = greedy.
      top_p: probability mass of the tokens to draw from, in (0, 1]; 1 = the full distribution.
        It is a share of the mass that `top_k` leaves.
      top_k: how many of the most likely tokens to draw from, and those as likely as the last of
        them. None = all.
      min_p: least probability of a token to draw, as a share of that of the most likely token, in
        [0, 1]; 0 = all tokens.
      decode_chunk: decode steps between host checks for finished responses.
      max_concurrent: most responses of one sampler call that decode at once; further prompts wait
        until others have finished. None = all.
      sharding: placement of the prompt axis; None = one device.
      record_collision: record `Samples.collision`, which costs two more passes over the logits.

    Raises:
      InputError: naming the field of the configuration, if a value is out of range.

    Example:
      >>> SamplingParams(temperature=0.7, top_p=0.95, top_k=20).max_concurrent is None
      True
      >>> SamplingParams(temperature=-1.0)
      Traceback (most recent call last):
      ccpo_jax.errors.InputError: sample.temperature: must be >= 0 (0 = greedy), received -1.0
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    decode_chunk: int = 32
    max_concurrent: int | None = None
    sharding: jax.sharding.NamedSharding | None = None
    record_collision: bool = False

    def __post_init__(self):
        if not self.temperature >= 0:
            raise InputError(
                "sample.temperature", f"must be >= 0 (0 = greedy), received {self.temperature}"
            )
        if not 0 < self.top_p <= 1:
            raise InputError(
                "sample.top_p",
                f"must be in (0, 1], received {self.top_p}; use 1.0 for the full distribution",
            )
        if self.top_k is not None and self.top_k < 1:
            raise InputError(
                "sample.top_k",
                f"must be at least 1, received {self.top_k}; leave it out for all tokens",
            )
        if not 0 <= self.min_p <= 1:
            raise InputError(
                "sample.min_p", f"must be in [0, 1], received {self.min_p}; use 0 for all tokens"
            )
        if self.decode_chunk < 1:
            raise InputError(
                "sample.decode_chunk", f"must be at least 1, received {self.decode_chunk}"
            )
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise InputError(
                "sample.max_concurrent",
                f"must be at least 1, received {self.max_concurrent}; leave it out for no limit",
            )
