"""Directed vectors hold what they are there for, in every format that has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwsim import formats, pe
from hwsim.flow.corners import BLOCKS, CORNERS, codes_of, corner_pair
from hwsim.flow.operands import directed_batches, formats_of, mass_batches
from hwsim.formats import FloatSpec

ROWS, SIZE = 64 * len(CORNERS), 8


def worth(side: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return element values [rows, BLOCKS, SIZE] and scale values [rows, BLOCKS], ones where there is none."""
    element, scale = side.format.element, getattr(side.format, "scale", None)
    if element.bits == 32:
        values = side.codes.view(np.float32).astype(np.float64)
    else:
        values = formats.element_values(element)[side.codes]
    shape = (side.codes.shape[0], BLOCKS, -1)
    scales = np.ones(shape[:2])
    if scale is not None and scale.bits <= 16 and side.scales.shape[1] == BLOCKS:
        scales = formats.element_values(scale)[side.scales]
    return values.reshape(shape), scales


def dot_formats() -> list[tuple[str, str]]:
    return [
        (name, fmt)
        for name in pe.dot_names()
        for fmt in formats_of(name)
        if hasattr(formats.get(fmt), "element") and hasattr(pe.unit_for(fmt, name)[1].datapath, "a_element")
    ]


@pytest.mark.parametrize(("name", "fmt"), dot_formats())
def test_every_corner_is_what_it_says(name: str, fmt: str) -> None:
    weights, activations = formats.get(fmt), pe.activation_for(fmt, name)
    size = getattr(weights, "block_size", None) or getattr(activations, "block_size", None) or SIZE
    a, b = corner_pair(np.random.default_rng(0), ROWS, size, activations, weights, 24)
    (x, xs), (y, ys) = worth(a), worth(b)
    rows = {kind: np.arange(number, ROWS, len(CORNERS)) for number, kind in enumerate(CORNERS)}
    tables = [codes_of(side.format.element) for side in (a, b)]
    scales = [getattr(side.format, "scale", None) for side in (a, b)]
    scale_tables = [None if scale is None or scale.bits > 16 else codes_of(scale) for scale in scales]
    with np.errstate(invalid="ignore"):
        terms = x * y * (xs * ys)[..., None]

    for values, own in ((x, rows["zero_block"][::2]), (y, rows["zero_block"][1::2])):
        assert (values[own] == 0).all(axis=2).any(axis=1).all()
    for values, table in zip((x, y), tables, strict=True):
        assert set(np.unique(values[rows["largest"]])) == {table.top, table.bottom}
    infinities = terms[rows["infinities"]].reshape(len(rows["infinities"]), -1)
    if any(table.infinities for table in tables):
        assert ((infinities == np.inf).any(axis=1) & (infinities == -np.inf).any(axis=1)).all()
        apart = (np.isinf(x) | np.isinf(y))[rows["infinities"]].any(axis=2).sum(axis=1)
        assert set(apart) == {1, 2}  # in one block, and in two
    elif tables[0].bottom < 0:
        assert ((infinities > 0).any(axis=1) & (infinities < 0).any(axis=1)).all()
    for values, table in ((x, tables[0]), (y, tables[1]), (xs, scale_tables[0]), (ys, scale_tables[1])):
        if table is not None and len(table.nans):
            assert np.isnan(values[rows["nan"]]).any()
    tops, steps = ([getattr(table, end) for table in tables] for end in ("top", "step"))
    far = np.abs(terms[rows["apart"]])
    least = np.prod(steps) * np.prod([table.step for table in scale_tables if table is not None])
    most = np.prod(tops) * np.prod([table.top for table in scale_tables if table is not None])
    assert (far.reshape(len(far), -1).max(axis=1) >= most).all() and (far == least).any(axis=(1, 2)).all()
    for values, side in ((x, a), (y, b)):
        element = side.format.element
        if isinstance(element, FloatSpec) and element.subnormals:
            small = np.abs(values[rows["subnormal"]])
            assert ((small < 2.0 ** (1 - element.bias)) | (small == codes_of(element).step)).all() and (small > 0).all()
    sums = np.where(np.isfinite(terms), terms, 0).sum(axis=2)[rows["cancel"]]
    assert (sums[:, 0] == -sums[:, 1]).all() and (sums[:, 0] != 0).mean() > 0.9 and (sums[:, 2] > 0).all()


@pytest.mark.parametrize("fmt", ["mxfp4", "mxfp8_e4m3", "mxint8", "nvfp4", "float16", "mx9", "msfp12"])
def test_sticky_traps_lie_around_half_of_the_last_place(fmt: str) -> None:
    weights = formats.get(fmt)
    name = pe.unit_for(fmt)[0].NAME
    size = getattr(weights, "block_size", None) or SIZE
    a, b = corner_pair(np.random.default_rng(0), ROWS, size, pe.activation_for(fmt, name), weights, 24)
    own = np.arange(CORNERS.index("sticky"), ROWS, len(CORNERS))
    (x, xs), (y, ys) = worth(a), worth(b)
    first, odd, half = ((x * y).sum(axis=2) * xs * ys)[own].T
    lead = (x[:, 2, 0] * y[:, 2, 0] * xs[:, 2] * ys[:, 2])[own]
    assert (lead == first * 2.0**-24).all()  # half of the last of 24 bits
    assert set(np.unique(odd / first)) == {0.0, 2.0**-23}
    ties, above, below = half == lead, half > lead, half < lead
    assert ties.any() and above.any() and below.any() and (ties | above | below).all()


def test_corners_and_long_sums_are_among_directed_operands() -> None:
    for name, fmt in (("mx_dot", "mxfp4"), ("int_mac", "int8"), ("fp_fma", "float8_e5m2")):
        params = pe.unit_for(fmt, name)[1]
        batches = list(directed_batches(fmt, params, 4096, 0, pe.activation_for(fmt, name)))
        assert sum(batch.rows for batch in batches) == 4096
        lengths = [batch.k for batch in batches]
        assert max(batch.rows for batch in batches if batch.k != 1) >= 480
        if name == "int_mac":
            (long,) = [batch for batch in batches if batch.k == max(lengths)]
            sums = (long.a.codes.view(np.int8).astype(np.int64) * long.b.codes.view(np.int8)).sum(axis=1)
            assert (np.abs(sums) > 1 << 24).all() and len(np.unique(sums & 3)) > 1


@pytest.mark.parametrize("vectors", [1, 700, 40_000, 100_001])
def test_many_vectors_are_pairs_of_few_rows_each_met_once(vectors: int) -> None:
    params = pe.unit("mx_dot").Params(lanes=8)
    batches = list(mass_batches("mxfp4", params, vectors, 3))
    assert sum(batch.rows for batch in batches) == vectors
    met = set()
    for batch in batches:
        met |= {(id(batch.a), a.tobytes(), b.tobytes()) for a, b in zip(batch.a.codes, batch.b.codes, strict=True)}
    assert len(met) > 0.9 * vectors
    again = list(mass_batches("mxfp4", params, vectors, 3))
    assert all((one.b.codes == two.b.codes).all() for one, two in zip(batches, again, strict=True))
    if vectors > 50_000:
        assert len({id(batch.a) for batch in batches}) < len(batches)


def test_turned_batches_pair_every_row_with_others() -> None:
    (batch,) = [
        each for each in directed_batches("mxfp4", pe.unit("mx_dot").Params(), 256 + 800, 0) if each.rows == 100
    ]
    numbers = batch.b.rows(np.arange(100)).codes
    turned = [batch.turned(by) for by in range(100)]
    for row in (0, 57):
        seen = {tuple(map(int, np.flatnonzero((numbers == each.b.codes[row]).all(axis=1))[:1])) for each in turned}
        assert len(seen) >= len(np.unique(numbers, axis=0)) - 1
