"""Sum many integers exactly in a balanced tree."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Value


def adder_tree(terms: Sequence[Value]) -> Value:
    """Return the exact sum of ``terms`` as one combinational expression.

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
        pairs = [left + right for left, right in zip(level[::2], level[1::2], strict=False)]
        level = pairs + ([level[-1]] if len(level) % 2 else [])
    return level[0]
