"""Find every format of the catalogue by name.

A user's own formats need no change of this package: the environment variable `HWSIM_CATALOG` names folders (separated
as in PATH) whose Python files hold specs, as those of `hwsim.formats.catalog` do; they import their parts from there.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from hwsim.formats import catalog
from hwsim.formats.families.block import BlockSpec
from hwsim.formats.format import Format
from hwsim.formats.spec import ElementSpec, FloatSpec, IntSpec, TableSpec

Entry = Format | ElementSpec
USER_CATALOG = "HWSIM_CATALOG"
"""Environment variable that names folders with more catalogue files."""


def collect(specs: Iterable[tuple[str, Entry]]) -> dict[str, Entry]:
    """Index specs by kind and name; `specs` yields (where it is defined, spec).

    Raises
    ------
    ValueError
        When two different specs of one kind carry the same name.
    """
    found: dict[str, Entry] = {}
    homes: dict[str, str] = {}
    for where, spec in specs:
        key = ("format:" if isinstance(spec, Format) else "element:") + spec.name
        if key in found and found[key] is not spec:
            raise ValueError(f"format name {spec.name!r} is defined twice: in {homes[key]} and in {where}")
        found[key] = spec
        homes.setdefault(key, where)
    return found


def _entries(value: Any) -> Iterable[Entry]:
    """Yield the specs that a module-level value of the catalogue is or holds."""
    if isinstance(value, Format | FloatSpec | IntSpec | TableSpec):
        yield value
    elif isinstance(value, dict):
        yield from _entries(list(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _entries(item)


@lru_cache(maxsize=1)
def _catalogue() -> dict[str, Entry]:
    def walk() -> Iterable[tuple[str, Entry]]:
        for module in (*_own_modules(), *_user_modules()):
            for value in vars(module).values():
                for spec in _entries(value):
                    yield str(module.__file__), spec

    return with_bare_elements(collect(walk()))


def _own_modules() -> Iterable[ModuleType]:
    for info in sorted(pkgutil.iter_modules(catalog.__path__), key=lambda info: info.name):
        yield importlib.import_module(f"{catalog.__name__}.{info.name}")


def _user_modules() -> Iterable[ModuleType]:
    for folder in filter(None, os.environ.get(USER_CATALOG, "").split(os.pathsep)):
        if not Path(folder).is_dir():
            raise ValueError(f"{USER_CATALOG}: {folder} is no folder")
        for file in sorted(Path(folder).glob("*.py")):
            name = f"hwsim_catalog_{len(sys.modules)}_{file.stem}"
            spec = importlib.util.spec_from_file_location(name, file)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                spec.loader.exec_module(module)
            except Exception as error:
                del sys.modules[name]
                raise ValueError(f"{USER_CATALOG}: {file}: {type(error).__name__}: {error}") from error
            yield module


def with_bare_elements(found: dict[str, Entry]) -> dict[str, Entry]:
    """Add the format of each floating-point element without a scale, under the element's own name."""
    bare = {
        f"format:{spec.name}": bare_element(spec)
        for spec in found.values()
        if isinstance(spec, FloatSpec) and f"format:{spec.name}" not in found
    }
    return {**found, **bare}


def bare_element(spec: ElementSpec) -> BlockSpec:
    """Return the format that casts to an element, without a scale."""
    return BlockSpec(
        name=spec.name, source=spec.source, witnesses=spec.witnesses, generator=spec.generator, element=spec
    )


def names() -> tuple[str, ...]:
    """Return the names of all formats, sorted."""
    return tuple(sorted(spec.name for spec in _catalogue().values() if isinstance(spec, Format)))


def element_names() -> tuple[str, ...]:
    """Return the names of all element formats, sorted."""
    return tuple(sorted(spec.name for spec in _catalogue().values() if not isinstance(spec, Format)))


def get(name: str | Format) -> Format:
    """Return the format of that name; a spec is returned as it is.

    Raises
    ------
    ValueError
        When there is no such format; the message lists the legal names.
    """
    if isinstance(name, Format):
        return name
    spec = _catalogue().get(f"format:{name}")
    if not isinstance(spec, Format):
        nearest = get_close_matches(str(name), names(), 5, 0.3) or names()[:5]
        raise ValueError(
            f"unknown format {name!r}; nearest: {', '.join(nearest)}; `hwsim formats` lists all {len(names())}"
        )
    return spec


def block(name: str | Format) -> BlockSpec:
    """Return the block format of that name.

    Raises
    ------
    ValueError
        When there is no such format, or it is of another family.
    """
    spec = get(name)
    if not isinstance(spec, BlockSpec):
        raise ValueError(f"format {spec.name!r} is a {type(spec).__name__}; a block format is needed here")
    return spec


def activation_of(weight: str | Format) -> Format:
    """Return the format in which the unit that takes weights of a format takes its activations.

    Raises
    ------
    ValueError
        When no unit takes the format yet.
    """
    spec = get(weight)
    name = getattr(spec, "activation", None)
    if name is None:
        able = sorted(n for n in names() if getattr(get(n), "activation", None) is not None)
        raise ValueError(f"no unit takes weights of format {spec.name!r}; there are units for {', '.join(able)}")
    return get(name)


def element(name: str) -> ElementSpec:
    """Return the element format of that name.

    Raises
    ------
    ValueError
        When there is no such element; the message lists the legal names.
    """
    spec = _catalogue().get(f"element:{name}")
    if spec is None or isinstance(spec, Format):
        raise ValueError(f"unknown element {name!r}; known: {', '.join(element_names())}")
    return spec
