"""Float32 inputs that are hard to encode, for any block format: each function returns [rows, K]."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np

from hwsim.formats import BlockSpec, ElementSpec, FloatSpec, TableSpec
from tests.hwsim.formats import oracle

KINDS = ("random", "mixed", "subnormal", "tiny", "huge", "zeros", "powers", "halves", "element_ties", "scale_ties")


def width(spec: BlockSpec) -> int:
    """Return a K of two blocks (of one for whole-axis formats)."""
    return 2 * spec.tile(48)[1]


def make(kind: str, spec: BlockSpec, seed: int = 0) -> np.ndarray:
    """Return inputs of a kind for a format."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    rows = max(3, 256 // width(spec)) if spec.tile(48)[0] == 1 else 2 * spec.tile(48)[0]
    shape = (rows, width(spec))
    if kind == "random":
        x = rng.normal(size=shape)
    elif kind == "mixed":  # every exponent in one block
        x = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-140, 127, shape))
    elif kind == "subnormal":
        x = np.ldexp(rng.integers(-40, 41, shape).astype(float), -149)
        x[0] = np.ldexp(rng.integers(-2, 3, shape[1]).astype(float), -149)
    elif kind == "tiny":
        x = np.ldexp(rng.uniform(-1, 1, shape), -120 - 10 * np.arange(rows)[:, None] % 29)
    elif kind == "huge":
        top = float(np.finfo(np.float32).max)
        x = rng.choice([top, -top, top / 2, 1.0, -3e30, 65504.0, 0.0], shape)
        x[0] = -top
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0], shape)
        x[1] = -0.0
        x[2, : shape[1] // 2] *= 0
        x[2, shape[1] // 2 :] = rng.choice([0.0, -0.0, 1.5, -1e-9], shape[1] - shape[1] // 2)
    elif kind == "powers":
        x = np.ldexp(rng.choice([-1.0, 1.0], shape), rng.integers(-6, 4, shape))
    elif kind == "halves":  # many exact quotients
        x = rng.integers(-24, 25, shape) / 4.0
    elif kind == "element_ties":
        x = element_ties(spec, rng)
    else:
        x = scale_ties(spec, rng)
    x = np.concatenate([x, np.zeros((-len(x) % spec.tile(48)[0], x.shape[1]), x.dtype)])
    return (x if spec.element.signed or spec.zero_point != "none" else np.abs(x)).astype(np.float32)


def _float32(value: Fraction) -> np.float32:
    return np.array(oracle.float32_bits(value), np.uint32).view(np.float32)[()]


def _around(value: Fraction) -> list[np.float32]:
    """Return the float32 nearest to a value and its two neighbours."""
    middle = _float32(value)
    return [np.nextafter(middle, np.float32(-np.inf)), middle, np.nextafter(middle, np.float32(np.inf))]


def borders(element: ElementSpec) -> list[Fraction]:
    """Return the rounding boundaries of an element: midpoints, or a table's own thresholds (with both signs)."""
    if isinstance(element, TableSpec) and element.thresholds is not None:
        own = [Fraction(t) for t in element.thresholds]
        return sorted({*own, *(-t for t in own)}) if element.symmetric else own
    return [(a + b) / 2 for a, b in pairwise(oracle.levels(element))]


def element_ties(spec: BlockSpec, rng: np.random.Generator) -> np.ndarray:
    """Return blocks that hold every rounding boundary of the element, and the float32 on either side of it.

    The ends of each block pin its scale, so the boundaries are those of the scale that the oracle gives the block.
    """
    levels = oracle.levels(spec.element)
    zero = len(levels) // 2 - 1 if spec.zero_point != "none" else 0  # odd: ties tell where it is added
    block = spec.tile(96)[1]
    middles = [border - zero for border in borders(spec.element)]
    middles = middles[:: max(1, len(middles) // 500)]  # a sample, where there are thousands
    ends = [levels[-1] - zero, levels[0] - zero]
    blocks, second = [], None
    if spec.tensor_scale != "none":  # one value that makes the second-level scale exactly one
        blocks.append([_float32(Fraction(spec.scale_cap) * oracle.top_level(spec)), *[np.float32(0)] * (block - 1)])
        second = oracle.float32_bits(Fraction(1))
    for factor in (Fraction(1), Fraction(float(np.float32(rng.uniform(0.5, 2)))), oracle.power(-5)):
        pins = [_float32(end * factor) for end in ends]
        if not np.isfinite(pins).all():
            continue
        step = oracle.encode_block(spec, [int(pin.view(np.uint32)) for pin in pins], second).step
        low, high = min(pins), max(pins)
        points = [x for middle in middles for x in _around(middle * step) if low <= x <= high]
        room = block - 2
        for start in range(0, len(points), room):
            piece = points[start : start + room]
            blocks.append([*pins, *piece, *[np.float32(0)] * (room - len(piece))])
    per_row = width(spec) // block
    if len(blocks) % per_row:
        blocks.append([np.float32(0)] * block)
    return np.array(blocks, np.float32).reshape(-1, width(spec))


def scale_ties(spec: BlockSpec, rng: np.random.Generator) -> np.ndarray:
    """Return blocks whose largest value puts the scale on a rounding boundary, or on the float32 on either side."""
    block = spec.tile(96)[1]
    top = oracle.top_level(spec)
    if spec.scale is None:
        tops = [x for e in (-126, -60, 0, 1, 127) for x in _around(oracle.power(e))]
    elif spec.scale_rule not in ("amax", "range"):
        points = [oracle.power(e) for e in (-126, -125, -60, 0, 1, 2, 126, 127)]
        points += [top * oracle.power(e) for e in (-60, -1, 3)]  # where the largest level is just reached
        points += [
            (2 - oracle.power(-m)) * oracle.power(e) for m in range(1, 6) for e in (-40, 5)
        ]  # and mantissas carry
        tops = [x for point in points for x in _around(point)]
    else:
        last = spec.scale.max_code if isinstance(spec.scale, FloatSpec) else spec.scale.qmax
        codes = [0, 1, 2, *rng.integers(1, last - 1, 12)]
        pairs = [(oracle.value(spec.scale, int(c)), oracle.value(spec.scale, int(c) + 1)) for c in codes]
        tops = [x for a, b in pairs for x in _around((a + b) / 2 * top) if np.isfinite(x)]
    if spec.tensor_scale != "none":  # first block: makes the second-level scale exactly one
        tops.insert(0, _float32(Fraction(spec.scale_cap) * top))
    x = rng.uniform(-1, 1, (len(tops), block)).astype(np.float32)
    if isinstance(spec.element, FloatSpec) or spec.zero_point == "none":
        x *= np.array(tops, np.float32)[:, None]
        x[:, 5 % block] = np.array(tops) * rng.choice([-1, 1], len(tops))
    else:
        x = np.abs(x) * np.array(tops, np.float32)[:, None]
        x[:, 5 % block] = tops
    fill = -len(x) % (width(spec) // block)
    return np.concatenate([x, np.zeros((fill, block), np.float32)]).reshape(-1, width(spec)).astype(np.float32)
