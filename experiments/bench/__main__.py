"""How fast, and how near to what the machine can do: `python -m experiments.bench rollout|train|step|verify`.

Speed is reported as a ratio: to a peer that runs in turns with ours in this process (`--peer`), and
to the rates that the machine itself reaches (`roofline.py`). Times are medians over `--repeats`
calls after one that compiles.
"""

import argparse
import json
import sys

import jax

from ccpo_jax import models
from ccpo_jax.arguments import Parser, positive
from experiments.bench.peers import PEERS
from experiments.bench.rollout import bench_rollout
from experiments.bench.step import bench_step
from experiments.bench.train import bench_train
from experiments.bench.verify import bench_verify
from experiments.bench.workloads import SHAPES


def parser() -> argparse.ArgumentParser:
    """The command line; what a benchmark does not read it ignores."""
    p = Parser(
        prog="python -m experiments.bench", allow_abbrev=False, description=__doc__.splitlines()[0]
    )
    p.add_argument("what", choices=list(BENCHMARKS))
    p.add_argument(
        "--model",
        default=None,
        help=f"checkpoint folder, or one of {', '.join(SHAPES)} (random weights)",
    )
    p.add_argument("--topology", choices=["single", "dyad", "voting"], default="single")
    p.add_argument("--prompts", type=positive, default=8)
    p.add_argument("--samples", type=positive, default=8)
    p.add_argument("--prompt_length", type=positive, default=128)
    p.add_argument("--response_length", type=positive, default=128)
    p.add_argument(
        "--stop",
        choices=["none", "ragged"],
        default="none",
        help="ragged: a quarter of the limit on average",
    )
    p.add_argument(
        "--solo",
        type=int,
        choices=[0, 1],
        default=1,
        help="1: decode the worlds that mask an agent as well",
    )
    p.add_argument(
        "--solo_samples",
        type=positive,
        default=None,
        help="answers per prompt in such a world; all samples",
    )
    p.add_argument(
        "--rows", type=positive, default=None, help="most responses that decode at once; all"
    )
    p.add_argument(
        "--chunk",
        type=positive,
        default=32,
        help="tokens between two looks at which responses have ended",
    )
    p.add_argument(
        "--peer", choices=["none", *PEERS], default="none", help="needs its own installation"
    )
    p.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        default=None,
        help="float32 on CPUs, else bfloat16",
    )
    p.add_argument("--attention", choices=models.ATTENTION, default="auto")
    p.add_argument("--remat", choices=list(models.REMAT), default="full")
    p.add_argument("--pack_length", type=positive, default=2048)
    p.add_argument("--micro_batch", type=positive, default=1)
    p.add_argument(
        "--logits", type=positive, default=2048, help="response tokens whose logits exist at once"
    )
    p.add_argument("--workers", type=positive, default=2)
    p.add_argument("--repeats", type=positive, default=5)
    p.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else")
    return p


def main(argv=None) -> int:
    """Runs one benchmark and prints what it found."""
    args = parser().parse_args(argv)
    if args.what != "step":
        args.model = args.model or "small"
    try:
        found = BENCHMARKS[args.what](args)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found |= {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:28} {value:,.4g}" if isinstance(value, float) else f"{name:28} {value}")
    return 0


BENCHMARKS = {
    "rollout": bench_rollout,
    "train": bench_train,
    "step": bench_step,
    "verify": bench_verify,
}


if __name__ == "__main__":
    sys.exit(main())
