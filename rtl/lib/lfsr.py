"""Draw random bits from a linear feedback shift register."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value

from hwsim.pe._lfsr import Lfsr


def draw(m: Module, lfsr: Lfsr, lane: int, taken: Value) -> Value:
    """Return the bits of a lane's next draw; the register moves on in cycles with ``taken``.

    Parameters
    ----------
    m : Module
        Module that receives the register.
    lfsr : Lfsr
        Widths, taps and seed.
    lane : int
        Decides the state after reset.
    taken : Value
        1 bit.

    Hardware
    --------
    One register; all steps of a draw at once, as sums of its bits.
    """
    state = Signal(lfsr.bits, init=lfsr.start(lane), name=f"lfsr_{lane}")
    following = [Cat(*(state[bit] for bit in range(lfsr.bits) if mask >> bit & 1)).xor() for mask in lfsr.sources()]
    with m.If(taken):
        m.d.sync += state.eq(Cat(*following))
    return state[: lfsr.draw_bits]
