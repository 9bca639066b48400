"""Operands for checking a unit's RTL: dot products of real layers, of random data, and of corners of the codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim import pe
from hwsim.formats import BlockSpec, Encoded, FloatSpec, activation_of, block, encode
from hwsim.formats.bundle import Bundle
from hwsim.formats.format import Part
from hwsim.pe import Unit

_CHUNK = 64


@dataclass
class Dots:
    """Collect dot products as a unit takes them, with the result bits that its model's `gemm` gives.

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

    def add(self, a: Encoded, b: Encoded, unit: Unit, params: Any, k: int) -> None:
        """Add the dot products of row i of A with row i of B, for every i."""
        for start in range(0, a.shape[0], _CHUNK):
            chunk = slice(start, start + _CHUNK)
            rows_a, rows_b = a.rows(chunk), b.rows(chunk)
            bits = np.ascontiguousarray(unit.gemm(rows_a, rows_b, params).diagonal()).view(np.uint32)
            for i, value in enumerate(bits):
                self.beats.append(unit.beats(rows_a, rows_b, i, i, params))
                self.expected.append(int(value))
        self.macs += k * a.shape[0]

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
    layers = [layer for layer in bundle.layers if layer.activation is not None]
    if not layers:
        raise ValueError("the bundle holds no sample activations; export it with real input rows")
    rng = np.random.default_rng(seed)
    dots = Dots()
    shares = np.diff(np.linspace(0, vectors, len(layers) + 1).round().astype(int))
    for layer, share in zip(layers, shares, strict=True):
        assert layer.activation is not None
        rows = rng.integers(layer.activation.shape[0], size=share)
        columns = rng.integers(layer.weight.shape[0], size=share)
        if share:
            dots.add(layer.activation.rows(rows), layer.weight.rows(columns), unit, params, layer.k)
    return dots


def directed(fmt: str, unit: Unit, params: Any, vectors: int, seed: int) -> Dots:
    """Make `vectors` dot products without a network: every pair of codes, random codes under every scale, random data.

    The first take all pairs of element codes, one product a dot product, where both sides have 4 bits. The rest come
    in batches of one to four blocks: random data with outliers, encoded by the format's own rule; random codes under
    random scale codes, NaN among them; and lanes that all hold one code, whose sums are the largest and cancel.
    """
    weights, activations = block(fmt), activation_of(fmt)
    rng = np.random.default_rng(seed)
    dots = Dots()
    assert not isinstance(weights.block_size, tuple)
    unit_k = weights.block_size or params.lanes
    if weights.element.bits == activations.element.bits == 4:
        pairs = np.arange(256)[:vectors]
        codes_a, codes_b = np.zeros((2, len(pairs), unit_k), np.uint8)
        codes_a[:, 0], codes_b[:, 0] = pairs >> 4, pairs & 15
        dots.add(_with_unit_scales(codes_a, activations), _with_unit_scales(codes_b, weights), unit, params, 1)
    kinds = (_random_values, _random_codes, _random_values, _equal_lanes)
    batches = [(blocks, kind) for blocks in (1, 2, 3, 4) for kind in kinds]
    sizes = np.diff(np.linspace(0, vectors - len(dots.beats), len(batches) + 1).round().astype(int))
    for (blocks, kind), rows in zip(batches, sizes, strict=True):
        if rows:
            k = unit_k * blocks
            dots.add(kind(rng, rows, k, activations), kind(rng, rows, k, weights), unit, params, k)
    return dots


def _random_values(rng: np.random.Generator, rows: int, k: int, spec: BlockSpec) -> Encoded:
    values = rng.standard_normal((rows, k)) * np.exp2(rng.integers(-20, 20, (rows, 1)))
    values[np.arange(rows), rng.integers(k, size=rows)] *= np.exp2(rng.integers(0, 12, rows))
    return encode(values.astype(np.float32), spec)


def _random_codes(rng: np.random.Generator, rows: int, k: int, spec: BlockSpec) -> Encoded:
    codes = rng.integers(0, 1 << spec.element.bits, (rows, k), dtype=np.uint8)
    return _under_random_scales(rng, codes, spec)


def _equal_lanes(rng: np.random.Generator, rows: int, k: int, spec: BlockSpec) -> Encoded:
    halves = rng.integers(0, 1 << spec.element.bits, (2, rows, 1), dtype=np.uint8)
    codes = np.repeat(np.concatenate(halves, axis=1), [k - k // 2, k // 2], axis=1)
    return _under_random_scales(rng, codes, spec)


def _under_random_scales(rng: np.random.Generator, codes: NDArray[np.uint8], spec: BlockSpec) -> Encoded:
    def part(part: Part) -> NDArray[Any]:
        if part.dtype == np.float32:
            return rng.integers(0, 1 << 32, part.shape, dtype=np.uint32).view(np.float32).reshape(part.shape)
        return rng.integers(0, 1 << part.bits, part.shape, dtype=np.uint64).astype(part.dtype)

    parts = {p.name: codes if p.name == "codes" else part(p) for p in spec.layout(codes.shape)}
    return Encoded(spec, parts)


def _with_unit_scales(codes: NDArray[np.uint8], spec: BlockSpec) -> Encoded:
    assert isinstance(spec.scale, FloatSpec)
    fill = {
        "scales": spec.scale.bias << spec.scale.man_bits,
        "zeros": 0,
        "tensor_scale": 1,
    }
    parts = {
        p.name: codes if p.name == "codes" else np.full(p.shape, fill[p.name], p.dtype)
        for p in spec.layout(codes.shape)
    }
    return Encoded(spec, parts)


def formats_of(unit_name: str) -> tuple[str, ...]:
    """Return the formats that a unit takes as weights."""
    found = pe.unit(unit_name)

    def takes(name: str) -> bool:
        return found.params_for(block(name), activation_of(name)) is not None

    return tuple(name for name in pe.formats() if takes(name))
