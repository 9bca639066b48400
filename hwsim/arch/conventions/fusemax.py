"""FuseMax's attention: one pass with a running maximum, in closed form.

Keys are taken in M1 tiles of `tile` and queries in tiles of `tile`. A tile of both takes, with head dimension E of
queries and keys and F of values,

    c = max(E + 1, 1 + F + F / M1) + 1 + 8 + F

cycles: the 2-D array multiplies queries and keys and takes the maximum (E + 1), while the 1-D array corrects the
running sums (1 + F, and the division by the sum, which is moved out, a share F / M1 of it); then subtraction and the
exponential as 6 multiply-accumulates and one more (8), then times values (F). All tiles of a row are counted together,
so that F / M1 stays a whole number of cycles: M1 c.

Memory is taken to keep up, as it does in every point of the source's artifact.

Source: FuseMax (MICRO 2024), github.com/FPSG-UIUC/micro24-fusemax-artifact at f543beb, mapping "+Binding".
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Literal

from pydantic import PositiveInt

from hwsim.arch.conventions import LayerTiming, Options, Published
from hwsim.arch.workload import Attention, Workload

NAME = "fusemax"
_EXPONENTIAL = 8


class MachineSpec(Published):
    """A machine file with ``timing: fusemax``; `tile` is the side of the 2-D array and the length of the 1-D one."""

    timing: Literal["fusemax"]
    tile: PositiveInt


def simulate(workload: Workload, spec: MachineSpec, options: Options) -> tuple[LayerTiming, ...]:
    """Return the attention of a workload, timed; its other products are not this rule's.

    Raises
    ------
    ValueError
        When there is no attention, or the tile does not divide queries and keys.
    """
    options.refuse("attention", "weight_bits")
    layers = tuple(_layer(operation, spec) for operation in workload.operations if isinstance(operation, Attention))
    if not layers:
        raise ValueError("there is no attention, and this rule covers nothing else")
    return layers


def _layer(attention: Attention, spec: MachineSpec) -> LayerTiming:
    for field in ("queries", "keys"):
        if getattr(attention, field) % spec.tile:
            raise ValueError(
                f"{attention.name}: {field} must be a multiple of the tile of {spec.tile}, not "
                f"{getattr(attention, field)}"
            )
    key_tiles, query_tiles = attention.keys // spec.tile, attention.queries // spec.tile
    rows = attention.sequences * attention.heads * query_tiles * attention.repeat
    cycles = rows * row_cycles(attention.head_dim, attention.head_dim, key_tiles)
    peak = Fraction(spec.tile * spec.tile)
    least = ceil(attention.macs / peak)
    return LayerTiming(attention.name, attention.repeat, attention.macs, cycles, 0, cycles, 0, least, peak)


def row_cycles(e: int, f: int, key_tiles: int) -> int:
    """Return the cycles of one tile of queries over all `key_tiles` tiles of keys: M1 c of the module's formula."""
    return max(key_tiles * (e + 1), key_tiles * (1 + f) + f) + key_tiles * (1 + _EXPONENTIAL + f)
