"""Parts of the BitMoD unit against tables and exact integers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from hwsim.pe import bitmod
from rtl.lib.align_terms import AlignTerms
from rtl.lib.term_encoder import TermEncoder
from tests.hwsim.pe import bitmod_operands as operands
from tests.rtl.harness import evaluate

pytestmark = pytest.mark.rtl


@pytest.mark.parametrize("weight", bitmod.WEIGHTS)
def test_every_code_gives_its_terms(weight: str) -> None:
    spec = bitmod.Params(weight).datapath
    selectors = range(4 if spec.has_selector else 1)
    cases = list(product(selectors, range(1 << spec.b_bits), range(spec.terms)))
    inputs = [
        {"code": code, "term": term} | ({"select": select} if spec.has_selector else {}) for select, code, term in cases
    ]
    for (select, code, term), found in zip(cases, evaluate(TermEncoder(spec), inputs), strict=True):
        value = operands.value(weight, select, code)
        sign, exp, man, _ = operands.terms(weight, value)[term]
        assert (found["sign"], found["exp"], found["man"]) == ((sign, exp, man) if man else (0, 0, 0))
        assert (found["is_zero"], found["is_negative"]) == (value == 0, value < 0)


@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize(("lanes", "guard_bits"), [(4, 3), (4, 0), (3, 12)])
def test_significands_are_aligned(lanes: int, guard_bits: int, sticky: bool) -> None:
    rng = np.random.default_rng(lanes)
    vectors = []
    for reach in [0, 1, 3, 8, 32] * 200:
        low = int(rng.integers(0, 33 - reach))
        vector = {}
        for lane in range(lanes):
            size = int(rng.integers(0, 12))
            vector |= {
                f"significand_{lane}": int(rng.integers(0, 1 << size)),
                f"negative_{lane}": int(rng.integers(2)),
                f"exponent_{lane}": low + int(rng.integers(0, reach + 1)),
            }
        vectors.append(vector)
    for vector, found in zip(vectors, evaluate(AlignTerms(lanes, 11, 32, guard_bits, sticky), vectors), strict=True):
        largest = max(vector[f"exponent_{lane}"] for lane in range(lanes))
        assert found["largest"] == largest
        for lane in range(lanes):
            word = vector[f"significand_{lane}"] << guard_bits
            kept, rest = divmod(word, 1 << (largest - vector[f"exponent_{lane}"]))
            kept |= bool(rest) and sticky
            assert found[f"aligned_{lane}"] == (-kept if vector[f"negative_{lane}"] else kept)
