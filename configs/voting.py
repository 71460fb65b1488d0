"""Three voters: each answers alone, the plurality is the team's answer; each is paid for what its vote changes.

    python run.py --config=configs/voting.py[:preset]

| preset | what it is | hardware | duration | figure |
|---|---|---|---|---|
| (none) | the paper: three voters, Qwen2.5-1.5B-Instruct, LogiQA | 1x 80 GB GPU | not run | paper (second-hand): 45.01 at best |
| qwen2.5-7b | the same with Qwen2.5-7B-Instruct | 8x 80 GB | not run | none published |
| llama3.1-8b | the same with Llama-3.1-8B-Instruct | 8x 80 GB | not run | none published |
| qwen3-4b-base | the same with Qwen3-4B-Base | 8x 80 GB | not run | none published |
| tiny | the embedded model, synthetic arithmetic | 2 CPU cores | see README | see README |
"""

from ml_collections import ConfigDict

from configs.base import base, sharded, tiny

MODELS = {
    "": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen2.5-7b": "Qwen/Qwen2.5-7B-Instruct",
    "llama3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
    "qwen3-4b-base": "Qwen/Qwen3-4B-Base",
    "tiny": "tiny",
}


def get_config(preset: str = "") -> ConfigDict:
    if preset not in MODELS:
        raise ValueError(
            f"config: configs/voting.py has no preset {preset!r}; use one of {', '.join(filter(None, MODELS))}"
        )
    c = base()
    c.topology = "voting"
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
        c.steps = 40
    elif preset:
        c = sharded(c)
    return c
