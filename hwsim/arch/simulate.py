"""Run a list of GEMMs on a machine: cycles, traffic, utilisation and counts of actions, layer by layer.

The array's cycles are those of `systolic_timing`, which the RTL reproduces. Buffers and DRAM bound them as a roofline:
each is busy for its bits over its width, everything overlaps, and a layer takes as long as its busiest part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from hwsim.arch.machine import Machine
from hwsim.arch.memory import SRAM_WORD_BITS, ceil_div, dram_action, dram_reads_bits, sram_action
from hwsim.arch.systolic_timing import os_cycles
from hwsim.pe._dot import beats_per_dot

INT64_MAX = (1 << 63) - 1


@dataclass(frozen=True)
class GemmShape:
    """State one layer C[M, N] = A[M, K] B[N, K]^T by its shape and its stored bits.

    Parameters
    ----------
    name : str
        Name of the layer.
    m, n, k : int
        Rows of A, rows of B, and length of the dot products without padding.
    k_stored : int
        K with the padding that is stored and streamed.
    weight_bits, act_bits, out_bits : int
        Stored bits of B, A and C: codes with padding, scales and zero points.

    Raises
    ------
    ValueError
        When a number is no positive integer or `k_stored` is below `k`.
    """

    name: str
    m: int
    n: int
    k: int
    k_stored: int
    weight_bits: int
    act_bits: int
    out_bits: int

    def __post_init__(self) -> None:
        for field in ("m", "n", "k", "k_stored", "weight_bits", "act_bits", "out_bits"):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"layer {self.name!r}: {field} must be a positive integer, not {value!r}")
        if self.k_stored < self.k:
            raise ValueError(f"layer {self.name!r}: k_stored must be at least k = {self.k}, not {self.k_stored}")


@dataclass(frozen=True)
class LayerReport:
    """What one layer costs on a machine. Dictionaries have the buffers ``act``, ``weight``, ``out`` as keys.

    ``cycles`` is the largest of the three bounds and ``bound`` says which (the first of compute, sram, dram on a tie).
    ``macs`` leaves padding out; ``actions`` counts events by name, as `hwsim.cost` takes them.
    """

    name: str
    macs: int
    compute_cycles: int
    sram_cycles: int
    dram_cycles: int
    stored_bits: dict[str, int]
    dram_bits: dict[str, int]
    sram_read_bits: dict[str, int]
    sram_write_bits: dict[str, int]
    actions: dict[str, int]

    @property
    def cycles(self) -> int:
        """Cycles of the layer."""
        return max(self.compute_cycles, self.sram_cycles, self.dram_cycles)

    @property
    def bound(self) -> str:
        """Which part the layer waits for: compute, sram or dram."""
        bounds = {"compute": self.compute_cycles, "sram": self.sram_cycles, "dram": self.dram_cycles}
        return max(bounds, key=lambda name: bounds[name])


@dataclass(frozen=True)
class MachineReport:
    """What a list of layers costs on a machine, one after the other; every total is the sum over `layers`."""

    machine: Machine
    layers: tuple[LayerReport, ...]

    @property
    def cycles(self) -> int:
        """Cycles of all layers."""
        return _int64(sum(layer.cycles for layer in self.layers), "cycles of all layers")

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates, without padding."""
        return _int64(sum(layer.macs for layer in self.layers), "macs of all layers")

    @property
    def seconds(self) -> float:
        """Time of all layers in seconds."""
        return self.cycles / self.machine.spec.clock_hz

    @property
    def utilisation(self) -> float:
        """Useful share of the products that the array could have formed in these cycles."""
        return self.macs / (self.machine.macs_per_cycle * self.cycles) if self.cycles else 0.0

    @property
    def stored_bits(self) -> dict[str, int]:
        """Stored bits by operand."""
        return _sum(layer.stored_bits for layer in self.layers)

    @property
    def dram_bits(self) -> dict[str, int]:
        """Bits moved to or from DRAM by operand."""
        return _sum(layer.dram_bits for layer in self.layers)

    @property
    def actions(self) -> dict[str, int]:
        """Events by name."""
        return _sum(layer.actions for layer in self.layers)


def simulate(layers: Iterable[GemmShape], machine: Machine) -> MachineReport:
    """Run layers on a machine, one after the other.

    Padding of K is streamed and stored, so it costs cycles and traffic; it is left out of MACs and of the unit's
    actions.

    Raises
    ------
    OverflowError
        When a count does not fit 64 bits.
    ValueError
        When a dot product is longer than the unit's exact sum is sized for.
    """
    return MachineReport(machine, tuple(_layer(shape, machine) for shape in layers))


def _layer(shape: GemmShape, machine: Machine) -> LayerReport:
    array, buffers, datapath = machine.spec.array, machine.spec.buffers, machine.params.datapath
    beats = beats_per_dot(shape.k_stored, datapath)
    compute = os_cycles(shape.m, shape.n, beats, array.rows, array.cols, array.buffer_beats, datapath.latency)

    weight_dram, act_dram = dram_reads_bits(
        shape.weight_bits, shape.act_bits, buffers.weight.size_bytes * 8, buffers.act.size_bytes * 8
    )
    dram = {"act": act_dram, "weight": weight_dram, "out": shape.out_bits}
    # Each band of columns streams all of A, each band of rows all of B; results leave the array once.
    reads = {
        "act": shape.act_bits * ceil_div(shape.n, array.cols),
        "weight": shape.weight_bits * ceil_div(shape.m, array.rows),
        "out": shape.out_bits,
    }
    writes = dict(dram)
    actions = Counter(machine.unit.actions(shape.m, shape.n, shape.k, machine.params))
    sram_cycles = 0
    for name in ("act", "weight", "out"):
        buffer = getattr(buffers, name)
        sram_cycles = max(sram_cycles, *(ceil_div(bits, buffer.port_bits) for bits in (reads[name], writes[name])))
        for kind, bits in (("read", reads[name]), ("write", writes[name])):
            actions[sram_action(kind, buffer.size_bytes)] += ceil_div(bits, SRAM_WORD_BITS)
    actions[dram_action(machine.spec.dram.energy)] += sum(dram.values())

    report = LayerReport(
        name=shape.name,
        macs=shape.m * shape.n * shape.k,
        compute_cycles=compute,
        sram_cycles=sram_cycles,
        dram_cycles=ceil_div(sum(dram.values()) * machine.spec.clock_hz, 8 * machine.spec.dram.bandwidth_bytes_per_s),
        stored_bits={"act": shape.act_bits, "weight": shape.weight_bits, "out": shape.out_bits},
        dram_bits=dram,
        sram_read_bits=reads,
        sram_write_bits=writes,
        actions=dict(actions),
    )
    _check(report)
    return report


def _check(report: LayerReport) -> None:
    """Refuse counts that a table of 64-bit integers could not hold."""
    where = f"layer {report.name!r}"
    for field in ("macs", "compute_cycles", "sram_cycles", "dram_cycles"):
        _int64(getattr(report, field), f"{where}: {field}")
    for field in ("dram_bits", "sram_read_bits", "sram_write_bits", "actions"):
        for key, value in getattr(report, field).items():
            _int64(value, f"{where}: {field} of {key}")


def _int64(value: int, what: str) -> int:
    if not 0 <= value <= INT64_MAX:
        raise OverflowError(f"{what}: {value} does not fit a 64-bit count (largest: {INT64_MAX})")
    return value


def _sum(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return {key: _int64(value, f"{key} of all layers") for key, value in total.items()}
