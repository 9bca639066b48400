"""Processing elements: what a unit computes, bit for bit, and in how many cycles; one file a unit.

A unit is a module with `NAME`, a frozen `Params` whose `datapath` the RTL is built from, and the functions of `Unit`
(units that multiply weights, a dot product at a time) or of `VectorUnit` (units that stream vectors). This package
finds units by walking its folder: a new unit is a new file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded, Format, activation_of, get
from hwsim.formats import names as all_formats


class Unit(Protocol):
    """What the module of a unit that multiplies weights offers (contract 2 of the architecture: one file a side)."""

    NAME: str
    Params: type[Any]

    def params_for(self, weight: Any, activation: Any, lanes: int | None = None) -> Any: ...
    def reference(self, beats: Mapping[str, NDArray[np.integer]], params: Any) -> int: ...
    def gemm(self, a: Encoded, b: Encoded, params: Any) -> NDArray[np.float32]: ...
    def beats(self, a: Encoded, b: Encoded, m: int, n: int, params: Any) -> dict[str, NDArray[np.integer]]: ...
    # the most, where operands decide; such a unit also has `operand_cycles`, see the function of this name below
    def cycles(self, m: int, n: int, k: int, params: Any) -> int: ...
    def actions(self, m: int, n: int, k: int, params: Any) -> dict[str, int]: ...


class VectorUnit(Protocol):
    """What the module of a unit that streams vectors offers: a list of beats in, a list of results out.

    Its `datapath` is a `_stream.StreamSpec`; beats and results are integers by field, [beats, count].
    """

    NAME: str
    Params: type[Any]

    def configurations(self) -> dict[str, Any]: ...
    def operands(self, params: Any, rows: int, rng: np.random.Generator) -> dict[str, NDArray[np.integer]]: ...
    def reference(self, beats: Mapping[str, NDArray[np.integer]], params: Any) -> dict[str, NDArray[np.integer]]: ...
    def outputs(self, beats: Mapping[str, NDArray[np.integer]], params: Any) -> dict[str, NDArray[np.integer]]: ...
    def cycles(self, rows: int, params: Any) -> int: ...
    def actions(self, rows: int, params: Any) -> dict[str, int]: ...


@lru_cache(maxsize=1)
def _units() -> dict[str, Unit]:
    found = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name.startswith("_"):
            continue  # shared parts of units; the kernels among them would import numba
        module = importlib.import_module(f"{__name__}.{info.name}")
        if hasattr(module, "NAME") and hasattr(module, "Params"):
            assert info.name == module.NAME, f"unit {module.NAME} lives in {info.name}.py"
            found[module.NAME] = cast(Unit, module)
    return dict(sorted(found.items()))


def names() -> tuple[str, ...]:
    """Return the names of all units, sorted."""
    return tuple(_units())


def dot_names() -> tuple[str, ...]:
    """Return the names of the units that multiply weights, sorted; the others stream vectors."""
    return tuple(name for name, found in _units().items() if hasattr(found, "params_for"))


def vector_unit(name: str) -> VectorUnit:
    """Return the unit of that name, which streams vectors.

    Raises
    ------
    ValueError
        When there is none; the message lists the legal names.
    """
    if name not in _units() or name in dot_names():
        others = [other for other in names() if other not in dot_names()]
        raise ValueError(f"no unit {name!r} streams vectors; those that do: {', '.join(others)}")
    return cast(VectorUnit, _units()[name])


def unit(name: str) -> Unit:
    """Return the unit of that name.

    Raises
    ------
    ValueError
        When there is none; the message lists the legal names.
    """
    if name not in _units():
        raise ValueError(f"unknown unit {name!r}; known: {', '.join(names())}")
    return _units()[name]


@lru_cache(maxsize=1)
def formats() -> tuple[str, ...]:
    """Return the names of the formats that some unit takes as weights, sorted."""
    return tuple(name for name in all_formats() if _able(name))


def _able(weight: str | Format, lanes: int | None = None) -> dict[str, Any]:
    """Return the Params of every unit that takes weights of a format, by the unit's name: own ones first.

    A unit that is made for a format comes before one that takes it among many others, whose module says so with
    ``GENERAL = True``; of the same sort, the first by name.
    """
    weights = get(weight)
    if getattr(weights, "activation", None) is None:  # so too for families that no unit takes
        return {}
    return {
        found.NAME: params
        for found in sorted(_units().values(), key=lambda found: getattr(found, "GENERAL", False))
        if takes_family(found, weights)
        and (params := found.params_for(weights, activation_for(weights, found.NAME), lanes))
    }


def activation_for(weight: str | Format, name: str | None = None) -> Format:
    """Return the format in which a unit takes activations beside weights of a format.

    That which goes with the weights, unless the unit's module has a function ``activation_for`` that names its own.

    Raises
    ------
    ValueError
        When there is no such unit, or no unit takes the weights.
    """
    weights = get(weight)
    own = getattr(unit(name), "activation_for", None) if name is not None else None
    return activation_of(weights) if own is None else get(own(weights))


def takes_family(found: Any, weight: Format) -> bool:
    """Tell whether a unit multiplies weights of a format's family: block formats, if its `FAMILY` names no other."""
    return hasattr(found, "params_for") and isinstance(weight, getattr(found, "FAMILY", BlockSpec))


def operand_cycles(found: Unit, a: Encoded, b: Encoded, params: Any) -> int:
    """Return the cycles of one unit for all dot products of rows of A [M, K] and of B [N, K], without stalls.

    Exact, and equal to what the hardware takes. Units whose time depends on operands count it themselves, with a
    function of this name; of the others it is `Unit.cycles` of the shape.

    Raises
    ------
    ValueError
        When the operands do not match a unit that counts itself, or their K differs.
    """
    own = getattr(found, "operand_cycles", None)
    if own is not None:
        return int(own(a, b, params))
    if a.k != b.k:
        raise ValueError(f"{found.NAME}: K differs: A has {a.k}, B has {b.k}")
    return found.cycles(a.shape[0], b.shape[0], a.k, params)


def unit_for(weight: str | Format, name: str | None = None, lanes: int | None = None) -> tuple[Unit, Any]:
    """Return (unit, Params) that take weights of a format and activations of the format that goes with it.

    Without `name`, the format's own unit where there is one, else a general one that takes it too.

    Raises
    ------
    ValueError
        When no unit, or not the named one, takes the format; the message lists those that do.
    """
    able = _able(weight, lanes)
    shown = weight if isinstance(weight, str) else weight.name
    chosen = name if name is not None else next(iter(able), None)
    if chosen is None:
        raise ValueError(f"no unit takes format {shown}; there are {', '.join(names()) or 'none'}")
    unit(chosen)
    if chosen not in able:
        raise ValueError(f"unit {chosen!r} does not take format {shown}; units that do: {', '.join(able) or 'none'}")
    return unit(chosen), able[chosen]


__all__ = [
    "Unit",
    "VectorUnit",
    "activation_for",
    "dot_names",
    "formats",
    "names",
    "operand_cycles",
    "takes_family",
    "unit",
    "unit_for",
    "vector_unit",
]
