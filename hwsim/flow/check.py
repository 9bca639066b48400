"""Check a unit that comes as Verilog against a unit's model, and say what its differences look like."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hwsim import pe
from hwsim.flow import check_rules as rules_of
from hwsim.flow.check_chunks import chunks, fitted
from hwsim.flow.check_compare import Check
from hwsim.flow.check_rules import ANY_RULE, Rule
from hwsim.flow.operands import Batch, bundle_batches, directed_batches
from hwsim.flow.params import operand_formats, read_params
from hwsim.flow.progress import Reporter
from hwsim.formats.bundle import read_bundle


def check_command(
    files: Sequence[Path],
    *,
    top: str,
    map_file: Path,
    unit_name: str,
    params_text: str,
    bundle_file: Path | None,
    against: str | None,
    engine: str,
    vectors: int,
    seed: int,
    waves: Path,
    reporter: Reporter,
) -> dict[str, Any]:
    """Run `hwsim check`; return its document, whose ``ok`` says whether the unit is what it should be.

    Without `against` there is a row for each source of operands; with it, one for each rule.

    Raises
    ------
    ValueError
        When an argument, the map or the Verilog cannot be used, the bundle has other formats than the unit, or the unit
        multiplies no weights.
    SimulatorError
        When an engine is missing or fails.
    """
    from rtl.sim.foreign import read_foreign
    from rtl.sim.foreign_run import ForeignBench

    unit: Any = pe.unit(unit_name)
    if not hasattr(unit, "params_for"):
        raise ValueError(f"unit {unit_name!r} multiplies no weights; a check takes units of dot products")
    bundle = read_bundle(bundle_file) if bundle_file is not None else None
    base = unit.Params()
    if bundle is not None and bundle.layers:
        base = pe.unit_for(bundle.layers[0].weight.format.name, unit_name)[1]
    params = read_params(unit, params_text, base)
    spec = params.datapath
    rules = _rules(against, params)
    foreign = read_foreign(files, top, map_file, spec)
    bench = ForeignBench.open(foreign, spec, engine)
    check = Check(unit, params, bench, seed, waves, rules)
    weight, activation = operand_formats(unit, params)
    sources: dict[str, Iterable[Batch]] = {"directed": directed_batches(weight, params, vectors, seed, activation)}
    if bundle is not None:
        sources = {"layers": bundle_batches(bundle, vectors, seed), **sources}
    length = _fixed_length(foreign.map.beats, spec)
    rng = np.random.default_rng(seed)
    rows = []
    with reporter.bars() as bars:
        for source, batches in sources.items():
            task = bars.add_task(f"check {top} ({source})", total=vectors)
            start = time.perf_counter()
            shaped = (fitted(batch, length, rng) for batch in batches) if length else batches
            for done in check.run(source, chunks(shaped, unit, params)):
                bars.advance(task, done)
            rows.append(check.row(check.tallies[-1], time.perf_counter() - start))
    document = {
        "unit": unit_name,
        "top": top,
        "files": [str(path) for path in files],
        "map": str(map_file),
        "params": asdict(params),
        "engine": engine,
        "back_pressure": foreign.map.back_pressure,
        "seed": seed,
    }
    if not rules:
        return {**document, "ok": not any(row["differences"] for row in rows), "rows": rows}
    counted = check.rule_rows()
    return {**document, "ok": any(row["explained"] == row["vectors"] > 0 for row in counted), "rows": counted}


def _rules(against: str | None, params: Any) -> list[Rule]:
    if against is None:
        return []
    found: dict[str, Rule] = {}
    for text in against.split(","):
        rules = rules_of.known_rules(params) if text == ANY_RULE else [rules_of.parse_rule(text, params)]
        for rule in rules:
            found.setdefault(rule.name, rule)
    return list(found.values())


def _fixed_length(beats: int | None, spec: Any) -> int:
    """Return the products of every dot product; 0 where it may have any number."""
    if beats is None:
        return 0
    length = beats * spec.lanes
    if spec.block and length % spec.block:
        raise ValueError(f"{beats} beats of {spec.lanes} lanes are no whole blocks of {spec.block}")
    return length


__all__ = ["check_command"]
