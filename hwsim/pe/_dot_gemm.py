"""Whole layers and many dot products through the datapath of `_dot`, in compiled kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import Encoded, element
from hwsim.pe import _elements
from hwsim.pe._dot import (
    DotSpec,
    beats_per_dot,
    block_format,
    check_operands,
    dot_beats,
    filled,
    out_scales,
    reference,
)
from hwsim.pe._dot_checks import FLOAT64_BITS, scaled_bits
from hwsim.pe.accumulator import Accumulator

_WIDE_SUMS = 1 << 20
"""Block sums in float64 that are kept at a time."""


def gemm(a: Encoded, b: Encoded, spec: DotSpec, unit: str) -> NDArray[np.float32]:
    """Return C[M, N] = A[M, K] B[N, K]^T as float32, with exactly the bits that `reference` gives for each output.

    Exactness
    ---------
    Without blocks, sums are integers: int32 or float64, see `_kernels.integer_gemm`. With the default accumulator,
    finite elements and block sums below 2**31, those are int32. The accumulation is the processor's fused multiply-add,
    one rounding, where float32 holds the block sums (up to 2**24) and the product of the two block scales; else float64
    with rounding to odd, then one rounding (`_kernels.block_gemm`). Other elements under that accumulator have float64
    sums, where these hold them (`_double_kernels`). For all others see `_accumulate_kernels`: float64, in which each
    raw result is exact or rounded to odd.

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
        if _takes_wide_sums(spec):
            _wide_gemm(operands, b.zeros, spec, a_out, b_out, out)
        elif spec.accumulator.kind == "aligned" and not spec.accumulator.by_product and _has_int32_sums(spec):
            _aligned_blocks(operands, spec, a_out, b_out, out)
        elif spec.accumulator == Accumulator() and scaled_bits(spec) <= FLOAT64_BITS:
            from hwsim.pe import _double_kernels

            _double_kernels.gemm(operands.codes, operands.tables, operands.scales, spec.block, a_out, b_out, out)
        elif _takes_tiles(spec):
            _tiles(operands, spec, a_out, b_out, out)
        else:
            _dots(operands, spec, False, a_out, b_out, out)
        return out
    block = spec.block or a.k
    a_table, b_table = np.array(spec.a_ints), np.array(spec.b_ints)
    if spec.block_beats == 0 and spec.a_scale is None and spec.b_scale is None and spec.zero_bits == 0:
        kernels.integer_gemm(a.codes, a_table, b.codes, b_table, spec.max_product, a_out, b_out, out)
        return out
    _check_sums(block, spec, unit)
    length = _stored_k(a.k, spec)
    kernels.block_gemm(
        filled(a.codes, length),
        a_table,
        filled(b.codes, length),
        b_table,
        _scale_values(a, spec.a_scale, length // block) * 2.0**-spec.frac_bits,
        _scale_values(b, spec.b_scale, length // block),
        b.zeros,
        block,
        spec.max_product,
        a_out,
        b_out,
        out,
    )
    return out


def dots(a: Encoded, b: Encoded, spec: DotSpec, unit: str) -> NDArray[np.unsignedinteger]:
    """Return the float32 bits of the dot products of row i of A and row i of B, uint32 [rows].

    With ``spec.flags``, uint64 [rows]: the flags lie from bit 32. Elements of more than `_elements.TABLE_BITS` bits are
    then left to `reference` itself.

    Exactness
    ---------
    The bits that `reference` gives. With the default accumulator, finite elements and narrow sums, block sums are
    64-bit integers; their product with both block scales is exact in float64 (see `_is_plain`) and is added with one
    rounding. For all others see `_accumulate_kernels`.

    Raises
    ------
    ValueError
        When the operands do not match the unit or each other.
    """
    check_operands(a, b, spec, unit)
    if a.codes.shape[0] != b.codes.shape[0]:
        raise ValueError(f"{unit}: rows are taken in pairs; A has {a.codes.shape[0]}, B has {b.codes.shape[0]}")
    rows = a.codes.shape[0]
    if spec.flags and not _takes_flags(spec):
        return np.array([reference(dot_beats(a, b, i, i, spec), spec) for i in range(rows)], np.uint64)
    from hwsim.pe import _kernels as kernels

    a_out, b_out = _result_scales(a, b, spec)
    out = np.empty(rows, np.float32)
    if spec.flags:
        return _flagged(_operands(a, b, spec), spec, a_out, b_out, out)
    if not _is_plain(spec):
        operands = _operands(a, b, spec)
        if _takes_wide_sums(spec):
            _wide_dots(operands, b.zeros, spec, True, a_out, b_out, out[:, None])
        else:
            _dots(operands, spec, True, a_out, b_out, out[:, None])
        return out.view(np.uint32)
    block = spec.block or a.k
    scaled = spec.a_scale is not None or spec.b_scale is not None or spec.zero_bits > 0
    if scaled:
        _check_sums(block, spec, unit)
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
    """Tell whether the kernels for integers under the default accumulator serve.

    That is: finite elements within int16, block sums within int32, their products with the scales within float64.
    """
    if not spec.block_beats:
        return True
    return spec.accumulator == Accumulator() and scaled_bits(spec) <= FLOAT64_BITS and _has_int32_sums(spec)


def _has_int32_sums(spec: DotSpec) -> bool:
    """Tell whether elements are finite and within int16, and block sums within int32."""
    finite = not (_elements.has_specials(spec.a_element) or _elements.has_specials(spec.b_element))
    if not finite or spec.block_sum_bits > 32:
        return False
    return _elements.fit_int16(spec.a_ints) and _elements.fit_int16(spec.b_ints)


def _check_sums(block: int, spec: DotSpec, unit: str) -> None:
    """Refuse a scaled sum over the whole of K that int32 might not hold; sums of blocks have other kernels then."""
    if block * spec.max_product >= 1 << 31:
        raise ValueError(f"{unit}: a block of {block} can sum to 2**31 or more, which int32 does not hold")


def _takes_tiles(spec: DotSpec) -> bool:
    rule = spec.accumulator
    if rule.kind == "exact":
        return scaled_bits(spec) <= FLOAT64_BITS
    return rule.kind == "aligned" and rule.by_product and spec.block % rule.group == 0


def _takes_wide_sums(spec: DotSpec) -> bool:
    """Tell whether float64 holds the block sums, but not their products with the scales or with zero points at hand."""
    if spec.accumulator != Accumulator() or _elements.has_specials(spec.b_element):
        return False
    fits = spec.block_sum_bits - 1 <= FLOAT64_BITS
    assert fits or not spec.zero_bits, "units bound the sums of blocks with zero points"
    return fits and (spec.zero_bits > 0 or scaled_bits(spec) > FLOAT64_BITS)


def _rule(spec: DotSpec) -> tuple[int, int, float, int, bool]:
    """Return the accumulator's format and rounding as the kernels take them."""
    from hwsim.pe._accumulate_kernels import MODES

    rule, fmt = spec.accumulator, spec.accumulator.spec
    lowest = 1 - fmt.bias - fmt.man_bits
    return fmt.man_bits + 1, lowest, fmt.max_value, MODES[rule.rounding], rule.overflow == "infinite"


def _run(kernel: Callable[..., None], operands: _Operands, spec: DotSpec, *others: Any) -> None:
    """Call a kernel for any accumulator, with the arguments that all of them begin with and its others."""
    from hwsim.pe import _accumulate_kernels as kernels

    rule = spec.accumulator
    kind = {"exact": kernels.EXACT, "aligned": kernels.ALIGNED, "sequential": kernels.SEQUENTIAL}[rule.kind]
    group = rule.group or (1 if rule.kind == "sequential" and not rule.sums_in_order else spec.block)
    kernel(
        kind, rule.scales == "product", *operands.codes, *operands.tables, *operands.exponents, *operands.scales,
        *operands.scale_exponents, spec.block, group, rule.fraction_bits, rule.addend == "inside",
        rule.promote_every * spec.block, _rule(spec), *others,
    )  # fmt: skip


def _takes_flags(spec: DotSpec) -> bool:
    """Tell whether the kernel with flags serves: blocks of elements that have tables, no zero points, no shifts."""
    narrow = all(element(name).bits <= _elements.TABLE_BITS for name in (spec.a_element, spec.b_element))
    return narrow and spec.block_beats > 0 and not spec.zero_bits and not spec.sub_block


def _flagged(
    operands: _Operands, spec: DotSpec, a_out: NDArray[np.float32], b_out: NDArray[np.float32], out: NDArray[np.float32]
) -> NDArray[np.uint64]:
    """Return bits and flags of paired rows, with any accumulator; `out` is room for the bits."""
    from hwsim.pe import _flag_kernels as kernels

    flags = np.empty(out.shape, np.uint8)
    _run(kernels.dots, operands, spec, a_out, b_out, out, flags)
    return out.view(np.uint32) | flags.astype(np.uint64) << np.uint64(32)


def _dots(
    operands: _Operands, spec: DotSpec, paired: bool, a_out: NDArray[np.float32], b_out: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fill `out` one output at a time, with any accumulator."""
    from hwsim.pe import _accumulate_kernels as kernels

    _run(kernels.dots, operands, spec, paired, a_out, b_out, out)


def _tiles(
    operands: _Operands, spec: DotSpec, a_out: NDArray[np.float32], b_out: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Fill `out` a tile at a time: exact sums that float64 holds, and aligned groups within a block."""
    from hwsim.pe import _tile_kernels as kernels

    rule, codes = spec.accumulator, operands.codes[0]
    kernels.tiles(
        rule.kind == "aligned", operands.tables[0][codes], operands.exponents[0][codes], operands.codes[1],
        operands.tables[1], operands.exponents[1], *operands.scales, *operands.scale_exponents, spec.block,
        rule.group or spec.block, rule.fraction_bits, rule.addend == "inside", rule.promote_every * spec.block,
        _rule(spec), a_out, b_out, kernels.band(*out.shape), out,
    )  # fmt: skip


def _aligned_blocks(
    operands: _Operands, spec: DotSpec, a_out: NDArray[np.float32], b_out: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Fill `out` a tile at a time: aligned groups of the exact sums of blocks, which int32 holds."""
    from hwsim.pe import _aligned_kernels as kernels

    rule, (a_scales, b_scales) = spec.accumulator, operands.scales
    kernels.gemm(
        operands.codes, (np.array(spec.a_ints), np.array(spec.b_ints)), (a_scales * 2.0**-spec.frac_bits, b_scales),
        operands.scale_exponents, spec.block, rule.group, rule.fraction_bits, rule.addend == "inside",
        rule.promote_every, _rule(spec), a_out, b_out, out,
    )  # fmt: skip


def _zero_values(zeros: NDArray[np.integer] | None, operands: _Operands) -> NDArray[np.float64]:
    """Return zero points as float64 [rows, blocks]; zeros where there are none."""
    return np.zeros_like(operands.scales[1]) if zeros is None else zeros.astype(np.float64)


def _wide_dots(
    operands: _Operands, zeros: NDArray[np.integer] | None, spec: DotSpec, paired: bool, a_out: NDArray[np.float32],
    b_out: NDArray[np.float32], out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fill `out` one output at a time: block sums in float64."""
    from hwsim.pe import _wide_kernels as kernels

    kernels.dots(
        *operands.codes, *operands.tables, *operands.scales, _zero_values(zeros, operands), zeros is not None,
        spec.block, paired, a_out, b_out, out,
    )  # fmt: skip


def _wide_gemm(
    operands: _Operands, zeros: NDArray[np.integer] | None, spec: DotSpec, a_out: NDArray[np.float32],
    b_out: NDArray[np.float32], out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fill `out` block by block: the machine's float64 matrix units form the sums, exact in any order.

    Every sum of integers on the products' grid stays below 2**53. Rows of A with NaN or Inf are left to `_wide_dots`,
    which adds in order.
    """
    from hwsim.pe import _wide_kernels as kernels

    (a_codes, b_codes), (a_table, b_table), (a_scales, b_scales) = operands.codes, operands.tables, operands.scales
    b_zeros = _zero_values(zeros, operands)
    finite = np.isfinite(a_table)
    a_finite = np.where(finite, a_table, 0.0)
    width = max(1, _WIDE_SUMS // max(out.shape[0], 1))
    out[...] = 0
    for index in range(a_scales.shape[1]):
        here = slice(index * spec.block, (index + 1) * spec.block)
        a = a_finite[a_codes[:, here]]
        a_sums, scales = a.sum(axis=1), np.ascontiguousarray(a_scales[:, index])
        for first in range(0, out.shape[1], width):
            columns = slice(first, min(first + width, out.shape[1]))
            sums = a @ b_table[b_codes[columns, here]].T
            of_b, zeros_of_b = (np.ascontiguousarray(side[columns, index]) for side in (b_scales, b_zeros))
            kernels.add_blocks(sums, a_sums, scales, of_b, zeros_of_b, first, out)
    kernels.finish(a_out, b_out, out)
    special = np.flatnonzero(~finite[a_codes].all(axis=1)) if not finite.all() else np.empty(0, np.int64)
    if special.size:
        rows = replace(operands, codes=(a_codes[special], b_codes), scales=(a_scales[special], b_scales))
        part = np.empty((special.size, out.shape[1]), np.float32)
        _wide_dots(rows, zeros, spec, False, a_out[special], b_out, part)
        out[special] = part


def _stored_k(k: int, spec: DotSpec) -> int:
    """Return K filled up to whole beats and blocks; as it is where the dot product is one block."""
    return beats_per_dot(k, spec) * spec.lanes if spec.block_beats else k


def _scale_values(operand: Encoded, scale: str | None, blocks: int) -> NDArray[np.float64]:
    """Block scales as float64 [rows, blocks], NaN for codes that are not finite; ones when the unit takes none."""
    if scale is None:
        return np.ones((operand.codes.shape[0], blocks))
    return block_format(operand).scale_values(filled(operand.scales, blocks))
