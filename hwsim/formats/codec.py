"""Float arrays to codes and back, for every family of formats: checks, axes and buffers, done once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import registry
from hwsim.formats.format import ANY, Format, NotFiniteError, Parts, RowError, row_amax


@dataclass(frozen=True)
class Encoded:
    """Hold a tensor as codes; blocks lie along its last axis.

    Attributes
    ----------
    format : Format
        Meaning of the parts.
    parts : dict of arrays
        What the layout of the format names, for example ``codes`` uint8 [..., K] (bit patterns, one a byte) and
        ``scales`` [..., K // block] (bit patterns of the scale format).
    shape : tuple of int
        Shape of the tensor, the axis of the blocks last.
    axis : int
        Axis of the original tensor along which the blocks lie.
    padding : int
        Elements that `encode` appended along the axis because it was asked to; decoding drops them.

    Raises
    ------
    ValueError
        When a part is missing or unknown, or its shape, dtype or codes do not fit the format.
    """

    format: Format
    parts: Mapping[str, NDArray[Any]]
    shape: tuple[int, ...] = ()
    axis: int = -1
    padding: int = 0

    def __post_init__(self) -> None:
        name = self.format.name
        if not self.shape:  # formats with a code an element tell their shape
            if "codes" not in self.parts:
                raise ValueError(f"{name}: no codes and no shape given")
            object.__setattr__(self, "shape", self.parts["codes"].shape)
        if len(self.shape) < 1 or min(self.shape, default=0) < 0:
            raise ValueError(f"{name}: codes must be [..., K], not of shape {self.shape}")
        if not -len(self.shape) <= self.axis < len(self.shape):
            raise ValueError(f"{name}: axis {self.axis} is out of range for a shape {self.shape}")
        if not 0 <= self.padding < max(self.shape[-1], 1):
            raise ValueError(f"{name}: padding {self.padding} does not fit an axis of {self.shape[-1]}")
        layout = {part.name: part for part in self.format.layout(self.shape)}
        for key in [*layout, *self.parts]:
            if key not in self.parts:
                raise ValueError(f"{name}: {key} missing")
            if key not in layout:
                raise ValueError(f"{name}: {key} given, but the format has none")
            if not isinstance(self.parts[key], np.ndarray):
                raise TypeError(f"{name}: {key} must be an array, not {type(self.parts[key]).__name__}")
            layout[key].check(name, self.parts[key])

    @classmethod
    def of(cls, fmt: Format, axis: int = -1, **parts: Any) -> Self:
        """Return an encoded tensor from its parts by name; those that are None are left out.

        Examples
        --------
        >>> import numpy as np
        >>> parts = {"codes": np.ones((2, 32), np.uint8), "scales": np.full((2, 1), 127, np.uint8)}
        >>> decode(Encoded.of(registry.get("mxfp4"), **parts)).max()
        np.float32(0.5)
        """
        return cls(fmt, {name: np.asarray(part) for name, part in parts.items() if part is not None}, axis=axis)

    @property
    def codes(self) -> NDArray[Any]:
        """Element codes."""
        return self.parts["codes"]

    @property
    def scales(self) -> NDArray[Any]:
        """Scale codes of the blocks."""
        return self.parts["scales"]

    @property
    def zeros(self) -> NDArray[Any] | None:
        """Zero points, None where the format has none."""
        return self.parts.get("zeros")

    @property
    def tensor_scale(self) -> np.float32 | None:
        """Scale of the whole tensor; it multiplies on decode. None where the format has none."""
        part = self.parts.get("tensor_scale")
        return None if part is None else np.float32(part[()])

    @property
    def k(self) -> int:
        """Length of the axis that holds the blocks, padding included."""
        return self.shape[-1]

    @property
    def stored_bits(self) -> int:
        """Bits of all parts as stored."""
        return sum(part.bits * self.parts[part.name].size for part in self.format.layout(self.shape))

    def replace_parts(self, **parts: NDArray[Any]) -> Encoded:
        """Return the same tensor with some parts replaced."""
        return replace(self, parts={**self.parts, **parts})

    def rows(self, index: NDArray[np.integer] | slice) -> Encoded:
        """Return the chosen rows (first axis) of an encoded matrix.

        Raises
        ------
        ValueError
            When the tensor is not a matrix [rows, K], or a part of the format does not lie by rows.
        """
        if len(self.shape) != 2:
            raise ValueError(f"{self.format.name}: rows are chosen from a matrix [rows, K], not {self.shape}")
        if not isinstance(index, slice) and index.dtype == np.bool_:
            index = np.flatnonzero(index)
        chosen = {}
        for part in self.format.layout(self.shape):
            array = self.parts[part.name]
            if part.shape and not (part.by_row or part.shared):
                raise ValueError(f"{self.format.name}: {part.name} do not lie by rows; encode the chosen rows instead")
            chosen[part.name] = array[index] if part.shape and part.by_row else array
        count = len(range(*index.indices(self.shape[0]))) if isinstance(index, slice) else len(index)
        return replace(self, parts=chosen, shape=(count, self.k))


def encode(
    x: NDArray[np.float32], fmt: str | Format, axis: int = -1, *, pad: bool = False, out: Encoded | None = None
) -> Encoded:
    """Encode a float32 tensor, blocks along `axis`.

    Parameters
    ----------
    x : float32 [...]
        Finite values (unless the format's `nan_policy` says otherwise), at least one axis.
    fmt : str or Format
        Format; ``get(name).with_rules(...)`` changes its named rules.
    axis : int
        Axis along which blocks lie; it becomes the last axis of the codes.
    pad : bool
        Append zeros along the axis up to the next whole block, and record how many.
    out : Encoded, optional
        An earlier result of the same format and shape whose arrays are written again, to spare their allocation.

    Raises
    ------
    TypeError
        When `x` is not a float32 array.
    ValueError
        On NaN or Inf (naming the first index), an empty array, an axis out of range or not divided by the block, or an
        `out` that does not fit.

    Exactness
    ---------
    That of the format's family: each scale and each element is the exact result of its rule, rounded once as the format
    says.

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
    moved, padding = np.moveaxis(x, axis, -1), 0
    if pad and (padding := spec.padding(moved.shape[-1])):
        moved = np.pad(moved, [(0, 0)] * (moved.ndim - 1) + [(0, padding)])
    moved = np.ascontiguousarray(moved)
    layout, rows = spec.layout(moved.shape), moved.reshape(-1, moved.shape[-1])
    if out is None:
        flat = {p.name: np.empty(p.shape, p.dtype) for p in spec.layout(rows.shape) if ANY not in p.shape}
    else:
        flat = _buffers(out, spec, moved.shape, rows.shape, axis % x.ndim, padding)
    try:
        if not spec.checks_finite:
            row_amax(rows)
        spec.encode_rows(rows, flat)
    except NotFiniteError as error:
        column = int(np.flatnonzero(~np.isfinite(rows[error.row]))[0])
        shown = _index(error.row, column, moved.shape)
        raise ValueError(f"format {spec.name}: the value at index {shown} is {rows[error.row, column]}") from None
    except RowError as error:
        words = error.words.format(_index(error.row, error.column, moved.shape))
        raise ValueError(f"format {spec.name}: {words}") from None
    if out is not None:
        return out
    parts = {p.name: flat[p.name] if ANY in p.shape else flat[p.name].reshape(p.shape) for p in layout}
    return Encoded(spec, parts, moved.shape, axis, padding)


def decode(encoded: Encoded, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the float32 values of an encoded tensor, in its original axis order and without padding.

    Parameters
    ----------
    encoded : Encoded
        Any format.
    out : float32 [...], optional
        Contiguous buffer of the codes' order (the axis of the blocks last, padding included) that is written; the
        result is a view of it.

    Raises
    ------
    ValueError
        When `out` has another shape, dtype or order.

    Exactness
    ---------
    That of the format's family: the exact product of element and scales, rounded once to float32.
    """
    shape = encoded.shape
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError(f"out must be contiguous, writable float32 {shape}, not {out.dtype} {out.shape}")
    rows = out.reshape(math.prod(shape[:-1]), shape[-1])
    flat = {p.name: p for p in encoded.format.layout(rows.shape)}
    parts = {}
    for name, array in encoded.parts.items():
        contiguous = np.ascontiguousarray(array)
        parts[name] = contiguous if ANY in flat[name].shape else contiguous.reshape(flat[name].shape)
    encoded.format.decode_rows(parts, rows)
    kept = out[..., : shape[-1] - encoded.padding] if encoded.padding else out
    return np.moveaxis(kept, -1, encoded.axis)


def _index(row: int, column: int | None, shape: tuple[int, ...]) -> str:
    """Return the index of a row, or of a value in it, in a tensor of that shape."""
    outer = [int(i) for i in np.unravel_index(row, shape[:-1])] if len(shape) > 1 else []
    return f"[{', '.join(map(str, [*outer, *([] if column is None else [column])]))}] (block axis last)"


def _buffers(
    out: Encoded, spec: Format, shape: tuple[int, ...], rows: tuple[int, ...], axis: int, padding: int
) -> Parts:
    """Return the arrays of an earlier result as the family sees them."""
    if (out.axis % len(shape), out.padding) != (axis, padding):
        raise ValueError(
            f"out was encoded along axis {out.axis} with padding {out.padding}, not along {axis} with {padding}"
        )
    if out.format != spec or out.shape != shape:
        raise ValueError(
            f"out holds {out.format.name} {out.shape}, but {spec.name} {shape} is to be encoded: they must be the same"
        )
    flat = {}
    for part in spec.layout(rows):
        array = out.parts[part.name]
        if ANY in part.shape or not array.flags.c_contiguous or not array.flags.writeable:
            raise ValueError(f"out: {part.name} of {spec.name} cannot be written in place")
        flat[part.name] = array.reshape(part.shape)
    return flat
