"""What was proven of units, in a file that goes stale with the sources: `hwsim prove` writes it, `hwsim pe` reads it.

An entry says that a unit's hardware gave its model's bits in so many vectors. It counts as long as the sources that it
was proven with are those of today: the model in ``hwsim/pe``, the hardware in ``rtl/pe`` and its parts in ``rtl/lib``.
Which of these belong to a unit is read off the import statements, starting with ``hwsim/pe/NAME.py`` and
``rtl/pe/NAME.py``; the ``__init__`` files, which only find units, do not count. Comments and docstrings do not count
either. Formats, and the engine that compares, are not among the sources: they have tests of their own. The entry also
names the netlist (the hash of its RTLIL text), so that a run can tell whether changed sources changed the hardware.

Nothing here imports the hardware description language, so that listing units stays fast.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import tokenize
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hwsim.files import json_text, replacing

VERSION = 1
FOLDERS = ("hwsim.pe", "rtl.pe", "rtl.lib")
"""Packages whose modules are sources of units."""
FILE = "proofs.json"
"""Beside the engine, in the package `rtl.sim`."""


@dataclass(frozen=True)
class Proof:
    """One run of a unit's hardware against its model, or against values of codes, without a difference.

    Attributes
    ----------
    unit : str
    params : dict
        Fields of the Params, as plain data.
    operands : str
        ``pairs`` (all pairs of element codes), ``scales`` (all pairs of scale codes), ``drawn`` (corners and random),
        ``layers`` (of real networks).
    vectors : int
        Dot products (transactions) compared, each counted once.
    engine : str
    seed : int
    sources : str
        Hash of the unit's sources.
    netlist : str
        Hash of the RTLIL text.
    mismatches : int
        Always 0: a run with a difference leaves no entry.
    """

    unit: str
    params: dict[str, Any]
    operands: str
    vectors: int
    engine: str
    seed: int
    sources: str
    netlist: str
    mismatches: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """What is replaced when it is proven again."""
        return self.unit, json.dumps(self.params, sort_keys=True), self.operands


@dataclass
class Record:
    """The entries of a file.

    Attributes
    ----------
    path : Path
    proofs : dict
        By `Proof.key`.
    """

    path: Path
    proofs: dict[tuple[str, str, str], Proof] = field(default_factory=dict)

    def current(self, proof: Proof) -> bool:
        """Tell whether an entry says what a proof would: sources, netlist, engine, seed, and no fewer vectors."""
        found = self.proofs.get(proof.key)
        same = found is not None and (found.sources, found.netlist, found.seed, found.engine) == (
            proof.sources, proof.netlist, proof.seed, proof.engine,
        )  # fmt: skip
        return same and found is not None and found.vectors >= proof.vectors

    def add(self, proof: Proof) -> None:
        """Put an entry in, in place of one with the same key, and write the file.

        Entries that another process has written meanwhile stay.
        """
        self.proofs = {**self.proofs, **read_record(self.path).proofs, proof.key: proof}
        rows = [asdict(self.proofs[key]) for key in sorted(self.proofs)]
        with replacing(self.path) as aside:
            aside.write_text(json_text({"version": VERSION, "proofs": rows}))

    def counts(self, unit: str) -> tuple[int, int]:
        """Return the vectors of a unit that are proven with today's sources, and those that were with others."""
        own = [proof for proof in self.proofs.values() if proof.unit == unit]
        today = sources_hash(unit) if own else ""
        proven = sum(proof.vectors for proof in own if proof.sources == today)
        return proven, sum(proof.vectors for proof in own) - proven


def default_file() -> Path:
    """Return where the record is kept: with the package `rtl.sim`."""
    spec = importlib.util.find_spec("rtl.sim")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / FILE


def read_record(path: Path | None = None) -> Record:
    """Read a record; one that is not there yet is empty.

    Raises
    ------
    ValueError
        When the file holds something else.
    """
    path = default_file() if path is None else path
    record = Record(path)
    if not path.exists():
        return record
    try:
        document = json.loads(path.read_text())
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']!r}")
        proofs = [Proof(**row) for row in document["proofs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no record of proofs: {error}") from None
    record.proofs = {proof.key: proof for proof in proofs}
    return record


@lru_cache(maxsize=1)
def _modules() -> dict[str, Path]:
    """Return the files of all modules of `FOLDERS` by name."""
    found = {}
    for package in FOLDERS:
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None
        for path in Path(spec.origin).parent.glob("*.py"):
            if path.stem != "__init__":
                found[f"{package}.{path.stem}"] = path
    return found


@cache
def _parsed(path: Path) -> tuple[str, frozenset[str]]:
    """Return a file's text without comments and docstrings, and the names of what it imports."""
    text = path.read_text()
    tree = ast.parse(text)
    return stripped(text, tree), frozenset(imported(tree))


def imported(tree: ast.Module) -> Iterable[str]:
    """Yield the full names that import statements of a source bring in, wherever in it they are."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def stripped(text: str, tree: ast.Module) -> str:
    """Return a source, given with its syntax tree, without comments, docstrings, empty lines and trailing space."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            assert node.end_lineno is not None
            for row in range(node.lineno - 1, node.end_lineno):
                lines[row] = ""
    return "\n".join(line for line in map(str.rstrip, lines) if line)


def unit_sources(unit: str) -> dict[str, Path]:
    """Return the modules that a unit's model and hardware import, themselves included, by name, sorted."""
    modules = _modules()
    waiting = [name for name in (f"hwsim.pe.{unit}", f"rtl.pe.{unit}") if name in modules]
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = modules[name]
            waiting += [other for other in _parsed(modules[name])[1] if other in modules]
    return dict(sorted(found.items()))


def sources_hash(unit: str) -> str:
    """Return the hash of a unit's sources, 32 hexadecimal digits."""
    parts = [part for name, path in unit_sources(unit).items() for part in (name, _parsed(path)[0])]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


__all__ = ["Proof", "Record", "default_file", "read_record", "sources_hash", "stripped", "unit_sources"]
