"""Check a unit's RTL against its model: equal bits, and equal cycles with and without stalls."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from hwsim import pe
from hwsim.flow.operands import Dots, directed, formats_of, from_bundle
from hwsim.flow.progress import Reporter
from hwsim.formats.bundle import Bundle, read_bundle

DEFAULT_VECTORS = 512


def cosim_dots(
    name: str, unit: str, params: Any, dots: Dots, *, engine: str, seed: int, waveform_dir: Path
) -> dict[str, Any]:
    """Run dot products through a unit's RTL; return one result row.

    ``vectors`` counts the dot products, ``comparisons`` every result compared: each pass (unstalled, stalled, reset in
    mid-stream) compares anew, and ``mismatches`` and ``cycle_mismatches`` add up over the passes.
    """
    from rtl.sim.run import cosim

    result = cosim(unit, params, dots.beats, dots.expected, engine=engine, seed=seed, waveform_dir=waveform_dir / name)
    return {
        "name": name,
        "pe": unit,
        "params": asdict(params),
        "engine": engine,
        "vectors": len(dots.expected),
        "comparisons": result.vectors,
        "macs": dots.macs,
        "mismatches": result.mismatches,
        "cycle_mismatches": result.cycle_mismatches,
        "cycles": result.cycles,
        "simulated_cycles": result.simulated_cycles,
        "seed": seed,
        "first_mismatch": result.first_mismatch,
        "waveform": str(result.waveform) if result.waveform else None,
    }


def cosim_bundle(
    bundle: Bundle, unit_name: str | None, *, engine: str, vectors: int, seed: int, waveform_dir: Path
) -> dict[str, Any]:
    """Check the unit on operands of a bundle's layers; return one result row.

    Raises
    ------
    ValueError
        When the bundle mixes formats, holds no sample activations, or the unit does not take its format.
    """
    formats = sorted({layer.weight.format.name for layer in bundle.layers})
    if len(formats) != 1:
        raise ValueError(f"cosim takes a bundle of one format, not of {', '.join(formats) or 'none'}")
    unit, params = pe.unit_for(formats[0], unit_name)
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
    from rtl.sim.simulators import find_simulator

    pe.unit(unit_name)
    engine = find_simulator(engine).engine  # a wrong engine is said before any work is done
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
