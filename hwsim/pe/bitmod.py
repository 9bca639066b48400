"""`bitmod`: the bit-serial unit of BitMoD: FP16 activations, weights as one signed power of two a cycle.

A weight is a short list of terms ``(-1)**sign * 2**exp * man * 2**bsig``: radix-4 Booth strings of INT8 (4), INT6 and
INT5 (3), or the two leading ones of FP4 and FP3 in the fixed point I3..I0.F0, where the code of "-0" means the special
value that the group has chosen. A beat, four products, takes as many cycles as its weights have terms, zeros included.

One cycle, term t of four weights (exponents: of a float's hidden bit; subnormals share the smallest normal one):

1. ``e_i = exponent(a_i) + exp_i``, ``e = max(e_i)``; a term that is zero (man 0) has exp 0, and takes part in the
   maximum.
2. The 11-bit significand of a_i, with `guard_bits` more below it, is shifted right by ``e - e_i``. What is shifted out
   is dropped (``alignment="rtz"``), or leaves the last bit set (``"rod"``: guard, round and sticky bit). The sign is
   that of activation and term. The four are added exactly.
3. The sum, shifted left by bsig, enters the group's accumulator, a float of `acc_bits` significant bits: exact sum, one
   rounding to nearest even, highest bsig first.

After a group: its 8-bit scale multiplies the accumulator exactly, a bit a cycle, by shift and add, in 8 cycles beside
the next group's; ``total = RNE(total + group * scale)`` in FP32, groups in ascending K. After the last group
``y = RNE(total * row_scale)``, the FP16 scale of the channel.

Special values follow IEEE 754: an activation that is NaN or Inf times the whole weight (Inf * 0 is NaN), and so on
through the group's scale; every NaN is the canonical one. An exact zero is +0.

The paper states neither the accumulator's widths nor what becomes of the bits shifted out, of subnormals and of special
values; here they are `Params`, or as above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded, FloatSpec, Format, element, element_values
from hwsim.formats.catalog.elements import FLOAT16, FLOAT32
from hwsim.formats.families.adaptive import AdaptiveSpec
from hwsim.formats.recode import Table, bitmod_values, table, term_fields
from hwsim.pe import _unit, rounding
from hwsim.pe.timing import unstalled_cycles

NAME = "bitmod"
FAMILY = (AdaptiveSpec, BlockSpec)
"""Families of the formats that this unit takes."""
LANES = 4
GROUP_SCALE, ROW_SCALE = "uint8", "float16"
SCALE_BITS = 8
"""Bits of a group's scale, and cycles of its multiplication."""
INTEGERS = ("int8", "int6", "int5")
FLOATS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    f"bitmod_fp{bits}": (bits, tuple(f"bitmod_fp{bits}_{kind}" for kind in ("er_pos", "er_neg", "ea_pos", "ea_neg")))
    for bits in (4, 3)
}
"""Bits of the floats, and the tables between which a group chooses, in the order of its selector."""
WEIGHTS = (*INTEGERS, *FLOATS)
MAX_GROUP = 512
MAX_GUARD_BITS = 32
"""From here on alignment loses nothing: the exponents of FP16 differ by 29 at most, those of terms by 3."""
ACC_BITS = (12, 60)
MAX_ACC_EXP_BITS = 8
_PRECISION = FLOAT16.man_bits + 1
_TOP_EXPONENT = FLOAT16.emax
_LOWEST = 1 - FLOAT16.bias
"""Exponent of the smallest normal activation."""


@dataclass(frozen=True)
class AccumulatorFormat(FloatSpec):
    """A float inside a unit, which no code of the catalogue's width has to hold."""

    def __post_init__(self) -> None:
        """Accept any width."""


@dataclass(frozen=True)
class Params:
    """Configure a `bitmod`.

    Parameters
    ----------
    weight : str
        Weights, one of `WEIGHTS`.
    group : int
        Weights that share a scale and a special value: a multiple of 4, up to 512, of at least 8 cycles.
    guard_bits : int
        Bits kept below the significand in the alignment, 0 to 32; from 32 on nothing is lost.
    alignment : {"rod", "rtz"}
        What is shifted out below them: sets the last one of them, or is dropped.
    acc_bits : int
        Significant bits of the group's accumulator, the hidden one counted: 12 to 60. The default is the least at which
        no output of the zoo's linear layers differs from those of the widest, by `tools/bitmod_widths.py`.
    acc_exp_bits : int
        Bits of its exponent: as many as hold any group's sum, up to 8.

    Raises
    ------
    ValueError
        When a field is not one of these; the message says what is allowed, and how many bits of exponent it takes.
    """

    weight: str = "bitmod_fp3"
    group: int = 128
    guard_bits: int = 3
    alignment: Literal["rod", "rtz"] = "rod"
    acc_bits: int = 34
    acc_exp_bits: int = 6

    unit: ClassVar[str] = NAME
    lanes: ClassVar[int] = LANES

    def __post_init__(self) -> None:
        _unit.check_choice(self, "weight", WEIGHTS)
        _unit.check_choice(self, "alignment", ("rod", "rtz"))
        _unit.check_range(self, "group", LANES, MAX_GROUP)
        _unit.check_range(self, "guard_bits", 0, MAX_GUARD_BITS)
        _unit.check_range(self, "acc_bits", *ACC_BITS)
        _unit.check_range(self, "acc_exp_bits", 1, MAX_ACC_EXP_BITS)
        spec = self.datapath
        if self.group % LANES:
            raise ValueError(f"{NAME}: group must be a multiple of {LANES}, not {self.group}")
        if spec.group_cycles < SCALE_BITS:
            raise ValueError(
                f"{NAME}: a group of {self.group} weights {self.weight} takes {spec.group_cycles} cycles; its scale "
                f"takes {SCALE_BITS}, and so must it"
            )
        needed = spec.max_group_exponent.bit_length() + 1
        if self.acc_exp_bits < needed:
            raise ValueError(
                f"{NAME}: acc_exp_bits = {self.acc_exp_bits} is too narrow: sums of {self.group} weights {self.weight} "
                f"reach 2**{spec.max_group_exponent}, which takes {needed} bits"
            )

    @cached_property
    def datapath(self) -> Datapath:
        """Widths and latency that follow."""
        return Datapath(self)


@dataclass(frozen=True)
class Datapath:
    """State what follows from the Params; model, RTL and benches are built from it."""

    params: Params

    results: ClassVar[int] = 1
    restarts: ClassVar[bool] = False
    flags: ClassVar[bool] = False
    lanes: ClassVar[int] = LANES
    latency: ClassVar[int] = 4 + SCALE_BITS
    """Enabled cycles from a last beat's last term to the result: align, accumulate, scale, add in FP32, row scale."""

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """Terms of every weight code, one table a selector; integers have one."""
        weight = self.params.weight
        if weight in INTEGERS:
            return (table("bitmod_integer", element(weight).bits),)
        bits, names = FLOATS[weight]
        code = 1 << (bits - 1)
        specials = [float(element_values(element(name))[code]) for name in names]
        return tuple(table("bitmod_float", bits, values=bitmod_values(bits, special)) for special in specials)

    @property
    def b_bits(self) -> int:
        """Width of a weight code."""
        return FLOATS[self.params.weight][0] if self.has_selector else element(self.params.weight).bits

    @property
    def has_selector(self) -> bool:
        """Whether groups choose a special value."""
        return self.params.weight in FLOATS

    @property
    def frac_bits(self) -> int:
        """Fraction bits of the integers that `tables` give."""
        return int(self.has_selector)

    @property
    def terms(self) -> int:
        """Terms of a weight: cycles of a beat."""
        return self.tables[0].terms

    @property
    def max_exp(self) -> int:
        """Largest exponent of a term, bsig left out."""
        return max(int(np.abs(each.digits).max()) for each in self.tables).bit_length() - 1

    @property
    def group_beats(self) -> int:
        """Beats of a group."""
        return self.params.group // LANES

    @property
    def step_beats(self) -> int:
        """Beats of which a dot product has whole multiples."""
        return self.group_beats

    @property
    def group_cycles(self) -> int:
        """Cycles of a group."""
        return self.group_beats * self.terms

    @property
    def low_exponent(self) -> int:
        """Weight of the lowest bit of a sum of four terms, as a power of two, for the smallest e and bsig 0."""
        return _LOWEST - FLOAT16.man_bits - self.params.guard_bits - self.frac_bits

    @property
    def max_sum(self) -> int:
        """Bound on the magnitude of the sum of four aligned terms, in units of its lowest bit."""
        return LANES * ((1 << (_PRECISION + self.params.guard_bits)) - 1)

    @property
    def max_group_exponent(self) -> int:
        """Exponent of the power of two that no accumulator of a group exceeds."""
        digits = np.max([np.abs(each.digits.astype(np.int64)).max(axis=0) for each in self.tables], axis=0)
        largest = int((digits << self.tables[0].positions.astype(np.int64)).sum()) * self.params.group
        return _TOP_EXPONENT + 1 + (largest - 1).bit_length() - self.frac_bits

    @cached_property
    def acc_format(self) -> AccumulatorFormat:
        """Format of the group's accumulator."""
        params = self.params
        bias = (1 << (params.acc_exp_bits - 1)) - 1
        return AccumulatorFormat("bitmod_group", params.acc_exp_bits, params.acc_bits - 1, bias, "", special="ieee")

    @property
    def most_beat_cycles(self) -> int:
        """Cycles of every beat."""
        return self.terms

    def beat_cycles(self, beats: Mapping[str, NDArray[np.integer]]) -> NDArray[np.int64]:
        """Return the cycles that each beat occupies the unit's front, int64 [beats]."""
        return np.full(len(beats["last"]), self.terms, np.int64)

    def layout(self) -> tuple[tuple[str, int, int], ...]:
        """Return the fields of a beat as (name, bits, count), in the order of the payload, least significant first.

        ``b_select`` counts at every beat, ``b_scale`` at the last one of a group, ``b_out`` (FP16 bits) at the last one
        of the dot product.
        """
        selector = (("b_select", 2, 1),) if self.has_selector else ()
        return (
            ("a", FLOAT16.bits, LANES), ("b", self.b_bits, LANES), ("b_scale", SCALE_BITS, 1), *selector,
            ("b_out", FLOAT16.bits, 1), ("last", 1, 1),
        )  # fmt: skip


def params_for(weight: Format, activation: Format, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    bare = isinstance(activation, BlockSpec) and activation.scale is None and activation.element == FLOAT16
    name = _weight_name(weight)
    if not bare or name is None or lanes not in (None, LANES):
        return None
    assert isinstance(weight, AdaptiveSpec | BlockSpec)
    group = weight.block_size
    try:
        return Params(name, group) if isinstance(group, int) else None
    except ValueError:  # a group that the unit cannot take
        return None


def _weight_name(weight: Format) -> str | None:
    """Return which of `WEIGHTS` a format has under the unit's scales, or None."""
    if not isinstance(weight, AdaptiveSpec | BlockSpec) or weight.scale is None:
        return None
    if weight.scale.name != GROUP_SCALE or weight.row_scale != ROW_SCALE:
        return None
    if isinstance(weight, BlockSpec):
        return weight.element.name if weight.element.name in INTEGERS and weight.zero_point == "none" else None
    names = tuple(candidate.name for candidate in weight.candidates)
    return next((name for name, (_, tables) in FLOATS.items() if tables == names), None)


def reference(beats: Mapping[str, NDArray[np.integer]], params: Params) -> int:
    """Return the float32 bits of one dot product in plain Python integers (slow, obviously right)."""
    spec = params.datapath
    total, group, special = 0, 0, 0.0  # float32 bits; bits of the accumulator's format; NaN or Inf met so far, or 0
    met = 0.0
    count = len(beats["last"])
    for beat in range(count):
        terms = spec.tables[int(beats["b_select"][beat])] if spec.has_selector else spec.tables[0]
        a = [int(code) for code in beats["a"][beat]]
        b = [int(code) for code in beats["b"][beat]]
        met += _specials(a, [int(terms.values[code]) for code in b])
        for t, bsig in enumerate(terms.positions.tolist()):
            integer, exponent = _add_terms(a, [int(terms.digits[code, t]) for code in b], params)
            group = rounding.add(group, integer, exponent + bsig, spec.acc_format).bits
        if (beat + 1) % spec.group_beats == 0 or beat == count - 1:
            scale = int(beats["b_scale"][beat])
            sign, magnitude, exponent = rounding.split(group, spec.acc_format)
            total = rounding.add(total, (-magnitude if sign else magnitude) * scale, exponent).bits
            special += met * scale if met else 0.0
            group, met = 0, 0.0
    if special:
        total = int(np.float32(special).view(np.uint32)) if np.isinf(special) else rounding.NAN
    return rounding.multiply(total, rounding.widen(int(beats["b_out"][count - 1]), FLOAT16)).bits


def _specials(a: list[int], weights: list[int]) -> float:
    """Return the sum of the products whose activation is Inf or NaN, 0 where there is none."""
    met = 0.0
    for code, weight in zip(a, weights, strict=True):
        if rounding.is_nan(code, FLOAT16):
            met += np.nan
        elif rounding.is_infinite(code, FLOAT16):
            met += (-np.inf if code >> (FLOAT16.bits - 1) else np.inf) * weight
    return met


def _add_terms(a: list[int], digits: list[int], params: Params) -> tuple[int, int]:
    """Return the sum of one term of each lane as an integer, and the weight of its lowest bit without bsig."""
    lanes = []
    for code, digit in zip(a, digits, strict=True):
        sign, significand, low = rounding.split(code, FLOAT16)
        exp = abs(digit).bit_length() - 1 if digit else 0
        negative = bool(sign) != (digit < 0)
        lanes.append((negative, significand if digit else 0, low + exp))
    low = max(own for _, _, own in lanes)
    total = 0
    for negative, significand, own in lanes:
        word, shift = significand << params.guard_bits, low - own
        kept = word >> shift
        if params.alignment == "rod" and kept << shift != word:
            kept |= 1
        total += -kept if negative else kept
    return total, low - params.guard_bits - params.datapath.frac_bits


def gemm(a: Encoded, b: Encoded, params: Params) -> NDArray[np.float32]:
    """Return C[M, N] = A[M, K] B[N, K]^T in float32, each output the bits of `reference`.

    Exactness
    ---------
    Finite products are multiples of 2**-24 (2**-25 where weights have a fraction bit), and so is all that alignment
    keeps of them; a group's sum stays below 2**57 of these units (`Params` bounds it by ``acc_exp_bits``), so that the
    accumulator is an integer of 64 bits, rounded to `acc_bits` after every term. See `_bitmod_kernels` for the rest.

    Raises
    ------
    ValueError
        When the operands do not match the unit.
    """
    _check(a, b, params)
    from hwsim.pe import _bitmod_kernels as kernels

    out = np.empty((a.codes.shape[0], b.codes.shape[0]), np.float32)
    kernels.gemm(a.codes, b.codes, *_tables(params), _selectors(b), b.scales, _row_scales(b), _numbers(params), out)
    for row in _special_rows(a):
        places = np.flatnonzero(_not_finite(a.codes[row]))
        out[row] = _special_results(a.codes[row, places], b, places, params)
    return out


def dots(a: Encoded, b: Encoded, params: Params) -> NDArray[np.uint32]:
    """Return the float32 bits of the dot products of row i of A and row i of B, each the bits of `reference`."""
    _check(a, b, params)
    if a.codes.shape[0] != b.codes.shape[0]:
        raise ValueError(f"{NAME}: rows are taken in pairs; A has {a.codes.shape[0]}, B has {b.codes.shape[0]}")
    from hwsim.pe import _bitmod_kernels as kernels

    out = np.empty(a.codes.shape[0], np.float32)
    kernels.dots(a.codes, b.codes, *_tables(params), _selectors(b), b.scales, _row_scales(b), _numbers(params), out)
    for row in _special_rows(a):
        places = np.flatnonzero(_not_finite(a.codes[row]))
        out[row] = _special_results(a.codes[row, places], b.rows(np.array([row])), places, params)[0]
    return out.view(np.uint32)


def _check(a: Encoded, b: Encoded, params: Params) -> None:
    """Refuse operands that the unit is not built for."""
    fmt = b.format
    if _weight_name(fmt) != params.weight:
        raise ValueError(
            f"{NAME}: operand B ({fmt.name}) is not {params.weight} in groups under {GROUP_SCALE} and rows under "
            f"{ROW_SCALE}"
        )
    assert isinstance(fmt, AdaptiveSpec | BlockSpec)
    if fmt.block_size != params.group:
        raise ValueError(f"{NAME}: operand B has groups of {fmt.block_size}, the unit takes {params.group}")
    if not (isinstance(a.format, BlockSpec) and a.format.scale is None and a.format.element == FLOAT16):
        raise ValueError(f"{NAME}: operand A ({a.format.name}) is not {FLOAT16.name} without a scale")
    for side, operand in (("A", a), ("B", b)):
        if operand.codes.ndim != 2 or operand.codes.shape[0] < 1:
            raise ValueError(f"{NAME}: operand {side} must be [rows >= 1, K], not {operand.codes.shape}")
    if a.k != b.k:
        raise ValueError(f"{NAME}: K differs: A has {a.k}, B has {b.k}")
    selectors = b.parts.get("selectors")
    if selectors is not None and int(selectors.max()) >= len(params.datapath.tables):
        raise ValueError(
            f"{NAME}: selectors hold {int(selectors.max())}, allowed 0 .. {len(params.datapath.tables) - 1}"
        )


def _tables(params: Params) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int64]]:
    """Return exponents and signs (0: no term) of terms, int8 [selectors, codes, terms], and their positions."""
    spec = params.datapath
    digits = np.stack([each.digits for each in spec.tables])
    exponents = term_fields(digits)[1].astype(np.int8)
    return exponents, np.sign(digits), spec.tables[0].positions.astype(np.int64)


def _numbers(params: Params) -> tuple[int, int, bool, int, float]:
    """Return group, guard bits, whether bits shifted out are remembered, accumulator bits, and the unit's worth."""
    unit = 2.0 ** (_LOWEST - FLOAT16.man_bits - params.datapath.frac_bits)
    return params.group, params.guard_bits, params.alignment == "rod", params.acc_bits, unit


def _selectors(b: Encoded) -> NDArray[np.uint8]:
    """Return the special value that each group chose, uint8 [rows, groups]."""
    return b.parts["selectors"] if "selectors" in b.parts else np.zeros_like(b.scales)


def _row_scales(b: Encoded) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):  # signalling NaN
        return b.parts["row_scales"].view(np.float16).astype(np.float32)


def _not_finite(codes: NDArray[np.integer]) -> NDArray[np.bool_]:
    assert FLOAT16.inf_code is not None
    return (codes & FLOAT16.magnitude_mask) >= FLOAT16.inf_code


def _special_rows(a: Encoded) -> list[int]:
    return [row for row in range(a.codes.shape[0]) if _not_finite(a.codes[row]).any()]


def _special_results(
    codes: NDArray[np.uint16], b: Encoded, places: NDArray[np.integer], params: Params
) -> NDArray[np.float32]:
    """Return a row's results, float32 [N], which the activations that are not finite (at `places` of K) decide."""
    groups = places // params.group
    worth = np.stack([each.values for each in params.datapath.tables]).astype(np.float64)
    weights = worth[_selectors(b)[:, groups], b.codes[:, places]]
    with np.errstate(invalid="ignore"):
        met = (codes.view(np.float16).astype(np.float64) * weights * b.scales[:, groups]).sum(axis=1)
        results = (met * _row_scales(b)).astype(np.float32)
    results[np.isnan(results)] = np.nan
    return results


def beats(a: Encoded, b: Encoded, m: int, n: int, params: Params) -> dict[str, NDArray[np.integer]]:
    """Return the beats that the unit takes for row `m` of A and row `n` of B."""
    return paired_beats(a.rows(np.array([m])), b.rows(np.array([n])), params)


def paired_beats(a: Encoded, b: Encoded, params: Params) -> dict[str, NDArray[np.integer]]:
    """Return the beats that the unit takes for row i of A and row i of B, for every i, one after the other."""
    rows, count = a.codes.shape[0], a.k // LANES
    group = np.arange(count) // params.datapath.group_beats
    found: dict[str, NDArray[np.integer]] = {
        "a": a.codes.reshape(rows * count, LANES),
        "b": b.codes.reshape(rows * count, LANES),
        "b_scale": b.scales[:, group].reshape(-1),
        "b_out": np.repeat(b.parts["row_scales"], count),
        "last": np.tile((np.arange(count) == count - 1).astype(np.uint8), rows),
    }
    if params.datapath.has_selector:
        found["b_select"] = _selectors(b)[:, group].reshape(-1)
    return found


def cycles(m: int, n: int, k: int, params: Params) -> int:
    """Return the cycles of one unit for M x N dot products of length K, without stalls."""
    spec = params.datapath
    beats_each = -(-k // params.group) * spec.group_beats
    return unstalled_cycles([m * n * beats_each * spec.terms], spec.latency)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    spec = params.datapath
    outputs, groups, beats_each = m * n, -(-k // params.group), -(-k // LANES)
    # a wide accumulator counts as several of FP32, a wide shift and add as several of 32 bits
    floats, words = -(-params.acc_bits // (FLOAT32.man_bits + 1)), -(-(params.acc_bits + SCALE_BITS) // 32)
    return {
        "encode_terms": outputs * k,
        "align_term": outputs * k * spec.terms,
        "add_int32": outputs * groups * SCALE_BITS * words,
        "add_float32": outputs * (beats_each * spec.terms * floats + groups),
        "mul_float32": outputs,
    }
