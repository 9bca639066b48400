"""`tender` in hardware: its sum that doubles, group by group, against the model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hwsim import pe
from hwsim.flow.operands import chunks, directed_batches, formats_of
from hwsim.formats import Encoded
from hwsim.pe import tender
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.bulk_pairs import all_pairs
from rtl.sim.faults import run_campaign
from rtl.sim.run import cosim
from tests.hwsim.pe.test_tender import operands

pytestmark = pytest.mark.rtl

CONFIGURATIONS = {
    "int8": ((8, 8), {"lanes": 4, "groups": 4}),
    "int4, all stages": ((4, 4), {"lanes": 2, "groups": 3, "stages": 4, "adder_tree": "carry_save"}),
    "int8 x int4, one lane": ((8, 4), {"lanes": 1, "groups": 5, "acc_bits": 24}),
    "one group": ((4, 8), {"lanes": 3, "groups": 1, "acc_bits": 20}),
}


def configured(name: str) -> tuple[tuple[int, int], tender.Params]:
    bits, fields = CONFIGURATIONS[name]
    return bits, tender.Params(f"int{bits[1]}", f"int{bits[0]}", **fields)


def fitting(
    bits: tuple[int, int], params: tender.Params, rows: int, k: int, seed: int, used: list[int] | None
) -> tuple[Encoded, Encoded]:
    """Return operands, the largest codes in the first row; the last group takes channels that would overflow."""
    a, b = operands(bits, rows, rows, k, params.groups, seed, used)
    half = 1 << (bits[0] - 1)
    a.codes[0], b.codes[0] = half, 1 << (bits[1] - 1)
    groups = a.parts["groups"]
    while tender.sum_bits(tender.group_sizes(a, params), params) > params.acc_bits:
        groups[np.argmin(groups)] = params.groups - 1
    return a, b


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_unit_equals_the_plain_reference(name: str) -> None:
    """Bits and cycles in a Verilog simulator: plain, stalled, after a reset, for groups of any size, none too."""
    bits, params = configured(name)
    dots: list[dict[str, np.ndarray]] = []
    rng = np.random.default_rng(len(name))
    for seed in range(30):
        used = None if seed % 2 else rng.choice(params.groups, 2).tolist()
        a, b = fitting(bits, params, 4, int(rng.integers(1, 24)), seed, used)
        dots += [tender.beats(a, b, row, row, params) for row in range(4)]
    expected = [tender.reference(dot, params) for dot in dots]
    assert len(set(expected)) > 80
    result = cosim("tender", params, dots, expected, seed=7)
    assert result.ok, result
    assert result.vectors > 2 * len(dots)
    assert result.cycles == sum(len(dot["last"]) for dot in dots) + params.datapath.latency


def stream(lanes: int, vectors: int) -> BulkCosim:
    """Stream directed operands through the compiled unit, against the kernels."""
    params = pe.unit_for("int8", "tender", lanes)[1]
    bulk = BulkCosim("tender", params, seed=1)
    for beats, expected in directed(params, vectors):
        bulk.check(beats, expected)
    return bulk


def directed(params: tender.Params, vectors: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Yield beats and results of directed operands; then of the same sums under scales that differ row by row.

    The scale of the activations is one for many rows of encoded operands; here it reaches both ends of float32 as that
    of the weights does.
    """
    rng, activation = np.random.default_rng(0), pe.activation_for("int8", "tender")
    for beats, expected, _ in chunks(directed_batches("int8", params, vectors, 0, activation), tender, params):
        yield beats, expected
        last, ones = np.flatnonzero(beats["last"]), np.float32(1).view(np.uint32)
        bare = beats | {name: np.full(len(beats["last"]), ones) for name in ("a_out", "b_out")}
        total = sums(bare, params)
        scales = edge_scales(rng, total)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            product = total * scales["a_out"].view(np.float32) * scales["b_out"].view(np.float32)
        product[np.isnan(product)] = np.nan
        counts = np.diff(np.concatenate([[-1], last]))
        yield bare | {name: np.repeat(each, counts) for name, each in scales.items()}, product.view(np.uint32)


def edge_scales(rng: np.random.Generator, total: np.ndarray) -> dict[str, np.ndarray]:
    """Return scales as bits: around 1; any; and such that one of the two products lands among the subnormals.

    What the first product loses there shows in the result, since the other scale is a power of two then.
    """
    kind, size = rng.integers(4, size=len(total)), np.frexp(total)[1]
    tiny = np.clip(127 - size - 125 - rng.integers(0, 28, len(total)), 0, 254)
    near, anything = 127 + rng.integers(-3, 4, len(total)), rng.integers(0, 256, len(total))
    exponents = {
        "a_out": np.choose(kind, [near, anything, tiny, np.full_like(near, 127)]),
        "b_out": np.choose(kind, [near, anything, np.full_like(near, 127 + 60), tiny]),
    }
    found = {}
    for name, exponent in exponents.items():
        exact = (kind == 2) & (name == "b_out") | (kind == 3) & (name == "a_out")
        mantissa = np.where(exact, 0, rng.integers(1 << 23, size=len(total)))
        found[name] = (rng.integers(2, size=len(total)) << 31 | exponent << 23 | mantissa).astype(np.uint32)
    return found


def sums(beats: dict[str, np.ndarray], params: tender.Params) -> np.ndarray:
    """Return every dot product's exact sum rounded to float32, from its beats."""
    ints = [np.array(table) for table in (params.datapath.a_ints, params.datapath.b_ints)]
    parts = (ints[0][beats["a"]] * ints[1][beats["b"]]).sum(axis=1)
    last = np.flatnonzero(beats["last"])
    starts = np.concatenate([[0], last[:-1] + 1])
    done = np.cumsum(beats["rescale"].astype(np.int64))
    up = np.repeat(done[last], last - starts + 1) - done  # doublings after a beat
    return np.add.reduceat(parts << up, starts).astype(np.float32)


def test_a_hundred_thousand_vectors() -> None:
    assert formats_of("tender") == ("int8",)
    bulk = stream(8, 50_000)
    assert bulk.total.ok, bulk.total
    assert bulk.total.vectors > 100_000  # the stalled pass takes some of them again


@pytest.mark.slow
def test_ten_million_vectors() -> None:
    bulk = stream(16, 5_000_000)
    assert bulk.total.ok, bulk.total
    assert bulk.total.vectors > 10_000_000
    print(bulk.total)


def test_the_beats_of_a_layer_take_the_cycles_that_the_model_says() -> None:
    """Unstalled, M x N dot products of one pair of operands, whose groups have any sizes."""
    params = tender.Params(lanes=4, groups=4)
    for seed in range(4):
        a, b = operands((8, 8), 3, 5, 30, 4, seed)
        dots = [tender.beats(a, b, m, n, params) for m, n in np.ndindex(3, 5)]
        result = cosim("tender", params, dots, [tender.reference(dot, params) for dot in dots], engine="bulk")
        assert result.ok and result.cycles == tender.operand_cycles(a, b, params)


@pytest.mark.parametrize("bits", [4, 8])
def test_every_product_doubled_by_every_group(bits: int) -> None:
    """All pairs of codes, alone and before one to three doublings; what is expected are products of values."""
    params = tender.Params(f"int{bits}", f"int{bits}", lanes=1, groups=4, acc_bits=24)
    bulk = BulkCosim("tender", params, stalls=False)
    for beats, expected in all_pairs(params.datapath):
        count = len(expected)
        for doublings in range(4):
            rows = {name: np.repeat(values, doublings + 1, axis=0) for name, values in beats.items()}
            place = np.tile(np.arange(doublings + 1), count)
            rows["a"], rows["b"] = (np.where(place[:, None] == 0, rows[side], 0).astype(np.uint8) for side in "ab")
            rows["rescale"], rows["last"] = (place > 0).astype(np.uint8), (place == doublings).astype(np.uint8)
            exact = expected.view(np.float32) * np.float32(2**doublings)
            bulk.check(rows, exact.view(np.uint32))
    assert bulk.total.ok, bulk.total
    assert bulk.total.vectors == 4 << 2 * bits


@pytest.mark.slow
def test_fault_campaign() -> None:
    params = pe.unit_for("int8", "tender", 4)[1]
    report = run_campaign("tender", params, list(directed(params, 30_000)), faults=120, seed=1)
    lines = [f"{report.faults} faults: {len(report.caught)} caught, {len(report.harmless)} proved harmless"]
    print("\n".join(lines + [f"left: {fault}" for fault in report.survivors]))
    assert report.faults == 120
    # one block a dot product: the accumulator's addition only ever sees a zero beside its addend
    assert len(report.survivors) <= 40, lines
