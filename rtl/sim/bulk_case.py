"""A test case small enough to read: a few dot products, the pass over them, and the bits that should come out.

Cases are JSON files. The bulk engine writes one when hardware and model differ; `replay` runs it in any engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib import wiring
from numpy.typing import NDArray

from hwsim import pe
from rtl.pe import component
from rtl.sim.bulk import BulkSimulator, build, to_words
from rtl.sim.job import Pass, Willing
from rtl.sim.judge import Verdict, judge
from rtl.sim.payload import Beats, join_beats, pack_beats, pack_words
from rtl.sim.simulators import BULK, find_simulator
from rtl.sim.testbench import Testbench
from rtl.sim.verilog import write_verilog

_VERSION = 1


@dataclass(frozen=True)
class Case:
    """Dot products for a unit, and one pass over them.

    Attributes
    ----------
    unit : str
        A unit of :mod:`hwsim.pe`.
    params : dict
        Fields of its Params.
    dots : tuple of beats
        Fields of the beats of each dot product.
    expected : tuple of int
        Bits of every result, as many a dot product as the unit gives.
    plan, willing
        The pass.
    """

    unit: str
    params: Mapping[str, Any]
    dots: tuple[Beats, ...]
    expected: tuple[int, ...]
    plan: Pass
    willing: Willing

    @property
    def ends(self) -> list[int]:
        """Number of the last beat of each dot product."""
        return [int(end) for end in np.cumsum([len(dot["last"]) for dot in self.dots]) - 1]


def write_case(case: Case, path: Path) -> None:
    """Write a case as JSON."""
    document = {
        "version": _VERSION,
        "unit": case.unit,
        "params": dict(case.params),
        "dots": [{name: np.asarray(values).tolist() for name, values in dot.items()} for dot in case.dots],
        "expected": [f"{bits:#010x}" for bits in case.expected],
        "pass": asdict(case.plan),
        "offer": _digits(case.willing.offer),
        "take": _digits(case.willing.take),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def read_case(path: Path) -> Case:
    """Read what `write_case` wrote.

    Raises
    ------
    ValueError
        If the file is no such case.
    """
    try:
        document = json.loads(path.read_text())
        if document["version"] != _VERSION:
            raise ValueError(f"version {document['version']!r} is not {_VERSION}")
        plan = document["pass"]
        return Case(
            unit=document["unit"],
            params=document["params"],
            dots=tuple({name: np.array(values) for name, values in dot.items()} for dot in document["dots"]),
            expected=tuple(int(bits, 16) for bits in document["expected"]),
            plan=Pass(**{**plan, "observe": tuple(plan["observe"])}),
            willing=Willing(_pattern(document["offer"]), _pattern(document["take"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no test case of a unit: {type(error).__name__}: {error}") from error


def _digits(willing: NDArray[np.bool_]) -> str:
    return "".join("1" if cycle else "0" for cycle in willing)


def _pattern(digits: str) -> NDArray[np.bool_]:
    if not digits or set(digits) - {"0", "1"}:
        raise ValueError(f"a pattern of willing cycles is a text of 0 and 1, not {digits[:20]!r}")
    return np.array([digit == "1" for digit in digits])


def replay(case: Case, engine: str = "auto", *, hardware: wiring.Component | None = None) -> Verdict:
    """Run a case and judge it.

    Parameters
    ----------
    engine : str
        As for :func:`rtl.sim.run.cosim`.
    hardware : wiring.Component or None
        The unit in hardware; None builds the one of that name.

    Raises
    ------
    ValueError
        If the case does not fit the unit.
    SimulatorError
        If there is no such simulator, or it fails.
    """
    params = pe.unit(case.unit).Params(**case.params)
    hardware = hardware or component(case.unit)(params)
    if engine == BULK:
        return judge_case(case, build(hardware), hardware, params)
    simulator = find_simulator(engine)
    testbench = Testbench(simulator, write_verilog(hardware), _payloads(case, hardware))
    record = testbench.simulate([(case.plan, case.willing)])[0]
    spec = params.datapath
    busy = spec.beat_cycles(join_beats(case.dots))
    listed = None if busy is None else busy.tolist()
    return judge(record, case.plan, case.ends, case.expected, spec.latency, spec.results, listed)


def judge_case(case: Case, simulator: BulkSimulator, hardware: Any, params: Any) -> Verdict:
    """Run a case in a unit that is compiled already."""
    beats = join_beats(case.dots)
    words = pack_words(beats, hardware.i.payload.shape())
    ends, expected = np.array(case.ends, np.int64), to_words(case.expected, simulator.result_words)
    spec = params.datapath
    return simulator.check(
        words, case.plan, case.willing, ends, expected, spec.latency, results=spec.results,
        beat_cycles=spec.beat_cycles(beats),
    ).verdict  # fmt: skip


def keep_waveform(case: Case, hardware: wiring.Component, cycle: int, target: Path) -> Path:
    """Run a case up to shortly after a cycle in a Verilog simulator; leave its waveform as ``target`` plus a suffix.

    Raises
    ------
    SimulatorError
        If there is no Verilog simulator, or it fails.
    """
    testbench = Testbench(find_simulator("auto"), write_verilog(hardware), _payloads(case, hardware))
    return testbench.keep_waveform(case.plan, case.willing, cycle, target)


def _payloads(case: Case, hardware: Any) -> NDArray[np.uint8]:
    return pack_beats(case.dots, hardware.i.payload.shape())


def describe(case: Case) -> str:
    """Say in one line what a small case multiplies; lanes of zero codes are left out."""
    lines = []
    for number, dot in enumerate(case.dots):
        beats = []
        for beat in range(len(dot["last"])):
            fields = [f"{name} {_show(np.asarray(values)[beat])}" for name, values in dot.items() if name != "last"]
            beats.append(", ".join(fields))
        results = len(case.expected) // len(case.dots)
        bits = ", ".join(f"{bits:#010x}" for bits in case.expected[number * results : (number + 1) * results])
        lines.append(f"dot product {number}: " + " | ".join(beats) + f", expected {bits}")
    return "; ".join(lines)


def _show(value: NDArray[np.integer]) -> str:
    if value.ndim == 0:
        return f"{int(value):#x}"
    common = int(np.bincount(value.astype(np.int64)).argmax())
    others = {lane: int(code) for lane, code in enumerate(value) if code != common}
    shown = ", ".join(f"lane {lane} {code:#x}" for lane, code in others.items())
    return (
        f"[{shown or 'all lanes ' + hex(common)}{f', else {common:#x}' if shown and len(others) < len(value) else ''}]"
    )
