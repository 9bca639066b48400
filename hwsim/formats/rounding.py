"""Rounding modes of encoders: names, and what each means on an exact quotient. The kernels hold their compiled twin."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, get_args

Rounding = Literal["rne", "rtz", "rup", "rdn", "raz", "rna", "rnz", "rod", "stochastic"]
"""Nearest, ties to even; toward zero; up; down; away from zero; nearest, ties away from zero; nearest, ties toward
zero; to odd (inexact results get an odd code); stochastic (away from zero with the probability of the part cut off)."""

MODES: tuple[str, ...] = get_args(Rounding)
"""All modes; a kernel knows each by its index here."""

Overflow = Literal["saturate", "nonsaturating"]
"""What lies beyond the largest finite value after rounding becomes it (Inf too), or else Inf, or NaN without Inf.

of negative ones, and `rod`) bring what is finite back to the largest value, also without saturation, as IEEE 754 does.
"""

_MASK = (1 << 64) - 1


def random_bits(seed: int, index: int) -> int:
    """Return the 32 random bits of element `index` (in row-major order, block axis last) under a seed.

    A counter-based generator: the bits depend on seed and index alone, so neither order nor threads matter. With f the
    finaliser of SplitMix64 and g its increment, they are the upper half of ``f(g * (f(g * (seed + 1)) + index))``
    (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
    """
    state = (_mix(((seed + 1) * 0x9E3779B97F4A7C15) & _MASK) + index) & _MASK
    return _mix((state * 0x9E3779B97F4A7C15) & _MASK) >> 32


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def round_steps(magnitude: Fraction, negative: bool, mode: str, random: int = 0) -> int:
    """Round a magnitude, counted in steps, to a whole number of steps.

    Parameters
    ----------
    magnitude : Fraction
        Not negative; 1 is the distance between neighbouring codes.
    negative : bool
        Sign of the value, for `rup` and `rdn`.
    mode : str
        One of `MODES`.
    random : int
        32 random bits, for `stochastic`: the result is one more than the floor when ``random < rest * 2**32``.

    Raises
    ------
    ValueError
        On an unknown mode.

    Examples
    --------
    >>> [round_steps(Fraction(5, 2), False, mode) for mode in MODES[:8]]
    [2, 2, 3, 2, 3, 3, 2, 3]
    """
    low = magnitude.numerator // magnitude.denominator
    rest = magnitude - low
    half = Fraction(1, 2)
    up = {
        "rne": rest > half or (rest == half and low % 2 == 1),
        "rtz": False,
        "rup": rest > 0 and not negative,
        "rdn": rest > 0 and negative,
        "raz": rest > 0,
        "rna": rest >= half,
        "rnz": rest > half,
        "rod": rest > 0 and low % 2 == 0,
        "stochastic": random < rest * (1 << 32),
    }
    if mode not in up:
        raise ValueError(f"unknown rounding {mode!r}; known: {', '.join(MODES)}")
    return low + up[mode]
