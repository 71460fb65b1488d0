"""Compiler options for our programs, where a backend's defaults serve them badly."""

import functools
import os

import jax

# XLA's CPU backend hands products, reductions and chains of elementwise work to a library. Handing a small reduction
# over takes longer than computing it. Sampling keeps the library's products; in training they want copies of transposed
# operands, and XLA's own are faster. Small reductions gain nothing from a tree of windows; a sum in one go costs digits
# where it has very many terms: up to 5e-6 in a logsumexp over 151,936 entries. Beside XLA's defaults the tiny presets'
# gradients take three fifths of the time and their decode steps 5 % less. With less optimisation programs compile
# sooner, and tiny steps take as long; those of larger networks up to 4 % longer.
_CPU = {"xla_disable_hlo_passes": "tree_reduction_rewriter", "xla_backend_optimization_level": "1"}
_CPU_SAMPLING = _CPU | {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
}

_OPTIONS = {
    ("cpu", "training"): _CPU | {"xla_cpu_experimental_ynn_fusion_type": ""},
    ("cpu", "prefill"): _CPU_SAMPLING,
    ("cpu", "decoding"): _CPU_SAMPLING,
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
    wanted = {
        name: value for name, value in chosen.items() if f"--{name}=" not in typed
    }  # what a user types holds
    try:
        jax.jit(lambda x: x, compiler_options=wanted).lower(0.0).compile()
    except (
        jax.errors.JaxRuntimeError
    ):  # an option of this jaxlib's compiler only: other versions have their own
        return {}
    return wanted
