"""Multiply by a small integer without a multiplier: a shift for each of its set bits."""

from __future__ import annotations

from amaranth.hdl import Mux, Value

from rtl.lib.adder_tree import adder_tree


def shift_add(value: Value, factor: Value) -> Value:
    """Return ``value * factor`` as one combinational sum of shifts of ``value``.

    Parameters
    ----------
    value : Value
        Signed or unsigned, of any width.
    factor : Value
        Binary, or two's complement, whose top bit takes its term off.

    Returns
    -------
    Value
        The exact product: as many terms as the factor has bits, gated by these; shifts by constants are wires.
    """
    signed = Value.cast(factor).shape().signed
    terms: list[Value] = []
    for place in range(len(factor)):
        term = value << place
        terms.append(Mux(factor[place], -term if signed and place == len(factor) - 1 else term, 0))
    return adder_tree(terms)
