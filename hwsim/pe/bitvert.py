"""`bitvert`: integer dot products over the bit columns of weights, never more than half of the lanes added (BitVert).

A beat is a group of weights; each cycle takes one bit column of it, the highest first. Lanes lie in sub-groups; where
at most half of a sub-group's bits are ones, the activations of those are added; where more are, those of the zeros are
added and taken off the sum of all: ``sum(a) - sum(a at zeros)``. So half as many adders as lanes are enough.

Weights of formats that `int_mac` takes (`pruned` 0) have all their columns, a cycle each, and every bit is that of
`int_mac`. Binary-pruned weights (`hwsim.formats.families.binary_pruned`) have `pruned` fewer, and two numbers a group:
the columns left out at the top, by which the others' places rise less, and a constant in the place of those left out at
the bottom, which is multiplied by the sum of all activations, three bits a cycle in the first two cycles:
``sum(a * w) = 2**(pruned - redundant) * sum(a * columns) + constant * sum(a)``. The sum of a whole dot product is
exact, is rounded once to FP32, and takes the scale of its activation row, then that of its weight row.

Source: BBS (Y. Chen et al., MICRO 2024, arXiv 2409.05227): groups of 16, sub-groups of 8 with four 5:1 multiplexers and
four priority encoders, a column a cycle, places from 7 less the redundant columns, the constant's 3 bits a cycle. Open
there and chosen here: widths, which are those of exact sums; the constant, which is signed and added for both kinds of
pruning; its lower three bits first, as positive, the upper three signed; a group longer than a beat gives its numbers
to each of its beats. The sum of a group's activations, which the paper forms once for many units, is formed in each.
Channels that are not pruned take a unit with `pruned` 0 (8 cycles): one unit does not mix both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded, element
from hwsim.formats.families.binary_pruned import CONSTANT_BITS, MAX_REDUNDANT, REDUNDANT_BITS, WIDTH, BinaryPrunedSpec
from hwsim.pe import _dot, _dot_gemm, _serial, _unit, int_mac
from hwsim.pe._serial import SerialSpec, cycles
from hwsim.pe._serial_actions import around_products, beats_of

NAME = "bitvert"
GENERAL = True
FAMILY = (BinaryPrunedSpec, BlockSpec)
PRUNED = (0, 2, 4)
_WHOLE = "int9"
"""Integers that pruned weights stand for: those of a group can lie a constant beyond 8 bits."""
_REACH = 1 << (CONSTANT_BITS - 1)


@dataclass(frozen=True)
class BitvertSpec(SerialSpec):
    """The datapath of `bitvert`.

    Attributes
    ----------
    sub_group : int
        Lanes of which at most half are added.
    pruned : int
        Columns that weights have fewer than 8; with any, a beat has the numbers of its group.
    """

    sub_group: int = 8
    pruned: int = 0

    @property
    def most_beat_cycles(self) -> int:
        """Stored columns of a weight."""
        return self.b_bits

    @cached_property
    def b_ints(self) -> tuple[int, ...]:
        """Integer worth of every weight code; behind those, of every pruned one under every shift and constant."""
        stored = super().b_ints
        if not self.pruned:
            return stored
        shifts = range(max(self.pruned - MAX_REDUNDANT, 0), self.pruned + 1)
        constants = range(-_REACH, _REACH)
        return stored + tuple((n << shift) + constant for constant in constants for shift in shifts for n in stored)

    @cached_property
    def max_product(self) -> int:
        """Largest magnitude of a product of integers."""
        return max(map(abs, self.a_ints)) * max(map(abs, self.b_ints)) if self.pruned else super().max_product

    def layout(self) -> tuple[tuple[str, int, int], ...]:
        """Return the fields of a beat as (name, bits, count), in the order of the payload, least significant first."""
        a, b, *rest = super().layout()
        numbers = (("b_redundant", REDUNDANT_BITS, 1), ("b_constant", CONSTANT_BITS, 1)) if self.pruned else ()
        return (a, b, *numbers, *rest)


@dataclass(frozen=True)
class Params(int_mac.Params):
    """Configure a `bitvert`: the fields of `int_mac.Params`, `stages` 0, and those here.

    Parameters
    ----------
    lanes : int
        Weights of a beat: 16 as published.
    sub_group : int
        Lanes, 1 to 256, of which at most half are added; the last sub-group takes what is left of the lanes.
    pruned : {0, 2, 4}
        Columns that weights do not store: 0 for formats of `int_mac`; else `weight` is ``int6`` or ``int4``, what is
        left of 8 columns, and `block` is 0.
    """

    lanes: int = 16
    sub_group: int = 8
    pruned: int = 0

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = BitvertSpec

    def __post_init__(self) -> None:
        _unit.check_range(self, "sub_group", 1, 256)
        if self.pruned not in PRUNED:
            raise ValueError(f"{NAME}: pruned must be one of {', '.join(map(str, PRUNED))}, not {self.pruned!r}")
        if self.pruned and (self.weight != f"int{WIDTH - self.pruned}" or self.block):
            raise ValueError(
                f"{NAME}: {self.pruned} columns pruned of {WIDTH} leave weight int{WIDTH - self.pruned} and block 0, "
                f"not {self.weight} and {self.block}"
            )
        super().__post_init__()

    @cached_property
    def whole(self) -> _dot.DotSpec:
        """The datapath of a unit that takes pruned weights as the integers that they stand for."""
        return int_mac.Params(_WHOLE, self.lanes, activation=self.activation).datapath

    def spec_fields(self) -> dict[str, Any]:
        """Return what the datapath has beside the fields of `_dot.DotSpec`."""
        return {"sub_group": self.sub_group, "pruned": self.pruned}


def params_for(weight: BlockSpec | BinaryPrunedSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    if isinstance(weight, BlockSpec):
        return int_mac.fitting(Params, weight, activation, lanes)
    lanes = lanes or Params.lanes
    plain = int_mac.fitting(Params, weight.base, activation, lanes)
    if plain is None or weight.pruned not in PRUNED or weight.block_size % lanes:
        return None
    return replace(plain, weight=weight.element.name, pruned=weight.pruned)


def reference(beats: Mapping[str, NDArray[np.integer]], params: Params) -> int:
    """Return the float32 bits of one dot product in plain Python integers (slow, obviously right)."""
    if not params.pruned:
        return _unit.reference(beats, params)
    numbers = (beats["b"], beats["b_redundant"], beats["b_constant"])
    whole = [
        [_whole(code, redundant, constant, params) for code in codes]
        for codes, redundant, constant in zip(*(field.tolist() for field in numbers), strict=True)
    ]
    return _dot.reference({**beats, "b": np.array(whole) & ((1 << element(_WHOLE).bits) - 1)}, params.whole)


def _whole(code: int, redundant: int, constant: int, params: Params) -> int:
    """Return the integer that a pruned weight stands for."""
    bits = element(params.weight).bits
    stored = code - (1 << bits) if code >> (bits - 1) else code
    return (stored << (params.pruned - redundant)) + (constant - 2 * _REACH if constant >= _REACH else constant)


def gemm(a: Encoded, b: Encoded, params: Params) -> NDArray[np.float32]:
    """Return C[M, N] = A[M, K] B[N, K]^T in float32, each output the bits of `reference`; see `_dot_gemm.gemm`."""
    if _check(b, params) is None:
        return _unit.gemm(a, b, params)
    return _dot_gemm.gemm(a, _as_whole(b), params.whole, NAME)


def dots(a: Encoded, b: Encoded, params: Params) -> NDArray[np.unsignedinteger]:
    """Return the float32 bits of the dot products of row i of A and row i of B, each the bits of `reference`."""
    if _check(b, params) is None:
        return _unit.dots(a, b, params)
    return _dot_gemm.dots(a, _as_whole(b), params.whole, NAME)


def beats(a: Encoded, b: Encoded, m: int, n: int, params: Params) -> dict[str, NDArray[np.integer]]:
    """Return the beats that the unit takes for row `m` of A and row `n` of B."""
    return paired_beats(a.rows(np.array([m])), b.rows(np.array([n])), params)


def paired_beats(a: Encoded, b: Encoded, params: Params) -> dict[str, NDArray[np.integer]]:
    """Return the beats that the unit takes for row i of A and row i of B, for every i, one after the other."""
    fmt = _check(b, params)
    if fmt is None:
        return _unit.paired_beats(a, b, params)
    found = _dot.paired_beats(a, _stored(b, fmt), params.datapath)
    each = fmt.block_size // params.lanes
    numbers = {
        name: np.repeat(b.parts[part], each, axis=1).reshape(-1)
        for name, part in (("b_redundant", "redundant"), ("b_constant", "constants"))
    }
    return {**found, **numbers}


def operand_cycles(a: Encoded, b: Encoded, params: Params) -> int:
    """Return the cycles of one unit for A [M, K] times B [N, K]^T, without stalls: see `_serial.operand_cycles`."""
    fmt = _check(b, params)
    return _serial.operand_cycles(a, b if fmt is None else _stored(b, fmt), params)


def _check(b: Encoded, params: Params) -> BinaryPrunedSpec | None:
    """Return the format of pruned weights, None for others; refuse those that the unit is not built for."""
    fmt = b.format
    found = fmt.pruned if isinstance(fmt, BinaryPrunedSpec) else 0
    if found != params.pruned:
        raise ValueError(
            f"{NAME}: operand B ({fmt.name}) has {found} of {WIDTH} columns pruned, the unit takes {params.pruned}"
        )
    if not isinstance(fmt, BinaryPrunedSpec):
        return None
    if fmt.block_size % params.lanes:
        raise ValueError(
            f"{NAME}: operand B has groups of {fmt.block_size}, the unit takes whole beats of {params.lanes}"
        )
    return fmt


def _as_whole(b: Encoded) -> Encoded:
    """Return pruned weights as the integers that they stand for, under the same scales."""
    assert isinstance(b.format, BinaryPrunedSpec)
    whole = element(_WHOLE)
    codes = b.format.integers(b.parts).view(np.uint16)
    codes &= np.uint16((1 << whole.bits) - 1)
    return Encoded.of(replace(b.format.base, element=whole), codes=codes, scales=b.scales)


def _stored(b: Encoded, fmt: BinaryPrunedSpec) -> Encoded:
    """Return the stored columns of pruned weights, under the same scales."""
    fmt.check_redundant(b.parts)
    return Encoded.of(replace(fmt.base, element=fmt.element), codes=b.codes, scales=b.scales)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`.

    A column takes half of each sub-group's activations, and an addition each; then, for each sub-group, the difference
    from the sum of all and the addition to the others'; and a shift to its place. The sums of all are formed once.
    """
    counts = around_products(m, n, k, params)
    groups, columns = m * n * beats_of(k, params), params.datapath.b_bits
    sizes = [min(params.sub_group, params.lanes - first) for first in range(0, params.lanes, params.sub_group)]
    selected = groups * columns * sum(size // 2 for size in sizes)
    counts["add_int32"] += selected + groups * (params.lanes + columns * 2 * len(sizes))
    counts |= {"select_word": selected, "shift_word": groups * columns}
    if params.pruned:
        counts |= {"mul_int8_int16": groups}  # the constant, in two steps, and the sum of a group's activations
        counts["add_int32"] += 2 * groups
    return counts


__all__ = [
    "FAMILY", "NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "operand_cycles", "paired_beats",
    "params_for", "reference",
]  # fmt: skip
