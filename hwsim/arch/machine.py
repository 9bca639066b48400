"""A machine: an array of units, its buffers, its DRAM and its clock, read from one YAML file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import PositiveInt, TypeAdapter, ValidationError

from hwsim import pe
from hwsim.pe._serial import SerialSpec
from hwsim.yaml_file import ConfigError, Strict, load, locate, stems

FOLDER = Path(__file__).parent / "machines"


class UnitSpec(Strict):
    """The unit in every place of the array, and the fields of its Params; fields left out have the unit's defaults."""

    name: str
    params: dict[str, Any]


class ArraySpec(Strict):
    """An array of rows x cols units; rows take M, columns take N. `buffer_beats` is the depth of its edge buffers."""

    rows: PositiveInt
    cols: PositiveInt
    dataflow: Literal["os"]
    buffer_beats: PositiveInt


class BufferSpec(Strict):
    """An SRAM with one read port and one write port of `port_bits` each."""

    size_bytes: PositiveInt
    port_bits: PositiveInt


class BuffersSpec(Strict):
    """The three buffers between DRAM and the array."""

    act: BufferSpec
    weight: BufferSpec
    out: BufferSpec


class DramSpec(Strict):
    """Peak bandwidth, and the name of the energy per bit in the cost table."""

    bandwidth_bytes_per_s: PositiveInt
    energy: str


class MachineSpec(Strict):
    """Everything that a machine file states."""

    name: str
    description: str
    source: str
    unit: UnitSpec
    array: ArraySpec
    buffers: BuffersSpec
    dram: DramSpec
    clock_hz: PositiveInt
    cost: str


@dataclass(frozen=True)
class Machine:
    """A machine ready to simulate.

    Parameters
    ----------
    file : Path
        Where it was read from; errors found later name it.
    spec : MachineSpec
        What the file states.
    unit : hwsim.pe.Unit
        The unit's module.
    params : object
        The unit's Params.
    """

    file: Path
    spec: MachineSpec
    unit: pe.Unit
    params: Any

    @property
    def name(self) -> str:
        """Name of the machine."""
        return self.spec.name

    @property
    def macs_per_cycle(self) -> int:
        """Products that the whole array forms a cycle."""
        lanes: int = self.params.datapath.lanes
        return self.spec.array.rows * self.spec.array.cols * lanes


def machine_names() -> tuple[str, ...]:
    """Return the names of the machines that come with the package, sorted."""
    return stems(FOLDER)


def load_machine(reference: str | Path) -> Machine:
    """Return the machine of a name or of a YAML file.

    Raises
    ------
    ConfigError
        When the name is unknown, the file cannot be read, a key is unknown, duplicate or missing or has a wrong value,
        or the unit refuses its params. The message names the file and the key.

    Examples
    --------
    >>> load_machine("int8_os").macs_per_cycle
    4096
    """
    file = locate(reference, FOLDER, "machine")
    spec = load(file, MachineSpec)
    if spec.unit.name not in pe.dot_names():  # an array is made of units that multiply
        raise ConfigError(f"{file}: unit.name: unknown unit {spec.unit.name!r}; known: {', '.join(pe.dot_names())}")
    unit = pe.unit(spec.unit.name)
    params = _params(file, unit, spec.unit.params)
    if isinstance(params.datapath, SerialSpec):
        raise ConfigError(f"{file}: unit.name: {unit.NAME} takes several cycles a beat, which the array's timing lacks")
    return Machine(file, spec, unit, params)


def _params(file: Path, unit: pe.Unit, given: dict[str, Any]) -> Any:
    """Build the unit's Params."""
    return _build(f"{file}: unit.params", unit.NAME, unit.Params, given)


def _build(where: str, name: str, kind: type[Any], given: dict[str, Any]) -> Any:
    """Build a dataclass, and those within it; types are checked here since dataclasses take anything."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    built = dict(given)
    for key, value in given.items():
        if key not in fields:
            raise ConfigError(f"{where}.{key}: unknown key; {name} allows: {', '.join(fields)}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, dict):
            built[key] = _build(f"{where}.{key}", key, hints[key], value)
            continue
        try:
            TypeAdapter(hints[key]).validate_python(value, strict=True)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise ConfigError(f"{where}.{key}: {message[0].lower()}{message[1:]}, not {value!r}") from None
    for key, field in fields.items():
        if key not in given and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}.{key}: missing key")
    try:
        return kind(**built)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None
