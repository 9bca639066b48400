"""Requantise integer accumulators to codes by an integer multiplier and a shift, as integer inference engines do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.format import container

Method = Literal["gemmlowp", "tflite_double", "tflite_single", "tflite_reduced", "hawq_v3", "dyadic", "hawq_v3_float64"]
_INT32 = (-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Describe one way to evaluate ``accumulator * multiplier * 2**(shift - 31)`` and to round it.

    Attributes
    ----------
    name : str
        ``gemmlowp`` and so on.
    source : str
        Repository, path, function.
    rounding : str
        What is rounded, and where ties go.
    multipliers, shifts, accumulators : (int, int)
        Smallest and largest value for which no intermediate result leaves int64 (int32 where the source computes in
        int32). Accumulators are bounded after a left shift where `left_first`.
    left_first : bool
        Whether a positive shift is applied to the accumulator first.
    kernel : int
        Number of the compiled loop.
    """

    name: str
    source: str
    rounding: str
    multipliers: tuple[int, int]
    shifts: tuple[int, int]
    accumulators: tuple[int, int]
    left_first: bool = False
    kernel: int


_GEMMLOWP = Rule(
    name="gemmlowp",
    source="gemmlowp fixedpoint/fixedpoint.h SaturatingRoundingDoublingHighMul and RoundingDivideByPOT; TFLite "
    "internal/common.cc MultiplyByQuantizedMultiplier(int32) without TFLITE_SINGLE_ROUNDING",
    rounding="twice: the product's upper 31 bits, ties up, saturating; then the right shift, ties away from zero",
    multipliers=_INT32,
    shifts=(-31, 30),
    accumulators=_INT32,
    left_first=True,
    kernel=0,
)
_HAWQ = Rule(
    name="hawq_v3",
    source="HAWQ utils/quantization_utils/quant_utils.py fixedpoint_mul, in exact integers",
    rounding="once, ties to even",
    multipliers=(0, 1 << 31),
    shifts=(-1200, 31),
    accumulators=(-(1 << 32) + 1, (1 << 32) - 1),
    kernel=2,
)
_RULES = (
    _GEMMLOWP,
    Rule(
        name="tflite_single",
        source="TFLite internal/common.cc MultiplyByQuantizedMultiplier(int32) with TFLITE_SINGLE_ROUNDING; "
        "ruy apply_multiplier.cc",
        rounding="once, ties up",
        multipliers=(0, _INT32[1]),
        shifts=(-31, 30),
        accumulators=_INT32,
        kernel=1,
    ),
    Rule(
        name="tflite_reduced",
        source="TFLite internal/common.cc MultiplyByQuantizedMultiplier(int64), for kernels of 16-bit activations",
        rounding="once, ties up, with the multiplier first rounded to 15 bits (ties up, saturating)",
        multipliers=(0, _INT32[1]),
        shifts=(-31, 7),
        accumulators=(-(1 << 47), (1 << 47) - 1),
        kernel=1,
    ),
    _HAWQ,
    Rule(
        name="hawq_v3_float64",
        source="HAWQ utils/quantization_utils/quant_utils.py fixedpoint_mul, as it stands",
        rounding="the product to float64, which tells where it needs more than 53 bits; then once, ties to even",
        multipliers=_HAWQ.multipliers,
        shifts=_HAWQ.shifts,
        accumulators=_HAWQ.accumulators,
        kernel=3,
    ),
)
METHODS: Mapping[str, Rule] = MappingProxyType(
    {**{rule.name: rule for rule in _RULES}, "tflite_double": _GEMMLOWP, "dyadic": _HAWQ}
)
"""Rules by method; ``tflite_double`` is another name of ``gemmlowp``, ``dyadic`` of ``hawq_v3``."""


def rule_of(method: str) -> Rule:
    """Return the rule of a method.

    Raises
    ------
    ValueError
        When there is none of that name.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    return METHODS[method]


def quantize_multiplier(real: float, method: Method = "gemmlowp") -> tuple[int, int]:
    """Split a real multiplier into an integer one of 31 bits and a shift: ``real ≈ multiplier * 2**(shift - 31)``.

    The fraction of `math.frexp` times 2**31 is rounded, ties away from zero. TFLite's methods bring 2**31 back to 2**30
    (shift + 1) and turn a multiplier below 2**-32 into zero; HAWQ-V3 does neither.

    Raises
    ------
    ValueError
        When `real` is not finite, negative for a method without negative multipliers, or needs a shift beyond the
        method's (where ``tflite_single`` upstream saturates).

    Exactness
    ---------
    Bit-exact with TFLite ``QuantizeMultiplier`` and HAWQ ``batch_frexp`` for float64 arguments.

    Source
    ------
    TFLite kernels/internal/quantization_util.cc; HAWQ utils/quantization_utils/quant_utils.py.

    Examples
    --------
    >>> quantize_multiplier(0.75), quantize_multiplier(0.25), quantize_multiplier(3.0)
    ((1610612736, 0), (1073741824, -1), (1610612736, 2))
    """
    rule = rule_of(method)
    if not math.isfinite(real) or (real < 0 and rule.multipliers[0] >= 0):
        allowed = "finite" if rule.multipliers[0] < 0 else "finite and not negative"
        raise ValueError(f"{method}: a multiplier must be {allowed}, not {real}")
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(abs(real))
    multiplier = (int(fraction * (1 << 53)) + (1 << 21)) >> 22
    if not method.startswith("hawq") and method != "dyadic":
        if multiplier == 1 << 31 and real > 0:
            multiplier, shift = 1 << 30, shift + 1
        if shift < rule.shifts[0]:
            return 0, 0
    if shift > rule.shifts[1]:
        raise ValueError(f"{method}: multiplier {real} needs a left shift of {shift}, allowed {rule.shifts[1]}")
    return -multiplier if real < 0 else multiplier, shift


def multiply(accumulator: int, multiplier: int, shift: int, method: Method = "gemmlowp") -> int:
    """Return ``accumulator * multiplier * 2**(shift - 31)`` rounded as the method says: the readable truth.

    Neither zero point nor range: `requantize` adds them.

    Raises
    ------
    ValueError
        When an argument is outside the method's bounds.

    Examples
    --------
    >>> [multiply(a, 1 << 30, 0, "gemmlowp") for a in (-3, -1, 1, 3)]  # halves go up
    [-1, 0, 1, 2]
    >>> [multiply(a, 1 << 30, 0, "hawq_v3") for a in (-3, -1, 1, 3)]  # to even
    [-2, 0, 0, 2]
    """
    rule = rule_of(method)
    _check_constants(rule, multiplier, shift)
    low, high = _bounds(rule, shift)
    if not low <= accumulator <= high:
        raise ValueError(f"{method}: accumulator {accumulator} with shift {shift} is outside {low} .. {high}")
    if rule.name == "gemmlowp":
        product = min(((accumulator << max(shift, 0)) * multiplier + (1 << 30)) >> 31, _INT32[1])
        return _divide_by_power(product, max(-shift, 0))
    if rule.name == "tflite_single":
        return (accumulator * multiplier + (1 << (30 - shift))) >> (31 - shift)
    if rule.name == "tflite_reduced":
        return (accumulator * _reduced(multiplier) + (1 << (14 - shift))) >> (15 - shift)
    if rule.name == "hawq_v3":
        quotient, rest = divmod(accumulator * multiplier, 1 << (31 - shift))
        twice = 2 * rest - (1 << (31 - shift))
        return quotient + int(twice > 0 or (twice == 0 and quotient % 2 == 1))
    return round(math.ldexp(float(accumulator) * float(multiplier), shift - 31))


@dataclass(frozen=True)
class Requant:
    """Hold the constants that requantise a tensor.

    Attributes
    ----------
    multiplier, shift : tuple of int
        One entry for the whole tensor, or one a channel: the real multiplier is ``multiplier * 2**(shift - 31)``.
    method : str
        A key of `METHODS`.
    zero_point : int
        Added after rounding.
    qmin, qmax : int
        Range that the result is clamped to, within int32 (for ``hawq_v3_float64`` within +-2**24, beyond which upstream
        would round once more, to float32). For an integer element: its own ``qmin`` and ``qmax``.
    axis : int or None
        Axis of the channels, None when there is one entry.

    Raises
    ------
    ValueError
        On an unknown method, constants outside its bounds, lists of different lengths, or an empty range.
    """

    multiplier: tuple[int, ...]
    shift: tuple[int, ...]
    method: Method = "gemmlowp"
    zero_point: int = 0
    qmin: int = -128
    qmax: int = 127
    axis: int | None = None

    def __post_init__(self) -> None:
        rule = rule_of(self.method)
        count = len(self.multiplier)
        if count != len(self.shift) or count < 1 or (self.axis is None and count > 1):
            raise ValueError(
                f"requantisation needs as many shifts as multipliers, one without an axis: "
                f"{count} multipliers, {len(self.shift)} shifts, axis {self.axis}"
            )
        for multiplier, shift in zip(self.multiplier, self.shift, strict=True):
            _check_constants(rule, multiplier, shift)
        low, high = (-(1 << 24), 1 << 24) if rule.name == "hawq_v3_float64" else _INT32
        if not low <= self.qmin <= self.qmax <= high:
            raise ValueError(f"{self.method}: the range must lie in {low} .. {high}, not be {self.qmin} .. {self.qmax}")
        if not _INT32[0] <= self.zero_point <= _INT32[1]:
            raise ValueError(f"zero point {self.zero_point} does not fit int32")

    @classmethod
    def from_scale(
        cls,
        scale: float | Sequence[float] | NDArray[Any],
        method: Method = "gemmlowp",
        zero_point: int = 0,
        qmin: int = -128,
        qmax: int = 127,
        axis: int | None = None,
    ) -> Requant:
        """Quantise real multipliers (input scale * weight scale / output scale), one or one a channel of `axis`.

        Raises
        ------
        ValueError
            As `quantize_multiplier` and the constructor.
        """
        scales = np.asarray(scale, np.float64)
        if scales.ndim != (0 if axis is None else 1):
            raise ValueError(f"scales of shape {scales.shape} do not fit axis {axis}: one, or a list with an axis")
        pairs = [quantize_multiplier(float(real), method) for real in scales.reshape(-1)]
        multipliers, shifts = tuple(m for m, _ in pairs), tuple(s for _, s in pairs)
        return cls(multipliers, shifts, method, zero_point, qmin, qmax, axis)

    @cached_property
    def _constants(self) -> tuple[NDArray[Any], ...]:
        """Arrays that the kernels take: multiplier, left and right shift, 2**-right as float64, accumulator bounds."""
        rule = rule_of(self.method)
        multiplier, shift = np.array(self.multiplier, np.int64), np.array(self.shift, np.int64)
        left, right = np.zeros_like(shift), 31 - shift
        if rule.left_first:
            left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
        elif rule.name == "tflite_reduced":
            multiplier, right = np.array([_reduced(m) for m in self.multiplier]), 15 - shift
        factor = np.ldexp(1.0, -right)
        gone = right > 63  # less than half a step, whatever the accumulator
        multiplier, right = np.where(gone, 0, multiplier), np.where(gone, 0, right)
        low, high = np.array([_bounds(rule, s) for s in self.shift], np.int64).T.copy()
        return multiplier, left, right, factor, low, high


def requantize(accumulators: NDArray[Any], requant: Requant) -> NDArray[Any]:
    """Multiply, round, add the zero point and clamp.

    Parameters
    ----------
    accumulators : int32 or int64 [...]
        Exact sums. An array that is not contiguous is copied first.
    requant : Requant
        Constants; with an axis, as many as the array is long there.

    Returns
    -------
    integers [...]
        In the smallest dtype that holds ``qmin .. qmax`` (unsigned when ``qmin >= 0``): int8 for -128 .. 127.
        `to_codes` makes bit patterns of them.

    Raises
    ------
    TypeError
        When the accumulators are not int32 or int64.
    ValueError
        When the axis is missing or has another length, or an accumulator lies outside the method's bounds, where the
        source's result is undefined; the message names the first.

    Exactness
    ---------
    `multiply` for every element, in int64: within the bounds of the rules nothing reaches 2**63 (gemmlowp:
    2**31 * 2**31 + 2**30; single: 2**31 * 2**31 + 2**61; reduced: 2**47 * 2**15 + 2**45; HAWQ: (2**32 - 1) * 2**31).

    Examples
    --------
    >>> requantize(np.array([-1000, 0, 1000, 9999], np.int32), Requant.from_scale(0.05, zero_point=3)).tolist()
    [-47, 3, 53, 127]
    """
    return _requantize(accumulators, requant, requant.qmin, requant.qmax)


def requantize_sum(branches: Sequence[tuple[NDArray[Any], Requant]], qmin: int = -128, qmax: int = 127) -> NDArray[Any]:
    """Requantise several tensors each by itself, add them, and clamp the sum once, as HAWQ-V3 does residual branches.

    Each branch is rounded (and, unlike upstream, saturated to int32) before the addition; its own range is not used.

    Raises
    ------
    TypeError, ValueError
        As `requantize`; or when shapes differ, there is no branch, or the range is empty.

    Source
    ------
    HAWQ utils/quantization_utils/quant_utils.py fixedpoint_mul with `identity`.
    """
    shapes = {np.shape(accumulators) for accumulators, _ in branches}
    if len(shapes) != 1:
        raise ValueError(f"branches must be of one shape, not {sorted(shapes)}")
    if not _INT32[0] <= qmin <= qmax <= _INT32[1]:
        raise ValueError(f"the range must lie in int32, not be {qmin} .. {qmax}")
    total = np.zeros(shapes.pop(), np.int64)
    for accumulators, requant in branches:
        total += _requantize(accumulators, requant, *_INT32)
    return np.clip(total, qmin, qmax, out=total).astype(_dtype(qmin, qmax))


def to_codes(integers: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return integers as codes: two's complement bit patterns of `bits` bits in their smallest unsigned container.

    Raises
    ------
    ValueError
        When an integer fits neither two's complement nor plain binary of that width.

    Examples
    --------
    >>> to_codes(np.array([-8, -1, 7], np.int8), 4).tolist()
    [8, 15, 7]
    """
    dtype = container(bits)
    if integers.size and not (-(1 << (bits - 1)) <= int(integers.min()) and int(integers.max()) < 1 << bits):
        raise ValueError(f"integers {int(integers.min())} .. {int(integers.max())} do not fit {bits} bits")
    codes: NDArray[Any] = integers.astype(dtype)
    return codes if bits == 8 * dtype.itemsize else codes & dtype.type((1 << bits) - 1)


def _requantize(accumulators: NDArray[Any], requant: Requant, qmin: int, qmax: int) -> NDArray[Any]:
    from hwsim.formats import _requantize_kernels as kernels

    if not isinstance(accumulators, np.ndarray) or accumulators.dtype not in (np.int32, np.int64):
        found = getattr(accumulators, "dtype", type(accumulators).__name__)
        raise TypeError(f"requantisation needs int32 or int64 accumulators, not {found}")
    shape, channels, axis = accumulators.shape, len(requant.multiplier), requant.axis
    if axis is not None and (not -len(shape) <= axis < len(shape) or shape[axis] != channels):
        raise ValueError(f"{channels} multipliers on axis {axis} do not fit accumulators of shape {shape}")
    out = np.empty(shape, _dtype(qmin, qmax))
    if not out.size:
        return out
    inner = out.size if axis is None or channels == 1 else math.prod(shape[axis % len(shape) + 1 :])
    varies = channels > 1 and inner == 1
    rows = (-1, channels) if varies else (-1, inner)
    flat = np.ascontiguousarray(accumulators).reshape(rows)
    bad = np.empty(flat.shape[0] * -(-flat.shape[1] // kernels.CHUNK), np.bool_)
    multiplier, left, right, factor, low, high = requant._constants
    kernel, offset, result = rule_of(requant.method).kernel, requant.zero_point, out.reshape(flat.shape)
    kernels.requantize(
        flat, int(varies), kernel, multiplier, left, right, factor, low, high, offset, qmin, qmax, result, bad
    )
    if bad.any():
        raise _first_outside(accumulators, requant)
    return out


def _first_outside(accumulators: NDArray[Any], requant: Requant) -> ValueError:
    *_, low, high = requant._constants
    if requant.axis is not None:
        shape = [1] * accumulators.ndim
        shape[requant.axis] = -1
        low, high = low.reshape(shape), high.reshape(shape)
    index = tuple(int(i) for i in np.argwhere((accumulators < low) | (accumulators > high))[0])
    bounds = tuple(int(np.broadcast_to(edge, accumulators.shape)[index]) for edge in (low, high))
    return ValueError(
        f"{requant.method}: accumulator {int(accumulators[index])} at index {list(index)} is outside "
        f"{bounds[0]} .. {bounds[1]}"
    )


def _dtype(qmin: int, qmax: int) -> np.dtype[Any]:
    if qmin >= 0:
        return container(max(qmax.bit_length(), 1))
    bits = container(max(qmax.bit_length(), (-qmin - 1).bit_length()) + 1).itemsize * 8
    return np.dtype(f"int{bits}")


def _check_constants(rule: Rule, multiplier: int, shift: int) -> None:
    if not rule.multipliers[0] <= multiplier <= rule.multipliers[1]:
        raise ValueError(
            f"{rule.name}: multiplier {multiplier} is outside {rule.multipliers[0]} .. {rule.multipliers[1]}"
        )
    if not rule.shifts[0] <= shift <= rule.shifts[1]:
        raise ValueError(f"{rule.name}: shift {shift} is outside {rule.shifts[0]} .. {rule.shifts[1]}")


def _bounds(rule: Rule, shift: int) -> tuple[int, int]:
    """Return the smallest and largest accumulator."""
    low, high = rule.accumulators
    left = max(shift, 0) if rule.left_first else 0
    return -(-low >> left), high >> left


def _reduced(multiplier: int) -> int:
    """Round a multiplier of 31 bits to 15, as TFLite does for int64 accumulators."""
    return 0x7FFF if multiplier >= 0x7FFF0000 else (multiplier + (1 << 15)) >> 16


def _divide_by_power(value: int, exponent: int) -> int:
    """Divide by 2**exponent and round, ties away from zero (gemmlowp RoundingDivideByPOT)."""
    half = (1 << exponent) >> 1
    magnitude = (abs(value) + half) >> exponent
    return -magnitude if value < 0 else magnitude
