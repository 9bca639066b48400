"""Trellis codes against plain loops over every path and state; float32 and float16 are told by the machine's own."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import decode, encode, get
from hwsim.formats.catalog import vector as catalogue
from hwsim.formats.families.trellis import TrellisSpec, state_values

INF = float("inf")


def f32(value: float) -> float:
    """Round a float64 to float32 (the sum, product or quotient of two float32 so rounded is rounded once)."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return INF


def half(bits: int) -> float:
    """Return the value of a float16."""
    return struct.unpack("<e", struct.pack("<H", bits))[0]


def value_oracle(kind: str, state: int) -> float:
    """Return the value of a state, integer by integer."""
    if kind == "1mad":
        x = (34038481 * state + 76625530) % 2**32
        return f32(((x & 255) + (x >> 8 & 255) + (x >> 16 & 255) + (x >> 24) - 510) / 147.800537109375)
    bits = ((89226354 * state + 64248484) % 2**32) & 0x8FFF8FFF ^ 0x3B603B60
    # the sum of two float16 of these exponents is exact in float64
    return struct.unpack("<e", struct.pack("<e", half(bits >> 16) + half(bits & 0xFFFF)))[0]


@pytest.mark.parametrize("kind", ["1mad", "3inst"])
def test_every_state_has_the_value_of_the_formula(kind: str) -> None:
    values = state_values(kind, 16)
    assert values.dtype == np.float32 and values.size == 65536
    assert values.tolist() == [value_oracle(kind, state) for state in range(65536)]
    assert values[:4096].tolist() == state_values(kind, 12).tolist()
    assert round(float(values[0]), 6) == {"1mad": -1.251687, "3inst": 0.768066}[kind]


@pytest.mark.parametrize("spec", catalogue.QTIP, ids=lambda spec: spec.name)
def test_rows_get_the_root_mean_square_of_the_values(spec: TrellisSpec) -> None:
    values = state_values(spec.values, spec.state_bits).astype(np.float64)
    assert spec.target_rms == pytest.approx(np.sqrt((values**2).mean()), abs=6e-5)
    assert spec.max_value == np.abs(values).max()


def path_cost(y: list[float], values: list[float], states: list[int]) -> float:
    """Return the cost of a path in float32, element by element."""
    total = None
    for x, state in zip(y, states, strict=True):
        error = f32(x - values[state])
        error = f32(error * error)
        total = error if total is None else f32(total + error)
    assert total is not None
    return total


def search(y: list[float], values: list[float], state_bits: int, bits: int, fixed: int | None) -> list[int]:
    """Return the best path, states and predecessors in ascending order."""
    count, low = 1 << state_bits, state_bits - bits
    costs = []
    for state in range(count):
        allowed = fixed is None or state >> bits == fixed
        costs.append(path_cost(y[:1], values, [state]) if allowed else INF)
    origins: list[list[int]] = []
    for x in y[1:]:
        after, origin = [], []
        for state in range(count):
            candidates = [(state >> bits) + (j << low) for j in range(1 << bits)]
            best = min(candidates, key=lambda s: costs[s])  # the first of equals
            error = f32(x - values[state])
            after.append(f32(costs[best] + f32(error * error)))
            origin.append(best)
        costs = after
        origins.append(origin)
    last = [s for s in range(count) if fixed is None or s & ((1 << low) - 1) == fixed]
    path = [min(last, key=lambda s: costs[s])]
    for origin in reversed(origins):
        path.append(origin[path[-1]])
    return path[::-1]


def block_oracle(spec: TrellisSpec, y: list[float]) -> list[int]:
    """Return the states of a block."""
    values = [value_oracle(spec.values, s) for s in range(1 << spec.state_bits)]
    if spec.tail == "open":
        return search(y, values, spec.state_bits, spec.bits, None)
    turn = len(y) // 2
    first = search(y[len(y) - turn :] + y[: len(y) - turn], values, spec.state_bits, spec.bits, None)
    return search(y, values, spec.state_bits, spec.bits, first[turn] >> spec.bits)


def words_oracle(spec: TrellisSpec, states: list[int]) -> list[int]:
    """Return the words of a path: all bits of the first state, then the new bits of each."""
    text = format(states[0], f"0{spec.state_bits}b")
    text += "".join(format(s % (1 << spec.bits), f"0{spec.bits}b") for s in states[1:])
    if spec.tail == "biting":
        kept = len(states) * spec.bits
        assert text[kept:] == text[: spec.state_bits - spec.bits]
        text = text[:kept]
    text += "0" * (-len(text) % 16)
    return [int(text[i : i + 16], 2) for i in range(0, len(text), 16)]


def scale_oracle(spec: TrellisSpec, row: np.ndarray) -> float:
    """Return the scale of a row."""
    total = 0.0
    for v in row.tolist():
        total += v * v
    kind = np.dtype(spec.row_scale).type
    limits = np.finfo(kind)
    if total == 0:
        return 0.0
    with np.errstate(over="ignore"):
        scale = kind(np.sqrt(total / len(row)) / spec.target_rms)
    return float(min(max(scale, limits.smallest_subnormal), limits.max))


def small(name: str, **rules) -> TrellisSpec:
    """Return a small trellis."""
    return TrellisSpec(name=name, source="", **rules)


SPECS = (
    small("a", state_bits=6, bits=2, values="3inst", block_size=16, target_rms=1.24),
    small("b", state_bits=6, bits=2, values="1mad", block_size=24, tail="open", row_scale="float16"),
    small("c", state_bits=5, bits=1, values="1mad", block_size=16, row_scale="none"),
    small("d", state_bits=7, bits=3, values="3inst", block_size=16),
    small("e", state_bits=8, bits=4, values="3inst", block_size=12, target_rms=1.24),
    small("f", state_bits=7, bits=3, values="1mad", block_size=9, tail="open"),
    small("g", state_bits=4, bits=3, values="1mad", block_size=16, row_scale="float16"),
    small("h", state_bits=3, bits=2, values="3inst", block_size=8),
)


def inputs(spec: TrellisSpec) -> np.ndarray:
    """Return rows of every kind: random, ties between values, subnormal, huge, zeros."""
    rng = np.random.default_rng(3)
    k, values = 2 * spec.block_size, state_values(spec.values, spec.state_bits).astype(np.float64)
    ties = (rng.choice(values, k) + rng.choice(values, k)) / 2
    rows = [
        rng.normal(size=k), rng.normal(size=k) * 0.02, ties, rng.choice(values, k), np.zeros(k), -np.zeros(k),
        rng.integers(-2, 3, k), np.ldexp(rng.integers(-40, 41, k).astype(float), -149), rng.normal(size=k) * 1e37,
        np.ldexp(rng.uniform(-1, 1, k), rng.integers(-140, 60, k)), np.eye(1, k)[0] * 3.0,
    ]  # fmt: skip
    return np.array(rows, np.float32)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_bits_are_those_of_a_plain_search(spec: TrellisSpec) -> None:
    x = inputs(spec)
    encoded = encode(x, spec)
    out, stream = decode(encoded), encoded.parts["stream"]
    for row in range(len(x)):
        scale = scale_oracle(spec, x[row]) if spec.row_scale != "none" else 1.0
        if spec.row_scale != "none":
            assert float(encoded.parts["row_scales"][row : row + 1].view(spec.row_scale)[0]) == scale
        for block in range(2):
            run = slice(block * spec.block_size, (block + 1) * spec.block_size)
            with np.errstate(over="ignore"):
                y = (x[row, run] / np.float32(scale)).tolist() if scale else [0.0] * spec.block_size
            states = block_oracle(spec, y)
            assert stream[row, block].tolist() == words_oracle(spec, states), (row, block)
            assert spec.states(stream[row, block]).tolist() == states
            want = [f32(value_oracle(spec.values, s) * scale) for s in states]
            assert out[row, run].tolist() == want


@pytest.mark.parametrize(("state_bits", "bits", "length"), [(2, 1, 7), (3, 1, 8), (3, 2, 4), (4, 2, 4), (4, 3, 3)])
def test_an_open_path_is_the_best_of_all(state_bits: int, bits: int, length: int) -> None:
    spec = small(
        "all", state_bits=state_bits, bits=bits, values="1mad", block_size=length, tail="open", row_scale="none"
    )
    values = [value_oracle("1mad", s) for s in range(1 << state_bits)]
    x = np.random.default_rng(state_bits + length).normal(size=(12, length)).astype(np.float32)
    stream = encode(x, spec).parts["stream"]
    for row in range(len(x)):
        y, costs = x[row].tolist(), []
        for first, *rest in product(range(1 << state_bits), *[range(1 << bits)] * (length - 1)):
            path = [first]
            for new in rest:
                path.append((path[-1] % (1 << (state_bits - bits))) << bits | new)
            costs.append(path_cost(y, values, path))
        assert path_cost(y, values, spec.states(stream[row, 0]).tolist()) == min(costs)


def test_a_biting_path_is_near_the_best_of_all_that_bite() -> None:
    # the two passes are an approximation: never better than the best, and mostly equal to it
    spec = small("bite", state_bits=4, bits=2, values="3inst", block_size=8, row_scale="none")
    values = [value_oracle("3inst", s) for s in range(16)]
    x = np.random.default_rng(4).normal(size=(6, 8)).astype(np.float32)
    encoded, equal = encode(x, spec), 0
    for row in range(len(x)):
        y = x[row].tolist()
        best = min(path_cost(y, values, search(y, values, 4, 2, fixed)) for fixed in range(4))
        cost = path_cost(y, values, spec.states(encoded.parts["stream"][row, 0]).tolist())
        assert cost >= best
        equal += cost == best
    assert equal >= 4


@pytest.mark.parametrize("spec", SPECS[:5], ids=lambda spec: spec.name)
def test_every_stream_is_a_path_and_decodes(spec: TrellisSpec) -> None:
    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def check(seed: int) -> None:
        words = np.random.default_rng(seed).integers(0, 1 << 16, (1, 2, -(-spec.stream_bits // 16))).astype(np.uint16)
        words[..., -1] &= 0xFFFF << (-spec.stream_bits % 16) & 0xFFFF
        states = spec.states(words)
        low = spec.state_bits - spec.bits
        assert ((states[..., 1:] >> spec.bits) == states[..., :-1] & ((1 << low) - 1)).all()
        if spec.tail == "biting":
            assert ((states[..., 0] >> spec.bits) == states[..., -1] & ((1 << low) - 1)).all()
        assert words_oracle(spec, states[0, 1].tolist()) == words[0, 1].tolist()

    check()


def test_scaling_by_powers_of_two_moves_scales_alone() -> None:
    spec = get("qtip_3inst_l12_2b")
    x = np.random.default_rng(6).normal(size=(2, 512)).astype(np.float32)
    plain, scaled = encode(x, spec), encode(np.ldexp(x, -7), spec)
    assert (plain.parts["stream"] == scaled.parts["stream"]).all()
    assert (np.ldexp(decode(plain), -7) == decode(scaled)).all()


@pytest.mark.parametrize("name", ["qtip_1mad_l12_2b", "qtip_3inst_l12_2b", "qtip_1mad_l16_2b", "qtip_3inst_l16_2b"])
def test_quality_is_that_of_the_paper(name: str) -> None:
    # QTIP, table 1: mean squared error on a Gaussian with 2 bits: 0.069 for L = 16; a little more for L = 12
    spec = get(name)
    x = np.random.default_rng(7).normal(size=(4, 2048)).astype(np.float32)
    error = float(((decode(encode(x, spec)) - x) ** 2).mean() / (x**2).mean())
    assert 0.06 < error < (0.0725 if "l16" in name else 0.077)
    assert spec.bits_per_element(4096) == 2 + 32 / 4096
    open_tail = spec.with_rules(tail="open")
    assert open_tail.bits_per_element(4096) == 2 + 16 / 256 + 32 / 4096


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"state_bits": 17}, "state_bits must be 2 to 16, not 17"),
        ({"state_bits": 1}, "state_bits must be 2 to 16, not 1"),
        ({"bits": 0}, "bits must be 1 to 8 and below state_bits, not 0"),
        ({"bits": 12}, "bits must be 1 to 8 and below state_bits, not 12"),
        ({"values": "2mad"}, "values is '2mad', allowed: 1mad, 3inst"),
        ({"tail": "none"}, "tail is 'none', allowed: biting, open"),
        ({"block_size": 0}, "block_size must be at least 1, not 0"),
        ({"block_size": 12}, "whole 16-bit words that hold a state, not 12 x 2 bits"),
        ({"block_size": 8, "state_bits": 16, "bits": 1, "tail": "biting"}, "not 8 x 1 bits"),
        ({"row_scale": "bfloat16"}, "row_scale is 'bfloat16', allowed: none, float16, float32"),
        ({"scale_rule": "amax"}, "scale_rule is 'amax', allowed: rms"),
        ({"target_rms": 0.0}, "target_rms must be positive and finite, not 0.0"),
    ],
)
def test_rules_that_do_not_go_together_are_refused(rules: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        get("qtip_3inst_l12_2b").with_rules(**rules)


def test_bad_input_is_refused() -> None:
    spec = SPECS[1]
    x = np.ones((2, 48), np.float32)
    encoded = encode(x, spec)
    stream = encoded.parts["stream"].copy()
    stream[1, 0, -1] |= 1
    with pytest.raises(ValueError, match=r"block \[1, 0\] has a bit after its last \(52\) that is not zero"):
        decode(encoded.replace_parts(stream=stream))
    for code, shown in ((0x8001, "-"), (0x7C00, "inf"), (0x7E00, "nan")):
        with pytest.raises(ValueError, match=rf"row_scales \[1\] is {shown}.*; allowed: finite, 0 or more"):
            decode(encoded.replace_parts(row_scales=np.array([0x3C00, code], np.uint16)))
    with pytest.raises(ValueError, match=r"a block is uint16 \[\.\.\., 4\], not uint16 \(2,\)"):
        spec.states(np.zeros(2, np.uint16))
    with pytest.raises(ValueError, match="block of 24 does not divide the axis of 47; pad it to 48"):
        encode(x[:, :47].copy(), spec)
    padded = encode(x[:, :47].copy(), spec, pad=True)
    assert padded.padding == 1 and decode(padded).shape == (2, 47)
    x[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"index \[1, 2\] .* is nan"):
        encode(x, spec)


def test_rows_are_chosen_and_axes_kept() -> None:
    x = np.random.default_rng(9).normal(size=(2, 3, 32)).astype(np.float32)
    encoded = encode(x, SPECS[0])
    assert encoded.parts["stream"].shape == (2, 3, 2, 2) and encoded.parts["row_scales"].shape == (2, 3)
    flat = encode(x.reshape(6, 32), SPECS[0])
    assert (decode(flat.rows(slice(2, 4))) == decode(encoded).reshape(6, 32)[2:4]).all()
    assert decode(encode(x[0, 0], SPECS[0])).shape == (32,)
