"""And-inverter graphs: sequential logic as two-input ANDs, inverters and registers that start at 0.

The form in which solvers take a circuit (AIGER). A literal is twice the number of a variable, plus one if it is
inverted; 0 is false and 1 is true.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FALSE, TRUE = 0, 1


@dataclass
class Graph:
    """A graph that shares equal nodes while it is built.

    Attributes
    ----------
    inputs : list of int
        Literals of the inputs.
    registers : list of (literal, next)
        Literal of each register, and that of its next value.
    nodes : list of (int, int) or None
        The operands of each variable's AND; None for the constant, an input, or a register.
    """

    inputs: list[int] = field(default_factory=list)
    registers: list[tuple[int, int]] = field(default_factory=list)
    nodes: list[tuple[int, int] | None] = field(default_factory=lambda: [None])
    _known: dict[tuple[int, int], int] = field(default_factory=dict)

    def variable(self) -> int:
        """Return the literal of a new variable without operands."""
        self.nodes.append(None)
        return 2 * (len(self.nodes) - 1)

    def input(self) -> int:
        """Return the literal of a new input."""
        self.inputs.append(self.variable())
        return self.inputs[-1]

    def both(self, x: int, y: int) -> int:
        """Return the literal of ``x & y``."""
        if x > y:
            x, y = y, x
        if x == FALSE or x == y ^ 1:
            return FALSE
        if x in (TRUE, y):
            return y
        found = self._known.get((x, y))
        if found is None:
            found = 2 * len(self.nodes)
            self.nodes.append((x, y))
            self._known[x, y] = found
        return found

    def either(self, x: int, y: int) -> int:
        """Return the literal of ``x | y``."""
        return self.both(x ^ 1, y ^ 1) ^ 1

    def differ(self, x: int, y: int) -> int:
        """Return the literal of ``x ^ y``."""
        return self.either(self.both(x, y ^ 1), self.both(x ^ 1, y))

    def any(self, literals: Iterable[int]) -> int:
        """Return the literal of whether any is true."""
        found = FALSE
        for literal in literals:
            found = self.either(found, literal)
        return found

    def reaching(self, output: int, *, through: bool = True) -> tuple[list[tuple[int, int]], list[int]]:
        """Return the registers that ``output`` depends on, and the variables of the ANDs, operands first.

        ``through`` registers, or only up to them.
        """
        following = dict(self.registers)
        seen: set[int] = set()
        pending = [output >> 1]
        while pending:
            variable = pending.pop()
            if variable in seen:
                continue
            seen.add(variable)
            operands = self.nodes[variable]
            if operands is not None:
                pending += [operands[0] >> 1, operands[1] >> 1]
            elif through and 2 * variable in following:
                pending.append(following[2 * variable] >> 1)
        registers = [register for register in self.registers if register[0] >> 1 in seen]
        return registers, sorted(variable for variable in seen if self.nodes[variable] is not None)

    def write(self, path: Path, output: int, *, free: bool = False) -> None:
        """Write the graph of one output, without what it does not depend on, as binary AIGER.

        All inputs stay. With ``free`` the registers are inputs too, which may hold anything.
        """
        registers, ands = self.reaching(output, through=not free)
        inputs = list(self.inputs)
        if free:
            inputs += [register for register, _ in registers]
            registers = []
        order = [literal >> 1 for literal in (*inputs, *(register for register, _ in registers))] + ands
        renamed = {0: 0} | {variable: number for number, variable in enumerate(order, 1)}

        def literal(old: int) -> int:
            return 2 * renamed[old >> 1] | (old & 1)

        lines = [
            f"aig {len(order)} {len(inputs)} {len(registers)} 1 {len(ands)}",
            *(str(literal(following)) for _, following in registers),
            str(literal(output)),
        ]
        encoded = bytearray()
        for variable in ands:
            operands = self.nodes[variable]
            assert operands is not None
            low, high = sorted(map(literal, operands))
            own = 2 * renamed[variable]
            encoded += _varint(own - high) + _varint(high - low)
        path.write_bytes("\n".join([*lines, ""]).encode() + bytes(encoded))


def _varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the last one marked by a zero on top."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


@dataclass(frozen=True)
class Circuit:
    """A circuit as an AIGER file holds it: variables are numbered inputs, registers, ANDs.

    Attributes
    ----------
    inputs, outputs : tuple of str
        Their names, by bit.
    output_literals, next_literals : tuple of int
        Of the outputs, and of the registers' next values.
    ands : tuple of (int, int)
        Operands.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    output_literals: tuple[int, ...]
    next_literals: tuple[int, ...]
    ands: tuple[tuple[int, int], ...]

    def copy_into(self, graph: Graph, inputs: Sequence[int], registers: Sequence[int]) -> tuple[list[int], list[int]]:
        """Build the circuit in a graph; return the literals of its outputs and of its registers' next values."""
        literals = [FALSE, *inputs, *registers]
        both = graph.both
        for x, y in self.ands:
            literals.append(both(literals[x >> 1] ^ (x & 1), literals[y >> 1] ^ (y & 1)))
        return (
            [literals[each >> 1] ^ (each & 1) for each in self.output_literals],
            [literals[each >> 1] ^ (each & 1) for each in self.next_literals],
        )


def read_circuit(path: Path) -> Circuit:
    """Read a binary AIGER file with the names of its inputs and outputs.

    Raises
    ------
    ValueError
        If it is no such file, a register starts at 1, or a name is missing.
    """
    content = path.read_bytes()
    head, _, rest = content.partition(b"\n")
    words = head.split()
    if len(words) != 6 or words[0] != b"aig":
        raise ValueError(f"{path.name} is no binary AIGER file of inputs, registers and outputs: {head[:40]!r}")
    _, inputs, registers, outputs, count = map(int, words[1:])
    *lines, rest = rest.split(b"\n", registers + outputs)
    following, literals = lines[:registers], lines[registers:]
    if any(len(line.split()) != 1 for line in following):
        raise ValueError(f"{path.name}: every register must start at 0")
    ands, position = [], 0
    for own in range(inputs + registers + 1, inputs + registers + 1 + count):
        down, position = _read_varint(rest, position)
        further, position = _read_varint(rest, position)
        ands.append((2 * own - down, 2 * own - down - further))
    names: dict[str, str] = {}
    for line in rest[position:].decode("latin-1").splitlines():
        if line == "c":
            break
        place, _, name = line.partition(" ")
        names[place] = name
    found = [[names.get(f"{kind}{at}") for at in range(many)] for kind, many in (("i", inputs), ("o", outputs))]
    if None in found[0] or None in found[1]:
        raise ValueError(f"{path.name}: every input and output must have a name")
    ins, outs = (tuple(str(name) for name in each) for each in found)
    return Circuit(ins, outs, tuple(map(int, literals)), tuple(map(int, following)), tuple(ands))


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
