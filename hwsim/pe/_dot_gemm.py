"""Whole layers and many dot products through the datapath of `_dot`, in compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import Encoded
from hwsim.pe import _elements
from hwsim.pe._dot import (
    FLOAT64_BITS,
    DotSpec,
    beats_per_dot,
    block_format,
    check_operands,
    dot_beats,
    filled,
    out_scales,
    reference,
    scaled_bits,
)
from hwsim.pe.accumulator import Accumulator

MAX_FLOAT32_PRODUCT = 1 << 16
"""Largest product of integers of which float32 sums enough to be worth it."""


def gemm(a: Encoded, b: Encoded, spec: DotSpec, unit: str) -> NDArray[np.float32]:
    """Return C[M, N] = A[M, K] B[N, K]^T as float32, with exactly the bits that `reference` gives for each output.

    Exactness
    ---------
    Without blocks, sums are integers. With the default accumulator, finite elements and block sums below 2**24, those
    are formed in float32 and the accumulation is the processor's fused multiply-add, one rounding, whenever the product
    of the two block scales is exact in float32; else float64 with rounding to odd, then one rounding. For all others
    see `_accumulate_kernels`: float64, in which each raw result is exact or rounded to odd.

    Raises
    ------
    ValueError
        When the operands do not match the unit.
    """
    check_operands(a, b, spec, unit)
    from hwsim.pe import _kernels as kernels

    out = np.empty((a.codes.shape[0], b.codes.shape[0]), np.float32)
    a_out, b_out = _result_scales(a, b, spec)
    if not _is_plain(spec):
        operands = _operands(a, b, spec)
        if _takes_tiles(spec):
            _tiles(operands, spec, a_out, b_out, out)
        else:
            _dots(operands, spec, False, a_out, b_out, out)
        return out
    block = spec.block or a.k
    whole = spec.block_beats == 0 and spec.a_scale is None and spec.b_scale is None and spec.zero_bits == 0
    kind: Any = np.float64 if whole and spec.max_product > MAX_FLOAT32_PRODUCT else np.float32
    a_table, b_table = np.array(spec.a_ints, kind), np.array(spec.b_ints, kind)
    if whole:
        kernels.integer_gemm(a_table[a.codes], b.codes, b_table, spec.max_product, a_out, b_out, out)
        return out
    if block * spec.max_product >= 1 << 24:
        raise ValueError(f"{unit}: a block of {block} can sum beyond 2**24, where float32 sums are no longer exact")
    length = _stored_k(a.k, spec)
    kernels.block_gemm(
        a_table[filled(a.codes, length)],
        filled(b.codes, length),
        b_table,
        _scale_values(a, spec.a_scale, length // block) * 2.0**-spec.frac_bits,
        _scale_values(b, spec.b_scale, length // block),
        b.zeros,
        block,
        a_out,
        b_out,
        out,
    )
    return out


def dots(a: Encoded, b: Encoded, spec: DotSpec, unit: str) -> NDArray[np.unsignedinteger]:
    """Return the float32 bits of the dot products of row i of A and row i of B, uint32 [rows].

    With ``spec.flags``, uint64 [rows]: the flags lie from bit 32; then each dot product is `reference` itself.

    Exactness
    ---------
    The bits that `reference` gives. With the default accumulator, finite elements and narrow sums, block sums are
    64-bit integers; their product with both block scales is exact in float64 (block sums below 2**24 wherever there are
    scales, as `gemm` demands) and is added with one rounding. For all others see `_accumulate_kernels`.

    Raises
    ------
    ValueError
        When the operands do not match the unit or each other.
    """
    check_operands(a, b, spec, unit)
    if a.codes.shape[0] != b.codes.shape[0]:
        raise ValueError(f"{unit}: rows are taken in pairs; A has {a.codes.shape[0]}, B has {b.codes.shape[0]}")
    rows = a.codes.shape[0]
    if spec.flags:
        return np.array([reference(dot_beats(a, b, i, i, spec), spec) for i in range(rows)], np.uint64)
    from hwsim.pe import _kernels as kernels

    a_out, b_out = _result_scales(a, b, spec)
    out = np.empty(rows, np.float32)
    if not _is_plain(spec):
        _dots(_operands(a, b, spec), spec, True, a_out, b_out, out[:, None])
        return out.view(np.uint32)
    block = spec.block or a.k
    scaled = spec.a_scale is not None or spec.b_scale is not None or spec.zero_bits > 0
    if scaled and block * spec.max_product >= 1 << 24:
        raise ValueError(f"{unit}: a block of {block} can sum beyond 2**24, where float32 sums are no longer exact")
    length = _stored_k(a.k, spec)
    kernels.paired_dots(
        filled(a.codes, length),
        filled(b.codes, length),
        np.array(spec.a_ints, np.int32),
        np.array(spec.b_ints, np.int32),
        _scale_values(a, spec.a_scale, length // block) * 2.0**-spec.frac_bits,
        _scale_values(b, spec.b_scale, length // block),
        b.zeros if b.zeros is not None else np.zeros((1, 1), np.uint8),
        b.zeros is not None,
        block,
        a_out,
        b_out,
        out,
    )
    return out.view(np.uint32)


@dataclass(frozen=True)
class _Operands:
    """Operands as `_accumulate_kernels` take them, filled up to whole beats; sides in the order a, b."""

    codes: tuple[NDArray[np.uint16], NDArray[np.uint16]]
    tables: tuple[NDArray[np.float64], NDArray[np.float64]]
    exponents: tuple[NDArray[np.int32], NDArray[np.int32]]
    scales: tuple[NDArray[np.float64], NDArray[np.float64]]
    scale_exponents: tuple[NDArray[np.int32], NDArray[np.int32]]


def _operands(a: Encoded, b: Encoded, spec: DotSpec) -> _Operands:
    from hwsim.pe._accumulate_kernels import NO_EXPONENT

    length = _stored_k(a.k, spec)
    sides = ((a, spec.a_element, spec.a_scale), (b, spec.b_element, spec.b_scale))
    return _Operands(
        *zip(
            *(
                (
                    np.ascontiguousarray(filled(operand.codes, length), np.uint16),
                    _elements.value_table(name),
                    _without_zeros(name, NO_EXPONENT),
                    _scale_values(operand, scale, length // spec.block),
                    _scale_exponents(operand, scale, length // spec.block, NO_EXPONENT),
                )
                for operand, name, scale in sides
            ),
            strict=True,
        )
    )


def _without_zeros(name: str, mark: int) -> NDArray[np.int32]:
    """Return the exponent of every code; that of zeros is the mark."""
    return np.where(_elements.value_table(name) == 0, np.int32(mark), _elements.exponent_table(name))


def _scale_exponents(operand: Encoded, scale: str | None, blocks: int, mark: int) -> NDArray[np.int32]:
    if scale is None:
        return np.zeros((operand.codes.shape[0], blocks), np.int32)
    return _without_zeros(scale, mark)[filled(operand.scales, blocks)]


def _result_scales(a: Encoded, b: Encoded, spec: DotSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what multiplies each row's and each column's result; ones where the unit has no output scale."""
    a_out = out_scales(a) if spec.a_out else np.ones(a.codes.shape[0], np.float32)
    b_out = out_scales(b) if spec.b_out else np.ones(b.codes.shape[0], np.float32)
    return a_out, b_out


def _is_plain(spec: DotSpec) -> bool:
    """Tell whether the kernels for integers under the default accumulator serve: finite elements, narrow block sums."""
    if spec.zero_bits or not spec.block_beats:
        return True
    finite = not (_elements.has_specials(spec.a_element) or _elements.has_specials(spec.b_element))
    return finite and spec.accumulator == Accumulator() and spec.block * spec.max_product < 1 << 24


def _takes_tiles(spec: DotSpec) -> bool:
    rule = spec.accumulator
    if rule.kind == "exact":
        return scaled_bits(spec) <= FLOAT64_BITS
    return rule.kind == "aligned" and rule.by_product and spec.block % rule.group == 0


def _rule(spec: DotSpec) -> tuple[int, int, float, int, bool]:
    """Return the accumulator's format and rounding as the kernels take them."""
    from hwsim.pe._accumulate_kernels import MODES

    rule, fmt = spec.accumulator, spec.accumulator.spec
    lowest = 1 - fmt.bias - fmt.man_bits
    return fmt.man_bits + 1, lowest, fmt.max_value, MODES[rule.rounding], rule.overflow == "infinite"


def _dots(
    operands: _Operands, spec: DotSpec, paired: bool, a_out: NDArray[np.float32], b_out: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fill `out` one output at a time, with any accumulator."""
    from hwsim.pe import _accumulate_kernels as kernels

    rule = spec.accumulator
    kind = {"exact": kernels.EXACT, "aligned": kernels.ALIGNED, "sequential": kernels.SEQUENTIAL}[rule.kind]
    group = rule.group or (1 if rule.kind == "sequential" else spec.block)
    kernels.dots(
        kind, rule.by_product, *operands.codes, *operands.tables, *operands.exponents, *operands.scales,
        *operands.scale_exponents, spec.block, group, rule.fraction_bits, rule.addend == "inside",
        rule.promote_every * spec.block, _rule(spec), paired, a_out, b_out, out,
    )  # fmt: skip


def _tiles(
    operands: _Operands, spec: DotSpec, a_out: NDArray[np.float32], b_out: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Fill `out` a tile at a time: exact sums that float64 holds, and aligned groups within a block."""
    from hwsim.pe import _accumulate_kernels as kernels

    rule, codes = spec.accumulator, operands.codes[0]
    kernels.tiles(
        rule.kind == "aligned", operands.tables[0][codes], operands.exponents[0][codes], operands.codes[1],
        operands.tables[1], operands.exponents[1], *operands.scales, *operands.scale_exponents, spec.block,
        rule.group or spec.block, rule.fraction_bits, rule.addend == "inside", rule.promote_every * spec.block,
        _rule(spec), a_out, b_out, kernels.band(*out.shape), out,
    )  # fmt: skip


def _stored_k(k: int, spec: DotSpec) -> int:
    """Return K filled up to whole beats and blocks; as it is where the dot product is one block."""
    return beats_per_dot(k, spec) * spec.lanes if spec.block_beats else k


def _scale_values(operand: Encoded, scale: str | None, blocks: int) -> NDArray[np.float64]:
    """Block scales as float64 [rows, blocks], NaN for codes that are not finite; ones when the unit takes none."""
    if scale is None:
        return np.ones((operand.codes.shape[0], blocks))
    return block_format(operand).scale_values(filled(operand.scales, blocks))
