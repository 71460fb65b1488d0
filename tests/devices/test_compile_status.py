"""Status lines about compilation: which program, and for how long."""

import jax
import jax.numpy as jnp

from ccpo_jax.devices import compile_status
from ccpo_jax.status import DISPLAY


def test_a_compilation_is_a_phase_with_the_programs_name_and_ends(monkeypatch):
    phases = []

    def note(what, **_):
        phases.append(what)
        return DISPLAY.phase(what)

    monkeypatch.setattr(compile_status, "status", note)
    compile_status.watch_compilation()

    @jax.jit
    def decode_rows(x):
        assert DISPLAY._phases[-1].what == "compiling the decode loop"
        return jax.jit(jnp.sin)(x) + 1

    before = len(DISPLAY._phases)
    decode_rows(jnp.ones(3))
    assert "compiling the decode loop" in phases and "compiling sin" not in phases
    assert len(DISPLAY._phases) == before
