"""The contract of the units in exact rationals, from operands rather than beats, with no code of `hwsim.pe`."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np

from hwsim.formats import BlockSpec, ElementSpec, Encoded, get
from hwsim.pe import formats as pe_formats
from hwsim.pe import names as unit_names
from hwsim.pe import takes_family, unit, unit_for
from hwsim.pe._dot import DotSpec
from tests.hwsim.formats import oracle as formats
from tests.hwsim.formats.oracle import float32_bits, float32_value

NAN, INFINITY, SIGN = 0x7FC00000, 0x7F800000, 0x80000000
UINT = {8: np.uint8, 16: np.uint16, 32: np.uint32}


def takes(fmt: str, name: str) -> bool:
    """Tell whether a unit takes a weight format."""
    weights = get(fmt)
    found = unit(name)
    return takes_family(found, weights) and found.params_for(weights, get(weights.activation)) is not None


def cases() -> list[tuple[str, str]]:
    """Return every (block format, unit of the shared datapath) with scales on both sides; others have own tests."""
    scaled = [fmt for fmt in pe_formats() if _has_scale(fmt) and _has_scale(get(fmt).activation)]
    pairs = [(fmt, name) for fmt in scaled for name in unit_names() if takes(fmt, name)]
    return [(fmt, name) for fmt, name in pairs if isinstance(params_of(fmt, name).datapath, DotSpec)]


def _has_scale(fmt: str) -> bool:
    return isinstance(get(fmt), BlockSpec) and get(fmt).scale is not None


def is_nan(bits: int) -> bool:
    """Tell whether float32 bits are a NaN."""
    return bits & 0x7FFFFFFF > INFINITY


def add(bits: int, exact: Fraction) -> int:
    """Return float32 + rational, rounded once; an exact zero is +0."""
    if is_nan(bits):
        return NAN
    if bits & 0x7FFFFFFF == INFINITY:
        return bits
    return float32_bits(float32_value(bits) + exact)


def multiply(x: int, y: int) -> int:
    """Return the IEEE product of two float32."""
    negative = bool((x ^ y) & SIGN)
    x_size, y_size = x & 0x7FFFFFFF, y & 0x7FFFFFFF
    if is_nan(x) or is_nan(y) or {x_size, y_size} == {0, INFINITY}:
        return NAN
    if INFINITY in (x_size, y_size):
        return INFINITY | (SIGN if negative else 0)
    return float32_bits(float32_value(x) * float32_value(y), negative)


def out_scale(operand: Encoded, row: int) -> int | None:
    """Return the FP32 scale that multiplies the result, or None."""
    if operand.tensor_scale is not None:
        return int(np.float32(operand.tensor_scale).view(np.uint32))
    if "row_scales" in operand.parts:
        worth = operand.parts["row_scales"][row : row + 1].view(np.float16)
        return int(worth.astype(np.float32).view(np.uint32)[0])
    scale = operand.format.scale
    return int(operand.scales[row, 0]) if scale is not None and scale.name == "float32" else None


@cache
def worths(spec: ElementSpec) -> tuple[tuple[int, ...], int]:
    """Return every code's worth as an integer, 0 for those that are not finite, and the common denominator."""
    exact = [formats.value(spec, code) for code in range(1 << spec.bits)]
    exact = [Fraction(0) if isinstance(value, str) else value for value in exact]
    unit_of = max(value.denominator for value in exact)
    return tuple(int(value * unit_of) for value in exact), unit_of


def dot(a: Encoded, b: Encoded, m: int, n: int) -> int:
    """Return the float32 bits of one output: blocks are those of the weights, or the whole dot product."""
    block = b.format.block_size or b.k
    (a_worth, a_unit), (b_worth, b_unit) = worths(a.format.element), worths(b.format.element)
    acc = 0
    for start in range(0, b.k, block):
        index, factor, zero = start // block, Fraction(1), 0
        if b.zeros is not None:
            zero = int(b.zeros[n, index])
        for operand, row in ((a, m), (b, n)):
            if operand.format.block_size is not None:
                worth = formats.value(operand.format.scale, int(operand.scales[row, index]))
                factor = None if factor is None or isinstance(worth, str) else factor * worth
        total = sum(
            a_worth[x] * (b_worth[y] - zero * b_unit)
            for x, y in zip(
                a.codes[m, start : start + block].tolist(), b.codes[n, start : start + block].tolist(), strict=True
            )
        )
        acc = NAN if factor is None else add(acc, Fraction(total, a_unit * b_unit) * factor)
    for scale in (out_scale(a, m), out_scale(b, n)):
        if scale is not None:
            acc = multiply(acc, scale)
    return acc


def operand(
    spec: BlockSpec, rows: int, k: int, rng: np.random.Generator, scales: list[int] | None = None, second: float = 0.37
) -> Encoded:
    """Return random codes of finite elements; scale codes are drawn from `scales`, or are ordinary ones."""
    blocks = (rows, k // (spec.block_size or k))
    if scales is not None:
        drawn = rng.choice(scales, blocks)
    elif spec.scale.name == "float32":
        drawn = rng.uniform(1e-3, 1, blocks).astype(np.float32).view(np.uint32)
    elif spec.scale.name == "float16":
        drawn = rng.uniform(1e-3, 1, blocks).astype(np.float16).view(np.uint16)
    else:
        drawn = rng.integers(*((117, 130) if spec.scale.name == "float8_e8m0fnu" else (1, 0x7F)), blocks)
    top = 1 << spec.element.bits
    return Encoded.of(
        spec,
        codes=finite(spec.element, rng.integers(0, top, (rows, k)).astype(UINT[8 if top <= 256 else 16])),
        scales=drawn.astype(UINT[spec.scale.bits]),
        zeros=rng.integers(0, top, blocks).astype(np.uint8) if spec.zero_point != "none" else None,
        tensor_scale=np.float32(second) if spec.tensor_scale != "none" else None,
        row_scales=rng.uniform(0.5, 2, rows).astype(np.float16).view(np.uint16) if spec.row_scale != "none" else None,
    )


def finite(spec: ElementSpec, codes: np.ndarray) -> np.ndarray:
    """Return the codes with 0 in the place of those that are not finite."""
    bad = [isinstance(formats.value(spec, code), str) for code in range(1 << spec.bits)]
    return np.where(np.array(bad)[codes], 0, codes).astype(codes.dtype)


def operands(
    fmt: str,
    m: int,
    n: int,
    k: int,
    a_scales: list[int] | None = None,
    b_scales: list[int] | None = None,
) -> tuple[Encoded, Encoded]:
    """Return random activations [m, k] and weights [n, k] of a format."""
    weights, rng = get(fmt), np.random.default_rng([m, n, k])
    return (
        operand(get(weights.activation), m, k, rng, a_scales),
        operand(weights, n, k, rng, b_scales, second=1.9),
    )


def block_of(fmt: str) -> int:
    """Return the smallest K step of a format."""
    return get(fmt).block_size or 1


def params_of(fmt: str, name: str, lanes: int | None = None):
    """Return the Params of a unit for a format."""
    return unit_for(fmt, name, lanes)[1]
