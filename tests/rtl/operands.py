"""Draw operands for units: codes of every kind, with the corners that random codes seldom meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import FloatSpec, IntSpec, element
from hwsim.pe._dot import DotSpec

Beats = dict[str, NDArray[np.integer]]

PROFILES = ("plain", "wide", "near", "sparse", "extreme", "cancelling")
"""``plain``: scales, and elements of wide range, within some powers of two of 1, as real layers have. ``wide``: every
code of a scale, NaN too, and now and then an element that is not finite. ``near``: all scales and elements small, so
that sums meet subnormals. ``sparse``: mostly zero elements and blocks. ``extreme``: the elements of largest magnitude.
``cancelling``: every second block is the first one with b negated."""
_WIDE_EXPONENT_BITS = 4


def draw_dot(spec: DotSpec, beats: int, profile: str, generator: np.random.Generator) -> Beats:
    """Return the beats of one dot product; ``beats`` is rounded up to whole blocks and groups."""
    block = spec.block_beats or 1
    count = -(-beats // spec.step_beats) * spec.step_beats
    dot: Beats = {
        side: _elements(name, table, (count, spec.lanes), profile, generator)
        for side, name, table in (("a", spec.a_element, spec.a_ints), ("b", spec.b_element, spec.b_ints))
    }
    slots = (count, spec.beat_blocks) if spec.beat_blocks > 1 else (count,)
    for side, scale in (("a_scale", spec.a_scale), ("b_scale", spec.b_scale)):
        if scale is not None:
            dot[side] = _scales(element(scale), slots, profile, generator)
    if spec.zero_bits:  # one a block
        dot["b_zero"] = np.repeat(generator.integers(0, 1 << spec.zero_bits, count // block), block)
    for side, there in (("a_out", spec.a_out), ("b_out", spec.b_out)):
        if there:
            dot[side] = np.full(count, _float32(profile, generator), np.uint32)
    dot["last"] = (np.arange(count) == count - 1).astype(np.uint8)
    if profile == "cancelling":
        _cancel(dot, spec, block)
    return dot


def _elements(
    name: str, table: tuple[int, ...], shape: tuple[int, int], profile: str, generator: np.random.Generator
) -> NDArray:
    facts = element(name)
    codes = generator.integers(0, len(table), shape)
    if isinstance(facts, FloatSpec) and facts.exp_bits >= _WIDE_EXPONENT_BITS and profile != "extreme":
        one, step = facts.bias << facts.man_bits, 1 << facts.man_bits
        low = {"wide": 0, "near": 0}.get(profile, one - 3 * step)
        high = {"wide": facts.max_code, "near": one // 2}.get(profile, one + 3 * step)
        codes = generator.integers(0, 2, shape) << (facts.bits - 1) | generator.integers(low, high + 1, shape)
        refused = [code for code in range(facts.max_code + 1, facts.magnitude_mask + 1)]
        if profile == "wide" and refused and generator.random() < 0.5:
            where = generator.random(shape) < 1 / shape[0] / shape[1]
            codes = np.where(where, generator.choice(refused, shape) | codes & 1 << (facts.bits - 1), codes)
    if profile == "sparse":
        keep = (generator.random(shape) < 0.1) & (generator.random((shape[0], 1)) < 0.5)
        codes = np.where(keep, codes, table.index(0))
    if profile == "extreme":
        codes = generator.choice([table.index(min(table)), table.index(max(table))], shape)
    return codes


def _scales(
    facts: FloatSpec | IntSpec, shape: tuple[int, ...], profile: str, generator: np.random.Generator
) -> NDArray:
    if profile == "wide" or isinstance(facts, IntSpec):
        return generator.integers(0, 1 << facts.bits, shape)
    one = facts.bias << facts.man_bits
    if profile == "near":
        return generator.integers(0, one // 4 if facts.man_bits else one // 2 + 1, shape)
    spread = min(6, facts.bias - 1)
    sign = generator.integers(0, 2, shape) << (facts.bits - 1) if facts.signed else 0
    return sign | generator.integers(one - (spread << facts.man_bits), one + (spread << facts.man_bits), shape)


def _float32(profile: str, generator: np.random.Generator) -> int:
    if profile in ("wide", "near"):
        return int(generator.integers(0, 1 << 32))
    return int(np.float32(generator.normal()).view(np.uint32))


def _cancel(dot: Beats, spec: DotSpec, block: int) -> None:
    """Make every second block the negative of the one before, where b has a negative for each of its codes."""
    if not spec.block_beats:
        return
    where = {value: code for code, value in reversed(list(enumerate(spec.b_ints)))}
    negative = np.array([where.get(-value, code) for code, value in enumerate(spec.b_ints)])
    for start in range(block, len(dot["last"]) - block + 1, 2 * block):
        for name in dot:
            if name != "last":
                dot[name][start : start + block] = dot[name][start - block : start]
        dot["b"][start : start + block] = negative[dot["b"][start : start + block]]
