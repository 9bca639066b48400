"""The datapath that `int_mac` and `mx_dot` share: block dot products with an exact block sum and an FP32 accumulator.

Data flow of a dot product (one row of A, one row of B), in beats of `lanes` element pairs:

1. Elements decode to integers, worth ``2**-frac_bits`` a product.
2. Products of a beat are summed exactly, beats of a block are summed exactly: S. With zero points,
   ``S - b_zero * sum(a)``.
3. At the end of a block ``acc = RNE(acc + S * X_A * X_B)`` in FP32, exact before one rounding; blocks in ascending K;
   acc starts at +0.
4. After the last block ``y = acc``, then ``y = RNE(y * a_out)`` and ``y = RNE(y * b_out)`` where the unit has output
   scales.

Scale codes that are NaN (or Inf, for FP16) make acc NaN; every NaN is the canonical one of `rounding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded, FloatSpec, element, element_values
from hwsim.formats.spec import integer_table
from hwsim.pe import rounding
from hwsim.pe.timing import unstalled_cycles

MAX_BEATS = 1 << 16
"""Longest dot product in beats for which a unit without blocks sizes its exact sum."""


@dataclass(frozen=True)
class DotSpec:
    """State the datapath of one unit; model and RTL are both built from it.

    Attributes
    ----------
    a_element, b_element : str
        Element formats of the activations and of the weights.
    lanes : int
        Element pairs a beat.
    block_beats : int
        Beats a block; 0 when the block is the whole dot product, ended by `last`.
    a_scale, b_scale : str or None
        Formats of the block scales.
    zero_bits : int
        Width of the weights' zero point; 0 when there is none.
    a_out, b_out : bool
        Whether the unit multiplies its result by an FP32 scale of the row and of the column.
    """

    a_element: str
    b_element: str
    lanes: int
    block_beats: int
    a_scale: str | None = None
    b_scale: str | None = None
    zero_bits: int = 0
    a_out: bool = False
    b_out: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.lanes, int) and 1 <= self.lanes <= 256):
            raise ValueError(f"lanes must be 1 to 256, not {self.lanes!r}")
        if not (isinstance(self.block_beats, int) and 0 <= self.block_beats <= MAX_BEATS):
            raise ValueError(f"block_beats must be 0 (whole dot product) to {MAX_BEATS}, not {self.block_beats!r}")

    @property
    def a_ints(self) -> tuple[int, ...]:
        """Integer worth of every activation code."""
        return integer_table(element(self.a_element))

    @property
    def b_ints(self) -> tuple[int, ...]:
        """Integer worth of every weight code."""
        return integer_table(element(self.b_element))

    @property
    def a_bits(self) -> int:
        """Width of an activation code."""
        return element(self.a_element).bits

    @property
    def b_bits(self) -> int:
        """Width of a weight code."""
        return element(self.b_element).bits

    @property
    def frac_bits(self) -> int:
        """Fraction bits of a product."""
        return element(self.a_element).frac_bits + element(self.b_element).frac_bits

    @property
    def latency(self) -> int:
        """Cycles from the last beat to the result: products, block sum, accumulate, then one a output scale."""
        return 3 + int(self.a_out) + int(self.b_out)

    @property
    def max_product(self) -> int:
        """Largest magnitude of a product of integers, zero point applied."""
        a = max(abs(value) for value in self.a_ints)
        b = max(abs(value) for value in self.b_ints)
        return a * max(b, (1 << self.zero_bits) - 1 if self.zero_bits else 0)

    @property
    def beat_sum_bits(self) -> int:
        """Signed width that holds the sum of any beat's products."""
        return (self.lanes * self.max_product).bit_length() + 1

    @property
    def block_sum_bits(self) -> int:
        """Signed width that holds any block sum, zero point applied (`MAX_BEATS` beats when blocks have no length)."""
        # S - z sum(a) = sum of a (b - z), and |b - z| <= max(b, z) for unsigned weights, which alone have zero points
        terms = self.lanes * (self.block_beats or MAX_BEATS)
        return (terms * self.max_product).bit_length() + 1

    def layout(self) -> tuple[tuple[str, int, int], ...]:
        """Return the fields of a beat as (name, bits, count), in the order of the payload, least significant first."""
        fields = [("a", self.a_bits, self.lanes), ("b", self.b_bits, self.lanes)]
        for name, scale in (("a_scale", self.a_scale), ("b_scale", self.b_scale)):
            if scale is not None:
                fields.append((name, element(scale).bits, 1))
        if self.zero_bits:
            fields.append(("b_zero", self.zero_bits, 1))
        fields += [(name, 32, 1) for name, there in (("a_out", self.a_out), ("b_out", self.b_out)) if there]
        return (*fields, ("last", 1, 1))


def block_format(operand: Encoded) -> BlockSpec:
    """Return the format of an operand, which must be a block format."""
    if not isinstance(operand.format, BlockSpec):
        raise ValueError(f"format {operand.format.name} is no block format; no unit takes it")
    return operand.format


def scale_parts(code: int, name: str) -> tuple[int, int] | None:
    """Return a scale code's (signed significand, exponent), or None when it is NaN or Inf."""
    value = element(name).value(code)
    if value is None:
        return None
    exponent = value.denominator.bit_length() - 1
    return value.numerator, -exponent


def reference(beats: Mapping[str, NDArray[np.integer]], spec: DotSpec) -> int:
    """Return the float32 bits of one dot product, in plain Python integers.

    Parameters
    ----------
    beats : mapping
        Arrays by field name as `dot_beats` gives them: ``a``, ``b`` [beats, lanes], the others [beats].
    spec : DotSpec
        Datapath.
    """
    a_ints, b_ints = spec.a_ints, spec.b_ints
    count = len(beats["last"])
    accumulator = block_sum = a_sum = position = 0
    for beat in range(count):
        a = [a_ints[int(code)] for code in beats["a"][beat]]
        b = [b_ints[int(code)] for code in beats["b"][beat]]
        block_sum += sum(x * y for x, y in zip(a, b, strict=True))
        a_sum += sum(a)
        position += 1
        last = bool(beats["last"][beat])
        assert last == (beat == count - 1)
        if position == spec.block_beats or (spec.block_beats == 0 and last):
            total = block_sum - (int(beats["b_zero"][beat]) * a_sum if spec.zero_bits else 0)
            exponent = -spec.frac_bits
            for field, name in (("a_scale", spec.a_scale), ("b_scale", spec.b_scale)):
                parts = scale_parts(int(beats[field][beat]), name) if name else (1, 0)
                if parts is None:
                    accumulator, parts = rounding.NAN, (0, 0)
                total, exponent = total * parts[0], exponent + parts[1]
            accumulator = rounding.fused_add(accumulator, total, exponent)
            block_sum = a_sum = position = 0
    assert position == 0, "the last beat must end a block"
    for field, there in (("a_out", spec.a_out), ("b_out", spec.b_out)):
        if there:
            accumulator = rounding.multiply(accumulator, int(beats[field][-1]))
    return accumulator


def dot_beats(a: Encoded, b: Encoded, m: int, n: int, spec: DotSpec) -> dict[str, NDArray[np.integer]]:
    """Return the beats of the dot product of row `m` of A and row `n` of B.

    K is filled up to whole beats with zero codes: the hardware multiplies them, they add nothing. (Blocks are whole
    already, see `check_operands`.)

    Returns
    -------
    dict of arrays: ``a`` uint8 [beats, lanes], ``b`` uint8 [beats, lanes], ``a_scale``, ``b_scale``, ``b_zero``,
    ``a_out``, ``b_out`` (FP32 bits), ``last`` [beats], those that the unit has.
    """
    count = beats_per_dot(a.k, spec)
    fill = count * spec.lanes - a.k
    beats: dict[str, NDArray[np.integer]] = {
        "a": np.pad(a.codes[m], (0, fill)).reshape(count, spec.lanes),
        "b": np.pad(b.codes[n], (0, fill)).reshape(count, spec.lanes),
    }
    block = np.arange(count) // (spec.block_beats or count)
    if spec.a_scale:
        beats["a_scale"] = a.scales[m][block]
    if spec.b_scale:
        beats["b_scale"] = b.scales[n][block]
    if spec.zero_bits and b.zeros is not None:
        beats["b_zero"] = b.zeros[n][block]
    if spec.a_out:
        beats["a_out"] = np.full(count, out_scales(a)[m].view(np.uint32))
    if spec.b_out:
        beats["b_out"] = np.full(count, out_scales(b)[n].view(np.uint32))
    beats["last"] = (np.arange(count) == count - 1).astype(np.uint8)
    return beats


def beats_per_dot(k: int, spec: DotSpec) -> int:
    """Return the beats of a dot product of length `k`, filled up to whole beats and whole blocks.

    Raises
    ------
    ValueError
        When that is more than `MAX_BEATS`, for which the exact sum is sized.
    """
    step = spec.lanes * (spec.block_beats or 1)
    count = -(-k // step) * (spec.block_beats or 1)
    if not 1 <= count <= MAX_BEATS:
        raise ValueError(
            f"a dot product of K = {k} takes {count} beats of {spec.lanes} lanes; allowed are 1 to {MAX_BEATS}"
        )
    return count


def out_scales(encoded: Encoded) -> NDArray[np.float32]:
    """Return the FP32 scale that multiplies each row's result, float32 [rows].

    It is the tensor scale where the format has one, else the row's own scale (formats with one FP32 scale a row).
    """
    rows = encoded.codes.shape[0]
    if encoded.tensor_scale is not None:
        return np.full(rows, encoded.tensor_scale, np.float32)
    scale = block_format(encoded).scale
    if scale is not None and scale.name == "float32" and encoded.scales.shape[1] == 1:
        return np.ascontiguousarray(encoded.scales[:, 0]).view(np.float32)
    raise ValueError(f"format {encoded.format.name} has no scale to apply to a row's result")


def check_operands(a: Encoded, b: Encoded, spec: DotSpec, unit: str) -> None:
    """Refuse operands that the unit is not built for.

    Raises
    ------
    ValueError
        When ranks, K, element, scale, block or zero point do not match the unit's datapath.
    """
    for side, operand, name, scale in (("A", a, spec.a_element, spec.a_scale), ("B", b, spec.b_element, spec.b_scale)):
        fmt = block_format(operand)
        if operand.codes.ndim != 2 or operand.codes.shape[0] < 1:
            raise ValueError(f"{unit}: operand {side} must be [rows >= 1, K], not {operand.codes.shape}")
        if fmt.element.name != name:
            raise ValueError(f"{unit}: operand {side} has elements {fmt.element.name}, the unit takes {name}")
        scales = fmt.scale.name if fmt.scale is not None else "none"
        if scale is not None and scales != scale:
            raise ValueError(f"{unit}: operand {side} has scales {scales}, the unit takes {scale}")
        if scale is not None and fmt.block_size != spec.block_beats * spec.lanes:
            raise ValueError(
                f"{unit}: operand {side} has blocks of {fmt.block_size}, the unit sums {spec.block_beats * spec.lanes}"
            )
        if fmt.tensor_scale != "none" and not (spec.a_out if side == "A" else spec.b_out):
            raise ValueError(f"{unit}: operand {side} ({fmt.name}) has a tensor scale, the unit has no output scale")
    if spec.block_beats and a.k % (spec.block_beats * spec.lanes):
        raise ValueError(f"{unit}: K = {a.k} is no multiple of the block of {spec.block_beats * spec.lanes}; pad it")
    if a.k != b.k:
        raise ValueError(f"{unit}: K differs: A has {a.k}, B has {b.k}")
    if (b.zeros is not None) != (spec.zero_bits > 0) or a.zeros is not None:
        raise ValueError(f"{unit}: zero points of the operands do not match the unit (zero_bits={spec.zero_bits})")
    beats_per_dot(a.k, spec)


def gemm(a: Encoded, b: Encoded, spec: DotSpec, unit: str) -> NDArray[np.float32]:
    """Return C[M, N] = A[M, K] B[N, K]^T as float32, with exactly the bits that `reference` gives for each output.

    Exactness
    ---------
    Block sums are formed in float32, where they are exact: integers below 2**24, checked. The accumulation is the
    processor's fused multiply-add, one rounding, whenever the product of the two block scales is exact in float32;
    else float64 with rounding to odd, then one rounding.

    Raises
    ------
    ValueError
        When the operands do not match the unit.
    """
    check_operands(a, b, spec, unit)
    from hwsim.pe import _kernels as kernels

    block = spec.block_beats * spec.lanes or a.k
    out = np.empty((a.codes.shape[0], b.codes.shape[0]), np.float32)
    a_table, b_table = np.array(spec.a_ints, np.float32), np.array(spec.b_ints, np.float32)
    a_out = out_scales(a) if spec.a_out else np.ones(out.shape[0], np.float32)
    b_out = out_scales(b) if spec.b_out else np.ones(out.shape[1], np.float32)
    if spec.a_scale is None and spec.b_scale is None and spec.zero_bits == 0 and spec.block_beats == 0:
        kernels.integer_gemm(a_table[a.codes], b.codes, b_table, spec.max_product, a_out, b_out, out)
        return out
    if block * spec.max_product >= 1 << 24:
        raise ValueError(f"{unit}: a block of {block} can sum beyond 2**24, where float32 sums are no longer exact")
    kernels.block_gemm(
        a_table[a.codes],
        b.codes,
        b_table,
        _scale_values(a, spec.a_scale, a.k // block) * 2.0**-spec.frac_bits,
        _scale_values(b, spec.b_scale, a.k // block),
        b.zeros,
        block,
        a_out,
        b_out,
        out,
    )
    return out


def _scale_values(operand: Encoded, scale: str | None, blocks: int) -> NDArray[np.float64]:
    """Block scales as float64 [rows, blocks], NaN for codes that are not finite; ones when the unit takes none."""
    if scale is None:
        return np.ones((operand.codes.shape[0], blocks))
    return block_format(operand).scale_values(operand.scales)


def cycles(m: int, n: int, k: int, spec: DotSpec) -> int:
    """Return the cycles in which one unit computes M x N dot products of length K back to back, without stalls."""
    return unstalled_cycles([m * n * beats_per_dot(k, spec)], spec.latency)


def block_count(k: int, spec: DotSpec) -> int:
    """Return the number of FP32 accumulations of a dot product."""
    return beats_per_dot(k, spec) // spec.block_beats if spec.block_beats else 1


def has_power_of_two(scale: str | None) -> bool:
    """Tell whether a scale format only shifts."""
    if scale is None:
        return False
    spec = element(scale)
    return isinstance(spec, FloatSpec) and spec.man_bits == 0


__all__ = ["DotSpec", "beats_per_dot", "cycles", "dot_beats", "element_values", "gemm", "reference"]
