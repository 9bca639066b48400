"""Export quantised layers with real sample operands to a bundle (`hwsim.formats.bundle`)."""

from __future__ import annotations

import torch

from hwsim.formats import activation_of
from hwsim.formats.bundle import Layer
from quant.tensor import QuantizedTensor, as_numpy, quantize_activations


def export_layer(name: str, weight: QuantizedTensor, original: torch.Tensor, inputs: torch.Tensor | None) -> Layer:
    """Make a bundle layer of a quantised weight, the float weight it came from, and captured input rows.

    Parameters
    ----------
    name : str
        Name of the layer in its network.
    weight : QuantizedTensor
        Codes of the weight.
    original : float32 [N, K]
        Weight before quantisation; gives the float reference output.
    inputs : float32 [rows, K] or None
        Real input rows; quantised in the format that goes with the weight's.
    """
    if inputs is None:
        return Layer(name, weight.k, weight.encoded)
    rows = as_numpy(inputs)
    try:
        codes = quantize_activations(rows, activation_of(weight.encoded.format), weight.k_padded)
    except ValueError as error:
        raise ValueError(f"layer {name}, input: {error}") from error
    reference = torch.from_numpy(rows) @ original.detach().to(torch.float32).T
    return Layer(name, weight.k, weight.encoded, codes, as_numpy(reference))
