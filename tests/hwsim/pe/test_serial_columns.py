"""`bitwave` and `bitlet`: the cycles of every beat against their rules on lists of bits, and of whole layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwsim import pe
from hwsim.formats import element, encode, get
from hwsim.pe import bitlet, bitwave
from tests.hwsim.pe import oracle

UNITS: dict[str, Any] = {"bitwave": bitwave, "bitlet": bitlet}
WEIGHTS = ("int2", "int3", "int4", "int6", "int8", "uint4", "int16")


def bits_of(code: int, weight: str) -> list[int]:
    """Return the bits of a weight's magnitude, the lowest first."""
    width = element(weight).bits
    negative = weight.startswith("int") and code >> (width - 1)
    magnitude = (1 << width) - code if negative else code
    return [magnitude >> place & 1 for place in range(width)]


def cycles_by_rule(name: str, codes: list[int], weight: str) -> int:
    columns = list(zip(*(bits_of(code, weight) for code in codes), strict=True))
    counts = [sum(1 for column in columns if any(column)), max(sum(column) for column in columns)]
    return max(counts[0 if name == "bitwave" else 1], 1)


def params_of(name: str, weight: str, lanes: int) -> Any:
    zeros = {"block": lanes, "zero_point": True} if weight == "uint4" else {}
    return UNITS[name].Params(weight, lanes, **zeros)


def drawn(weight: str, beats: int, lanes: int) -> np.ndarray:
    """Return codes: any, few ones, mostly zeros, one code in all lanes, and the ends."""
    rng, width = np.random.default_rng(lanes), element(weight).bits
    top, shape = 1 << width, (beats, lanes)
    kinds = [
        rng.integers(0, top, shape),
        1 << rng.integers(0, width, shape),
        rng.integers(0, top, shape) * (rng.random(shape) < 0.15),
        np.repeat(rng.integers(0, top, (beats, 1)), lanes, axis=1),
        rng.choice([top // 2, top // 2 - 1, top - 1, 0], shape),
    ]
    return np.choose(rng.integers(0, len(kinds), (beats, 1)), kinds).astype(np.uint16 if width > 8 else np.uint8)


def cycles_of(params: Any, codes: np.ndarray) -> list[int]:
    beats = {"a": np.zeros_like(codes), "b": codes, "last": np.zeros(len(codes), np.uint8)}
    found = params.datapath.beat_cycles(beats)
    assert found.dtype == np.int64 and found.shape == (len(codes),)
    return found.tolist()


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("name", UNITS)
def test_a_beat_takes_the_cycles_of_its_rule(name: str, weight: str) -> None:
    params = params_of(name, weight, 7)
    codes = drawn(weight, 500, 7)
    found = cycles_of(params, codes)
    assert found == [cycles_by_rule(name, row, weight) for row in codes.tolist()]
    assert min(found) == 1 and len(set(found)) > 1
    assert max(found) <= params.datapath.most_beat_cycles


@pytest.mark.parametrize("name", UNITS)
def test_every_code_alone_and_in_all_lanes(name: str) -> None:
    codes = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    alone = cycles_of(params_of(name, "int8", 1), codes[:, :1])
    ones = [max(sum(bits_of(code, "int8")), 1) for code in range(256)]
    zero = [1 if code else 0 for code in range(256)]
    assert alone == (ones if name == "bitwave" else [1] * 256)
    assert cycles_of(params_of(name, "int8", 3), codes) == (
        ones if name == "bitwave" else [max(3 * z, 1) for z in zero]
    )


def test_by_hand() -> None:
    """5, -4 and 0: columns {5}, {}, {5, 4}: two of them in use, the fullest of two ones."""
    codes = np.array([[5, 252, 0], [0, 0, 0], [128, 128, 128], [1, 2, 4]], np.uint8)
    assert cycles_of(bitwave.Params(lanes=3), codes) == [2, 1, 1, 3]
    assert cycles_of(bitlet.Params(lanes=3), codes) == [2, 1, 3, 1]


@pytest.mark.parametrize("name", UNITS)
def test_the_worst_beats(name: str) -> None:
    params = params_of(name, "int8", 16)
    codes = np.full((1, 16), 127, np.uint8)
    codes[0, 0] = 128
    worst = codes if name == "bitwave" else np.full((1, 16), 1, np.uint8)
    assert cycles_of(params, worst) == [params.datapath.most_beat_cycles] == [8 if name == "bitwave" else 16]


@pytest.mark.parametrize("fmt", ["int8", "int4_g128", "int4_g128_asym"])
@pytest.mark.parametrize("name", UNITS)
def test_cycles_and_bits_of_a_gemm(name: str, fmt: str) -> None:
    """Beat by beat over all dot products; K of int8 is no whole number of beats; bits against exact rationals."""
    model, params = pe.unit_for(fmt, name, 8)
    spec, k = params.datapath, 2 * (get(fmt).block_size or 45)
    a, b = oracle.operands(fmt, 3, 5, k)
    b.codes[2] = 0
    beats = [model.beats(a, b, m, n, params) for m, n in np.ndindex(3, 5)]
    total = sum(int(spec.beat_cycles(dot).sum()) for dot in beats) + spec.latency
    assert model.operand_cycles(a, b, params) == total
    assert model.cycles(3, 5, k, params) == 15 * -(-k // 8) * spec.most_beat_cycles + spec.latency >= total
    got = model.gemm(a, b, params).view(np.uint32)
    for m, n in np.ndindex(3, 5):
        assert got[m, n] == oracle.dot(a, b, m, n) == model.reference(beats[5 * m + n], params)


@pytest.mark.parametrize("name", UNITS)
def test_actions_count_every_bit(name: str) -> None:
    counts = UNITS[name].actions(2, 3, 64, params_of(name, "int8", 16))
    assert counts["and_word" if name == "bitwave" else "select_word"] == 2 * 3 * 64 * 8
    assert counts.get("shift_word", 0) == (2 * 3 * 4 * 8 if name == "bitwave" else 0)
    assert not any(action.startswith("mul_int") for action in counts)


@pytest.mark.parametrize("name", UNITS)
def test_what_no_unit_is(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: a serial unit has no further pipeline stages, not 1"):
        UNITS[name].Params(stages=1)
    with pytest.raises(ValueError, match=f"^{name}: weight must be int2 to int16 or uint4, not 'float16'"):
        UNITS[name].Params("float16")
    with pytest.raises(ValueError, match=f"'{name}' does not take format mxfp4"):
        pe.unit_for("mxfp4", name)
    a, b = encode(np.ones((2, 40), np.float32), "int8"), encode(np.ones((2, 39), np.float32), "int8")
    with pytest.raises(ValueError, match=f"{name}: K differs: A has 40, B has 39"):
        UNITS[name].operand_cycles(a, b, UNITS[name].Params())
