"""Compare what a foreign unit gives with a model, chunk by chunk, and show its differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwsim.flow import check_rules as rules_of
from hwsim.flow.check_chunks import Chunk
from hwsim.flow.check_rules import KINDS, Rule
from hwsim.flow.operands import CHUNK_ROWS

if TYPE_CHECKING:
    from rtl.sim.foreign_run import Collected, ForeignBench

MAX_CLASSIFIED = 2048
"""Differences whose kind is looked into; the others are counted."""
_TRIED_RULES = 8
"""Rules of ``any`` that go on after the first chunk: the best so far."""
_RIGHT_ROWS = 256
"""Right results that a rule which explains the wrong ones should give as well."""
_FOLDED_ROWS = 512
"""Dot products on which rules without a model, which are slow, are tried."""


@dataclass(frozen=True)
class Difference:
    """A result that is not the expected one.

    Attributes
    ----------
    source : str
        Operands: ``layers`` or ``directed``.
    pass_name : str
        One of `rtl.sim.run.PASS_NAMES`.
    vector : int
        Dot product, counted within the source.
    cycle : int
        Of the pass over the dot product's chunk.
    expected, found : int
    dot : dict
        Its beats.
    hits : tuple of bool
        For each of the suspects whether it gives the bits found.
    """

    source: str
    pass_name: str
    vector: int
    cycle: int
    expected: int
    found: int
    dot: Mapping[str, NDArray[np.integer]]
    hits: tuple[bool, ...] = ()


@dataclass
class _Count:
    """What a rule explains: dot products seen, and those whose result it gives."""

    rule: Rule
    vectors: int = 0
    explained: int = 0
    first: Difference | None = None

    def add(self, same: NDArray[np.bool_]) -> None:
        self.vectors += len(same)
        self.explained += int(same.sum())


@dataclass
class _Tally:
    """Counts over the chunks of one source of operands."""

    source: str
    vectors: int = 0
    comparisons: int = 0
    wrong: int = 0
    stalled: int = 0
    missing: int = 0
    surplus: int = 0
    unsteady: int = 0
    cycles: int = 0
    simulated_cycles: int = 0
    latency: int | None = None
    found: list[Difference] = field(default_factory=list)
    right: int = 0
    contradicted: list[int] = field(default_factory=list)
    first: Difference | None = None
    waveform: Path | None = None
    waveform_note: str | None = None


class Check:
    """Compare a foreign unit with a model, chunk by chunk.

    Parameters
    ----------
    unit : module
        Of `hwsim.pe`.
    params : Params of that unit
    bench : ForeignBench
    seed : int
    waves : Path
        Folder for waveforms.
    against : sequence of Rule
        Rules to count; none: only the unit's own is compared.
    """

    def __init__(
        self, unit: Any, params: Any, bench: ForeignBench, seed: int, waves: Path, against: Sequence[Rule] = ()
    ) -> None:
        self.unit, self.params, self.bench, self.seed, self.waves = unit, params, bench, seed, waves
        self.counts = [_Count(rule) for rule in against]
        self.suspects = rules_of.suspects(params)
        self.tallies: list[_Tally] = []

    def run(self, source: str, chunks: Iterable[Chunk]) -> Iterator[int]:
        """Check one source of operands; yield the dot products of every chunk when it is done."""
        tally = _Tally(source)
        self.tallies.append(tally)
        for number, chunk in enumerate(chunks):
            passes = self.bench.collect(chunk.beats, [self.seed, number], stalls=not self.counts)
            count = int(chunk.beats["last"].sum())
            if self.counts:
                self._count(tally, chunk, passes[0], count)
            else:
                self._compare(tally, chunk, passes, count)
            tally.vectors += count
            tally.cycles += passes[0].span_cycles
            tally.simulated_cycles += sum(each.simulated_cycles for each in passes)
            tally.latency = passes[0].latency_cycles if number == 0 else tally.latency
            yield count

    def _found(self, collected: Collected) -> NDArray[np.uint64]:
        """Return the bits found, every NaN made the model's where the map says that any will do."""
        if self.bench.unit.map.output.nan == "bits":
            return collected.bits
        low = collected.bits & np.uint64(0x7FFFFFFF)
        canonical = (collected.bits & ~np.uint64(0xFFFFFFFF)) | np.uint64(0x7FC00000)
        return np.where(low > np.uint64(0x7F800000), canonical, collected.bits)

    def _compare(self, tally: _Tally, chunk: Chunk, passes: Sequence[Collected], count: int) -> None:
        expected = chunk.expected(self.unit, self.params)
        wrong_before = np.zeros(count, np.bool_)
        for number, collected in enumerate(passes):
            found, numbers = self._found(collected), collected.numbers
            known = numbers < count
            found, numbers, cycles = found[known], numbers[known], collected.cycles[known]
            differs = found != expected[numbers]
            tally.comparisons += max(collected.due, collected.came)
            tally.missing += max(collected.due - collected.came, 0)
            tally.surplus += max(collected.came - collected.due, 0)
            tally.unsteady += collected.unsteady
            places = np.flatnonzero(differs)
            if number == 0:
                wrong_before[numbers[places]] = True
                tally.wrong += len(places)
                self._note(tally, chunk, collected, places, found, expected, numbers, cycles)
            else:
                # what is wrong without stalls too is one difference, not two
                fresh = places[~wrong_before[numbers[places]]]
                tally.stalled += len(fresh)
                places = fresh
            short = collected.came < collected.due and tally.first is None and not len(places)
            if tally.first is None and len(places):
                at = int(places[0])
                tally.first = Difference(
                    tally.source, collected.name, tally.vectors + int(numbers[at]), int(cycles[at]),
                    int(expected[numbers[at]]), int(found[at]), chunk.dot(int(numbers[at])),
                )  # fmt: skip
            if (tally.first is not None or short or collected.unsteady) and tally.waveform_note is None:
                last = int(cycles[places[0]]) if len(places) else int(cycles[-1]) if len(cycles) else 64
                self._keep(tally, chunk, collected, last, int(numbers[places[0]]) if len(places) else None)

    def _note(
        self, tally: _Tally, chunk: Chunk, collected: Collected, places: NDArray[np.intp], found: NDArray[np.uint64],
        expected: NDArray[np.uint64], numbers: NDArray[np.int64], cycles: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """Keep differences for `classify`, with what every suspect says of them."""
        wrong = places[: max(MAX_CLASSIFIED - len(tally.found), 0)]
        if not len(wrong):
            return
        right = np.setdiff1d(np.arange(len(found)), places)
        # spread over all kinds of operands
        right = right[np.linspace(0, len(right) - 1, min(_RIGHT_ROWS - tally.right, len(right))).astype(np.int64)]
        tally.right += len(right)
        tally.contradicted = tally.contradicted or [0] * len(self.suspects)
        rows = np.concatenate([wrong, right])
        dots = [chunk.dot(int(numbers[at])) for at in rows]
        columns: list[list[bool]] = []
        for index, rule in enumerate(self.suspects):
            if rule.params is not None:
                same = chunk.expected(self.unit, rule.params)[numbers[rows]] == found[rows]
            else:
                given = [rule.bits(dot, self.params.datapath) for dot in dots]
                # what holds NaN or Inf is no matter of such rules
                same = np.array(
                    [
                        bits == int(found[at]) & 0xFFFFFFFF or (bits is None and number >= len(wrong))
                        for number, (bits, at) in enumerate(zip(given, rows, strict=True))
                    ]
                )
            columns.append(same[: len(wrong)].tolist())
            tally.contradicted[index] += int((~same[len(wrong) :]).sum())
        for index, at in enumerate(wrong):
            tally.found.append(
                Difference(
                    source=tally.source,
                    pass_name=collected.name,
                    vector=tally.vectors + int(numbers[at]),
                    cycle=int(cycles[at]),
                    expected=int(expected[numbers[at]]),
                    found=int(found[at]),
                    dot=dots[index],
                    hits=tuple(column[index] for column in columns),
                )
            )

    def _keep(self, tally: _Tally, chunk: Chunk, collected: Collected, cycle: int, number: int | None) -> None:
        """Leave a waveform: of the dot product alone where it is wrong alone too, else of its pass up to there."""
        from rtl.sim.foreign_run import alone
        from rtl.sim.job import ALWAYS
        from rtl.sim.simulators import SimulatorError

        unit = self.bench.unit
        target = self.waves / f"{unit.name}-{tally.source}-seed{self.seed}.vcd"
        beats = chunk.beats
        try:
            if number is not None and collected.willing is ALWAYS:
                dot, plan = alone(chunk.dot(number))
                single = replace(collected, plan=plan, willing=ALWAYS)
                again = self.bench.collect(dot, self.seed, stalls=False)[0]
                wanted = chunk.expected(self.unit, self.params)[number]
                if len(again.bits) and self._found(again)[0] != wanted:
                    beats, collected, cycle = dot, single, int(again.cycles[0])
            tally.waveform = self.bench.keep_waveform(beats, collected, cycle, target)
            tally.waveform_note = f"waveform {tally.waveform}"
        except SimulatorError as error:
            tally.waveform_note = f"no waveform: {error}"

    def _count(self, tally: _Tally, chunk: Chunk, collected: Collected, count: int) -> None:
        """Count what each rule explains of the unstalled results; the worst of many rules leave after a chunk."""
        seen = np.full(count, np.uint64(1) << np.uint64(63))  # of what did not come, no rule gives the bits
        known = collected.numbers < count
        seen[collected.numbers[known]] = self._found(collected)[known]
        cycles = np.zeros(count, np.int64)
        cycles[collected.numbers[known]] = collected.cycles[known]
        for counted in self.counts:
            if counted.rule.params is not None:
                expected = chunk.expected(self.unit, counted.rule.params)
                rows = np.arange(count)
            else:
                if tally.vectors:
                    continue
                rows = np.arange(0, count, -(-count // _FOLDED_ROWS))
                bits = [counted.rule.bits(chunk.dot(int(row)), self.params.datapath) for row in rows]
                known_rows = [index for index, value in enumerate(bits) if value is not None]
                rows = rows[known_rows]
                expected = np.zeros(count, np.uint64)
                expected[rows] = np.array([bits[index] for index in known_rows], np.uint64)
            same = expected[rows] == seen[rows]
            counted.add(same)
            if counted.first is None and not same.all():
                row = int(rows[np.flatnonzero(~same)[0]])
                counted.first = Difference(
                    tally.source, collected.name, tally.vectors + row, int(cycles[row]), int(expected[row]),
                    int(seen[row]), chunk.dot(row),
                )  # fmt: skip
        if len(self.counts) > _TRIED_RULES:
            self.counts.sort(key=lambda counted: counted.vectors - counted.explained)
            if count >= CHUNK_ROWS:
                del self.counts[_TRIED_RULES:]

    def row(self, tally: _Tally, seconds: float) -> dict[str, Any]:
        """Return the result row of a source of operands."""
        spec = self.params.datapath
        told = [
            (found.expected & 0xFFFFFFFF, found.found & 0xFFFFFFFF, rules_of.exact_sum(found.dot, spec))
            for found in tally.found
        ]
        explained = {rule: [found.hits[index] for found in tally.found] for index, rule in enumerate(self.suspects)}
        contradicted = dict(zip(self.suspects, tally.contradicted or [0] * len(self.suspects), strict=True))
        kinds, best = rules_of.classify(told, explained, contradicted)
        kinds = ["flags" if expected == found else kind for kind, (expected, found, _) in zip(kinds, told, strict=True)]
        counts = Counter(kinds)
        first = tally.first
        first_kind = None
        if first is not None:
            unstalled = bool(tally.found) and (tally.found[0].vector, tally.found[0].pass_name) == (
                first.vector, first.pass_name,
            )  # fmt: skip
            first_kind = kinds[0] if unstalled else "stalls or reset"
        differences = tally.wrong + tally.stalled + tally.missing + tally.surplus + tally.unsteady
        return {
            "name": self.bench.unit.name,
            "pe": self.unit.NAME,
            "params": asdict(self.params),
            "operands": tally.source,
            "vectors": tally.vectors,
            "comparisons": tally.comparisons,
            "differences": differences,
            **{kind.replace(" ", "_"): counts[kind] for kind in KINDS if kind != "stalls or reset"},
            "stalls_or_reset": tally.stalled + tally.unsteady,
            "missing": tally.missing,
            "surplus": tally.surplus,
            "unclassified": tally.wrong - len(kinds),
            "explained_by": None
            if best is None
            else {
                "rule": best.name,
                "differences": sum(explained[best]),
                "of": len(kinds),
                "contradicted": contradicted[best],
            },
            "cycles": tally.cycles,
            "latency_cycles": tally.latency,
            "simulated_cycles": tally.simulated_cycles,
            "vectors_per_s": tally.vectors / seconds if seconds else None,
            "seed": self.seed,
            "first_difference": None if first is None else show(first, self.params, first_kind),
            "waveform": str(tally.waveform) if tally.waveform else None,
            "waveform_note": tally.waveform_note,
        }

    def rule_rows(self) -> list[dict[str, Any]]:
        """Return a row for every rule that was counted, the best first where there are many."""
        rows = [
            {
                "name": counted.rule.name,
                "vectors": counted.vectors,
                "explained": counted.explained,
                "first_difference": None if counted.first is None else show(counted.first, self.params, None),
            }
            for counted in self.counts
        ]
        return rows


def show(found: Difference, params: Any, kind: str | None) -> dict[str, Any]:
    """Return a difference as plain data: operands, expected and actual bits, what they are worth, in words too."""
    spec = params.datapath
    exact = rules_of.exact_sum(found.dot, spec)
    expected, actual = (_worth(bits) for bits in (found.expected, found.found))
    words = (
        f"{found.source} dot product {found.vector}, {found.pass_name} pass, cycle {found.cycle}: should be "
        f"{found.expected:#010x} ({expected}), is {found.found:#010x} ({actual})"
    )
    return {
        "operands": found.source,
        "vector": found.vector,
        "pass": found.pass_name,
        "cycle": found.cycle,
        "kind": kind,
        "expected_bits": f"{found.expected:#010x}",
        "found_bits": f"{found.found:#010x}",
        "expected": expected,
        "found": actual,
        "exact": None if exact is None else _fraction(exact),
        "beats": {name: np.asarray(values).tolist() for name, values in found.dot.items() if name != "last"},
        "text": words + (f", exactly {_fraction(exact)}" if exact is not None else "") + "; " + _operands(found.dot),
    }


def _worth(bits: int) -> str:
    value = np.array(bits & 0xFFFFFFFF, np.uint32).view(np.float32)
    return f"{float(value)!r}"


def _fraction(value: Fraction) -> str:
    """Return a dyadic number as an odd integer times a power of two."""
    if value == 0:
        return "0"
    integer, power = value.numerator, 1 - value.denominator.bit_length()
    zeros = (integer & -integer).bit_length() - 1
    return f"{integer >> zeros} * 2**{power + zeros}"


def _operands(dot: Mapping[str, NDArray[np.integer]]) -> str:
    """Return the codes of a dot product in one line."""
    beats = []
    for beat in range(len(dot["last"])):
        parts = []
        for name, values in dot.items():
            if name != "last":
                value = np.asarray(values)[beat]
                parts.append(f"{name} {' '.join(f'{int(code):x}' for code in np.atleast_1d(value))}")
        beats.append(", ".join(parts))
    return "codes (hex, lane 0 first): " + " | ".join(beats)


__all__ = ["MAX_CLASSIFIED", "Check", "Difference", "show"]
