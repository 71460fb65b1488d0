"""How large a dyad fits where: its programs compiled ahead of time for machines that are not here.

    python -m experiments.bench.scaling                        # everything below, into docs/scaling.md
    python -m experiments.bench.scaling --only=qwen2.5-7b      # one model's lines alone, printed

What has been compiled is kept in experiments/scaling.json and not compiled again; remove the file
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
from ccpo_jax.learner.packing import PackedBatch
from ccpo_jax.learner.update import AdamW, LossConfig, apply_gradients, jitted_accumulate
from ccpo_jax.models import ModelConfig, make_policy
from ccpo_jax.models.decoder import parameter_shapes
from ccpo_jax.rl.types import BatchTotals, Context
from ccpo_jax.rollout import bucket
from ccpo_jax.sampler.decode_loop import DecodeState
from ccpo_jax.sampler.generate import programs
from ccpo_jax.sampler.token_sampling import token_sampling

# (hidden, layers, query heads, key/value heads, head size, feed-forward, vocabulary, tied),
# smallest first
SHAPES = {
    "qwen2.5-0.5b": (896, 24, 14, 2, 64, 4864, 151936, True),
    "qwen2.5-1.5b": (1536, 28, 12, 2, 128, 8960, 151936, True),
    "qwen2.5-3b": (2048, 36, 16, 2, 128, 11008, 151936, True),
    "qwen2.5-7b": (3584, 28, 28, 4, 128, 18944, 152064, False),
    "qwen2.5-14b": (5120, 48, 40, 8, 128, 13824, 152064, False),
    "qwen2.5-32b": (5120, 64, 40, 8, 128, 27648, 152064, False),
    "llama3.1-70b": (8192, 80, 64, 8, 128, 28672, 128256, False),
}
SHOWN = ("qwen2.5-7b", "llama3.1-70b")


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices, the memory of each, and the meshes to try."""

    name: str
    devices: int
    bytes: float
    meshes: tuple[tuple[int, int], ...]  # (fsdp, model)


MACHINES = (
    Machine("1x H200", 1, 141e9, ((1, 1),)),
    Machine("8x H200", 8, 141e9, ((8, 1), (4, 2), (2, 4), (1, 8))),
    Machine("v5e-64", 64, 16e9, ((64, 1), (32, 2), (16, 4), (8, 8))),
)
# The paper's dyad: 64 prompts, four thoughts each, an answer to every thought and four without one.
PROMPTS, SAMPLES, SOLO, PROMPT, RESPONSE = 64, 4, 4, 1024, 2048
ROWS = (
    64  # responses that decode at once, and never less than one prompt's on each part of the batch
)
PACKED = bucket(PROMPT + 2 * RESPONSE + 64, 1 << 30)
FOUND = pathlib.Path(__file__).with_suffix(".json")
PROGRAMS = ("apply", "publish", "gradient", "decode")  # quickly compiled ones first
_QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
)
FIT = 0.95  # part of a device's memory that may be planned for


def network(name: str) -> ModelConfig:
    """The architecture of a shape."""
    hidden, layers, heads, kv, size, ffn, vocabulary, tied = SHAPES[name]
    bias = name.startswith("qwen")
    return ModelConfig(
        "qwen2",
        vocabulary,
        hidden,
        layers,
        heads,
        kv,
        size,
        ffn,
        qkv_bias=bias,
        tied_embeddings=tied,
    )


def placed(tree, shardings):
    """Abstract arrays with a place."""
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree, shardings
    )


def local(tree) -> int:
    """Bytes of a placed tree on one device."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


class Plan:
    """A dyad on a mesh: what lies on each device, and the programs that need more."""

    def __init__(self, name: str, machine: Machine, mesh: tuple[int, int], *, shared: bool):
        fsdp, model = mesh
        self.key = f"{name}, {machine.name}, {fsdp} x {model}"
        self.layout = Layout(
            make_mesh(fsdp=fsdp, model=model, devices=jax.devices()[: machine.devices])
        )
        self.config, self.sets, self.machine = network(name), 1 if shared else 2, machine
        mesh, one = self.layout.mesh, machine.devices == 1
        self.policy = make_policy(
            self.config, compute_dtype=jnp.bfloat16, layout=None if one else self.layout
        )
        self.optimizer = AdamW(learning_rate=1e-6)
        params = parameter_shapes(self.config)
        self.params = placed(params, state_sharding(mesh, params))
        moments = jax.eval_shape(self.optimizer.init, params)
        self.moments = placed(moments, state_sharding(mesh, moments))
        weights = jax.eval_shape(self.policy.publish, params)
        self.weights = placed(weights, state_sharding(mesh, weights, self.layout.decode))
        parts = num_shards(batch_sharding(mesh, self.layout.decode))
        self.prompts = max(min(PROMPTS, ROWS // (SAMPLES + SOLO)) // parts, 1) * parts

    def state(self) -> DecodeState:
        """The Solver's decode state at its largest: every row has room for a whole response."""
        batch, tail = self.prompts, bucket(RESPONSE + 64, 1 << 30)

        def lies(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            axes = (
                ("batch", None, "heads", None, None)[: x.ndim]
                if x.ndim == 5
                else ("batch", *[None] * (x.ndim - 1))
            )
            where = partition_spec(
                self.layout.mesh, self.layout.decode, axes if x.ndim else (), x.shape
            )
            return jax.ShapeDtypeStruct(
                x.shape, x.dtype, sharding=jax.NamedSharding(self.layout.mesh, where)
            )

        def cache(rows: int, slots: int):
            return jax.eval_shape(lambda: self.policy.init_cache(batch, rows, slots))

        def array(*shape: int, dtype=jnp.int32):
            return jax.ShapeDtypeStruct(shape, dtype)

        rows = SAMPLES + SOLO
        lead = (batch, rows)
        context = Context(
            prefix=cache(1, PROMPT),
            prefix_length=array(batch),
            tails=(cache(SAMPLES, tail), cache(SOLO, 16)),
            tail_starts=(array(batch, SAMPLES), array(batch, SOLO)),
        )
        response, real = (*lead, RESPONSE), jnp.float32
        state = DecodeState(
            step=array(), token=array(*lead), done=array(*lead, dtype=jnp.bool), began=array(*lead),
            tokens=array(*response), logprobs=array(*response, dtype=real), uniforms=array(*response, dtype=real),
            position=array(*lead), context=context, cache=cache(rows, RESPONSE),
        )  # fmt: skip
        return jax.tree.map(lies, state)

    def held(self) -> dict[str, int]:
        """Bytes on each device that shapes and shardings decide."""
        state = self.state()
        return {
            "parameters": self.sets * local(self.params),
            "optimizer": self.sets * local(self.moments),
            "gradients": local(self.params),
            "decode weights": self.sets * local(self.weights),
            "caches": local((state.cache, state.context)),
        }

    def compile(self, program: str) -> int:
        """Bytes on each device that a program needs besides; of one set: they run one after the
        other.
        """
        where = batch_sharding(self.layout.mesh, self.layout.train)
        packs = num_shards(where)
        shapes = [(PACKED,)] * 6 + [(), (2,), (2,), (2,), (2, RESPONSE)]
        types = [jnp.int32] * 9 + [jnp.float32] * 2
        batch = PackedBatch(
            *(
                jax.ShapeDtypeStruct((packs, *s), t, sharding=where)
                for s, t in zip(shapes, types, strict=True)
            )
        )
        loss = LossConfig()
        real, settings = np.float32(1), token_sampling(eos_ids=(1,), pad_id=0)
        everywhere = replicated(self.layout.mesh)
        number = jax.ShapeDtypeStruct((), jnp.float32, sharding=everywhere)
        grads = self.params
        lower = {
            "publish": lambda: jax.jit(self.policy.publish).lower(self.params),
            "decode": lambda: programs().decode.lower(
                self.weights,
                self.state(),
                settings,
                np.int32(RESPONSE),
                policy=self.policy,
                stacked=False,
            ),
            "gradient": lambda: jitted_accumulate().lower(
                self.policy,
                loss,
                self.params,
                batch,
                BatchTotals(real, real, real, real),
                real,
                grads,
            ),
            "apply": lambda: apply_gradients.lower(
                self.optimizer, self.params, self.moments, grads, number
            ),
        }
        return lower[program]().compile().memory_analysis().temp_size_in_bytes

    def temporaries(self, *, whole: bool) -> dict[str, int]:
        """`compile` of all programs; unless `whole`, of no more than it takes to see that the model
        does not fit.
        """
        known = json.loads(FOUND.read_text()) if FOUND.exists() else {}
        mine = known.setdefault(self.key, {"seconds": 0.0})
        for program in PROGRAMS:
            if program not in mine and (whole or self.fits(mine)):
                began = time.perf_counter()
                mine[program] = self.compile(program)
                mine["seconds"] += round(time.perf_counter() - began, 1)
                FOUND.write_text(json.dumps(known, indent=1) + "\n")
                print(
                    f"{self.key}, {program}: {mine[program]:,} bytes", file=sys.stderr, flush=True
                )
        return mine

    def peak(self, temporaries: dict[str, int] | None = None) -> int:
        """Bytes on each device at the higher of a step's two heights."""
        held, more = self.held(), dict.fromkeys(PROGRAMS, 0) | (temporaries or {})
        growth = (
            local(self.state().cache) // 2
        )  # while a cache doubles, the old one lies beside the new
        sampling_needs = max(held["caches"] + max(more["decode"], growth), more["publish"])
        return (
            held["parameters"]
            + held["optimizer"]
            + max(
                held["decode weights"] + sampling_needs,
                held["gradients"] + max(more["gradient"], more["apply"]),
            )
        )

    def fits(self, temporaries: dict[str, int] | None = None) -> bool:
        """Whether the peak leaves something free."""
        return self.peak(temporaries) <= FIT * self.machine.bytes


def best_plan(name: str, machine: Machine, *, shared: bool) -> Plan:
    """The mesh that leaves most memory free, temporaries not counted."""
    plans = [Plan(name, machine, mesh, shared=shared) for mesh in machine.meshes]
    return min(plans, key=Plan.peak)


@functools.cache
def line(name: str, machine: Machine, *, shared: bool) -> dict:
    """One row of the table; without temporaries where even what is held does not fit."""
    plan = best_plan(name, machine, shared=shared)
    asked = name in SHOWN and machine.name == "8x H200" and not shared
    found = plan.temporaries(whole=asked) if asked or plan.fits() else {}
    mesh = " x ".join(str(plan.layout.mesh.shape[axis]) for axis in AXES)
    return {
        "machine": machine.name, "model": name, "sets": plan.sets, "mesh": mesh,
        "rows": plan.prompts * (SAMPLES + SOLO), "bytes": plan.held() | found, "peak": plan.peak(found),
        "fits": plan.fits(found),
    }  # fmt: skip


# --- the report -----------------------------------------------------------------------------------


def gigabytes(count: float) -> str:
    """A cell of the table."""
    return f"{count / 1e9:.1f}" if count < 99.95e9 else f"{count / 1e9:.0f}"


def table(lines: list[dict]) -> str:
    """Bytes per device, one line per model and machine."""
    columns = ("parameters", "optimizer", "gradients", "decode weights", "caches", *PROGRAMS)
    heads = [*columns[:5], *(f"temp. {name}" for name in PROGRAMS)]
    heads = ["machine", "model", "sets", "data x fsdp x model", "rows", *heads, "peak", "fits"]
    text = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for x in lines:
        cells = [x["machine"], x["model"], str(x["sets"]), x["mesh"], str(x["rows"])]
        cells += [gigabytes(x["bytes"][c]) if c in x["bytes"] else "" for c in columns]
        text.append(
            "| " + " | ".join([*cells, gigabytes(x["peak"]), "yes" if x["fits"] else "no"]) + " |"
        )
    return "\n".join(text)


def largest(machine: Machine, *, shared: bool) -> list[dict]:
    """Lines from the largest shape down to the first that fits."""
    lines = []
    for name in reversed(SHAPES):
        lines.append(line(name, machine, shared=shared))
        if lines[-1]["fits"]:
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
    found = {
        (m.name, shared): largest(m, shared=shared) for shared in (False, True) for m in MACHINES
    }
    fitting = {
        key: next((x["model"] for x in lines if x["fits"]), "none") for key, lines in found.items()
    }
    summary = [
        f"| {m.name} | {fitting[m.name, False]} | {fitting[m.name, True]} |" for m in MACHINES
    ]
    tried = [x for lines in found.values() for x in lines if x not in shown]
    return REPORT.format(
        prompts=PROMPTS, samples=SAMPLES, solo=SOLO, prompt=PROMPT, response=RESPONSE, packed=PACKED,
        shown=table(shown), summary="\n".join(summary), tried=table(tried), fit=FIT, rest=1 - FIT, jax=jax.__version__,
        date=time.strftime("%Y-%m-%d"), minutes=sum(x["seconds"] for x in json.loads(FOUND.read_text()).values()) / 60,
    )  # fmt: skip


def main() -> None:
    """Compiles, and writes or prints."""
    p = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=sorted(SHAPES), help="print one model's lines")
    p.add_argument(
        "--shared", action="store_true", help="those with one set of parameters for both roles"
    )
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/scaling.md"))
    args = p.parse_args()
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_QUICK])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(m.devices for m in MACHINES))
    if args.only:
        print(table([line(args.only, machine, shared=args.shared) for machine in MACHINES]))
    else:
        args.out.write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()
