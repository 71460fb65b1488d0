"""Bytes and operations counted from a compiled program's text; programs of a GPU are in test_gpu_programs.py."""

import jax
import jax.numpy as jnp
import pytest

from experiments.bench.compiled import kernels, seconds
from experiments.bench.roofline import Rates, Work

PROGRAM = """
HloModule jit_f, is_scheduled=true

%sliced (p.0: f32[10,4], p.1: s32[], p.2: f32[4]) -> f32[1,4] {
  %p.0 = f32[10,4]{1,0} parameter(0)
  %p.1 = s32[] parameter(1)
  %b = f32[10,4]{1,0} bitcast(%p.0), metadata={op_name="jit(f)/x"}
  %c = bf16[10,4]{1,0} convert(%b)
  %s = bf16[1,4]{1,0} dynamic-slice(%c, %p.1, %p.1), dynamic_slice_sizes={1,4}
  %p.2 = f32[4]{0} parameter(2)
  %r = f32[1,4]{1,0} reshape(%p.2)
  ROOT %add = f32[1,4]{1,0} add(%s, %r)
}

%written (p.0: f32[10,4], p.1: f32[1,4], p.2: s32[]) -> (f32[10,4], pred[3]) {
  %p.0 = f32[10,4]{1,0} parameter(0)
  %p.1 = f32[1,4]{1,0} parameter(1)
  %p.2 = s32[] parameter(2)
  %u = f32[10,4]{1,0} dynamic-update-slice(%p.0, %p.1, %p.2, %p.2)
  %c = pred[3]{0} constant({true, false, true})
  ROOT %t = (f32[10,4]{1,0}, pred[3]{0}) tuple(%u, %c)
}

%fresh (p.1: f32[1,4], p.2: s32[]) -> f32[10,4] {
  %z = f32[] constant(0)
  %zeros = f32[10,4]{1,0} broadcast(%z), dimensions={}
  %p.1 = f32[1,4]{1,0} parameter(0)
  %p.2 = s32[] parameter(1)
  ROOT %u = f32[10,4]{1,0} dynamic-update-slice(%zeros, %p.1, %p.2, %p.2)
}

%summed (p.0: f32[10,4], p.1: s32[3,1], p.2: f32[3,4]) -> f32[10,4] {
  %p.0 = f32[10,4]{1,0} parameter(0)
  %p.1 = s32[3,1]{1,0} parameter(1)
  %p.2 = f32[3,4]{1,0} parameter(2)
  ROOT %x = f32[10,4]{1,0} scatter(%p.0, %p.1, %p.2), update_window_dims={1}, to_apply=%plus
}

%product (p.0: bf16[2,4,8], p.1: bf16[2,8,16]) -> f32[2,4,16] {
  %p.0 = bf16[2,4,8]{2,1,0} parameter(0)
  %p.1 = bf16[2,8,16]{2,1,0} parameter(1)
  ROOT %d = f32[2,4,16]{2,1,0} dot(%p.0, %p.1), lhs_batch_dims={0}, lhs_contracting_dims={2}, rhs_batch_dims={0}
}

%nested (p.0: bf16[2,4,8], p.1: bf16[2,8,16]) -> f32[2,4,16] {
  %p.0 = bf16[2,4,8]{2,1,0} parameter(0)
  %p.1 = bf16[2,8,16]{2,1,0} parameter(1)
  ROOT %f = f32[2,4,16]{2,1,0} fusion(%p.0, %p.1), kind=kCustom, calls=%product
}

%turn (state: (s32[], f32[6])) -> (s32[], f32[6]) {
  %state = (s32[], f32[6]{0}) parameter(0)
  %x = f32[6]{0} get-tuple-element(%state), index=1
  %n = s32[] get-tuple-element(%state), index=0
  %negated = f32[6]{0} negate(%x)
  ROOT %next = (s32[], /*index=1*/f32[6]{0}) tuple(%n, %negated)
}

%short (x: f32[6]) -> f32[6] {
  ROOT %x = f32[6]{0} parameter(0)
}

%long (x: f32[6]) -> f32[6] {
  %x = f32[6]{0} parameter(0)
  %once = f32[6]{0} negate(%x)
  ROOT %twice = f32[6]{0} negate(%once)
}

ENTRY %main (a: f32[10,4], i: s32[], v: f32[4], k: bf16[2,5,3,8]) -> f32[10,4] {
  %a = f32[10,4]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %v = f32[4]{0} parameter(2)
  %k = bf16[2,5,3,8]{3,2,1,0} parameter(3)
  %l = bf16[2,7,1,8]{3,2,1,0} bitcast(%k)
LINES
}
"""


def counted(*lines: str, **how) -> list[tuple[float, float, float]]:
    """(times, bytes, operations) of each kernel of a program whose main computation has such lines."""
    found = kernels(PROGRAM.replace("LINES", "\n".join(f"  {line}" for line in lines)), **how)
    return [(kernel.times, *kernel.work) for kernel in found]


@pytest.mark.parametrize(
    "line, bytes_, flops",
    [
        ("%x = f32[1,4]{1,0} fusion(%a, %i, %v), kind=kLoop, calls=%sliced", 16 + 4 + 16 + 16, 0),
        (
            "%x = (f32[10,4], pred[3]) fusion(%a, %v, %i), kind=kLoop, calls=%written",
            16 + 4 + 16 + 3,
            0,
        ),
        ("%x = f32[10,4]{1,0} fusion(%v, %i), kind=kLoop, calls=%fresh", 16 + 4 + 160, 0),
        ("%x = f32[10,4]{1,0} fusion(%a, %i, %v), kind=kLoop, calls=%summed", 48 + 12 + 48 + 48, 0),
        (
            "%x = f32[2,4,16]{2,1,0} fusion(%a, %v), kind=kCustom, calls=%product",
            128 + 512 + 512,
            2 * 2 * 4 * 16 * 8,
        ),
        (
            "%x = f32[2,4,16]{2,1,0} fusion(%a, %v), kind=kCustom, calls=%nested",
            128 + 512 + 512,
            2 * 2 * 4 * 16 * 8,
        ),
        ("%x = f32[10,4]{1,0} copy(%a)", 160 + 160, 0),
        ("%x = f32[2,4]{1,0} slice(%a), slice={[0:2], [0:4]}", 32 + 32, 0),
        ("%x = f32[10,4]{1,0} dynamic-update-slice(%a, %v, %i, %i)", 2 * 16, 0),
        ("%x = f32[3,4]{1,0} gather(%a, %i), offset_dims={1}", 48 + 48, 0),
        ("%x = f32[10,4]{1,0} scatter(%a, %i, %v), to_apply=%plus", 2 * 16, 0),
        ("%x = (f32[10,4]{1,0}, f32[10,4]{1,0}, u32[]) copy-start(%a)", 160 + 160, 0),
        ("%x = f8e4m3fn[10,4]{1,0} convert(%a)", 160 + 40, 0),
        ("%x = u4[10,4]{1,0} convert(%a)", 160 + 20, 0),
        (
            "%x = f32[10]{0} dot(%a, %v), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
            160 + 16 + 40,
            2 * 10 * 4,
        ),
        (  # a library's product of [10, 4] and [4], with 99 bytes to work in
            '%x = (f32[10]{0}, u8[99]{0}) custom-call(%a, %v), custom_call_target="__cublas$gemm", '
            'backend_config={"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}',
            160 + 16 + 40,
            2 * 10 * 4,
        ),
        (  # 5 queries of 3 heads on 7 keys, 8 numbers each
            '%x = (bf16[2,3,5,8]{3,1,2,0}, u8[0]{0}) custom-call(%k, %l, %l), custom_call_target="__cudnn$fmhaSoftmax"',
            480 + 2 * 224 + 480,
            2 * 2 * 2 * 3 * 5 * 7 * 8,
        ),
        (
            '%x = (bf16[2,3,5,8]{3,1,2,0}) custom-call(%k, %l, %l), custom_call_target="__cudnn$fmhaSoftmaxBackward"',
            480 + 2 * 224 + 480,
            5 * 2 * 2 * 3 * 5 * 7 * 8,
        ),
    ],
)
def test_a_kernel_moves_what_it_reads_and_writes(line, bytes_, flops):
    assert counted(line) == [(1, bytes_, flops)]


def test_a_kernel_of_ours_reads_the_used_part_of_the_cache_that_it_writes_into():
    line = (
        '%x = (f32[4]{0}, f32[10,4]{1,0}) custom-call(%v, %a), custom_call_target="__gpu$xla.gpu.triton", '
        "output_to_operand_aliasing={{1}: (1, {})}, backend_config={debug = false}"
    )
    assert counted(line, filled=0.25) == [(1, 16 + 0.25 * 160 + 16, 0)]


def test_loops_and_branches_are_counted_as_often_as_they_run():
    start = "%t = (s32[], f32[6]{0}) tuple(%i, %v)"
    loop = "%w = (s32[], f32[6]{0}) while(%t), condition=%less, body=%turn"
    known = ', backend_config={"known_trip_count":{"n":"24"},"dynamic_variables":[]}'
    assert counted(start, loop + known) == [(24, 48, 0)]
    assert counted(start, loop, steps=5) == [(5, 48, 0)]
    for branches in (
        "true_computation=%short, false_computation=%long",
        "branch_computations={%short, %long}",
    ):
        fork = f"%c = f32[6]{{0}} conditional(%i, %v, %v), {branches}"
        assert counted(fork, taken=min) == []
        assert counted(fork) == [(1, 48, 0)] * 2
    assert counted("%c = f32[6]{0} call(%v), to_apply=%long") == [(1, 48, 0)] * 2


def test_what_runs_beside_other_kernels_counts_once():
    begun = "%s = ((f32[10,4], f32[1,4], s32[]), f32[10,4], u32[]) fusion-start(%a, %v, %i), calls=%written"
    assert counted(begun, "%d = f32[10,4]{1,0} fusion-done(%s)") == [(1, 16 + 4 + 16 + 3, 0)]


def test_a_real_program_is_read_whole():
    """A CPU's: its products and its loop are where they are on a GPU."""

    def f(x, w):
        return jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ w), x)

    text = jax.jit(f).lower(jnp.ones((4, 8)), jnp.ones((8, 8))).compile().as_text()
    found = kernels(text)
    assert (
        sum(kernel.times for kernel in found) >= 3
        and sum(k.times * k.work.bytes for k in found) >= 3 * 4 * 8 * 8
    )


def test_a_text_in_another_hand_is_not_guessed_at():
    for text in (PROGRAM, PROGRAM.replace("LINES", "  x := copy a")):
        with pytest.raises(ValueError, match="not an instruction"):
            kernels(text)


def test_work_that_is_not_counted_is_refused():
    with pytest.raises(ValueError, match="convolution: its work is not counted here"):
        counted("%x = f32[10,4]{1,0} convolution(%a, %a), dim_labels=b0f_0io->b0f")


def test_time_is_the_larger_of_bytes_and_operations_for_each_kernel_alone():
    rates, launched = (
        Rates(10.0, 100.0),
        kernels(PROGRAM.replace("LINES", "  %x = f32[10,4]{1,0} copy(%a)")),
    )
    assert seconds(launched, rates) == pytest.approx(32)
    heavy = launched[0]._replace(times=2, work=Work(10, 1000))
    assert seconds([*launched, heavy], rates) == pytest.approx(32 + 2 * 10)
