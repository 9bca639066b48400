"""Twin logarithms (LRQ-DiT): positive and negative numbers have a logarithmic scale each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.format import Format, Part, Parts

if TYPE_CHECKING:
    from hwsim.formats.families._twinlog_kernels import Rules

_ALLOWED = {
    "extent": ("side", "masked"),
    "divisor": ("steps", "levels"),
    "zero": ("smallest_positive",),
    "nibble_order": ("low_first", "high_first"),
}


@dataclass(frozen=True, kw_only=True)
class TwinLogSpec(Format):
    """Describe codes of a sign and a logarithm: a value is ``+-(2**(step * (q + zero)) - offset)``.

    Each sign has a step and a zero of its own in every block. Logarithms are integers in units of ``2**-log_frac_bits``
    throughout, and the power of their fraction is a table of ``residual_bits`` fraction bits, as a unit that shifts by
    the whole part and multiplies by the table computes it.

    Parts: ``codes`` [..., K], the sign above q; ``scales`` [..., blocks, 2], the steps of the positive and of the
    negative side in units of ``2**-log_frac_bits``, 0 for a side without elements, whose codes are worth 0; ``zeros``
    [..., blocks, 2], 16-bit two's complement; with several offsets, ``offset``, the one chosen, float32.

    Parameters
    ----------
    bits : int
        Width of a code: a sign, and ``levels = 2**(bits - 1)`` values of q.
    block_size : int, optional
        Elements that share steps and zeros; None takes the whole axis (a channel).
    extent : {"side", "masked"}
        Logarithms over which a side reaches from the least to the largest: ``side``, those of its own elements;
        ``masked``, with a 0 (of magnitude 1) for every element of the other sign, as the product with a mask gives.
    divisor : {"steps", "levels"}
        The step is the extent divided by ``levels - 1``, so that both ends are levels, or by ``levels``; the nearest
        integer, at least 1. The zero is the nearest integer to the least logarithm divided by the step.
    offsets : tuple of float
        Numbers (rounded to float32) that are added to magnitudes before the logarithm. Of several, the whole tensor
        takes the first of the least sum of squared errors.
    log_frac_bits : int
        Fraction bits of logarithms.
    residual_bits : int
        Fraction bits I of ``2**r``, 0 <= r < 1, in the table: the nearest multiple of ``2**-I``.
    zero : {"smallest_positive"}
        Code of a zero: q = 0 of the positive side, which is not its value exactly; but where one side has no elements,
        that side's, whose value is 0.
    nibble_order : {"low_first", "high_first"}
        Order in which two 4-bit codes lie in a byte.

    Raises
    ------
    ValueError
        When rules do not go together; the message names the format.

    Exactness
    ---------
    The logarithm of ``abs(x) + offset`` (a float64 sum) is read off the exponent bits, and its fraction by comparing
    the mantissa with the powers ``2**((j + 1/2) * 2**-log_frac_bits)`` rounded to float64: for a float32 without offset
    that is the exact logarithm, rounded to nearest. Steps, zeros and ``q = round(log / step) - zero``, clamped to 0 ..
    levels - 1, are integer quotients, ties to even. Decoding: the power is exact, less the offset rounded to float64,
    then to float32, beyond its range to Inf. Squared errors are float64, summed over the elements of a row in order,
    then over the rows.
    """

    bits: int
    block_size: int | None = None
    extent: Literal["side", "masked"] = "side"
    divisor: Literal["steps", "levels"] = "steps"
    offsets: tuple[float, ...] = (0.0,)
    log_frac_bits: int = 7
    residual_bits: int = 8
    zero: Literal["smallest_positive"] = "smallest_positive"
    nibble_order: Literal["low_first", "high_first"] = "low_first"

    def __post_init__(self) -> None:
        for condition, words in _objections(self):
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    @property
    def levels(self) -> int:
        """Number of levels of one sign."""
        return 1 << (self.bits - 1)

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last block."""
        return -k % (self.block_size or 1)

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return codes, steps, zeros and, where there are several, the chosen offset of a tensor of that shape."""
        k = shape[-1]
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the blocks is empty")
        if self.padding(k):
            raise ValueError(
                f"format {self.name}: block size {self.block_size} does not divide the axis of {k}; pad it to "
                f"{k + self.padding(k)} and record the padding"
            )
        sides = (*shape[:-1], k // (self.block_size or k), 2)
        parts = [Part.code("codes", shape, self.bits), Part.code("scales", sides, 16), Part.code("zeros", sides, 16)]
        if len(self.offsets) > 1:
            parts.append(Part("offset", (), 32, np.dtype(np.float32), by_row=False))
        return tuple(parts)

    @property
    def max_value(self) -> float:
        """1: levels are what steps and zeros make of them."""
        return 1.0

    @property
    def min_step(self) -> float:
        """Unit of the logarithms."""
        return 2.0**-self.log_frac_bits

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes, steps, zeros and the offset."""
        least, chosen = math.inf, np.float32(self.offsets[0])
        if len(self.offsets) > 1:
            for offset in map(np.float32, self.offsets):
                errors = np.empty(x.shape[0])
                self._encode(x, offset, out, errors)
                total = 0.0
                for error in errors.tolist():
                    total += error
                if total < least:
                    least, chosen = total, offset
            out["offset"][...] = chosen
        self._encode(x, chosen, out, np.empty(0))

    def _encode(self, x: NDArray[np.float32], offset: np.float32, out: Parts, errors: NDArray[np.float64]) -> None:
        from hwsim.formats.families import _twinlog_kernels as kernels

        block = self.block_size or x.shape[1]
        borders, table = _borders(self.log_frac_bits), _powers(self.log_frac_bits, self.residual_bits)
        kernels.encode_twinlog(
            x,
            block,
            float(offset),
            self._rules(),
            borders,
            table,
            out["codes"],
            out["scales"],
            out["zeros"],
            errors,
        )

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k].

        Raises
        ------
        ValueError
            When steps and zeros make exponents beyond +-1000, or the offset is none of the format's.
        """
        from hwsim.formats.families import _twinlog_kernels as kernels

        offset = np.float32(parts["offset"][()] if len(self.offsets) > 1 else self.offsets[0])
        if offset not in [np.float32(each) for each in self.offsets]:
            raise ValueError(f"format {self.name}: the offset is {offset}, allowed {self.offsets}")
        bad = np.zeros(out.shape[0], np.uint8)
        kernels.decode_twinlog(
            parts["codes"],
            parts["scales"],
            parts["zeros"],
            self.block_size or out.shape[1],
            float(offset),
            self._rules(),
            _powers(self.log_frac_bits, self.residual_bits),
            out,
            bad,
        )
        if bad.any():
            raise ValueError(
                f"format {self.name}: row {int(np.argmax(bad))} holds a step and a zero that make exponents beyond "
                f"+-{kernels.WIDEST}"
            )

    def _rules(self) -> Rules:
        from hwsim.formats.families._twinlog_kernels import Rules

        divisor = self.levels - int(self.divisor == "steps")
        return Rules(self.levels, divisor, self.extent == "masked", self.log_frac_bits)


def power_of_fraction(numerator: int, frac_bits: int, places: int) -> int:
    """Return ``2**(numerator * 2**-frac_bits + places)`` rounded to the nearest integer, 0 <= numerator."""
    # Square roots that are each rounded down give the root of the whole rounded down.
    guard = 8
    root = 1 << (numerator + ((places + guard) << frac_bits))
    for _ in range(frac_bits):
        root = math.isqrt(root)
    return (root + (1 << (guard - 1))) >> guard


@cache
def _powers(frac_bits: int, places: int) -> NDArray[np.float64]:
    """Return the table of powers of the fractions, float64 [2**frac_bits]."""
    return np.array([power_of_fraction(r, frac_bits, places) * 2.0**-places for r in range(1 << frac_bits)])


@cache
def _borders(frac_bits: int) -> NDArray[np.float64]:
    """Return the powers half a unit above each fraction, rounded to float64, float64 [2**frac_bits]."""
    count = 1 << frac_bits
    return np.array([power_of_fraction(2 * j + 1, frac_bits + 1, 52) * 2.0**-52 for j in range(count)])


def _objections(spec: TwinLogSpec) -> list[tuple[bool, str]]:
    """Return (is it so, what to say) for everything that can be wrong with a format of twin logarithms."""
    size, offsets = spec.block_size, [float(np.float32(offset)) for offset in spec.offsets]
    return [
        (not 2 <= spec.bits <= 8, f"bits must be 2 .. 8, not {spec.bits}"),
        (size is not None and size < 1, f"block_size must be at least 1 or None, not {size}"),
        (not 0 <= spec.log_frac_bits <= 7, f"log_frac_bits must be 0 .. 7, not {spec.log_frac_bits}"),
        (not 1 <= spec.residual_bits <= 23, f"residual_bits must be 1 .. 23, not {spec.residual_bits}"),
        (
            not offsets or len(set(offsets)) < len(offsets) or any(not 0 <= offset < 2.0**64 for offset in offsets),
            f"offsets must be one or more different numbers of 0 .. 2**64, not {spec.offsets}",
        ),
        *(
            (getattr(spec, field) not in allowed, f"{field} must be one of {allowed}, not {getattr(spec, field)!r}")
            for field, allowed in _ALLOWED.items()
        ),
    ]
