"""Workloads known by shape on machines timed by their publication's rule."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hwsim.arch.conventions import LayerTiming, Options, PublishedMachine, load_published


def simulate_workload(
    workload: str,
    machine: str,
    *,
    phase: str = "prefill",
    context: int | None = None,
    batch: int = 1,
    options: Options | None = None,
) -> dict[str, Any]:
    """Run `hwsim simulate --workload`: return the document of totals and one row a layer.

    Raises
    ------
    ValueError
        When workload or machine cannot be read, or do not go together.
    """
    from models import workloads

    options = options or Options()
    found = workloads.load(workload, phase, context, batch)
    published = load_published(machine)
    layers = published.run(found, options)
    total = sum(layer.cycles for layer in layers)
    macs = sum(layer.macs for layer in layers)
    document = {
        "workload": found.name,
        "workload_source": found.source,
        "phase": found.phase,
        "context_tokens": found.context,
        "batch": found.batch,
        "attention": options.attention,
        "machine": published.spec.name,
        "timing": published.spec.timing,
        "machine_source": published.spec.source,
        "total_cycles": total,
        "least_cycles": sum(layer.least_cycles for layer in layers),
        "time_s": total / published.spec.clock_hz,
        "macs": macs,
        "utilisation": _share(macs, sum((layer.peak_macs_per_cycle * layer.cycles for layer in layers), Fraction(0))),
        "dram_bytes": sum(layer.dram_bytes for layer in layers),
        "energy_pj": _energy(published, layers, found),
        "energy_status": "published",
        "energy_excludes": "on-chip memories, leakage",
        "rows": [_row(layer) for layer in layers],
    }
    if document["energy_pj"] is None:
        document |= {"energy_status": "not available", "energy_excludes": f"rule {published.spec.timing} states none"}
    return document


def _energy(machine: PublishedMachine, layers: tuple[LayerTiming, ...], workload: Any) -> dict[str, float] | None:
    parts = getattr(machine.convention, "energy_pj", None)
    return None if parts is None else parts(layers, workload, machine.spec)


def _row(layer: LayerTiming) -> dict[str, Any]:
    return {
        "name": layer.name,
        "repeat": layer.repeat,
        "macs": layer.macs,
        "cycles": layer.cycles,
        "least_cycles": layer.least_cycles,
        "compute_cycles": layer.compute_cycles,
        "dram_cycles": layer.dram_cycles,
        "bound": "compute" if layer.compute_cycles >= layer.dram_cycles else "dram",
        "dram_bytes": layer.dram_bytes,
        "utilisation": _share(layer.macs, layer.peak_macs_per_cycle * layer.cycles),
    }


def _share(part: int, whole: Fraction) -> float:
    return float(part / whole) if whole else 0.0
