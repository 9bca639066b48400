"""The handshake against traces written by hand, and its invariants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.pe.timing import StallPipe, unstalled_cycles


def run(latency: int, trace: str) -> str:
    """Step through columns of ``valid last ready`` and return columns of ``in_ready out_valid``, as text."""
    pipe = StallPipe(latency)
    rows = [pipe.step(*(bit == "1" for bit in cycle)) for cycle in trace.split()]
    return " ".join(f"{int(ready)}{int(valid)}" for ready, valid in rows)


def test_a_result_comes_latency_cycles_after_its_last_beat() -> None:
    #                 beat last .   .   .
    assert run(3, "101 111 001 001 001 001") == "10 10 10 10 11 10"


def test_nothing_moves_while_a_result_waits() -> None:
    # Two results in a row; the consumer takes the first in cycle 4 and the second in cycle 5.
    assert run(2, "111 111 000 000 001 001 001") == "10 10 01 01 11 11 10"


def test_beats_offered_while_stalled_are_not_taken() -> None:
    # The last beat of cycle 1 meets in_ready 0 until the result of cycle 0 is taken in cycle 2.
    assert run(1, "111 110 111 001 001") == "10 01 11 11 10"


def test_a_consumer_that_waits_does_not_stall_an_empty_pipe() -> None:
    assert run(3, "110 000 000 000 001 001") == "10 10 10 01 11 10"


def test_beats_that_are_not_last_give_no_result() -> None:
    assert run(2, "101 101 011 001 001") == "10 10 10 10 10"


def test_a_beat_of_several_cycles_holds_the_next_one_back_and_its_own_result() -> None:
    pipe = StallPipe(2)
    offers = [(True, True, True, 3), (True, False, True, 2), (True, False, True, 2), (True, False, True, 2)]
    found = [pipe.step(*offer) for offer in [*offers, (False, False, False, 1), (False, False, True, 1)]]
    # taken in cycle 0 for three cycles; the next one in cycle 3; the result stands in cycle 0 + (3 - 1) + 2
    assert [ready for ready, _ in found] == [True, False, False, True, False, False]
    assert [valid for _, valid in found] == [False, False, False, False, True, True]


def test_a_waiting_result_stops_the_work_on_a_beat() -> None:
    pipe = StallPipe(1)
    assert pipe.step(True, True, True, 1) == (True, False)
    assert pipe.step(True, True, False, 3) == (False, True)  # not taken: nothing moves
    assert pipe.step(True, True, True, 3) == (True, True)
    assert [pipe.step(False, False, True)[1] for _ in range(3)] == [False, False, True]


def test_reset_frees_the_front() -> None:
    pipe = StallPipe(1)
    pipe.step(True, True, True, 9)
    pipe.reset()
    assert [pipe.step(False, False, True) for _ in range(10)] == [(True, False)] * 10


def test_reset_empties_the_pipe() -> None:
    pipe = StallPipe(2)
    pipe.step(True, True, True)
    pipe.reset()
    assert [pipe.step(False, False, True) for _ in range(3)] == [(True, False)] * 3


@pytest.mark.parametrize("latency", [0, -1])
def test_latency_below_one_is_refused(latency: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 cycle, not {latency}"):
        StallPipe(latency)


@given(st.integers(1, 6), st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=60))
def test_every_accepted_last_beat_gives_one_result_in_order(latency: int, trace: list[tuple[bool, bool, bool]]) -> None:
    pipe = StallPipe(latency)
    accepted, taken = [], []
    moves = 0  # cycles in which the pipe moved
    for valid, last, ready in [*trace, *[(False, False, True)] * (latency + 1)]:
        enable, out_valid = pipe.step(valid, last, ready)
        assert enable == (not out_valid or ready)
        if out_valid and ready:
            taken.append(moves)
        if enable:
            if valid and last:
                accepted.append(moves)
            moves += 1
    assert [t - latency for t in taken] == accepted


@given(st.lists(st.integers(1, 5), max_size=6), st.integers(1, 6))
def test_unstalled_cycles_are_those_of_the_stepped_pipe(beats: list[int], latency: int) -> None:
    pipe, cycles, results = StallPipe(latency), 0, 0
    stream = [position == count - 1 for count in beats for position in range(count)]
    while results < len(beats):
        beat = cycles < len(stream)
        results += pipe.step(beat, beat and stream[cycles], True)[1]
        cycles += 1
    assert unstalled_cycles(beats, latency) == cycles


def test_unstalled_cycles_by_hand() -> None:
    assert [unstalled_cycles(beats, 4) for beats in ([1], [2], [3, 2], [], [0])] == [5, 6, 9, 0, 0]


def test_a_burst_of_results_follows_without_a_gap() -> None:
    pipe = StallPipe(2, 3)
    steps = [(True, True, True), *[(False, False, True)] * 5]
    assert [pipe.step(*step)[1] for step in steps] == [False, False, True, True, True, False]
    assert unstalled_cycles([3, 3], 2, 3) == 10
    with pytest.raises(ValueError, match="at least 1 result, not 0"):
        StallPipe(2, 0)


def test_a_stall_holds_the_rest_of_a_burst() -> None:
    pipe = StallPipe(1, 2)
    ready = [True, True, False, False, True, True]
    trace = [pipe.step(cycle == 0, cycle == 0, take) for cycle, take in enumerate(ready)]
    assert trace == [(True, False), (True, True), (False, True), (False, True), (True, True), (True, False)]
