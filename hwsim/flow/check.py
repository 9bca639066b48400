"""Check a unit that comes as Verilog against a unit's model, and say what its differences look like."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwsim import pe
from hwsim.flow import check_rules as rules_of
from hwsim.flow.check_rules import ANY_RULE, KINDS, Rule
from hwsim.flow.operands import CHUNK_ROWS, Batch, bundle_batches, directed_batches
from hwsim.flow.progress import Reporter
from hwsim.formats import BlockSpec, Encoded, FloatSpec, IntSpec, activation_of, element, get
from hwsim.formats.bundle import read_bundle
from hwsim.pe.accumulator import Accumulator

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


@dataclass(frozen=True)
class _Chunk:
    """Dot products that are run at a time."""

    batches: tuple[Batch, ...]
    beats: dict[str, NDArray[np.integer]]

    def expected(self, unit: Any, params: Any) -> NDArray[np.uint64]:
        """Return the bits that the model gives with these Params."""
        return np.concatenate([batch.expected(unit, params).astype(np.uint64) for batch in self.batches])

    def dot(self, number: int) -> dict[str, NDArray[np.integer]]:
        """Return the beats of one dot product."""
        ends = np.flatnonzero(self.beats["last"]) + 1
        start = int(ends[number - 1]) if number else 0
        return {name: values[start : ends[number]] for name, values in self.beats.items()}


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

    def run(self, source: str, chunks: Iterable[_Chunk]) -> Iterator[int]:
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

    def _compare(self, tally: _Tally, chunk: _Chunk, passes: Sequence[Collected], count: int) -> None:
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
        self, tally: _Tally, chunk: _Chunk, collected: Collected, places: NDArray[np.intp], found: NDArray[np.uint64],
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

    def _keep(self, tally: _Tally, chunk: _Chunk, collected: Collected, cycle: int, number: int | None) -> None:
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

    def _count(self, tally: _Tally, chunk: _Chunk, collected: Collected, count: int) -> None:
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


def read_params(unit: Any, text: str, base: Any) -> Any:
    """Return Params with the fields that a text ``field=value,...`` gives; ``accumulator.field`` reaches inside.

    Raises
    ------
    ValueError
        When a field is unknown or given twice, its value is no such value, or Params refuse it.
    """
    known = {entry.name: entry for entry in fields(unit.Params)}
    inner = {f"accumulator.{entry.name}" for entry in fields(Accumulator)} if "accumulator" in known else set()
    allowed = ", ".join([*(name for name in known if name != "accumulator"), *sorted(inner)])
    changes: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, mark, value = part.partition("=")
        if not mark or (name not in known and name not in inner) or name == "accumulator":
            raise ValueError(f"--params: {part!r} is no FIELD=VALUE of {unit.NAME}; fields: {allowed}")
        if name in changes:
            raise ValueError(f"--params: {name} is given twice")
        changes[name] = _value(value)
    own = {name: value for name, value in changes.items() if name in known}
    nested = {name.partition(".")[2]: value for name, value in changes.items() if name in inner}
    if nested:
        own["accumulator"] = replace(base.accumulator, **nested)
    try:
        return replace(base, **own)
    except TypeError as error:
        raise ValueError(f"--params: {error}") from None


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()] if text.lower() != "none" else "none"
    try:
        return int(text)
    except ValueError:
        return text


def operand_formats(unit: Any, params: Any) -> tuple[BlockSpec, BlockSpec]:
    """Return formats (weights, activations) whose codes a unit with these Params takes.

    Those of the catalogue where they fit, else plain block formats made for the purpose.

    Raises
    ------
    ValueError
        When none can be made.
    """
    wanted = _facts(params.datapath)
    for name in pe.formats():
        weight = get(name)
        if not isinstance(weight, BlockSpec):
            continue
        activation = activation_of(name)
        able = unit.params_for(weight, activation, params.lanes)
        if able is not None and isinstance(activation, BlockSpec) and _facts(able.datapath) == wanted:
            return weight, activation
    spec = params.datapath
    if spec.zero_bits:
        raise ValueError(f"no format of the catalogue has the operands of {params}")
    return (
        _made("weights", spec.b_element, spec.b_scale, spec.block, spec.b_out),
        _made("activations", spec.a_element, spec.a_scale, spec.block, spec.a_out),
    )


def _facts(spec: Any) -> tuple[Any, ...]:
    return (
        spec.a_element, spec.b_element, spec.a_scale, spec.b_scale, spec.block if spec.a_scale or spec.b_scale else 0,
        spec.a_out, spec.b_out, spec.zero_bits,
    )  # fmt: skip


def _made(name: str, code: str, scale: str | None, size: int, outer: bool) -> BlockSpec:
    told: dict[str, Any] = {"name": name, "source": "made for a check", "element": element(code)}
    if scale is None:
        rule = {"scale": element("float32"), "scale_rule": "amax"} if outer else {}
        return BlockSpec(**told, **rule)  # type: ignore[arg-type]
    found = element(scale)
    assert isinstance(found, FloatSpec | IntSpec)
    power = getattr(found, "man_bits", 1) == 0
    second = {"tensor_scale": "float32", "scale_cap": found.max_value} if outer else {}
    return BlockSpec(
        **told,
        scale=found,
        block_size=size,
        scale_rule="floor" if power else "amax",
        **second,  # type: ignore[arg-type]
    )


def fitted(batch: Batch, k: int, rng: np.random.Generator) -> Batch:
    """Return dot products of length `k`: a piece of each row drawn at random, or the row with zeros behind it."""
    pieces = batch.a.shape[1] // k
    piece = rng.integers(max(pieces, 1), size=batch.rows)
    return Batch(_cut(batch.a, k, piece), _cut(batch.b, k, piece), k)


def _cut(operand: Encoded, k: int, piece: NDArray[np.int64]) -> Encoded:
    rows, length = operand.shape
    wanted = {part.name: part.shape for part in operand.format.layout((rows, k))}
    parts = {}
    for name, values in operand.parts.items():
        if np.shape(values) == wanted[name]:
            parts[name] = values
            continue
        width = wanted[name][1]
        if length >= k:
            pieces = values.shape[1] // width
            parts[name] = np.ascontiguousarray(
                values[:, : pieces * width].reshape(rows, pieces, width)[np.arange(rows), piece]
            )
        else:
            parts[name] = np.pad(values, ((0, 0), (0, width - values.shape[1])))
    return Encoded(operand.format, parts)


def chunks(batches: Iterable[Batch], unit: Any, params: Any) -> Iterator[_Chunk]:
    """Yield batches joined to about `CHUNK_ROWS` dot products."""
    held: list[Batch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.rows for each in held) >= CHUNK_ROWS:
            yield _chunk(held, unit, params)
            held = []
    if held:
        yield _chunk(held, unit, params)


def _merged(batches: Iterable[Batch]) -> list[Batch]:
    """Return batches of equal formats and lengths as one: each call of a model has its price, and there are many."""
    groups: dict[Any, list[Batch]] = {}
    for number, batch in enumerate(batches):
        formats = batch.a.format, batch.b.format
        shared = any(not part.by_row for fmt in formats for part in fmt.layout((1, batch.a.shape[1])))
        groups.setdefault((*(fmt.name for fmt in formats), batch.a.shape[1], number if shared else -1), []).append(
            batch
        )
    return [
        Batch(_stacked([each.a for each in group]), _stacked([each.b for each in group]), group[0].k)
        for group in groups.values()
    ]


def _stacked(operands: Sequence[Encoded]) -> Encoded:
    if len(operands) == 1:
        return operands[0]
    parts = {name: np.concatenate([each.parts[name] for each in operands]) for name in operands[0].parts}
    return Encoded(operands[0].format, parts)


def _chunk(batches: Iterable[Batch], unit: Any, params: Any) -> _Chunk:
    batches = _merged(batches)
    parts = [batch.beats(unit, params) for batch in batches]
    return _Chunk(tuple(batches), {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def check_command(
    files: Sequence[Path],
    *,
    top: str,
    map_file: Path,
    unit_name: str,
    params_text: str,
    bundle_file: Path | None,
    against: str | None,
    engine: str,
    vectors: int,
    seed: int,
    waves: Path,
    reporter: Reporter,
) -> dict[str, Any]:
    """Run `hwsim check`; return its document, whose ``ok`` says whether the unit is what it should be.

    Without `against` there is a row for each source of operands; with it, one for each rule.

    Raises
    ------
    ValueError
        When an argument, the map or the Verilog cannot be used, the bundle has other formats than the unit, or the unit
        multiplies no weights.
    SimulatorError
        When an engine is missing or fails.
    """
    from rtl.sim.foreign import read_foreign
    from rtl.sim.foreign_run import ForeignBench

    unit: Any = pe.unit(unit_name)
    if not hasattr(unit, "params_for"):
        raise ValueError(f"unit {unit_name!r} multiplies no weights; a check takes units of dot products")
    bundle = read_bundle(bundle_file) if bundle_file is not None else None
    base = unit.Params()
    if bundle is not None and bundle.layers:
        base = pe.unit_for(bundle.layers[0].weight.format.name, unit_name)[1]
    params = read_params(unit, params_text, base)
    spec = params.datapath
    rules = _rules(against, params)
    foreign = read_foreign(files, top, map_file, spec)
    bench = ForeignBench.open(foreign, spec, engine)
    check = Check(unit, params, bench, seed, waves, rules)
    weight, activation = operand_formats(unit, params)
    sources: dict[str, Iterable[Batch]] = {"directed": directed_batches(weight, params, vectors, seed, activation)}
    if bundle is not None:
        sources = {"layers": bundle_batches(bundle, vectors, seed), **sources}
    length = _fixed_length(foreign.map.beats, spec)
    rng = np.random.default_rng(seed)
    rows = []
    with reporter.bars() as bars:
        for source, batches in sources.items():
            task = bars.add_task(f"check {top} ({source})", total=vectors)
            start = time.perf_counter()
            shaped = (fitted(batch, length, rng) for batch in batches) if length else batches
            for done in check.run(source, chunks(shaped, unit, params)):
                bars.advance(task, done)
            rows.append(check.row(check.tallies[-1], time.perf_counter() - start))
    document = {
        "unit": unit_name,
        "top": top,
        "files": [str(path) for path in files],
        "map": str(map_file),
        "params": asdict(params),
        "engine": engine,
        "back_pressure": foreign.map.back_pressure,
        "seed": seed,
    }
    if not rules:
        return {**document, "ok": not any(row["differences"] for row in rows), "rows": rows}
    counted = check.rule_rows()
    return {**document, "ok": any(row["explained"] == row["vectors"] > 0 for row in counted), "rows": counted}


def _rules(against: str | None, params: Any) -> list[Rule]:
    if against is None:
        return []
    found: dict[str, Rule] = {}
    for text in against.split(","):
        rules = rules_of.known_rules(params) if text == ANY_RULE else [rules_of.parse_rule(text, params)]
        for rule in rules:
            found.setdefault(rule.name, rule)
    return list(found.values())


def _fixed_length(beats: int | None, spec: Any) -> int:
    """Return the products of every dot product; 0 where it may have any number."""
    if beats is None:
        return 0
    length = beats * spec.lanes
    if spec.block and length % spec.block:
        raise ValueError(f"{beats} beats of {spec.lanes} lanes are no whole blocks of {spec.block}")
    return length


__all__ = ["Check", "Difference", "check_command", "fitted", "operand_formats", "read_params", "show"]
