"""Quantisation methods, one file each: a frozen `Config` and ``quantize(weight, config) -> QuantizedTensor``.

Methods are found by walking this folder; a file's name is the method's name.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def names() -> tuple[str, ...]:
    """Return the names of all methods, sorted."""
    return tuple(sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")))


def method(name: str) -> ModuleType:
    """Return the module of a method.

    Raises
    ------
    ValueError
        When there is none of that name; the message lists the legal ones.
    """
    if name not in names():
        raise ValueError(f"unknown method {name!r}; known: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")
