"""Chain: one agent plans, one solves, one checks; an agent earns what the team loses without it.

    python run.py --config=chain[:preset]

| preset | what it is | hardware | duration | figure |
|---|---|---|---|---|
| (none) | three agents of Qwen2.5-1.5B-Instruct, MATH 7.5k, MATH500 and four more test sets | 1x 80 GB GPU | not run | none published |
| tiny | the embedded model, synthetic arithmetic | 2 CPU cores | see README | see README |

`--config.team.num_agents=4` adds a second checker. Worlds that mask the planner or the solver
decode again what comes after it: `ccpo` and `difference` decode six responses per sample, `shared`
three.
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
    config.topology = "chain"
    config.model = choose(MODELS, "chain", preset)
    config.response_length = (2048,)
    # 10 epochs of 7,500 problems
    config.steps = 1170
    config.data.train = ("math",)
    config.data.eval = ("math500", "aime25", "amc23", "gaokao2023en", "minervamath")
    if preset == "tiny":
        config = tiny(config)
        config.data.train = ("synthetic/dyad",)
        config.response_length = (18, 17, 17)
        config.steps = 40
    return config
