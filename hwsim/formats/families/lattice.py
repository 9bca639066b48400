"""Lattice codes: E8P, 65,536 points of E8 + 1/4 (QuIP#); and PVQ, integer points of a pyramid by index (Opus)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.families.vector import FLOAT_BITS, VectorSpec, one_of
from hwsim.formats.format import Part, Parts

SHUFFLE = (0, 4, 1, 5, 2, 6, 3, 7)
"""Bit of the sign byte, and place in the stored row of magnitudes, of each coordinate."""
_NORM_12 = (
    "31113333 13113333 11313333 11133333 33313311 33313131 33311331 33313113 33311313 33311133 33133311 33133131 "
    "33131331 33133113 33131313 33131133 31333311 31333131 31331331 31333113 31331313 13331133 13333311 13333131 "
    "13331331 13333113 13331313 11331333 33113331"
)
"""Magnitudes, in halves, of QuIP#'s 29 points of norm 12, in its order."""


@dataclass(frozen=True, kw_only=True)
class E8PSpec(VectorSpec):
    """Describe vectors of 8 elements as 16-bit codes of points of E8 + 1/4, times the scale of the row.

    Parts: ``codes`` uint16 [..., K // 8] and ``row_scales``. See `e8p_points` for the points.

    Parameters
    ----------
    shift : {"plus_quarter_when_even"}
        Sign bytes of even parity shift their point by +1/4, those of odd parity by -1/4.

    Raises
    ------
    ValueError
        When a field is not what is allowed; the message names the format.

    Exactness
    ---------
    A coordinate over its scale is rounded to float64 and then half to even to a multiple of 2**-24, and clipped to
    +-2**16. From there on the search is exact: the code is that of the nearest of all points, of equally near ones the
    lowest. Decoding is the exact product of a multiple of 1/4 and the scale, rounded once to float32; zeros of a row of
    zeros carry the signs of their point. (QuIP# compares in float32 or float16, and scales a whole matrix.)
    """

    target_rms: float = 1.03
    shift: Literal["plus_quarter_when_even"] = "plus_quarter_when_even"

    def __post_init__(self) -> None:
        self._object([one_of(self, "shift", ("plus_quarter_when_even",))])

    @property
    def quantum(self) -> int:
        """Eight elements are one point."""
        return 8

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return the codes and the scales of the rows of a tensor of that shape."""
        return Part.code("codes", (*shape[:-1], self._vectors(shape[-1])), 16), *self._scale_parts(shape)

    @property
    def max_value(self) -> float:
        """Largest magnitude of a coordinate."""
        return 2.75

    @property
    def min_step(self) -> float:
        """Smallest distance between two values of a coordinate."""
        return 0.5

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Find the nearest points of float32 [rows, k]."""
        from hwsim.formats.families import _lattice_kernels as kernels

        magnitudes = e8p_magnitudes()
        odd = (magnitudes.sum(axis=1) // 2 % 2).astype(np.uint8)
        vectors = x.reshape(len(x), -1, 8)
        places = np.array(SHUFFLE, np.int64)
        kernels.encode_e8p(vectors, self._find_scales(x, out), magnitudes.astype(np.float64), odd, places, out["codes"])

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k]; raises ValueError on a scale that is negative, NaN or Inf."""
        from hwsim.formats.families import _lattice_kernels as kernels

        kernels.decode_e8p(parts["codes"], e8p_points(), self._scales(parts, len(out)), out.reshape(len(out), -1, 8))


@lru_cache(maxsize=1)
def e8p_magnitudes() -> NDArray[np.int64]:
    """Return the rows of magnitudes in halves, int64 [256, 8]: 227 of norm at most 10 in ascending order, then 29."""
    small = [row for row in product((1, 3, 5), repeat=8) if sum(v * v for v in row) <= 40]
    rows = np.array([*small, *(tuple(map(int, row)) for row in _NORM_12.split())], np.int64)
    rows.flags.writeable = False
    return rows


@lru_cache(maxsize=1)
def e8p_points() -> NDArray[np.float32]:
    """Return the point of every code, float32 [65536, 8].

    Bits 15:8 choose a row of magnitudes; where its sum is odd, coordinate 7 is negated. Bits 7:0 are signs: with p the
    parity of the byte, bit 0 is turned over by p, coordinate i is negated by bit `SHUFFLE` [i], and the point is
    shifted by -1/4 where p is 1, else by +1/4.

    Source
    ------
    Cornell-RelaxML/quip-sharp:lib/codebook/latticee8_padded12.py, get_packed_abs_grid and get_full_grid.

    Examples
    --------
    >>> e8p_points()[[0x0000, 0x0001, 0x0101]].tolist()[1:]
    [[0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, -1.75]]
    """
    rows = e8p_magnitudes() / 2
    rows[:, 7] *= 1 - 2 * (rows.sum(axis=1) % 2)
    byte = np.arange(256)
    bits = byte[:, None] >> np.arange(8) & 1
    parity = bits.sum(axis=1) % 2
    signs = 1 - 2 * ((byte ^ parity)[:, None] >> np.array(SHUFFLE) & 1)
    points = rows[:, None, :] * signs + (0.25 - 0.5 * parity)[:, None]
    result = np.ascontiguousarray(points.reshape(-1, 8), np.float32)
    result.flags.writeable = False
    return result


@dataclass(frozen=True, kw_only=True)
class PyramidSpec(VectorSpec):
    """Describe pyramid vector quantisation: integers whose magnitudes sum to `pulses`, times a gain of the vector.

    Parts: ``codes`` (the index, see `pulse_codes`) [..., K // vector_size] and ``gains``, bit patterns.

    Parameters
    ----------
    vector_size : int
        N, elements of a vector.
    pulses : int
        K, the sum of the magnitudes; there must be at most 2**64 such vectors.
    gain_format : {"float16", "float32"}
        Format of the gains, rounded half to even, saturating.
    gain_rule : {"least_squares", "norm"}
        ``least_squares``: gain = (x . y) / (y . y), value = gain y. ``norm``: gain = norm of x, value = gain y / norm
        of y, as in Opus.
    search : {"projection"}
        ``projection``: magnitudes are scaled to the sum K and rounded down; the pulses that are missing go to the
        largest remainders, one each, of equal ones to the lowest index. That is the nearest point of the pyramid to the
        scaled vector. Signs are those of x. (Opus adds pulses where the correlation gains most.)
    row_scale : {"none"}
        There are gains instead.

    Raises
    ------
    ValueError
        When the fields do not go together; the message names the format.

    Exactness
    ---------
    The sum of magnitudes is taken in float64, elements in order; quotients and remainders by it are exact. The sums of
    the gain and its quotient or root are taken in float64, elements in order, then rounded to the gain's format. A
    vector of zeros has index 0, the vector (K, 0, ..), and gain 0. Decoding with ``least_squares`` rounds the exact
    product once; with ``norm`` root, quotient and product are rounded to float64 before.
    """

    row_scale: Literal["none"] = "none"
    vector_size: int
    pulses: int
    gain_format: Literal["float16", "float32"] = "float16"
    gain_rule: Literal["least_squares", "norm"] = "least_squares"
    search: Literal["projection"] = "projection"

    def __post_init__(self) -> None:
        n, k = self.vector_size, self.pulses
        self._object(
            [
                one_of(self, "row_scale", ("none",)),
                one_of(self, "gain_format", tuple(FLOAT_BITS)),
                one_of(self, "gain_rule", ("least_squares", "norm")),
                one_of(self, "search", ("projection",)),
                (not 1 <= n <= 1024, f"vector_size must be 1 to 1024, not {n}"),
                (not 1 <= k <= 32767, f"pulses must be 1 to 32767, not {k}"),
            ]
        )
        if pulse_count(n, k) > 1 << 64:
            raise ValueError(
                f"format {self.name!r}: an index of {n} elements and {k} pulses takes more than 64 bits; allowed: 64"
            )

    @property
    def quantum(self) -> int:
        """Elements of a vector."""
        return self.vector_size

    @property
    def index_bits(self) -> int:
        """Width of an index."""
        return max(1, (pulse_count(self.vector_size, self.pulses) - 1).bit_length())

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return indices and gains of a tensor of that shape."""
        vectors = (*shape[:-1], self._vectors(shape[-1]))
        return Part.code("codes", vectors, self.index_bits), Part.code("gains", vectors, FLOAT_BITS[self.gain_format])

    @property
    def max_value(self) -> float:
        """Largest integer."""
        return float(self.pulses)

    @property
    def min_step(self) -> float:
        """Distance between two integers."""
        return 1.0

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Find the points of the pyramid nearest to float32 [rows, k], and their gains."""
        from hwsim.formats.families import _lattice_kernels as kernels

        # one width of codes for the kernel, so that it is compiled once
        gains, codes = np.empty(out["gains"].shape), np.empty(out["codes"].shape, np.uint64)
        vectors, table = x.reshape(*gains.shape, self.vector_size), _table(self.vector_size, self.pulses)
        kernels.encode_pulses(vectors, self.pulses, self.gain_rule == "norm", table, codes, gains)
        out["codes"][...] = codes
        kind = np.dtype(self.gain_format)
        top = float(np.finfo(kind).max)
        with np.errstate(under="ignore"):
            out["gains"][...] = np.minimum(gains, top).astype(kind).view(out["gains"].dtype)

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k].

        Raises
        ------
        ValueError
            On an index that has no vector, or a gain that is negative, NaN or Inf.
        """
        from hwsim.formats.families import _lattice_kernels as kernels

        self._check(parts["codes"])
        gains = self._positive("gains", parts["gains"], self.gain_format)
        vectors, table = out.reshape(*gains.shape, self.vector_size), _table(self.vector_size, self.pulses)
        codes = parts["codes"].astype(np.uint64, copy=False)
        kernels.decode_pulses(codes, self.pulses, self.gain_rule == "norm", table, gains, vectors)

    def _check(self, codes: NDArray[Any]) -> None:
        top = pulse_count(self.vector_size, self.pulses) - 1
        if codes.size and (largest := int(codes.max())) > top:
            raise ValueError(f"format {self.name}: index {largest} has no vector, allowed 0 .. {top}")


@lru_cache(maxsize=32)
def _counts(n: int, k: int) -> tuple[tuple[int, ...], ...]:
    """Return U(0 .. n, 0 .. k + 1): how many vectors have a first element above 0 (Opus' U, twice of them V)."""
    above = (1, *(0,) * (k + 1))
    rows = [above]
    for _ in range(n):
        row = [0]
        for j in range(1, k + 2):
            row.append(above[j] + row[j - 1] + above[j - 1])
        above = tuple(row)
        rows.append(above)
    return tuple(rows)


def pulse_count(n: int, k: int) -> int:
    """Return V(n, k), how many vectors of n integers have magnitudes that sum to k.

    Examples
    --------
    >>> [pulse_count(3, k) for k in range(5)]
    [1, 6, 18, 38, 66]
    """
    last = _counts(n, k)[n]
    return last[k] + last[k + 1]


@lru_cache(maxsize=32)
def _table(n: int, k: int) -> NDArray[np.uint64]:
    if pulse_count(n, k) > 1 << 64:
        raise ValueError(f"an index of {n} elements and {k} pulses takes more than 64 bits; allowed: 64")
    return np.array(_counts(n, k), np.uint64)


def pulse_codes(vectors: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the indices of vectors of integers, uint64 [...], from int64 [..., n].

    The order is that of Opus: the first element decides, K before K - 1, .. before 0, then -K, .. -1; then the second.

    Raises
    ------
    ValueError
        When the sums of the magnitudes differ, are 0, or an index takes more than 64 bits.

    Source
    ------
    xiph/opus:celt/cwrs.c, icwrs and cwrsi.

    Examples
    --------
    >>> pulse_codes(np.array([[2, 0], [1, 1], [1, -1], [0, 2], [0, -2], [-2, 0], [-1, 1], [-1, -1]])).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    from hwsim.formats.families import _lattice_kernels as kernels

    flat = np.ascontiguousarray(vectors, np.int64).reshape(-1, vectors.shape[-1])
    sums = np.unique(np.abs(flat).sum(axis=1))
    if len(sums) != 1 or sums[0] < 1:
        raise ValueError(f"magnitudes must have one positive sum in all vectors, not {sums.tolist()}")
    table = _table(flat.shape[1], int(sums[0]))
    return np.array([kernels.pulse_index(y, table) for y in flat], np.uint64).reshape(vectors.shape[:-1])


def pulse_vectors(codes: NDArray[np.uint64], n: int, k: int) -> NDArray[np.int64]:
    """Return the vectors of indices, int64 [..., n]: undo `pulse_codes`.

    Raises
    ------
    ValueError
        On an index that has no vector, or one that takes more than 64 bits.
    """
    from hwsim.formats.families import _lattice_kernels as kernels

    table, top = _table(n, k), pulse_count(n, k) - 1
    flat = np.asarray(codes, np.uint64).reshape(-1)
    if flat.size and int(flat.max()) > top:
        raise ValueError(f"index {int(flat.max())} has no vector of {n} elements and {k} pulses, allowed 0 .. {top}")
    vectors = np.empty((flat.size, n), np.int64)
    for index, y in zip(flat, vectors, strict=True):
        kernels.pulses_of(index, k, table, y)
    return vectors.reshape(*np.shape(codes), n)
