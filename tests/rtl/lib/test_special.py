"""NaN and infinities of products, scaled sums and accumulations, on every combination."""

from __future__ import annotations

from itertools import product

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.lib import special
from tests.rtl.harness import evaluate

pytestmark = pytest.mark.rtl
FACTOR = ("nan", "inf", "zero", "sign")


class Product(wiring.Component):
    """The set of a product."""

    def __init__(self) -> None:
        super().__init__({f"{side}_{name}": In(1) for side in "ab" for name in FACTOR} | {"found": Out(special.BITS)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        a, b = (tuple(getattr(self, f"{side}_{name}") for name in FACTOR) for side in "ab")
        m.d.comb += self.found.eq(special.product(a, b))
        return m


class Scaled(wiring.Component):
    """The set of a scaled sum."""

    def __init__(self) -> None:
        ports = {"bits": In(special.BITS), "nan": In(1), "zero": In(1), "sign": In(1), "found": Out(special.BITS)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += self.found.eq(special.scaled(self.bits, self.nan, self.zero, self.sign))
        return m


def number(kind: str, sign: int) -> float:
    """Return a number of a class."""
    size = {"nan": float("nan"), "inf": float("inf"), "zero": 0.0, "finite": 1.5}[kind]
    return -size if sign else size


def classes(value: float, invalid: bool) -> int:
    """Return the set of a value."""
    return (value != value) | (value == float("inf")) << 1 | (value == float("-inf")) << 2 | invalid << 3


KINDS = ("nan", "inf", "zero", "finite")


def test_products() -> None:
    cases = list(product(KINDS, (0, 1), KINDS, (0, 1)))
    vectors = [
        {f"{side}_{name}": int(kind == name) for side, kind in (("a", a), ("b", b)) for name in FACTOR[:3]}
        | {"a_sign": i, "b_sign": j}
        for a, i, b, j in cases
    ]
    for case, found in zip(cases, evaluate(Product(), vectors), strict=True):
        a, i, b, j = case
        value = number(a, i) * number(b, j)
        assert found["found"] == classes(value, value != value and "nan" not in (a, b)), case


def test_scaled_sums() -> None:
    """A sum that met NaN, +Inf, -Inf (any of them) times a scale that is NaN, zero or finite."""
    cases = [(bits, kind, sign) for bits in range(16) for kind in ("nan", "zero", "finite") for sign in (0, 1)]
    cases = [case for case in cases if not case[0] >> 3 or case[0] & 1]  # what is invalid made a NaN
    vectors = [{"bits": b, "nan": int(k == "nan"), "zero": int(k == "zero"), "sign": s} for b, k, s in cases]
    for case, found in zip(cases, evaluate(Scaled(), vectors), strict=True):
        bits, kind, sign = case
        terms = (
            [number("nan", 0)] * (bits & 1)
            + [number("inf", 0)] * (bits >> 1 & 1)
            + [number("inf", 1)] * (bits >> 2 & 1)
        )
        total = sum(terms) if terms else 1.0
        invalid = bool(bits >> 3) or (total != total and not bits & 1)
        value = total * number(kind, sign)
        if terms:
            invalid |= value != value and total == total and kind != "nan"
        assert found["found"] == classes(value, invalid), case
