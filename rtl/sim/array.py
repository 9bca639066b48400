"""Run matrix products on the systolic array and compare results and cycles with the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib import data
from numpy.typing import NDArray

from hwsim.arch.systolic_timing import os_cycles
from hwsim.formats import FloatSpec, element
from hwsim.pe._dot import DotSpec
from rtl.array.systolic import SystolicArray
from rtl.lib.beat import side_layout
from rtl.sim.job import ALWAYS, I_READY, I_VALID, O_READY, O_VALID, Pass, Record, Willing
from rtl.sim.payload import Beats, field_bits
from rtl.sim.simulators import find_simulator
from rtl.sim.stalls import draw_stalls, patience_cycles
from rtl.sim.testbench import Testbench
from rtl.sim.verilog import cache_folder, write_verilog

_FLOAT32_ONE = 0x3F800000


@dataclass(frozen=True)
class Gemm:
    """A matrix product as operands of units, and its result.

    Attributes
    ----------
    a_rows, b_cols : sequence of beats
        For each row of A and each row of B the beats of a dot product that it takes part in; only the fields of that
        side are read.
    expected : uint32 [M, N]
        FP32 bits.
    """

    a_rows: Sequence[Beats]
    b_cols: Sequence[Beats]
    expected: NDArray[np.uint32]

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N and the beats of a dot product."""
        return len(self.a_rows), len(self.b_cols), len(self.a_rows[0]["a"])


@dataclass(frozen=True)
class ArrayResult:
    """Outcome for one matrix product.

    Attributes
    ----------
    m, n, k_beats : int
    vectors, mismatches : int
        Results compared, in the unstalled and the stalled run, and those with other bits, missing, or not asked for.
    cycles, model_cycles : int
        The array's own counter after the unstalled run, and `hwsim.arch.systolic_timing.os_cycles`.
    observed_cycles : int
        The same stretch in the bench's trace, as a check on the counter.
    waveform : Path or None
        Waveform of the failing run.
    """

    m: int
    n: int
    k_beats: int
    vectors: int
    mismatches: int
    cycles: int
    model_cycles: int
    observed_cycles: int
    waveform: Path | None

    @property
    def ok(self) -> bool:
        """Whether hardware and model agree."""
        return self.mismatches == 0 and self.cycles == self.model_cycles == self.observed_cycles


def cosim_array(
    params: Any,
    rows: int,
    cols: int,
    buffer_beats: int,
    gemms: Sequence[Gemm],
    *,
    engine: str = "auto",
    seed: int = 0,
    stalls: bool = True,
    waveform_dir: Path | None = None,
) -> list[ArrayResult]:
    """Run matrix products, each from reset, on one build of the array.

    Parameters
    ----------
    params, rows, cols, buffer_beats
        As for :class:`rtl.array.systolic.SystolicArray`.
    gemms : sequence of Gemm
    engine, seed, waveform_dir
        As for :func:`rtl.sim.run.cosim`.
    stalls : bool
        Run each product again with random stalls on both sides; then only the results are compared.

    Raises
    ------
    SimulatorError
        If there is no simulator, or it fails.
    """
    simulator = find_simulator(engine)
    array = SystolicArray(params, rows, cols, buffer_beats)
    streams = [pack_gemm(gemm, array) for gemm in gemms]
    testbench = Testbench(simulator, write_verilog(array), np.concatenate(streams))
    generator = np.random.default_rng(seed)
    passes: list[tuple[Pass, Willing]] = []
    starts = np.cumsum([0, *map(len, streams)]).tolist()
    for gemm, first, end in zip(gemms, starts, starts[1:], strict=False):
        outputs = rows * output_tiles(gemm, rows, cols)
        # draining keeps the input waiting, so there is more to be patient with than beats
        busy = end - first + outputs * (rows + cols + array.spec.latency)
        plan = Pass(first, end, outputs, patience_cycles(busy), observe=("cycles",))
        passes.append((plan, ALWAYS))
        if stalls:
            passes.append((plan, draw_stalls(generator)))
    records = testbench.simulate(passes)
    each = 2 if stalls else 1
    results = []
    for number, gemm in enumerate(gemms):
        part = slice(each * number, each * (number + 1))
        target = (waveform_dir or cache_folder("waveforms")) / f"array-{rows}x{cols}-seed{seed}-gemm{number}"
        results.append(_judge(testbench, array, gemm, passes[part], records[part], target))
    return results


def output_tiles(gemm: Gemm, rows: int, cols: int) -> int:
    """Return the number of output tiles."""
    m, n, _ = gemm.shape
    return -(-m // rows) * -(-n // cols)


def pack_gemm(gemm: Gemm, array: SystolicArray) -> NDArray[np.uint8]:
    """Return the array's input beats for a product, uint8 [beats, bytes]: output tiles row by row, K tiles in order."""
    m, n, k_beats = gemm.shape
    spec = array.spec
    a_bits = [field_bits(row, side_layout(spec, "a")) for row in gemm.a_rows]
    b_bits = [field_bits(col, side_layout(spec, "b")) for col in gemm.b_cols]
    a_bits += [field_bits(_idle(spec, "a", k_beats), side_layout(spec, "a"))] * (-m % array.rows)
    b_bits += [field_bits(_idle(spec, "b", k_beats), side_layout(spec, "b"))] * (-n % array.cols)
    step = np.arange(1, k_beats + 1)
    last = (step == k_beats).astype(np.uint8)[:, None]
    tile_last = (step % array.buffer_beats == 0).astype(np.uint8)[:, None] | last
    tiles = [
        np.concatenate([*a_bits[i : i + array.rows], *b_bits[j : j + array.cols], tile_last, last], axis=1)
        for i in range(0, m, array.rows)
        for j in range(0, n, array.cols)
    ]
    return np.packbits(np.concatenate(tiles), axis=1, bitorder="little")


def _idle(spec: DotSpec, side: str, k_beats: int) -> Beats:
    """Return the operands of an unused row or column: zeros, with scales of one."""
    beats = {}
    for name, field in side_layout(spec, side):
        if isinstance(field.shape, data.ArrayLayout) and name == side:
            integers = spec.a_ints if side == "a" else spec.b_ints
            beats[name] = np.full((k_beats, field.shape.length), integers.index(0))
        elif isinstance(field.shape, data.ArrayLayout):
            beats[name] = np.full((k_beats, field.shape.length), _one(spec, name))
        else:
            beats[name] = np.full(k_beats, _one(spec, name))
    return beats


def _one(spec: DotSpec, name: str) -> int:
    """Return the code of a neutral scale or zero point."""
    if name.endswith("_out"):
        return _FLOAT32_ONE
    if name.endswith("_zero"):
        return 0
    scale = spec.a_scale if name == "a_scale" else spec.b_scale
    assert scale is not None
    facts = element(scale)
    return facts.bias << facts.man_bits if isinstance(facts, FloatSpec) else 1


def _judge(
    testbench: Testbench,
    array: SystolicArray,
    gemm: Gemm,
    passes: Sequence[tuple[Pass, Willing]],
    records: Sequence[Record],
    target: Path,
) -> ArrayResult:
    """Compare one product's runs; leave a waveform of the first that fails."""
    m, n, k_beats = gemm.shape
    found = [_results(record, gemm, array) for record in records]
    due = array.rows * output_tiles(gemm, array.rows, array.cols)
    surplus = [max(len(_rows_taken(record)) - due, 0) * array.cols for record in records]
    wrong = [int((results != gemm.expected).sum()) + extra for results, extra in zip(found, surplus, strict=True)]
    trace = records[0].trace
    taken_in = np.flatnonzero((trace & (I_VALID | I_READY)) == (I_VALID | I_READY))
    taken_out = np.flatnonzero((trace & (O_VALID | O_READY)) == (O_VALID | O_READY))
    observed = int(taken_out[-1] - taken_in[0] + 1) if len(taken_in) and len(taken_out) else 0
    model = os_cycles(m, n, k_beats, array.rows, array.cols, array.buffer_beats, array.spec.latency)
    cycles = int(records[0].observed[0])
    bad = next((number for number, count in enumerate(wrong) if count), None if cycles == model == observed else 0)
    waveform = None
    if bad is not None:
        waveform = testbench.keep_waveform(*passes[bad], len(records[bad].trace), target)
    return ArrayResult(m, n, k_beats, len(found) * m * n, sum(wrong), cycles, model, observed, waveform)


def _results(record: Record, gemm: Gemm, array: SystolicArray) -> NDArray[np.int64]:
    """Put the rows that left the array into the product's shape, int64 [M, N]; -1 where none came."""
    m, n, _ = gemm.shape
    results = np.full((m + -m % array.rows, n + -n % array.cols), -1, np.int64)
    place = iter(_rows_taken(record))
    for i in range(0, m, array.rows):
        for j in range(0, n, array.cols):
            for row in range(array.rows):
                line = next(place, None)
                if line is not None:
                    results[i + row, j : j + array.cols] = line
    return results[:m, :n]


def _rows_taken(record: Record) -> NDArray[np.uint32]:
    """Return the rows that left the array, uint32 [rows taken, cols]."""
    taken = (record.trace[(record.trace & O_VALID) != 0] & O_READY) != 0
    return record.payloads[taken].copy().view("<u4")
