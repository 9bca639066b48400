"""Tables of energies: data files with value, unit, node, voltage, source and status; a missing entry is an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from hwsim.arch import Machine, dram_action, sram_action
from hwsim.yaml_file import ConfigError, Strict, load, locate, stems

FOLDER = Path(__file__).parent / "tables"

STATUSES = ("measured", "published", "estimated")
"""What a number rests on, from strongest to weakest."""

_Text = Annotated[str, Field(min_length=1)]


class EntrySpec(Strict):
    """One energy as its source gives it; `node_nm` and `vdd_v` are null where the source states none."""

    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    unit: Literal["pJ"]
    node_nm: PositiveInt | None
    vdd_v: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    status: Literal["measured", "published"]
    source: _Text


class MappingSpec(Strict):
    """An action charged as so many of others, and why that is fair."""

    charged_as: Annotated[dict[str, PositiveInt], Field(min_length=1)]
    status: Literal["estimated"]
    basis: _Text


class TableSpec(Strict):
    """Everything that a table file states; `extends` names tables (or files beside it) whose entries it takes over."""

    name: str
    description: str
    excludes: _Text
    extends: list[str]
    entries: dict[str, EntrySpec]
    mappings: dict[str, MappingSpec]


@dataclass(frozen=True)
class Cost:
    """Energy of one action in pJ, with what it rests on; `basis` is empty unless the status is ``estimated``."""

    action: str
    value_pj: float
    node_nm: int | None
    vdd_v: float | None
    status: str
    source: str
    basis: str = ""


@dataclass(frozen=True)
class CostTable:
    """Costs by action. `excludes` says what no entry of the table covers."""

    name: str
    file: Path
    excludes: str
    costs: Mapping[str, Cost]

    def cost(self, action: str) -> Cost:
        """Return the cost of an action.

        Raises
        ------
        ConfigError
            When the table has none; the message lists what it has.
        """
        if action not in self.costs:
            raise ConfigError(
                f"{self.file}: no energy for action {action!r}; table {self.name!r} has: {', '.join(self.costs)}"
            )
        return self.costs[action]

    def choices(self, prefix: str) -> tuple[str, ...]:
        """Return what follows `prefix` in the names of the actions that begin with it."""
        return tuple(action.removeprefix(prefix) for action in self.costs if action.startswith(prefix))


def table_names() -> tuple[str, ...]:
    """Return the names of the tables that come with the package, sorted."""
    return stems(FOLDER)


def load_table(reference: str | Path, base: Path | None = None) -> CostTable:
    """Return the table of a name or of a YAML file (a relative path starts from `base`).

    Raises
    ------
    ConfigError
        When the name is unknown, the file is wrong, an action stands in it and in a table that it extends, or a mapping
        names an action that has no entry or mixes process nodes. The message names the file and the key.

    Examples
    --------
    >>> load_table("horowitz_45nm").cost("mul_int8_int8").value_pj
    0.2
    """
    return _load(locate(reference, FOLDER, "cost table", base), ())


def _load(file: Path, within: tuple[Path, ...]) -> CostTable:
    if file.resolve() in within:
        raise ConfigError(f"{file}: extends: the table extends itself")
    spec = load(file, TableSpec)
    costs: dict[str, Cost] = {}
    for reference in spec.extends:
        try:
            inner = locate(reference, FOLDER, "cost table", file.parent)
        except ConfigError as error:
            raise ConfigError(f"{file}: extends: {error}") from None
        for cost in _load(inner, (*within, file.resolve())).costs.values():
            _add(costs, cost, file, "extends")
    for action, entry in spec.entries.items():
        cost = Cost(action, entry.value, entry.node_nm, entry.vdd_v, entry.status, entry.source)
        _add(costs, cost, file, f"entries.{action}")
    # Mappings see entries only, not each other, so that each estimate is one step from a source.
    known = {action: cost for action, cost in costs.items() if not cost.basis}
    for action, mapping in spec.mappings.items():
        _add(costs, _mapped(action, mapping, known, file), file, f"mappings.{action}")
    return CostTable(spec.name, file, spec.excludes, costs)


def _add(costs: dict[str, Cost], cost: Cost, file: Path, key: str) -> None:
    if cost.action in costs:
        raise ConfigError(f"{file}: {key}: action {cost.action!r} has an energy already; it may have only one")
    costs[cost.action] = cost


def _mapped(action: str, mapping: MappingSpec, known: Mapping[str, Cost], file: Path) -> Cost:
    where = f"{file}: mappings.{action}.charged_as"
    for name in mapping.charged_as:
        if name not in known:
            raise ConfigError(f"{where}.{name}: no entry of that name; there are: {', '.join(known)}")
    parts = [(count, known[name]) for name, count in mapping.charged_as.items()]
    conditions = {(cost.node_nm, cost.vdd_v) for _, cost in parts}
    if len(conditions) > 1:
        raise ConfigError(f"{where}: mixes process nodes or voltages: {sorted(map(str, conditions))}")
    ((node_nm, vdd_v),) = conditions
    charged = " + ".join(f"{count} {cost.action}" for count, cost in parts)
    sources = "; ".join(dict.fromkeys(cost.source for _, cost in parts))
    value = math.fsum(count * cost.value_pj for count, cost in parts)
    return Cost(action, value, node_nm, vdd_v, mapping.status, f"{charged}: {sources}", mapping.basis)


def table_for(machine: Machine) -> CostTable:
    """Return the cost table that a machine names, after checking that it covers the machine's memories.

    Raises
    ------
    ConfigError
        When the table cannot be had, or has no energy for a buffer's size or for the choice of DRAM; the message names
        the machine's file and key and lists what is allowed.
    """
    try:
        table = load_table(machine.spec.cost, machine.file.parent)
    except ConfigError as error:
        raise ConfigError(f"{machine.file}: cost: {error}") from None
    for name in ("act", "weight", "out"):
        size = getattr(machine.spec.buffers, name).size_bytes
        for kind in ("read", "write"):
            if sram_action(kind, size) not in table.costs:
                sizes = ", ".join(table.choices(sram_action(kind, 0).removesuffix("0"))) or "none"
                raise ConfigError(
                    f"{machine.file}: buffers.{name}.size_bytes: table {table.name!r} has no energy of an SRAM {kind} "
                    f"at {size} bytes; sizes that it has: {sizes}"
                )
    choice = machine.spec.dram.energy
    if dram_action(choice) not in table.costs:
        known = ", ".join(table.choices(dram_action(""))) or "none"
        raise ConfigError(f"{machine.file}: dram.energy: unknown choice {choice!r}; table {table.name!r} has: {known}")
    return table
