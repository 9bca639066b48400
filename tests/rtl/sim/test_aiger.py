"""And-inverter graphs: sharing, files and their reading, and what a solver's questions are made of."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from rtl.sim.aiger import FALSE, TRUE, Graph, read_circuit


def value(graph: Graph, literal: int, given: dict[int, bool]) -> bool:
    """Return what a literal is worth under values of the variables without operands."""
    variable, inverted = literal >> 1, bool(literal & 1)
    if variable == 0:
        return inverted
    operands = graph.nodes[variable]
    if operands is None:
        return given[2 * variable] ^ inverted
    return (value(graph, operands[0], given) and value(graph, operands[1], given)) ^ inverted


def test_gates() -> None:
    graph = Graph()
    x, y, z = graph.input(), graph.input(), graph.input()
    both, either, differ = graph.both(x, y), graph.either(x, y), graph.differ(x, y)
    any_of = graph.any([x, y ^ 1, z])
    for a, b, c in product([False, True], repeat=3):
        given = {x: a, y: b, z: c}
        found = [value(graph, literal, given) for literal in (both, either, differ, any_of)]
        assert found == [a and b, a or b, a != b, a or not b or c]


def test_equal_nodes_are_one_and_constants_vanish() -> None:
    graph = Graph()
    x, y = graph.input(), graph.input()
    assert graph.both(x, y) == graph.both(y, x)
    assert graph.both(x, FALSE) == FALSE == graph.both(x, x ^ 1)
    assert graph.both(TRUE, x) == x == graph.both(x, x)
    assert graph.differ(x, x) == FALSE and graph.any([]) == FALSE


def counter() -> tuple[Graph, int]:
    """Return two bits that count, another register, and whether both bits are set."""
    graph = Graph()
    enable = graph.input()
    graph.input()  # goes unused, and stays in the file
    low, high, other = (graph.variable() for _ in range(3))
    graph.registers = [
        (low, graph.differ(low, enable)),
        (high, graph.differ(high, graph.both(low, enable))),
        (other, enable),
    ]
    return graph, graph.both(low, high)


def test_a_file_holds_what_its_output_depends_on(tmp_path: Path) -> None:
    graph, output = counter()
    registers, ands = graph.reaching(output)
    assert len(registers) == 2 and len(ands) == 8
    assert graph.reaching(output, through=False)[1] == [output >> 1]
    graph.write(tmp_path / "free.aig", output, free=True)
    assert (tmp_path / "free.aig").read_bytes().startswith(b"aig 5 4 0 1 1\n")
    graph.write(tmp_path / "all.aig", output)
    content = (tmp_path / "all.aig").read_bytes()
    assert content.startswith(b"aig 12 2 2 1 8\n")
    with pytest.raises(ValueError, match="every input and output must have a name"):
        read_circuit(tmp_path / "all.aig")
    (tmp_path / "named.aig").write_bytes(content + b"i0 enable\ni1 unused\no0 top\nc\nend\n")
    circuit = read_circuit(tmp_path / "named.aig")
    assert circuit.inputs == ("enable", "unused") and circuit.outputs == ("top",)

    # three enabled cycles reach 3, and a fourth one leaves it
    state = [False, False]
    seen = []
    for enabled in (True, True, False, True, True):
        copy = Graph()
        inputs, registers_ = [copy.input(), copy.input()], [copy.variable(), copy.variable()]
        outputs, following = circuit.copy_into(copy, inputs, registers_)
        given = dict(zip([*inputs, *registers_], [enabled, False, *state], strict=True))
        seen.append(value(copy, outputs[0], given))
        state = [value(copy, literal, given) for literal in following]
    assert seen == [False, False, False, False, True] and state == [False, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"module top;\n", "no binary AIGER file"),
        (b"aag 1 1 0 1 0\n2\n2\n", "no binary AIGER file"),
        (b"aig 1 0 1 1 0\n2 1\n2\n", "every register must start at 0"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.aig"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"x.aig.*{message}"):
        read_circuit(path)
