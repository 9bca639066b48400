"""Bit columns of weights, half of the lanes added: the hardware of :mod:`hwsim.pe.bitvert`."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Shape, Signal, Value, signed

from hwsim.formats.families.binary_pruned import CONSTANT_BITS
from hwsim.pe.bitvert import BitvertSpec, Params
from rtl.lib.adder_tree import Tree
from rtl.lib.block_dot import BlockDot
from rtl.lib.lowest_one import lowest_one
from rtl.lib.serial_dot import ElasticSerialDot, SerialDot, SerialSteps
from rtl.lib.shapes import shape_of

_DIGIT_BITS = CONSTANT_BITS // 2
"""Bits of the constant that are multiplied a step."""


class BitvertSteps(SerialSteps):
    """One bit column a step, the highest first: its sum, at the column's place; beside it the constant's part.

    Attributes
    ----------
    shift : Signal
        Place of the lowest column of the beat; 0 where nothing is pruned.
    constant : Signal
        What each weight of the beat has beside its columns.
    """

    def __init__(self, spec: BitvertSpec) -> None:
        super().__init__(spec)
        self.shift = Signal(range(spec.pruned + 1))
        self.constant = Signal(signed(CONSTANT_BITS))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self.spec
        assert isinstance(spec, BitvertSpec)
        columns = spec.b_bits
        step, running = self.counter(m, columns), self.running(m)
        bits = []
        for lane, new in enumerate(self.side("new_b")):
            # columns move up, a step each, so that the one in turn is always the highest
            left = Signal(columns, name=f"left_{lane}")
            with m.If(self.en):
                m.d.sync += left.eq(Mux(self.load, new, left << 1))
            bits.append(left[-1])

        activations, sums, partial = self.side("a"), [], []
        for first in range(0, spec.lanes, spec.sub_group):
            group = slice(first, first + spec.sub_group)
            everything = self._tree(m, f"all_{first}", activations[group], len(bits[group]))
            sums.append(everything)
            partial.append(self._sub_group(m, first, bits[group], activations[group], everything))
        column = self._tree(m, "column", partial, spec.lanes)
        negative = (step == 0) & (min(spec.b_ints) < 0)  # the highest column of two's complement
        place = Signal(range(columns + spec.pruned))
        m.d.comb += place.eq(columns - 1 - step + self.shift)
        added = Signal(self.sum_shape)
        m.d.comb += [
            added.eq(running + (Mux(negative, -column, column) << place)),
            self.total.eq(added + self._of_constant(m, step, sums) if spec.pruned else added),
        ]
        return m

    def _tree(self, m: Module, name: str, terms: list[Value], lanes: int) -> Signal:
        """Return the sum of what is at most one activation a lane."""
        low, high = min(self.spec.a_ints), max(self.spec.a_ints)
        return Tree(m, self.spec.adder_tree, shape_of(lanes * low, lanes * high), name).total(terms)

    def _sub_group(
        self, m: Module, first: int, bits: list[Value], activations: list[Value], everything: Value
    ) -> Value:
        """Return the sum of the activations at the ones among a column's bits, at most half of them added."""
        half = len(bits) // 2
        ones, inverted = Signal(range(len(bits) + 1), name=f"ones_{first}"), Signal(name=f"inverted_{first}")
        m.d.comb += [ones.eq(sum(bits)), inverted.eq(ones > half)]
        left = Signal(len(bits), name=f"sparse_{first}")
        m.d.comb += left.eq(Mux(inverted, ~Cat(bits), Cat(bits)))
        chosen = []
        for index in range(half):
            # with at most half of the bits set, the i-th one lies no higher than i places from where half begins
            reach = slice(index, index + len(bits) - half + 1)
            found = lowest_one(m, left[reach], f"found_{first}_{index}")
            terms = [Mux(bit, a, 0) for bit, a in zip(found, activations[reach], strict=True)]
            word = Signal(self.a_shape, name=f"chosen_{first}_{index}")
            m.d.comb += word.eq(reduce(or_, terms))
            chosen.append(word)
            taken, after = (Signal(len(bits), name=f"{name}_{first}_{index}") for name in ("taken", "after"))
            m.d.comb += [taken.eq(found << index), after.eq(left & ~taken)]
            left = after
        some = self._tree(m, f"some_{first}", chosen, len(bits)) if chosen else Value.cast(0)
        result = Signal(Shape.cast(everything.shape()), name=f"of_ones_{first}")
        m.d.comb += result.eq(Mux(inverted, everything - some, some))
        return result

    def _of_constant(self, m: Module, step: Signal, sums: list[Value]) -> Value:
        """Return the constant's part: its lower digit times the sum of all in the first step, its upper in the next."""
        everything = self._tree(m, "all", sums, self.spec.lanes)
        digit, product = Signal(signed(_DIGIT_BITS + 1)), Signal(self.sum_shape, name="of_digit")
        low, high = self.constant[:_DIGIT_BITS], self.constant[_DIGIT_BITS:].as_signed()
        m.d.comb += [
            digit.eq(Mux(step == 0, low, Mux(step == 1, high, 0))),
            product.eq(digit * everything),
        ]
        return Mux(step == 1, product << _DIGIT_BITS, product)


class BitvertDot(SerialDot):
    """`SerialDot` whose steps take the numbers of the beat's group too."""

    def _front(self, m: Module) -> dict[str, Value]:
        found = super()._front(m)
        steps, spec = m.submodules.steps, self.spec
        assert isinstance(steps, BitvertSteps) and isinstance(spec, BitvertSpec)
        if spec.pruned:
            m.d.comb += [
                steps.shift.eq(spec.pruned - found.pop("b_redundant")),
                steps.constant.eq(found.pop("b_constant")),
            ]
        return found


class Bitvert(ElasticSerialDot):
    """Bit columns of weights, at most half of the activations of a sub-group added.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and `rtl.lib.serial_dot`. A beat with more
    redundant columns than pruned ones is no code of the format, and its sum has no meaning.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, BitvertSteps)

    def core(self) -> BlockDot:
        """Return what is wrapped."""
        return BitvertDot(self.serial, BitvertSteps)


COMPONENT = Bitvert
