"""Prove that a fault in a unit can never show, or find a run in which it does.

A fault shows where the judge would see a difference between sound and faulty unit under the same inputs: another
``i.ready``, another ``o.valid``, or another payload while ``o.valid``. The proofs, from cheap to dear:

``same``: both netlists are the same function, node by node.
``any state``: no input and no content of the registers makes a difference in a register's next value or to the judge.
``reachable states``: the same of all states that the sound unit can be in after a reset.
``both machines``: no run of both units side by side makes a difference to the judge, though registers may differ.
``bounded``: the same of all runs up to a number of cycles.

The solver is ABC, the one inside Yosys: its satisfiability solver, property directed reachability (which finds by
itself what holds of the states that occur), and bounded model checking. Unless a proof needs no more, only runs whose
``last`` keeps to the unit's beats count.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rtl.sim.aiger import FALSE, TRUE, Circuit, Graph
from rtl.sim.bulk_build import find_yosys
from rtl.sim.simulators import SimulatorError

Kind = Literal["harmless", "bounded", "shows", "open"]
CONTROL = "fault"
"""Input of the netlist that switches a fault on; 0 is the sound unit."""
CIRCUIT_SCRIPT = (
    "setundef -undriven -zero -init",
    "opt_expr",
    "opt_clean",
    "techmap",
    "opt_expr",
    "opt_clean",
    "dffunmap",
    "aigmap",
    "opt_clean",
    "select -assert-none t:$mem*",
    "select -clear",
    "write_aiger -zinit -symbols",
)
"""Yosys commands that write a flattened netlist as a circuit; the last one takes the file's name."""
_TINY = "module tiny(input a, b, output y); assign y = a & b; endmodule\n"
_GRACE_S = 60.0
"""For reading, writing, and the solver's own time limit to take effect."""


@dataclass(frozen=True)
class Effort:
    """How hard a proof is tried.

    Attributes
    ----------
    reach_s, both_s, bound_s : float
        Seconds for reachable states, both machines, and the search up to a depth; 0: left out.
    bound_cycles : int
        That depth.
    """

    reach_s: float = 40.0
    both_s: float = 15.0
    bound_s: float = 15.0
    bound_cycles: int = 24


NO_EFFORT = Effort(0, 0, 0)


@dataclass(frozen=True)
class Beats:
    """How the beats of a unit come.

    Attributes
    ----------
    every : int
        ``last`` is only at every so many beats.
    always : bool
        And is there at each of those.
    last : int
        Its bit in the payload.
    latency : int
        Most cycles from a beat to its result: a search to a depth of no more says nothing.
    """

    every: int
    always: bool
    last: int
    latency: int


@dataclass(frozen=True)
class Proof:
    """What the solver says of a fault.

    Attributes
    ----------
    kind : {"harmless", "bounded", "shows", "open"}
        Proved of every run; of every run of at most ``cycles`` cycles; shown by a run of so many; nothing known.
    how : str
        The proof's name, see the module.
    cycles : int
    """

    kind: Kind
    how: str
    cycles: int = 0


def prove(circuit: Circuit, beats: Beats, fault: int, effort: Effort) -> Proof:
    """Try to prove that a fault never shows, or find a run in which it does.

    Raises
    ------
    SimulatorError
        If Yosys is missing or its solver says nothing.
    """
    graph, parts = _side_by_side(circuit, beats, fault, once=True)
    if parts == FALSE:
        return Proof("harmless", "same")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph.write(folder / "problem.aig", parts, free=True)
        if effort == NO_EFFORT:
            return Proof("open", "not tried")
        if _ask(folder, "iprove", _GRACE_S)[0] == "UNSAT":
            return Proof("harmless", "any state")
        if effort.reach_s:
            graph.write(folder / "problem.aig", parts)
            if _ask(folder, f"pdr -T {effort.reach_s:.0f}", effort.reach_s)[0] == "UNSAT":
                return Proof("harmless", "reachable states")
        graph, shows = _side_by_side(circuit, beats, fault, once=False)
        if shows == FALSE:
            return Proof("harmless", "same")
        graph.write(folder / "problem.aig", shows)
        if effort.bound_s:
            word, cycles = _ask(
                folder, f"bmc3 -F {effort.bound_cycles} -T {effort.bound_s:.0f}", effort.bound_s, len(graph.inputs)
            )
            if word == "SAT":
                return Proof("shows", "bounded", cycles)
            bound = cycles
        else:
            bound = 0
        if effort.both_s:
            word, cycles = _ask(folder, f"pdr -T {effort.both_s:.0f}", effort.both_s, len(graph.inputs))
            if word == "UNSAT":
                return Proof("harmless", "both machines")
            if word == "SAT":
                return Proof("shows", "both machines", cycles)
    return Proof("bounded", "bounded", bound) if bound > beats.latency else Proof("open", "no proof in time")


def _side_by_side(circuit: Circuit, beats: Beats, fault: int, *, once: bool) -> tuple[Graph, int]:
    """Return sound and faulty unit on the same inputs, and the literal of whether they part.

    With ``once`` they have the same registers, and part where a next value or the judge differs. Else the faulty unit
    has registers of its own, where the fault can reach them, and they part where the judge sees it.
    """
    graph = Graph()
    sound_inputs, faulty_inputs = [], []
    named: dict[str, int] = {}
    for name in circuit.inputs:
        if name.startswith(f"{CONTROL}["):
            sound_inputs.append(FALSE)
            faulty_inputs.append(TRUE if fault >> int(name[len(CONTROL) + 1 : -1]) & 1 else FALSE)
        elif name == CONTROL:
            sound_inputs.append(FALSE)
            faulty_inputs.append(TRUE if fault else FALSE)
        else:
            named[name] = graph.input()
            sound_inputs.append(named[name])
            faulty_inputs.append(named[name])
    own = [graph.variable() for _ in circuit.next_literals]
    sound_outputs, sound_next = circuit.copy_into(graph, sound_inputs, own)
    other = list(own)
    while True:
        faulty_outputs, faulty_next = circuit.copy_into(graph, faulty_inputs, other)
        pairs = list(zip(own, other, sound_next, faulty_next, strict=True))
        reached = [at for at, (x, y, next_x, next_y) in enumerate(pairs) if x == y and next_x != next_y]
        if once or not reached:
            break
        for at in reached:
            other[at] = graph.variable()
    graph.registers = list(zip(own, sound_next, strict=True))
    if not once:
        graph.registers += [(y, next_y) for x, y, _, next_y in pairs if x != y]
    sound, faulty = (dict(zip(circuit.outputs, each, strict=True)) for each in (sound_outputs, faulty_outputs))
    payload = [graph.differ(sound[name], faulty[name]) for name in sound if name.startswith("o__payload")]
    differences = [graph.differ(sound[name], faulty[name]) for name in ("i__ready", "o__valid")]
    differences.append(graph.both(sound["o__valid"], graph.any(payload)))
    if once:
        differences += [graph.differ(next_x, next_y) for _, _, next_x, next_y in pairs]
    legal = _legal(graph, beats, named, sound["i__ready"])
    return graph, graph.both(graph.any(differences), legal)


def _legal(graph: Graph, beats: Beats, named: dict[str, int], ready: int) -> int:
    """Return whether ``last`` has kept to the beats until now, this cycle included; adds the registers that count."""
    if beats.every < 2 and not beats.always:
        return TRUE
    reset = named["rst"]
    # a payload of one bit has no index; a unit whose logic ignores `last` has no such input
    last = named.get(f"i__payload[{beats.last}]", named.get("i__payload", FALSE))
    taken = graph.both(named["i__valid"], ready)
    later = [graph.variable() for _ in range(1, beats.every)]  # one-hot; none of them: the first beat
    first = graph.any(later) ^ 1
    places = [first, *later]
    for at, place in enumerate(later):
        stays, comes = graph.both(place, taken ^ 1), graph.both(places[at], taken)
        graph.registers.append((place, graph.both(graph.either(stays, comes), reset ^ 1)))
    at_end = places[-1]
    wrong = graph.both(last, at_end ^ 1)
    if beats.always:
        wrong = graph.differ(last, at_end)
    wrong = graph.both(wrong, taken)
    was_wrong = graph.variable()
    now_wrong = graph.either(was_wrong, wrong)
    graph.registers.append((was_wrong, now_wrong))
    return now_wrong ^ 1


def _ask(folder: Path, command: str, limit_s: float, inputs: int = 1) -> tuple[str, int]:
    """Put a question about ``problem.aig`` to ABC; return SAT, UNSAT or UNK, and how many cycles it looked at."""
    (folder / "tiny.v").write_text(_TINY)
    (folder / "status.txt").unlink(missing_ok=True)
    # ABC comes as a pass of Yosys, on a netlist of which it must return something
    inside = [
        "strash",
        "write_aiger -s netlist.aig",
        "read_aiger problem.aig",
        command,
        "write_status status.txt",
        "read_aiger netlist.aig",
    ]
    script = ["read_verilog tiny.v", "techmap", f"abc -script +{';'.join(inside).replace(' ', ',')}"]
    try:
        find_yosys().run("\n".join(script), folder, limit_s=limit_s + _GRACE_S)
    except subprocess.TimeoutExpired:
        return "UNK", 0
    if not (folder / "status.txt").exists():
        raise SimulatorError(f"Yosys' solver said nothing to {command!r}")
    first, *lines = (folder / "status.txt").read_text().splitlines()
    word, frames = first.split()[:2]
    word = word.removeprefix("snl_")
    if word == "SAT" and len(lines) > 1:
        return word, len(lines[1]) // inputs
    return word, max(int(frames), 0)
