"""The handshake of every unit, in cycles: a pipeline that stalls as a whole."""

from __future__ import annotations

from collections.abc import Iterable


class StallPipe:
    """Step a fixed-latency pipeline with one global enable, as the RTL wraps its core.

    The pipeline moves when its result is absent or taken: ``enable = not out_valid or out_ready``, and that is also
    ``in_ready``. Only beats marked `last` produce a result.

    Parameters
    ----------
    latency : int
        Cycles from the acceptance of a `last` beat to its result (at least 1).
    """

    def __init__(self, latency: int) -> None:
        if latency < 1:
            raise ValueError(f"latency must be at least 1 cycle, not {latency}")
        self._results = [False] * latency

    @property
    def out_valid(self) -> bool:
        """Whether a result stands at the output in this cycle."""
        return self._results[-1]

    def step(self, in_valid: bool, in_last: bool, out_ready: bool) -> tuple[bool, bool]:
        """Advance one cycle with the given inputs; return (in_ready, out_valid) as they stood in it."""
        out_valid = self.out_valid
        enable = not out_valid or out_ready
        if enable:
            self._results = [in_valid and in_last, *self._results[:-1]]
        return enable, out_valid

    def reset(self) -> None:
        """Empty the pipeline."""
        self._results = [False] * len(self._results)


def unstalled_cycles(beats: Iterable[int], latency: int) -> int:
    """Return cycles from the first beat to the last result for dot products of the given beats, without stalls.

    One beat enters a cycle; the result of the last beat stands at the output `latency` cycles after it entered, in the
    cycle counted last.
    """
    total = sum(beats)
    return total + latency if total else 0
