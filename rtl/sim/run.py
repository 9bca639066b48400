"""Compare a unit's hardware with its model: every output's bits, and the handshake in every cycle."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.pe.timing import unstalled_cycles
from rtl.pe import component
from rtl.sim.job import ALWAYS, Pass, Willing
from rtl.sim.judge import Verdict, judge
from rtl.sim.payload import join_beats, pack_beats
from rtl.sim.simulators import BULK, find_simulator
from rtl.sim.stalls import draw_stalls, patience_cycles
from rtl.sim.testbench import Testbench
from rtl.sim.verilog import cache_folder, write_verilog

PASS_NAMES = ("unstalled", "stalled", "reset in mid-stream")
_RESET_BEATS = 512
"""Beats, about, of the pass with a reset in mid-stream."""


@dataclass(frozen=True)
class CosimResult:
    """Outcome of a comparison, summed over its passes.

    Attributes
    ----------
    vectors, mismatches : int
        Results compared (each pass compares anew), and those with other bits, or missing.
    cycle_mismatches : int
        Cycles in which the handshake differed from the model's, plus one if the unstalled pass took another number of
        cycles than the model says.
    macs : int
        Element products behind the dot products, each counted once.
    cycles : int
        Of the unstalled pass: from the first beat taken to the last result, both counted.
    simulated_cycles : int
        Of all passes, idle ones included.
    seed : int
        Of the stall patterns.
    run_s : float
        Wall time inside the simulator, in seconds.
    first_mismatch : str or None
        Where hardware and model first part, in words.
    waveform : Path or None
        Waveform of the failing pass, up to shortly after the first mismatch.
    replay : Path or None
        The smallest case that still shows the first mismatch, for :func:`rtl.sim.bulk_case.replay`; of engine ``bulk``.
    """

    vectors: int
    mismatches: int
    cycle_mismatches: int
    macs: int
    cycles: int
    simulated_cycles: int
    seed: int
    run_s: float
    first_mismatch: str | None
    waveform: Path | None
    replay: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether hardware and model agree."""
        return self.mismatches == 0 and self.cycle_mismatches == 0


def cosim(
    unit_name: str,
    params: Any,
    dots: Sequence[Mapping[str, NDArray[np.integer]]],
    expected_bits: Sequence[int] | NDArray[np.uint32],
    *,
    engine: str = "auto",
    seed: int = 0,
    stalls: bool = True,
    waveform_dir: Path | None = None,
) -> CosimResult:
    """Stream dot products through a unit's RTL and compare it with the model.

    Parameters
    ----------
    unit_name : str
        A unit of :mod:`rtl.pe`.
    params : Params of that unit
    dots : sequence of mappings
        Beats of each dot product (transaction, for units that stream vectors), as the unit's ``beats`` gives them.
    expected_bits : uint32 [dot products], or sequence of int
        FP32 bits of the results, from the model; for units that stream vectors the payloads of all results.
    engine : str
        ``icarus``, ``verilator``, ``auto`` for the first of these that is usable, or ``bulk``, the compiled unit.
    seed : int
        Of the stall patterns; the same seed gives the same run.
    stalls : bool
        After the unstalled pass, also stream everything with random stalls on both sides, and then a part with a reset
        in mid-stream.
    waveform_dir : Path or None
        Folder for the waveform of a failing run; None takes the user's cache.

    Raises
    ------
    ValueError
        If the operands do not fit the unit, there are none, or a name is unknown.
    SimulatorError
        If there is no simulator, or it fails.

    Hardware
    --------
    In every cycle the handshake must equal that of :class:`hwsim.pe.timing.StallPipe` stepped with the recorded trace.
    """
    results = params.datapath.results
    if len(dots) == 0 or len(dots) * results != len(expected_bits):
        raise ValueError(
            f"needs at least one dot product and {'a result' if results == 1 else f'{results} results'} for each, "
            f"not {len(dots)} and {len(expected_bits)}"
        )
    if engine == BULK:
        from rtl.sim.bulk_cosim import BulkCosim

        bulk = BulkCosim(unit_name, params, seed=seed, stalls=stalls, waveform_dir=waveform_dir)
        return bulk.check(join_beats(dots), expected_bits)
    simulator = find_simulator(engine)
    unit = component(unit_name)(params)
    testbench = Testbench(simulator, write_verilog(unit), pack_beats(dots, unit.i.payload.shape()))
    lengths = [len(dot["last"]) for dot in dots]
    ends = (np.cumsum(lengths) - 1).tolist()
    expected = [int(bits) for bits in expected_bits]
    latency = params.datapath.latency
    busy = params.datapath.beat_cycles(join_beats(dots))
    passes = plan_passes(
        ends, seed, stalls=stalls, results=results, restarts=params.datapath.restarts, beat_cycles=busy
    )
    start = time.perf_counter()
    records = testbench.simulate(passes)
    run_s = time.perf_counter() - start
    listed = None if busy is None else busy.tolist()
    verdicts = [
        judge(record, plan, ends, expected, latency, results, listed)
        for record, (plan, _) in zip(records, passes, strict=True)
    ]
    target = (waveform_dir or cache_folder("waveforms")) / f"{unit_name}-seed{seed}"
    first_mismatch, waveform = _report(testbench, passes, verdicts, target)
    late = verdicts[0].cycles != unstalled_cycles(lengths if listed is None else listed, latency, results)
    return CosimResult(
        vectors=sum(verdict.vectors for verdict in verdicts),
        mismatches=sum(verdict.mismatches for verdict in verdicts),
        cycle_mismatches=sum(verdict.cycle_mismatches for verdict in verdicts) + int(late),
        macs=sum(lengths) * params.datapath.lanes,
        cycles=verdicts[0].cycles,
        simulated_cycles=sum(len(record.trace) for record in records),
        seed=seed,
        run_s=run_s,
        first_mismatch=first_mismatch,
        waveform=waveform,
    )


def plan_passes(
    ends: Sequence[int],
    seed: int | Sequence[int],
    *,
    stalls: bool,
    results: int = 1,
    restarts: bool = False,
    beat_cycles: NDArray[np.integer] | None = None,
) -> list[tuple[Pass, Willing]]:
    """Return the passes over a stream of dot products, in the order of `PASS_NAMES`.

    Parameters
    ----------
    ends : sequence of int
        Number of the last beat of each dot product.
    seed : int or sequence of int
        Of the stall patterns and the reset.
    stalls : bool
        Whether there is more than the unstalled pass.
    results : int
        Results of a dot product (transaction).
    restarts : bool
        Whether a reset also brings back a state that lives longer than a transaction: then the stream starts over.
    beat_cycles : integers [beats], optional
        Cycles that each beat occupies the unit's front; None: one each.
    """
    beats = ends[-1] + 1
    busy = beats if beat_cycles is None else int(beat_cycles.sum())
    whole = Pass(first=0, end=beats, outputs=len(ends) * results, max_cycles=patience_cycles(busy))
    if not stalls:
        return [(whole, ALWAYS)]
    generator = np.random.default_rng(seed)
    # after the reset the stream goes on with any dot product, so that a partial sum left behind would show
    count = int(np.searchsorted(ends, min(_RESET_BEATS, beats) - 1)) + 1
    beats = ends[count - 1] + 1
    busy = beats if beat_cycles is None else int(beat_cycles[:beats].sum())
    resume = 0 if restarts else int(generator.integers(count))
    reset = Pass(
        first=0,
        end=beats,
        outputs=(count - resume) * results,
        max_cycles=patience_cycles(2 * busy),
        reset_cycle=int(generator.integers(2, busy + 8)),
        resume=ends[resume - 1] + 1 if resume else 0,
    )
    return [(whole, ALWAYS), (whole, draw_stalls(generator)), (reset, draw_stalls(generator))]


def _report(
    testbench: Testbench, passes: Sequence[tuple[Pass, Willing]], verdicts: Sequence[Verdict], target: Path
) -> tuple[str | None, Path | None]:
    """Describe the first mismatch and leave a waveform of it; (None, None) if there is none."""
    for name, (plan, willing), verdict in zip(PASS_NAMES, passes, verdicts, strict=False):
        first = verdict.first
        if first is not None:
            waveform = testbench.keep_waveform(plan, willing, first.cycle, target)
            return f"{name} pass, {first}", waveform
    return None, None
