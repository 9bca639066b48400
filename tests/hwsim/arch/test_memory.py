"""DRAM traffic of a GEMM, against an enumeration of the two loop orders."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hwsim.arch.memory import dram_reads_bits

SIZE = st.integers(1, 300)


def brute_force(weight: int, act: int, weight_buffer: int, act_buffer: int) -> int:
    """Return the least traffic by walking the loads of the outer operand; the inner one is kept only when it fits."""
    totals = []
    for outer, outer_buffer, inner, inner_buffer in (
        (act, act_buffer, weight, weight_buffer),
        (weight, weight_buffer, act, act_buffer),
    ):
        total, left, first = 0, outer, True
        while left > 0:
            load = min(left, outer_buffer)
            total += load + (inner if first or inner > inner_buffer else 0)
            left, first = left - load, False
        totals.append(total)
    return min(totals)


@given(SIZE, SIZE, SIZE, SIZE)
def test_traffic_is_the_better_loop_order(weight: int, act: int, weight_buffer: int, act_buffer: int) -> None:
    parts = dram_reads_bits(weight, act, weight_buffer, act_buffer)
    assert sum(parts) == brute_force(weight, act, weight_buffer, act_buffer)
    assert parts[0] >= weight and parts[1] >= act


@given(SIZE, SIZE, SIZE, SIZE, SIZE)
def test_a_bigger_buffer_never_moves_more(
    weight: int, act: int, weight_buffer: int, act_buffer: int, more: int
) -> None:
    before = sum(dram_reads_bits(weight, act, weight_buffer, act_buffer))
    assert sum(dram_reads_bits(weight, act, weight_buffer + more, act_buffer)) <= before
    assert sum(dram_reads_bits(weight, act, weight_buffer, act_buffer + more)) <= before
