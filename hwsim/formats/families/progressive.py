"""Progressive formats: 4-bit codes whose dequantised values are INT8, under one floating-point scale a channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.format import Format, Part, Parts
from hwsim.formats.spec import FloatSpec, significant_bits

if TYPE_CHECKING:
    from hwsim.formats.families._progressive_kernels import Rules

PROTECTIVE = 119
"""Largest INT8 magnitude for which no group overflows INT8: 127 less half of the largest group scale."""
_ALLOWED = {
    "second_level": ("int8", "values"),
    "span": ("include_zero", "plain"),
    "code_clamp": ("uint4", "int8_safe"),
    "zeros": ("zero", "neg_product"),
    "zero_channel": ("one",),
    "nibble_order": ("low_first", "high_first"),
}


@dataclass(frozen=True, kw_only=True)
class ProgressiveSpec(Format):
    """Describe two levels of integers: ``x = int8 * channel_scale``, ``int8 = (code - zero) * group_scale``.

    Codes have 4 bits, group scales and zeros are integers, and ``(code - zero) * group_scale`` lies within INT8 for
    every code that is stored: encoders see to it, and decoders refuse parts that break it.

    Parts: ``codes`` [..., K]; ``scales`` [..., groups], the integer scales; ``zeros`` [..., groups]; ``row_scales``
    [...], bit patterns of the channel scales.

    Parameters
    ----------
    scale : FloatSpec
        Number format of the channel scale, with subnormals.
    block_size : int, optional
        Elements in a group; None takes the whole axis.
    limit : int
        Largest magnitude of the first level: the channel scale is ``ratio * amax / limit``, and INT8 values are clamped
        to +-limit. 119 is QServe's protective range.
    ratio : float
        Part of amax that the channel scale reaches to; at most 24 significant bits.
    second_level : {"int8", "values"}
        ``int8``: group scales and codes are found from the INT8 values of the first level (QServe):
        ``s = max(1, round((max - min) / 15))``, ``z = round(-min / s)``, ``q = round(int8 / s) + z``. ``values``: from
        the real ones (DGQ): with ``t = (max - min) / 15``, ``s = max(1, round(t / channel_scale))``,
        ``z = round(-min / t)``, ``q = round(x / (s * channel_scale)) + z``.
    span : {"include_zero", "plain"}
        ``include_zero``: the range of a group is widened to hold 0, so that z is a code; ``plain``: it is not, and z is
        an 8-bit integer.
    code_clamp : {"uint4", "int8_safe"}
        ``uint4``: codes are clamped to 0 .. 15, which needs the protective range. ``int8_safe``: and to
        ``z - floor(127 / s) .. z + floor(127 / s)``.
    scale_max : int
        Largest group scale. 17 keeps ``15 * s`` within 8 bits, which QServe's kernel multiplies before it subtracts.
    zeros : {"zero", "neg_product"}
        What is stored: z, or ``-z * s`` as 8-bit two's complement (QServe's kernel adds it to ``code * s``).
    zero_channel : {"one"}
        Channel scale of a channel of zeros: 1.
    nibble_order : {"low_first", "high_first"}
        Order in which two codes lie in a byte.

    Raises
    ------
    ValueError
        When rules do not go together; the message names the format.

    Exactness
    ---------
    The channel scale is the exact quotient rounded once half to even into its format; it is at least the smallest
    positive number and at most the largest. All further quotients are exact ones (by the channel scale as stored),
    rounded half to even. Decoding is the exact product of INT8 value and channel scale, rounded once to float32.
    """

    scale: FloatSpec
    block_size: int | None = 128
    limit: int = PROTECTIVE
    ratio: float = 1.0
    second_level: Literal["int8", "values"] = "int8"
    span: Literal["include_zero", "plain"] = "include_zero"
    code_clamp: Literal["uint4", "int8_safe"] = "uint4"
    scale_max: int = 17
    zeros: Literal["zero", "neg_product"] = "zero"
    zero_channel: Literal["one"] = "one"
    nibble_order: Literal["low_first", "high_first"] = "low_first"

    def __post_init__(self) -> None:
        for condition, words in _objections(self):
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last group."""
        return -k % (self.block_size or 1)

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return codes, group scales, zeros and channel scales of a tensor of that shape."""
        k = shape[-1]
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the blocks is empty")
        if self.padding(k):
            raise ValueError(
                f"format {self.name}: block size {self.block_size} does not divide the axis of {k}; pad it to "
                f"{k + self.padding(k)} and record the padding"
            )
        groups = (*shape[:-1], k // (self.block_size or k))
        plain = self.span == "include_zero" and self.zeros == "zero"
        return (
            Part.code("codes", shape, 4),
            Part.code("scales", groups, 8),
            Part.code("zeros", groups, 4 if plain else 8),
            Part.code("row_scales", shape[:-1], self.scale.bits),
        )

    @property
    def max_value(self) -> float:
        """Largest code, zero and scales left out."""
        return 15.0

    @property
    def min_step(self) -> float:
        """Distance of neighbouring codes."""
        return 1.0

    def code_points(self) -> NDArray[np.float64]:
        """Return the integer of every code, zero and scales left out."""
        return np.arange(16, dtype=np.float64)

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes, group scales, zeros and channel scales."""
        from hwsim.formats.families import _progressive_kernels as kernels

        block, channels = self.block_size or x.shape[1], np.empty(x.shape[0], np.int64)
        kernels.encode_progressive(x, block, self._rules(), out["codes"], out["scales"], out["zeros"], channels)
        out["row_scales"][...] = channels

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k].

        Raises
        ------
        ValueError
            When a scale or zero is out of range, or a stored code leaves INT8.
        """
        from hwsim.formats.families import _progressive_kernels as kernels

        bad, block = np.zeros(out.shape[0], np.uint8), self.block_size or out.shape[1]
        channels = parts["row_scales"].astype(np.int64)
        kernels.decode_progressive(
            parts["codes"], parts["scales"], parts["zeros"], channels, block, self._rules(), out, bad
        )
        self._require(bad)

    def integers(self, parts: Mapping[str, NDArray[Any]]) -> NDArray[np.int8]:
        """Return the INT8 values that a matrix unit multiplies, int8 [..., K].

        Raises
        ------
        ValueError
            As decoding does.
        """
        from hwsim.formats.families import _progressive_kernels as kernels

        codes = np.ascontiguousarray(parts["codes"])
        k = codes.shape[-1]
        rows, out = codes.reshape(-1, k), np.empty(codes.shape, np.int8)
        bad, block = np.zeros(rows.shape[0], np.uint8), self.block_size or k
        scales, zeros = (np.ascontiguousarray(parts[name]).reshape(-1, k // block) for name in ("scales", "zeros"))
        kernels.expand(rows, scales, zeros, block, self._rules(), out.reshape(-1, k), bad)
        self._require(bad)
        return out

    def _require(self, bad: NDArray[np.uint8]) -> None:
        if not bad.any():
            return
        row = int(np.argmax(bad > 0))
        words = (
            f"a group scale out of range, allowed 1 .. {self.scale_max}",
            "a zero that no encoder stores, allowed " + _zeros_in_words(self),
            "a code whose INT8 value (code - zero) * scale is not within -128 .. 127",
            "a channel scale that is not positive and finite",
        )[int(bad[row]) - 1]
        raise ValueError(f"format {self.name}: row {row} holds {words}")

    def _rules(self) -> Rules:
        from hwsim.formats.families._progressive_kernels import Rules

        return Rules(
            self.limit,
            self.ratio,
            self.second_level == "values",
            self.span == "include_zero",
            self.code_clamp == "int8_safe",
            self.zeros == "neg_product",
            self.scale_max,
            self.scale.man_bits,
            self.scale.bias,
            self.scale.max_code,
        )


def _zeros_in_words(spec: ProgressiveSpec) -> str:
    zero = "0 .. 15" if spec.span == "include_zero" else "-128 .. 127"
    return f"-z * scale with z within {zero}" if spec.zeros == "neg_product" else zero


def _objections(spec: ProgressiveSpec) -> list[tuple[bool, str]]:
    """Return (is it so, what to say) for everything that can be wrong with a progressive format."""
    size, values = spec.block_size, spec.second_level == "values"
    return [
        (size is not None and size < 1, f"block_size must be at least 1 or None, not {size}"),
        (not spec.scale.subnormals, f"the channel scale must have subnormals, not {spec.scale.name}"),
        (not 1 <= spec.limit <= 127, f"limit must be 1 .. 127, not {spec.limit}"),
        (not 1 <= spec.scale_max <= 127, f"scale_max must be 1 .. 127, not {spec.scale_max}"),
        (
            not (0 < spec.ratio < 2.0**64) or significant_bits(spec.ratio) > 24,
            f"ratio must be positive, of 24 significant bits at most, not {spec.ratio}",
        ),
        *(
            (getattr(spec, field) not in allowed, f"{field} must be one of {allowed}, not {getattr(spec, field)!r}")
            for field, allowed in _ALLOWED.items()
        ),
        (
            spec.code_clamp == "uint4" and (values or spec.limit > PROTECTIVE),
            f"code_clamp 'uint4' needs second_level 'int8' and a limit of {PROTECTIVE} at most, not "
            f"{spec.second_level!r} and {spec.limit}: take 'int8_safe'",
        ),
        (values and spec.span != "include_zero", "second_level 'values' needs span 'include_zero'"),
        (
            spec.zeros == "neg_product" and (values or spec.limit > PROTECTIVE),
            f"zeros 'neg_product' need second_level 'int8' and a limit of {PROTECTIVE} at most, else -z * s may not "
            "fit 8 bits",
        ),
    ]
