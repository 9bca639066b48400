"""The product of both scales of a block."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from amaranth.hdl import Cat, Const, Module, Value

from hwsim.formats import FloatSpec, IntSpec
from rtl.lib import special
from rtl.lib.dot_spans import signal_of
from rtl.lib.number_decoder import NumberDecoder, NumberFacts


def scale_products(
    m: Module, scales: Mapping[str, FloatSpec | IntSpec], beat: Mapping[str, Value], slots: int
) -> dict[str, Value]:
    """Return for each block of a beat the product of its scales as significand and exponent, and if one is NaN."""
    if not scales:
        return {}
    found: dict[str, Value] = {}
    for slot in range(slots):
        decoders = []
        for name, fmt in scales.items():
            m.submodules[f"{name}_decoder_{slot}"] = decoder = NumberDecoder(fmt)
            m.d.comb += decoder.code.eq(beat[name].word_select(slot, fmt.bits))
            decoders.append(decoder)
        facts = [decoder.facts for decoder in decoders]
        exponent = signal_of(exponent_span(facts), f"scale_exponent_{slot}")
        m.d.comb += exponent.eq(sum(decoder.exponent for decoder in decoders))
        found[f"scale_exponent_{slot}"] = exponent
        bound = prod(each.max_significand for each in facts)
        if bound > 1:  # powers of two have nothing but an exponent
            significand = signal_of((-bound, bound), f"scale_significand_{slot}")
            m.d.comb += significand.eq(prod((decoder.significand for decoder in decoders), start=Const(1)))
            found[f"scale_significand_{slot}"] = significand
        is_nan = special.union([Cat(decoder.is_nan | decoder.is_inf) for decoder in decoders])[0]
        found[f"scale_is_nan_{slot}"] = is_nan
    return found


def exponent_span(facts: list[NumberFacts]) -> tuple[int, int]:
    """Return the range of the sum of the decoders' exponents."""
    return sum(each.min_exponent for each in facts), sum(each.max_exponent for each in facts)
