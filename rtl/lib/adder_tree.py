"""Sum many integers exactly in a balanced tree."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value

from hwsim.pe._dot import AdderTree


def adder_tree(terms: Sequence[Value]) -> Value:
    """Return the exact sum of ``terms`` as one combinational expression, two added at a time.

    Parameters
    ----------
    terms : sequence of Value
        One or more values, signed or unsigned, of any widths.

    Returns
    -------
    Value
        The sum. Each of the ``ceil(log2(n))`` levels widens by one bit, so no level can overflow; assign the result to
        a signal whose range bounds the sum to drop the bits that can never be used.

    Raises
    ------
    ValueError
        If there is no term.
    """
    if not terms:
        raise ValueError("adder_tree needs at least one term, not none")
    level = [Value.cast(term) for term in terms]
    while len(level) > 1:
        level = _halved(level)
    return level[0]


def levels(kind: AdderTree, count: int) -> int:
    """Return the levels of a `Tree` of so many terms."""
    found = 0
    while count > 1:
        pairs = kind == "binary" or count == 2
        count = -(-count // 2) if pairs else count - count // 3
        found += 1
    return found


class Tree:
    """Sum integers level by level, so that a level may end in registers; adds its signals to ``m``.

    Parameters
    ----------
    m : Module
        Module that receives the combinational logic.
    kind : {"binary", "carry_save"}
        ``binary``: a level adds neighbours, each addition with its carry chain. ``carry_save``: a level turns every
        three rows into two of the same sum, the bits of their sum and those of their carry (a full adder a bit, no
        chain); the last level adds the two rows that are left, in the one carry chain of the tree.
    shape : Shape
        Of the sum, which it must hold. Rows of a carry-save tree have its width: their sum is right modulo a power of
        two, and so is exact.
    name : str
        Prefix of the signals' names.
    """

    def __init__(self, m: Module, kind: AdderTree, shape: Shape, name: str) -> None:
        self.m, self.kind, self.shape, self.name = m, kind, shape, name

    def reduced(self, terms: Sequence[Value], count: int) -> list[Value]:
        """Return what is left of the terms after so many levels, or the sum alone where they are fewer."""
        rows = [Value.cast(term) for term in terms]
        for level in range(count):
            if len(rows) == 1:
                break
            binary = self.kind == "binary" or len(rows) == 2
            rows = _halved(rows) if binary else self._saved(rows, f"{self.name}_{len(rows)}_{level}")
        return rows

    def total(self, terms: Sequence[Value]) -> Signal:
        """Return the sum of what `reduced` left, or of terms that it has not seen."""
        (row,) = self.reduced(terms, levels(self.kind, len(terms)))
        total = Signal(self.shape, name=self.name)
        self.m.d.comb += total.eq(row)
        return total

    def _saved(self, rows: list[Value], name: str) -> list[Value]:
        """Return two rows for every three; what is over goes on as it is."""
        found: list[Value] = []
        for index in range(0, len(rows) - 2, 3):
            x, y, z = (self._row(row, f"{name}_{index + place}") for place, row in enumerate(rows[index : index + 3]))
            carries = (x & y) | (z & (x ^ y))
            found += [x ^ y ^ z, Cat(Const(0, 1), carries[:-1]).as_signed()]
        return found + rows[len(rows) - len(rows) % 3 :]

    def _row(self, row: Value, name: str) -> Value:
        """Return a row in the width of the sum, by a name: it is used more than once."""
        wide = Signal(Shape(self.shape.width, signed=True), name=name)
        self.m.d.comb += wide.eq(row)
        return wide


def _halved(level: list[Value]) -> list[Value]:
    """Return the sums of neighbours."""
    pairs = [left + right for left, right in zip(level[::2], level[1::2], strict=False)]
    return pairs + ([level[-1]] if len(level) % 2 else [])
