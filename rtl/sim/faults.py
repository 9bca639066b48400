"""Plant faults in a unit's netlist and see whether the bench finds them: a test of the tests.

Yosys' ``mutate`` chooses places in the flattened netlist and puts all faults into one copy of it, where the value of
an input switches one on. So a campaign compiles once. A fault that the bench does not find is handed to a SAT solver,
which may prove that no bench could: that it changes neither an output nor a register, whatever the registers hold.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import rtlil
from amaranth.lib import wiring
from numpy.typing import NDArray

from rtl.pe import component
from rtl.sim.bulk import DESIGN, BulkSimulator, stream_widths
from rtl.sim.bulk_build import compile_design, find_yosys
from rtl.sim.job import Pass, Willing
from rtl.sim.payload import Beats, pack_words
from rtl.sim.run import PASS_NAMES, plan_passes
from rtl.sim.simulators import SimulatorError
from rtl.sim.verilog import TOP

Operands = Sequence[tuple[Beats, NDArray[np.uint32]]]
"""Chunks of dot products: their beats, one after the other, and their result bits."""

_CONTROL = "fault"
"""Input of the top module that switches a fault on; 0 is the sound unit."""
_LIST, _NETLIST = "faults.txt", "faulty.il"
_PROOF_S = 60.0
# a register becomes a cell of this module, so that it can be cut out of the netlist
_STATE = "(* blackbox *) module state(C, D, Q); input C, D; output Q; endmodule\n"
_PROVED = "no model found: SUCCESS!"


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
class FaultReport:
    """Outcome of a campaign.

    Attributes
    ----------
    caught : tuple of Catch
    harmless : tuple of Fault
        Not found, and proved to change nothing.
    survivors : tuple of Fault
        Not found, and not proved harmless: each is a hole in the bench, or harmless only because some states of the
        registers never occur.
    """

    caught: tuple[Catch, ...]
    harmless: tuple[Fault, ...]
    survivors: tuple[Fault, ...]

    @property
    def faults(self) -> int:
        """Faults planted."""
        return len(self.caught) + len(self.harmless) + len(self.survivors)


@dataclass(frozen=True)
class FaultyUnit:
    """A unit compiled with its faults.

    Attributes
    ----------
    simulator : BulkSimulator
        Takes a fault's number.
    netlist : Path
        The netlist with all faults, in RTLIL.
    control_bits : int
        Width of the input that switches a fault on.
    faults : tuple of Fault
    """

    simulator: BulkSimulator
    netlist: Path
    control_bits: int
    faults: tuple[Fault, ...]


def plant_faults(unit: wiring.Component, count: int, seed: int = 0, wire: str | None = None) -> FaultyUnit:
    """Compile a unit with at most ``count`` faults, spread evenly over its netlist; kept in the user's cache.

    With ``wire``, all of them are on the signal of that name in the flattened netlist.

    Raises
    ------
    ValueError
        If there is no place for any fault.
    SimulatorError
        If Yosys or g++ is missing or fails.
    """
    if count < 1:
        raise ValueError(f"a campaign plants at least one fault, not {count}")
    control_bits = count.bit_length()
    places = f" -wire {wire}" if wire is not None else ""
    script = [
        f"read_rtlil {DESIGN}",
        # parts that can have no effect are no places for faults
        "proc -norom",
        "flatten",
        "opt_expr",
        "wreduce",
        "opt_expr",
        "opt_clean",
        f"mutate -list {count} -seed {seed} -ctrl {_CONTROL} {control_bits} 1{places} -o {_LIST}",
        f"script {_LIST}",
        f"write_rtlil {_NETLIST}",
    ]
    widths = stream_widths(unit)
    text = rtlil.convert(unit, name=TOP, emit_src=False)
    folder = compile_design({DESIGN: text}, script, keep=(_LIST, _NETLIST), defines=("HWSIM_FAULTS",))
    lines = (folder / _LIST).read_text().splitlines()
    if not lines:
        raise ValueError(f"there is no place for a fault{places and f' on wire {wire!r}'}")
    return FaultyUnit(
        BulkSimulator(folder / "design.so", *widths), folder / _NETLIST, control_bits, tuple(map(_parse, lines))
    )


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
    proof_s: float = _PROOF_S,
    hardware: wiring.Component | None = None,
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
    proof_s : float
        Time limit of one proof, in seconds.
    hardware : wiring.Component or None
        The unit in hardware; None builds the one of that name.

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
        (words, *planned, np.flatnonzero(beats["last"]).astype(np.int64), expected, name)
        for number, (words, beats, expected) in enumerate(chunks)
        for name, planned in zip(PASS_NAMES, _plan(beats, [seed, number], spec), strict=True)
    ]
    sound = _until_found(faulty.simulator, runs, spec, 0)
    if sound is not None:
        raise ValueError(f"the unit without any fault already differs: {sound[1]}")
    caught, harmless, survivors = [], [], []
    for fault in faulty.faults:
        found = _until_found(faulty.simulator, runs, spec, fault.number)
        if found is not None:
            caught.append(Catch(fault, *found))
        elif prove_harmless(faulty, fault, proof_s):
            harmless.append(fault)
        else:
            survivors.append(fault)
    return FaultReport(tuple(caught), tuple(harmless), tuple(survivors))


def _plan(beats: Beats, seed: Sequence[int], spec: Any) -> list[tuple[Pass, Willing]]:
    ends = np.flatnonzero(beats["last"]).tolist()
    return plan_passes(ends, seed, stalls=True, results=spec.results, restarts=spec.restarts)


def _until_found(simulator: BulkSimulator, runs: Sequence[Any], spec: Any, fault: int) -> tuple[int, str] | None:
    """Run passes until one differs; return the dot products compared until then and the difference."""
    vectors = 0
    for words, plan, willing, ends, expected, name in runs:
        verdict = simulator.check(
            words, plan, willing, ends, expected, spec.latency, results=spec.results, fault=fault, stop_after=1
        ).verdict
        vectors += verdict.vectors
        if verdict.first is not None:
            return vectors, f"{name} pass, {verdict.first}"
    return None


def prove_harmless(faulty: FaultyUnit, fault: Fault, limit_s: float = _PROOF_S) -> bool:
    """Try to prove that a fault changes no output and no register's next value, whatever the inputs and registers hold.

    With equal registers after reset, that makes both units equal for ever. False says only that there is no proof: the
    fault shows in some state, which may be one that never occurs, or the solver took longer than ``limit_s`` seconds.
    """
    off, on = (f"connect -set {_CONTROL} {faulty.control_bits}'d{number}" for number in (0, fault.number))
    script = [
        "read_rtlil faulty.il",
        "read_verilog -lib state.v",
        # every register bit becomes an output (its next value) and an input (its value)
        "simplemap t:$dff",
        "chtype -set state t:$_DFF_P_",
        "rename -enumerate -pattern state_% t:state",
        "expose -evert t:state",
        "delete =state",
        "select -assert-none t:$*ff* t:$_*FF* t:$*latch* t:$mem*",  # else a state would be left out of the proof
        "opt_clean",
        f"copy {TOP} gold",
        f"copy {TOP} gate",
        f"delete {TOP}",
        f"delete -input gold/{_CONTROL} gate/{_CONTROL}",
        "cd gold",
        off,
        "cd gate",
        on,
        "cd",
        "miter -equiv -flatten gold gate miter",
        "delete gold gate",
        # what the fault does not reach is the same logic twice: shared, it leaves the solver little to do
        *["opt_expr", "opt_clean", "opt_merge -share_all"] * 3,
        "opt_clean",
        "sat -prove trigger 0 miter",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "faulty.il").write_text(faulty.netlist.read_text())
        (folder / "state.v").write_text(_STATE)
        try:
            output = find_yosys().run("\n".join(script), folder, limit_s=limit_s)
        except subprocess.TimeoutExpired:
            return False
    if "SAT proof finished" not in output:
        raise SimulatorError(f"Yosys' solver said nothing about {fault}")
    return _PROVED in output
