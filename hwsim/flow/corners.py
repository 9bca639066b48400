"""Dot products at the corners of formats: where special values meet, sums vanish, and roundings are nearly missed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import Encoded, FloatSpec, element_values

CORNERS = ("zero_block", "largest", "infinities", "nan", "apart", "subnormal", "cancel", "sticky")
"""What rows hold, one after the other.

- ``zero_block``: a block of zeros on one side, between others.
- ``largest``: all elements the largest, of either sign, under the largest scale or one.
- ``infinities``: infinities of both signs, in one block or in two; where elements have none, the largest products of
  either sign under the largest scales.
- ``nan``: one element, or one scale, that is NaN; where there is none, as ``largest``.
- ``apart``: the largest product under the largest scales beside the smallest under the smallest, in one block or two.
- ``subnormal``: subnormal (else: smallest) elements under the smallest scales or one.
- ``cancel``: a block and its negative, then the smallest product.
- ``sticky``: a sum of powers of two with an even or odd last place, then half of one: alone (a tie), or a little more
  or less. Where scales and elements do not reach that far, as ``cancel``.
"""
BLOCKS = 3
"""Blocks of each dot product."""
_TABLE_BITS = 16
_TRIES = 4096
"""Products of powers of two among which those of ``sticky`` are looked for."""


@dataclass(frozen=True)
class Codes:
    """Codes of a number format by what they are worth.

    Attributes
    ----------
    codes, values : int64 [n], float64 [n]
        Codes of at most `_TABLE_BITS` bits all; of wider floats those that matter here.
    """

    codes: NDArray[np.int64]
    values: NDArray[np.float64]

    def of(self, value: float) -> int:
        """Return a code of this value."""
        return int(self.codes[np.flatnonzero(self.values == value)[0]])

    @property
    def finite(self) -> NDArray[np.float64]:
        """All finite values."""
        return self.values[np.isfinite(self.values)]

    @property
    def top(self) -> float:
        """Largest finite value."""
        return float(self.finite.max())

    @property
    def bottom(self) -> float:
        """Smallest finite value: the most negative."""
        return float(self.finite.min())

    @property
    def step(self) -> float:
        """Smallest positive value."""
        return float(self.finite[self.finite > 0].min())

    @property
    def nans(self) -> NDArray[np.int64]:
        """Codes that are NaN."""
        return self.codes[np.isnan(self.values)]

    @property
    def infinities(self) -> list[int]:
        """Codes of +Inf and -Inf; none where one is missing."""
        found = [np.flatnonzero(self.values == value) for value in (np.inf, -np.inf)]
        return [int(self.codes[places[0]]) for places in found] if all(map(len, found)) else []

    def powers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the codes of positive powers of two, and their exponents."""
        positive = np.isfinite(self.values) & (self.values > 0)
        fraction, exponent = np.frexp(np.where(positive, self.values, 3.0))
        which = positive & (fraction == 0.5)
        return self.codes[which], exponent[which].astype(np.int64) - 1

    def paired(self) -> NDArray[np.int64]:
        """Return the codes, not zero, whose negative is a code too."""
        finite = np.isfinite(self.values) & (self.values != 0)
        return self.codes[finite & np.isin(-self.values, self.values)]

    def negated(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the codes of the negatives of `paired` codes."""
        order = np.argsort(self.codes)
        values = self.values[order[np.searchsorted(self.codes[order], codes)]]
        by_value = np.argsort(self.values, kind="stable")  # NaN last
        return self.codes[by_value[np.searchsorted(self.values[by_value], -values)]]


@cache
def codes_of(spec: Any) -> Codes:
    """Return the codes of an element or a scale."""
    if spec.bits <= _TABLE_BITS:
        return Codes(np.arange(1 << spec.bits), np.asarray(element_values(spec), np.float64) + 0.0)
    assert isinstance(spec, FloatSpec) and spec.bits == 32, spec.name
    fields = np.arange(0, 256) << 23
    sizes = np.unique(np.concatenate([fields, fields[1:] - 1, [1, 2, 3, 0x7FC00000], fields[:255] + 0x2AAAAA]))
    codes = np.concatenate([sizes, sizes | 1 << 31])
    with np.errstate(invalid="ignore"):
        return Codes(codes, codes.astype(np.uint32).view(np.float32).astype(np.float64) + 0.0)


@dataclass
class _Side:
    """One operand in the making: element codes [rows, BLOCKS, size], scale codes [rows, BLOCKS]."""

    spec: Any
    elements: Codes
    scale: Codes | None
    codes: NDArray[np.int64]
    scales: NDArray[np.int64]

    @property
    def one(self) -> int:
        """Code of the scale that is one, or the nearest."""
        assert self.scale is not None
        finite = np.isfinite(self.scale.values)
        return int(self.scale.codes[np.argmin(np.where(finite, np.abs(self.scale.values - 1), np.inf))])

    def set_scale(self, rows: Any, value: str) -> None:
        """Set scales of whole rows, or of blocks [rows, block]: ``top``, ``step`` (the smallest) or ``one``."""
        if self.scale is not None:
            self.scales[rows] = self.one if value == "one" else self.scale.of(getattr(self.scale, value))


def corner_pair(
    rng: np.random.Generator, rows: int, size: int, activations: Any, weights: Any, precision: int
) -> tuple[Encoded, Encoded]:
    """Make operands [rows, `BLOCKS` * size] of dot products at corners, row i of A with row i of B.

    Parameters
    ----------
    size : int
        Elements of a block, or products of a beat.
    activations, weights : formats of the units, with an ``element`` and perhaps a ``scale``
    precision : int
        Significant bits of the accumulator, for ``sticky``.

    Row i is of kind ``CORNERS[i % len(CORNERS)]``. Scales of rows and tensors are one, zero points zero, shifts drawn.
    """
    sides = [_side(rng, spec, rows, size) for spec in (activations, weights)]
    for number, kind in enumerate(CORNERS):
        which = np.arange(number, rows, len(CORNERS))
        if which.size:
            _MAKERS[kind](rng, which, sides, precision)
    return _encoded(rng, sides[0]), _encoded(rng, sides[1])


def _side(rng: np.random.Generator, spec: Any, rows: int, size: int) -> _Side:
    """Return a side of random finite elements under scales of one."""
    elements = codes_of(spec.element)
    scale = getattr(spec, "scale", None)
    known = codes_of(scale) if scale is not None and scale.bits <= _TABLE_BITS else None
    finite = elements.codes[np.isfinite(elements.values)]
    side = _Side(spec, elements, known, rng.choice(finite, (rows, BLOCKS, size)), np.zeros((rows, BLOCKS), np.int64))
    side.set_scale(slice(None), "one")
    return side


def _clear(side: _Side, rows: NDArray[np.int64]) -> None:
    side.codes[rows] = side.elements.of(0.0)


def _zero_block(rng: np.random.Generator, rows: NDArray[np.int64], sides: list[_Side], precision: int) -> None:
    for side, own in zip(sides, (rows[::2], rows[1::2]), strict=True):
        side.codes[own, rng.integers(BLOCKS, size=len(own))] = side.elements.of(0.0)


def _largest(rng: np.random.Generator, rows: NDArray[np.int64], sides: list[_Side], precision: int) -> None:
    for side in sides:
        ends = np.array([side.elements.of(side.elements.top), side.elements.of(side.elements.bottom)])
        side.codes[rows] = rng.choice(ends, (len(rows), 1, 1))
        side.set_scale(rows[rng.integers(2, size=len(rows)) == 0], "top")


def _infinities(rng: np.random.Generator, rows: NDArray[np.int64], sides: list[_Side], precision: int) -> None:
    able = [number for number, side in enumerate(sides) if side.elements.infinities]
    other = np.arange(len(rows)) % 2  # block of the second one
    last = sides[0].codes.shape[2] - 1  # and its lane; blocks of one element need another block
    other = other if last else np.ones_like(other)
    chosen = rng.choice(able, len(rows)) if able else np.full(len(rows), 0)
    signs = rng.integers(2, size=len(rows))
    for number, side in enumerate(sides):
        elements = side.elements
        one = elements.of(elements.step)
        ends = elements.infinities or [elements.of(elements.top), elements.of(elements.bottom)]
        mine = chosen == number
        side.codes[rows] = np.where(rng.integers(4, size=side.codes[rows].shape) == 0, one, elements.of(0.0))
        pair = np.array(ends)
        first, second = np.where(mine, pair[signs], one), np.where(mine, pair[1 - signs], one)
        if not able:  # products that overflow
            top = elements.of(elements.top)
            first, second = np.where(mine, first, top), np.where(mine, second, top)
            side.set_scale(rows, "top")
        side.codes[rows, 0, 0] = first
        side.codes[rows, other, last] = second


def _nan(rng: np.random.Generator, rows: NDArray[np.int64], sides: list[_Side], precision: int) -> None:
    kinds = [(side, level) for side in sides for level in ("element", "scale") if len(_nans(side, level))]
    if not kinds:
        _largest(rng, rows, sides, precision)
        return
    for number, (side, level) in enumerate(kinds):
        own = rows[number :: len(kinds)]
        block = rng.integers(BLOCKS, size=len(own))
        codes = rng.choice(_nans(side, level), len(own))
        if level == "scale":
            side.scales[own, block] = codes
        else:
            side.codes[own, block, rng.integers(side.codes.shape[2], size=len(own))] = codes


def _nans(side: _Side, level: str) -> NDArray[np.int64]:
    table = side.elements if level == "element" else side.scale
    return np.empty(0, np.int64) if table is None else table.nans


def _apart(rng: np.random.Generator, rows: NDArray[np.int64], sides: list[_Side], precision: int) -> None:
    within, turned = rows[::2], rows[1::4]
    for side in sides:
        elements = side.elements
        top, step = elements.of(elements.top), elements.of(elements.step)
        _clear(side, rows)
        side.codes[rows, 0, 0], side.codes[rows, 1, 0] = top, step
        side.codes[within, 0, -1] = step if side.codes.shape[2] > 1 else top
        for block, value in ((0, "top"), (1, "step")):
            side.set_scale((rows, block), value)
        side.codes[turned] = side.codes[turned, ::-1]
        side.scales[turned] = side.scales[turned, ::-1]
    if sides[0].elements.bottom < 0:  # and of the other sign
        some = rows[rng.integers(2, size=len(rows)) == 0]
        elements = sides[0].elements
        codes = sides[0].codes[some]
        sides[0].codes[some] = np.where(codes == elements.of(elements.top), elements.of(elements.bottom), codes)


def _subnormal(rng: np.random.Generator, rows: NDArray[np.int64], sides: list[_Side], precision: int) -> None:
    for side in sides:
        elements, spec = side.elements, side.spec.element
        sizes = np.abs(elements.values)
        normal = 2.0 ** (1 - spec.bias) if isinstance(spec, FloatSpec) and spec.subnormals else 0.0
        limit = max(normal, 2 * elements.step)  # below it
        few = elements.codes[(sizes > 0) & (sizes < limit)]
        side.codes[rows] = rng.choice(few, side.codes[rows].shape)
        side.set_scale(rows[rng.integers(4, size=len(rows)) > 0], "step")


def _cancel(rng: np.random.Generator, rows: NDArray[np.int64], sides: list[_Side], precision: int) -> None:
    a, b = sides
    signed, other = (a, b) if len(a.elements.paired()) else (b, a)
    codes = rng.choice(signed.elements.paired(), signed.codes[rows, 0].shape)
    signed.codes[rows, 0], signed.codes[rows, 1] = codes, signed.elements.negated(codes)
    other.codes[rows, 1] = other.codes[rows, 0]
    for side in sides:
        side.codes[rows, 2] = side.elements.of(0.0)
        side.codes[rows, 2, 0] = side.elements.of(side.elements.step)
        side.set_scale((rows[::2], 2), "step")


def _sticky(rng: np.random.Generator, rows: NDArray[np.int64], sides: list[_Side], precision: int) -> None:
    tables = [table for side in sides for table in (side.elements, side.scale)]
    drawn, total = [], np.zeros(_TRIES, np.int64)
    for table in tables:
        codes, exponents = table.powers() if table is not None else (np.zeros(1, np.int64), np.zeros(1, np.int64))
        at = rng.integers(len(codes), size=_TRIES)
        drawn.append(codes[at])
        total += exponents[at]
    order = np.argsort(total, kind="stable")
    sums = total[order]

    def find(exponents: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return for each exponent a product of it, and whether there is one."""
        low, high = np.searchsorted(sums, exponents), np.searchsorted(sums, exponents, "right")
        at = low + (rng.random(len(exponents)) * (high - low)).astype(np.int64)
        return order[np.minimum(at, _TRIES - 1)], high > low

    reachable = np.flatnonzero(find(total - precision)[1] & find(total - precision + 1)[1])
    if not len(reachable):
        _cancel(rng, rows, sides, precision)
        return
    first = rng.choice(reachable, len(rows))
    odd, half = (find(total[first] - gap)[0] for gap in (precision - 1, precision))
    for number, side in enumerate(sides):
        _clear(side, rows)
        for block, which in enumerate((first, odd, half)):
            side.codes[rows, block, 0] = drawn[2 * number][which]
            if side.scale is not None:
                side.scales[rows, block] = drawn[2 * number + 1][which]
    even = rows[rng.integers(2, size=len(rows)) == 0]
    sides[0].codes[even, 1] = sides[0].elements.of(0.0)
    a = sides[0].elements
    if sides[0].codes.shape[2] > 1:  # a little beside the half
        more = rows[rng.integers(3, size=len(rows)) > 0]
        signs = [a.of(a.step)] + ([a.of(-a.step)] if -a.step in a.values else [])
        sides[0].codes[more, 2, -1] = rng.choice(signs, len(more))
        sides[1].codes[more, 2, -1] = sides[1].elements.of(sides[1].elements.step)


_MAKERS = {
    "zero_block": _zero_block, "largest": _largest, "infinities": _infinities, "nan": _nan, "apart": _apart,
    "subnormal": _subnormal, "cancel": _cancel, "sticky": _sticky,
}  # fmt: skip
_NEUTRAL = {"tensor_scale": 1, "row_scales": 0x3F800000, "zeros": 0, "groups": 0, "redundant": 0, "constants": 0}


def _encoded(rng: np.random.Generator, side: _Side) -> Encoded:
    rows, blocks, size = side.codes.shape
    shape = (rows, blocks * size)
    parts: dict[str, NDArray[Any]] = {}
    for part in side.spec.layout(shape):
        if part.name == "codes":
            values: Any = side.codes.reshape(shape)
        elif part.name == "scales" and side.scale is not None:
            values = side.scales
        elif part.name == "scales":
            values = 0x3F800000  # FP32
        elif part.name in ("shifts", "selectors"):
            values = rng.integers(0, 1 << part.bits, part.shape)
        elif part.name == "row_scales" and part.bits == 16:
            values = 0x3C00
        else:
            values = _NEUTRAL[part.name]
        parts[part.name] = np.broadcast_to(np.asarray(values), part.shape).astype(part.dtype)
    return Encoded(side.spec, parts)


__all__ = ["BLOCKS", "CORNERS", "Codes", "codes_of", "corner_pair"]
