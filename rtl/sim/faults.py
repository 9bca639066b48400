"""Plant faults in a unit's netlist and see whether the bench finds them: a test of the tests.

Yosys' ``mutate`` chooses places in the flattened netlist and puts all faults into one copy of it, where the value of
an input switches one on. So a campaign compiles once. A fault that the bench does not find is handed to a solver
(:mod:`rtl.sim.fault_proof`), which may prove that no bench could.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import rtlil
from amaranth.lib import wiring
from numpy.typing import NDArray

from hwsim.pe._serial import SerialSpec
from hwsim.pe._stream import StreamSpec
from rtl.pe import component
from rtl.sim.aiger import Circuit, read_circuit
from rtl.sim.bulk import DESIGN, BulkSimulator, stream_widths
from rtl.sim.bulk_build import compile_design
from rtl.sim.fault_proof import CIRCUIT_SCRIPT, CONTROL, Effort, Proof, prove
from rtl.sim.fault_proof import Beats as UnitBeats
from rtl.sim.job import Pass, Willing
from rtl.sim.payload import Beats, pack_words
from rtl.sim.run import PASS_NAMES, plan_passes
from rtl.sim.verilog import TOP

Operands = Sequence[tuple[Beats, NDArray[np.uint32]]]
"""Chunks of dot products: their beats, one after the other, and their result bits."""

EFFORT = Effort()
_LIST, _CIRCUIT = "faults.txt", "faulty.aig"


@dataclass(frozen=True)
class Fault:
    """One place in the netlist, and what is wrong there.

    Attributes
    ----------
    number : int
        Value of the control input that switches it on, from 1.
    mode : str
        ``inv``, ``const0``, ``const1``: the bit is inverted or stuck; ``cnot0``, ``cnot1``: inverted when another bit
        of the port is 0 or 1.
    cell, port : str
    bit : int
        Of the port.
    wire : str or None
        Bit of the source that the port is connected to.
    """

    number: int
    mode: str
    cell: str
    port: str
    bit: int
    wire: str | None

    def __str__(self) -> str:
        place = f"{self.wire} at " if self.wire else ""
        return f"fault {self.number}: {self.mode} of {place}{self.cell}.{self.port}[{self.bit}]"


@dataclass(frozen=True)
class Catch:
    """How the bench found a fault.

    Attributes
    ----------
    fault : Fault
    vectors : int
        Dot products compared until then.
    how : str
        Pass and first mismatch, in words.
    """

    fault: Fault
    vectors: int
    how: str


@dataclass(frozen=True)
class Verdict:
    """What is known of a fault that the bench did not find.

    Attributes
    ----------
    fault : Fault
    proof : Proof
    """

    fault: Fault
    proof: Proof


@dataclass(frozen=True)
class FaultReport:
    """Outcome of a campaign.

    Attributes
    ----------
    caught : tuple of Catch
    unseen : tuple of Verdict
        Not found, and what the solver says of them.
    """

    caught: tuple[Catch, ...]
    unseen: tuple[Verdict, ...]

    @property
    def harmless(self) -> tuple[Verdict, ...]:
        """Those that are proved never to show."""
        return tuple(verdict for verdict in self.unseen if verdict.proof.kind == "harmless")

    @property
    def bounded(self) -> tuple[Verdict, ...]:
        """Those that are proved not to show in any run of so many cycles."""
        return tuple(verdict for verdict in self.unseen if verdict.proof.kind == "bounded")

    @property
    def survivors(self) -> tuple[Verdict, ...]:
        """The others: each is a hole in the bench, or harmless for a reason that the solver did not find."""
        return tuple(verdict for verdict in self.unseen if verdict.proof.kind in ("shows", "open"))

    @property
    def faults(self) -> int:
        """Faults planted."""
        return len(self.caught) + len(self.unseen)


@dataclass(frozen=True)
class FaultyUnit:
    """A unit compiled with its faults.

    Attributes
    ----------
    simulator : BulkSimulator
        Takes a fault's number.
    circuit : Circuit
        The netlist with all faults.
    beats : Beats
        How its beats come.
    faults : tuple of Fault
    """

    simulator: BulkSimulator
    circuit: Circuit
    beats: UnitBeats
    faults: tuple[Fault, ...]

    def prove(self, fault: Fault, effort: Effort) -> Proof:
        """Try to prove that a fault never shows; see :mod:`rtl.sim.fault_proof`."""
        return prove(self.circuit, self.beats, fault.number, effort)


def plant_faults(unit: wiring.Component, count: int, seed: int = 0, wire: str | None = None) -> FaultyUnit:
    """Compile a unit with at most ``count`` faults, spread evenly over its netlist; kept in the user's cache.

    With ``wire``, all of them are on the signal of that name in the flattened netlist. Those that Yosys would plant on
    the clock of a register are left out: gated, it would be a second clock, which the driver's cycle does not know.

    Raises
    ------
    ValueError
        If there is no place for any fault.
    SimulatorError
        If Yosys or g++ is missing or fails.
    """
    if count < 1:
        raise ValueError(f"a campaign plants at least one fault, not {count}")
    places = f" -wire {wire}" if wire is not None else ""
    listing = f"mutate -list {count} -seed {seed} -ctrl {CONTROL} {count.bit_length()} 1{places} -o {_LIST}"
    widths = stream_widths(unit)
    text = rtlil.convert(unit, name=TOP, emit_src=False)
    folder = _compile({DESIGN: text}, [listing])
    lines = (folder / _LIST).read_text().splitlines()
    if any(map(_is_on_clock, lines)):
        lines = [line for line in lines if not _is_on_clock(line)]
        folder = _compile({DESIGN: text, _LIST: "\n".join(lines) + "\n"}, [])
    if not lines:
        raise ValueError(f"there is no place for a fault{places and f' on wire {wire!r}'}")
    return FaultyUnit(
        BulkSimulator(folder / "design.so", *widths), read_circuit(folder / _CIRCUIT), _beats(unit),
        tuple(map(_parse, lines)),
    )  # fmt: skip


def _is_on_clock(line: str) -> bool:
    return " -port CLK " in line


def _compile(sources: dict[str, str], listing: Sequence[str]) -> Path:
    """Compile a design with the faults of a list, which is given or is made by commands, and write its circuit."""
    script = [
        f"read_rtlil {DESIGN}",
        # parts that can have no effect are no places for faults
        "proc -norom",
        "flatten",
        "opt_expr",
        "wreduce",
        "opt_expr",
        "opt_clean",
        *listing,
        f"script {_LIST}",
        "design -push-copy",
        *CIRCUIT_SCRIPT[:-1],
        f"{CIRCUIT_SCRIPT[-1]} {_CIRCUIT}",
        "design -pop",
    ]
    return compile_design(sources, script, keep=(_LIST, _CIRCUIT), defines=("HWSIM_FAULTS",))


def _beats(unit: Any) -> UnitBeats:
    """Return how the beats of a unit come: in whole blocks, or in transactions of one length."""
    spec, field = unit.spec, unit.i.payload.shape()["last"]
    if isinstance(spec, StreamSpec):
        return UnitBeats(spec.beats, True, field.offset, spec.latency)
    longest = spec.most_beat_cycles if isinstance(spec, SerialSpec) else 1
    return UnitBeats(spec.step_beats, False, field.offset, spec.latency + longest - 1)


def _parse(line: str) -> Fault:
    """Read one line of Yosys' list."""
    words = line.split()
    number = int(words[words.index("-ctrl") + 3])
    options = {words[at]: words[at + 1] for at in range(len(words) - 1) if words[at].startswith("-")}
    wire = f"{options['-wire']}[{options['-wirebit']}]" if "-wire" in options else None
    return Fault(number, options["-mode"], options["-cell"], options["-port"], int(options["-portbit"]), wire)


def run_campaign(
    unit_name: str,
    params: Any,
    operands: Operands,
    *,
    faults: int = 100,
    seed: int = 0,
    effort: Effort = EFFORT,
    hardware: wiring.Component | None = None,
    step: Callable[[], None] = lambda: None,
) -> FaultReport:
    """Plant faults in a unit, run each with the bench's passes until it shows, and try to prove the others harmless.

    Parameters
    ----------
    unit_name : str
        A unit of :mod:`rtl.pe`.
    params : Params of that unit
        Few lanes keep the proofs short.
    operands : sequence of (beats, expected)
        What the bench streams, chunk by chunk: unstalled, stalled, and with a reset in mid-stream.
    faults : int
        Faults to plant.
    seed : int
        Of the choice of faults and of the stalls.
    effort : Effort
        How hard proofs are tried.
    hardware : wiring.Component or None
        The unit in hardware; None builds the one of that name.
    step : callable
        Called after each fault.

    Raises
    ------
    ValueError
        If the sound unit already differs from what is expected, or an argument does not fit.
    SimulatorError
        If a tool is missing or fails.
    """
    if faults < 1:
        raise ValueError(f"a campaign plants at least one fault, not {faults}")
    unit: Any = hardware or component(unit_name)(params)
    faulty = plant_faults(unit, faults, seed)
    chunks = [(pack_words(beats, unit.i.payload.shape()), beats, expected) for beats, expected in operands]
    spec = params.datapath
    runs = [
        (words, *planned, np.flatnonzero(beats["last"]).astype(np.int64), expected, spec.beat_cycles(beats), name)
        for number, (words, beats, expected) in enumerate(chunks)
        for name, planned in zip(PASS_NAMES, _plan(beats, [seed, number], spec), strict=True)
    ]
    sound = _until_found(faulty.simulator, runs, spec, 0)
    if sound is not None:
        raise ValueError(f"the unit without any fault already differs: {sound[1]}")
    caught, unseen = [], []
    for fault in faulty.faults:
        found = _until_found(faulty.simulator, runs, spec, fault.number)
        if found is not None:
            caught.append(Catch(fault, *found))
        else:
            unseen.append(Verdict(fault, faulty.prove(fault, effort)))
        step()
    return FaultReport(tuple(caught), tuple(unseen))


def _plan(beats: Beats, seed: Sequence[int], spec: Any) -> list[tuple[Pass, Willing]]:
    ends = np.flatnonzero(beats["last"]).tolist()
    return plan_passes(
        ends, seed, stalls=True, results=spec.results, restarts=spec.restarts, beat_cycles=spec.beat_cycles(beats)
    )


def _until_found(simulator: BulkSimulator, runs: Sequence[Any], spec: Any, fault: int) -> tuple[int, str] | None:
    """Run passes until one differs; return the dot products compared until then and the difference."""
    vectors = 0
    for words, plan, willing, ends, expected, busy, name in runs:
        verdict = simulator.check(
            words, plan, willing, ends, expected, spec.latency, results=spec.results, beat_cycles=busy, fault=fault,
            stop_after=1,
        ).verdict  # fmt: skip
        vectors += verdict.vectors
        if verdict.first is not None:
            return vectors, f"{name} pass, {verdict.first}"
    return None
