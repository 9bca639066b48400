"""Units that take activations of a format of their own: operands, layers of files and of networks come in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim import pe
from hwsim.flow.operands import bundle_batches, directed, formats_of, from_bundle
from hwsim.formats import Encoded, activation_of, decode, encode, get
from hwsim.formats.bundle import Bundle, Layer
from tests.hwsim.pe import oracle

CASES = [("int4_g128", "mixpe_w4a16"), ("int4_g128_asym", "mixpe_w4a16"), ("int8", "tender")]
every_case = pytest.mark.parametrize(("fmt", "name"), CASES)


@every_case
def test_directed_operands_are_those_of_the_unit(fmt: str, name: str) -> None:
    unit, params = pe.unit_for(fmt, name)
    assert fmt in formats_of(name)
    dots = directed(fmt, unit, params, 200, seed=1)
    assert len(set(dots.expected)) > 60
    for beats, bits in list(zip(dots.beats, dots.expected, strict=True))[::7]:
        assert unit.reference(beats, params) == bits


@every_case
def test_samples_of_a_file_are_encoded_again(fmt: str, name: str) -> None:
    rng = np.random.default_rng(0)
    sample = encode(rng.standard_normal((6, 256)).astype(np.float32), activation_of(fmt))
    layer = Layer("one", 256, oracle.operand(get(fmt), 5, 256, rng), sample)
    unit, params = pe.unit_for(fmt, name)
    (batch,) = bundle_batches(Bundle((layer,)), 20, 0, name)
    assert batch.a.format == pe.activation_for(fmt, name) != sample.format
    own = encode(decode(sample), batch.a.format)
    rows = np.random.default_rng(0).integers(6, size=20)
    np.testing.assert_array_equal(batch.a.codes, own.codes[rows])
    assert len(from_bundle(Bundle((layer,)), unit, params, 20, seed=0).expected) == 20
    kept = replace(layer, activation=own)
    (again,) = bundle_batches(Bundle((kept,)), 20, 0, name)
    np.testing.assert_array_equal(again.a.codes, batch.a.codes)
    (plain,) = bundle_batches(Bundle((layer,)), 20, 0)
    assert plain.a.format == sample.format


@every_case
def test_a_layer_of_a_network_quantises_its_input_for_the_unit(fmt: str, name: str) -> None:
    torch = pytest.importorskip("torch")
    from quant.linear import QuantizedLinear, fakequant_gemm
    from quant.methods import rtn

    torch.manual_seed(3)
    weight = rtn.quantize(torch.randn(9, 200), rtn.Config(fmt))
    unit, params = pe.unit_for(fmt, name)
    activation, seen = pe.activation_for(fmt, name), []

    def gemm(a: Encoded, b: Encoded) -> np.ndarray:
        seen.append(a.format)
        return unit.gemm(a, b, params)

    x = torch.randn(17, 200)
    on_unit = QuantizedLinear(weight, gemm, activation=activation)(x)
    faked = QuantizedLinear(weight, fakequant_gemm, activation=activation)(x)
    assert seen == [activation]
    torch.testing.assert_close(on_unit, faked, rtol=1e-4, atol=1e-4)
