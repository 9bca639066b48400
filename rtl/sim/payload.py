"""Pack the fields of beats into stream payloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from amaranth.hdl import Shape
from amaranth.lib import data
from numpy.typing import NDArray

Beats = Mapping[str, NDArray[np.integer]]
"""Integers of every field of a beat: [beats, count] for arrays, else [beats]."""


def pack_beats(dots: Sequence[Beats], layout: data.StructLayout) -> NDArray[np.uint8]:
    """Return the payload of every beat of every dot product, uint8 [beats, bytes], least significant byte first.

    Raises
    ------
    ValueError
        If a field is missing or not in the layout, has another shape, or holds an integer that its bits cannot hold.
    """
    names = [name for name, _ in layout]
    for number, dot in enumerate(dots):
        if set(dot) != set(names):
            raise ValueError(f"dot product {number} has fields {sorted(dot)}; the unit takes {sorted(names)}")
    joined = {
        name: np.concatenate([np.asarray(dot[name]).reshape(len(dot["last"]), -1) for dot in dots]) for name in names
    }
    return np.packbits(field_bits(joined, layout), axis=1, bitorder="little")


def field_bits(beats: Beats, layout: data.StructLayout) -> NDArray[np.uint8]:
    """Return the bits of a struct of plain fields and arrays of such, uint8 [beats, bits], least significant first.

    Fields of ``beats`` that ``layout`` does not have are left out.

    Raises
    ------
    ValueError
        As for `pack_beats`.
    """
    columns = []
    for name, field in layout:
        count, bits = _dimensions(field.shape)
        values = np.asarray(beats[name]).astype(np.int64).reshape(len(beats[name]), -1)
        if values.shape[1] != count:
            raise ValueError(f"field {name!r} has {values.shape[1]} values a beat; the unit takes {count}")
        if values.min() < 0 or values.max() >> bits:
            raise ValueError(f"field {name!r} holds {values.min()} to {values.max()}; its codes have {bits} bits")
        split = ((values[:, :, None] >> np.arange(bits)) & 1).astype(np.uint8)
        columns.append(split.reshape(len(values), count * bits))
    return np.concatenate(columns, axis=1)


def _dimensions(shape: object) -> tuple[int, int]:
    """Return (values a beat, bits a value) of a field."""
    if isinstance(shape, data.ArrayLayout):
        return shape.length, Shape.cast(shape.elem_shape).width
    return 1, Shape.cast(shape).width
