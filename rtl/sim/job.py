"""What the bench is told and what it records: plain files in one folder, shared by both sides of the simulator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

JOB_VARIABLE = "HWSIM_BENCH_JOB"
"""Environment variable that names the folder."""
RESET, I_VALID, I_READY, O_VALID, O_READY = 1, 2, 4, 8, 16
"""Bits of a trace entry: the reset and both handshakes as they stood in a cycle."""
IDLE_CYCLES = 8
"""Cycles to watch after the last result, for results that should not be."""
_JOB, _ARRAYS, _RECORD = "job.json", "job.npz", "record.npz"


@dataclass(frozen=True)
class Pass:
    """One run through some of the beats, from reset.

    Attributes
    ----------
    first, end : int
        Beats to stream: from ``first`` up to, not including, ``end``.
    outputs : int
        Results to wait for after the last reset.
    max_cycles : int
        Cycles after which to give up.
    reset_cycle : int or None
        Cycle in which the reset is high.
    resume : int
        Beat with which the stream goes on after it.
    observe : tuple of str
        Output ports to read in the last cycle.
    """

    first: int
    end: int
    outputs: int
    max_cycles: int
    reset_cycle: int | None = None
    resume: int = 0
    observe: tuple[str, ...] = ()


@dataclass(frozen=True)
class Willing:
    """When the bench may begin to offer a beat, and when it is ready for a result: bool [any], repeated as needed."""

    offer: NDArray[np.bool_]
    take: NDArray[np.bool_]


ALWAYS = Willing(np.ones(1, np.bool_), np.ones(1, np.bool_))
"""No stalls."""


@dataclass(frozen=True)
class Record:
    """What happened in one pass.

    Attributes
    ----------
    trace : uint8 [cycles]
        Bits `RESET` to `O_READY`.
    payloads : uint8 [cycles with o.valid, bytes]
        The output's payload in each of those cycles, least significant byte first.
    observed : int64 [observed ports]
        Their values in the last cycle.
    """

    trace: NDArray[np.uint8]
    payloads: NDArray[np.uint8]
    observed: NDArray[np.int64]


def write_job(folder: Path, payloads: NDArray[np.uint8], passes: Sequence[tuple[Pass, Willing]]) -> None:
    """Write a job: packed payloads (uint8 [beats, bytes], least significant byte first) and the passes over them."""
    arrays: dict[str, Any] = {"payloads": payloads}
    for number, (_, willing) in enumerate(passes):
        arrays |= {f"offer_{number}": willing.offer, f"take_{number}": willing.take}
    np.savez(folder / _ARRAYS, **arrays)
    (folder / _JOB).write_text(json.dumps([asdict(plan) for plan, _ in passes]))


def read_job(folder: Path) -> tuple[NDArray[np.uint8], list[tuple[Pass, Willing]]]:
    """Read what `write_job` wrote."""
    plans = [Pass(**plan) for plan in json.loads((folder / _JOB).read_text())]
    with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
        willing = [Willing(arrays[f"offer_{number}"], arrays[f"take_{number}"]) for number in range(len(plans))]
        return arrays["payloads"], list(zip(plans, willing, strict=True))


def write_records(folder: Path, records: Sequence[Record]) -> None:
    """Write what happened in each pass."""
    arrays: dict[str, Any] = {}
    for number, record in enumerate(records):
        arrays |= {f"{field.name}_{number}": getattr(record, field.name) for field in fields(Record)}
    np.savez(folder / _RECORD, **arrays)


def read_records(folder: Path, passes: int) -> list[Record]:
    """Read what `write_records` wrote."""
    with np.load(folder / _RECORD, allow_pickle=False) as arrays:
        return [
            Record(**{field.name: arrays[f"{field.name}_{number}"] for field in fields(Record)})
            for number in range(passes)
        ]
