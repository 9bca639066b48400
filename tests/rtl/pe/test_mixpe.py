"""The units that shift and add: hardware against their models, every weight code with every activation."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module, Shape, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim import pe
from hwsim.flow.operands import chunks, directed_batches, formats_of
from hwsim.formats import Format, get
from rtl.lib.shift_add import shift_add
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.bulk_pairs import check_all_pairs
from rtl.sim.faults import run_campaign
from rtl.sim.run import cosim
from tests.rtl.harness import evaluate
from tests.rtl.operands import PROFILES, draw_dot

pytestmark = pytest.mark.rtl

FORMATS = ("int4_g128", "int4_g128_asym")
UNITS = ("mixpe_w4a8", "mixpe_w4a16")
CONFIGURATIONS = {
    "w4a8": ("mixpe_w4a8", {"block": 16, "lanes": 8}),
    "w4a8 zero points, all stages": ("mixpe_w4a8", {"weight": "uint4", "block": 15, "lanes": 3, "stages": 4}),
    "w4a16": ("mixpe_w4a16", {"block": 8, "lanes": 8, "adder_tree": "carry_save"}),
    "w4a16 zero points": ("mixpe_w4a16", {"weight": "uint4", "block": 16, "lanes": 4}),
    "w4a16 zero points, all stages": ("mixpe_w4a16", {"weight": "uint4", "block": 4, "lanes": 4, "stages": 4}),
    "w4a16 into float16": (
        "mixpe_w4a16",
        {"block": 8, "lanes": 4, "accumulator": {"format": "float16", "rounding": "rdn", "promote_every": 2}},
    ),
}


QUICK = ("w4a8", "w4a8 zero points, all stages", "w4a16", "w4a16 zero points, all stages")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CONFIGURATIONS]
)
def test_unit_equals_the_plain_reference(name: str) -> None:
    """Bits and cycles in a Verilog simulator: plain, stalled, and after a reset; NaN and Inf among the operands."""
    unit_name, fields = CONFIGURATIONS[name]
    model = pe.unit(unit_name)
    params = model.Params(**fields)
    generator = np.random.default_rng(len(name))
    dots = [
        draw_dot(params.datapath, int(generator.integers(1, 12)), profile, generator)
        for profile in PROFILES
        for _ in range(25)
    ]
    expected = [model.reference(dot, params) for dot in dots]
    assert len(set(expected)) > 60
    result = cosim(unit_name, params, dots, expected, seed=7)
    assert result.ok, result
    assert result.vectors > 2 * len(dots)
    assert result.cycles == sum(len(dot["last"]) for dot in dots) + params.datapath.latency


def stream(unit_name: str, fmt: str | Format, lanes: int, vectors: int) -> tuple[BulkCosim, Any]:
    """Stream directed operands through the compiled unit, against the kernels."""
    model, params = pe.unit_for(fmt, unit_name, lanes)
    bulk = BulkCosim(unit_name, params, seed=1)
    batches = directed_batches(fmt, params, vectors, 0, pe.activation_for(fmt, unit_name))
    for beats, expected, _ in chunks(batches, model, params):
        bulk.check(beats, expected)
    return bulk, params


@pytest.mark.parametrize("unit_name", UNITS)
def test_a_hundred_thousand_vectors(unit_name: str) -> None:
    assert set(FORMATS) <= set(formats_of(unit_name))
    bulk, _ = stream(unit_name, "int4_g128_asym", 16, 100_000)
    assert bulk.total.ok, bulk.total
    assert bulk.total.vectors > 100_000  # the stalled pass takes some of them again


@pytest.mark.slow
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("unit_name", UNITS)
def test_ten_million_vectors(unit_name: str, fmt: str) -> None:
    bulk, params = stream(unit_name, get(fmt).with_rules(block_size=32), 32, 10_000_000)
    assert bulk.total.ok, bulk.total
    assert bulk.total.vectors > 10_000_000
    print(unit_name, fmt, params, bulk.total)


@pytest.mark.parametrize("weight", ["int4", "uint4"])
def test_every_weight_times_every_int8(weight: str) -> None:
    result = check_all_pairs("mixpe_w4a8", pe.unit("mixpe_w4a8").Params(weight, lanes=4, block=4), stalls=True)
    assert result.ok, result
    assert result.vectors > 2 * 4 * 16 * 256


@pytest.mark.parametrize(("weight", "zeros"), [("int4", (None,)), ("uint4", (0, 7, 15))], ids=["int4", "uint4"])
def test_every_weight_times_every_float16(weight: str, zeros: tuple[int | None, ...]) -> None:
    """All 16 x 65,536 pairs, under some zero points; what is expected are products of the codes' values."""
    params = pe.unit("mixpe_w4a16").Params(weight, lanes=1, block=1)
    bulk = BulkCosim("mixpe_w4a16", params, stalls=False)
    a, b = (grid.reshape(-1) for grid in np.meshgrid(np.arange(1 << 16), np.arange(16), indexing="ij"))
    x = a.astype(np.uint16).view(np.float16).astype(np.float32)
    beats = {"a": a[:, None], "b": b[:, None], "b_scale": np.full(a.size, 0x3C00), "last": np.ones(a.size, np.uint8)}
    for zero in zeros:
        integer = b - zero if zero is not None else b - 16 * (b >> 3)
        with np.errstate(invalid="ignore"):
            product = x * integer.astype(np.float32) + np.float32(0)
        # under a zero point an infinity is NaN whatever the weight
        product[np.isnan(product) | (np.isinf(x) & (zero is not None))] = np.nan
        given = {} if zero is None else {"b_zero": np.full(a.size, zero)}
        bulk.check(beats | given, product.view(np.uint32))
    assert bulk.total.ok, bulk.total
    assert bulk.total.vectors == len(zeros) * 16 * 65536


class Product(wiring.Component):
    """Shifts and additions by themselves."""

    def __init__(self, value: Shape, factor: Shape) -> None:
        super().__init__({"x": In(value), "y": In(factor), "z": Out(signed(12))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += self.z.eq(shift_add(self.x, self.y))
        return m


@pytest.mark.parametrize("factor", [signed(3), unsigned(4), signed(1), unsigned(1)], ids=repr)
@pytest.mark.parametrize("value", [signed(6), unsigned(5)], ids=repr)
def test_shifts_and_additions_multiply_all_integers_of_a_width(value: Shape, factor: Shape) -> None:
    pairs = list(product(integers(value), integers(factor)))
    found = evaluate(Product(value, factor), [{"x": x, "y": y} for x, y in pairs])
    assert [row["z"] for row in found] == [x * y for x, y in pairs]


def integers(shape: Shape) -> range:
    half = 1 << (shape.width - 1)
    return range(-half, half) if shape.signed else range(2 * half)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit_name", "fmt", "lanes"),
    [("mixpe_w4a8", "int4_g128_asym", 8), ("mixpe_w4a16", "int4_g128_asym", 4), ("mixpe_w4a16", "int4_g128", 4)],
)
def test_fault_campaign(unit_name: str, fmt: str, lanes: int) -> None:
    model, params = pe.unit_for(fmt, unit_name, lanes)
    batches = directed_batches(fmt, params, 40_000, 0, pe.activation_for(fmt, unit_name))
    operands = [(beats, expected) for beats, expected, _ in chunks(batches, model, params)]
    report = run_campaign(unit_name, params, operands, faults=120, seed=2)
    lines = [f"{report.faults} faults: {len(report.caught)} caught, {len(report.harmless)} proved harmless"]
    print(unit_name, fmt, "\n".join(lines + [f"left: {fault}" for fault in report.survivors]))
    assert report.faults == 120
    assert len(report.survivors) <= 25, lines
