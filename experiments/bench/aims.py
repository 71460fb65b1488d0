"""What this project aims at on one GPU, measured: `python -m experiments.bench.aims`. Without one, predicted: `--predict`.

Every measured figure is of a process of its own that runs experiments/bench.py, so that none finds
another's memory in use. Predictions come from what the same programs compile to for an H200
(`predict.py`).
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
_STEP = (
    "step --topology=dyad --prompts=16 --samples=8 --prompt_length=256 --response_length=256"
    " --remat=dots --micro_batch=4"
)


class Aim(NamedTuple):
    """A figure that runs of the benchmark give, and what it should be."""

    name: str
    runs: tuple[str, ...]  # command lines of experiments/bench.py
    figure: Callable[..., float]  # (what each run found) -> figure
    bound: float
    least: bool  # True: the figure should be at least the bound; False: at most


AIMS = (
    Aim(
        "decoding 256 rows, part of the copy rate",
        (f"{_ROLLOUT} --prompts=32",),
        lambda found: found["decode_copy_fraction"],
        0.6,
        True,
    ),
    Aim(
        "decoding 32 rows, part of the copy rate",
        (f"{_ROLLOUT} --prompts=4",),
        lambda found: found["decode_copy_fraction"],
        0.7,
        True,
    ),
    Aim(
        "training on 2,048 tokens a row, part of the product rate",
        (
            "train --prompts=4 --samples=8 --prompt_length=512 --response_length=1536 "
            "--micro_batch=4 --remat=none",
        ),
        lambda found: found["matmul_fraction"],
        0.5,
        True,
    ),
    Aim(
        "a dyad's step with solo answers, over one without",
        (f"{_STEP} --solo=1", f"{_STEP} --solo=0"),
        lambda joint_and_solo, joint: joint_and_solo["seconds"] / joint["seconds"],
        1.3,
        False,
    ),
)


def bench(words: list[str]) -> dict:
    """What one run of the benchmark finds.

    Raises:
      ValueError: it failed; with its last words.
    """
    command = [sys.executable, "-m", "experiments.bench", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(
            f"{' '.join(command[1:])}: {(done.stderr.strip() or 'no word').splitlines()[-1]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def backend() -> str:
    """What jax runs on, asked in a process of its own: whoever asks keeps most of a GPU's memory.

    Raises:
      ValueError: it runs on nothing.
    """
    asked = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(
            f"jax finds no device: {(done.stderr.strip() or 'no word').splitlines()[-1]}"
        )
    return done.stdout.split()[-1]


def measured(aim: Aim, common: list[str]) -> dict:
    """An aim's figure, from runs with these further words on their command lines."""
    found = [bench([*run.split(), *common]) for run in aim.runs]
    return {"figure": aim.figure(*found), "runs": found}


def predicted(aim: Aim, common: list[str]) -> dict:
    """An aim's figure as expected on an H200, and as the bytes and operations of the compiled
    programs allow it.
    """
    from experiments.bench.predict import ALLOWED, H200, MEASURED, predict

    jax.config.update(
        "jax_platforms", "cpu"
    )  # with the plugin but without a driver jax fails to start
    expected, allowed = (
        [predict([*run.split(), *common], reached) for run in aim.runs]
        for reached in (MEASURED, ALLOWED)
    )
    device = {"device": "H200"} | H200._asdict()
    return {
        "figure": aim.figure(*expected),
        "allowed": aim.figure(*allowed),
        "predicted_for": device,
        "runs": expected,
    }


def possible(predicting: bool) -> None:
    """Checks what the figures need.

    Raises:
      ValueError: it is not here.
    """
    if predicting and not can_compile():
        raise ValueError(
            "--predict compiles for a GPU without having one; type pip install 'jax[cuda13]' first"
        )
    if not predicting and (here := backend()) != "gpu":
        raise ValueError(
            f"these aims are a GPU's, and jax finds a {here} here; --predict reckons them, "
            "other devices are in "
            "docs/performance-logbook.md"
        )


def main(argv=None) -> int:
    """Measures or predicts one aim after the other and prints each as soon as it is known."""
    p = Parser(
        prog="python -m experiments.bench.aims",
        allow_abbrev=False,
        description=__doc__.splitlines()[0],
    )
    p.add_argument(
        "--model",
        default="qwen2.5-1.5b",
        help="a shape of experiments/bench.py, or a checkpoint folder",
    )
    p.add_argument("--repeats", type=positive, default=3)
    p.add_argument(
        "--predict",
        action="store_true",
        help="for an H200 that is not here; needs pip install 'jax[cuda13]'",
    )
    p.add_argument(
        "--json", action="store_true", help="one JSON object on stdout, with all that was found"
    )
    args = p.parse_args(argv)
    told = {}
    try:
        possible(args.predict)
        for aim in AIMS:
            common = [f"--model={args.model}", f"--repeats={args.repeats}"]
            found = (predicted if args.predict else measured)(aim, common)
            figure = found["figure"]
            met = figure >= aim.bound if aim.least else figure <= aim.bound
            told[aim.name] = {"aim": aim.bound, "met": met} | found
            line = f"{aim.name:58} {figure:6.2f}  {'at least' if aim.least else 'at most':8} {aim.bound}"
            word = "predicted to be " * args.predict + ("met" if met else "missed")
            allowed = f"; its programs would allow {found['allowed']:.2f}" if args.predict else ""
            print(
                f"{line}  {word}{allowed}", file=sys.stderr if args.json else sys.stdout, flush=True
            )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
