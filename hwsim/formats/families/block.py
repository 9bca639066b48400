"""Block formats: elements that share a scale. A bare element is the block format without a scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.format import (
    Format,
    Part,
    Parts,
    RowError,
    container,
    first_not_finite,
    row_amax,
    word_objections,
)
from hwsim.formats.rounding import MODES, Overflow, Rounding
from hwsim.formats.spec import ElementSpec, FloatSpec, IntSpec, TableSpec, significant_bits
from hwsim.formats.values import element_values

ScaleRule = Literal["none", "floor", "even", "ceil", "rceil", "tosa", "away_ceil", "amax", "range"]
ZeroBlock = Literal["code_00", "one", "microxcaling", "error"]
_POWERS = ("floor", "even", "ceil", "rceil", "tosa", "away_ceil")


@dataclass(frozen=True, kw_only=True)
class BlockSpec(Format):
    """Describe a block format: elements that share a scale, with every rule on which public tools disagree.

    A value is ``element * block_scale * outer_scale`` (the last only where the format has one); with a zero point it is
    ``(code - zero) * block_scale``. Blocks lie along the axis that a dot product sums over.

    Parameters
    ----------
    element : ElementSpec
        Number format of the elements.
    scale : FloatSpec or IntSpec, optional
        Number format of the block scale; None for a bare element.
    block_size : int or (int, int), optional
        Elements in a block; None takes the whole axis (one scale a row); a pair (rows, columns) makes tiles of the last
        two axes.
    scale_rule : str
        How a block's scale is found from ``amax``, its largest magnitude. Powers of two, read off the bits of the float
        and clamped to the scale format:

        - ``floor``: ``2**(floor(log2(amax)) - element.emax)`` (OCP MX 6.3);
        - ``even``: the same after rounding amax half up to the element's mantissa (torchao);
        - ``ceil``: ``2**(ceil(log2(amax)) - element.emax)`` (torchao);
        - ``rceil``: ``2**ceil(log2(amax * fp32(1 / max)))`` with a float32 product (torchao, cuBLAS);
        - ``tosa``: the least power of two for which amax rounds without overflow (Arm TOSA);
        - ``away_ceil``: the least power of two, times max, that reaches amax (INT-vs-FP).

        Or ``amax``: ``amax / level`` rounded half to even into the scale format; ``range``: ``(max - min) / (2**bits -
        1)`` rounded alike, with a zero point; ``none``: there is no scale.
    level : float, optional
        What amax is divided by; None takes the element's largest value.
    zero_point : {"none", "include_zero"}
        ``include_zero``: an unsigned zero point of the element's width; the range is widened to hold 0, so that the
        zero point always fits and 0.0 is always exact.
    tensor_scale : {"none", "float32"}
        ``float32``: one second-level scale for the whole tensor, ``amax_tensor / (scale_cap * level)``; it multiplies
        on decode.
    row_scale : {"none", "float16", "float32"}
        The same for each row (channel, token), rounded into that format.
    scale_cap : float, optional
        Largest block scale that the second-level scale aims at.
    scale_floor : float
        Smallest block scale emitted by ``amax`` (0: none): 2**-6 in torchao's NVFP4, 2**-9 in ModelOpt's.
    quotient : {"exact", "fp32_inverse"}
        ``exact``: elements are the rounded exact quotient. ``fp32_inverse``: they are multiplied in float32 by
        ``fp32(fp32(1 / outer) / scale)`` (torchao), or exactly where that is 0 or Inf.
    rounding, seed : str, int
        Of the elements, see `hwsim.formats.rounding`; the seed is that of ``stochastic``. Scales round half to even.
    overflow : {"saturate", "nonsaturating"}
        What lies beyond the largest element after rounding; ``nonsaturating`` is for floats with Inf or NaN.
    zero_block : {"code_00", "one", "microxcaling", "error"}
        Scale of a block of zeros: code 0; 1.0; ``2**(-126 - emax)`` clamped; or a ValueError.
    nan_policy : {"error", "propagate"}
        NaN and Inf in the input raise; or the whole block gets the NaN scale (a bare element: its own NaN and Inf).
    nibble_order : {"low_first", "high_first"}
        Order in which two 4-bit codes lie in a byte.
    activation : str, optional
        Name of the format in which the matching unit takes its activations; None while no unit takes the format.

    Raises
    ------
    ValueError
        When rules do not go together; the message names the format.

    Exactness
    ---------
    Each scale and each element is the correctly rounded value of the exact quotient that the rule names, but where a
    rule itself names a float32 step (``rceil``, ``fp32_inverse``). Only the ``max - min`` of rule ``range`` is rounded
    to float64 first, where it needs more than 53 bits, and ``stochastic`` compares with the quotient rounded to
    float64. A second-level scale is at least the smallest positive number of its format. A block whose scale is 0 gets
    the codes of zeros. Decoding forms the exact product and rounds once to float32.
    """

    element: ElementSpec
    scale: FloatSpec | IntSpec | None = None
    block_size: int | tuple[int, int] | None = None
    scale_rule: ScaleRule = "none"
    level: float | None = None
    zero_point: Literal["none", "include_zero"] = "none"
    tensor_scale: Literal["none", "float32"] = "none"
    row_scale: Literal["none", "float16", "float32"] = "none"
    scale_cap: float | None = None
    scale_floor: float = 0.0
    quotient: Literal["exact", "fp32_inverse"] = "exact"
    rounding: Rounding = "rne"
    seed: int = 0
    overflow: Overflow = "saturate"
    zero_block: ZeroBlock = "code_00"
    nan_policy: Literal["error", "propagate"] = "error"
    nibble_order: Literal["low_first", "high_first"] = "low_first"
    activation: str | None = None

    checks_finite = True

    def __post_init__(self) -> None:
        for condition, words in _objections(self):
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    def tile(self, k: int) -> tuple[int, int]:
        """Return (rows, columns) of a block in a tensor whose last axis has `k` elements."""
        if self.scale is None:
            return 1, k
        if isinstance(self.block_size, tuple):
            return self.block_size
        return 1, self.block_size or k

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last block."""
        return -k % self.tile(k)[1]

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return codes, scales, zero points and second-level scales of a tensor of that shape."""
        k = shape[-1]
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the blocks is empty")
        parts = [Part.code("codes", shape, self.element.bits)]
        if self.scale is None:
            return tuple(parts)
        rows, columns = self.tile(k)
        if k % columns:
            raise ValueError(
                f"format {self.name}: block of {columns} does not divide the axis of {k}; pad it to "
                f"{k + self.padding(k)} and record the padding"
            )
        leading = shape[:-1]
        if rows > 1:
            if len(shape) < 2 or shape[-2] % rows:
                raise ValueError(
                    f"format {self.name}: tiles of {rows} rows need an axis -2 that {rows} divides, not {shape}"
                )
            leading = (*shape[:-2], shape[-2] // rows)
        blocks = (*leading, k // columns)
        parts.append(Part.code("scales", blocks, self.scale.bits, by_row=rows == 1))
        if self.zero_point != "none":
            parts.append(Part.code("zeros", blocks, self.element.bits, by_row=rows == 1))
        if self.tensor_scale != "none":
            parts.append(Part("tensor_scale", (), 32, np.dtype(np.float32), by_row=False))
        if self.row_scale != "none":
            parts.append(Part.code("row_scales", shape[:-1], 16 if self.row_scale == "float16" else 32))
        return tuple(parts)

    @property
    def max_value(self) -> float:
        """Largest magnitude of an element, scales left out."""
        return self.element.max_value

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring elements, scales left out."""
        return self.element.min_step

    def code_points(self) -> NDArray[np.float64] | None:
        """Return the value of every element code, None beyond 16 bits."""
        return element_values(self.element) if self.element.bits <= 16 else None

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes, scales, zero points and second-level scales."""
        self.encode_under(x, self.store_outer(x, out), out)

    def encode_under(self, x: NDArray[np.float32], outer: NDArray[np.float64], out: Parts) -> None:
        """Encode float32 [rows, k] as `encode_rows` does, under second-level scales that are given.

        Parameters
        ----------
        outer : float64 [1] or [rows]
            Positive worths of the second-level scales; 1.0 where the format has none. They are not put into `out`.
        """
        from hwsim.formats.families import _block_kernels as kernels

        if _unsigned(self.element) and self.zero_point == "none" and (x < 0).any():
            row, column = (int(i[0]) for i in np.nonzero(x < 0))
            raise RowError(row, column, f"{self.element.name} has no sign, but the value at {{}} is {x[row, column]}")
        rows, columns = self.tile(x.shape[1])
        bad = np.zeros(x.shape[0] // rows, np.uint8)
        none = np.empty((0, 0), np.uint8)
        scales = out["scales"][..., None].view(np.uint8) if self.scale is not None else np.empty((0, 0, 0), np.uint8)
        borders, order, zero_rank = _table(self.element)
        kernels.encode_blocks(
            x,
            rows,
            # a bare element has no blocks: any cut serves the threads
            columns if self.scale is not None else _cut(columns),
            kernel_element(self, kernels),
            kernel_scale(self, kernels),
            outer,
            borders,
            order,
            zero_rank,
            _guide(self.element),
            self.nan_policy == "propagate",
            out["codes"],
            scales,
            out.get("zeros", none),
            bad,
        )
        if bad.any():
            group = int(np.argmax(bad > 0))
            if bad[group] == 1:
                raise first_not_finite(x, group * rows)
            raise RowError(group * rows, None, "a block of zeros in row {} (zero_block is 'error')")

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k]: the product of element and scales is exact, then rounded once."""
        from hwsim.formats.families import _block_kernels as kernels

        if self.element.bits > 16:
            out[:] = _wide_values(self.element, parts["codes"])
            return
        rows, columns = self.tile(out.shape[1])
        outer = self.outer_values(parts)
        if not np.isfinite(outer).all():
            raise ValueError(f"format {self.name}: a second-level scale is {outer[~np.isfinite(outer)][0]}")
        scale_table, scales = np.empty(0), np.empty((0, 0), np.uint8)
        if self.scale is not None:
            scales = parts["scales"]
            if self.scale.bits <= 16:
                scale_table = _scale_table(self.scale)
        kernels.decode_blocks(
            parts["codes"],
            element_values(self.element),
            scale_table,
            scales,
            parts.get("zeros", np.empty((0, 0), np.uint8)),
            rows,
            columns if self.scale is not None else _cut(columns),
            outer,
            out,
        )

    def scale_values(self, scales: NDArray[Any]) -> NDArray[np.float64]:
        """Return the worth of scale codes, exactly; NaN where a code is NaN or Inf."""
        assert self.scale is not None
        if self.scale.bits == 32:
            return scales.view(np.float32).astype(np.float64)
        return _scale_table(self.scale)[scales]

    def outer_values(self, parts: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Return the second-level scales, float64 [1] or [rows]; 1.0 where the format has none."""
        if self.tensor_scale != "none":
            return np.array([parts["tensor_scale"][()]], np.float64)
        if self.row_scale != "none":
            return (
                parts["row_scales"].view(np.float16 if self.row_scale == "float16" else np.float32).astype(np.float64)
            )
        return np.ones(1)

    @property
    def scale_level(self) -> float:
        """What amax is divided by."""
        if self.level is not None:
            return self.level
        return float(2**self.element.bits - 1) if self.scale_rule == "range" else self.element.max_value

    def store_outer(self, x: NDArray[np.float32], out: Parts) -> NDArray[np.float64]:
        """Find the second-level scales, put them into `out`, and return what they are worth."""
        if self.tensor_scale == "none" and self.row_scale == "none":
            return np.ones(1)
        assert self.scale_cap is not None
        amax = row_amax(x).astype(np.float64)
        if self.tensor_scale != "none":
            amax = amax.max(keepdims=True)
        kind = np.float32 if self.tensor_scale != "none" else np.dtype(self.row_scale).type
        limits = np.finfo(kind)
        with np.errstate(over="ignore"):
            scales = (amax / (self.scale_cap * self.scale_level)).astype(kind)
        # a tensor that is not all zeros keeps a positive scale, however small; zeros have none to find, and 1 decodes
        # them
        scales = np.where(amax > 0, np.clip(scales, limits.smallest_subnormal, limits.max), kind(1))
        if self.tensor_scale != "none":
            out["tensor_scale"][...] = scales[0]
        else:
            out["row_scales"][...] = scales.view(out["row_scales"].dtype)
        return scales.astype(np.float64)


def block_size(fmt: BlockSpec, k: int) -> int:
    """Return the block length along an axis of `k` elements.

    Raises
    ------
    ValueError
        When the axis is empty or the block does not divide it.
    """
    rows, _ = fmt.tile(k)
    fmt.layout((rows, k))
    return fmt.tile(k)[1]


def _cut(k: int) -> int:
    """Return the length of the runs into which a bare element's rows are cut, for the threads: any divisor of k."""
    longest = next(n for n in range(min(k, 4096), 0, -1) if k % n == 0)
    return longest if longest >= 64 else k


@cache
def _scale_table(scale: FloatSpec | IntSpec) -> NDArray[np.float64]:
    """Return the worth of every scale code, NaN where it is not finite."""
    values = element_values(scale)
    return np.where(np.isinf(values), np.nan, values)


def _unsigned(element: ElementSpec) -> bool:
    return not element.signed


def _objections(spec: BlockSpec) -> list[tuple[bool, str]]:
    """Return (is it so, what to say) for everything that can be wrong with a block format."""
    element, scale, rule = spec.element, spec.scale, spec.scale_rule
    size = (
        spec.block_size
        if isinstance(spec.block_size, tuple)
        else (1, 1 if spec.block_size is None else spec.block_size)
    )
    power = isinstance(scale, FloatSpec) and scale.man_bits == 0
    float_scale = isinstance(scale, FloatSpec) and scale.subnormals
    second = spec.tensor_scale != "none" or spec.row_scale != "none"
    # Decoding multiplies in float64; the product must be exact there before its one rounding to float32.
    wide = element.bits + (scale.bits if isinstance(scale, IntSpec) else scale.man_bits + 1 if scale else 0)
    if isinstance(element, TableSpec):
        wide += 24 - element.bits
    wide_second = 24 if spec.tensor_scale != "none" or spec.row_scale == "float32" else 11 if second else 0
    wide += wide_second
    special = isinstance(element, FloatSpec) and element.nan_code is not None
    scale_nan = isinstance(scale, FloatSpec) and scale.nan_code is not None
    # Comparing with a border times a step, and a quotient snapped to 45 bits, are exact up to these widths.
    step = (scale.bits if isinstance(scale, IntSpec) else scale.man_bits + 1 if scale else 0) + wide_second
    border = max(map(significant_bits, element.borders)) if isinstance(element, TableSpec) else 0
    levelled = rule in ("amax", "range", "rceil", "tosa", "away_ceil")
    return [
        *word_objections(spec),
        (
            spec.level is not None and not (levelled and 0 < spec.level < math.inf),
            f"level must be positive and finite, for a scale_rule that divides by it, not {spec.level} for {rule!r}",
        ),
        (
            not isinstance(spec.seed, int) or not 0 <= spec.seed < 1 << 63,
            f"seed must be an integer in 0 .. 2**63 - 1, not {spec.seed!r}",
        ),
        (border + step > 53, f"a border of {border} bits times a step of {step} would not be exact (allowed: 53)"),
        (
            step > 36 and not isinstance(element, TableSpec),
            f"quotients by a step of {step} bits cannot be told apart from borders (allowed: 36)",
        ),
        (
            rule in _POWERS and isinstance(scale, FloatSpec) and power and (scale.subnormals or scale.has_zero),
            f"scale_rule {rule!r} needs a scale format whose every code is a power of two",
        ),
        (
            spec.nibble_order != "low_first" and element.bits != 4,
            f"nibble_order is about codes of 4 bits, {element.name} has {element.bits}",
        ),
        (
            spec.nan_policy == "propagate" and second,
            "nan_policy 'propagate' is for formats without a second-level scale, which would become NaN as a whole",
        ),
        (len(size) != 2 or min(size) < 1, f"block_size must be at least 1, a pair, or None (whole axis), not {size}"),
        ((scale is None) != (rule == "none"), f"scale and scale_rule go together, not {scale} and {rule!r}"),
        (scale is None and spec.block_size is not None, "a bare element has no blocks; leave block_size None"),
        (
            (rule == "range") != (spec.zero_point != "none"),
            "scale_rule 'range' and zero_point 'include_zero' go together",
        ),
        (
            rule == "range" and (not isinstance(element, IntSpec) or element.signed),
            "rule 'range' needs unsigned integers",
        ),
        (rule in _POWERS and not power, f"scale_rule {rule!r} needs a power-of-two scale"),
        (
            rule in ("amax", "range") and not (float_scale or isinstance(scale, IntSpec)),
            f"scale_rule {rule!r} needs a scale format with a zero",
        ),
        (isinstance(scale, IntSpec) and not second, "an integer scale needs a tensor_scale or row_scale above it"),
        (isinstance(scale, IntSpec) and scale.frac_bits != 0, "an integer scale has no fraction bits"),
        (spec.tensor_scale != "none" and spec.row_scale != "none", "tensor_scale and row_scale exclude each other"),
        (second != (spec.scale_cap is not None), "a second-level scale and scale_cap go together"),
        (second and rule != "amax", "a second-level scale needs scale_rule 'amax'"),
        (
            scale is not None and spec.scale_cap is not None and not 0 < spec.scale_cap <= scale.max_value,
            f"scale_cap {spec.scale_cap} must be positive and within the scale format",
        ),
        (
            scale is not None and element.bits > 8 and not (isinstance(element, IntSpec) and spec.zero_point == "none"),
            f"an element code is one byte, but for integers without zero point; {element.name} has {element.bits} bits",
        ),
        (
            scale is not None and isinstance(element, FloatSpec) and not element.subnormals,
            "elements of blocks need subnormals (a zero)",
        ),
        (spec.scale_floor != 0 and rule != "amax", "scale_floor is for scale_rule 'amax'"),
        (
            scale is not None and not 0 <= spec.scale_floor <= scale.max_value,
            f"scale_floor {spec.scale_floor} must lie within the scale format",
        ),
        (
            spec.quotient != "exact" and not (second and isinstance(element, FloatSpec) and _vectors_serve(element)),
            "quotient 'fp32_inverse' is for float elements with a mantissa under a second-level scale",
        ),
        (spec.rounding not in MODES, f"unknown rounding {spec.rounding!r}; known: {', '.join(MODES)}"),
        (
            spec.rounding != "rne" and isinstance(element, TableSpec),
            "a table rounds by its thresholds and ties; leave rounding 'rne'",
        ),
        (
            spec.quotient != "exact" and (spec.rounding != "rne" or spec.overflow != "saturate"),
            "quotient 'fp32_inverse' rounds 'rne' and saturates",
        ),
        (spec.overflow == "nonsaturating" and not special, f"{element.name} has neither Inf nor NaN to overflow to"),
        (
            spec.nan_policy == "propagate" and not (special if scale is None else scale_nan),
            "nothing in the format can carry a NaN",
        ),
        (spec.zero_block != "code_00" and scale is None, "zero_block is about scales"),
        (
            spec.zero_block == "microxcaling" and rule not in _POWERS,
            "zero_block 'microxcaling' is for power-of-two scales",
        ),
        (wide > 53, f"a product of {wide} bits would not be exact in decoding (allowed: 53)"),
    ]  # fmt: skip


def _table(element: ElementSpec) -> tuple[NDArray[np.float64], NDArray[np.uint8], int]:
    if not isinstance(element, TableSpec):
        return np.empty(0), np.empty(0, np.uint8), 0
    return (
        np.array(element.borders, np.float64),
        np.array([code for _, code in element.ranked], np.uint8),
        element.rank(0.0),
    )


def _guide(element: ElementSpec) -> Any:
    from hwsim.formats.families import _table_kernels as tables

    # the loops over all borders serve 16 levels, whose codes fit 4 bits
    wide = isinstance(element, TableSpec) and (len(element.ranked) > 16 or max(code for _, code in element.ranked) > 15)
    return tables.guide(element) if wide else tables.NO_GUIDE


def _vectors_serve(element: FloatSpec) -> bool:
    """Tell whether the vector loops can encode an element: the floats that they build from its fields must exist."""
    fields = 1 <= 151 - element.bias - element.man_bits <= 254 and 1 <= 128 - element.bias <= 254
    limit = element.max_value <= float(np.finfo(np.float32).max)
    return element.subnormals and 1 <= element.man_bits <= 22 and fields and limit


def kernel_element(spec: BlockSpec, kernels: Any) -> Any:
    """Return the element format of a spec as kernels know it."""
    element = spec.element
    # `fast`: half to even and saturating, in a format that the vector loops can build
    fast = spec.rounding == "rne" and spec.overflow == "saturate"
    fields: dict[str, Any] = dict.fromkeys(kernels.Element._fields, 0)
    fields |= {
        "bits": element.bits, "saturate": int(spec.overflow == "saturate"), "mode": MODES.index(spec.rounding),
        "seed": spec.seed, "inf_code": -1, "nan_code": -1, "max_value": element.max_value, "smallest": 0.0,
    }  # fmt: skip
    if isinstance(element, FloatSpec):
        none = -1
        fast &= _vectors_serve(element)
        fields |= {
            "kind": kernels.FLOAT, "signed": int(element.signed), "man_bits": element.man_bits, "bias": element.bias,
            "max_code": element.max_code, "subnormals": int(element.subnormals),
            "smallest": float(element.value(1) or 0) if element.has_zero else 0.0,
            "negative_zero": int(element.negative_zero),
            "inf_code": none if element.inf_code is None else element.inf_code,
            "nan_code": none if element.nan_code is None else element.nan_code,
            "nan_signed": int(element.signed and element.special in ("ieee", "fn")),
        }  # fmt: skip
    elif isinstance(element, IntSpec):
        fast &= element.bits <= 8  # the vector loops divide in float32
        fields |= {
            "kind": kernels.INT, "signed": int(element.signed), "low": element.qmin, "high": element.qmax,
            "frac_bits": element.frac_bits,
        }  # fmt: skip
    else:
        fields |= {
            "kind": kernels.TABLE, "symmetric": int(element.symmetric),
            "ties": ("down", "up", "even").index(element.ties),
        }  # fmt: skip
    return kernels.Element(**{**fields, "fast": int(fast)})


def kernel_scale(spec: BlockSpec, kernels: Any) -> Any:
    """Return the scale format of a spec, and the rule by which it is found, as kernels know them."""
    scale = spec.scale
    fields: dict[str, Any] = dict.fromkeys(kernels.Scale._fields, 0)
    fields |= {
        "rule": kernels.RULES.index(spec.scale_rule), "floor": float(spec.scale_floor),
        "level": float(spec.scale_level),
        "factor": 1.0,
        "zero_block": kernels.ZERO_BLOCKS.index(spec.zero_block), "exact_quotient": int(spec.quotient == "exact"),
    }  # fmt: skip
    if spec.scale_rule in _POWERS:
        fields["emax"], fields["carry"] = power_rule(spec)
    if spec.scale_rule == "rceil":
        fields["factor"] = float(np.float32(1) / np.float32(spec.scale_level))
    if scale is not None:
        fields["bytes"] = container(scale.bits).itemsize
    if isinstance(scale, FloatSpec):
        fields |= {
            "kind": kernels.FLOAT, "man_bits": scale.man_bits, "bias": scale.bias, "max_code": scale.max_code,
            "subnormals": int(scale.subnormals), "nan_code": -1 if scale.nan_code is None else scale.nan_code,
        }  # fmt: skip
    elif isinstance(scale, IntSpec):
        fields |= {"kind": kernels.INT, "max_code": scale.qmax, "nan_code": -1}
    return kernels.Scale(**fields)


def power_rule(spec: BlockSpec) -> tuple[int, int]:
    """Return (emax, carry) of a power-of-two rule.

    The scale is ``2**(exponent(amax) - emax)``, and twice that where the mantissa of amax, in units of ``2**-52`` above
    1, reaches carry.
    """
    element, one = spec.element, 1 << 52
    if spec.scale_rule == "floor":
        return element.emax, one
    if spec.scale_rule in ("ceil", "rceil"):
        return (element.emax if spec.scale_rule == "ceil" else 0), 1
    if spec.scale_rule == "even":
        man_bits = element.man_bits if isinstance(element, FloatSpec) else element.bits - 2
        return element.emax, one - (one >> (man_bits + 1))
    top = Fraction(spec.scale_level)
    exponent = math.frexp(top)[1] - 1
    if spec.scale_rule == "away_ceil":
        return exponent, int((top / Fraction(2) ** exponent - 1) * one) + 1
    # tosa: overflow begins half a step above the largest value, or right after where the tie goes to the largest
    assert isinstance(element, FloatSpec | IntSpec)
    code = element.max_code if isinstance(element, FloatSpec) else element.qmax
    below = element.value(code - 1)
    assert below is not None
    border = top + (top - below) / 2
    return exponent, int((border / Fraction(2) ** exponent - 1) * one) + int(code % 2 == 0)


def _wide_values(element: ElementSpec, codes: NDArray[Any]) -> NDArray[np.float32]:
    """Return what codes of 17 to 32 bits are worth: they are float32 cut short."""
    assert isinstance(element, FloatSpec) and (element.exp_bits, element.bias, element.special) == (8, 127, "ieee")
    return (codes << np.uint32(32 - element.bits)).view(np.float32)
