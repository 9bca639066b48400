"""The dot products of a check: brought to one length where the unit has one, and joined to what is run at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.flow.operands import CHUNK_ROWS, Batch
from hwsim.formats import Encoded


@dataclass(frozen=True)
class Chunk:
    """Dot products that are run at a time."""

    batches: tuple[Batch, ...]
    beats: dict[str, NDArray[np.integer]]

    def expected(self, unit: Any, params: Any) -> NDArray[np.uint64]:
        """Return the bits that the model gives with these Params."""
        return np.concatenate([batch.expected(unit, params).astype(np.uint64) for batch in self.batches])

    def dot(self, number: int) -> dict[str, NDArray[np.integer]]:
        """Return the beats of one dot product."""
        ends = np.flatnonzero(self.beats["last"]) + 1
        start = int(ends[number - 1]) if number else 0
        return {name: values[start : ends[number]] for name, values in self.beats.items()}


def fitted(batch: Batch, k: int, rng: np.random.Generator) -> Batch:
    """Return dot products of length `k`: a piece of each row drawn at random, or the row with zeros behind it."""
    pieces = batch.a.shape[1] // k
    piece = rng.integers(max(pieces, 1), size=batch.rows)
    return Batch(_cut(batch.a, k, piece), _cut(batch.b, k, piece), k)


def _cut(operand: Encoded, k: int, piece: NDArray[np.int64]) -> Encoded:
    rows, length = operand.shape
    wanted = {part.name: part.shape for part in operand.format.layout((rows, k))}
    parts = {}
    for name, values in operand.parts.items():
        if np.shape(values) == wanted[name]:
            parts[name] = values
            continue
        width = wanted[name][1]
        if length >= k:
            pieces = values.shape[1] // width
            parts[name] = np.ascontiguousarray(
                values[:, : pieces * width].reshape(rows, pieces, width)[np.arange(rows), piece]
            )
        else:
            parts[name] = np.pad(values, ((0, 0), (0, width - values.shape[1])))
    return Encoded(operand.format, parts)


def chunks(batches: Iterable[Batch], unit: Any, params: Any) -> Iterator[Chunk]:
    """Yield batches joined to about `CHUNK_ROWS` dot products."""
    held: list[Batch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.rows for each in held) >= CHUNK_ROWS:
            yield _chunk(held, unit, params)
            held = []
    if held:
        yield _chunk(held, unit, params)


def _merged(batches: Iterable[Batch]) -> list[Batch]:
    """Return batches of equal formats and lengths as one: each call of a model has its price, and there are many."""
    groups: dict[Any, list[Batch]] = {}
    for number, batch in enumerate(batches):
        formats = batch.a.format, batch.b.format
        shared = any(not part.by_row for fmt in formats for part in fmt.layout((1, batch.a.shape[1])))
        groups.setdefault((*(fmt.name for fmt in formats), batch.a.shape[1], number if shared else -1), []).append(
            batch
        )
    return [
        Batch(_stacked([each.a for each in group]), _stacked([each.b for each in group]), group[0].k)
        for group in groups.values()
    ]


def _stacked(operands: Sequence[Encoded]) -> Encoded:
    if len(operands) == 1:
        return operands[0]
    parts = {name: np.concatenate([each.parts[name] for each in operands]) for name in operands[0].parts}
    return Encoded(operands[0].format, parts)


def _chunk(batches: Iterable[Batch], unit: Any, params: Any) -> Chunk:
    batches = _merged(batches)
    parts = [batch.beats(unit, params) for batch in batches]
    return Chunk(tuple(batches), {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


__all__ = ["Chunk", "chunks", "fitted"]
