"""Serial units: the schedule of every beat against the rule in plain words, cycles of a GEMM, and bits of `int_mac`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hwsim import pe
from hwsim.formats import recode
from hwsim.pe import int_mac, pragmatic, stripes
from hwsim.pe._dot import DotSpec
from hwsim.pe._serial import SerialSpec
from tests.hwsim.pe import oracle

SERIAL = tuple(name for name in pe.dot_names() if isinstance(pe.unit(name).Params().datapath, SerialSpec))
FORMATS = ("int8", "int4_g128", "int4_g128_asym")
CASES = [(fmt, name) for name in SERIAL for fmt in FORMATS if oracle.takes(fmt, name)]
IDS = [f"{name}-{fmt}" for fmt, name in CASES]


def drawn(bits: int, beats: int, lanes: int, seed: int) -> np.ndarray:
    """Return codes [beats, lanes]: any, few ones, zeros in most lanes, and the extremes."""
    rng = np.random.default_rng(seed)
    shape, top = (beats, lanes), 1 << bits
    kinds = [
        rng.integers(0, top, shape),
        1 << rng.integers(0, bits, shape),
        rng.integers(0, top, shape) * (rng.random(shape) < 0.2),
        rng.choice([top // 2, top // 2 - 1, top - 1, 0], shape),
    ]
    return np.choose(rng.integers(0, len(kinds), (beats, 1)), kinds).astype(np.uint16 if bits > 8 else np.uint8)


def signed(code: int, bits: int) -> int:
    return code - (1 << bits) if code >> (bits - 1) else code


def steps_of(codes: list[int], bits: int, reach: int) -> int:
    """Return the cycles of one beat of `pragmatic`, the rule word by word on lists of places."""
    lanes = [[place for place in range(bits) if abs(signed(code, bits)) >> place & 1] for code in codes]
    cycles = 0
    while any(lanes):
        lowest = min(places[0] for places in lanes if places)
        lanes = [places[1:] if places and places[0] - lowest < reach else places for places in lanes]
        cycles += 1
    return max(cycles, 1)


def cycles_of(params: Any, codes: np.ndarray) -> list[int]:
    beats = {"a": codes, "b": np.zeros_like(codes), "last": np.zeros(len(codes), np.uint8)}
    found = params.datapath.beat_cycles(beats)
    assert found.dtype == np.int64 and found.shape == (len(codes),)
    return found.tolist()


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_stripes_takes_a_cycle_a_bit(bits: int) -> None:
    assert cycles_of(stripes.Params(activation=f"int{bits}", lanes=3), drawn(bits, 50, 3, 0)) == [bits] * 50


@pytest.mark.parametrize("first_stage_bits", range(5))
@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_pragmatic_follows_its_rule(bits: int, first_stage_bits: int) -> None:
    params = pragmatic.Params(activation=f"int{bits}", lanes=5, first_stage_bits=first_stage_bits)
    codes = drawn(bits, 400, 5, bits)
    found = cycles_of(params, codes)
    assert found == [steps_of(row, bits, 1 << first_stage_bits) for row in codes.tolist()]
    assert max(found) <= params.datapath.most_beat_cycles and min(found) == 1


def test_pragmatic_at_both_ends_of_its_first_stage() -> None:
    """Lanes in lockstep work off the union of their ones; lanes with a shifter each, the longest list."""
    codes = drawn(8, 2000, 6, 9)
    ones = recode.counts(codes, "oneffsets", 8).max(axis=1)
    assert cycles_of(pragmatic.Params(lanes=6, first_stage_bits=3), codes) == np.maximum(ones, 1).tolist()
    union = np.bitwise_or.reduce(np.abs(codes.view(np.int8).astype(np.int64)), axis=1)
    assert cycles_of(pragmatic.Params(lanes=6, first_stage_bits=0), codes) == [
        max(int(x).bit_count(), 1) for x in union
    ]


def test_pragmatic_by_hand() -> None:
    """Ones at 0, 3 and at 2, 3, 6: within two places of the lowest {0; -}, {3; 2}, {-; 3}, {-; 6}, and so on."""
    codes = np.array([[0b1001, 0b1001100], [0, 0], [0x80, 1]], np.uint8)
    expected = {0: [4, 1, 2], 1: [4, 1, 2], 2: [3, 1, 2], 3: [3, 1, 1], 4: [3, 1, 1]}
    for bits, cycles in expected.items():
        assert cycles_of(pragmatic.Params(lanes=2, first_stage_bits=bits), codes) == cycles, bits


@pytest.mark.parametrize(("fmt", "name"), CASES, ids=IDS)
def test_bits_are_those_of_int_mac(fmt: str, name: str) -> None:
    found, params = pe.unit_for(fmt, name, 8)
    a, b = oracle.operands(fmt, 3, 5, 2 * (oracle.get(fmt).block_size or 45))
    plain, others = pe.unit_for(fmt, "int_mac", 8)
    got = found.gemm(a, b, params)
    np.testing.assert_array_equal(got.view(np.uint32), plain.gemm(a, b, others).view(np.uint32))
    assert (
        found.reference(found.beats(a, b, 2, 4, params), params) == got.view(np.uint32)[2, 4] == oracle.dot(a, b, 2, 4)
    )


@pytest.mark.parametrize(("fmt", "name"), CASES, ids=IDS)
def test_cycles_of_a_gemm_are_those_of_its_beats(fmt: str, name: str) -> None:
    """Beat by beat, over the beats of all M x N dot products; K of int8 is no whole number of beats."""
    found, params = pe.unit_for(fmt, name, 8)
    spec = params.datapath
    k = 2 * (oracle.get(fmt).block_size or 45)
    a, b = oracle.operands(fmt, 4, 6, k)
    a.codes[1] = 0
    b.codes[2] = 0
    beats = [found.beats(a, b, m, n, params) for m, n in np.ndindex(4, 6)]
    total = sum(int(spec.beat_cycles(dot).sum()) for dot in beats) + spec.latency
    assert found.operand_cycles(a, b, params) == total
    most = 24 * -(-k // 8) * spec.most_beat_cycles + spec.latency
    assert found.cycles(4, 6, k, params) == most >= total
    assert all((spec.beat_cycles(dot) >= 1).all() for dot in beats)


@pytest.mark.parametrize("name", SERIAL)
def test_the_front_adds_one_cycle(name: str) -> None:
    spec = pe.unit(name).Params().datapath
    assert spec.latency == int_mac.Params().datapath.latency + 1


@pytest.mark.parametrize("name", SERIAL)
def test_what_no_serial_unit_is(name: str) -> None:
    kind = pe.unit(name).Params
    with pytest.raises(ValueError, match=f"^{name}: a serial unit has no further pipeline stages, not 2"):
        kind(stages=2)
    with pytest.raises(ValueError, match=f"^{name}: weight must be"):
        kind(weight="float8_e4m3fn")
    with pytest.raises(ValueError, match=f"^{name}: block must be 0 or a multiple of lanes = 4, not 6"):
        kind(lanes=4, block=6)
    with pytest.raises(ValueError, match=f"{name}' does not take format mxfp4"):
        pe.unit_for("mxfp4", name)
    with pytest.raises(ValueError, match="a serial unit takes one block a beat, not 2"):
        replace(kind(block=32).datapath, block_beats=1, beat_blocks=2)


@pytest.mark.parametrize("bits", [-1, 5, True, 1.0, "2"])
def test_first_stage_of_pragmatic(bits: Any) -> None:
    with pytest.raises(ValueError, match=f"pragmatic: first_stage_bits must be an integer of 0 to 4, not {bits!r}"):
        pragmatic.Params(first_stage_bits=bits)


@pytest.mark.parametrize("name", SERIAL)
def test_operands_that_do_not_fit(name: str) -> None:
    """No cycles of what the unit would not compute."""
    found, params = pe.unit_for("int8", name, 8)
    a, b = oracle.operands("int8", 2, 3, 40)
    with pytest.raises(ValueError, match=f"{name}: K differs: A has 40, B has 39"):
        found.operand_cycles(a, oracle.operands("int8", 2, 3, 39)[1], params)
    with pytest.raises(ValueError, match=f"{name}: operand B has elements int8, the unit takes int4"):
        found.operand_cycles(a, b, found.Params("int4", 8))


def test_units_without_a_schedule_take_a_cycle_a_beat() -> None:
    spec: DotSpec = int_mac.Params().datapath
    assert spec.beat_cycles({"last": np.zeros(3, np.uint8)}) is None


def test_cycles_for_operands_are_there_for_every_unit() -> None:
    a, b = oracle.operands("int8", 4, 6, 90)
    for name in (*SERIAL, "int_mac"):
        found, params = pe.unit_for("int8", name, 8)
        own = getattr(found, "operand_cycles", None)
        assert pe.operand_cycles(found, a, b, params) == (own(a, b, params) if own else found.cycles(4, 6, 90, params))
    with pytest.raises(ValueError, match="int_mac: K differs: A has 90, B has 91"):
        pe.operand_cycles(*(pe.unit("int_mac"), a, oracle.operands("int8", 4, 6, 91)[1]), int_mac.Params())
