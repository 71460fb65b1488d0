"""Think-Reason dyad: agent 0 thinks, agent 1 answers; the Thinker earns what its thought changes.

    python run.py --config=dyad[:preset]

| preset | what it is | hardware | duration | figure |
|---|---|---|---|---|
| (none) | the paper: Qwen2.5-1.5B-Instruct, MATH 7.5k, MATH500 and four more test sets | 1x 80 GB GPU | not run | paper: 61.00 on MATH500 |
| qwen2.5-7b | the same with Qwen2.5-7B-Instruct | 8x 80 GB | not run | paper: 77.60 |
| llama3.1-8b | the same with Llama-3.1-8B-Instruct | 8x 80 GB | not run | paper: 53.40 |
| qwen3-4b-base | the same with Qwen3-4B-Base | 8x 80 GB | not run | paper: 79.40 |
| mixed | Qwen2.5-7B thinks, Llama-3.1-8B answers | 8x 80 GB | not run | none published |
| event | later version: event bonus, GSPO, 192 x 16, 8 updates a step | 8x 80 GB | not run | paper: 59.20 |
| olmo3-7b | the later version with Olmo-3-7B-Instruct | 8x 80 GB | not run | paper: 84.40 |
| tiny | the embedded model, synthetic arithmetic | 2 CPU cores | see README | see README |
"""

from ccpo_jax.presets.base import Preset, base, choose, sharded, shipped, tiny

MODELS = {
    "": ("Qwen/Qwen2.5-1.5B-Instruct",),
    "event": ("Qwen/Qwen2.5-1.5B-Instruct",),
    "qwen2.5-7b": ("Qwen/Qwen2.5-7B-Instruct",),
    "llama3.1-8b": ("meta-llama/Llama-3.1-8B-Instruct",),
    "qwen3-4b-base": ("Qwen/Qwen3-4B-Base",),
    "mixed": ("Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
    "olmo3-7b": ("allenai/Olmo-3-7B-Instruct",),
    "tiny": ("tiny",),
}


@shipped
def get_config(preset: str = "") -> Preset:
    """The configuration of a preset; "" is the paper's setting."""
    config = base()
    config.topology = "dyad"
    config.model = choose(MODELS, "dyad", preset)
    # 10 epochs of 7,500 problems
    config.steps = 1170
    config.data.train = ("math",)
    config.data.eval = ("math500", "aime25", "amc23", "gaokao2023en", "minervamath")
    if preset in ("event", "olmo3-7b"):
        config = event(config)
    elif preset == "tiny":
        config = tiny(config)
        config.data.train = ("synthetic/dyad",)
        config.response_length = (18, 17)
        config.steps = 40
    elif preset:
        config = sharded(config)
    if preset == "qwen3-4b-base":
        # Its template lets the model think by default.
        config.thinking = False
    return config


def event(config: Preset) -> Preset:
    """The paper's later version."""
    config.credit.name = "ccpo_event"
    config.loss.name = "gspo"
    config.loss.clip_low = 3e-4
    config.loss.clip_high = 4e-4
    config.batch_size = 192
    config.group_size = 16
    # 10 epochs of 7,500 problems
    config.steps = 390
    config.trainer.mini_batches = 8
    config.response_length = (4096, 6144)
    return sharded(config)
