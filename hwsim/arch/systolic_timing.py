"""Cycles of the output-stationary systolic array, as its RTL counts them.

The array computes C[M, N] in output tiles of ``rows`` x ``cols``. K is cut into beats (one step of every unit), these
into K tiles of at most ``buffer_beats``. Two banks of operand buffers let the next tile load while one streams. Cycle 0
takes the first input beat; input never waits on its source and output never on its sink. For the tiles t = 0, 1, ... of
L(t) beats, in order, over all output tiles:

    load_start(t)   = max(load_end(t-1), stream_end(t-2))       one beat a cycle, when the bank is free
    load_end(t)     = load_start(t) + L(t)
    stream_start(t) = max(load_end(t), stream_end(t-1), drained of the previous output tile)
    stream_end(t)   = stream_start(t) + L(t)                    one beat a cycle into the array's edge
    drained         = stream_end + (rows - 1) + (cols - 1) + 1 + latency + rows

``drained`` is for the last K tile of an output tile: skew to the far corner, one cycle to read the buffer, the unit's
latency, then one row of results a cycle. It and every ``_end`` name the first cycle after the event; terms of tiles
that do not exist are 0. The array's count is ``drained`` of the last output tile.
"""

from __future__ import annotations

from collections.abc import Iterator


def tile_beats(k_beats: int, buffer_beats: int) -> Iterator[int]:
    """Yield the beats of each K tile of one output tile: full buffers, then what is left."""
    for start in range(0, k_beats, buffer_beats):
        yield min(buffer_beats, k_beats - start)


def drain_cycles(rows: int, cols: int, latency: int) -> int:
    """Return the cycles from an output tile's last beat in the edge buffers (not counted) to its last row taken."""
    return (rows - 1) + (cols - 1) + 1 + latency + rows


def os_cycles_stepwise(m: int, n: int, k_beats: int, rows: int, cols: int, buffer_beats: int, latency: int) -> int:
    """Return the cycles of a GEMM by the recurrence of this module, tile by tile: slow, and plainly the rule.

    Parameters, Raises: see `os_cycles`.
    """
    _check(m=m, n=n, k_beats=k_beats, rows=rows, cols=cols, buffer_beats=buffer_beats, latency=latency)
    load_end = stream_end = stream_end_before = drained = 0
    for _ in range(-(-m // rows) * -(-n // cols)):
        for beats in tile_beats(k_beats, buffer_beats):
            load_end = max(load_end, stream_end_before) + beats
            stream_start = max(load_end, stream_end, drained)
            stream_end_before, stream_end = stream_end, stream_start + beats
        drained = stream_end + drain_cycles(rows, cols, latency)
    return drained


def os_cycles(m: int, n: int, k_beats: int, rows: int, cols: int, buffer_beats: int, latency: int) -> int:
    """Return the cycles of a GEMM on the output-stationary array, from the first input beat to the last row of results.

    Parameters
    ----------
    m, n : int
        Rows of A and of B (columns of the result); any positive number, tiles at the edge are run as full ones.
    k_beats : int
        Beats of one dot product.
    rows, cols : int
        Units in the array.
    buffer_beats : int
        Depth of one bank of the operand buffers.
    latency : int
        Of the unit, in cycles.

    Raises
    ------
    ValueError
        If an argument is not a positive integer.

    Exactness
    ---------
    Equal to `os_cycles_stepwise` and to the counter in the RTL, for every shape. Within an output tile K tiles never
    grow, so that loading one beat a cycle into the free bank is always done in time. Only its first K tile can wait: on
    the drain before it or, when the K tile before was so short that its bank came free late, on its own load. All
    output tiles after the first thus take the same time.

    Examples
    --------
    >>> os_cycles(m=2, n=2, k_beats=4, rows=2, cols=2, buffer_beats=8, latency=3)
    16
    """
    _check(m=m, n=n, k_beats=k_beats, rows=rows, cols=cols, buffer_beats=buffer_beats, latency=latency)
    output_tiles = -(-m // rows) * -(-n // cols)
    drain = drain_cycles(rows, cols, latency)
    first_load = min(k_beats, buffer_beats)
    last_tile = k_beats - (-(-k_beats // buffer_beats) - 1) * buffer_beats
    pause = drain if k_beats <= buffer_beats else max(drain, buffer_beats - last_tile)
    return first_load + (output_tiles - 1) * (k_beats + pause) + k_beats + drain


def _check(**arguments: int) -> None:
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive integer, not {value!r}")
