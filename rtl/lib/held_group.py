"""Keep the terms of several beats until the last of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth.hdl import Const, Module, Mux, Signal, Value


def held_group(
    m: Module, moves: Value, beat: Mapping[str, Value], fields: Sequence[str], beats: int
) -> tuple[list[Mapping[str, Value]], Value]:
    """Return the fields of so many beats, the oldest first, and whether this beat is the last of them.

    Parameters
    ----------
    m : Module
        Module that receives the logic.
    moves : Value, 1 bit
        Whether there is a beat, and it moves on. After reset the next one begins a group.
    beat : mapping of Value
    fields : sequence of str
        What is kept of a beat.
    beats : int
        Beats of a group, at least 1.

    Hardware
    --------
    ``beats - 1`` registers a field, in a chain, and a counter; nothing for groups of one beat.
    """
    found: list[Mapping[str, Value]] = [beat]
    if beats == 1:
        return found, Const(1)
    position, is_last = Signal(range(beats), name="group_position"), Signal(name="ends_group")
    m.d.comb += is_last.eq(position == beats - 1)
    with m.If(moves):
        m.d.sync += position.eq(Mux(is_last, 0, position + 1))
    for age in range(1, beats):
        newer = found[0]
        held = {name: Signal(newer[name].shape(), name=f"held_{age}_{name}") for name in fields}
        with m.If(moves):
            m.d.sync += [register.eq(newer[name]) for name, register in held.items()]
        found.insert(0, held)
    return found, is_last
