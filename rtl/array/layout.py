"""Lay out one input beat of an array."""

from __future__ import annotations

from amaranth.lib import data

from hwsim.pe._dot import DotSpec
from rtl.lib.beat import side_layout


def array_layout(spec: DotSpec, rows: int, cols: int) -> data.StructLayout:
    """Return one input beat of an array: a step of k for every row and column, and where tiles end.

    Fields, least significant first: ``rows``, the a side of a unit's beat for each row; ``cols``, the b side for each
    column; ``tile_last``, set on the last beat of a K tile; ``last``, set on the last beat of an output tile (which
    also ends its K tile).
    """
    return data.StructLayout(
        {
            "rows": data.ArrayLayout(side_layout(spec, "a"), rows),
            "cols": data.ArrayLayout(side_layout(spec, "b"), cols),
            "tile_last": 1,
            "last": 1,
        }
    )
