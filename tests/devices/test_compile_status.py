"""Status lines about compilation: which program, and for how long."""

import jax
import jax.numpy as jnp

from ccpo_jax.devices import compile_status, precompile
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


def test_programs_that_are_started_at_once_say_how_many_they_are(monkeypatch):
    phases = []

    def note(what, **_):
        phases.append(what)
        return DISPLAY.phase(what)

    monkeypatch.setattr(compile_status, "status", note)
    compile_status.watch_compilation()
    program = jax.jit(lambda x: x + 1)

    shapes = [(jnp.ones(size),) for size in (3, 4, 4)]
    precompile.prepare(program, shapes)
    assert [precompile.call(program, *args).shape for args in shapes] == [(3,), (4,), (4,)]
    said = {what.partition(" (")[2] for what in phases if " of " in what}
    assert said == {"1 of 2)", "2 of 2)"}

    phases.clear()
    precompile.prepare(program, [*shapes, (jnp.ones(5),)])
    precompile.call(program, jnp.ones(5))
    assert phases and not any(" of " in what for what in phases)
