"""Figures of a compiled program, from text as XLA writes it."""

from types import SimpleNamespace

import pytest

from segjax.inspect.compiled import (
    collectives_in,
    lacking_memory,
    memory_of,
    operators_in,
    padding_in,
    report_of,
    unexpected_in,
)

TPU = """HloModule jit_train_step, is_scheduled=true

%region_0.1 (a: f32[], b: f32[]) -> f32[] {
  ROOT %add.1 = f32[]{:T(128)} add(%a, %b)
}

ENTRY %main.9 (p0: bf16[8,570,570,64]) -> (bf16[8,570,570,64], f32[64]) {
  %p0 = bf16[8,570,570,64]{3,0,2,1:T(8,128)(2,1)} parameter(0)
  %convolution.3 = bf16[8,570,570,64]{3,0,2,1:T(8,128)(2,1)} convolution(%p0, %p0), window={size=3x3}
  %all-reduce-start.1 = f32[64]{0:T(128)} all-reduce-start(%g), to_apply=%region_0.1
  %all-reduce-done.1 = f32[64]{0:T(128)} all-reduce-done(%all-reduce-start.1)
  %all-reduce.2 = (f32[4,4]{1,0:T(4,128)}, f32[2]{0}) all-reduce(%h, %i), to_apply=%region_0.1
  %fusion.7 = f32[16,128]{1,0:T(8,128)} fusion(%p0), kind=kLoop, calls=%fused
  ROOT %tuple = (bf16[8,570,570,64]{3,0,2,1}, f32[64]{0}) tuple(%convolution.3, %all-reduce-done.1)
}
"""


def test_communication_is_counted_once_where_it_ends():
    found = collectives_in(TPU)
    assert found == {"all-reduce": {"count": 2, "bytes": 4 * (64 + 16 + 2)}}


def test_maps_of_64_channels_are_half_padding():
    logical = 2 * 8 * 570 * 570 * 64 + 4 * (64 + 64 + 16 + 2 + 2048)
    physical = 2 * 8 * 570 * 570 * 128 + 4 * (64 + 64 + 4 * 128 + 2 + 2048)
    assert padding_in(TPU) == pytest.approx(1 - logical / physical)
    assert padding_in(TPU.replace(":T(", ":X(")) is None


def test_operators_are_counted_and_the_unexpected_is_named():
    assert operators_in(TPU) == {"convolution": 1, "fusion": 1}
    assert unexpected_in(TPU) == []
    strange = TPU.replace("f32[16,128]", "f64[16,128]").replace(" fusion(", " infeed(")
    assert unexpected_in(strange) == [
        "1 operators in float64",
        "1 transfers from or to the host",
    ]


def test_donated_arguments_count_once():
    analysis = SimpleNamespace(
        argument_size_in_bytes=100,
        output_size_in_bytes=90,
        alias_size_in_bytes=80,
        temp_size_in_bytes=7,
        generated_code_size_in_bytes=1,
    )
    assert memory_of(analysis)["outputs"] == 10
    assert memory_of(analysis)["peak"] == 118
    program = SimpleNamespace(
        memory_analysis=lambda: analysis,
        cost_analysis=lambda: None,
        as_text=lambda: TPU,
    )
    assert report_of(program)["flops"] is None


def test_only_a_lack_of_memory_is_one():
    used = "RESOURCE_EXHAUSTED: Ran out of memory. Used 17.25G of 15.75G hbm. Exceeded"
    assert lacking_memory(used) == int(17.25 * 2**30)
    assert lacking_memory("INTERNAL: Mosaic failed") is None
