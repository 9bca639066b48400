"""Drive one unit inside the simulator and record what it does; nothing here judges.

The simulator imports this module; :mod:`rtl.sim.job` says what it is told and what it leaves.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from rtl.sim.job import IDLE_CYCLES, JOB_VARIABLE, Pass, Record, Willing, read_job, write_records

_PERIOD_STEPS = 10


@cocotb.test()
async def bench(dut: Any) -> None:
    """Run every pass of the job, each from reset."""
    folder = Path(os.environ[JOB_VARIABLE])
    payloads, passes = read_job(folder)
    beats = [int.from_bytes(row.tobytes(), "little") for row in payloads]
    Clock(dut.clk, _PERIOD_STEPS, "step", impl="gpi").start(start_high=False)
    records = []
    for plan, willing in passes:
        await _reset(dut)
        records.append(await _run(dut, plan, willing, beats))
    write_records(folder, records)


async def _reset(dut: Any) -> None:
    """Leave the unit as after power-up, with no input offered."""
    dut.rst.value = 1
    dut.i__valid.value = 0
    dut.i__payload.value = 0
    dut.o__ready.value = 0
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    dut.rst.value = 0


async def _run(dut: Any, plan: Pass, willing: Willing, beats: list[int]) -> Record:
    """Stream one pass.

    A cycle lies between two rising edges. Inputs change just after the first one; all signals are read at the second
    one, before the registers change. Only inputs that change are written: each write costs a microsecond or more.
    """
    edge = RisingEdge(dut.clk)
    offer, take = willing.offer.tolist(), willing.take.tolist()
    i_ready, o_valid, o_payload = dut.i__ready, dut.o__valid, dut.o__payload
    trace: list[int] = []
    payloads: list[int] = []
    position, outputs, idle = plan.first, 0, 0
    handles = {name: getattr(dut, name) for name in ("rst", "i__valid", "i__payload", "o__ready")}
    offered, driven = False, dict.fromkeys(handles, 0)

    for cycle in range(plan.max_cycles):
        reset = cycle == plan.reset_cycle
        if reset:
            position, offered, outputs = plan.resume, False, 0
        offered = not reset and (offered or (position < plan.end and offer[cycle % len(offer)]))
        ready = not reset and take[cycle % len(take)]
        inputs = {"rst": int(reset), "i__valid": int(offered), "o__ready": int(ready)}
        if offered:
            inputs["i__payload"] = beats[position]
        for name, value in inputs.items():
            if value != driven[name]:
                handles[name].value = driven[name] = value
        await edge
        accepts, valid = int(i_ready.value), int(o_valid.value)
        trace.append(reset | offered << 1 | accepts << 2 | valid << 3 | ready << 4)
        if valid:
            payloads.append(int(o_payload.value))
            outputs += ready
        if offered and accepts:
            position, offered = position + 1, False
        idle = idle + 1 if outputs >= plan.outputs and position == plan.end else 0
        if idle > IDLE_CYCLES and cycle > (plan.reset_cycle or 0):
            break
    width = -(-len(o_payload) // 8)
    packed = b"".join(word.to_bytes(width, "little") for word in payloads)
    return Record(
        trace=np.array(trace, np.uint8),
        payloads=np.frombuffer(packed, np.uint8).reshape(-1, width),
        observed=np.array([int(getattr(dut, name).value) for name in plan.observe], np.int64),
    )
