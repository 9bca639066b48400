"""What the MixPE units share: weights of 4 bits, and what their shifts and additions count as.

A product is the activation shifted by the place of every set bit of the weight: at most four terms, added in one cycle.
The top bit of a signed weight subtracts its term. Scale and zero point are applied once a group, to the group's sum:

    sum(a * (s * (q - z))) = s * (sum(a * q) - z * sum(a))

holds in exact arithmetic for all operands (distributivity), so both sides round to the same accumulator: the units'
only roundings are that of ``acc + s * (S - z * A)``, once a group, and that of an output scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hwsim.formats import BlockSpec, Encoded
from hwsim.pe import _dot, _unit

WEIGHTS = ("int4", "uint4")
"""Weight elements; the unsigned ones have a zero point of their width."""
WEIGHT_BITS = 4
SCALE = "float16"


def takes_weights(weight: BlockSpec) -> bool:
    """Tell whether weights are 4-bit integers under an FP16 scale a group, with a zero point if unsigned."""
    if weight.element.name not in WEIGHTS or weight.scale is None or weight.scale.name != SCALE:
        return False
    zeros = weight.zero_point != "none"
    second = weight.row_scale != "none" or weight.tensor_scale != "none"
    return isinstance(weight.block_size, int) and not second and zeros == (weight.element.name == "uint4")


def group_sum_words(spec: _dot.DotSpec) -> int:
    """Return the additions of 32 bits that one addition to the group's sum counts as."""
    return -(-spec.block_sum_bits // 32)


def actions(m: int, n: int, k: int, spec: _dot.DotSpec, activation: str) -> dict[str, int]:
    """Return counts of the events of a GEMM; terms are counted as if every bit of every weight were set."""
    outputs, groups, words = m * n, _dot.block_count(k, spec), group_sum_words(spec)
    counts = {
        f"add_shifted_{activation}": outputs * k * WEIGHT_BITS,
        "add_int32": outputs * k * words,
        "mul_int32_float16": outputs * groups * words,
        "add_float32": outputs * groups,
    }
    if spec.zero_bits:
        # the running sum of activations, one product with the zero point and its subtraction a group
        counts["add_int32"] += outputs * (k + groups) * words
        counts["mul_int32_uint4"] = outputs * groups * words
    return counts


def operand_actions(a: Encoded, b: Encoded, counts: Mapping[str, int], activation: str) -> dict[str, int]:
    """Return the counts with terms counted as they are: one a set bit of a weight, for every row of A."""
    bits = np.array([code.bit_count() for code in range(1 << WEIGHT_BITS)])
    codes = np.bincount(b.codes.reshape(-1), minlength=len(bits))
    return {**counts, f"add_shifted_{activation}": a.shape[0] * int(codes @ bits)}


def dequantised_actions(m: int, n: int, k: int, spec: _dot.DotSpec, activation: str) -> dict[str, int]:
    """Return the events of the same GEMM on a unit that multiplies, and dequantises every weight as it comes.

    The difference from `actions` is what shifts and the group's sum save: a zero point taken off and a scale applied a
    weight instead of a group, and a multiplier a product.
    """
    products = m * n * k
    counts = {f"mul_int4_{activation}": products, "mul_int32_float16": products, "add_float32": products}
    return counts | ({"add_int8": products} if spec.zero_bits else {})


def check(params: Any) -> None:
    """Refuse a weight or a group that a MixPE unit does not take."""
    _unit.check_choice(params, "weight", WEIGHTS)
    for name in ("lanes", "block"):
        value = getattr(params, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{params.unit}: {name} must be a positive integer, not {value!r}")
    if params.block % params.lanes:
        raise ValueError(f"{params.unit}: block must be a multiple of lanes = {params.lanes}, not {params.block}")
    _unit.check_datapath(params)
    bits = params.datapath.block_sum_bits
    if bits > params.MAX_SUM_BITS:
        raise ValueError(
            f"{params.unit}: the sum of a group of {params.block} needs {bits} bits, allowed are "
            f"{params.MAX_SUM_BITS}; take a shorter block"
        )
