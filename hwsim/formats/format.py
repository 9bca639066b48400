"""What every number format offers: a name with its source, the parts it stores, and how rows become parts and back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

Parts = dict[str, NDArray[Any]]
"""Arrays of an encoded tensor, by the names of the format's layout."""

ANY = -1
"""Length of an axis that only the data decides (outliers kept beside dense codes)."""


def container(bits: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds a code of that many bits.

    Raises
    ------
    ValueError
        When no dtype does (allowed: 1 to 64 bits).
    """
    if not 1 <= bits <= 64:
        raise ValueError(f"a code has 1 to 64 bits, not {bits}")
    return np.dtype(f"uint{max(8, 1 << (bits - 1).bit_length())}")


@dataclass(frozen=True)
class Part:
    """One array that an encoded tensor holds.

    Attributes
    ----------
    name : str
        ``codes``, ``scales``, ...
    shape : tuple of int
        For the tensor that the layout was asked for; `ANY` where only the data decides.
    bits : int
        Width of one entry as stored; unsigned entries stay below ``2**bits``.
    dtype : dtype
        Container in memory: unsigned bit patterns, but for a float32 scale of the whole tensor.
    by_row : bool
        Whether the first axes are those of the tensor, so that rows can be chosen.
    shared : bool
        Whether it is one for all rows, so that it stays whole when rows are chosen.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    dtype: np.dtype[Any]
    by_row: bool = True
    shared: bool = False

    @classmethod
    def code(cls, name: str, shape: tuple[int, ...], bits: int, by_row: bool = True) -> Self:
        """Return a part of unsigned codes in their smallest container."""
        return cls(name, shape, bits, container(bits), by_row)

    def check(self, where: str, array: NDArray[Any]) -> None:
        """Raise ValueError when an array is not this part: another dtype, another shape, or a code too large."""
        fits = array.ndim == len(self.shape) and all(
            want in (ANY, got) for want, got in zip(self.shape, array.shape, strict=True)
        )
        if array.dtype != self.dtype or not fits:
            shape = ", ".join("any" if n == ANY else str(n) for n in self.shape)
            raise ValueError(f"{where}: {self.name} must be {self.dtype} ({shape}), not {array.dtype} {array.shape}")
        narrow = array.dtype.kind == "u" and self.bits < 8 * array.dtype.itemsize
        if narrow and array.size and (top := int(array.max())) >> self.bits:
            raise ValueError(f"{where}: {self.name} hold {top}, allowed 0 .. {(1 << self.bits) - 1}")


class NotFiniteError(ValueError):
    """A row of the input holds NaN or Inf; `encode` turns it into an error that names the index."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} is not finite")
        self.row = row


class RowError(ValueError):
    """A row of the input is refused; `encode` says where it lies. The words hold ``{}`` for the index."""

    def __init__(self, row: int, column: int | None, words: str) -> None:
        super().__init__(words)
        self.row, self.column, self.words = row, column, words


@cache
def _words_of(family: type) -> dict[str, tuple[Any, ...]]:
    """Return the words that the fields of a class allow, those that are `Literal`."""
    hints = get_type_hints(family)
    return {field.name: get_args(hint) for field in fields(family) if get_origin(hint := hints[field.name]) is Literal}


def word_objections(spec: Any) -> list[tuple[bool, str]]:
    """Return (is it wrong, what to say) for every `Literal` field of a frozen spec."""
    return [
        (value not in allowed, f"{name} must be one of {', '.join(map(str, allowed))}, not {value!r}")
        for name, allowed in _words_of(spec.__class__).items()
        for value in [getattr(spec, name)]
    ]


@dataclass(frozen=True, kw_only=True)
class Format(ABC):
    """Describe a number format as frozen data; a family of formats is one subclass.

    A family has one encoder and one decoder, which serve all its specs; a new format is a new value in a file of
    `hwsim.formats.catalog`.

    Attributes
    ----------
    name : str
        Unique in the catalogue.
    source : str
        Document, section, table, or repository and path.
    witnesses : tuple of str
        Outside tools or published values, beside our own exact oracle, that the tests compare with.
    generator : str
        Name that variants of width, group or rule share, ``""`` when the format stands alone.
    """

    name: str
    source: str
    witnesses: tuple[str, ...] = ()
    generator: str = ""

    checks_finite = False
    """Whether `encode_rows` finds NaN and Inf itself (and raises `NotFiniteError`) or is given finite rows only."""

    @abstractmethod
    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return the parts of an encoded tensor of that shape, blocks along its last axis.

        Raises
        ------
        ValueError
            When the format cannot hold such a tensor (a block that does not divide the axis).
        """

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last block."""
        return 0

    @abstractmethod
    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode contiguous float32 [rows, k] into `out`, allocated by ``layout((rows, k))``.

        Parts with an axis of `ANY` length are not allocated: the family puts them into `out`.
        """

    @abstractmethod
    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode contiguous parts, shaped as ``layout(out.shape)``, into float32 [rows, k]."""

    @property
    @abstractmethod
    def max_value(self) -> float:
        """Largest magnitude of an element before its scales (1.0 for formats of normalised elements)."""

    @property
    @abstractmethod
    def min_step(self) -> float:
        """Smallest distance between two neighbouring levels before scales."""

    def code_points(self) -> NDArray[np.float64] | None:
        """Return the value of every element code before scales (NaN where not finite), None where codes have none."""
        return None

    def bits_per_element(self, k: int, rows: int = 4096) -> float:
        """Return stored bits an element of a matrix [rows, k], scales and all other parts included.

        A part that is one a tensor is left out: it does not grow with the tensor. Data-dependent parts are not
        counted; families that have them override this.
        """
        parts = self.layout((rows, k))
        return sum(p.bits * math.prod(p.shape) for p in parts if p.shape and ANY not in p.shape) / (rows * k)

    def stored_bits(self, shape: tuple[int, ...]) -> int:
        """Return the bits of all parts of a tensor of that shape.

        Raises
        ------
        ValueError
            When only the data decides: ask the encoded tensor then.
        """
        parts = self.layout(shape)
        if free := [part.name for part in parts if ANY in part.shape]:
            raise ValueError(f"format {self.name}: the length of {free[0]} depends on the data")
        return sum(part.bits * math.prod(part.shape) for part in parts)

    def rules(self) -> dict[str, Any]:
        """Return every field as plain JSON data, as stored in exports and result rows; witnesses are left out."""
        return _without_witnesses({"family": type(self).__name__, **asdict(self)})

    def with_rules(self, **changes: Any) -> Self:
        """Return the same format under other named rules, for example ``rounding="rtz"``; its name tells them.

        Raises
        ------
        TypeError, ValueError
            When the family has no such field, or does not allow the value.
        """
        told = ",".join(f"{key}={value}" for key, value in changes.items())
        return replace(self, **{"name": f"{self.name}[{told}]", **changes})


def row_amax(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest magnitude of each row of contiguous float32 [rows, k], float32 [rows].

    Raises
    ------
    NotFiniteError
        On the first row that holds NaN or Inf.
    """
    from hwsim.formats import _kernels

    tops = np.empty((rows.shape[0], -(-rows.shape[1] // _kernels.CHUNK)), np.uint32)
    _kernels.chunk_tops(rows, tops)
    tops = tops.max(axis=1)
    if tops.max() >= 0x7F800000:
        raise NotFiniteError(int(np.argmax(tops >= 0x7F800000)))
    return tops.view(np.float32)


def first_not_finite(rows: NDArray[np.float32], start: int = 0) -> NotFiniteError:
    """Return the error that names the first row, from `start` on, that holds NaN or Inf."""
    for row in range(start, rows.shape[0]):
        if not np.isfinite(rows[row]).all():
            return NotFiniteError(row)
    raise AssertionError(f"all rows from {start} on are finite")


def _without_witnesses(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_witnesses(value) for key, value in data.items() if key not in ("witnesses", "generator")}
    if isinstance(data, list | tuple):
        return [_without_witnesses(item) for item in data]
    return data
