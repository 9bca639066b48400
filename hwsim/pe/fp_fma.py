"""`fp_fma`: floating multiply-accumulate, one product a cycle: the floating baseline.

``acc = round(acc + a * b)``, the product exact, one rounding a product, in ascending K; acc starts at +0. Subnormals
are kept on both sides. Special values follow IEEE 754, and every NaN is the canonical one. A sum that is exactly zero
is +0, also where IEEE 754 has -0 (a product of -0 on a sum of -0); a sum that underflows keeps its sign. It is the
shared datapath with one lane and a sequential accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded, element, element_values
from hwsim.pe import _dot, _dot_gemm, _elements, _unit
from hwsim.pe._unit import beats, cycles, paired_beats, reference
from hwsim.pe.accumulator import Accumulator

NAME = "fp_fma"
ELEMENTS = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32")
ACCUMULATORS = ("float32", "float16")
ROUNDINGS = ("rne", "rtz", "rdn", "rod")
_COLUMNS = 4096
"""Rows of B of which values are held at a time."""


@dataclass(frozen=True)
class Params:
    """Configure an `fp_fma`.

    Parameters
    ----------
    element : str
        Format of the weights, one of `ELEMENTS`.
    a_element : str, optional
        Format of the activations; None: as the weights.
    accumulate : {"float32", "float16"}
        Format of the sum. The result is FP32 bits, which hold both.
    rounding : {"rne", "rtz", "rdn", "rod"}
        Of every sum; overflow is that of IEEE 754 for the rounding.
    flags : bool
        Whether the result carries the IEEE flags raised in its dot product: bits 32 to 35 hold inexact, underflow,
        overflow and invalid.
    stages : int
        Pipeline stages beyond the least, 0 to 4: registers at the first so many of `_dot.STAGES`.

    Raises
    ------
    ValueError
        When a field is not one of these; the message says what is allowed.
    """

    element: str = "float16"
    a_element: str | None = None
    accumulate: str = "float32"
    rounding: str = "rne"
    flags: bool = False
    stages: int = 0

    unit: ClassVar[str] = NAME

    def __post_init__(self) -> None:
        for name, allowed in (("accumulate", ACCUMULATORS), ("rounding", ROUNDINGS), ("element", ELEMENTS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{NAME}: {name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if self.a_element is not None and self.a_element not in ELEMENTS:
            raise ValueError(f"{NAME}: a_element must be None or one of {', '.join(ELEMENTS)}, not {self.a_element!r}")
        if not isinstance(self.flags, bool):
            raise ValueError(f"{NAME}: flags must be True or False, not {self.flags!r}")
        _unit.check_datapath(self)

    @property
    def lanes(self) -> int:
        """Products a cycle."""
        return 1

    @cached_property
    def datapath(self) -> _dot.DotSpec:
        """The shared datapath with these widths."""
        rule: dict[str, Any] = {"format": self.accumulate, "rounding": self.rounding}
        return _dot.DotSpec(
            a_element=self.element if self.a_element is None else self.a_element,
            b_element=self.element,
            lanes=1,
            block_beats=1,
            accumulator=Accumulator(kind="sequential", scales="product", **rule),
            flags=self.flags,
            stages=self.stages,
        )


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot: it takes bare floats."""
    names = [spec.element.name for spec in (weight, activation) if spec.scale is None]
    if len(names) != 2 or not set(names) <= set(ELEMENTS) or lanes not in (None, 1):
        return None
    return Params(names[0], None if names[1] == names[0] else names[1])


def gemm(a: Encoded, b: Encoded, params: Params) -> NDArray[np.float32]:
    """Return C[M, N] = A[M, K] B[N, K]^T in float32, each output the bits of `reference`.

    Exactness
    ---------
    FP32 sums to nearest are the processor's fused multiply-add. For the others products are exact in float64 (48 bits),
    the sum is rounded to odd there (53 bits, at least 2 more than the sum's format keeps) and then once to the format.

    Raises
    ------
    ValueError
        When the operands do not match the unit.
    """
    _dot.check_operands(a, b, params.datapath, NAME)
    out = np.empty((a.codes.shape[0], b.codes.shape[0]), np.float32)
    rows = _values(a)
    for first in range(0, out.shape[1], _COLUMNS):
        columns = np.ascontiguousarray(_values(b.rows(slice(first, first + _COLUMNS))).T)
        piece = np.empty((out.shape[0], columns.shape[1]), np.float32)
        _fill(rows, columns, False, params, piece)
        out[:, first : first + _COLUMNS] = piece
    return out


def dots(a: Encoded, b: Encoded, params: Params) -> NDArray[np.unsignedinteger]:
    """Return the float32 bits of the dot products of row i of A and row i of B, each the bits of `reference`.

    uint32 [rows]; with ``params.flags`` uint64, the flags from bit 32.
    """
    if params.flags:
        return _dot_gemm.dots(a, b, params.datapath, NAME)
    _dot.check_operands(a, b, params.datapath, NAME)
    if a.codes.shape[0] != b.codes.shape[0]:
        raise ValueError(f"{NAME}: rows are taken in pairs; A has {a.codes.shape[0]}, B has {b.codes.shape[0]}")
    out = np.empty((1, a.codes.shape[0]), np.float32)
    columns = [np.ascontiguousarray(_values(side).T) for side in (a, b)]
    _fill(columns[0], columns[1], True, params, out)
    return out[0].view(np.uint32)


def _values(operand: Encoded) -> NDArray[np.float32]:
    """Return what the codes are worth, float32 [rows, K], which holds every element."""
    spec = _dot.block_format(operand).element
    if spec.bits > _elements.TABLE_BITS:
        return np.ascontiguousarray(operand.codes, np.uint32).view(np.float32)
    return element_values(spec).astype(np.float32)[operand.codes]


def _fill(
    a: NDArray[np.float32], b: NDArray[np.float32], paired: bool, params: Params, out: NDArray[np.float32]
) -> None:
    from hwsim.pe import _fma_kernels as kernels
    from hwsim.pe._accumulate_kernels import MODES

    rule, spec = params.datapath.accumulator, params.datapath.accumulator.spec
    if params.accumulate == "float32" and params.rounding == "rne":
        kernels.fused(a, b, paired, out)
        return
    lowest = 1 - spec.bias - spec.man_bits
    infinite = rule.overflow == "infinite"
    numbers = (spec.man_bits + 1, lowest, spec.max_value, MODES[rule.rounding], infinite)
    kernels.general(a, b, paired, numbers, out)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    spec = params.datapath
    bits = {element(name).bits for name in (spec.a_element, spec.b_element)}
    names = {spec.a_element, spec.b_element}
    if bits == {8}:
        product = "mul_float8"
    elif max(bits) == 32 or {"float16", "bfloat16"} <= names:
        product = "mul_float32"
    else:
        product = "mul_bfloat16" if "bfloat16" in names else "mul_float16"
    return {product: m * n * k, f"add_{params.accumulate}": m * n * k}


__all__ = ["NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "paired_beats", "params_for", "reference"]
