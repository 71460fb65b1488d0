"""Benchmark of verifiers: verdicts per second."""

import statistics
import time

import numpy as np

from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.train.sources import TINY
from ccpo_jax.verifiers import VERIFIERS, Context, Item, VerifierPool
from experiments.bench.workloads import peak_memory


def bench_verify(args) -> dict:
    """Math answers verified per second; the roofline is the bare verifier in every process.

    Answers differ from repeat to repeat, so that no process remembers them. Tokens are those of the
    embedded model, nearly one per character: a rate of decoding that verification keeps up with.
    """
    tokenizer = load_tokenizer(str(TINY))
    result: dict[str, float] = {"compiles": 0}
    with VerifierPool(workers=args.workers, time_limit=5.0, max_chars=20000) as pool:
        for prefix, make_items in (("", numbers), ("expression_", expressions)):
            pool.verify(make_items(args, args.repeats)[: 8 * args.workers])

            seconds = []
            num_correct = 0
            items: list[Item] = []
            for seed in range(args.repeats):
                items = make_items(args, seed)
                began = time.perf_counter()
                graded = pool.verify(items)
                seconds.append(time.perf_counter() - began)
                num_correct += sum(sum(verdicts.correct) for verdicts in graded)

            took = statistics.median(seconds)
            texts = [text for item in items for text in item.texts]
            num_tokens = sum(map(len, tokenizer.encode_batch(texts)))
            bare = bare_verification(make_items(args, args.repeats + 1)) / args.workers
            result |= {
                f"{prefix}tokens_per_second": num_tokens / took,
                f"{prefix}verifications_per_second": len(texts) / took,
                f"{prefix}seconds": took,
                f"{prefix}right_per_problem": num_correct / len(items) / args.repeats,
                f"{prefix}roofline_fraction": bare / took,
            }
    return result | {"peak_memory_bytes": peak_memory()}


def numbers(args, seed: int) -> list[Item]:
    """Problems with integers and fractions; one answer to each is right, and none comes twice."""
    values = np.random.default_rng(seed).integers(1, 10**6, args.prompts * 16)
    items = []
    for index, value in enumerate(values):
        gold = right = f"{value}"
        if index % 2 == 0:
            gold = f"\\frac{{{value}}}{{7}}"
            right = f"\\frac{{{2 * value}}}{{14}}"
        wrong = [f"{value + k}.5" for k in range(1, args.samples)]
        texts = [f"so \\boxed{{{answer}}}" for answer in (right, *wrong)]
        items.append(Item("math", gold, tuple(texts)))
    return items


def expressions(args, seed: int) -> list[Item]:
    """Problems that need the parser and algebra: few, because each answer takes milliseconds."""
    items = []
    for value in np.random.default_rng(seed).integers(1, 10**6, args.prompts):
        right = f"\\boxed{{1 + {value}x}}"
        wrong = [f"\\boxed{{{k}x}}" for k in range(1, args.samples)]
        items.append(Item("math", f"{value}x+1", (right, *wrong)))
    return items


def bare_verification(items) -> float:
    """Seconds of the same work without processes, limits and grouping, in this process."""
    context = Context()
    began = time.perf_counter()
    for item in items:
        verifier = VERIFIERS[item.verifier]
        for text in item.texts:
            answer = verifier.extract(text, context)
            if answer is not None:
                verifier.equivalent(item.gold, answer, context)
    return time.perf_counter() - began
