"""How large a dyad fits where: its programs compiled ahead of time for machines that are not here.

    python -m experiments.bench.scaling                        # everything below, into docs/scaling.md
    python -m experiments.bench.scaling --only=qwen2.5-7b      # one model's lines alone, printed

Results are kept in results/scaling.json, and what is there is not compiled again; remove the file
to begin anew.

The mesh is made of simulated CPU devices and every array is abstract: nothing of a model's size
exists. Bytes that are held from program to program follow from shapes and shardings; temporaries
are what the compiler says of each program.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.arguments import Parser
from ccpo_jax.devices.sharding import (
    AXES,
    Layout,
    batch_sharding,
    make_mesh,
    num_shards,
    partition_spec,
    replicated,
    state_sharding,
)
from ccpo_jax.learner.optimizer import AdamW
from ccpo_jax.learner.packing import PackedBatch
from ccpo_jax.learner.update import LossConfig, apply_gradients, jitted_accumulate
from ccpo_jax.models import ModelConfig, make_policy
from ccpo_jax.models.decoder import parameter_shapes
from ccpo_jax.rl.types import BatchTotals, Context
from ccpo_jax.rollout import bucket
from ccpo_jax.sampler.decode_loop import DecodeState
from ccpo_jax.sampler.generate import programs
from ccpo_jax.sampler.token_sampling import token_sampling

# (hidden, layers, query heads, key/value heads, head size, feed-forward, vocabulary, tied
# embeddings), smallest first.
SHAPES = {
    "qwen2.5-0.5b": (896, 24, 14, 2, 64, 4864, 151936, True),
    "qwen2.5-1.5b": (1536, 28, 12, 2, 128, 8960, 151936, True),
    "qwen2.5-3b": (2048, 36, 16, 2, 128, 11008, 151936, True),
    "qwen2.5-7b": (3584, 28, 28, 4, 128, 18944, 152064, False),
    "qwen2.5-14b": (5120, 48, 40, 8, 128, 13824, 152064, False),
    "qwen2.5-32b": (5120, 64, 40, 8, 128, 27648, 152064, False),
    "llama3.1-70b": (8192, 80, 64, 8, 128, 28672, 128256, False),
}
# The models of the first table.
SHOWN = ("qwen2.5-7b", "llama3.1-70b")


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine that is not here.

    Attributes:
      name: as the tables call it.
      devices: how many it has.
      bytes: memory of one device.
      meshes: (fsdp, model) sizes to try.
    """

    name: str
    devices: int
    bytes: float
    meshes: tuple[tuple[int, int], ...]


MACHINES = (
    Machine("1x H200", 1, 141e9, ((1, 1),)),
    Machine("8x H200", 8, 141e9, ((8, 1), (4, 2), (2, 4), (1, 8))),
    Machine("v5e-64", 64, 16e9, ((64, 1), (32, 2), (16, 4), (8, 8))),
)

# The paper's dyad: 64 prompts, four thoughts each, an answer to every thought and four without one.
PROMPTS = 64
SAMPLES = 4
SOLO = 4
PROMPT_LENGTH = 1024
RESPONSE_LENGTH = 2048
PACK_LENGTH = bucket(PROMPT_LENGTH + 2 * RESPONSE_LENGTH + 64, 1 << 30)

# Responses that decode at once, and never fewer than one prompt's on each part of the batch.
ROWS = 64

# Part of a device's memory that may be planned for.
FIT = 0.95

RESULTS = pathlib.Path(__file__).parent / "results" / "scaling.json"

# Those that compile quickly come first.
PROGRAMS = ("apply", "publish", "gradient", "decode")

_QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
)


def network(name: str) -> ModelConfig:
    """The architecture of a shape."""
    hidden, layers, heads, kv, size, ffn, vocabulary, tied = SHAPES[name]
    return ModelConfig(
        "qwen2",
        vocabulary,
        hidden,
        layers,
        heads,
        kv,
        size,
        ffn,
        qkv_bias=name.startswith("qwen"),
        tied_embeddings=tied,
    )


def _placed(tree, shardings):
    """Abstract arrays with shardings."""

    def place(x: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(place, tree, shardings)


def _bytes_per_device(tree) -> int:
    """Bytes of placed abstract arrays on one device."""
    total = 0
    for x in jax.tree.leaves(tree):
        total += math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    return total


class Plan:
    """A dyad on a mesh: what lies on each device, and the programs that need more."""

    def __init__(self, name: str, machine: Machine, mesh: tuple[int, int], *, shared: bool):
        fsdp, model = mesh
        self.key = f"{name}, {machine.name}, {fsdp} x {model}"
        self.machine = machine
        self.sets = 1 if shared else 2

        devices = jax.devices()[: machine.devices]
        self.layout = Layout(make_mesh(fsdp=fsdp, model=model, devices=devices))
        config = network(name)
        self.policy = make_policy(
            config,
            compute_dtype=jnp.bfloat16,
            layout=None if machine.devices == 1 else self.layout,
        )
        self.optimizer = AdamW(learning_rate=1e-6)

        params = parameter_shapes(config)
        moments = jax.eval_shape(self.optimizer.init, params)
        weights = jax.eval_shape(self.policy.publish, params)
        placement = self.layout.mesh
        self.params = _placed(params, state_sharding(placement, params))
        self.moments = _placed(moments, state_sharding(placement, moments))
        self.weights = _placed(weights, state_sharding(placement, weights, self.layout.decode))

        parts = num_shards(batch_sharding(placement, self.layout.decode))
        at_once = min(PROMPTS, ROWS // (SAMPLES + SOLO))
        self.prompts = max(at_once // parts, 1) * parts

    def state(self) -> DecodeState:
        """The Solver's decode state at its largest: every row has room for a whole response."""
        batch = self.prompts
        rows = SAMPLES + SOLO
        tail = bucket(RESPONSE_LENGTH + 64, 1 << 30)

        def cache(rows: int, slots: int):
            return jax.eval_shape(lambda: self.policy.init_cache(batch, rows, slots))

        def array(*shape: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape, dtype)

        context = Context(
            prefix=cache(1, PROMPT_LENGTH),
            prefix_length=array(batch),
            tails=(cache(SAMPLES, tail), cache(SOLO, 16)),
            tail_starts=(array(batch, SAMPLES), array(batch, SOLO)),
        )
        state = DecodeState(
            step=array(),
            token=array(batch, rows),
            done=array(batch, rows, dtype=jnp.bool),
            began=array(batch, rows),
            tokens=array(batch, rows, RESPONSE_LENGTH),
            logprobs=array(batch, rows, RESPONSE_LENGTH, dtype=jnp.float32),
            uniforms=array(batch, rows, RESPONSE_LENGTH, dtype=jnp.float32),
            position=array(batch, rows),
            context=context,
            cache=cache(rows, RESPONSE_LENGTH),
        )
        return jax.tree.map(self._in_decode_layout, state)

    def _in_decode_layout(self, x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """An array of the decode state where it lies; arrays of five axes are caches."""
        mesh = self.layout.mesh
        axes = ()
        if x.ndim == 5:
            axes = ("batch", None, "heads", None, None)
        elif x.ndim:
            axes = ("batch", *[None] * (x.ndim - 1))
        spec = partition_spec(mesh, self.layout.decode, axes, x.shape)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=jax.NamedSharding(mesh, spec))

    def held(self) -> dict[str, int]:
        """Bytes on each device that follow from shapes and shardings."""
        state = self.state()
        return {
            "parameters": self.sets * _bytes_per_device(self.params),
            "optimizer": self.sets * _bytes_per_device(self.moments),
            "gradients": _bytes_per_device(self.params),
            "decode weights": self.sets * _bytes_per_device(self.weights),
            "caches": _bytes_per_device((state.cache, state.context)),
        }

    def compile(self, program: str) -> int:
        """Bytes on each device that a program needs besides.

        Programs run for one parameter set after the other, so one set is counted.
        """
        lowered = getattr(self, f"_lowered_{program}")()
        return lowered.compile().memory_analysis().temp_size_in_bytes

    def _lowered_publish(self) -> jax.stages.Lowered:
        return jax.jit(self.policy.publish).lower(self.params)

    def _lowered_decode(self) -> jax.stages.Lowered:
        return programs().decode.lower(
            self.weights,
            self.state(),
            token_sampling(eos_ids=(1,), pad_id=0),
            np.int32(RESPONSE_LENGTH),
            policy=self.policy,
            stacked=False,
        )

    def _lowered_gradient(self) -> jax.stages.Lowered:
        one = np.float32(1)
        return jitted_accumulate().lower(
            self.policy,
            LossConfig(),
            self.params,
            self._packed_batch(),
            BatchTotals(one, one, one, one),
            one,
            self.params,
        )

    def _lowered_apply(self) -> jax.stages.Lowered:
        everywhere = replicated(self.layout.mesh)
        number = jax.ShapeDtypeStruct((), jnp.float32, sharding=everywhere)
        return apply_gradients.lower(self.optimizer, self.params, self.moments, self.params, number)

    def _packed_batch(self) -> PackedBatch:
        """One packed row of two responses on each part of the batch."""
        sharding = batch_sharding(self.layout.mesh, self.layout.train)
        packs = num_shards(sharding)

        def array(*shape: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((packs, *shape), dtype, sharding=sharding)

        row_fields = [array(PACK_LENGTH) for _ in range(6)]
        response_fields = [array(2), array(2)]
        return PackedBatch(
            *row_fields,
            array(),
            *response_fields,
            array(2, dtype=jnp.float32),
            array(2, RESPONSE_LENGTH, dtype=jnp.float32),
        )

    def temporaries(self, *, whole: bool) -> dict[str, int]:
        """`compile` of all programs, kept from call to call.

        Args:
          whole: compile all of them; otherwise none after the one that shows that the model does
            not fit.
        """
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        own = known.setdefault(self.key, {"seconds": 0.0})
        for program in PROGRAMS:
            if program in own or not (whole or self.fits(own)):
                continue
            began = time.perf_counter()
            own[program] = self.compile(program)
            own["seconds"] += round(time.perf_counter() - began, 1)
            RESULTS.write_text(json.dumps(known, indent=1) + "\n")
            print(f"{self.key}, {program}: {own[program]:,} bytes", file=sys.stderr, flush=True)
        return own

    def peak(self, temporaries: dict[str, int] | None = None) -> int:
        """Bytes on each device at the higher of a step's two heights."""
        held = self.held()
        needed = dict.fromkeys(PROGRAMS, 0) | (temporaries or {})

        # While a cache doubles, the old one lies beside the new one.
        growth = _bytes_per_device(self.state().cache) // 2
        decoding = held["caches"] + max(needed["decode"], growth)
        sampling = held["decode weights"] + max(decoding, needed["publish"])
        updating = held["gradients"] + max(needed["gradient"], needed["apply"])
        return held["parameters"] + held["optimizer"] + max(sampling, updating)

    def fits(self, temporaries: dict[str, int] | None = None) -> bool:
        """Whether the peak leaves something free."""
        return self.peak(temporaries) <= FIT * self.machine.bytes


def best_plan(name: str, machine: Machine, *, shared: bool) -> Plan:
    """The mesh that leaves most memory free, temporaries not counted."""
    plans = [Plan(name, machine, mesh, shared=shared) for mesh in machine.meshes]
    return min(plans, key=Plan.peak)


@dataclasses.dataclass(frozen=True)
class Line:
    """One row of the tables.

    Attributes:
      machine: its name.
      model: name of its shape.
      sets: parameter sets.
      mesh: "data x fsdp x model" sizes.
      rows: responses that decode at once.
      bytes: what is held and the programs' temporaries, per device.
      peak: the higher of a step's two heights, per device.
      fits: whether the peak leaves something free.
    """

    machine: str
    model: str
    sets: int
    mesh: str
    rows: int
    bytes: dict[str, int]
    peak: int
    fits: bool


@functools.cache
def line(name: str, machine: Machine, *, shared: bool) -> Line:
    """A model on a machine; without temporaries where even what is held does not fit."""
    plan = best_plan(name, machine, shared=shared)
    is_shown_whole = name in SHOWN and machine.name == "8x H200" and not shared
    temporaries = {}
    if is_shown_whole or plan.fits():
        temporaries = plan.temporaries(whole=is_shown_whole)
    return Line(
        machine=machine.name,
        model=name,
        sets=plan.sets,
        mesh=" x ".join(str(plan.layout.mesh.shape[axis]) for axis in AXES),
        rows=plan.prompts * (SAMPLES + SOLO),
        bytes=plan.held() | temporaries,
        peak=plan.peak(temporaries),
        fits=plan.fits(temporaries),
    )


# --- the report ---


def gigabytes(count: float) -> str:
    """A cell of the table."""
    return f"{count / 1e9:.1f}" if count < 99.95e9 else f"{count / 1e9:.0f}"


def table(lines: list[Line]) -> str:
    """Bytes per device, one line per model and machine."""
    held = ("parameters", "optimizer", "gradients", "decode weights", "caches")
    header = ["machine", "model", "sets", "data x fsdp x model", "rows", *held]
    header += [f"temp. {program}" for program in PROGRAMS]
    header += ["peak", "fits"]

    text = [_row(header), "|---" * len(header) + "|"]
    for one in lines:
        cells = [one.machine, one.model, str(one.sets), one.mesh, str(one.rows)]
        for column in (*held, *PROGRAMS):
            cells.append(gigabytes(one.bytes[column]) if column in one.bytes else "")
        cells += [gigabytes(one.peak), "yes" if one.fits else "no"]
        text.append(_row(cells))
    return "\n".join(text)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def largest(machine: Machine, *, shared: bool) -> list[Line]:
    """Lines from the largest shape down to the first that fits."""
    lines = []
    for name in reversed(SHAPES):
        lines.append(line(name, machine, shared=shared))
        if lines[-1].fits:
            break
    return lines


REPORT = """# What fits where

One training step of a dyad as in the paper ({prompts} prompts, {samples} thoughts each, an answer to every thought and
{solo} answers without one; prompts of {prompt} tokens, responses of {response}; bfloat16 compute, float32 parameters,
AdamW), compiled ahead of time for simulated meshes with abstract parameters. Gigabytes (10^9 bytes) on each device.
"sets" are the parameter sets: two for separate agents, one where they share their parameters. "rows" are the responses
that decode at once (`sample.max_concurrent`). A gradient computation takes one packed row of {packed} tokens per part of the
batch (`trainer.micro_batch=1`, `trainer.remat=full`). Of the meshes tried, the one that leaves most memory free.

## A 7B-shaped and a 70B-shaped dyad

{shown}

The peak is the larger of two heights: sampling (parameters, optimizer, decode weights, caches, and the loop's
temporaries or the half-sized cache that lies beside the new one while it grows) and updating (parameters, optimizer,
gradients, and the larger of that program's temporaries and the optimizer's). A blank: this program was not compiled,
because what is held, or the programs before it, do not fit already.

## The largest model that fits

| machine | separate agents | shared parameters |
|---|---|---|
{summary}

Of the seven shapes in `SHAPES`, the largest whose peak is at most {fit:.0%} of the memory (141 GB on an H200, 16 GB on
a v5e chip).

{tried}

## What these numbers are

- Parameters, optimizer, gradients, decode weights and caches are exact: they follow from shapes and shardings, which
  are the same whatever compiles the programs.
- Temporaries are those of XLA's compiler for CPUs, after the same partitioning into the same collectives. A GPU's or
  TPU's compiler fuses and schedules otherwise: it keeps bfloat16 where a CPU's computes in float32, uses attention
  kernels that hold no scores, and pads small axes (a TPU to tiles of 8 x 128). They are an estimate, and rather too
  high than too low.
- LLVM's optimisations are switched off: they take most of a compilation and do not move buffers. With them, the 0.5B
  model on eight devices had the same temporaries, but for 320 bytes of one program.
- None of these machines has run these programs. Fragmentation, the runtime's own memory, and buffers of collectives are
  not counted, which is what the {rest:.0%} left free are for.

Made by `python -m experiments.bench.scaling`, jax {jax}, on {date}, two busy CPU cores, {minutes:.0f} minutes.
"""


def report() -> str:
    """The text of docs/scaling.md."""
    shown = [line(name, machine, shared=False) for machine in MACHINES for name in SHOWN]
    tried = []
    best: dict[tuple[str, bool], str] = {}
    for shared in (False, True):
        for machine in MACHINES:
            lines = largest(machine, shared=shared)
            best[machine.name, shared] = lines[-1].model if lines[-1].fits else "none"
            tried += [one for one in lines if one not in shown]

    summary = []
    for machine in MACHINES:
        summary.append(_row([machine.name, best[machine.name, False], best[machine.name, True]]))

    results = json.loads(RESULTS.read_text())
    return REPORT.format(
        prompts=PROMPTS,
        samples=SAMPLES,
        solo=SOLO,
        prompt=PROMPT_LENGTH,
        response=RESPONSE_LENGTH,
        packed=PACK_LENGTH,
        shown=table(shown),
        summary="\n".join(summary),
        tried=table(tried),
        fit=FIT,
        rest=1 - FIT,
        jax=jax.__version__,
        date=time.strftime("%Y-%m-%d"),
        minutes=sum(result["seconds"] for result in results.values()) / 60,
    )


def main() -> None:
    """Compiles, and writes or prints."""
    p = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=sorted(SHAPES), help="print one model's lines")
    p.add_argument(
        "--shared",
        action="store_true",
        help="with --only: one set of parameters for both roles",
    )
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/scaling.md"))
    args = p.parse_args()
    if args.shared and not args.only:
        p.error("--shared has no effect on the whole report, which has both; add --only=qwen2.5-7b")

    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_QUICK])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(machine.devices for machine in MACHINES))
    if args.only:
        print(table([line(args.only, machine, shared=args.shared) for machine in MACHINES]))
    else:
        args.out.write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()
