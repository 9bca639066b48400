"""A linear layer on codes: unit against fake quantisation, shapes, bias."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim import pe
from hwsim.formats import decode
from hwsim.pe import unit_for

torch = pytest.importorskip("torch")

from quant.linear import QuantizedLinear, fakequant_gemm  # noqa: E402
from quant.methods import rtn  # noqa: E402
from quant.tensor import quantize_activations  # noqa: E402


def layers(fmt: str, n: int = 9, k: int = 200, bias: bool = False) -> tuple[QuantizedLinear, QuantizedLinear]:
    """Return the same layer on its unit and on fake quantisation."""
    torch.manual_seed(3)
    weight = rtn.quantize(torch.randn(n, k), rtn.Config(fmt))
    unit, params = unit_for(fmt)
    b = torch.randn(n) if bias else None
    return QuantizedLinear(weight, lambda x, w: unit.gemm(x, w, params), b), QuantizedLinear(weight, fakequant_gemm, b)


@pytest.mark.parametrize("fmt", pe.formats())
def test_datapath_and_fakequant_differ_by_float32_summation_only(fmt: str) -> None:
    """Both multiply the same codes: the unit is exact within a block, fake quantisation rounds operands and every step.

    Each of at most 2 K + blocks + 4 roundings moves the result by 2**-24 of the sum of magnitudes at most.
    """
    on_unit, faked = layers(fmt)
    x = torch.randn(17, 200)
    weight = on_unit.weight
    codes = quantize_activations(x.numpy(), weight.encoded.format.activation, weight.k_padded)
    magnitudes = np.abs(decode(codes)).astype(np.float64) @ np.abs(decode(weight.encoded)).astype(np.float64).T
    blocks = weight.encoded.scales.shape[1] if "scales" in weight.encoded.parts else 0
    bound = magnitudes * 2.0**-24 * (2 * weight.k_padded + blocks + 4) * 1.001
    difference = np.abs(on_unit(x).numpy().astype(np.float64) - faked(x).numpy())
    assert (difference <= bound).all()
    assert bound.max() < 0.01  # the bound says something: outputs are about 14


@pytest.mark.parametrize("fmt", pe.formats())
def test_fakequant_is_the_product_of_decoded_operands(fmt: str) -> None:
    _, faked = layers(fmt)
    x = torch.randn(4, 200)
    codes = quantize_activations(x.numpy(), faked.weight.encoded.format.activation, faked.weight.k_padded)
    want = torch.from_numpy(decode(codes)) @ torch.from_numpy(decode(faked.weight.encoded)).T
    torch.testing.assert_close(faked(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fmt", pe.formats())
def test_the_layer_stays_near_the_float_one(fmt: str) -> None:
    """A guard against a lost scale: relative error of 8 bits under 2 %, of 4 bits under 25 %."""
    torch.manual_seed(5)
    w, x = torch.randn(32, 256), torch.randn(64, 256)
    unit, params = unit_for(fmt)
    layer = QuantizedLinear(rtn.quantize(w, rtn.Config(fmt)), lambda a, b: unit.gemm(a, b, params))
    error = (layer(x) - x @ w.T).norm() / (x @ w.T).norm()
    assert error < (0.02 if fmt == "int8" else 0.25)


@pytest.mark.parametrize("shape", [(200,), (1, 200), (2, 3, 200), (1, 1, 1, 200)], ids=str)
def test_any_number_of_leading_axes(shape: tuple[int, ...]) -> None:
    on_unit, _ = layers("int8")
    x = torch.randn(*shape)
    out = on_unit(x)
    assert out.shape == (*shape[:-1], 9) and out.dtype == torch.float32
    torch.testing.assert_close(out.reshape(-1, 9), on_unit(x.reshape(-1, 200)), rtol=0, atol=0)


def test_bias_is_added_after_the_product_in_float32() -> None:
    plain, _ = layers("mxfp4")
    biased, _ = layers("mxfp4", bias=True)
    x = torch.randn(5, 200)
    assert biased.bias is not None
    torch.testing.assert_close(biased(x), plain(x) + biased.bias, rtol=0, atol=0)


def test_an_input_that_is_not_contiguous_gives_the_same() -> None:
    layer, _ = layers("int4_g128")
    x = torch.randn(200, 6)
    torch.testing.assert_close(layer(x.T), layer(x.T.contiguous()), rtol=0, atol=0)


@pytest.mark.parametrize("k", [199, 150, 201, 256])
def test_an_input_of_another_length_is_refused_and_not_padded(k: int) -> None:
    layer, _ = layers("int4_g128")
    with pytest.raises(ValueError, match=f"{k}.*200|200.*{k}"):
        layer(torch.zeros(2, k))


def test_a_value_that_is_not_finite_is_refused() -> None:
    layer, _ = layers("int8")
    x = torch.zeros(2, 200)
    x[1, 7] = float("nan")
    with pytest.raises(ValueError, match=r"\[1, 7\]"):
        layer(x)
