"""Quantise the linear layers of a network, and export them with real operands."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwsim.flow.progress import Reporter
from hwsim.formats import decode, get
from hwsim.formats.bundle import Bundle, write_bundle

if TYPE_CHECKING:
    import torch

    from models.load import LoadedModel
    from quant.tensor import QuantizedTensor

SAMPLE_WINDOW = 512
"""Tokens of calibration text that are run to capture sample operands, for each as many rows."""


@dataclass(frozen=True)
class QuantisedNetwork:
    """Hold the quantised weights of a network's linear layers, in the order of execution.

    Attributes
    ----------
    weights : dict of name to QuantizedTensor
    bits_per_weight : float
        Stored bits (scales, zero points and padding included) over weights without padding.
    weight_sqnr_db : float
        10 log10 of summed squared weights over summed squared errors, all layers together.
    layer_sqnr_db : dict of name to float
        The same by layer.
    """

    format: str
    method: str
    weights: Mapping[str, QuantizedTensor]
    bits_per_weight: float
    weight_sqnr_db: float
    layer_sqnr_db: Mapping[str, float]

    def part(self, names: Collection[str]) -> QuantisedNetwork:
        """Return the named layers alone; the figures stay those of the whole network."""
        return replace(self, weights={name: weight for name, weight in self.weights.items() if name in names})


def quantise_network(
    loaded: LoadedModel, fmt: str, method: str, reporter: Reporter, names: Collection[str] | None = None
) -> QuantisedNetwork:
    """Quantise linear layers of a network: the named ones, or all.

    Raises
    ------
    ValueError
        Unknown format or method; a weight with NaN or Inf (naming the layer and index).
    """
    from models.linear import linear_layers
    from quant import methods

    module = methods.method(method)
    get(fmt)
    weights: dict[str, QuantizedTensor] = {}
    powers: dict[str, tuple[float, float]] = {}
    bits = count = 0
    layers = {name: layer for name, layer in linear_layers(loaded).items() if names is None or name in names}
    for name, layer in reporter.track(layers.items(), f"quantise to {fmt}", total=len(layers)):
        original = layer.weight.detach().numpy()
        try:
            weights[name] = module.quantize(original, module.Config(fmt))
        except ValueError as error:
            raise ValueError(f"layer {name}: {error}") from error
        encoded = weights[name].encoded
        powers[name] = _power(original), _power(decode(encoded)[:, : original.shape[1]] - original)
        bits += encoded.stored_bits
        count += original.size
    whole = _sqnr_db(*(math.fsum(column) for column in zip(*powers.values(), strict=True)))
    return QuantisedNetwork(
        fmt, method, weights, bits / count, whole, {name: _sqnr_db(*pair) for name, pair in powers.items()}
    )


def _power(x: NDArray[np.float32]) -> float:
    return float(np.einsum("ij,ij->", x, x, dtype=np.float64))


def _sqnr_db(signal: float, noise: float) -> float:
    return 10 * math.log10(signal / noise) if signal and noise else math.inf


def export_network(
    loaded: LoadedModel,
    network: QuantisedNetwork,
    inputs: Mapping[str, torch.Tensor],
    seed: int,
    text_sha256: str | None,
) -> Bundle:
    """Make a bundle of a quantised network; `inputs` holds captured rows by layer (layers without stay without)."""
    from models.linear import linear_layers
    from quant.export.bundle import export_layer

    layers = linear_layers(loaded)
    meta = {
        "model": loaded.name,
        "source_sha256": loaded.weights_sha256,
        "source_note": loaded.note,
        "format": network.format,
        "method": network.method,
        "seed": seed,
        "text_sha256": text_sha256,
    }
    exported = tuple(
        export_layer(name, weight, layers[name].weight, inputs.get(name)) for name, weight in network.weights.items()
    )
    return Bundle(exported, meta)


def quantise_to_file(
    model: str, fmt: str, method: str, out: Path, wanted: Callable[[str], bool], pattern: str, rows: int,
    text_file: Path | None, seed: int, reporter: Reporter,
) -> dict[str, Any]:  # fmt: skip
    """Run `hwsim quantize`: write the bundle, return its document.

    Raises
    ------
    ValueError
        Unknown names, no layer that fits the pattern, NaN in a weight, or a text that is too short.
    """
    from quant import methods

    get(fmt)
    check_target(out)
    with reporter.busy("import torch and transformers"):
        methods.method(method)
        from models.linear import left_alone, linear_layers
        from models.load import load
    loaded = load(model, quiet=reporter.quiet)
    layers = linear_layers(loaded)
    names = [name for name in layers if wanted(name)]
    if not names:
        raise ValueError(f"no linear layer of {model} fits {pattern!r}; there are {', '.join(list(layers)[:8])}, ...")
    inputs, text_sha256, without = _sample(loaded, names, rows, text_file, seed, reporter)
    network = quantise_network(loaded, fmt, method, reporter, names)
    bundle = export_network(loaded, network, inputs, seed, text_sha256)
    write_bundle(out, bundle)
    return {
        "file": str(out),
        "model": loaded.name,
        "weights_note": loaded.note,
        "format": fmt,
        "method": method,
        "seed": seed,
        "text_sha256": text_sha256,
        "bits_per_weight": network.bits_per_weight,
        "weight_sqnr_db": network.weight_sqnr_db,
        "left_alone": {
            **left_alone(loaded),
            **{name: "not in --layers" for name in layers if name not in names},
            **without,
        },
        "rows": [
            {
                "name": layer.name,
                "n": layer.weight.shape[0],
                "k": layer.k,
                "k_padded": layer.weight.k,
                "sample_rows": 0 if layer.activation is None else layer.activation.shape[0],
                "weight_sqnr_db": network.layer_sqnr_db[layer.name],
            }
            for layer in bundle.layers
        ],
    }


def check_target(out: Path) -> None:
    """Refuse a file that could not be written in the end, before any work is done."""
    if not out.name or out.is_dir():
        raise ValueError(f"--out {str(out)!r}: is a folder; give the name of a file")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: the folder {out.parent} does not exist")
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"--out {out}: the folder {out.parent} cannot be written")


def _sample(
    loaded: LoadedModel, names: list[str], rows: int, text_file: Path | None, seed: int, reporter: Reporter
) -> tuple[dict[str, torch.Tensor], str | None, dict[str, str]]:
    """Return captured input rows by layer, the text's hash, and the layers that stay without, with the reason."""
    from models.evaluate import token_windows
    from models.linear import capture_inputs
    from models.text import default_text, from_file

    if rows == 0:
        return {}, None, {}
    if loaded.tokenizer is None:
        return {}, None, {name: "no sample operands: the network does not read text" for name in names}
    text = default_text() if text_file is None else from_file(text_file)
    part = text.calibration if text_file is None else text
    window = min(SAMPLE_WINDOW, int(loaded.facts.get("max_position_embeddings", SAMPLE_WINDOW)))
    windows = token_windows(loaded.tokenizer, part, -(-rows // window) * window, window)
    # a pooler sees one row a text, not one a token: it stays without sample operands, and the report says so
    poolers = {name: "no sample operands: it does not see a row a token" for name in names if "pooler" in name}
    taken = [name for name in names if name not in poolers]
    with reporter.busy(f"capture {rows} input rows of {len(taken)} layers"):
        inputs = capture_inputs(loaded, taken, windows, rows=rows, seed=seed)
    return inputs, text.sha256, poolers
