"""The project's aims on one GPU, measured: `python -m experiments.bench.aims`.

Each figure comes from a process of its own that runs `experiments.bench`, so that none finds the
memory of another in use. Without a GPU, `--predict` predicts the figures from what the same
programs compile to for an H200 (`predict.py`).
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax

from ccpo_jax.arguments import Parser, positive
from experiments.bench.compiled import can_compile

_ROLLOUT = "rollout --samples=8 --prompt_length=512 --response_length=512"

_TRAIN = (
    "train --prompts=4 --samples=8 --prompt_length=512 --response_length=1536 --micro_batch=4"
    " --remat=none"
)

_STEP = (
    "step --topology=dyad --prompts=16 --samples=8 --prompt_length=256 --response_length=256"
    " --remat=dots --micro_batch=4"
)


class Aim(NamedTuple):
    """A figure that the benchmark measures, and its bound.

    Attributes:
      name: what is measured.
      runs: arguments of `experiments.bench`, one string per run.
      figure: (results of each run) -> figure.
      bound: the aim.
      is_minimum: whether the figure should be at least the bound; otherwise at most.
    """

    name: str
    runs: tuple[str, ...]
    figure: Callable[..., float]
    bound: float
    is_minimum: bool

    def is_met(self, figure: float) -> bool:
        return figure >= self.bound if self.is_minimum else figure <= self.bound


AIMS = (
    Aim(
        "decoding 256 rows, part of the copy rate",
        (f"{_ROLLOUT} --prompts=32",),
        lambda rollout: rollout["decode_copy_fraction"],
        bound=0.6,
        is_minimum=True,
    ),
    Aim(
        "decoding 32 rows, part of the copy rate",
        (f"{_ROLLOUT} --prompts=4",),
        lambda rollout: rollout["decode_copy_fraction"],
        bound=0.7,
        is_minimum=True,
    ),
    Aim(
        "training on 2,048 tokens a row, part of the product rate",
        (_TRAIN,),
        lambda train: train["matmul_fraction"],
        bound=0.5,
        is_minimum=True,
    ),
    Aim(
        "a dyad's step with solo answers, over one without",
        (f"{_STEP} --solo=1", f"{_STEP} --solo=0"),
        lambda with_solo, without: with_solo["seconds"] / without["seconds"],
        bound=1.3,
        is_minimum=False,
    ),
)


def bench(words: list[str]) -> dict:
    """The results of one run of the benchmark.

    Raises:
      ValueError: if it failed, with its last line.
    """
    command = [sys.executable, "-m", "experiments.bench", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(command[1:])}: {_last_line(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])


def backend() -> str:
    """The platform that jax runs on.

    A process of its own finds out, because the one that asks keeps most of a GPU's memory.

    Raises:
      ValueError: if jax finds no device.
    """
    program = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"jax finds no device: {_last_line(done.stderr)}")
    return done.stdout.split()[-1]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def measured(aim: Aim, common: list[str]) -> dict:
    """An aim's figure, measured with these further arguments."""
    results = [bench([*run.split(), *common]) for run in aim.runs]
    return {"figure": aim.figure(*results), "runs": results}


def predicted(aim: Aim, common: list[str]) -> dict:
    """An aim's figure as expected on an H200, and as the compiled programs would allow it."""
    from experiments.bench.predict import ALLOWED, H200, MEASURED, predict

    # With the plugin but without a driver jax fails to start.
    jax.config.update("jax_platforms", "cpu")

    runs = [[*run.split(), *common] for run in aim.runs]
    expected = [predict(run, MEASURED) for run in runs]
    allowed = [predict(run, ALLOWED) for run in runs]
    return {
        "figure": aim.figure(*expected),
        "allowed": aim.figure(*allowed),
        "predicted_for": {"device": "H200"} | H200._asdict(),
        "runs": expected,
    }


def check_machine(*, predicting: bool) -> None:
    """Checks that the figures can be had here.

    Raises:
      ValueError: if there is no GPU, or to predict, no compiler for one.
    """
    if predicting and not can_compile():
        raise ValueError(
            "--predict compiles for a GPU without having one; type pip install 'jax[cuda13]' first"
        )
    platform = "" if predicting else backend()
    if not predicting and platform != "gpu":
        raise ValueError(
            f"these aims are a GPU's, and jax finds a {platform} here; use --predict, or see "
            "docs/performance-logbook.md for other devices"
        )


def parser() -> Parser:
    """The command line."""
    p = Parser(
        prog="python -m experiments.bench.aims",
        allow_abbrev=False,
        description=__doc__.splitlines()[0],
    )
    p.add_argument(
        "--model",
        default="qwen2.5-1.5b",
        help="a shape that experiments.bench knows, or a checkpoint folder",
    )
    p.add_argument("--repeats", type=positive, default=3)
    p.add_argument(
        "--predict",
        action="store_true",
        help="for an H200 that is not here; needs pip install 'jax[cuda13]'",
    )
    p.add_argument(
        "--json",
        action="store_true",
        help="one JSON object on stdout with all results",
    )
    return p


def main(argv=None) -> int:
    """Measures or predicts one aim after the other, and prints each as soon as it is known."""
    args = parser().parse_args(argv)
    figure_of = predicted if args.predict else measured
    results = {}
    try:
        check_machine(predicting=args.predict)
        for aim in AIMS:
            result = figure_of(aim, [f"--model={args.model}", f"--repeats={args.repeats}"])
            is_met = aim.is_met(result["figure"])
            results[aim.name] = {"aim": aim.bound, "met": is_met} | result
            line = _line(aim, result, is_met, predicting=args.predict)
            print(line, file=sys.stderr if args.json else sys.stdout, flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    if args.json:
        print(json.dumps(results))
    return 0


def _line(aim: Aim, result: dict, is_met: bool, *, predicting: bool) -> str:
    """What is printed about an aim."""
    relation = "at least" if aim.is_minimum else "at most"
    verdict = "met" if is_met else "missed"
    line = f"{aim.name:58} {result['figure']:6.2f}  {relation:8} {aim.bound}  "
    if not predicting:
        return line + verdict
    return f"{line}predicted to be {verdict}; its programs would allow {result['allowed']:.2f}"


if __name__ == "__main__":
    sys.exit(main())
