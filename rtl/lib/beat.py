"""Lay out one beat of operands, as the model packs it."""

from __future__ import annotations

from typing import Protocol

from amaranth.hdl import unsigned
from amaranth.lib import data


class Laid(Protocol):
    """A datapath that says what a beat holds."""

    def layout(self) -> tuple[tuple[str, int, int], ...]:
        """Return the fields of a beat as (name, bits, count), least significant first."""
        ...


LANE_FIELDS = ("a", "b")
"""Fields with one code for each lane; all others have one value a beat, or one for each block of a beat."""


def beat_layout(spec: Laid) -> data.StructLayout:
    """Return the payload of a unit's input stream: the fields of ``spec.layout()``, least significant first."""
    return _layout(spec, [name for name, _, _ in spec.layout()])


def side_layout(spec: Laid, side: str) -> data.StructLayout:
    """Return the fields of a beat that belong to one operand, ``a`` or ``b``, in the order of the beat.

    Raises
    ------
    ValueError
        If ``side`` is neither.
    """
    if side not in LANE_FIELDS:
        raise ValueError(f"side must be 'a' or 'b', not {side!r}")
    return _layout(spec, [name for name, _, _ in spec.layout() if name == side or name.startswith(f"{side}_")])


def _layout(spec: Laid, names: list[str]) -> data.StructLayout:
    return data.StructLayout(
        {
            name: data.ArrayLayout(unsigned(bits), count) if name in LANE_FIELDS or count > 1 else unsigned(bits)
            for name, bits, count in spec.layout()
            if name in names
        }
    )
