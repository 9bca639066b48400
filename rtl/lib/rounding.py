"""What rounding takes: a result lined up with a format's grid, whether its magnitude rises, and what is too large.

`FloatRound` and `ElementRound` are made of these; they differ in flags, random bits and integers alone.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from hwsim.formats import FloatSpec
from rtl.lib.normalise import Normalise
from rtl.lib.shift_sticky import ShiftRightSticky


def align(m: Module, significand: Value, exponent: Value, low: int, high: int, base: int) -> tuple[Signal, Value]:
    """Put the leading one on top, or a subnormal's bits on their grid.

    Parameters
    ----------
    m : Module
        Module that receives the logic.
    significand : Value
        Need not be normalised; its lowest bit may be sticky.
    exponent : Value, signed
        Weight of the significand's top bit, as a power of two.
    low, high : int
        Range of the exponent. The left shifter is left out where none lies above `base`, the right one where none lies
        below.
    base : int
        Weight of the top bit of the smallest normal number.

    Returns
    -------
    (aligned, above)
        The shifted significand, of the same width, and the exponent field less 1 (0 for a subnormal, too).
    """
    width = len(significand)
    aligned = Signal(width)
    room = Signal(range(min(low - base, -1), max(high - base, 0) + 1))  # left shifts that reach the smallest normal
    above: Value = Const(0, 1)
    m.d.comb += [room.eq(exponent - base), aligned.eq(significand)]
    if high > base:
        m.submodules.leading = leading = Normalise(width)
        left = Signal(range(width + 1))
        over = Signal(range(high - base + 1))
        m.d.comb += [leading.value.eq(significand), left.eq(Mux(leading.count < room, leading.count, room))]
        with m.If(room >= 0):
            m.d.comb += [aligned.eq(significand << left), over.eq(Mux(aligned[-1], room - left, 0))]
        above = over
    if low < base:
        m.submodules.denormalise = right = ShiftRightSticky(width, base - low)
        m.d.comb += [right.value.eq(significand), right.amount.eq(Mux(room < 0, -room, 0))]
        with m.If(room < 0):
            m.d.comb += aligned.eq(right.shifted)
    return aligned, above


def rises(rounding: str, sign: Value, odd: Value, rest: Value, random: Value | None = None) -> Value:
    """Tell whether a magnitude goes up to the next one in place of down.

    Parameters
    ----------
    rounding : str
        A mode of :mod:`hwsim.formats.rounding`.
    sign : Value, 1 bit
    odd : Value, 1 bit
        The lowest of the bits that are kept.
    rest : Value
        The bits that are cut off, at least one.
    random : Value, optional
        For ``stochastic``, narrower than `rest`: up where it is less than the part cut off.
    """
    guard, sticky = rest[-1], rest[:-1].any() if len(rest) > 1 else Const(0)  # Verilog has no slice of no bits
    if rounding == "stochastic":
        assert random is not None
        part = rest[-len(random) :]
        return (random < part) | ((random == part) & rest[: -len(random)].any())
    return {
        "rne": guard & (sticky | odd),
        "rtz": Const(0),
        "rup": rest.any() & ~sign,
        "rdn": rest.any() & sign,
        "raz": rest.any(),
        "rna": guard,
        "rnz": guard & sticky,
        "rod": rest.any() & ~odd,
    }[rounding]


def too_large(fmt: FloatSpec, rounding: str, overflow: str, sign: Value) -> Value:
    """Return the code, sign included, that stands for a result beyond the largest number.

    Parameters
    ----------
    overflow : str
        ``saturate``: the largest number; ``infinite``: always Inf (NaN where the format has no Inf); else as IEEE 754
        has it for the rounding. Saturates where there is neither.
    """
    largest = Cat(Const(fmt.max_code, fmt.bits - 1), sign)
    beyond = fmt.inf_code if fmt.inf_code is not None else fmt.nan_code
    if overflow == "saturate" or beyond is None:
        return largest
    special: Value = Cat(Const(beyond, fmt.bits)[:-1], sign)
    if fmt.inf_code is None and fmt.special not in ("ieee", "fn"):
        special = Const(beyond, fmt.bits)  # the one NaN is a code of its own, not one of two signs
    if overflow == "infinite":
        return special
    if rounding in ("rtz", "rod"):
        return largest
    if rounding in ("rup", "rdn"):
        return Mux(sign, *((special, largest) if rounding == "rdn" else (largest, special)))
    return special
