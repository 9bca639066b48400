"""Draw operands for units: codes of every kind, with the corners that random codes seldom meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import FloatSpec, element
from hwsim.pe._dot import DotSpec

Beats = dict[str, NDArray[np.integer]]

PROFILES = ("plain", "wide", "near", "sparse", "extreme", "cancelling")
"""``plain``: scales within some powers of two of 1, as real layers have. ``wide``: every code of a scale, NaN too.
``near``: all scales and elements small, so that sums meet subnormals. ``sparse``: mostly zero elements and blocks.
``extreme``: the elements of largest magnitude. ``cancelling``: every second block is the first one with b negated."""


def draw_dot(spec: DotSpec, beats: int, profile: str, generator: np.random.Generator) -> Beats:
    """Return the beats of one dot product; ``beats`` is rounded up to whole blocks."""
    block = spec.block_beats or 1
    count = -(-beats // block) * block
    dot: Beats = {"a": _elements(spec.a_ints, (count, spec.lanes), profile, generator)}
    dot["b"] = _elements(spec.b_ints, (count, spec.lanes), profile, generator)
    for side, name in (("a_scale", spec.a_scale), ("b_scale", spec.b_scale)):
        if name is not None:
            dot[side] = _scales(element(name), count, profile, generator)
    if spec.zero_bits:  # one a block
        dot["b_zero"] = np.repeat(generator.integers(0, 1 << spec.zero_bits, count // block), block)
    for side, there in (("a_out", spec.a_out), ("b_out", spec.b_out)):
        if there:
            dot[side] = np.full(count, _float32(profile, generator), np.uint32)
    dot["last"] = (np.arange(count) == count - 1).astype(np.uint8)
    if profile == "cancelling":
        _cancel(dot, spec, block)
    return dot


def _elements(table: tuple[int, ...], shape: tuple[int, int], profile: str, generator: np.random.Generator) -> NDArray:
    codes = generator.integers(0, len(table), shape)
    if profile == "sparse":
        keep = (generator.random(shape) < 0.1) & (generator.random((shape[0], 1)) < 0.5)
        codes = np.where(keep, codes, table.index(0))
    if profile == "extreme":
        codes = generator.choice([table.index(min(table)), table.index(max(table))], shape)
    return codes


def _scales(facts: FloatSpec, count: int, profile: str, generator: np.random.Generator) -> NDArray:
    if profile == "wide":
        return generator.integers(0, 1 << facts.bits, count)
    one = facts.bias << facts.man_bits
    if profile == "near":
        return generator.integers(0, one // 4 if facts.man_bits else one // 2 + 1, count)
    spread = min(6, facts.bias - 1)
    sign = generator.integers(0, 2, count) << (facts.bits - 1) if facts.signed else 0
    return sign | generator.integers(one - (spread << facts.man_bits), one + (spread << facts.man_bits), count)


def _float32(profile: str, generator: np.random.Generator) -> int:
    if profile in ("wide", "near"):
        return int(generator.integers(0, 1 << 32))
    return int(np.float32(generator.normal()).view(np.uint32))


def _cancel(dot: Beats, spec: DotSpec, block: int) -> None:
    """Make every second block the negative of the one before, where b has a negative for each of its codes."""
    negative = [spec.b_ints.index(-value) if -value in spec.b_ints else code for code, value in enumerate(spec.b_ints)]
    if not spec.block_beats:
        return
    for start in range(block, len(dot["last"]) - block + 1, 2 * block):
        for name in dot:
            if name != "last":
                dot[name][start : start + block] = dot[name][start - block : start]
        dot["b"][start : start + block] = np.array(negative)[dot["b"][start : start + block]]
