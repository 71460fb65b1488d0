"""Solo: one agent answers alone and earns the reward; the first baseline of every team.

    python run.py --config=solo[:preset]

| preset | what it is | hardware | duration | figure |
|---|---|---|---|---|
| (none) | Qwen2.5-1.5B-Instruct alone, MATH 7.5k, MATH500 and four more test sets | 1x 80 GB GPU | not run | none published |
| tiny | the embedded model, synthetic arithmetic | 2 CPU cores | see README | see README |

Its samples per prompt are those of the dyad at an equal number of responses: where the dyad decodes
a thought and an answer, it decodes two answers.
"""

from ccpo_jax.presets.base import Preset, base, choose, shipped, tiny

MODELS = {
    "": ("Qwen/Qwen2.5-1.5B-Instruct",),
    "tiny": ("tiny",),
}


@shipped
def get_config(preset: str = "") -> Preset:
    """The configuration of a preset."""
    config = base()
    config.topology = "solo"
    config.credit.name = "shared"
    config.model = choose(MODELS, "solo", preset)
    config.response_length = (2048,)
    config.group_size = 8
    # 10 epochs of 7,500 problems
    config.steps = 1170
    config.data.train = ("math",)
    config.data.eval = ("math500", "aime25", "amc23", "gaokao2023en", "minervamath")
    if preset == "tiny":
        config = tiny(config)
        config.data.train = ("synthetic/dyad",)
        config.response_length = (22,)
        config.group_size = 16
        config.steps = 40
    return config
