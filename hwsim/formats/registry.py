"""Find every format of the catalogue by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import lru_cache

from hwsim.formats import catalog
from hwsim.formats.spec import BlockSpec, ElementSpec, FloatSpec, IntSpec


def collect(specs: Iterable[tuple[str, ElementSpec | BlockSpec]]) -> dict[str, ElementSpec | BlockSpec]:
    """Index specs by name; `specs` yields (where it is defined, spec).

    Raises
    ------
    ValueError
        When two different specs of one kind carry the same name.
    """
    found: dict[str, ElementSpec | BlockSpec] = {}
    homes: dict[str, str] = {}
    for where, spec in specs:
        key = ("block:" if isinstance(spec, BlockSpec) else "element:") + spec.name
        if key in found and found[key] is not spec:
            raise ValueError(f"format name {spec.name!r} is defined twice: in {homes[key]} and in {where}")
        found[key] = spec
        homes.setdefault(key, where)
    return found


@lru_cache(maxsize=1)
def _catalogue() -> dict[str, ElementSpec | BlockSpec]:
    def walk() -> Iterable[tuple[str, ElementSpec | BlockSpec]]:
        for info in sorted(pkgutil.iter_modules(catalog.__path__), key=lambda info: info.name):
            module = importlib.import_module(f"{catalog.__name__}.{info.name}")
            for value in vars(module).values():
                if isinstance(value, FloatSpec | IntSpec | BlockSpec):
                    yield module.__name__, value

    return collect(walk())


def names() -> tuple[str, ...]:
    """Return the names of all block formats, sorted."""
    return tuple(sorted(spec.name for spec in _catalogue().values() if isinstance(spec, BlockSpec)))


def element_names() -> tuple[str, ...]:
    """Return the names of all element formats, sorted."""
    return tuple(sorted(spec.name for spec in _catalogue().values() if not isinstance(spec, BlockSpec)))


def get(name: str | BlockSpec) -> BlockSpec:
    """Return the block format of that name; a spec is returned as it is.

    Raises
    ------
    ValueError
        When there is no such format; the message lists the legal names.
    """
    if isinstance(name, BlockSpec):
        return name
    spec = _catalogue().get(f"block:{name}")
    if not isinstance(spec, BlockSpec):
        raise ValueError(f"unknown format {name!r}; known: {', '.join(names())}")
    return spec


def element(name: str) -> ElementSpec:
    """Return the element format of that name.

    Raises
    ------
    ValueError
        When there is no such element; the message lists the legal names.
    """
    spec = _catalogue().get(f"element:{name}")
    if spec is None or isinstance(spec, BlockSpec):
        raise ValueError(f"unknown element {name!r}; known: {', '.join(element_names())}")
    return spec
