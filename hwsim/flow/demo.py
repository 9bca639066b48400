"""The whole chain on one real network: quantise, export, confirm in RTL, simulate, and judge by perplexity."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hwsim
from hwsim import pe
from hwsim.arch import load_machine
from hwsim.files import json_text, replacing
from hwsim.flow import simulate
from hwsim.flow.cosim import cosim_dots
from hwsim.flow.evaluate import WINDOW, Evaluation, evaluate, evaluation_windows, float_perplexity, text_windows
from hwsim.flow.operands import Dots, directed, from_bundle
from hwsim.flow.progress import Reporter
from hwsim.flow.quantise import QuantisedNetwork, export_network, quantise_network
from hwsim.flow.report import write_report
from hwsim.formats import block, get
from hwsim.formats.bundle import read_bundle, write_bundle

if TYPE_CHECKING:
    import torch

    from models.load import LoadedModel

FORMATS = ("int8", "int4_g128", "int4_g128_asym", "mxfp4", "nvfp4")
SAMPLE_ROWS = 32
LAYER_VECTORS = 504
DIRECTED_VECTORS = 512

COLUMNS = (
    ("name", "format", "s"),
    ("bits_per_weight", "bits a weight", ".3f"),
    ("weight_sqnr_db", "weight SQNR dB", ".2f"),
    ("float_ppl", "ppl float32", ".4f"),
    ("fakequant_ppl", "ppl fake-quant", ".4f"),
    ("datapath_ppl", "ppl datapath", ".4f"),
    ("datapath_minus_fakequant_ppl", "difference", "+.1e"),
    ("pe", "unit", "s"),
    ("cycles", "cycles", ",d"),
    ("energy_mj", "energy mJ", ".2f"),
    ("status", "energy status", "s"),
    ("energy_published_share", "of it published", ".0%"),
    ("vectors", "RTL vectors", ",d"),
    ("mismatches", "mismatches", "d"),
    ("cycle_mismatches", "cycle mism.", "d"),
)


def run_demo(
    loaded: LoadedModel, windows: torch.Tensor, text_sha256: str, calibration: torch.Tensor,
    calibration_sha256: str, out: Path, *, engine: str, seed: int, reporter: Reporter,
) -> dict[str, Any]:  # fmt: skip
    """Run the chain and write ``results.parquet``, ``results.json``, ``report.html`` and the bundles under `out`.

    Parameters
    ----------
    loaded : LoadedModel
        A network that predicts tokens.
    windows, calibration : int64 [n, 1024]
        Evaluation tokens, and the tokens whose activations become sample operands.
    text_sha256, calibration_sha256 : str
        Hashes of the texts that they come from.
    out : Path
        Folder; made when missing.
    engine : {"icarus", "verilator"}
        Simulator.

    Returns
    -------
    dict
        The document that ``results.json`` holds: ``rows``, one a format, and what they depend on.
    """
    from models.linear import capture_inputs, linear_layers

    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    sampled = sampled_layers(list(linear_layers(loaded)))
    with reporter.busy(f"capture {SAMPLE_ROWS} input rows of {len(sampled)} layers"):
        inputs = capture_inputs(loaded, sampled, calibration, rows=SAMPLE_ROWS, seed=seed)
    float_ppl = float_perplexity(loaded, windows, reporter)
    rows = []
    # the simulation of a format runs beside its perplexities, in a process of its own
    with _simulation_process() as pool:
        for fmt in FORMATS:
            network = quantise_network(loaded, fmt, "rtn", reporter)
            path = out / f"{fmt}.safetensors"
            write_bundle(path, export_network(loaded, network.part(inputs), inputs, seed, calibration_sha256))
            unit, params = pe.unit_for(fmt)
            dots, layer_macs = _operands(path, fmt, unit, params, seed)
            assert params == load_machine(simulate.machine_for(fmt)).params, "the unit confirmed is the unit timed"
            job = partial(
                cosim_dots, fmt, unit.NAME, params, dots, engine=engine, seed=seed, waveform_dir=out / "waves"
            )
            hardware = pool.submit(job)
            evaluation = evaluate(loaded, fmt, windows, text_sha256, reporter, float_ppl=float_ppl, network=network)
            reporter.say(f"RTL of {unit.NAME} in {fmt} against its model, {engine}: {_verdict(hardware.result())}")
            rows.append(_row(evaluation, hardware.result() | {"layer_macs": layer_macs}, _simulate(network), seed))
    document = {
        "model": loaded.name,
        "weights_note": loaded.note,
        "source_sha256": loaded.weights_sha256,
        "text_sha256": text_sha256,
        "tokens": windows.numel(),
        "window": WINDOW,
        "hwsim_version": hwsim.__version__,
        "engine": engine,
        "seed": seed,
        "time_s": round(time.monotonic() - start, 1),
        "peak_memory_bytes": _peak_memory_bytes(),
        "notes": _notes(loaded, rows),
        "rows": rows,
    }
    _write(document, out)
    return document


def _peak_memory_bytes() -> int:
    """Return an upper bound: the peak of this process and that of its largest child, as if at one time."""
    return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024


def _simulation_process() -> ProcessPoolExecutor:
    """Return a pool of one process, which leaves Ctrl-C to this one."""
    return ProcessPoolExecutor(1, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))


def demo_command(
    model: str, text_file: Path | None, tokens: int, out: Path, engine: str, seed: int, reporter: Reporter
) -> dict[str, Any]:
    """Run `hwsim demo`: load the network and the texts, run the chain, return its document."""
    from models.text import default_text
    from rtl.sim.simulators import find_simulator

    engine = find_simulator(engine).engine  # a wrong engine is said before any work is done
    with reporter.busy("import torch and transformers"):
        from models.load import load
    loaded = load(model, quiet=reporter.quiet)
    windows, text_sha256 = evaluation_windows(loaded, text_file, tokens)
    text = default_text()
    calibration = text_windows(loaded, text.calibration, WINDOW)
    return run_demo(
        loaded, windows, text_sha256, calibration, text.sha256, out, engine=engine, seed=seed, reporter=reporter
    )


def sampled_layers(names: list[str]) -> list[str]:
    """Return the layers of the first, the middle and the last block, which go with real operands through the RTL.

    Raises
    ------
    ValueError
        When no layer belongs to a numbered block.

    Examples
    --------
    >>> sampled_layers(["h.0.a", "h.1.a", "h.2.a", "h.3.a", "head"])
    ['h.0.a', 'h.2.a', 'h.3.a']
    """
    blocks = sorted({block for block in map(_block, names) if block is not None})
    if not blocks:
        raise ValueError(f"the network has no linear layers in numbered blocks; it has {', '.join(names) or 'none'}")
    chosen = {blocks[0], blocks[len(blocks) // 2], blocks[-1]}
    return [name for name in names if _block(name) in chosen]


def _block(name: str) -> int | None:
    """Return the number of the transformer block that a layer belongs to, None outside of blocks."""
    numbers = [part for part in name.split(".") if part.isdigit()]
    return int(numbers[0]) if numbers else None


def _operands(path: Path, fmt: str, unit: pe.Unit, params: Any, seed: int) -> tuple[Dots, int]:
    """Return the dot products of an exported bundle with directed ones after them, and the MACs of the former."""
    dots = from_bundle(read_bundle(path), unit, params, LAYER_VECTORS, seed)
    layer_macs = dots.macs
    dots.extend(directed(fmt, unit, params, DIRECTED_VECTORS, seed))
    return dots, layer_macs


def _verdict(row: Mapping[str, Any]) -> str:
    return f"{row['vectors']} dot products, {row['mismatches']} mismatches in bits, {row['cycle_mismatches']} in cycles"


def _simulate(network: QuantisedNetwork) -> simulate.Simulation:
    """Run one window of tokens through all linear layers on the shipped machine of the format."""
    machine = load_machine(simulate.machine_for(network.format))
    shapes = [
        simulate.gemm_shape(name, WINDOW, weight.encoded.shape[0], weight.k, weight.k_padded, network.format)
        for name, weight in network.weights.items()
    ]
    return simulate.run(shapes, machine)


def _row(
    evaluation: Evaluation, hardware: Mapping[str, Any], simulation: simulate.Simulation, seed: int
) -> dict[str, Any]:
    totals = simulation.totals()
    row = {
        **evaluation.row(),
        **{
            key: totals[key] for key in ("machine", "cycles", "time_s", "macs", "utilisation", "dram_bits", "energy_pj")
        },
        "energy_mj": totals["energy_pj"] * 1e-9,
        "energy_published_share": totals["energy_by_status_pj"]["published"] / totals["energy_pj"],
        "status": totals["status"],
        "energy_table": totals["energy_table"],
        "energy_excludes": totals["energy_excludes"],
        **{f"energy_{status}_pj": value for status, value in totals["energy_by_status_pj"].items()},
        **{key: hardware[key] for key in ("vectors", "layer_macs", "mismatches", "cycle_mismatches", "engine")},
        "seed": seed,
        "scale_rule": block(evaluation.format).scale_rule,
        "hwsim_version": hwsim.__version__,
    }
    config = {"format": get(evaluation.format).rules(), **{k: row[k] for k in ("pe", "pe_params", "machine", "seed")}}
    config |= {key: row[key] for key in ("method", "tokens", "window", "text_sha256", "source_sha256")}
    row["config_sha256"] = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return row


def _notes(loaded: LoadedModel, rows: list[dict[str, Any]]) -> list[str]:
    first = rows[0]
    return [
        f"{loaded.name}: {loaded.note}.",
        f"Perplexity over {first['tokens']:,} tokens in windows of {WINDOW:,}, the same for every mode; all "
        f"{first['linear_layers']} linear layers quantised (weights and activations), attention and norms in float32. "
        "A tensor scale of activations (nvfp4) is that of a whole window, later tokens included.",
        f"Cycles and energy: one window of {WINDOW:,} tokens through all linear layers, on each format's machine "
        "(4,096 products a cycle at 1 GHz).",
        "A row's energy is as trustworthy as its weakest part; the share charged at published figures is beside it. "
        f"Energy leaves out: {first['energy_excludes']}.",
        "RTL vectors: dot products of exported layers (real weights and inputs) and directed ones, each run "
        "unstalled and under random stalls, some through a reset; mismatches count wrong bits, cycle mism. wrong "
        "handshake cycles.",
        "Difference: datapath minus fake-quant. Both start from the same weight codes; the unit rounds its sums "
        "otherwise than a float GEMM, which tips some activations of later layers onto another code. Its size is the "
        "noise of the figure.",
    ]


def _write(document: dict[str, Any], out: Path) -> None:
    import pandas as pd

    with replacing(out / "results.json") as aside:
        aside.write_text(json_text(document), encoding="utf-8")
    flat = [{k: json.dumps(v) if isinstance(v, dict) else v for k, v in row.items()} for row in document["rows"]]
    with replacing(out / "results.parquet") as aside:
        pd.DataFrame(flat).to_parquet(aside, index=False)
    kept = ("model", "source_sha256", "text_sha256", "tokens", "engine", "seed", "hwsim_version", "time_s")
    provenance = {key: document[key] for key in kept}
    for row in document["rows"]:
        provenance[row["name"]] = (
            f"machine {row['machine']}, unit {row['pe']} {row['pe_params']}, energy table {row['energy_table']}, "
            f"configuration {row['config_sha256'][:16]}"
        )
    title = f"hwsim demo: {document['model']} from codes to RTL"
    write_report(out / "report.html", title, COLUMNS, document["rows"], document["notes"], provenance)
