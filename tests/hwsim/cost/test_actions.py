"""Every action that a unit can report, over its configurations, has an energy; and no estimate is for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement, product
from typing import Any

import pytest

from hwsim import pe
from hwsim.cost import load_table
from hwsim.formats import get
from hwsim.pe import bfp_dot, fp_fma, hadamard, int_mac, mx9_dot, mx_dot, requant, vs_dot
from hwsim.pe.accumulator import Accumulator

TABLE = load_table("mapped_45nm")
GEMM = (2, 3, 256)


def _mx_dot() -> Iterator[mx_dot.Params]:
    """Yield every pair of elements, exact and by product, every pair of scales, every kind of accumulator."""
    by_product = Accumulator(kind="sequential", scales="product")
    for b, a in product(mx_dot.ELEMENTS, repeat=2):
        yield mx_dot.Params(b, a_element=a, accumulator=by_product)
        if "bfloat16" not in (a, b):  # whose exact sums are too wide
            yield mx_dot.Params(b, a_element=a)
    scales = (*mx_dot.SCALES, mx_dot.NO_SCALE)
    for b, a in product(scales, repeat=2):
        yield mx_dot.Params("float16", b, a_scale=a, out_scale=True)
    for fmt, promoted in product(("float32", "float16", "bfloat16"), (0, 2)):
        rule: dict[str, Any] = {"format": fmt, "promote_every": promoted}
        yield mx_dot.Params(accumulator=Accumulator(**rule))
        for sides in ("block", "product"):
            yield mx_dot.Params(accumulator=Accumulator(kind="sequential", scales=sides, **rule))
            aligned: dict[str, Any] = {"kind": "aligned", "group": 32, "fraction_bits": 25, "scales": sides}
            yield from (
                mx_dot.Params(accumulator=Accumulator(addend=at, **aligned, **rule)) for at in ("inside", "outside")
            )


def _pairs(elements: tuple[str, ...], build: Callable[[str, str], Any]) -> Iterator[Any]:
    return (build(a, b) for a, b in combinations_with_replacement(elements, 2))


def _int_mac() -> Iterator[int_mac.Params]:
    for weight, activation in product(int_mac.ELEMENTS, repeat=2):
        yield from (int_mac.Params(weight, 8, block, activation=activation) for block in (0, 32))
    yield from (int_mac.Params("uint4", 8, 32, True, activation) for activation in int_mac.ELEMENTS)


def _requant() -> Iterator[requant.Params]:
    yield from requant.configurations().values()
    yield from (requant.Params(format=name, lanes=1) for name in requant.formats())


OWN: dict[str, Callable[[], Iterator[Any]]] = {
    "bfp_dot": lambda: _pairs(bfp_dot.ELEMENTS, lambda a, b: bfp_dot.Params(a, a_element=b)),
    "fp_fma": lambda: (
        fp_fma.Params(b, a, accumulate) for b, a, accumulate in product(*[fp_fma.ELEMENTS] * 2, fp_fma.ACCUMULATORS)
    ),
    "int_mac": _int_mac,
    "mx9_dot": lambda: _pairs(mx9_dot.ELEMENTS, lambda a, b: mx9_dot.Params(a, a_element=b)),
    "mx_dot": _mx_dot,
    "requant": _requant,
    "vs_dot": lambda: _pairs(vs_dot.ELEMENTS, lambda a, b: vs_dot.Params(a, a_element=b)),
}
"""Params that between them take every branch of a unit's `actions`; of other units those that formats lead to."""


def configurations(name: str) -> Iterator[Any]:
    """Yield Params of a unit: its own list, those of the formats that it takes, and the default ones."""
    unit = pe.unit(name)
    yield unit.Params()
    if name in OWN:
        yield from OWN[name]()
    if name not in pe.dot_names():
        yield from pe.vector_unit(name).configurations().values()
        return
    for fmt in pe.formats():
        if pe.takes_family(unit, get(fmt)):
            params = unit.params_for(get(fmt), pe.activation_for(fmt, name))
            if params is not None:
                yield params


def actions_of(name: str) -> set[str]:
    """Return the names of all actions of a unit."""
    found: set[str] = set()
    for params in configurations(name):
        unit: Any = pe.unit(name)
        found |= set(unit.actions(*(GEMM if name in pe.dot_names() else (4,)), params))
    return found


@pytest.mark.parametrize("name", pe.names())
def test_every_action_has_an_energy(name: str) -> None:
    missing = sorted(action for action in actions_of(name) if action not in TABLE.costs)
    assert not missing
    assert all(TABLE.cost(action).value_pj > 0 for action in actions_of(name))


def test_no_estimate_is_for_nothing() -> None:
    reported = set().union(*(actions_of(name) for name in pe.names()))
    estimated = {action for action, cost in TABLE.costs.items() if cost.status == "estimated"}
    unused = {action for action in estimated - reported if not action.startswith("sram_write_64b_")}
    assert not unused


def test_mx_dot_has_an_entry_for_every_product_and_pair_of_scales() -> None:
    names = actions_of("mx_dot")
    assert sum(name.startswith("mul_block_scale_") for name in names) == 4 + 6 + 4  # alike, mixed, with one side alone
    elements = 10  # int8 and mxint8_element are one
    products = {name for name in names if name.startswith("mul_")} - {"mul_float32"}
    assert len(products) == elements * (elements + 1) // 2 + 14


@pytest.mark.parametrize(
    ("action", "energy_pj"),
    [
        ("mul_int6_e2m3", 0.2),
        ("mul_int4_e5m2", 0.2),
        ("mul_e4m3_e5m2", 0.2 + 0.03),
        ("mul_e4m3_float16", 1.1),
        ("mul_bfloat16_bfloat16", 1.1),
        ("shift_to_grid_int32", 0.1),
        ("mul_block_scale_e4m3_one", 2 * 0.2 + 0.1 + 0.03),
        ("mul_block_scale_e8m0_uint8", 3.1 + 0.03),
        ("mul_mag3_mag7", 0.2),
        ("add_bfloat16", 0.4),
        ("round_float32", 0.03 + 0.1),
        ("scale_block_ratio", 17 * 0.1 + 3.1 + 2 * 0.03),
    ],
)
def test_energies_by_hand(action: str, energy_pj: float) -> None:
    assert TABLE.cost(action).value_pj == pytest.approx(energy_pj)


def test_events_of_the_output_side_by_hand() -> None:
    assert requant.actions(5, requant.Params()) == {"max_float32": 160, "scale_block": 5, "round_float32": 160}
    assert requant.actions(5, requant.Params(format="float8_e5m2")) == {"round_float32": 40}
    # seven magnitudes above zero, one border below each
    nvfp4 = requant.Params(format="nvfp4")
    assert requant.actions(5, nvfp4) == {"max_float32": 80, "scale_block_ratio": 5, "compare_border": 560}
    assert hadamard.actions(3, hadamard.Params()) == {"add_int32": 3 * 16 * 4}
