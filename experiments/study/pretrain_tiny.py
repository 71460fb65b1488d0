"""Makes the embedded model from nothing: `python -m experiments.study.pretrain_tiny` writes ccpo_jax/assets/tiny.

The model is meant to be half competent: it knows how each role works, computes with slips, and
often guesses, gives up early or is unsure, so that reinforcement has something to gain and
something to lose. For three quarters of the run traces are clean (noise from the first step on
would hide the arithmetic) and every role computes the dyad's chains; bad habits, and voters' chains
with two-digit terms, come last. Accuracy moves with the last steps of any such run, which is why
the file itself is part of the repository. 1,300 steps took 17 minutes on two busy cores.
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

END, START, STOP, UNKNOWN = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unknown|>"
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
MAX_TOKENS = {"thinker": 18, "solver": 22, "voter": 32}  # what each role may write
SOLVER_STEPS = 3  # as many steps as the Solver has room for: five need the Thinker's help
VOTER_STEPS = 5  # as many as any problem takes
LATE_VOTING = functools.partial(
    chain_sum, terms=(4, 5), largest_term=12
)  # not quite the voters' task


def write_tokenizer(folder: pathlib.Path) -> None:
    """Writes a tokenizer of single characters and a few whole words: 112 entries, exact on ASCII
    text.

    It is Qwen2's byte-level tokenizer less the merges, for transformers rebuilds that class around
    any tokenizer.json that stands beside a Qwen2 model.

    Args:
      folder: receives tokenizer.json, tokenizer_config.json, chat_template.jinja and
        generation_config.json.
    """
    blanks = "ĠĊĉč"  # space, line feed, tab and carriage return in the byte-level alphabet
    characters = tuple(string.digits + string.ascii_letters + string.punctuation + blanks)
    entries = (END, START, STOP, UNKNOWN) + WORDS + characters
    backend = Tokenizer(
        models.BPE({entry: i for i, entry in enumerate(entries)}, merges=[], unk_token=UNKNOWN)
    )
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
        "eos_token_id": [entries.index(STOP), entries.index(END)],
        "pad_token_id": entries.index(END),
    }
    (folder / "generation_config.json").write_text(json.dumps(ends, indent=2) + "\n")


class Trace(NamedTuple):
    """One supervised example."""

    role: str
    question: str
    thought: str | None  # what the Solver has read; None = nothing
    response: str


def numbers(question: str) -> list[int]:
    """``Compute 47-8+6.`` -> [47, -8, 6]."""
    return [int(number) for number in re.findall(r"[+-]?\d+", question)]


def chain(start: int, changes: Sequence[int], slip_at: int = -1, slip: int = 0) -> tuple[str, int]:
    """Running totals, ``(47, [-8, 6])`` -> ("47-8=39+6=45", 45); the step `slip_at` comes out wrong
    by `slip`.
    """
    text, total = str(start), start
    for step, change in enumerate(changes):
        total = min(max(total + change + (slip if step == slip_at else 0), 0), LARGEST_TOTAL)
        text += f"{change:+d}={total}"
    return text, total


def slips(habit: str, steps: int, rng: random.Random) -> dict[str, int]:
    """Where and by how much to miscalculate: not at all unless it is the habit."""
    return (
        {"slip_at": rng.randrange(steps), "slip": rng.choice((-10, -2, -1, 1, 2, 10))}
        if habit == "slip"
        else {}
    )


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
    """The Solver's or a voter's response: goes on where the thought ends if there is room for it,
    else guesses.
    """
    start, *changes = numbers(question)
    totals = re.findall(r"=(\d+)", thought or "")
    if totals:
        start, changes = int(totals[-1]), changes[len(totals) :]
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


HABITS = {
    "clean": 0.0,
    "guess": 0.4,
    "short": 0.25,
    "slip": 0.2,
    "unsure": 0.15,
}  # shares of the noisy traces
THOUGHTS = {
    "clean": 0.6,
    "short": 0.15,
    "slip": 0.1,
    "unsure": 0.05,
    None: 0.1,
}  # what the Solver learns to read
ROLES = {"thinker": 0.25, "solver": 0.4, "voter": 0.35}


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
        makers = (TASKS["dyad"], LATE_VOTING if noise else TASKS["dyad"])
        joint, voted = (make("pretrain", 1024, rng.randrange(2**31)) for make in makers)
        for (heard, _), (alone, _) in zip(joint, voted, strict=True):
            role, habit = pick(ROLES), pick(HABITS) if rng.random() < noise else "clean"
            if role == "voter":
                yield Trace(role, alone, None, solve(alone, None, rng, habit, VOTER_STEPS))
            elif role == "thinker":
                yield Trace(role, heard, None, think(heard, rng, habit))
            else:
                reads = pick(THOUGHTS)
                thought = reads and think(heard, rng, reads)
                yield Trace(role, heard, thought, solve(heard, thought, rng, habit, SOLVER_STEPS))


def encode(
    trace: Trace, tokenizer, templates: dict[str, prompts.Template]
) -> tuple[list[int], list[int]]:
    """(prompt ids, response ids) of a trace, exactly as a rollout composes and samples them."""
    template = templates[trace.role]
    if trace.role == "solver":
        heard = None
        if trace.thought is not None:
            heard = prompts.quote(tokenizer, [trace.thought], MAX_TOKENS["thinker"])[0]
        prompt = prompts.prefix(template, tokenizer, trace.question) + prompts.tail(
            template, [heard]
        )
    else:
        prompt = prompts.whole(template, tokenizer, trace.question)
    return prompt, tokenizer.encode(trace.response) + [tokenizer.eos_ids[0]]


class Batch(NamedTuple):
    """Rows of supervised sequences, several to a row so that little is padding; all ``[N, S]``."""

    tokens: np.ndarray  # int32
    positions: np.ndarray  # int32, 0 at the start of every sequence
    segments: np.ndarray  # int32, 1, 2, ... within a row; 0 = padding
    target: np.ndarray  # bool, a response token: to be predicted


def batches(pairs: Iterator[tuple[list[int], list[int]]], rows: int, width: int) -> Iterator[Batch]:
    """Endless batches of ``rows x width`` tokens; a row is closed by the first (prompt, response)
    that does not fit.
    """
    prompt, response = next(pairs)
    while True:
        batch = Batch(
            *(np.zeros((rows, width), dtype) for dtype in (np.int32, np.int32, np.int32, bool))
        )
        for row in range(rows):
            used, segment = 0, 1
            while used + len(prompt) + len(response) <= width:
                border, end = used + len(prompt), used + len(prompt) + len(response)
                batch.tokens[row, used:end] = prompt + response
                batch.positions[row, used:end] = np.arange(end - used)
                batch.segments[row, used:end] = segment
                batch.target[row, border:end] = True
                used, segment = end, segment + 1
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
    step, state, clean = supervised_step(policy, adam), adam.init(params), steps * 3 // 4
    stages = [
        batches(
            (
                encode(trace, tokenizer, templates)
                for trace in traces(2 * seed + late, late * noise)
            ),
            16,
            192,
        )
        for late in (0, 1)
    ]
    for index in range(steps):
        params, state, loss = step(params, state, next(stages[index >= clean]))
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
        agents = tuple(
            Agent(policy, tokenizer, templates[role], MAX_TOKENS[role], 0)
            for role in topology.roles
        )
        questions, golds = zip(*TASKS[topology.name]("test", problems, 0), strict=True)
        spoken = rollout(
            Team(topology, agents, 32),
            weights,
            questions,
            jax.random.key(0),
            group_size=1,
            sampling=SamplingParams(temperature=temperature),
            ablated=topology.ablated,
        )
        answers = [
            np.array([[extract_exact(t, Context()) or "" for t in row] for row in turn.texts])
            for turn in spoken.turns
        ]
        correct = [answer == np.array(golds)[:, None] for answer in answers]
        names = np.unique(np.concatenate(answers, axis=1))
        result = outcome(
            topology, spoken, correct, [np.searchsorted(names, answer) for answer in answers]
        )
        scores[topology.name] = float(result.reward[0].mean())
        if topology.name == "dyad":
            scores["solo"] = float(result.reward[1].mean())
        else:
            scores["voter"] = float(result.correct[0].mean())
    return scores


def main(argv):
    """Tokenizer, supervised training, Hugging Face folder, scores."""
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
        print(
            f"temperature {temperature}: "
            + "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
        )


if __name__ == "__main__":
    app.run(main)
