"""Quantised weights and activations: explicit padding of K, and the way between torch and codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwsim.formats import Encoded, Format, decode, encode, get


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


def padded_length(k: int, fmt: str | Format) -> int:
    """Return K rounded up to whole blocks of a format."""
    return k + get(fmt).padding(k)


def pad_k(x: NDArray[np.float32], k_padded: int) -> NDArray[np.float32]:
    """Append zeros to the last axis up to `k_padded`; zeros never change the scale of the block that they fill."""
    missing = k_padded - x.shape[-1]
    if missing < 0:
        raise ValueError(f"cannot pad K = {x.shape[-1]} down to {k_padded}")
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) if missing else x


def as_numpy(x: torch.Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a tensor as contiguous float32 NumPy, sharing its memory through DLPack where dtype and device allow."""
    values = np.from_dlpack(x.detach().to("cpu", torch.float32)) if isinstance(x, torch.Tensor) else x
    return np.ascontiguousarray(values, np.float32)


def encode_tensor(x: torch.Tensor, fmt: str | Format, axis: int = -1) -> Encoded:
    """Encode a torch tensor, padded with zeros along `axis` to whole blocks; the padding is recorded.

    Parameters
    ----------
    x : floating-point tensor [...]
        float32 on the CPU is read in place; other dtypes and devices are copied to float32.
    fmt, axis
        As for `hwsim.formats.encode`.

    Raises
    ------
    TypeError
        When `x` is no floating-point tensor.
    ValueError
        As `hwsim.formats.encode`.

    Exactness
    ---------
    That of the format; float64 input is first rounded to float32.
    """
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        raise TypeError(f"encode_tensor needs a floating-point tensor, not {getattr(x, 'dtype', type(x).__name__)}")
    values: NDArray[Any] = np.from_dlpack(x.detach().to("cpu", torch.float32))
    return encode(values, fmt, axis, pad=True)


def decode_tensor(encoded: Encoded) -> torch.Tensor:
    """Return the values of an encoded tensor as float32 torch, sharing the memory of the decoded array."""
    return torch.utils.dlpack.from_dlpack(decode(encoded))


def quantize_activations(x: NDArray[np.float32], fmt: str | Format, k_padded: int) -> Encoded:
    """Quantise activations [M, K] dynamically, a scale a token or a block as the format says.

    Parameters
    ----------
    x : float32 [M, K]
        Activations; a format with a tensor scale takes it from all M rows together.
    fmt : str or Format
        Activation format.
    k_padded : int
        K of the weights' codes, to which zeros are appended.
    """
    return encode(pad_k(x, k_padded), fmt)
