"""Rows of the listing commands: formats, units, networks, cache."""

from __future__ import annotations

import shutil
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwsim import formats, pe
from hwsim.files import replacing
from hwsim.flow.operands import formats_of
from hwsim.flow.proof_record import read_record

_DEFAULT_K = 4096
"""Row length for which bits an element are listed where a format has one scale a row."""
_LISTED_SHAPE = (_DEFAULT_K, _DEFAULT_K)


def format_rows() -> list[dict[str, Any]]:
    """Return one row a format."""
    return [_format_row(formats.get(name)) for name in formats.names()]


def _format_row(spec: formats.Format) -> dict[str, Any]:
    block = spec if isinstance(spec, formats.BlockSpec) else None
    bare = block is not None and block.scale is None
    return {
        "name": spec.name,
        "family": "element" if bare else type(spec).__name__.removesuffix("Spec").lower(),
        "generator": spec.generator or spec.name,
        "bits_per_element": spec.bits_per_element(_DEFAULT_K),
        "max_element": spec.max_value,
        "min_step": spec.min_step,
        "parts": [part.name for part in spec.layout(_LISTED_SHAPE)],
        "activation": getattr(spec, "activation", None),
        "rules": spec.rules(),
        "source": spec.source,
        # the tests hold every format against exact rationals or integers; the others are tools and published values
        "witnesses": list(
            dict.fromkeys(["exact oracle", *(block.element.witnesses if block is not None else ()), *spec.witnesses])
        ),
    }


def code_rows(name: str) -> list[dict[str, Any]]:
    """Return one row a code of a format: the code and what it is worth before scales, None where it is not finite.

    Raises
    ------
    ValueError
        When there is no such format.
    """
    spec = formats.get(name)
    points = spec.code_points()
    if points is None:
        return []
    width = max((len(points) - 1).bit_length(), 1)
    return [
        {"code": code, "bits": f"{code:0{width}b}", "value": float(value) if np.isfinite(value) else None}
        for code, value in enumerate(points)
    ]


def draw_codes(name: str, path: Path) -> None:
    """Draw the code points of a format: each value over its code, and the values alone along a line.

    Raises
    ------
    ValueError
        When the codes of the format have no values of their own, or matplotlib does not know the file's ending.
    """
    from matplotlib.figure import Figure

    spec = formats.get(name)
    points = spec.code_points()
    if points is None:
        raise ValueError(f"format {name}: a code has no value of its own (there are no code points to draw)")
    finite = np.isfinite(points)
    codes = np.flatnonzero(finite)
    figure = Figure(figsize=(9, 5), layout="constrained")
    by_code, line = figure.subplots(2, 1, height_ratios=(4, 1))
    by_code.plot(codes, points[finite], ".", markersize=max(1.5, 7 - len(points) / 100))
    by_code.set(xlabel="code", ylabel="value before scales", title=f"{name}: {len(np.unique(points[finite]))} values")
    by_code.grid(alpha=0.3)
    line.plot(points[finite], np.zeros(len(codes)), "|", markersize=18)
    line.set(yticks=[], xlabel="value before scales")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as aside:
        figure.savefig(aside, format=path.suffix.removeprefix(".") or "png")


def unit_rows() -> list[dict[str, Any]]:
    """Return one row a unit, with the schema of its Params; latency and throughput are those of the default Params.

    ``beats_per_cycle`` is what the unit takes at least, without stalls; where ``cycles_depend_on`` names operands
    (``a``, ``b`` or ``both``), most beats take fewer than ``most_cycles_per_beat``.
    ``vectors_proven`` counts the vectors in which the hardware gave the model's bits, with today's sources of the unit;
    ``vectors_stale`` those with other sources, see `hwsim.flow.proof_record`.
    """

    def plain(value: Any) -> Any:
        return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value

    record = read_record()
    rows = []
    for name in pe.names():
        unit = pe.unit(name)
        proven, stale = record.counts(name)
        default = unit.Params()
        most = getattr(default.datapath, "most_beat_cycles", 1)  # of serial units
        rows.append(
            {
                "name": name,
                "formats": list(unit.formats() if hasattr(unit, "formats") else formats_of(name)),
                "params": {
                    field.name: {"type": str(field.type), "default": plain(getattr(default, field.name))}
                    for field in fields(unit.Params)
                },
                "latency_cycles": default.datapath.latency,
                "beats_per_cycle": 1 / most,
                "most_cycles_per_beat": most,
                "cycles_depend_on": getattr(default.datapath, "depends_on", "none"),
                "results_per_transaction": default.datapath.results,
                "vectors_proven": proven,
                "vectors_stale": stale,
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
