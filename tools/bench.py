"""Time encoders, decoders, GEMMs on codes and simulations, as ratios to what this machine does in the same run.

Bandwidth: bytes that an encoder or decoder reads and writes in a second, against `np.copyto` into a touched buffer; a
format that must read its input twice (a scale of the whole tensor) counts both reads. Casts also against ml_dtypes,
gfloat and a plain torch version of the MX algorithm; a GEMM on codes against NumPy's float32 GEMM of the same shape;
dot products of a unit's model against those of its RTL. Each pair is timed in turn, and the median of the ratios is
printed with its range.
"""

from __future__ import annotations

import os

# as in hwsim.cli: spinning idle threads of one library would be charged to the next
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hwsim import formats, pe
from hwsim.formats.format import ANY
from hwsim.pe import accumulator, mx_dot

ROUNDS = 9
SIDE = 4096  # 2**24 elements
SLOW = 512  # rows for what takes long
QUICK = 1024, 1536, 1536  # M, N, K of GEMMs
FULL = SIDE, SIDE, SIDE
PRODUCTS = {
    "int8": 0.9, "int4": 0.9, "int4_g128": None, "int4_g128_asym": None, "mxint8": 0.2, "mxfp4": 0.2, "nvfp4": 0.2,
    "mxfp6_e2m3": None, "mxfp8_e4m3": None,
}  # fmt: skip
"""Weights of GEMMs, and the ratio to aim at."""
ALIGNED = {
    "ampere": ("float16", "none", 16, 16), "ada_fp8": ("float8_e4m3fn", "none", 32, None),
    "hopper_fp8": ("float8_e4m3fn", "none", 32, 32), "blackwell_mx": ("float8_e4m3fn", "float8_e8m0fnu", 32, None),
    "mxf4nvf4": ("float4_e2m1fn", "float8_e4m3fn", 16, None),
}  # fmt: skip
"""Element, block scale, block and K of one operation (where the source states none) of presets of accumulators."""
ALIGNED_SIDE = 1024
MEMORY = ("int8", "int4", "int4_g128_asym", "mxfp4", "nvfp4", "mxint8", "mxfp8_e4m3")
TO_COPY = {
    "MX, NVFP4, INT": (0.5, (
        "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8", "mxfp4_rceil", "nvfp4", "int8",
        "int4_g128", "int4_g128_asym", "int3_g64", "int2_g32",
    )),
    "casts": (None, ("float8_e4m3fn", "float8_e5m2", "float6_e2m3fn", "float16", "bfloat16")),
    "tables": (0.25, ("nf4_bs64", "fp4_bnb", "flint4", "pot4", "apot4", "log2_4b", "powerquant_4b", "dynamic8")),
    "others": (None, ("nvfp4_46", "if4", "mx9", "nvint4", "bitmod_fp4", "gguf_q4_0", "gguf_q8_0", "b158")),
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
        ("bitmod_fp4", SIDE, 150),
        ("bitmod_fp3", SIDE, 150),
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


def product_of(name: str) -> tuple[Any, Any, formats.Format, formats.Format]:
    """Return unit, Params, activation and weight format of a GEMM; ``int4`` has row and column scales as int8 has."""
    if name == "int4":
        weight = replace(formats.block("int8"), name="int4", element=formats.element("int4"))
    else:
        weight = formats.get(name)
    unit, params = pe.unit_for(weight)
    return unit, params, formats.get(formats.activation_of("int8" if name == "int4" else name)), weight


def gemms(shape: tuple[int, int, int]) -> None:
    """Print GEMMs on codes relative to float32."""
    rng = np.random.default_rng(0)
    m, n, k = shape
    x = rng.standard_normal((m, k), dtype=np.float32)
    w = rng.standard_normal((n, k), dtype=np.float32)
    product = np.empty((m, n), np.float32)
    print(f"\nGEMM on codes, A [{m}, {k}], B [{n}, {k}]; speed relative to float32, median (range)")
    for name, aim in PRODUCTS.items():
        unit, params, activation, weight = product_of(name)
        a, b = formats.encode(x, activation), formats.encode(w, weight)
        figures = ratio(
            lambda a=a, b=b, u=unit, p=params: u.gemm(a, b, p),
            lambda: np.matmul(x, w.T, out=product),
            rounds=5,
        )
        aimed = "-" if aim is None else f"{aim}, {'met' if figures[0] >= aim else 'MISSED'}"
        print(f"{name:18s}{shown(figures)}{m * n * k / figures[3] / 1e9:8.1f} GMAC/s  aim {aimed}")


def aligned() -> None:
    """Print GEMMs with aligned and truncated sums."""
    from numba import get_num_threads

    side, threads = ALIGNED_SIDE, get_num_threads()
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((side, side), dtype=np.float32) for _ in range(2))
    print(
        f"\nGEMM on codes, {side} x {side} x {side}, with accumulators of tensor cores; by processor time of {threads} "
        "threads (other work on the machine left out), median of 3"
    )
    for name, (element, scale, block, k) in ALIGNED.items():
        rule = accumulator.preset(name, k)
        params = mx_dot.Params(element, scale, block, rule.group if rule.scales == "block" else block, accumulator=rule)
        if scale == "none":
            taken = formats.get(element)
        else:
            of = "nvfp4" if block == 16 else "mxfp8_e4m3"
            taken = replace(formats.block(of), name=name, tensor_scale="none", scale_cap=None)
        a, b = formats.encode(x, taken), formats.encode(w, taken)
        mx_dot.gemm(a, b, params)
        times = []
        for _ in range(3):
            start = time.process_time()
            mx_dot.gemm(a, b, params)
            times.append((time.process_time() - start) / threads)
        rate = side**3 / statistics.median(times) / 1e9
        print(f"{name:18s}{rate:8.2f} GMAC/s  aim 1, {'met' if rate >= 1 else 'MISSED'}")


def memory(side: int) -> None:
    """Print the most memory that a GEMM holds, each measured in a process of its own."""
    print(f"\nmemory of a GEMM on codes, {side} x {side} x {side}: peak over operands and result")
    for name in MEMORY:
        command = [sys.executable, str(Path(__file__).resolve()), "--measure-memory", name, "--side", str(side)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        factor = found["peak_bytes"] / found["data_bytes"]
        met = "met" if factor <= 3 else "MISSED"
        print(f"{name:18s}{factor:8.2f} ({found['peak_bytes'] / 1e6:.0f} MB)  aim 3, {met}")


def measure_memory(name: str, side: int) -> None:
    """Print, as JSON, the bytes of operands and result of one GEMM, and the most that it held on top of what was there.

    The peak is that of the resident set (Linux), reset in front of the GEMM.
    """
    unit, params, activation, weight = product_of(name)
    rng = np.random.default_rng(0)
    a, b = (formats.encode(rng.standard_normal((side, side), dtype=np.float32), f) for f in (activation, weight))
    few = np.arange(8)
    unit.gemm(a.rows(few), b.rows(few), params)  # compiled code and tables are no part of it
    operands = sum(part.nbytes for operand in (a, b) for part in operand.parts.values())
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    result = unit.gemm(a, b, params)
    peak = resident("VmHWM") - before + operands
    print(json.dumps({"peak_bytes": peak, "data_bytes": operands + result.nbytes}))


def resident(field: str) -> int:
    """Return a field of this process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"bench: /proc/self/status has no {field}")


def rtl() -> None:
    """Print dot products a second of a unit's model, and of its RTL in both engines."""
    try:
        from rtl.sim.run import cosim
        from rtl.sim.simulators import SimulatorError
    except ImportError as error:
        print(f"\nno comparison with RTL: {error}")
        return
    k, params = 1024, mx_dot.Params()
    rng = np.random.default_rng(0)

    def operands(rows: int) -> list[formats.Encoded]:
        return [formats.encode(rng.standard_normal((rows, k), dtype=np.float32), "mxfp4") for _ in range(2)]

    print(f"\nmx_dot, 32 lanes of E2M1, K = {k}: dot products/s, and how many times as many the model's kernel makes")
    a, b = operands(2048)
    mx_dot.gemm(a, b, params)
    start = time.perf_counter()
    model = mx_dot.gemm(a, b, params).size / (time.perf_counter() - start)
    print(f"{'model, gemm':18s}{model:12.4g}")
    for engine, rows in (("bulk", 4096), ("icarus", 64)):
        a, b = operands(rows)
        expected = mx_dot.dots(a, b, params)
        dots = [mx_dot.beats(a, b, row, row, params) for row in range(rows)]
        try:
            result = cosim(mx_dot.NAME, params, dots, expected, engine=engine, stalls=False)
        except SimulatorError as error:
            print(f"{engine:18s}{error}")
            continue
        assert result.ok, result.first_mismatch
        rate = result.vectors / result.run_s
        print(f"{'RTL, ' + engine:18s}{rate:12.4g}{model / rate:12.4g}")


def main() -> None:
    """Run what the command line asks for: everything at full size by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", help="formats, gemm, rtl; all by default")
    parser.add_argument("--quick", action="store_true", help=f"GEMMs of {' x '.join(map(str, QUICK))}")
    parser.add_argument("--measure-memory", metavar="WEIGHTS", help="one GEMM in this process; prints JSON")
    parser.add_argument("--side", type=int, default=SIDE, help="M = N = K of --measure-memory")
    given = parser.parse_args()
    if given.measure_memory:
        measure_memory(given.measure_memory, given.side)
        return
    sections: dict[str, tuple[Callable[[], None], ...]] = {
        "formats": (bandwidth, casts, searches),
        "gemm": (
            lambda: gemms(QUICK if given.quick else FULL),
            aligned,
            lambda: memory(QUICK[0] if given.quick else SIDE),
        ),
        "rtl": (rtl,),
    }
    if unknown := [name for name in given.sections if name not in sections]:
        parser.error(f"unknown section {unknown[0]!r}; known: {', '.join(sections)}")
    for name in given.sections or sections:
        for part in sections[name]:
            part()


if __name__ == "__main__":
    main()
