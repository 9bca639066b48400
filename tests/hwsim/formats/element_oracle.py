"""Elements in exact arithmetic, written from the definitions: it reads only the fields of a spec.

`value` and `encode` are plain and use rationals; `cast` does the same on arrays. Arrays are exact too: levels have at
most 24 significant bits, so levels, their middles and the distances of float32 inputs to them are float64 numbers.
"""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction
from functools import cache

import numpy as np

from hwsim.formats import ElementSpec, FloatSpec, IntSpec

MODES = ("rne", "rtz", "rup", "rdn", "raz", "rna", "rnz", "rod", "stochastic")
NAN, INFINITY = "nan", "inf"


def power(exponent: int) -> Fraction:
    """Return 2**exponent."""
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def top_code(spec: FloatSpec) -> int:
    """Return the magnitude code of the largest finite value."""
    count = 1 << (spec.exp_bits + spec.man_bits)
    not_finite = {
        "none": 0,
        "ieee": 1 << spec.man_bits,
        "fn": 1,
        "all_ones": 1,
        "fnuz": 0 if spec.signed else 1,
        "extended": 1 if spec.signed else 2,
    }
    return count - 1 - not_finite[spec.special]


def nan_code(spec: FloatSpec, negative: bool) -> int:
    """Return the code that NaN gets: the sign is kept where there are NaNs of both signs."""
    fields = spec.exp_bits + spec.man_bits
    if spec.special in ("fnuz", "extended"):
        return 1 << fields if spec.signed else (1 << fields) - 1
    sign = 1 << fields if negative and spec.signed else 0
    if spec.special == "ieee":
        quiet = 1 << (spec.man_bits - 1) if spec.man_bits > 1 else 1
        return sign | ((1 << spec.exp_bits) - 1) << spec.man_bits | quiet
    assert spec.special in ("fn", "all_ones")
    return sign | (1 << fields) - 1


def overflow_code(spec: FloatSpec, negative: bool) -> int:
    """Return the code of what overflows and is not saturated."""
    if spec.special not in ("ieee", "extended"):
        return nan_code(spec, negative)
    return top_code(spec) + 1 | (1 << (spec.bits - 1) if negative and spec.signed else 0)


def keeps_negative_zero(spec: FloatSpec) -> bool:
    """Return whether -0 has a code."""
    return spec.signed and spec.special not in ("fnuz", "extended")


def magnitude(spec: FloatSpec, code: int) -> Fraction:
    """Return what a magnitude code is worth when all codes are finite, and the exponent has no end."""
    exponent, mantissa = code >> spec.man_bits, Fraction(code % (1 << spec.man_bits), 1 << spec.man_bits)
    if exponent == 0 and spec.subnormals:
        return mantissa * power(1 - spec.bias)
    if code == 0 and spec.has_zero:
        return Fraction(0)
    return (1 + mantissa) * power(exponent - spec.bias)


def value(spec: ElementSpec, code: int) -> Fraction | str:
    """Return what a code is worth: a rational, `NAN`, or `INFINITY` (without its sign)."""
    if isinstance(spec, IntSpec):
        negative = spec.signed and code >= 1 << (spec.bits - 1)
        return Fraction(code - (1 << spec.bits) if negative else code) * power(-spec.frac_bits)
    assert isinstance(spec, FloatSpec)
    fields = spec.exp_bits + spec.man_bits
    negative, low = bool(code >> fields), code % (1 << fields)
    if negative and low == 0 and not keeps_negative_zero(spec):
        return NAN
    if low > top_code(spec):
        return INFINITY if overflow_code(spec, False) == low and nan_code(spec, False) != low else NAN
    return -magnitude(spec, low) if negative else magnitude(spec, low)


@cache
def ladder(spec: FloatSpec) -> tuple[Fraction, ...]:
    """Return the magnitudes of all finite codes in order, and one more."""
    return tuple(magnitude(spec, code) for code in range(top_code(spec) + 2))


def takes_upper(mode: str, rest: Fraction, lower_is_even: bool, negative: bool, random: int) -> bool:
    """Return whether a magnitude at `rest` (0 to 1) of the way to its upper neighbour is rounded to that."""
    if mode == "stochastic":
        return random < rest * power(32)
    if rest == 0 or mode == "rtz":
        return False
    if mode in ("rup", "rdn"):
        return negative == (mode == "rdn")
    if mode == "raz":
        return True
    if mode == "rod":
        return lower_is_even
    if rest == Fraction(1, 2):
        return {"rne": not lower_is_even, "rna": True, "rnz": False}[mode]
    return rest > Fraction(1, 2)


def overflow_to_top(mode: str, negative: bool) -> bool:
    """Return whether a mode rounds what is finite and lies beyond the largest value to the largest value."""
    return mode in ("rtz", "rod", "rdn" if not negative else "rup")


def encode(spec: FloatSpec, x: float, mode: str = "rne", saturate: bool = True, random: int = 0) -> int:
    """Return the code of a float by the definitions."""
    negative = bool(np.signbit(x))
    if np.isnan(x):
        return nan_code(spec, negative)
    sign = 1 << (spec.bits - 1) if negative and spec.signed else 0
    top, levels = top_code(spec), ladder(spec)
    if np.isinf(x):
        return top | sign if saturate else overflow_code(spec, negative)
    exact = abs(Fraction(x))
    code = bisect_right(levels, exact) - 1
    if 0 <= code <= top:
        rest = (exact - levels[code]) / (levels[code + 1] - levels[code])
        code += takes_upper(mode, rest, code % 2 == 0, negative, random)
    if code > top:
        if not saturate and not overflow_to_top(mode, negative):
            return overflow_code(spec, negative)
        code = top
    code = max(code, 0)  # below the smallest value of a format without zero
    return code if code == 0 and not keeps_negative_zero(spec) else code | sign


@cache
def levels64(spec: FloatSpec) -> np.ndarray:
    """Return `ladder` as float64, computed by array."""
    codes = np.arange(top_code(spec) + 2)
    exponent, mantissa = codes >> spec.man_bits, codes % (1 << spec.man_bits)
    normal = (exponent > 0) | (not spec.subnormals)
    field = np.where(normal, exponent, 1)
    values = np.ldexp((mantissa + (normal << spec.man_bits)).astype(float), field - spec.bias - spec.man_bits)
    if spec.has_zero:
        values[0] = 0
    return values


class Inputs:
    """Float32 inputs with their places between the levels of an element, found once for all modes."""

    def __init__(self, spec: FloatSpec, x: np.ndarray) -> None:
        self.spec, self.x = spec, x
        levels = levels64(spec)
        with np.errstate(invalid="ignore"):  # signalling NaN
            size = np.abs(x.astype(np.float64))
        self.lower = np.searchsorted(levels, size, side="right") - 1  # NaN and Inf lie at the end
        inside = np.clip(self.lower, 0, levels.size - 2)
        low, high = levels[inside], levels[inside + 1]
        with np.errstate(invalid="ignore"):
            self.rest = np.where((self.lower < 0) | (self.lower > top_code(spec)), 0, (size - low) / (high - low))
        self.negative = np.signbit(x)

    def cast(self, mode: str, saturate: bool, random: np.ndarray | None = None) -> np.ndarray:
        """Return the codes, int64, as `encode` does."""
        spec, rest, even = self.spec, self.rest, self.lower % 2 == 0
        up = {
            "rne": (rest > 0.5) | ((rest == 0.5) & ~even),
            "rtz": rest < 0,
            "rup": (rest > 0) & ~self.negative,
            "rdn": (rest > 0) & self.negative,
            "raz": rest > 0,
            "rna": rest >= 0.5,
            "rnz": rest > 0.5,
            "rod": (rest > 0) & even,
            "stochastic": random < rest * 2.0**32 if random is not None else None,
        }[mode]
        code, top = self.lower + up, top_code(spec)
        over = code > top
        code = np.clip(code, 0, top)
        sign = np.where(self.negative, 1 << (spec.bits - 1), 0) if spec.signed else 0
        code = np.where((code == 0) & (not keeps_negative_zero(spec)), code, code | sign)
        if not saturate:
            to_top = np.where(self.negative, overflow_to_top(mode, True), overflow_to_top(mode, False))
            beyond = [overflow_code(spec, False), overflow_code(spec, True)]
            over &= ~to_top | np.isinf(self.x)
            code = np.where(over, np.where(self.negative, beyond[1], beyond[0]), code)
        if np.isnan(self.x).any():
            nans = [nan_code(spec, False), nan_code(spec, True)]
            code = np.where(np.isnan(self.x), np.where(self.negative, nans[1], nans[0]), code)
        return code


def float32(x: np.ndarray) -> np.ndarray:
    """Return an array as float32, without words about overflow."""
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float64).astype(np.float32)


def borders(spec: FloatSpec, count: int | None = None) -> np.ndarray:
    """Return every level and every middle of two, and the float32 on either side of each; `count` takes a sample."""
    levels = levels64(spec)
    if count is not None and count < levels.size:
        picked = np.random.default_rng(spec.bits).integers(0, levels.size - 1, count)
        picked = np.unique([*picked, 0, 1, levels.size - 2])
    else:
        picked = np.arange(levels.size - 1)
    low, high = levels[picked], levels[picked + 1]
    points = float32(np.concatenate([low, low + (high - low) / 2, high]))
    points = points[np.isfinite(points)]
    with np.errstate(over="ignore"):
        around = [points, np.nextafter(points, np.float32(-np.inf)), np.nextafter(points, np.float32(np.inf))]
    return np.concatenate([*around, *(-x for x in around)])


def anything(count: int, seed: int) -> np.ndarray:
    """Return float32 of every exponent: subnormal, huge, and near one; both zeros and the ends."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 0x7F800000, count).astype(np.uint32).view(np.float32)
    x = np.concatenate(
        [
            wide,
            rng.normal(size=count).astype(np.float32),
            np.ldexp(rng.integers(1, 9, 64).astype(np.float32), -149),
            np.float32([0.0, np.finfo(np.float32).max, np.finfo(np.float32).tiny, 1.0]),
        ]
    ).astype(np.float32)
    return np.concatenate([x, -x])


def all_bfloat16() -> np.ndarray:
    """Return every bfloat16 as float32: NaN, Inf and both zeros among them."""
    return (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)


def allowed(spec: FloatSpec, x: np.ndarray) -> np.ndarray:
    """Return the inputs that a format takes: not negative where unsigned, finite where nothing else has a code."""
    keep = ~(x < 0) if not spec.signed else np.ones(x.size, bool)
    if spec.special == "none":
        keep &= np.isfinite(x)
    return x[keep]
