"""Hold a record of the hardware against the model."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from hwsim.pe.timing import StallPipe
from rtl.sim.job import I_READY, I_VALID, O_READY, O_VALID, RESET, Pass, Record


@dataclass(frozen=True)
class Mismatch:
    """The first difference between hardware and model in one pass.

    Attributes
    ----------
    cycle : int
        Cycle of the pass, counted from the first one after the reset.
    what : str
        ``bits``, ``i_ready``, ``o_valid`` or ``missing`` (a result that never came).
    vector : int
        Dot product that was at the output, or would have been next.
    expected, found : int or None
        Output bits, or handshake bit.
    """

    cycle: int
    what: str
    vector: int
    expected: int | None
    found: int | None

    def __str__(self) -> str:
        expected, found = ("none" if bits is None else f"{bits:#x}" for bits in (self.expected, self.found))
        return f"cycle {self.cycle}, dot product {self.vector}: {self.what} should be {expected}, is {found}"


@dataclass(frozen=True)
class Verdict:
    """Outcome of one pass.

    Attributes
    ----------
    vectors, mismatches : int
        Results due, and how many of them had other bits (at any time while they stood there) or never came.
    cycles : int
        From the first beat taken to the last result taken, both counted.
    cycle_mismatches : int
        Cycles in which ``i.ready`` or ``o.valid`` differed from the model's.
    first : Mismatch or None
    """

    vectors: int
    mismatches: int
    cycles: int
    cycle_mismatches: int
    first: Mismatch | None


class _Walk:
    """Walk through a record with the model at its side."""

    def __init__(
        self, plan: Pass, ends: Sequence[int], expected: Sequence[int], latency: int, results: int,
        beat_cycles: Sequence[int] | None,
    ) -> None:  # fmt: skip
        self.plan, self.ends, self.expected, self.results = plan, ends, expected, results
        self.pipe, self.last_beats = StallPipe(latency, results), set(ends)
        self.beat_cycles = beat_cycles
        self.position, self.vector = plan.first, 0
        self.vectors = self.mismatches = self.cycle_mismatches = 0
        self.span: tuple[int, int] | None = None
        self.spoilt = False  # the result at the output has been wrong in some cycle
        self.first: Mismatch | None = None

    def step(self, cycle: int, entry: int, payload: int | None) -> None:
        """Check one cycle; ``payload`` is None without o.valid."""
        taken_in = bool(entry & I_VALID and entry & I_READY)
        self.check_handshake(cycle, entry)
        if payload is not None:
            self.check_payload(cycle, payload, taken=bool(entry & O_READY))
        if taken_in or (payload is not None and entry & O_READY):
            self.span = (self.span[0] if self.span else cycle, cycle)
        self.position += taken_in
        if entry & RESET:
            self.pipe.reset()
            self.position = self.plan.resume
            self.vector = bisect_left(self.ends, self.position) * self.results

    def check_handshake(self, cycle: int, entry: int) -> None:
        """Compare i.ready and o.valid with the model's, stepped with the recorded i.valid and o.ready."""
        i_ready, o_valid = bool(entry & I_READY), bool(entry & O_VALID)
        cycles = 1
        if self.beat_cycles is not None and self.position < len(self.beat_cycles):
            cycles = self.beat_cycles[self.position]
        model = self.pipe.step(bool(entry & I_VALID), self.position in self.last_beats, bool(entry & O_READY), cycles)
        if (i_ready, o_valid) != model:
            self.cycle_mismatches += 1
            differing = ("o_valid", model[1], o_valid) if o_valid != model[1] else ("i_ready", model[0], i_ready)
            self.note(Mismatch(cycle, differing[0], self.vector, int(differing[1]), int(differing[2])))

    def check_payload(self, cycle: int, payload: int, *, taken: bool) -> None:
        """Compare the result at the output, which must not change until it is taken."""
        expected = self.expected[self.vector] if self.vector < len(self.expected) else None
        if payload != expected:
            self.spoilt = True
            self.note(Mismatch(cycle, "bits", self.vector, expected, payload))
        if taken:
            self.vectors += 1
            self.mismatches += self.spoilt
            self.vector, self.spoilt = self.vector + 1, False

    def note(self, mismatch: Mismatch) -> None:
        """Keep the first mismatch."""
        self.first = self.first or mismatch


def judge(
    record: Record,
    plan: Pass,
    ends: Sequence[int],
    expected: Sequence[int],
    latency: int,
    results: int = 1,
    beat_cycles: Sequence[int] | None = None,
) -> Verdict:
    """Compare one pass with the model stepped with its recorded trace.

    Parameters
    ----------
    record, plan : Record, Pass
        What happened and what was asked for: a pass from the first beat to the end of some transaction.
    ends : sequence of int
        Number of the last beat of each transaction (dot product), ascending.
    expected : sequence of int
        Bits of each result, `results` a transaction (the FP32 bits of each dot product).
    latency : int
        Of the unit, in cycles.
    results : int
        Results of a transaction.
    beat_cycles : sequence of int, optional
        Cycles that each beat occupies the unit's front; None: one each.
    """
    count = bisect_left(ends, plan.end)
    expected = expected[: count * results]
    walk = _Walk(plan, ends[:count], expected, latency, results, beat_cycles)
    payloads = (int.from_bytes(row.tobytes(), "little") for row in record.payloads)
    trace = record.trace.tolist()
    for cycle, entry in enumerate(trace):
        walk.step(cycle, entry, next(payloads) if entry & O_VALID else None)
    missing = max(len(expected) - walk.vector, 0)
    if missing:
        walk.note(Mismatch(len(trace) - 1, "missing", walk.vector, expected[walk.vector], None))
    cycles = walk.span[1] - walk.span[0] + 1 if walk.span else 0
    return Verdict(walk.vectors + missing, walk.mismatches + missing, cycles, walk.cycle_mismatches, walk.first)
