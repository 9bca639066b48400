"""Quantised weights and activations: explicit padding of K, and the way between torch and codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded, encode, get


@dataclass(frozen=True)
class QuantizedTensor:
    """Hold a weight matrix as codes [N, K padded], with the K that it had and how it was made.

    Attributes
    ----------
    encoded : Encoded
        Codes and scales, padded along K with explicit zero codes.
    k : int
        K without padding.
    method : mapping
        Name and settings of the method, as stored in exports.
    """

    encoded: Encoded
    k: int
    method: Mapping[str, Any] = field(default_factory=dict)

    @property
    def k_padded(self) -> int:
        """K of the codes."""
        return self.encoded.k


def padded_length(k: int, fmt: str | BlockSpec) -> int:
    """Return K rounded up to whole blocks of a format."""
    block = get(fmt).block_size or 1
    return -(-k // block) * block


def pad_k(x: NDArray[np.float32], k_padded: int) -> NDArray[np.float32]:
    """Append zeros to the last axis up to `k_padded`; zeros never change the scale of the block that they fill."""
    missing = k_padded - x.shape[-1]
    if missing < 0:
        raise ValueError(f"cannot pad K = {x.shape[-1]} down to {k_padded}")
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) if missing else x


def as_numpy(x: torch.Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a float32 NumPy view of a tensor (a copy only when dtype or device need one)."""
    if isinstance(x, torch.Tensor):
        x = x.detach().to("cpu", torch.float32).numpy()
    return np.ascontiguousarray(x, np.float32)


def quantize_activations(x: NDArray[np.float32], fmt: str | BlockSpec, k_padded: int) -> Encoded:
    """Quantise activations [M, K] dynamically, a scale a token or a block as the format says.

    Parameters
    ----------
    x : float32 [M, K]
        Activations; a format with a tensor scale takes it from all M rows together.
    fmt : str or BlockSpec
        Activation format.
    k_padded : int
        K of the weights' codes, to which zeros are appended.
    """
    return encode(pad_k(x, k_padded), fmt)
