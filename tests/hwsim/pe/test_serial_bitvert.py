"""`bitvert`: its pruned weights against plain integers, its cycles, and what it refuses."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from hwsim import pe
from hwsim.formats import element, encode, get
from hwsim.pe import bitvert
from tests.hwsim.formats.oracle import float32_value
from tests.hwsim.pe import oracle

NAMES = ("bbs_cons_g16", "bbs_cons_g32", "bbs_mod_g16", "bbs_mod_g32")


def operands(name: str, m: int, n: int, k: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x, w = (rng.standard_normal((rows, k)) * np.exp2(rng.integers(-4, 4, (rows, 1))) for rows in (m, n))
    w *= np.repeat(np.exp2(rng.integers(-6, 1, (n, k // 16))), 16, axis=1)
    return encode(x.astype(np.float32), "int8"), encode(w.astype(np.float32), name)


def sum_of(a: Any, b: Any, m: int, n: int) -> int:
    """Return the exact sum of products of two rows, from the parts of the format."""
    fmt, total = b.format, 0
    for k in range(a.k):
        group = k // fmt.block_size
        code, constant = int(b.codes[n, k]), int(b.parts["constants"][n, group])
        column = code - (1 << fmt.element.bits) if code >> (fmt.element.bits - 1) else code
        weight = (column << (fmt.pruned - int(b.parts["redundant"][n, group]))) + (constant ^ 32) - 32
        total += int(a.codes.view(np.int8)[m, k]) * weight
    return total


def expected(a: Any, b: Any, m: int, n: int) -> int:
    bits = oracle.add(0, Fraction(sum_of(a, b, m, n)))
    for side, row in ((a, m), (b, n)):
        bits = oracle.multiply(bits, int(side.scales[row, 0]))
    return bits


@pytest.mark.parametrize("name", NAMES)
def test_sums_are_those_of_the_integers_that_weights_stand_for(name: str) -> None:
    model, params = pe.unit_for(name)
    assert model.NAME == "bitvert" and params.lanes == 16 and params.weight == f"int{8 - params.pruned}"
    a, b = operands(name, 3, 4, 96)
    got = model.gemm(a, b, params).view(np.uint32)
    assert got.tolist() == [[expected(a, b, m, n) for n in range(4)] for m in range(3)]
    paired = model.dots(a, b.rows(np.arange(3)), params)
    assert paired.tolist() == [got[row, row] for row in range(3)]
    for m, n in np.ndindex(3, 4):
        assert model.reference(model.beats(a, b, m, n, params), params) == got[m, n]


def test_a_sum_that_float32_rounds() -> None:
    a, b = operands("bbs_mod_g16", 1, 1, 4096)
    a.codes[:] = 127
    a.codes[0, 0] = 126
    b.codes[:] = 7
    b.parts["redundant"][:] = 0
    b.parts["constants"][:] = 1
    assert float32_value(oracle.add(0, Fraction(sum_of(a, b, 0, 0)))) != sum_of(a, b, 0, 0)
    model, params = pe.unit_for("bbs_mod_g16")
    assert int(model.gemm(a, b, params).view(np.uint32)[0, 0]) == expected(a, b, 0, 0)


@pytest.mark.parametrize(("name", "columns"), [("int8", 8), ("bbs_cons_g16", 6), ("bbs_mod_g32", 4), ("int4_g128", 4)])
def test_a_group_takes_a_cycle_a_stored_column(name: str, columns: int) -> None:
    """16 weights in 8, 6 and 4 cycles, as published."""
    model, params = pe.unit_for(name, "bitvert", 16)
    spec = params.datapath
    a, b = operands("bbs_mod_g16", 3, 5, 128)[0], encode(np.ones((5, 128), np.float32), name)
    assert model.cycles(3, 5, 128, params) == 3 * 5 * 8 * columns + spec.latency
    assert model.operand_cycles(a, b, params) == model.cycles(3, 5, 128, params)
    assert spec.beat_cycles(model.paired_beats(a, b.rows(np.arange(3)), params)).tolist() == [columns] * 24


def test_groups_longer_than_a_beat_give_their_numbers_to_each() -> None:
    a, b = operands("bbs_mod_g32", 2, 2, 64)
    model, params = pe.unit_for("bbs_mod_g32", lanes=8)
    beats = model.paired_beats(a, b, params)
    assert [name for name, _, _ in params.datapath.layout()] == [
        "a", "b", "b_redundant", "b_constant", "a_out", "b_out", "last"
    ]  # fmt: skip
    assert beats["b_constant"].tolist() == np.repeat(b.parts["constants"].reshape(-1), 4).tolist()
    assert beats["b_redundant"].tolist() == np.repeat(b.parts["redundant"].reshape(-1), 4).tolist()
    assert pe.unit("bitvert").params_for(get("bbs_mod_g16"), get("int8"), 32) is None


def test_half_of_the_lanes_are_counted_as_added() -> None:
    for name, columns in (("int8", 8), ("bbs_mod_g16", 4)):
        model, params = pe.unit_for(name, "bitvert")
        counts = model.actions(2, 3, 64, params)
        assert counts["select_word"] == 2 * 3 * 64 * columns // 2
        assert counts["shift_word"] == 2 * 3 * 4 * columns
        assert ("mul_int8_int16" in counts) == ("bbs" in name)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sub_group": 0}, "sub_group must be an integer of 1 to 256, not 0"),
        ({"pruned": 3}, "pruned must be one of 0, 2, 4, not 3"),
        ({"pruned": 4}, "4 columns pruned of 8 leave weight int4 and block 0, not int8 and 0"),
        ({"pruned": 2, "weight": "int6", "block": 16}, "2 columns pruned of 8 leave weight int6 and block 0"),
        ({"stages": 1}, "a serial unit has no further pipeline stages, not 1"),
    ],
)
def test_params_that_do_not_go_together(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^bitvert: {words}"):
        bitvert.Params(**fields)


def test_operands_that_do_not_fit() -> None:
    a, b = operands("bbs_mod_g16", 2, 3, 64)
    model, params = pe.unit_for("bbs_mod_g16")
    whole = encode(np.ones((3, 64), np.float32), "int8")
    for call in (model.gemm, model.dots, model.paired_beats, model.operand_cycles):
        with pytest.raises(
            ValueError, match=r"bitvert: operand B \(int8\) has 0 of 8 columns pruned, the unit takes 4"
        ):
            call(a, whole, params)
        with pytest.raises(ValueError, match=r"bitvert: operand B has groups of 16, the unit takes whole beats of 32"):
            call(a, b, bitvert.Params("int4", 32, pruned=4))
    with pytest.raises(ValueError, match="bitvert: K differs: A has 48, B has 64"):
        model.gemm(operands("bbs_mod_g16", 2, 1, 48)[0], b, params)
    with pytest.raises(ValueError, match="bitvert: operand A has elements int4, the unit takes int8"):
        int4 = get("int8").with_rules(element=element("int4"))
        model.gemm(encode(np.ones((2, 64), np.float32), int4), b, params)
    with pytest.raises(ValueError, match=r"operand B \(bbs_mod_g16\) has 4 of 8 columns pruned, the unit takes 0"):
        model.gemm(a, b, bitvert.Params())
    b.parts["redundant"][0, 0] = 3
    model.operand_cycles(a, b, params)
    narrow = operands("bbs_cons_g16", 2, 3, 64)[1]
    narrow.parts["redundant"][0, 0] = 3
    for call in (model.gemm, model.dots, model.paired_beats, model.operand_cycles):
        with pytest.raises(ValueError, match=r"redundant hold 3, allowed 0 .. 2"):
            call(a, narrow, bitvert.Params("int6", pruned=2))
