"""Make FP32 words of integers, exactly."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from hwsim.formats.catalog.elements import FLOAT32
from rtl.lib.normalise import Normalise


def int_to_float32(m: Module, value: Value, name: str) -> Value:
    """Return the FP32 bits of a signed integer; adds what logic it takes to ``m``.

    Parameters
    ----------
    m : Module
        Module that receives the combinational logic.
    value : Value
        Signed, at most 24 bits.
    name : str
        Prefix of the names of what is added.

    Raises
    ------
    ValueError
        If it has more than 24 bits, which FP32 does not hold.
    """
    width, fraction_bits = len(value), FLOAT32.man_bits
    if width > fraction_bits + 1:
        raise ValueError(f"integers of at most {fraction_bits + 1} bits are FP32 numbers, not of {width}")
    magnitude, field = Signal(width, name=f"{name}_magnitude"), Signal(FLOAT32.exp_bits, name=f"{name}_field")
    m.submodules[f"{name}_normalise"] = part = Normalise(width)
    m.d.comb += [
        magnitude.eq(abs(value)),
        part.value.eq(magnitude),
        field.eq(Mux(magnitude.any(), FLOAT32.bias + width - 1 - part.count, 0)),
    ]
    return Cat(Const(0, fraction_bits + 1 - width), part.normalised[: width - 1], field, value[-1])
