"""Operands for checking a unit's RTL: dot products of real layers, of random data, and of corners of the codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim import pe
from hwsim.flow.corners import CORNERS, codes_of, corner_pair
from hwsim.formats import BlockSpec, Encoded, FloatSpec, Format, activation_of, decode, element_values, encode, get
from hwsim.formats.bundle import Bundle
from hwsim.formats.families.adaptive import AdaptiveSpec
from hwsim.formats.families.binary_pruned import BinaryPrunedSpec
from hwsim.formats.families.channel_groups import ChannelGroupSpec
from hwsim.formats.families.microexponent import MicroExponentSpec
from hwsim.formats.format import Part, container
from hwsim.pe import Unit

CHUNK_ROWS = 8192
"""Dot products that are made and checked at a time: memory stays the same however many are asked for."""
TENSOR_ROWS = 256
"""Rows that share a tensor scale, in formats that have one."""
_SPECIAL = (0x00000000, 0x00000001, 0x007FFFFF, 0x00800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7F800000, 0x7FC00000)
"""Bits of zero, the ends of the subnormal and of the normal float32, 1, Inf and NaN."""
_MIN_K = 4
"""Least K step where a format has no blocks."""
_REACH = 6
"""Powers of two around 1."""
_TABLE_BITS = 16
"""Widest elements of which tables of values are made."""
_FRESH_ROWS = 1 << 15
"""Dot products that are made anew of some number, by `mass_batches`."""
_PAIRINGS = 32
"""Times that rows of A meet other rows of B, at most."""
_FLOAT32_PRECISION = 24
_LONG_ROWS, _LONGEST, _LONG_AMONG = 16, 8192, 2048
"""Dot products whose integer sum float32 does not hold: how many, of what length at most, among how many others."""
_GEMM_ROWS = 64
"""Rows of a matrix product of which only the diagonal is wanted."""


Packed = BlockSpec | MicroExponentSpec | ChannelGroupSpec | AdaptiveSpec | BinaryPrunedSpec
"""Families of which some unit takes formats."""


@dataclass(frozen=True)
class Batch:
    """Operands of dot products: row i of A with row i of B.

    Attributes
    ----------
    a, b : Encoded [rows, K]
    k : int
        Products a dot product that count as MACs.
    """

    a: Encoded
    b: Encoded
    k: int

    @property
    def rows(self) -> int:
        """Dot products."""
        return self.a.shape[0]

    def turned(self, by: int) -> Batch:
        """Return the same rows of A with other rows of B; each `by` below the number of rows gives other pairs."""
        if by == 0:
            return self
        step = by * len(CORNERS)
        rows = (np.arange(self.rows) + step + step // self.rows) % self.rows
        return Batch(self.a, self.b.rows(rows), self.k)

    def expected(self, unit: Unit, params: Any) -> NDArray[np.uint32]:
        """Return the float32 bits that the unit's model gives, uint32 [rows]."""
        if hasattr(unit, "dots"):
            return unit.dots(self.a, self.b, params)
        found = []
        for start in range(0, self.rows, _GEMM_ROWS):
            rows = slice(start, start + _GEMM_ROWS)
            found.append(unit.gemm(self.a.rows(rows), self.b.rows(rows), params).diagonal())
        return np.concatenate(found).view(np.uint32)

    def beats(self, unit: Unit, params: Any) -> dict[str, NDArray[np.integer]]:
        """Return the beats that the unit takes, of all dot products one after the other."""
        if hasattr(unit, "paired_beats"):
            return unit.paired_beats(self.a, self.b, params)
        each = [unit.beats(self.a, self.b, i, i, params) for i in range(self.rows)]
        return {name: np.concatenate([beats[name] for beats in each]) for name in each[0]}


@dataclass
class Dots:
    """Collect dot products as a unit takes them, with the result bits that its model gives.

    Attributes
    ----------
    beats : list of dict
        Fields by beat, one entry a dot product.
    expected : list of int
        Float32 bits.
    macs : int
        Products, without padding.
    """

    beats: list[dict[str, NDArray[np.integer]]] = field(default_factory=list)
    expected: list[int] = field(default_factory=list)
    macs: int = 0

    def add(self, batch: Batch, unit: Unit, params: Any) -> None:
        """Add the dot products of a batch."""
        self.expected += batch.expected(unit, params).tolist()
        joined = batch.beats(unit, params)
        starts = [0, *(np.flatnonzero(joined["last"]) + 1).tolist()]
        self.beats += [{name: values[start:end] for name, values in joined.items()} for start, end in pairwise(starts)]
        self.macs += batch.k * batch.rows

    def extend(self, other: Dots) -> None:
        """Add the dot products of another collection."""
        self.beats += other.beats
        self.expected += other.expected
        self.macs += other.macs


def from_bundle(bundle: Bundle, unit: Unit, params: Any, vectors: int, seed: int) -> Dots:
    """Take `vectors` dot products of the bundle's layers, spread evenly, rows and columns drawn by `seed`.

    Raises
    ------
    ValueError
        When no layer carries sample activations.
    """
    dots = Dots()
    for batch in bundle_batches(bundle, vectors, seed, unit.NAME):
        dots.add(batch, unit, params)
    return dots


def bundle_batches(bundle: Bundle, vectors: int, seed: int, unit_name: str | None = None) -> Iterator[Batch]:
    """Yield the operands of `from_bundle` in batches of at most `CHUNK_ROWS`.

    Sample activations of another format than the unit named takes are decoded, and encoded again in its own.

    Raises
    ------
    ValueError
        When no layer carries sample activations.
    """
    layers = [layer for layer in bundle.layers if layer.activation is not None]
    if not layers:
        raise ValueError("the bundle holds no sample activations; export it with real input rows")
    rng = np.random.default_rng(seed)
    for layer, share in zip(layers, _shares(vectors, len(layers)), strict=True):
        activation = layer.activation
        assert activation is not None
        if unit_name is not None and (own := pe.activation_for(layer.weight.format, unit_name)) != activation.format:
            activation = encode(decode(activation), own)
        for count in _pieces(share):
            rows = rng.integers(activation.shape[0], size=count)
            columns = rng.integers(layer.weight.shape[0], size=count)
            yield Batch(activation.rows(rows), layer.weight.rows(columns), layer.k)


def _packed(spec: Format) -> Packed:
    """Return a format that some unit takes."""
    if not isinstance(spec, Packed):
        raise ValueError(f"no operands are made in formats of the family of {spec.name!r}")
    return spec


def directed(
    fmt: str | Format, unit: Unit, params: Any, vectors: int, seed: int, activation: Format | None = None
) -> Dots:
    """Make `vectors` dot products without a network; see `directed_batches`."""
    dots = Dots()
    for batch in directed_batches(fmt, params, vectors, seed, activation or pe.activation_for(fmt, unit.NAME)):
        dots.add(batch, unit, params)
    return dots


def directed_batches(
    fmt: str | Format, params: Any, vectors: int, seed: int, activation: Format | None = None
) -> Iterator[Batch]:
    """Yield `vectors` dot products: every pair of codes, random codes under every scale, random data.

    Activations are of the format that goes with that of the weights, unless one is given.

    The first take all pairs of element codes, one product a dot product, where both sides have 4 bits. An eighth are at
    the corners of the formats (`hwsim.flow.corners`); of units that sum whole dot products of integers, a few are so
    long that float32 does not hold the sum. The rest come in batches of one to four blocks: random data with outliers,
    encoded by the format's own rule; random codes under random scale codes, NaN among them; lanes that all hold one
    code, whose sums are the largest and cancel; and every second block nearly the first one's negative, so that the
    accumulator loses its leading bits. FP32 scales are often at the ends of their range. No batch has more than
    `CHUNK_ROWS`.
    """
    weights, activations = _packed(get(fmt)), _packed(activation or activation_of(fmt))
    rng = np.random.default_rng(seed)
    block_size = getattr(weights, "block_size", None)
    assert not isinstance(block_size, tuple)
    # a unit of one lane needs more than one product a dot product to have sums at all
    unit_k = block_size or max(params.lanes, _MIN_K)
    if weights.element.bits == activations.element.bits == 4:
        pairs = np.arange(256)[:vectors]
        codes_a, codes_b = np.zeros((2, len(pairs), unit_k), np.uint8)
        codes_a[:, 0], codes_b[:, 0] = pairs >> 4, pairs & 15
        yield Batch(_with_unit_scales(codes_a, activations), _with_unit_scales(codes_b, weights), 1)
        vectors -= len(pairs)
    for batch in (
        *_corners(rng, vectors, unit_k, activations, weights, params),
        *_long_sums(rng, vectors, activations, weights, params),
    ):
        yield batch
        vectors -= batch.rows
    kinds = (_random_values, _random_codes, _equal_lanes, None)
    # what lies not by rows is one for a batch
    shared = any(not part.by_row for spec in (weights, activations) for part in spec.layout((1, unit_k)))
    groups = [(blocks, kind) for blocks in (1, 2, 3, 4) for kind in kinds]
    for (blocks, kind), share in zip(groups, _shares(vectors, len(groups)), strict=True):
        for rows in _pieces(share, TENSOR_ROWS if shared else CHUNK_ROWS):
            shape = (rows, blocks, unit_k)
            if kind is None:
                a, b = _repeated(rng, shape, activations, negate=False), _repeated(rng, shape, weights, negate=True)
            else:
                a, b = (kind(rng, rows, unit_k * blocks, spec) for spec in (activations, weights))
            yield Batch(a, b, unit_k * blocks)


def mass_batches(
    fmt: str | Format, params: Any, vectors: int, seed: int, activation: Format | None = None
) -> Iterator[Batch]:
    """Yield `vectors` dot products as of `directed_batches`, most of them rows of A with other rows of B again.

    Making operands takes longer than multiplying them. So batches are made for some `_FRESH_ROWS` dot products at a
    time, and of each the rows of A meet those of B up to `_PAIRINGS` times, every time another row, and rows of a batch
    of corners mostly one of their own kind.
    """
    number = 0
    while vectors > 0:
        wanted = min(vectors, _FRESH_ROWS * _PAIRINGS)
        fresh = min(vectors, _FRESH_ROWS)
        of_piece = seed if not number else int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        for batch in directed_batches(fmt, params, fresh, of_piece, activation):
            for pairing in range(min(wanted // fresh, batch.rows)):
                yield batch.turned(pairing)
                vectors -= batch.rows
        number += 1


def _corners(
    rng: np.random.Generator, vectors: int, size: int, activations: Packed, weights: Packed, params: Any
) -> Iterator[Batch]:
    rows = min(vectors // 8, CHUNK_ROWS)
    if not rows:
        return
    rule = getattr(params.datapath, "accumulator", None)
    precision = rule.spec.man_bits + 1 if rule is not None else _FLOAT32_PRECISION
    a, b = corner_pair(rng, rows, size, activations, weights, precision)
    yield Batch(a, b, a.shape[1])


def _long_sums(
    rng: np.random.Generator, vectors: int, activations: Packed, weights: Packed, params: Any
) -> Iterator[Batch]:
    """Yield dot products of integers whose sums need more bits than float32 has, if the unit has no blocks."""
    spec = params.datapath
    if getattr(spec, "block_beats", 1) or getattr(spec, "acc_bits", 0) or vectors < _LONG_AMONG:
        return
    length = -(-(1 << _FLOAT32_PRECISION + 2) // spec.max_product)
    length += weights.padding(length)
    if length > _LONGEST:
        return
    sides = []
    for side in (activations, weights):
        values = codes_of(side.element).values
        top = codes_of(side.element).codes[values > values.max() * 0.7]
        codes = rng.choice(top, (_LONG_ROWS, length))
        codes[:, ::7] = _any_element(rng, codes[:, ::7].shape, side)
        sides.append(_with_unit_scales(codes.astype(container(side.element.bits)), side))
    yield Batch(sides[0], sides[1], length)


def _shares(vectors: int, parts: int) -> list[int]:
    """Split a number as evenly as whole numbers allow."""
    return [int(share) for share in np.diff(np.linspace(0, vectors, parts + 1).round().astype(np.int64))]


def _pieces(rows: int, size: int = CHUNK_ROWS) -> Iterator[int]:
    """Yield the sizes of pieces of at most `size`."""
    while rows > 0:
        yield min(rows, size)
        rows -= size


def chunks(
    batches: Iterable[Batch], unit: Unit, params: Any
) -> Iterator[tuple[dict[str, NDArray[np.integer]], NDArray[np.uint32], int]]:
    """Yield the beats and the result bits of batches joined to about `CHUNK_ROWS` dot products, and their MACs."""
    held: list[Batch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.rows
        if rows >= CHUNK_ROWS:
            yield _joined(held, unit, params)
            held, rows = [], 0
    if held:
        yield _joined(held, unit, params)


def vector_chunks(
    unit: Any, params: Any, vectors: int, seed: int
) -> Iterator[tuple[dict[str, NDArray[np.integer]], dict[str, NDArray[np.integer]]]]:
    """Yield the beats of at most `CHUNK_ROWS` vectors for a unit that streams them, and the fields of its results."""
    rng = np.random.default_rng(seed)
    for rows in _pieces(vectors):
        beats = unit.operands(params, rows, rng)
        yield beats, unit.outputs(beats, params)


def _joined(
    batches: list[Batch], unit: Unit, params: Any
) -> tuple[dict[str, NDArray[np.integer]], NDArray[np.uint32], int]:
    parts = [batch.beats(unit, params) for batch in batches]
    beats = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    expected = np.concatenate([batch.expected(unit, params) for batch in batches])
    return beats, expected, sum(batch.k * batch.rows for batch in batches)


def _random_values(rng: np.random.Generator, rows: int, k: int, spec: Packed) -> Encoded:
    values = rng.standard_normal((rows, k)) * np.exp2(rng.integers(-20, 20, (rows, 1)))
    values[np.arange(rows), rng.integers(k, size=rows)] *= np.exp2(rng.integers(0, 12, rows))
    return encode(values.astype(np.float32), spec)


def _random_codes(rng: np.random.Generator, rows: int, k: int, spec: Packed) -> Encoded:
    codes = _any_element(rng, (rows, k), spec)
    codes[rng.integers(16, size=rows) == 0] = _zero(spec.element)  # 0 times Inf is NaN
    return _under_random_scales(rng, codes, spec)


def _equal_lanes(rng: np.random.Generator, rows: int, k: int, spec: Packed) -> Encoded:
    halves = _any_element(rng, (2, rows, 1), spec)
    codes = np.repeat(np.concatenate(halves, axis=1), [k - k // 2, k // 2], axis=1)
    return _under_random_scales(rng, codes, spec)


def _repeated(rng: np.random.Generator, shape: tuple[int, int, int], spec: Packed, *, negate: bool) -> Encoded:
    """Repeat every even block in the odd one after it, negated on one side, and spoil one element a row."""
    rows, blocks, size = shape
    codes = _any_element(rng, shape, spec)
    again = codes[:, 0 : blocks - blocks % 2 : 2]
    codes[:, 1::2] = _negated(again, spec.element) if negate else again
    row = np.arange(rows)
    codes[row, rng.integers(blocks, size=rows), rng.integers(size, size=rows)] = _any_element(rng, (rows,), spec)
    return _under_scales(rng, codes.reshape(rows, blocks * size), spec, _near_one)


def _any_element(rng: np.random.Generator, shape: tuple[int, ...], spec: Packed) -> NDArray[Any]:
    """Draw element codes: any; of wide floats under no scale half of the rows have magnitudes around 1."""
    element, dtype = spec.element, container(spec.element.bits)
    codes = rng.integers(0, 1 << element.bits, shape, dtype=dtype)
    if isinstance(element, FloatSpec) and element.exp_bits > 4 and getattr(spec, "scale", None) is None:
        field = element.bias + rng.integers(-_REACH, _REACH + 1, shape)
        mask = dtype.type(((1 << element.exp_bits) - 1) << element.man_bits)
        tame = (codes & ~mask) | (field.astype(dtype) << dtype.type(element.man_bits))
        codes = np.where(rng.integers(2, size=(shape[0], *[1] * (len(shape) - 1))) == 0, codes, tame)
    return codes


def _zero(element: Any) -> int:
    """Return the code of zero."""
    return 0 if element.bits > _TABLE_BITS else element_values(element).tolist().index(0)


def _negated(codes: NDArray[Any], element: Any) -> NDArray[Any]:
    """Return the codes of the negative values, or the codes themselves where there are none."""
    if isinstance(element, FloatSpec) and element.bits > 8:
        return codes ^ codes.dtype.type(1 << (element.bits - 1))
    values = element_values(element).tolist()
    first = {value: code for code, value in reversed(list(enumerate(values)))}
    return np.array([first.get(-value, code) for code, value in enumerate(values)], codes.dtype)[codes]


def _under_random_scales(rng: np.random.Generator, codes: NDArray[np.uint8], spec: Packed) -> Encoded:
    return _under_scales(rng, codes, spec, _any_code)


def _under_scales(
    rng: np.random.Generator,
    codes: NDArray[np.uint8],
    spec: Packed,
    draw: Callable[[np.random.Generator, Part, Packed], NDArray[Any]],
) -> Encoded:
    def part(part: Part) -> NDArray[Any]:
        # FP32 scales of rows are kept as bits, a tensor's scale as a number
        return edge_floats(rng, part.shape).view(part.dtype) if part.bits == 32 else draw(rng, part, spec)

    parts = {p.name: codes if p.name == "codes" else part(p) for p in spec.layout(codes.shape)}
    return Encoded(spec, parts)


def _any_code(rng: np.random.Generator, part: Part, spec: Packed) -> NDArray[Any]:
    top = 1 << part.bits
    if isinstance(spec, ChannelGroupSpec) and part.name == "groups":
        top = spec.groups
    elif isinstance(spec, BinaryPrunedSpec) and part.name == "redundant":
        top = spec.most_redundant + 1
    return rng.integers(0, top, part.shape, dtype=np.uint64).astype(part.dtype)


def _near_one(rng: np.random.Generator, part: Part, spec: Packed) -> NDArray[Any]:
    """Draw scale codes a few steps around the code of 1; other parts as they come."""
    scale = getattr(spec, "scale", None)
    if part.name != "scales" or not isinstance(scale, FloatSpec):
        return _any_code(rng, part, spec)
    one = scale.bias << scale.man_bits
    reach = rng.choice([0, 1, 8, 40], (part.shape[0], *[1] * (len(part.shape) - 1)))
    return np.clip(one + rng.integers(-reach, reach + 1, part.shape), 0, scale.max_code).astype(part.dtype)


def edge_floats(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw float32: a third around 1, a third of any exponent, a third subnormal, tiny, huge, Inf or NaN."""
    kind = rng.integers(3, size=shape)
    edge = rng.choice([0, 0, 0, 1, 2, 12, 24, 25, 253, 254, 255], shape)
    exponent = np.where(
        kind == 0, rng.integers(117, 138, shape), np.where(kind == 1, rng.integers(256, size=shape), edge)
    )
    # significands of few leading zeros and of many, with all bits behind, with some, and with none
    mantissa = rng.integers(1 << 23, size=shape) >> rng.integers(0, 24, shape)
    mantissa = np.where(rng.integers(2, size=shape) == 0, mantissa, mantissa << rng.integers(0, 24, shape)) & 0x7FFFFF
    magnitude = np.where(rng.integers(8, size=shape) == 0, rng.choice(_SPECIAL, shape), exponent << 23 | mantissa)
    return np.asarray(rng.integers(2, size=shape) << 31 | magnitude).astype(np.uint32).view(np.float32)


def _with_unit_scales(codes: NDArray[np.uint8], spec: Packed) -> Encoded:
    scale = getattr(spec, "scale", None)
    fill = {
        "scales": scale.bias << scale.man_bits if isinstance(scale, FloatSpec) else 1,
        "groups": 0,
        "zeros": 0,
        "tensor_scale": 1,
        "row_scales": 0x3C00 if getattr(spec, "row_scale", "none") == "float16" else 0x3F800000,
        "shifts": 0,
        "selectors": 0,
        "redundant": 0,
        "constants": 0,
    }
    parts = {
        p.name: codes if p.name == "codes" else np.full(p.shape, fill[p.name], p.dtype)
        for p in spec.layout(codes.shape)
    }
    return Encoded(spec, parts)


def formats_of(unit_name: str) -> tuple[str, ...]:
    """Return the formats that a unit takes as weights; none for a unit that streams vectors."""
    found = pe.unit(unit_name)
    if not hasattr(found, "params_for"):
        return ()

    def takes(name: str) -> bool:
        weight = get(name)
        activation = pe.activation_for(name, unit_name)
        return pe.takes_family(found, weight) and found.params_for(weight, activation) is not None

    return tuple(name for name in pe.formats() if takes(name))
