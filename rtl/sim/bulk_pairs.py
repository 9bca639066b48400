"""Every pair of element codes and of scale codes through a unit, at the bulk engine's speed.

What is expected does not come from the unit's model: it is formed here from the codes' values, in float64, in which
every number met is exact, with the one rounding that the unit's rule names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib import wiring
from numpy.typing import NDArray

from hwsim.formats import FloatSpec, IntSpec, element, element_values
from hwsim.pe._dot import DotSpec
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.run import CosimResult

Codes = dict[str, NDArray[np.int64]]
"""One code of each field that is counted through, [vectors]."""
_FLOAT32_ONE = 0x3F800000
_MAX_BITS = 20
"""Most bits of the fields that are counted through together."""
_MAX_SUM_BITS = 38
_SUMS = 8
"""Block sums under which every pair of scale codes is taken."""


def check_all_pairs(
    unit_name: str,
    params: Any,
    *,
    stalls: bool = False,
    waveform_dir: Path | None = None,
    hardware: wiring.Component | None = None,
) -> CosimResult:
    """Multiply every code of A with every code of B in every lane, one product a dot product.

    Parameters as for :class:`rtl.sim.bulk_cosim.BulkCosim`; what is expected: see `all_pairs`.
    """
    bulk = BulkCosim(unit_name, params, stalls=stalls, waveform_dir=waveform_dir, hardware=hardware)
    for beats, expected in all_pairs(params.datapath):
        bulk.check(beats, expected)
    return bulk.total


def check_all_scales(
    unit_name: str, params: Any, *, waveform_dir: Path | None = None, hardware: wiring.Component | None = None
) -> CosimResult:
    """Put every pair of scale codes over a few block sums.

    Parameters as for :class:`rtl.sim.bulk_cosim.BulkCosim`; what is expected: see `all_scales`.
    """
    bulk = BulkCosim(unit_name, params, stalls=False, waveform_dir=waveform_dir, hardware=hardware)
    for beats, expected in all_scales(params.datapath):
        bulk.check(beats, expected)
    return bulk.total


def all_pairs(spec: DotSpec) -> Iterator[tuple[dict[str, NDArray[np.integer]], NDArray[np.uint32]]]:
    """Yield for each lane the beats and the float32 bits of all pairs, A's code counting slowest.

    Shifts of sub-blocks and zero points, where the unit has them, are counted through too, faster than the codes. Other
    lanes and other beats of the block hold zeros; scales are one.

    Exactness
    ---------
    See `product_bits`.
    """
    beats_a_dot = spec.step_beats
    codes = count_through({"a": spec.a_bits, "b": spec.b_bits, **extra_bits(spec)})
    expected = product_bits(spec, codes)
    count = len(expected) * beats_a_dot
    for lane in range(spec.lanes):
        beats = _neutral_beats(spec, count)
        for name, values in codes.items():
            if name == "b_zero":
                beats[name] = np.repeat(values, beats_a_dot)  # of the block
            else:
                beats[name][::beats_a_dot, lane // spec.sub_block if name.endswith("_shift") else lane] = values
        yield beats, expected


def all_scales(spec: DotSpec) -> Iterator[tuple[dict[str, NDArray[np.integer]], NDArray[np.uint32]]]:
    """Yield for each of a few block sums the beats and the float32 bits under all pairs of scale codes, A's slowest.

    A side without a scale, or a scale of 16 bits beside none, is counted through alone. The sums are zero, the smallest
    of either sign, the largest of either sign, the widest (largest and smallest product together), and drawn ones.

    Exactness
    ---------
    See `scaled_bits`.

    Raises
    ------
    ValueError
        If a dot product can be shorter than a block, or the scales have more than `_MAX_BITS` bits together.
    """
    widths = scale_widths(spec)
    if not spec.block_beats or not widths:
        raise ValueError("needs a unit with block scales")
    codes = count_through(widths)
    count, beats_a_dot = len(next(iter(codes.values()))), spec.step_beats
    for a, b in zip(*sum_codes(spec), strict=True):
        beats = _neutral_beats(spec, count * beats_a_dot)
        for name, side in (("a", a), ("b", b)):
            lanes = (
                np.resize(side, (beats_a_dot, spec.lanes)) if spec.beat_blocks == 1 else _first_block(spec, name, side)
            )
            beats[name] = np.tile(lanes.astype(beats[name].dtype), (count, 1))
        for name, values in codes.items():
            beats[name] = np.repeat(values, beats_a_dot)
            if spec.beat_blocks > 1:  # the other blocks hold zeros, under whatever scale
                one = np.full((count * beats_a_dot, spec.beat_blocks), _neutral(spec, name))
                one[:, 0] = beats[name]
                beats[name] = one
        yield beats, scaled_bits(spec, block_sum(spec, a, b), codes)


def _first_block(spec: DotSpec, name: str, side: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one beat with a block's codes in its first lanes, zeros in the others."""
    lanes = np.full((1, spec.lanes), _zero_code(spec, name))
    lanes[0, : spec.block] = side
    return lanes


def count_through(widths: Mapping[str, int]) -> Codes:
    """Return all combinations of codes of fields, given their widths in bits; the first counts slowest.

    Raises
    ------
    ValueError
        If they have more than `_MAX_BITS` bits together.
    """
    total = sum(widths.values())
    if total > _MAX_BITS:
        shown = ", ".join(f"{name}: {bits}" for name, bits in widths.items())
        raise ValueError(f"all codes of {total} bits ({shown}) are too many; allowed are {_MAX_BITS}")
    number, codes = np.arange(1 << total), {}
    for name, bits in widths.items():
        total -= bits
        codes[name] = number >> total & ((1 << bits) - 1)
    return codes


def extra_bits(spec: DotSpec) -> dict[str, int]:
    """Return the widths of what enters a product besides the two codes: shifts, a zero point."""
    shifts = {"a_shift": spec.shift_bits, "b_shift": spec.shift_bits} if spec.sub_block else {}
    return {**shifts, **({"b_zero": spec.zero_bits} if spec.zero_bits else {})}


def scale_widths(spec: DotSpec) -> dict[str, int]:
    """Return the widths of a unit's block scales, by field."""
    named = (("a_scale", spec.a_scale), ("b_scale", spec.b_scale))
    return {name: element(scale).bits for name, scale in named if scale is not None}


def product_bits(spec: DotSpec, codes: Mapping[str, NDArray[np.int64]]) -> NDArray[np.uint32]:
    """Return the float32 bits of single products, uint32 [vectors], from the values of their codes.

    Zero points are taken off B's values; shifts divide by powers of two.

    Exactness
    ---------
    A product of elements of at most 8 bits, or of 16 and 4 bits, has at most 22 significant bits and lies far inside
    float64's range, so that it is exact there; NumPy's conversion to the accumulator's format rounds once, half to
    even, and float32 holds every value of that. A zero product is +0; NaN and Inf follow IEEE 754.

    Raises
    ------
    ValueError
        If the accumulator rounds otherwise.
    """
    a, b = (
        element_values(element(name))[codes[side]]
        for side, name in (("a", spec.a_element), ("b", spec.b_element))
    )  # fmt: skip
    if "b_zero" in codes:
        b = b - codes["b_zero"]
    with np.errstate(invalid="ignore"):
        products = a * b
    for name in ("a_shift", "b_shift"):
        if name in codes:
            products = products * np.exp2(-codes[name].astype(np.float64))
    return _rounded(spec, products)


def scaled_bits(spec: DotSpec, total: float, codes: Mapping[str, NDArray[np.int64]]) -> NDArray[np.uint32]:
    """Return the float32 bits of one block sum under many scales, uint32 [vectors].

    Exactness
    ---------
    A sum of at most 37 significant bits times scales of 8 bits each, or of 11 bits, needs at most 53, within
    2**-298 to 2**299: exact in float64. NumPy's conversion to float32 rounds once, half to even, subnormals included.
    A scale that is NaN or Inf gives NaN; an exact zero is +0, and what underflows keeps its sign.
    """
    values = np.full((), total)
    for name, scale in (("a_scale", spec.a_scale), ("b_scale", spec.b_scale)):
        if scale is not None:
            worth = element_values(element(scale))[codes[name]]
            values = values * np.where(np.isfinite(worth), worth, np.nan)
    return _rounded(spec, values)


def _rounded(spec: DotSpec, values: NDArray[np.float64]) -> NDArray[np.uint32]:
    rule = spec.accumulator
    kinds = {"float32": np.float32, "float16": np.float16}
    if rule.kind == "aligned" or rule.rounding != "rne" or rule.format not in kinds or rule.kept_bits is not None:
        raise ValueError(f"what is expected is known of accumulators that round to nearest once, not of {rule}")
    values = values + 0.0
    values[np.isnan(values)] = np.nan  # the canonical one
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(kinds[rule.format]).astype(np.float32).view(np.uint32)


def sum_codes(spec: DotSpec) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Return the codes of A and of B in a few blocks, [block] each, whose sums are those that `all_scales` names."""
    rng = np.random.default_rng(0)
    tables = [element_values(element(name)) for name in (spec.a_element, spec.b_element)]
    zeros = [np.full(spec.block, _zero_code(spec, name)) for name in ("a", "b")]

    def code(side: int, value: float) -> int:
        return int(np.flatnonzero(tables[side] == value)[0])

    finite = [np.flatnonzero(np.isfinite(table)) for table in tables]
    tops = [float(table[codes].max()) for table, codes in zip(tables, finite, strict=True)]
    bottoms = [float(table[codes].min()) for table, codes in zip(tables, finite, strict=True)]
    steps = [float(table[codes][table[codes] > 0].min()) for table, codes in zip(tables, finite, strict=True)]
    a_rows, b_rows = [zeros[0]], [zeros[1]]

    def add(a_first: float, b_first: float, a_rest: float, b_rest: float) -> None:
        a, b = np.full(spec.block, code(0, a_rest)), np.full(spec.block, code(1, b_rest))
        a[0], b[0] = code(0, a_first), code(1, b_first)
        a_rows.append(a)
        b_rows.append(b)

    add(steps[0], steps[1], 0.0, 0.0)
    add(-steps[0], steps[1], 0.0, 0.0)
    add(tops[0], tops[1], tops[0], tops[1])
    add(bottoms[0], tops[1], bottoms[0], tops[1])
    add(steps[0], steps[1], tops[0], tops[1])
    while len(a_rows) < _SUMS:
        a_rows.append(rng.choice(finite[0], spec.block))
        b_rows.append(rng.choice(finite[1], spec.block))
    return a_rows, b_rows


def block_sum(spec: DotSpec, a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Return the sum of one block's products, exact in float64.

    Raises
    ------
    ValueError
        If the unit's sums are too wide for float64 to hold them times two scales of 8 bits.
    """
    values = [element_values(element(name))[codes] for name, codes in ((spec.a_element, a), (spec.b_element, b))]
    if spec.block_sum_bits > _MAX_SUM_BITS:
        raise ValueError(
            f"a block's sum takes {spec.block_sum_bits} bits; allowed are {_MAX_SUM_BITS}, the sign included"
        )
    return float((values[0] * values[1]).sum())


def _neutral_beats(spec: DotSpec, count: int) -> dict[str, NDArray[np.integer]]:
    """Return beats of dot products of one step each, all elements zero, all scales one."""
    beats: dict[str, NDArray[np.integer]] = {}
    for name, bits, fields in spec.layout():
        dtype = np.dtype(np.uint8 if bits <= 8 else np.int64)
        array = name in ("a", "b") or name.endswith("_shift") or fields > 1
        beats[name] = np.full((count, fields) if array else count, _neutral(spec, name), dtype)
    beats["last"] = (np.arange(count) % spec.step_beats == spec.step_beats - 1).astype(np.uint8)
    return beats


def _neutral(spec: DotSpec, name: str) -> int:
    """Return the code of an element that is zero, of a scale that is one; zero for the rest."""
    if name in ("a", "b"):
        return _zero_code(spec, name)
    if name.endswith("_out"):
        return _FLOAT32_ONE
    scale = {"a_scale": spec.a_scale, "b_scale": spec.b_scale}.get(name)
    return 0 if scale is None else one_code(scale)


def _zero_code(spec: DotSpec, name: str) -> int:
    return (spec.a_ints if name == "a" else spec.b_ints).index(0)


def one_code(scale: str) -> int:
    """Return the code with which a scale multiplies by one."""
    facts = element(scale)
    assert isinstance(facts, FloatSpec | IntSpec)
    return next(code for code in range(1 << facts.bits) if facts.value(code) == 1)


def pair_count(spec: DotSpec) -> int:
    """Return the vectors of `all_pairs`."""
    return spec.lanes << (spec.a_bits + spec.b_bits + sum(extra_bits(spec).values()))


def scale_count(spec: DotSpec) -> int:
    """Return the vectors of `all_scales`."""
    return _SUMS * prod(1 << bits for bits in scale_widths(spec).values())
