"""Banks of small units that take the same beats at once: one compilation for many pairs of formats.

Compiling a unit takes seconds, running all pairs of codes through it milliseconds. In a bank units of one latency share
handshake, codes and constants; each takes as many of the low bits of a shared code as its own have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from hwsim.pe._dot import DotSpec
from rtl.pe import component
from rtl.sim.bulk import build, to_words
from rtl.sim.bulk_pairs import (
    _neutral,
    block_sum,
    count_through,
    extra_bits,
    product_bits,
    scale_widths,
    scaled_bits,
    sum_codes,
)
from rtl.sim.job import ALWAYS, Pass
from rtl.sim.payload import pack_words
from rtl.sim.stalls import patience_cycles

_WORD = 32


class Bank(wiring.Component):
    """Units side by side behind one handshake.

    Parameters
    ----------
    units : sequence of (unit, DotSpec)
        Components with streams of beats and of 32-bit results, all of one latency, whose every beat is a dot product.
    shared : mapping of str to (bits, count)
        Fields of the beat that all units share, for their first lanes; what a unit has besides holds zeros, scales of
        one, and ``last``.

    Ports
    -----
    i : In(stream.Signature(layout of `shared`))
    o : Out(stream.Signature(32 * units))
        The units' results, the first one's in the low bits.

    Hardware
    --------
    Ready and valid are those on which all units agree; a unit that parts from the others loses beats or results, and
    its bits are then wrong.
    """

    def __init__(
        self, units: Sequence[tuple[wiring.Component, DotSpec]], shared: Mapping[str, tuple[int, int]]
    ) -> None:
        self.units, self.shared = tuple(units), dict(shared)
        layout = data.StructLayout({name: data.ArrayLayout(unsigned(bits), n) for name, (bits, n) in shared.items()})
        super().__init__({"i": In(stream.Signature(layout)), "o": Out(stream.Signature(_WORD * len(units)))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        hardware: list[Any] = []
        for number, (unit, spec) in enumerate(self.units):
            m.submodules[f"unit_{number}"] = unit
            hardware.append(unit)
            for name, bits, count in spec.layout():
                field = Value.cast(hardware[-1].i.payload[name])
                if name in self.shared:
                    given = [self.i.payload[name][place][:bits] for place in range(self.shared[name][1])]
                    rest = [Const(_neutral(spec, name), bits)] * (count - len(given))
                    m.d.comb += field.eq(Cat(*given, *rest))
                else:
                    code = 1 if name == "last" else _neutral(spec, name)
                    m.d.comb += field.eq(Cat(*(Const(code, bits) for _ in range(count))))
            m.d.comb += [hardware[-1].i.valid.eq(self.i.valid), hardware[-1].o.ready.eq(self.o.ready)]
        m.d.comb += [
            self.i.ready.eq(Cat(*(unit.i.ready for unit in hardware)).all()),
            self.o.valid.eq(Cat(*(unit.o.valid for unit in hardware)).all()),
            self.o.payload.eq(Cat(*(Value.cast(unit.o.payload) for unit in hardware))),
        ]
        return m


@dataclass(frozen=True)
class BankResult:
    """Outcome of a bank.

    Attributes
    ----------
    vectors : tuple of int
        Results that a unit has given, in the order of the units; codes of fewer bits than the widest are met more than
        once and counted once.
    mismatches : tuple of int
        Wrong ones among all that it has given.
    cycle_mismatches : int
        Cycles in which the bank's handshake differed from the model's.
    first : str or None
        The first difference in words.
    """

    vectors: tuple[int, ...]
    mismatches: tuple[int, ...]
    cycle_mismatches: int
    first: str | None

    @property
    def ok(self) -> bool:
        """Whether there is no difference."""
        return not any(self.mismatches) and self.cycle_mismatches == 0


def check_pair_bank(unit_name: str, params: Sequence[Any], hardware: Callable[[Any], Any] | None = None) -> BankResult:
    """Multiply every code of A with every code of B in the first lane of units, in all of them at once.

    Parameters
    ----------
    unit_name : str
        A unit of :mod:`rtl.pe`.
    params : sequence of Params of that unit
        Every beat a dot product; equal latencies.
    hardware : callable, optional
        Builds a unit from its Params; None: that of the name.

    What is expected: see :func:`rtl.sim.bulk_pairs.product_bits`.

    Raises
    ------
    ValueError
        If the units do not go together.
    """
    specs = [each.datapath for each in params]
    widths: dict[str, int] = {}
    for spec in specs:
        for name, bits in {"a": spec.a_bits, "b": spec.b_bits, **extra_bits(spec)}.items():
            widths[name] = max(widths.get(name, 0), bits)
    codes = count_through(widths)
    expected = []
    for spec in specs:
        own = {"a": spec.a_bits, "b": spec.b_bits, **extra_bits(spec)}
        expected.append(product_bits(spec, {name: codes[name] & ((1 << bits) - 1) for name, bits in own.items()}))
    beats = {name: values[:, None] for name, values in codes.items()}
    counts = tuple(1 << (spec.a_bits + spec.b_bits + sum(extra_bits(spec).values())) for spec in specs)
    return _check(
        unit_name, params, hardware, {name: (bits, 1) for name, bits in widths.items()}, beats, expected, counts
    )


def check_scale_bank(unit_name: str, params: Sequence[Any], hardware: Callable[[Any], Any] | None = None) -> BankResult:
    """Put every pair of scale codes over a few block sums, in units of one block a beat and equal elements, at once.

    Parameters and errors as of `check_pair_bank`, but for the lanes; what is expected: see
    :func:`rtl.sim.bulk_pairs.scaled_bits`.
    """
    specs = [each.datapath for each in params]
    first = specs[0]
    if len({(spec.a_element, spec.b_element, spec.lanes, tuple(scale_widths(spec).items())) for spec in specs}) > 1:
        raise ValueError("a bank for scales takes units of equal elements, lanes and widths of scales")
    widths = scale_widths(first)
    codes = count_through(widths)
    count = len(next(iter(codes.values())))
    a_rows, b_rows = sum_codes(first)
    beats = {name: np.tile(values, len(a_rows))[:, None] for name, values in codes.items()}
    beats |= {name: np.repeat(np.array(rows), count, axis=0) for name, rows in (("a", a_rows), ("b", b_rows))}
    expected = [
        np.concatenate([scaled_bits(spec, block_sum(spec, a, b), codes) for a, b in zip(a_rows, b_rows, strict=True)])
        for spec in specs
    ]
    shared = {"a": (first.a_bits, first.lanes), "b": (first.b_bits, first.lanes)}
    shared |= {name: (bits, 1) for name, bits in widths.items()}
    return _check(unit_name, params, hardware, shared, beats, expected, (len(expected[0]),) * len(specs))


def _check(
    unit_name: str,
    params: Sequence[Any],
    hardware: Callable[[Any], Any] | None,
    shared: dict[str, tuple[int, int]],
    beats: Mapping[str, NDArray[np.integer]],
    expected: Sequence[NDArray[np.uint32]],
    counts: tuple[int, ...],
) -> BankResult:
    specs = [each.datapath for each in params]
    latency = specs[0].latency
    wrong = [spec for spec in specs if spec.step_beats != 1 or spec.latency != latency or spec.flags]
    if wrong:
        raise ValueError(
            f"a bank takes units of one latency without flags whose every beat is a dot product: {wrong[0]}"
        )
    make = hardware or component(unit_name)
    bank: Any = Bank([(make(each), each.datapath) for each in params], shared)
    simulator = build(bank)
    words = pack_words({name: beats[name] for name in shared}, bank.i.payload.shape())
    count = len(words)
    plan = Pass(first=0, end=count, outputs=count, max_cycles=patience_cycles(count))
    wanted = np.stack(expected, axis=1)
    checked = simulator.check(words, plan, ALWAYS, np.arange(count), to_words(wanted, len(specs)), latency).verdict
    if checked.first is None:
        return BankResult(counts, (0,) * len(specs), 0, None)
    record = simulator.run(words, plan)
    found = np.ascontiguousarray(record.payloads).view(np.uint32).reshape(-1, len(specs))
    missing = count - len(found)
    differs = found[:count] != wanted[: len(found)]
    mismatches = tuple(int(number) + missing for number in differs.sum(axis=0))
    text = str(checked.first)
    if differs.any():
        row, unit = (int(index) for index in np.argwhere(differs)[0])
        operands = ", ".join(f"{name} {' '.join(f'{code:#x}' for code in beats[name][row])}" for name in shared)
        text = f"{params[unit]}: {operands}: expected {wanted[row, unit]:#010x}, found {found[row, unit]:#010x}"
    return BankResult(counts, mismatches, checked.cycle_mismatches, text)
