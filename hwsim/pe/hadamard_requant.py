"""`hadamard_requant`: a Walsh-Hadamard transform whose results go straight into blocks of codes.

`hadamard`, its results made FP32 (exactly), and `requant`, one after the other behind one handshake. A transaction is
as many values as the longer of vector and block: one vector of several blocks, or one block of several vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.pe import hadamard, requant
from hwsim.pe._stream import Fields, StreamSpec, to_signed

NAME = "hadamard_requant"


@dataclass(frozen=True, kw_only=True)
class Params:
    """Configure a `hadamard_requant`.

    Parameters
    ----------
    hadamard : hadamard.Params, or a mapping of its fields
        Integer results have at most 24 bits, which FP32 holds exactly.
    requant : requant.Params, or a mapping of its fields
        With ``source="float32"`` and the same lanes; vector and block divide one another.

    Raises
    ------
    ValueError
        When a field is wrong, or the two do not fit together.

    Hardware
    --------
    Latency: that of both, and a cycle less than the beats of the shorter of vector and block.
    """

    hadamard: hadamard.Params = field(default_factory=lambda: hadamard.Params(lanes=8))
    requant: requant.Params = field(default_factory=requant.Params)

    def __post_init__(self) -> None:
        for name, kind in (("hadamard", hadamard.Params), ("requant", requant.Params)):
            given = getattr(self, name)
            if isinstance(given, Mapping):
                object.__setattr__(self, name, kind(**given))
            elif not isinstance(given, kind):
                raise ValueError(f"{NAME}: {name} must be Params of {name}, not {given!r}")
        first, second = self.hadamard, self.requant
        if second.source != "float32":
            raise ValueError(f"{NAME}: requant.source must be float32, not {second.source!r}")
        if first.lanes != second.lanes:
            raise ValueError(f"{NAME}: hadamard.lanes = {first.lanes} and requant.lanes = {second.lanes} must be equal")
        if max(first.points, second.block) % min(first.points, second.block):
            raise ValueError(f"{NAME}: vectors of {first.points} and blocks of {second.block} must divide one another")
        if first.arithmetic == "int" and first.out_bits > 24:
            raise ValueError(f"{NAME}: integers of {first.out_bits} bits are no FP32 numbers; allowed are 24")

    @cached_property
    def datapath(self) -> StreamSpec:
        """The streams of the unit."""
        first, second = self.hadamard.datapath, self.requant.datapath
        beats = max(first.beats, second.beats)
        return StreamSpec(
            lanes=first.lanes,
            beats=beats,
            results=beats,
            latency=first.latency + min(first.beats, second.beats) - 1 + second.latency,
            inputs=(*first.inputs, *second.inputs[1:]),
            outputs=second.outputs,
            restarts=second.restarts,
        )


def _values(beats: Mapping[str, NDArray[np.integer]], params: Params) -> NDArray[np.float32]:
    """Return the transform's results, float32 [beats, lanes]."""
    first = params.hadamard
    y = hadamard.outputs({"x": beats["x"]}, first)["y"]
    if first.arithmetic == "int":
        return to_signed(y, first.out_bits).astype(np.float32)
    return y.astype(np.uint16).view(np.float16).astype(np.float32)


def _between(beats: Mapping[str, NDArray[np.integer]], values: NDArray[np.float32], params: Params) -> Fields:
    """Return the beats that `requant` takes; a tensor scale is that of the transaction's last beat."""
    fields: Fields = {"x": values.view(np.uint32)}
    if params.requant.has_tensor_scale:
        each = params.datapath.beats
        fields["tensor_scale"] = np.repeat(np.asarray(beats["tensor_scale"]).reshape(-1)[each - 1 :: each], each)
    return fields


def outputs(beats: Mapping[str, NDArray[np.integer]], params: Params) -> Fields:
    """Return the results of transactions, the first one right after a reset; fields as of `requant`.

    Raises
    ------
    ValueError
        As `requant.quantise`: an FP16 transform may overflow to Inf.
    """
    return requant.outputs(_between(beats, _values(beats, params), params), params.requant)


def reference(beats: Mapping[str, NDArray[np.integer]], params: Params, draws: int = 0) -> Fields:
    """Return the results of one transaction by the two plain references; `draws` as of `requant.reference`."""
    first, second = params.hadamard.datapath.beats, params.requant.datapath.beats
    x = np.asarray(beats["x"])
    y = np.concatenate(
        [hadamard.reference({"x": x[i : i + first]}, params.hadamard)["y"] for i in range(0, len(x), first)]
    )
    if params.hadamard.arithmetic == "int":
        values = to_signed(y, params.hadamard.out_bits).astype(np.float32)
    else:
        values = y.astype(np.uint16).view(np.float16).astype(np.float32)
    between = _between(beats, values, params)
    blocks = [
        requant.reference({name: v[i : i + second] for name, v in between.items()}, params.requant, draws + i)
        for i in range(0, len(x), second)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def operands(params: Params, rows: int, rng: np.random.Generator) -> Fields:
    """Draw transactions for checking hardware: those of `hadamard`; vectors whose transform overflows become zeros."""
    first, spec = params.hadamard, params.datapath
    vectors = rows * spec.beats // first.datapath.beats
    x = hadamard.operands(first, vectors, rng)["x"]
    values = _values({"x": x}, params).reshape(vectors, first.points)
    if params.requant.nan_policy == "error":
        finite = np.isfinite(values).all(axis=1, keepdims=True)
        x = np.where(finite, x.reshape(vectors, -1), 0).reshape(x.shape)
    fields: Fields = {"x": x}
    if params.requant.has_tensor_scale:
        amax = np.abs(_values(fields, params)).reshape(rows, -1).max(axis=1)
        g = np.maximum(amax * np.exp2(rng.uniform(-14, 4, rows)), 2.0**-40).astype(np.float32)
        fields["tensor_scale"] = np.repeat(g.view(np.uint32), spec.beats)
    return {**fields, "last": spec.last(rows)}


def configurations() -> dict[str, Params]:
    """Return Params by name, as they are listed and checked."""
    fp16 = hadamard.Params(arithmetic="fp16", in_bits=16, lanes=8, signs_seed=1, norm="rsqrt")
    return {
        "int8_16_mxfp4": Params(),
        "fp16_16_nvfp4": Params(hadamard=replace(fp16, lanes=16), requant=requant.Params(format="nvfp4", lanes=16)),
        "fp16_32_nvfp4": Params(hadamard=replace(fp16, points=32), requant=requant.Params(format="nvfp4", lanes=8)),
        "fp16_32_mxfp4_lfsr": Params(hadamard=replace(fp16, points=32), requant=requant.Params(rounding="lfsr")),
        "int8_64_mxint8": Params(
            hadamard=hadamard.Params(points=64, lanes=8, shift=3), requant=requant.Params(format="mxint8")
        ),
    }


def cycles(rows: int, params: Params) -> int:
    """Return the cycles of one unit for that many transactions back to back, without stalls."""
    return params.datapath.cycles(rows)


def actions(rows: int, params: Params) -> dict[str, int]:
    """Return counts of the events of that many transactions, those of both units."""
    beats = rows * params.datapath.beats
    counts: dict[str, Any] = dict(hadamard.actions(beats // params.hadamard.datapath.beats, params.hadamard))
    return counts | requant.actions(beats // params.requant.datapath.beats, params.requant)
