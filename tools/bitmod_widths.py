"""Count the outputs of real layers that a narrower accumulator of the `bitmod` unit changes.

    python -m tools.bitmod_widths --widths 36,40,44 --rows 16 --models smollm2,minilm,efficientnet_lite0

Each linear layer's weights are quantised as `hwsim quantize` does; its input rows are real ones: of calibration text,
and for the image classifier of smooth random images (the project holds no photographs). The same codes go through the
unit at each width and at the widest; a row of the table holds the outputs whose FP32 bits differ.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from hwsim import pe
from hwsim.flow.progress import Reporter
from hwsim.flow.quantise import SAMPLE_WINDOW, quantise_network
from hwsim.pe import bitmod
from models.efficientnet_lite0 import preprocess
from models.evaluate import token_windows
from models.linear import capture_inputs, linear_layers
from models.load import LoadedModel, load
from models.text import default_text
from quant.tensor import quantize_activations

FORMATS = ("bitmod_fp3", "bitmod_fp4", "int5_g128_vsq", "int6_g128_vsq", "int8_g128_vsq")
MODELS = ("smollm2", "minilm", "efficientnet_lite0")
IMAGE_SIDE = 224


def inputs_of(loaded: LoadedModel, rows: int, seed: int) -> Mapping[str, torch.Tensor]:
    """Return input rows by layer, float32 [rows, K]; layers that do not see a row a token are left out."""
    names = [name for name in linear_layers(loaded) if "pooler" not in name]
    if loaded.kind == "vision":
        return _image_inputs(loaded, rows, seed)
    assert loaded.tokenizer is not None
    window = min(SAMPLE_WINDOW, int(loaded.facts.get("max_position_embeddings", SAMPLE_WINDOW)))
    windows = token_windows(loaded.tokenizer, default_text().calibration, window, window)
    return capture_inputs(loaded, names, windows, rows=rows, seed=seed)


def _image_inputs(loaded: LoadedModel, rows: int, seed: int) -> Mapping[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            found[name] = given[0].reshape(-1, given[0].shape[-1])

        return linear_layers(loaded)[name].register_forward_pre_hook(hook)

    hooks = [keep(name) for name in linear_layers(loaded)]
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(0, 255, (rows, 3, 14, 14)).astype(np.float32))
    images = torch.nn.functional.interpolate(coarse, size=(IMAGE_SIDE, IMAGE_SIDE), mode="bilinear").to(torch.uint8)
    with torch.no_grad():
        loaded.module(preprocess(images))
    for handle in hooks:
        handle.remove()
    return found


def count(loaded: LoadedModel, fmt: str, widths: list[int], rows: int, seed: int) -> tuple[int, int, dict[int, int]]:
    """Return layers, outputs, and the outputs that differ by width."""
    unit, params = pe.unit_for(fmt, bitmod.NAME)
    widest = replace(params, acc_bits=bitmod.ACC_BITS[1])
    network = quantise_network(loaded, fmt, "rtn", Reporter(quiet=True))
    differing, outputs, layers = dict.fromkeys(widths, 0), 0, 0
    for name, x in inputs_of(loaded, rows, seed).items():
        weight = network.weights[name]
        codes = quantize_activations(x.numpy(), "float16", weight.k_padded)
        exact = unit.gemm(codes, weight.encoded, widest).view(np.uint32)
        layers, outputs = layers + 1, outputs + exact.size
        for width in widths:
            found = unit.gemm(codes, weight.encoded, replace(params, acc_bits=width)).view(np.uint32)
            differing[width] += int(np.count_nonzero(found != exact))
    return layers, outputs, differing


def main() -> None:
    """Print a table of the command's models and formats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", default="28,32,36,40,44", help="acc_bits, separated by commas")
    parser.add_argument("--rows", type=int, default=16, help="input rows a layer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--formats", default=",".join(FORMATS))
    given = parser.parse_args()
    widths = [int(width) for width in given.widths.split(",")]
    for model in given.models.split(","):
        loaded = load(model, quiet=True)
        for fmt in given.formats.split(","):
            layers, outputs, differing = count(loaded, fmt, widths, given.rows, given.seed)
            shown = "  ".join(f"{width}: {differing[width]}" for width in widths)
            print(
                f"{model:20} {fmt:14} layers {layers:4}  outputs {outputs:9}  differing by acc_bits  {shown}",
                flush=True,
            )


if __name__ == "__main__":
    main()
