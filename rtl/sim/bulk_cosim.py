"""Check a unit in the bulk engine, chunk by chunk, and explain the first difference from the model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib import wiring
from numpy.typing import NDArray

from hwsim import pe
from hwsim.pe.timing import unstalled_cycles
from rtl.pe import component
from rtl.sim.bulk import BulkVerdict, build, to_integers, to_words
from rtl.sim.bulk_case import Case, describe, judge_case, keep_waveform, replay, write_case
from rtl.sim.bulk_minimise import Minimiser
from rtl.sim.job import Pass, Willing
from rtl.sim.judge import Mismatch, Verdict
from rtl.sim.payload import Beats, pack_words
from rtl.sim.run import PASS_NAMES, CosimResult, plan_passes
from rtl.sim.simulators import SimulatorError
from rtl.sim.verilog import cache_folder

STALLED_CHUNKS, STALLED_EVERY = 4, 8
"""Chunks that run with stalls too: operands and stalls do not meet in the hardware, so a share of them shows it."""


class BulkCosim:
    """Compare a unit's hardware with its model in as many chunks as it takes; memory is that of one chunk.

    Parameters
    ----------
    unit_name : str
        A unit of :mod:`rtl.pe`.
    params : Params of that unit
    seed : int
        Of the stall patterns and resets; the chunk's number enters too.
    stalls : bool
        As for :func:`rtl.sim.run.cosim`, of the first `STALLED_CHUNKS` chunks and of every `STALLED_EVERY`-th after
        them; every chunk has its unstalled pass.
    waveform_dir : Path or None
        Folder for what is left of a difference; None takes the user's cache.
    hardware : wiring.Component or None
        The unit in hardware; None builds the one of that name.

    Attributes
    ----------
    total : CosimResult
        Sum over the chunks so far. The first difference is explained in words, with the smallest case that still
        shows it; ``replay`` is that case as a file, ``waveform`` its waveform, made by a Verilog simulator.
    """

    def __init__(
        self,
        unit_name: str,
        params: Any,
        *,
        seed: int = 0,
        stalls: bool = True,
        waveform_dir: Path | None = None,
        hardware: wiring.Component | None = None,
    ) -> None:
        self.unit_name, self.params, self.seed, self.stalls = unit_name, params, seed, stalls
        self.hardware: Any = hardware or component(unit_name)(params)
        self.simulator = build(self.hardware)
        self.target = (waveform_dir or cache_folder("waveforms")) / f"{unit_name}-seed{seed}"
        self.chunks = 0
        self.total = CosimResult(0, 0, 0, 0, 0, 0, seed, 0.0, None, None)

    def check(self, beats: Beats, expected: NDArray[np.integer] | Sequence[int]) -> CosimResult:
        """Check one chunk; return its result, which is added to `total`.

        Parameters
        ----------
        beats : mapping
            Fields of the beats of all dot products, one after the other; ``last`` ends each.
        expected : integers [results], or uint32 [results, words]
            Bits of the results; a unit that streams vectors has several a transaction.

        Raises
        ------
        ValueError
            If the beats do not fit the unit, or there is not one result for each dot product.
        """
        words = pack_words(beats, self.hardware.i.payload.shape())
        spec = self.params.datapath
        wanted = to_words(expected, self.simulator.result_words)
        ends = np.flatnonzero(beats["last"]).astype(np.int64)
        if len(ends) == 0 or len(ends) * spec.results != len(wanted) or ends[-1] != len(words) - 1:
            raise ValueError(
                f"needs at least one whole dot product and {spec.results} results for each, "
                f"not {len(ends)} and {len(wanted)}"
            )
        seed = [self.seed, self.chunks] if self.chunks else self.seed
        stalls = self.stalls and (self.chunks < STALLED_CHUNKS or self.chunks % STALLED_EVERY == 0)
        busy = spec.beat_cycles(beats)
        passes = plan_passes(
            ends.tolist(), seed, stalls=stalls, results=spec.results, restarts=spec.restarts, beat_cycles=busy
        )
        start = time.perf_counter()
        verdicts = [
            self.simulator.check(words, *planned, ends, wanted, spec.latency, results=spec.results, beat_cycles=busy)
            for planned in passes
        ]
        run_s = time.perf_counter() - start
        late = verdicts[0].verdict.cycles != unstalled_cycles(
            [len(words) if busy is None else int(busy.sum())], spec.latency, spec.results
        )
        result = CosimResult(
            vectors=sum(each.verdict.vectors for each in verdicts),
            mismatches=sum(each.verdict.mismatches for each in verdicts),
            cycle_mismatches=sum(each.verdict.cycle_mismatches for each in verdicts) + int(late),
            macs=len(words) * spec.lanes,
            cycles=verdicts[0].verdict.cycles,
            simulated_cycles=sum(each.simulated_cycles for each in verdicts),
            seed=self.seed,
            run_s=run_s,
            first_mismatch=None,
            waveform=None,
        )
        if self.total.first_mismatch is None:
            result = self._explained(result, passes, verdicts, beats, wanted, ends)
        self.chunks += 1
        self.total = _sum(self.total, result)
        return result

    def _explained(
        self,
        result: CosimResult,
        passes: Sequence[tuple[Pass, Willing]],
        verdicts: Sequence[BulkVerdict],
        beats: Beats,
        expected: NDArray[np.uint32],
        ends: NDArray[np.int64],
    ) -> CosimResult:
        """Add the smallest case of the first difference, if there is one, in words, as a file and as a waveform."""
        for name, (plan, willing), each in zip(PASS_NAMES, passes, verdicts, strict=False):
            first = each.verdict.first
            if first is None:
                continue
            starts = [0, *(ends + 1).tolist()]
            count = int(np.searchsorted(ends, plan.end))
            dots = tuple(
                {field: np.asarray(values)[starts[dot] : starts[dot + 1]] for field, values in beats.items()}
                for dot in range(count)
            )
            bits = tuple(to_integers(expected[: count * self.params.datapath.results]))
            case = Case(self.unit_name, asdict(self.params), dots, bits, plan, willing)
            said, replay_file, waveform = self._explain(case, first)
            where = f"{name} pass of chunk {self.chunks}, {first}"
            return replace(result, first_mismatch=f"{where}; {said}", waveform=waveform, replay=replay_file)
        return result

    def _explain(self, case: Case, first: Mismatch) -> tuple[str, Path, Path | None]:
        def verdict_of(candidate: Case) -> Verdict:
            return judge_case(candidate, self.simulator, self.hardware, self.params)

        spec = self.params.datapath
        small = case
        if not spec.restarts:  # else what comes out depends on all that came before
            block_beats = getattr(spec, "step_beats", 0) or getattr(spec, "beats", 1)
            minimiser = Minimiser(verdict_of, self._reference, spec.results, block_beats, self._zero_codes())
            small = minimiser.minimise(case, first.vector)
        found = verdict_of(small).first
        assert found is not None
        path = self.target.with_name(self.target.name + ".json")
        write_case(small, path)
        said = [f"smallest case: {found}" + (f"; {describe(small)}" if len(small.dots) <= 4 else "")]
        if not spec.restarts:
            dot = min(found.vector // spec.results, len(small.dots) - 1)
            plain = self._reference(small.dots[dot])
            if plain != small.expected[dot * spec.results : (dot + 1) * spec.results]:
                bits = ", ".join(f"{word:#010x}" for word in plain)
                said.append(f"the plain reference gives {bits} for dot product {dot}, not the bits expected")
        waveform = None
        try:
            confirmed = replay(small, hardware=self.hardware).first
            if confirmed != found:
                said.append(f"a Verilog simulator says otherwise: {confirmed}")
            waveform = keep_waveform(small, self.hardware, found.cycle, self.target)
        except SimulatorError as error:
            said.append(f"no waveform: {error}")
        return "; ".join(said), path, waveform

    def _reference(self, dot: Beats) -> tuple[int, ...]:
        """Return the bits of each result of a transaction, by the plain model."""
        found = pe.unit(self.unit_name).reference(dot, self.params)
        if isinstance(found, Mapping):
            return tuple(to_integers(pack_words(found, self.hardware.o.payload.shape())))
        return (int(found),)

    def _zero_codes(self) -> dict[str, int]:
        """Return the code of zero for every field with one code a lane."""
        spec = self.params.datapath
        tables = {name: getattr(spec, f"{name}_ints", (0,)) for name, _, count in spec.layout() if count > 1}
        return {name: table.index(0) for name, table in tables.items()}


def _sum(total: CosimResult, chunk: CosimResult) -> CosimResult:
    """Return the sum of two results; what explains the first difference stays."""
    first = total if total.first_mismatch is not None else chunk
    counts = ("vectors", "mismatches", "cycle_mismatches", "macs", "cycles", "simulated_cycles", "run_s")
    summed = {name: getattr(total, name) + getattr(chunk, name) for name in counts}
    return replace(total, first_mismatch=first.first_mismatch, waveform=first.waveform, replay=first.replay, **summed)
