"""`mx9_dot`: dot products under shared microexponents (MX9, MX6, MX4 of the ISCA 2023 paper; not OCP MX).

Elements are sign and magnitude; two neighbours share a shift to the right of 0 or 1, a block of them an exponent. The
products of two neighbours are summed and then shifted by the shifts of both sides, inside the tree, on the grid of the
largest shifts, so that nothing is lost: the sum S of a block is exact. The exponents of both blocks shift it once more:
``acc = RNE(acc + S * 2**(e_A + e_B))`` in FP32, one rounding, blocks in ascending K. (The paper shortens the reduction
to 25 bits at most; the sums here take fewer.) Exponent code FF makes the result NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import Encoded
from hwsim.formats.families.microexponent import MicroExponentSpec
from hwsim.pe import _dot, _elements, _unit
from hwsim.pe._unit import beats, cycles, paired_beats, reference

NAME = "mx9_dot"
FAMILY = MicroExponentSpec
"""Family of the formats that this unit takes."""
ELEMENTS = ("signmag3_q1", "signmag5_q3", "signmag8_q6")
SCALE = "float8_e8m0fnu"
SHIFT_BITS = 1
MAX_BLOCK = 128
MAX_LANES = 64


@dataclass(frozen=True)
class Params:
    """Configure an `mx9_dot`.

    Parameters
    ----------
    element : str
        Element of the weights, one of `ELEMENTS`: a sign and 2, 4 or 7 bits of magnitude.
    block : int
        Elements that share an exponent: up to 128, a multiple or a divisor of `lanes`.
    sub_block : int
        Elements that share a shift; divides `block` and `lanes`.
    lanes : int
        Products a cycle, 1 to 64.
    a_element : str, optional
        Element of the activations; None: as the weights.
    stages : int
        Pipeline stages beyond the least, 0 to 4: registers at the first so many of `_dot.STAGES`.
    adder_tree : {"binary", "carry_save"}
        How the products of a beat are added up; of no effect on bits and cycles.

    Raises
    ------
    ValueError
        When a field is not one of these; the message says what is allowed.
    """

    element: str = "signmag8_q6"
    block: int = 16
    sub_block: int = 2
    lanes: int = 16
    a_element: str | None = None
    stages: int = 0
    adder_tree: _dot.AdderTree = "binary"

    unit: ClassVar[str] = NAME

    def __post_init__(self) -> None:
        for name in ("element", "a_element"):
            _unit.check_choice(self, name, ELEMENTS, optional=name == "a_element")
        for name, top in (("lanes", MAX_LANES), ("block", MAX_BLOCK), ("sub_block", MAX_BLOCK)):
            _unit.check_range(self, name, 1, top)
        _unit.check_block(self, "block", self.lanes)
        if min(self.block, self.lanes) % self.sub_block:
            raise ValueError(
                f"{NAME}: sub_block must divide block = {self.block} and lanes = {self.lanes}, not {self.sub_block}"
            )
        _unit.check_datapath(self)

    @cached_property
    def datapath(self) -> _dot.DotSpec:
        """The shared datapath with these widths."""
        return _dot.DotSpec(
            a_element=self.element if self.a_element is None else self.a_element,
            b_element=self.element,
            lanes=self.lanes,
            block_beats=max(self.block // self.lanes, 1),
            a_scale=SCALE,
            b_scale=SCALE,
            beat_blocks=max(self.lanes // self.block, 1),
            stages=self.stages,
            adder_tree=self.adder_tree,
            sub_block=self.sub_block,
            shift_bits=SHIFT_BITS,
        )


def params_for(weight: MicroExponentSpec, activation: MicroExponentSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    if not isinstance(activation, MicroExponentSpec):
        return None
    for spec in (weight, activation):
        if spec.element.name not in ELEMENTS or spec.scale.name != SCALE or spec.shift_bits != SHIFT_BITS:
            return None
    sizes = (weight.block_size, weight.sub_block)
    if sizes != (activation.block_size, activation.sub_block) or weight.block_size > MAX_BLOCK:
        return None
    element, a_element = weight.element.name, activation.element.name
    return Params(element, *sizes, lanes or min(sizes[0], MAX_LANES), None if a_element == element else a_element)


def _check(a: Encoded, b: Encoded, spec: _dot.DotSpec) -> None:
    """Refuse operands that the unit is not built for."""
    for side, operand, name in (("A", a, spec.a_element), ("B", b, spec.b_element)):
        fmt = operand.format
        if not isinstance(fmt, MicroExponentSpec):
            raise ValueError(f"{NAME}: operand {side} ({fmt.name}) has no shared microexponents")
        if operand.codes.ndim != 2 or operand.codes.shape[0] < 1:
            raise ValueError(f"{NAME}: operand {side} must be [rows >= 1, K], not {operand.codes.shape}")
        given = (fmt.element.name, fmt.block_size, fmt.sub_block, fmt.shift_bits)
        if given != (name, spec.block, spec.sub_block, spec.shift_bits):
            raise ValueError(
                f"{NAME}: operand {side} has element, block, sub-block and shift bits {given}, the unit takes "
                f"{(name, spec.block, spec.sub_block, spec.shift_bits)}"
            )
    if a.k != b.k:
        raise ValueError(f"{NAME}: K differs: A has {a.k}, B has {b.k}")
    _dot.beats_per_dot(a.k, spec)


def _codes(operand: Encoded, length: int, spec: _dot.DotSpec) -> NDArray[np.uint16]:
    """Return codes with their shift above them, uint16 [rows, length], filled up with zeros."""
    assert isinstance(operand.format, MicroExponentSpec)
    shifts = np.repeat(operand.parts["shifts"], spec.sub_block, axis=1).astype(np.uint16)
    joined = operand.codes.astype(np.uint16) | shifts << operand.format.element.bits
    return np.pad(joined, ((0, 0), (0, length - joined.shape[1])))


def _table(name: str, spec: _dot.DotSpec) -> list[int]:
    """Return the integer of every code under every shift, on the grid of the largest one."""
    shifts, numbers = range(spec.max_shift + 1), _elements.integers(name)
    return [number << (spec.max_shift - shift) for shift in shifts for number in numbers]


def _scales(operand: Encoded, blocks: int) -> NDArray[np.float64]:
    scales = operand.parts["scales"]
    return _elements.value_table(SCALE)[np.pad(scales, ((0, 0), (0, blocks - scales.shape[1])))]


def gemm(a: Encoded, b: Encoded, params: Params) -> NDArray[np.float32]:
    """Return C[M, N] = A[M, K] B[N, K]^T in float32, each output the bits of `reference`.

    Exactness
    ---------
    A code under its shift is an integer on the grid of the largest shift; the rest is as in `_dot_gemm.gemm`.

    Raises
    ------
    ValueError
        When the operands do not match the unit.
    """
    spec = params.datapath
    _check(a, b, spec)
    from hwsim.pe import _kernels as kernels

    length = _dot.beats_per_dot(a.k, spec) * spec.lanes
    blocks, out = length // spec.block, np.empty((a.codes.shape[0], b.codes.shape[0]), np.float32)
    kernels.block_gemm(
        _codes(a, length, spec),
        np.array(_table(spec.a_element, spec)),
        _codes(b, length, spec),
        np.array(_table(spec.b_element, spec)),
        _scales(a, blocks) * 2.0**-spec.frac_bits,
        _scales(b, blocks),
        None,
        spec.block,
        spec.max_product,
        np.ones(out.shape[0], np.float32),
        np.ones(out.shape[1], np.float32),
        out,
    )
    return out


def dots(a: Encoded, b: Encoded, params: Params) -> NDArray[np.uint32]:
    """Return the float32 bits of the dot products of row i of A and row i of B, each the bits of `reference`."""
    spec = params.datapath
    _check(a, b, spec)
    rows = a.codes.shape[0]
    if rows != b.codes.shape[0]:
        raise ValueError(f"{NAME}: rows are taken in pairs; A has {rows}, B has {b.codes.shape[0]}")
    from hwsim.pe import _kernels as kernels

    length = _dot.beats_per_dot(a.k, spec) * spec.lanes
    out, ones = np.empty(rows, np.float32), np.ones(rows, np.float32)
    kernels.paired_dots(
        _codes(a, length, spec),
        _codes(b, length, spec),
        np.array(_table(spec.a_element, spec), np.int32),
        np.array(_table(spec.b_element, spec), np.int32),
        _scales(a, length // spec.block) * 2.0**-spec.frac_bits,
        _scales(b, length // spec.block),
        np.zeros((1, 1), np.uint8),
        False,
        spec.block,
        ones,
        ones,
        out,
    )
    return out.view(np.uint32)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    spec = params.datapath
    outputs, blocks = m * n, _dot.block_count(k, spec)
    low, high = sorted((spec.a_bits - 1, spec.b_bits - 1))
    return {
        f"mul_mag{low}_mag{high}": outputs * k,
        "add_int32": outputs * k,
        "shift_sub_block": outputs * -(-k // params.sub_block),
        "mul_block_scale_e8m0": outputs * blocks,
        "add_float32": outputs * blocks,
    }


__all__ = ["NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "paired_beats", "params_for", "reference"]
