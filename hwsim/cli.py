"""The `hwsim` command: one verb a question, ``--json`` for programs, one-line errors for people."""

from __future__ import annotations

import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import hwsim
from hwsim.files import json_text

# The libraries' thread pools (OpenBLAS under NumPy, OpenMP under torch and Numba) take turns here; idle threads of one
# that spin for their next task take the cores from another. Set before any of them is loaded; the user's choice stands.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2**4 cycles, the least it takes
os.environ.setdefault("GOMP_SPINCOUNT", "0")

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a real network to numbers that its RTL confirms. `hwsim demo` runs the whole chain.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")]
Model = Annotated[str, typer.Option("--model", help="A zoo name, a local Hugging Face folder, or a hub id.")]
Format = Annotated[str, typer.Option("--format", help="A number format; `hwsim formats` lists them.")]
Engine = Annotated[str, typer.Option("--engine", help="icarus, verilator, or auto: the first that is usable.")]
TextFile = Annotated[Path | None, typer.Option("--text", help="UTF-8 text; default: the help topics of CPython.")]


def _emit(document: dict[str, Any], as_json: bool, columns: dict[str, str], title: str, notes: list[str]) -> None:
    """Print a document as JSON, or its rows as a table with notes under it."""
    if as_json:
        sys.stdout.write(json_text(document))
        return
    # a narrow or redirected terminal must not cut figures off
    console = Console(width=None if sys.stdout.isatty() else 240)
    table = Table(title=title, title_justify="left")
    rows = document["rows"]
    for key, heading in columns.items():
        numeric = all(isinstance(row[key], int | float) for row in rows if row[key] is not None)
        table.add_column(heading, justify="right" if numeric and rows else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[key]) for key in columns))
    console.print(table)
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@app.command()
def formats(
    name: Annotated[str | None, typer.Argument(help="A format: print and draw its code points.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Drawing to write (png, svg, pdf).")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """List the number formats, or print and draw the code points of one (out/formats/NAME.png).

    Example: hwsim formats float8_e4m3fn
    """
    from hwsim.flow import listings

    if name is None:
        if plot is not None:
            raise _UsageError("--plot draws the code points of one format; name it")
        columns = {
            "name": "format", "family": "family", "bits_per_element": "bits/element", "max_element": "max element",
            "min_step": "smallest step", "activation": "activations", "witnesses": "witnesses", "source": "source",
        }  # fmt: skip
        rows = listings.format_rows()
        note = f"{len(rows)} formats of {len({row['generator'] for row in rows})} generators; K = 4096"
        _emit({"rows": rows}, as_json, columns, "Number formats", [note])
        return
    rows = listings.code_rows(name)
    title = f"Code points of {name}"
    if not rows:
        if plot is not None:
            raise ValueError(f"format {name}: a code has no value of its own (there are no code points to draw)")
        _emit(
            {"rows": rows, "plot": None},
            as_json,
            {},
            title,
            ["No code points: a code has more than 16 bits, or no value of its own."],
        )
        return
    path = plot or Path("out", "formats", f"{name}.png")
    listings.draw_codes(name, path)
    columns = {"code": "code", "bits": "bits", "value": "value before scales"}
    _emit({"rows": rows, "plot": str(path)}, as_json, columns, title, [f"Drawn in {path}"])


@app.command()
def pe(as_json: Json = False, quiet: Quiet = False, seed: Seed = 0) -> None:
    """List the processing elements and their parameters.

    Example: hwsim pe
    """
    from hwsim.flow.listings import unit_rows

    columns = {
        "name": "unit", "formats": "weight formats", "params": "parameters = defaults",
        "latency_cycles": "latency (cycles)", "most_cycles_per_beat": "cycles/beat (most)",
        "results_per_transaction": "results/transaction", "vectors_proven": "vectors proven",
        "vectors_stale": "vectors of other sources",
    }  # fmt: skip
    rows = unit_rows()
    if not as_json:
        rows = [{**row, "params": ", ".join(f"{k}={v['default']}" for k, v in row["params"].items())} for row in rows]
    _emit({"rows": rows}, as_json, columns, "Processing elements", [])


@app.command()
def models(as_json: Json = False, quiet: Quiet = False, seed: Seed = 0) -> None:
    """List the networks that come with a name.

    Example: hwsim models
    """
    from hwsim.flow.listings import model_rows

    columns = {
        "name": "model", "title": "network", "kind": "kind", "parameters": "parameters", "cached": "in cache",
        "licence": "licence", "note": "weights", "requirement": "from PyPI",
    }  # fmt: skip
    _emit({"rows": model_rows()}, as_json, columns, "Networks", [])


@app.command()
def quantize(
    model: Model,
    format: Format,
    out: Annotated[Path, typer.Option("--out", help="Bundle to write (safetensors).")],
    method: Annotated[str, typer.Option("--method", help="Quantisation method.")] = "rtn",
    layers: Annotated[str, typer.Option("--layers", help="Layers to export, as a shell pattern.")] = "*",
    rows: Annotated[int, typer.Option("--rows", min=0, help="Sample input rows a layer; 0 for none.")] = 16,
    text: TextFile = None,
    as_json: Json = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Quantise a network's linear layers and write them, with real sample operands, to a bundle.

    Example: hwsim quantize --model smollm2 --format mxfp4 --out smollm2-mxfp4.safetensors
    """
    from hwsim.flow.progress import Reporter
    from hwsim.flow.quantise import quantise_to_file

    document = quantise_to_file(
        model, format, method, out, lambda name: fnmatchcase(name, layers), layers, rows, text, seed, Reporter(quiet)
    )
    columns = {
        "name": "layer", "n": "N", "k": "K", "k_padded": "K padded", "sample_rows": "sample rows",
        "weight_sqnr_db": "weight SQNR dB",
    }  # fmt: skip
    notes = [f"{document['file']}: {document['bits_per_weight']:.4f} bits a weight; {document['weights_note']}"]
    notes += [f"left alone: {name} ({why})" for name, why in document["left_alone"].items()]
    _emit(document, as_json, columns, f"{model} in {format}", notes)


@app.command()
def simulate(
    file: Annotated[Path | None, typer.Argument(help="A bundle, as `hwsim quantize` writes it.")] = None,
    machine: Annotated[str, typer.Option("--machine", help="A machine's name, or its YAML file.")] = "",
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="Rows of activations (tokens) of a bundle; default: 1024.")
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload", help="In a bundle's place, a network by shape: name, .yaml, config.json or gemm:MxNxK."
        ),
    ] = None,
    phase: Annotated[
        str | None, typer.Option("--phase", help="prefill (the default), or decode: one token a sequence.")
    ] = None,
    context: Annotated[int | None, typer.Option("--context", min=1, help="Tokens of a sequence.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Sequences, or images; default: 1.")] = None,
    attention: Annotated[
        str | None,
        typer.Option("--attention", help="corrected (the default), or legacy: the shapes behind BitMoD's figures."),
    ] = None,
    weight_bits: Annotated[
        float | None, typer.Option("--weight-bits", help="Stored bits a weight, where the machine leaves it open.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Run a bundle's layers, or a network known by shape, on a machine: cycles and energy, layer by layer.

    Examples: hwsim simulate smollm2-mxfp4.safetensors --machine mxfp4_os;
    hwsim simulate --workload llama-2-7b --phase decode --context 256 --machine bitmod_lossy
    """
    if (file is None) == (workload is None):
        raise _UsageError("name either a bundle or a network with '--workload'")
    if not machine:
        raise _UsageError("name a machine with '--machine'")
    shaped = {
        "--phase": phase, "--context": context, "--batch": batch, "--attention": attention,
        "--weight-bits": weight_bits,
    }  # fmt: skip
    unused = [name for name, value in ({"--rows": rows} if file is None else shaped).items() if value is not None]
    if unused:
        raise _UsageError(f"'{unused[0]}' goes with {'a bundle' if file is None else '--workload'}")
    if file is None:
        assert workload is not None
        _simulate_workload(
            workload, machine, phase or "prefill", context, batch or 1, attention or "corrected", weight_bits, as_json
        )
        return
    from hwsim.flow.simulate import simulate_file

    rows = rows or 1024
    document = simulate_file(file, machine, rows)
    columns = {
        "name": "layer", "macs": "MACs", "cycles": "cycles", "bound": "bound by", "dram_bits": "DRAM bits",
        "energy_pj": "energy (pJ)", "status": "energy status",
    }  # fmt: skip
    notes = [
        f"total: {document['cycles']:,} cycles, {document['time_s']:.4g} s, utilisation {document['utilisation']:.1%}, "
        f"{document['energy_pj'] * 1e-9:.4g} mJ ({document['status']})",
        f"energy leaves out: {document['energy_excludes']}",
    ]
    _emit(document, as_json, columns, f"{file} on {document['machine']}, {rows} rows", notes)


def _simulate_workload(
    workload: str, machine: str, phase: str, context: int | None, batch: int, attention: str,
    weight_bits: float | None, as_json: bool,
) -> None:  # fmt: skip
    from hwsim.arch.conventions import Options
    from hwsim.flow.workloads import simulate_workload

    options = Options(attention, weight_bits)  # type: ignore[arg-type]  # checked there
    document = simulate_workload(workload, machine, phase=phase, context=context, batch=batch, options=options)
    columns = {
        "name": "layer", "repeat": "times", "macs": "MACs", "cycles": "cycles", "bound": "bound by",
        "dram_bytes": "DRAM bytes", "utilisation": "utilisation",
    }  # fmt: skip
    energy = document["energy_pj"]
    shown = "not available" if energy is None else ", ".join(f"{k} {v * 1e-9:.4g} mJ" for k, v in energy.items())
    notes = [
        f"total: {document['total_cycles']:,} cycles (at least {document['least_cycles']:,}), "
        f"{document['time_s']:.4g} s, utilisation {document['utilisation']:.1%}",
        f"energy ({document['energy_status']}): {shown}; left out: {document['energy_excludes']}",
        f"timed by the rule {document['timing']}: {document['machine_source']}",
    ]
    _emit(document, as_json, columns, f"{document['workload']}, {phase}, on {document['machine']}", notes)


@app.command()
def validate(
    what: Annotated[str, typer.Argument(help="cycles")],
    as_json: Json = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Hold our figures against published ones; one that must hold and does not exits with 1.

    Example: hwsim validate cycles
    """
    from hwsim.flow.validate import validate_cycles

    kinds = {"cycles": validate_cycles}
    if what not in kinds:
        raise _UsageError(f"nothing is validated under {what!r}; there is: {', '.join(kinds)}")
    rows = kinds[what]()
    columns = {
        "paper": "paper", "entry": "entry", "measure": "measure", "published": "published", "ours": "ours",
        "difference": "difference", "agreement": "agreement",
    }  # fmt: skip
    broken = [row["entry"] for row in rows if row["holds"] is False]
    notes = [f"does not hold: {entry}" for entry in broken] or ["all that must agree agrees"]
    _emit({"rows": rows}, as_json, columns, "published and ours", notes)
    if broken:
        raise typer.Exit(1)


@app.command()
def cosim(
    pe: Annotated[str | None, typer.Option("--pe", help="A unit; `hwsim pe` lists them.")] = None,
    params: Annotated[
        str | None,
        typer.Option("--params", help="FIELD=VALUE,... of the unit's Params; default: a run for each of its formats."),
    ] = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Take operands from this bundle's layers.")] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="icarus, verilator, auto: the first of them that is usable, or bulk: the unit compiled, for millions.",
        ),
    ] = "auto",
    vectors: Annotated[int, typer.Option("--vectors", min=1, max=10**10, help="Dot products a format.")] = 512,
    replay: Annotated[
        Path | None, typer.Option("--replay", help="Run the one case that a failing run of the bulk engine left.")
    ] = None,
    waves: Annotated[Path, typer.Option("--waves", help="Folder for waveforms of failing runs.")] = Path("out/waves"),
    as_json: Json = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Compare a unit's RTL with its model, in bits and in cycles; any difference exits with 1.

    Example: hwsim cosim --pe mx_dot --engine bulk --vectors 1000000
    """
    from hwsim.flow.cosim import cosim_command, replay_command
    from hwsim.flow.progress import Reporter

    if (pe is None) == (replay is None):
        raise _UsageError("name either a unit with '--pe' or a case with '--replay'")
    if replay is not None and params is not None:
        raise _UsageError("a case with '--replay' has its own Params; leave '--params'")
    columns = {
        "name": "format", "pe": "unit", "operands": "operands", "vectors": "dot products", "macs": "MACs",
        "comparisons": "comparisons", "mismatches": "mismatches", "cycle_mismatches": "cycle mismatches",
    }  # fmt: skip
    if replay is not None:
        rows = [replay_command(replay, engine=engine)]
        notes = [str(rows[0]["first_mismatch"] or "no difference")]
    else:
        assert pe is not None
        rows = cosim_command(
            pe, bundle, engine=engine, vectors=vectors, seed=seed, waveform_dir=waves, params_text=params or "",
            reporter=Reporter(quiet),
        )  # fmt: skip
        columns |= {
            "simulated_cycles": "cycles simulated", "vectors_per_s": "dot products/s", "seed": "seed",
        }  # fmt: skip
        notes = [
            f"{row['name']}: {row['first_mismatch']}; waveform {row['waveform']}"
            + (f"; run it again with --replay {row['replay']}" if row["replay"] else "")
            for row in rows
            if row["first_mismatch"]
        ]
    _emit({"rows": rows}, as_json, columns, f"{rows[0]['pe']}: RTL against model, {rows[0]['engine']}", notes)
    _exit_on_mismatch(rows)


@app.command()
def faults(
    pe: Annotated[str, typer.Option("--pe", help="A unit; `hwsim pe` lists them.")],
    params: Annotated[
        str, typer.Option("--params", help="FIELD=VALUE,... of its Params; default: its small instances.")
    ] = "",
    faults: Annotated[int, typer.Option("--faults", min=1, max=10_000, help="Faults an instance.")] = 100,
    vectors: Annotated[int, typer.Option("--vectors", min=1, max=10**6, help="Dot products an instance.")] = 3000,
    proof_s: Annotated[float, typer.Option("--proof-s", min=0, help="Seconds that a proof may take; 0: none.")] = 40,
    as_json: Json = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Plant faults in a unit's netlist: which the bench finds, and which provably never show; others exit with 1.

    Example: hwsim faults --pe int_mac --faults 100
    """
    from hwsim.flow.faults import faults_command
    from hwsim.flow.progress import Reporter

    rows = faults_command(pe, params, faults, vectors, seed, proof_s, Reporter(quiet))
    columns = {
        "name": "instance", "faults": "faults", "caught": "caught", "harmless": "harmless", "bounded": "bounded",
        "open": "open",
    }  # fmt: skip
    notes = [
        f"{row['name']}: {each['class']}: {each['fault']}: {each['by']}"
        for row in rows
        for each in row["each"]
        if each["class"] in ("bounded", "open")
    ]
    _emit({"rows": rows}, as_json, columns, f"{pe}: faults in its netlist", notes)
    if any(row["open"] for row in rows):
        raise typer.Exit(1)


@app.command()
def prove(
    pe: Annotated[list[str] | None, typer.Option("--pe", help="A unit, again for more; default: all.")] = None,
    vectors: Annotated[
        int, typer.Option("--vectors", min=1, max=10**10, help="Dot products (transactions) a unit.")
    ] = 100_000_000,
    record: Annotated[
        Path | None, typer.Option("--record", help="File of what was proven; default: the project's own.")
    ] = None,
    no_layers: Annotated[bool, typer.Option("--no-layers", help="Take no operands of real layers.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Also prove what the record says already.")] = False,
    waves: Annotated[Path, typer.Option("--waves", help="Folder for waveforms of differences.")] = Path("out/waves"),
    as_json: Json = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Prove units in the bulk engine and record it: all pairs of codes, corners, random operands, real layers.

    A run that was broken off goes on where it was; any difference exits with 1.

    Example: hwsim prove --pe mx_dot --vectors 1000000
    """
    from hwsim.flow.progress import Reporter
    from hwsim.flow.proof_record import read_record
    from hwsim.flow.proofs import prove_command

    rows = prove_command(
        pe, read_record(record), vectors=vectors, seed=seed, layers=not no_layers, anew=anew, waveform_dir=waves,
        reporter=Reporter(quiet),
    )  # fmt: skip
    columns = {
        "name": "unit", "operands": "operands", "params": "Params", "vectors": "vectors", "status": "status",
        "spent_s": "seconds",
    }  # fmt: skip
    shown = (
        rows if as_json else [{**row, "params": ",".join(f"{k}={v}" for k, v in row["params"].items())} for row in rows]
    )
    notes = [row["first_mismatch"] for row in rows if row["first_mismatch"]]
    _emit({"rows": shown}, as_json, columns, "Proofs", notes or [f"{sum(row['vectors'] for row in rows):,} vectors"])
    _exit_on_mismatch(rows)


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Verilog or SystemVerilog files of your unit.")],
    top: Annotated[str, typer.Option("--top", help="Its top module.")],
    port_map: Annotated[Path, typer.Option("--map", help="What its ports carry (YAML).")],
    unit: Annotated[str, typer.Option("--unit", help="Unit whose model it is held against.")] = "mx_dot",
    params: Annotated[str, typer.Option("--params", help="FIELD=VALUE,... of that unit's Params.")] = "",
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Also take operands from this bundle's layers.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Say which accumulation rule it follows: any, or of exact, sequential_fp32, aligned:F, a preset.",
        ),
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="icarus, verilator, auto, or bulk: compiled.")] = "auto",
    vectors: Annotated[int, typer.Option("--vectors", min=1, max=10**9, help="Dot products a source.")] = 1024,
    waves: Annotated[Path, typer.Option("--waves", help="Folder for waveforms of differences.")] = Path("out/waves"),
    as_json: Json = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Run your own Verilog unit on real operands and compare it with a model; any difference exits with 1.

    Example: hwsim check fp4_dot.v round_even.v --top fp4_dot --map fp4_dot.yaml --params lanes=32,block=32
    """
    from hwsim.flow.check import check_command
    from hwsim.flow.progress import Reporter

    document = check_command(
        files, top=top, map_file=port_map, unit_name=unit, params_text=params, bundle_file=bundle, against=against,
        engine=engine, vectors=vectors, seed=seed, waves=waves, reporter=Reporter(quiet),
    )  # fmt: skip
    if against is not None:
        columns = {"name": "rule", "vectors": "dot products", "explained": "explained"}
        full = [row["name"] for row in document["rows"] if row["explained"] == row["vectors"] > 0]
        notes = [f"Explain all results: {'; '.join(full) or 'none'}"]
    else:
        columns = {
            "operands": "operands", "vectors": "dot products", "comparisons": "comparisons",
            "differences": "differences", "rounding": "rounding", "order": "order", "special_values": "special values",
            "stalls_or_reset": "stalls or reset", "other": "other", "missing": "missing", "cycles": "cycles",
            "latency_cycles": "latency (cycles)",
        }  # fmt: skip
        notes = []
        for row in document["rows"]:
            if (first := row["first_difference"]) is not None:
                notes.append(f"first difference ({first['kind']}): {first['text']}")
            if (best := row["explained_by"]) is not None:
                notes.append(f"{row['operands']}: {best['differences']} of {best['of']} are those of: {best['rule']}")
            if row["waveform_note"] is not None:
                notes.append(row["waveform_note"])
    _emit(document, as_json, columns, f"{top} against {unit}, {engine}", notes)
    if not document["ok"]:
        raise typer.Exit(1)


@app.command()
def eval(
    model: Model,
    format: Format,
    method: Annotated[str, typer.Option("--method", help="Quantisation method.")] = "rtn",
    pe: Annotated[str | None, typer.Option("--pe", help="Unit; default: the format's own.")] = None,
    text: TextFile = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens; whole windows of 1,024 are used.")] = 2048,
    as_json: Json = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Measure perplexity three ways: float, fake-quantised, and on codes through the unit's model.

    Example: hwsim eval --model smollm2 --format nvfp4 --tokens 2048
    """
    from hwsim.flow.evaluate import evaluate_command
    from hwsim.flow.progress import Reporter

    row = evaluate_command(model, format, method, pe, text, tokens, seed, Reporter(quiet))
    columns = {
        "name": "format", "pe": "unit", "bits_per_weight": "bits/weight", "weight_sqnr_db": "weight SQNR dB",
        "float_ppl": "ppl float32", "fakequant_ppl": "ppl fake-quant", "datapath_ppl": "ppl datapath",
        "tokens": "tokens",
    }  # fmt: skip
    if as_json:
        _emit(row, True, {}, "", [])
    else:
        _emit({"rows": [row]}, False, columns, f"{model} in {format}", [f"{model}: {row['weights_note']}"])


@app.command()
def cache(
    action: Annotated[str | None, typer.Argument(help="`clear` removes everything listed.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """List what lies in the cache, or clear it.

    Example: hwsim cache clear
    """
    from hwsim.flow.listings import cache_rows, clear_cache

    if action not in (None, "clear"):
        raise ValueError(f"unknown action {action!r}; allowed: clear, or nothing to list")
    rows = clear_cache() if action == "clear" else cache_rows()
    title = "Removed from the cache" if action == "clear" else "In the cache"
    _emit({"rows": rows}, as_json, {"name": "entry", "kind": "kind", "bytes": "bytes"}, title, [])


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("out/demo"),
    model: Model = "smollm2",
    text: TextFile = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Evaluation tokens.")] = 2048,
    engine: Engine = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Run the whole chain on a real network, print its table, and write results and a report.

    Example: hwsim demo --out out/demo
    """
    from hwsim.flow.demo import COLUMNS, demo_command
    from hwsim.flow.progress import Reporter
    from hwsim.flow.report import format_cell

    document = demo_command(model, text, tokens, out, engine, seed, Reporter(quiet))
    if as_json:
        _emit(document, True, {}, "", [])
    else:
        rows = [{key: format_cell(row[key], spec) for key, _, spec in COLUMNS} for row in document["rows"]]
        footer = (
            f"{document['time_s']:.0f} s, peak memory {document['peak_memory_bytes'] / 2**30:.2f} GiB; "
            f"{out / 'report.html'}, {out / 'results.json'}, {out / 'results.parquet'}"
        )
        headings = {key: heading for key, heading, _ in COLUMNS}
        _emit({"rows": rows}, False, headings, "hwsim demo", [*document["notes"], footer])
    _exit_on_mismatch(document["rows"])


def _exit_on_mismatch(rows: list[dict[str, Any]]) -> None:
    if any(row["mismatches"] or row["cycle_mismatches"] for row in rows):
        raise typer.Exit(1)


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"hwsim {hwsim.__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options of every command."""


_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""What Typer raises for a wrong command line; it exports only this subclass of it."""


def main() -> None:
    """Run the command line; bad input is one line on standard error and exit code 2, Ctrl-C is 130."""
    try:
        code = app(standalone_mode=False)
        if code == 130:  # Typer turns Ctrl-C into its exit code
            _fail("interrupted", 130)
    except (typer.Abort, KeyboardInterrupt):
        code = _fail("interrupted", 130)
    except _UsageError as error:
        code = _usage(error.format_message())  # type: ignore[attr-defined]
    except BrokenPipeError:
        # the reader has gone; give the interpreter nothing to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except ImportError as error:
        code = _fail(f"{error}; an optional part is not installed: pip install 'hwsim[rtl,quant,models]'", 2)
    except MemoryError as error:
        code = _fail(f"not enough memory: {error}", 2)
    except (ValueError, OSError, RuntimeError, OverflowError) as error:
        if os.environ.get("HWSIM_TRACEBACK"):
            raise
        code = _fail(str(error) or type(error).__name__, 2)
    sys.exit(code if isinstance(code, int) else 0)


def _usage(message: str) -> int:
    """Report a wrong command line; without arguments the help has been shown, and there is nothing more to say."""
    if not message:
        return 2
    known = (
        f" Commands: {', '.join(command.callback.__name__ for command in app.registered_commands if command.callback)}"
    )
    return _fail(message + (known if message.startswith("No such command") else ""), 2)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"hwsim: error: {' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    main()
