"""Round to nearest is the format's encoder with explicit padding."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim import pe
from hwsim.formats import decode, encode, get

torch = pytest.importorskip("torch")

from quant.methods import method, rtn  # noqa: E402
from quant.methods import names as method_names  # noqa: E402

WEIGHT = np.random.default_rng(1).normal(size=(6, 576)).astype(np.float32)


def test_the_methods_are_those_of_the_folder() -> None:
    assert "rtn" in method_names()
    assert method("rtn").quantize is rtn.quantize


def test_an_unknown_method_lists_the_legal_ones() -> None:
    with pytest.raises(ValueError, match=f"unknown method 'magic'; known: {', '.join(method_names())}"):
        method("magic")


def test_an_unknown_format_lists_the_legal_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown format 'fp5'.*mxfp4"):
        rtn.quantize(WEIGHT, rtn.Config("fp5"))


@pytest.mark.parametrize("fmt", pe.formats())
def test_torch_and_numpy_give_the_same_codes(fmt: str) -> None:
    config = rtn.Config(fmt)
    ours = rtn.quantize(WEIGHT, config)
    for theirs in (
        torch.from_numpy(WEIGHT),
        torch.from_numpy(WEIGHT.T.copy()).T,
        torch.nn.Parameter(torch.tensor(WEIGHT)),
    ):
        np.testing.assert_array_equal(rtn.quantize(theirs, config).encoded.codes, ours.encoded.codes)
    assert ours.k == 576 and dict(ours.method) == {"name": "rtn", "format": fmt}


@pytest.mark.parametrize("fmt", pe.formats())
def test_codes_without_padding_are_those_of_the_encoder(fmt: str) -> None:
    quantized = rtn.quantize(WEIGHT, rtn.Config(fmt))
    block = get(fmt).block_size or 576
    whole = 576 // block * block
    want = encode(np.ascontiguousarray(WEIGHT[:, :whole]), fmt)
    if getattr(get(fmt), "tensor_scale", "none") == "none" or whole == 576:
        np.testing.assert_array_equal(quantized.encoded.codes[:, :whole], want.codes)
        if "scales" in want.parts:
            np.testing.assert_array_equal(quantized.encoded.scales[:, : whole // block], want.scales)


@pytest.mark.parametrize("fmt", ["int4_g128", "int4_g128_asym"])
def test_576_is_padded_to_640_with_codes_that_mean_zero(fmt: str) -> None:
    quantized = rtn.quantize(WEIGHT, rtn.Config(fmt))
    encoded = quantized.encoded
    assert (quantized.k, quantized.k_padded, encoded.codes.shape) == (576, 640, (6, 640))
    zero = encoded.zeros[:, -1:] if encoded.zeros is not None else np.zeros((6, 1), np.uint8)
    np.testing.assert_array_equal(encoded.codes[:, 576:], np.broadcast_to(zero, (6, 64)))
    assert not decode(encoded)[:, 576:].any()
    assert encoded.zeros is None or zero.all()  # else this would prove nothing


@pytest.mark.parametrize("fmt", ["int4_g128", "int4_g128_asym"])
def test_padding_is_left_out_of_the_scale_of_its_block(fmt: str) -> None:
    tail = WEIGHT[:, 512:].astype(np.float64)
    if fmt == "int4_g128":
        want = np.abs(tail).max(axis=1) / 7
    else:
        want = (np.maximum(tail.max(axis=1), 0) - np.minimum(tail.min(axis=1), 0)) / 15
    scales = rtn.quantize(WEIGHT, rtn.Config(fmt)).encoded.scales[:, -1]
    np.testing.assert_array_equal(scales, want.astype(np.float16).view(np.uint16))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("fmt", pe.formats())
def test_a_weight_that_is_not_finite_is_refused_by_index(fmt: str, bad: float) -> None:
    weight = torch.zeros(3, 576)
    weight[2, 100] = bad
    with pytest.raises(ValueError, match=rf"{fmt}.*\[2, 100\]"):
        rtn.quantize(weight, rtn.Config(fmt))


@pytest.mark.parametrize("shape", [(576,), (2, 3, 32), ()], ids=str)
def test_other_ranks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"rtn takes a weight \[N, K\]"):
        rtn.quantize(torch.zeros(shape), rtn.Config("mxfp4"))


def test_an_empty_weight_is_refused() -> None:
    for shape in ((0, 32), (4, 0)):
        with pytest.raises(ValueError, match="empty"):
            rtn.quantize(torch.zeros(shape), rtn.Config("mxfp4"))
