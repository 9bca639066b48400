"""What the units over the datapath of `_dot` have in common: checks of Params, and the functions of `hwsim.pe.Unit`.

A unit's module imports the functions that it takes as they are, and has its own for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import Encoded
from hwsim.pe import _dot, _dot_gemm, _reference


class UnitParams(Protocol):
    """Params of a unit."""

    unit: ClassVar[str]
    """The unit's name, with which its errors begin."""


class DotParams(UnitParams, Protocol):
    """Params of a unit over the shared datapath."""

    @property
    def datapath(self) -> _dot.DotSpec:
        """The shared datapath with these widths."""
        ...


def check_choice(params: UnitParams, name: str, allowed: Sequence[str], optional: bool = False) -> None:
    """Refuse a field whose value is not one of those allowed (or None, where the field is optional)."""
    value: Any = getattr(params, name)
    if value not in allowed and not (optional and value is None):
        raise ValueError(f"{params.unit}: {name} must be one of {', '.join(allowed)}, not {value!r}")


def check_range(params: UnitParams, name: str, low: int, high: int) -> None:
    """Refuse a field that is no integer of `low` to `high`."""
    value: Any = getattr(params, name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{params.unit}: {name} must be an integer of {low} to {high}, not {value!r}")


def check_block(params: DotParams, name: str, lanes: int) -> None:
    """Refuse a block that is neither whole beats of `lanes` nor a whole part of one."""
    block: int = getattr(params, name)
    if block % lanes and lanes % block:
        raise ValueError(f"{params.unit}: {name} must be a multiple of lanes = {lanes} or divide it, not {block}")


def check_datapath(params: DotParams) -> None:
    """Refuse fields of which the shared datapath cannot be built; the last check of Params."""
    try:
        _ = params.datapath
    except ValueError as error:
        raise ValueError(f"{params.unit}: {error}") from None


def reference(beats: Mapping[str, NDArray[np.integer]], params: DotParams) -> int:
    """Return the float32 bits of one dot product in plain Python integers (slow, obviously right)."""
    return _reference.reference(beats, params.datapath)


def gemm(a: Encoded, b: Encoded, params: DotParams) -> NDArray[np.float32]:
    """Return C[M, N] = A[M, K] B[N, K]^T in float32, each output the bits of `reference`; see `_dot_gemm.gemm`."""
    return _dot_gemm.gemm(a, b, params.datapath, params.unit)


def dots(a: Encoded, b: Encoded, params: DotParams) -> NDArray[np.unsignedinteger]:
    """Return the float32 bits of the dot products of row i of A and row i of B, each the bits of `reference`.

    uint32 [rows]; uint64 from units that raise flags, the flags from bit 32. See `_dot_gemm.dots`.
    """
    return _dot_gemm.dots(a, b, params.datapath, params.unit)


def beats(a: Encoded, b: Encoded, m: int, n: int, params: DotParams) -> dict[str, NDArray[np.integer]]:
    """Return the beats that the unit takes for row `m` of A and row `n` of B."""
    return _dot.dot_beats(a, b, m, n, params.datapath)


def paired_beats(a: Encoded, b: Encoded, params: DotParams) -> dict[str, NDArray[np.integer]]:
    """Return the beats that the unit takes for row i of A and row i of B, for every i, one after the other."""
    return _dot.paired_beats(a, b, params.datapath)


def cycles(m: int, n: int, k: int, params: DotParams) -> int:
    """Return the cycles of one unit for M x N dot products of length K, without stalls."""
    return _dot.cycles(m, n, k, params.datapath)
