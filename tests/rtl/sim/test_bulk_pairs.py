"""All pairs of element codes and of scale codes: what is expected against exact fractions, and units against that."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module

from hwsim.formats import element
from hwsim.pe import bfp_dot, fp_fma, int_mac, mx9_dot, mx_dot, unit, vs_dot
from rtl.pe.mx_dot import MxDot
from rtl.sim import proof_cases
from rtl.sim.bulk_bank import check_pair_bank, check_scale_bank
from rtl.sim.bulk_pairs import (
    all_pairs,
    all_scales,
    block_sum,
    check_all_scales,
    count_through,
    extra_bits,
    product_bits,
    scale_count,
    scale_widths,
    scaled_bits,
    sum_codes,
)
from tests.hwsim.formats import oracle

pytestmark = pytest.mark.rtl

E4M3, E5M2 = "float8_e4m3fn", "float8_e5m2"
BANKS = [(name, kind, n) for kind in ("pairs", "scales") for name in proof_cases._PAIRS
         for n in range(len(proof_cases.banks(name, kind)))]  # fmt: skip
QUICK = {("fp_fma", "pairs", 0), ("mx_dot", "scales", 1)}
"""Banks of the default run, each compiled in a few seconds."""


class WrongProduct(MxDot):
    """Takes code 3 of B for 2 beside code 5 of A."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        assert isinstance(m, Module)
        with m.If((self.i.payload.a[0] == 5) & (self.i.payload.b[0] == 3)):
            m.d.comb += m.submodules.core.beat.b[0].eq(2)
        return m


class WrongScale(MxDot):
    """Takes scale code 9 of A for 8 beside scale code 200 of B."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        assert isinstance(m, Module)
        with m.If((self.i.payload.a_scale == 9) & (self.i.payload.b_scale == 200)):
            m.d.comb += m.submodules.core.beat.a_scale.eq(8)
        return m


def exact_bits(value: Fraction | str, sign: bool) -> int:
    if value == oracle.NAN:
        return 0x7FC00000
    if value == oracle.INFINITY:
        return 0x7F800000 | sign << 31
    return oracle.float32_bits(value) if value else 0


@pytest.mark.parametrize(
    "params",
    [
        mx_dot.Params(E5M2, "none", 1, 1, a_element=E4M3),
        mx_dot.Params("int6", "none", 1, 1, a_element="float4_e2m1fn"),
        mx9_dot.Params("signmag8_q6", 1, 1, 1, "signmag5_q3"), int_mac.Params("uint4", 1, 1, True, "int5"),
        bfp_dot.Params("signmag5", 2, 2), vs_dot.Params("int8", 8, 8),
    ],
    ids=["fp8", "mixed", "shifts", "zero_points", "magnitudes", "int8"],
)  # fmt: skip
def test_expected_products_are_exact_fractions_rounded_once(params: Any) -> None:
    spec = params.datapath
    codes = count_through({"a": spec.a_bits, "b": spec.b_bits, **extra_bits(spec)})
    found = product_bits(spec, codes)
    for place in np.random.default_rng(1).integers(len(found), size=3000):
        here = {name: int(values[place]) for name, values in codes.items()}
        a, b = (
            oracle.value(element(name), here[side]) for side, name in (("a", spec.a_element), ("b", spec.b_element))
        )
        signs = [
            here[side] >> (element(name).bits - 1) for side, name in (("a", spec.a_element), ("b", spec.b_element))
        ]
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            shift = here.get("a_shift", 0) + here.get("b_shift", 0)
            value: Any = a * (b - here.get("b_zero", 0)) / 2**shift
        else:
            zero = oracle.NAN in (a, b) or 0 in (a, b)
            value = oracle.NAN if zero else oracle.INFINITY
        assert found[place] == exact_bits(value, bool(signs[0] ^ signs[1])), here


def test_half_precision_sums_round_products_once() -> None:
    spec = fp_fma.Params(E5M2, E4M3, accumulate="float16").datapath
    codes = count_through({"a": 8, "b": 8})
    found = product_bits(spec, codes)
    rounds = 0
    for place in np.random.default_rng(2).integers(len(found), size=6000):
        a, b = (oracle.value(element(name), int(codes[side][place])) for side, name in (("a", E4M3), ("b", E5M2)))
        if isinstance(a, Fraction) and isinstance(b, Fraction) and a * b:
            fields = element("float16")
            quantum = oracle.power(max(oracle.floor_log2(abs(a * b)), 1 - fields.bias) - fields.man_bits)
            nearest = oracle.half_even(abs(a * b) / quantum) * quantum
            rounds += nearest != abs(a * b)
            expected = oracle.float32_bits(nearest) if nearest < 65520 else 0x7F800000
            assert int(found[place]) & 0x7FFFFFFF == expected
    assert rounds > 10
    with pytest.raises(ValueError, match="round to nearest once"):
        product_bits(fp_fma.Params(E5M2, rounding="rtz").datapath, codes)


@pytest.mark.parametrize(
    "params",
    [
        *(mx_dot.Params(E4M3, b, 2, 2, a_scale=a) for a, b in zip(mx_dot.SCALES, mx_dot.SCALES[::-1], strict=True)),
        mx_dot.Params(E4M3, "float8_e8m0fnu", 2, 2), int_mac.Params("int8", 2, 2), vs_dot.Params("int8", 8, 8),
    ],
)  # fmt: skip
def test_expected_scaled_sums_are_exact_fractions_rounded_once(params: Any) -> None:
    spec = params.datapath
    codes = count_through(scale_widths(spec))
    rows = list(zip(*sum_codes(spec), strict=True))
    found = [scaled_bits(spec, block_sum(spec, a, b), codes) for a, b in rows]
    sums = [
        sum(oracle.value(element(spec.a_element), int(x)) * oracle.value(element(spec.b_element), int(y))
            for x, y in zip(a, b, strict=True))
        for a, b in rows
    ]  # fmt: skip
    assert 0 in sums and max(sums) > 0 > min(sums) and len(set(sums)) == len(sums)
    inexact = 0
    for place in np.random.default_rng(3).integers(len(found[0]), size=300):
        scales = [oracle.value(element(getattr(spec, name)), int(codes[name][place])) for name in codes]
        for total, bits in zip(sums, found, strict=True):
            if any(not isinstance(scale, Fraction) for scale in scales):
                assert bits[place] == 0x7FC00000
                continue
            value = total
            for scale in scales:
                value *= scale
            expected = oracle.float32_bits(value, negative=value < 0)
            assert bits[place] == expected
            inexact += expected & 0x7FFFFFFF < 0x7F800000 and oracle.float32_value(expected) != value
    assert inexact > 20 or spec.block_sum_bits + sum(scale_widths(spec).values()) <= 34


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in BANKS], ids=str
)
def test_every_pair_of_codes_of_every_pair_of_formats(case: tuple[str, str, int], tmp_path: Path) -> None:
    """All element formats of at most 8 bits that a unit takes, and all classes of scales."""
    name, kind, number = case
    bank = proof_cases.banks(name, kind)[number]
    assert proof_cases.check(bank, name, kind, tmp_path) is None


def test_the_banks_hold_every_pair_of_formats() -> None:
    def pairs(name: str) -> list[tuple[str, str]]:
        specs = [params.datapath for bank in proof_cases.banks(name, "pairs") for params in bank]
        return [(spec.a_element, spec.b_element) for spec in specs]

    for name in ("mx_dot", "int_mac", "fp_fma", "bfp_dot", "vs_dot", "mx9_dot"):
        narrow = {each for each in unit(name).ELEMENTS if element(each).bits <= 8}
        assert {(a, b) for a in narrow for b in narrow} <= set(pairs(name)), name
    assert len(set(pairs("int_mac"))) == 7 * 7 + 7 and len(set(pairs("mx_dot"))) == 81
    scales = [params.datapath for bank in proof_cases.banks("mx_dot", "scales") for params in bank]
    assert {(spec.a_scale, spec.b_scale) for spec in scales} == {(a, b) for a in mx_dot.SCALES for b in mx_dot.SCALES}
    assert sum(map(proof_cases.count, proof_cases.banks("mx_dot", "scales")[0], ["scales"] * 4)) == 4 * 8 * 65536


def test_one_wrong_product_in_a_bank_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = [mx_dot.Params(block=1, lanes=1, scale="none"), mx_dot.Params("int4", "none", 1, 1)]
    made = iter([WrongProduct, MxDot])
    result = check_pair_bank("mx_dot", params, hardware=lambda each: next(made)(each))
    assert result.mismatches == (1, 0) and result.cycle_mismatches == 0 and not result.ok
    assert "a 0x5, b 0x3: expected 0x40900000, found 0x40400000" in result.first  # 3 * 1.5, not 3 * 1
    assert check_pair_bank("mx_dot", params).vectors == (256, 256)
    # the campaign then leaves the smallest case of it
    monkeypatch.setattr("rtl.sim.bulk_bank.component", lambda name: WrongProduct)
    monkeypatch.setattr("rtl.sim.bulk_cosim.component", lambda name: WrongProduct)
    said = proof_cases.check(params[:1], "mx_dot", "pairs", tmp_path)
    assert "smallest case" in said and "--replay" in said and list(tmp_path.glob("*.json"))


def test_one_wrong_scale_in_a_bank_is_found() -> None:
    params = [mx_dot.Params(E4M3, block=2, lanes=2)]
    result = check_scale_bank("mx_dot", params, hardware=WrongScale)
    assert result.mismatches == (7,) and "a_scale 0x9, b_scale 0xc8" in result.first  # all sums but zero


def test_all_scales_over_every_beat_of_a_block() -> None:
    params = bfp_dot.Params("signmag8", 4, 2)
    assert check_all_scales("bfp_dot", params).ok
    beats, expected = next(all_scales(params.datapath))
    assert beats["a"].shape == (2 << 16, 2) and len(expected) == 1 << 16 and scale_count(params.datapath) == 8 << 16


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bits \\(a: 16, b: 16\\) are too many; allowed are 20"):
        next(all_pairs(mx_dot.Params("float16", "none", 1, 1).datapath))
    with pytest.raises(ValueError, match="needs a unit with block scales"):
        next(all_scales(int_mac.Params(lanes=1).datapath))
    with pytest.raises(ValueError, match=r"takes \d+ bits; allowed are 38"):
        next(all_scales(mx_dot.Params(E5M2, E4M3, block=1, lanes=1, a_element=E5M2).datapath))
    with pytest.raises(ValueError, match="whose every beat is a dot product"):
        check_pair_bank("mx_dot", [mx_dot.Params(scale="none", block=2, lanes=1)])
    with pytest.raises(ValueError, match="equal elements, lanes and widths"):
        check_scale_bank("mx_dot", [mx_dot.Params(E4M3, block=2, lanes=2), mx_dot.Params(block=2, lanes=2)])
