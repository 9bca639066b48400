"""Integers as sign and magnitude."""

from __future__ import annotations

from amaranth.hdl import Mux, Value


def magnitude_of(number: Value) -> Value:
    """Return the magnitude of an integer; whoever assigns it drops the bits that its range never uses."""
    return under_sign(number, number)


def under_sign(number: Value, other: Value) -> Value:
    """Return an integer, negated where another one is negative."""
    return Mux(other < 0, -number, number)
