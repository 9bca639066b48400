"""Binary pruning: groups of 8-bit integers that keep only their upper bit columns and share a constant (BBS)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.families.block import BlockSpec
from hwsim.formats.format import Format, Part, Parts, word_objections
from hwsim.formats.spec import FloatSpec, IntSpec
from hwsim.formats.values import element_values

WIDTH = 8
"""Bits of the integers that are pruned."""
CONSTANT_BITS, REDUNDANT_BITS = 6, 2
"""Widths of what a group stores beside its columns."""
MAX_REDUNDANT = (1 << REDUNDANT_BITS) - 1
MAX_PRUNED = 5
"""Most columns that a group can be without: the mean of that many is a positive constant of `CONSTANT_BITS`."""


Strategy = Literal["rounded_average", "zero_point_shift"]


@dataclass(frozen=True, kw_only=True)
class BinaryPrunedSpec(Format):
    """Describe integers of a row scale whose groups store fewer bit columns than they have.

    A weight is ``(columns * 2**(pruned - redundant) + constant) * scale``, `columns` its stored bits in two's
    complement, `redundant` and `constant` those of its group, `pruned` the columns that are not stored. Redundant
    columns follow the first one and hold its bits, so that they need not be stored; the other pruned columns are the
    lowest ones, in which the constant takes the place of all weights' bits. Parts: ``codes`` [..., k], the stored
    columns; ``redundant`` and ``constants`` [..., k / block_size], the latter in two's complement of 6 bits; ``scales``
    [..., 1], bits of float32.

    Parameters
    ----------
    base : BlockSpec
        Format of the integers before pruning: signed, 8 bits, an FP32 scale a row.
    element : IntSpec
        The stored columns as integers, 3 to 7 bits; the columns pruned are what is missing to 8.
    block_size : int
        Weights of a group.
    strategy : {"rounded_average", "zero_point_shift"}
        ``rounded_average``: lowest columns become their mean over the group. ``zero_point_shift``: of all constants
        that 6 bits hold, that one is taken of each weight and added on decode for which the rest, clipped to 8 bits and
        rounded to the stored columns, has the least sum of squared errors.
    mean : {"rne"}
        Rounding of the mean, ties to even.
    rest : {"half_up"}
        Rounding to the stored columns, ties up, at most their largest number.
    ties : {"lowest"}
        Of several constants of least error the lowest.
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
    Integers before pruning are those of `base`; means, errors and pruned integers are exact integers. Decoded values
    are exact products rounded once to float32.
    """

    base: BlockSpec
    element: IntSpec
    block_size: int
    strategy: Strategy
    mean: Literal["rne"] = "rne"
    rest: Literal["half_up"] = "half_up"
    ties: Literal["lowest"] = "lowest"
    nibble_order: Literal["low_first", "high_first"] = "low_first"
    activation: str | None = None

    checks_finite = True

    def __post_init__(self) -> None:
        base = self.base
        whole = [
            isinstance(spec, IntSpec) and spec.signed and not spec.frac_bits for spec in (base.element, self.element)
        ]
        fp32 = isinstance(base.scale, FloatSpec) and base.scale.name == "float32" and base.block_size is None
        objections = [
            (
                not whole[0] or base.element.bits != WIDTH or not fp32 or base.zero_point != "none",
                f"base must be signed integers of {WIDTH} bits under an FP32 scale a row, not {base.name}",
            ),
            (
                not whole[1] or not 1 <= WIDTH - self.element.bits <= MAX_PRUNED,
                f"element must be a signed integer of {WIDTH - MAX_PRUNED} to {WIDTH - 1} bits, not "
                f"{self.element.name}",
            ),
            (
                not isinstance(self.block_size, int) or self.block_size < 1,
                f"block_size must be a positive integer, not {self.block_size!r}",
            ),
            *word_objections(self),
        ]
        for condition, words in objections:
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    @property
    def scale(self) -> FloatSpec:
        """Number format of the scale of a row."""
        assert isinstance(self.base.scale, FloatSpec)
        return self.base.scale

    @property
    def pruned(self) -> int:
        """Columns of a group that are not stored."""
        return WIDTH - self.element.bits

    @property
    def most_redundant(self) -> int:
        """Most columns of a group that count as redundant."""
        return min(self.pruned, MAX_REDUNDANT)

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last group."""
        return -k % self.block_size

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return columns, the two numbers of each group, and scales of a tensor of that shape."""
        k = shape[-1]
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the groups is empty")
        if k % self.block_size:
            raise ValueError(
                f"format {self.name}: group of {self.block_size} does not divide the axis of {k}; pad it to "
                f"{k + self.padding(k)} and record the padding"
            )
        groups = (*shape[:-1], k // self.block_size)
        return (
            Part.code("codes", shape, self.element.bits),
            Part.code("redundant", groups, REDUNDANT_BITS),
            Part.code("constants", groups, CONSTANT_BITS),
            Part.code("scales", (*shape[:-1], 1), self.scale.bits),
        )

    @property
    def max_value(self) -> float:
        """Largest magnitude of an integer before pruning, scale left out."""
        return self.base.max_value

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring integers of a group, scale left out."""
        return self.base.min_step

    def code_points(self) -> NDArray[np.float64]:
        """Return the integer of every code of stored columns, in units of the lowest of them."""
        return element_values(self.element)

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into columns, numbers of groups, and scales."""
        from hwsim.formats.families import _binary_pruned_kernels as kernels

        whole = {"codes": np.empty(x.shape, np.uint8), "scales": out["scales"]}
        self.base.encode_rows(x, whole)
        kernels.prune_groups(
            whole["codes"].view(np.int8),
            self.block_size,
            self.pruned,
            self.most_redundant,
            self.strategy == "rounded_average",
            1 << (CONSTANT_BITS - 1),
            (1 << self.element.bits) - 1,
            out["codes"],
            out["redundant"],
            out["constants"],
        )

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k], each the exact product rounded once.

        Raises
        ------
        ValueError
            On a number of redundant columns that the format does not have.
        """
        from hwsim.formats.families import _binary_pruned_kernels as kernels

        kernels.under_scales(self.integers(parts), parts["scales"].view(np.float32)[:, 0].astype(np.float64), out)

    def integers(self, parts: Mapping[str, NDArray[Any]]) -> NDArray[np.int16]:
        """Return the integers that parts [rows, k] stand for, int16 [rows, k]; they fit 9 bits.

        Raises
        ------
        ValueError
            On a number of redundant columns that the format does not have.
        """
        from hwsim.formats.families import _binary_pruned_kernels as kernels

        self.check_redundant(parts)
        found = np.empty(parts["codes"].shape, np.int16)
        kernels.whole_integers(
            parts["codes"],
            self.block_size,
            self.element.bits,
            self.pruned,
            1 << (CONSTANT_BITS - 1),
            parts["redundant"],
            parts["constants"],
            found,
        )
        return found

    def check_redundant(self, parts: Mapping[str, NDArray[Any]]) -> None:
        """Refuse a number of redundant columns that the format does not have."""
        top = int(parts["redundant"].max(initial=0))
        if top > self.most_redundant:
            raise ValueError(f"format {self.name}: redundant hold {top}, allowed 0 .. {self.most_redundant}")
