"""Solo: one agent answers alone and earns the reward; the first baseline of every team.

    python run.py --config=solo[:preset]

| preset | what it is | hardware | duration | figure |
|---|---|---|---|---|
| (none) | Qwen2.5-1.5B-Instruct alone, MATH 7.5k, MATH500 and four more test sets | 1x 80 GB GPU | not run | none published |
| qwen2.5-7b | the same with Qwen2.5-7B-Instruct | 8x 80 GB | not run | none published |
| llama3.1-8b | the same with Llama-3.1-8B-Instruct | 8x 80 GB | not run | none published |
| qwen3-4b-base | the same with Qwen3-4B-Base | 8x 80 GB | not run | none published |
| event | the loss and the sizes of dyad:event | 8x 80 GB | not run | none published |
| olmo3-7b | the same with Olmo-3-7B-Instruct | 8x 80 GB | not run | none published |
| tiny | the embedded model, synthetic arithmetic | 2 CPU cores | see README | see README |

A preset is the dyad's of the same name with twice its samples: where the dyad decodes a thought and
an answer, it decodes two answers.
"""

from ccpo_jax.presets import dyad
from ccpo_jax.presets.base import Preset, choose, shipped

MODELS = {name: models for name, models in dyad.MODELS.items() if len(models) == 1}


@shipped
def get_config(preset: str = "") -> Preset:
    """The configuration of a preset."""
    choose(MODELS, "solo", preset)
    config = dyad.get_config(preset)
    config.topology = "solo"
    config.response_length = config.response_length[-1:]
    config.group_size = 2 * config.group_size
    config.credit.name = "shared"
    if preset in ("event", "olmo3-7b"):
        # As with the dyad's credit there.
        config.advantage.normalize_std = False
    return config
