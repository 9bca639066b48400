"""A linear layer on codes: the same quantised operands, multiplied on a unit or, for comparison, as floats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hwsim.formats import Encoded, Format, activation_of, decode
from quant.tensor import QuantizedTensor, as_numpy, quantize_activations

Gemm = Callable[[Encoded, Encoded], NDArray[np.float32]]
"""C[M, N] from A [M, K] and B [N, K], both as codes."""


def fakequant_gemm(a: Encoded, b: Encoded) -> NDArray[np.float32]:
    """Multiply the decoded operands in float32 on the machine's matrix units (order of summation not defined)."""
    product = torch.from_numpy(decode(a)) @ torch.from_numpy(decode(b)).T
    return product.numpy()


@dataclass(frozen=True)
class QuantizedLinear:
    """Replace a linear layer's product: quantise the input dynamically, multiply codes, add the float bias.

    Attributes
    ----------
    weight : QuantizedTensor
        Weight codes [N, K padded].
    gemm : callable
        A unit's `gemm`, or `fakequant_gemm`.
    bias : float32 [N] or None
        Added in float32 after the product.
    activation : Format or None
        Format of the input's codes; None takes that which goes with the weights.
    """

    weight: QuantizedTensor
    gemm: Gemm
    bias: torch.Tensor | None = None
    activation: Format | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output [..., N] for an input [..., K]."""
        if x.shape[-1] != self.weight.k:
            raise ValueError(f"the layer takes inputs [..., {self.weight.k}], not {list(x.shape)}")
        rows = as_numpy(x).reshape(-1, x.shape[-1])
        fmt = self.activation or activation_of(self.weight.encoded.format)
        codes = quantize_activations(rows, fmt, self.weight.k_padded)
        out = torch.from_numpy(self.gemm(codes, self.weight.encoded)).reshape(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias
