"""Speed, and how near it comes to what the machine can do: `python -m experiments.bench`.

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
    """The command line: each benchmark takes the options that it reads."""
    p = Parser(
        prog="python -m experiments.bench",
        allow_abbrev=False,
        description=__doc__.splitlines()[0],
    )
    what = p.add_subparsers(dest="what", required=True, parser_class=Parser)
    for name, groups in _OPTIONS.items():
        benchmark = what.add_parser(name, allow_abbrev=False, help=BENCHMARKS[name].__doc__)
        for add in groups:
            add(benchmark)
        benchmark.set_defaults(model=None if name == "step" else "small")
    return p


def _add_common(p: argparse.ArgumentParser) -> None:
    p.add_argument("--prompts", type=positive, default=8, help="problems, 8")
    p.add_argument("--samples", type=positive, default=8, help="answers per problem, 8")
    p.add_argument("--repeats", type=positive, default=5, help="measured calls, 5")
    p.add_argument(
        "--json",
        action="store_true",
        help="one JSON object on stdout and nothing else",
    )


def _add_network(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--model",
        help=f"checkpoint folder, or one of {', '.join(SHAPES)} (random weights)",
    )
    p.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        help="float32 on CPUs, else bfloat16",
    )
    p.add_argument("--attention", choices=models.ATTENTION, default="auto")


def _add_lengths(p: argparse.ArgumentParser) -> None:
    p.add_argument("--prompt_length", type=positive, default=128, help="tokens, 128")
    p.add_argument("--response_length", type=positive, default=128, help="tokens, 128")
    p.add_argument(
        "--stop",
        choices=["none", "ragged"],
        default="none",
        help="ragged: a quarter of the limit on average",
    )


def _add_team(p: argparse.ArgumentParser) -> None:
    p.add_argument("--topology", choices=["single", "dyad", "voting"], default="single")
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
        help="answers per prompt in such a world; all samples",
    )
    p.add_argument(
        "--rows",
        type=positive,
        help="most responses that decode at once; all",
    )
    p.add_argument(
        "--chunk",
        type=positive,
        default=32,
        help="tokens between two looks at which responses have ended",
    )


def _add_training(p: argparse.ArgumentParser) -> None:
    p.add_argument("--remat", choices=list(models.REMAT), default="full")
    p.add_argument("--pack_length", type=positive, default=2048)
    p.add_argument("--micro_batch", type=positive, default=1)
    p.add_argument(
        "--logits",
        type=positive,
        default=2048,
        help="response tokens whose logits exist at once",
    )


def _add_peer(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--peer",
        choices=["none", *PEERS],
        default="none",
        help="needs its own installation",
    )


def _add_workers(p: argparse.ArgumentParser) -> None:
    p.add_argument("--workers", type=positive, default=2)


# Without a model, the preset decides everything else.
_WITH_PRESET = ("what", "model", "topology", "repeats", "json", "dtype")


def _check_preset(args) -> None:
    """Refuses options that a preset leaves without effect.

    Raises:
      ValueError: if such an option was given.
    """
    defaults = vars(parser().parse_args(["step"]))
    for name, value in vars(args).items():
        if name not in _WITH_PRESET and value != defaults[name]:
            raise ValueError(
                f"--{name}: received {value!r}, which has no effect without --model; add "
                "--model=small"
            )


def main(argv=None) -> int:
    """Runs one benchmark and prints what it found."""
    args = parser().parse_args(argv)
    try:
        if args.what == "step" and args.model is None:
            _check_preset(args)
        found = BENCHMARKS[args.what](args)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    found |= {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    if args.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        print(f"{name:28} {value:,.4g}" if isinstance(value, float) else f"{name:28} {value}")
    return 0


BENCHMARKS = {
    "rollout": bench_rollout,
    "train": bench_train,
    "step": bench_step,
    "verify": bench_verify,
}

_OPTIONS = {
    "rollout": (_add_common, _add_network, _add_lengths, _add_team, _add_peer),
    "train": (_add_common, _add_network, _add_lengths, _add_training),
    "step": (_add_common, _add_network, _add_lengths, _add_team, _add_training),
    "verify": (_add_common, _add_workers),
}


if __name__ == "__main__":
    sys.exit(main())
