"""Make a failing test case small: fewer dot products, fewer beats, fewer lanes in use, no stalls where none matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rtl.sim.bulk_case import Case
from rtl.sim.job import ALWAYS, Pass, Willing
from rtl.sim.judge import Verdict
from rtl.sim.payload import Beats
from rtl.sim.stalls import patience_cycles

_MAX_TRIALS = 2000
LONGEST_BEAT_CYCLES = 64
"""More than a beat occupies any unit: two 8-bit operands, bit by bit."""
_ALL, _SELDOM = np.array([True]), np.array([False, False, False, True])
_SIMPLE = (ALWAYS, Willing(_ALL, _SELDOM), Willing(_SELDOM, _ALL), Willing(_SELDOM, np.array([False, True])))
"""Stalls that are easy to read, tried before those of the failing pass."""


@dataclass
class Minimiser:
    """Try smaller cases and keep those that still fail.

    Attributes
    ----------
    verdict_of : callable
        Runs a case.
    reference : callable
        Bits of the results of a dot product (transaction), by the plain model.
    results : int
        Results of a dot product.
    block_beats : int
        Beats that can be left out together.
    zeros : mapping
        Code of zero for every field with one code a lane.
    trials : int
        Cases run so far; there is a limit.
    """

    verdict_of: Callable[[Case], Verdict]
    reference: Callable[[Beats], Sequence[int]]
    results: int
    block_beats: int
    zeros: Mapping[str, int]
    trials: int = 0

    def minimise(self, case: Case, vector: int) -> Case:
        """Return a small case that fails, made from one whose first mismatch is at the result ``vector``.

        Bits that the plain reference does not give are not hardware's fault: then the dot products stay as they are.
        """
        small = self._shortest(case, vector)
        if small is None:
            return case  # needs its reset, or what follows the mismatch
        small = self._greedy(small, self._fewer_dots)
        if all(self._bits(small, number) == tuple(self.reference(dot)) for number, dot in enumerate(small.dots)):
            small = self._greedy(small, self._fewer_beats)
            small = self._greedy(small, self._fewer_lanes)
            small = self._greedy(small, self._emptier_beats)
        return self._shorter_stalls(small)

    def _bits(self, case: Case, number: int) -> tuple[int, ...]:
        """Return the expected results of a dot product."""
        return case.expected[number * self.results : (number + 1) * self.results]

    def _fails(self, case: Case) -> bool:
        self.trials += 1
        return self.trials <= _MAX_TRIALS and self.verdict_of(case).first is not None

    def _shortest(self, case: Case, vector: int) -> Case | None:
        """Find the shortest stretch that ends with the failing dot product and fails from reset."""
        end = min(vector // self.results, len(case.dots) - 1) + 1
        for willing in (*_SIMPLE, case.willing):
            length = 1
            while length < 2 * end:
                part = slice(max(end - length, 0), end)
                bits = case.expected[part.start * self.results : end * self.results]
                candidate = _from_reset(case, case.dots[part], bits, willing)
                if self._fails(candidate):
                    return candidate
                length *= 2
        return None

    def _greedy(self, case: Case, smaller: Callable[[Case], Iterator[Case]]) -> Case:
        """Take the first smaller case that fails, and go on from it, until none does."""
        found: Case | None = case
        while found is not None:
            case = found
            found = next((candidate for candidate in smaller(case) if self._fails(candidate)), None)
        return case

    def _fewer_dots(self, case: Case) -> Iterator[Case]:
        for number in range(len(case.dots) if len(case.dots) > 1 else 0):
            dots = [*case.dots[:number], *case.dots[number + 1 :]]
            expected = [*case.expected[: number * self.results], *case.expected[(number + 1) * self.results :]]
            yield _from_reset(case, dots, expected, case.willing)

    def _fewer_beats(self, case: Case) -> Iterator[Case]:
        for number, dot in enumerate(case.dots):
            count = len(dot["last"])
            for start in range(0, count if count > self.block_beats else 0, self.block_beats):
                kept = [beat for beat in range(count) if not start <= beat < start + self.block_beats]
                shorter = {name: np.asarray(values)[kept] for name, values in dot.items()}
                shorter["last"] = np.array([0] * (len(kept) - 1) + [1])
                yield self._with_dots(case, {number: shorter})

    def _fewer_lanes(self, case: Case) -> Iterator[Case]:
        names = [name for name in self.zeros if name in case.dots[0]]
        lanes = np.asarray(case.dots[0][names[0]]).shape[1] if names else 0
        size = lanes
        while size:
            for first in range(0, lanes, size):
                changed = {
                    number: self._emptied(dot, slice(None), slice(first, first + size))
                    for number, dot in enumerate(case.dots)
                }
                if any(_differ(changed[number], dot) for number, dot in enumerate(case.dots)):
                    yield self._with_dots(case, changed)
            size //= 2

    def _emptier_beats(self, case: Case) -> Iterator[Case]:
        for number, dot in enumerate(case.dots):
            for beat in range(len(dot["last"])):
                emptied = self._emptied(dot, slice(beat, beat + 1), slice(None))
                if _differ(emptied, dot):
                    yield self._with_dots(case, {number: emptied})

    def _emptied(self, dot: Beats, beats: slice, lanes: slice) -> dict[str, Any]:
        changed = {name: np.array(values) for name, values in dot.items()}
        for name, zero in self.zeros.items():
            if name in changed:
                changed[name][beats, lanes] = zero
        return changed

    def _with_dots(self, case: Case, changed: Mapping[int, Beats]) -> Case:
        dots = tuple(changed.get(number, dot) for number, dot in enumerate(case.dots))
        expected: list[int] = []
        for number, dot in enumerate(dots):
            expected += self.reference(dot) if number in changed else self._bits(case, number)
        return _from_reset(case, dots, expected, case.willing)

    def _shorter_stalls(self, case: Case) -> Case:
        """Cut the patterns after the mismatch: the rest is never used."""
        first = self.verdict_of(case).first
        assert first is not None
        if any(case.willing is simple for simple in _SIMPLE):
            return case
        willing = Willing(*(side[: first.cycle + 1] for side in (case.willing.offer, case.willing.take)))
        if not (willing.offer.any() and willing.take.any()):
            return case
        shorter = replace(case, willing=willing)
        return shorter if self._fails(shorter) else case


def _differ(left: Beats, right: Beats) -> bool:
    return any((np.asarray(left[name]) != np.asarray(right[name])).any() for name in left)


def _from_reset(case: Case, dots: Sequence[Beats], expected: Sequence[int], willing: Willing) -> Case:
    beats = sum(len(dot["last"]) for dot in dots)
    plan = Pass(
        first=0,
        end=beats,
        outputs=len(expected),
        max_cycles=patience_cycles(LONGEST_BEAT_CYCLES * beats + len(expected)),
    )
    return replace(case, dots=tuple(dots), expected=tuple(expected), plan=plan, willing=willing)
