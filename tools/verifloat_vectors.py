"""Write tests/data/verifloat.npz: what VeriFloat makes of some inputs, for every element format that it can describe.

Needs Python 3.12 and verifloat 0.2.0 with numpy, in an environment of their own:
``PYTHONPATH=. python tools/verifloat_vectors.py``. Per element the file holds codes with their values, float32 inputs
as bits, and the codes of these in each rounding mode, saturating and not (uint16, or uint32 where wider).
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import verifloat

from hwsim.formats import FloatSpec, element, element_names
from hwsim.formats.rounding import random_bits

OUT = Path(__file__).parents[1] / "tests" / "data" / "verifloat.npz"
MODES = ("rne", "rna", "rtz", "rup", "rdn", "stochastic")
SEED = 11
COUNT = 60


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


def main() -> None:
    """Write the vectors."""
    warnings.simplefilter("ignore")
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
    OUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(OUT, header=np.array(json.dumps(header)), **out)


if __name__ == "__main__":
    main()
