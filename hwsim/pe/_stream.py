"""What units that stream vectors share: the datapath's facts as the bench needs them, and floats at their corners.

Such a unit takes a transaction as a list of beats and answers with a list of results, each a payload of its own layout.
Beats and results are mappings from a field's name to integers [beats, count], bit patterns of the field's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwsim.pe.timing import unstalled_cycles

Fields = dict[str, NDArray[np.integer]]
"""Integers by field: [beats, count] for arrays, else [beats]."""


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """State what a unit's streams carry and when.

    Attributes
    ----------
    lanes : int
        Values a beat.
    beats : int
        Beats of a transaction; the last one is marked ``last``.
    results : int
        Results of a transaction.
    latency : int
        Cycles from the last beat to the first result; the others follow without a gap.
    inputs, outputs : tuple of (name, bits, count)
        Fields of a beat, ``last`` left out, and of a result, least significant first.
    restarts : bool
        Whether a reset brings back a state that lives longer than a transaction.
    """

    lanes: int
    beats: int
    results: int
    latency: int
    inputs: tuple[tuple[str, int, int], ...]
    outputs: tuple[tuple[str, int, int], ...]
    restarts: bool = False

    def layout(self) -> tuple[tuple[str, int, int], ...]:
        """Return the fields of a beat as (name, bits, count), in the order of the payload, least significant first."""
        return (*self.inputs, ("last", 1, 1))

    def beat_cycles(self, beats: Mapping[str, NDArray[np.integer]]) -> None:
        """Return the cycles that each beat occupies the unit's front; None: one each."""

    def cycles(self, transactions: int) -> int:
        """Return the cycles from the first beat to the last result of transactions back to back, without stalls."""
        return unstalled_cycles([transactions * self.beats], self.latency, self.results)

    def last(self, transactions: int) -> NDArray[np.uint8]:
        """Return the marks of the last beats, uint8 [beats]."""
        return np.tile((np.arange(self.beats) == self.beats - 1).astype(np.uint8), transactions)


def to_signed(codes: NDArray[np.integer], bits: int) -> NDArray[np.int64]:
    """Return the integers of two's complement bit patterns."""
    integers = np.asarray(codes, np.int64)
    return np.where(integers >> (bits - 1) & 1, integers - (1 << bits), integers)


def to_pattern(integers: NDArray[np.integer], bits: int) -> NDArray[np.int64]:
    """Return the two's complement bit patterns of integers that fit them."""
    return np.asarray(integers, np.int64) & ((1 << bits) - 1)


def split(fields: Mapping[str, NDArray[np.integer]], length: int) -> list[Fields]:
    """Cut fields into transactions of `length` beats."""
    count = len(next(iter(fields.values()))) // length
    return [{name: values[i * length : (i + 1) * length] for name, values in fields.items()} for i in range(count)]


def corner_float32(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Draw finite float32 rows: most with magnitudes as data has them, others where encoders err.

    By rows: normal data with outliers under any exponent; values of few significant bits, which are ties of narrow
    formats; their neighbours, away by a unit in the last place or by another low bit; zeros of both signs; subnormals;
    and any bits.
    """
    rows = shape[0]
    kind = rng.integers(8, size=(rows, 1))
    exponent = np.where(rng.integers(4, size=(rows, 1)) == 0, rng.choice([0, 1, 2, 20, 230, 254], (rows, 1)), 127)
    exponent = np.clip(exponent + rng.integers(-12, 13, shape) * rng.integers(0, 2, (rows, 1)), 0, 254)
    mantissa = rng.integers(1 << 23, size=shape)
    coarse = mantissa >> (keep := rng.integers(17, 23, shape)) << keep
    nudge = (rng.integers(-1, 2, shape) << rng.integers(0, 1 + keep * rng.integers(2, size=shape))) * (kind == 2)
    bits = (exponent << 23) + np.where((kind == 1) | (kind == 2), coarse, mantissa) + nudge
    bits = np.where(kind == 3, np.where(rng.random(shape) < 0.1, bits, 0), bits)
    bits = np.where(kind == 4, mantissa >> rng.integers(0, 23, shape), bits)
    bits = np.where(kind == 5, rng.integers(0, 255 << 23, shape), bits)
    normal = (rng.standard_normal(shape) * np.exp2(rng.integers(-20, 20, (rows, 1)))).astype(np.float32)
    outlier = np.where(rng.random(shape) < 0.03, np.float32(300), np.float32(1))
    bits = np.where(kind >= 6, (normal * outlier).view(np.uint32).astype(np.int64), bits)
    bits = np.clip(bits & 0x7FFFFFFF, 0, (255 << 23) - 1) | rng.integers(2, size=shape) << 31
    bits[(rng.random(rows) < 0.02)] &= 1 << 31
    return bits.astype(np.uint32).view(np.float32)
