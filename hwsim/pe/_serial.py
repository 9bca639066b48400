"""Units that take several cycles a beat: the same dot products as `_dot`, other hardware in front, and its schedule.

A beat taken in cycle t occupies the front for c enabled cycles, its `beat_cycles`; the next one can be taken in cycle
t + c. The result of a dot product's last beat stands at the output c - 1 + `latency` enabled cycles after it was taken.
What leaves the front is the exact sum of the beat's products, so that everything behind, and every bit, is that of
`_dot`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import Encoded
from hwsim.pe import _dot, _elements
from hwsim.pe.timing import unstalled_cycles

_CHUNK = 1 << 20
"""Lanes whose cycles are worked out together, where they depend on both operands."""


@dataclass(frozen=True)
class SerialSpec(_dot.DotSpec, ABC):
    """State the datapath of a serial unit; a unit's own kind says how long its beats take.

    Attributes
    ----------
    depends_on : {"none", "a", "b", "both"}
        Operands that decide how long a beat takes.
    """

    depends_on: ClassVar[Literal["none", "a", "b", "both"]] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beat_blocks > 1:
            raise ValueError(f"a serial unit takes one block a beat, not {self.beat_blocks}")
        if self.stages:
            raise ValueError(f"a serial unit has no further pipeline stages, not {self.stages}")

    @property
    def latency(self) -> int:
        """Cycles from the last beat to the result, for a beat of one cycle: one more than in parallel units."""
        return super().latency + 1

    @property
    @abstractmethod
    def most_beat_cycles(self) -> int:
        """Most cycles that a beat can take; of every beat, where operands do not matter."""

    def lane_cycles(self, a: NDArray[np.integer] | None, b: NDArray[np.integer] | None) -> NDArray[np.int64]:
        """Return the cycles of beats, int64 [beats], from their codes [beats, lanes]; None for a side without a say."""
        codes = b if a is None else a
        assert self.depends_on == "none" and codes is not None
        return np.full(len(codes), self.most_beat_cycles, np.int64)

    def beat_cycles(self, beats: Mapping[str, NDArray[np.integer]]) -> NDArray[np.int64]:
        """Return the cycles that each beat occupies the front, int64 [beats], at least 1."""
        return self.lane_cycles(beats["a"], beats["b"])


class SerialParams(Protocol):
    """Params of a serial unit."""

    unit: ClassVar[str]
    """The unit's name, with which its errors begin."""

    @property
    def datapath(self) -> Any:
        """The unit's `SerialSpec`."""
        ...


def cycles(m: int, n: int, k: int, params: SerialParams) -> int:
    """Return the cycles of one unit for M x N dot products of length K, without stalls.

    Where operands decide, it is the most that they can take; `operand_cycles` counts those that they do take.
    """
    spec: SerialSpec = params.datapath
    beats = m * n * _dot.beats_per_dot(k, spec)
    return unstalled_cycles([beats * spec.most_beat_cycles], spec.latency)


def operand_cycles(a: Encoded, b: Encoded, params: SerialParams) -> int:
    """Return the cycles of one unit for all dot products of rows of A [M, K] and of B [N, K], without stalls.

    Exactness
    ---------
    The cycles that the hardware takes for these operands, dot products back to back in any order.

    Raises
    ------
    ValueError
        When the operands do not match the unit.
    """
    spec: SerialSpec = params.datapath
    _dot.check_operands(a, b, spec, params.unit)
    sides = {name: _beats_of(operand, spec) for name, operand in (("a", a), ("b", b))}
    m, n = a.codes.shape[0], b.codes.shape[0]
    if spec.depends_on == "none":
        return cycles(m, n, a.k, params)
    if spec.depends_on == "both":
        busy = _of_pairs(sides["a"].reshape(m, -1, spec.lanes), sides["b"].reshape(n, -1, spec.lanes), spec)
    elif spec.depends_on == "a":
        busy = n * int(spec.lane_cycles(sides["a"], None).sum())
    else:
        busy = m * int(spec.lane_cycles(None, sides["b"]).sum())
    return unstalled_cycles([busy], spec.latency)


def _beats_of(operand: Encoded, spec: SerialSpec) -> NDArray[np.integer]:
    """Return the codes of every beat of an operand, [rows * beats, lanes]."""
    length = _dot.beats_per_dot(operand.k, spec) * spec.lanes
    return _dot.filled(operand.codes, length).reshape(-1, spec.lanes)


def _of_pairs(a: NDArray[np.integer], b: NDArray[np.integer], spec: SerialSpec) -> int:
    """Return the cycles of all pairs of rows: beats [M, beats, lanes] and [N, beats, lanes]."""
    step, total = max(_CHUNK // b.size, 1), 0
    for first in range(0, len(a), step):
        part = a[first : first + step]
        pairs = (len(part), *b.shape)
        left, right = np.broadcast_to(part[:, None], pairs), np.broadcast_to(b[None], pairs)
        total += int(spec.lane_cycles(left.reshape(-1, spec.lanes), right.reshape(-1, spec.lanes)).sum())
    return total


def integers(name: str, codes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the integers of codes of an element."""
    return np.array(_elements.integers(name), np.int64)[codes]
