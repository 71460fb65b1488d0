"""Compiler options for our programs, where a backend's defaults serve them badly."""

import functools

import jax

# XLA's CPU backend hands reductions and chains of elementwise work to a library whose dispatch takes longer than the
# small ones of a training step: without it the tiny presets' gradients take two thirds of the time. Matrix products
# stay with the library. A decode step gains from the default.
_CPU_TRAINING = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


@functools.cache
def training_options() -> dict[str, str]:
    """`compiler_options` of `jax.jit` for gradients on the default backend; none where it does not know them."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=_CPU_TRAINING).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # an option of this jaxlib's compiler only: other versions have their own
        return {}
    return _CPU_TRAINING
