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
    words = pack_words(join_beats(dots), layout).astype("<u4")
    return np.ascontiguousarray(words.view(np.uint8)[:, : -(-layout.size // 8)])


def join_beats(dots: Sequence[Beats]) -> dict[str, NDArray[np.integer]]:
    """Return the beats of several dot products, one after the other.

    Raises
    ------
    ValueError
        If they do not all have the same fields.
    """
    names = list(dots[0])
    for number, dot in enumerate(dots):
        if set(dot) != set(names):
            raise ValueError(f"dot product {number} has fields {sorted(dot)}; the first one has {sorted(names)}")
    return {name: np.concatenate([np.asarray(dot[name]) for dot in dots]) for name in names}


def pack_words(beats: Beats, layout: data.StructLayout) -> NDArray[np.uint32]:
    """Return the payloads of beats in 32-bit words, uint32 [beats, words], least significant word first.

    Raises
    ------
    ValueError
        As for `pack_beats`.
    """
    from rtl.sim._payload_kernels import add_field

    names = [name for name, _ in layout]
    if set(beats) != set(names):
        raise ValueError(f"the beats have fields {sorted(beats)}; the unit takes {sorted(names)}")
    words = np.zeros((len(beats[names[0]]), -(-layout.size // 32)), np.uint32)
    offset = 0
    for name, field in layout:
        count, bits = _dimensions(field.shape)
        values = _checked(beats, name, count, bits)
        # the kernel is compiled for these two types alone
        add_field(np.ascontiguousarray(values, np.uint8 if bits <= 8 else np.int64), bits, offset, words)
        offset += count * bits
    return words


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
        values = _checked(beats, name, count, bits).astype(np.int64)
        split = ((values[:, :, None] >> np.arange(bits)) & 1).astype(np.uint8)
        columns.append(split.reshape(len(values), count * bits))
    return np.concatenate(columns, axis=1)


def _checked(beats: Beats, name: str, count: int, bits: int) -> NDArray[np.integer]:
    """Return a field's integers, [beats, count], all of them within its bits."""
    values = np.asarray(beats[name])
    values = values.reshape(len(values), -1)
    if values.shape[1] != count:
        raise ValueError(f"field {name!r} has {values.shape[1]} values a beat; the unit takes {count}")
    if bits > 32:
        raise ValueError(f"field {name!r} has {bits} bits; a payload's fields have at most 32")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >> bits:
        raise ValueError(f"field {name!r} holds {low} to {high}; its codes have {bits} bits")
    return values


def _dimensions(shape: object) -> tuple[int, int]:
    """Return (values a beat, bits a value) of a field."""
    if isinstance(shape, data.ArrayLayout):
        return shape.length, Shape.cast(shape.elem_shape).width
    return 1, Shape.cast(shape).width
