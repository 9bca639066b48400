"""The datapath that `int_mac` and `mx_dot` share: dot products of blocks under an accumulator.

Data flow of a dot product (one row of A, one row of B), in beats of `lanes` element pairs:

1. Elements decode to integers, worth ``2**-frac_bits`` a product; NaN and Inf keep their class.
2. Products of a block are summed exactly: S. With zero points, ``S - b_zero * sum(a)``. (Not where the accumulator
   takes single products.)
3. The accumulator, which starts at +0, takes in the terms of a step with one rounding: by default, at the end of each
   block ``acc = RNE(acc + S * X_A * X_B)`` in FP32, blocks in ascending K. `hwsim.pe.accumulator` has the others.
4. After the last block ``y = acc``, which FP32 holds exactly, then ``y = RNE(y * a_out)`` and ``y = RNE(y * b_out)`` in
   FP32 where the unit has output scales.

Special values follow IEEE 754, see `_reference`. Scale codes that are NaN (or Inf, for FP16) make the result NaN; every
NaN is the canonical one of `rounding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded, FloatSpec, element, element_values
from hwsim.pe import _dot_checks, _elements, _reference
from hwsim.pe.accumulator import Accumulator
from hwsim.pe.timing import unstalled_cycles

MAX_BEATS = 1 << 16
"""Longest dot product in beats for which a unit without blocks sizes its exact sum."""
AdderTree = Literal["binary", "carry_save"]
"""How the hardware adds up many integers: two at a time, or three to two with one carry propagation at the end."""
STAGES = ("multiply", "scale", "tree", "decode")
"""Where pipeline stages lie, in the order in which they are added.

Behind the multipliers; behind the block scales, in front of the accumulator; halfway down the adder tree (a stage that
only delays where the accumulator takes single products, which no tree adds); behind the element decoders. Each takes
one cycle more to the result; a beat a cycle enters in any case. There is none inside the accumulator: a step needs the
sum of the one before.
"""


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
    beat_blocks : int
        Blocks a beat; above 1 only where a block is no longer than a beat.
    accumulator : Accumulator
        How terms are added up.
    flags : bool
        Whether the result carries the IEEE flags raised in its dot product, above its 32 bits.
    stages : int
        Pipeline stages beyond the least: registers at the first so many of `STAGES`.
    sub_block : int
        Elements, on either side, that share a shift to the right under the block's scale; 0 where there is none.
    shift_bits : int
        Width of such a shift; 0 where there is none.
    adder_tree : {"binary", "carry_save"}
        How integers are added up; of no effect on bits and cycles.
    shift_add : bool
        Whether a lane adds up shifts of its activation, one a set bit of the weight, in the place of a multiplier.
    acc_bits : int
        Width of an integer sum of the whole dot product that doubles before every beat marked ``rescale``; 0 where sums
        never double and are as wide as they need.

    Raises
    ------
    ValueError
        When a number is out of range, or accumulator, lanes and block contradict each other.
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
    beat_blocks: int = 1
    accumulator: Accumulator = field(default_factory=Accumulator)
    flags: bool = False
    stages: int = 0
    sub_block: int = 0
    shift_bits: int = 0
    adder_tree: AdderTree = "binary"
    shift_add: bool = False
    acc_bits: int = 0

    results: ClassVar[int] = 1
    """Results of a dot product; units that stream vectors (`_stream.StreamSpec`) have several."""
    restarts: ClassVar[bool] = False
    """Whether a reset brings back a state that lives longer than a dot product."""

    def __post_init__(self) -> None:
        if not (isinstance(self.lanes, int) and 1 <= self.lanes <= 256):
            raise ValueError(f"lanes must be 1 to 256, not {self.lanes!r}")
        if not (isinstance(self.block_beats, int) and 0 <= self.block_beats <= MAX_BEATS):
            raise ValueError(f"block_beats must be 0 (whole dot product) to {MAX_BEATS}, not {self.block_beats!r}")

        if not (isinstance(self.beat_blocks, int) and self.beat_blocks >= 1 and self.lanes % self.beat_blocks == 0):
            raise ValueError(f"beat_blocks must be a divisor of lanes = {self.lanes}, not {self.beat_blocks!r}")
        if not (isinstance(self.stages, int) and 0 <= self.stages <= len(STAGES)):
            raise ValueError(f"stages must be 0 to {len(STAGES)}, not {self.stages!r}")
        if self.adder_tree not in get_args(AdderTree):
            raise ValueError(f"adder_tree must be one of {', '.join(get_args(AdderTree))}, not {self.adder_tree!r}")
        _dot_checks.check(self)

    @property
    def block(self) -> int:
        """Products of a block; 0 when it is the whole dot product."""
        return self.lanes * self.block_beats // self.beat_blocks

    @property
    def step_beats(self) -> int:
        """Beats that go together: of a block, or of a group of kind ``aligned`` that is longer."""
        return max(self.block_beats, -(-self.accumulator.group // self.lanes), 1)

    @property
    def step_terms(self) -> int:
        """Terms that meet in one rounding."""
        rule = self.accumulator
        if rule.kind != "aligned":
            return 1
        return rule.group if rule.by_product else rule.group // self.block

    @property
    def a_ints(self) -> tuple[int, ...]:
        """Integer worth of every activation code; 0 for those that are not finite."""
        return _elements.integers(self.a_element)

    @property
    def b_ints(self) -> tuple[int, ...]:
        """Integer worth of every weight code; 0 for those that are not finite."""
        return _elements.integers(self.b_element)

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
        """Fraction bits of a product, under the largest shifts."""
        return element(self.a_element).frac_bits + element(self.b_element).frac_bits + 2 * self.max_shift

    @property
    def max_shift(self) -> int:
        """Largest shift of a sub-block, on either side."""
        return (1 << self.shift_bits) - 1

    def has_stage(self, place: str) -> bool:
        """Tell whether there are registers at one of `STAGES`."""
        return place in STAGES[: self.stages]

    @property
    def latency(self) -> int:
        """Cycles from the last beat to the result.

        Products, block sum, accumulate; one more for each of: `stages`, promotion into FP32, an output scale.
        """
        return 3 + self.stages + int(self.accumulator.promote_every > 0) + int(self.a_out) + int(self.b_out)

    @cached_property
    def max_product(self) -> int:
        """Largest magnitude of a product of integers, zero point applied."""
        zero = (1 << self.zero_bits) - 1 if self.zero_bits else 0
        product = _elements.max_integer(self.a_element) * max(_elements.max_integer(self.b_element), zero)
        return product << 2 * self.max_shift

    @property
    def beat_sum_bits(self) -> int:
        """Signed width that holds the sum of a beat's products, of those of one block where a beat has several."""
        return (self.lanes // self.beat_blocks * self.max_product).bit_length() + 1

    @property
    def block_sum_bits(self) -> int:
        """Signed width that holds any block sum, zero point applied (`MAX_BEATS` beats when blocks have no length).

        That of a sum that doubles is given, and bounds the dot products that it takes.
        """
        if self.acc_bits:
            return self.acc_bits
        # S - z sum(a) = sum of a (b - z), and |b - z| <= max(b, z) for unsigned weights, which alone have zero points
        terms = self.block or self.lanes * MAX_BEATS
        return (terms * self.max_product).bit_length() + 1

    @property
    def aligned_bits(self) -> int:
        """Signed width that holds the sum of a step's terms as kind ``aligned`` leaves them."""
        rule = self.accumulator
        scales = _elements.max_significand(self.a_scale) * _elements.max_significand(self.b_scale)
        if rule.by_product:
            product = _elements.max_significand(self.a_element) * _elements.max_significand(self.b_element)
            terms = rule.group * product * scales
        else:
            terms = rule.group * Fraction(self.max_product, 1 << self.frac_bits) * scales
        return (int((terms + 2) * 2**rule.fraction_bits) + 1).bit_length() + 1

    def beat_cycles(self, beats: Mapping[str, NDArray[np.integer]]) -> NDArray[np.int64] | None:
        """Return the cycles that each beat occupies the unit's front, int64 [beats]; None: one each."""
        return None

    def layout(self) -> tuple[tuple[str, int, int], ...]:
        """Return the fields of a beat as (name, bits, count), in the order of the payload, least significant first."""
        fields = [("a", self.a_bits, self.lanes), ("b", self.b_bits, self.lanes)]
        for name, scale in (("a_scale", self.a_scale), ("b_scale", self.b_scale)):
            if scale is not None:
                fields.append((name, element(scale).bits, self.beat_blocks))
        if self.sub_block:
            fields += [(name, self.shift_bits, self.lanes // self.sub_block) for name in ("a_shift", "b_shift")]
        if self.zero_bits:
            fields.append(("b_zero", self.zero_bits, 1))
        if self.acc_bits:
            fields.append(("rescale", 1, 1))
        fields += [(name, 32, 1) for name, there in (("a_out", self.a_out), ("b_out", self.b_out)) if there]
        return (*fields, ("last", 1, 1))


def block_format(operand: Encoded) -> BlockSpec:
    """Return the format of an operand, which must be a block format."""
    if not isinstance(operand.format, BlockSpec):
        raise ValueError(f"format {operand.format.name} is no block format; no unit takes it")
    return operand.format


reference = _reference.reference


def dot_beats(a: Encoded, b: Encoded, m: int, n: int, spec: DotSpec) -> dict[str, NDArray[np.integer]]:
    """Return the beats of the dot product of row `m` of A and row `n` of B.

    K is filled up to whole beats, blocks and groups with zero codes under scale codes 0: the hardware multiplies them.
    (Blocks with scales are whole already, see `check_operands`.)

    Returns
    -------
    dict of arrays: ``a``, ``b`` uint8 or uint16 [beats, lanes], ``a_scale``, ``b_scale`` ([beats], or [beats, blocks]
    where a beat has several blocks), ``b_zero``, ``a_out``, ``b_out`` (FP32 bits), ``last`` [beats], those that the
    unit has.
    """
    return paired_beats(a.rows(np.array([m])), b.rows(np.array([n])), spec)


def paired_beats(a: Encoded, b: Encoded, spec: DotSpec) -> dict[str, NDArray[np.integer]]:
    """Return the beats of the dot products of row i of A and row i of B, for every i, one after the other.

    Fields as of `dot_beats`, with the beats of all dot products along the first axis.
    """
    rows, count = a.codes.shape[0], beats_per_dot(a.k, spec)
    block = np.arange(count) // (spec.block_beats or count)
    blocks = int(block[-1]) + 1

    def of_blocks(values: NDArray[np.integer]) -> NDArray[np.integer]:
        if spec.beat_blocks > 1:
            return filled(values, count * spec.beat_blocks).reshape(rows * count, spec.beat_blocks)
        return filled(values, blocks)[:, block].reshape(-1)

    beats: dict[str, NDArray[np.integer]] = {
        "a": filled(a.codes, count * spec.lanes).reshape(rows * count, spec.lanes),
        "b": filled(b.codes, count * spec.lanes).reshape(rows * count, spec.lanes),
    }
    if spec.a_scale:
        beats["a_scale"] = of_blocks(a.scales)
    if spec.b_scale:
        beats["b_scale"] = of_blocks(b.scales)
    if spec.sub_block:
        for name, side in (("a_shift", a), ("b_shift", b)):
            each = spec.lanes // spec.sub_block
            beats[name] = filled(side.parts["shifts"], count * each).reshape(rows * count, each)
    if spec.zero_bits and b.zeros is not None:
        beats["b_zero"] = of_blocks(b.zeros)
    if spec.a_out:
        beats["a_out"] = np.repeat(out_scales(a).view(np.uint32), count)
    if spec.b_out:
        beats["b_out"] = np.repeat(out_scales(b).view(np.uint32), count)
    beats["last"] = np.tile((np.arange(count) == count - 1).astype(np.uint8), rows)
    return beats


def filled(values: NDArray[np.integer], length: int) -> NDArray[np.integer]:
    """Return [rows, length] with zero codes behind those given."""
    return np.pad(values, ((0, 0), (0, length - values.shape[1]))) if values.shape[1] < length else values


def beats_per_dot(k: int, spec: DotSpec) -> int:
    """Return the beats of a dot product of length `k`, filled up to whole beats, blocks and groups.

    Raises
    ------
    ValueError
        When that is more than `MAX_BEATS`, for which the exact sum is sized.
    """
    count = -(-k // (spec.lanes * spec.step_beats)) * spec.step_beats
    if not 1 <= count <= MAX_BEATS:
        raise ValueError(
            f"a dot product of K = {k} takes {count} beats of {spec.lanes} lanes; allowed are 1 to {MAX_BEATS}"
        )
    return count


def out_scales(encoded: Encoded) -> NDArray[np.float32]:
    """Return the FP32 scale that multiplies each row's result, float32 [rows].

    It is the tensor scale or the row's second-level scale where the format has one, else the row's own scale (formats
    with one FP32 scale a row).
    """
    rows = encoded.codes.shape[0]
    if encoded.tensor_scale is not None:
        return np.full(rows, encoded.tensor_scale, np.float32)
    fmt = block_format(encoded)
    if fmt.row_scale != "none":
        with np.errstate(invalid="ignore"):  # signalling NaN
            return fmt.outer_values(encoded.parts).astype(np.float32)
    if fmt.scale is not None and fmt.scale.name == "float32" and encoded.scales.shape[1] == 1:
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
        if scale is not None and fmt.block_size != spec.block:
            raise ValueError(f"{unit}: operand {side} has blocks of {fmt.block_size}, the unit sums {spec.block}")
        if scale is None and isinstance(fmt.block_size, int):
            raise ValueError(
                f"{unit}: operand {side} ({fmt.name}) has a {scales} scale a block, the unit takes none on that side"
            )
        for kind, level in (("tensor", fmt.tensor_scale), ("row", fmt.row_scale)):
            if level != "none" and not (spec.a_out if side == "A" else spec.b_out):
                raise ValueError(
                    f"{unit}: operand {side} ({fmt.name}) has a {kind} scale, the unit has no output scale"
                )
    if (spec.a_scale or spec.b_scale) and a.k % spec.block:
        raise ValueError(f"{unit}: K = {a.k} is no multiple of the block of {spec.block}; pad it")
    if a.k != b.k:
        raise ValueError(f"{unit}: K differs: A has {a.k}, B has {b.k}")
    if (b.zeros is not None) != (spec.zero_bits > 0) or a.zeros is not None:
        raise ValueError(f"{unit}: zero points of the operands do not match the unit (zero_bits={spec.zero_bits})")
    beats_per_dot(a.k, spec)


def cycles(m: int, n: int, k: int, spec: DotSpec) -> int:
    """Return the cycles in which one unit computes M x N dot products of length K back to back, without stalls."""
    return unstalled_cycles([m * n * beats_per_dot(k, spec)], spec.latency)


def block_count(k: int, spec: DotSpec) -> int:
    """Return the number of blocks of a dot product, without those that only fill a beat."""
    return -(-k // spec.block) if spec.block else 1


def has_power_of_two(scale: str | None) -> bool:
    """Tell whether a scale format only shifts."""
    if scale is None:
        return False
    spec = element(scale)
    return isinstance(spec, FloatSpec) and spec.man_bits == 0


__all__ = [
    "DotSpec",
    "beats_per_dot",
    "cycles",
    "dot_beats",
    "element_values",
    "paired_beats",
    "reference",
]
