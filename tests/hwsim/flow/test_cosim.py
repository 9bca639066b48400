"""The RTL on operands of real SmolLM2 layers, by way of the bundle that everyone else reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwsim import pe
from hwsim.flow.cosim import cosim_bundle
from hwsim.flow.progress import Reporter
from hwsim.formats.bundle import read_bundle, write_bundle

if TYPE_CHECKING:
    import torch

    from models.load import LoadedModel

BLOCK = "model.layers.11."


@pytest.fixture(scope="module")
def captured() -> tuple[LoadedModel, Mapping[str, torch.Tensor]]:
    """SmolLM2, and real inputs of the seven matrices of one block."""
    from models.evaluate import token_windows
    from models.linear import capture_inputs, linear_layers
    from models.load import load
    from models.text import default_text

    loaded = load("smollm2", quiet=True)
    assert loaded.tokenizer is not None
    windows = token_windows(loaded.tokenizer, default_text().calibration, 256, 256)
    names = [name for name in linear_layers(loaded) if name.startswith(BLOCK)]
    assert len(names) == 7
    return loaded, capture_inputs(loaded, names, windows, rows=16, seed=0)


QUICK = ("int8", "int4_g128", "int4_g128_asym", "mxfp4", "nvfp4", "mxfp8_e4m3")
"""Formats whose units are simulated in the default run."""


@pytest.mark.rtl
@pytest.mark.parametrize(
    "fmt", [pytest.param(fmt, marks=() if fmt in QUICK else pytest.mark.slow) for fmt in pe.formats()]
)
def test_rtl_equals_model_on_real_layers(
    captured: tuple[LoadedModel, Mapping[str, torch.Tensor]], fmt: str, tmp_path: Path
) -> None:
    from hwsim.flow.quantise import export_network, quantise_network

    loaded, inputs = captured
    network = quantise_network(loaded, fmt, "rtn", Reporter(quiet=True), set(inputs))
    write_bundle(tmp_path / "block", export_network(loaded, network, inputs, seed=0, text_sha256=None))
    bundle = read_bundle(tmp_path / "block")
    row = cosim_bundle(bundle, None, engine="auto", vectors=154, seed=1, waveform_dir=tmp_path)
    assert row["pe"] == pe.unit_for(fmt)[0].NAME
    assert row["macs"] == 22 * (6 * 576 + 1536) > 100_000
    assert (row["vectors"], row["mismatches"], row["cycle_mismatches"]) == (154, 0, 0), row["first_mismatch"]


@pytest.mark.parametrize("fmt", pe.formats())
def test_unit_stays_near_the_float_layer(captured: tuple[LoadedModel, Mapping[str, torch.Tensor]], fmt: str) -> None:
    from hwsim.flow.quantise import export_network, quantise_network

    loaded, inputs = captured
    name = f"{BLOCK}mlp.up_proj"
    network = quantise_network(loaded, fmt, "rtn", Reporter(quiet=True), {name})
    layer = export_network(loaded, network, inputs, seed=0, text_sha256=None).layer(name)
    unit, params = pe.unit_for(fmt)
    assert layer.activation is not None and layer.reference is not None
    result = unit.gemm(layer.activation, layer.weight, params)
    error = ((result - layer.reference) ** 2).sum() / (layer.reference**2).sum()
    # 8 bits on both sides leave well under 1 % of the power, 4 bits well under a fifth
    assert error < (0.01 if fmt == "int8" else 0.2)
