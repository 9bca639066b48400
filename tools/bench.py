"""Time encoders, decoders and GEMMs on codes, as ratios to what this machine does in the same run.

Bandwidth: bytes that an encoder or decoder reads and writes in a second, against `np.copyto` into a touched buffer; a
format that must read its input twice (a scale of the whole tensor) counts both reads. Casts also against ml_dtypes,
gfloat and a plain torch version of the MX algorithm; a GEMM on codes against NumPy's float32 GEMM of the same shape.
Each pair is timed in turn, and the median of the ratios is printed with its range.
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
from typing import Any

import numpy as np

from hwsim import formats, pe
from hwsim.formats.format import ANY

ROUNDS = 9
SIDE = 4096  # 2**24 elements
SLOW = 512  # rows for what takes long
ROWS, COLUMNS, K = 1024, 1536, 1536
PRODUCTS = ("int8", "int4_g128", "int4_g128_asym", "mxfp4", "nvfp4", "mxint8", "mxfp6_e2m3", "mxfp8_e4m3")
TO_COPY = {
    "MX, NVFP4, INT": (0.5, (
        "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8", "mxfp4_rceil", "nvfp4", "int8",
        "int4_g128", "int4_g128_asym", "int3_g64", "int2_g32",
    )),
    "casts": (None, ("float8_e4m3fn", "float8_e5m2", "float6_e2m3fn", "float16", "bfloat16")),
    "tables": (0.25, ("nf4_bs64", "fp4_bnb", "flint4", "pot4", "apot4", "log2_4b", "powerquant_4b", "dynamic8")),
    "others": (None, ("nvfp4_46", "if4", "mx9", "nvint4", "bitmod_fp4_g128", "gguf_q4_0", "gguf_q8_0", "b158")),
}  # fmt: skip


def ratio(ours: Callable[[], object], reference: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, ...]:
    """Return the median, least and greatest of time(reference) / time(ours), and the median time of `ours` in s."""
    ours(), reference()
    ratios, times = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        reference()
        times.append(middle - start)
        ratios.append((time.perf_counter() - middle) / (middle - start))
    return statistics.median(ratios), min(ratios), max(ratios), statistics.median(times)


def shown(figures: tuple[float, ...], factor: float = 1.0) -> str:
    """Return a ratio with its range."""
    return f"{figures[0] * factor:7.2f} ({figures[1] * factor:.2f}-{figures[2] * factor:.2f})".rjust(22)


def bandwidth() -> None:
    """Print the bandwidth of encoders and decoders relative to a copy."""
    signed = np.random.default_rng(0).standard_normal((SIDE, SIDE), dtype=np.float32)
    unsigned, touched = np.abs(signed), np.zeros_like(signed)

    def copy() -> None:
        np.copyto(touched, signed)

    copy()
    start = time.perf_counter()
    for _ in range(ROUNDS):
        copy()
    rate = ROUNDS * 2 * signed.nbytes / (time.perf_counter() - start)
    print(f"float32 [{SIDE}, {SIDE}]; np.copyto {rate / 1e9:.1f} GB/s; bandwidth relative to it, median (range)")
    print(
        f"{'format':18s}{'encode / copy':>22s}{'M el/s':>9s}{'decode / copy':>22s}{'M el/s':>9s}  aim of encode, decode"
    )
    for group, (aim, names) in TO_COPY.items():
        print(f"- {group}")
        for name in names:
            spec = formats.get(name)
            x = unsigned if name.startswith("log2") else signed
            encoded = formats.encode(x, spec)
            stored = sum(part.nbytes for part in encoded.parts.values())
            reads = 2 if "tensor_scale" in encoded.parts else 1
            again = None if any(ANY in part.shape for part in spec.layout(x.shape)) else encoded

            def encode(x: np.ndarray = x, spec: formats.Format = spec, out: formats.Encoded | None = again) -> None:
                formats.encode(x, spec, out=out)

            def decode(encoded: formats.Encoded = encoded) -> None:
                formats.decode(encoded, out=touched)

            down, up = ratio(encode, copy), ratio(decode, copy)
            print(
                f"{name:18s}{shown(down, (reads * x.nbytes + stored) / (2 * x.nbytes))}{x.size / down[3] / 1e6:9.0f}"
                f"{shown(up, (x.nbytes + stored) / (2 * x.nbytes))}{x.size / up[3] / 1e6:9.0f}"
                f"  {'-' if aim is None else aim}, 0.5"
            )


def casts() -> None:
    """Print casts relative to ml_dtypes and gfloat, and MX relative to a plain torch version."""
    import gfloat
    import gfloat.formats
    import ml_dtypes

    x = np.random.default_rng(0).standard_normal((SLOW, SIDE), dtype=np.float32)
    print(f"\nfloat32 [{SLOW}, {SIDE}]; speed relative to other tools, median (range); M elements/s of ours")
    for name in ("float8_e4m3fn", "float8_e5m2", "float6_e2m3fn", "float4_e2m1fn"):
        out = formats.encode(x, name)
        theirs = np.dtype(getattr(ml_dtypes, name))
        figures = ratio(lambda name=name, out=out: formats.encode(x, name, out=out), lambda t=theirs: x.astype(t))
        print(f"{name:18s}{'ml_dtypes':>12s}{shown(figures)}{x.size / figures[3] / 1e6:9.0f}")
    for bits, precision in ((6, 3), (8, 4), (12, 5)):
        spec = exmy(bits, precision)
        info = gfloat.FormatInfo(
            "exmy", bits, precision, bias=spec.element.bias, is_signed=True, domain=gfloat.Domain.Finite,
            num_high_nans=0, has_nz=True, has_subnormals=True, is_twos_complement=False,
        )  # fmt: skip
        out = formats.encode(x, spec)
        wide = x.astype(np.float64)
        figures = ratio(
            lambda spec=spec, out=out: formats.encode(x, spec, out=out),
            lambda info=info, wide=wide: gfloat.round_ndarray(info, wide, sat=True),
            rounds=3,
        )
        print(f"{spec.name:18s}{'gfloat':>12s}{shown(figures)}{x.size / figures[3] / 1e6:9.0f}  aim 20")
    try:
        import torch
    except ImportError:
        print("torch is not installed: no comparison with a plain torch MX")
        return
    tensor = torch.from_numpy(x)
    for name, exp_bits, man_bits in (("mxfp4", 2, 1), ("mxfp8_e4m3", 4, 3)):
        element = formats.block(name).element
        out = formats.encode(x, name)
        figures = ratio(
            lambda name=name, out=out: formats.encode(x, name, out=out),
            lambda e=exp_bits, m=man_bits, el=element: torch_mx(tensor, e, m, el.emax, el.max_value),
        )
        print(f"{name:18s}{'torch':>12s}{shown(figures)}{x.size / figures[3] / 1e6:9.0f}")


def exmy(bits: int, precision: int) -> formats.BlockSpec:
    """Return a bare minifloat of a width and a precision (mantissa bits with the hidden one)."""
    from hwsim.formats.registry import bare_element

    exp_bits = bits - precision
    name = f"float{bits}_e{exp_bits}m{precision - 1}"
    return bare_element(formats.FloatSpec(name, exp_bits, precision - 1, 2 ** (exp_bits - 1) - 1, "generic"))


def torch_mx(x: Any, exp_bits: int, man_bits: int, emax: int, limit: float) -> Any:
    """Quantise to MX as emulations in torch do: a pass of the tensor for each step."""
    import torch

    blocks = x.reshape(-1, 32)
    exponent = torch.floor(torch.log2(blocks.abs().amax(dim=1, keepdim=True))) - emax
    scaled = blocks / 2**exponent
    own = torch.floor(torch.log2(scaled.abs() + (scaled == 0))).clamp(min=2 - 2 ** (exp_bits - 1))
    steps = scaled / 2**own * 2**man_bits
    return (torch.round(steps) / 2**man_bits * 2**own).clamp(-limit, limit) * 2**exponent


def searches() -> None:
    """Print the speed of encoders that search."""
    x = np.random.default_rng(0).standard_normal((SIDE, SIDE), dtype=np.float32)
    print("\nencoders that search, M elements/s (median)")
    for name, rows, aim in (
        ("bitmod_fp4_g128", SIDE, 150),
        ("bitmod_fp3_g128", SIDE, 150),
        ("qtip_3inst_l12_2b", 128, 1),
    ):
        part = x[:rows]
        formats.encode(part[:8], name)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            formats.encode(part, name)
            times.append(time.perf_counter() - start)
        print(f"{name:18s}{part.size / statistics.median(times) / 1e6:9.1f}  aim {aim}")


def gemms() -> None:
    """Print GEMMs on codes relative to float32."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, K), dtype=np.float32)
    w = rng.standard_normal((COLUMNS, K), dtype=np.float32)
    product = np.empty((ROWS, COLUMNS), np.float32)
    print(f"\nGEMM on codes, A [{ROWS}, {K}], B [{COLUMNS}, {K}]; speed relative to float32, median (range)")
    for name in PRODUCTS:
        unit, params = pe.unit_for(name)
        b = formats.encode(w, name)
        a = formats.encode(x, formats.activation_of(name))
        figures = ratio(lambda a=a, b=b, u=unit, p=params: u.gemm(a, b, p), lambda: np.matmul(x, w.T, out=product))
        print(f"{name:18s}{shown(figures)}{ROWS * COLUMNS * K / figures[3] / 1e9:8.1f} GMAC/s")


if __name__ == "__main__":
    for part in (bandwidth, casts, searches, gemms):
        part()
    sys.exit(0)
