"""Trellis codes: a block is a path through states, and each state's value is computed from its bits (QTIP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.families.vector import VectorSpec, one_of
from hwsim.formats.format import Part, Parts


@dataclass(frozen=True, kw_only=True)
class TrellisSpec(VectorSpec):
    """Describe a bit-shift trellis: each element shifts `bits` new bits into a state of `state_bits` bits.

    ``state_i = (state_(i-1) mod 2**(state_bits - bits)) << bits | new bits``, and the value of an element is that of
    its state times the scale of its row. Part ``stream`` uint16 [..., blocks, words] holds the bits of each block,
    highest first: those of the first state, then the new ones. Blocks lie along the axis (QTIP: tiles of 16 x 16).

    Parameters
    ----------
    state_bits : int
        L, 2 to 16.
    bits : int
        K, bits an element: 1 to 8, below `state_bits`.
    values : {"1mad", "3inst"}
        How a state gets its value, see `state_values`.
    block_size : int
        Elements of a path.
    tail : {"biting", "open"}
        ``biting``: the first ``state_bits - bits`` bits also follow the last, so that K bits an element are stored.
        ``open``: the path starts anywhere, and ``state_bits - bits`` bits more are stored, with zeros up to a word.

    Raises
    ------
    ValueError
        When the fields do not go together; the message names the format.

    Exactness
    ---------
    Elements are divided by the scale and rounded to float32 (QTIP rounds them on to float16). The cost of a path is
    ``(..((y_0 - v_0)**2 + (y_1 - v_1)**2) + ..)`` in float32, each operation rounded, elements in order. Viterbi's
    search finds the least such cost for tail ``open``; of equal predecessors and of equal last states the lowest wins.
    Tail ``biting`` is QTIP's approximation in two passes: the first searches the block rotated so that it starts at
    element ``block_size - block_size // 2``; the second searches the block as it is, the bits that its ends share
    being those that the first pass has at element 0. Decoding is the exact product of two float32, rounded once.
    """

    state_bits: int
    bits: int
    values: Literal["1mad", "3inst"]
    block_size: int = 256
    tail: Literal["biting", "open"] = "biting"

    def __post_init__(self) -> None:
        bits, states, block = self.bits, self.state_bits, self.block_size
        self._object(
            [
                one_of(self, "values", ("1mad", "3inst")),
                one_of(self, "tail", ("biting", "open")),
                (not 2 <= states <= 16, f"state_bits must be 2 to 16, not {states}"),
                (not 1 <= bits <= min(8, states - 1), f"bits must be 1 to 8 and below state_bits, not {bits}"),
                (block < 1, f"block_size must be at least 1, not {block}"),
                (
                    self.tail == "biting" and (block * bits % 16 > 0 or block * bits < states),
                    f"tail 'biting' needs blocks of whole 16-bit words that hold a state, not {block} x {bits} bits",
                ),
            ]
        )

    @property
    def quantum(self) -> int:
        """Elements of a path."""
        return self.block_size

    @property
    def stream_bits(self) -> int:
        """Bits of a block, without those that fill its last word."""
        return self.block_size * self.bits + (self.state_bits - self.bits if self.tail == "open" else 0)

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return the bit streams and the scales of the rows of a tensor of that shape."""
        words = (*shape[:-1], self._vectors(shape[-1]), -(-self.stream_bits // 16))
        return Part.code("stream", words, 16), *self._scale_parts(shape)

    @property
    def max_value(self) -> float:
        """Largest magnitude of a state's value."""
        return float(np.abs(self._values).max())

    @property
    def min_step(self) -> float:
        """Smallest distance between the values of two states, where they differ."""
        return float(np.diff(np.unique(self._values)).min())

    @property
    def _values(self) -> NDArray[np.float32]:
        return state_values(self.values, self.state_bits)

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Search the paths of float32 [rows, k]."""
        from hwsim.formats.families import _trellis_kernels as kernels

        values, blocks = self._values, self._vectors(x.shape[1])
        by_bits = np.ascontiguousarray(values.reshape(-1, 1 << self.bits).T)
        kernels.encode_trellis(
            x.reshape(-1, blocks, self.block_size),
            self._find_scales(x, out),
            values,
            by_bits,
            self.state_bits,
            self.bits,
            self.tail == "biting",
            out["stream"],
        )

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k].

        Raises
        ------
        ValueError
            On a scale that is negative, NaN or Inf, or a bit after the last that is not zero.
        """
        from hwsim.formats.families import _trellis_kernels as kernels

        stream = parts["stream"]
        self._check_filling(stream)
        scales = self._scales(parts, out.shape[0])
        shape = (out.shape[0], stream.shape[1], self.block_size)
        kernels.decode_trellis(stream, scales, self._values, self.state_bits, self.bits, out.reshape(shape))

    def states(self, stream: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Return the states of blocks, uint16 [..., block_size], from their words, uint16 [..., words].

        Raises
        ------
        ValueError
            When the words are not those of a block, or a bit after the last is not zero.
        """
        words = -(-self.stream_bits // 16)
        if stream.dtype != np.uint16 or stream.ndim < 1 or stream.shape[-1] != words:
            raise ValueError(f"format {self.name}: a block is uint16 [..., {words}], not {stream.dtype} {stream.shape}")
        self._check_filling(stream)
        following = np.roll(stream, -1, axis=-1)
        pairs = stream.astype(np.uint32) << np.uint32(16) | following
        positions = np.arange(self.block_size) * self.bits
        shifts = (32 - self.state_bits - positions % 16).astype(np.uint32)
        return (pairs[..., positions // 16] >> shifts & np.uint32((1 << self.state_bits) - 1)).astype(np.uint16)

    def _check_filling(self, stream: NDArray[np.uint16]) -> None:
        filling = (1 << (-self.stream_bits % 16)) - 1
        bad = (stream[..., -1] & filling) > 0
        if bad.any():
            raise ValueError(
                f"format {self.name}: block {[int(i) for i in np.argwhere(bad)[0]]} has a bit after its last "
                f"({self.stream_bits}) that is not zero"
            )


@lru_cache(maxsize=8)
def state_values(values: str, state_bits: int) -> NDArray[np.float32]:
    """Return the value of each state, float32 [2**state_bits], exactly as QTIP computes it.

    ``1mad``: x = (34038481 s + 76625530) mod 2**32; the sum of the four bytes of x less 510, divided by
    147.800537109375 in float32. ``3inst``: x = (89226354 s + 64248484) mod 2**32, its bits 8FFF8FFFh kept and turned
    over by 3B603B60h; the sum, in float16, of the two halves read as float16.

    Source
    ------
    Cornell-RelaxML/qtip:lib/codebook/bitshift.py, decode_1mad and decode_3inst.

    Examples
    --------
    >>> [round(float(state_values(name, 12)[0]), 6) for name in ("1mad", "3inst")]
    [-1.251687, 0.768066]
    """
    states = np.arange(1 << state_bits, dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    if values == "1mad":
        mixed = states * np.uint64(34038481) + np.uint64(76625530) & low
        total = mixed.astype(np.uint32).view(np.uint8).reshape(-1, 4).sum(axis=1, dtype=np.int64) - 510
        result = total.astype(np.float32) / np.float32(147.800537109375)
    else:
        mixed = states * np.uint64(89226354) + np.uint64(64248484) & low
        halves = (mixed & np.uint64(0x8FFF8FFF) ^ np.uint64(0x3B603B60)).astype(np.uint32).view(np.float16)
        result = (halves[0::2] + halves[1::2]).astype(np.float32)
    result.flags.writeable = False
    return result
