"""Drive a foreign unit and collect its results; what they should be is not known here."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.pe._dot import DotSpec
from rtl.lib.beat import beat_layout
from rtl.sim.bulk import BulkSimulator
from rtl.sim.foreign import ForeignUnit
from rtl.sim.job import ALWAYS, I_READY, I_VALID, JOB_VARIABLE, O_READY, O_VALID, Pass, Record, Willing, write_job
from rtl.sim.payload import pack_words
from rtl.sim.run import PASS_NAMES, plan_passes
from rtl.sim.simulators import BULK, Simulator, SimulatorError, build, find_simulator, run
from rtl.sim.stalls import patience_cycles
from rtl.sim.testbench import Testbench

_BENCH = "rtl.sim.bench"
_WAVE_CYCLES = 16


@dataclass(frozen=True)
class Collected:
    """Results of one pass.

    Attributes
    ----------
    name : str
        One of `rtl.sim.run.PASS_NAMES`.
    plan, willing
        The pass.
    numbers : int64 [results]
        Dot product that each belongs to, counted in their order.
    bits : uint64 [results]
    cycles : int64 [results]
        Cycle in which each was taken.
    due : int
        Results that had to come after the last reset.
    came : int
        Those that came.
    unsteady : int
        Cycles in which a waiting result changed or was withdrawn.
    span_cycles : int
        From the first beat taken to the last result, both counted.
    simulated_cycles : int
    latency_cycles : int or None
        From the last beat of the first dot product to its result.
    """

    name: str
    plan: Pass
    willing: Willing
    numbers: NDArray[np.int64]
    bits: NDArray[np.uint64]
    cycles: NDArray[np.int64]
    due: int
    came: int
    unsteady: int
    span_cycles: int
    simulated_cycles: int
    latency_cycles: int | None


@dataclass(frozen=True)
class ForeignBench:
    """A foreign unit in an engine.

    Attributes
    ----------
    unit : ForeignUnit
    spec : DotSpec
    engine : Simulator or BulkSimulator
    """

    unit: ForeignUnit
    spec: DotSpec
    engine: Simulator | BulkSimulator

    @classmethod
    def open(cls, unit: ForeignUnit, spec: DotSpec, engine: str) -> ForeignBench:
        """Find the engine and, for ``bulk``, compile the unit.

        Raises
        ------
        ValueError
            When there is no such engine.
        SimulatorError
            When it is missing, or the unit cannot be compiled.
        """
        return cls(unit, spec, unit.build() if engine == BULK else find_simulator(engine))

    def collect(
        self, beats: Mapping[str, NDArray[np.integer]], seed: int | Sequence[int], *, stalls: bool = True
    ) -> list[Collected]:
        """Stream dot products, without stalls and then with all that the unit can take, and return the results.

        Parameters
        ----------
        beats : mapping
            Fields of the beats of all dot products, one after the other.
        seed : int or sequence of int
            Of the stalls.
        stalls : bool
            Whether there is more than the unstalled pass.

        Raises
        ------
        SimulatorError
            When the simulator fails, for example on an output that is X.
        """
        words = self._words(beats)
        ends = np.flatnonzero(beats["last"])
        planned = self._passes(ends.tolist(), seed, stalls)
        records = self._simulate(words, [(plan, willing) for _, plan, willing in planned])
        return [_collected(*each, record, ends) for each, record in zip(planned, records, strict=True)]

    def keep_waveform(
        self, beats: Mapping[str, NDArray[np.integer]], collected: Collected, cycle: int, target: Path
    ) -> Path:
        """Run a pass up to shortly after a cycle in a Verilog simulator; leave its waveform, a VCD, as `target`.

        Raises
        ------
        SimulatorError
            When there is no Verilog simulator, or it fails.
        """
        simulator = self.engine if isinstance(self.engine, Simulator) else find_simulator("auto")
        plan = replace(collected.plan, max_cycles=min(collected.plan.max_cycles, cycle + _WAVE_CYCLES))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_job(folder, self._bytes(self._words(beats)), [(plan, collected.willing)])
            built = build(simulator, self.unit.verilog(), waves=True)
            variables = {JOB_VARIABLE: str(folder)}
            found = run(simulator, built, folder, module=_BENCH, variables=variables, waves=True, vcd=True)
            assert found is not None
            target.parent.mkdir(parents=True, exist_ok=True)
            return Path(shutil.move(found, target))

    def _words(self, beats: Mapping[str, NDArray[np.integer]]) -> NDArray[np.uint32]:
        return pack_words(beats, beat_layout(self.spec))

    def _bytes(self, words: NDArray[np.uint32]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(words.astype("<u4").view(np.uint8)[:, : -(-self.unit.payload_bits // 8)])

    def _passes(self, ends: list[int], seed: int | Sequence[int], stalls: bool) -> list[tuple[str, Pass, Willing]]:
        """Return the passes that the unit can take: no gaps, no waiting and no reset where the map has none."""
        port_map = self.unit.map
        planned = []
        for name, (plan, willing) in zip(PASS_NAMES, plan_passes(ends, seed, stalls=stalls), strict=False):
            if plan.reset_cycle is not None and port_map.reset is None:
                continue
            if willing is not ALWAYS:
                willing = Willing(
                    willing.offer if port_map.takes_gaps else ALWAYS.offer,
                    willing.take if port_map.back_pressure else ALWAYS.take,
                )
                if plan.reset_cycle is None and not (port_map.takes_gaps or port_map.back_pressure):
                    continue
            planned.append((name, plan, willing))
        return planned

    def _simulate(self, words: NDArray[np.uint32], passes: Sequence[tuple[Pass, Willing]]) -> list[Record]:
        if isinstance(self.engine, BulkSimulator):
            return self.engine.simulate(words, passes)
        try:
            return Testbench(self.engine, self.unit.verilog(), self._bytes(words)).simulate(passes)
        except SimulatorError as error:
            if _undefined(str(error)):
                raise SimulatorError(
                    f"an output of {self.unit.name!r} is X or Z where it counts (valid, ready, or a valid result): "
                    "is everything reset, and is the latency right?"
                ) from None
            raise


def _undefined(said: str) -> bool:
    """Tell whether the bench stopped because a signal was neither 0 nor 1."""
    return any(words in said for words in ("Cannot convert Logic", "non-0/1", "cannot be converted to", "unresolvable"))


def _collected(name: str, plan: Pass, willing: Willing, record: Record, ends: NDArray[np.int64]) -> Collected:
    trace = record.trace
    shown = np.flatnonzero(trace & O_VALID)
    taken = (trace[shown] & O_READY) > 0
    cycles = shown[taken]
    rows = np.zeros((int(taken.sum()), 8), np.uint8)
    rows[:, : record.payloads.shape[1]] = record.payloads[taken]
    split = len(cycles) if plan.reset_cycle is None else int(np.searchsorted(cycles, plan.reset_cycle))
    resume = 0 if plan.reset_cycle is None else int(np.searchsorted(ends, plan.resume))
    after = 0 if plan.reset_cycle is None else split
    numbers = np.concatenate([np.arange(split), resume + np.arange(len(cycles) - split)])
    # a result that waits must stand still; a reset may take it away
    waits = np.flatnonzero(~taken & (shown + 1 < len(trace)) & (shown != (plan.reset_cycle or -1)))
    waits = waits[shown[waits] + 1 != (plan.reset_cycle or -1)]
    follower = np.minimum(waits + 1, len(shown) - 1)
    steady = (shown[follower] == shown[waits] + 1) & (record.payloads[follower] == record.payloads[waits]).all(axis=1)
    accepted = np.flatnonzero((trace & I_VALID > 0) & (trace & I_READY > 0))
    first_end = int(ends[0])
    latency = int(cycles[0] - accepted[first_end]) if len(cycles) and len(accepted) > first_end else None
    moves = np.concatenate([accepted, cycles])
    return Collected(
        name=name,
        plan=plan,
        willing=willing,
        numbers=numbers.astype(np.int64),
        bits=rows.view("<u8")[:, 0].astype(np.uint64),
        cycles=cycles.astype(np.int64),
        due=plan.outputs,
        came=len(cycles) - after,
        unsteady=int((~steady).sum()),
        span_cycles=int(moves.max() - moves.min()) + 1 if len(moves) else 0,
        simulated_cycles=len(trace),
        latency_cycles=latency if plan.reset_cycle is None else None,
    )


def alone(beats: Mapping[str, NDArray[np.integer]]) -> tuple[dict[str, Any], Pass]:
    """Return one dot product's beats, and the pass that streams it alone from reset."""
    count = len(beats["last"])
    return dict(beats), Pass(first=0, end=count, outputs=1, max_cycles=patience_cycles(count))


__all__ = ["Collected", "ForeignBench", "alone"]
