"""`tender`: groups of channels whose scales are powers of two apart, by doubling the integer sum (Tender).

Activations come in a format of channel groups: group 0 holds the largest channels, and every group's scale is twice
that of the next. The unit takes the channels in the order of their groups, and doubles its integer sum before the first
beat of every group but the first: ``acc = 2 * acc + sum(a * b)``. So no sum is dequantised between groups; after the
last one the exact integer is rounded once to FP32 and takes the scale of the activations (that of the last group), then
that of its weight row, one rounding each. A beat never mixes groups: the last beat of a group is filled up with zeros,
and a group without channels takes a beat of zeros, so that every doubling is one place.

The width of the sum is a field. Whether it holds a dot product follows from the sizes of the groups:
``max|a * b| * sum(size_g * 2**(groups - 1 - g))``; operands that may need more bits are refused.

Source: Tender (J. Lee et al., ISCA 2024, arXiv 2406.12930) states power-of-two groups and the shift by one place in
between; that the shift takes no cycle of its own, groups, widths and FP32 scales are choices here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded, Format
from hwsim.formats.families.channel_groups import MAX_GROUPS, ChannelGroupSpec
from hwsim.pe import _dot, _elements, _unit
from hwsim.pe._unit import reference
from hwsim.pe.timing import unstalled_cycles

NAME = "tender"
ELEMENTS = ("int4", "int8")
MAX_LANES = 64
MAX_SUM_BITS = 54
"""Widest sum, sign included: float64 holds it exactly."""


@dataclass(frozen=True)
class Params:
    """Configure a `tender`.

    Parameters
    ----------
    weight, activation : {"int4", "int8"}
        Elements.
    lanes : int
        Products a cycle, 1 to 64.
    groups : int
        Groups of channels, 1 to 16: doublings are one fewer.
    acc_bits : int
        Width of the integer sum, sign included, up to 54; at least that of one beat of the largest products in every
        group.
    stages : int
        Pipeline stages beyond the least, 0 to 4: registers at the first so many of `_dot.STAGES`.
    adder_tree : {"binary", "carry_save"}
        How the products of a beat are added up; of no effect on bits and cycles.

    Raises
    ------
    ValueError
        When a field is not one of these; an accumulator that is too narrow says how many bits are needed.
    """

    weight: str = "int8"
    activation: str = "int8"
    lanes: int = 32
    groups: int = 8
    acc_bits: int = 40
    stages: int = 0
    adder_tree: _dot.AdderTree = "binary"

    unit: ClassVar[str] = NAME

    def __post_init__(self) -> None:
        for name in ("weight", "activation"):
            _unit.check_choice(self, name, ELEMENTS)
        _unit.check_range(self, "lanes", 1, MAX_LANES)
        _unit.check_range(self, "groups", 1, MAX_GROUPS)
        _unit.check_range(self, "acc_bits", 2, MAX_SUM_BITS)
        needed = sum_bits([self.lanes] * self.groups, self)
        if needed > self.acc_bits:
            raise ValueError(
                f"{NAME}: acc_bits = {self.acc_bits} is too narrow for {self.groups} groups of {self.lanes} channels, "
                f"which need {needed} bits"
            )
        _unit.check_datapath(self)

    @cached_property
    def datapath(self) -> _dot.DotSpec:
        """The shared datapath with these widths."""
        return _dot.DotSpec(
            a_element=self.activation,
            b_element=self.weight,
            lanes=self.lanes,
            block_beats=0,
            a_out=True,
            b_out=True,
            stages=self.stages,
            adder_tree=self.adder_tree,
            acc_bits=self.acc_bits,
        )


def activation_for(weight: Format) -> str:
    """Return the name of the format in which this unit takes activations: as wide as the weights."""
    element = getattr(weight, "element", None)
    return "tender_int4" if element is not None and element.bits <= 4 else "tender_int8"


def params_for(weight: BlockSpec, activation: Format, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    if not isinstance(activation, ChannelGroupSpec) or activation.element.name not in ELEMENTS:
        return None
    by_row = weight.scale is not None and weight.scale.name == "float32" and weight.block_size is None
    if not by_row or weight.zero_point != "none" or weight.element.name not in ELEMENTS:
        return None
    return Params(weight.element.name, activation.element.name, lanes or Params.lanes, activation.groups)


def sum_bits(sizes: Sequence[int], params: Params) -> int:
    """Return the signed width that holds any dot product with groups of these sizes.

    Examples
    --------
    >>> sum_bits([4096], Params(groups=1)), sum_bits([4096, *[0] * 7], Params()), sum_bits([64] * 8, Params())
    (28, 35, 29)
    """
    return largest_sum(sizes, params).bit_length() + 1


def largest_sum(sizes: Sequence[int], params: Params) -> int:
    """Return the largest magnitude of a dot product with groups of these sizes, and of any part of it."""
    product = _elements.max_integer(params.activation) * _elements.max_integer(params.weight)
    terms = 0
    for size in sizes:
        terms = 2 * terms + size
    return terms * product


def group_sizes(a: Encoded, params: Params) -> list[int]:
    """Return the channels of every group of activations."""
    return [int(size) for size in np.bincount(a.parts["groups"], minlength=params.groups)]


def beats_per_dot(sizes: Sequence[int], params: Params) -> int:
    """Return the beats of a dot product with groups of these sizes, one at least a group."""
    return sum(max(-(-size // params.lanes), 1) for size in sizes)


def _check(a: Encoded, b: Encoded, params: Params) -> None:
    """Refuse operands that the unit is not built for."""
    for side, operand, family, name in (
        ("A", a, ChannelGroupSpec, params.activation),
        ("B", b, BlockSpec, params.weight),
    ):
        fmt = operand.format
        if not isinstance(fmt, family):
            raise ValueError(f"{NAME}: operand {side} ({fmt.name}) is no {family.__name__}")
        if operand.codes.ndim != 2 or operand.codes.shape[0] < 1:
            raise ValueError(f"{NAME}: operand {side} must be [rows >= 1, K], not {operand.codes.shape}")
        if fmt.element.name != name:
            raise ValueError(f"{NAME}: operand {side} has elements {fmt.element.name}, the unit takes {name}")
    assert isinstance(a.format, ChannelGroupSpec) and isinstance(b.format, BlockSpec)
    scales = b.format.scale.name if b.format.scale is not None else "none"
    if scales != "float32" or b.format.block_size is not None or b.zeros is not None:
        raise ValueError(f"{NAME}: operand B ({b.format.name}) must have one float32 scale a row and no zero point")
    if a.format.groups != params.groups:
        raise ValueError(f"{NAME}: operand A has {a.format.groups} groups, the unit takes {params.groups}")
    top = int(a.parts["groups"].max())
    if top >= params.groups:
        raise ValueError(f"{NAME}: operand A has a channel in group {top}, allowed are 0 to {params.groups - 1}")
    if a.k != b.k:
        raise ValueError(f"{NAME}: K differs: A has {a.k}, B has {b.k}")
    sizes = group_sizes(a, params)
    needed = sum_bits(sizes, params)
    if needed > params.acc_bits:
        raise ValueError(
            f"{NAME}: acc_bits = {params.acc_bits} is too narrow for K = {a.k} in groups of {sizes} channels, which "
            f"need {needed} bits"
        )
    if beats_per_dot(sizes, params) > _dot.MAX_BEATS:
        raise ValueError(
            f"{NAME}: a dot product takes {beats_per_dot(sizes, params)} beats; allowed are {_dot.MAX_BEATS}"
        )


def gemm(a: Encoded, b: Encoded, params: Params) -> NDArray[np.float32]:
    """Return C[M, N] = A[M, K] B[N, K]^T in float32, each output the bits of `reference`.

    Exactness
    ---------
    A code shifted up by the distance of its group from the last is an integer, and the dot product a sum of products of
    integers, of at most `MAX_SUM_BITS` bits as `_check` demands: `_kernels.integer_gemm` forms it in int32 or float64.

    Raises
    ------
    ValueError
        When the operands do not match the unit.
    """
    _check(a, b, params)
    from hwsim.pe import _kernels as kernels

    out = np.empty((a.codes.shape[0], b.codes.shape[0]), np.float32)
    kernels.integer_gemm(
        _shifted_codes(a, params),
        np.array(_shifted_table(params)),
        b.codes,
        np.array(params.datapath.b_ints),
        # products of few channels are the largest: what counts is that no sum passes K times this
        -(-largest_sum(group_sizes(a, params), params) // a.k),
        _dot.out_scales(a),
        _dot.out_scales(b),
        out,
    )
    return out


def dots(a: Encoded, b: Encoded, params: Params) -> NDArray[np.uint32]:
    """Return the float32 bits of the dot products of row i of A and row i of B, each the bits of `reference`."""
    _check(a, b, params)
    rows = a.codes.shape[0]
    if rows != b.codes.shape[0]:
        raise ValueError(f"{NAME}: rows are taken in pairs; A has {rows}, B has {b.codes.shape[0]}")
    from hwsim.pe import _kernels as kernels

    out, ones = np.empty(rows, np.float32), np.ones((rows, 1))
    kernels.paired_dots(
        _shifted_codes(a, params),
        b.codes,
        np.array(_shifted_table(params), np.int32),
        np.array(params.datapath.b_ints, np.int32),
        ones,
        ones,
        np.zeros((1, 1), np.uint8),
        False,
        a.k,
        _dot.out_scales(a),
        _dot.out_scales(b),
        out,
    )
    return out.view(np.uint32)


def _shifted_codes(a: Encoded, params: Params) -> NDArray[np.uint16]:
    """Return codes with the distance of their channel's group from the last above them, uint16 [rows, K]."""
    shifts = (params.groups - 1 - a.parts["groups"].astype(np.uint16)) << np.uint16(params.datapath.a_bits)
    return a.codes.astype(np.uint16) | shifts


def _shifted_table(params: Params) -> list[int]:
    """Return the integer of every code under every distance from the last group."""
    return [number << shift for shift in range(params.groups) for number in params.datapath.a_ints]


def beats(a: Encoded, b: Encoded, m: int, n: int, params: Params) -> dict[str, NDArray[np.integer]]:
    """Return the beats that the unit takes for row `m` of A and row `n` of B."""
    return paired_beats(a.rows(np.array([m])), b.rows(np.array([n])), params)


def paired_beats(a: Encoded, b: Encoded, params: Params) -> dict[str, NDArray[np.integer]]:
    """Return the beats that the unit takes for row i of A and row i of B, for every i, one after the other.

    Channels in the order of their groups; ``rescale`` marks the beats before which the sum doubles.
    """
    _check(a, b, params)
    rows, sizes, lanes = a.codes.shape[0], group_sizes(a, params), params.lanes
    counts = [max(-(-size // lanes), 1) for size in sizes]
    starts = np.cumsum([0, *counts[:-1]])
    order = a.format.order(a.parts["groups"]) if isinstance(a.format, ChannelGroupSpec) else np.empty(0, np.int64)
    # the place of the i-th channel in that order: its group's first lane, and its number within the group
    firsts = np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
    places = np.repeat(starts * lanes, sizes) + np.arange(a.k) - firsts
    total = sum(counts)
    found: dict[str, NDArray[np.integer]] = {}
    for name, operand in (("a", a), ("b", b)):
        filled = np.zeros((rows, total * lanes), np.uint8)  # code 0 is zero
        filled[:, places] = operand.codes[:, order]
        found[name] = filled.reshape(rows * total, lanes)
    beat = np.arange(total)
    found["rescale"] = np.tile(np.isin(beat, starts[1:]).astype(np.uint8), rows)
    found["a_out"] = np.repeat(_dot.out_scales(a).view(np.uint32), total)
    found["b_out"] = np.repeat(_dot.out_scales(b).view(np.uint32), total)
    found["last"] = np.tile((beat == total - 1).astype(np.uint8), rows)
    return found


def most_beats(k: int, params: Params) -> int:
    """Return the beats of a dot product of length K under the sizes of groups that take the most: all in one group."""
    return params.groups - 1 + -(-k // params.lanes)


def cycles(m: int, n: int, k: int, params: Params) -> int:
    """Return the most cycles that one unit takes for M x N dot products of length K, without stalls.

    How many it takes depends on the sizes of the groups, see `operand_cycles`.
    """
    return unstalled_cycles([m * n * most_beats(k, params)], params.datapath.latency)


def operand_cycles(a: Encoded, b: Encoded, params: Params) -> int:
    """Return the cycles of one unit for A [M, K] times B [N, K]^T, without stalls."""
    count = beats_per_dot(group_sizes(a, params), params)
    return unstalled_cycles([a.shape[0] * b.shape[0] * count], params.datapath.latency)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    outputs, words = m * n, -(-params.acc_bits // 32)  # wider additions count as several
    low, high = sorted((params.datapath.a_bits, params.datapath.b_bits))
    return {
        f"mul_int{low}_int{high}": outputs * k,
        "add_int32": outputs * k * words,
        "double_int32": outputs * (params.groups - 1) * words,
        "add_float32": outputs,
        "mul_float32": outputs * 2,
    }


__all__ = [
    "NAME",
    "Params",
    "actions",
    "activation_for",
    "beats",
    "cycles",
    "dots",
    "gemm",
    "operand_cycles",
    "paired_beats",
    "params_for",
    "reference",
]
