"""Channel groups: columns sorted by their largest magnitude into groups whose scales are powers of two apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.codec import Encoded
from hwsim.formats.format import Format, Part, Parts, container, first_not_finite, word_objections
from hwsim.formats.spec import IntSpec
from hwsim.formats.values import element_values

MAX_GROUPS = 16
_GROUP_BITS = 4
_INFINITY = 0x7F800000


@dataclass(frozen=True, kw_only=True)
class ChannelGroupSpec(Format):
    """Describe integers under one scale of the tensor, shifted left by the distance of their channel's group.

    A value is ``integer * 2**(groups - 1 - group) * tensor_scale``: group 0 holds the largest channels, the last group
    the smallest, on whose grid all others lie. A unit that takes the channels in the order of their groups doubles its
    integer sum from one group to the next and needs no scale in between. Parts: ``codes`` [..., k]; ``groups`` [k], the
    group of every channel, which also states the order (`order`); ``tensor_scale``, float32.

    Parameters
    ----------
    element : IntSpec
        Signed integers without fraction bits, of at most 8 bits.
    groups : int
        Groups, 1 to 16; scales of neighbours differ by a factor of 2.
    scale_rule : {"amax"}
        ``tensor_scale = RNE_float32(amax / (qmax * 2**(groups - 1)))``, amax that of the tensor.
    group_rule : {"halving"}
        A channel lies in the last group g with ``2**g * (its amax) <= amax``, at most ``groups - 1``: where amax halves
        exactly, the finer group takes it. Channels of zeros lie in the last group.
    rounding : {"rne"}
        Of the elements.
    overflow : {"saturate"}
        What rounds beyond the largest integer becomes the largest.
    zero_block : {"scale_0"}
        A tensor of zeros, or one whose scale rounds to 0, has scale 0 and codes 0.
    nan_policy : {"error"}
        NaN and Inf in the input raise.
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
    Each code is the correctly rounded exact quotient: a quotient of two float32 that is no tie differs from one by more
    than float64 rounds off. Decoded values are exact products rounded once to float32.
    """

    element: IntSpec
    groups: int = 8
    scale_rule: Literal["amax"] = "amax"
    group_rule: Literal["halving"] = "halving"
    rounding: Literal["rne"] = "rne"
    overflow: Literal["saturate"] = "saturate"
    zero_block: Literal["scale_0"] = "scale_0"
    nan_policy: Literal["error"] = "error"
    nibble_order: Literal["low_first", "high_first"] = "low_first"
    activation: str | None = None

    checks_finite = True

    def __post_init__(self) -> None:
        element = self.element
        whole = isinstance(element, IntSpec) and element.signed and not element.frac_bits and element.bits <= 8
        objections = [
            (not whole, f"elements are signed integers of at most 8 bits, not {element.name}"),
            (
                not isinstance(self.groups, int) or not 1 <= self.groups <= MAX_GROUPS,
                f"groups must be 1 to {MAX_GROUPS}, not {self.groups!r}",
            ),
            *word_objections(self),
        ]
        for condition, words in objections:
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return codes, groups of channels and the scale of a tensor of that shape."""
        if shape[-1] < 1:
            raise ValueError(f"format {self.name}: the axis of the channels is empty")
        return (
            Part.code("codes", shape, self.element.bits),
            Part("groups", (shape[-1],), _GROUP_BITS, container(_GROUP_BITS), by_row=False, shared=True),
            Part("tensor_scale", (), 32, np.dtype(np.float32), by_row=False),
        )

    @property
    def max_value(self) -> float:
        """Largest magnitude of an element, shift and scale left out."""
        return self.element.max_value

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring elements, shift and scale left out."""
        return self.element.min_step

    def code_points(self) -> NDArray[np.float64]:
        """Return the value of every element code."""
        return element_values(self.element)

    def order(self, groups: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the channels in the order of their groups, int64 [k]; those of a group in ascending order."""
        return np.argsort(groups, kind="stable")

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes, groups and scale, found from these rows."""
        from hwsim.formats.families import _channel_group_kernels as kernels

        tops = np.empty(x.shape[1], np.uint32)
        kernels.channel_tops(x, tops)
        top = tops.max()
        if top >= _INFINITY:
            raise first_not_finite(x)
        # powers of two times float32 are exact in float64
        amax, largest = tops.view(np.float32).astype(np.float64), float(top.view(np.float32))
        # a product of integers and the quotient of float32 by it: one rounding to float64, then one to float32, whose
        # ties the first rounding cannot reach, see `_scale_of`
        out["tensor_scale"][...] = _scale_of(largest, self.element.qmax << (self.groups - 1))
        reached = [amax * 2.0**group <= largest for group in range(1, self.groups)]
        out["groups"][...] = np.where(amax > 0, sum(reached, np.zeros(len(amax), np.int64)), self.groups - 1)
        self._encode_codes(x, out)

    def encode_static(self, x: NDArray[np.float32], groups: NDArray[np.uint8], tensor_scale: np.float32) -> Encoded:
        """Encode float32 [rows, k] under groups and a scale that were found before, on calibration data.

        Raises
        ------
        ValueError
            On NaN or Inf, or where groups and scale do not fit.
        """
        if not np.isfinite(x).all():
            raise ValueError(f"format {self.name}: the values hold NaN or Inf")
        scale = np.array(tensor_scale, np.float32)
        encoded = Encoded(
            self, {"codes": np.zeros(x.shape, np.uint8), "groups": np.asarray(groups), "tensor_scale": scale}
        )
        self._steps(encoded.parts)
        self._encode_codes(np.ascontiguousarray(x, np.float32), dict(encoded.parts))
        return encoded

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k], each the exact product rounded once.

        Raises
        ------
        ValueError
            On a group that the format does not have.
        """
        from hwsim.formats.families import _channel_group_kernels as kernels

        kernels.decode_channels(parts["codes"], self.code_points(), self._steps(parts), out)

    def _encode_codes(self, x: NDArray[np.float32], out: Parts) -> None:
        from hwsim.formats.families import _channel_group_kernels as kernels

        element = self.element
        mask = (1 << element.bits) - 1
        kernels.encode_channels(x, self._steps(out), float(element.qmin), float(element.qmax), mask, out["codes"])

    def _steps(self, parts: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Return what an integer of each channel is worth, float64 [k], exactly."""
        groups = parts["groups"]
        if groups.max() >= self.groups:
            raise ValueError(f"format {self.name}: groups hold {groups.max()}, allowed 0 .. {self.groups - 1}")
        steps: NDArray[np.float64] = np.exp2(self.groups - 1.0 - groups) * np.float64(parts["tensor_scale"][()])
        return steps


def _scale_of(largest: float, divisor: int) -> np.float32:
    """Return RNE_float32(largest / divisor) of a float32 and an integer below 2**24.

    The quotient of a 24-bit by such an integer, if no tie of float32 (25 bits), differs from one by at least 2**-49 of
    itself; float64 rounds off at most 2**-53. Below the normal range the ties have fewer bits.
    """
    return np.float32(largest / divisor)
