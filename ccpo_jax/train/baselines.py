"""Which runs a baseline fits: what promises an unbiased gradient is refused where it has none.

Usual practice is not refused: docs/baselines.md says which condition biases which baseline.
"""

from collections.abc import Collection

from ccpo_jax.config import Config
from ccpo_jax.errors import InputError

# Baselines that exist for an unbiased gradient of little variance.
UNBIASED = ("opo", "optimal", "weighted")


def check_baseline(config: Config, baseline: str, recorded: Collection[str] = ()) -> None:
    """Checks that a run's baseline has something to compare with, and is unbiased where it is
    meant to be.

    Args:
      config: of the run.
      baseline: its baseline, one of config.BASELINES.
      recorded: fields whose values are those that the run has recorded. What an earlier version
        allowed goes on.

    Raises:
      InputError: it is not, or it has no effect.
    """
    if baseline == "constant" and config.loss.name == "reinforce_pp":
        raise InputError(
            "advantage.baseline",
            "'constant' has no effect with loss reinforce_pp, which subtracts the mean of the "
            "batch; leave it out, or type --config.loss.name=grpo",
        )
    if _compares_prompts(config, baseline) and config.batch_size < 2:
        raise InputError(
            "batch_size",
            f"baseline {baseline!r} compares prompts, at least 2, received 1; use batch_size=2",
        )
    if baseline in UNBIASED:
        _check_loss(config, baseline)
        _check_policy(config, baseline, recorded)


def _compares_prompts(config: Config, baseline: str) -> bool:
    if baseline in ("opo", "optimal"):
        return config.advantage.pool == "others"
    return baseline == "batch_mean" or (baseline == "weighted" and not config.advantage.carried)


def _check_loss(config: Config, baseline: str) -> None:
    """Scores of tokens have mean 0, and so have their sums; their means over a length do not."""
    if config.loss.name != "grpo" or config.loss.normalize != "length":
        raise InputError(
            "advantage.baseline",
            f"{baseline!r} needs a loss that divides by a fixed length, received "
            f"{config.loss.name!r} with normalize={config.loss.normalize!r}; type "
            "--config.loss.name=grpo --config.loss.normalize=length "
            f"--config.loss.max_length={max(config.response_length)}",
        )
    by_token = baseline == "optimal" and config.advantage.form == "token"
    if by_token and config.loss.ratio != "token":
        raise InputError(
            "loss.ratio",
            "one ratio for a sequence spreads its gradient evenly over the tokens, and "
            "advantage.form=token has an advantage for each; type --config.loss.ratio=token",
        )


def _check_policy(config: Config, baseline: str, recorded: Collection[str]) -> None:
    """Scores have mean 0 under the policy that they are of, and no other."""
    values = {
        "trainer.mini_batches": (config.trainer.mini_batches, 1),
        "trainer.epochs": (config.trainer.epochs, 1),
        "sample.top_p": (config.sample.top_p, 1.0),
        "sample.top_k": (config.sample.top_k, None),
        "sample.min_p": (config.sample.min_p, 0.0),
    }
    for name, (value, needed) in values.items():
        began_so = {"advantage.baseline", name} <= set(recorded)
        if value != needed and not began_so:
            raise InputError(
                name,
                f"baseline {baseline!r} is unbiased for samples of the policy that is updated, one "
                f"update per batch and no filter, received {value}; leave it out, or type "
                "--config.advantage.baseline=leave_one_out",
            )
