"""Codebooks against k-means in Python floats (the float64 of the definition), and VPTQ's words against NumPy's bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import decode, encode, get
from hwsim.formats.families.codebook import CodebookSpec, encode_with, pack_indices, unpack_indices
from tests.hwsim.formats import oracle


def nearest(y: list[float], centroids: list[list[float]]) -> int:
    """Return the lowest index of the nearest centroids."""
    best, found = float("inf"), 0
    for index, centroid in enumerate(centroids):
        distance = 0.0
        for a, b in zip(y, centroid, strict=True):
            distance += (a - b) * (a - b)
        if distance < best:
            best, found = distance, index
    return found


def less(y: list[float], centroid: list[float]) -> list[float]:
    """Return the residual."""
    return [a - b for a, b in zip(y, centroid, strict=True)]


def rounded(centroids: list[list[float]], kind: str) -> list[list[float]]:
    """Round centroids to their format, saturating."""
    top = float(np.finfo(kind).max)
    return [[float(np.dtype(kind).type(min(max(v, -top), top))) for v in centroid] for centroid in centroids]


def kmeans(spec: CodebookSpec, points: list[list[float]], bits: int, start: int) -> list[list[float]]:
    """Return the centroids of a book."""
    count, size = len(points), 1 << bits
    draws = [oracle.random_bits(spec.seed, start + j) for j in range(size)]
    centroids = [points[(j * count + (r * count >> 32)) >> bits] for j, r in enumerate(draws)]
    for _ in range(spec.iterations):
        labels = [nearest(point, centroids) for point in points]
        after = []
        for index in range(size):
            members = [point for point, found in zip(points, labels, strict=True) if found == index]
            sums = [0.0] * spec.vector_size
            for point in members:
                sums = [a + b for a, b in zip(sums, point, strict=True)]
            after.append([s / len(members) for s in sums] if members else centroids[index])
        centroids = after
    return centroids


def vectors(spec: CodebookSpec, x: np.ndarray, scales: list[float]) -> list[list[float]]:
    """Return all vectors in order, divided by the scales of their rows in float32."""
    (rows, k), v = x.shape, spec.vector_size
    with np.errstate(over="ignore"):
        y = [(x[row] / np.float32(scales[row])).tolist() if scales[row] else [0.0] * k for row in range(rows)]
    if spec.direction == "axis":
        return [y[row][j : j + v] for row in range(rows) for j in range(0, k, v)]
    return [
        [y[row][j] if row < rows else 0.0 for row in range(first, first + v)]
        for first in range(0, rows, v)
        for j in range(k)
    ]


def stages_oracle(spec: CodebookSpec, every: list[list[float]]) -> list[list[list[list[float]]]]:
    """Return the rounded centroids, [stages][books][index][v]."""
    found: list[list[list[list[float]]]] = []
    books = []
    for book in range(spec.books):
        own = every[book :: spec.books]
        taken = min(len(own), spec.train_vectors)
        books.append([own[t * len(own) // taken] for t in range(taken)])
    for stage, bits in enumerate(spec.index_bits):
        here = []
        for book in range(spec.books):
            start = (stage * spec.books + book) << bits
            centroids = rounded(kmeans(spec, books[book], bits, start), spec.centroid_format)
            here.append(centroids)
            books[book] = [less(point, centroids[nearest(point, centroids)]) for point in books[book]]
        found.append(here)
    return found


def codes_oracle(spec: CodebookSpec, every: list[list[float]], stages: list) -> list[int]:
    """Return the merged code of every vector."""
    codes = []
    for n, y in enumerate(every):
        code, shift = 0, 0
        for stage, bits in enumerate(spec.index_bits):
            centroids = stages[stage][n % spec.books]
            index = nearest(y, centroids)
            code |= index << shift
            shift += bits
            y = less(y, centroids[index])
        codes.append(code)
    return codes


def small(name: str, **rules) -> CodebookSpec:
    """Return a small codebook format."""
    return CodebookSpec(name=name, source="", **rules)


SPECS = (
    small("pq", vector_size=2, books=4, index_bits=(3,)),
    small("pq_seeded", vector_size=4, books=2, index_bits=(2,), seed=7, centroid_format="float32", train_vectors=11),
    small("vptq", vector_size=4, index_bits=(4, 3), direction="rows", iterations=3),
    small("vptq_wide_residual", vector_size=3, index_bits=(2, 4), direction="rows", iterations=2),
    small("aqlm", vector_size=8, index_bits=(3, 3, 2), row_scale="float16", iterations=4),
    small("aqlm32", vector_size=1, index_bits=(5,), row_scale="float32", centroid_format="float32", train_vectors=40),
    small("start", vector_size=4, index_bits=(3,), iterations=0),
)


def inputs(kind: str) -> np.ndarray:
    """Return [10, 32]."""
    rng = np.random.default_rng(len(kind))
    shape = (10, 32)
    if kind == "random":
        x = rng.normal(size=shape)
    elif kind == "coarse":  # many equal vectors and equal distances
        x = rng.integers(-1, 2, shape).astype(float)
    elif kind == "wide":
        x = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-140, 120, shape))
        x[3] = 0
    else:  # beyond float16, subnormal
        x = rng.normal(size=shape) * np.array([1e30, 1e5, 1e-5, 1e-8, 1e-40, 1, 0, 1e3, 1e-3, 1e38])[:, None]
    return np.clip(x, -3e38, 3e38).astype(np.float32)


def scales_of(spec: CodebookSpec, encoded, rows: int) -> list[float]:
    """Return the scales as stored (their rule is tested with the other vector formats)."""
    if spec.row_scale == "none":
        return [1.0] * rows
    return encoded.parts["row_scales"].view(spec.row_scale).astype(float).tolist()


@pytest.mark.parametrize("kind", ["random", "coarse", "wide", "extremes"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_codebooks_codes_and_values(spec: CodebookSpec, kind: str) -> None:
    x = inputs(kind)
    encoded = encode(x, spec)
    scales = scales_of(spec, encoded, len(x))
    every = vectors(spec, x, scales)
    stages = stages_oracle(spec, every)
    for stage in range(len(spec.index_bits)):
        assert spec.codebook_values(encoded.parts, stage).tolist() == stages[stage]
    codes = codes_oracle(spec, every, stages)
    assert encoded.codes.reshape(-1).tolist() == codes
    out, v = decode(encoded), spec.vector_size
    for n, code in enumerate(codes):
        total, shift = [0.0] * v, 0
        for stage, bits in enumerate(spec.index_bits):
            centroid = stages[stage][n % spec.books][code >> shift & (1 << bits) - 1]
            total = [a + b for a, b in zip(total, centroid, strict=True)]
            shift += bits
        for i, value in enumerate(total):
            if spec.direction == "axis":
                row, column = n * v // 32, n * v % 32 + i
            else:
                row, column = n // 32 * v + i, n % 32
            if row < len(x):
                with np.errstate(over="ignore"):
                    assert out[row, column] == np.float32(value * scales[row])


def test_scales_of_rows() -> None:
    x = inputs("random")
    encoded = encode(x, SPECS[4])
    want = [float(np.float16(np.sqrt(sum(v * v for v in row) / 32))) for row in x.astype(float).tolist()]
    assert encoded.parts["row_scales"].view(np.float16).tolist() == want


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads: int) -> None:
    import numba

    x = np.random.default_rng(3).normal(size=(128, 256)).astype(np.float32)
    before = numba.get_num_threads()
    wanted = {name: encode(x, name) for name in ("pq_m32_n8", "vptq_v8_k256_256")}
    numba.set_num_threads(min(threads, before))
    try:
        for name, encoded in wanted.items():
            again = encode(x, name)
            assert all((again.parts[part] == encoded.parts[part]).all() for part in encoded.parts)
    finally:
        numba.set_num_threads(before)


def test_given_codebooks_are_used() -> None:
    x = inputs("random")
    for spec in SPECS:
        found = encode(x, spec)
        books = [spec.codebook_values(found.parts, s).astype(spec.centroid_format) for s in range(len(spec.index_bits))]
        again = encode_with(x, spec, books)
        assert all((again.parts[name] == part).all() for name, part in found.parts.items())
    spec = small("given", vector_size=2, index_bits=(2,))
    # equally near centroids: the lowest index, also of equal ones
    book = np.array([[[1, 1], [-1, -1], [1, 1], [0, 3]]], np.float16)
    encoded = encode_with(np.array([0, 0, 1, 1, -1, -2, 0, 2.5], np.float32), spec, [book])
    assert encoded.codes.tolist() == [0, 0, 1, 3] and encoded.shape == (8,)
    assert decode(encoded).tolist() == [1, 1, 1, 1, -1, -1, 0, 3]
    for wrong in ([book.astype(np.float32)], [book[:, :3]], []):
        with pytest.raises(ValueError, match=r"codebooks must be float16 \[\(1, 4, 2\)\], not"):
            encode_with(x, spec, wrong)
    with pytest.raises(ValueError, match=r"codebook0 \[0, 1, 0\] is inf, allowed: finite"):
        encode_with(x, spec, [np.where(book == -1, np.inf, book).astype(np.float16)])
    with pytest.raises(TypeError, match="needs a float32 array, not float64"):
        encode_with(x.astype(np.float64), spec, [book])
    with pytest.raises(ValueError, match="needs finite values"):
        encode_with(np.full(8, np.nan, np.float32), spec, [book])


def test_sizes_count_codebooks_and_quality_is_that_of_two_bits() -> None:
    assert get("pq_m32_n8").bits_per_element(4096) == 2 + 256 * 128 * 16 / 4096**2
    assert get("vptq_v8_k256_256").bits_per_element(4096) == 2 + 2 * 256 * 8 * 16 / 4096**2
    assert get("vptq_v8_k1024").bits_per_element(4096) == 10 / 8 + 1024 * 8 * 16 / 4096**2
    assert get("aqlm_2x8_g8").bits_per_element(4096) == 2 + 2 * 256 * 8 * 16 / 4096**2 + 16 / 4096
    x = np.random.default_rng(4).normal(size=(256, 512)).astype(np.float32)
    for name in ("pq_m32_n8", "vptq_v8_k256_256", "aqlm_2x8_g8"):
        encoded = encode(x, name)
        assert encoded.stored_bits / x.size == get(name).bits_per_element(512, 256)
        # between the bound for a Gaussian at 2 bits, 1/16, and the best scalar quantiser of 4 levels
        assert 0.0625 * 0.7 < ((decode(encoded) - x) ** 2).mean() < 0.1175


def test_shapes_rows_and_padding() -> None:
    x = np.random.default_rng(5).normal(size=(3, 4, 30)).astype(np.float32)
    padded = encode(x, SPECS[0], pad=True)
    assert padded.padding == 2 and padded.codes.shape == (3, 4, 16) and decode(padded).shape == x.shape
    # twelve rows in groups of three and of four; a short last group is filled up with zeros
    for spec, groups in (
        (SPECS[3], 4),
        (SPECS[2], 3),
        (small("five", vector_size=5, index_bits=(3,), direction="rows"), 3),
    ):
        encoded = encode(x, spec)
        assert encoded.codes.shape == (groups, 30) and decode(encoded).shape == x.shape
        assert (decode(encode(x.reshape(12, 30), spec)) == decode(encoded).reshape(12, 30)).all()
        with pytest.raises(ValueError, match="codes do not lie by rows"):
            encode(x[0], spec).rows(slice(0, 1))


def words_oracle(merged: list[int], bits: int) -> list[int]:
    """Return the int32 words of a bit stream that starts with the lowest bits."""
    stream = sum(code << n * bits for n, code in enumerate(merged))
    words = [stream >> 32 * i & 0xFFFFFFFF for i in range(-(-len(merged) * bits // 32))]
    return [word - (1 << 32) if word >> 31 else word for word in words]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 16), st.integers(0, 16), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_words_hold_merged_indices_lowest_bit_first(index_bits: int, residual_bits: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 1 << index_bits, (2, count)).astype(np.uint16)
    residual = rng.integers(0, 1 << residual_bits, (2, count)).astype(np.uint16) if residual_bits else None
    words = pack_indices(index, index_bits, residual, residual_bits)
    assert words.dtype == np.int32
    bits = index_bits + residual_bits
    for row in range(2):
        high = [0] * count if residual is None else residual[row].tolist()
        merged = [r << index_bits | i for i, r in zip(index[row].tolist(), high, strict=True)]
        assert words[row].tolist() == words_oracle(merged, bits)
        stream = np.array([[code >> b & 1 for b in range(bits)] for code in merged], np.uint8).reshape(-1)
        packed = np.packbits(stream, bitorder="little")
        assert words[row].astype("<i4").tobytes()[: len(packed)] == packed.tobytes()
    back, more = unpack_indices(words, index_bits, count, residual_bits)
    assert (back == index).all() and (more is None if residual is None else (more == residual).all())


def test_a_residual_wider_than_the_index_is_masked_with_its_own_width() -> None:
    """The rule: residual = (merged >> index_bits) mod 2**residual_bits.

    VPTQ's unpack_index_tensor takes it mod 2**index_bits, which agrees only while the residual is not the wider one.
    """
    index, residual = np.array([3, 0, 1], np.uint16), np.array([0b10110, 0b11111, 4], np.uint16)
    words = pack_indices(index, 2, residual, 5)
    assert unpack_indices(words, 2, 3, 5)[1].tolist() == residual.tolist()
    theirs = [int(words[0]) >> 7 * n + 2 & 0b11 for n in range(3)]
    assert theirs == [0b10, 0b11, 0] != residual.tolist()


def test_codes_of_the_format_pack_into_words() -> None:
    spec = SPECS[3]  # residual of 4 bits, index of 2
    encoded = encode(inputs("random"), spec)
    index, residual = encoded.codes & 3, encoded.codes >> 2
    words = pack_indices(index, 2, residual, 4)
    assert words.shape == (4, 6)
    back = unpack_indices(words, 2, 32, 4)
    assert back[1] is not None and (back[1] << 2 | back[0] == encoded.codes).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda u: pack_indices(u, 17), "1 to 16 bits and a residual 0 to 16, not 17 and 0"),
        (lambda u: pack_indices(u, 0), "not 0 and 0"),
        (lambda u: pack_indices(u, 4, u, 17), "not 4 and 17"),
        (lambda u: pack_indices(u, 4, u), "go together, not 0 bits"),
        (lambda u: pack_indices(u, 4, None, 3), "go together, not 3 bits"),
        (lambda u: pack_indices(u, 2), "index 5 does not fit 2 bits"),
        (lambda u: pack_indices(u, 4, u, 2), "residual 5 does not fit 2 bits"),
        (lambda u: pack_indices(u, 4, u[:1], 4), "must have one shape"),
        (lambda u: pack_indices(u.astype(np.int16), 4), "index must be unsigned"),
        (lambda u: unpack_indices(np.zeros(2, np.int32), 4, 3), "are not the int32 words of 3 indices of 4 bits"),
        (lambda u: unpack_indices(np.zeros(1, np.uint32), 4, 3), "uint32 .* are not the int32 words"),
        (lambda u: unpack_indices(np.array([1 << 12], np.int32), 4, 3), "bit after the last"),
        (lambda u: unpack_indices(np.array([1 << 30], np.int32), 4, 3), "bit after the last of 3 indices of 4 bits"),
    ],
)
def test_words_that_do_not_fit_are_refused(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(np.array([1, 5, 2], np.uint16))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"vector_size": 0}, "vector_size must be at least 1, not 0"),
        ({"index_bits": ()}, r"1 to 16 each and 32 together, not \(\)"),
        ({"index_bits": (17,)}, r"not \(17,\)"),
        ({"index_bits": (16, 16, 1)}, r"not \(16, 16, 1\)"),
        ({"books": 0}, "books must be at least 1, not 0"),
        ({"direction": "rows"}, "with direction 'rows' one"),
        ({"direction": "columns"}, "direction is 'columns', allowed: axis, rows"),
        ({"centroid_format": "int8"}, "centroid_format is 'int8', allowed: float16, float32"),
        ({"training": "given"}, "training is 'given', allowed: kmeans"),
        ({"search": "beam"}, "search is 'beam', allowed: greedy"),
        ({"seed": -1}, r"seed must be 0 to 2\*\*32 - 1, not -1"),
        ({"iterations": -1}, "iterations must not be negative, not -1"),
        ({"train_vectors": 0}, r"train_vectors must be 1 to 2\*\*24, not 0"),
    ],
)
def test_rules_that_do_not_go_together_are_refused(rules: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        get("pq_m32_n8").with_rules(**rules)


def test_bad_input_is_refused() -> None:
    x = np.ones((2, 128), np.float32)
    encoded = encode(x, "pq_m32_n8")
    book = encoded.parts["codebook0"].copy()
    book[3, 200, 1] = 0x7E00
    with pytest.raises(ValueError, match=r"codebook0 \[3, 200, 1\] is nan, allowed: finite"):
        decode(encoded.replace_parts(codebook0=book))
    with pytest.raises(ValueError, match="codes hold 1024"):
        encode(x, "vptq_v8_k1024").replace_parts(codes=np.full((1, 128), 1024, np.uint16))
    with pytest.raises(ValueError, match="block of 128 does not divide the axis of 96; pad it to 128"):
        encode(x[:, :96].copy(), "pq_m32_n8")
    x[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"index \[1, 2\] .* is nan"):
        encode(x, "pq_m32_n8")
