"""Fault campaigns: what the bench finds, what it cannot find because it never shows, and what is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwsim import pe
from hwsim.flow import faults as flow
from rtl.pe import component
from rtl.sim.aiger import TRUE, Circuit, Graph
from rtl.sim.fault_proof import NO_EFFORT, Beats, Effort, prove
from rtl.sim.faults import FaultReport, Operands, plant_faults, run_campaign
from tests.hwsim.test_cli import run

pytestmark = pytest.mark.rtl

EXPLAINED = json.loads(Path(__file__).with_name("faults_explained.json").read_text())
"""``wires``: by instance, where faults are neither found nor proved harmless, and why they can never show;
``unexplained``: at most so many more, of which nothing is known but that no vector found them."""
SHORT = Effort(reach_s=5, both_s=0, bound_s=0)
PLAIN = {"weight": "int4", "activation": "int4", "lanes": 1, "block": 2}


def small(vectors: int, fields: dict[str, Any] | None = None) -> tuple[Any, Operands]:
    """Return Params of few lanes, and what the bench streams."""
    params = pe.unit("int_mac").Params(**(fields or PLAIN))
    return params, flow.operands("int_mac", params, vectors, seed=0)


def show(report: FaultReport) -> str:
    """Describe a campaign, with every fault that was not caught."""
    lines = [f"{report.faults} faults: {len(report.caught)} caught, {len(report.harmless)} proved harmless"]
    return "\n".join(lines + [f"{verdict.proof}: {verdict.fault}" for verdict in report.unseen])


def test_short_campaign() -> None:
    params, streamed = small(1000)
    report = run_campaign("int_mac", params, streamed, faults=20, seed=3, effort=SHORT)
    print(show(report))
    assert report.faults == 20
    assert len({catch.fault.number for catch in report.caught}) == len(report.caught) >= 12
    assert all("pass, cycle" in catch.how and catch.vectors >= 0 for catch in report.caught)
    assert len(report.harmless) + len(report.survivors) == len(report.unseen)
    assert len(report.survivors) <= 3, show(report)


def test_a_bench_that_looks_at_nothing_catches_little() -> None:
    """The same faults with zeros for operands: the campaign must be able to say that a bench is weak."""
    params, streamed = small(100)
    beats, _ = streamed[0]
    zeros = {name: np.zeros_like(values) if name != "last" else values for name, values in beats.items()}
    expected = np.zeros(int(beats["last"].sum()), np.uint32)
    faulty = plant_faults(component("int_mac")(params), 20, seed=3)
    report = run_campaign("int_mac", params, [(zeros, expected)], faults=20, seed=3, effort=NO_EFFORT)
    assert len(report.caught) < 12 and len(report.survivors) >= 7  # without effort, no proof
    assert [str(fault) for fault in faulty.faults] == sorted(
        [str(each.fault) for each in (*report.unseen, *report.caught)],
        key=lambda line: int(line.split(":")[0].split()[1]),
    )


def unit_circuit(build: Callable[[Graph, dict[str, int], list[int]], tuple[list[int], list[int]]]) -> Circuit:
    """Return a circuit with the ports of a unit and three registers; ``build`` gives its outputs and next values."""
    names = ("fault", "i__payload", "i__valid", "o__ready", "rst")
    graph = Graph()
    inputs = {name: graph.input() for name in names}
    registers = [graph.variable() for _ in range(3)]
    outputs, following = build(graph, inputs, registers)
    ands = tuple(operands for operands in graph.nodes if operands is not None)
    return Circuit(names, ("i__ready", "o__payload", "o__valid"), tuple(outputs), tuple(following), ands)


def redundant(graph: Graph, x: dict[str, int], state: list[int]) -> tuple[list[int], list[int]]:
    """Send the payload on: valid & (valid | ready), where the fault sticks the bracket at 1."""
    valid, data, spare = state
    either = graph.either(x["fault"], graph.either(x["i__valid"], x["o__ready"]))
    return [TRUE, data, valid], [graph.both(x["i__valid"], either), x["i__payload"], spare]


def unreachable(graph: Graph, x: dict[str, int], state: list[int]) -> tuple[list[int], list[int]]:
    """Send the payload on, which a register inverts that never leaves 0; the fault takes that inverter away."""
    valid, data, never = state
    inverts = graph.both(never, x["fault"] ^ 1)
    following = graph.both(never, x["i__valid"])
    return [TRUE, data, valid], [x["i__valid"], graph.differ(x["i__payload"], inverts), following]


def unread(graph: Graph, x: dict[str, int], state: list[int]) -> tuple[list[int], list[int]]:
    """Send the payload on, and with the fault hold it inverted while there is no valid."""
    valid, data, spare = state
    hides = graph.both(x["fault"], x["i__valid"] ^ 1)
    return [TRUE, data, valid], [x["i__valid"], graph.differ(x["i__payload"], hides), spare]


def late(graph: Graph, x: dict[str, int], state: list[int]) -> tuple[list[int], list[int]]:
    """Send the payload on, inverted by the fault behind two beats in which it was 1."""
    valid, data, before = state
    wrong = graph.both(x["fault"], graph.both(before, data))
    return [TRUE, graph.differ(data, wrong), valid], [x["i__valid"], x["i__payload"], data]


def early(graph: Graph, x: dict[str, int], state: list[int]) -> tuple[list[int], list[int]]:
    """Send the payload on, inverted by the fault behind a `last` on the heels of another one."""
    valid, data, before = state
    taken = graph.both(x["i__valid"], x["i__payload"])
    wrong = graph.both(x["fault"], graph.both(before, taken))
    return [TRUE, data, valid], [x["i__valid"], graph.differ(x["i__payload"], wrong), taken]


ANY, PAIRS = Beats(1, False, 0, 1), Beats(2, True, 0, 1)
FULL = Effort(reach_s=10, both_s=10, bound_s=10, bound_cycles=8)


@pytest.mark.parametrize(
    ("build", "beats", "effort", "kind", "how"),
    [
        (redundant, ANY, FULL, "harmless", "any state"),
        (unreachable, ANY, FULL, "harmless", "reachable states"),
        (unreachable, ANY, NO_EFFORT, "open", "not tried"),
        (unread, ANY, FULL, "harmless", "both machines"),
        (unread, ANY, Effort(0, 0, 10, 8), "bounded", "bounded"),
        (unread, Beats(1, False, 0, 7), Effort(0, 0, 10, 8), "open", "no proof in time"),
        (late, ANY, FULL, "shows", "bounded"),
        (late, ANY, Effort(0, 10, 0), "shows", "both machines"),
        (early, ANY, FULL, "shows", "bounded"),
        (early, PAIRS, FULL, "harmless", "reachable states"),
    ],
)
def test_harmless_is_what_never_shows(build: Any, beats: Beats, effort: Effort, kind: str, how: str) -> None:
    proof = prove(unit_circuit(build), beats, 1, effort)
    assert (proof.kind, proof.how) == (kind, how)
    assert proof.cycles == {"shows": 3, "bounded": 7}.get(kind, 0)


def test_what_is_wrong_already_and_no_faults_are_refused() -> None:
    params, streamed = small(100)
    beats, expected = streamed[0]
    with pytest.raises(ValueError, match="without any fault already differs: unstalled pass"):
        run_campaign("int_mac", params, [(beats, expected ^ 1)], faults=20, seed=3)
    with pytest.raises(ValueError, match="at least one fault, not 0"):
        run_campaign("int_mac", params, streamed, faults=0)


def test_every_unit_has_a_small_instance() -> None:
    assert set(pe.names()) - {unit for unit, _ in flow.INSTANCES.values()} == set(EXPLAINED["units without"])
    for name, (unit, fields) in flow.INSTANCES.items():
        assert flow.params_of(unit, fields).datapath.lanes <= 4, name


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ",".join(f"{name}={value}" for name, value in PLAIN.items())
    command = (
        "faults",
        "--pe",
        "int_mac",
        "--params",
        shown,
        "--faults",
        "20",
        "--vectors",
        "400",
        "--seed",
        "3",
        "--proof-s",
        "0",
    )
    code, out, _ = run(capsys, *command, "--json", "--quiet")
    row = json.loads(out)["rows"][0]
    assert code == (1 if row["open"] else 0)
    assert (
        row["faults"] == 20 == len(row["each"]) == sum(row[kind] for kind in ("caught", "harmless", "bounded", "open"))
    )
    assert row["caught"] >= 10 and all(each["fault"].startswith("fault ") and each["by"] for each in row["each"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pe", "nothing"), "unknown unit 'nothing'; known: "),
        (("--pe", "int_mac", "--params", "lanes=0"), "lanes must be a positive integer, not 0"),
        (("--pe", "int_mac", "--params", "width=3"), "width"),
        (("--pe", "int_mac", "--faults", "0"), "--faults"),
    ],
)
def test_bad_commands_are_one_line(options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "faults", *options)
    assert code == 2 and message in err and err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", flow.INSTANCES)
def test_full_campaign(name: str) -> None:
    unit, fields = flow.INSTANCES[name]
    vectors = flow.DEFAULT_VECTORS * flow.MORE.get(name, 1)
    report = flow.campaign(unit, flow.params_of(unit, fields), faults=100, vectors=vectors, seed=1)
    print(name, show(report))
    assert report.faults == 100
    known = EXPLAINED["wires"].get(name, {})
    assert all(verdict.proof.kind == "open" for verdict in report.survivors), show(report)  # else a vector is missing
    left = [verdict for verdict in report.survivors if not any(wire in str(verdict.fault) for wire in known)]
    assert len(left) <= EXPLAINED["unexplained"].get(name, 0), show(report)
