"""Time the encoder, the decoder and every unit's `gemm`, as ratios to what this machine does in the same run.

Encoding and decoding are set against a copy of as many bytes as they read and write; a GEMM on codes against NumPy's
float32 GEMM of the same shape. Each pair is timed in turn, and the median of the ratios is printed with its range.
"""

from __future__ import annotations

import os

# as in hwsim.cli: spinning idle threads of one library would be charged to the next
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from hwsim import formats, pe

ROUNDS = 9
ROWS, COLUMNS, K = 1024, 1536, 1536


def ratio(ours: Callable[[], object], reference: Callable[[], object]) -> tuple[float, float, float, float]:
    """Return the median, least and greatest speed of `ours` relative to `reference`, and the median time in ms."""
    ours(), reference()
    ratios, times = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        reference()
        times.append(middle - start)
        ratios.append((time.perf_counter() - middle) / (middle - start))
    return statistics.median(ratios), min(ratios), max(ratios), statistics.median(times) * 1e3


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, K), dtype=np.float32)
    w = rng.standard_normal((COLUMNS, K), dtype=np.float32)
    print(f"shapes: A [{ROWS}, {K}], B [{COLUMNS}, {K}]; speed relative to the reference, median (range)")
    print(f"{'format':16s} {'encode / copy':>24s} {'decode / copy':>24s} {'gemm / float32 gemm':>24s} {'GMAC/s':>8s}")
    product = np.empty((ROWS, COLUMNS), np.float32)
    for name in formats.names():
        unit, params = pe.unit_for(name)
        b = formats.encode(w, name)
        a = formats.encode(x, formats.get(name).activation)
        moved = np.zeros((w.nbytes + b.stored_bits // 8) // 2, np.uint8)
        target = np.zeros_like(moved)

        def copy(target: np.ndarray = target, moved: np.ndarray = moved) -> None:
            np.copyto(target, moved)

        cells = [
            ratio(lambda name=name: formats.encode(w, name), copy),
            ratio(lambda b=b: formats.decode(b), copy),
            ratio(lambda a=a, b=b, u=unit, p=params: u.gemm(a, b, p), lambda: np.matmul(x, w.T, out=product)),
        ]
        shown = " ".join(f"{median:10.3f} ({low:.3f}-{high:.3f})".rjust(24) for median, low, high, _ in cells)
        print(f"{name:16s} {shown} {ROWS * COLUMNS * K / cells[2][3] / 1e6:8.1f}")


if __name__ == "__main__":
    sys.exit(main())
