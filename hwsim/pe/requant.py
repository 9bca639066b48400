"""`requant`: the output side of a datapath, from FP32 values or INT32 accumulators to the codes of a format.

Blocks (MX types with power-of-two scales, NVFP4 with its block scale under a given FP32 tensor scale, groups of INT2 to
INT4 under a float scale) come in beats; their largest magnitude is found on the way, and with the last beat the scale;
then the codes go out, each under the scale. Bare elements and integers go through a beat at a time. What a code is,
`hwsim.formats.encode` and `hwsim.formats.requantize` say alone, but for stochastic rounding by shift registers, which
is defined here.

What one pass over a block cannot give, or would take dividers for, is refused (`objection` says which of these it is):

- scales of a row or a tile, and scales of a whole tensor or row that are not given: their largest magnitude is known
  only after many blocks;
- zero points, and elements that are unsigned, tables of values, over 16 bits, or floats without subnormals;
- scales by quotient (rule ``amax``) for elements of over 4 bits: a code is found by one comparison a border;
- quotients in float32 (``fp32_inverse``): two FP32 divisions a block, one product a value, and the exact way beside it;
- families other than block formats: codebooks, lattices, trellises, choices between types, outliers, bit planes, GGUF,
  microexponents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, FloatSpec, Format, IntSpec, get
from hwsim.formats import names as all_formats
from hwsim.formats.families.block import power_rule
from hwsim.formats.format import NotFiniteError
from hwsim.formats.requantize import METHODS, Method, Requant, requantize
from hwsim.formats.rounding import MODES, Overflow
from hwsim.pe._lfsr import Lfsr
from hwsim.pe._stream import Fields, StreamSpec, to_pattern, to_signed

NAME = "requant"
POWER_RULES = ("floor", "even", "ceil", "rceil", "tosa", "away_ceil")
"""Scale rules whose scale is the exponent of the largest magnitude, but for a comparison of its mantissa."""
MAX_RATIO_BITS = 4
"""Widest element under a scale that is a quotient: its code is found by comparing with every border."""
INT_METHODS = ("gemmlowp", "tflite_single", "tflite_reduced", "hawq_v3")
SHIFT_BITS = 6
"""Width of a shift on the beat, two's complement."""


def objection(fmt: Format) -> str | None:
    """Return why the unit does not take a format, None where it does."""
    if not isinstance(fmt, BlockSpec):
        return f"{type(fmt).__name__} is another family; block formats and bare elements are taken"
    element, scale = fmt.element, fmt.scale
    if not isinstance(element, FloatSpec | IntSpec) or not element.signed or element.bits > 16:
        return "elements are signed floats or integers of at most 16 bits"
    if isinstance(element, FloatSpec) and not element.subnormals:
        return "float elements have subnormals"
    if scale is None:
        return None
    if fmt.row_scale != "none" or not isinstance(fmt.block_size, int):
        return "a scale of a row or a tile takes a pass over it before the first code"
    if not isinstance(scale, FloatSpec) or fmt.zero_point != "none" or fmt.zero_block == "error":
        return "block scales are floats, without zero points, and there is one for blocks of zeros"
    if fmt.scale_rule in POWER_RULES:
        return None if fmt.tensor_scale == "none" else "power-of-two scales have no tensor scale above them"
    if fmt.scale_rule != "amax":
        return f"the scale rule is one of {', '.join(POWER_RULES)}, amax"
    if element.bits > MAX_RATIO_BITS:
        return f"under a scale of rule amax, elements have at most {MAX_RATIO_BITS} bits: one comparison a border"
    if fmt.quotient != "exact" or fmt.rounding != "rne":
        return "under a scale of rule amax, quotients are exact and rounded rne; float32 ones would take dividers"
    if not scale.signed or not scale.subnormals or scale.bits > 16:
        return "a scale of rule amax is a signed float with subnormals of at most 16 bits"
    return None


@lru_cache(maxsize=1)
def formats() -> tuple[str, ...]:
    """Return the names of the formats that the unit takes, sorted."""
    return tuple(name for name in all_formats() if objection(get(name)) is None)


def scale_borders(spec: BlockSpec) -> tuple[int, int, int]:
    """Return (emax, border, first border) of a rule of `POWER_RULES`, as a comparison of FP32's mantissas.

    The scale code is that of the exponent of the largest magnitude less emax, one more where its mantissa, in units of
    ``2**-23`` above 1, reaches the border: the first one where that makes 1 of code 0, else the border.

    Exactness
    ---------
    ``rceil`` rounds ``amax * fp32(1 / level)`` to float32 before. Just above a power of two that cuts off a unit of
    ``2**-23``, a tie, which goes to the power; where the product is subnormal, two units.
    """
    if spec.scale_rule != "rceil":
        emax, carry = power_rule(spec)
        border = -(-carry >> 29)
        return emax, border, border
    factor = Fraction(float(np.float32(1) / np.float32(spec.scale_level)))
    # factor = significand * 2**-power, of a significand in (1, 2]: times amax's, (1, 4], and beyond 2 is one more
    power = 0
    while factor * 2**power <= 1:
        power += 1
    significand = factor * 2**power
    borders = [(2 + Fraction(units, 1 << 23)) / significand - 1 for units in (1, 2)]
    border, first = (int(border * (1 << 23)) + 1 for border in borders)
    return power - 1, border, first


@dataclass(frozen=True, kw_only=True)
class Params:
    """Configure a `requant`.

    Parameters
    ----------
    source : {"float32", "int32"}
        Values that come in. ``int32`` goes to integers ``qmin .. qmax`` by a multiplier and a shift on the beat.
    format : str
        Of ``float32``: a format of `formats`, or ``""`` for ``int32``.
    lanes : int
        Values a beat, 1 to 256; they divide the block.
    rounding : str, optional
        Of elements; None: the format's own. For power-of-two scales and bare elements any mode of
        `hwsim.formats.rounding` but ``stochastic``, or ``lfsr``: stochastic by a shift register a lane, drawn once a
        beat. Up where the draw, over ``2**random_bits``, is less than the part cut off.
    overflow : {"saturate", "nonsaturating"}
        Of bare elements with Inf or NaN; see `BlockSpec`.
    nan_policy : {"error", "propagate"}
        ``error``: the model raises on NaN and Inf, and the hardware's codes mean nothing; ``propagate``: see
        `BlockSpec`.
    lfsr_bits, lfsr_taps, random_bits, lfsr_seed : int
        See `hwsim.pe._lfsr.Lfsr`.
    method : {"gemmlowp", "tflite_single", "tflite_reduced", "hawq_v3"}
        Of ``int32``: rule of `hwsim.formats.requantize`. Shifts on the beat are -32 to 31, within the method's bounds.
    zero_point, qmin, qmax : int
        Of ``int32``: added after rounding; range of the result, at most 16 bits.

    Raises
    ------
    ValueError
        When a field or a combination is not one of these.

    Hardware
    --------
    Latency from the last beat of a block to its first codes: 3 cycles under a power-of-two scale, 4 under one that is a
    quotient (which adds the borders between codes), 1 for bare elements, 2 for integers. Throughput one beat a cycle.
    """

    source: Literal["float32", "int32"] = "float32"
    format: str = "mxfp4"
    lanes: int = 8
    rounding: str | None = None
    overflow: Overflow = "saturate"
    nan_policy: Literal["error", "propagate"] = "error"
    lfsr_bits: int = 16
    lfsr_taps: int = 0xB400
    random_bits: int = 8
    lfsr_seed: int = 0
    method: Method = "gemmlowp"
    zero_point: int = 0
    qmin: int = -128
    qmax: int = 127

    def __post_init__(self) -> None:
        if self.source not in ("float32", "int32"):
            raise ValueError(f"{NAME}: source must be float32 or int32, not {self.source!r}")
        if self.lanes not in range(1, 257):
            raise ValueError(f"{NAME}: lanes must be 1 to 256, not {self.lanes!r}")
        if self.source == "int32":
            self._check_int()
            return
        fmt = get(self.format)
        reason = objection(fmt)
        if reason is not None:
            raise ValueError(f"{NAME}: format {self.format} is not taken: {reason}; taken: {', '.join(formats())}")
        assert isinstance(fmt, BlockSpec)
        allowed = ["rne"] if fmt.scale_rule == "amax" else [*(m for m in MODES if m != "stochastic"), "lfsr"]
        if self.rounding is not None and self.rounding not in allowed:
            raise ValueError(
                f"{NAME}: rounding of {self.format} must be one of {', '.join(allowed)}, not {self.rounding!r}"
            )
        if self.overflow != "saturate" and (fmt.scale is not None or self.rounding == "lfsr"):
            raise ValueError(f"{NAME}: overflow {self.overflow!r} is for bare elements without lfsr")
        if self.nan_policy != "error" and (self.rounding == "lfsr" or fmt.scale_rule == "amax"):
            raise ValueError(f"{NAME}: nan_policy {self.nan_policy!r} goes with neither lfsr nor a scale of rule amax")
        if self.rounding == "lfsr" and isinstance(fmt.element, FloatSpec) and not fmt.element.negative_zero:
            raise ValueError(f"{NAME}: lfsr is for elements with a negative zero, which {fmt.element.name} has not")
        if self.block % self.lanes:
            raise ValueError(f"{NAME}: lanes must divide the block of {self.block}, not be {self.lanes}")
        _ = self.spec, self.lfsr  # their own checks

    def _check_int(self) -> None:
        if self.format != "":
            raise ValueError(f"{NAME}: int32 goes to integers; format must be '', not {self.format!r}")
        if self.method not in INT_METHODS:
            raise ValueError(f"{NAME}: method must be one of {', '.join(INT_METHODS)}, not {self.method!r}")
        if self.rounding is not None or self.overflow != "saturate" or self.nan_policy != "error":
            raise ValueError(f"{NAME}: int32 rounds as its method says; leave rounding, overflow and nan_policy")
        if not -(1 << 15) <= self.qmin <= self.qmax < 1 << 16 or self.out_bits > 16:
            raise ValueError(f"{NAME}: qmin .. qmax must fit 16 bits, not be {self.qmin} .. {self.qmax}")
        if not -(1 << 31) <= self.zero_point < 1 << 31:
            raise ValueError(f"{NAME}: zero_point must fit int32, not be {self.zero_point}")

    @cached_property
    def spec(self) -> BlockSpec:
        """The format with its rules; of ``lfsr`` with those that give the scales."""
        fmt = get(self.format)
        assert isinstance(fmt, BlockSpec)
        changes: dict[str, Any] = {"overflow": self.overflow, "nan_policy": self.nan_policy}
        if self.rounding is not None:
            changes["rounding"] = "rne" if self.rounding == "lfsr" else self.rounding
        changes = {name: value for name, value in changes.items() if getattr(fmt, name) != value}
        return fmt.with_rules(**changes) if changes else fmt

    @property
    def block(self) -> int:
        """Values that share a scale; a beat of them where there is none."""
        if self.source == "int32" or self.spec.scale is None:
            return self.lanes
        assert isinstance(self.spec.block_size, int)
        return self.spec.block_size

    @cached_property
    def lfsr(self) -> Lfsr | None:
        """The shift registers."""
        if self.rounding != "lfsr":
            return None
        return Lfsr(self.lfsr_bits, self.lfsr_taps, self.random_bits, self.lfsr_seed)

    @property
    def has_tensor_scale(self) -> bool:
        """Whether blocks come with an FP32 scale of their tensor."""
        return self.source == "float32" and self.spec.tensor_scale != "none"

    @property
    def has_ratio(self) -> bool:
        """Whether a block's scale is a quotient, not a power of two."""
        return self.source == "float32" and self.spec.scale_rule == "amax"

    @property
    def out_bits(self) -> int:
        """Width of a code."""
        if self.source == "float32":
            return self.spec.element.bits
        if self.qmin >= 0:
            return max(self.qmax.bit_length(), 1)
        return max(self.qmax.bit_length(), (~self.qmin).bit_length()) + 1

    @cached_property
    def datapath(self) -> StreamSpec:
        """The streams of the unit."""
        inputs, outputs = [("x", 32, self.lanes)], [("codes", self.out_bits, self.lanes)]
        latency = 1
        if self.source == "int32":
            inputs += [("multiplier", 32, 1), ("shift", SHIFT_BITS, 1)]
            latency = 2
        elif self.spec.scale is not None:
            outputs.append(("scale", self.spec.scale.bits, 1))
            latency = 4 if self.has_ratio else 3
            if self.has_tensor_scale:
                inputs.append(("tensor_scale", 32, 1))
        beats = self.block // self.lanes
        return StreamSpec(
            lanes=self.lanes,
            beats=beats,
            results=beats,
            latency=latency,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            restarts=self.rounding == "lfsr",
        )


def quantise(
    x: NDArray[np.float32], params: Params, tensor_scale: NDArray[np.float32] | None = None
) -> dict[str, NDArray[Any]]:
    """Encode blocks as the unit does, the first one right after a reset.

    Parameters
    ----------
    x : float32 [blocks, block]
        For bare elements a beat a row.
    tensor_scale : float32 [blocks]
        Positive and finite; for formats that have one.

    Returns
    -------
    dict of ``codes`` unsigned [blocks, block] and, where the format has them, ``scales`` [blocks].

    Raises
    ------
    ValueError
        On NaN or Inf (naming the first index, unless propagated), another shape, or a tensor scale that is missing, not
        wanted, not positive or not finite.

    Exactness
    ---------
    What `hwsim.formats.encode` gives for each block, but for the rounding ``lfsr``.
    """
    spec = params.spec
    if x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != params.block or not x.size:
        raise ValueError(f"{NAME}: blocks must be float32 [blocks, {params.block}], not {x.dtype} {list(x.shape)}")
    outer = np.ones(1)
    if (tensor_scale is not None) != params.has_tensor_scale:
        raise ValueError(f"{NAME}: {spec.name} takes {'a' if params.has_tensor_scale else 'no'} tensor scale")
    if tensor_scale is not None:
        outer = np.asarray(tensor_scale, np.float32).astype(np.float64)
        if outer.shape != (len(x),) or not (np.isfinite(outer) & (outer > 0)).all():
            raise ValueError(f"{NAME}: tensor scales must be one a block, positive and finite")
    x = np.ascontiguousarray(x)
    parts = {p.name: np.empty(p.shape, p.dtype) for p in spec.layout(x.shape)}
    try:
        spec.encode_under(x, outer, parts)
    except NotFiniteError as error:
        column = int(np.flatnonzero(~np.isfinite(x[error.row]))[0])
        raise ValueError(f"{NAME}: the value at index [{error.row}, {column}] is {x[error.row, column]}") from None
    found = {"codes": parts["codes"]}
    if spec.scale is not None:
        found["scales"] = parts["scales"][:, 0]
    if params.lfsr is not None:
        found["codes"] = _rounded_randomly(x, found.get("scales"), params)
    return found


def _rounded_randomly(x: NDArray[np.float32], scales: NDArray[Any] | None, params: Params) -> NDArray[Any]:
    from hwsim.pe import _requant_kernels as kernels

    assert params.lfsr is not None
    element, scale = params.spec.element, params.spec.scale
    exponents = np.zeros(len(x), np.int64)
    if scales is not None:
        assert isinstance(scale, FloatSpec)
        exponents = scales.astype(np.int64) - scale.bias
    random = params.lfsr.draws(x.size // params.lanes, params.lanes).reshape(x.shape)
    codes = np.empty(x.shape, np.int64)
    if isinstance(element, FloatSpec):
        fields = (True, element.man_bits, element.bias, 0, 0, element.max_code)
    else:
        assert isinstance(element, IntSpec)
        fields = (False, 0, 0, element.frac_bits, element.qmin, element.qmax)
    kernels.round_randomly(x, exponents, random, params.random_bits, *fields, element.bits, codes)
    return codes


def requant(params: Params, multiplier: int, shift: int) -> Requant:
    """Return the constants of a beat as `hwsim.formats.requantize` takes them."""
    return _requant(params, (multiplier,), (shift,), None)


def _requant(params: Params, multiplier: tuple[int, ...], shift: tuple[int, ...], axis: int | None) -> Requant:
    if any(not -32 <= s <= 31 for s in shift):
        raise ValueError(f"{NAME}: shifts must be -32 to 31, not {min(shift)} to {max(shift)}")
    return Requant(multiplier, shift, params.method, params.zero_point, params.qmin, params.qmax, axis)


def outputs(beats: Mapping[str, NDArray[np.integer]], params: Params) -> Fields:
    """Return the results of blocks, the first one right after a reset: ``codes`` [results, lanes], ``scale`` [results].

    Raises
    ------
    ValueError
        As `quantise`; for integers as `hwsim.formats.requantize`.
    """
    x = np.asarray(beats["x"]).reshape(-1, params.block)
    if params.source == "int32":
        multiplier = np.asarray(beats["multiplier"]).reshape(-1)
        if METHODS[params.method].multipliers[0] < 0:
            multiplier = to_signed(multiplier, 32)
        shift = to_signed(np.asarray(beats["shift"]).reshape(-1), SHIFT_BITS)
        constants = _requant(params, tuple(multiplier.tolist()), tuple(shift.tolist()), 0)
        integers = requantize(to_signed(x, 32), constants if len(x) > 1 else requant(params, *_first(constants)))
        return {"codes": to_pattern(integers, params.out_bits)}
    each = params.datapath.beats
    outer = None
    if params.has_tensor_scale:  # counts at the last beat of a block
        outer = np.asarray(beats["tensor_scale"]).reshape(-1)[each - 1 :: each].astype(np.uint32).view(np.float32)
    found = quantise(x.astype(np.uint32).view(np.float32), params, outer)
    done: Fields = {"codes": found["codes"].reshape(-1, params.lanes)}
    if "scales" in found:
        done["scale"] = np.repeat(found["scales"], each)
    return done


def _first(constants: Requant) -> tuple[int, int]:
    return constants.multiplier[0], constants.shift[0]


def reference(beats: Mapping[str, NDArray[np.integer]], params: Params, draws: int = 0) -> Fields:
    """Return the results of one block; `draws` is the number of beats that have been drawn for since the reset.

    Stochastic rounding is evaluated in plain Python; for the rest, `hwsim.formats` is the reference.
    """
    done = outputs(beats, params)
    if params.lfsr is None:
        return done
    spec = params.spec
    codes = np.empty(done["codes"].shape, np.int64)
    step = Fraction(1)
    if spec.scale is not None:
        assert isinstance(spec.scale, FloatSpec)
        step = Fraction(2) ** (int(done["scale"][0]) - spec.scale.bias)
    words = np.asarray(beats["x"]).reshape(codes.shape)
    for lane in range(params.lanes):
        state = params.lfsr.start(lane)
        for _ in range(draws):
            state = params.lfsr.advance(state)
        for beat in range(len(codes)):
            random = state & ((1 << params.random_bits) - 1)
            codes[beat, lane] = _stochastic_code(int(words[beat, lane]), step, random, params)
            state = params.lfsr.advance(state)
    return {**done, "codes": codes}


def _stochastic_code(word: int, step: Fraction, random: int, params: Params) -> int:
    """Round one finite float32 in steps: the code below it, or the next where the draw says so."""
    element = params.spec.element
    assert isinstance(element, FloatSpec | IntSpec)
    field, mantissa, negative = word >> 23 & 255, word & 0x7FFFFF, word >> 31
    value = Fraction(mantissa + ((1 << 23) if field else 0)) * Fraction(2) ** (max(field, 1) - 150) / step
    if isinstance(element, IntSpec):
        steps = value * 2**element.frac_bits
        level = int(steps) + (random < (steps - int(steps)) * 2**params.random_bits)
        return max(-level, element.qmin) & ((1 << element.bits) - 1) if negative else min(level, element.qmax)
    quantum, base = 1 - element.bias - element.man_bits, 0
    while value >= Fraction(2) ** (quantum + element.man_bits + 1):
        quantum, base = quantum + 1, base + (1 << element.man_bits)
    steps = value / Fraction(2) ** quantum
    code = base + int(steps) + (random < (steps - int(steps)) * 2**params.random_bits)
    return min(code, element.max_code) | negative << (element.bits - 1)


def operands(params: Params, rows: int, rng: np.random.Generator) -> Fields:
    """Draw blocks for checking hardware: data with outliers, ties and their neighbours, zeros, subnormals, any bits."""
    from hwsim.pe import _requant_operands

    return _requant_operands.draw(params, rows, rng)


def configurations() -> dict[str, Params]:
    """Return Params by name, as they are listed and checked."""
    named = {name: Params(format=name) for name in ("mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2")}
    named |= {name: Params(format=name) for name in ("mxfp4_even", "mxfp8_e4m3_ceil", "mxint8", "mxint8_even")}
    named |= {name: Params(format=name) for name in ("mxfp4_rceil", "mxint8_rceil", "mxfp4_microxcaling")}
    named |= {name: Params(format=name) for name in ("nvfp4", "nvfp4_modelopt", "nvint4", "int4_g32", "int2_g32")}
    named |= {f"cast_{name}": Params(format=name, lanes=4) for name in ("float4_e2m1fn", "float6_e3m2fn")}
    named |= {f"cast_{name}": Params(format=name, lanes=4) for name in ("float8_e4m3fn", "float8_e5m2", "bfloat16")}
    named["cast_float16"] = Params(format="float16", lanes=4, overflow="nonsaturating", nan_policy="propagate")
    named["mxfp4_lfsr"] = Params(rounding="lfsr")
    named["cast_float8_e5m2_lfsr"] = Params(format="float8_e5m2", lanes=4, rounding="lfsr", random_bits=12)
    for method in INT_METHODS:
        named[f"int8_{method}"] = Params(source="int32", format="", lanes=4, method=method, zero_point=3)  # type: ignore[arg-type]
    return named


def cycles(rows: int, params: Params) -> int:
    """Return the cycles of one unit for that many blocks back to back, without stalls."""
    return params.datapath.cycles(rows)


def actions(rows: int, params: Params) -> dict[str, int]:
    """Return counts of the events of that many blocks; the names are explained in `hwsim.cost`."""
    values = rows * params.block
    if params.source == "int32":
        return {"mul_int32_int32": values, "round_int32": values}
    if params.has_ratio:  # an element's code is found by comparing, none is rounded
        element = params.spec.element
        assert isinstance(element, FloatSpec | IntSpec)
        borders = element.max_code if isinstance(element, FloatSpec) else element.qmax  # one below each code but zero
        return {"max_float32": values, "scale_block_ratio": rows, "compare_border": values * borders}
    if params.spec.scale is not None:
        return {"max_float32": values, "scale_block": rows, "round_float32": values}
    return {"round_float32": values}
