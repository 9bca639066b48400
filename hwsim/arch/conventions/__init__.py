"""Machines timed by the rule that their publication states, one file a rule.

A module of this folder has a `NAME`, which machine files give as ``timing``, a pydantic model `MachineSpec` of such a
file, and ``simulate(workload, spec, options) -> tuple[LayerTiming, ...]``. What a rule counts is its own: these numbers
repeat published ones from a description of the machine, they are confirmed by no RTL.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

from hwsim.arch.machine import FOLDER as MACHINES
from hwsim.arch.workload import Workload
from hwsim.yaml_file import ConfigError, Strict, load_tagged, locate, stems

FOLDER = MACHINES / "published"
AttentionShapes = Literal["legacy", "corrected"]


@dataclass(frozen=True)
class Options:
    """What a rule leaves to the user.

    Attributes
    ----------
    attention : {"legacy", "corrected"}
        Shapes that the rule ``bitmod`` gives to attention: as its figures were made, or as they are.
    weight_bits : float, optional
        Stored bits a weight, in the place of what the machine's file states.

    Raises
    ------
    ValueError
        When a field has another value.
    """

    attention: AttentionShapes = "corrected"
    weight_bits: float | None = None

    def __post_init__(self) -> None:
        if self.attention not in get_args(AttentionShapes):
            allowed = ", ".join(get_args(AttentionShapes))
            raise ValueError(f"attention must be one of {allowed}, not {self.attention!r}")
        if self.weight_bits is not None and not 1 <= self.weight_bits <= 64:
            raise ValueError(f"weight_bits must be 1 to 64, not {self.weight_bits!r}")

    def refuse(self, *names: str) -> None:
        """Refuse fields that a rule has no use for, where they are not left at their defaults.

        Raises
        ------
        ValueError
            Naming the first such field.
        """
        for name in names:
            if getattr(self, name) != getattr(Options(), name):
                raise ValueError(f"the rule has no use for {name}, which is {getattr(self, name)!r}")


@dataclass(frozen=True)
class LayerTiming:
    """One layer of a workload; all counts are those of its `repeat` equal copies together.

    Attributes
    ----------
    name : str
    repeat : int
    macs : int
    compute_cycles, dram_cycles : int
        What the array and the DRAM take, each alone.
    cycles : int
        What the layer takes by the rule.
    dram_bytes : int
        Moved to and from DRAM; 0 where the rule counts none.
    least_cycles : int
        What no schedule on this array can undercut: products at its peak, each operand moved once.
    peak_macs_per_cycle : Fraction
        Of the array, with this layer's operands.
    """

    name: str
    repeat: int
    macs: int
    compute_cycles: int
    dram_cycles: int
    cycles: int
    dram_bytes: int
    least_cycles: int
    peak_macs_per_cycle: Fraction


class Convention(Protocol):
    """What a module of this folder offers."""

    NAME: str
    MachineSpec: type[Published]

    def simulate(self, workload: Workload, spec: Any, options: Options) -> tuple[LayerTiming, ...]: ...


class Published(Strict):
    """What every machine file of this kind states."""

    name: str
    timing: str
    description: str
    source: str
    clock_hz: int


@dataclass(frozen=True)
class PublishedMachine:
    """A machine of a publication, with the rule that times it."""

    file: Path
    spec: Published
    convention: Convention

    def run(self, workload: Workload, options: Options | None = None) -> tuple[LayerTiming, ...]:
        """Return the layers of a workload, timed.

        Raises
        ------
        ValueError
            When the rule does not cover an operation, or lacks a number; the message names machine and layer.
        """
        try:
            return self.convention.simulate(workload, self.spec, options or Options())
        except ValueError as error:
            raise ValueError(f"machine {self.spec.name} ({self.convention.NAME}), {workload.name}: {error}") from None


@lru_cache(maxsize=1)
def conventions() -> dict[str, Convention]:
    """Return the rules by name."""
    found = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        found[module.NAME] = cast(Convention, module)
    return dict(sorted(found.items()))


def published_names() -> tuple[str, ...]:
    """Return the names of the machines of this kind that come with the package, sorted."""
    return stems(FOLDER)


def load_published(reference: str | Path) -> PublishedMachine:
    """Return the machine of a name or of a YAML file.

    Raises
    ------
    ConfigError
        When the name is unknown, the file cannot be read or a key is wrong; the message names file and key.
    """
    file = locate(reference, FOLDER, "published machine")
    spec = load_tagged(file, "timing", {name: found.MachineSpec for name, found in conventions().items()})
    return PublishedMachine(file, spec, conventions()[spec.timing])


__all__ = [
    "ConfigError",
    "Convention",
    "LayerTiming",
    "Options",
    "Published",
    "PublishedMachine",
    "conventions",
    "load_published",
    "published_names",
]
