"""Complex formats of the four units {+1, +i, -1, -i} under one real and one imaginary scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.format import Format, Part, Parts


@dataclass(frozen=True, kw_only=True)
class ComplexUnitSpec(Format):
    """Describe complex numbers as units: code n stands for i**n, worth +-s_re or +-i s_im.

    A row of float32 holds K / 2 complex numbers. Parts: ``codes`` [..., K // 2] of 2 bits, ``scale_re`` and
    ``scale_im``, float32 of the whole tensor.

    Parameters
    ----------
    pairs : {"interleaved", "halves"}
        Real and imaginary parts take turns along the axis; or the real parts are its first half.
    scale_floor : float
        Least scale, as float32; also that of an axis which no number falls on.
    borders : {"clockwise"}
        Each quarter holds its clockwise border: +1 the phases [-pi/4, pi/4), +i [pi/4, 3 pi/4), and so on. Zero is +1.

    Exactness
    ---------
    Quarters follow from comparing the two parts, not from a rounded phase. Scales are the exact means of abs(Re) over
    the numbers on the real axis, and of abs(Im) over the others, each rounded once half to even. Decoding is exact.
    """

    pairs: Literal["interleaved", "halves"] = "interleaved"
    scale_floor: float = 1e-5
    borders: Literal["clockwise"] = "clockwise"

    def __post_init__(self) -> None:
        for field, allowed in (("pairs", ("interleaved", "halves")), ("borders", ("clockwise",))):
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"format {self.name!r}: {field} is {getattr(self, field)!r}, allowed: {', '.join(allowed)}"
                )
        if not 0 <= self.scale_floor <= np.finfo(np.float32).max:
            raise ValueError(f"format {self.name!r}: scale_floor must be a float32 from 0 up, not {self.scale_floor}")

    def padding(self, k: int) -> int:
        """Return 1 for an interleaved axis that ends in a real part; halves cannot be padded at the end."""
        return k % 2 if self.pairs == "interleaved" else 0

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return the codes and the two scales of a tensor of that shape."""
        k = shape[-1]
        if k < 2 or k % 2:
            raise ValueError(f"format {self.name}: an axis of {k} does not hold pairs of real and imaginary parts")
        scales = [Part(name, (), 32, np.dtype(np.float32), by_row=False) for name in ("scale_re", "scale_im")]
        return Part.code("codes", (*shape[:-1], k // 2), 2), *scales

    @property
    def max_value(self) -> float:
        """Largest magnitude of a unit."""
        return 1.0

    @property
    def min_step(self) -> float:
        """Smallest distance between the levels of a part: 0 and +-1."""
        return 1.0

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes and scales."""
        from hwsim.formats.families import _complex_kernels as kernels
        from hwsim.formats.families._ternary_kernels import DIGITS, mean_code

        if x.size >= 1 << 32:
            raise ValueError(f"format {self.name}: {x.size} elements, allowed below 2**32")
        total, counts = np.zeros((2, DIGITS), np.int64), np.zeros(2, np.int64)
        # few rows at a time, so that their sums take no more room than the codes
        rows = max(1, min(len(x), out["codes"].size // (16 * DIGITS)))
        for start in range(0, len(x), rows):
            piece, codes = x[start : start + rows], out["codes"][start : start + rows]
            digits, count = np.zeros((len(piece), 2, DIGITS), np.int64), np.zeros((len(piece), 2), np.int64)
            kernels.encode(piece, *self._strides(x.shape[1]), codes, digits, count)
            total += digits.sum(axis=0)
            counts += count.sum(axis=0)
        for axis, part in enumerate(("scale_re", "scale_im")):
            code = mean_code(total[axis], 1, max(int(counts[axis]), 1), 23, 127, 0x7F7FFFFF)
            mean = np.array(code, np.uint32).view(np.float32)[()]
            out[part][...] = max(mean, np.float32(self.scale_floor))

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k], exactly."""
        from hwsim.formats.families import _complex_kernels as kernels

        real, imag = np.float32(parts["scale_re"][()]), np.float32(parts["scale_im"][()])
        kernels.decode(parts["codes"], *self._strides(out.shape[1]), real, imag, out)

    def _strides(self, k: int) -> tuple[int, int]:
        """Return (distance of pairs, distance of the parts of a pair)."""
        return (2, 1) if self.pairs == "interleaved" else (1, k // 2)
