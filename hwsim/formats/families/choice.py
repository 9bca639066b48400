"""Two-way choices: every block is quantised in two ways, and keeps the one of the smaller error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.families.block import BlockSpec, kernel_element, kernel_scale
from hwsim.formats.format import Format, Part, Parts
from hwsim.formats.spec import ElementSpec, FloatSpec, IntSpec, significant_bits
from hwsim.formats.values import element_values

_ALLOWED = {
    "criterion": ("mse", "mae", "max_abs"),
    "selection": ("first_unless_less",),
    "selector": ("none", "scale_sign"),
}


@dataclass(frozen=True, kw_only=True)
class ChoiceSpec(Format):
    """Describe a block format under a second-level scale whose blocks choose between two ways (four-over-six, IF4).

    The first way is that of `base`. The second replaces its element and what amax is divided by:
    ``scale = amax / (other_level * other_factor * outer_scale)``, value ``other * other_factor * scale * outer_scale``.

    Parameters
    ----------
    base : BlockSpec
        First way: float or integer elements, a float block scale by rule ``amax``, a second-level scale for tensor or
        row (found for the first way, with its `scale_cap` and level, and shared by both).
    other : ElementSpec
        Element of the second way, of the same width.
    other_level : float, optional
        What amax is divided by in the second way, in units of `other`; None takes its largest value.
    other_factor : (int, int)
        Numerator and denominator of what an element of the second way is worth in its own units, such as 6/7.
    criterion : {"mse", "mae", "max_abs"}
        Error of a block: sum of squares, sum of magnitudes, or largest magnitude.
    selection : {"first_unless_less"}
        The second way is taken where its error is strictly smaller; of equal errors, the first.
    selector : {"none", "scale_sign"}
        Where the choice is kept: nowhere (both ways decode alike), or in the sign bit of the scale, 1 for the second.

    Raises
    ------
    ValueError
        When the fields do not go together; the message names the format.

    Exactness
    ---------
    Scales and elements of both ways are those of block formats: exact quotients rounded half to even, saturating; a
    block whose scale is 0 holds zeros. The error ``x - value`` of an element, times the denominator of `other_factor`,
    is rounded to float64 (it is exact unless the scale saturates), and so is its square. Errors of a block are summed
    in float64: neighbours in pairs, then neighbouring sums in pairs until one is left; where their number is odd, the
    last is carried on. A choice between errors that differ by their rounding alone is so defined, but need not be that
    of exact errors. Decoding rounds the exact product once to float32.
    """

    base: BlockSpec
    other: ElementSpec
    other_level: float | None = None
    other_factor: tuple[int, int] = (1, 1)
    criterion: Literal["mse", "mae", "max_abs"] = "mse"
    selection: Literal["first_unless_less"] = "first_unless_less"
    selector: Literal["none", "scale_sign"] = "none"

    checks_finite = True

    def __post_init__(self) -> None:
        for condition, words in _objections(self):
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    @property
    def levels(self) -> tuple[Fraction, Fraction]:
        """What amax is divided by in either way, exactly."""
        other = self.other.max_value if self.other_level is None else self.other_level
        return Fraction(self.base.scale_level), Fraction(other) * Fraction(*self.other_factor)

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last block."""
        return self.base.padding(k)

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return codes, scales and second-level scales of a tensor of that shape.

        Raises
        ------
        ValueError
            When the block does not divide the axis.
        """
        try:
            return self.base.layout(shape)
        except ValueError as error:
            raise ValueError(f"format {self.name}: {str(error).partition(': ')[2]}") from None

    @property
    def max_value(self) -> float:
        """Largest magnitude of an element of either way, scales left out."""
        return max(self.base.max_value, self.other.max_value * self.other_factor[0] / self.other_factor[1])

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring elements of either way, scales left out."""
        return min(self.base.min_step, self.other.min_step * self.other_factor[0] / self.other_factor[1])

    def code_points(self) -> NDArray[np.float64] | None:
        """Return the value of every element code, None where it depends on the choice."""
        return self.base.code_points() if self.selector == "none" else None

    def second_way(self, scales: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return which blocks took the second way, from their scale codes.

        Raises
        ------
        ValueError
            When the format does not keep the choice.
        """
        if self.selector == "none":
            raise ValueError(f"format {self.name}: the choice is not kept (selector 'none')")
        return scales >= self._mark

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes, scales and second-level scales."""
        from hwsim.formats.families import _block_kernels as blocks
        from hwsim.formats.families import _choice_kernels as kernels

        outer = self.base.store_outer(x, out)  # finds NaN and Inf
        kernels.encode_choice(
            x,
            self.base.tile(x.shape[1])[1],
            kernel_element(self.base, blocks),
            kernel_element(_bare(self), blocks),
            tuple(map(float, self.other_factor)),
            kernel_scale(self.base, blocks),
            tuple(map(float, self.levels)),
            self._mark,
            kernels.CRITERIA.index(self.criterion),
            outer,
            out["codes"],
            out["scales"],
        )

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k]: the product of element and scales is exact, then rounded once."""
        if self.selector == "none":
            self.base.decode_rows(parts, out)
            return
        from hwsim.formats.families import _choice_kernels as kernels

        kernels.decode_marked(
            parts["codes"],
            np.array([element_values(self.base.element), element_values(self.other)]),
            tuple(map(float, self.other_factor)),
            self.base.scale_values(np.arange(self._mark, dtype=np.uint8)),
            parts["scales"],
            self._mark,
            self.base.tile(out.shape[1])[1],
            self.base.outer_values(parts),
            out,
        )

    @property
    def _mark(self) -> int:
        """What the second way adds to a scale code."""
        assert self.base.scale is not None
        return 0 if self.selector == "none" else 1 << (self.base.scale.bits - 1)


def _bare(spec: ChoiceSpec) -> BlockSpec:
    """Return the format of the bare element of the second way."""
    return BlockSpec(name=spec.name, source=spec.source, element=spec.other)


def _serves(element: ElementSpec) -> bool:
    """Tell whether the kernels quantise to an element: magnitudes alike on both sides, with a zero."""
    if isinstance(element, FloatSpec):
        return element.signed and element.subnormals and 1 <= element.man_bits <= 6 and abs(element.bias) <= 32
    return isinstance(element, IntSpec) and element.signed and element.narrow


def _objections(spec: ChoiceSpec) -> list[tuple[bool, str]]:
    """Return (is it so, what to say) for everything that can be wrong with a choice."""
    base, scale, factor = spec.base, spec.base.scale, spec.other_factor
    plain = replace(base, name="", source="", witnesses=(), generator="", activation=None)
    rules = {
        field: getattr(plain, field)
        for field in ("rounding", "overflow", "quotient", "zero_block", "nan_policy", "zero_point")
    }
    wanted = {
        "rounding": "rne", "overflow": "saturate", "quotient": "exact", "zero_block": "code_00", "nan_policy": "error",
        "zero_point": "none",
    }  # fmt: skip
    proper = len(factor) == 2 and all(type(n) is int and 1 <= n <= 64 for n in factor)
    other = spec.other.max_value if spec.other_level is None else spec.other_level
    level = Fraction(other) * Fraction(*factor) if proper else Fraction(1)
    float_scale = isinstance(scale, FloatSpec) and scale.bits <= 8
    second = base.tensor_scale != "none" or base.row_scale != "none"
    alike = spec.other == base.element and factor == (1, 1)
    step = scale.man_bits + 1 if isinstance(scale, FloatSpec) else 0
    step += 11 if base.row_scale == "float16" else 24
    step += sum(significant_bits(n) for n in factor) if proper else 0
    return [
        (not float_scale or base.scale_rule != "amax", "base needs a float scale of 8 bits at most, by rule 'amax'"),
        (not second, "base needs a second-level scale (tensor_scale or row_scale)"),
        (isinstance(base.block_size, tuple), "base needs blocks along the last axis, not tiles"),
        (rules != wanted, f"base must have the rules {wanted}"),
        (
            not _serves(base.element) or not _serves(spec.other),
            "elements are signed floats with subnormals and 1 to 6 mantissa bits, or narrow signed integers",
        ),
        (base.element.bits != spec.other.bits, "elements of both ways must have one width"),
        (not proper, f"other_factor is a pair of integers from 1 to 64, not {factor}"),
        (
            level <= 0 or significant_bits(float(level)) > 12 or Fraction(float(level)) != level,
            f"other_level times other_factor must be a positive number of 12 bits at most, not {level}",
        ),
        (spec.selector == "none" and not alike, "ways that decode differently need selector 'scale_sign'"),
        (
            spec.selector == "scale_sign" and not (isinstance(scale, FloatSpec) and scale.signed),
            "selector 'scale_sign' needs a scale with a sign bit",
        ),
        *(
            (getattr(spec, field) not in allowed, f"{field} must be one of {allowed}, not {getattr(spec, field)!r}")
            for field, allowed in _ALLOWED.items()
        ),
        (step > 36, f"a step of {step} bits would leave no room to round quotients exactly (allowed: 36)"),
    ]
