"""The rule of BitMoD's simulator: tiles times terms against DRAM bandwidth, layer by layer.

An array of rows x cols elements, each with a dot product of `dot` lanes, takes ``ceil(K / dot) * ceil(N / rows) *
ceil(M / cols)`` tiles; a tile takes one cycle, in a bit-serial machine one a term of a weight, ``ceil(floor(bits) /
2)``. DRAM moves weights, inputs and outputs once each; where neither weights nor inputs fit their buffers, one of the
two again for every buffer's worth of the other, whichever is less. A layer takes the longer of both.

Attention, ``corrected``: a product of ``head_dim`` (queries times keys) and one of ``keys`` (times values) for each
key-value head, with keys and values at `kv_bits`. ``legacy``: the shapes with which the paper's figures were made, in
which queries times keys run over the whole hidden size for every head, the operand in the place of the weights has
`activation_bits`, and terms are those of the weights.

Source: BitMoD (HPCA 2025), github.com/abdelfattah-lab/BitMoD-HPCA-25; ``legacy`` is commit 58d7bdb, ``corrected``
e445a5f.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from hwsim.arch.conventions import LayerTiming, Options, Published
from hwsim.arch.memory import ceil_div
from hwsim.arch.workload import Attention, MatMul, Workload
from hwsim.yaml_file import Strict

NAME = "bitmod"


class Dims(Strict):
    """Elements of the array."""

    rows: PositiveInt
    cols: PositiveInt


class Array(Strict):
    """The array in each phase (the same elements, arranged anew), and the lanes of an element."""

    prefill: Dims
    decode: Dims
    dot: PositiveInt
    bit_serial: bool


class WeightBits(Strict):
    """Stored bits a weight, scales included: of every network, or by network."""

    prefill: PositiveFloat | dict[str, PositiveFloat]
    decode: PositiveFloat | dict[str, PositiveFloat]


class Buffers(Strict):
    """Sizes of the on-chip buffers."""

    act_bytes: PositiveInt
    weight_bytes: PositiveInt


class Energy(Strict):
    """Published energies: of an element of the array a cycle, and of DRAM."""

    element_pj_per_cycle: PositiveFloat
    place_and_route_factor: PositiveFloat
    dram_pj_per_bit: PositiveFloat


class MachineSpec(Published):
    """A machine file with ``timing: bitmod``."""

    timing: Literal["bitmod"]
    array: Array
    weight_bits: WeightBits
    activation_bits: PositiveInt
    kv_bits: PositiveInt
    buffers: Buffers
    dram_bits_per_cycle: PositiveInt
    energy: Energy


@dataclass(frozen=True)
class _Product:
    """Products of one shape, and the bytes that DRAM holds of each operand."""

    name: str
    m: int
    n: int
    k: int
    groups: int
    repeat: int
    term_bits: Fraction
    weight_bytes: int
    act_bytes: int
    out_bytes: int


def simulate(workload: Workload, spec: MachineSpec, options: Options) -> tuple[LayerTiming, ...]:
    """Return the layers of a workload, timed; queries times keys and times values are layers of their own.

    Raises
    ------
    ValueError
        When the file states no weight bits for the network, and none are given.
    """
    dims = spec.array.prefill if workload.phase == "prefill" else spec.array.decode
    bits = _weight_bits(workload, spec, options)
    return tuple(_time(product, spec, dims) for product in _products(workload, spec, options, bits))


def _weight_bits(workload: Workload, spec: MachineSpec, options: Options) -> Fraction:
    if options.weight_bits is not None:
        return Fraction(options.weight_bits)
    stated = spec.weight_bits.prefill if workload.phase == "prefill" else spec.weight_bits.decode
    if isinstance(stated, dict):
        if workload.name not in stated:
            raise ValueError(
                f"the file states bits a weight in {workload.phase} for {', '.join(stated)} only; give weight_bits"
            )
        stated = stated[workload.name]
    return Fraction(stated)


def _products(workload: Workload, spec: MachineSpec, options: Options, bits: Fraction) -> Iterator[_Product]:
    act = spec.activation_bits
    for operation in workload.operations:
        if isinstance(operation, MatMul):
            m, n, k, groups = operation.m, operation.n, operation.k, operation.groups
            yield _Product(
                operation.name, m, n, k, groups, operation.repeat, bits,
                groups * _row_bytes(k, bits) * n, groups * _row_bytes(k, act) * m, groups * _row_bytes(n, act) * m,
            )  # fmt: skip
        elif options.attention == "legacy":
            yield from _legacy(operation, act, bits)
        else:
            yield from _corrected(operation, act, Fraction(spec.kv_bits))


def _legacy(attention: Attention, act: int, bits: Fraction) -> Iterator[_Product]:
    """Return both products as the paper's figures count them."""
    heads, hidden = attention.heads, attention.heads * attention.head_dim
    kv_hidden, times = attention.kv_heads * attention.head_dim, attention.sequences
    for name, m, n, k in (
        ("qk", heads * attention.queries, attention.queries, hidden),
        ("av", attention.queries, heads * attention.queries, attention.keys),
    ):
        yield _Product(
            f"{attention.name}.{name}", m, n, k, times, attention.repeat, bits,
            times * _row_bytes(k, act) * n, times * _row_bytes(kv_hidden, act) * m, times * _row_bytes(n, act) * m,
        )  # fmt: skip


def _corrected(attention: Attention, act: int, kv_bits: Fraction) -> Iterator[_Product]:
    """Return both products with the shapes that they have."""
    m = attention.heads // attention.kv_heads * attention.queries
    groups = attention.kv_heads * attention.sequences
    for name, n, k in (
        ("qk", attention.keys, attention.head_dim),
        ("av", attention.head_dim, attention.keys),
    ):
        yield _Product(
            f"{attention.name}.{name}", m, n, k, groups, attention.repeat, kv_bits,
            groups * _row_bytes(k, kv_bits) * n, groups * _row_bytes(k, act) * m, groups * _row_bytes(n, act) * m,
        )  # fmt: skip


def _row_bytes(elements: int, bits: Fraction | int) -> int:
    """Return the whole bytes of a row."""
    stored = elements * Fraction(bits)
    return ceil_div(stored.numerator, 8 * stored.denominator)


def _time(product: _Product, spec: MachineSpec, dims: Dims) -> LayerTiming:
    array = spec.array
    terms = ceil_div(floor(product.term_bits), 2) if array.bit_serial else 1
    tiles = ceil_div(product.k, array.dot) * ceil_div(product.n, dims.rows) * ceil_div(product.m, dims.cols)
    compute = tiles * terms * product.groups
    moved = _moved_bytes(product.weight_bytes, product.act_bytes, spec.buffers) + product.out_bytes
    dram = moved * 8 // spec.dram_bits_per_cycle  # the source rounds down
    once = product.weight_bytes + product.act_bytes + product.out_bytes
    macs = product.m * product.n * product.k * product.groups
    peak = Fraction(dims.rows * dims.cols * array.dot, terms)
    return LayerTiming(
        name=product.name,
        repeat=product.repeat,
        macs=macs * product.repeat,
        compute_cycles=compute * product.repeat,
        dram_cycles=dram * product.repeat,
        cycles=max(compute, dram) * product.repeat,
        dram_bytes=moved * product.repeat,
        least_cycles=max(ceil(macs / peak), once * 8 // spec.dram_bits_per_cycle) * product.repeat,
        peak_macs_per_cycle=peak,
    )


def _moved_bytes(weights: int, acts: int, buffers: Buffers) -> int:
    """Return the bytes of weights and inputs that DRAM delivers."""
    if weights <= buffers.weight_bytes or acts <= buffers.act_bytes:
        return weights + acts
    return min(
        weights * ceil_div(acts, buffers.act_bytes) + acts, acts * ceil_div(weights, buffers.weight_bytes) + weights
    )


def energy_pj(layers: tuple[LayerTiming, ...], workload: Workload, spec: MachineSpec) -> dict[str, float]:
    """Return energies in pJ of the array and of DRAM, by the source's figures; on-chip memories are not among them."""
    dims = spec.array.prefill if workload.phase == "prefill" else spec.array.decode
    cycle = spec.energy.element_pj_per_cycle * spec.energy.place_and_route_factor * dims.rows * dims.cols
    return {
        "array": cycle * sum(layer.compute_cycles for layer in layers),
        "dram": spec.energy.dram_pj_per_bit * 8 * sum(layer.dram_bytes for layer in layers),
    }
