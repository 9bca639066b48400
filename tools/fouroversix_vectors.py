"""Write tests/data/fouroversix.npz: what fouroversix 1.0.5 makes of some inputs on the CPU.

Needs fouroversix (``SKIP_CUDA_BUILD=1 pip install fouroversix==1.0.5``) and torch, in an environment of their own:
``python tools/fouroversix_vectors.py``. Each input is float32 [rows, k] in blocks of 16 along its rows; results are
element codes, one a byte, and E4M3 scale codes. Its steps are float32: a block scale, and the reciprocal of a step,
are rounded before they are used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fouroversix import DataType, ScaleRule
from fouroversix.quantize.pytorch.reference import quantize_to_fp4

OUT = Path(__file__).parents[1] / "tests" / "data" / "fouroversix.npz"
RECIPES = (
    ("nvfp4", "mse"), ("nvfp4", "mae"), ("nvfp4", "abs_max"), ("nvfp4", "static_6"), ("if4", "mse"), ("if4", "mae"),
    ("if4", "abs_max"),
)  # fmt: skip


def inputs(kind: str) -> np.ndarray:
    """Return float32 [24, 128] of a kind."""
    rng = np.random.default_rng(len(kind))
    x = rng.normal(size=(24, 128))
    if kind == "heavy":
        x = x**3
    elif kind == "spread":
        x = np.ldexp(x, rng.integers(-6, 7, (24, 8, 1)).repeat(16, axis=2).reshape(24, 128))
        x[3, :32] = 0
    return x.astype(np.float32)


def main() -> None:
    """Write the file."""
    data = {}
    for kind in ("random", "heavy", "spread"):
        x = inputs(kind)
        data[f"{kind}.x"] = x
        for name, rule in RECIPES:
            packed, scales, _ = quantize_to_fp4(
                torch.from_numpy(x), fp4_format=DataType(name), scale_rule=ScaleRule(rule),
                use_blackwell_scale_layout=False,
            )  # fmt: skip
            codes = packed.numpy().reshape(24, -1)
            data[f"{kind}.{name}.{rule}.codes"] = np.stack([codes & 15, codes >> 4], axis=-1).reshape(x.shape)
            data[f"{kind}.{name}.{rule}.scales"] = scales.view(torch.uint8).numpy().reshape(24, -1)
    np.savez_compressed(OUT, **data)


if __name__ == "__main__":
    main()
