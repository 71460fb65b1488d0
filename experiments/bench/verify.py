"""Benchmark of verifiers: verdicts per second."""

import statistics
import time

import numpy as np

from experiments.bench.workloads import peak_memory


def bench_verify(args) -> dict:
    """Math answers verified per second with the hard kill on; the roofline is the bare verifier in
    every process.

    Every repeat has answers of its own, so that no process remembers them. Their tokens are the
    embedded model's,
    nearly one a character: a rate of decoding that verification keeps up with.
    """
    from ccpo_jax.hf.tokenizer import load_tokenizer
    from ccpo_jax.train.load import TINY
    from ccpo_jax.verifiers import VerifierPool

    tokenizer, found = load_tokenizer(str(TINY)), {"compiles": 0}
    with VerifierPool(workers=args.workers, time_limit=5.0, max_chars=20000) as pool:
        for kind, make in (("", numbers), ("expression_", expressions)):
            pool.verify(make(args, args.repeats)[: 8 * args.workers])
            seconds, right = [], 0
            for seed in range(args.repeats):
                items = make(args, seed)
                began = time.perf_counter()
                graded = pool.verify(items)
                seconds.append(time.perf_counter() - began)
                right += sum(sum(one.correct) for one in graded) / len(items) / args.repeats
            took = statistics.median(seconds)
            tokens = tokenizer.encode_batch([text for item in items for text in item.texts])
            found |= {
                f"{kind}tokens_per_second": sum(map(len, tokens)) / took,
                f"{kind}verifications_per_second": sum(len(item.texts) for item in items) / took,
                f"{kind}seconds": took,
                f"{kind}right_per_problem": right,
                f"{kind}roofline_fraction": bare_verification(make(args, args.repeats + 1))
                / args.workers
                / took,
            }
    return found | {"peak_memory_bytes": peak_memory()}


def numbers(args, seed: int) -> list:
    """Problems with integers and fractions; one answer of each is right, and none comes twice."""
    from ccpo_jax.verifiers import Item

    items = []
    for i, value in enumerate(np.random.default_rng(seed).integers(1, 10**6, args.prompts * 16)):
        gold, right = (
            (f"{value}", f"{value}")
            if i % 2
            else (f"\\frac{{{value}}}{{7}}", f"\\frac{{{2 * value}}}{{14}}")
        )
        wrong = (f"{value + k}.5" for k in range(1, args.samples))
        items.append(
            Item("math", gold, tuple(f"so \\boxed{{{answer}}}" for answer in (right, *wrong)))
        )
    return items


def expressions(args, seed: int) -> list:
    """Problems that need the parser and algebra: few, because each answer takes milliseconds."""
    from ccpo_jax.verifiers import Item

    values = np.random.default_rng(seed).integers(1, 10**6, args.prompts)
    right = [(f"{value}x+1", f"\\boxed{{1 + {value}x}}") for value in values]
    return [
        Item("math", gold, (text, *(f"\\boxed{{{k}x}}" for k in range(1, args.samples))))
        for gold, text in right
    ]


def bare_verification(items) -> float:
    """Seconds of the same work without processes, limits and grouping, in this process."""
    from ccpo_jax.verifiers import VERIFIERS, Context

    context = Context()
    began = time.perf_counter()
    for item in items:
        verifier = VERIFIERS[item.verifier]
        for text in item.texts:
            answer = verifier.extract(text, context)
            if answer is not None:
                verifier.equivalent(item.gold, answer, context)
    return time.perf_counter() - began
