"""The bulk engine: a unit compiled to machine code, with the bench and the judge beside it, for millions of vectors.

`build` compiles a unit once; the `BulkSimulator` that it returns takes the same passes as the bench in a Verilog
simulator (:mod:`rtl.sim.testbench`) and gives the same records and verdicts, some hundred times faster.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import rtlil
from amaranth.hdl import Shape
from amaranth.lib import wiring
from numpy.typing import NDArray

from rtl.sim.bulk_build import compile_design
from rtl.sim.job import ALWAYS, IDLE_CYCLES, Pass, Record, Willing
from rtl.sim.judge import Mismatch, Verdict
from rtl.sim.verilog import TOP

WHATS = ("", "bits", "i_ready", "o_valid", "missing")
"""Kinds of a first mismatch, in the order of the driver's numbers."""
DESIGN = "design.il"


class _Plan(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            "first", "end", "outputs", "max_cycles", "reset_cycle", "resume", "idle_cycles", "latency", "results",
            "stop_after", "fault",
        )
    )  # fmt: skip


class _Outcome(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            "cycles", "valid_cycles", "vectors", "mismatches", "cycle_mismatches", "span_first", "span_last", "what",
            "cycle", "vector", "expected", "found",
        )
    )  # fmt: skip


@dataclass(frozen=True)
class BulkVerdict:
    """Outcome of a judged pass.

    Attributes
    ----------
    verdict : Verdict
        As the judge of recorded passes gives it.
    simulated_cycles : int
        Of the pass, idle ones included.
    """

    verdict: Verdict
    simulated_cycles: int


@dataclass(frozen=True)
class BulkSimulator:
    """A compiled unit. Calls are independent, each as after power-up and a reset, and may run in threads side by side.

    Attributes
    ----------
    library : Path
        Shared library.
    payload_bits, result_bits : int
        Widths of the payloads of the input and of the output stream.
    """

    library: Path
    payload_bits: int
    result_bits: int

    @property
    def payload_words(self) -> int:
        """32-bit words of an input payload."""
        return -(-self.payload_bits // 32)

    @property
    def result_words(self) -> int:
        """32-bit words of a result."""
        return -(-self.result_bits // 32)

    @cached_property
    def _code(self) -> ctypes.CDLL:
        code = ctypes.CDLL(str(self.library))
        widths = (ctypes.c_int64 * 2)()
        code.hwsim_widths(widths)
        assert (self.payload_bits, self.result_bits) == tuple(widths), "the library is of another unit"
        code.hwsim_run.restype = None
        return code

    def run(self, payloads: NDArray[np.uint32], plan: Pass, willing: Willing = ALWAYS, *, fault: int = 0) -> Record:
        """Run one pass and record every cycle.

        Parameters
        ----------
        payloads : uint32 [beats, payload_words]
            Least significant word first; see `rtl.sim.payload.pack_words`.
        plan, willing
            As for the bench; ``plan.observe`` must be empty.
        fault : int
            Number of the fault to switch on, in a unit built with faults (:mod:`rtl.sim.faults`).

        Raises
        ------
        ValueError
            If the payloads do not fit the unit or the plan asks for what they do not hold.
        """
        trace = np.zeros(plan.max_cycles, np.uint8)
        results = np.zeros((plan.max_cycles, self.result_words), np.uint32)
        empty = np.zeros(0, np.int64)
        outcome, _ = self._call(payloads, plan, willing, _Judging(empty, empty, 0, 1, 0), fault, trace, results)
        found = results[: outcome.valid_cycles].astype("<u4").view(np.uint8)
        return Record(
            trace=trace[: outcome.cycles].copy(),
            payloads=np.ascontiguousarray(found[:, : -(-self.result_bits // 8)]),
            observed=np.zeros(0, np.int64),
        )

    def simulate(self, payloads: NDArray[np.uint32], passes: Sequence[tuple[Pass, Willing]]) -> list[Record]:
        """Run passes and record every cycle, as :meth:`rtl.sim.testbench.Testbench.simulate` does."""
        return [self.run(payloads, plan, willing) for plan, willing in passes]

    def check(
        self,
        payloads: NDArray[np.uint32],
        plan: Pass,
        willing: Willing,
        ends: NDArray[np.int64],
        expected: NDArray[np.uint32],
        latency: int,
        *,
        results: int = 1,
        beat_cycles: NDArray[np.integer] | None = None,
        fault: int = 0,
        stop_after: int = 0,
    ) -> BulkVerdict:
        """Run one pass and judge it cycle by cycle, at full speed; nothing is recorded.

        Parameters
        ----------
        payloads, plan, willing, fault
            As for `run`.
        ends : int64 [dots]
            Number of the last beat of each dot product (transaction), ascending.
        expected : uint32 [dots * results] or [dots * results, result_words]
            Result bits.
        latency : int
            Of the handshake's model, in cycles; 0: only results are judged.
        results : int
            Results of a transaction.
        beat_cycles : integers [beats], optional
            Cycles that each beat occupies the unit's front; None: one each.
        stop_after : int
            Differences after which the pass ends early; then nothing counts as missing. 0: never.

        Raises
        ------
        ValueError
            As for `run`, and if there is not one result for each dot product, or not one count of cycles for each beat.
        """
        if beat_cycles is not None and len(beat_cycles) != len(payloads):
            raise ValueError(f"needs the cycles of {len(payloads)} beats, not of {len(beat_cycles)}")
        if len(ends) * results != len(expected):
            raise ValueError(f"needs {results} results for each dot product, not {len(expected)} for {len(ends)}")
        count = int(np.searchsorted(ends, plan.end))
        wanted = np.ascontiguousarray(expected[: count * results], np.uint32).reshape(-1, self.result_words)
        busy = None if beat_cycles is None else np.ascontiguousarray(beat_cycles, np.int32)
        judging = _Judging(np.ascontiguousarray(ends[:count], np.int64), wanted, latency, results, stop_after, busy)
        outcome, first_result = self._call(payloads, plan, willing, judging, fault, None, None)
        span = outcome.span_last - outcome.span_first + 1 if outcome.span_first >= 0 else 0
        first = _mismatch(outcome, wanted, first_result) if outcome.what else None
        verdict = Verdict(outcome.vectors, outcome.mismatches, span, outcome.cycle_mismatches, first)
        return BulkVerdict(verdict, outcome.cycles)

    def _call(
        self,
        payloads: NDArray[np.uint32],
        plan: Pass,
        willing: Willing,
        judging: _Judging,
        fault: int,
        trace: NDArray[np.uint8] | None,
        results: NDArray[np.uint32] | None,
    ) -> tuple[_Outcome, NDArray[np.uint32]]:
        if payloads.dtype != np.uint32 or payloads.ndim != 2 or payloads.shape[1] != self.payload_words:
            raise ValueError(
                f"payloads must be uint32 [beats, {self.payload_words}], not {payloads.dtype} {list(payloads.shape)}"
            )
        if not (0 <= plan.first <= plan.end <= len(payloads) and 0 <= plan.resume <= plan.end):
            raise ValueError(f"the pass asks for beats {plan.first} to {plan.end}; there are {len(payloads)}")
        if plan.observe:
            raise ValueError(f"the bulk engine reads no further ports; asked for: {', '.join(plan.observe)}")
        offer, take = (np.ascontiguousarray(side, np.uint8) for side in (willing.offer, willing.take))
        if not (offer.any() and take.any()):
            raise ValueError("a side that is never willing lets nothing pass")
        reset_cycle = -1 if plan.reset_cycle is None else plan.reset_cycle
        told = _Plan(
            plan.first, plan.end, plan.outputs, plan.max_cycles, reset_cycle, plan.resume, IDLE_CYCLES, judging.latency,
            judging.results, judging.stop_after, fault,
        )  # fmt: skip
        payloads = np.ascontiguousarray(payloads)
        first_result = np.zeros(self.result_words, np.uint32)
        outcome = _Outcome()
        dots = len(judging.ends)
        self._code.hwsim_run(
            _pointer(payloads), _pointer(judging.ends) if dots else None, ctypes.c_int64(dots),
            _pointer(judging.expected), _pointer(judging.beat_cycles), ctypes.byref(told),
            _pointer(offer), ctypes.c_int64(len(offer)), _pointer(take), ctypes.c_int64(len(take)),
            _pointer(trace), _pointer(results), _pointer(first_result), ctypes.byref(outcome),
        )  # fmt: skip
        return outcome, first_result


@dataclass(frozen=True)
class _Judging:
    """What a pass is held against; no ends: nothing is judged."""

    ends: NDArray[np.int64]
    expected: NDArray[Any]
    latency: int
    results: int
    stop_after: int
    beat_cycles: NDArray[np.int32] | None = None


def _pointer(array: NDArray[Any] | None) -> ctypes.c_void_p | None:
    return None if array is None else array.ctypes.data_as(ctypes.c_void_p)


def _mismatch(outcome: _Outcome, expected: NDArray[np.uint32], first_result: NDArray[np.uint32]) -> Mismatch:
    what, vector = WHATS[outcome.what], outcome.vector
    wanted = _integer(expected[vector]) if vector < len(expected) else None
    if what == "bits":
        return Mismatch(outcome.cycle, what, vector, wanted, _integer(first_result))
    if what == "missing":
        return Mismatch(outcome.cycle, what, vector, wanted, None)
    return Mismatch(outcome.cycle, what, vector, outcome.expected, outcome.found)


def to_words(integers: Sequence[int] | NDArray[np.integer], words: int) -> NDArray[np.uint32]:
    """Return payloads of any width in 32-bit words, uint32 [payloads, words], least significant word first.

    An array that has this shape already stays as it is.
    """
    if isinstance(integers, np.ndarray) and integers.ndim == 2:
        return integers.astype(np.uint32, copy=False)
    if words == 1:
        return np.asarray(integers, np.uint32).reshape(-1, 1)
    if words == 2:
        return np.asarray(integers, np.uint64).astype("<u8").view("<u4").astype(np.uint32, copy=False).reshape(-1, 2)
    packed = b"".join(int(integer).to_bytes(4 * words, "little") for integer in integers)
    return np.frombuffer(packed, "<u4").astype(np.uint32).reshape(-1, words)


def to_integers(words: NDArray[np.uint32]) -> list[int]:
    """Return what `to_words` was given."""
    return [_integer(row) for row in words]


def _integer(words: NDArray[np.uint32]) -> int:
    return int.from_bytes(words.astype("<u4").tobytes(), "little")


def build(unit: wiring.Component) -> BulkSimulator:
    """Compile a unit for bulk simulation; a unit compiled before is taken from the user's cache.

    Parameters
    ----------
    unit : wiring.Component
        With stream ports ``i`` and ``o``, clocked.

    Raises
    ------
    ValueError
        If the unit has no such ports.
    SimulatorError
        If Yosys or g++ is missing or fails.
    """
    widths = stream_widths(unit)
    text = rtlil.convert(unit, name=TOP, emit_src=False)
    folder = compile_design({DESIGN: text}, [f"read_rtlil {DESIGN}"])
    return BulkSimulator(folder / "design.so", *widths)


def stream_widths(unit: wiring.Component) -> tuple[int, int]:
    """Return the bits of the payloads of a unit's streams ``i`` and ``o``.

    Raises
    ------
    ValueError
        If the unit has no such streams.
    """
    if not all(hasattr(getattr(unit, port, None), "payload") for port in ("i", "o")):
        raise ValueError(f"{type(unit).__name__} has no streams i and o: {unit.signature!r}")
    ports: Any = unit
    return Shape.cast(ports.i.payload.shape()).width, Shape.cast(ports.o.payload.shape()).width
