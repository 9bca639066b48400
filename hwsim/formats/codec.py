"""The one encoder and decoder of block formats: float arrays to codes and scales, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import registry
from hwsim.formats.spec import BlockSpec, ElementSpec, FloatSpec

SCALE_DTYPES = {8: np.uint8, 16: np.uint16, 32: np.uint32}
"""Container of a scale code, by its width in bits."""
_RULES = {"floor": 0, "amax": 1, "range": 2}


@dataclass(frozen=True)
class Encoded:
    """Hold a tensor as codes; blocks lie along its last axis.

    Attributes
    ----------
    format : BlockSpec
        Meaning of the codes.
    codes : uint8 [..., K]
        One element code a byte (integers in two's complement of the element's width).
    scales : uint8, uint16 or uint32 [..., K // block]
        Scale codes (bit patterns of the scale format).
    zeros : uint8 [..., K // block] or None
        Zero points, where the format has them.
    tensor_scale : float32 or None
        Second-level scale; multiplies on decode.
    axis : int
        Axis of the original tensor along which the blocks lie.

    Raises
    ------
    ValueError
        When a shape, dtype or code does not fit the format.
    """

    format: BlockSpec
    codes: NDArray[np.uint8]
    scales: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32]
    zeros: NDArray[np.uint8] | None = None
    tensor_scale: np.float32 | None = None
    axis: int = -1

    def __post_init__(self) -> None:
        name = self.format.name
        if self.codes.dtype != np.uint8 or self.codes.ndim < 1:
            raise ValueError(f"{name}: codes must be uint8 [..., K], not {self.codes.dtype} {self.codes.shape}")
        block = block_size(self.format, self.codes.shape[-1])
        expected = (*self.codes.shape[:-1], self.codes.shape[-1] // block)
        dtype = SCALE_DTYPES[self.format.scale.bits]
        if self.scales.dtype != dtype or self.scales.shape != expected:
            raise ValueError(
                f"{name}: scales must be {np.dtype(dtype)} {expected}, not {self.scales.dtype} {self.scales.shape}"
            )
        if (self.zeros is None) != (self.format.zero_point == "none"):
            raise ValueError(
                f"{name}: zero points {'missing' if self.zeros is None else 'given, but the format has none'}"
            )
        if self.zeros is not None and (self.zeros.dtype != np.uint8 or self.zeros.shape != expected):
            raise ValueError(f"{name}: zeros must be uint8 {expected}, not {self.zeros.dtype} {self.zeros.shape}")
        if (self.tensor_scale is None) != (self.format.tensor_scale == "none"):
            raise ValueError(
                f"{name}: tensor_scale is {self.tensor_scale}, the format says {self.format.tensor_scale!r}"
            )
        for what, values in (("codes", self.codes), ("zeros", self.zeros)):
            limit = (1 << self.format.element.bits) - 1
            if values is not None and values.size and int(values.max()) > limit:
                raise ValueError(f"{name}: {what} hold {int(values.max())}, allowed 0 .. {limit}")

    @property
    def k(self) -> int:
        """Length of the axis that holds the blocks."""
        return self.codes.shape[-1]

    def rows(self, index: NDArray[np.integer] | slice) -> Encoded:
        """Return the chosen rows (first axis) of an encoded matrix.

        Raises
        ------
        ValueError
            When the codes are not a matrix [rows, K].
        """
        if self.codes.ndim != 2:
            raise ValueError(f"{self.format.name}: rows are chosen from a matrix [rows, K], not {self.codes.shape}")
        zeros = self.zeros[index] if self.zeros is not None else None
        return Encoded(self.format, self.codes[index], self.scales[index], zeros, self.tensor_scale)

    @property
    def stored_bits(self) -> int:
        """Bits of codes, scales, zero points and tensor scale."""
        bits = self.codes.size * self.format.element.bits + self.scales.size * self.format.scale.bits
        if self.zeros is not None:
            bits += self.zeros.size * self.format.element.bits
        return bits + (32 if self.tensor_scale is not None else 0)


def block_size(fmt: BlockSpec, k: int) -> int:
    """Return the block length along an axis of `k` elements.

    Raises
    ------
    ValueError
        When the axis is empty or the block does not divide it.
    """
    if k < 1:
        raise ValueError(f"format {fmt.name}: the axis of the blocks is empty")
    block = fmt.block_size or k
    if k % block:
        raise ValueError(
            f"format {fmt.name}: block of {block} does not divide the axis of {k}; pad it to "
            f"{-(-k // block) * block} and record the padding"
        )
    return block


def encode(x: NDArray[np.float32], fmt: str | BlockSpec, axis: int = -1) -> Encoded:
    """Encode a float32 tensor, blocks along `axis`.

    Parameters
    ----------
    x : float32 [...]
        Finite values, at least one axis.
    fmt : str or BlockSpec
        Format.
    axis : int
        Axis along which blocks lie; it becomes the last axis of the codes.

    Raises
    ------
    TypeError
        When `x` is not a float32 array.
    ValueError
        On NaN or Inf (naming the first index), an empty array, an axis out of range or not divided by the block.

    Exactness
    ---------
    Each scale and each element is the correctly rounded (half to even) value of the exact quotient that the rule of the
    format names, saturated to the largest finite code. Only the ``max - min`` of rule ``range`` is rounded to float64
    first, where it needs more than 53 bits. A tensor scale is at least the smallest positive float32. A block whose
    scale rounds to 0 gets the codes of zeros.

    Examples
    --------
    >>> import numpy as np
    >>> enc = encode(np.array([[0.5, -6.0] + [0.0] * 30], np.float32), "mxfp4")
    >>> enc.codes[0, :2].tolist(), enc.scales.tolist()
    ([1, 15], [[127]])
    """
    spec = registry.get(fmt)
    if not isinstance(x, np.ndarray) or x.dtype != np.float32:
        raise TypeError(f"encode needs a float32 array, not {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim < 1 or not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} is out of range for an array of shape {x.shape}")
    if x.size == 0:
        raise ValueError(f"format {spec.name}: cannot encode an empty array of shape {x.shape}")
    moved = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    block = block_size(spec, moved.shape[-1])
    rows = moved.reshape(-1, moved.shape[-1])

    from hwsim.formats import _kernels

    amax, bad_row = _kernels.tensor_amax(rows)
    if bad_row >= 0:
        column = int(np.flatnonzero(~np.isfinite(rows[bad_row]))[0])
        outer = [int(i) for i in np.unravel_index(bad_row, moved.shape[:-1])] if moved.ndim > 1 else []
        shown = ", ".join(map(str, [*outer, column]))
        raise ValueError(
            f"format {spec.name}: the value at index [{shown}] (block axis last) is {rows[bad_row, column]}"
        )
    tensor_scale = _tensor_scale(spec, amax)
    codes = np.empty(rows.shape, np.uint8)
    shape = (rows.shape[0], rows.shape[1] // block)
    scales, zeros = np.empty(shape, np.uint32), np.empty(shape, np.uint8)
    _kernels.encode_blocks(
        rows,
        block,
        _RULES[spec.scale_rule],
        _kernels.element_arguments(spec.element),
        spec.element.max_value
        if spec.scale_rule != "range"
        else float(spec.element.value((1 << spec.element.bits) - 1)),  # type: ignore[arg-type]
        (spec.scale.man_bits, spec.scale.bias, _max_scale_code(spec)),
        1.0 if tensor_scale is None else float(tensor_scale),
        codes,
        scales,
        zeros,
    )
    leading = moved.shape[:-1]
    return Encoded(
        spec,
        codes.reshape(moved.shape),
        scales.astype(SCALE_DTYPES[spec.scale.bits], copy=False).reshape(*leading, shape[1]),
        zeros.reshape(*leading, shape[1]) if spec.zero_point != "none" else None,
        tensor_scale,
        axis,
    )


def decode(encoded: Encoded) -> NDArray[np.float32]:
    """Return the float32 values of an encoded tensor, in its original axis order.

    Exactness
    ---------
    The product of element, block scale and tensor scale is exact, then rounded once to float32. A NaN scale code makes
    its whole block NaN, as does FP16's Inf.
    """
    from hwsim.formats import _kernels

    k = encoded.k
    codes = encoded.codes.reshape(-1, k)
    shape = (codes.shape[0], encoded.scales.shape[-1])
    zeros = encoded.zeros if encoded.zeros is not None else np.zeros(shape, np.uint8)
    out = np.empty(codes.shape, np.float32)
    _kernels.decode_blocks(
        codes,
        element_values(encoded.format.element),
        decode_scales(encoded).reshape(shape),
        zeros.reshape(shape),
        1.0 if encoded.tensor_scale is None else float(encoded.tensor_scale),
        out,
    )
    return np.moveaxis(out.reshape(encoded.codes.shape), -1, encoded.axis)


def decode_scales(encoded: Encoded) -> NDArray[np.float64]:
    """Return the block scales (without the tensor scale), exactly, as float64 of the shape of ``encoded.scales``."""
    spec = encoded.format.scale
    if spec.bits == 32:
        return encoded.scales.view(np.float32).astype(np.float64)
    return element_values(spec)[encoded.scales]


@cache
def element_values(spec: ElementSpec) -> NDArray[np.float64]:
    """Return the value of every code of an element of at most 16 bits, float64 [2**bits], NaN where not finite.

    The sign of a zero code is kept.
    """
    if spec.bits > 16:
        raise ValueError(f"element {spec.name}: a table of {spec.bits}-bit codes is too large (allowed: 16 bits)")
    exact = [spec.value(code) for code in range(1 << spec.bits)]
    values = np.array([np.nan if value is None else float(value) for value in exact])
    if isinstance(spec, FloatSpec) and spec.signed:
        negative = np.arange(len(values)) >> (spec.bits - 1) == 1
        values[negative & (values == 0)] = -0.0
    values.setflags(write=False)
    return values


def _tensor_scale(spec: BlockSpec, amax: float) -> np.float32 | None:
    if spec.tensor_scale == "none":
        return None
    assert spec.scale_cap is not None
    if amax == 0:
        return np.float32(1.0)  # a tensor of zeros has no scale to find; 0 / 1 is defined and decodes to exact zeros
    # a positive tensor keeps a positive scale, however small
    return max(np.float32(amax / (spec.scale_cap * spec.element.max_value)), np.finfo(np.float32).smallest_subnormal)


def _max_scale_code(spec: BlockSpec) -> int:
    """Largest scale code that the encoder emits; the cap of the catalogue is the scale format's own maximum."""
    assert spec.scale_cap in (None, spec.scale.max_value), spec.name
    return spec.scale.max_code
