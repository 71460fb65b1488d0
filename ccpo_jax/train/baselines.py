"""Which runs a baseline fits: what is promised to be unbiased is refused where it would not be.

Usual practice is not refused: docs/baselines.md says which condition biases which baseline.
"""

from ccpo_jax.config import Config
from ccpo_jax.errors import InputError

# Baselines that exist for an unbiased gradient of little variance.
UNBIASED = ("weighted",)


def check_baseline(config: Config, baseline: str) -> None:
    """Checks that a run's baseline has something to compare with, and is unbiased where it is
    meant to be.

    Args:
      config: of the run.
      baseline: its baseline, one of config.BASELINES.

    Raises:
      InputError: it is not, or it has no effect.
    """
    if baseline == "constant" and config.loss.name == "reinforce_pp":
        raise InputError(
            "advantage.baseline",
            "'constant' has no effect with loss reinforce_pp, which subtracts the mean of the "
            "batch; leave it out, or type --config.loss.name=grpo",
        )
    if baseline in ("batch_mean", "weighted") and config.batch_size < 2:
        raise InputError(
            "batch_size",
            f"baseline {baseline!r} compares prompts, at least 2, received 1; use batch_size=2",
        )
    if baseline in UNBIASED:
        _check_unbiased(config, baseline)


def _check_unbiased(config: Config, baseline: str) -> None:
    if config.loss.name != "grpo" or config.loss.normalize != "length":
        raise InputError(
            "advantage.baseline",
            f"{baseline!r} needs a loss that divides by a fixed length, received "
            f"{config.loss.name!r} with normalize={config.loss.normalize!r}; type "
            "--config.loss.name=grpo --config.loss.normalize=length "
            f"--config.loss.max_length={max(config.response_length)}",
        )
