"""Shared microexponents: blocks with an exponent whose sub-blocks are shifted right by a few bits of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.families.block import BlockSpec, kernel_element
from hwsim.formats.format import Format, Part, Parts, first_not_finite
from hwsim.formats.rounding import MODES, Rounding
from hwsim.formats.spec import FloatSpec
from hwsim.formats.values import element_values

_ALLOWED = {
    "scale_rule": ("floor",),
    "shift_rule": ("exponent",),
    "rounding": MODES,
    "overflow": ("saturate",),
    "zero_block": ("code_00",),
    "nan_policy": ("error",),
    "nibble_order": ("low_first", "high_first"),
}


@dataclass(frozen=True, kw_only=True)
class MicroExponentSpec(Format):
    """Describe a block format with two levels of powers of two (shared microexponents; not OCP MX).

    A value is ``element * 2**(exponent_code - 127 - shift)``: the exponent is that of the block, the shift that of the
    sub-block. Parts, all uint8: ``codes`` [..., k], ``scales`` [..., k / block_size] (exponent codes), ``shifts``
    [..., k / sub_block].

    Parameters
    ----------
    element : FloatSpec
        Sign and magnitude with one integer bit: worth ``(-1)**s * m / 2**(magnitude_bits - 1)``, as a float E1 of
        bias 1.
    scale : FloatSpec
        Exponents of 8 bits, bias 127 (E8M0).
    block_size, sub_block : int
        Elements that share an exponent, and those that share a shift.
    shift_bits : int
        Width of a shift, 1 to 3.
    scale_rule : {"floor"}
        The exponent of a block is ``floor(log2(amax))``, read off the bits of the float; codes below 0 become 0.
    shift_rule : {"exponent"}
        A sub-block is shifted by the distance of its own largest magnitude's exponent from that of the block (a
        sub-block of zeros in a block that is not: as far as goes), at most ``2**shift_bits - 1``. With one bit: by 1
        when its largest magnitude fits one exponent lower.
    rounding, seed : str, int
        Of the elements, see `hwsim.formats.rounding`; the seed is that of ``stochastic``.
    overflow : {"saturate"}
        What rounds beyond the largest magnitude becomes the largest; exponents and shifts stay as found.
    zero_block : {"code_00"}
        A block of zeros has exponent code 0 and shifts 0.
    nan_policy : {"error"}
        NaN and Inf in the input raise. Exponent code FF, which no encoder emits, decodes to NaN.
    nibble_order : {"low_first", "high_first"}
        Order in which two 4-bit codes lie in a byte.
    activation : str, optional
        Name of the format in which the matching unit takes its activations; None while no unit takes the format.

    Raises
    ------
    ValueError
        When the fields do not go together; the message names the format.

    Exactness
    ---------
    Each element is the correctly rounded exact quotient, but that ``stochastic`` compares with the quotient rounded to
    float64 (which is exact within 53 bits). The sign of a zero or of an underflow is kept. Decoded values are exact in
    float32.
    """

    element: FloatSpec
    scale: FloatSpec
    block_size: int = 16
    sub_block: int = 2
    shift_bits: int = 1
    scale_rule: Literal["floor"] = "floor"
    shift_rule: Literal["exponent"] = "exponent"
    rounding: Rounding = "rne"
    seed: int = 0
    overflow: Literal["saturate"] = "saturate"
    zero_block: Literal["code_00"] = "code_00"
    nan_policy: Literal["error"] = "error"
    nibble_order: Literal["low_first", "high_first"] = "low_first"
    activation: str | None = None

    checks_finite = True

    def __post_init__(self) -> None:
        element, scale = self.element, self.scale
        magnitudes = element.signed and element.subnormals and element.special == "none"
        e8m0 = (scale.exp_bits, scale.man_bits, scale.bias, scale.signed, scale.special)
        objections = [
            (
                not magnitudes or (element.exp_bits, element.bias) != (1, 1) or element.bits > 8,
                f"elements are sign and magnitude with one integer bit, of 8 bits at most, not {element.name}",
            ),
            (
                e8m0 != (8, 0, 127, False, "all_ones") or scale.subnormals,
                f"exponents are E8M0 of bias 127, not {scale.name}",
            ),
            (
                self.sub_block < 1 or self.block_size < 1 or self.block_size % self.sub_block != 0,
                f"sub_block must divide block_size, both at least 1, not {self.sub_block} and {self.block_size}",
            ),
            (not 1 <= self.shift_bits <= 3, f"shift_bits must be 1 to 3, not {self.shift_bits}"),
            *(
                (getattr(self, field) not in allowed, f"{field} must be one of {allowed}, not {getattr(self, field)!r}")
                for field, allowed in _ALLOWED.items()
            ),
        ]
        for condition, words in objections:
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last block."""
        return -k % self.block_size

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return codes, exponent codes and shifts of a tensor of that shape."""
        k = shape[-1]
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the blocks is empty")
        if self.padding(k):
            raise ValueError(
                f"format {self.name}: block of {self.block_size} does not divide the axis of {k}; pad it to "
                f"{k + self.padding(k)} and record the padding"
            )
        return (
            Part.code("codes", shape, self.element.bits),
            Part.code("scales", (*shape[:-1], k // self.block_size), self.scale.bits),
            Part.code("shifts", (*shape[:-1], k // self.sub_block), self.shift_bits),
        )

    @property
    def max_value(self) -> float:
        """Largest magnitude of an element, exponent and shift left out."""
        return self.element.max_value

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring elements, exponent and shift left out."""
        return self.element.min_step

    def code_points(self) -> NDArray[np.float64] | None:
        """Return the value of every element code."""
        return element_values(self.element)

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes, exponent codes and shifts."""
        from hwsim.formats.families import _block_kernels, _microexponent_kernels

        bare = BlockSpec(
            name=self.name, source=self.source, element=self.element, rounding=self.rounding, seed=self.seed
        )
        bad = np.zeros(x.shape[0], np.uint8)
        _microexponent_kernels.encode_micro(
            x,
            self.block_size,
            self.sub_block,
            (1 << self.shift_bits) - 1,
            kernel_element(bare, _block_kernels),
            out["codes"],
            out["scales"],
            out["shifts"],
            bad,
        )
        if bad.any():
            raise first_not_finite(x, int(np.argmax(bad)))

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k], exactly."""
        from hwsim.formats.families import _microexponent_kernels as kernels

        kernels.decode_micro(
            parts["codes"], parts["scales"], parts["shifts"], self.block_size, self.sub_block, self.element.bits, out
        )
