"""Dot products of MXFP4 and NVFP4 against those of VeriFloat, which shares no code with this project."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hwsim.formats import Encoded, get
from hwsim.pe import mx_dot
from hwsim.pe.accumulator import Accumulator

VECTORS = Path(__file__).parents[2] / "data" / "verifloat_dots.npz"
FORMATS = {"FP32": "float32", "FP16": "float16", "BF16": "bfloat16"}


@cache
def vectors() -> dict[str, np.ndarray]:
    """Return the vectors that ``tools/verifloat_vectors.py`` wrote."""
    return dict(np.load(VECTORS))


RULES = json.loads(str(vectors()["header"]))["rules"]


def operands(fmt: str) -> list[Encoded]:
    """Return the rows of A and of B."""
    spec = get(fmt)
    one = np.float32(1) if spec.tensor_scale != "none" else None
    sides = zip(vectors()[f"{fmt}_codes"], vectors()[f"{fmt}_scales"], strict=True)
    return [Encoded.of(spec, codes=codes, scales=scales, tensor_scale=one) for codes, scales in sides]


def unit(fmt: str, rule: str) -> mx_dot.Params:
    """Return the unit that follows a rule of the vectors."""
    total, mode, step = RULES[rule]
    kind = {"kind": "exact"} if step == "block" else {"kind": "sequential", "scales": "product"}
    spec = get(fmt)
    return mx_dot.Params(
        scale=spec.scale.name, block=spec.block_size, lanes=16, out_scale=spec.tensor_scale != "none", flags=True,
        accumulator=Accumulator(**kind, format=FORMATS[total], rounding=mode),
    )  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fmt", ["mxfp4", "nvfp4"])
def test_bits_and_flags_are_those_of_verifloat(fmt: str, rule: str) -> None:
    """A zero has no sign here: VeriFloat keeps IEEE's (of a sum of -0, and rounding down).

    Its sum of FP16 or BF16 is widened.
    """
    params = unit(fmt, rule)
    total = RULES[rule][0]
    raw = vectors()[f"{fmt}_{rule}"]
    if total == "FP16":
        want = raw.astype(np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    else:
        want = raw << np.uint32(16) if total == "BF16" else raw
    a, b = operands(fmt)
    found = mx_dot.dots(a, b, params)
    bits, zero = (found & np.uint64(0xFFFFFFFF)).astype(np.uint32), want & 0x7FFFFFFF == 0
    np.testing.assert_array_equal(np.where(zero, bits & 0x7FFFFFFF, bits), np.where(zero, 0, want))
    np.testing.assert_array_equal(found >> np.uint64(32), vectors()[f"{fmt}_{rule}_flags"])
    assert len(np.unique(bits)) > 90
    for row in range(0, len(bits), 9):
        assert mx_dot.reference(mx_dot.beats(a, b, row, row, params), params) == int(found[row])


def test_the_vectors_meet_every_flag_but_invalid() -> None:
    """Inexact, underflow and overflow; invalid takes an infinity, which these elements do not have."""
    every = np.concatenate([vectors()[f"mxfp4_{rule}_flags"] for rule in RULES])
    assert {0, 1, 3, 5} <= set(every.tolist())
