"""The map of a foreign unit: which of its ports carry the clock, the handshake and the fields of a beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from hwsim.yaml_file import ConfigError, Strict, load


class Level(Strict):
    """A signal of one bit.

    Attributes
    ----------
    port : str
    bit : int, optional
        Where it lies in a wider port; None: the port has one bit.
    active : {"high", "low"}
        Level that means yes.
    """

    port: str
    bit: int | None = Field(default=None, ge=0)
    active: Literal["high", "low"] = "high"


class Place(Strict):
    """Where a field's values lie: those of all lanes, or of some, in one port or in one port a lane.

    Attributes
    ----------
    port : str
        A name; with ``{lane}`` in it, one port a lane (``a_{lane}``).
    low : int
        Lowest bit of the first value in the port.
    stride : int, optional
        Bits from one lane to the next; None: those of a value, so that there are no gaps.
    lanes : {"ascending", "descending"}
        Whether the first or the last of these lanes lies lowest.
    first, count : int
        Lanes that lie here: from `first`, `count` of them; None: all that follow.
    """

    port: str
    low: int = Field(default=0, ge=0)
    stride: int | None = Field(default=None, ge=1)
    lanes: Literal["ascending", "descending"] = "ascending"
    first: int = Field(default=0, ge=0)
    count: int | None = Field(default=None, ge=1)


class Input(Strict):
    """The side that takes beats.

    Attributes
    ----------
    valid : Level, optional
        Whether a beat is there; without it the unit takes one in every cycle.
    ready : Level, optional
        Output of the unit: whether it takes the beat.
    last, first : Level, optional
        High with the last, or the first, beat of a dot product (``first`` is what clears an accumulator).
    fields : dict
        Places of every field of a beat but ``last``.
    """

    valid: Level | None = None
    ready: Level | None = None
    last: Level | None = None
    first: Level | None = None
    fields: dict[str, tuple[Place, ...]]

    @field_validator("fields", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """Take one place as a list of one, and lists as tuples."""
        if not isinstance(value, dict):
            return value
        return {
            key: tuple(places) if isinstance(places, list) else (places,) if isinstance(places, dict) else places
            for key, places in value.items()
        }


class Output(Strict):
    """The side that gives results.

    Attributes
    ----------
    valid : Level, optional
        Whether a result is there; without it the map gives a `latency`.
    ready : Level, optional
        Input of the unit: whether the result is taken.
    result : Place
        Bits of the FP32 result.
    flags : Place, optional
        The IEEE flags, where the unit's Params have them: inexact, underflow, overflow, invalid from the lowest bit.
    nan : {"bits", "any"}
        Whether a NaN must have the model's bits (0x7fc00000), or any NaN will do.
    """

    valid: Level | None = None
    ready: Level | None = None
    result: Place
    flags: Place | None = None
    nan: Literal["bits", "any"] = "bits"


class PortMap(Strict):
    """How a foreign module carries the beats and results of a unit.

    Attributes
    ----------
    clock : str, optional
        Port of the clock, of which rising edges count.
    reset : Level, optional
    enable : Level, optional
        Clock enable of the whole module: low, and nothing moves.
    input, output : Input, Output
    latency : int, optional
        Cycles from the last beat of a dot product to its result; 0: combinational. For modules without a valid output.
    beats : int, optional
        Beats of every dot product; None: any number, which ``input.last`` ends.
    constants : dict
        Values of input ports that nothing else drives.
    parameters : dict
        Verilog parameters of the module.
    """

    clock: str | None = None
    reset: Level | None = None
    enable: Level | None = None
    input: Input
    output: Output
    latency: int | None = Field(default=None, ge=0, le=4096)
    beats: int | None = Field(default=None, ge=1)
    constants: dict[str, int] = Field(default_factory=dict)
    parameters: dict[str, int] = Field(default_factory=dict)

    @property
    def back_pressure(self) -> bool:
        """Whether results can be made to wait."""
        return self.output.ready is not None or self.enable is not None

    @property
    def takes_gaps(self) -> bool:
        """Whether cycles without a beat may lie within a dot product."""
        return self.input.valid is not None or self.enable is not None or self.beats == 1


def read_map(path: Path) -> PortMap:
    """Read a map.

    Raises
    ------
    ConfigError
        When the file is no such map, or its keys contradict each other; each key is named.
    """
    found = load(path, PortMap)
    for condition, words in _objections(found):
        if condition:
            raise ConfigError(f"{path}: {words}")
    return found


def _objections(found: PortMap) -> list[tuple[bool, str]]:
    """Return (is it so, what to say) for keys that contradict each other."""
    given, taken = found.input, found.output
    return [
        (
            (taken.valid is None) == (found.latency is None),
            "give either output.valid or latency: how is it known when a result is there?",
        ),
        (
            given.last is None and found.beats is None,
            "give input.last, or beats if every dot product has the same number of beats",
        ),
        (given.ready is not None and given.valid is None, "input.ready needs input.valid"),
        (taken.ready is not None and taken.valid is None, "output.ready needs output.valid"),
        (
            found.enable is not None and (given.ready is not None or taken.ready is not None),
            "enable stalls the whole module; it goes with neither input.ready nor output.ready",
        ),
        (found.enable is not None and found.latency == 0, "enable needs a latency of at least 1"),
        (given.ready is not None and found.latency == 0, "input.ready needs a latency of at least 1"),
    ]


__all__ = ["Input", "Level", "Output", "Place", "PortMap", "read_map"]
