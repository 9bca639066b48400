"""Write tests/data/bitsandbytes.npz: what bitsandbytes 0.50.2 makes of some small inputs on the CPU.

Needs bitsandbytes and torch, in an environment of their own: ``python tools/bitsandbytes_vectors.py``.
The 8-bit codes come from its fallback for float64 inputs: for float32 its CPU library looks codes up in a table of
equal steps, which misses the small values of the dynamic map.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from bitsandbytes import functional

OUT = Path(__file__).parents[1] / "tests" / "data" / "bitsandbytes.npz"


def inputs(kind: str, block: int) -> np.ndarray:
    """Return float32 [rows, k] of a kind: any largest magnitudes, or powers of two (where a reciprocal is exact)."""
    rng = np.random.default_rng(len(kind))
    x = rng.normal(size=(6, 2 * block)).astype(np.float32)
    x[3] = np.ldexp(x[3], -60)
    x[4, :block] = 0
    if kind == "power":
        x = np.clip(x, -0.999, 0.999)
        x[:, ::block] = 1.0
        x = np.ldexp(x, np.arange(-3, 3)[:, None])
    return x.astype(np.float32)


def quantise_4bit(x: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return codes, absmax and values of 4-bit blocks of 64."""
    packed, state = functional.quantize_4bit(torch.from_numpy(x), blocksize=64, quant_type=kind)
    codes = packed.numpy().reshape(-1)
    unpacked = np.stack([codes >> 4, codes & 15], axis=-1).reshape(x.shape)
    values = functional.dequantize_4bit(packed, state).numpy()
    return unpacked, state.absmax.numpy().reshape(len(x), -1), values


def main() -> None:
    """Write the vectors."""
    out: dict[str, np.ndarray] = {
        "map_signed": functional.create_dynamic_map(signed=True).numpy(),
        "map_unsigned": functional.create_dynamic_map(signed=False).numpy(),
    }
    for kind in ("random", "power"):
        for key in ("nf4", "fp4"):
            x = inputs(kind, 64)
            for part, array in zip(("codes", "absmax", "values"), quantise_4bit(x, key), strict=True):
                out[f"{key}_{kind}_{part}"] = array
            out[f"{key}_{kind}_x"] = x
        x = inputs(kind, 256)
        code = functional.create_dynamic_map(signed=True)
        q, absmax = torch.ops.bitsandbytes.quantize_blockwise.default(torch.from_numpy(x).double(), code, 256)
        values = functional.dequantize_blockwise(q, absmax=absmax, code=code, blocksize=256)
        out[f"dynamic8_{kind}_x"] = x
        out[f"dynamic8_{kind}_codes"] = q.numpy().reshape(x.shape)
        out[f"dynamic8_{kind}_absmax"] = absmax.numpy().reshape(len(x), -1)
        out[f"dynamic8_{kind}_values"] = values.numpy().reshape(x.shape)
    x = np.random.default_rng(7).normal(size=(40, 512)).astype(np.float32)
    x *= np.exp(np.random.default_rng(8).normal(size=(40, 1))).astype(np.float32)
    packed, state = functional.quantize_4bit(
        torch.from_numpy(x), blocksize=64, quant_type="nf4", compress_statistics=True
    )
    out |= {
        "dq_x": x,
        "dq_scales": state.absmax.numpy(),
        "dq_offset": state.offset.numpy(),
        "dq_outer": state.state2.absmax.numpy(),
        "dq_values": functional.dequantize_4bit(packed, state).numpy(),
        "dq_packed": packed.numpy().reshape(-1),
    }
    OUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(OUT, **out)


if __name__ == "__main__":
    main()
