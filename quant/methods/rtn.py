"""Round to nearest: each weight goes to the nearest code under the scale that the format's rule gives its block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hwsim.formats import encode, get
from quant.tensor import QuantizedTensor, as_numpy, pad_k, padded_length


@dataclass(frozen=True)
class Config:
    """Configure round-to-nearest: the format says everything."""

    format: str


def quantize(weight: torch.Tensor | NDArray[np.float32], config: Config) -> QuantizedTensor:
    """Quantise a weight matrix [N, K], blocks along K, K padded with zero codes to whole blocks.

    Raises
    ------
    ValueError
        On NaN or Inf (naming the index), another rank, or an unknown format.

    Exactness
    ---------
    Bit-exact with the format's rules; see `hwsim.formats.encode`.
    """
    values = as_numpy(weight)
    if values.ndim != 2:
        raise ValueError(f"rtn takes a weight [N, K], not one of shape {values.shape}")
    spec = get(config.format)
    encoded = encode(pad_k(values, padded_length(values.shape[1], spec)), spec)
    return QuantizedTensor(encoded, values.shape[1], {"name": "rtn", "format": config.format})
