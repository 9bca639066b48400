"""Reports of a machine: a case worked by hand, sums of parts, and what more of something never does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.arch import GemmShape, Machine, load_machine, machine_names, simulate
from hwsim.arch.systolic_timing import os_cycles

SMALL = GemmShape(
    "small", m=5, n=3, k=60, k_stored=64, weight_bits=3 * 64 * 8, act_bits=5 * 64 * 8, out_bits=5 * 3 * 32
)
LARGE = GemmShape("large", 300, 500, 60_000, 60_000, 500 * 60_000 * 8, 300 * 60_000 * 8, 300 * 500 * 32)


INT8 = load_machine("int8_os")


def changed(machine: Machine, **updates: Any) -> Machine:
    """Return the machine with nested fields replaced, for example ``buffers__act__size_bytes=8192``."""
    data = machine.spec.model_dump()
    for path, value in updates.items():
        *outer, last = path.split("__")
        place = data
        for key in outer:
            place = place[key]
        place[last] = value
    return replace(machine, spec=type(machine.spec).model_validate(data))


def tiny() -> Machine:
    """Return a 2 x 2 array with small memories."""
    return changed(
        INT8,
        array__rows=2,
        array__cols=2,
        buffers__act__port_bits=64,
        buffers__weight__port_bits=128,
        buffers__out__port_bits=16,
        dram__bandwidth_bytes_per_s=500_000_000,
    )


def test_small_layer_worked_by_hand() -> None:
    machine = tiny()
    (layer,) = simulate([SMALL], machine).layers
    assert layer.macs == 5 * 3 * 60  # padding left out
    # 64 stored elements are 2 beats of 32 lanes; the unit answers after 5 cycles
    assert layer.compute_cycles == os_cycles(5, 3, 2, 2, 2, machine.spec.array.buffer_beats, 5)
    # two bands of columns stream A (2560 bits) twice; three bands of rows stream B (1536 bits) three times
    assert layer.sram_read_bits == {"act": 5120, "weight": 4608, "out": 480}
    assert layer.sram_write_bits == {"act": 2560, "weight": 1536, "out": 480}
    assert layer.sram_cycles == 5120 // 64
    # all fits, each bit moves once: 4576 bits at 4 bits a cycle
    assert layer.dram_bits == {"act": 2560, "weight": 1536, "out": 480}
    assert layer.dram_cycles == 4576 // 4
    assert (layer.bound, layer.cycles) == ("dram", 1144)
    assert layer.actions["mul_int8_int8"] == 900
    assert layer.actions["sram_read_64b_1048576"] == 5120 // 64 + 4608 // 64
    assert layer.actions["sram_read_64b_32768"] == 8  # 480 bits are 7.5 words
    assert layer.actions["dram_bit_lpddr4"] == 4576


def test_bound_is_the_largest() -> None:
    fast = changed(tiny(), dram__bandwidth_bytes_per_s=10**15)
    assert simulate([SMALL], fast).layers[0].bound == "sram"
    wide = {f"buffers__{name}__port_bits": 1 << 30 for name in ("act", "weight", "out")}
    assert simulate([SMALL], changed(fast, **wide)).layers[0].bound == "compute"


@pytest.mark.parametrize("name", machine_names())
def test_totals_are_sums_of_parts(name: str) -> None:
    report = simulate([SMALL, LARGE, SMALL], load_machine(name))
    layers = report.layers
    assert report.cycles == sum(layer.cycles for layer in layers)
    assert report.macs == sum(layer.macs for layer in layers) == 2 * 900 + 300 * 500 * 60_000
    for field in ("stored_bits", "dram_bits", "actions"):
        total = getattr(report, field)
        parts = [getattr(layer, field) for layer in layers]
        assert total == {key: sum(part[key] for part in parts) for key in parts[0]}
        assert all(type(value) is int and value >= 0 for value in total.values())
    assert report.seconds == report.cycles / 1e9
    assert 0 < report.utilisation <= 1
    assert all(layer.cycles >= max(layer.compute_cycles, layer.sram_cycles, layer.dram_cycles) for layer in layers)


def test_operands_beyond_both_buffers_are_read_again() -> None:
    layer = simulate([LARGE], INT8).layers[0]
    # 18 MB of activations are 18 loads of 1 MiB, 30 MB of weights are 29: weights 18 times is 540 + 18, activations 29
    # times is 522 + 30
    assert layer.dram_bits["weight"] == LARGE.weight_bits
    assert layer.dram_bits["act"] == LARGE.act_bits * 29


MORE = [
    "buffers__act__size_bytes",
    "buffers__weight__size_bytes",
    "buffers__act__port_bits",
    "buffers__weight__port_bits",
    "buffers__out__port_bits",
    "dram__bandwidth_bytes_per_s",
]


@pytest.mark.parametrize("what", MORE)
@given(
    m=st.integers(1, 600),
    n=st.integers(1, 600),
    k=st.integers(1, 4000),
    start=st.integers(8, 1 << 20),
    factor=st.integers(1, 50),
)
def test_more_never_costs_more(what: str, m: int, n: int, k: int, start: int, factor: int) -> None:
    shape = GemmShape("any", m, n, k, k, n * k * 8, m * k * 8, m * n * 32)
    less, more = (simulate([shape], changed(INT8, **{what: start * f})).layers[0] for f in (1, factor))
    assert more.cycles <= less.cycles
    assert sum(more.dram_bits.values()) <= sum(less.dram_bits.values())


def test_padding_costs_cycles_and_bits_but_no_macs() -> None:
    padded = GemmShape("p", 16, 8, 576, 640, 8 * 640 * 4, 16 * 640 * 8, 16 * 8 * 32)
    exact = replace(padded, k=640)
    one, other = (simulate([shape], load_machine("int4_os")).layers[0] for shape in (padded, exact))
    assert one.macs * 640 == other.macs * 576
    assert one.compute_cycles == other.compute_cycles
    assert one.dram_bits == other.dram_bits


@pytest.mark.parametrize("field", ["m", "n", "k", "k_stored", "weight_bits", "act_bits", "out_bits"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8"])
def test_bad_shape_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"layer 'small': {field} must be a positive integer"):
        replace(SMALL, **{field: value})  # type: ignore[arg-type]


def test_padding_is_never_negative() -> None:
    with pytest.raises(ValueError, match="k_stored must be at least k = 60, not 32"):
        replace(SMALL, k_stored=32)


def test_counts_beyond_64_bits_are_refused() -> None:
    with pytest.raises(OverflowError, match=r"layer 'small': macs: .* does not fit a 64-bit count"):
        simulate([replace(SMALL, m=1 << 40, n=1 << 40)], INT8)
    once = replace(SMALL, m=1 << 30, n=1 << 27)
    with pytest.raises(OverflowError, match="macs of all layers"):
        _ = simulate([once] * 2, INT8).macs
