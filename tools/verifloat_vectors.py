"""Write tests/data/verifloat.npz and verifloat_dots.npz: what VeriFloat makes of inputs, and of dot products.

Needs Python 3.12 and verifloat 0.2.0 with numpy, in an environment of their own:
``PYTHONPATH=. python tools/verifloat_vectors.py``, or with ``elements`` or ``dots`` behind it for one of the files.

Per element format that VeriFloat can describe, the first file holds codes with their values, float32 inputs as bits,
and the codes of these in each rounding mode, saturating and not (uint16, or uint32 where wider).

Per block format (MXFP4, NVFP4 under tensor scales of 1) the second file holds codes and scale codes of rows of A and B,
and under each of `RULES` the bits of row i times row i (uint32) with the flags raised (uint8). VeriFloat takes no scale
that is NaN; it aligns terms by the exponent of a product's value, and not by the sum of its factors' exponents, so that
its aligned sums are of another kind than ours.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import verifloat

from hwsim.formats import FloatSpec, element, element_names
from hwsim.formats.rounding import random_bits

DATA = Path(__file__).parents[1] / "tests" / "data"
MODES = ("rne", "rna", "rtz", "rup", "rdn", "stochastic")
SEED = 11
COUNT = 60
BLOCKS = {"mxfp4": (verifloat.MXFP4, 32, (0, 254)), "nvfp4": (verifloat.NVFP4, 16, (0, 0x7E))}
"""Format, block, and range of scale codes."""
DOT_BLOCKS = 4
RULES = {
    "block": ("FP32", "rne", "block"),
    "block_rtz": ("FP32", "rtz", "block"),
    "block_rdn": ("FP32", "rdn", "block"),
    "block_float16": ("FP16", "rne", "block"),
    "block_bfloat16": ("BF16", "rne", "block"),
    "product": ("FP32", "rne", "product"),
    "product_float16": ("FP16", "rne", "product"),
}
"""Format of the sum, its rounding, and what enters it at a time: the exact sum of a block, or a product."""


def described(spec: FloatSpec) -> verifloat.FPFormat:
    """Return VeriFloat's format of an element, by its fields alone."""
    return verifloat.FPFormat(
        spec.exp_bits,
        spec.man_bits,
        spec.bias,
        spec.signed,
        inf_nan={"none": False, "ieee": True, "fn": "fn", "all_ones": "fn"}[spec.special],
        has_zero=spec.subnormals,
        sr_bits=32,
    )


def inputs(fmt: verifloat.FPFormat, rng: np.random.Generator) -> np.ndarray:
    """Return float32: codes, borders between them and their neighbours, beyond the ends, any, and special values."""
    top = fmt.max_value().raw
    codes = np.unique([*rng.integers(0, top, COUNT), 0, 1, 2, 3, top - 2, top - 1])
    levels = np.array([float(fmt.from_raw(int(code))) for code in [*codes, *codes + 1]])
    low, high = levels[: codes.size], levels[codes.size :]
    peak, previous = float(fmt.max_value()), float(fmt.from_raw(top - 1))
    borders = np.array([*(low + high) / 2, peak + (peak - previous) / 2, *low[-4:], peak, 2 * peak - previous])
    borders = borders[borders < 3.4e38].astype(np.float32)
    wide = np.ldexp(rng.uniform(1, 2, COUNT), rng.integers(-149, 127, COUNT))
    inside = np.exp(rng.uniform(np.log(max(levels[levels > 0].min(), 1e-44) / 4), np.log(min(peak, 1e38)), 2 * COUNT))
    ends = [0.0, 1e-45, 1.1e-38, 3.4e38, *([np.inf, np.nan] if fmt.has_nan else [])]
    x = np.concatenate(
        [
            borders,
            np.nextafter(borders, np.float32(0)),
            np.nextafter(borders, np.float32(np.inf)),
            wide,
            inside,
            ends,
        ]
    ).astype(np.float32)
    sign = rng.choice([-1, 1], x.size) if fmt.signed else 1
    return (x * sign).astype(np.float32)[np.isfinite(x) | fmt.has_nan]


def rounded(fmt: verifloat.FPFormat, x: np.ndarray, mode: str) -> list[int]:
    """Return the codes of float32 inputs in a rounding mode."""
    if mode != "stochastic":
        return [fmt.replace(rounding=verifloat.Rounding(mode))(float(value)).raw for value in x]
    fmt = fmt.replace(rounding=verifloat.Rounding.SR)
    # a carry out of fraction + r is the same event as ours, bits < fraction, for r = 2**32 - 1 - bits
    draws = [(1 << 32) - 1 - random_bits(SEED, index) for index in range(x.size)]
    return [fmt(float(value), sr_rand=draw).raw for value, draw in zip(x, draws, strict=True)]


def dots() -> None:
    """Write the vectors of dot products."""
    out: dict[str, np.ndarray] = {}
    for name, (fmt, block, (lowest, highest)) in BLOCKS.items():
        rng = np.random.default_rng([SEED, block])
        codes = rng.integers(0, 16, (2, 3 * COUNT, DOT_BLOCKS * block)).astype(np.uint8)
        codes[:, ::5] *= rng.integers(0, 2, codes[:, ::5].shape, np.uint8)  # many zeros
        half = codes.shape[2] // 2
        codes[0, 1::5, half:], codes[1, 1::5, half:] = codes[0, 1::5, :half], codes[1, 1::5, :half] ^ 8  # cancels
        middle = (lowest + highest) // 2
        scales = rng.integers(middle - 6, middle + 7, (2, 3 * COUNT, DOT_BLOCKS)).astype(np.uint8)
        scales[:, 2::3] = rng.integers(lowest, highest + 1, scales[:, 2::3].shape)
        scales[1, 2::6] = np.clip(2 * middle + rng.integers(-30, 30) - scales[0, 2::6].astype(int), lowest, highest)
        out[f"{name}_codes"], out[f"{name}_scales"] = codes, scales
        one = {"tensor_scale": 0x3F800000} if fmt.tensor_scale is not None else {}
        tensors = [
            [verifloat.BlockTensor.from_raw(row, of_row, fmt, **one) for row, of_row in zip(*side, strict=True)]
            for side in zip(codes.tolist(), scales.tolist(), strict=True)
        ]
        for rule, (total, mode, step) in RULES.items():
            kept = getattr(verifloat, total).replace(rounding=verifloat.Rounding(mode))
            acc = verifloat.Accumulator(kept, "sequential", group=block if step == "block" else 1)
            found = [a.dot(b, acc) for a, b in zip(*tensors, strict=True)]
            out[f"{name}_{rule}"] = np.array([value.raw for value in found], np.uint32)
            out[f"{name}_{rule}_flags"] = np.array([_flags(value.flags) for value in found], np.uint8)
    header = {
        "made by": "PYTHONPATH=. python tools/verifloat_vectors.py dots",
        "verifloat": verifloat.__version__,
        "rules": RULES,
        "seed": SEED,
    }
    np.savez_compressed(DATA / "verifloat_dots.npz", header=np.array(json.dumps(header)), **out)


def _flags(flags: verifloat.FPFlags) -> int:
    """Return flags as bits: inexact, underflow, overflow, invalid from the lowest."""
    names = ("INEXACT", "UNDERFLOW", "OVERFLOW", "INVALID")
    return sum(bool(flags & verifloat.FPFlags[name]) << bit for bit, name in enumerate(names))


def elements() -> None:
    """Write the vectors of elements."""
    specs = {name: spec for name in element_names() if "verifloat" in (spec := element(name)).witnesses}
    out: dict[str, np.ndarray] = {}
    for name, spec in specs.items():
        fmt, rng = described(spec), np.random.default_rng(spec.bits)
        codes = np.arange(1 << spec.bits) if spec.bits <= 8 else np.unique(rng.integers(0, 1 << spec.bits, 300))
        x = inputs(fmt, rng)
        kind = np.uint16 if spec.bits <= 16 else np.uint32
        out[f"{name}_codes"] = codes.astype(kind)
        out[f"{name}_values"] = np.array([float(fmt.from_raw(int(code))) for code in codes])
        out[f"{name}_x"] = x.view(np.uint32)
        out[f"{name}_saturate"] = np.array([rounded(fmt.replace(saturate=True), x, mode) for mode in MODES], kind)
        if fmt.has_nan:
            out[f"{name}_nonsaturating"] = np.array([rounded(fmt, x, mode) for mode in MODES], kind)
    header = {
        "made by": "PYTHONPATH=. python tools/verifloat_vectors.py",
        "verifloat": verifloat.__version__,
        "modes": MODES,
        "seed": SEED,
        "elements": {name: str(described(spec)) for name, spec in specs.items()},
    }
    np.savez_compressed(DATA / "verifloat.npz", header=np.array(json.dumps(header)), **out)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    DATA.mkdir(exist_ok=True)
    for part in sys.argv[1:] or ("elements", "dots"):
        {"elements": elements, "dots": dots}[part]()
