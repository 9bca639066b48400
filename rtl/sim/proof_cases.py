"""The smallest instances of units on which all pairs of codes are tried, in banks that are compiled as one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from hwsim import pe
from rtl.pe import component
from rtl.sim.bulk_bank import check_pair_bank, check_scale_bank
from rtl.sim.bulk_pairs import check_all_pairs, check_all_scales, extra_bits, scale_count
from rtl.sim.verilog import TOP

_NARROW = 8
"""Widest elements of which all pairs are tried."""
_E4M3 = "float8_e4m3fn"

Banks = tuple[tuple[Any, ...], ...]


@cache
def banks(unit_name: str, operands: str) -> Banks:
    """Return Params of a unit in banks, for `rtl.sim.bulk_bank`; none where a unit has no such codes.

    Parameters
    ----------
    operands : {"pairs", "scales"}
    """
    makers = {"pairs": _PAIRS, "scales": _SCALES}[operands]
    maker = makers.get(unit_name)
    return () if maker is None else tuple(tuple(bank) for bank in maker(pe.unit(unit_name)))


def _mx_pairs(unit: Any) -> list[list[Any]]:
    from hwsim.formats import element

    narrow = [name for name in unit.ELEMENTS if element(name).bits <= _NARROW]
    return [[unit.Params(b, "none", 1, 1, a_element=a) for b in narrow] for a in narrow]


def _int_pairs(unit: Any) -> list[list[Any]]:
    names = [f"int{bits}" for bits in range(2, _NARROW + 1)]
    plain = [[unit.Params(b, 1, activation=a) for b in names] for a in names]
    return [*plain, [unit.Params("uint4", 1, 1, True, a) for a in names]]


def _fma_pairs(unit: Any) -> list[list[Any]]:
    narrow = unit.ELEMENTS[:2]
    return [[unit.Params(b, a, accumulate=to) for a in narrow for b in narrow for to in unit.ACCUMULATORS]]


_PAIRS = {
    "mx_dot": _mx_pairs,
    "int_mac": _int_pairs,
    "fp_fma": _fma_pairs,
    "bfp_dot": lambda unit: [[unit.Params(b, 2, 2, a) for a in unit.ELEMENTS for b in unit.ELEMENTS]],
    "vs_dot": lambda unit: [[unit.Params(b, 8, 8, a) for a in unit.ELEMENTS for b in unit.ELEMENTS]],
    "mx9_dot": lambda unit: [[unit.Params(b, 1, 1, 1, a) for a in unit.ELEMENTS for b in unit.ELEMENTS]],
    "mixpe_w4a8": lambda unit: [[unit.Params(weight, 1, 1) for weight in ("int4", "uint4")]],
    "mixpe_w4a16": lambda unit: [[unit.Params("int4", 1, 1)]],
    "tender": lambda unit: [[unit.Params(b, a, 1, 1) for a in unit.ELEMENTS for b in unit.ELEMENTS]],
}
_SCALES = {
    # sums of 36 bits, so that they are rounded under any scale
    "mx_dot": lambda unit: [[unit.Params(_E4M3, b, 2, 2, a_scale=a) for b in unit.SCALES] for a in unit.SCALES],
    "int_mac": lambda unit: [[unit.Params("int8", 2, 2)], [unit.Params("uint4", 2, 2, True)]],
    "bfp_dot": lambda unit: [[unit.Params("signmag8", 2, 2)]],
    "vs_dot": lambda unit: [[unit.Params("int8", 8, 8)]],
    "mx9_dot": lambda unit: [[unit.Params("signmag8_q6", 2, 2, 2)]],
    "mixpe_w4a8": lambda unit: [[unit.Params("int4", 2, 2)]],
}


def count(params: Any, operands: str) -> int:
    """Return the vectors that an instance takes: of pairs, those of one lane."""
    spec = params.datapath
    if operands == "scales":
        return scale_count(spec)
    return 1 << (spec.a_bits + spec.b_bits + sum(extra_bits(spec).values()))


def check(params: Sequence[Any], unit_name: str, operands: str, waveform_dir: Path | None = None) -> str | None:
    """Try a bank; return the first difference in words, with the smallest case of it left as a file, or None."""
    run, alone = {
        "pairs": (check_pair_bank, check_all_pairs),
        "scales": (check_scale_bank, check_all_scales),
    }[operands]
    result = run(unit_name, params)
    if result.ok:
        return None
    wrong = [each for each, mismatches in zip(params, result.mismatches, strict=True) if mismatches]
    for each in wrong[:1]:
        found = alone(unit_name, each, waveform_dir=waveform_dir)
        if found.first_mismatch is not None:
            return f"{each}: {found.first_mismatch}; run it again with --replay {found.replay}"
    return result.first


def netlist_hash(unit_name: str, params: Any) -> str:
    """Return the hash of a unit's RTLIL text, 32 hexadecimal digits."""
    text = rtlil.convert(component(unit_name)(params), name=TOP, emit_src=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


__all__ = ["banks", "check", "count", "netlist_hash"]
