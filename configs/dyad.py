"""Think-Reason dyad: agent 0 thinks, agent 1 answers; the Thinker is paid for what its thought changes.

    python run.py --config=configs/dyad.py[:preset]

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

from ml_collections import ConfigDict

from configs.base import base, sharded, tiny

MODELS = {
    "": "Qwen/Qwen2.5-1.5B-Instruct",
    "event": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen2.5-7b": "Qwen/Qwen2.5-7B-Instruct",
    "llama3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
    "qwen3-4b-base": "Qwen/Qwen3-4B-Base",
    "mixed": "Qwen/Qwen2.5-7B-Instruct,meta-llama/Llama-3.1-8B-Instruct",
    "olmo3-7b": "allenai/Olmo-3-7B-Instruct",
    "tiny": "tiny",
}


def get_config(preset: str = "") -> ConfigDict:
    if preset not in MODELS:
        raise ValueError(
            f"config: configs/dyad.py has no preset {preset!r}; use one of {', '.join(filter(None, MODELS))}"
        )
    c = base()
    c.topology = "dyad"
    c.model = MODELS[preset]
    c.steps = 1170  # 10 epochs of 7,500 problems
    c.data.train = "math"
    c.data.eval = "math500,aime25,amc23,gaokao2023en,minervamath"
    if preset in ("event", "olmo3-7b"):
        c = event(c)
    elif preset == "tiny":
        c = tiny(c)
        c.data.train = "synthetic/dyad"
        c.response_length = (18, 22)
        c.steps = 40
    elif preset:
        c = sharded(c)
    return c


def event(c: ConfigDict) -> ConfigDict:
    """The paper's later version."""
    c.credit.name = "ccpo_event"
    c.loss.name = "gspo"
    c.loss.clip_low, c.loss.clip_high = 3e-4, 4e-4
    c.batch_size, c.group_size = 192, 16
    c.steps = 390  # 10 epochs of 7,500 problems
    c.trainer.mini_batches = 8
    c.response_length = (4096, 6144)
    return sharded(c)
