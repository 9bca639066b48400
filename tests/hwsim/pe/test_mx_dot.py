"""`mx_dot`: Params, every product of two FP4 codes, and every pair of scale codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwsim.formats import Encoded, element, element_values, get
from hwsim.pe import mx_dot, unit_for
from tests.hwsim.pe import oracle

FORMATS = ["mxfp4", "nvfp4"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"element": "int5"}, "element must be one of float4_e2m1fn, float6_e2m3fn, .*, bfloat16, not 'int5'"),
        ({"a_element": "uint8"}, "a_element must be one of float4_e2m1fn, .*, not 'uint8'"),
        ({"scale": "float16"}, "scale must be one of float8_e8m0fnu, .*, uint8, none, not 'float16'"),
        ({"a_scale": ""}, "a_scale must be one of float8_e8m0fnu, .*, none, not ''"),
        ({"lanes": 0}, "lanes must be an integer of 1 to 64, not 0"),
        ({"lanes": "8"}, "lanes must be an integer of 1 to 64, not '8'"),
        ({"lanes": 128, "block": 128}, "lanes must be an integer of 1 to 64, not 128"),
        ({"block": 48}, "block must be a multiple of lanes = 32 or divide it, not 48"),
        ({"block": 0}, "block must be an integer of 1 to 128, not 0"),
        ({"block": 256}, "block must be an integer of 1 to 128, not 256"),
        ({"stages": 5}, "mx_dot: stages must be 0 to 4, not 5"),
        ({"adder_tree": "wallace"}, "mx_dot: adder_tree must be one of binary, carry_save, not 'wallace'"),
        ({"element": "bfloat16"}, "exact sum of 32 products bfloat16 x bfloat16 needs 528 bits; allowed are 128"),
    ],
    ids=str,
)
def test_bad_params_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mx_dot.Params(**fields)


def one_hot(fmt: str, lane: int) -> Encoded:
    """Return 16 rows of one block: row c holds code c in one lane, and zeros of both signs elsewhere."""
    spec = get(fmt)
    codes = np.full((16, spec.block_size), 8, np.uint8)
    codes[:, ::2] = 0
    codes[:, lane] = np.arange(16)
    one = 127 if spec.scale.name == "float8_e8m0fnu" else 0x38
    scales = np.full((16, 1), one, np.uint8)
    return Encoded.of(
        spec, codes=codes, scales=scales, tensor_scale=np.float32(1) if spec.tensor_scale != "none" else None
    )


@pytest.mark.parametrize("lane", [0, 7, -1])
@pytest.mark.parametrize("fmt", FORMATS)
def test_all_256_products_of_fp4_codes(fmt: str, lane: int) -> None:
    found, params = unit_for(fmt)
    values = element_values(element("float4_e2m1fn"))
    want = (np.outer(values, values) + 0.0).astype(np.float32)  # a sum that is zero is +0
    operand = one_hot(fmt, lane)
    np.testing.assert_array_equal(found.gemm(operand, operand, params).view(np.uint32), want.view(np.uint32))
    for m, n in np.ndindex(16, 16):
        beats = found.beats(operand, operand, m, n, params)
        assert found.reference(beats, params) == int(want[m, n].view(np.uint32))


@pytest.mark.parametrize("fmt", FORMATS)
def test_all_pairs_of_scale_codes(fmt: str) -> None:
    """256 x 256 outputs of one block: every scale code of A meets every one of B, NaN and negative ones included."""
    found, params = unit_for(fmt)
    spec, rng = get(fmt), np.random.default_rng(3)
    block = rng.integers(0, 16, spec.block_size).astype(np.uint8)
    second = np.float32(1) if spec.tensor_scale != "none" else None
    codes = np.tile(block, (256, 1))
    operand = Encoded.of(spec, codes=codes, scales=np.arange(256, dtype=np.uint8)[:, None], tensor_scale=second)
    got = found.gemm(operand, operand, params)
    total = float((element_values(spec.element)[block] ** 2).sum())  # exact
    scales = element_values(spec.scale)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = total * np.outer(scales, scales) + 0.0  # in float64: 12 bits times 8
        want = exact.astype(np.float32)
    assert np.isnan(want).any() and (fmt == "nvfp4" or np.isinf(want).any())
    want[np.isnan(want)] = np.float32(np.nan)
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))
    corners = [[0, 0], [0, 254], [254, 254], [255, 0], [127, 128], [128, 1]]
    for m, n in [*rng.integers(0, 256, (60, 2)).tolist(), *corners]:
        beats = found.beats(operand, operand, m, n, params)
        assert found.reference(beats, params) == int(want[m, n].view(np.uint32)) == oracle.dot(operand, operand, m, n)


def test_tensor_scales_come_last_a_before_b_one_rounding_each() -> None:
    found, params = unit_for("nvfp4")
    a, b = one_hot("nvfp4", 0), one_hot("nvfp4", 0)
    big, small = np.float32(3e38), np.float32(1e-38)
    a = a.replace_parts(tensor_scale=np.array(big))
    b = b.replace_parts(tensor_scale=np.array(small))
    got = found.gemm(a, b, params)
    assert np.isinf(got[7, 7])  # 36 * 3e38 overflows before 1e-38 comes
    assert got[1, 1] == np.float32(np.float32(0.25) * big) * small
    swapped = found.gemm(b, a, params)
    assert np.isfinite(swapped[7, 7]) and swapped[7, 7] == np.float32(np.float32(36) * small) * big
