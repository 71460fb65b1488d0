"""XLA compiler options for our programs, where a backend's defaults serve them badly."""

import functools
import os
from typing import Literal

import jax

Purpose = Literal["training", "prefill", "decoding"]

# XLA's CPU backend hands products, reductions and chains of elementwise work to a library. Handing
# over a small reduction takes longer than computing it. Sampling keeps the library's products;
# training does without them, because they copy transposed operands. Small reductions gain nothing
# from a tree of windows; the price is precision where a sum has very many terms: up to 5e-6 in a
# logsumexp over 151,936 entries. Against XLA's defaults, the gradients of the tiny presets take
# three fifths of the time and their decode steps 5 % less. At a lower optimisation level programs
# compile sooner and tiny steps take as long as before; steps of larger networks take up to 4 %
# longer.
_CPU = {"xla_disable_hlo_passes": "tree_reduction_rewriter", "xla_backend_optimization_level": "1"}
_CPU_TRAINING = _CPU | {"xla_cpu_experimental_ynn_fusion_type": ""}
_CPU_SAMPLING = _CPU | {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
}

# A decode step is hundreds of short kernels. With the loop itself on the device, the host does not
# come in between: 1 to 2.5 % of a step of Qwen2.5-1.5B on an H200.
_GPU_DECODING = {
    "xla_gpu_enable_command_buffer": (
        "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
    ),
    "xla_gpu_graph_min_graph_size": "1",
}

# (backend, purpose) -> options; a pair that is absent has none.
_OPTIONS = {
    ("cpu", "training"): _CPU_TRAINING,
    ("cpu", "prefill"): _CPU_SAMPLING,
    ("cpu", "decoding"): _CPU_SAMPLING,
    ("gpu", "decoding"): _GPU_DECODING,
}


# Neither the backend nor XLA_FLAGS changes within a process, and asking costs a compilation.
@functools.cache
def compiler_options(purpose: Purpose) -> dict[str, str]:
    """`compiler_options` of `jax.jit` on the default backend.

    Options that the user has set in XLA_FLAGS are left out. The result is empty if this jaxlib's
    compiler does not know one of the others.

    Args:
      purpose: "training", "prefill" or "decoding".
    """
    flags = os.environ.get("XLA_FLAGS", "")
    options = _OPTIONS.get((jax.default_backend(), purpose), {})
    options = {name: value for name, value in options.items() if f"--{name}=" not in flags}

    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options
