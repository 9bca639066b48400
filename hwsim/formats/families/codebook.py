"""Codebooks found by k-means: product quantisation, residual stages (VPTQ) and additive ones (AQLM)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.families.vector import FLOAT_BITS, VectorSpec, one_of
from hwsim.formats.format import Part, Parts, container
from hwsim.formats.packing import pack, unpack
from hwsim.formats.rounding import random_bits

if TYPE_CHECKING:
    from hwsim.formats.codec import Encoded


@dataclass(frozen=True, kw_only=True)
class CodebookSpec(VectorSpec):
    """Describe vectors as indices into codebooks that are stored with the tensor.

    A vector is ``(C0[i0] + C1[i1] + ..) * row scale``; one code holds all its indices, stage 0 in the lowest bits:
    ``i1 << index_bits[0] | i0`` (VPTQ's merged index). Parts: ``codes``, ``codebook0``, ``codebook1``, .. each
    [books, 2**bits, vector_size] as bit patterns, and ``row_scales`` where the format has them.

    Parameters
    ----------
    vector_size : int
        Elements of a vector.
    index_bits : tuple of int
        Width of the index of each stage, 1 to 16, 32 together.
    books : int
        Codebooks of a stage: vector n of a block of `books` vectors along the axis has its own (product quantisation).
    direction : {"axis", "rows"}
        ``axis``: a vector is `vector_size` neighbours along the axis. ``rows``: `vector_size` rows of a column (VPTQ's
        vectors down the output channels of a weight); a last group of fewer rows is filled up with zeros.
    centroid_format : {"float16", "float32"}
        Format of the centroids, rounded half to even, saturating.
    training : {"kmeans"}
        How codebooks are found when they are not given (`encode_with`).
    seed : int
        Seed of the centroids that k-means starts from.
    iterations : int
        At most so many rounds of k-means; it stops when no label changes.
    train_vectors : int
        Vectors of a book that k-means sees: of n vectors, those numbered ``t * n // train_vectors``; all when n is not
        more.
    search : {"greedy"}
        Each stage codes what the stages before it leave (AQLM searches all together, with a beam).

    Raises
    ------
    ValueError
        When the fields do not go together; the message names the format.

    Exactness
    ---------
    Elements are divided by the scale of their row and rounded to float32. Everything after is defined in float64,
    operation by operation. The distance is the sum of squared differences, elements in order; the search is exhaustive,
    and of equally near centroids the lowest wins. K-means starts from the training vectors numbered
    ``(j T + (r T >> 32)) >> bits``, T of them in all, for centroid j, r being `random_bits` of the seed at
    ``(stage * books + book) * 2**bits + j``; a round labels every vector and replaces each centroid by the mean of its
    vectors, added in order; one without any stays. Codes and residuals are those of the rounded centroids. No result
    depends on threads. Decoding adds the stages in order in float64, multiplies by the scale and rounds to float32.
    """

    row_scale: Literal["none", "float16", "float32"] = "none"
    vector_size: int
    index_bits: tuple[int, ...]
    books: int = 1
    direction: Literal["axis", "rows"] = "axis"
    centroid_format: Literal["float16", "float32"] = "float16"
    training: Literal["kmeans"] = "kmeans"
    seed: int = 0
    iterations: int = 8
    train_vectors: int = 1 << 14
    search: Literal["greedy"] = "greedy"

    def __post_init__(self) -> None:
        object.__setattr__(self, "index_bits", tuple(self.index_bits))
        bits = self.index_bits
        self._object(
            [
                one_of(self, "direction", ("axis", "rows")),
                one_of(self, "centroid_format", tuple(FLOAT_BITS)),
                one_of(self, "training", ("kmeans",)),
                one_of(self, "search", ("greedy",)),
                (self.vector_size < 1, f"vector_size must be at least 1, not {self.vector_size}"),
                (self.books < 1, f"books must be at least 1, not {self.books}"),
                (self.direction == "rows" and self.books > 1, "books lie along the axis; with direction 'rows' one"),
                (
                    not bits or not all(1 <= b <= 16 for b in bits) or sum(bits) > 32,
                    f"index_bits must be 1 to 16 each and 32 together, not {bits}",
                ),
                (not 0 <= self.seed < 1 << 32, f"seed must be 0 to 2**32 - 1, not {self.seed}"),
                (self.iterations < 0, f"iterations must not be negative, not {self.iterations}"),
                (
                    not 1 <= self.train_vectors <= 1 << 24,
                    f"train_vectors must be 1 to 2**24, not {self.train_vectors}",
                ),
            ]
        )

    @property
    def quantum(self) -> int:
        """Elements of the axis that hold whole vectors of every book."""
        return self.vector_size * self.books if self.direction == "axis" else 1

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return codes, codebooks and row scales of a tensor of that shape."""
        self._vectors(shape[-1])
        if self.direction == "axis":
            codes = Part.code("codes", (*shape[:-1], shape[-1] // self.vector_size), sum(self.index_bits))
        else:
            groups = -(-math.prod(shape[:-1]) // self.vector_size)
            codes = Part.code("codes", (groups, shape[-1]), sum(self.index_bits), by_row=False)
        width = FLOAT_BITS[self.centroid_format]
        books = (
            Part.code(f"codebook{stage}", (self.books, 1 << bits, self.vector_size), width, by_row=False)
            for stage, bits in enumerate(self.index_bits)
        )
        return codes, *books, *self._scale_parts(shape)

    @property
    def max_value(self) -> float:
        """1.0: centroids are data."""
        return 1.0

    @property
    def min_step(self) -> float:
        """Step of the centroid format below its normal range."""
        return float(np.finfo(self.centroid_format).smallest_subnormal)

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Find the codebooks of float32 [rows, k], and encode it."""
        scales = self._find_scales(x, out)
        points = self._training_points(x, scales)
        for stage in range(len(self.index_bits)):
            centroids = self._train(points, stage)
            kind = np.dtype(self.centroid_format)
            top = np.finfo(kind).max
            rounded = np.clip(centroids, -float(top), float(top)).astype(kind)
            part = out[f"codebook{stage}"]
            part[...] = rounded.view(part.dtype)
            if stage + 1 < len(self.index_bits):
                self._subtract(points, rounded.astype(np.float64))
        self._encode(x, scales, out)

    def encode_given(self, x: NDArray[np.float32], codebooks: Sequence[NDArray[Any]], out: Parts) -> None:
        """Encode float32 [rows, k] with given codebooks, finite values of `centroid_format` [books, 2**bits, v].

        Raises
        ------
        ValueError
            When their number, shape, dtype or a value does not fit.
        """
        want = [(self.books, 1 << bits, self.vector_size) for bits in self.index_bits]
        if [(book.shape, book.dtype.name) for book in codebooks] != [(shape, self.centroid_format) for shape in want]:
            given = ", ".join(f"{book.dtype} {book.shape}" for book in codebooks)
            raise ValueError(f"format {self.name}: codebooks must be {self.centroid_format} {want}, not {given}")
        for stage, book in enumerate(codebooks):
            part = out[f"codebook{stage}"]
            part[...] = np.ascontiguousarray(book).view(part.dtype)
        self._encode(x, self._find_scales(x, out), out)

    def _encode(self, x: NDArray[np.float32], scales: NDArray[np.float32], out: Parts) -> None:
        from hwsim.formats.families import _codebook_kernels as kernels

        stages, shifts = self._stages(out)
        codes = np.zeros(out["codes"].size, np.uint32)
        for stage in range(len(self.index_bits)):
            kernels.encode_stage(x, scales, self.direction == "rows", stages, shifts, stage, codes)
        out["codes"][...] = codes.reshape(out["codes"].shape)

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k].

        Raises
        ------
        ValueError
            On a centroid or a scale that is not finite, or a negative scale.
        """
        from hwsim.formats.families import _codebook_kernels as kernels

        stages, shifts = self._stages(parts)
        scales, codes = self._scales(parts, len(out)), parts["codes"].reshape(-1).astype(np.uint32, copy=False)
        kernels.decode_stages(codes, scales, self.direction == "rows", stages, shifts, out)

    def codebook_values(self, parts: Mapping[str, NDArray[Any]], stage: int) -> NDArray[np.float64]:
        """Return the centroids of a stage, float64 [books, 2**bits, vector_size]; raises ValueError on NaN or Inf."""
        values = parts[f"codebook{stage}"].view(self.centroid_format).astype(np.float64)
        if not np.isfinite(values).all():
            index = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
            raise ValueError(f"format {self.name}: codebook{stage} {index} is {values[tuple(index)]}, allowed: finite")
        return values

    def _stages(self, parts: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the centroids of all stages, filled up with Inf, and the lowest bit of each index (and the end)."""
        stages = np.full((len(self.index_bits), self.books, 1 << max(self.index_bits), self.vector_size), np.inf)
        for stage, bits in enumerate(self.index_bits):
            stages[stage, :, : 1 << bits] = self.codebook_values(parts, stage)
        return stages, np.cumsum([0, *self.index_bits])

    def _training_points(self, x: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the vectors that k-means sees, float64 [books, T, vector_size]."""
        (rows, k), size = x.shape, self.vector_size
        count = rows * k // (size * self.books) if self.direction == "axis" else -(-rows // size) * k
        taken = min(count, self.train_vectors)
        chosen = np.arange(taken) * count // taken
        if self.direction == "axis":
            first = (chosen[None, :] * self.books + np.arange(self.books)[:, None]) * size
            row, column = first // k, first % k
            of_rows, columns = row[..., None], column[..., None] + np.arange(size)
        else:
            of_rows = (chosen // k * size)[None, :, None] + np.arange(size)
            columns = (chosen % k)[None, :, None]
        values = x[np.minimum(of_rows, rows - 1), columns]
        divisors = np.broadcast_to(np.where(of_rows < rows, scales[np.minimum(of_rows, rows - 1)], 0), values.shape)
        # one rounding, to float32, as in the encoder
        points = np.divide(values, divisors, where=divisors > 0, out=np.zeros_like(values))
        return points.astype(np.float64)

    def _train(self, points: NDArray[np.float64], stage: int) -> NDArray[np.float64]:
        """Return the centroids that k-means finds, float64 [books, 2**bits, vector_size]."""
        from hwsim.formats.families import _codebook_kernels as kernels

        bits, count = self.index_bits[stage], points.shape[1]
        size = 1 << bits
        start = stage * self.books * size
        random = np.array([random_bits(self.seed, start + n) for n in range(self.books * size)], np.int64)
        chosen = (np.arange(size) * count + (random.reshape(self.books, size) * count >> 32)) >> bits
        centroids = np.take_along_axis(points, chosen[..., None], axis=1)
        labels, before = np.zeros(points.shape[:2], np.uint32), np.full(points.shape[:2], size, np.uint32)
        for _ in range(self.iterations):
            kernels.label(points, centroids, labels)
            if (labels == before).all():
                break
            kernels.means(points, labels, centroids)
            before[...] = labels
        return centroids

    def _subtract(self, points: NDArray[np.float64], centroids: NDArray[np.float64]) -> None:
        """Leave of the training vectors what their nearest centroid does not hold."""
        from hwsim.formats.families import _codebook_kernels as kernels

        labels = np.empty(points.shape[:2], np.uint32)
        kernels.label(points, centroids, labels)
        points -= np.take_along_axis(centroids, labels[..., None].astype(np.int64), axis=1)


def encode_with(x: NDArray[np.float32], spec: CodebookSpec, codebooks: Sequence[NDArray[Any]]) -> Encoded:
    """Encode a tensor, vectors along or across its last axis, with codebooks that are given.

    Parameters
    ----------
    x : float32 [..., K]
        Finite values.
    spec : CodebookSpec
        Format.
    codebooks : sequence of float16 or float32 [books, 2**bits, vector_size]
        One a stage, in the format's `centroid_format`.

    Raises
    ------
    TypeError
        When `x` is not a float32 array.
    ValueError
        On NaN or Inf in `x`, an empty array, or codebooks that do not fit.

    Exactness
    ---------
    That of `CodebookSpec`; training is left out.
    """
    from hwsim.formats.codec import Encoded

    if not isinstance(x, np.ndarray) or x.dtype != np.float32:
        raise TypeError(f"encode_with needs a float32 array, not {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim < 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"format {spec.name}: encode_with needs finite values [..., K], given shape {x.shape}")
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = {part.name: np.empty(part.shape, part.dtype) for part in spec.layout(rows.shape)}
    spec.encode_given(rows, codebooks, out)
    return Encoded(spec, {part.name: out[part.name].reshape(part.shape) for part in spec.layout(x.shape)}, x.shape)


def pack_indices(
    index: NDArray[Any], index_bits: int, residual: NDArray[Any] | None = None, residual_bits: int = 0
) -> NDArray[np.int32]:
    """Pack VPTQ's indices: ``residual << index_bits | index``, merged, lowest bit first, into 32-bit words.

    Parameters
    ----------
    index, residual : unsigned [..., n]
        Indices below ``2**index_bits`` and ``2**residual_bits``; no residual with 0 bits.
    index_bits, residual_bits : int
        32 together at most.

    Returns
    -------
    int32 [..., ceil(n * bits / 32)]
        Bits of the last word that no index fills are zero.

    Raises
    ------
    ValueError
        When an index needs more bits, shapes differ, or widths are not what is allowed.

    Source
    ------
    microsoft/VPTQ:vptq/utils/pack.py, pack_index.

    Examples
    --------
    >>> pack_indices(np.array([1, 2, 3], np.uint16), 4, np.array([5, 0, 1], np.uint16), 3).tolist()
    [311633]
    """
    _check_widths(index_bits, residual_bits)
    if (residual is None) != (residual_bits == 0):
        raise ValueError(f"a residual and residual_bits go together, not {residual_bits} bits")
    merged = _narrow(index, index_bits, "index").astype(np.uint32)
    if residual is not None:
        if residual.shape != index.shape:
            raise ValueError(f"residual {residual.shape} and index {index.shape} must have one shape")
        merged |= _narrow(residual, residual_bits, "residual").astype(np.uint32) << np.uint32(index_bits)
    bits = index_bits + residual_bits
    stored = pack(merged.astype(container(bits), copy=False), bits, "low_first")
    words = -(-index.shape[-1] * bits // 32)
    padded = np.zeros((*index.shape[:-1], 4 * words), np.uint8)
    padded[..., : stored.shape[-1]] = stored
    return padded.view(np.dtype("<i4")).astype(np.int32, copy=False)


def unpack_indices(
    words: NDArray[np.int32], index_bits: int, count: int, residual_bits: int = 0
) -> tuple[NDArray[np.uint32], NDArray[np.uint32] | None]:
    """Undo `pack_indices`: return (index, residual or None), uint32 [..., count].

    The residual is masked with `residual_bits`. VPTQ's unpack_index_tensor masks it with `index_bits`, and so loses the
    upper bits of a residual that is wider than the index.

    Raises
    ------
    ValueError
        When the words are not those of `count` indices, widths are not what is allowed, or a bit after the last index
        is not zero.

    Examples
    --------
    >>> [part.tolist() for part in unpack_indices(np.array([311633], np.int32), 4, 3, 3)]
    [[1, 2, 3], [5, 0, 1]]
    """
    _check_widths(index_bits, residual_bits)
    bits = index_bits + residual_bits
    if words.dtype != np.int32 or words.ndim < 1 or words.shape[-1] != -(-count * bits // 32):
        raise ValueError(f"{words.dtype} {words.shape} are not the int32 words of {count} indices of {bits} bits")
    stored = np.ascontiguousarray(words).astype(np.dtype("<i4"), copy=False).view(np.uint8)
    used = -(-count * bits // 8)
    if stored[..., used:].any():
        raise ValueError(f"corrupt buffer: a bit after the last of {count} indices of {bits} bits is not zero")
    merged = unpack(np.ascontiguousarray(stored[..., :used]), bits, "low_first", count).astype(np.uint32)
    index = merged & np.uint32((1 << index_bits) - 1)
    return index, merged >> np.uint32(index_bits) if residual_bits else None


def _check_widths(index_bits: int, residual_bits: int) -> None:
    if not 1 <= index_bits <= 16 or not 0 <= residual_bits <= 16:
        raise ValueError(f"an index has 1 to 16 bits and a residual 0 to 16, not {index_bits} and {residual_bits}")


def _narrow(codes: NDArray[Any], bits: int, name: str) -> NDArray[Any]:
    if codes.dtype.kind != "u" or codes.ndim < 1:
        raise ValueError(f"{name} must be unsigned [..., n], not {codes.dtype} {codes.shape}")
    if codes.size and (top := int(codes.max())) >> bits:
        raise ValueError(f"{name} {top} does not fit {bits} bits")
    return codes
