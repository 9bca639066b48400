"""Prove units at scale: all pairs of codes, corners and random operands by the million, and operands of real layers.

`prove` runs unit by unit and writes each result into a record (`hwsim.flow.proof_record`) as soon as it has it, so that
a run that was broken off goes on where it was. What is proven is one small instance of a unit after the other: widths
of a few lanes and short dot products make many of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwsim import pe
from hwsim.flow.operands import CHUNK_ROWS, Batch, chunks, mass_batches, vector_chunks
from hwsim.flow.params import operand_formats, read_params
from hwsim.flow.progress import Reporter
from hwsim.flow.proof_record import Proof, Record, sources_hash
from hwsim.formats import Encoded, Format, encode

if TYPE_CHECKING:
    from rtl.sim.run import CosimResult

DEFAULT_VECTORS = 100_000_000
LAYER_PART = 10
"""One vector in so many is of real layers."""
ENGINE = "bulk"
_CODES = ("pairs", "scales")


@dataclass(frozen=True)
class Instance:
    """Params of a unit, as text for `read_params`, and the share of the unit's vectors that they take."""

    params: str
    share: float


_E4M3, _E5M2 = "float8_e4m3fn", "float8_e5m2"
_RULE = "accumulator.rounding=rtz,accumulator.overflow=infinite,accumulator.scales=product,accumulator.kind=aligned"
_FP16 = "arithmetic=fp16,in_bits=16,signs_seed=1,norm=rsqrt"
_ROTATED = ",".join(f"hadamard.{part}" for part in _FP16.split(","))
PLAN: Mapping[str, tuple[Instance, ...]] = {
    "mx_dot": (
        Instance("lanes=8,block=8", 0.36),
        Instance(f"lanes=8,block=16,scale={_E4M3},out_scale=true", 0.15),
        Instance(f"lanes=4,block=8,element={_E4M3}", 0.1),
        Instance(f"lanes=4,block=8,element={_E5M2},a_element={_E4M3}", 0.1),
        Instance(f"lanes=8,block=8,a_element={_E4M3},stages=4,adder_tree=carry_save", 0.1),
        Instance("lanes=8,block=8,element=int4,a_element=int8,scale=uint8,out_scale=true", 0.05),
        Instance("lanes=8,block=8,element=int6,scale=ufloat8_e5m3fn", 0.05),
        Instance(
            f"lanes=4,block=8,element={_E4M3},scale=none,{_RULE},accumulator.group=8,accumulator.fraction_bits=13,"
            "accumulator.kept_bits=13",
            0.04,
        ),
        Instance("lanes=4,block=8,accumulator.kind=sequential,accumulator.format=bfloat16", 0.03),
        Instance(f"lanes=2,block=8,element={_E5M2},flags=true,accumulator.promote_every=2", 0.02),
    ),
    "int_mac": (
        Instance("lanes=8", 0.5),
        Instance("lanes=8,block=16,weight=int4", 0.2),
        Instance("lanes=8,block=16,weight=uint4,zero_point=true", 0.2),
        Instance("lanes=4,weight=int16,activation=int16,stages=3,adder_tree=carry_save", 0.1),
    ),
    "fp_fma": (
        Instance("element=float16", 0.4),
        Instance("element=bfloat16,rounding=rtz", 0.2),
        Instance(f"element={_E5M2},a_element={_E4M3},accumulate=float16", 0.2),
        Instance("element=float32", 0.1),
        Instance("element=float16,accumulate=float16,rounding=rod,flags=true", 0.1),
    ),
    "bfp_dot": (
        Instance("lanes=8,block=8", 0.6),
        Instance("lanes=8,block=16,element=signmag8,a_element=signmag5", 0.4),
    ),
    "vs_dot": (Instance("lanes=8,vector=8", 0.6), Instance("lanes=8,vector=16,element=int8", 0.4)),
    "mx9_dot": (Instance("lanes=8,block=8", 0.6), Instance("lanes=8,block=16,element=signmag3_q1", 0.4)),
    "hadamard": (
        Instance("", 0.4),
        Instance("points=32,lanes=8,signs_seed=1,shift=2", 0.3),
        Instance(_FP16, 0.3),
    ),
    "requant": (
        Instance("", 0.4),
        Instance("format=nvfp4", 0.2),
        Instance("format=float8_e4m3fn,lanes=4", 0.1),
        Instance("rounding=lfsr", 0.1),
        Instance("source=int32,format=,lanes=4,zero_point=3", 0.2),
    ),
    "hadamard_requant": (
        Instance("", 0.7),
        Instance(f"hadamard.lanes=8,{_ROTATED},requant.format=mxint8", 0.3),
    ),
    "mixpe_w4a8": (Instance("lanes=8,block=8", 0.5), Instance("lanes=8,block=8,weight=uint4", 0.5)),
    "mixpe_w4a16": (Instance("lanes=4,block=8", 1.0),),
    "tender": (Instance("lanes=2", 1.0),),
}  # fmt: skip
"""Instances of the units; a unit that is not named takes its default Params, and one vector in `SLOW`."""
SLOW = 100


@dataclass(frozen=True)
class Job:
    """One thing to prove.

    Attributes
    ----------
    unit : str
    params : Params of the unit
    operands : str
        As of `Proof`.
    vectors : int
    """

    unit: str
    params: Any
    operands: str
    vectors: int


def jobs_of(unit_name: str, vectors: int, layers: bool = True) -> list[list[Job]]:
    """Return what is proven of a unit: all pairs of codes, in banks that are compiled as one, then every instance.

    The instances take `vectors` together; the pairs of codes come on top.
    """
    unit: Any = pe.unit(unit_name)
    plan = PLAN.get(unit_name)
    if plan is None:
        plan, vectors = (Instance("", 1.0),), max(vectors // SLOW, 1)
    jobs = code_jobs(unit_name)
    for instance in plan:
        params = read_params(unit, instance.params, unit.Params())
        wanted = max(round(vectors * instance.share), 1)
        of_layers = wanted // LAYER_PART if layers and takes_layers(unit_name, params) else 0
        jobs.append([Job(unit_name, params, "drawn", wanted - of_layers)])
        if of_layers:
            jobs.append([Job(unit_name, params, "layers", of_layers)])
    return jobs


def code_jobs(unit_name: str) -> list[list[Job]]:
    """Return the jobs of a unit over all pairs of element codes and of scale codes, in banks."""
    from rtl.sim import proof_cases

    return [
        [Job(unit_name, params, operands, proof_cases.count(params, operands)) for params in bank]
        for operands in _CODES
        for bank in proof_cases.banks(unit_name, operands)
    ]


def takes_layers(unit_name: str, params: Any) -> bool:
    """Tell whether rows of real layers can be a unit's operands."""
    unit: Any = pe.unit(unit_name)
    return hasattr(unit, "params_for") or (unit_name, getattr(params, "source", "float32")) == ("requant", "float32")


@dataclass(frozen=True)
class Layer:
    """Rows of a real layer: inputs x float32 [rows, K] and weights w float32 [N, K]."""

    name: str
    x: NDArray[np.float32]
    w: NDArray[np.float32]


@cache
def real_layers(models: tuple[str, ...] = ("smollm2", "minilm"), rows: int = 64, each: int = 6) -> tuple[Layer, ...]:
    """Return linear layers of networks of the zoo that read text, spread over their depth, with real inputs.

    Raises
    ------
    ImportError
        When torch and transformers are not installed.
    ValueError
        When a network cannot be loaded.
    """
    from models.evaluate import token_windows
    from models.linear import capture_inputs, linear_layers
    from models.load import load
    from models.text import default_text

    found = []
    for model in models:
        loaded = load(model, quiet=True)
        layers = {name: layer for name, layer in linear_layers(loaded).items() if "pooler" not in name}
        names = [list(layers)[int(at)] for at in np.linspace(0, len(layers) - 2, each)]
        assert loaded.tokenizer is not None, "a network that reads text"
        windows = token_windows(loaded.tokenizer, default_text().calibration, 256, 256)
        inputs = capture_inputs(loaded, names, windows, rows=rows, seed=0)
        for name in names:
            weight = layers[name].weight.detach().numpy()
            found.append(Layer(f"{model}.{name}", inputs[name].numpy(), np.ascontiguousarray(weight[: 8 * rows])))
    return tuple(found)


def layer_batches(
    layers: Sequence[Layer], weight: Format, activation: Format, length: int, vectors: int, seed: int
) -> Iterator[Batch]:
    """Yield `vectors` dot products of `length` of layers' rows: pieces of K drawn at random, encoded as whole rows."""
    from hwsim.flow.check_chunks import fitted

    rng = np.random.default_rng(seed)
    coded = [(_encoded(layer.x, activation, length), _encoded(layer.w, weight, length)) for layer in layers]
    number = 0
    while vectors > 0:
        x, w = coded[number % len(coded)]
        count = min(vectors, CHUNK_ROWS)
        batch = Batch(x.rows(rng.integers(x.shape[0], size=count)), w.rows(rng.integers(w.shape[0], size=count)), x.k)
        yield fitted(batch, length, rng)
        vectors -= count
        number += 1


def _encoded(x: NDArray[np.float32], fmt: Format, length: int) -> Encoded:
    return encode(np.ascontiguousarray(x[:, : x.shape[1] // length * length]), fmt)


def layer_vectors(
    unit: Any, params: Any, layers: Sequence[Layer], vectors: int, seed: int
) -> Iterator[tuple[dict[str, NDArray[np.integer]], dict[str, NDArray[np.integer]]]]:
    """Yield beats of `requant` whose values are outputs of layers, and the fields of its results."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([(layer.x @ layer.w.T).reshape(-1) for layer in layers]).astype(np.float32)
    while vectors > 0:
        count = min(vectors, CHUNK_ROWS)
        beats = dict(unit.operands(params, count, rng))
        starts = rng.integers(len(values) - params.block, size=count)
        x = values[starts[:, None] + np.arange(params.block)]
        beats["x"] = x.view(np.uint32).reshape(beats["x"].shape)
        yield beats, unit.outputs(beats, params)
        vectors -= count


def run_job(
    job: Job,
    seed: int,
    advance: Callable[[int], None],
    *,
    layers: Callable[[], Sequence[Layer]] = real_layers,
    waveform_dir: Path | None = None,
) -> CosimResult:
    """Run one job over drawn operands or layers in the bulk engine, in constant memory.

    The compiled unit runs beside the model, one chunk behind it; ``advance`` is told the vectors of each chunk.
    """
    from hwsim.flow.cosim import check_beside
    from rtl.sim.bulk_cosim import BulkCosim

    bulk = BulkCosim(job.unit, job.params, seed=seed, waveform_dir=waveform_dir)
    check_beside(bulk, _work(job, seed, layers), advance)
    return bulk.total


def _work(job: Job, seed: int, layers: Callable[[], Sequence[Layer]]) -> Iterator[tuple[Any, Any, int]]:
    """Yield beats, expected bits and the number of vectors, chunk by chunk."""
    unit: Any = pe.unit(job.unit)
    if hasattr(unit, "params_for"):
        weight, activation = operand_formats(unit, job.params)
        if job.operands == "layers":
            length = _length(job.params, activation)
            batches = layer_batches(layers(), weight, activation, length, job.vectors, seed)
        else:
            batches = mass_batches(weight, job.params, job.vectors, seed, activation)
        for beats, expected, _ in chunks(batches, unit, job.params):
            yield beats, expected, len(expected)
        return
    from rtl.lib.elastic_stream import fields_layout
    from rtl.sim.payload import pack_words

    spec = job.params.datapath
    made = (
        layer_vectors(unit, job.params, layers(), job.vectors, seed)
        if job.operands == "layers"
        else vector_chunks(unit, job.params, job.vectors, seed)
    )
    for beats, fields in made:
        words = pack_words(fields, fields_layout(spec.outputs))
        yield beats, words, len(words) // spec.results


def _length(params: Any, activation: Format) -> int:
    """Return the length of the pieces of layers: two steps of the unit, or blocks, at least 16 products."""
    spec = params.datapath
    block = getattr(spec, "block", 0) or getattr(activation, "block_size", 0) or getattr(params, "group", 0) or 1
    step = max(params.lanes * getattr(spec, "step_beats", 1), block)
    return step * max(2, -(-16 // step))


def prove(
    unit_names: Sequence[str],
    record: Record,
    *,
    vectors: int = DEFAULT_VECTORS,
    seed: int = 0,
    layers: bool = True,
    anew: bool = False,
    waveform_dir: Path | None = None,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Prove units and put what holds into a record; return one row a job, those that the record has already included.

    Parameters
    ----------
    unit_names : sequence of str
    record : Record
        Written after every job.
    vectors : int
        A unit, the pairs of codes not counted.
    layers : bool
        Whether a part is operands of real layers (which needs torch).
    anew : bool
        Whether to prove again what the record says of today's sources.
    waveform_dir : Path, optional
        Folder for what is left of a difference.

    Raises
    ------
    ValueError
        When there is no such unit.
    SimulatorError
        When a tool is missing or fails.
    """
    rows = []
    for unit_name in unit_names:
        jobs = jobs_of(unit_name, vectors, layers)
        with reporter.bars() as bars:
            task = bars.add_task(f"prove {unit_name}", total=sum(job.vectors for bank in jobs for job in bank))

            def advance(count: int, task: Any = task, bars: Any = bars) -> None:
                bars.advance(task, count)

            for bank in jobs:
                rows += _prove(bank, record, seed, anew, waveform_dir, advance)
    return rows


def prove_command(unit_names: Sequence[str] | None, record: Record, **options: Any) -> list[dict[str, Any]]:
    """Run `hwsim prove`: of all units that have hardware where none is named.

    Raises
    ------
    ValueError
        When there is no such unit, or it has no hardware.
    """
    from rtl.pe import component, components

    for name in unit_names or ():
        pe.unit(name)
        component(name)
    return prove(unit_names or [name for name in pe.names() if name in components()], record, **options)


def _prove(
    bank: Sequence[Job], record: Record, seed: int, anew: bool, waveform_dir: Path | None,
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:  # fmt: skip
    from rtl.sim import proof_cases

    proofs = [
        Proof(
            job.unit, asdict(job.params), job.operands, job.vectors, ENGINE, 0 if _coded(job) else seed,
            sources_hash(job.unit), proof_cases.netlist_hash(job.unit, job.params),
        )
        for job in bank
    ]  # fmt: skip
    if not anew and all(record.current(proof) for proof in proofs):
        for job in bank:
            advance(job.vectors)
        return [_row(proof, "recorded") for proof in proofs]
    start = time.perf_counter()
    wrong, late, failed = 0, 0, None
    if _coded(bank[0]):
        failed = proof_cases.check([job.params for job in bank], bank[0].unit, bank[0].operands, waveform_dir)
        wrong = int(failed is not None)  # of the bank as a whole
        for job in bank:
            advance(job.vectors)
    else:
        (job,) = bank
        total = run_job(job, seed, advance, waveform_dir=waveform_dir)
        wrong, late = total.mismatches, total.cycle_mismatches
        failed = None if total.ok else f"{total.first_mismatch}; run it again with --replay {total.replay}"
    spent_s = (time.perf_counter() - start) / len(bank)
    rows = []
    for proof in proofs:
        if failed is None:
            record.add(proof)
        status = "proven" if failed is None else "refuted"
        rows.append(_row(proof, status, spent_s, wrong, late, failed))
    return rows


def _coded(job: Job) -> bool:
    return job.operands in _CODES


def _row(
    proof: Proof, status: str, spent_s: float = 0.0, wrong: int = 0, late: int = 0, failed: str | None = None
) -> dict[str, Any]:
    return {
        "name": proof.unit,
        "params": proof.params,
        "operands": proof.operands,
        "vectors": proof.vectors,
        "mismatches": wrong,
        "cycle_mismatches": late,
        "first_mismatch": failed,
        "status": status,
        "spent_s": spent_s,
        "seed": proof.seed,
    }


__all__ = ["DEFAULT_VECTORS", "PLAN", "Instance", "Job", "Layer", "jobs_of", "prove", "prove_command", "run_job"]
