"""Sparse formats: choices of outliers and groups in plain Python, CSR and BSR by hand, corrupt parts refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats
from hwsim.formats import Format, decode, encode
from hwsim.formats.bundle import Bundle, Layer, read_bundle, write_bundle
from hwsim.formats.families.sparse import GroupSparseSpec, SparseSpec

F = np.float32


def sparse(name: str) -> SparseSpec:
    spec = formats.get(name)
    assert isinstance(spec, SparseSpec)
    return spec


def gqsa() -> GroupSparseSpec:
    spec = formats.get("gqsa_w4_g16_50")
    assert isinstance(spec, GroupSparseSpec)
    return spec


NAMES = ("spqr_3b", "spqr_4b", "kvquant_nuq4", "llm_int8")
THRESHOLD = sparse("kvquant_nuq4").with_rules(selection="threshold", rate=None, threshold=2.0)
VARIANTS = (
    *map(sparse, NAMES),
    THRESHOLD,
    THRESHOLD.with_rules(threshold=0.0, compare="at_least"),
    sparse("kvquant_nuq4").with_rules(rate=(3, 50), value_format="float32"),
    sparse("llm_int8").with_rules(compare="at_least", value_format="float32"),
    sparse("spqr_3b").with_rules(threshold=0.05, value_format="float32"),
    replace(THRESHOLD, name="mx", base=formats.get("mxfp4"), threshold=1.5),
    replace(THRESHOLD, name="gguf", base=formats.get("gguf_q4_0"), threshold=1.5),
)
KINDS = ("random", "heavy", "grid", "columns", "zeros", "tiny")


def make(kind: str, seed: int = 0, shape: tuple[int, int] = (6, 192)) -> np.ndarray:
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    x = rng.normal(size=shape)
    if kind == "heavy":
        x = x**3
    elif kind == "grid":  # equal magnitudes, and thresholds that are met exactly
        x = rng.integers(-12, 13, shape) / 2.0
    elif kind == "columns":
        x[:, [3, 4, 100]] *= 20
        x[2, 7], x[3, 8] = 6.0, -6.5
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0], shape)
        x[3, :20] = 1.0
    elif kind == "tiny":
        x = np.ldexp(rng.integers(-40, 41, shape).astype(float), -149)
    return x.astype(F)


def beyond(spec: SparseSpec, value: float, limit: float) -> bool:
    return value >= limit if spec.compare == "at_least" else value > limit


def errors(x: list[float], y: list[float], skip: int = -1) -> float:
    total = 0.0
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        total += (a - b) * (a - b) if i != skip else 0.0
    return total


def chosen(spec: SparseSpec, x: np.ndarray) -> set[tuple[int, int]]:
    """Return the places of the outliers, by the rules in words."""
    rows, k = x.shape
    limit = 0.0 if spec.threshold is None else spec.threshold
    places = [(r, c) for r in range(rows) for c in range(k)]
    if spec.selection == "threshold":
        return {(r, c) for r, c in places if beyond(spec, abs(float(x[r, c])), limit)}
    if spec.selection == "columns":
        columns = {c for r, c in places if beyond(spec, abs(float(x[r, c])), limit)}
        return {(r, c) for r, c in places if c in columns}
    if spec.selection == "fraction":
        assert spec.rate is not None
        n = int(Fraction(*spec.rate) * k)
        order = [sorted(range(k), key=lambda c: (-abs(float(x[r, c])), c))[:n] for r in range(rows)]
        return {(r, c) for r in range(rows) for c in order[r]}
    found, block = set(), spec.base.padding(1) + 1
    whole = decode(encode(x, spec.base))
    for i in range(block):  # the i-th element of every block is left out
        rest = x.copy()
        rest[:, i::block] = 0
        left = decode(encode(rest, spec.base))
        for r in range(rows):
            runs = [slice(start, start + block) for start in range(0, k, block)]
            squares = 0.0
            for run in runs:
                squares += errors(x[r, run].tolist(), [0.0] * block)
            for run in runs:
                before = errors(x[r, run].tolist(), whole[r, run].tolist())
                gain = before - errors(x[r, run].tolist(), left[r, run].tolist(), i)
                if beyond(spec, gain, squares / k * limit):
                    found.add((r, run.start + i))
    return found


@pytest.mark.parametrize("spec", VARIANTS, ids=lambda s: s.name[:60])
@pytest.mark.parametrize("kind", KINDS)
def test_outliers_and_the_rest(spec: SparseSpec, kind: str) -> None:
    x = make(kind)
    encoded, places = encode(x, spec), chosen(spec, x)
    rest = x.copy()
    for place in places:
        rest[place] = 0
    dense = encode(rest, spec.base)
    for name, part in dense.parts.items():
        assert np.array_equal(encoded.parts[name], part), name
    stored = np.float16 if spec.value_format == "float16" else F
    values = decode(dense).copy()
    for place in places:
        values[place] = stored(x[place])
    assert np.array_equal(decode(encoded).view(np.uint32), values.view(np.uint32))
    columns, outliers = encoded.parts["columns"], encoded.parts["outliers"].view(stored)
    if spec.selection == "columns":
        assert columns.tolist() == sorted({c for _, c in places})
        assert np.array_equal(outliers, x[:, columns].astype(stored))
        return
    listed = sorted(places)  # row by row, columns ascending
    assert columns.tolist() == [c for _, c in listed]
    assert outliers.tolist() == [stored(x[place]) for place in listed]
    assert encoded.parts["row_pointers"].tolist() == [sum(p[0] < r for p in listed) for r in range(len(x) + 1)]


def test_catalogued_choices_on_numbers_by_hand() -> None:
    x = np.zeros((2, 100), F)
    x[0, [5, 7]] = [3.0, -3.0]  # the first of equal magnitudes is the one outlier in 100
    encoded = encode(x, "kvquant_nuq4")
    assert encoded.parts["columns"].tolist() == [5, 0]
    assert encoded.parts["row_pointers"].tolist() == [0, 1, 2]
    assert decode(encoded)[0, [5, 7]].tolist() == [3.0, -3.0]
    x = np.full((2, 16), 0.5, F)
    x[0, 3], x[1, 9] = -6.0, 6.25  # not larger than 6, and larger
    encoded = encode(x, "llm_int8")
    assert encoded.parts["columns"].tolist() == [9]
    assert encoded.parts["outliers"].view(np.float16).tolist() == [[0.5], [6.25]]
    assert encoded.codes[:, 9].tolist() == [0, 0]
    assert encode(x, sparse("llm_int8").with_rules(compare="at_least")).parts["columns"].tolist() == [3, 9]
    x = np.tile(np.linspace(-1, 1, 16, dtype=F), (1, 4))
    x[0, 20] = 30.0  # stretches the scale of its group alone
    assert encode(x, "spqr_3b").parts["columns"].tolist() == [20]


def test_llm_int8_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x = make("columns", 1)
    t = torch.from_numpy(x)
    columns = torch.nonzero((t.abs() > 6.0).any(dim=0)).flatten()
    rest = t.clone()
    rest[:, columns] = 0
    scale = rest.abs().amax(dim=1, keepdim=True).double() / 127
    codes = torch.round(rest.double() / scale.float().double()).to(torch.int8)
    encoded = encode(x, "llm_int8")
    assert encoded.parts["columns"].tolist() == columns.tolist()
    assert np.array_equal(encoded.codes.view(np.int8), codes.numpy())
    assert np.array_equal(encoded.parts["outliers"].view(np.float16), t[:, columns].half().numpy())


def kept_groups(spec: GroupSparseSpec, x: np.ndarray) -> list[int]:
    rows, groups = len(x), x.shape[1] // spec.group
    sums = [errors(run.tolist(), [0.0] * spec.group) for run in x.reshape(-1, spec.group)]
    lists = [list(range(r * groups, (r + 1) * groups)) for r in range(rows)]
    if spec.scope == "tensor":
        lists = [list(range(rows * groups))]
    count = -(-len(lists[0]) * spec.keep[0] // spec.keep[1])
    return sorted(i for places in lists for i in sorted(places, key=lambda i: (-sums[i], i))[:count])


@pytest.mark.parametrize(
    "spec",
    [
        gqsa(),
        gqsa().with_rules(scope="tensor"),
        gqsa().with_rules(keep=(7, 10)),
        gqsa().with_rules(keep=(1, 1)),
        replace(gqsa(), name="mx", base=formats.get("mxfp4"), group=64, keep=(1, 3)),
    ],
    ids=lambda s: s.name,
)
@pytest.mark.parametrize("kind", KINDS)
def test_groups_kept_and_dropped(spec: GroupSparseSpec, kind: str) -> None:
    x = make(kind)
    encoded, kept = encode(x, spec), kept_groups(spec, x)
    groups = x.shape[1] // spec.group
    assert encoded.parts["columns"].tolist() == [i % groups for i in kept]
    assert encoded.parts["row_pointers"].tolist() == [sum(i // groups < r for i in kept) for r in range(len(x) + 1)]
    dense = encode(x.reshape(-1, spec.group)[kept], spec.base)
    for name, part in dense.parts.items():
        assert np.array_equal(encoded.parts[name], part), name
    values = np.zeros_like(x).reshape(-1, spec.group)
    values[kept] = decode(dense)
    assert np.array_equal(decode(encoded).reshape(values.shape).view(np.uint32), values.view(np.uint32))
    assert encoded.stored_bits == pytest.approx(spec.bits_per_element(x.shape[1], len(x)) * x.size)


def test_stored_bits_an_element() -> None:
    assert gqsa().bits_per_element(4096, 4096) == pytest.approx((4 * 16 + 16 + 4 + 16) / 32 + 32 / 4096, rel=1e-3)
    assert sparse("kvquant_nuq4").bits_per_element(4000, 10**9) == pytest.approx(4 + 16 / 4000 + 0.32 + 32 / 4000)
    assert sparse("llm_int8").bits_per_element(4096) == 8 + 32 / 4096
    x = make("heavy")
    for name in (*NAMES, "gqsa_w4_g16_50"):
        encoded = encode(x, name)
        narrow = {"spqr_3b": 3, "spqr_4b": 4, "kvquant_nuq4": 4, "gqsa_w4_g16_50": 4}.get(name, 8)
        bits = sum(
            part.size * (narrow if key in ("codes", "zeros") else 8 * part.dtype.itemsize)
            for key, part in encoded.parts.items()
        )
        assert encoded.stored_bits == bits
    with pytest.raises(ValueError, match="depends on the data"):
        sparse("llm_int8").stored_bits((4, 64))


@pytest.mark.parametrize("name", [*NAMES, "gqsa_w4_g16_50"])
def test_many_bands_axes_and_leading_axes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = make("columns", 2, (24, 192))
    plain = encode(x, name)
    wide = encode(x.reshape(2, 3, 4, 192), name)
    assert np.array_equal(decode(wide).reshape(x.shape), decode(plain))
    assert np.array_equal(decode(encode(np.ascontiguousarray(x.T), name, axis=0)), decode(plain).T)
    monkeypatch.setattr("hwsim.formats.families.sparse._BAND", 400)
    banded = encode(x, name)
    assert all(np.array_equal(part, plain.parts[key]) for key, part in banded.parts.items())
    assert np.array_equal(decode(banded), decode(plain))
    if name not in ("llm_int8", "kvquant_nuq4"):
        padded = encode(x[:, :100], name, pad=True)
        assert padded.padding == 12 and decode(padded).shape == (24, 100)
        with pytest.raises(ValueError, match="does not divide"):
            encode(x[:, :100], name)
    with pytest.raises(ValueError, match=r"(row_pointers|columns) do not lie by rows"):
        plain.rows(slice(0, 2))
    with pytest.raises(ValueError, match="cannot be written in place"):
        encode(x, name, out=plain)


@pytest.mark.parametrize("name", [*NAMES, "gqsa_w4_g16_50"])
@pytest.mark.parametrize("kind", ["columns", "zeros"])
def test_a_bundle_holds_them(name: str, kind: str, tmp_path: Path) -> None:
    x = make(kind)  # zeros: no outlier at all where a threshold decides
    weight = encode(x, name)
    write_bundle(tmp_path / "b", Bundle((Layer("a", 192, weight, encode(x[:2], name)),)))
    back = read_bundle(tmp_path / "b").layer("a")
    for part, array in weight.parts.items():
        assert np.array_equal(back.weight.parts[part], array) and back.weight.parts[part].dtype == array.dtype
    assert np.array_equal(decode(back.weight), decode(weight)) and back.activation is not None
    with pytest.raises(ValueError, match="two layers"):
        write_bundle(tmp_path / "c", Bundle((Layer("a", 192, weight), Layer("a", 192, weight))))


def changed(encoded: formats.Encoded, name: str, change: Any) -> formats.Encoded:
    part = encoded.parts[name].copy()
    part = change(part)
    return encoded.replace_parts(**{name: part})


def put(index: Any, value: int) -> Any:
    def change(part: np.ndarray) -> np.ndarray:
        part[index] = value
        return part

    return change


@pytest.mark.parametrize(
    "name, part, change, words",
    [
        ("kvquant_nuq4", "row_pointers", put(0, 1), "run from 1 to 12, not from 0 to 12"),
        ("kvquant_nuq4", "row_pointers", put(-1, 13), "run from 0 to 13, not from 0 to 12"),
        ("kvquant_nuq4", "row_pointers", put(3, 1), "fall after row 2"),
        ("kvquant_nuq4", "row_pointers", put(1, 4), "columns of a row must ascend"),
        ("kvquant_nuq4", "columns", put(1, 600), "columns hold 600, allowed 0 .. 299"),
        ("kvquant_nuq4", "columns", put(4, 0), "columns of a row must ascend"),
        ("kvquant_nuq4", "columns", lambda c: np.sort(c)[::-1].copy(), "columns of a row must ascend"),
        ("kvquant_nuq4", "columns", lambda c: c[:-1], "run from 0 to 12, not from 0 to 11"),
        ("kvquant_nuq4", "outliers", lambda v: v[:-1], "12 columns, but 11 outliers"),
        ("kvquant_nuq4", "outliers", put(5, 0x7C00), "NaN or Inf"),
        ("llm_int8", "columns", put(2, 300), "columns hold 300"),
        ("llm_int8", "columns", put(1, 3), "must ascend, but 3 follows 3 at 1"),
        ("llm_int8", "columns", lambda c: c[:-1], "2 columns, but outliers of 3"),
        ("llm_int8", "outliers", put((0, 0), 0x7E01), "NaN or Inf"),
        ("gqsa_w4_g16_50", "row_pointers", put(2, 5), "fall after row 1"),
        ("gqsa_w4_g16_50", "columns", put(-1, 19), "columns hold 19, allowed 0 .. 18"),
        ("gqsa_w4_g16_50", "columns", lambda c: c[::-1].copy(), "must ascend"),
        ("gqsa_w4_g16_50", "codes", lambda c: c[:-1], "60 columns, but codes of 59 groups"),
        ("gqsa_w4_g16_50", "scales", lambda c: np.concatenate([c, c]), "but scales of 120 groups"),
    ],
)
def test_corrupt_parts_are_refused(name: str, part: str, change: Any, words: str) -> None:
    if name == "kvquant_nuq4":
        x = np.zeros((4, 300), F)
        x[:, [10, 20, 30]] = 1.0
        x[:, 299] = [0, 0, 0, 2.0]
    elif name == "llm_int8":
        x = np.zeros((4, 300), F)
        x[1, [3, 4, 100]] = 8.0
    else:
        x = make("random", 0, (6, 304))
    good = encode(x, name)
    decode(good)
    with pytest.raises(ValueError, match=words):
        decode(changed(good, part, change))


def test_columns_above_16_bits() -> None:
    x = np.zeros((1, 70000), F)
    x[0, 69999] = 7.0
    encoded = encode(x, "llm_int8")
    assert encoded.parts["columns"].dtype == np.uint32 and encoded.parts["columns"].tolist() == [69999]
    assert decode(encoded)[0, 69999] == 7


@pytest.mark.parametrize("name", [*NAMES, "gqsa_w4_g16_50"])
def test_bad_input_is_refused(name: str) -> None:
    x = make("random")
    x[4, 100] = np.nan
    with pytest.raises(ValueError, match=r"index \[4, 100\].*nan"):
        encode(x, name)


def test_an_outlier_beyond_float16_is_refused() -> None:
    x = make("random")
    x[2, 9] = 70000.0
    with pytest.raises(ValueError, match=r"outlier 70000\.0 is beyond float16"):
        encode(x, "llm_int8")
    assert decode(encode(x, sparse("llm_int8").with_rules(value_format="float32")))[2, 9] == 70000


@pytest.mark.parametrize(
    "base, change, words",
    [
        (THRESHOLD, {"selection": "percentile"}, "selection is 'percentile'"),
        (THRESHOLD, {"threshold": None}, "a threshold is for all"),
        (THRESHOLD, {"threshold": -1.0}, "not be negative"),
        (THRESHOLD, {"threshold": float("nan")}, "not be negative"),
        (THRESHOLD, {"rate": (1, 2)}, "go together"),
        (THRESHOLD, {"compare": "below"}, "compare is 'below'"),
        (THRESHOLD, {"value_format": "bfloat16"}, "value_format"),
        (THRESHOLD, {"placement": "add"}, "placement"),
        (THRESHOLD, {"selection": "leave_one_out"}, "needs a base with blocks of at most 64"),
        (THRESHOLD, {"base": formats.get("nvfp4")}, "'tensor_scale' of base 'nvfp4' does not lie by rows"),
        (THRESHOLD, {"base": THRESHOLD}, "'row_pointers' of base"),
        (sparse("kvquant_nuq4"), {"rate": (3, 2)}, "allowed 0 to 1"),
        (sparse("kvquant_nuq4"), {"rate": None}, "go together"),
        (sparse("kvquant_nuq4"), {"compare": "at_least"}, "about thresholds"),
        (gqsa(), {"keep": (0, 2)}, "keep 0/2"),
        (gqsa(), {"keep": (3, 2)}, "keep 3/2"),
        (gqsa(), {"group": 0}, "at least 1"),
        (gqsa(), {"group": 24}, "do not divide the group of 24"),
        (gqsa(), {"scope": "column"}, "scope"),
        (gqsa(), {"criterion": "l1"}, "criterion"),
        (gqsa(), {"ties": "higher"}, "ties"),
        (gqsa(), {"base": formats.get("nvfp4")}, "does not lie by rows"),
    ],
)
def test_bad_rules_are_refused(base: Format, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        base.with_rules(**change)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-5, 5))
def test_powers_of_two_move_values_alone(seed: int, shift: int) -> None:
    x = np.random.default_rng(seed).standard_t(3, size=(2, 128)).astype(F)
    for name in ("spqr_3b", "kvquant_nuq4", "gqsa_w4_g16_50"):
        plain, moved = encode(x, name), encode(np.ldexp(x, shift), name)
        for part in ("columns", "row_pointers"):
            assert np.array_equal(plain.parts[part], moved.parts[part]), name
    y = decode(encode(x, "gqsa_w4_g16_50"))
    again = encode(y, "gqsa_w4_g16_50")
    assert not (decode(again) != 0)[y == 0].any()
