"""Check a unit's RTL against its model: equal bits, and equal cycles with and without stalls."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwsim import pe
from hwsim.flow.operands import (
    Batch,
    Dots,
    bundle_batches,
    chunks,
    directed,
    directed_batches,
    formats_of,
    from_bundle,
    vector_chunks,
)
from hwsim.flow.progress import Reporter
from hwsim.formats.bundle import Bundle, read_bundle

if TYPE_CHECKING:
    from rtl.sim.bulk_cosim import BulkCosim
    from rtl.sim.run import CosimResult

DEFAULT_VECTORS = 512
MAX_VERILOG_VECTORS = 10_000_000
"""Above this a Verilog simulator would run for days, and its trace would fill the memory."""


def cosim_dots(
    name: str, unit: str, params: Any, dots: Dots, *, engine: str, seed: int, waveform_dir: Path
) -> dict[str, Any]:
    """Run dot products through a unit's RTL; return one result row.

    ``vectors`` counts the dot products, ``comparisons`` every result compared: each pass (unstalled, stalled, reset in
    mid-stream) compares anew, and ``mismatches`` and ``cycle_mismatches`` add up over the passes.
    """
    from rtl.sim.run import cosim

    start = time.perf_counter()
    result = cosim(unit, params, dots.beats, dots.expected, engine=engine, seed=seed, waveform_dir=waveform_dir / name)
    spent_s = time.perf_counter() - start
    return _row(name, unit, params, result, engine=engine, vectors=len(dots.expected), macs=dots.macs, spent_s=spent_s)


def cosim_batches(
    name: str,
    unit: Any,
    params: Any,
    batches: Iterable[Batch],
    *,
    vectors: int,
    seed: int,
    waveform_dir: Path,
    reporter: Reporter,
) -> dict[str, Any]:
    """Run batches of dot products through a unit in the bulk engine, in constant memory; return one result row.

    Fields as of `cosim_dots`. ``vectors_per_s`` counts the making of operands, the model and the hardware.
    """
    from rtl.sim.bulk_cosim import BulkCosim

    bulk = BulkCosim(unit.NAME, params, seed=seed, waveform_dir=waveform_dir / name)
    macs = 0

    def work() -> Iterator[tuple[Any, Any, int]]:
        nonlocal macs
        for beats, expected, products in chunks(batches, unit, params):
            macs += products
            yield beats, expected, len(expected)

    spent_s = _stream(bulk, work(), f"cosim {unit.NAME} (bulk) {name}", vectors, reporter)
    return _row(name, unit.NAME, params, bulk.total, engine="bulk", vectors=vectors, macs=macs, spent_s=spent_s)


def _stream(
    bulk: BulkCosim, work: Iterable[tuple[Any, Any, int]], description: str, vectors: int, reporter: Reporter
) -> float:
    """Check chunks (beats, expected, vectors), with a progress bar; return the seconds that it took.

    The compiled unit runs beside the making of the next chunk, one chunk ahead at most.
    """
    start = time.perf_counter()
    with reporter.bars() as bars, ThreadPoolExecutor(max_workers=1) as worker:
        task = bars.add_task(description, total=vectors)
        running = None
        for beats, expected, count in work:
            if running is not None:
                running.result()
            running = worker.submit(bulk.check, beats, expected)
            bars.advance(task, count)
        if running is not None:
            running.result()
    return time.perf_counter() - start


def cosim_vectors(
    name: str, unit: Any, params: Any, *, engine: str, vectors: int, seed: int, waveform_dir: Path, reporter: Reporter
) -> dict[str, Any]:
    """Check a unit that streams vectors on operands that it draws itself; return one result row.

    Fields as of `cosim_dots`; ``vectors`` counts vectors (transactions), and there are no MACs.
    """
    from rtl.lib.elastic_stream import fields_layout
    from rtl.sim.bulk import to_integers
    from rtl.sim.bulk_cosim import BulkCosim
    from rtl.sim.payload import join_beats, pack_words
    from rtl.sim.run import cosim

    folder = waveform_dir / name
    results, beats_each = params.datapath.results, params.datapath.beats
    layout = fields_layout(params.datapath.outputs)
    if engine == "bulk":
        bulk = BulkCosim(unit.NAME, params, seed=seed, waveform_dir=folder)
        work = (
            (beats, words := pack_words(fields, layout), len(words) // results)
            for beats, fields in vector_chunks(unit, params, vectors, seed)
        )
        spent_s = _stream(bulk, work, f"cosim {unit.NAME} (bulk) {name}", vectors, reporter)
        return _row(name, unit.NAME, params, bulk.total, engine=engine, vectors=vectors, macs=0, spent_s=spent_s)
    dots: list[dict[str, Any]] = []
    start = time.perf_counter()
    for beats, _ in vector_chunks(unit, params, vectors, seed):
        count = len(beats["last"])
        dots += [
            {key: values[at : at + beats_each] for key, values in beats.items()} for at in range(0, count, beats_each)
        ]
    # of the stream as a whole: the state of a shift register outlives a chunk
    expected = to_integers(pack_words(unit.outputs(join_beats(dots), params), layout))
    result = cosim(unit.NAME, params, dots, expected, engine=engine, seed=seed, waveform_dir=folder)
    spent_s = time.perf_counter() - start
    return _row(name, unit.NAME, params, result, engine=engine, vectors=vectors, macs=0, spent_s=spent_s)


def _row(
    name: str, unit: str, params: Any, result: CosimResult, *, engine: str, vectors: int, macs: int, spent_s: float
) -> dict[str, Any]:
    return {
        "name": name,
        "pe": unit,
        "params": asdict(params),
        "engine": engine,
        "vectors": vectors,
        "comparisons": result.vectors,
        "macs": macs,
        "mismatches": result.mismatches,
        "cycle_mismatches": result.cycle_mismatches,
        "cycles": result.cycles,
        "simulated_cycles": result.simulated_cycles,
        "vectors_per_s": vectors / spent_s,
        "seed": result.seed,
        "first_mismatch": result.first_mismatch,
        "waveform": str(result.waveform) if result.waveform else None,
        "replay": str(result.replay) if result.replay else None,
    }


def cosim_bundle(
    bundle: Bundle,
    unit_name: str | None,
    *,
    engine: str,
    vectors: int,
    seed: int,
    waveform_dir: Path,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Check the unit on operands of a bundle's layers; return one result row. The bulk engine reports progress.

    Raises
    ------
    ValueError
        When the bundle mixes formats, holds no sample activations, or the unit does not take its format.
    """
    formats = sorted({layer.weight.format.name for layer in bundle.layers})
    if len(formats) != 1:
        raise ValueError(f"cosim takes a bundle of one format, not of {', '.join(formats) or 'none'}")
    unit, params = pe.unit_for(formats[0], unit_name)
    if engine == "bulk":
        batches = bundle_batches(bundle, vectors, seed)
        row = cosim_batches(
            formats[0], unit, params, batches, vectors=vectors, seed=seed, waveform_dir=waveform_dir,
            reporter=reporter or Reporter(quiet=True),
        )  # fmt: skip
    else:
        dots = from_bundle(bundle, unit, params, vectors, seed)
        row = cosim_dots(formats[0], unit.NAME, params, dots, engine=engine, seed=seed, waveform_dir=waveform_dir)
    return {**row, "operands": "layers", "layers": sum(layer.activation is not None for layer in bundle.layers)}


def cosim_command(
    unit_name: str,
    bundle_file: Path | None,
    *,
    engine: str,
    vectors: int,
    seed: int,
    waveform_dir: Path,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Run `hwsim cosim`: a bundle's operands, or directed and random operands in every format of the unit."""
    from rtl.sim.simulators import BULK, find_simulator

    found: Any = pe.unit(unit_name)
    if engine != BULK:
        if vectors > MAX_VERILOG_VECTORS:
            raise ValueError(
                f"{vectors:,} vectors are too many for a Verilog simulator (at most {MAX_VERILOG_VECTORS:,}); "
                "take --engine bulk"
            )
        engine = find_simulator(engine).engine  # a wrong engine is said before any work is done
    if not hasattr(found, "params_for"):
        if bundle_file is not None:
            raise ValueError(f"unit {unit_name!r} multiplies no weights; it takes no operands from a bundle")
        rows = []
        for name, params in found.configurations().items():
            row = cosim_vectors(
                name, found, params, engine=engine, vectors=vectors, seed=seed, waveform_dir=waveform_dir,
                reporter=reporter,
            )  # fmt: skip
            rows.append({**row, "operands": "directed", "layers": 0})
        return rows
    if engine == BULK:
        return _cosim_bulk(unit_name, bundle_file, vectors, seed, waveform_dir, reporter)
    if bundle_file is not None:
        bundle = read_bundle(bundle_file)
        with reporter.busy(f"cosim {unit_name} ({engine})"):
            row = cosim_bundle(bundle, unit_name, engine=engine, vectors=vectors, seed=seed, waveform_dir=waveform_dir)
        return [row]
    rows = []
    formats = formats_of(unit_name)
    for fmt in reporter.track(formats, f"cosim {unit_name} ({engine})", total=len(formats)):
        unit, params = pe.unit_for(fmt, unit_name)
        dots = directed(fmt, unit, params, vectors, seed)
        row = cosim_dots(fmt, unit_name, params, dots, engine=engine, seed=seed, waveform_dir=waveform_dir)
        rows.append({**row, "operands": "directed", "layers": 0})
    return rows


def _cosim_bulk(
    unit_name: str, bundle_file: Path | None, vectors: int, seed: int, waveform_dir: Path, reporter: Reporter
) -> list[dict[str, Any]]:
    if bundle_file is not None:
        bundle = read_bundle(bundle_file)
        return [
            cosim_bundle(
                bundle, unit_name, engine="bulk", vectors=vectors, seed=seed, waveform_dir=waveform_dir,
                reporter=reporter,
            )
        ]  # fmt: skip
    rows = []
    for fmt in formats_of(unit_name):
        unit, params = pe.unit_for(fmt, unit_name)
        batches = directed_batches(fmt, params, vectors, seed)
        row = cosim_batches(
            fmt, unit, params, batches, vectors=vectors, seed=seed, waveform_dir=waveform_dir, reporter=reporter
        )
        rows.append({**row, "operands": "directed", "layers": 0})
    return rows


def replay_command(case_file: Path, *, engine: str) -> dict[str, Any]:
    """Run `hwsim cosim --replay`: one case that a failing run left; return one result row."""
    from rtl.sim.bulk_case import read_case, replay
    from rtl.sim.simulators import BULK, find_simulator

    case = read_case(case_file)
    engine = engine if engine == BULK else find_simulator(engine).engine
    verdict = replay(case, engine)
    return {
        "name": str(case_file),
        "pe": case.unit,
        "params": dict(case.params),
        "engine": engine,
        "vectors": len(case.dots),
        "comparisons": verdict.vectors,
        "macs": sum(dot["a"].size for dot in case.dots if "a" in dot),
        "mismatches": verdict.mismatches,
        "cycle_mismatches": verdict.cycle_mismatches,
        "cycles": verdict.cycles,
        "seed": None,
        "first_mismatch": str(verdict.first) if verdict.first else None,
        "operands": "case",
        "layers": 0,
    }
