"""`hadamard`: a streaming fast Walsh-Hadamard transform on integers or FP16, with optional random signs before it.

``y[k] = sum over i of (-1)**popcount(i & k) * s[i] * x[i]`` in natural (Sylvester) order; ``s`` is all ones, or +-1
drawn from a seed. The butterflies ``(a, b) -> (a + b, a - b)`` of strides 1, 2, 4, ... up to half the points follow
each other in this order, which matters in FP16: every sum and difference is rounded there, half to even, subnormals
kept, overflow to Inf, every NaN the canonical one. Integers grow by a bit a stage and are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.rounding import random_bits, round_steps
from hwsim.pe._stream import Fields, StreamSpec, to_pattern, to_signed

NAME = "hadamard"
FP16_NAN = 0x7E00
"""The one NaN that the unit emits."""
_FP16_INF, _FP16_SIGN = 0x7C00, 0x8000


@dataclass(frozen=True, kw_only=True)
class Params:
    """Configure a `hadamard`.

    Parameters
    ----------
    points : int
        Length of a vector: 16, 32, 64 or 128.
    lanes : int
        Values a beat, a power of two up to `points`. With ``lanes == points`` a vector enters and leaves each cycle;
        with fewer, in ``points / lanes`` cycles.
    arithmetic : {"int", "fp16"}
        Two's complement integers of `in_bits`, or IEEE binary16.
    in_bits : int
        Width of an integer, 2 to 24; 16 for FP16.
    signs_seed : int or None
        None: no signs. Else value i is negated first where the top bit of the library's counter-based generator
        (`hwsim.formats.rounding.random_bits`) of this seed and index i is set.
    shift : int
        0 to 31: the result is multiplied by ``2**-shift`` and rounded.
    rounding : {"rne", "rdn"}
        Of an integer's shift: half to even, or down. FP16 always rounds half to even.
    norm : {"none", "rsqrt"}
        ``rsqrt``: FP16 results are multiplied by FP16(1 / sqrt(points)), one rounding; without a shift.

    Raises
    ------
    ValueError
        When a field or a combination is not one of these.

    Hardware
    --------
    One register after each stage. Strides below `lanes` act within a beat; a wider one collects as many beats as two
    strides hold, computes in place, and sends them on without a gap. Latency from the last beat to the first result:
    ``log2(lanes) + points / lanes - 1`` cycles, and one more for a shift or a factor.
    """

    points: int = 16
    lanes: int = 16
    arithmetic: Literal["int", "fp16"] = "int"
    in_bits: int = 8
    signs_seed: int | None = None
    shift: int = 0
    rounding: Literal["rne", "rdn"] = "rne"
    norm: Literal["none", "rsqrt"] = "none"

    def __post_init__(self) -> None:
        if self.points not in (16, 32, 64, 128):
            raise ValueError(f"{NAME}: points must be 16, 32, 64 or 128, not {self.points!r}")
        if self.lanes not in [1 << i for i in range(self.points.bit_length())]:
            raise ValueError(f"{NAME}: lanes must be a power of two up to points = {self.points}, not {self.lanes!r}")
        if self.arithmetic not in ("int", "fp16"):
            raise ValueError(f"{NAME}: arithmetic must be int or fp16, not {self.arithmetic!r}")
        floats = self.arithmetic == "fp16"
        if self.in_bits not in ([16] if floats else range(2, 25)):
            raise ValueError(f"{NAME}: in_bits must be {'16' if floats else '2 to 24'}, not {self.in_bits!r}")
        if self.signs_seed is not None and not (isinstance(self.signs_seed, int) and 0 <= self.signs_seed < 1 << 63):
            raise ValueError(f"{NAME}: signs_seed must be None or 0 to 2**63 - 1, not {self.signs_seed!r}")
        if self.shift not in range(32):
            raise ValueError(f"{NAME}: shift must be 0 to 31, not {self.shift!r}")
        if self.rounding not in ("rne",) if floats else self.rounding not in ("rne", "rdn"):
            raise ValueError(f"{NAME}: rounding must be {'rne' if floats else 'rne or rdn'}, not {self.rounding!r}")
        if self.norm not in (("none", "rsqrt") if floats else ("none",)):
            raise ValueError(f"{NAME}: norm must be none{' or rsqrt' if floats else ''}, not {self.norm!r}")
        if self.norm != "none" and self.shift:
            raise ValueError(f"{NAME}: norm {self.norm!r} and a shift of {self.shift} exclude each other")

    @property
    def stages(self) -> int:
        """Number of butterfly stages."""
        return self.points.bit_length() - 1

    @property
    def scaled(self) -> bool:
        """Whether a last stage shifts or multiplies."""
        return self.shift > 0 or self.norm != "none"

    @cached_property
    def signs(self) -> tuple[int, ...]:
        """What each value is multiplied by first: 1 or -1."""
        if self.signs_seed is None:
            return (1,) * self.points
        return tuple(-1 if random_bits(self.signs_seed, i) >> 31 else 1 for i in range(self.points))

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest result of integers, shifted and rounded."""
        low, high = -(1 << (self.in_bits - 1)), (1 << (self.in_bits - 1)) - 1
        lows, highs = [], []
        for k in range(self.points):
            plus = sum(_sylvester(i, k) * sign > 0 for i, sign in enumerate(self.signs))
            minus = self.points - plus
            lows.append(plus * low - minus * high)
            highs.append(plus * high - minus * low)
        return _shifted(min(lows), self), _shifted(max(highs), self)

    @cached_property
    def out_bits(self) -> int:
        """Width of a result: ``in_bits + log2(points) - shift`` where nothing can exceed it, else a bit more."""
        if self.arithmetic == "fp16":
            return 16
        low, high = self.bounds
        return max(high.bit_length(), (~low).bit_length()) + 1

    @property
    def factor(self) -> np.float64:
        """By what FP16 results are multiplied: a value of FP16, or a power of two; 1 for nothing."""
        if self.norm == "rsqrt":
            return np.float64(np.float16(1.0 / np.sqrt(float(self.points))))
        return np.float64(2.0**-self.shift)

    @cached_property
    def datapath(self) -> StreamSpec:
        """The streams of the unit."""
        beats = self.points // self.lanes
        return StreamSpec(
            lanes=self.lanes,
            beats=beats,
            results=beats,
            latency=self.lanes.bit_length() - 1 + beats - 1 + int(self.scaled),
            inputs=(("x", self.in_bits, self.lanes),),
            outputs=(("y", self.out_bits, self.lanes),),
        )


def _sylvester(i: int, k: int) -> int:
    return -1 if (i & k).bit_count() % 2 else 1


def _shifted(value: int, params: Params) -> int:
    """Return an integer result after its shift."""
    if params.rounding == "rdn":
        return value >> params.shift
    magnitude = round_steps(Fraction(abs(value), 1 << params.shift), value < 0, "rne")
    return -magnitude if value < 0 else magnitude


def reference(beats: Mapping[str, NDArray[np.integer]], params: Params) -> Fields:
    """Return the results of one vector in plain Python integers and fractions (slow, obviously right)."""
    codes = [int(code) for code in np.asarray(beats["x"]).reshape(-1)]
    y: list[Any]
    if params.arithmetic == "int":
        y = [sign * int(x) for sign, x in zip(params.signs, to_signed(np.array(codes), params.in_bits), strict=True)]
    else:
        y = [code ^ (_FP16_SIGN if sign < 0 else 0) for sign, code in zip(params.signs, codes, strict=True)]
    stride = 1
    while stride < params.points:
        for i in range(params.points):
            if i & stride == 0:
                a, b = y[i], y[i + stride]
                if params.arithmetic == "int":
                    y[i], y[i + stride] = a + b, a - b
                else:
                    y[i], y[i + stride] = add_fp16(a, b), add_fp16(a, b ^ _FP16_SIGN)
        stride *= 2
    if params.arithmetic == "int":
        done = [_shifted(value, params) & ((1 << params.out_bits) - 1) for value in y]
    else:
        done = [_multiply_fp16(code, Fraction(float(params.factor))) if params.scaled else code for code in y]
    return {"y": np.array(done, np.int64).reshape(-1, params.lanes)}


def _fp16_value(code: int) -> Fraction:
    field, mantissa = code >> 10 & 31, code & 0x3FF
    value = Fraction(mantissa + (1024 if field else 0)) * Fraction(2) ** (max(field, 1) - 25)
    return -value if code & _FP16_SIGN else value


def _round_fp16(value: Fraction, sign: int) -> int:
    """Round to FP16 code bits; `sign` is that of a zero."""
    if value == 0:
        return sign
    sign, magnitude = (_FP16_SIGN if value < 0 else 0), abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    quantum = max(exponent - 10, -24)
    steps = round_steps(magnitude / Fraction(2) ** quantum, False, "rne")
    return sign | min(((quantum + 24) << 10) + steps, _FP16_INF)


def add_fp16(a: int, b: int) -> int:
    """Return the code bits of RNE(a + b) by IEEE 754, every NaN made `FP16_NAN`.

    Examples
    --------
    >>> hex(add_fp16(0x3C00, 0x3C00)), hex(add_fp16(0x7BFF, 0x7BFF)), hex(add_fp16(0x7C00, 0xFC00))
    ('0x4000', '0x7c00', '0x7e00')
    """
    tops = [a & 0x7FFF, b & 0x7FFF]
    if max(tops) > _FP16_INF or (min(tops) == _FP16_INF and a != b):
        return FP16_NAN
    if max(tops) == _FP16_INF:
        return a if tops[0] == _FP16_INF else b
    return _round_fp16(_fp16_value(a) + _fp16_value(b), a & b & _FP16_SIGN)


def _multiply_fp16(code: int, factor: Fraction) -> int:
    """Return the code bits of RNE(code * factor) for a positive factor."""
    if code & 0x7FFF > _FP16_INF:
        return FP16_NAN
    if code & 0x7FFF == _FP16_INF:
        return code
    return _round_fp16(_fp16_value(code) * factor, code & _FP16_SIGN)


def transform(x: NDArray[Any], params: Params) -> NDArray[Any]:
    """Transform vectors.

    Parameters
    ----------
    x : integers or float16 [rows, points]
        Integers within `in_bits`, or FP16 of any value.

    Returns
    -------
    int64 or float16 [rows, points]

    Raises
    ------
    TypeError, ValueError
        When the dtype is another, the shape is not [rows, points], or an integer does not fit.

    Exactness
    ---------
    The bits of `reference`.
    """
    from hwsim.pe import _hadamard_kernels as kernels

    floats = params.arithmetic == "fp16"
    if x.dtype != np.float16 if floats else x.dtype.kind not in "iu":
        raise TypeError(f"{NAME}: {params.arithmetic} takes {'float16' if floats else 'integers'}, not {x.dtype}")
    if x.ndim != 2 or x.shape[1] != params.points:
        raise ValueError(f"{NAME}: vectors must be [rows, {params.points}], not {list(x.shape)}")
    signs = np.array(params.signs)
    if floats:
        values = np.where(signs < 0, -x, x).astype(np.float64)
        kernels.transform_fp16(values, float(params.factor) if params.scaled else 0.0)
        return values.astype(np.float16)
    half = 1 << (params.in_bits - 1)
    if x.size and not (-half <= int(x.min()) and int(x.max()) < half):
        raise ValueError(f"{NAME}: integers {x.min()} .. {x.max()} do not fit {params.in_bits} bits")
    sums = x.astype(np.int64) * signs
    kernels.transform_int(sums)
    if params.shift:
        quotient = sums >> params.shift
        twice = (sums - (quotient << params.shift)) << 1
        tie = 1 << params.shift
        up = (twice > tie) | ((twice == tie) & (quotient & 1 == 1))
        sums = quotient + (up if params.rounding == "rne" else 0)
    return sums


def outputs(beats: Mapping[str, NDArray[np.integer]], params: Params) -> Fields:
    """Return the results of vectors, ``y`` [results, lanes], bit patterns; each has the bits of `reference`."""
    codes = np.asarray(beats["x"]).reshape(-1, params.points)
    if params.arithmetic == "int":
        done = to_pattern(transform(to_signed(codes, params.in_bits), params), params.out_bits)
    else:
        values = transform(codes.astype(np.uint16).view(np.float16), params)
        done = np.where(np.isnan(values), FP16_NAN, values.view(np.uint16)).astype(np.int64)
    return {"y": done.reshape(-1, params.lanes)}


def beats(x: NDArray[Any], params: Params) -> Fields:
    """Return the beats of vectors [rows, points], integers or float16."""
    codes = x.view(np.uint16) if params.arithmetic == "fp16" else to_pattern(x, params.in_bits)
    return {"x": codes.reshape(-1, params.lanes), "last": params.datapath.last(len(x))}


def operands(params: Params, rows: int, rng: np.random.Generator) -> Fields:
    """Draw vectors for checking hardware: random ones and corners (extremes, single values, rows of the matrix)."""
    shape = (rows, params.points)
    kind = rng.integers(6, size=(rows, 1))
    index = np.arange(params.points)
    row = np.array([[_sylvester(i, k) * s for i, s in enumerate(params.signs)] for k in range(params.points)])
    picked = row[rng.integers(params.points, size=rows)]
    if params.arithmetic == "int":
        half = 1 << (params.in_bits - 1)
        x = rng.integers(-half, half, shape)
        x = np.where(kind == 1, np.where(picked > 0, half - 1, -half), x)
        x = np.where(kind == 2, np.where(picked < 0, half - 1, -half), x)
        x = np.where(kind == 3, np.where(index == rng.integers(params.points, size=(rows, 1)), x, 0), x)
        return beats(x, params)
    codes = rng.integers(1 << 16, size=shape)
    finite = np.where(codes & _FP16_INF == _FP16_INF, codes & ~0x4000, codes)
    near = (rng.standard_normal(shape) * np.exp2(rng.integers(-14, 10, (rows, 1)))).astype(np.float16).view(np.uint16)
    x = np.where(kind == 0, finite, near)
    x = np.where(kind == 1, 0x7BFF | np.where(picked > 0, 0, _FP16_SIGN), x)
    x = np.where(kind == 2, codes & 0x83FF, x)  # subnormals and zeros
    x = np.where((kind == 3) & (rng.random(shape) < 0.9), codes & _FP16_SIGN, x)
    special = rng.choice([_FP16_INF, _FP16_INF | _FP16_SIGN, FP16_NAN, 0x7C01, 0xFFFF], shape)
    x = np.where((kind == 4) & (rng.random(shape) < 1 / params.points), special, x)
    return beats(x.astype(np.uint16).view(np.float16), params)


def configurations() -> dict[str, Params]:
    """Return Params by name, as they are listed and checked."""
    return {
        "int8_16": Params(),
        "int8_32x8": Params(points=32, lanes=8, signs_seed=1, shift=2),
        "int8_128x16": Params(points=128, lanes=16, shift=4, rounding="rdn"),
        "fp16_16": Params(arithmetic="fp16", in_bits=16, signs_seed=1, norm="rsqrt"),
        "fp16_32x4": Params(points=32, lanes=4, arithmetic="fp16", in_bits=16, norm="rsqrt"),
        "fp16_64x2": Params(points=64, lanes=2, arithmetic="fp16", in_bits=16, shift=3),
    }


def cycles(rows: int, params: Params) -> int:
    """Return the cycles of one unit for that many vectors back to back, without stalls."""
    return params.datapath.cycles(rows)


def actions(rows: int, params: Params) -> dict[str, int]:
    """Return counts of the events of that many vectors; the names are explained in `hwsim.cost`."""
    adds = rows * params.points * params.stages
    if params.arithmetic == "int":
        return {"add_int32": adds}
    return {"add_float16": adds, "mul_float16": rows * params.points * int(params.norm == "rsqrt")}
