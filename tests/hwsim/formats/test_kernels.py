"""The two scalar kernels under every encode: one minifloat rounding, one minifloat value."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hwsim.formats import FloatSpec, element, element_names
from hwsim.formats import _kernels as kernels
from tests.hwsim.formats import oracle

WITH_SUBNORMALS = [
    name
    for name in element_names()
    if isinstance(spec := element(name), FloatSpec) and spec.subnormals and spec.bits <= 16
]


@pytest.mark.parametrize("name", WITH_SUBNORMALS)
def test_every_rounding_boundary_and_its_float64_neighbours(name: str) -> None:
    spec = element(name)
    assert isinstance(spec, FloatSpec)
    codes = np.arange(spec.max_code) if spec.bits <= 8 else np.random.default_rng(0).integers(0, spec.max_code, 400)
    for code in codes.tolist():
        middle = float((oracle.value(spec, code) + oracle.value(spec, code + 1)) / 2)
        for point in (np.nextafter(middle, 0), middle, np.nextafter(middle, np.inf), float(oracle.value(spec, code))):
            got = kernels.float_code(point, spec.man_bits, spec.bias, spec.max_code)
            assert got == oracle.nearest(spec, Fraction(point)), (hex(code), point)


@pytest.mark.parametrize("name", WITH_SUBNORMALS)
def test_what_lies_above_the_largest_value_saturates(name: str) -> None:
    spec = element(name)
    for point in (spec.max_value * 1.03, 2 * spec.max_value, 1e30, 1e300):
        assert kernels.float_code(point, spec.man_bits, spec.bias, spec.max_code) == spec.max_code
    for point in (0.0, 5e-324, 1e-300, spec.min_step / 2):
        assert kernels.float_code(point, spec.man_bits, spec.bias, spec.max_code) == 0


@pytest.mark.parametrize("name", WITH_SUBNORMALS)
def test_float_value_is_exact_on_every_finite_code(name: str) -> None:
    spec = element(name)
    for code in range(0, spec.max_code + 1, 1 if spec.bits <= 8 else 7):
        assert Fraction(kernels.float_value(code, spec.man_bits, spec.bias)) == oracle.value(spec, code)


def test_rounding_agrees_with_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(5).uniform(0, 7, 3000).astype(np.float32)
    for name, top in (("float4_e2m1fn", 7), ("float8_e4m3fn", 400)):
        spec = element(name)
        points = x * np.float32(top / 7)
        ours = [kernels.float_code(float(p), spec.man_bits, spec.bias, spec.max_code) for p in points]
        theirs = points.astype(getattr(ml_dtypes, name)).view(np.uint8)
        if name == "float4_e2m1fn":
            theirs = np.minimum(theirs & 15, 7)
        assert ours == theirs.tolist()


def test_rounding_to_float16_agrees_with_numpy() -> None:
    rng = np.random.default_rng(6)
    x = np.ldexp(rng.uniform(1, 2, 3000), rng.integers(-27, 15, 3000))
    ours = [kernels.float_code(float(p), 10, 15, 0x7BFF) for p in x]
    assert ours == x.astype(np.float16).view(np.uint16).tolist()
