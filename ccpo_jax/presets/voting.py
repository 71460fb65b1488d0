"""Three voters answer alone, the plurality is the team's answer; each earns what its vote changes.

    python run.py --config=voting[:preset]

| preset | what it is | hardware | duration | figure |
|---|---|---|---|---|
| (none) | the paper: three voters, Qwen2.5-1.5B-Instruct, LogiQA | 1x 80 GB GPU | not run | paper (second-hand): 45.01 at best |
| qwen2.5-7b | the same with Qwen2.5-7B-Instruct | 8x 80 GB | not run | none published |
| llama3.1-8b | the same with Llama-3.1-8B-Instruct | 8x 80 GB | not run | none published |
| qwen3-4b-base | the same with Qwen3-4B-Base | 8x 80 GB | not run | none published |
| tiny | the embedded model, synthetic arithmetic | 2 CPU cores | see README | see README |
| parts | the same, but one voter alone sees the whole problem | 2 CPU cores | see README | see README |

In `parts` who knows changes with the problem. `--config.team.num_agents=9` makes the team larger,
`--config.data.informed=2` tells two voters.
"""

from ccpo_jax.presets.base import Preset, base, choose, sharded, shipped, tiny

MODELS = {
    "": ("Qwen/Qwen2.5-1.5B-Instruct",),
    "qwen2.5-7b": ("Qwen/Qwen2.5-7B-Instruct",),
    "llama3.1-8b": ("meta-llama/Llama-3.1-8B-Instruct",),
    "qwen3-4b-base": ("Qwen/Qwen3-4B-Base",),
    "tiny": ("tiny",),
    "parts": ("tiny",),
}


@shipped
def get_config(preset: str = "") -> Preset:
    """The configuration of a preset; "" is the paper's setting."""
    config = base()
    config.topology = "voting"
    config.model = choose(MODELS, "voting", preset)
    config.prompt_style = "choice"
    config.response_length = (2048,)
    # 10 epochs of 7,376 problems
    config.steps = 1150
    config.data.train = ("logiqa",)
    config.data.eval = ("logiqa_test",)
    # LogiQA 2.0 holds other translations of LogiQA's test passages.
    config.data.similarity = 0.5
    if preset == "tiny":
        config = tiny(config)
        config.data.train = ("synthetic/voting",)
        config.response_length = (32,)
        config.steps = 40
    elif preset == "parts":
        config = tiny(config)
        config.data.train = ("synthetic/parts",)
        # Prompts of 17 tokens; "Answer: ", two digits and the end of the text.
        config.prompt_length = 20
        config.response_length = (6,)
        config.steps = 40
    elif preset:
        config = sharded(config)
    if preset == "qwen3-4b-base":
        # Its template lets the model think by default.
        config.thinking = False
    return config
