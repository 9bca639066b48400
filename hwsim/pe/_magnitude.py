"""Serial units over the bits of weights' magnitudes: what their datapaths have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hwsim.pe._serial import SerialSpec


@dataclass(frozen=True)
class WeightMagnitudeSpec(SerialSpec):
    """The datapath of a unit that takes weights as sign and magnitude, and time by the magnitudes of a beat."""

    depends_on: ClassVar = "b"

    @property
    def magnitude_bits(self) -> int:
        """Bits of a weight's magnitude."""
        return max(map(abs, self.b_ints)).bit_length()

    def masks(self, codes: NDArray[np.integer]) -> NDArray[np.uint16]:
        """Return the magnitudes of weights' codes, of the same shape."""
        return np.abs(np.array(self.b_ints, np.int32)).astype(np.uint16)[codes]
