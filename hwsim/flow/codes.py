"""Beats of dot products drawn code by code, for any datapath: what no format of the catalogue need hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.flow.operands import edge_floats
from hwsim.formats import ElementSpec, FloatSpec, element
from hwsim.pe import _elements as elements
from hwsim.pe._dot import MAX_BEATS, DotSpec

Beats = dict[str, NDArray[np.integer]]

KINDS = ("any", "near", "tiny", "sparse", "one", "extreme", "cancelling", "halves")
"""``any``: all codes, under all scales. ``near``: within a few powers of two of 1. ``tiny``: under the smallest scales.
``sparse``: mostly zeros, zero blocks among them. ``one``: a single product. ``extreme``: the largest magnitudes, of one
sign or of both. ``cancelling``: the second half of the beats is the first with the weights negated, but for one element
in every other dot product. ``halves``: one large product and tiny ones, so that a sum lies close to the middle between
two floats."""
_TABLE_BITS = 16
_REACH = 5
"""Powers of two around 1."""
_MAX_BLOCKS = 5
_CHUNK_BEATS = 1 << 14


def draw_dots(spec: DotSpec, count: int, rng: np.random.Generator) -> Iterator[Beats]:
    """Yield the beats of single dot products: of every kind and of one to a few blocks in turn, then of long ones.

    Long ones are drawn where a sum takes all beats of a dot product: lengths double up to `MAX_BEATS`.
    """
    whole = spec.step_beats
    if spec.a_out or spec.b_out:
        # each output scale rounds on its own: many short dot products
        for _ in range(count):
            yield draw_dot(spec, whole, "any" if rng.integers(2) else "near", rng)
    for number in range(count):
        blocks = 1 + number // len(KINDS) % _MAX_BLOCKS
        yield draw_dot(spec, blocks * whole, KINDS[number % len(KINDS)], rng)
    if not spec.block_beats and not spec.acc_bits:
        for length in (1 << power for power in range(4, MAX_BEATS.bit_length())):
            yield draw_dot(spec, length, "extreme", rng)
            yield draw_dot(spec, length - 1, "extreme", rng)


def draw_dot(spec: DotSpec, beats: int, kind: str, rng: np.random.Generator) -> Beats:
    """Return the beats of one dot product of a kind, fields as the datapath's layout has them."""
    dot: Beats = {}
    outs = _out_scales(rng)
    last = np.zeros(beats, np.uint8)
    last[-1] = 1
    for name, bits, lanes in spec.layout():
        shape = (beats, lanes) if lanes > 1 or name in ("a", "b") else (beats,)
        if name in ("a", "b"):
            dot[name] = _elements(spec.a_element if name == "a" else spec.b_element, shape, kind, rng)
        elif name in ("a_scale", "b_scale"):
            scale = spec.a_scale if name == "a_scale" else spec.b_scale
            assert scale is not None
            dot[name] = _scales(scale, shape, kind, rng)
        elif name in ("a_out", "b_out"):
            dot[name] = np.repeat(outs[int(name == "b_out")], beats)
        elif name == "last":
            dot[name] = last
        elif name == "rescale":
            dot[name] = (rng.integers(4, size=shape) == 0).astype(np.uint8)
            dot[name][0] = 0
        else:
            dot[name] = rng.integers(0, 1 << bits, shape)
    # those of a block count at its last beat; where products take them one by one, at every beat of it
    for name in ("a_scale", "b_scale"):
        if name in dot and spec.accumulator.by_product and spec.block_beats > 1:
            dot[name] = np.repeat(dot[name][:: spec.block_beats], spec.block_beats, axis=0)
    if kind == "cancelling" and beats > 1:
        _cancel(dot, spec, beats // 2, rng)
    return dot


def _out_scales(rng: np.random.Generator) -> NDArray[np.uint32]:
    """Draw the bits of both output scales, uint32 [2]: any, subnormal, or such that the product is about the least."""
    kind = rng.integers(4)
    if kind == 0:
        return edge_floats(rng, (2,)).view(np.uint32)
    fraction = rng.integers(1 << 23, size=2) >> rng.integers(0, 24, 2) * rng.integers(0, 2, 2)
    if rng.integers(2):  # few significant bits: products that are ties, or nearly
        fraction = rng.integers(1 << 23, size=2) & ~((1 << rng.integers(10, 24, 2)) - 1)
    sign = rng.integers(0, 2, 2) << 31
    field = rng.integers(1, 254, 2)
    if kind == 1:  # one is subnormal, the other brings the product back to the normal numbers, or not
        field = np.array([0, rng.integers(100, 254)])
    elif kind == 2:
        field = np.array([rng.integers(1, 60), 127 + rng.integers(-3, 30)])
    else:
        field[1] = np.clip(127 - field[0] + rng.integers(-30, 6), 1, 254)
    if kind != 3 and rng.integers(2):
        field = field[::-1]
    return (sign | field << 23 | fraction).astype(np.uint32)


def set_trap(dot: Beats, word: int, side: str, rng: np.random.Generator) -> bool:
    """Set the output scale of a side so that its product with a sum is a tie, but for one low bit; False: impossible.

    ``word`` is the sum in FP32 bits. With n significant bits, it pushes n bits of the product out of the result. An odd
    significand has an inverse modulo any power of two, so that a scale exists for any of them.
    """
    significand = (word & 0x7FFFFF) | (1 << 23)
    significand //= significand & -significand
    bits = significand.bit_length()
    if bits < 3 or not 1 <= word >> 23 & 0xFF < 255:
        return False
    low = (1 << (bits - 1)) | int(rng.choice([0, 1 << int(rng.integers(bits - 1))]))
    fraction = low * pow(significand, -1, 1 << 23) % (1 << 23)
    field = 127 if rng.integers(2) else int(rng.integers(64, 190))
    dot[side][:] = field << 23 | fraction
    return True


def _elements(name: str, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> NDArray[Any]:
    spec = element(name)
    codes = _codes(spec, shape, kind, rng)
    zero, largest = _zero_and_largest(spec)
    if kind == "sparse":
        keep = (rng.random(shape) < 0.3) & (rng.random((shape[0], *[1] * (len(shape) - 1))) < 0.5)
        codes = np.where(keep, codes, zero)
    elif kind == "one":
        kept = np.full(shape, zero, codes.dtype)
        place = tuple(int(rng.integers(size)) for size in shape)
        kept[place] = codes[place]
        codes = kept
    elif kind == "extreme":
        choice = largest if rng.integers(2) else largest[: 1 + int(rng.integers(len(largest)))][-1:]
        codes = np.where(rng.random(shape) < rng.choice([0.02, 0.0, 0.5]), codes, rng.choice(choice, shape))
    return codes


def _codes(spec: ElementSpec, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> NDArray[Any]:
    """Draw codes: of wide floats seldom all of them, since most sums would meet only the largest."""
    if spec.bits == 32:
        return edge_floats(rng, shape).view(np.uint32)
    codes = rng.integers(0, 1 << spec.bits, shape)
    if not isinstance(spec, FloatSpec) and rng.integers(3) == 0:  # sums of few bits
        magnitudes = np.abs(np.array(elements.integers(spec.name)))
        codes = rng.choice(np.flatnonzero(magnitudes <= 1 << int(rng.integers(spec.bits))), shape)
    if isinstance(spec, FloatSpec) and spec.bits > 8 and kind in ("any", "one") and rng.integers(2):
        top = ((1 << spec.exp_bits) - 1) << spec.man_bits
        corners = np.array([0, 1, 1 << spec.man_bits, spec.max_code, top, top, top + 1])
        corners |= rng.integers(2) << (spec.bits - 1)
        codes = np.where(rng.random(shape) < 0.5, codes, rng.choice(corners, shape))
    if isinstance(spec, FloatSpec) and spec.exp_bits > 3 and kind not in ("any", "one"):
        field = spec.bias + rng.integers(-_REACH, _REACH + 1, shape)
        if kind == "halves":
            field = np.where(rng.random(shape) < 0.5, field - int(rng.integers(0, 2 * spec.bias)), field)
        if kind == "tiny":
            field = rng.integers(0, 1 + _REACH, shape)
        field = np.clip(field, 0, (1 << spec.exp_bits) - 1)
        mask = ((1 << spec.exp_bits) - 1) << spec.man_bits
        codes = (codes & ~mask) | (field << spec.man_bits)
    return codes


def _zero_and_largest(spec: ElementSpec) -> tuple[int, NDArray[np.int64]]:
    """Return the code of zero, and those of the largest numbers of each sign."""
    if isinstance(spec, FloatSpec):
        largest = [spec.max_code] + ([spec.max_code | 1 << (spec.bits - 1)] if spec.signed else [])
        return 0, np.array(largest)
    table = elements.integers(spec.name)
    return table.index(0), np.array([table.index(max(table)), table.index(min(table))])


def _scales(name: str, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> NDArray[Any]:
    spec = element(name)
    if not isinstance(spec, FloatSpec) or kind == "any":
        return rng.integers(0, 1 << spec.bits, shape)
    one, step = spec.bias << spec.man_bits, 1 << spec.man_bits
    reach = min(_REACH, spec.bias - 1) * step
    if kind == "tiny":
        codes = rng.integers(0, one // 2 + 1, shape)
    elif kind == "halves":
        codes = np.clip(one + rng.integers(-30, 31, shape) * step, 0, spec.max_code)
    else:
        codes = one + rng.integers(-reach, reach + 1, shape)
    return codes | (rng.integers(0, 2, shape) << (spec.bits - 1) if spec.signed else 0)


def _cancel(dot: Beats, spec: DotSpec, half: int, rng: np.random.Generator) -> None:
    """Make the second half of the beats the negative of the first."""
    for name, values in dot.items():
        if name != "last":
            values[half : 2 * half] = values[:half]
    codes = dot["b"][half : 2 * half]
    dot["b"][half : 2 * half] = _negated(element(spec.b_element), codes)
    if rng.integers(2):
        place = (int(rng.integers(2 * half)), int(rng.integers(spec.lanes)))
        dot["a"][place] = _codes(element(spec.a_element), (1,), "any", rng)[0]


def _negated(spec: ElementSpec, codes: NDArray[Any]) -> NDArray[Any]:
    """Return the codes of the negative values, or the codes themselves where there are none."""
    if isinstance(spec, FloatSpec):
        return codes ^ (1 << (spec.bits - 1)) if spec.signed else codes
    table = elements.integers(spec.name)
    where = {value: code for code, value in reversed(list(enumerate(table)))}
    return np.array([where.get(-value, code) for code, value in enumerate(table)])[codes]
