"""Run the bench: one design, one set of beats, any passes over them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtl.sim.job import JOB_VARIABLE, Pass, Record, Willing, read_records, write_job
from rtl.sim.simulators import Simulator, build, run

_BENCH = "rtl.sim.bench"
_WAVE_CYCLES = 32
"""Cycles that a waveform shows after the mismatch."""


@dataclass(frozen=True)
class Testbench:
    """A design in Verilog, a simulator, and the payloads of its input stream.

    Attributes
    ----------
    simulator : Simulator
    verilog : Path
        With stream ports ``i`` and ``o``.
    payloads : uint8 [beats, bytes]
        Least significant byte first.
    """

    simulator: Simulator
    verilog: Path
    payloads: NDArray[np.uint8]

    def simulate(self, passes: Sequence[tuple[Pass, Willing]]) -> list[Record]:
        """Run the passes in one simulator process and return what happened.

        Raises
        ------
        SimulatorError
            If the simulator fails.
        """
        with tempfile.TemporaryDirectory() as folder:
            return self._run(Path(folder), passes, waves=False)[0]

    def keep_waveform(self, plan: Pass, willing: Willing, mismatch_cycle: int, target: Path) -> Path:
        """Run a pass again, up to shortly after a mismatch; leave its waveform as ``target`` plus the usual suffix."""
        with tempfile.TemporaryDirectory() as folder:
            short = replace(plan, max_cycles=mismatch_cycle + _WAVE_CYCLES)
            waveform = self._run(Path(folder), [(short, willing)], waves=True)[1]
            assert waveform is not None
            target.parent.mkdir(parents=True, exist_ok=True)
            return Path(shutil.move(waveform, target.with_name(target.name + waveform.suffix)))

    def _run(
        self, folder: Path, passes: Sequence[tuple[Pass, Willing]], *, waves: bool
    ) -> tuple[list[Record], Path | None]:
        write_job(folder, self.payloads, passes)
        built = build(self.simulator, self.verilog, waves=waves)
        waveform = run(self.simulator, built, folder, module=_BENCH, variables={JOB_VARIABLE: str(folder)}, waves=waves)
        return read_records(folder, len(passes)), waveform
