"""Write tests/data/quark.npz: what AMD Quark 0.13 makes of some inputs in its shared microexponents, on the CPU.

Needs amd-quark 0.13 and torch, in an environment of their own: ``python tools/quark_vectors.py``. Results are those of
``real_quantize_mx6_mx9``, for blocks of 16 and sub-blocks of 2: exponents (int16 [rows, k / 16]), bits of the shifts
(uint8 [rows, k / 16], bit j of sub-block j) and elements (int8 [rows, k]). MX4 is the same function at 3 bits; Quark
has no data type of that name. Inputs hold no subnormals: Quark flushes them to zero.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from quark.torch.kernel.hw_emulation.hw_emulation_interface import real_quantize_mx6_mx9

OUT = Path(__file__).parents[1] / "tests" / "data" / "quark.npz"
ELEMENT_BITS = {"mx9": 8, "mx6": 5, "mx4": 3}


def inputs(kind: str) -> np.ndarray:
    """Return float32 [24, 128] of a kind."""
    rng, shape = np.random.default_rng(len(kind)), (24, 128)
    x = rng.normal(size=shape)
    if kind == "spread":
        x = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-12, 13, shape))
    elif kind == "grid":  # ties, powers of two, zeros
        x = rng.integers(-64, 65, shape) / 4.0
        x[0] = 0
        x[1, 16:48] = 0
    elif kind == "edges":  # what rounds beyond the largest element
        x = np.ldexp(2 - np.ldexp(rng.integers(1, 40, shape).astype(float), -11), rng.integers(-2, 2, shape))
        x *= rng.choice([-1, 1], shape)
    elif kind == "exponents":
        x = np.ldexp(x, rng.integers(-90, 90, (24, 1)))
    return x.astype(np.float32)


def main() -> None:
    """Write the file."""
    data = {}
    for kind in ("random", "spread", "grid", "edges", "exponents"):
        x = inputs(kind)
        data[f"{kind}.x"] = x
        for name, bits in ELEMENT_BITS.items():
            got = real_quantize_mx6_mx9(torch.from_numpy(x), -1, 16, quant_bit=bits, sub_block_size=2)
            blocks = got.numpy().reshape(24, 8, 18)
            data[f"{kind}.{name}.exponents"] = blocks[..., 0].astype(np.int16)
            data[f"{kind}.{name}.shifts"] = blocks[..., 1].astype(np.uint8)
            data[f"{kind}.{name}.elements"] = blocks[..., 2:].astype(np.int8).reshape(24, 128)
    np.savez_compressed(OUT, **data)


if __name__ == "__main__":
    main()
