"""Generators of minifloat elements: generic ExMy, and the IEEE P3109 family."""

from __future__ import annotations

from typing import Literal

from hwsim.formats.spec import FloatSpec, SpecialCodes


def exmy(
    exp_bits: int,
    man_bits: int,
    bias: int | None = None,
    *,
    name: str | None = None,
    signed: bool = True,
    subnormals: bool = True,
    special: SpecialCodes = "none",
    source: str = "generic minifloat: (-1)**s * 2**(e - bias) * (1 + m / 2**M), subnormals 2**(1 - bias) * m / 2**M",
    witnesses: tuple[str, ...] = ("gfloat",),
) -> FloatSpec:
    """Return the minifloat of 3 to 16 bits with the given fields.

    Parameters
    ----------
    exp_bits, man_bits : int
        Widths of exponent and stored mantissa.
    bias : int, optional
        Exponent bias; None takes ``2**(exp_bits - 1) - 1``. A real-valued bias b (LLM-FP4) is any
        whole bias B under one real scale ``2**(B - b)``: use a block format with a float32 scale.
    signed, subnormals, special
        As for `FloatSpec`; without subnormals, code 0 is a zero.
    name : str, optional
        None makes one, as ml_dtypes does: ``float6_e2m3``, with ``b<bias>`` for another bias, ``fn`` and so on for
        special codes, ``u`` for no sign.

    Raises
    ------
    ValueError
        When the width is outside 3 to 16 bits, or the fields do not make a format (see `FloatSpec`).

    Examples
    --------
    >>> exmy(3, 2).max_value, exmy(3, 2, bias=5).max_value, exmy(3, 2).name
    (28.0, 7.0, 'float6_e3m2')
    """
    bits = exp_bits + man_bits + int(signed)
    if not 3 <= bits <= 16:
        raise ValueError(f"an ExMy element has 3 to 16 bits, not {bits} (exp_bits={exp_bits}, man_bits={man_bits})")
    usual = (1 << (exp_bits - 1)) - 1 if exp_bits else 0
    bias = usual if bias is None else bias
    if name is None:
        other = f"b{bias}" if bias != usual else ""
        special_name = {"none": "", "ieee": "i", "all_ones": "n"}.get(special, special)
        name = (
            f"{'' if signed else 'u'}float{bits}_e{exp_bits}m{man_bits}{other}{special_name}{'' if subnormals else 'z'}"
        )
    return FloatSpec(
        name, exp_bits, man_bits, bias, source, signed, subnormals, special, not subnormals, witnesses, "exmy"
    )


def p3109(
    bits: int, precision: int, signed: bool = True, domain: Literal["extended", "finite"] = "extended"
) -> FloatSpec:
    """Return a format of the IEEE P3109 family.

    NaN has the code of a negative zero (signed), or the largest code (unsigned); in an extended domain the largest
    magnitude below is Inf. The bias is ``2**(bits - precision - 1)`` (signed) or ``2**(bits - precision)``; a signed
    format of precision `bits` has no exponent and bias 0.

    Parameters
    ----------
    bits : int
        Width, 3 to 16.
    precision : int
        Significand bits with the hidden one, 1 to `bits`.
    signed : bool
        Whether there is a sign.
    domain : {"extended", "finite"}
        Whether there are infinities.

    Raises
    ------
    ValueError
        When width, precision or domain are outside the family, or the exponent has more than 11 bits, so that values
        are no float64 numbers.

    Source
    ------
    IEEE P3109 interim report (2025), formats ``binary{K}p{P}``; gfloat.formats.format_info_p3109.

    Examples
    --------
    >>> p3109(8, 3).name, p3109(8, 3).max_value
    ('p3109_k8p3se', 49152.0)
    """
    if not 3 <= bits <= 16 or not 1 <= precision <= bits:
        raise ValueError(f"P3109 here: 3 to 16 bits and precision 1 to bits, not {bits} and {precision}")
    if domain not in ("extended", "finite"):
        raise ValueError(f"P3109 domain is 'extended' or 'finite', not {domain!r}")
    exponent = bits - precision - int(signed)
    return FloatSpec(
        name=f"p3109_k{bits}p{precision}{'s' if signed else 'u'}{domain[0]}",
        exp_bits=bits - precision + 1 - int(signed),
        man_bits=precision - 1,
        bias=1 << exponent if exponent >= 0 else 0,
        source="IEEE P3109 interim report (2025), value tables; gfloat formats.py:format_info_p3109",
        signed=signed,
        special="extended" if domain == "extended" else "fnuz",
        witnesses=("gfloat",),
        generator="p3109",
    )
