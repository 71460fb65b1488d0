"""Chain: one agent plans, one solves, one checks; everyone is paid for what the team loses without it.

    python run.py --config=configs/chain.py[:preset]

| preset | what it is | hardware | duration | figure |
|---|---|---|---|---|
| (none) | three agents of Qwen2.5-1.5B-Instruct, MATH 7.5k, MATH500 and four more test sets | 1x 80 GB GPU | not run | none published |
| tiny | the embedded model, synthetic arithmetic | 2 CPU cores | see README | see README |

`--config.num_agents=4` adds a second checker. Worlds that mask the planner or the solver decode anew what comes after
it: `ccpo` and `difference` take six texts a sample where `shared` takes three.
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
            f"config: configs/chain.py has no preset {preset!r}; use one of {', '.join(filter(None, MODELS))}"
        )
    c = base()
    c.topology = "chain"
    c.model = MODELS[preset]
    c.response_length = (2048,)
    c.steps = 1170  # 10 epochs of 7,500 problems
    c.data.train = "math"
    c.data.eval = "math500,aime25,amc23,gaokao2023en,minervamath"
    if preset == "tiny":
        c = tiny(c)
        c.data.train = "synthetic/dyad"
        c.response_length = (18, 22, 22)
        c.steps = 40
    return c
