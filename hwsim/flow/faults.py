"""Fault campaigns: how many single faults in a unit's netlist the bench finds, and why it does not find the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwsim import pe
from hwsim.flow.codes import draw_dots, set_trap
from hwsim.flow.progress import Reporter
from hwsim.pe._dot import DotSpec
from hwsim.pe._stream import StreamSpec

if TYPE_CHECKING:
    from rtl.sim.fault_proof import Effort
    from rtl.sim.faults import FaultReport, Operands

E4M3 = "float8_e4m3fn"
_ALIGNED = {"kind": "aligned", "scales": "product", "rounding": "rtz"}
INSTANCES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "bfp_dot": ("bfp_dot", {"block": 4, "lanes": 2}),
    "fp_fma": ("fp_fma", {"element": E4M3, "accumulate": "float16", "flags": True}),
    "fp_fma_float32": ("fp_fma", {"element": "bfloat16"}),
    "hadamard": ("hadamard", {"points": 16, "lanes": 4, "signs_seed": 1, "shift": 2}),
    "hadamard_fp16": ("hadamard", {"points": 16, "lanes": 2, "arithmetic": "fp16", "in_bits": 16, "norm": "rsqrt"}),
    "hadamard_requant": (
        "hadamard_requant",
        {
            "hadamard": {"points": 16, "lanes": 4, "signs_seed": 1},
            "requant": {"format": "nvfp4", "lanes": 4},
        },
    ),
    "int_mac": ("int_mac", {"lanes": 2, "weight": "int4", "activation": "int4"}),
    "int_mac_groups": ("int_mac", {"lanes": 2, "weight": "uint4", "block": 4, "zero_point": True}),
    "mixpe_w4a16": ("mixpe_w4a16", {"lanes": 2, "block": 4}),
    "mixpe_w4a8": ("mixpe_w4a8", {"lanes": 2, "block": 4}),
    "mx9_dot": ("mx9_dot", {"block": 4, "lanes": 4}),
    "mx_dot": ("mx_dot", {"block": 4, "lanes": 2}),
    "mx_dot_stages": (
        "mx_dot",
        {"block": 4, "lanes": 4, "scale": E4M3, "out_scale": True, "stages": 4, "adder_tree": "carry_save"},
    ),
    "mx_dot_aligned": (
        "mx_dot",
        {
            "element": E4M3,
            "scale": "none",
            "block": 4,
            "lanes": 4,
            "accumulator": {**_ALIGNED, "group": 4, "fraction_bits": 13, "kept_bits": 13},
        },
    ),
    "mx_dot_sequential": (
        "mx_dot",
        {"lanes": 1, "block": 2, "accumulator": {"kind": "sequential", "scales": "product"}},
    ),
    "mx_dot_float16_flags": (
        "mx_dot",
        {"lanes": 2, "block": 2, "flags": True, "accumulator": {"format": "float16", "promote_every": 2}},
    ),
    "requant": ("requant", {"format": "mxfp4", "lanes": 4}),
    "requant_lfsr": ("requant", {"format": "float8_e5m2", "lanes": 1, "rounding": "lfsr", "random_bits": 12}),
    "requant_dyadic": ("requant", {"source": "int32", "lanes": 1, "format": "", "zero_point": 3}),
    "tender": ("tender", {"lanes": 2, "groups": 2, "weight": "int4", "activation": "int4", "acc_bits": 16}),
    "vs_dot": ("vs_dot", {"vector": 8, "lanes": 2}),
}
"""By name: a small instance of each unit that has all its parts, as (unit, fields of its Params)."""
DEFAULT_VECTORS = 3000
"""Dot products of a campaign; twice as many where there are output scales."""
_STREAMED = 8
"""Vectors to a dot product: their model computes many at once."""
_CHUNK_BEATS = 1 << 14
_TRAP_EVERY, _ONE = 3, 0x3F800000
MORE = {"fp_fma": 3, "int_mac_groups": 2, "requant": 4, "requant_lfsr": 40}
"""Instances that take so many times as many: a random bit, or one of many low bits in one of many places, decides."""
PROOFS = {
    "same": "the fault changes no function of the netlist",
    "any state": "changes no register and no output, whatever the registers hold",
    "reachable states": "changes no register and no output in any state that occurs after a reset",
    "both machines": "registers may differ, but no output that counts, in any run",
    "bounded": "changes no output that counts in any run of so many cycles",
}
"""What each proof says."""


def params_of(unit_name: str, fields: Mapping[str, Any]) -> Any:
    """Return the Params of a unit from fields, those of a part as a mapping."""
    parts = {
        name: pe.unit(name).Params(**value) if isinstance(value, Mapping) and name in pe.names() else value
        for name, value in fields.items()
    }
    return pe.unit(unit_name).Params(**parts)


def operands(unit_name: str, params: Any, vectors: int, seed: int) -> Operands:
    """Return what the bench streams through a unit: chunks of beats and the bits of their results."""
    unit: Any = pe.unit(unit_name)
    rng = np.random.default_rng(seed)
    if isinstance(params.datapath, StreamSpec):
        from rtl.lib.elastic_stream import fields_layout
        from rtl.sim.payload import pack_words

        beats = unit.operands(params, _STREAMED * vectors, rng)
        return [(beats, pack_words(unit.outputs(beats, params), fields_layout(params.datapath.outputs)))]
    if not isinstance(params.datapath, DotSpec):
        raise ValueError(f"unit {unit_name!r}: no operands are drawn for its datapath")
    return list(_joined(unit, params, vectors, rng))


def _joined(
    unit: Any, params: Any, vectors: int, rng: np.random.Generator
) -> Iterator[tuple[dict[str, NDArray[np.integer]], NDArray[np.uint32]]]:
    """Yield dot products joined to chunks; those that the model refuses, since a sum would wrap, are left out."""
    spec = params.datapath
    words = 2 if spec.flags else 1
    held: list[dict[str, NDArray[np.integer]]] = []
    bits: list[int] = []
    beats = 0

    def joined() -> tuple[dict[str, NDArray[np.integer]], NDArray[np.uint32]]:
        expected = np.array(bits, np.uint64).astype("<u8").view("<u4").reshape(-1, 2)[:, :words].astype(np.uint32)
        return {name: np.concatenate([dot[name] for dot in held]) for name in held[0]}, np.ascontiguousarray(expected)

    outs = [side for side, there in (("a_out", spec.a_out), ("b_out", spec.b_out)) if there]
    for dot in draw_dots(spec, vectors, rng):
        try:
            if outs and rng.integers(_TRAP_EVERY) == 0:
                for side in outs:
                    dot[side][:] = _ONE
                set_trap(dot, unit.reference(dot, params) & 0xFFFFFFFF, outs[int(rng.integers(len(outs)))], rng)
            bits.append(unit.reference(dot, params))
        except (ValueError, OverflowError):
            continue
        held.append(dot)
        beats += len(dot["last"])
        if beats >= _CHUNK_BEATS:
            yield joined()
            held, bits, beats = [], [], 0
    if held:
        yield joined()


def campaign(
    unit_name: str,
    params: Any,
    *,
    faults: int,
    vectors: int = DEFAULT_VECTORS,
    seed: int = 0,
    effort: Effort | None = None,
    reporter: Reporter | None = None,
) -> FaultReport:
    """Run a campaign on operands drawn for the unit; see :func:`rtl.sim.faults.run_campaign`."""
    from rtl.sim.faults import EFFORT, run_campaign

    with (reporter or Reporter(quiet=True)).bars() as bars:
        task = bars.add_task(f"faults {unit_name}", total=faults)
        return run_campaign(
            unit_name, params, operands(unit_name, params, vectors, seed), faults=faults, seed=seed,
            effort=effort or EFFORT, step=lambda: bars.advance(task),
        )  # fmt: skip


def rows_of(report: FaultReport) -> list[dict[str, Any]]:
    """Return one row a fault: its place, its class, and what caught it or what the proof says."""
    rows = [
        {"fault": str(catch.fault), "class": "caught", "vectors": catch.vectors, "cycles": None, "by": catch.how}
        for catch in report.caught
    ]
    for verdict in report.unseen:
        proof = verdict.proof
        words = PROOFS.get(proof.how, proof.how)
        if proof.kind == "shows":
            words = f"a run of {proof.cycles} cycles would show it"
        elif proof.kind == "open":
            words = f"not found, and {proof.how}"
        rows.append(
            {
                "fault": str(verdict.fault),
                "class": "open" if proof.kind == "shows" else proof.kind,
                "vectors": None,
                "cycles": proof.cycles or None,
                "by": words,
            }
        )
    return rows


def faults_command(
    unit_name: str, params_text: str, faults: int, vectors: int, seed: int, proof_s: float, reporter: Reporter
) -> list[dict[str, Any]]:
    """Run `hwsim faults`: the campaigns on a unit's small instances, or on the Params that are given.

    Raises
    ------
    ValueError
        When there is no such unit, or the Params do not fit it.
    """
    from hwsim.flow.params import read_params
    from rtl.sim.fault_proof import Effort

    effort = Effort(proof_s, proof_s / 2, proof_s / 2)
    unit: Any = pe.unit(unit_name)
    listed = {name: params_of(unit_name, fields) for name, (of, fields) in INSTANCES.items() if of == unit_name}
    if params_text:
        listed = {unit_name: read_params(unit, params_text, next(iter(listed.values()), unit.Params()))}
    if not listed:
        raise ValueError(f"unit {unit_name!r} has no small instance of its own; name one with --params")
    found = []
    for name, params in listed.items():
        report = campaign(
            unit_name,
            params,
            faults=faults,
            vectors=vectors * MORE.get(name, 1),
            seed=seed,
            effort=effort,
            reporter=reporter,
        )
        rows = rows_of(report)
        counts = {kind: sum(row["class"] == kind for row in rows) for kind in ("caught", "harmless", "bounded", "open")}
        found.append(
            {
                "name": name,
                "pe": unit_name,
                "params": asdict(params),
                "faults": report.faults,
                **counts,
                "seed": seed,
                "each": rows,
            }
        )
    return found
