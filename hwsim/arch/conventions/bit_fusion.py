"""Bit Fusion's count: fused multipliers over output channels and dot products, and what memory adds.

A unit of 16 two-bit bricks forms ``floor(8 / max(a, 2)) * floor(8 / max(w, 2))`` products a cycle for operands of a and
w bits (16-bit operands: over four cycles a side of 16 bits). Output channels take the array's columns, dot products its
rows: ``M * ceil(N / cols) * ceil(K / (rows * products))`` cycles. DRAM time beyond that stalls.

Operands cross the interface once: the source tiles layers by an undocumented search, so that its totals can be compared
for their size only.

Source: Bit Fusion (ISCA 2018), github.com/hsharma35/bitfusion at 04ec1c8.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Literal

from pydantic import PositiveInt

from hwsim.arch.conventions import LayerTiming, Options, Published
from hwsim.arch.memory import ceil_div
from hwsim.arch.workload import MatMul, Workload
from hwsim.yaml_file import Strict

NAME = "bit_fusion"
BRICKS_SIDE_BITS = 8
"""Operand bits a side that a unit's 16 bricks take in one cycle."""


class Array(Strict):
    """Units; rows share a dot product, columns are outputs."""

    rows: PositiveInt
    cols: PositiveInt


class MachineSpec(Published):
    """A machine file with ``timing: bit_fusion``; every layer has the same bits."""

    timing: Literal["bit_fusion"]
    array: Array
    weight_bits: Literal[1, 2, 4, 8, 16]
    activation_bits: Literal[1, 2, 4, 8, 16]
    interface_bits_per_cycle: PositiveInt


def simulate(workload: Workload, spec: MachineSpec, options: Options) -> tuple[LayerTiming, ...]:
    """Return the matrix products of a workload, timed.

    Raises
    ------
    ValueError
        When the workload has attention, or other weight bits are asked for than bricks fuse to.
    """
    options.refuse("attention")
    weight_bits = spec.weight_bits if options.weight_bits is None else options.weight_bits
    if weight_bits not in (1, 2, 4, 8, 16):
        raise ValueError(f"weight_bits must be 1, 2, 4, 8 or 16, not {weight_bits}")
    return tuple(_layer(operation, spec, int(weight_bits)) for operation in workload.operations)


def products_per_cycle(activation_bits: int, weight_bits: int) -> Fraction:
    """Return the products that a unit forms a cycle; below 1 where an operand takes several cycles."""
    return _side(activation_bits) * _side(weight_bits)


def _side(bits: int) -> Fraction:
    return Fraction(BRICKS_SIDE_BITS, max(bits, 2))


def _layer(operation: object, spec: MachineSpec, weight_bits: int) -> LayerTiming:
    if not isinstance(operation, MatMul):
        raise ValueError("attention is not covered by this rule, only matrix products with weights")
    m, n, k = operation.m, operation.n, operation.k
    products, times = products_per_cycle(spec.activation_bits, weight_bits), operation.groups * operation.repeat
    steps = Fraction(k) / (spec.array.rows * products)
    compute = m * ceil_div(n, spec.array.cols) * ceil_div(steps.numerator, steps.denominator)
    bits = n * k * weight_bits + (m * k + m * n) * spec.activation_bits
    dram = ceil_div(bits, spec.interface_bits_per_cycle)
    peak = spec.array.rows * spec.array.cols * products
    return LayerTiming(
        operation.name, operation.repeat, operation.macs, compute * times, dram * times, max(compute, dram) * times,
        ceil_div(bits, 8) * times, max(ceil(m * n * k / peak), dram) * times, peak,
    )  # fmt: skip
