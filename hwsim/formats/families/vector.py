"""What vector formats share: blocks along the axis, and a scale of each row that sets its root mean square."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.format import Format, Part, Parts

FLOAT_BITS = {"float16": 16, "float32": 32}
"""Widths of the formats in which scales, gains and centroids are stored."""


@dataclass(frozen=True, kw_only=True)
class VectorSpec(Format):
    """Describe formats that code several neighbouring elements at once, under a scale of each row.

    Parameters
    ----------
    row_scale : {"none", "float16", "float32"}
        Format of the scales of the rows (part ``row_scales``), rounded half to even, saturating; rows are divided by
        them before they are coded.
    scale_rule : {"rms"}
        ``rms``: root mean square of the row over `target_rms`.
    target_rms : float
        Root mean square that a row has after division.

    Exactness
    ---------
    The sum of squares is taken in float64, elements in order (each square is exact); one division by their number, one
    root, one division by `target_rms`, each rounded to float64, then rounded to the scale's format. A row that is not
    all zeros keeps a positive scale, however small; a row of zeros has scale 0, is coded as zeros would be under any
    scale, and decodes to zeros.
    """

    row_scale: Literal["none", "float16", "float32"] = "float32"
    scale_rule: Literal["rms"] = "rms"
    target_rms: float = 1.0

    @property
    def quantum(self) -> int:
        """Elements of the axis that are coded together."""
        return 1

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last vector or block."""
        return -k % self.quantum

    def _vectors(self, k: int) -> int:
        """Return how many vectors or blocks an axis holds."""
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the blocks is empty")
        if self.padding(k):
            raise ValueError(
                f"format {self.name}: block of {self.quantum} does not divide the axis of {k}; pad it to "
                f"{k + self.padding(k)} and record the padding"
            )
        return k // self.quantum

    def _scale_parts(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        if self.row_scale == "none":
            return ()
        return (Part.code("row_scales", shape[:-1], FLOAT_BITS[self.row_scale]),)

    def _find_scales(self, x: NDArray[np.float32], out: Parts) -> NDArray[np.float32]:
        """Store the scales of float32 [rows, k], and return what they are worth, float32 [rows]."""
        from hwsim.formats.families import _vector_kernels as kernels

        if self.row_scale == "none":
            return np.ones(x.shape[0], np.float32)
        squares = np.empty(x.shape[0])
        kernels.row_squares(x, squares)
        kind = np.dtype(self.row_scale).type
        limits = np.finfo(kind)
        with np.errstate(over="ignore"):
            scales = (np.sqrt(squares / x.shape[1]) / self.target_rms).astype(kind)
        scales = np.where(squares > 0, np.clip(scales, limits.smallest_subnormal, limits.max), kind(0))
        out["row_scales"][...] = scales.view(out["row_scales"].dtype)
        return scales.astype(np.float32)

    def _scales(self, parts: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float32]:
        """Return what the scales of the rows are worth, float32 [rows]."""
        if self.row_scale == "none":
            return np.ones(rows, np.float32)
        return self._positive("row_scales", parts["row_scales"], self.row_scale)

    def _positive(self, name: str, codes: NDArray[Any], kind: str) -> NDArray[np.float32]:
        """Return what float codes are worth, float32; raises ValueError on a sign, NaN or Inf, which no scale has."""
        values = codes.view(kind).astype(np.float32)
        bad = ~np.isfinite(values) | np.signbit(values)
        if bad.any():
            index = [int(i) for i in np.argwhere(bad)[0]]
            raise ValueError(
                f"format {self.name}: {name} {index} is {values[tuple(index)]}; allowed: finite, 0 or more"
            )
        return values

    def _object(self, objections: list[tuple[bool, str]]) -> None:
        """Raise ValueError on the first objection (is it so, what to say), the common fields first."""
        common = [
            one_of(self, "row_scale", ("none", *FLOAT_BITS)),
            one_of(self, "scale_rule", ("rms",)),
            (not 0 < self.target_rms < np.inf, f"target_rms must be positive and finite, not {self.target_rms}"),
        ]
        for condition, words in [*common, *objections]:
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")


def one_of(spec: Format, field: str, allowed: tuple[str, ...]) -> tuple[bool, str]:
    """Return the objection that a field does not hold one of the allowed words."""
    value = getattr(spec, field)
    return value not in allowed, f"{field} is {value!r}, allowed: {', '.join(allowed)}"
