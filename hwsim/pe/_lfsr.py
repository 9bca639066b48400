"""Linear feedback shift registers, one a lane: the random bits of stochastic rounding in hardware."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.rounding import random_bits


@dataclass(frozen=True)
class Lfsr:
    """Describe registers in Galois form, shifted right.

    A step takes the lowest bit out, shifts the others down, and, where that bit was set, flips the bits of `taps`. A
    draw gives the `draw_bits` lowest bits, and then makes as many steps.

    Attributes
    ----------
    bits : int
        Width, 4 to 32.
    taps : int
        Feedback, its top bit set, so that no two states have one successor; 0xB400 of 16 bits visits all 65,535.
    draw_bits : int
        Bits a draw, 1 to `bits`.
    seed : int
        0 to 2**63 - 1. Lane i begins with the lowest bits of `hwsim.formats.rounding.random_bits` of seed and i, or
        with 1 where they are all zero.

    Raises
    ------
    ValueError
        When a field is not one of these.
    """

    bits: int = 16
    taps: int = 0xB400
    draw_bits: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bits not in range(4, 33):
            raise ValueError(f"lfsr_bits must be 4 to 32, not {self.bits!r}")
        if not (isinstance(self.taps, int) and self.taps >> (self.bits - 1) == 1):
            raise ValueError(f"lfsr_taps must have {self.bits} bits, the top one set, not {self.taps:#x}")
        if self.draw_bits not in range(1, min(self.bits, 24) + 1):
            raise ValueError(f"random_bits must be 1 to {min(self.bits, 24)}, not {self.draw_bits!r}")
        if not (isinstance(self.seed, int) and 0 <= self.seed < 1 << 63):
            raise ValueError(f"lfsr_seed must be 0 to 2**63 - 1, not {self.seed!r}")

    def start(self, lane: int) -> int:
        """Return the state of a lane after reset."""
        return (random_bits(self.seed, lane) & ((1 << self.bits) - 1)) or 1

    def step(self, state: int) -> int:
        """Return the next state.

        Examples
        --------
        >>> [hex(Lfsr().step(state)) for state in (1, 2, 3)]
        ['0xb400', '0x1', '0xb401']
        """
        return (state >> 1) ^ (self.taps if state & 1 else 0)

    def advance(self, state: int) -> int:
        """Return the state after a draw."""
        for _ in range(self.draw_bits):
            state = self.step(state)
        return state

    def sources(self) -> tuple[int, ...]:
        """Return for each bit of the state after a draw which bits before it are added up, as a mask."""
        images = [self.advance(1 << bit) for bit in range(self.bits)]
        return tuple(
            sum(1 << bit for bit, image in enumerate(images) if image >> target & 1) for target in range(self.bits)
        )

    def draws(self, count: int, lanes: int) -> NDArray[np.uint32]:
        """Return the first draws of each lane, uint32 [count, lanes]."""
        from hwsim.pe import _requant_kernels as kernels

        found = np.empty((count, lanes), np.uint32)
        starts = np.array([self.start(lane) for lane in range(lanes)], np.uint32)
        kernels.draws(starts, self.taps, self.draw_bits, found)
        return found
