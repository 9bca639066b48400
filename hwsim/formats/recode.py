"""Recode integers as short sums of small digits times powers of two, as multipliers and bit-serial units read them.

Every recoding writes an integer as ``sum(digit * 2**position)``, a term a place. `digits` looks codes up in a table
that is built once for all codes of a width (or of any element whose values are integers), `counts` tells how many terms
are not zero, and `integers` adds the terms up again, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["booth", "naf", "binary", "sign_magnitude", "leading_ones"]


@dataclass(frozen=True, kw_only=True)
class Recoding:
    """Describe a recoding; the number of its terms follows from the integers it is used on.

    Attributes
    ----------
    name : str
        Key in `RECODINGS`.
    kind : str
        ``booth``: overlapping windows of `step` + 1 bits, digits within +-2**(step - 1). ``naf``: digits -1, 0, 1, no
        two neighbours both non-zero. ``binary``: the bits, the top one of two's complement negative.
        ``sign_magnitude``: the bits of the magnitude, all with the sign of the integer. ``leading_ones``: the highest
        one of the magnitude without its last bit (position 1), then the highest one of the rest (position 0), each
        among four bits.
    step : int
        Distance of neighbouring positions (1 but for ``booth``).
    highest_first : bool
        Whether the term of the highest position comes first.
    source : str
        Where it is described.
    """

    name: str
    kind: Kind
    source: str
    step: int = 1
    highest_first: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.step <= 6 or (self.step != 1 and self.kind != "booth"):
            raise ValueError(f"recoding {self.name!r}: step must be 1 (booth: 1 to 6), not {self.step}")


_BOOTH4 = Recoding(
    name="booth_radix4",
    kind="booth",
    step=2,
    source="O. L. MacSorley, High-speed arithmetic in binary computers, Proc. IRE 49 (1961): modified Booth, radix 4",
)
_NAF = Recoding(
    name="naf",
    kind="naf",
    source="G. W. Reitwiesner, Binary arithmetic, Advances in Computers 1 (1960); A. Avizienis 1961 (canonical "
    "signed digits)",
)
RECODINGS: Mapping[str, Recoding] = MappingProxyType(
    {
        recoding.name: recoding
        for recoding in (
            _BOOTH4,
            Recoding(name="booth_radix8", kind="booth", step=3, source=_BOOTH4.source.replace("radix 4", "radix 8")),
            _NAF,
            Recoding(name="csd", kind="naf", source=_NAF.source),
            Recoding(
                name="twos_complement",
                kind="binary",
                source="P. Judd et al., Stripes: bit-serial deep neural network computing, MICRO 2016: one bit a cycle",
            ),
            Recoding(
                name="oneffsets",
                kind="sign_magnitude",
                source="J. Albericio et al., Bit-Pragmatic deep neural network computing, MICRO 2017: positions of the "
                "essential bits (ones) of a magnitude",
            ),
            Recoding(
                name="oneffsets_signed",
                kind="naf",
                source="J. Albericio et al., Bit-Pragmatic deep neural network computing, MICRO 2017: oneffsets with a "
                "sign each; taken here in their minimal form, the non-adjacent one",
            ),
            Recoding(
                name="bitmod_integer",
                kind="booth",
                step=2,
                highest_first=True,
                source="Y. Chen et al., BitMoD, HPCA 2025: bit-serial terms of INT8 (bsig 6, 4, 2, 0) and INT6 "
                "(their RTL, hardware/pe/decoder.v, sends bsig 0 first)",
            ),
            Recoding(
                name="bitmod_float",
                kind="leading_ones",
                highest_first=True,
                source="Y. Chen et al., BitMoD, HPCA 2025: FP4 and FP3 as fixed point I3..I0.F0, the leading one of "
                "I3..I0 (bsig 1), then that of the rest in I2..F0 (bsig 0)",
            ),
        )
    }
)
"""Recodings by name."""


@dataclass(frozen=True, eq=False)
class Table:
    """Hold the terms of every code.

    Attributes
    ----------
    values : int32 [codes]
        Integer of each code.
    digits : int8 [codes, terms]
        Digit at each position.
    positions : int8 [terms]
        Position of each term: the digit is worth ``digit * 2**position``.
    """

    values: NDArray[np.int32]
    digits: NDArray[np.int8]
    positions: NDArray[np.int8]

    @property
    def terms(self) -> int:
        """Terms of a code, zeros included: cycles of a unit that takes one term a cycle and skips none."""
        return len(self.positions)

    @cached_property
    def counts(self) -> NDArray[np.uint8]:
        """Terms of each code that are not zero, uint8 [codes]: cycles of a unit that skips zeros."""
        return np.count_nonzero(self.digits, axis=1).astype(np.uint8)

    @cached_property
    def compact(self) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """Digits and positions [codes, largest count] with the non-zero terms first, in their order.

        Codes with fewer terms are filled up with digit 0 at position 0.
        """
        order = np.argsort(self.digits == 0, axis=1, kind="stable")[:, : int(self.counts.max(initial=0))]
        digits = np.take_along_axis(self.digits, order, axis=1)
        return digits, np.where(digits == 0, 0, self.positions[order]).astype(np.int8)


def table(recoding: str | Recoding, bits: int, *, signed: bool = True, values: Sequence[int] | None = None) -> Table:
    """Return the terms of all codes of a width, built once.

    Parameters
    ----------
    recoding : str or Recoding
        A name in `RECODINGS`, or a recoding.
    bits : int
        Width of a code: 2 to 16, or 1 to 16 when not `signed`.
    signed : bool
        Whether codes are two's complement (else plain binary).
    values : sequence of int, optional
        Integer of each of the ``2**bits`` codes of another element, instead of two's complement or binary
        (`hwsim.formats.spec.integer_table` gives them; `bitmod_values` those of BitMoD).

    Returns
    -------
    Table
        Booth: ``ceil(width / step)`` terms; non-adjacent form: ``width``; where `width` is that of the shortest two's
        complement for all integers: `bits` of signed codes, and one more of unsigned ones. Binary: `width`, less the
        sign bit when no integer is negative. Magnitudes: the bits of the largest. Leading ones: two.

    Raises
    ------
    ValueError
        On an unknown recoding, a width or a number of values that it does not allow, or a value that two leading ones
        do not make up.
    """
    if isinstance(recoding, str):
        if recoding not in RECODINGS:
            raise ValueError(f"unknown recoding {recoding!r}; known: {', '.join(RECODINGS)}")
        recoding = RECODINGS[recoding]
    least = 2 if signed and values is None else 1
    if not least <= bits <= 16:
        raise ValueError(f"recoding knows codes of {least} to 16 bits, not {bits}")
    if values is not None and (len(values) != 1 << bits or max(map(abs, values)) >> 24):
        raise ValueError(
            f"codes of {bits} bits need {1 << bits} values below 2**24, "
            f"not {len(values)} values up to {max(map(abs, values), default=0)}"
        )
    return _table(recoding, bits, signed, None if values is None else tuple(int(value) for value in values))


def digits(
    codes: NDArray[Any],
    recoding: str | Recoding,
    bits: int,
    *,
    signed: bool = True,
    values: Sequence[int] | None = None,
    compact: bool = False,
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Return the digits of codes and their positions.

    Parameters
    ----------
    codes : uint8, uint16, uint32 or uint64 [...]
        Bit patterns below ``2**bits``.
    recoding, bits, signed, values
        As for `table`.
    compact : bool
        Put the non-zero terms of each code first, as a unit that skips zeros reads them; the terms are then as many as
        the code with the most non-zero ones has.

    Returns
    -------
    digits, positions : int8 [..., terms]
        Without `compact` the positions are one list for all codes, seen through a read-only array of that shape.

    Raises
    ------
    ValueError
        As `table`, and when codes are not unsigned or too large.

    Exactness
    ---------
    ``integers(*digits(codes, ...))`` are the integers of the codes.

    Examples
    --------
    >>> d, p = digits(np.array([7, 0xF9], np.uint8), "booth_radix4", 8)
    >>> d.tolist(), p[0].tolist()  # 7 = 2 * 4 - 1
    ([[-1, 2, 0, 0], [1, -2, 0, 0]], [0, 2, 4, 6])
    """
    found = table(recoding, bits, signed=signed, values=values)
    _check_codes(codes, bits)
    if not compact:
        looked_up = _look_up(codes, found.digits)
        return looked_up, np.broadcast_to(found.positions, looked_up.shape)
    return _look_up(codes, found.compact[0]), _look_up(codes, found.compact[1])


def counts(
    codes: NDArray[Any],
    recoding: str | Recoding,
    bits: int,
    *,
    signed: bool = True,
    values: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """Return the number of non-zero digits of each code, uint8 [...].

    Raises
    ------
    ValueError
        As `digits`.

    Examples
    --------
    >>> counts(np.array([0, 7, 0b01010101, 0x80], np.uint8), "naf", 8).tolist()
    [0, 2, 4, 1]
    """
    found = table(recoding, bits, signed=signed, values=values)
    _check_codes(codes, bits)
    return _look_up(codes, found.counts[:, None])[..., 0]


def integers(digits: NDArray[Any], positions: NDArray[Any]) -> NDArray[np.int64]:
    """Add terms up: int64 [...] from integers [..., terms].

    Raises
    ------
    ValueError
        When the shapes differ, the dtypes are not integers, or a position is not in 0 .. 31.

    Examples
    --------
    >>> integers(*digits(np.array([0x81], np.uint8), "csd", 8)).tolist()
    [-127]
    """
    if digits.ndim < 1 or digits.shape != positions.shape:
        raise ValueError(f"digits {digits.shape} and positions {positions.shape} must be of one shape [..., terms]")
    if digits.dtype.kind not in "iu" or positions.dtype.kind not in "iu":
        raise ValueError(f"digits and positions must be integers, not {digits.dtype} and {positions.dtype}")
    if not digits.size:
        return np.zeros(digits.shape[:-1], np.int64)
    shared = not any(positions.strides[:-1])
    rows = positions[(0,) * (positions.ndim - 1)][None] if shared else positions.reshape(-1, positions.shape[-1])
    if not (rows.min() >= 0 and rows.max() <= 31):
        raise ValueError(f"positions must be 0 .. 31, not {rows.min()} .. {rows.max()}")
    from hwsim.formats import _recode_kernels as kernels

    out = np.empty(digits.shape[:-1], np.int64)
    flat = np.ascontiguousarray(digits).reshape(-1, digits.shape[-1])
    kernels.add_up(flat, np.ascontiguousarray(rows), out.reshape(-1))
    return out


def term_fields(digits: NDArray[np.int8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Split digits that are zero or a power of two into (sign, exp, man): ``(-1)**sign * 2**exp * man``.

    BitMoD's unit reads terms like this, its ``bsig`` being the position. A zero has all fields zero.

    Raises
    ------
    ValueError
        When a digit is neither zero nor a power of two (Booth digits +-3 of radix 8).
    """
    magnitudes = np.abs(digits.astype(np.int16))
    if np.any(magnitudes & (magnitudes - 1)):
        raise ValueError("a digit that is not a power of two has no exponent")
    exponents = sum(((magnitudes >> shift > 0) for shift in range(1, 8)), np.zeros(digits.shape, np.uint8))
    return (digits < 0).astype(np.uint8), np.asarray(exponents, np.uint8), (digits != 0).astype(np.uint8)


def bitmod_values(bits: int, special: float) -> tuple[int, ...]:
    """Return twice the value of each code of BitMoD FP3 or FP4, whose code of a negative zero means `special`.

    Twice, because the fixed point I3..I0.F0 has one fraction bit.

    Raises
    ------
    ValueError
        On another width, or a special value that BitMoD does not have (FP3: +-3, +-6; FP4: +-5, +-8).

    Source
    ------
    Y. Chen et al., BitMoD, HPCA 2025; BitMoD-HPCA-25 bitmod_quant/quant_utils/quant_weight.py.

    Examples
    --------
    >>> bitmod_values(3, -6)
    (0, 2, 4, 8, -12, -2, -4, -8)
    """
    known = {3: ((0, 2, 4, 8), (3, 6)), 4: ((0, 1, 2, 3, 4, 6, 8, 12), (5, 8))}
    if bits not in known or abs(special) not in known[bits][1]:
        raise ValueError(f"BitMoD has FP3 with +-3, +-6 and FP4 with +-5, +-8, not FP{bits} with {special}")
    positive = known[bits][0]
    return (*positive, int(2 * special), *(-value for value in positive[1:]))


@lru_cache(maxsize=64)
def _table(recoding: Recoding, bits: int, signed: bool, given: tuple[int, ...] | None) -> Table:
    if given is not None:
        values = np.array(given, np.int64)
    else:
        values = np.arange(1 << bits, dtype=np.int64)
        values -= (values >> (bits - 1) << bits) if signed else 0
    width = max(int(values.max()).bit_length(), int(~values.min()).bit_length() if values.min() < 0 else 0) + 1
    if recoding.kind == "leading_ones":
        rows, places = _leading_ones(values)
    else:
        last = {
            "sign_magnitude": int(np.abs(values).max()).bit_length(),
            "binary": width if values.min() < 0 else width - 1,
        }.get(recoding.kind, width)
        places = np.arange(0, last, recoding.step)
        rows = _rows(recoding, values[:, None], places, width)
    if recoding.highest_first:
        rows, places = rows[:, ::-1], places[::-1]
    if (wrong := np.flatnonzero((rows << places).sum(axis=1) != values)).size:
        raise ValueError(f"recoding {recoding.name!r} cannot write {values[wrong[0]]} (code {wrong[0]})")
    found = Table(values.astype(np.int32), rows.astype(np.int8, order="C"), places.astype(np.int8))
    for array in (found.values, found.digits, found.positions):
        array.setflags(write=False)
    return found


def _rows(recoding: Recoding, values: NDArray[Any], places: NDArray[Any], width: int) -> NDArray[Any]:
    """Return digits int64 [codes, places] of int64 values [codes, 1]."""
    step = recoding.step
    if recoding.kind == "booth":
        window = (values << 1) >> places & ((2 << step) - 1)
        return ((window + 1) >> 1) - np.where(window >> step, 1 << step, 0)
    if recoding.kind == "naf":
        triple = 3 * values
        return ((triple & ~values) >> (places + 1) & 1) - ((values & ~triple) >> (places + 1) & 1)
    if recoding.kind == "binary":
        return (values >> places & 1) * np.where(places == width - 1, -1, 1)
    return (np.abs(values) >> places & 1) * np.sign(values)


def _leading_ones(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two digits for the positions 0 and 1 of integers whose last bit is the fraction bit F0."""

    def leading(window: NDArray[Any]) -> NDArray[Any]:
        return sum((np.where(window >> i == 1, 1 << i, 0) for i in range(4)), np.zeros_like(window))

    magnitude, sign = np.abs(values), np.sign(values)
    first = leading(magnitude >> 1)
    second = leading(magnitude - 2 * first)
    return np.stack([sign * second, sign * first], axis=1), np.arange(2)


def _check_codes(codes: NDArray[Any], bits: int) -> None:
    if codes.dtype.kind != "u":
        raise ValueError(f"recoding needs codes in uint8, uint16, uint32 or uint64, not {codes.dtype}")
    if codes.size and bits < 8 * codes.dtype.itemsize and (top := int(codes.max())) >> bits:
        raise ValueError(f"code {top} does not fit {bits} bits")


def _look_up(codes: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    out = np.empty((*codes.shape, rows.shape[1]), rows.dtype)
    if out.size:
        from hwsim.formats import _recode_kernels as kernels

        kernels.look_up(np.ascontiguousarray(codes).reshape(-1), rows, out.reshape(-1, rows.shape[1]))
    return out
