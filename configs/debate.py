"""Debate: all answer alone, read each other's answers, answer again; the plurality of the second answers counts.

    python run.py --config=configs/debate.py[:preset]

| preset | what it is | hardware | duration | figure |
|---|---|---|---|---|
| (none) | three agents of Qwen2.5-1.5B-Instruct, LogiQA | 1x 80 GB GPU | not run | none published |
| tiny | the embedded model, synthetic arithmetic | 2 CPU cores | see README | see README |

Masking an agent hides its first answer from the others, who reply anew: `ccpo` and `difference` take twelve texts a
sample where `shared` takes six.
"""

from ml_collections import ConfigDict

from configs.base import base, tiny

MODELS = {
    "": "Qwen/Qwen2.5-1.5B-Instruct",
    "tiny": "tiny",
}


def get_config(preset: str = "") -> ConfigDict:
    if preset not in MODELS:
        raise ValueError(
            f"config: configs/debate.py has no preset {preset!r}; use one of {', '.join(filter(None, MODELS))}"
        )
    c = base()
    c.topology = "debate"
    c.model = MODELS[preset]
    c.prompt_style = "choice"
    c.response_length = (2048,)
    c.steps = 1150  # 10 epochs of 7,376 problems
    c.data.train = "logiqa"
    c.data.eval = "logiqa_test"
    c.data.similarity = 0.5  # LogiQA 2.0 holds other translations of LogiQA's test passages
    if preset == "tiny":
        c = tiny(c)
        c.data.train = "synthetic/voting"
        c.response_length = (32,)
        c.trainer.pack_length = 256  # second answers quote three first ones
        c.steps = 40
    return c
