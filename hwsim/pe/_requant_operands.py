"""Operands of `requant` that reach its corners: blocks on and beside the borders of scales and of codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import FloatSpec
from hwsim.formats.requantize import METHODS
from hwsim.pe._stream import Fields, corner_float32, to_pattern
from hwsim.pe.requant import SHIFT_BITS, Params, quantise, scale_borders


def draw(params: Params, rows: int, rng: np.random.Generator) -> Fields:
    """Draw blocks for checking hardware: data with outliers, ties and their neighbours, zeros, subnormals, any bits."""
    spec = params.datapath
    if params.source == "int32":
        return _int_operands(params, rows, rng)
    x = corner_float32(rng, (rows, params.block))
    fields: Fields = {}
    if params.has_ratio:
        g = np.abs(corner_float32(rng, (rows, 1)))
        # near the block's own, so that neither scales nor elements saturate; else as it comes
        amax = np.abs(x).max(axis=1, keepdims=True).astype(np.float64)
        near = amax * np.exp2(rng.uniform(-14, 6, (rows, 1)))
        g = np.where(rng.integers(6, size=(rows, 1)) > 0, np.minimum(near, 3e38).astype(np.float32), g)
        g = np.where(g > 0, g, np.float32(2.0**-149)).astype(np.float32)
        if not params.has_tensor_scale:
            g = np.ones((rows, 1), np.float32)
        x, g = _with_scale_ties(x, g, params, rng)
        if params.has_tensor_scale:
            fields["tensor_scale"] = np.repeat(g.view(np.uint32), spec.beats)
        x = _with_ties(x, g, params, rng)
    elif params.spec.scale is not None:
        x = _with_power_ties(x, params, rng)
    if params.nan_policy == "propagate":
        special = rng.choice(np.array([np.inf, -np.inf, np.nan], np.float32), x.shape)
        x = np.where(rng.random(x.shape) < 0.3 / params.block, special, x)
    return {"x": x.view(np.uint32).reshape(-1, params.lanes), **fields, "last": spec.last(rows)}


def _with_ties(
    x: NDArray[np.float32], g: NDArray[np.float32], params: Params, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Put some elements on or beside borders between codes, where those are float32 numbers."""
    scale = params.spec.scale
    assert isinstance(scale, FloatSpec)
    d = quantise(x, params, g[:, 0] if params.has_tensor_scale else None)["scales"]
    worth = params.spec.scale_values(d)[:, None] * g
    with np.errstate(over="ignore"):
        ties = (worth * rng.integers(1, 40, x.shape) / 4).astype(np.float32)
    ties = (ties.view(np.uint32) + rng.choice([0, 0, 1, 2**32 - 1], x.shape).astype(np.uint32)).view(np.float32)
    usable = (ties > 0) & (ties < np.abs(x).max(axis=1, keepdims=True)) & (rng.random(x.shape) < 0.5)
    return np.where(usable, np.copysign(ties, x), x).astype(np.float32)


def _with_scale_ties(
    x: NDArray[np.float32], g: NDArray[np.float32], params: Params, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give a quarter of the blocks a largest magnitude on or beside a border between two scale codes."""
    scale = params.spec.scale
    assert isinstance(scale, FloatSpec)
    rows = len(x)
    ones = np.ones((rows, 1))
    few_bits = rng.integers(128, 256, (rows, 1)) * np.exp2(rng.integers(-60, 40, (rows, 1))) * ones
    few_bits = few_bits if params.has_tensor_scale else ones
    codes = rng.integers(scale.max_code, size=(rows, 1)).astype(np.uint16)
    border = (params.spec.scale_values(codes) + params.spec.scale_values(codes + 1)) / 2
    top = (border * params.spec.scale_level * few_bits).astype(np.float32)  # exact: 5, 3 and 8 bits
    top = (top.view(np.uint32) + rng.choice([0, 0, 1, 2**32 - 1], (rows, 1)).astype(np.uint32)).view(np.float32)
    chosen = rng.integers(4, size=(rows, 1)) == 0
    return _with_largest(x, top, chosen, rng), np.where(chosen, few_bits, g).astype(np.float32)


def _with_power_ties(x: NDArray[np.float32], params: Params, rng: np.random.Generator) -> NDArray[np.float32]:
    """Give a quarter of the blocks a largest magnitude on or beside a border between two powers of two."""
    scale, shape = params.spec.scale, (len(x), 1)
    assert isinstance(scale, FloatSpec)
    emax, border, first = scale_borders(params.spec)
    lowest = emax - scale.bias  # where the first border counts
    exponent = np.where(rng.integers(3, size=shape) == 0, lowest, rng.integers(-140, 128, shape))
    near = np.where(exponent == lowest, first, border) + rng.integers(-2, 3, shape)
    with np.errstate(over="ignore", under="ignore"):
        top = (np.exp2(exponent.astype(np.float64)) * (1 + near * 2.0**-23)).astype(np.float32)
    chosen = (rng.integers(4, size=shape) == 0) & np.isfinite(top)
    return _with_largest(x, top, chosen, rng)


def _with_largest(
    x: NDArray[np.float32], top: NDArray[np.float32], chosen: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Put a magnitude of either sign into one place of the chosen rows, and smaller ones into the others."""
    below = (rng.uniform(-1, 1, x.shape) * np.where(chosen, top, 0)).astype(np.float32)
    place = np.arange(x.shape[1]) == rng.integers(x.shape[1], size=(len(x), 1))
    changed = np.where(place, np.where(rng.integers(2, size=(len(x), 1)) == 0, top, -top), below)
    return np.where(chosen, changed, x).astype(np.float32)


def _int_operands(params: Params, rows: int, rng: np.random.Generator) -> Fields:
    rule = METHODS[params.method]
    low, high = max(rule.shifts[0], -32), min(rule.shifts[1], 31)
    shift = rng.integers(low, high + 1, rows)
    shift = np.where(rng.integers(3, size=rows) > 0, rng.integers(max(low, -20), 3, rows), shift)
    first, last = rule.multipliers
    multiplier = rng.integers(first, last + 1, rows)
    multiplier = np.where(rng.integers(2, size=rows) == 0, rng.integers(1 << 30, last + 1, rows), multiplier)
    corners = np.array([first, last, last - 1, 0, 1, 1 << 30, 3 << 29])
    multiplier = np.where(rng.integers(6, size=rows) == 0, rng.choice(corners, rows), multiplier)
    left = np.maximum(shift, 0) if rule.left_first else np.zeros(rows, np.int64)
    x = rng.integers(-(1 << 31), 1 << 31, (rows, params.lanes)) >> rng.integers(0, 31, (rows, params.lanes))
    x = np.where(rng.integers(12, size=x.shape) == 0, rng.choice([-(1 << 31), (1 << 31) - 1, 0, 1, -1], x.shape), x)
    x = np.clip(x, -((1 << 31) >> left)[:, None], (((1 << 31) - 1) >> left)[:, None])
    return {
        "x": to_pattern(x, 32),
        "multiplier": to_pattern(multiplier, 32),
        "shift": to_pattern(shift, SHIFT_BITS),
        "last": np.ones(rows, np.uint8),
    }
