"""The judge on records made by hand: it must find what a broken unit would do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtl.sim.job import I_READY, I_VALID, O_READY, O_VALID, RESET, Pass, Record
from rtl.sim.judge import judge

TAKE, GO, RESULT, READY = I_VALID | I_READY, I_READY, O_VALID, O_READY
LATENCY, ENDS, EXPECTED = 2, [0, 1], [0x3F800000, 0x40000000]
PLAN = Pass(first=0, end=2, outputs=2, max_cycles=20)
# two dot products of one beat; the second result waits a cycle, and the input with it
GOOD = [TAKE | READY, TAKE | READY, GO | RESULT | READY, RESULT, GO | RESULT | READY, GO | READY]
WORDS = [EXPECTED[0], EXPECTED[1], EXPECTED[1]]


def record(trace: list[int], words: list[int]) -> Record:
    return Record(np.array(trace, np.uint8), np.array(words, "<u4")[:, None].view(np.uint8), np.zeros(0, np.int64))


def test_a_good_record_passes() -> None:
    verdict = judge(record(GOOD, WORDS), PLAN, ENDS, EXPECTED, LATENCY)
    assert (verdict.vectors, verdict.mismatches, verdict.cycle_mismatches, verdict.first) == (2, 0, 0, None)
    assert verdict.cycles == 5


@pytest.mark.parametrize(
    ("trace", "words", "mismatches", "cycle_mismatches", "what"),
    [
        (GOOD, [EXPECTED[0], EXPECTED[1], 0], 1, 0, "bits"),
        (GOOD, [EXPECTED[0], 0, EXPECTED[1]], 1, 0, "bits"),  # wrong only while it waits
        ([*GOOD[:3], RESULT | GO, *GOOD[4:]], WORDS, 0, 1, "i_ready"),
        ([*GOOD[:4], GO | READY, GO | RESULT | READY], WORDS, 0, 2, "o_valid"),  # late by a cycle
        (GOOD[:3], WORDS[:1], 1, 0, "missing"),
        ([*GOOD[:5], GO | RESULT | READY], [*WORDS, 0], 0, 1, "o_valid"),  # one too many
    ],
    ids=["bits", "unstable", "ready", "late", "missing", "surplus"],
)
def test_a_fault_is_found(
    trace: list[int], words: list[int], mismatches: int, cycle_mismatches: int, what: str
) -> None:
    verdict = judge(record(trace, words), PLAN, ENDS, EXPECTED, LATENCY)
    assert verdict.first is not None
    assert verdict.first.what == what
    assert verdict.cycle_mismatches == cycle_mismatches
    assert verdict.mismatches >= mismatches


def test_a_reset_drops_what_is_under_way_and_the_stream_resumes() -> None:
    plan = replace(PLAN, reset_cycle=1, resume=1)
    trace = [TAKE | READY, GO | RESET, TAKE | READY, GO | READY, GO | RESULT | READY]
    assert judge(record(trace, EXPECTED[1:]), plan, ENDS, EXPECTED, LATENCY).first is None
    # a unit that forgets to clear its pipeline still delivers the first result
    kept = [TAKE | READY, GO | RESET, TAKE | RESULT | READY, GO | READY, GO | RESULT | READY]
    assert judge(record(kept, EXPECTED), plan, ENDS, EXPECTED, LATENCY).first.what == "o_valid"
