"""Layers as exported hold the codes that the unit multiplies, and the float result without bias."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwsim import pe
from hwsim.formats.bundle import Bundle, read_bundle, write_bundle

torch = pytest.importorskip("torch")

from quant.export.bundle import export_layer  # noqa: E402
from quant.methods import rtn  # noqa: E402
from quant.tensor import quantize_activations  # noqa: E402


@pytest.mark.parametrize("fmt", pe.formats())
def test_a_layer_goes_to_a_file_and_back(tmp_path: Path, fmt: str) -> None:
    torch.manual_seed(7)
    original, inputs = torch.randn(5, 576), torch.randn(4, 576)
    weight = rtn.quantize(original, rtn.Config(fmt))
    write_bundle(tmp_path / "x", Bundle((export_layer("q_proj", weight, original, inputs),), {"model": "test"}))
    layer = read_bundle(tmp_path / "x").layer("q_proj")
    assert (layer.k, layer.weight.k) == (576, weight.k_padded)
    np.testing.assert_array_equal(layer.weight.codes, weight.encoded.codes)
    want = quantize_activations(inputs.numpy(), layer.weight.format.activation, weight.k_padded)
    assert layer.activation is not None and layer.reference is not None
    np.testing.assert_array_equal(layer.activation.codes, want.codes)
    assert layer.activation.parts.keys() == want.parts.keys()
    if "scales" in want.parts:
        np.testing.assert_array_equal(layer.activation.scales, want.scales)
    exact = inputs.double() @ original.double().T
    bound = (inputs.double().abs() @ original.double().abs().T) * 2.0**-24 * 576
    assert (torch.abs(torch.from_numpy(layer.reference).double() - exact) <= bound).all()


def test_a_layer_without_captured_inputs_has_neither_activation_nor_reference() -> None:
    original = torch.randn(3, 64)
    layer = export_layer("a", rtn.quantize(original, rtn.Config("mxfp4")), original, None)
    assert layer.activation is None and layer.reference is None and layer.k == 64


def test_half_precision_and_trainable_originals_are_taken() -> None:
    original = torch.nn.Parameter(torch.randn(3, 64, dtype=torch.bfloat16))
    inputs = torch.randn(2, 64, dtype=torch.bfloat16)
    layer = export_layer("a", rtn.quantize(original, rtn.Config("int8")), original, inputs)
    assert layer.reference is not None and layer.reference.dtype == np.float32
    np.testing.assert_allclose(layer.reference, (inputs.float() @ original.detach().float().T).numpy(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 60), (2, 65)], ids=str)
def test_inputs_of_another_length_are_refused(shape: tuple[int, int]) -> None:
    original = torch.randn(3, 64)
    with pytest.raises((ValueError, RuntimeError)):
        export_layer("a", rtn.quantize(original, rtn.Config("int4_g128")), original, torch.zeros(shape))


def test_a_bad_input_row_names_the_layer() -> None:
    import numpy as np

    from quant.methods import rtn

    weight = np.ones((4, 32), np.float32)
    rows = torch.ones(2, 32)
    rows[1, 7] = float("nan")
    with pytest.raises(ValueError, match=r"layer up, input: .*\[1, 7\]"):
        export_layer("up", rtn.quantize(weight, rtn.Config("mxfp4")), torch.from_numpy(weight), rows)
