"""Teaches the embedded model a habit, or a skill it lacks.

    python -m experiments.study.teach_tiny --lesson=lazy --out=FOLDER

A lesson is one of

    lazy        a Thinker that mostly says it is unsure, or nothing
    misleading  a Thinker whose first total is mostly one too many
    shirking    all roles of a dyad and a chain, who mostly leave the work to the others
    strong      a voter that often computes the whole chain
    weak        a voter that mostly guesses
    rating      both roles of a dyad rate outcomes in JSON (credit sepo); the rest stays as it was

The folder is in Hugging Face format: ``--config.model=FOLDER,tiny`` makes it agent 0. A lesson
takes two minutes on two cores, rating six.
"""

import argparse
import dataclasses
import pathlib
import shutil

import jax
import optax

from ccpo_jax import models
from ccpo_jax.arguments import Parser, positive
from ccpo_jax.hf.tokenizer import load_tokenizer
from experiments.study import pretrain_tiny as pretrain
from experiments.study.lessons import LESSONS

# Positions: a rater reads both texts and writes 46 characters.
_LONGEST = 192

# A new skill takes (steps, largest learning rate of a cosine): after a habit's pace 6 in 100 ratings
# can be read.
_HABITS_PACE = (200, 1e-3)
_PACE = {"rating": (900, 2e-3)}


def pace(lesson: str) -> tuple[int, float]:
    """(optimizer steps, largest learning rate) of a lesson."""
    return _PACE.get(lesson, _HABITS_PACE)


def teach(lesson: str, folder: pathlib.Path, *, steps: int | None = None, seed: int = 0) -> float:
    """Fine-tunes the embedded model and writes it.

    Args:
      lesson: a key of `LESSONS`.
      folder: receives the model in Hugging Face format.
      steps: optimizer steps of 16 x 192 tokens; None = as many as the lesson takes.
      seed: decides the traces.

    Returns:
      The loss of the last step, nats per response token.
    """
    tokenizer = load_tokenizer(str(pretrain.FOLDER))
    usual_steps, peak = pace(lesson)
    steps = steps or usual_steps
    config, params = models.load(pretrain.FOLDER)
    policy = models.make_policy(config, remat="none")
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, steps // 10, steps, 0.02 * peak)
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    step = pretrain.supervised_step(policy, adam)
    state = adam.init(params)
    batches = pretrain.batches(LESSONS[lesson](tokenizer, seed), rows=16, width=_LONGEST)
    for index in range(steps):
        params, state, loss = step(params, state, next(batches))
        if (index + 1) % 50 == 0:
            print(f"step {index + 1:5d}  loss {loss:.3f}", flush=True)

    models.save(folder, dataclasses.replace(config, max_positions=_LONGEST), jax.device_get(params))
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        shutil.copy(pretrain.FOLDER / name, folder)
    return float(loss)


if __name__ == "__main__":
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesson", choices=list(LESSONS), required=True)
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="folder that the model is written to"
    )
    parser.add_argument(
        "--steps", type=positive, help="optimizer steps; as many as the lesson takes when absent"
    )
    args = parser.parse_args()
    last_loss = teach(args.lesson, args.out, steps=args.steps)
    print(f"{args.out}: last loss {last_loss:.3f} nats per token")
