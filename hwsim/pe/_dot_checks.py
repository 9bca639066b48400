"""What accumulator, lanes and block of a datapath cannot be together, topic by topic."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from hwsim.formats import IntSpec, element
from hwsim.pe import _elements
from hwsim.pe.accumulator import Accumulator

if TYPE_CHECKING:
    from hwsim.pe._dot import DotSpec

MAX_EXACT_BITS = 128
"""Widest exact sum of a block: FP16 products take 90, E5M2 72; BF16 would take hundreds."""
FLOAT64_BITS = 53
MAX_ALIGNED_BITS = 54
"""Widest aligned sum, sign included: float64 holds it exactly."""

Objections = Iterator[tuple[bool, str]]
"""(is it so, what to say)."""


def check(spec: DotSpec) -> None:
    """Refuse a datapath whose fields, each of them allowed, contradict each other.

    Raises
    ------
    ValueError
        With the first objection.
    """
    for condition, words in chain(
        _sub_blocks(spec), _blocks(spec), _exact_sums(spec), _aligned_groups(spec), _integers(spec)
    ):
        if condition:
            raise ValueError(words)


def scaled_bits(spec: DotSpec) -> int:
    """Return the bits of a block sum's magnitude times its scales."""
    scales = _elements.significand_bits(spec.a_scale) + _elements.significand_bits(spec.b_scale)
    return spec.block_sum_bits - 1 + scales


def _sub_blocks(spec: DotSpec) -> Objections:
    """Shifts that a part of a block shares."""
    yield (
        (spec.sub_block > 0) != (spec.shift_bits > 0) or not 0 <= spec.shift_bits <= 3,
        f"sub_block and shift_bits (at most 3) go together, not {spec.sub_block} and {spec.shift_bits}",
    )
    if spec.sub_block:
        yield (
            spec.lanes // spec.beat_blocks % spec.sub_block != 0 or not spec.block,
            f"sub_block must divide the lanes of a block, {spec.lanes // spec.beat_blocks}, not {spec.sub_block}",
        )
        yield (
            spec.accumulator != Accumulator() or spec.zero_bits > 0,
            "shifts of sub-blocks go with the default accumulator and no zero points",
        )


def _blocks(spec: DotSpec) -> Objections:
    """Blocks and beats."""
    rule = spec.accumulator
    yield (
        spec.block_beats == 0 and (rule.kind != "exact" or rule.promote_every > 0 or spec.beat_blocks > 1),
        f"an accumulator of kind {rule.kind} needs a block, not 0",
    )
    yield (
        spec.block_beats > 1 and spec.beat_blocks > 1,
        "a beat has several blocks, or a block has several beats",
    )
    yield (
        spec.zero_bits > 0 and (rule != Accumulator() or spec.beat_blocks > 1),
        "zero points go with the default accumulator and one block a beat",
    )
    yield (
        rule.promote_every % spec.beat_blocks != 0,
        f"promote_every must be a multiple of the {spec.beat_blocks} blocks of a beat, not {rule.promote_every}",
    )


def _exact_sums(spec: DotSpec) -> Objections:
    """Exact sums of blocks, and elements too wide for tables."""
    rule = spec.accumulator
    wide = [name for name in (spec.a_element, spec.b_element) if element(name).bits > _elements.TABLE_BITS]
    yield (
        bool(wide) and rule.kind != "sequential",
        f"element {', '.join(wide)} of more than {_elements.TABLE_BITS} bits goes with kind sequential, not "
        f"{rule.kind}",
    )
    if spec.block and not rule.by_product:
        bits = spec.block_sum_bits
        yield (
            bits > MAX_EXACT_BITS,
            f"the exact sum of {spec.block} products {spec.a_element} x {spec.b_element} needs {bits} bits; allowed "
            f"are {MAX_EXACT_BITS}: take kind aligned or sequential",
        )


def _integers(spec: DotSpec) -> Objections:
    """What only integers allow: shifts in the place of multipliers, a sum that doubles."""
    whole = [isinstance(element(name), IntSpec) for name in (spec.a_element, spec.b_element)]
    yield (
        spec.shift_add and not whole[1],
        f"shifts of the activation go with weights that are integers, not {spec.b_element}",
    )
    yield (
        spec.acc_bits > 0 and bool(not all(whole) or spec.block_beats or spec.a_scale or spec.b_scale),
        "a sum that doubles is that of a whole dot product of integers, without blocks and their scales",
    )


def _aligned_groups(spec: DotSpec) -> Objections:
    """Groups of kind aligned: where they end, and how wide their sums are."""
    rule, block, lanes = spec.accumulator, spec.block, spec.lanes
    if rule.kind != "aligned" or not block:
        return
    # a group of several beats waits for its last one, with the terms of the others in registers
    whole_beats = lanes % rule.group == 0 or rule.group % lanes == 0
    if rule.by_product:
        yield (
            not whole_beats,
            f"the group must divide lanes = {lanes} or be a multiple of them, so that it ends with a beat, not "
            f"{rule.group}",
        )
        yield (
            block % rule.group != 0 and rule.group % block != 0,
            f"the group must divide the block of {block} or be a multiple of it, not {rule.group}",
        )
    else:
        yield (
            rule.group % block != 0 or (rule.group != block and not whole_beats),
            f"with scales 'block' the group must be a multiple of the block of {block}, and divide lanes = {lanes} or "
            f"be a multiple of them, not {rule.group}",
        )
        yield (
            scaled_bits(spec) > FLOAT64_BITS,
            f"with scales 'block' a block's sum times its scales may have {FLOAT64_BITS} bits, not "
            f"{scaled_bits(spec)}; take scales 'product'",
        )
    yield (
        rule.promote_every * block % rule.group != 0,
        f"a group of {rule.group} must end where {rule.promote_every} blocks of {block} end",
    )
    yield (
        spec.aligned_bits > MAX_ALIGNED_BITS,
        f"the aligned sum of {rule.group} terms with {rule.fraction_bits} fraction bits needs "
        f"{spec.aligned_bits} bits; allowed are {MAX_ALIGNED_BITS}",
    )
