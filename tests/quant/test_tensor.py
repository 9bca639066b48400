"""Padding and the way between torch and codes."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim import pe
from hwsim.formats import decode, encode, get

torch = pytest.importorskip("torch")

from quant.tensor import (  # noqa: E402
    as_numpy,
    decode_tensor,
    encode_tensor,
    pad_k,
    padded_length,
    quantize_activations,
)


@pytest.mark.parametrize(
    ("fmt", "k", "padded"),
    [("int4_g128", 576, 640), ("int4_g128", 640, 640), ("int4_g128_asym", 1, 128), ("mxfp4", 576, 576),
     ("mxfp4", 577, 608), ("nvfp4", 577, 592), ("int8", 577, 577)],
)  # fmt: skip
def test_padded_length_by_hand(fmt: str, k: int, padded: int) -> None:
    assert padded_length(k, fmt) == padded_length(k, get(fmt)) == padded


def test_pad_k_appends_zeros_to_the_last_axis_only() -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    padded = pad_k(x, 5)
    assert padded.shape == (2, 2, 5) and padded.dtype == np.float32
    np.testing.assert_array_equal(padded[..., :3], x)
    assert not padded[..., 3:].view(np.uint32).any()
    np.testing.assert_array_equal(pad_k(x, 3), x)


def test_pad_k_cannot_cut() -> None:
    with pytest.raises(ValueError, match="K = 6 down to 4"):
        pad_k(np.zeros((1, 6), np.float32), 4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_as_numpy_gives_contiguous_float32(dtype: str) -> None:
    x = torch.arange(6, dtype=getattr(torch, dtype)).reshape(2, 3).T.requires_grad_()
    y = as_numpy(x)
    assert y.dtype == np.float32 and y.flags.c_contiguous
    assert y.tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("fmt", pe.formats())
def test_activations_are_padded_to_the_k_of_the_weights(fmt: str) -> None:
    spec = get(get(fmt).activation)
    k = 100
    k_padded = int(np.lcm(padded_length(k, fmt), spec.block_size or 1))
    x = np.random.default_rng(1).normal(size=(3, k)).astype(np.float32)
    codes = quantize_activations(x, spec, k_padded)
    assert codes.codes.shape == (3, k_padded)
    assert not codes.codes[:, k:].any()
    if spec.block_size is None and spec.scale is not None:  # the padding is left out of the row's scale
        np.testing.assert_array_equal(codes.scales, encode(x, spec).scales)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("axis", [0, -1])
def test_torch_tensors_encode_as_their_values_do(dtype: torch.dtype, axis: int) -> None:
    x = torch.randn(40, 50, generator=torch.Generator().manual_seed(3)).to(dtype)
    x.requires_grad_()
    encoded = encode_tensor(x, "mxfp4", axis)
    want = encode(x.detach().float().numpy(), "mxfp4", axis, pad=True)
    np.testing.assert_array_equal(encoded.codes, want.codes)
    np.testing.assert_array_equal(encoded.scales, want.scales)
    assert encoded.padding == {0: 24, -1: 14}[axis]
    back = decode_tensor(encoded)
    assert back.dtype == torch.float32 and back.shape == x.shape
    np.testing.assert_array_equal(back.numpy(), decode(want))


def test_float32_on_the_cpu_is_read_in_place() -> None:
    x = torch.randn(4, 32)
    assert np.shares_memory(as_numpy(x), x.numpy())
    assert as_numpy(x.to(torch.float64)).dtype == np.float32


@pytest.mark.parametrize("bad", [torch.zeros(4, 32, dtype=torch.int32), np.zeros((4, 32), np.float32), [1.0]])
def test_what_is_no_floating_tensor_is_refused(bad: object) -> None:
    with pytest.raises(TypeError, match="floating-point tensor, not"):
        encode_tensor(bad, "mxfp4")  # type: ignore[arg-type]


def test_a_tensor_with_a_nan_is_refused_by_its_index() -> None:
    x = torch.zeros(4, 32)
    x[2, 7] = float("nan")
    with pytest.raises(ValueError, match=r"index \[2, 7\]"):
        encode_tensor(x, "mxfp4")
