"""Teaches the embedded model a habit, or a skill it lacks.

    python -m experiments.study.teach_tiny --lesson=lazy --out=FOLDER

A lesson is one of

    lazy        a Thinker that mostly says it is unsure, or nothing
    misleading  a Thinker that mostly miscalculates
    rating      both roles of a dyad rate outcomes in JSON (credit sepo); the rest stays as it was

The folder is in Hugging Face format: ``--config.model=FOLDER,tiny`` makes it agent 0. A lesson
takes two minutes on two cores, rating six.
"""

import argparse
import dataclasses
import json
import pathlib
import random
import re
import shutil
from collections.abc import Iterator

import jax
import optax

from ccpo_jax import models
from ccpo_jax.arguments import Parser, positive
from ccpo_jax.data.synthetic import TASKS
from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.rollout import prompts
from ccpo_jax.rollout.ratings import OUTCOMES
from ccpo_jax.rollout.role_prompts import PROMPTS
from experiments.study import pretrain_tiny as pretrain
from experiments.study import tiny_traces as traces

# Positions: a rater reads both texts and writes 46 characters.
_LONGEST = 192

# (prompt ids, response ids)
Pair = tuple[list[int], list[int]]

# A new skill takes (steps, largest learning rate of a cosine): after a habit's pace 6 in 100 ratings
# can be read.
_HABITS_PACE = (300, 5e-4)
_PACE = {"rating": (900, 2e-3)}


def habitual_thoughts(tokenizer, rng: random.Random, habits: dict[str, float]) -> Iterator[Pair]:
    """A Thinker's prompts with responses of some habits, drawn by their shares."""
    template = prompts.tokenize_role(tokenizer, PROMPTS["tiny"]["thinker"])
    while True:
        for question, _ in TASKS["dyad"]("pretrain", 1024, rng.randrange(2**31)):
            habit = rng.choices(list(habits), list(habits.values()))[0]
            thought = "" if habit == "nothing" else traces.think(question, rng, habit)
            prompt = prompts.whole(template, tokenizer, question)
            yield prompt, _response(tokenizer, thought)


def _response(tokenizer, text: str) -> list[int]:
    """Ids of a text and of the token that ends it."""
    return [*tokenizer.encode(text), tokenizer.eos_ids[0]]


def lazy(tokenizer, seed: int) -> Iterator[Pair]:
    """Five thoughts in six help nobody."""
    habits = {"unsure": 3.0, "nothing": 2.0, "clean": 1.0}
    return habitual_thoughts(tokenizer, random.Random(seed), habits)


def misleading(tokenizer, seed: int) -> Iterator[Pair]:
    """Five thoughts in six lead to a wrong total."""
    return habitual_thoughts(tokenizer, random.Random(seed), {"slip": 5.0, "clean": 1.0})


def fair_shares(thought: str, right: bool) -> tuple[float, float]:
    """The Thinker's and the Solver's share of an outcome, as one who can compute would rate it.

    Praise goes to the Thinker for a right half of the chain, blame for a wrong one or none.

    Example:
      >>> fair_shares("4-1=3", right=True)
      (0.6, 0.4)
      >>> fair_shares("4-1=5", right=False)
      (0.8, 0.2)
    """
    steps = re.findall(r"(?=(?<!\d)(\d+)([+-]\d+)=(\d+))", thought)
    is_right = all(int(total) + int(change) == int(result) for total, change, result in steps)
    ends_in_total = re.search(r"=\d+$", thought) is not None
    if is_right and ends_in_total:
        tenths = 6 if right else 2
    else:
        tenths = 2 if right else 8
    return tenths / 10, (10 - tenths) / 10


def rating(tokenizer, seed: int) -> Iterator[Pair]:
    """Ratings of both roles, a third each, between traces of the first training."""
    rng = random.Random(seed)
    words = PROMPTS["tiny"]
    messages = ("thinker", "solver", "verdict")
    raters = []
    for role in ("thinker", "solver"):
        raters.append(prompts.tokenize_role(tokenizer, words[f"rate_{role}"], messages))
    templates = {
        role: prompts.tokenize_role(tokenizer, words[role])
        for role in ("thinker", "solver", "voter")
    }

    first_training = traces.traces(seed, habits=True)
    habits = list(traces.SOLVER)
    while True:
        for question, gold in TASKS["dyad"]("pretrain", 1024, rng.randrange(2**31)):
            thought = traces.think(question, rng, rng.choice(habits))
            habit = rng.choice(habits)
            answer = traces.solve(question, thought, rng, habit, traces.SOLVER_STEPS)
            outcome = OUTCOMES[answer.endswith(f"Answer: {gold}")]
            thinker, solver = fair_shares(thought, outcome == "right")

            quoted = []
            for text in (thought, answer):
                quoted += prompts.quote(tokenizer, [text], traces.MAX_TOKENS["solver"])
            quoted.append(tokenizer.encode(outcome))
            shares = {"outcome": outcome, "thinker": thinker, "solver": solver}
            response = _response(tokenizer, json.dumps(shares, separators=(",", ":")))
            for rater in raters:
                prefix = prompts.prefix(rater, tokenizer, question)
                yield prefix + prompts.tail(rater, quoted), response

            yield pretrain.encode(next(first_training), tokenizer, templates)


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
    usual_steps, peak = _PACE.get(lesson, _HABITS_PACE)
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


LESSONS = {"lazy": lazy, "misleading": misleading, "rating": rating}


if __name__ == "__main__":
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesson", choices=list(LESSONS), required=True)
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="folder that the pupil is written to"
    )
    parser.add_argument(
        "--steps", type=positive, help="optimizer steps; as many as the lesson takes when absent"
    )
    args = parser.parse_args()
    last_loss = teach(args.lesson, args.out, steps=args.steps)
    print(f"{args.out}: last loss {last_loss:.3f} nats per token")
