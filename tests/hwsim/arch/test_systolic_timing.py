"""Cycles of the systolic array: a case worked by hand, the closed form against the recurrence, and what must hold."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.arch.systolic_timing import drain_cycles, os_cycles, os_cycles_stepwise, tile_beats

small = st.integers(1, 9)
SHAPES = {"m": small, "n": small, "k_beats": st.integers(1, 70), "rows": st.integers(1, 5), "cols": st.integers(1, 5),
          "buffer_beats": st.integers(1, 40), "latency": st.integers(1, 6)}  # fmt: skip


def test_two_by_two_by_hand() -> None:
    # beats 0-3 load in cycles 0-3 and are read in cycles 4-7; the far corner takes the last one in 8 + 1 + 1 = 10, has
    # its result in 10 + 3 = 13 and keeps it from 14 on; rows leave in 14 and 15: cycles 0 to 15
    assert os_cycles(m=2, n=2, k_beats=4, rows=2, cols=2, buffer_beats=8, latency=3) == 16
    # a second output tile streams from 16 on: its load is long done
    assert os_cycles(m=2, n=4, k_beats=4, rows=2, cols=2, buffer_beats=8, latency=3) == 16 + 12


def test_a_late_load_by_hand() -> None:
    # one unit, banks of 10 beats, K tiles of 10 and 1: loads in 0-9 and 10; streams in 10-19 and 20,
    # drained by 20 + 1 + 1 + 3 + 1 = 26; the next tile loads in 20-29 and only then streams: 30-39, 40, drained by 46
    assert os_cycles(m=1, n=1, k_beats=11, rows=1, cols=1, buffer_beats=10, latency=3) == 26
    assert os_cycles(m=1, n=2, k_beats=11, rows=1, cols=1, buffer_beats=10, latency=3) == 46


@given(**SHAPES)
def test_closed_form_is_the_recurrence(**shape: int) -> None:
    assert os_cycles(**shape) == os_cycles_stepwise(**shape)


@given(**SHAPES)
def test_more_work_never_takes_less_time(**shape: int) -> None:
    cycles = os_cycles(**shape)
    for name in ("m", "n", "k_beats", "latency"):
        assert os_cycles(**shape | {name: shape[name] + 1}) >= cycles
    tiles = -(-shape["m"] // shape["rows"]) * -(-shape["n"] // shape["cols"])
    drain = drain_cycles(shape["rows"], shape["cols"], shape["latency"])
    assert cycles >= tiles * (shape["k_beats"] + drain)


def test_tiles_cut_all_of_k() -> None:
    assert list(tile_beats(11, 4)) == [4, 4, 3]
    assert list(tile_beats(4, 4)) == [4]


def test_a_large_layer_is_instant() -> None:
    start = time.perf_counter()
    os_cycles(m=2048, n=49152, k_beats=576, rows=4, cols=4, buffer_beats=64, latency=5)
    assert time.perf_counter() - start < 1e-3


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_what_is_no_count_is_refused(name: str, value: object) -> None:
    shape = dict.fromkeys(SHAPES, 1) | {name: value}
    with pytest.raises(ValueError, match=f"{name} must be a positive integer"):
        os_cycles(**shape)
