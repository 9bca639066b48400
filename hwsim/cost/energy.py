"""Turn counts of actions into energy, action by action, each with its status and source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hwsim.cost.table import STATUSES, Cost, CostTable


@dataclass(frozen=True)
class ActionEnergy:
    """Energy of all events of one action."""

    cost: Cost
    count: int

    @property
    def energy_pj(self) -> float:
        """Energy in pJ: count times the energy of one event."""
        return self.count * self.cost.value_pj


@dataclass(frozen=True)
class EnergyReport:
    """Energy by action. The total is the sum of the parts and as trustworthy as the weakest of them.

    `excludes` says what the table leaves out, and with it the total.
    """

    table: str
    excludes: str
    parts: tuple[ActionEnergy, ...]

    @property
    def total_pj(self) -> float:
        """Energy of all actions in pJ."""
        return math.fsum(part.energy_pj for part in self.parts)

    @property
    def status(self) -> str:
        """Weakest status among the parts that have events (measured > published > estimated)."""
        present = [part.cost.status for part in self.parts if part.count] or [part.cost.status for part in self.parts]
        return max(present, key=STATUSES.index)

    @property
    def by_status_pj(self) -> dict[str, float]:
        """Energy in pJ by status, for each status of `STATUSES`."""
        return {
            status: math.fsum(part.energy_pj for part in self.parts if part.cost.status == status)
            for status in STATUSES
        }


def energy(actions: Mapping[str, int], table: CostTable) -> EnergyReport:
    """Charge counts of actions with a table's energies.

    Parameters
    ----------
    actions : mapping
        Events by action, as `hwsim.arch` reports and units count them.
    table : CostTable
        Energies in pJ.

    Raises
    ------
    ConfigError
        When the table lacks an action; the message lists what it has.
    ValueError
        When there are no actions, or a count is no integer of 0 or more.

    Examples
    --------
    >>> from hwsim.cost import load_table
    >>> report = energy({"add_int32": 10, "mul_int8_int8": 5}, load_table("horowitz_45nm"))
    >>> report.total_pj, report.status
    (2.0, 'published')
    """
    if not actions:
        raise ValueError("no actions to charge")
    for action, count in actions.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ValueError(f"count of action {action!r} must be an integer of 0 or more, not {count!r}")
    parts = tuple(ActionEnergy(table.cost(action), count) for action, count in actions.items())
    return EnergyReport(table.name, table.excludes, parts)
