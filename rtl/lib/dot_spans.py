"""The integers of a datapath by their smallest and largest value."""

from __future__ import annotations

from amaranth.hdl import Signal

from hwsim.pe._dot import MAX_BEATS, DotSpec
from rtl.lib.shapes import shape_of


class DotSpans:
    """Smallest and largest value of each integer in the datapath, from which its width follows.

    Element tables bound a product; lanes and the beats of a block (`MAX_BEATS` where it has no fixed length) bound its
    sums. So no integer ever wraps.
    """

    def __init__(self, spec: DotSpec) -> None:
        a = (min(spec.a_ints), max(spec.a_ints))
        b = (min(spec.b_ints), max(spec.b_ints))
        zero = (1 << spec.zero_bits) - 1  # the largest zero point; 0 where there is none
        beats, lanes = spec.block_beats or MAX_BEATS, spec.lanes // spec.beat_blocks
        self.product = _times(a, b)
        self.sub_sum = _repeat(self.product, spec.sub_block)  # of the lanes that share a shift
        self.beat_sum = _repeat(self.product, lanes << 2 * spec.max_shift)
        self.beat_a_sum = _repeat(a, lanes)
        self.block_sum = _repeat(self.beat_sum, beats)
        self.block_a_sum = _repeat(self.beat_a_sum, beats)
        # sum(a * b) - zero * sum(a) is sum(a * (b - zero)), term by term
        self.corrected = _repeat(_times(a, (b[0] - zero, b[1])), lanes * beats << 2 * spec.max_shift)
        if spec.acc_bits:  # doubled and bounded by the model, which refuses what would wrap
            top = (1 << (spec.acc_bits - 1)) - 1
            self.block_sum = self.corrected = (-top, top)
        assert max(map(abs, self.beat_sum)).bit_length() < spec.beat_sum_bits
        assert max(map(abs, self.corrected)).bit_length() < spec.block_sum_bits


def _times(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    corners = [x * y for x in left for y in right]
    return min(corners), max(corners)


def _repeat(span: tuple[int, int], terms: int) -> tuple[int, int]:
    return span[0] * terms, span[1] * terms


def signal_of(span: tuple[int, int], name: str) -> Signal:
    """Return a signal for the values of ``span`` and for 0, which registers hold after reset."""
    return Signal(shape_of(*span), name=name)
