"""Debate: all answer alone, read each other's answers, answer again; the second answers vote.

    python run.py --config=debate[:preset]

| preset | what it is | hardware | duration | figure |
|---|---|---|---|---|
| (none) | three agents of Qwen2.5-1.5B-Instruct, LogiQA | 1x 80 GB GPU | not run | none published |
| tiny | the embedded model, synthetic arithmetic | 2 CPU cores | see README | see README |

Masking an agent hides its first answer from the others, who answer again: `ccpo` and `difference`
decode twelve responses per sample, `shared` six.
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
    config.topology = "debate"
    config.model = choose(MODELS, "debate", preset)
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
        # Second answers quote three first ones.
        config.trainer.pack_length = 256
        config.steps = 40
    return config
