"""A unit that comes as Verilog: its ports, checked against a map, and a wrapper that makes it a unit of ours.

The wrapper has the ports of our own units (`rtl.lib.elastic`), so that bench and bulk engine drive both alike: beats
with valid and ready on one side, results with valid and ready on the other.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from hwsim.pe._dot import DotSpec
from hwsim.yaml_file import ConfigError
from rtl.sim.bulk import BulkSimulator
from rtl.sim.bulk_build import compile_design, find_yosys
from rtl.sim.foreign_map import Level, Place, PortMap, read_map
from rtl.sim.simulators import SimulatorError
from rtl.sim.verilog import TOP, cache_folder

_FILE = "foreign.sv"
_RENAMED = "hwsim_foreign_top"
"""What a foreign top module of our wrapper's name becomes."""
_RESULT_BITS, _FLAG_BITS = 32, 4


@dataclass(frozen=True)
class Port:
    """A port as Yosys sees it, parameters applied."""

    name: str
    direction: str
    width: int


@dataclass(frozen=True)
class ForeignUnit:
    """A foreign module and the wrapper around it.

    Attributes
    ----------
    name : str
        Of the module.
    map : PortMap
    source : str
        Text of its files, joined.
    module : str
        Its name in that text.
    payload_bits, result_bits : int
        Of the wrapper's streams.
    inputs : tuple of (str, str)
        What drives each input port: an expression over the wrapper's signals.
    outputs : tuple of (str, str)
        What each output port in use drives.
    result : str
        The result's bits in terms of the wrapper's signals.
    """

    name: str
    map: PortMap
    source: str
    module: str
    payload_bits: int
    result_bits: int
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, int], ...]
    result: str

    def text(self) -> str:
        """Return wrapper and module as Verilog."""
        return f"{self._wrapper()}\n{self.source}"

    def verilog(self) -> Path:
        """Return a file with that text, kept in the user's cache by its content."""
        text = self.text()
        path = cache_folder("verilog") / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.sv"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return path

    def build(self) -> BulkSimulator:
        """Compile it for the bulk engine.

        Raises
        ------
        SimulatorError
            If Yosys or g++ is missing or fails.
        """
        script = [f"read_verilog -sv {_FILE}", f"hierarchy -check -top {TOP}"]
        # a foreign design may use both edges of its clock, latches, and clocks of its own
        folder = compile_design({_FILE: self.text()}, script, defines=["HWSIM_STEPPED"])
        return BulkSimulator(folder / "design.so", self.payload_bits, self.result_bits)

    @cached_property
    def _parameters(self) -> str:
        values = ", ".join(f".{_escaped(name)}({value})" for name, value in self.map.parameters.items())
        return f" #({values})" if values else ""

    def _wrapper(self) -> str:
        latency, last_bit = self.map.latency, self.payload_bits - 1
        lines = [
            f"module {TOP} (",
            "    input wire clk, input wire rst,",
            f"    input wire [{last_bit}:0] i__payload, input wire i__valid, output wire i__ready,",
            f"    output wire [{self.result_bits - 1}:0] o__payload, output wire o__valid, input wire o__ready",
            ");",
            "    wire enable, taken, last, fresh_beat;",
            f"    assign last = i__payload[{last_bit}];",
            "    assign taken = i__valid & i__ready;",
            "    reg fresh; // the next beat is the first one of a dot product",
            "    always @(posedge clk) if (rst) fresh <= 1'b1; else if (taken) fresh <= last;",
            "    assign fresh_beat = fresh;",
            "    (* keep *) reg ticking; // the clock has an edge to act on, whatever the module does with it",
            "    always @(posedge clk) ticking <= ~rst & ~ticking;",
            *(f"    wire [{width - 1}:0] {_wire(port)};" for port, width in self.outputs),
        ]
        ready = self.map.input.ready
        lines.append(f"    assign i__ready = {_level(ready) if ready else 'enable'};")
        if latency is None:
            assert self.map.output.valid is not None
            lines.append(f"    assign o__valid = {_level(self.map.output.valid)};")
        elif latency == 0:
            lines.append("    assign o__valid = taken & last;")
        else:
            lines += [
                f"    reg [{latency - 1}:0] pending; // dot products on their way",
                f"    wire [{latency}:0] shifted = {{pending, taken & last}};",
                "    always @(posedge clk) if (rst) pending <= 0; else if (enable) "
                f"pending <= shifted[{latency - 1}:0];",
                f"    assign o__valid = pending[{latency - 1}];",
            ]
        enable = "~o__valid | o__ready" if self.map.enable else "1'b1"
        lines.append(f"    assign enable = {enable};")
        lines.append(f"    assign o__payload = {self.result};")
        ports = [
            *(f".{_escaped(port)}({value})" for port, value in self.inputs),
            *(f".{_escaped(port)}({_wire(port)})" for port, _ in self.outputs),
        ]
        lines.append(f"    {_escaped(self.module)}{self._parameters} unit (\n        " + ",\n        ".join(ports))
        lines.append("    );")
        return "\n".join([*lines, "endmodule", ""])


def read_foreign(files: Sequence[Path], top: str, map_file: Path, spec: DotSpec) -> ForeignUnit:
    """Read a foreign module and hold its ports against a map.

    Parameters
    ----------
    files : sequence of Path
        Verilog or SystemVerilog, as Yosys takes it; files that they include are looked for beside them.
    top : str
        Module to check.
    map_file : Path
        YAML; see `foreign_map.PortMap`.
    spec : DotSpec
        Whose beats it takes.

    Raises
    ------
    ConfigError
        When a file cannot be read or parsed, there is no such module, or map and ports do not fit; the message is one
        line and names the port.
    SimulatorError
        If there is no Yosys.
    """
    found = read_map(map_file)
    source = joined(files)
    names = ", ".join(str(path) for path in files)
    ports = {port.name: port for port in read_ports(source, top, tuple(found.parameters.items()), names)}
    module = top
    if TOP in _modules(source):
        if top != TOP:
            raise ConfigError(f"a module below {top!r} has the name {TOP!r}, which the wrapper takes; rename it")
        module = _RENAMED
        source = re.sub(rf"\b((?:end)?module\s*:?\s+(?:automatic\s+|static\s+)?){TOP}\b", rf"\g<1>{module}", source)
    wiring = _Wiring(map_file, top, found, ports, spec)
    inputs, outputs, result = wiring.connect()
    return ForeignUnit(
        name=top,
        map=found,
        source=source,
        module=module,
        payload_bits=sum(bits * count for _, bits, count in spec.layout()),
        result_bits=_RESULT_BITS + (_FLAG_BITS if spec.flags else 0),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        result=result,
    )


def joined(files: Sequence[Path]) -> str:
    """Return the text of Verilog files, one after the other, files that they include in their place.

    Raises
    ------
    ConfigError
        When a file cannot be read, or includes itself.
    """
    return "\n".join(text for path in files for text in _expanded(path, ()))


_INCLUDE = re.compile(r'^(?P<before>(?:(?!//).)*?)`include\s+"(?P<name>[^"]+)"(?P<after>.*)$')


def _expanded(path: Path, within: tuple[Path, ...]) -> Iterator[str]:
    """Yield the lines of a file; each jump is marked, so that tools name the file that the user knows."""
    if path.resolve() in within:
        raise ConfigError(f"{path} includes itself")
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is no UTF-8 text") from None
    yield f'`line 1 "{path}" 0'
    for number, line in enumerate(lines, 1):
        found = _INCLUDE.match(line)
        included = path.parent / found["name"] if found else None
        if found is None or included is None or not included.exists():
            yield line  # what is not there may stand in a branch that is not taken; else the tool says so
            continue
        yield found["before"]
        yield from _expanded(included, (*within, path.resolve()))
        yield found["after"]
        yield f'`line {number + 1} "{path}" 0'


def _modules(source: str) -> list[str]:
    """Return the names that look like modules, for messages."""
    return sorted(set(re.findall(r"^\s*module\s+(?:automatic\s+|static\s+)?(\w+)", source, re.MULTILINE)))


@lru_cache(maxsize=16)
def read_ports(
    source: str, top: str, parameters: tuple[tuple[str, int], ...] = (), said: str = "the text"
) -> list[Port]:
    """Return the ports of a module, its parameters applied, as Yosys elaborates it.

    Parameters
    ----------
    source, top : str
        Text and module.
    parameters : tuple of (str, int)
    said : str
        What the text is called in errors.

    Raises
    ------
    ConfigError
        When Yosys cannot parse the text, or finds no such module or parameter; the message holds what it says.
    """
    if top not in _modules(source):
        _elaborated(source, [])  # a file that cannot be parsed is said first
        raise ConfigError(f"no module {top!r} in {said}; there are: {', '.join(_modules(source)) or 'none'}")
    chosen = " ".join(f"-chparam {name} {value}" for name, value in parameters)
    document = _elaborated(source, [f"hierarchy -check -top {top} {chosen}"])
    module = next(module for module in document["modules"].values() if int(module["attributes"].get("top", "0"), 2))
    return [Port(name, port["direction"], len(port["bits"])) for name, port in module["ports"].items()]


def _elaborated(source: str, script: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, _FILE).write_text(source)
        try:
            find_yosys().run(
                "\n".join([f"read_verilog -sv {_FILE}", *script, "proc", "write_json ports.json"]), Path(folder)
            )
        except SimulatorError as error:
            said = [line for line in str(error).splitlines() if "ERROR" in line]
            if not said:
                raise
            raise ConfigError(f"Yosys: {re.sub('ERROR: *', '', said[0]).strip()}") from None
        found: dict[str, Any] = json.loads(Path(folder, "ports.json").read_text())
        return found


class _Wiring:
    """Connect the ports of a module as a map says, or say which port does not fit."""

    def __init__(self, map_file: Path, top: str, port_map: PortMap, ports: dict[str, Port], spec: DotSpec) -> None:
        self.map_file, self.top, self.map, self.ports = map_file, top, port_map, ports
        self.fields: dict[str, tuple[int, int, int]] = {}  # first bit in the payload, bits, count
        offset = 0
        for name, bits, count in spec.layout():
            if name != "last":
                self.fields[name] = (offset, bits, count)
            offset += bits * count
        self.flags = spec.flags
        self.pieces: dict[str, list[tuple[int, int, str]]] = {}  # of every input port: low bit, bits, expression
        self.used: dict[str, int] = {}  # output ports

    def connect(self) -> tuple[list[tuple[str, str]], list[tuple[str, int]], str]:
        """Return what drives the inputs, the outputs in use, and the result."""
        if self.map.clock is not None:
            self._drive("clock", Level(port=self.map.clock), "clk")
        given, taken = self.map.input, self.map.output
        self._drive("reset", self.map.reset, "rst")
        self._drive("enable", self.map.enable, "enable")
        self._drive("input.valid", given.valid, "i__valid")
        self._drive("input.last", given.last, "last")
        self._drive("input.first", given.first, "fresh_beat")
        self._drive("output.ready", taken.ready, "o__ready")
        for where, level in (("input.ready", given.ready), ("output.valid", taken.valid)):
            if level is not None:
                self._read(where, level.port, level.bit or 0, 1, exact=level.bit is None)
        self._fields()
        for name, value in self.map.constants.items():
            port = self._port(f"constants.{name}", name, "input")
            if not 0 <= value < 1 << port.width:
                self._fail(f"constants.{name}: port {name!r} has {port.width} bits; {value} does not fit")
            self._claim(f"constants.{name}", port, 0, port.width, f"{port.width}'d{value}")
        result = self._result("output.result", taken.result, _RESULT_BITS)
        if (taken.flags is not None) != self.flags:
            self._fail(f"output.flags: the unit's Params have flags={self.flags}; give flags if, and only if, it is so")
        if taken.flags is not None:
            result = f"{{{self._result('output.flags', taken.flags, _FLAG_BITS)}, {result}}}"
        return self._inputs(), list(self.used.items()), result

    def _fail(self, words: str) -> None:
        raise ConfigError(f"{self.map_file}: {words}")

    def _port(self, where: str, name: str, direction: str) -> Port:
        if name not in self.ports:
            self._fail(f"{where}: module {self.top!r} has no port {name!r}; it has {', '.join(self.ports)}")
        port = self.ports[name]
        if port.direction != direction:
            self._fail(f"{where}: port {name!r} is an {port.direction}; it must be an {direction}")
        return port

    def _drive(self, where: str, level: Level | None, signal: str) -> None:
        if level is None:
            return
        port = self._port(where, level.port, "input")
        if level.bit is None and port.width != 1:
            self._fail(f"{where}: port {port.name!r} has {port.width} bits; it must have 1, or give its bit")
        if level.bit is not None and level.bit >= port.width:
            self._fail(f"{where}: port {port.name!r} has {port.width} bits; there is no bit {level.bit}")
        self._claim(where, port, level.bit or 0, 1, signal if level.active == "high" else f"~{signal}")

    def _read(self, where: str, name: str, low: int, bits: int, *, exact: bool = False) -> str:
        port = self._port(where, name, "output")
        if port.width < low + bits or (exact and port.width != bits):
            self._fail(f"{where}: port {name!r} has {port.width} bits; bits {low} to {low + bits - 1} are wanted")
        self.used[name] = port.width
        return f"{_wire(name)}[{low + bits - 1}:{low}]"

    def _result(self, where: str, place: Place, bits: int) -> str:
        if place.first or place.count is not None or place.stride is not None or "{lane}" in place.port:
            self._fail(f"{where}: takes port and low only")
        return self._read(where, place.port, place.low, bits)

    def _fields(self) -> None:
        known = ", ".join(self.fields)
        for name in self.map.input.fields:
            if name not in self.fields:
                self._fail(f"input.fields.{name}: unknown field; the unit with these Params has {known}")
        for name, (offset, bits, count) in self.fields.items():
            places = self.map.input.fields.get(name)
            if not places:
                self._fail(f"input.fields: field {name!r} has no port; the unit with these Params has {known}")
            assert places
            lanes: list[int] = []
            for number, place in enumerate(places):
                where = f"input.fields.{name}" + (f".{number}" if len(places) > 1 else "")
                lanes += self._place(where, place, offset, bits, count)
            if sorted(lanes) != list(range(count)):
                wrong = next(n for n in range(count) if lanes.count(n) != 1)
                self._fail(
                    f"input.fields.{name}: value {wrong} of {count} is placed {lanes.count(wrong)} times, not once"
                )

    def _place(self, where: str, place: Place, offset: int, bits: int, count: int) -> list[int]:
        """Claim the bits of the values that lie in one place; return their numbers."""
        here = place.count if place.count is not None else count - place.first
        lanes = list(range(place.first, place.first + here))
        if here < 1 or lanes[-1] >= count:
            self._fail(f"{where}: takes values {place.first} to {place.first + here - 1}; the field has {count}")
        stride = place.stride if place.stride is not None else bits
        if stride < bits and here > 1 and "{lane}" not in place.port:
            self._fail(f"{where}: a stride of {stride} is less than the {bits} bits of a value")
        order = lanes if place.lanes == "ascending" else lanes[::-1]
        separate = "{lane}" in place.port
        for index, lane in enumerate(order):
            port = self._port(where, place.port.replace("{lane}", str(place.first + index)), "input")
            low = place.low if separate else place.low + index * stride
            if low + bits > port.width:
                top = place.low + (0 if separate else (here - 1) * stride) + bits - 1
                self._fail(
                    f"{where}: port {port.name!r} has {port.width} bits; {here} values of {bits} bits need bits "
                    f"{place.low} to {top}"
                )
            start = offset + lane * bits
            self._claim(where, port, low, bits, f"i__payload[{start + bits - 1}:{start}]")
        return lanes

    def _claim(self, where: str, port: Port, low: int, bits: int, expression: str) -> None:
        pieces = self.pieces.setdefault(port.name, [])
        for other, width, _ in pieces:
            if low < other + width and other < low + bits:
                self._fail(f"{where}: bit {max(low, other)} of port {port.name!r} is mapped twice")
        pieces.append((low, bits, expression))

    def _inputs(self) -> list[tuple[str, str]]:
        """Return the expression for every input port, all of whose bits must be driven."""
        found = []
        for port in self.ports.values():
            if port.direction == "inout":
                self._fail(f"port {port.name!r} is an inout, which no unit has")
            if port.direction != "input":
                continue
            pieces = sorted(self.pieces.get(port.name, []))
            if not pieces:
                self._fail(f"input {port.name!r} of module {self.top!r} is mapped to nothing; constants can set it")
            at = 0
            for low, bits, _ in [*pieces, (port.width, 0, "")]:
                if low != at:
                    self._fail(f"bits {at} to {low - 1} of input {port.name!r} ({port.width} bits) carry nothing")
                at = low + bits
            found.append((port.name, "{" + ", ".join(piece for _, _, piece in reversed(pieces)) + "}"))
        return found


def _wire(port: str) -> str:
    return "port_" + re.sub(r"\W", "_", port)


def _level(level: Level) -> str:
    signal = f"{_wire(level.port)}[{level.bit or 0}]"
    return signal if level.active == "high" else f"~{signal}"


def _escaped(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else f"\\{name} "


__all__ = ["ForeignUnit", "Port", "joined", "read_foreign", "read_ports"]
