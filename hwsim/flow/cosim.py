"""Check a unit's RTL against its model: equal bits, and equal cycles with and without stalls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
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
    formats_of,
    from_bundle,
    mass_batches,
    vector_chunks,
)
from hwsim.flow.params import operand_formats, read_params
from hwsim.flow.progress import Reporter
from hwsim.formats import Format, get
from hwsim.formats import names as all_formats
from hwsim.formats.bundle import Bundle, read_bundle

if TYPE_CHECKING:
    from rtl.sim.bulk_cosim import BulkCosim
    from rtl.sim.run import CosimResult

DEFAULT_VECTORS = 512
MAX_VERILOG_VECTORS = 10_000_000
"""Above this a Verilog simulator would run for days, and its trace would fill the memory."""

_CUSTOM = "custom"
"""Name of a run whose Params no format of the catalogue has."""


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
    """Check chunks (beats, expected, vectors), with a progress bar; return the seconds that it took."""
    start = time.perf_counter()
    with reporter.bars() as bars:
        task = bars.add_task(description, total=vectors)
        check_beside(bulk, work, lambda count: bars.advance(task, count))
    return time.perf_counter() - start


def check_beside(bulk: BulkCosim, work: Iterable[tuple[Any, Any, int]], advance: Callable[[int], None]) -> None:
    """Check chunks (beats, expected, vectors) and tell the vectors of each to `advance`.

    The compiled unit runs beside the making of the next chunk, one chunk ahead at most.
    """
    with ThreadPoolExecutor(max_workers=1) as worker:
        running = None
        for beats, expected, count in work:
            if running is not None:
                running.result()
            running = worker.submit(bulk.check, beats, expected)
            advance(count)
        if running is not None:
            running.result()


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
    params_text: str = "",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Check the unit on operands of a bundle's layers; return one result row. The bulk engine reports progress.

    The unit's Params are those for the bundle's format, with the changes of `params_text` (`hwsim.flow.params`).

    Raises
    ------
    ValueError
        When the bundle mixes formats, holds no sample activations, or the unit does not take its format.
    """
    formats = sorted({layer.weight.format.name for layer in bundle.layers})
    if len(formats) != 1:
        raise ValueError(f"cosim takes a bundle of one format, not of {', '.join(formats) or 'none'}")
    unit, params = pe.unit_for(formats[0], unit_name)
    params = read_params(unit, params_text, params)
    if engine == "bulk":
        batches = bundle_batches(bundle, vectors, seed, unit.NAME)
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
    params_text: str = "",
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Run `hwsim cosim`: a bundle's operands, or directed and random operands; return one result row each run.

    Without `params_text` and bundle there is one run for every format that the unit takes (for every configuration, of
    units that stream vectors), else one, with those Params.

    Raises
    ------
    ValueError
        When a name, the Params, the bundle or the number of vectors cannot be used.
    SimulatorError
        When an engine is missing or fails.
    """
    from rtl.sim.simulators import BULK, find_simulator

    found: Any = pe.unit(unit_name)
    if engine != BULK:
        if vectors > MAX_VERILOG_VECTORS:
            raise ValueError(
                f"{vectors:,} vectors are too many for a Verilog simulator (at most {MAX_VERILOG_VECTORS:,}); "
                "take --engine bulk"
            )
        engine = find_simulator(engine).engine  # a wrong engine is said before any work is done
    shared: dict[str, Any] = {"engine": engine, "vectors": vectors, "seed": seed, "waveform_dir": waveform_dir}
    drawn = {"operands": "directed", "layers": 0}
    if not hasattr(found, "params_for"):
        if bundle_file is not None:
            raise ValueError(f"unit {unit_name!r} multiplies no weights; it takes no operands from a bundle")
        named = {_CUSTOM: read_params(found, params_text, found.Params())} if params_text else found.configurations()
        return [
            {**cosim_vectors(name, found, params, reporter=reporter, **shared), **drawn}
            for name, params in named.items()
        ]
    if bundle_file is not None:
        bundle = read_bundle(bundle_file)
        with reporter.busy(f"cosim {unit_name} ({engine})"):
            quiet = Reporter(quiet=True) if engine != BULK else reporter
            return [cosim_bundle(bundle, unit_name, params_text=params_text, reporter=quiet, **shared)]
    rows = []
    runs = _runs(found, params_text)
    for name, params, weight, activation in (
        runs if engine == BULK else reporter.track(runs, f"cosim {unit_name} ({engine})", total=len(runs))
    ):
        if engine == BULK:
            batches = mass_batches(weight, params, vectors, seed, activation)
            row = cosim_batches(
                name, found, params, batches, vectors=vectors, seed=seed, waveform_dir=waveform_dir, reporter=reporter
            )
        else:
            dots = directed(weight, found, params, vectors, seed, activation)
            row = cosim_dots(name, unit_name, params, dots, engine=engine, seed=seed, waveform_dir=waveform_dir)
        rows.append({**row, **drawn})
    return rows


def _runs(unit: Any, params_text: str) -> list[tuple[str, Any, Format, Format]]:
    """Return name, Params, and formats of weights and activations of every run on operands that are made."""
    if not params_text:
        return [
            (fmt, pe.unit_for(fmt, unit.NAME)[1], get(fmt), pe.activation_for(fmt, unit.NAME))
            for fmt in formats_of(unit.NAME)
        ]
    params = read_params(unit, params_text, unit.Params())
    weight, activation = operand_formats(unit, params)
    name = weight.name if weight.name in all_formats() else _CUSTOM
    return [(name, params, weight, activation)]


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
