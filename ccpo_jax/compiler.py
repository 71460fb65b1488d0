"""Compiler options for our programs, where a backend's defaults serve them badly."""

import functools
import os

import jax

_OPTIONS = {
    # XLA's CPU backend hands products, reductions and chains of elementwise work to a library whose dispatch takes
    # longer than the small ones of a training step, and whose products want copies of transposed operands: without it
    # the tiny presets' gradients take two thirds of the time. A decode step gains from the default. With less
    # optimisation a tiny run from an empty cache is over an eighth sooner, and its steps take as long; those of larger
    # networks up to 4 % longer.
    ("cpu", "training"): {
        "xla_cpu_experimental_ynn_fusion_type": "",
        "xla_disable_hlo_passes": "tree_reduction_rewriter",
        "xla_backend_optimization_level": "1",
    },
    ("cpu", "prefill"): {"xla_backend_optimization_level": "1"},
    ("cpu", "decoding"): {"xla_backend_optimization_level": "1"},
    # A decode step is hundreds of short kernels. With the loop itself on the device, the host does not come in between:
    # 1 to 2.5 % of a step of Qwen2.5-1.5B on an H200.
    ("gpu", "decoding"): {
        "xla_gpu_enable_command_buffer": (
            "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
        ),
        "xla_gpu_graph_min_graph_size": "1",
    },
}


@functools.cache
def options(purpose: str) -> dict[str, str]:
    """`compiler_options` of `jax.jit` on the default backend, but those in XLA_FLAGS; none where it does not know them.

    Args:
      purpose: "training", "prefill" or "decoding".
    """
    typed = os.environ.get("XLA_FLAGS", "")
    chosen = _OPTIONS.get((jax.default_backend(), purpose), {})
    wanted = {name: value for name, value in chosen.items() if f"--{name}=" not in typed}  # what a user types holds
    try:
        jax.jit(lambda x: x, compiler_options=wanted).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # an option of this jaxlib's compiler only: other versions have their own
        return {}
    return wanted
