"""Decode an element's code into the integer it stands for."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Const, Module, Mux, Signal, Value

from rtl.lib.select import select


def decode_element(m: Module, code: Value, integers: Sequence[int], name: str) -> Value:
    """Return the integer of ``code``; adds what logic it takes to ``m``.

    Parameters
    ----------
    m : Module
        Module that receives the combinational logic.
    code : Value
        Code bits of one element.
    integers : sequence of int
        The integer of each code, one for every code of ``len(code)`` bits.
    name : str
        Name of the decoded signal.

    Returns
    -------
    Value
        Just wide enough for the table. Plain binary and two's complement cost no logic, sign and magnitude a negation;
        other tables become a tree of multiplexers.

    Raises
    ------
    ValueError
        If the table's length is not the number of codes.
    """
    if len(integers) != 1 << len(code):
        raise ValueError(f"a table for {len(code)}-bit codes has {1 << len(code)} integers, not {len(integers)}")
    half = len(integers) // 2
    if tuple(integers) == tuple(range(len(integers))):
        return code.as_unsigned()
    if tuple(integers) == (*range(half), *range(-half, 0)):
        return code.as_signed()
    if tuple(integers) == (*range(half), *range(0, -half, -1)):
        magnitude = code[:-1].as_unsigned()
        return Mux(code[-1], -magnitude, magnitude)
    decoded = Signal(range(min(integers), max(integers) + 1), name=name)
    m.d.comb += decoded.eq(select([Const(integer, decoded.shape()) for integer in integers], code))
    return decoded
