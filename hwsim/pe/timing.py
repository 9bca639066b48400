"""The handshake of every unit, in cycles: a pipeline that stalls as a whole."""

from __future__ import annotations

from collections.abc import Iterable


class StallPipe:
    """Step a fixed-latency pipeline with one global enable, as the RTL wraps its core.

    The pipeline moves when its result is absent or taken: ``enable = not out_valid or out_ready``, and that is also
    ``in_ready``. Only beats marked `last` produce results.

    Parameters
    ----------
    latency : int
        Cycles from the acceptance of a `last` beat to its (first) result (at least 1).
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

    @property
    def out_valid(self) -> bool:
        """Whether a result stands at the output in this cycle."""
        return self._results[-1]

    def step(self, in_valid: bool, in_last: bool, out_ready: bool) -> tuple[bool, bool]:
        """Advance one cycle with the given inputs; return (in_ready, out_valid) as they stood in it."""
        out_valid = self.out_valid
        enable = not out_valid or out_ready
        if enable:
            self._results = [False, *self._results[:-1]]
            if in_valid and in_last:
                self._results[: len(self._burst)] = self._burst
        return enable, out_valid

    def reset(self) -> None:
        """Empty the pipeline."""
        self._results = [False] * len(self._results)


def unstalled_cycles(beats: Iterable[int], latency: int, results: int = 1) -> int:
    """Return cycles from the first beat to the last result for transactions of the given beats, without stalls.

    One beat enters a cycle; the first result of the last beat stands at the output `latency` cycles after it entered,
    the last of its `results` in the cycle counted last.
    """
    total = sum(beats)
    return total + latency + results - 1 if total else 0
