"""Run a network's layers on a machine: cycles from the array, energy from the cost table, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hwsim import pe
from hwsim.arch import GemmShape, Machine, MachineReport, load_machine, machine_names, simulate
from hwsim.cost import EnergyReport, energy, table_for
from hwsim.formats import get
from hwsim.formats.bundle import Bundle, read_bundle

OUT_BITS = 32
"""Bits of a result as it leaves the array: units return FP32."""


@dataclass(frozen=True)
class Simulation:
    """Hold the report of a machine and its energy, in total and by layer."""

    report: MachineReport
    energy: EnergyReport
    layer_energy: tuple[EnergyReport, ...]

    def totals(self) -> dict[str, Any]:
        """Return the totals as plain data."""
        report = self.report
        return {
            "machine": report.machine.spec.name,
            "cycles": report.cycles,
            "time_s": report.seconds,
            "macs": report.macs,
            "utilisation": report.utilisation,
            "dram_bits": sum(report.dram_bits.values()),
            "energy_pj": self.energy.total_pj,
            "status": self.energy.status,
            "energy_by_status_pj": self.energy.by_status_pj,
            "energy_table": self.energy.table,
            "energy_excludes": self.energy.excludes,
            "energy_parts": [
                {
                    "action": part.cost.action,
                    "count": part.count,
                    "energy_pj": part.energy_pj,
                    "status": part.cost.status,
                    "source": part.cost.source,
                    "basis": part.cost.basis,
                }
                for part in self.energy.parts
            ],
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a layer."""
        return [
            {
                "name": layer.name,
                "macs": layer.macs,
                "cycles": layer.cycles,
                "compute_cycles": layer.compute_cycles,
                "sram_cycles": layer.sram_cycles,
                "dram_cycles": layer.dram_cycles,
                "bound": layer.bound,
                "dram_bits": sum(layer.dram_bits.values()),
                "energy_pj": cost.total_pj,
                "status": cost.status,
            }
            for layer, cost in zip(self.report.layers, self.layer_energy, strict=True)
        ]


def gemm_shape(name: str, m: int, n: int, k: int, k_stored: int, fmt: str, unit: str | None = None) -> GemmShape:
    """Return a layer's shape with the stored bits of a weight format and of the activations that go with it.

    A unit's name tells which activations, where it takes other ones.
    """
    weight, activation = get(fmt), pe.activation_for(fmt, unit)
    weight_bits, activation_bits = weight.stored_bits((n, k_stored)), activation.stored_bits((m, k_stored))
    return GemmShape(name, m, n, k, k_stored, weight_bits, activation_bits, m * n * OUT_BITS)


def bundle_shapes(bundle: Bundle, m: int, unit: str | None = None) -> list[GemmShape]:
    """Return the shapes of a bundle's layers for `m` rows of activations, as a unit takes them."""
    return [
        gemm_shape(layer.name, m, layer.weight.shape[0], layer.k, layer.weight.k, layer.weight.format.name, unit)
        for layer in bundle.layers
    ]


def check_machine_takes(machine: Machine, fmt: str) -> None:
    """Refuse a format that the machine's unit does not take with its Params.

    Raises
    ------
    ValueError
        Naming the machine, its unit and the format.
    """
    _, params = pe.unit_for(get(fmt), machine.unit.NAME, machine.params.datapath.lanes)
    # how terms are added up, and in how many stages, is the machine's choice
    chosen = ("accumulator", "flags", "stages", "adder_tree")
    free = {name: getattr(machine.params, name) for name in chosen if hasattr(params, name)}
    if replace(params, **free) != machine.params:
        raise ValueError(
            f"machine {machine.spec.name} ({machine.file}): its {machine.unit.NAME} with {machine.params} does not "
            f"take format {fmt}, which needs {params}"
        )


def run(shapes: Iterable[GemmShape], machine: Machine) -> Simulation:
    """Simulate layers one after the other and charge their actions."""
    report = simulate(shapes, machine)
    table = table_for(machine)
    return Simulation(
        report, energy(report.actions, table), tuple(energy(layer.actions, table) for layer in report.layers)
    )


@lru_cache(maxsize=1)
def _shipped_machines() -> tuple[Machine, ...]:
    """Return the machines that come with the package; their files are read once."""
    return tuple(load_machine(name) for name in machine_names())


def machine_for(fmt: str) -> str:
    """Return the name of the shipped machine that takes a format.

    Raises
    ------
    ValueError
        When none does.
    """
    for machine in _shipped_machines():
        try:
            check_machine_takes(machine, fmt)
        except ValueError:
            continue
        return machine.name
    raise ValueError(f"no shipped machine takes format {fmt}; machines: {', '.join(machine_names())}")


def simulate_file(file: Path, machine_name: str, m: int) -> dict[str, Any]:
    """Run `hwsim simulate`: return the document of totals and one row a layer.

    Raises
    ------
    ValueError
        When the bundle or the machine cannot be read, or the machine's unit does not take the bundle's format.
    """
    machine = load_machine(machine_name)
    bundle = read_bundle(file)
    for name in {layer.weight.format.name for layer in bundle.layers}:
        check_machine_takes(machine, name)
    simulation = run(bundle_shapes(bundle, m, machine.unit.NAME), machine)
    return {"bundle": str(file), "activation_rows": m, **simulation.totals(), "rows": simulation.rows()}
