"""Trains the embedded model from nothing: `python -m experiments.study.pretrain_tiny`.

It writes ccpo_jax/assets/tiny. The model is meant to be half competent: it knows how each role
works, miscalculates at times, and often guesses, stops early or is unsure, so that reinforcement
learning has something to gain and something to lose. For three quarters of the run traces are clean
and every role computes the dyad's chains, because noise from the first step on would hide the
arithmetic. Bad habits, and voters' chains with two-digit terms, come last. Accuracy moves with the
last steps of any such run, which is why the file itself is part of the repository. 1,300 steps took
17 minutes on two busy cores.
"""

import functools
import json
import pathlib
import random
import re
import string
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ccpo_jax.data.synthetic import LARGEST_TOTAL, TASKS, chain_sum
from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.models import init_params, make_policy, save
from ccpo_jax.models.decoder import ModelConfig
from ccpo_jax.rl.topology import dyad, voting
from ccpo_jax.rollout import Agent, Team, outcome, prompts, rollout
from ccpo_jax.rollout.role_prompts import PROMPTS
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.verifiers import Context
from ccpo_jax.verifiers.exact import extract_exact

FOLDER = pathlib.Path(__file__).parents[2] / "ccpo_jax" / "assets" / "tiny"
_OUT = flags.DEFINE_string("out", str(FOLDER), "Folder to write.")
_STEPS = flags.DEFINE_integer("steps", 1300, "Supervised steps.")
_SEED = flags.DEFINE_integer("seed", 0, "Decides traces and initial weights.")

END = "<|endoftext|>"
START = "<|im_start|>"
STOP = "<|im_end|>"
UNKNOWN = "<|unknown|>"
WORDS = (
    "system",
    "user",
    "assistant",
    "Think",
    "Solve",
    "Vote",
    "Compute ",
    "Thought: ",
    "Answer: ",
    "unsure",
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}{{ message['content'] "
    "}}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)

# What each role may write.
MAX_TOKENS = {"thinker": 18, "solver": 22, "voter": 32}

# Steps that the Solver has room for: problems of five need the Thinker's help.
SOLVER_STEPS = 3

# As many as any problem takes.
VOTER_STEPS = 5

# Not quite the voters' task.
LATE_VOTING = functools.partial(chain_sum, terms=(4, 5), largest_term=12)

# Shares of the noisy traces.
HABITS = {
    "clean": 0.0,
    "guess": 0.4,
    "short": 0.25,
    "slip": 0.2,
    "unsure": 0.15,
}

# What the Solver learns to read; None is no thought.
THOUGHTS = {
    "clean": 0.6,
    "short": 0.15,
    "slip": 0.1,
    "unsure": 0.05,
    None: 0.1,
}

ROLES = {"thinker": 0.25, "solver": 0.4, "voter": 0.35}


def write_tokenizer(folder: pathlib.Path) -> None:
    """Writes a tokenizer of single characters and a few words: 112 entries, exact on ASCII text.

    It is Qwen2's byte-level tokenizer without the merges, because transformers rebuilds that class
    around any tokenizer.json that stands beside a Qwen2 model.

    Args:
      folder: receives tokenizer.json, tokenizer_config.json, chat_template.jinja and
        generation_config.json.
    """
    # Space, line feed, tab and carriage return in the byte-level alphabet.
    blanks = "ĠĊĉč"
    characters = string.digits + string.ascii_letters + string.punctuation + blanks
    entries = (END, START, STOP, UNKNOWN, *WORDS, *characters)
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    backend = Tokenizer(models.BPE(vocabulary, merges=[], unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken(word, normalized=False) for word in WORDS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=STOP,
        pad_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[START],
        clean_up_tokenization_spaces=False,
        model_max_length=128,
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)

    ends = {
        "eos_token_id": [vocabulary[STOP], vocabulary[END]],
        "pad_token_id": vocabulary[END],
    }
    (folder / "generation_config.json").write_text(json.dumps(ends, indent=2) + "\n")


class Trace(NamedTuple):
    """One supervised example.

    Attributes:
      role: a key of `ROLES`.
      question: what all roles read.
      thought: what the Solver has read; None is nothing.
      response: what the role writes.
    """

    role: str
    question: str
    thought: str | None
    response: str


def numbers(question: str) -> list[int]:
    """``Compute 47-8+6.`` -> [47, -8, 6]."""
    return [int(number) for number in re.findall(r"[+-]?\d+", question)]


def chain(start: int, changes: Sequence[int], slip_at: int = -1, slip: int = 0) -> tuple[str, int]:
    """Running totals: ``(47, [-8, 6])`` -> ("47-8=39+6=45", 45).

    The step `slip_at` comes out wrong by `slip`.
    """
    text = str(start)
    total = start
    for step, change in enumerate(changes):
        total += change
        if step == slip_at:
            total += slip
        total = min(max(total, 0), LARGEST_TOTAL)
        text += f"{change:+d}={total}"
    return text, total


def slips(habit: str, steps: int, rng: random.Random) -> dict[str, int]:
    """Where and by how much to miscalculate: not at all unless it is the habit."""
    if habit != "slip":
        return {}
    return {"slip_at": rng.randrange(steps), "slip": rng.choice((-10, -2, -1, 1, 2, 10))}


def think(question: str, rng: random.Random, habit: str) -> str:
    """The Thinker's response: the first half of the chain, or less of it."""
    first, *changes = numbers(question)
    half = changes[: (len(changes) + 1) // 2]
    if habit == "unsure":
        return "unsure"
    if habit in ("guess", "short"):
        half = half[: rng.randrange(len(half))]
    return chain(first, half, **slips(habit, len(half), rng))[0]


def solve(question: str, thought: str | None, rng: random.Random, habit: str, room: int) -> str:
    """The Solver's or a voter's response.

    It continues where the thought ends if there is room for the remaining steps; otherwise it
    guesses.
    """
    start, *changes = numbers(question)
    totals = re.findall(r"=(\d+)", thought or "")
    if totals:
        start = int(totals[-1])
        changes = changes[len(totals) :]

    if habit == "unsure":
        return "unsure"
    if habit == "short" and len(changes) > 1:
        changes = changes[: rng.randrange(1, len(changes))]
    if habit == "guess" or len(changes) > room:
        return f"Answer: {start + sum(changes)}"
    if not changes:
        return f"Answer: {start}"
    text, total = chain(start, changes, **slips(habit, len(changes), rng))
    return f"{text}\nAnswer: {total}"


def traces(seed: int, noise: float) -> Iterator[Trace]:
    """Endless supervised examples on problems of the "pretrain" split.

    Args:
      seed: decides problems, roles and habits.
      noise: share of responses that show a bad habit. While it is 0, voters practise on the dyad's
        problems.
    """
    rng = random.Random(seed)

    def pick(shares):
        return rng.choices(list(shares), list(shares.values()))[0]

    while True:
        make_voting = LATE_VOTING if noise else TASKS["dyad"]
        of_dyad = TASKS["dyad"]("pretrain", 1024, rng.randrange(2**31))
        of_voters = make_voting("pretrain", 1024, rng.randrange(2**31))
        for (shared, _), (own, _) in zip(of_dyad, of_voters, strict=True):
            role = pick(ROLES)
            habit = pick(HABITS) if rng.random() < noise else "clean"
            if role == "voter":
                yield Trace(role, own, None, solve(own, None, rng, habit, VOTER_STEPS))
            elif role == "thinker":
                yield Trace(role, shared, None, think(shared, rng, habit))
            else:
                thinkers_habit = pick(THOUGHTS)
                thought = thinkers_habit and think(shared, rng, thinkers_habit)
                response = solve(shared, thought, rng, habit, SOLVER_STEPS)
                yield Trace(role, shared, thought, response)


def encode(
    trace: Trace, tokenizer, templates: dict[str, prompts.Template]
) -> tuple[list[int], list[int]]:
    """(prompt ids, response ids) of a trace, exactly as a rollout composes and samples them."""
    template = templates[trace.role]
    response = [*tokenizer.encode(trace.response), tokenizer.eos_ids[0]]
    if trace.role != "solver":
        return prompts.whole(template, tokenizer, trace.question), response

    message = None
    if trace.thought is not None:
        message = prompts.quote(tokenizer, [trace.thought], MAX_TOKENS["thinker"])[0]
    prefix = prompts.prefix(template, tokenizer, trace.question)
    return prefix + prompts.tail(template, [message]), response


class Batch(NamedTuple):
    """Supervised sequences, several to a row so that little is padding; all fields ``[N, S]``.

    Attributes:
      tokens: int32.
      positions: int32, 0 at the start of every sequence.
      segments: int32, 1, 2, ... within a row; 0 is padding.
      target: bool, True for response tokens, which are to be predicted.
    """

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    target: np.ndarray


def batches(pairs: Iterator[tuple[list[int], list[int]]], rows: int, width: int) -> Iterator[Batch]:
    """Endless batches of ``rows x width`` tokens.

    The first (prompt, response) that does not fit into a row opens the next one.
    """
    prompt, response = next(pairs)
    while True:
        shape = (rows, width)
        batch = Batch(
            tokens=np.zeros(shape, np.int32),
            positions=np.zeros(shape, np.int32),
            segments=np.zeros(shape, np.int32),
            target=np.zeros(shape, bool),
        )
        for row in range(rows):
            start = 0
            segment = 1
            while start + len(prompt) + len(response) <= width:
                border = start + len(prompt)
                end = border + len(response)
                batch.tokens[row, start:end] = prompt + response
                batch.positions[row, start:end] = np.arange(end - start)
                batch.segments[row, start:end] = segment
                batch.target[row, border:end] = True
                start = end
                segment += 1
                prompt, response = next(pairs)
        yield batch


def response_loss(params, batch: Batch, policy) -> jax.Array:
    """Mean cross-entropy of the response tokens, end token included."""
    hidden = policy.hidden(params, batch.tokens, batch.positions, batch.segments, batch.segments)
    logits = policy.logits(params, hidden[:, :-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.tokens[:, 1:])
    return jnp.sum(losses * batch.target[:, 1:]) / jnp.sum(batch.target[:, 1:])


CONFIG = ModelConfig(
    model_type="qwen2",
    vocab_size=112,
    hidden_size=128,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    ffn_size=352,
    rope_theta=10_000.0,
    norm_eps=1e-6,
    qkv_bias=True,
    tied_embeddings=True,
    max_positions=128,
)


def supervised_step(policy, optimizer: optax.GradientTransformation):
    """A compiled step: (params, optimizer state, batch) -> (params, optimizer state, loss)."""

    @jax.jit
    def step(params, state, batch):
        loss, gradient = jax.value_and_grad(response_loss)(params, batch, policy)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    return step


def train(tokenizer, templates, *, steps: int, seed: int, peak: float = 3e-3, noise: float = 0.35):
    """Supervised training: AdamW on a cosine, clean traces first, noisy ones in the last quarter.

    Args:
      tokenizer: of the embedded model.
      templates: role -> `prompts.Template`.
      steps: optimizer steps of 16 x 192 tokens, about 60 sequences.
      seed: decides initial weights and traces.
      peak: largest learning rate.
      noise: share of bad habits in the last quarter.

    Returns:
      (policy, params).
    """
    policy = make_policy(CONFIG, remat="none")
    params = init_params(CONFIG, jax.random.key(seed))
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, 50, steps, 0.02 * peak)
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01))
    step = supervised_step(policy, adam)
    state = adam.init(params)

    def batches_of(seed: int, noise: float) -> Iterator[Batch]:
        pairs = (encode(trace, tokenizer, templates) for trace in traces(seed, noise))
        return batches(pairs, rows=16, width=192)

    clean = batches_of(2 * seed, 0.0)
    noisy = batches_of(2 * seed + 1, noise)
    num_clean = steps * 3 // 4
    for index in range(steps):
        batch = next(clean if index < num_clean else noisy)
        params, state, loss = step(params, state, batch)
        if (index + 1) % 50 == 0:
            print(f"step {index + 1:5d}  loss {loss:.3f}", flush=True)
    return policy, params


def score(
    policy, params, tokenizer, templates, *, problems: int = 512, temperature: float = 1.0
) -> dict[str, float]:
    """Accuracy on held-out problems, one sample per agent and problem.

    Returns:
      `dyad` (the team), `solo` (the Solver without the thought), `voting` (plurality of three, ties
      shared), `voter`.
    """
    weights = (jax.jit(policy.publish)(params),)
    scores = {}
    for topology in (dyad(), voting()):
        agents = []
        for role in topology.roles:
            agents.append(Agent(policy, tokenizer, templates[role], MAX_TOKENS[role], 0))
        questions, golds = zip(*TASKS[topology.name]("test", problems, 0), strict=True)
        spoken = rollout(
            Team(topology, tuple(agents), 32),
            weights,
            questions,
            jax.random.key(0),
            group_size=1,
            sampling=SamplingParams(temperature=temperature),
            ablated=topology.ablated,
        )
        answers = [_answers(turn.texts) for turn in spoken.turns]
        distinct = np.unique(np.concatenate(answers, axis=1))
        correct = [answer == np.array(golds)[:, None] for answer in answers]
        answer_id = [np.searchsorted(distinct, answer) for answer in answers]
        result = outcome(topology, spoken, correct, answer_id)
        scores[topology.name] = float(result.reward[0].mean())
        if topology.name == "dyad":
            scores["solo"] = float(result.reward[1].mean())
        else:
            scores["voter"] = float(result.correct[0].mean())
    return scores


def _answers(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """``[B, N]`` answers of the texts; "" where a text has none."""
    rows = []
    for row in texts:
        rows.append([extract_exact(text, Context()) or "" for text in row])
    return np.array(rows)


def main(argv):
    """Writes tokenizer and model, and prints scores."""
    del argv
    folder = pathlib.Path(_OUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    tokenizer = load_tokenizer(str(folder))
    templates = {
        role: prompts.tokenize_role(tokenizer, prompt) for role, prompt in PROMPTS["tiny"].items()
    }
    policy, params = train(tokenizer, templates, steps=_STEPS.value, seed=_SEED.value)
    save(folder, CONFIG, params)
    for temperature in (1.0, 0.0):
        scores = score(policy, params, tokenizer, templates, temperature=temperature)
        line = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
        print(f"temperature {temperature}: {line}")


if __name__ == "__main__":
    app.run(main)
