"""The handshake of every unit, in cycles: a pipeline that stalls as a whole."""

from __future__ import annotations

from collections.abc import Iterable


class StallPipe:
    """Step a fixed-latency pipeline with one global enable, as the RTL wraps its core.

    The pipeline moves when its result is absent or taken: ``enable = not out_valid or out_ready``. A beat occupies the
    front for one enabled cycle or, in a serial unit, for several; in the last of them the next beat can be taken:
    ``in_ready = enable and not busy``. Only beats marked `last` produce results.

    Parameters
    ----------
    latency : int
        Cycles from the acceptance of a `last` beat to its (first) result (at least 1), for a beat of one cycle; each
        further cycle of that beat adds one.
    results : int
        Results of a `last` beat (at least 1); they follow each other without a gap. A transaction has at least as many
        beats, so those of two transactions never meet.
    """

    def __init__(self, latency: int, results: int = 1) -> None:
        if latency < 1:
            raise ValueError(f"latency must be at least 1 cycle, not {latency}")
        if results < 1:
            raise ValueError(f"a last beat has at least 1 result, not {results}")
        self._results = [False] * (latency + results - 1)
        self._burst = [True] * results
        self._busy = 0  # enabled cycles until the next beat can be taken
        self._ends = False  # the beat in the front is a last one

    @property
    def out_valid(self) -> bool:
        """Whether a result stands at the output in this cycle."""
        return self._results[-1]

    def step(self, in_valid: bool, in_last: bool, out_ready: bool, beat_cycles: int = 1) -> tuple[bool, bool]:
        """Advance one cycle with the given inputs; return (in_ready, out_valid) as they stood in it.

        `beat_cycles` says how long the beat at the input, if it is taken, occupies the front.
        """
        out_valid = self.out_valid
        enable = not out_valid or out_ready
        ready = enable and self._busy == 0
        if enable:
            self._results = [False, *self._results[:-1]]
            if self._busy:
                self._busy -= 1
            elif in_valid:
                self._busy, self._ends = beat_cycles - 1, in_last
            if self._busy == 0 and self._ends:
                self._results[: len(self._burst)] = self._burst
                self._ends = False
        return ready, out_valid

    def reset(self) -> None:
        """Empty the pipeline."""
        self._results = [False] * len(self._results)
        self._busy, self._ends = 0, False


def unstalled_cycles(beats: Iterable[int], latency: int, results: int = 1) -> int:
    """Return cycles from the first beat to the last result for transactions of the given beats, without stalls.

    `beats` counts the cycles that a transaction's beats occupy the front: one each, but in serial units. The first
    result of the last beat stands at the output `latency` cycles after its last cycle there, the last of its `results`
    in the cycle counted last.
    """
    total = sum(beats)
    return total + latency + results - 1 if total else 0
