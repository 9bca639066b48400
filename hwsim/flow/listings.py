"""Rows of the listing commands: formats, units, networks, cache."""

from __future__ import annotations

import shutil
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from hwsim import formats, pe
from hwsim.flow.operands import formats_of

_DEFAULT_K = 4096
"""Row length for which bits an element are listed where a format has one scale a row."""


def format_rows() -> list[dict[str, Any]]:
    """Return one row a block format."""
    rows = []
    for name in formats.names():
        spec = formats.get(name)
        rows.append(
            {
                "name": name,
                "bits_per_element": spec.bits_per_element(_DEFAULT_K),
                "element": spec.element.name,
                "block_size": spec.block_size if spec.block_size is not None else "row",
                "scale": spec.scale.name + (" x float32 tensor" if spec.tensor_scale != "none" else ""),
                "scale_rule": spec.scale_rule,
                "zero_point": spec.zero_point,
                "max_element": spec.element.max_value,
                "min_step": spec.element.min_step,
                "activation": spec.activation,
                "rules": spec.rules(),
                "source": spec.source,
                "witnesses": [*(spec.element.witnesses), *spec.witnesses],
            }
        )
    return rows


def unit_rows() -> list[dict[str, Any]]:
    """Return one row a unit, with the schema of its Params; latency is that of the default Params."""
    rows = []
    for name in pe.names():
        unit = pe.unit(name)
        default = unit.Params()
        rows.append(
            {
                "name": name,
                "formats": list(formats_of(name)),
                "params": {
                    field.name: {
                        "type": str(field.type),
                        "default": None if field.default is MISSING else field.default,
                    }
                    for field in fields(unit.Params)
                },
                "latency_cycles": default.datapath.latency,
                "beats_per_cycle": 1,
                "description": (unit.__doc__ or "").strip().splitlines()[0],
            }
        )
    return rows


def model_rows() -> list[dict[str, Any]]:
    """Return one row a network of the zoo."""
    from models import fetch, zoo

    return [
        {
            "name": model.name,
            "title": model.title,
            "kind": model.kind,
            "parameters": model.parameters,
            "cached": fetch.is_cached(model.name),
            "licence": model.licence,
            "note": model.note,
            "requirement": model.requirement,
            "wheel_sha256": model.wheel_sha256,
            "weights_sha256": model.weights_sha256,
            "source": model.source,
        }
        for model in zoo.catalogue()
    ]


def cache_rows() -> list[dict[str, Any]]:
    """Return one row an entry of the cache: each fetched model, and each folder of generated RTL."""
    from models import fetch

    rows = [{"name": entry.name, "kind": "model", "bytes": entry.bytes} for entry in fetch.cache_entries()]
    rows += [
        {
            "name": folder.name,
            "kind": "generated",
            "bytes": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()),
        }
        for folder in _generated()
    ]
    return rows


def clear_cache() -> list[dict[str, Any]]:
    """Remove everything that `cache_rows` lists; return what was removed."""
    from models import fetch

    rows = cache_rows()
    fetch.clear_cache()
    for folder in _generated():
        shutil.rmtree(folder)
    return rows


def _generated() -> list[Path]:
    from models import fetch

    models = fetch.cache_dir()
    return sorted(path for path in models.parent.glob("*") if path.is_dir() and path != models)
