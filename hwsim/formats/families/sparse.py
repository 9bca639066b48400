"""Sparse formats: dense codes with outliers kept beside them (CSR, whole columns), and groups kept or dropped (BSR)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.families.block import BlockSpec
from hwsim.formats.format import ANY, Format, NotFiniteError, Part, Parts, first_not_finite

_BAND = 1 << 18
"""Elements that are worked on at a time: copies and masks take no more room."""
_OWN = ("row_pointers", "columns", "outliers")
_MOST_LEFT_OUT = 64


@dataclass(frozen=True, kw_only=True)
class SparseSpec(Format):
    """Describe dense codes of another format with outliers kept apart, which take the place of decoded values.

    Outliers are set to +0 before the rest is encoded, so that they do not stretch its scales.

    Parts, beside those of `base`: for single outliers the compressed sparse rows ``row_pointers`` uint32 [rows + 1]
    (rows: all axes but the last, in row-major order), ``columns`` [n] (ascending in each row; 16 bits, or 32 for an
    axis above 65536) and ``outliers`` [n] (bit patterns); for whole columns ``columns`` [n] and ``outliers`` [rows, n].

    Parameters
    ----------
    base : Format
        Format of the dense codes; all its parts lie by rows.
    selection : {"threshold", "fraction", "leave_one_out", "columns"}
        ``threshold``: elements whose magnitude exceeds `threshold`. ``fraction``: of each row the
        ``floor(k * rate)`` largest magnitudes; of equal ones those that stand first. ``leave_one_out``: elements
        without which (set to 0, and not counted) the sum of squared errors of their block is smaller by more than
        `threshold` times the mean square of their row; each is judged by itself. ``columns``: all elements of the
        columns that hold a magnitude above (see `compare`) the threshold.
    threshold : float, optional
        For all but ``fraction``; not negative.
    rate : (int, int), optional
        Numerator and denominator, for ``fraction``.
    compare : {"above", "at_least"}
        Whether a magnitude (or gain) equal to the threshold makes an outlier.
    value_format : {"float16", "float32"}
        Of the outliers; rounded half to even, and an error beyond the largest.
    placement : {"replace"}
        An outlier takes the place of the decoded value (as the dense code stands for 0 there, it would not change much
        if it were added, but for formats without a zero).

    Raises
    ------
    ValueError
        When the fields do not go together; the message names the format.

    Exactness
    ---------
    Dense codes are those of `base` for the rest. Errors of ``leave_one_out`` are differences rounded to float64, and
    their squares and sums too, elements of a block in ascending order; so is the sum of squares of a row, in blocks in
    ascending order, divided by k and multiplied by the threshold. Other choices are exact.
    """

    base: Format
    selection: Literal["threshold", "fraction", "leave_one_out", "columns"]
    threshold: float | None = None
    rate: tuple[int, int] | None = None
    compare: Literal["above", "at_least"] = "above"
    value_format: Literal["float16", "float32"] = "float16"
    placement: Literal["replace"] = "replace"

    def __post_init__(self) -> None:
        for condition, words in _objections(self):
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")
        _check_base(self.name, self.base)

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last block."""
        return self.base.padding(k)

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return the parts of the base format and those of the outliers."""
        rows, width = math.prod(shape[:-1]), 16 if self.value_format == "float16" else 32
        columns = Part.code("columns", (ANY,), _index_bits(shape[-1]), by_row=False)
        if self.selection == "columns":
            return *self.base.layout(shape), columns, Part.code("outliers", (rows, ANY), width, by_row=False)
        return (
            *self.base.layout(shape),
            Part.code("row_pointers", (rows + 1,), 32, by_row=False),
            columns,
            Part.code("outliers", (ANY,), width, by_row=False),
        )

    @property
    def max_value(self) -> float:
        """Largest magnitude of a dense element, scales left out."""
        return self.base.max_value

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring dense elements, scales left out."""
        return self.base.min_step

    def code_points(self) -> NDArray[np.float64] | None:
        """Return the value of every dense element code."""
        return self.base.code_points()

    def bits_per_element(self, k: int, rows: int = 4096) -> float:
        """Return stored bits an element: with outliers where `rate` tells their number, else without any."""
        bits = self.base.bits_per_element(k, rows)
        if self.selection != "columns":
            bits += 32 * (rows + 1) / (rows * k)
        return bits + self._count(k) * (_index_bits(k) + (16 if self.value_format == "float16" else 32)) / k

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into dense codes and outliers.

        Raises
        ------
        ValueError
            When an outlier is beyond float16.
        """
        if self.selection == "columns":
            self._encode_columns(x, out)
            return
        counts, columns, values = np.zeros(len(x) + 1, np.int64), [], []
        for band in _bands(x):
            rest = x[band].copy()
            mask = self._mask(rest)
            counts[band.start + 1 : band.stop + 1] = mask.sum(axis=1)
            columns.append(np.nonzero(mask)[1])
            values.append(rest[mask])
            rest[mask] = 0
            _encode_band(self.base, rest, band, out)
        pointers = counts.cumsum()
        if pointers[-1] >= 1 << 32:
            raise ValueError(f"format {self.name}: {pointers[-1]} outliers, allowed below 2**32")
        out["row_pointers"][...] = pointers
        out["columns"] = np.concatenate(columns).astype(f"uint{_index_bits(x.shape[1])}")
        out["outliers"] = self._stored(np.concatenate(values))

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k]: the dense values, then outliers in their places.

        Raises
        ------
        ValueError
            When outliers are corrupt: pointers that do not start at 0, fall, or do not end at their number; columns
            that do not ascend in a row, or lie outside; values that are NaN or Inf.
        """
        rows, k = out.shape
        columns = parts["columns"].astype(np.int64)
        values = parts["outliers"].view(self.value_format).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"format {self.name}: outliers hold NaN or Inf")
        if self.selection == "columns":
            _check_columns(self.name, columns, np.zeros(1, np.int64), k)
            if values.shape[1] != len(columns):
                raise ValueError(f"format {self.name}: {len(columns)} columns, but outliers of {values.shape[1]}")
            self.base.decode_rows({n: a for n, a in parts.items() if n not in _OWN}, out)
            out[:, columns] = values
            return
        pointers = _check_pointers(self.name, parts["row_pointers"], len(columns))
        if len(values) != len(columns):
            raise ValueError(f"format {self.name}: {len(columns)} columns, but {len(values)} outliers")
        _check_columns(self.name, columns, pointers[:-1], k)
        self.base.decode_rows({n: a for n, a in parts.items() if n not in _OWN}, out)
        out[np.repeat(np.arange(rows), np.diff(pointers)), columns] = values

    def _count(self, k: int) -> int:
        """Return the outliers of a row where the format tells their number, else 0."""
        return k * self.rate[0] // self.rate[1] if self.rate else 0

    def _mask(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which elements of rows are outliers."""
        if self.selection == "threshold":
            return self._beyond(np.abs(rows), np.float64(self.threshold))
        if self.selection == "leave_one_out":
            return self._left_out(rows)
        n, k = self._count(rows.shape[1]), rows.shape[1]
        if n == 0:
            return np.zeros(rows.shape, np.bool_)
        magnitudes = rows.view(np.uint32) & np.uint32(0x7FFFFFFF)
        least = np.partition(magnitudes, k - n, axis=1)[:, k - n, None]
        above, tied = magnitudes > least, magnitudes == least
        room = n - above.sum(axis=1, keepdims=True)
        return above | (tied & (tied.cumsum(axis=1) <= room))

    def _beyond(self, values: NDArray[Any], limit: np.float64 | NDArray[np.float64]) -> NDArray[np.bool_]:
        """Compare in float64, exactly: a float32 limit would be another number."""
        return values > limit if self.compare == "above" else values >= limit

    def _left_out(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which elements lower the error of their block enough when they are left out."""
        from hwsim.formats.families import _sparse_kernels as kernels

        assert isinstance(self.base, BlockSpec) and isinstance(self.base.block_size, int)
        block, shape = self.base.block_size, rows.shape
        parts = {part.name: np.empty(part.shape, part.dtype) for part in self.base.layout(shape)}
        decoded, rest = np.empty_like(rows), rows.copy()
        whole, without = np.empty((shape[0], shape[1] // block)), np.empty((shape[0], shape[1] // block))
        kernels.block_errors(rows, np.zeros_like(rows), block, -1, whole)
        squares = np.zeros(shape[0])
        for column in range(whole.shape[1]):
            squares += whole[:, column]
        limit = (squares / shape[1] * self.threshold)[:, None]
        mask = np.zeros((*whole.shape, block), np.bool_)
        for skip in range(-1, block):
            if skip >= 0:
                rest.reshape(*whole.shape, block)[:, :, skip] = 0
            self.base.encode_rows(rest, parts)
            self.base.decode_rows(parts, decoded)
            kernels.block_errors(rows, decoded, block, skip, whole if skip < 0 else without)
            if skip >= 0:
                mask[:, :, skip] = self._beyond(whole - without, limit)
                rest[...] = rows
        return mask.reshape(shape)

    def _encode_columns(self, x: NDArray[np.float32], out: Parts) -> None:
        found = np.zeros(x.shape[1], np.bool_)
        for band in _bands(x):
            found |= self._beyond(np.abs(x[band]), np.float64(self.threshold)).any(axis=0)
        columns = np.flatnonzero(found)
        out["columns"] = columns.astype(f"uint{_index_bits(x.shape[1])}")
        out["outliers"] = self._stored(x[:, columns])
        for band in _bands(x):
            rest = x[band].copy()
            rest[:, columns] = 0
            _encode_band(self.base, rest, band, out)

    def _stored(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Return outliers as bit patterns."""
        if self.value_format == "float32":
            return np.ascontiguousarray(values).view(np.uint32)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.isfinite(halves).all():
            raise ValueError(
                f"format {self.name}: the outlier {values[~np.isfinite(halves)][0]} is beyond float16; "
                "with_rules(value_format='float32') holds it"
            )
        return np.ascontiguousarray(halves).view(np.uint16)


@dataclass(frozen=True, kw_only=True)
class GroupSparseSpec(Format):
    """Describe group sparsity: groups of a row are kept, as codes of another format, or dropped (decoded as +0).

    Parts: block sparse rows, ``row_pointers`` uint32 [rows + 1] and ``columns`` [n] (index of the group in its row,
    ascending; 16 bits, or 32 above 65536 groups), and those of `base` for a matrix [n, group].

    Parameters
    ----------
    base : Format
        Format of a kept group.
    group : int
        Elements of a group.
    keep : (int, int)
        Numerator and denominator of the share of groups that is kept; their number is rounded up.
    scope : {"row", "tensor"}
        Whether each row keeps its share, or the tensor.
    criterion : {"l2"}
        The groups of largest sum of squares are kept.
    ties : {"lower_index"}
        Of equal sums, those that stand first (row-major).

    Raises
    ------
    ValueError
        When the fields do not go together; the message names the format.

    Exactness
    ---------
    Squares are exact in float64, and summed in it in ascending order. Codes are those of `base`.
    """

    base: Format
    group: int
    keep: tuple[int, int]
    scope: Literal["row", "tensor"] = "row"
    criterion: Literal["l2"] = "l2"
    ties: Literal["lower_index"] = "lower_index"

    def __post_init__(self) -> None:
        top, bottom = self.keep
        objections = [
            (self.group < 1, f"group must be at least 1, not {self.group}"),
            (not 0 < top <= bottom, f"keep {top}/{bottom}: allowed above 0, at most 1"),
            (self.scope not in ("row", "tensor"), f"scope is {self.scope!r}, allowed: row, tensor"),
            (self.criterion != "l2", f"criterion is {self.criterion!r}, allowed: l2"),
            (self.ties != "lower_index", f"ties is {self.ties!r}, allowed: lower_index"),
        ]
        for condition, words in objections:
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")
        if self.base.padding(self.group):
            raise ValueError(f"format {self.name!r}: blocks of base do not divide the group of {self.group}")
        _check_base(self.name, self.base)

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last group."""
        return -k % self.group

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return row pointers, indices of groups, and the parts of the kept groups."""
        k = shape[-1]
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the blocks is empty")
        if k % self.group:
            raise ValueError(
                f"format {self.name}: group of {self.group} does not divide the axis of {k}; pad it to "
                f"{k + self.padding(k)} and record the padding"
            )
        return (
            Part.code("row_pointers", (math.prod(shape[:-1]) + 1,), 32, by_row=False),
            Part.code("columns", (ANY,), _index_bits(k // self.group), by_row=False),
            *(replace(part, shape=(ANY, *part.shape[1:]), by_row=False) for part in self.base.layout((1, self.group))),
        )

    @property
    def max_value(self) -> float:
        """Largest magnitude of an element, scales left out."""
        return self.base.max_value

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring elements, scales left out."""
        return self.base.min_step

    def code_points(self) -> NDArray[np.float64] | None:
        """Return the value of every element code."""
        return self.base.code_points()

    def bits_per_element(self, k: int, rows: int = 4096) -> float:
        """Return stored bits an element of a matrix [rows, k], dropped ones counted as elements."""
        self.layout((rows, k))
        groups = k // self.group
        kept = self._share(groups) * rows if self.scope == "row" else self._share(groups * rows)
        a_group = self.base.bits_per_element(self.group, 1) * self.group + _index_bits(groups)
        return (kept * a_group + 32 * (rows + 1)) / (rows * k)

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into kept groups and where they stand."""
        rows, groups = x.shape[0], x.shape[1] // self.group
        kept = self._kept(x)
        out["row_pointers"][0] = 0
        out["row_pointers"][1:] = np.cumsum(np.bincount(kept // groups, minlength=rows))
        out["columns"] = (kept % groups).astype(f"uint{_index_bits(groups)}")
        for part in self.base.layout((len(kept), self.group)):
            out[part.name] = np.empty(part.shape, part.dtype)
        source = x.reshape(-1, self.group)
        for band in _bands(kept, self.group):
            try:
                _encode_band(self.base, source[kept[band]], slice(band.start, band.stop), out)
            except NotFiniteError:
                raise first_not_finite(x) from None

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k].

        Raises
        ------
        ValueError
            When pointers or indices are corrupt, or the parts are not of one number of groups.
        """
        rows, groups = out.shape[0], out.shape[1] // self.group
        columns = parts["columns"].astype(np.int64)
        pointers = _check_pointers(self.name, parts["row_pointers"], len(columns))
        _check_columns(self.name, columns, pointers[:-1], groups)
        names = [part.name for part in self.base.layout((1, self.group))]
        for name in names:
            if len(parts[name]) != len(columns):
                raise ValueError(f"format {self.name}: {len(columns)} columns, but {name} of {len(parts[name])} groups")
        places = np.repeat(np.arange(rows), np.diff(pointers)) * groups + columns
        target = out.reshape(-1, self.group)
        target[...] = 0
        for band in _bands(columns, self.group):
            values = np.empty((band.stop - band.start, self.group), np.float32)
            self.base.decode_rows({name: parts[name][band] for name in names}, values)
            target[places[band]] = values

    def _share(self, groups: int) -> int:
        return -(-groups * self.keep[0] // self.keep[1])

    def _kept(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the kept groups, ascending, as their places in row-major order."""
        from hwsim.formats.families import _sparse_kernels as kernels

        sums = np.empty((x.shape[0], x.shape[1] // self.group))
        for band in _bands(x):
            kernels.block_errors(x[band], np.zeros_like(x[band]), self.group, -1, sums[band])
        table = sums if self.scope == "row" else sums.reshape(1, -1)
        order = np.argsort(-table, axis=1, kind="stable")[:, : self._share(table.shape[1])]
        return np.sort((order + np.arange(len(table))[:, None] * table.shape[1]).reshape(-1))


def _index_bits(count: int) -> int:
    """Return the width of an index below a count."""
    return 16 if count <= 1 << 16 else 32


def _bands(rows: NDArray[Any], width: int | None = None) -> Iterator[slice]:
    """Yield slices of rows of no more than `_BAND` elements, but one row at least."""
    step = max(1, _BAND // max(1, width or rows.shape[1]))
    for start in range(0, len(rows), step):
        yield slice(start, min(start + step, len(rows)))


def _encode_band(base: Format, rows: NDArray[np.float32], band: slice, out: Parts) -> None:
    base.encode_rows(rows, {part.name: out[part.name][band] for part in base.layout(rows.shape)})


def _check_base(name: str, base: Format) -> None:
    """Refuse a base whose parts do not lie by rows, or clash with ours."""
    parts = base.layout((2, 1 + base.padding(1)))
    for part in parts:
        if part.name in _OWN or not part.by_row or part.shape[:1] != (2,):
            raise ValueError(f"format {name!r}: part {part.name!r} of base {base.name!r} does not lie by rows")


def _check_pointers(name: str, stored: NDArray[np.uint32], count: int) -> NDArray[np.int64]:
    """Return row pointers as int64; raise where they do not start at 0, fall, or do not end at the count."""
    pointers = stored.astype(np.int64)
    if pointers[0] != 0 or pointers[-1] != count:
        raise ValueError(
            f"format {name}: row_pointers run from {pointers[0]} to {pointers[-1]}, not from 0 to {count} (columns)"
        )
    if (falls := np.flatnonzero(np.diff(pointers) < 0)).size:
        raise ValueError(f"format {name}: row_pointers fall after row {falls[0]}")
    return pointers


def _check_columns(name: str, columns: NDArray[np.int64], starts: NDArray[np.int64], k: int) -> None:
    """Raise where columns lie outside, or do not ascend within a row (which starts where `starts` say)."""
    if columns.size == 0:
        return
    if columns.max() >= k:
        raise ValueError(f"format {name}: columns hold {columns.max()}, allowed 0 .. {k - 1}")
    ascends = np.diff(columns, prepend=-1) > 0
    ascends[starts[starts < columns.size]] = True
    if not ascends.all():
        at = int(np.argmin(ascends))
        raise ValueError(
            f"format {name}: columns of a row must ascend, but {columns[at]} follows {columns[at - 1]} at {at}"
        )


def _objections(spec: SparseSpec) -> list[tuple[bool, str]]:
    """Return (is it so, what to say) for everything that can be wrong with a sparse format."""
    allowed = {
        "selection": ("threshold", "fraction", "leave_one_out", "columns"), "compare": ("above", "at_least"),
        "value_format": ("float16", "float32"), "placement": ("replace",),
    }  # fmt: skip
    base, fraction = spec.base, spec.selection == "fraction"
    blocks = isinstance(base, BlockSpec) and isinstance(base.block_size, int) and base.block_size <= _MOST_LEFT_OUT
    return [
        *(
            (getattr(spec, field) not in values, f"{field} is {getattr(spec, field)!r}, allowed: {', '.join(values)}")
            for field, values in allowed.items()
        ),
        (fraction != (spec.rate is not None), "selection 'fraction' and rate go together"),
        (fraction != (spec.threshold is None), "a threshold is for all selections but 'fraction'"),
        (spec.threshold is not None and not spec.threshold >= 0, f"threshold must not be negative: {spec.threshold}"),
        (
            spec.rate is not None and not 0 <= spec.rate[0] <= spec.rate[1] > 0,
            f"rate {spec.rate}: allowed 0 to 1, numerator and denominator",
        ),
        (fraction and spec.compare != "above", "compare is about thresholds"),
        (
            spec.selection == "leave_one_out" and not blocks,
            f"selection 'leave_one_out' needs a base with blocks of at most {_MOST_LEFT_OUT} along the last axis",
        ),
    ]
