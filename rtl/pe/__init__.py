"""Units in hardware, found by name: a module of this folder is a unit, and names its class in ``COMPONENT``."""

from __future__ import annotations

import importlib
import pkgutil

from amaranth.lib import wiring


def components() -> tuple[str, ...]:
    """Return the names of all units that have hardware, sorted.

    Examples
    --------
    >>> {"int_mac", "requant"} <= set(components())
    True
    """
    return tuple(sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")))


def component(name: str) -> type[wiring.Component]:
    """Return the class that builds a unit from its Params.

    The class takes the unit's Params as its only argument and has stream ports ``i`` (beats) and ``o`` (32 bits).

    Raises
    ------
    ValueError
        If no unit has that name.
    """
    if name not in components():
        raise ValueError(f"no unit named {name!r} has hardware; units that do: {', '.join(components())}")
    found: type[wiring.Component] = importlib.import_module(f"{__name__}.{name}").COMPONENT
    return found
